//! One client: how its commands are cut out of what it sends.
//!
//! A command is an array of strings, and each announces its length; or it is a line, as a person types it:
//!
//! ```text
//!   *2 \r\n $3 \r\n GET \r\n $4 \r\n name \r\n           PING \r\n
//!   Command  Length Argument  Length Argument            Command
//! ```
//!
//! So the terminator is a line's end, or a count that is as long as the argument and its line end; it is switched
//! behind each length, and back behind each argument. What has arrived whole is used where it lies.

use asynchat::{Chat, Collected, Conversation, Terminator};
use asyncore::{CloseReason, Result};

use super::arguments::Request;
use super::call::Call;
use super::inline;
use super::number;
use super::reply::{Refusal, Reply};
use super::server::{ARGUMENT_LIMIT, ARGUMENTS_LIMIT, HELD_LIMIT, Server};

/// The server's side of one connection.
#[derive(Debug, Default)]
pub(crate) struct Client {
    session: Session,
    /// What is awaited.
    next: Next,
    /// The command that has begun.
    request: Request,
    /// How many of its arguments are still to come, with the one that is awaited.
    missing: u64,
}

/// What the commands of a client change for the next ones.
#[derive(Debug, Default)]
pub(crate) struct Session {
    pub(crate) number: u64,
    pub(crate) database: usize,
    pub(crate) name: Box<[u8]>,
}

/// What the next message is.
#[derive(Clone, Copy, Debug, Default)]
enum Next {
    /// How many arguments a command has, or a command in one line.
    #[default]
    Command,
    /// How long an argument is.
    Length,
    /// An argument and its line end: so many bytes.
    Argument(usize),
}

impl Client {
    /// A line that begins a command, or is one.
    fn command(&mut self, cx: &mut Conversation<'_, Server>, line: &[u8]) {
        if let Some(count) = line.strip_prefix(b"*") {
            match header(count) {
                // No command at all.
                Some(..=0) => {}
                Some(count) if count <= ARGUMENTS_LIMIT => {
                    self.missing = count.unsigned_abs();
                    self.next = Next::Length;
                }
                _ => refuse(cx, b"invalid multibulk length"),
            }
            return;
        }
        let outcome = inline::split(line.strip_suffix(b"\r").unwrap_or(line), &mut self.request);
        cx.app.held += self.request.held();
        match outcome {
            Ok(true) => self.run(cx, None),
            Ok(false) => {}
            Err(inline::Unbalanced) => refuse(cx, b"unbalanced quotes in request"),
        }
    }

    /// The length of an argument.
    fn length(&mut self, cx: &mut Conversation<'_, Server>, line: &[u8]) -> Result {
        let Some(length) = line.strip_prefix(b"$") else {
            let got = line.first().copied().unwrap_or(b'\n');
            refuse(cx, &[b"expected '$', got '", &[got][..], b"'"].concat());
            return Ok(());
        };
        match header(length).map(usize::try_from) {
            Some(Ok(length)) if length <= ARGUMENT_LIMIT => {
                let bytes = length + LINE_END;
                self.next = Next::Argument(bytes);
                cx.set_terminator(Terminator::count(bytes as u64)?);
            }
            _ => refuse(cx, b"invalid bulk length"),
        }
        Ok(())
    }

    /// An argument with its line end, where it lies; empty if it came in pieces, which were gathered.
    fn argument(&mut self, cx: &mut Conversation<'_, Server>, argument: &[u8]) {
        cx.framing.set_terminator(cx.app.line.clone());
        self.missing -= 1;
        let whole = argument.len().checked_sub(LINE_END).map(|length| &argument[..length]);
        if self.missing > 0 {
            self.next = Next::Length;
            self.gather(cx, |request| match whole {
                Some(argument) => request.push(argument),
                None => {
                    request.shorten(LINE_END);
                    request.end();
                }
            });
        } else {
            self.next = Next::Command;
            if whole.is_none() {
                self.gather(cx, |request| request.shorten(LINE_END));
            }
            self.run(cx, whole);
        }
    }

    /// Carries the command out that is complete; `last` is its last argument, unless that was gathered.
    fn run(&mut self, cx: &mut Conversation<'_, Server>, last: Option<&[u8]>) {
        let held = self.request.held();
        let arguments = match last {
            Some(last) => self.request.with(last),
            None => self.request.complete(),
        };
        let reply = Reply { map: cx.map, id: cx.id };
        Call { reply, server: cx.app, session: &mut self.session, arguments }.run();
        cx.app.held -= held;
        self.request.clear();
    }

    /// Adds to the command that has begun, if the server may hold more.
    fn gather(&mut self, cx: &mut Conversation<'_, Server>, add: impl FnOnce(&mut Request)) {
        cx.app.held -= self.request.held();
        add(&mut self.request);
        cx.app.held += self.request.held();
        if cx.app.held > HELD_LIMIT {
            tracing::warn!(id = %cx.id, bytes = self.request.held(), "closing: the server holds too many bytes of commands");
            cx.close();
        }
    }
}

impl Chat<Server> for Client {
    fn handle_connect(&mut self, cx: &mut Conversation<'_, Server>) -> Result {
        self.session.number = cx.app.next_client();
        tracing::debug!(id = %cx.id, client = self.session.number, "connected");
        Ok(())
    }

    fn collect_incoming_data(&mut self, cx: &mut Conversation<'_, Server>, data: &[u8]) -> Result<Collected> {
        match self.next {
            // Behind the others of its command, where the limit of a line does not count.
            Next::Argument(bytes) if data.len() < bytes => {
                self.gather(cx, |request| request.extend(data));
                Ok(Collected::Taken)
            }
            _ => Ok(Collected::Kept),
        }
    }

    fn found_terminator(&mut self, cx: &mut Conversation<'_, Server>, message: &[u8]) -> Result {
        match self.next {
            Next::Command => self.command(cx, message),
            Next::Length => return self.length(cx, message),
            Next::Argument(_) => self.argument(cx, message),
        }
        Ok(())
    }

    fn handle_too_long(&mut self, cx: &mut Conversation<'_, Server>, start: &[u8]) -> Result {
        let why: &[u8] = match self.next {
            Next::Command if start.starts_with(b"*") => b"too big mbulk count string",
            Next::Command => b"too big inline request",
            _ => b"too big bulk count string",
        };
        refuse(cx, why);
        Ok(())
    }

    fn name(&self) -> &'static str {
        "client"
    }

    fn handle_close(&mut self, cx: &mut Conversation<'_, Server>, reason: CloseReason) {
        cx.app.held -= self.request.held();
        tracing::debug!(id = %cx.id, client = self.session.number, ?reason, "closed");
    }
}

/// The number of a header, behind its mark. A line that ends in LF alone has none; Redis would wait for the CR of a
/// later line, and find no number either.
fn header(line: &[u8]) -> Option<i64> {
    number::parse(line.strip_suffix(b"\r")?)
}

/// Answers what is not the protocol, and closes: where the next command begins is unknown.
#[cold]
fn refuse(cx: &mut Conversation<'_, Server>, why: &[u8]) {
    tracing::info!(id = %cx.id, why = %why.escape_ascii(), "closing: not the protocol");
    let refusal = Refusal::from([b"ERR Protocol error: ", why].concat());
    Reply { map: cx.map, id: cx.id }.refuse(&refusal);
    cx.close_when_done();
}

/// The bytes behind an argument. Redis too looks at none of them.
const LINE_END: usize = b"\r\n".len();
