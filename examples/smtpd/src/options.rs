//! [`Options`]: the command line, and by `config.rs` the configuration file.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::num::NonZero;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use asyncore::Address;
use bytesize::ByteSize;
use clap::{Args, Parser, Subcommand, ValueEnum};
use ipnet::IpNet;

use crate::relay::{NextServer, RelayTls};

/// A mail server for development and small sites.
///
/// Without options it listens on 127.0.0.1:2525, puts what arrives into ./Maildir, and shows it at <http://127.0.0.1:8025>.
#[derive(Debug, Parser)]
#[command(version, args_conflicts_with_subcommands = true, max_term_width = 100)]
pub struct Program {
    /// What to do instead of serving.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// How to serve.
    #[command(flatten)]
    pub options: Options,
}

/// What the program does beside serving.
#[derive(Debug, Subcommand)]
#[expect(clippy::exhaustive_enums, reason = "the program matches on it")]
#[expect(clippy::large_enum_variant, reason = "there is one, for a moment")]
pub enum Command {
    /// Read the configuration and every file it names, say what is wrong, and end.
    CheckConfig(Options),
    /// Ask for a password, and print the line of it for the password file.
    HashPassword {
        /// The name of the user.
        user: String,
    },
}

/// Everything that can be chosen. The configuration file has the same names.
#[derive(Clone, Debug, Args)]
#[expect(clippy::exhaustive_structs, reason = "the program makes one from its arguments")]
pub struct Options {
    /// Read options from a TOML file; those on the command line go first.
    #[arg(short, long, value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// Where to listen for SMTP; may be repeated.
    #[arg(short, long, value_name = "ADDR", default_value = "127.0.0.1:2525", help = LISTEN_HELP, help_heading = LISTENERS)]
    pub listen: Vec<At>,
    /// Where to listen for SMTP under TLS from the first byte on; may be repeated.
    #[arg(long, value_name = "ADDR", requires = "tls_cert", help_heading = LISTENERS)]
    pub smtps: Vec<At>,
    /// Where to serve the web page and its API.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8025", help_heading = LISTENERS)]
    pub http: SocketAddr,
    /// Serve no web page, whatever --http says.
    #[arg(long, help_heading = LISTENERS)]
    pub no_http: bool,
    /// Answer web requests for this name too, beside localhost and the address that was connected to; may be repeated.
    #[arg(long, value_name = "NAME", help_heading = LISTENERS)]
    pub http_host: Vec<String>,

    /// Keep messages in a Maildir, created if it is not there.
    #[arg(short, long, value_name = "DIR", default_value = "Maildir", group = "destination", help_heading = DESTINATION)]
    pub maildir: PathBuf,
    /// A Maildir for each recipient, below the folder of --maildir.
    #[arg(long, conflicts_with_all = ["sink", "relay", "exec", "debug"], help_heading = DESTINATION)]
    pub per_recipient: bool,
    /// Accept messages and keep none.
    #[arg(long, group = "destination", help_heading = DESTINATION)]
    pub sink: bool,
    /// Print messages to standard output, and keep none.
    #[arg(long, group = "destination", help_heading = DESTINATION)]
    pub debug: bool,
    /// Run a shell command for each message, which reads it from its standard input.
    #[arg(long, value_name = "COMMAND", group = "destination", help_heading = DESTINATION)]
    pub exec: Option<String>,
    /// Pass messages on to another server, before they are acknowledged.
    #[arg(long, value_name = "HOST:PORT", group = "destination", help_heading = DESTINATION)]
    pub relay: Option<NextServer>,
    /// Whether to use TLS towards that server, by STARTTLS; with `must` its certificate has to be valid.
    #[arg(long, value_name = "WHEN", default_value = "may", requires = "relay", help_heading = DESTINATION)]
    pub relay_tls: RelayTls,
    /// A file of root certificates that vouch for that server, instead of those of the system; with `may` too, then.
    #[arg(long, value_name = "FILE", requires = "relay", help_heading = DESTINATION)]
    pub relay_roots: Option<PathBuf>,
    /// Authenticate to that server as this user; only with --relay-tls must, unless it is on this machine.
    #[arg(long, value_name = "USER", requires = "relay", requires = "relay_password_file", help_heading = DESTINATION)]
    pub relay_user: Option<String>,
    /// The file that holds the password of --relay-user in its first line.
    #[arg(long, value_name = "FILE", requires = "relay_user", help_heading = DESTINATION)]
    pub relay_password_file: Option<PathBuf>,

    /// What the server calls itself; the machine's name by default.
    #[arg(long, value_name = "NAME", help_heading = PROTOCOL)]
    pub hostname: Option<String>,
    /// Speak LMTP instead of SMTP.
    #[arg(long, help_heading = PROTOCOL)]
    pub lmtp: bool,
    /// Expect a PROXY protocol header, version 1 or 2, in front of each connection.
    #[arg(long, help_heading = PROTOCOL)]
    pub proxy_protocol: bool,
    /// Who may send that header, as an address or a network; may be repeated. Others are dropped.
    #[arg(long, value_name = "NET", value_parser = network, default_values = ["127.0.0.0/8", "::1"], requires = "proxy_protocol", help_heading = PROTOCOL)]
    pub proxy_from: Vec<IpNet>,
    /// What to do with a CR or LF that stands alone in a message.
    #[arg(long, value_name = "WHAT", default_value = "refuse", help_heading = PROTOCOL)]
    pub bare: Bare,

    /// The certificate chain, in PEM format: offers STARTTLS. SIGHUP has it read again.
    #[arg(long, value_name = "FILE", requires = "tls_key", help_heading = TLS)]
    pub tls_cert: Option<PathBuf>,
    /// The private key of that certificate, in PEM format.
    #[arg(long, value_name = "FILE", requires = "tls_cert", help_heading = TLS)]
    pub tls_key: Option<PathBuf>,

    /// Who may authenticate: a file of lines `USER:HASH`, made by `smtpd hash-password USER`. SIGHUP has it read again.
    #[arg(long, value_name = "FILE", help_heading = AUTH)]
    pub auth_file: Option<PathBuf>,
    /// Offer AUTH also without TLS, which shows passwords to the network.
    #[arg(long, requires = "auth_file", help_heading = AUTH)]
    pub auth_in_clear: bool,
    /// Take no message from who has not authenticated.
    #[arg(long, requires = "auth_file", help_heading = AUTH)]
    pub require_auth: bool,
    /// Who may send without AUTH where it is required, as an address or a network; may be repeated.
    #[arg(long, value_name = "NET", value_parser = network, help_heading = AUTH)]
    pub allow_from: Vec<IpNet>,

    /// Most bytes of a message.
    #[arg(long, value_name = "SIZE", default_value = "32MiB", value_parser = size, help_heading = LIMITS)]
    pub message_limit: ByteSize,
    /// Most bytes of a line of text, with its end; 0 for any.
    #[arg(long, value_name = "SIZE", default_value = "1000", help_heading = LIMITS)]
    pub text_line_limit: ByteSize,
    /// Most recipients of a message.
    #[arg(long, value_name = "NUMBER", default_value = "1000", help_heading = LIMITS)]
    pub recipients: NonZero<usize>,
    /// Errors after which a session ends.
    #[arg(long, value_name = "NUMBER", default_value = "10", help_heading = LIMITS)]
    pub errors: NonZero<u32>,
    /// Most sessions at a time of one --listen or --smtps, of all clients together.
    #[arg(long, value_name = "NUMBER", default_value = "15000", help_heading = LIMITS)]
    pub sessions: NonZero<usize>,
    /// Most sessions at a time of one client's address, there. Does not count where loopback is listened on, nor behind a proxy.
    #[arg(long, value_name = "NUMBER", default_value = "50", help_heading = LIMITS)]
    pub sessions_per_address: NonZero<usize>,
    /// Most time between two commands, or two pieces of a message.
    #[arg(long, value_name = "TIME", default_value = "5min", value_parser = duration, help_heading = LIMITS)]
    pub idle_time: Duration,
    /// Most time of a session.
    #[arg(long, value_name = "TIME", default_value = "30min", value_parser = duration, help_heading = LIMITS)]
    pub total_time: Duration,
    /// Least bytes a second of a message, over 10 seconds; 0 for any.
    #[arg(long, value_name = "SIZE", default_value = "500", help_heading = LIMITS)]
    pub min_rate: ByteSize,
    /// How long messages in flight may take when the server is told to stop.
    #[arg(long, value_name = "TIME", default_value = "20s", value_parser = duration, help_heading = LIMITS)]
    pub stop_time: Duration,

    /// How the log on standard error is written.
    #[arg(long, value_name = "FORMAT", default_value = "text", help_heading = LOG)]
    pub log_format: LogFormat,
    /// Log more.
    #[arg(short, long, action = clap::ArgAction::Count, help = VERBOSE_HELP, help_heading = LOG)]
    pub verbose: u8,
}

impl Options {
    /// Whether messages stay in a Maildir.
    #[must_use]
    pub const fn keeps(&self) -> bool {
        !self.sink && !self.debug && self.exec.is_none() && self.relay.is_none()
    }
}

/// Where to listen: an address, or a Unix socket.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "these are all")]
pub enum At {
    /// A host, by name or address, `*` for every interface; and a port.
    Host(String, u16),
    /// A path, which has a slash in it.
    Unix(PathBuf),
}

impl FromStr for At {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.contains('/') {
            return Ok(Self::Unix(text.strip_prefix("unix:").unwrap_or(text).into()));
        }
        let (host, port) = text.rsplit_once(':').ok_or("expected HOST:PORT, or a path with a slash in it")?;
        let port = port.parse().map_err(|_| "expected a port, 0 to 65535, behind the colon")?;
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        Ok(Self::Host(host.to_owned(), port))
    }
}

impl At {
    /// The addresses that it stands for; blocks while a name is resolved.
    ///
    /// # Errors
    ///
    /// If the name is unknown.
    pub fn addresses(&self) -> Result<Vec<Address>, String> {
        match self {
            Self::Unix(path) => Ok(vec![path.as_path().into()]),
            Self::Host(host, port) if matches!(host.as_str(), "" | "*") => {
                Ok(vec![SocketAddr::from((Ipv6Addr::UNSPECIFIED, *port)).into()])
            }
            Self::Host(host, port) => {
                let addresses = (host.as_str(), *port).to_socket_addrs();
                let addresses = addresses.map_err(|error| format!("cannot listen on {self}: {error}"))?;
                Ok(addresses.map(Address::from).collect())
            }
        }
    }
}

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => path.display().fmt(f),
            Self::Host(host, port) if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Host(host, port) => write!(f, "{host}:{port}"),
        }
    }
}

/// What becomes of a CR or LF that stands alone in a message. It never ends a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[expect(clippy::exhaustive_enums, reason = "these are all")]
pub enum Bare {
    /// The message is refused, and the session ends.
    Refuse,
    /// It is kept, as data.
    Keep,
}

/// How the log is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[expect(clippy::exhaustive_enums, reason = "these are all")]
pub enum LogFormat {
    /// Lines to read.
    Text,
    /// An object a line.
    Json,
}

fn network(text: &str) -> Result<IpNet, &'static str> {
    let one = text.parse().map(|address: IpAddr| address.into());
    one.or_else(|_| text.parse()).map_err(|_| "expected an address, or a network as 192.0.2.0/24")
}

/// A size of a byte at least: `SIZE 0`, said to a client, would mean that there is no limit (RFC 1870, section 3).
fn size(text: &str) -> Result<ByteSize, String> {
    let size: ByteSize = text.parse()?;
    if size.as_u64() == 0 { Err("expected more than nothing".to_owned()) } else { Ok(size) }
}

fn duration(text: &str) -> Result<Duration, String> {
    let time = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    if time.is_zero() { Err("expected more than nothing".to_owned()) } else { Ok(time) }
}

const LISTEN_HELP: &str =
    "Where to listen for SMTP, as HOST:PORT, or as a path for a Unix socket; may be repeated";
const VERBOSE_HELP: &str = "Log more: -v debug, -vv trace; RUST_LOG overrides it";
const LISTENERS: &str = "Listeners";
const DESTINATION: &str = "Destination, one of maildir, sink, debug, exec, relay";
const PROTOCOL: &str = "Protocol";
const TLS: &str = "TLS";
const AUTH: &str = "Authentication";
const LIMITS: &str = "Limits";
const LOG: &str = "Log";

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_definition_is_sound() {
        Program::command().debug_assert();
    }

    #[test]
    fn where_to_listen_is_a_host_and_port_or_a_path() {
        let host = |host: &str, port| Ok(At::Host(host.to_owned(), port));
        assert_eq!("127.0.0.1:25".parse(), host("127.0.0.1", 25));
        assert_eq!("[::1]:25".parse(), host("::1", 25));
        assert_eq!("*:0".parse(), host("*", 0));
        assert_eq!("[::1]:25".parse::<At>().unwrap().to_string(), "[::1]:25");
        assert_eq!("/run/smtpd".parse(), Ok(At::Unix("/run/smtpd".into())));
        assert_eq!("unix:./here".parse(), Ok(At::Unix("./here".into())));
        assert!("25".parse::<At>().is_err());
        assert!("host:99999".parse::<At>().is_err());
    }

    #[test]
    fn there_is_one_destination() {
        for both in [["--sink", "--debug"], ["--sink", "--maildir=x"], ["--debug", "--per-recipient"]] {
            let parsed = Program::try_parse_from(["smtpd"].into_iter().chain(both));
            assert_eq!(parsed.unwrap_err().kind(), clap::error::ErrorKind::ArgumentConflict, "{both:?}");
        }
        assert!(Program::try_parse_from(["smtpd", "--maildir=x", "--per-recipient"]).is_ok());
    }
}
