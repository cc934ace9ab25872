//! The server: what the options ask for, put into one map, and run until it is told to stop.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use asynchat::BareIn;
use asyncore::{
    Address, Channel, ChannelId, Identity, ListenOptions, Map, Rate, Result, SIGHUP, TlsServer, WhenFull,
};
use rustix::process::{Resource, Rlimit, Signal, getrlimit, setrlimit};

use crate::app::App;
use crate::debug::Debug;
use crate::delivery::Delivery;
use crate::exec::{Exec, TIME_LIMIT};
use crate::gate::Gate;
use crate::mailbox::{self, Mailbox};
use crate::maildir::Maildir;
use crate::options::{At, Bare, Options};
use crate::password::Passwords;
use crate::relay::{Login, NextServer, Relay, RelayOptions, is_open_relay, reaches_others};
use crate::settings::Settings;
use crate::sink::Sink;
use crate::{session, web};

/// Serves until SIGINT or SIGTERM has come and the messages in flight are dealt with.
///
/// # Errors
///
/// If an option cannot be carried out, or the loop fails.
pub fn run(options: &Options) -> Result {
    let settings = Rc::new(settings(options)?);
    raise_descriptors();
    let mut map = Map::new()?;
    map.shutdown_on_signals(options.stop_time)?;
    // A file that would be larger than files may be is an error of one message; unheard, the signal ends the process.
    map.add_signal(Signal::XFSZ.as_raw(), |_cx, _signal| Ok(()))?;
    let delivery = delivery(options, &settings, &map)?;
    let mut app = App::new(Rc::clone(&settings), delivery);
    let mut paths = Paths::default();
    let mut listeners = Vec::new();
    for at in &options.listen {
        listeners.extend(listen(
            &mut map,
            at,
            sessions(options, &settings, at)?,
            options.proxy_protocol,
            &mut paths,
        )?);
    }
    for at in &options.smtps {
        let mut sessions = sessions(options, &settings, at)?;
        sessions.tls.clone_from(&settings.tls);
        listeners.extend(listen(&mut map, at, sessions, options.proxy_protocol, &mut paths)?);
    }
    if !options.no_http {
        if options.keeps() {
            app.mailbox = Mailbox::open(&options.maildir, options.per_recipient);
            mailbox::watch(&mut map, &mut app);
        }
        listeners.extend(web::listen(&mut map, options.http, options.http_host.clone())?);
    }
    reload_on_signal(&mut map, options)?;
    for address in listeners.iter().filter_map(|id| address_of(&map, *id)) {
        say(&format!("listening on {address}"));
    }
    if !options.no_http
        && let Some(address) = listeners.last().and_then(|id| address_of(&map, *id))
    {
        let what = if options.keeps() { "messages are" } else { "the server is" };
        say(&format!("{what} shown at http://{address}/"));
    }
    tracing::info!(hostname = settings.hostname, destination = app.delivery.name(), "serving");
    map.run(&mut app)
}

/// Reads what the options name, and says what it would do.
///
/// # Errors
///
/// As [`run`], but for what only serving shows: an address that is taken, a folder that cannot be written.
pub fn check(options: &Options) -> Result {
    let settings = settings(options)?;
    if let Some(next) = &options.relay {
        relay(options, next)?;
    }
    for at in options.listen.iter().chain(&options.smtps) {
        say(&format!("would listen on {at}"));
    }
    if !options.no_http {
        say(&format!("would listen on {} for browsers", options.http));
    }
    say(&format!("would call itself {}", settings.hostname));
    say("the configuration is sound");
    Ok(())
}

/// What sessions are held to.
fn settings(options: &Options) -> Result<Settings> {
    let mut addresses = Vec::new();
    for at in options.listen.iter().chain(&options.smtps) {
        addresses.extend(at.addresses()?);
    }
    let is_relay = options.relay.is_some();
    if is_relay
        && is_open_relay(&addresses, options.proxy_protocol, options.auth_file.is_some(), &options.allow_from)
    {
        return Err(
            "a relay that others than this machine reach needs --auth-file, or --allow-from with less than \
                    everybody: anybody could send mail to anybody through it"
                .into(),
        );
    }
    if options.auth_file.is_some() && options.tls_cert.is_none() && !options.auth_in_clear {
        return Err("--auth-file needs --tls-cert, or --auth-in-clear: nobody could authenticate".into());
    }
    let passwords = options.auth_file.as_deref().map(Passwords::read).transpose()?.map(Arc::new);
    let tls = match (&options.tls_cert, &options.tls_key) {
        (Some(chain), Some(key)) => Some(TlsServer::new(Identity::new(chain, key))?),
        _ => None,
    };
    Ok(Settings {
        hostname: match &options.hostname {
            Some(name) => checked(name)?,
            None => checked(&rustix::system::uname().nodename().to_string_lossy())
                .unwrap_or_else(|_| "localhost".to_owned()),
        },
        lmtp: options.lmtp,
        message_limit: options.message_limit.as_u64(),
        text_line_limit: Some(usize::try_from(options.text_line_limit.as_u64())?).filter(|limit| *limit > 0),
        recipients: options.recipients.get(),
        errors: options.errors.get(),
        idle_time: options.idle_time,
        total_time: options.total_time,
        min_rate: Some(options.min_rate.as_u64()).filter(|rate| *rate > 0).map(|rate| {
            let bytes = rate.saturating_mul(RATE_WINDOW.as_secs());
            Rate { bytes, per: RATE_WINDOW }
        }),
        bare: match options.bare {
            Bare::Refuse => BareIn::Refuse,
            Bare::Keep => BareIn::Keep,
        },
        tls,
        passwords,
        auth_in_clear: options.auth_in_clear,
        require_auth: options.require_auth
            || (is_relay && reaches_others(&addresses, options.proxy_protocol)),
        allow_from: options.allow_from.clone(),
        proxies: options.proxy_protocol.then(|| options.proxy_from.clone()),
    })
}

/// A name that can stand in a greeting and in header lines.
fn checked(name: &str) -> Result<String> {
    let is_sound = !name.is_empty() && name.len() <= 255 && name.bytes().all(|byte| byte.is_ascii_graphic());
    if is_sound { Ok(name.to_owned()) } else { Err(format!("{name:?} is no name for a server").into()) }
}

/// Where messages go.
fn delivery(options: &Options, settings: &Settings, map: &Map<App>) -> Result<Rc<dyn Delivery>> {
    Ok(if let Some(next) = &options.relay {
        Rc::new(relay(options, next)?)
    } else if options.sink {
        Rc::new(Sink)
    } else if options.debug {
        Rc::new(Debug::new(map.remote())?)
    } else if let Some(command) = &options.exec {
        Rc::new(Exec::new(command, &settings.hostname, TIME_LIMIT))
    } else {
        let maildir =
            Maildir::open(&options.maildir, options.per_recipient, &settings.hostname, &map.remote());
        Rc::new(maildir.map_err(|error| format!("{}: {error}", options.maildir.display()))?)
    })
}

/// A relay to the next server, with the files that it is told of.
fn relay(options: &Options, next: &NextServer) -> Result<Relay> {
    let login = match (&options.relay_user, &options.relay_password_file) {
        (Some(user), Some(file)) => Some(Login::from_file(user, file)?),
        _ => None,
    };
    let roots = options.relay_roots.clone();
    Relay::new(RelayOptions { next: next.clone(), tls: options.relay_tls, roots, login })
}

/// What a listener of sessions is to do.
fn sessions(options: &Options, settings: &Settings, at: &At) -> Result<ListenOptions> {
    let mut listen = ListenOptions::default();
    listen.limits = Some(session::limits(settings));
    listen.total = options.sessions.get();
    // On loopback, and behind a proxy, all clients come from one address.
    if !options.proxy_protocol && reaches_others(&at.addresses()?, false) {
        listen.per_address = options.sessions_per_address.get();
    }
    listen.when_full = WhenFull::Refuse;
    listen.refusal = format!("421 4.7.0 {} Too many sessions, try again later\r\n", settings.hostname).into();
    Ok(listen)
}

/// Listens at one place, for clients or for their proxies; the path of a Unix socket is removed with `paths`.
fn listen(
    map: &mut Map<App>,
    at: &At,
    mut options: ListenOptions,
    is_proxied: bool,
    paths: &mut Paths,
) -> Result<Vec<ChannelId>> {
    if is_proxied {
        // It begins behind the header.
        let tls = options.tls.take();
        return listen_for(map, at, options, paths, move |proxy| Gate::new(proxy, tls.clone()));
    }
    listen_for(map, at, options, paths, session::conversation)
}

fn listen_for<C: Channel<App>>(
    map: &mut Map<App>,
    at: &At,
    options: ListenOptions,
    paths: &mut Paths,
    make: impl FnMut(Option<Address>) -> C + 'static,
) -> Result<Vec<ChannelId>> {
    match at {
        At::Host(host, port) => map.listen_host_with(host, *port, options, make),
        At::Unix(path) => {
            remove_stale(path)?;
            let id = map.listen_unix(path, make)?;
            paths.0.push(path.clone());
            map.set_listen_options(&[id], options);
            Ok(vec![id])
        }
    }
}

/// Removes the socket that a server left which was killed.
fn remove_stale(path: &Path) -> Result {
    let is_socket = fs::symlink_metadata(path).is_ok_and(|metadata| metadata.file_type().is_socket());
    let is_dead = |error: io::Error| error.kind() == io::ErrorKind::ConnectionRefused;
    if is_socket && UnixStream::connect(path).is_err_and(is_dead) {
        fs::remove_file(path).map_err(|error| format!("{}: {error}", path.display()))?;
    }
    Ok(())
}

/// Sockets of this server in the file system; they go with it.
#[derive(Default)]
struct Paths(Vec<PathBuf>);

impl Drop for Paths {
    fn drop(&mut self) {
        for path in &self.0 {
            drop(fs::remove_file(path));
        }
    }
}

/// Reads certificates and passwords again when SIGHUP comes. What cannot be read stays as it was, and the log says why.
fn reload_on_signal(map: &mut Map<App>, options: &Options) -> Result {
    let auth_file = options.auth_file.clone();
    map.add_signal(SIGHUP, move |cx, _signal| {
        match cx.app.settings.tls.as_ref().map(TlsServer::reload) {
            Some(Ok(())) => tracing::info!("certificate read again"),
            Some(Err(error)) => tracing::error!(%error, "the certificate stays as it was"),
            None => {}
        }
        match auth_file.as_deref().map(Passwords::read) {
            Some(Ok(passwords)) => {
                let passwords = Some(Arc::new(passwords));
                cx.app.settings = Rc::new(Settings { passwords, ..Settings::clone(&cx.app.settings) });
                tracing::info!("passwords read again");
            }
            Some(Err(error)) => tracing::error!(%error, "the passwords stay as they were"),
            None => {}
        }
        Ok(())
    })?;
    Ok(())
}

/// Lets the process have as many descriptors as the system allows it: each session is one.
fn raise_descriptors() {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }) {
        tracing::warn!(%error, "the limit of descriptors stays as it is");
    }
}

fn address_of(map: &Map<App>, id: ChannelId) -> Option<Address> {
    map.get(id)?.local_addr().ok().flatten()
}

/// Prints a line; standard output may be closed or full, and a server serves all the same.
fn say(line: &str) {
    let mut out = io::stdout();
    if let Err(error) = writeln!(out, "{line}").and_then(|()| out.flush()) {
        tracing::warn!(%error, line, "standard output takes nothing");
    }
}

/// Over how long the least rate of a message counts: 10 s. A lost packet or two stop a line for seconds.
const RATE_WINDOW: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::options::Program;

    #[test]
    fn a_rate_a_second_is_ten_times_as_much_in_ten_and_0_is_none() {
        let rate = |option| settings(&Program::parse_from(["smtpd", option]).options).unwrap().min_rate;
        assert_eq!(rate("--min-rate=7"), Some(Rate { bytes: 70, per: Duration::from_secs(10) }));
        assert_eq!(rate("--min-rate=0"), None);
    }
}
