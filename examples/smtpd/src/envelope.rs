//! [`Envelope`]: what is known of a message beside its text, and the lines that say so on top of it.

use std::net::IpAddr;
use std::time::SystemTime;

use crate::address::Mailbox;

/// From whom, for whom, and how it came.
#[derive(Clone, Debug)]
pub struct Envelope {
    /// A name for it that no other message of this server has: letters, digits and `-`. In `Received:`, in the log, in the reply.
    pub id: String,
    /// The client it came from.
    pub client: Client,
    /// The sender; `None` for `<>`, the sender of bounces.
    pub from: Option<Mailbox>,
    /// The recipients, each once, in their order; one at least.
    pub to: Vec<Mailbox>,
    /// When `MAIL` was accepted.
    pub at: SystemTime,
    /// The size that the client declared, in bytes.
    pub size: Option<u64>,
    /// Whether it may have bytes above 127 (RFC 6152).
    pub body: Body,
    /// Whether addresses and headers may be UTF-8 (RFC 6531).
    pub smtputf8: bool,
}

/// Who sent a message to this server, as of the message.
#[derive(Clone, Debug, Default)]
pub struct Client {
    /// Its address; `None` over a Unix socket.
    pub address: Option<IpAddr>,
    /// Its port; 0 over a Unix socket.
    pub port: u16,
    /// What it said it was, with `HELO`, `EHLO` or `LHLO`: no control characters in it.
    pub helo: String,
    /// How it spoke.
    pub protocol: Protocol,
    /// Version and cipher, if TLS is used.
    pub tls: Option<String>,
    /// As whom it has authenticated.
    pub user: Option<String>,
}

/// What a client spoke.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "these are all")]
pub enum Protocol {
    /// `HELO`.
    #[default]
    Smtp,
    /// `EHLO`.
    Esmtp,
    /// `LHLO`.
    Lmtp,
}

/// What a message may consist of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "these are all")]
pub enum Body {
    /// Lines of ASCII.
    #[default]
    SevenBit,
    /// Lines of bytes: `BODY=8BITMIME`.
    EightBitMime,
}
