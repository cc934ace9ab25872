//! What a client is answered, in the words of RESP2.

use std::borrow::Cow;

use asyncore::{ChannelId, Map, PushData};

use super::server::Server;

/// The answers to one client; each is a single push.
pub(crate) struct Reply<'a> {
    pub(crate) map: &'a mut Map<Server>,
    pub(crate) id: ChannelId,
}

/// Why a command was not carried out: a code and a sentence.
#[derive(Debug)]
pub(crate) struct Refusal(Cow<'static, [u8]>);

impl Reply<'_> {
    pub(crate) fn ok(&mut self) {
        self.push(b"+OK\r\n");
    }

    /// A short text, which holds no line end.
    pub(crate) fn simple(&mut self, text: &'static str) {
        self.push((b"+", text, b"\r\n"));
    }

    pub(crate) fn integer(&mut self, number: impl itoa::Integer) {
        self.push((b":", itoa::Buffer::new().format(number), b"\r\n"));
    }

    /// Any bytes.
    pub(crate) fn bulk(&mut self, bytes: &[u8]) {
        let mut length = itoa::Buffer::new();
        self.push(((b"$", length.format(bytes.len()), b"\r\n"), bytes, b"\r\n"));
    }

    /// Bytes that are not there.
    pub(crate) fn null(&mut self) {
        self.push(b"$-1\r\n");
    }

    /// Bytes that may be there.
    pub(crate) fn bulk_or_null(&mut self, bytes: Option<&[u8]>) {
        match bytes {
            Some(bytes) => self.bulk(bytes),
            None => self.null(),
        }
    }

    /// The head of an array; its elements are answered next.
    pub(crate) fn array(&mut self, length: usize) {
        self.push((b"*", itoa::Buffer::new().format(length), b"\r\n"));
    }

    /// A text in lines.
    pub(crate) fn help(&mut self, lines: &[&'static str]) {
        self.array(lines.len());
        for line in lines {
            self.simple(line);
        }
    }

    /// Why not. What it quotes of a command may hold line ends, which would end the answer.
    pub(crate) fn refuse(&mut self, Refusal(text): &Refusal) {
        let text: Vec<u8> =
            text.iter().map(|byte| if matches!(byte, b'\r' | b'\n') { b' ' } else { *byte }).collect();
        self.push((b"-", text, b"\r\n"));
    }

    fn push(&mut self, data: impl PushData) {
        self.map.push(self.id, data);
    }
}

impl Refusal {
    pub(crate) const NOT_AN_INTEGER: Self = Self::new("ERR value is not an integer or out of range");
    pub(crate) const SYNTAX: Self = Self::new("ERR syntax error");
    pub(crate) const WRONG_TYPE: Self =
        Self::new("WRONGTYPE Operation against a key holding the wrong kind of value");

    pub(crate) const fn new(text: &'static str) -> Self {
        Self(Cow::Borrowed(text.as_bytes()))
    }

    /// A command of this name takes more arguments, or fewer.
    pub(crate) fn wrong_arity(name: &str) -> Self {
        Self(format!("ERR wrong number of arguments for '{name}' command").into_bytes().into())
    }

    pub(crate) fn invalid_expire_time(name: &str) -> Self {
        Self(format!("ERR invalid expire time in '{name}' command").into_bytes().into())
    }
}

impl From<Vec<u8>> for Refusal {
    fn from(text: Vec<u8>) -> Self {
        Self(text.into())
    }
}

/// What a refusal quotes of a text: what C takes for it, which ends before a zero byte.
pub(crate) fn quotable(text: &[u8]) -> &[u8] {
    let end = text.iter().position(|byte| *byte == 0);
    &text[..end.unwrap_or(text.len())]
}
