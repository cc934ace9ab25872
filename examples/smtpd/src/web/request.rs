//! [`Request`]: the head of a request, parsed, and whether it may be answered.

use std::net::{IpAddr, Ipv6Addr};

use super::response::Status;

/// A request that may be answered.
#[derive(Debug)]
pub(super) struct Request<'a> {
    pub(super) method: Method,
    /// The path, as it was sent: not decoded, without the query.
    pub(super) path: &'a str,
    /// What followed a question mark; empty without one.
    pub(super) query: &'a str,
    pub(super) keeps_alive: bool,
    /// How many bytes of body follow.
    pub(super) body: u64,
}

/// The methods that something here is done for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Method {
    Get,
    Head,
    Delete,
    /// Any other: it is answered, with 405.
    Other,
}

/// By which names the server may be called.
#[derive(Debug)]
pub(super) struct Hosts<'a> {
    /// The address that the client has connected to.
    pub(super) local: Option<IpAddr>,
    /// Names that the options allow.
    pub(super) names: &'a [String],
}

impl<'a> Request<'a> {
    /// Parses a whole head, or says what to refuse it with.
    pub(super) fn parse(head: &'a [u8], hosts: &Hosts<'_>) -> Result<Self, Status> {
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
        let method = match method {
            "GET" => Method::Get,
            "HEAD" => Method::Head,
            "DELETE" => Method::Delete,
            _ => Method::Other,
        };
        if !(method.is_safe() && is_open(path)) {
            fields.check_origin(host)?;
        }
        let keeps_alive = match version {
            0 => fields.lists("connection", "keep-alive"),
            _ => !fields.lists("connection", "close"),
        };
        Ok(Self { method, path, query, keeps_alive, body: fields.body_length()? })
    }

    /// The value of a field of the query, decoded; the first one, if there are several.
    pub(super) fn field(&self, name: &str) -> Option<String> {
        let fields = self.query.split('&').filter_map(|field| field.split_once('='));
        fields.filter(|(key, _)| *key == name).map(|(_, value)| decoded(value)).next()
    }
}

impl Method {
    /// Whether nothing is changed by it.
    const fn is_safe(self) -> bool {
        matches!(self, Self::Get | Self::Head)
    }
}

impl Hosts<'_> {
    /// Whether a host, with or without a port, is one of the server's: the loopback, the address that was connected to, a
    /// name that was allowed.
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
                let own = self.names.iter().map(String::as_str).chain(["localhost"]);
                own.into_iter().any(|own| own.eq_ignore_ascii_case(host))
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
        named.map(|field| str::from_utf8(field.value).map_err(|_| Status::BadRequest))
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

    /// Whether it is the page itself that asks, or no page at all: browsers say where a request comes from.
    fn check_origin(&self, host: Option<&str>) -> Result<(), Status> {
        // In front of this server may be one that speaks TLS.
        let authority = |origin: &'a str| {
            ["http://", "https://"].into_iter().find_map(|scheme| origin.strip_prefix(scheme))
        };
        let is_own = |origin| host.is_some() && authority(origin) == host;
        let foreign_origin = self.only("origin")?.is_some_and(|origin| !is_own(origin));
        let foreign_site =
            self.only("sec-fetch-site")?.is_some_and(|site| !matches!(site, "same-origin" | "none"));
        if foreign_origin || foreign_site { Err(Status::Forbidden) } else { Ok(()) }
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

/// Whether anybody's page may lead to it: the page itself, which shows nothing that it has not asked for.
fn is_open(path: &str) -> bool {
    !path.starts_with("/api/")
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

/// A value of a query without its `+` and `%20`.
fn decoded(value: &str) -> String {
    let mut bytes = Vec::with_capacity(value.len());
    let mut rest = value.as_bytes();
    while let [first, after @ ..] = rest {
        let (byte, after) = match (first, after) {
            (b'+', _) => (b' ', after),
            (b'%', [high, low, after @ ..]) => match (digit(*high), digit(*low)) {
                (Some(high), Some(low)) => (high << 4 | low, after),
                _ => (b'%', &rest[1..]),
            },
            _ => (*first, after),
        };
        bytes.push(byte);
        rest = after;
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The value of a hexadecimal digit.
fn digit(letter: u8) -> Option<u8> {
    char::from(letter).to_digit(16).and_then(|digit| digit.try_into().ok())
}

/// Most bytes of a request's body, which is passed over: 64 KiB. Nothing here takes one, but a small one need not cost the
/// connection.
pub(super) const BODY_LIMIT: u64 = 64 << 10;

/// Most header fields of a request: 64, twice what browsers send.
const FIELDS_LIMIT: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    fn hosts(names: &[String]) -> Hosts<'_> {
        Hosts { local: "192.0.2.7".parse().ok(), names }
    }

    #[test]
    fn only_names_of_this_machine_and_those_allowed_are_ours() {
        let names = ["mail.example".to_owned()];
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
            assert!(hosts(&names).has(host), "{host}");
        }
        for host in [
            "",
            "example.org",
            "localhost.example.org",
            "mail.example.org",
            "192.0.2.8",
            "::1",
            "[::2]",
            "127.0.0.1:x",
            "[127.0.0.1]",
            "0.0.0.0",
        ] {
            assert!(!hosts(&names).has(host), "{host}");
        }
    }

    #[test]
    fn what_another_page_asks_for_is_refused_but_for_the_page_itself() {
        let answer = |request: &str, fields: &str| {
            let head = format!("{request} HTTP/1.1\r\nHost: localhost:8025\r\n{fields}\r\n");
            Request::parse(head.as_bytes(), &hosts(&[])).map(|request| request.method).map_err(Status::text)
        };
        let (own, null) = ("Origin: http://localhost:8025\r\n", "Origin: null\r\n");
        let (foreign, other_port) = ("Origin: http://evil.example\r\n", "Origin: http://localhost:9000\r\n");
        let (same, cross) = ("Sec-Fetch-Site: same-origin\r\n", "Sec-Fetch-Site: cross-site\r\n");
        let same_site = "Sec-Fetch-Site: same-site\r\n";
        for fields in ["", own, same, "Sec-Fetch-Site: none\r\n"] {
            assert_eq!(answer("DELETE /api/messages", fields), Ok(Method::Delete), "{fields}");
            assert_eq!(answer("GET /api/events", fields), Ok(Method::Get), "{fields}");
        }
        for fields in [foreign, null, other_port, cross, same_site] {
            assert_eq!(answer("DELETE /api/messages", fields), Err("403 Forbidden"), "{fields}");
            assert_eq!(answer("DELETE /", fields), Err("403 Forbidden"), "{fields}");
            assert_eq!(answer("POST /", fields), Err("403 Forbidden"), "{fields}");
            assert_eq!(answer("GET /api/events", fields), Err("403 Forbidden"), "{fields}");
            assert_eq!(answer("GET /", fields), Ok(Method::Get), "{fields}");
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

    #[test]
    fn a_query_is_decoded() {
        for (coded, plain) in [
            ("a+b%20c", "a b c"),
            ("%C3%A9", "é"),
            ("100%", "100%"),
            ("%zz%4", "%zz%4"),
            ("%ff", "\u{fffd}"),
            ("", ""),
        ] {
            assert_eq!(decoded(coded), plain);
        }
    }
}
