//! [`Request`]: what is asked of the page, and whether it may be answered.

use examples::http::{self, Hosts, Status};

/// A request that may be answered.
#[derive(Debug)]
pub(super) struct Request<'a> {
    pub(super) method: Method,
    /// The path, as it was sent: not decoded, without the query.
    pub(super) path: &'a str,
    /// What followed a question mark; empty without one.
    query: &'a str,
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

impl<'a> Request<'a> {
    /// Parses a whole head, or says what to refuse it with.
    pub(super) fn parse(head: &'a [u8], hosts: &Hosts<'_>) -> Result<Self, Status> {
        let http::Request { method, path, query, keeps_alive, body, is_foreign, .. } =
            http::Request::parse(head, hosts)?;
        let method = match method {
            "GET" => Method::Get,
            "HEAD" => Method::Head,
            "DELETE" => Method::Delete,
            _ => Method::Other,
        };
        if is_foreign && !(method.is_safe() && is_open(path)) {
            return Err(Status::Forbidden);
        }
        Ok(Self { method, path, query, keeps_alive, body })
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

/// Whether anybody's page may lead to it: the page itself, which shows nothing that it has not asked for.
fn is_open(path: &str) -> bool {
    !path.starts_with("/api/")
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_another_page_asks_for_is_refused_but_for_the_page_itself() {
        let answer = |request: &str, fields: &str| {
            let head = format!("{request} HTTP/1.1\r\nHost: localhost:8025\r\n{fields}\r\n");
            Request::parse(head.as_bytes(), &Hosts::default())
                .map(|request| request.method)
                .map_err(Status::text)
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
