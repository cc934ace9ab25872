//! [`Response`]: what is sent back.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, Seek, Write};

use bytes::Bytes;
use examples::http::Status;
use jiff::Timestamp;
use jiff::fmt::rfc2822::DateTimePrinter;

/// An answer: its status, its header fields and its body.
#[derive(Debug)]
pub(super) struct Response {
    pub(super) status: Status,
    /// Fields besides those that every answer has.
    fields: Vec<(&'static str, Cow<'static, str>)>,
    pub(super) body: Body,
}

/// What follows the head; an answer to `HEAD` leaves it out.
#[derive(Debug)]
pub(super) enum Body {
    Bytes(Bytes),
    /// So many bytes of a file, from where it stands.
    File(File, u64),
    /// Whatever is pushed until the connection ends.
    Endless,
}

impl Response {
    /// A good answer of a content type, such as `text/html; charset=utf-8`.
    pub(super) fn ok(content_type: &'static str, body: impl Into<Bytes>) -> Self {
        Self::whole(content_type, Body::Bytes(body.into()))
    }

    /// A good answer from wherever its body is.
    pub(super) fn whole(content_type: &'static str, body: Body) -> Self {
        Self::of(Status::Ok, content_type, body)
    }

    /// The head of a stream of events.
    pub(super) fn events() -> Self {
        Self::of(Status::Ok, "text/event-stream", Body::Endless)
    }

    /// A good answer that has nothing to say.
    pub(super) const fn empty() -> Self {
        Self { status: Status::NoContent, fields: Vec::new(), body: Body::Bytes(Bytes::new()) }
    }

    /// An answer that says in one line what the status means.
    pub(super) fn plain(status: Status) -> Self {
        Self::of(status, TEXT, Body::Bytes(format!("{}\n", status.text()).into()))
    }

    fn of(status: Status, content_type: &'static str, body: Body) -> Self {
        Self { status, fields: vec![("Content-Type", content_type.into())], body }
    }

    /// Keeps a large body in a file, not in memory: who reads slowly costs a place on the disk. Not for the loop.
    ///
    /// # Errors
    ///
    /// If there is no room on the disk.
    pub(super) fn spooled(mut self) -> io::Result<Self> {
        if let Body::Bytes(bytes) = &self.body
            && bytes.len() > KEPT_IN_MEMORY
        {
            let mut file = tempfile::tempfile()?;
            file.write_all(bytes)?;
            file.rewind()?;
            self.body = Body::File(file, bytes.len() as u64);
        }
        Ok(self)
    }

    /// Adds a header field, whose value has no control characters.
    #[must_use]
    pub(super) fn with(mut self, name: &'static str, value: impl Into<Cow<'static, str>>) -> Self {
        self.fields.push((name, value.into()));
        self
    }

    /// The head, its empty line included.
    pub(super) fn head(&self, keeps_alive: bool) -> String {
        let mut head = format!("HTTP/1.1 {}\r\n", self.status.text());
        let own =
            OF_ALL.into_iter().chain([("Connection", if keeps_alive { "keep-alive" } else { "close" })]);
        let fields = self.fields.iter().map(|(name, value)| (*name, &**value));
        let policy = ("Content-Security-Policy", CLOSED);
        let policy = Some(policy).filter(|policy| self.fields.iter().all(|(name, _)| *name != policy.0));
        for (name, value) in own.chain(policy).chain(fields) {
            // Writing to a string does not fail.
            let _ = write!(head, "{name}: {value}\r\n");
        }
        if let Ok(date) = DateTimePrinter::new().timestamp_to_rfc9110_string(&Timestamp::now()) {
            let _ = write!(head, "Date: {date}\r\n");
        }
        if let Some(length) = self.length() {
            let _ = write!(head, "Content-Length: {length}\r\n");
        }
        head.push_str("\r\n");
        head
    }

    /// How long the body is; `None` if only the end of the connection ends it.
    fn length(&self) -> Option<u64> {
        match &self.body {
            Body::Endless => None,
            // It has none, and says so by its status (RFC 9110 section 8.6).
            _ if self.status == Status::NoContent => None,
            Body::Bytes(bytes) => Some(bytes.len() as u64),
            Body::File(_, length) => Some(*length),
        }
    }
}

/// Up to which size a body is sent from memory: 256 KiB, what is queued at a time.
const KEPT_IN_MEMORY: usize = 256 << 10;

/// The content type of text.
pub(super) const TEXT: &str = "text/plain; charset=utf-8";

/// What an answer may do that says nothing else: nothing.
const CLOSED: &str =
    "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; sandbox";

/// Nobody is to keep an answer, to take it for something else, to use it in a page of their own, or to be told where a link
/// was found.
const OF_ALL: [(&str, &str); 4] = [
    ("Cache-Control", "no-store"),
    ("X-Content-Type-Options", "nosniff"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
    ("Referrer-Policy", "no-referrer"),
];
