//! [`Url`]: an address of the plain `http://` kind.

use std::fmt;
use std::net::Ipv6Addr;
use std::str::FromStr;

/// Where to ask, and what for. Nothing in it can end a line of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Url {
    /// A name or an address; an IPv6 address without its brackets.
    pub(crate) host: String,
    pub(crate) port: u16,
    /// The path and the query.
    pub(crate) target: String,
}

impl Url {
    /// The host and, unless it is the usual one, the port.
    pub(crate) fn authority(&self) -> String {
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        if self.port == HTTP_PORT { host } else { format!("{host}:{}", self.port) }
    }

    /// Where `location`, as a redirect gives it, leads from here.
    pub(crate) fn join(&self, location: &str) -> Result<Self, BadUrl> {
        if location.contains("://") {
            return location.parse();
        }
        if location.starts_with("//") {
            return format!("http:{location}").parse();
        }
        let path = self.target.split('?').next().unwrap_or("/");
        let folder = path.rfind('/').map_or("/", |end| &path[..=end]);
        let target = match location.chars().next() {
            Some('/') => location.to_owned(),
            Some('?') => format!("{path}{location}"),
            Some('#') | None => self.target.clone(),
            // `data:` and its like; a colon in a path comes after a slash.
            _ if location.split('/').next().is_some_and(|first| first.contains(':')) => {
                return Err(BadUrl("only http:// is spoken"));
            }
            _ => format!("{folder}{location}"),
        };
        Ok(Self { target: plain_target(&target)?, ..self.clone() })
    }
}

impl FromStr for Url {
    type Err = BadUrl;

    fn from_str(text: &str) -> Result<Self, BadUrl> {
        let (scheme, rest) = text.split_once("://").ok_or(BadUrl("it does not begin with http://"))?;
        if !scheme.eq_ignore_ascii_case("http") {
            return Err(BadUrl("only http:// is spoken"));
        }
        let (authority, target) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
        if authority.contains('@') {
            return Err(BadUrl("names and passwords are not sent"));
        }
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !port.contains(']') => (host, port),
            _ => (authority, ""),
        };
        let host = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
            Some(host) => host.parse::<Ipv6Addr>().map_err(|_| BadUrl("its host is no address"))?.to_string(),
            None if is_name(host) => host.to_owned(),
            None => return Err(BadUrl("its host is no name")),
        };
        let port = match port {
            "" => HTTP_PORT,
            digits if digits.bytes().all(|byte| byte.is_ascii_digit()) => {
                digits.parse().map_err(|_| BadUrl("its port is too large"))?
            }
            _ => return Err(BadUrl("its port is no number")),
        };
        Ok(Self { host, port, target: plain_target(target)? })
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}{}", self.authority(), self.target)
    }
}

/// Why a text is no [`Url`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BadUrl(&'static str);

impl fmt::Display for BadUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for BadUrl {}

/// The target of a request: without the fragment, and of visible ASCII only.
fn plain_target(target: &str) -> Result<String, BadUrl> {
    let target = target.split('#').next().unwrap_or_default();
    if !target.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(BadUrl("it holds spaces, control characters or letters beyond ASCII: write them as %XX"));
    }
    Ok(if target.starts_with('/') { target.to_owned() } else { format!("/{target}") })
}

fn is_name(host: &str) -> bool {
    !host.is_empty()
        && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_'))
}

const HTTP_PORT: u16 = 80;
