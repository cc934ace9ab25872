//! [`Request`]: the head of a request, parsed and checked.

use std::net::{IpAddr, Ipv6Addr};

use super::Status;

/// A request that may be answered.
#[derive(Debug)]
#[non_exhaustive]
pub struct Request<'a> {
    /// The method, such as `GET`; upper and lower case count.
    pub method: &'a str,
    /// The path, as it was sent: not decoded, without the query.
    pub path: &'a str,
    /// What followed a question mark; empty without one.
    pub query: &'a str,
    /// Whether another request may come after this one.
    pub keeps_alive: bool,
    /// How many bytes of body follow, at most [`BODY_LIMIT`].
    pub body: u64,
    /// Whether it is the page of another site that asks, as browsers tell: who changes something for it does so for everybody.
    pub is_foreign: bool,
}

/// By which names the server may be called.
#[derive(Clone, Copy, Debug, Default)]
#[expect(clippy::exhaustive_structs, reason = "there are no other names")]
pub struct Hosts<'a> {
    /// The address that the client has connected to.
    pub local: Option<IpAddr>,
    /// Others than `localhost` and addresses.
    pub names: &'a [String],
}

impl<'a> Request<'a> {
    /// Parses a whole head.
    ///
    /// # Errors
    ///
    /// What to refuse it with: where the next request begins is unknown.
    pub fn parse(head: &'a [u8], hosts: &Hosts<'_>) -> Result<Self, Status> {
        let mut fields = [httparse::EMPTY_HEADER; FIELDS_LIMIT];
        let mut parsed = httparse::Request::new(&mut fields);
        match parsed.parse(head) {
            Ok(httparse::Status::Complete(length)) if length == head.len() => {}
            Err(httparse::Error::TooManyHeaders) => return Err(Status::HeaderFieldsTooLarge),
            Err(httparse::Error::Version) => return Err(Status::VersionNotSupported),
            // Incomplete, or complete too soon: the two of us differ on where the head ends.
            Ok(_) | Err(_) => return Err(Status::BadRequest),
        }
        let (Some(method), Some(target), Some(version)) = (parsed.method, parsed.path, parsed.version) else {
            return Err(Status::BadRequest);
        };
        let fields = Fields(parsed.headers);

        let (authority, target) = split_target(target)?;
        let host = fields.only("host")?;
        // A browser always sends it, and HTTP/1.0 does not ask for it.
        if host.is_none() && version != 0 {
            return Err(Status::BadRequest);
        }
        if [host, authority].into_iter().flatten().any(|host| !hosts.has(host)) {
            return Err(Status::MisdirectedRequest);
        }
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let keeps_alive = match version {
            0 => fields.lists("connection", "keep-alive"),
            _ => !fields.lists("connection", "close"),
        };
        let is_foreign = fields.are_foreign(host)?;
        Ok(Self { method, path, query, keeps_alive, body: fields.body_length()?, is_foreign })
    }
}

impl Hosts<'_> {
    /// Whether a host, with or without a port, is the server: the loopback, the address that was connected to, one of the names.
    ///
    /// A page from elsewhere can have its own name point here (DNS rebinding), but the browser then sends that name.
    fn has(&self, authority: &str) -> bool {
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !port.contains(']') => (host, port),
            _ => (authority, ""),
        };
        if port.bytes().any(|byte| !byte.is_ascii_digit()) {
            return false;
        }
        let address = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
            Some(host) => host.parse::<Ipv6Addr>().ok().map(IpAddr::V6),
            None => host.parse().ok().filter(IpAddr::is_ipv4),
        };
        match address.map(|address| address.to_canonical()) {
            Some(address) => {
                address.is_loopback() || self.local.is_some_and(|local| local.to_canonical() == address)
            }
            None => {
                let mut own = self.names.iter().map(String::as_str).chain(["localhost"]);
                own.any(|own| own.eq_ignore_ascii_case(host))
            }
        }
    }
}

/// The header fields of a request.
struct Fields<'a>(&'a [httparse::Header<'a>]);

impl<'a> Fields<'a> {
    /// Every value of a field.
    fn all(&self, name: &str) -> impl Iterator<Item = Result<&'a str, Status>> {
        let named = self.0.iter().filter(move |field| field.name.eq_ignore_ascii_case(name));
        named.map(|field| std::str::from_utf8(field.value).map_err(|_| Status::BadRequest))
    }

    /// The value of a field that may be there once.
    fn only(&self, name: &str) -> Result<Option<&'a str>, Status> {
        let mut values = self.all(name);
        let first = values.next().transpose()?;
        if values.next().is_some() { Err(Status::BadRequest) } else { Ok(first) }
    }

    /// Whether a field that holds a list names `token`.
    fn lists(&self, name: &str, token: &str) -> bool {
        let mut items = self.all(name).flatten().flat_map(|value| value.split(','));
        items.any(|item| item.trim().eq_ignore_ascii_case(token))
    }

    /// Whether they name a page as the origin of the request that is not one of `host`.
    fn are_foreign(&self, host: Option<&str>) -> Result<bool, Status> {
        // In front of the server may be one that speaks TLS.
        let authority = |origin: &'a str| {
            ["http://", "https://"].into_iter().find_map(|scheme| origin.strip_prefix(scheme))
        };
        let is_own = |origin| host.is_some() && authority(origin) == host;
        let foreign_origin = self.only("origin")?.is_some_and(|origin| !is_own(origin));
        let foreign_site =
            self.only("sec-fetch-site")?.is_some_and(|site| !matches!(site, "same-origin" | "none"));
        Ok(foreign_origin || foreign_site)
    }

    /// How long the body is; a body that is too long, or whose end is not told plainly, is refused.
    fn body_length(&self) -> Result<u64, Status> {
        let length = self.only("content-length")?;
        if self.all("transfer-encoding").next().is_some() {
            // Both at once is how requests are smuggled.
            return Err(if length.is_some() { Status::BadRequest } else { Status::NotImplemented });
        }
        if self.all("expect").next().is_some() {
            return Err(Status::ExpectationFailed);
        }
        match length {
            None => Ok(0),
            Some(digits) if digits.is_empty() || digits.bytes().any(|byte| !byte.is_ascii_digit()) => {
                Err(Status::BadRequest)
            }
            // A number too large to be told is too large.
            Some(digits) => match digits.parse() {
                Ok(length) if length <= BODY_LIMIT => Ok(length),
                _ => Err(Status::ContentTooLarge),
            },
        }
    }
}

/// Splits `http://host/path` into host and path; a path alone has no host.
fn split_target(target: &str) -> Result<(Option<&str>, &str), Status> {
    if target.starts_with('/') || target == "*" {
        return Ok((None, target));
    }
    let scheme = target.get(.."http://".len()).filter(|scheme| scheme.eq_ignore_ascii_case("http://"));
    let rest = &target[scheme.ok_or(Status::BadRequest)?.len()..];
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    Ok((Some(authority), if path.is_empty() { "/" } else { path }))
}

/// Most bytes of a request's body, which is passed over: 64 KiB. It is of no use here, but a small one need not cost the
/// connection.
pub const BODY_LIMIT: u64 = 64 << 10;

/// Most header fields of a request: 64, twice what browsers send.
const FIELDS_LIMIT: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_this_machine_and_those_allowed_are_ours() {
        let names = ["mail.example".to_owned()];
        let hosts = Hosts { local: "192.0.2.7".parse().ok(), names: &names };
        for host in [
            "localhost",
            "LocalHost:80",
            "127.0.0.1",
            "127.9.9.9:8142",
            "[::1]",
            "[::1]:80",
            "[::ffff:127.0.0.1]",
            "192.0.2.7:80",
            "mail.example:8025",
            "MAIL.example",
        ] {
            assert!(hosts.has(host), "{host}");
        }
        for host in [
            "",
            "example.org",
            "localhost.example.org",
            "mail.example.org",
            "192.0.2.8",
            "0.0.0.0",
            "::1",
            "[::2]",
            "127.0.0.1:x",
            "[127.0.0.1]",
        ] {
            assert!(!hosts.has(host), "{host}");
        }
    }

    #[test]
    fn browsers_tell_which_page_asks() {
        let is_foreign = |fields: &str| {
            let head = format!("GET / HTTP/1.1\r\nHost: localhost:8025\r\n{fields}\r\n");
            Request::parse(head.as_bytes(), &Hosts::default()).unwrap().is_foreign
        };
        for fields in [
            "",
            "Origin: http://localhost:8025\r\n",
            "Origin: https://localhost:8025\r\n",
            "Sec-Fetch-Site: same-origin\r\n",
            "Sec-Fetch-Site: none\r\n",
        ] {
            assert!(!is_foreign(fields), "{fields}");
        }
        for fields in [
            "Origin: null\r\n",
            "Origin: http://evil.example\r\n",
            "Origin: http://localhost:9000\r\n",
            "Sec-Fetch-Site: cross-site\r\n",
            "Sec-Fetch-Site: same-site\r\n",
            "Origin: http://localhost:8025\r\nSec-Fetch-Site: cross-site\r\n",
        ] {
            assert!(is_foreign(fields), "{fields}");
        }
    }

    #[test]
    fn a_target_is_a_path_or_a_whole_address() {
        assert_eq!(split_target("/a?b"), Ok((None, "/a?b")));
        assert_eq!(split_target("HTTP://localhost:80/a"), Ok((Some("localhost:80"), "/a")));
        assert_eq!(split_target("http://localhost"), Ok((Some("localhost"), "/")));
        assert_eq!(split_target("https://localhost/"), Err(Status::BadRequest));
        assert_eq!(split_target("localhost:80"), Err(Status::BadRequest));
    }
}
