//! The head of an answer: its status, how its body ends, and where it redirects to.

use super::Failure;

/// What the head of an answer says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) status: u16,
    pub(crate) body: BodyEnd,
    location: Option<String>,
}

/// What ends the body of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BodyEnd {
    /// As many bytes, none perhaps.
    Count(u64),
    /// A chunk without bytes, and its trailer.
    Chunked,
    /// The end of the connection.
    Eof,
}

impl Head {
    /// Parses a head, which comes without its empty line.
    pub(crate) fn parse(head: &[u8]) -> Result<Self, Failure> {
        let head = [head, b"\r\n\r\n"].concat();
        let mut fields = [httparse::EMPTY_HEADER; FIELDS_LIMIT];
        let mut parsed = httparse::Response::new(&mut fields);
        match parsed.parse(&head) {
            Ok(httparse::Status::Complete(length)) if length == head.len() => {}
            Err(httparse::Error::TooManyHeaders) => return Err(Failure::TooLong("the header fields")),
            // Incomplete, or complete too soon, it ends in two places.
            Ok(_) | Err(_) => return Err(Failure::Protocol("the head is malformed")),
        }
        let (Some(status), Some(version)) = (parsed.code, parsed.version) else {
            return Err(Failure::Protocol("the head is malformed"));
        };
        let values = |name: &'static str| {
            let named = parsed.headers.iter().filter(move |field| field.name.eq_ignore_ascii_case(name));
            named.map(|field| field.value).collect::<Vec<_>>()
        };

        let length = content_length(&values("content-length"))?;
        let body = match (values("transfer-encoding").as_slice(), length) {
            _ if matches!(status, 100..=199 | 204 | 304) => BodyEnd::Count(0),
            ([], Some(length)) => BodyEnd::Count(length),
            ([], None) => BodyEnd::Eof,
            (_, Some(_)) => return Err(Failure::Protocol("the body has two lengths")),
            (_, None) if version == 0 => return Err(Failure::Protocol("HTTP/1.0 knows no transfer coding")),
            ([coding], None) if coding.eq_ignore_ascii_case(b"chunked") => BodyEnd::Chunked,
            _ => return Err(Failure::Protocol("an unknown transfer coding")),
        };
        let location = match values("location").first() {
            None => None,
            Some(value) => match std::str::from_utf8(value) {
                Ok(value) => Some(value.to_owned()),
                Err(_) => return Err(Failure::Protocol("the redirect leads to no address")),
            },
        };
        Ok(Self { status, body, location })
    }

    /// Where the answer redirects to.
    pub(crate) fn redirect(&self) -> Option<&str> {
        self.location.as_deref().filter(|_| matches!(self.status, 301 | 302 | 303 | 307 | 308))
    }
}

/// The one length; a second one is refused even when it is equal.
fn content_length(values: &[&[u8]]) -> Result<Option<u64>, Failure> {
    let digits = match values {
        [] => return Ok(None),
        [digits] if !digits.is_empty() && digits.iter().all(u8::is_ascii_digit) => digits,
        _ => return Err(Failure::Protocol("the body's length is not one number")),
    };
    let digits = std::str::from_utf8(digits).unwrap_or_default();
    digits.parse().map(Some).map_err(|_| Failure::TooLong("the body"))
}

/// Most header fields of an answer: 100, as of Python.
const FIELDS_LIMIT: usize = 100;
