//! [`Session`]: one conversation with a client, in SMTP (RFC 5321) or LMTP (RFC 2033).
//!
//! ```text
//!              EHLO            MAIL, RCPT        DATA           .
//!   Command ─────────► Command ─────────► Command ────► Text ─────┐
//!      ▲  │                                  │ BDAT               │ finish()
//!      │  │ AUTH                             ▼                    ▼
//!      │  └────► Answer ───► Busy          Chunk ─────────────► Busy
//!      └───────────────────────┴─────────────┴────────────────────┘ Ticket::answer
//! ```
//!
//! A line ends with LF for the framing, and one without CR in front of it ends the session: nothing that another server could
//! read as two lines, or as none, is obeyed. What a message is made of goes to its [`Incoming`](crate::delivery::Incoming) in
//! the pieces in which it comes. While the session waits, for a delivery or for the check of a password, reading is paused:
//! commands behind it wait in the system's buffers.

mod auth;
mod hello;
mod lines;
mod mail;
mod message;

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use asynchat::{AsyncChat, Chat, Collected, Conversation, FrameError, OnTooLong, Terminator};
use asyncore::{Address, CloseReason, Error, Limits, Result, Timeout};
use memchr::memchr;

use self::auth::Exchange;
use self::message::Message;
use crate::app::App;
use crate::command::{AUTH_LINE_LIMIT, Chunk, Command, LINE_LIMIT, Verb, is_foreign};
use crate::envelope::{Client, Envelope, Protocol};
use crate::parameters::Announced;
use crate::reply::{self, Reply};
use crate::settings::Settings;

/// The server's side of one conversation.
#[derive(Default)]
pub struct Session {
    stage: Stage,
    peer: Peer,
    /// Whether it was greeted.
    is_greeted: bool,
    /// Whether anything was heard of it.
    is_heard: bool,
    /// Whether the client will say nothing more.
    has_ended: bool,
    /// The last reply, once what is under way is done.
    farewell: Option<Reply>,
    /// Why it ends, if the channel does not know better.
    why: Option<&'static str>,
    /// Who it is, as of what it has said; without a name before `HELO`.
    client: Client,
    /// Since `MAIL`.
    envelope: Option<Arc<Envelope>>,
    /// In LMTP, which recipient of the envelope each `RCPT` was.
    places: Vec<usize>,
    /// Since `DATA` or the first `BDAT`.
    message: Option<Box<Message>>,
    /// Messages that have begun.
    begun: u64,
    /// Messages that were accepted, and their bytes.
    messages: u64,
    bytes: u64,
    errors: u32,
    /// Passwords that were wrong.
    failures: u8,
}

/// What the next message of the framing is.
#[derive(Default)]
enum Stage {
    /// A command.
    #[default]
    Command,
    /// The text behind `DATA`.
    Text,
    /// The octets behind `BDAT`.
    Chunk(Chunk),
    /// The answer to a challenge of `AUTH`.
    Answer(Box<Exchange>),
    /// Nothing: the session waits for a thread, or for a delivery.
    Busy,
}

/// Where a client is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "there are no other places")]
pub enum Peer {
    /// Somewhere: a proxy does not say where.
    #[default]
    Unknown,
    /// On this machine, at the other end of a Unix socket.
    Local,
    /// Here.
    Inet(SocketAddr),
}

/// A conversation with a client of that address, which begins with the greeting.
#[must_use]
pub fn conversation(peer: Option<Address>) -> AsyncChat<Session> {
    Session::of(peer.into()).chat()
}

/// What the channels of sessions are held to.
#[must_use]
pub fn limits(settings: &Settings) -> Limits {
    let mut limits = Limits::default();
    limits.idle_time = Some(settings.idle_time);
    limits.total_time = Some(settings.total_time);
    if settings.lmtp {
        // The end of a message has a reply for each recipient, all at once, behind what is queued below the high mark.
        let replies = settings.recipients.saturating_mul(reply::LIMIT).saturating_add(limits.high_mark);
        limits.output = limits.output.max(replies);
    }
    limits
}

impl From<Option<Address>> for Peer {
    fn from(address: Option<Address>) -> Self {
        match address {
            Some(Address::Inet(address)) => Self::Inet(address),
            Some(_) => Self::Local,
            None => Self::Unknown,
        }
    }
}

impl Session {
    /// One with a client there, which has not been greeted.
    pub(crate) fn of(peer: Peer) -> Self {
        Self { peer, ..Self::default() }
    }

    /// Its channel.
    pub(crate) fn chat(self) -> AsyncChat<Self> {
        AsyncChat::new(self)
            .terminator(Terminator::lf())
            .message_limit(AUTH_LINE_LIMIT - "\n".len())
            .on_too_long(OnTooLong::Skip)
    }

    /// Obeys a line, which came without its LF.
    fn command(&mut self, cx: &mut Conversation<'_, App>, line: &[u8]) {
        let Some(text) = line.strip_suffix(b"\r").filter(|text| memchr(b'\r', text).is_none()) else {
            cx.push(BARE.wire());
            return self.leave(cx, "bare CR or LF");
        };
        let answer = Command::parse(text).and_then(|command| {
            let announced = self.announced(cx);
            let limit =
                command.verb.map_or(LINE_LIMIT, |verb| verb.line_limit(announced.extensions, announced.auth));
            if line.len() + "\n".len() > limit { Err(TOO_LONG) } else { self.obey(cx, command) }
        });
        match answer {
            Ok(None) => {}
            Ok(Some(reply)) => say(cx, &reply),
            Err(reply) => self.refuse_line(cx, text, &reply),
        }
    }

    /// The reply, if there is one now; an error counts against the client.
    fn obey(&mut self, cx: &mut Conversation<'_, App>, command: Command<'_>) -> Result<Option<Reply>, Reply> {
        let Some(verb) = command.verb else {
            return Err(Reply::new(500, "5.5.1", format_args!("Unknown command: {}", command.word)));
        };
        let argument = command.argument;
        match verb {
            Verb::Ehlo | Verb::Helo | Verb::Lhlo => self.hello(cx, verb, argument),
            Verb::Mail => self.mail(cx, argument),
            Verb::Rcpt => self.rcpt(cx, argument),
            Verb::Data => self.data(cx, argument),
            Verb::Bdat => self.bdat(cx, argument),
            Verb::Auth => self.auth(cx, argument),
            Verb::StartTls => self.start_tls(cx, argument),
            Verb::Rset => {
                no_argument(argument)?;
                self.forget_message(cx);
                Ok(Some(OK))
            }
            // With an argument too, which is ignored (RFC 5321, section 4.1.1.9).
            Verb::Noop => Ok(Some(OK)),
            Verb::Quit => {
                cx.push(BYE.wire());
                self.leave(cx, "quit");
                Ok(None)
            }
            Verb::Vrfy if argument.is_empty() => Err(VRFY_SYNTAX),
            Verb::Vrfy => Ok(Some(VRFY)),
            Verb::Expn => Err(NOT_IMPLEMENTED),
            Verb::Help if argument.is_empty() => Ok(Some(HELP)),
            Verb::Help => match Verb::of(argument) {
                Some(verb) => Ok(Some(Reply::new(214, "2.0.0", verb.syntax()))),
                None => Err(NO_HELP),
            },
        }
    }

    /// What the client was told that it may say.
    fn announced(&self, cx: &Conversation<'_, App>) -> Announced {
        let extensions = !self.client.helo.is_empty() && self.client.protocol != Protocol::Smtp;
        Announced { extensions, auth: extensions && self.offers_auth(cx) }
    }

    /// Drops the envelope, and what there is of its message.
    fn forget_message(&mut self, cx: &mut Conversation<'_, App>) {
        if let Some(mut message) = self.message.take() {
            message.stop_clock(cx);
        }
        self.envelope = None;
        self.places.clear();
    }

    /// Refuses a line, or ends the session without a word if it is one of another protocol.
    #[cold]
    fn refuse_line(&mut self, cx: &mut Conversation<'_, App>, line: &[u8], reply: &Reply) {
        if is_foreign(line) {
            cx.app.metrics.sessions_refused += 1;
            return self.leave(cx, "another protocol");
        }
        self.refuse(cx, reply);
    }

    /// Replies with an error that counts; one too many ends the session.
    #[cold]
    fn refuse(&mut self, cx: &mut Conversation<'_, App>, reply: &Reply) {
        tracing::debug!(id = %cx.id, reply = %reply.to_line(), "refused");
        say(cx, reply);
        self.errors += 1;
        if self.errors >= cx.app.settings.errors {
            cx.push(TOO_MANY_ERRORS.wire());
            self.leave(cx, "too many errors");
        }
    }

    /// Closes when all replies have been sent; what comes from now on is not obeyed.
    fn leave(&mut self, cx: &mut Conversation<'_, App>, why: &'static str) {
        self.forget_message(cx);
        self.why.get_or_insert(why);
        cx.close_when_done();
    }

    /// Waits for a thread, or for a delivery; [`go_on`](Self::go_on) ends it.
    fn wait(&mut self, cx: &mut Conversation<'_, App>) {
        self.stage = Stage::Busy;
        cx.pause_reading();
    }

    /// What the session waited for is there.
    fn go_on(&mut self, cx: &mut Conversation<'_, App>) {
        cx.map.resume_reading(cx.id);
        if self.has_ended {
            self.leave(cx, "end of input");
        }
        self.say_farewell(cx);
    }

    /// Ends a session that is to end, unless a message is under way.
    fn say_farewell(&mut self, cx: &mut Conversation<'_, App>) {
        if self.farewell.is_some()
            && self.message.is_none()
            && !matches!(self.stage, Stage::Busy)
            && let Some(farewell) = self.farewell.take()
        {
            cx.push(farewell.wire());
            self.leave(cx, "told to go");
        }
    }
}

impl Chat<App> for Session {
    fn handle_connect(&mut self, cx: &mut Conversation<'_, App>) -> Result {
        self.greet(cx.map, cx.app, cx.id);
        Ok(())
    }

    fn handle_tls(&mut self, cx: &mut Conversation<'_, App>) -> Result {
        self.secured(cx);
        Ok(())
    }

    fn collect_incoming_data(&mut self, cx: &mut Conversation<'_, App>, data: &[u8]) -> Result<Collected> {
        match self.stage {
            Stage::Text | Stage::Chunk(_) => {
                self.arrived(cx, data);
                return Ok(Collected::Taken);
            }
            _ if !self.is_heard => {
                self.is_heard = true;
                if data.first() == Some(&TLS_HANDSHAKE) {
                    cx.app.metrics.sessions_refused += 1;
                    self.leave(cx, "TLS, where none is");
                }
            }
            _ => {}
        }
        Ok(Collected::Kept)
    }

    fn found_terminator(&mut self, cx: &mut Conversation<'_, App>, line: &[u8]) -> Result {
        match self.stage {
            Stage::Command => self.command(cx, line),
            Stage::Text => {
                cx.set_terminator(Terminator::lf());
                self.end_message(cx);
            }
            Stage::Chunk(chunk) => {
                cx.set_terminator(Terminator::lf());
                self.end_chunk(cx, chunk);
            }
            Stage::Answer(_) => self.answered(cx, line),
            // Somebody else has ended the pause.
            Stage::Busy => return Err("a command while the session waits".into()),
        }
        if self.farewell.is_some() {
            self.say_farewell(cx);
        }
        Ok(())
    }

    fn handle_too_long(&mut self, cx: &mut Conversation<'_, App>, start: &[u8]) -> Result {
        match self.stage {
            Stage::Answer(_) => {
                self.stage = Stage::Command;
                self.refuse(cx, &ANSWER_TOO_LONG);
            }
            _ => self.refuse_line(cx, start, &TOO_LONG),
        }
        Ok(())
    }

    fn handle_eof(&mut self, cx: &mut Conversation<'_, App>, _rest: &[u8]) -> Result {
        // The client may still wait for its reply.
        self.has_ended = true;
        if !matches!(self.stage, Stage::Busy) {
            self.leave(cx, "end of input");
        }
        Ok(())
    }

    fn handle_timeout(&mut self, cx: &mut Conversation<'_, App>, which: Timeout) -> Result {
        let farewell = match which {
            // It is the client that waits, or the delivery does not take what it sends.
            Timeout::Idle if self.message.is_some() && !cx.map.is_reading(cx.id) => return Ok(()),
            Timeout::Idle if matches!(self.stage, Stage::Busy) => return Ok(()),
            Timeout::Idle | Timeout::Read => IDLE,
            Timeout::Total => TIME_IS_UP,
            Timeout::Rate => TOO_SLOW,
            _ => {
                cx.map.close_with(cx.id, CloseReason::TimedOut(which));
                return Ok(());
            }
        };
        if matches!(self.stage, Stage::Busy) {
            self.farewell = Some(farewell);
            return Ok(());
        }
        self.stage = Stage::Command;
        cx.push(farewell.wire());
        self.forget_message(cx);
        cx.close_when_done();
        Ok(())
    }

    fn handle_shutdown(&mut self, cx: &mut Conversation<'_, App>) -> Result {
        self.farewell = Some(SHUT_DOWN);
        self.say_farewell(cx);
        Ok(())
    }

    fn handle_error(&mut self, cx: &mut Conversation<'_, App>, error: &Error) {
        if error.is::<FrameError>() {
            return self.refuse_bare(cx);
        }
        tracing::debug!(id = %cx.id, %error, "closing a session after an error");
        cx.map.close_with(cx.id, CloseReason::Local);
    }

    fn name(&self) -> &'static str {
        "session"
    }

    fn handle_close(&mut self, cx: &mut Conversation<'_, App>, reason: CloseReason) {
        if self.is_greeted {
            cx.app.metrics.sessions_closed += 1;
        }
        let client = &self.client;
        tracing::info!(
            id = %cx.id,
            peer = %self.peer,
            helo = client.helo,
            user = client.user,
            tls = client.tls,
            messages = self.messages,
            bytes = self.bytes,
            reason = self.why.map_or_else(|| reason.to_string(), str::to_owned),
            "session"
        );
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown => f.write_str("unknown"),
            Self::Local => f.write_str("local"),
            Self::Inet(address) => address.fmt(f),
        }
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("peer", &self.peer)
            .field("client", &self.client)
            .finish_non_exhaustive()
    }
}

/// Replies to a command.
fn say(cx: &mut Conversation<'_, App>, reply: &Reply) {
    if reply.is_error() {
        cx.app.metrics.errors += 1;
    }
    cx.push(reply.wire());
}

fn no_argument(argument: &str) -> Result<(), Reply> {
    if argument.is_empty() { Ok(()) } else { Err(NO_ARGUMENT) }
}

const OK: Reply = Reply::fixed("250 2.0.0 OK\r\n");
const BYE: Reply = Reply::fixed("221 2.0.0 Bye\r\n");
const VRFY: Reply = Reply::fixed("252 2.5.0 Send some mail, and see\r\n");
const VRFY_SYNTAX: Reply = Reply::fixed("501 5.5.4 Syntax: VRFY address\r\n");
const NOT_IMPLEMENTED: Reply = Reply::fixed("502 5.5.1 Not implemented\r\n");
const HELP: Reply = Reply::fixed(concat!(
    "214-2.0.0 AUTH BDAT DATA EHLO EXPN HELO HELP LHLO MAIL NOOP QUIT RCPT RSET\r\n",
    "214 2.0.0 STARTTLS VRFY; HELP and one of them for more\r\n",
));
const NO_HELP: Reply = Reply::fixed("504 5.5.4 No help on that\r\n");
const NO_ARGUMENT: Reply = Reply::fixed("501 5.5.4 The command has no argument\r\n");
const TOO_LONG: Reply = Reply::fixed("500 5.5.2 The line is too long\r\n");
const ANSWER_TOO_LONG: Reply = Reply::fixed("500 5.5.6 The line is too long\r\n");
const BARE: Reply = Reply::fixed("500 5.5.2 A line ends with CR and LF, and neither stands alone\r\n");
const TOO_MANY_ERRORS: Reply = Reply::fixed("421 4.7.0 Too many errors\r\n");
const IDLE: Reply = Reply::fixed("421 4.4.2 Idle for too long\r\n");
const TIME_IS_UP: Reply = Reply::fixed("421 4.4.2 The time of this session is up\r\n");
const TOO_SLOW: Reply = Reply::fixed("421 4.4.2 The message comes too slowly\r\n");
const SHUT_DOWN: Reply = Reply::fixed("421 4.3.2 The server shuts down\r\n");

/// What a TLS connection begins with, and no command does: the type of a handshake record.
const TLS_HANDSHAKE: u8 = 0x16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_size_of_an_idle_session_is_pinned() {
        // Thousands of them are to cost little.
        assert!(size_of::<Session>() <= 320, "{}", size_of::<Session>());
    }
}
