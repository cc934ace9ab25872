//! A small mail server, which `docs/testing.md` tests fault by fault.

use std::net::ToSocketAddrs;
use std::time::Duration;

use asynchat::{AsyncChat, Chat, Conversation};
use asyncore::{CloseReason, Limits, Map, Result, Timeout, TimerId};

/// What all sessions share.
#[derive(Debug, Default)]
pub struct Office {
    /// The mails that were taken in.
    pub mails: Vec<Mail>,
    /// Why each session ended.
    pub ended: Vec<CloseReason>,
}

/// A sender, recipients, and a text.
#[derive(Debug, Default, PartialEq)]
pub struct Mail {
    /// As the client gave it.
    pub from: String,
    /// As the client gave them.
    pub to: Vec<String>,
    /// Lines that end with CRLF.
    pub body: Vec<u8>,
}

/// One client, and how far it has come.
#[derive(Debug, Default)]
pub struct Session {
    stage: Stage,
    mail: Mail,
}

#[derive(Clone, Copy, Debug, Default)]
enum Stage {
    #[default]
    Ungreeted,
    Greeted,
    Ready,
    From,
    To,
    Body,
}

/// Listens for clients.
///
/// # Errors
///
/// As [`Map::listen`].
pub fn listen(map: &mut Map<Office>, at: impl ToSocketAddrs) -> Result {
    let mut limits = Limits::default();
    limits.idle_time = Some(Duration::from_secs(300));
    limits.write_time = Some(Duration::from_secs(120));
    limits.total_time = Some(Duration::from_secs(3600));
    let make = |_peer| AsyncChat::new(Session::default()).terminator(b"\r\n").message_limit(LINE_LIMIT);
    for listener in map.listen(at, make)? {
        // Those that it accepts have the same.
        map.set_limits(listener, limits.clone());
    }
    Ok(())
}

impl Chat<Office> for Session {
    fn handle_connect(&mut self, cx: &mut Conversation<'_, Office>) -> Result {
        // Robots do not wait for the greeting, and that gives them away.
        cx.map.set_timer(cx.id, GREETING_DELAY);
        Ok(())
    }

    fn handle_timer(&mut self, cx: &mut Conversation<'_, Office>, _timer: TimerId) -> Result {
        self.stage = Stage::Greeted;
        cx.push(b"220 mail.example\r\n");
        Ok(())
    }

    fn found_terminator(&mut self, cx: &mut Conversation<'_, Office>, line: &[u8]) -> Result {
        match self.stage {
            Stage::Ungreeted => hang_up(cx, "554 you speak too early"),
            Stage::Body => self.take_line(cx, line),
            _ => self.obey(cx, &String::from_utf8_lossy(line)),
        }
        Ok(())
    }

    fn handle_timeout(&mut self, cx: &mut Conversation<'_, Office>, which: Timeout) -> Result {
        if which == Timeout::Write {
            // It would not read a last word either.
            cx.map.close_with(cx.id, CloseReason::TimedOut(which));
        } else {
            hang_up(cx, "421 you take too long");
        }
        Ok(())
    }

    fn handle_shutdown(&mut self, cx: &mut Conversation<'_, Office>) -> Result {
        hang_up(cx, "421 we are closing");
        Ok(())
    }

    fn handle_close(&mut self, cx: &mut Conversation<'_, Office>, reason: CloseReason) {
        cx.app.ended.push(reason);
    }
}

impl Session {
    fn obey(&mut self, cx: &mut Conversation<'_, Office>, line: &str) {
        let command = line.split(' ').next().unwrap_or_default().to_ascii_uppercase();
        let argument = line.split_once(':').map_or("", |(_, argument)| argument.trim());
        let reply = match (command.as_str(), self.stage) {
            ("QUIT", _) => return hang_up(cx, "221 bye"),
            ("HELO", _) => {
                self.stage = Stage::Ready;
                "250 mail.example"
            }
            ("MAIL", Stage::Ready) => {
                self.mail = Mail { from: argument.to_owned(), ..Mail::default() };
                self.stage = Stage::From;
                "250 ok"
            }
            ("RCPT", Stage::From | Stage::To) => {
                self.mail.to.push(argument.to_owned());
                self.stage = Stage::To;
                "250 ok"
            }
            ("DATA", Stage::To) => {
                self.stage = Stage::Body;
                "354 end with a dot alone on a line"
            }
            ("MAIL" | "RCPT" | "DATA", _) => "503 not now",
            _ => "500 what?",
        };
        cx.push((reply, "\r\n"));
    }

    fn take_line(&mut self, cx: &mut Conversation<'_, Office>, line: &[u8]) {
        if line == b"." {
            cx.app.mails.push(std::mem::take(&mut self.mail));
            self.stage = Stage::Ready;
            cx.push("250 kept\r\n");
        } else if self.mail.body.len() + line.len() > BODY_LIMIT {
            hang_up(cx, "552 too much");
        } else {
            // A dot at the start of a line was doubled by the sender.
            self.mail.body.extend_from_slice(line.strip_prefix(b".").unwrap_or(line));
            self.mail.body.extend_from_slice(b"\r\n");
        }
    }
}

fn hang_up(cx: &mut Conversation<'_, Office>, reply: &str) {
    cx.push((reply, "\r\n"));
    cx.close_when_done();
}

const GREETING_DELAY: Duration = Duration::from_secs(2);
const LINE_LIMIT: usize = 1000;
const BODY_LIMIT: usize = 100_000;
