//! [`RelayOptions`]: where the next server is, and how one speaks to it.

use std::fmt;
use std::fs;
use std::net::Ipv6Addr;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use asyncore::{Result, TlsClient, TlsClientOptions};
use serde::Deserialize;

use super::tls::NextTls;

/// What [`Relay::new`](super::Relay::new) is told.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "made from the program's options")]
pub struct RelayOptions {
    /// The next server.
    pub next: NextServer,
    /// Whether it is spoken to under TLS.
    pub tls: RelayTls,
    /// Who vouches for it: a file of root certificates in PEM format. `None` is whom the system trusts; with
    /// [`RelayTls::May`], nobody has to.
    pub roots: Option<PathBuf>,
    /// As whom to log in there.
    pub login: Option<Login>,
}

/// Whether the next server is spoken to under TLS, by `STARTTLS`, and with whom. A certificate that is verified must bear the
/// name that the server was given here: who has one of his own making names its root.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
#[expect(clippy::exhaustive_enums, reason = "these are all")]
pub enum RelayTls {
    /// Never.
    None,
    /// If the server offers it, whatever certificate it shows (RFC 7435); with [`roots`](RelayOptions::roots) that is verified.
    /// Somebody on the way can hide the offer, but not only listen. If the handshake fails, nothing is sent.
    #[default]
    May,
    /// Always, and the certificate is verified, or nothing is sent.
    Must,
}

/// The name or address of a server, and its port.
///
/// It parses from `mail.example.org:587`, `192.0.2.1`, `[2001:db8::1]:25`; without a port that is 25.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "a host and a port are all there is to it")]
pub struct NextServer {
    /// A name, or an address without brackets.
    pub host: String,
    /// Its port.
    pub port: u16,
}

impl FromStr for NextServer {
    type Err = BadServer;

    fn from_str(text: &str) -> Result<Self, BadServer> {
        let (host, port) = match text.strip_prefix('[') {
            Some(rest) => {
                let (host, port) = rest.split_once(']').ok_or(BadServer)?;
                host.parse::<Ipv6Addr>().map_err(|_| BadServer)?;
                (host, port.strip_prefix(':').or_else(|| port.is_empty().then_some(SMTP)).ok_or(BadServer)?)
            }
            None if text.parse::<Ipv6Addr>().is_ok() => (text, SMTP),
            None => text.split_once(':').unwrap_or((text, SMTP)),
        };
        let is_host = !host.is_empty()
            && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_:".contains(&byte));
        let port = port.parse().ok().filter(|port| *port != 0);
        let port = port.filter(|_| is_host).ok_or(BadServer)?;
        Ok(Self { host: host.to_owned(), port })
    }
}

impl fmt::Display for NextServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port } = self;
        if host.contains(':') { write!(f, "[{host}]:{port}") } else { write!(f, "{host}:{port}") }
    }
}

/// What is no [`NextServer`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "there is no more to say")]
pub struct BadServer;

impl fmt::Display for BadServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a server is HOST:PORT, an IPv6 address in brackets")
    }
}

impl std::error::Error for BadServer {}

/// A name and a password; the password is not shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Login {
    pub(crate) user: String,
    pub(crate) password: String,
}

impl Login {
    /// A name, and the password that is the first line of a file: arguments are there for everybody to see.
    ///
    /// # Errors
    ///
    /// If the file cannot be read, or one of the two is empty or has a NUL in it, which AUTH cannot send.
    pub fn from_file(user: &str, file: &Path) -> Result<Self> {
        let text = fs::read_to_string(file).map_err(|error| format!("{}: {error}", file.display()))?;
        let password = text.lines().next().unwrap_or_default();
        if [user, password].iter().any(|text| text.is_empty() || text.contains('\0')) {
            return Err(
                format!("{}: a user or password that is empty, or has a NUL in it", file.display()).into()
            );
        }
        Ok(Self { user: user.to_owned(), password: password.to_owned() })
    }
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Login").field("user", &self.user).finish_non_exhaustive()
    }
}

impl RelayOptions {
    /// What TLS needs, if there may be some.
    ///
    /// # Errors
    ///
    /// If a password would go over a network that is not under TLS for sure, the roots cannot be read where a certificate is to
    /// be verified, or the server's name cannot be in one.
    pub(crate) fn tls_client(&self) -> Result<Option<NextTls>> {
        if self.login.is_some() && self.tls != RelayTls::Must && !self.next.is_here() {
            return Err("a password is sent under TLS alone: it needs --relay-tls must".into());
        }
        let tls = match self.tls {
            RelayTls::None => return Ok(None),
            // A machine may have no roots at all.
            RelayTls::May if self.roots.is_none() => NextTls::anybody()?,
            RelayTls::May | RelayTls::Must => {
                let mut options = TlsClientOptions::default();
                options.roots.clone_from(&self.roots);
                NextTls::Verified(TlsClient::with(&options).map_err(|error| {
                    format!("TLS with {}: {error}; --relay-roots names whom to trust", self.next)
                })?)
            }
        };
        tls.session(&self.next.host)?;
        Ok(Some(tls))
    }
}

impl NextServer {
    /// Whether it is this machine.
    fn is_here(&self) -> bool {
        let is_loopback = |ip: std::net::IpAddr| ip.to_canonical().is_loopback();
        self.host.eq_ignore_ascii_case("localhost") || self.host.parse().is_ok_and(is_loopback)
    }
}

/// The port where mail is delivered.
const SMTP: &str = "25";

#[cfg(test)]
mod tests {
    use super::*;

    fn options(next: &str, tls: RelayTls, login: bool) -> RelayOptions {
        let login = login.then(|| Login { user: "me".into(), password: "secret".into() });
        RelayOptions { next: next.parse().unwrap(), tls, roots: None, login }
    }

    #[test]
    fn a_server_is_a_host_and_a_port() {
        for (text, host, port) in [
            ("mail.example.org:587", "mail.example.org", 587),
            ("mail.example.org", "mail.example.org", 25),
            ("192.0.2.1:2525", "192.0.2.1", 2525),
            ("[2001:db8::1]:587", "2001:db8::1", 587),
            ("[::1]", "::1", 25),
            ("::1", "::1", 25),
        ] {
            let server: NextServer = text.parse().unwrap();
            assert_eq!((&*server.host, server.port), (host, port), "{text}");
            assert_eq!(server.to_string().parse(), Ok(server), "{text}");
        }
        for text in
            ["", ":25", "a:", "a:0", "a:65536", "a:b:c", "[::1", "[::1]25", "[a]:25", "a b:25", "a\r\n:25"]
        {
            assert_eq!(text.parse::<NextServer>(), Err(BadServer), "{text:?}");
        }
    }

    #[test]
    fn a_password_does_not_leave_the_machine_but_under_tls() {
        for tls in [RelayTls::None, RelayTls::May] {
            assert!(options("mail.example.org", tls, true).tls_client().is_err(), "{tls:?}");
        }
        assert!(options("localhost:25", RelayTls::None, true).tls_client().is_ok());
        assert!(options("[::1]:25", RelayTls::None, true).tls_client().is_ok());
        assert!(options("mail.example.org", RelayTls::None, false).tls_client().is_ok());
    }

    #[test]
    fn a_password_is_the_first_line_of_its_file_and_not_shown() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("password");
        fs::write(&file, "sec ret\r\nmore\r\n").unwrap();
        let login = Login::from_file("me", &file).unwrap();
        assert_eq!((&*login.user, &*login.password), ("me", "sec ret"));
        assert!(!format!("{login:?}").contains("ret"));
        for bad in ["", "\nx", "a\0b"] {
            fs::write(&file, bad).unwrap();
            assert!(Login::from_file("me", &file).is_err(), "{bad:?}");
        }
        assert!(Login::from_file("me", &folder.path().join("none")).is_err());
    }
}
