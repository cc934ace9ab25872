//! [`Settings`]: what the server was told to be, checked.

use std::sync::Arc;
use std::time::Duration;

use asynchat::BareIn;
use asyncore::{Rate, TlsServer};
use ipnet::IpNet;

use crate::password::Passwords;

/// What sessions are held to. Made from the options when the server starts.
#[derive(Clone, Debug)]
pub struct Settings {
    /// What the server calls itself.
    pub hostname: String,
    /// Whether it speaks LMTP (RFC 2033) instead of SMTP.
    pub lmtp: bool,
    /// Most bytes of a message.
    pub message_limit: u64,
    /// Most bytes of a line of text, with its end; `None` for any.
    pub text_line_limit: Option<usize>,
    /// Most recipients of a message.
    pub recipients: usize,
    /// Errors after which a session ends with 421.
    pub errors: u32,
    /// Most time between two commands, or two pieces of a message.
    pub idle_time: Duration,
    /// Most time of a session.
    pub total_time: Duration,
    /// Least rate of a message.
    pub min_rate: Option<Rate>,
    /// What becomes of a bare CR or LF in a message.
    pub bare: BareIn,
    /// `STARTTLS` is offered, and `--smtps` served, with this.
    pub tls: Option<TlsServer>,
    /// Who may say who they are with `AUTH`; without it, `AUTH` is not offered.
    pub passwords: Option<Arc<Passwords>>,
    /// Whether `AUTH` is offered without TLS.
    pub auth_in_clear: bool,
    /// Who must say who it is before `MAIL`, unless it comes from `allow_from`. True where the server is a relay that others
    /// than this machine reach.
    pub require_auth: bool,
    /// Who need not say who it is.
    pub allow_from: Vec<IpNet>,
    /// From whom a PROXY header is demanded; none if the protocol is off.
    pub proxies: Option<Vec<IpNet>>,
}
