//! `AUTH` (RFC 4954) with PLAIN (RFC 4616) and LOGIN: a password that is checked on another thread.

use std::mem;

use asynchat::Conversation;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::hello::HELLO_FIRST;
use super::{Session, Stage, say};
use crate::app::App;
use crate::reply::Reply;

/// What is known of a user, and what is asked next.
#[derive(Debug)]
pub(super) enum Exchange {
    /// The name and the password in one.
    Plain,
    /// The name.
    LoginName,
    /// The password of the user of this name.
    LoginPassword(String),
}

impl Session {
    /// Whether the client may authenticate as far as the server goes.
    pub(super) fn offers_auth(&self, cx: &Conversation<'_, App>) -> bool {
        let settings = &cx.app.settings;
        settings.passwords.is_some() && (settings.auth_in_clear || self.client.tls.is_some())
    }

    pub(super) fn auth(
        &mut self,
        cx: &mut Conversation<'_, App>,
        argument: &str,
    ) -> Result<Option<Reply>, Reply> {
        if cx.app.settings.passwords.is_none() {
            return Err(NO_AUTH);
        }
        if !self.announced(cx).extensions {
            return Err(HELLO_FIRST);
        }
        if !self.offers_auth(cx) {
            return Err(TLS_FIRST);
        }
        if self.client.user.is_some() || self.envelope.is_some() {
            return Err(NOT_NOW);
        }
        let (mechanism, initial) = argument.split_once(' ').unwrap_or((argument, ""));
        let exchange = if mechanism.eq_ignore_ascii_case("PLAIN") {
            Exchange::Plain
        } else if mechanism.eq_ignore_ascii_case("LOGIN") {
            Exchange::LoginName
        } else if mechanism.is_empty() {
            return Err(SYNTAX);
        } else {
            return Err(UNKNOWN_MECHANISM);
        };
        match initial.trim_start_matches(' ') {
            "" => Ok(Some(self.ask(exchange))),
            // An answer without a byte, which could not be told from none.
            "=" => self.take_answer(cx, exchange, b""),
            initial => self.take_answer(cx, exchange, initial.as_bytes()),
        }
    }

    fn ask(&mut self, exchange: Exchange) -> Reply {
        let challenge = match &exchange {
            Exchange::Plain => ASK_PLAIN,
            Exchange::LoginName => ASK_NAME,
            Exchange::LoginPassword(_) => ASK_PASSWORD,
        };
        self.stage = Stage::Answer(Box::new(exchange));
        challenge
    }

    /// An answer to a challenge, without its LF.
    pub(super) fn answered(&mut self, cx: &mut Conversation<'_, App>, line: &[u8]) {
        let Stage::Answer(exchange) = mem::take(&mut self.stage) else { return };
        let Some(answer) = line.strip_suffix(b"\r") else {
            cx.push(super::BARE.wire());
            return self.leave(cx, "bare LF");
        };
        let outcome = if answer == b"*" { Err(CANCELLED) } else { self.take_answer(cx, *exchange, answer) };
        match outcome {
            Ok(None) => {}
            Ok(Some(reply)) => say(cx, &reply),
            Err(reply) => self.refuse(cx, &reply),
        }
    }

    fn take_answer(
        &mut self,
        cx: &mut Conversation<'_, App>,
        exchange: Exchange,
        answer: &[u8],
    ) -> Result<Option<Reply>, Reply> {
        let answer = STANDARD.decode(answer).map_err(|_| NOT_BASE64)?;
        match exchange {
            Exchange::Plain => {
                let mut parts = answer.splitn(3, |byte| *byte == 0);
                let (Some(whose), Some(user), Some(password)) = (parts.next(), parts.next(), parts.next())
                else {
                    return Err(NOT_PLAIN);
                };
                // On behalf of oneself only; whose it is, is checked as if it were wrong, which takes as long.
                let user = if whose.is_empty() || whose == user { user } else { b"" };
                self.check(cx, user.to_vec(), password.to_vec())
            }
            Exchange::LoginName => match String::from_utf8(answer) {
                Ok(user) => Ok(Some(self.ask(Exchange::LoginPassword(user)))),
                Err(_) => Ok(Some(self.ask(Exchange::LoginPassword(String::new())))),
            },
            Exchange::LoginPassword(user) => self.check(cx, user.into_bytes(), answer),
        }
    }

    /// Has a password checked on another thread; the session waits.
    fn check(
        &mut self,
        cx: &mut Conversation<'_, App>,
        user: Vec<u8>,
        password: Vec<u8>,
    ) -> Result<Option<Reply>, Reply> {
        let check = cx.app.settings.passwords.as_ref().and_then(|passwords| passwords.begin());
        let check = check.ok_or(TEMPORARY)?;
        let user = String::from_utf8(user).unwrap_or_default();
        let work = move || {
            let is_right = check.run(&user, &password);
            is_right.then_some(user)
        };
        cx.spawn_blocking(work, |session: &mut Self, cx, user| {
            session.checked(cx, user);
            Ok(())
        })
        .map_err(|error| {
            tracing::warn!(id = %cx.id, %error, "a password is not checked");
            TEMPORARY
        })?;
        self.wait(cx);
        Ok(None)
    }

    /// The password was checked: the user, if it was right.
    fn checked(&mut self, cx: &mut Conversation<'_, App>, user: Option<String>) {
        self.stage = Stage::Command;
        match user {
            Some(user) => {
                self.client.user = Some(user);
                say(cx, &WELCOME);
            }
            None => {
                cx.app.metrics.auth_failures += 1;
                self.failures += 1;
                self.refuse(cx, &WRONG);
                if self.failures >= FAILURES {
                    cx.push(TOO_MANY_FAILURES.wire());
                    self.leave(cx, "too many wrong passwords");
                }
            }
        }
        self.go_on(cx);
    }
}

const NO_AUTH: Reply = Reply::fixed("502 5.5.1 There is no AUTH here\r\n");
const TLS_FIRST: Reply = Reply::fixed("538 5.7.11 STARTTLS first\r\n");
const NOT_NOW: Reply = Reply::fixed("503 5.5.1 AUTH once, and not in a mail\r\n");
const SYNTAX: Reply = Reply::fixed("501 5.5.4 Syntax: AUTH mechanism [response]\r\n");
const UNKNOWN_MECHANISM: Reply = Reply::fixed("504 5.5.4 PLAIN or LOGIN\r\n");
const ASK_PLAIN: Reply = Reply::fixed("334 \r\n");
/// `Username:`
const ASK_NAME: Reply = Reply::fixed("334 VXNlcm5hbWU6\r\n");
/// `Password:`
const ASK_PASSWORD: Reply = Reply::fixed("334 UGFzc3dvcmQ6\r\n");
const CANCELLED: Reply = Reply::fixed("501 5.7.0 Cancelled\r\n");
const NOT_BASE64: Reply = Reply::fixed("501 5.5.2 This is no base64\r\n");
const NOT_PLAIN: Reply = Reply::fixed("501 5.5.2 This is no answer to PLAIN\r\n");
const WELCOME: Reply = Reply::fixed("235 2.7.0 Welcome\r\n");
const WRONG: Reply = Reply::fixed("535 5.7.8 Name or password is wrong\r\n");
const TEMPORARY: Reply = Reply::fixed("454 4.7.0 Not now: try again later\r\n");
const TOO_MANY_FAILURES: Reply = Reply::fixed("421 4.7.0 Too many wrong passwords\r\n");

/// Wrong passwords after which a session ends: 3, so that guessing costs a connection for every few.
const FAILURES: u8 = 3;
