//! [`Response`]: what is sent back.

use std::fmt::Write;

use bytes::Bytes;

/// An answer: its status, its header fields and its body.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Response {
    /// What became of the request.
    pub status: Status,
    /// Fields besides those that every answer has.
    pub fields: Vec<(&'static str, &'static str)>,
    /// The body; left out in an answer to `HEAD`.
    pub body: Bytes,
}

impl Response {
    /// A good answer of a content type, such as `text/html; charset=utf-8`.
    pub fn ok(content_type: &'static str, body: impl Into<Bytes>) -> Self {
        Self { status: Status::Ok, fields: vec![("Content-Type", content_type)], body: body.into() }
    }

    /// An answer that says in one line what the status means.
    #[must_use]
    pub fn plain(status: Status) -> Self {
        let body = format!("{}\n", status.text());
        Self { status, ..Self::ok("text/plain; charset=utf-8", body) }
    }

    /// Adds a header field.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: &'static str) -> Self {
        self.fields.push((name, value));
        self
    }

    /// The head, its empty line included.
    pub(super) fn head(&self, keeps_alive: bool) -> String {
        let mut head = format!("HTTP/1.1 {}\r\n", self.status.text());
        let own = [
            ("Connection", if keeps_alive { "keep-alive" } else { "close" }),
            ("Cache-Control", "no-store"),
            // Nobody is to take it for something else, or to use it in a page of their own.
            ("X-Content-Type-Options", "nosniff"),
            ("Cross-Origin-Resource-Policy", "same-origin"),
        ];
        for (name, value) in own.iter().chain(&self.fields) {
            // Writing to a string does not fail.
            let _ = write!(head, "{name}: {value}\r\n");
        }
        let _ = write!(head, "Content-Length: {}\r\n\r\n", self.body.len());
        head
    }
}

/// What became of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Status {
    /// 200
    Ok,
    /// 400
    BadRequest,
    /// 403
    Forbidden,
    /// 404
    NotFound,
    /// 405
    MethodNotAllowed,
    /// 413
    ContentTooLarge,
    /// 417
    ExpectationFailed,
    /// 421
    MisdirectedRequest,
    /// 431
    HeaderFieldsTooLarge,
    /// 501
    NotImplemented,
    /// 505
    VersionNotSupported,
}

impl Status {
    /// The code and its meaning, as in a status line.
    const fn text(self) -> &'static str {
        match self {
            Self::Ok => "200 OK",
            Self::BadRequest => "400 Bad Request",
            Self::Forbidden => "403 Forbidden",
            Self::NotFound => "404 Not Found",
            Self::MethodNotAllowed => "405 Method Not Allowed",
            Self::ContentTooLarge => "413 Content Too Large",
            Self::ExpectationFailed => "417 Expectation Failed",
            Self::MisdirectedRequest => "421 Misdirected Request",
            Self::HeaderFieldsTooLarge => "431 Request Header Fields Too Large",
            Self::NotImplemented => "501 Not Implemented",
            Self::VersionNotSupported => "505 HTTP Version Not Supported",
        }
    }
}
