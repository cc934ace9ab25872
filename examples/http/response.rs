//! [`Response`]: what is sent back.

use std::fmt::Write;

use bytes::Bytes;

use super::Status;

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
