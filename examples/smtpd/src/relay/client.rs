//! [`Client`]: one connection to the next server, and the messages that go over it.

use std::cell::Cell;
use std::collections::VecDeque;
use std::io;
use std::rc::Rc;
use std::time::Duration;

use asynchat::{Chat, Conversation};
use asyncore::{CloseReason, Error, HostError, Result, Timeout, rustls};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;

use super::answer::{Answer, AnswerReader, NoAnswer};
use super::features::Features;
use super::job::Job;
use super::line::Line;
use super::options::RelayTls;
use super::pool::Pool;
use crate::app::App;
use crate::delivery::Outcome;
use crate::reply::Reply;

/// The channel of one connection: what it will say is one queue, what it has said another, and each answer is for the front
/// of that. With PIPELINING the second is longer than one; nothing else differs.
///
/// Whatever goes wrong closes it, and [`handle_close`](Chat::handle_close) tells what became of the message.
pub(crate) struct Client {
    pool: Rc<Pool>,
    /// The message at hand.
    job: Option<Job>,
    plan: VecDeque<Ask>,
    asked: VecDeque<Ask>,
    reader: AnswerReader,
    features: Features,
    is_secured: bool,
    /// Whether it has been idle, or served another message: the server may have closed it meanwhile.
    is_reused: bool,
    /// Whether the final dot of the message may have reached the server, which may then have taken it.
    is_sent: Rc<Cell<bool>>,
    /// Whether the map shuts down: it goes when there is nothing more to do.
    is_leaving: bool,
    /// What is to be told of the message, if this side knows better than the reason for which the channel closes.
    trouble: Option<Reply>,
    /// Whether the server has said that it hangs up.
    is_dismissed: bool,
}

/// What a server is asked. The password is with the options.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ask {
    /// Nothing was asked; the server speaks first.
    Greeting,
    Ehlo,
    Helo,
    StartTls,
    AuthPlain,
    AuthLogin,
    User,
    Password,
    Mail,
    Rcpt(usize),
    Data,
    /// The message, up to the final dot.
    Text,
    Rset,
}

impl Client {
    pub(crate) fn new(pool: Rc<Pool>) -> Self {
        Self {
            pool,
            job: None,
            plan: VecDeque::new(),
            asked: VecDeque::from([Ask::Greeting]),
            reader: AnswerReader::default(),
            features: Features::default(),
            is_secured: false,
            is_reused: false,
            is_sent: Rc::default(),
            is_leaving: false,
            trouble: None,
            is_dismissed: false,
        }
    }

    /// Has a message for when the connection is ready.
    pub(crate) fn give(&mut self, job: Job) {
        self.job = Some(job);
    }

    /// Has a message while it is idle.
    pub(crate) fn serve(&mut self, cx: &mut Conversation<'_, App>, job: Job) {
        self.give(job);
        if let Err(error) = self.ready(cx) {
            self.handle_error(cx, &error);
        }
    }

    /// A message has had its time. What is sent in full is no longer to be taken back.
    pub(crate) fn give_up(&mut self, cx: &mut Conversation<'_, App>, id: &str) {
        if !self.is_sent.get() && self.job.as_ref().is_some_and(|job| job.envelope.id == id) {
            self.fail(cx, "4.4.1", "it took too long");
        }
    }

    /// Asks as much as may be asked, and sets the clock for the answer.
    fn ask(&mut self, cx: &mut Conversation<'_, App>) -> Result {
        let window = if self.features.pipelining { PIPELINE } else { 1 };
        while self.asked.len() < window
            && let Some(ask) = self.plan.pop_front()
        {
            let line = Line::new(self.text_of(cx, ask))?;
            cx.push(line.into_wire());
            self.asked.push_back(ask);
        }
        if let Some(ask) = self.asked.front() {
            cx.map.set_timeout(cx.id, Timeout::Idle, Some(ask.time()));
        }
        Ok(())
    }

    fn text_of(&self, cx: &Conversation<'_, App>, ask: Ask) -> String {
        let (user, password) = match &self.pool.options.login {
            Some(login) => (&*login.user, &*login.password),
            None => ("", ""),
        };
        match (ask, &self.job) {
            (Ask::Ehlo, _) => format!("EHLO {}", cx.app.settings.hostname),
            (Ask::Helo, _) => format!("HELO {}", cx.app.settings.hostname),
            (Ask::StartTls, _) => "STARTTLS".to_owned(),
            (Ask::AuthPlain, _) => format!("AUTH PLAIN {}", BASE64.encode(format!("\0{user}\0{password}"))),
            (Ask::AuthLogin, _) => "AUTH LOGIN".to_owned(),
            (Ask::User, _) => BASE64.encode(user),
            (Ask::Password, _) => BASE64.encode(password),
            (Ask::Mail, Some(job)) => job.mail(self.features),
            (Ask::Rcpt(index), Some(job)) => job.rcpt(index),
            (Ask::Data, Some(_)) => "DATA".to_owned(),
            // Whatever belongs to a message that is no longer there.
            _ => "RSET".to_owned(),
        }
    }

    /// An answer is whole. It decides what is asked next.
    fn answered(&mut self, cx: &mut Conversation<'_, App>, ask: Ask, answer: &Answer) -> Result {
        match ask {
            Ask::Greeting if answer.is_ok() => self.plan.push_back(Ask::Ehlo),
            Ask::Ehlo if answer.is_ok() => {
                self.features = Features::of(answer);
                return self.secure(cx);
            }
            Ask::Ehlo if answer.code() / 100 == 5 => self.plan.push_back(Ask::Helo),
            Ask::Helo if answer.is_ok() => return self.secure(cx),
            Ask::StartTls => return self.start_tls(cx, answer),
            Ask::AuthPlain | Ask::Password if answer.is_ok() => return self.ready(cx),
            Ask::AuthLogin if answer.code() == 334 => self.plan.push_back(Ask::User),
            Ask::User if answer.code() == 334 => self.plan.push_back(Ask::Password),
            Ask::Mail if answer.is_ok() => {}
            Ask::Rcpt(index) => self.take_recipient(cx, index, answer),
            Ask::Data if answer.code() == 354 => self.send_text(cx),
            // Before the text nothing is accepted, whatever it says.
            Ask::Data if answer.is_ok() => return Err(Unexpected(answer.to_string()).into()),
            Ask::Mail | Ask::Data => self.take_refusal(cx, answer),
            Ask::Text => return self.take_end(cx, answer),
            Ask::Rset if answer.is_ok() => return self.rest(cx),
            _ => {
                let enhanced = if ask.is_login() { "4.7.0" } else { "4.3.2" };
                tracing::warn!(next = self.pool.next(), ?ask, %answer, "the next server does not let this one in");
                self.fail(cx, enhanced, format_args!("it said: {answer}"));
                return Ok(());
            }
        }
        self.ask(cx)
    }

    /// The server has said what it can: TLS comes first.
    fn secure(&mut self, cx: &mut Conversation<'_, App>) -> Result {
        if self.is_secured || self.pool.options.tls == RelayTls::None {
            return self.log_in(cx);
        }
        if self.features.starttls {
            self.plan.push_back(Ask::StartTls);
            return self.ask(cx);
        }
        if self.pool.options.tls == RelayTls::Must {
            self.fail(cx, "4.7.4", "it offers no TLS");
            return Ok(());
        }
        self.log_in(cx)
    }

    fn start_tls(&mut self, cx: &mut Conversation<'_, App>, answer: &Answer) -> Result {
        match &self.pool.tls {
            Some(tls) if answer.code() == 220 => {
                let session = tls.session(self.pool.next())?;
                cx.start_tls(session)
            }
            // As if it had not offered it.
            _ if self.pool.options.tls != RelayTls::Must => self.log_in(cx),
            _ => {
                self.fail(cx, "4.7.4", format_args!("no TLS: {answer}"));
                Ok(())
            }
        }
    }

    fn log_in(&mut self, cx: &mut Conversation<'_, App>) -> Result {
        let ask = match &self.pool.options.login {
            None => return self.ready(cx),
            Some(_) if self.features.plain => Ask::AuthPlain,
            Some(_) if self.features.login => Ask::AuthLogin,
            Some(_) => {
                self.fail(cx, "4.7.0", "it offers no login by PLAIN or LOGIN");
                return Ok(());
            }
        };
        self.plan.push_back(ask);
        self.ask(cx)
    }

    /// The connection is ready for the message at hand, or for any other.
    fn ready(&mut self, cx: &mut Conversation<'_, App>) -> Result {
        while let Some(mut job) = self.job.take().or_else(|| self.pool.take_waiting()) {
            self.is_sent = Rc::default();
            match job.begin(self.features) {
                Ok(()) => {
                    self.plan.push_back(Ask::Mail);
                    self.plan.extend((0..job.envelope.to.len()).map(Ask::Rcpt));
                    self.job = Some(job);
                    return self.ask(cx);
                }
                Err(reply) => job.settle(cx.map, cx.app, self.pool.next(), Outcome::All(reply)),
            }
        }
        if self.is_leaving {
            self.leave(cx);
        } else {
            self.is_reused = true;
            self.pool.is_idle(cx.id);
            cx.map.set_timeout(cx.id, Timeout::Idle, Some(KEEP_TIME));
        }
        Ok(())
    }

    /// The connection is done with a message.
    fn rest(&mut self, cx: &mut Conversation<'_, App>) -> Result {
        self.is_reused = true;
        self.ready(cx)
    }

    fn take_recipient(&mut self, cx: &mut Conversation<'_, App>, index: usize, answer: &Answer) {
        // Refused already, if it is not there.
        let Some(job) = &mut self.job else { return };
        match job.answered(self.pool.next(), index, answer) {
            None => {}
            Some(Ok(())) => self.plan.push_back(Ask::Data),
            Some(Err(outcome)) => self.refuse(cx, outcome),
        }
    }

    fn take_refusal(&mut self, cx: &mut Conversation<'_, App>, answer: &Answer) {
        if let Some(job) = &self.job {
            let outcome = job.outcome(self.pool.next(), answer);
            self.refuse(cx, outcome);
        }
    }

    /// The message is not taken. What the server knows of it is undone before there is another.
    fn refuse(&mut self, cx: &mut Conversation<'_, App>, outcome: Outcome) {
        self.settle(cx, outcome);
        self.plan.clear();
        self.plan.push_back(Ask::Rset);
    }

    fn send_text(&mut self, cx: &mut Conversation<'_, App>) {
        if let Some(job) = &self.job {
            cx.push_with_producer(job.text(Rc::clone(&self.is_sent)));
            self.asked.push_back(Ask::Text);
        }
    }

    /// The answer to the message.
    fn take_end(&mut self, cx: &mut Conversation<'_, App>, answer: &Answer) -> Result {
        let is_through = self.is_sent.get() && cx.map.get(cx.id).is_none_or(|channel| channel.queued() == 0);
        if answer.is_ok() && !is_through {
            return Err(Unexpected(answer.to_string()).into());
        }
        if let Some(job) = &self.job {
            let outcome = job.outcome(self.pool.next(), answer);
            self.settle(cx, outcome);
        }
        if is_through && answer.code() != 421 {
            return self.rest(cx);
        }
        // What it does not want is not sent, and without its end there is no way on; or it is the server that hangs up.
        cx.close();
        Ok(())
    }

    /// The message has met its fate.
    fn settle(&mut self, cx: &mut Conversation<'_, App>, outcome: Outcome) {
        if let Some(job) = self.job.take() {
            job.settle(cx.map, cx.app, self.pool.next(), outcome);
        }
    }

    /// Nothing more can be done here, and why.
    fn fail(&mut self, cx: &mut Conversation<'_, App>, enhanced: &str, why: impl std::fmt::Display) {
        let next = self.pool.next();
        self.trouble.get_or_insert_with(|| Reply::new(451, enhanced, format_args!("{next}: {why}")));
        cx.close();
    }

    /// Ends the connection in good order.
    fn leave(&self, cx: &mut Conversation<'_, App>) {
        self.pool.forget(cx.id);
        cx.push("QUIT\r\n");
        cx.close_when_done();
    }

    /// Whether the server had closed a connection that was kept, before there was anything that it could have taken. A second
    /// try has a connection that was not kept, so that there is no third.
    fn was_stale(&self, reason: CloseReason) -> bool {
        let is_lost = matches!(reason, CloseReason::Eof | CloseReason::Reset | CloseReason::Truncated);
        self.is_reused && !self.is_sent.get() && (self.is_dismissed || is_lost && self.trouble.is_none())
    }

    /// What to tell of a message whose connection has closed.
    fn told_by(&self, reason: CloseReason) -> Reply {
        let (enhanced, why) = match reason {
            CloseReason::Eof | CloseReason::Reset | CloseReason::Truncated => {
                ("4.4.2", "it closed the connection")
            }
            CloseReason::TooLong => ("4.5.0", "a line of its answer is too long"),
            CloseReason::ShutDown => ("4.3.2", "this server shuts down"),
            _ => ("4.3.0", "the connection was closed"),
        };
        let doubt = if self.is_sent.get() { "; it may have taken the message" } else { "" };
        Reply::new(451, enhanced, format_args!("{}: {why}{doubt}", self.pool.next()))
    }
}

impl Chat<App> for Client {
    fn handle_connect(&mut self, cx: &mut Conversation<'_, App>) -> Result {
        // What is pushed is bounded by itself, and an answer in the midst of a message is to be heard.
        cx.map.pause_when_high(cx.id, false);
        self.ask(cx)
    }

    fn handle_tls(&mut self, cx: &mut Conversation<'_, App>) -> Result {
        // What was said in clear text may have been anybody's.
        self.is_secured = true;
        self.features = Features::default();
        self.plan.push_back(Ask::Ehlo);
        self.ask(cx)
    }

    fn found_terminator(&mut self, cx: &mut Conversation<'_, App>, line: &[u8]) -> Result {
        let Some(answer) = self.reader.take(line)? else { return Ok(()) };
        let Some(ask) = self.asked.pop_front() else {
            // Nothing was asked: it says goodbye, most likely.
            cx.map.close_with(cx.id, CloseReason::Eof);
            return Ok(());
        };
        tracing::debug!(id = %cx.id, next = self.pool.next(), ?ask, %answer, "answered");
        if answer.code() == 421 && ask != Ask::Text {
            self.is_dismissed = true;
            self.fail(cx, "4.3.2", format_args!("it said: {answer}"));
            return Ok(());
        }
        self.answered(cx, ask, &answer)
    }

    fn handle_eof(&mut self, cx: &mut Conversation<'_, App>, _rest: &[u8]) -> Result {
        cx.map.close_with(cx.id, CloseReason::Eof);
        Ok(())
    }

    fn handle_timeout(&mut self, cx: &mut Conversation<'_, App>, which: Timeout) -> Result {
        if let Some(error) = cx.map.host_error(cx.id) {
            return Err(error.into());
        }
        match self.asked.front() {
            None if self.job.is_none() => self.leave(cx),
            Some(Ask::Text) if self.is_sent.get() => {
                self.fail(cx, "4.4.1", "no answer to the message in time; it may have taken it");
            }
            ask => {
                let what = ask.map_or_else(|| format!("{which:?}"), |ask| format!("{ask:?}"));
                self.fail(cx, "4.4.1", format_args!("no answer in time ({what})"));
            }
        }
        Ok(())
    }

    fn handle_shutdown(&mut self, cx: &mut Conversation<'_, App>) -> Result {
        self.is_leaving = true;
        if self.job.is_none() && self.asked.is_empty() {
            self.leave(cx);
        }
        Ok(())
    }

    fn handle_error(&mut self, cx: &mut Conversation<'_, App>, error: &Error) {
        let is_tls = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        let enhanced = if error.is::<HostError>() {
            "4.4.1"
        } else if error.is::<NoAnswer>() || error.is::<Unexpected>() {
            "4.5.0"
        } else if is_tls.is_some_and(|error| error.is::<rustls::Error>()) {
            "4.7.5"
        } else {
            "4.3.0"
        };
        tracing::warn!(id = %cx.id, next = self.pool.next(), %error, "cannot speak with the next server");
        let doubt = if self.is_sent.get() { "; it may have taken the message" } else { "" };
        self.fail(cx, enhanced, format_args!("{error}{doubt}"));
    }

    fn name(&self) -> &'static str {
        "relay client"
    }

    fn handle_close(&mut self, cx: &mut Conversation<'_, App>, reason: CloseReason) {
        let pool = Rc::clone(&self.pool);
        pool.forget(cx.id);
        if let Some(job) = self.job.take() {
            if self.was_stale(reason) {
                tracing::debug!(id = %cx.id, next = pool.next(), "a kept connection was closed: trying another one");
                pool.try_again(job);
            } else {
                let reply = self.trouble.take().unwrap_or_else(|| self.told_by(reason));
                job.settle(cx.map, cx.app, pool.next(), Outcome::All(reply));
            }
        }
        if reason == CloseReason::ShutDown {
            // Another one would outlast the deadline.
            pool.refuse_waiting(cx.map, cx.app);
        } else {
            // There is room for another one.
            pool.dispatch(cx.map, cx.app);
        }
    }
}

impl Ask {
    /// How long its answer may take from when the last byte was sent (RFC 5321, section 4.5.3.2).
    const fn time(self) -> Duration {
        match self {
            Self::Data => DATA_TIME,
            Self::Text => END_TIME,
            _ => ANSWER_TIME,
        }
    }

    const fn is_login(self) -> bool {
        matches!(self, Self::AuthPlain | Self::AuthLogin | Self::User | Self::Password)
    }
}

/// A good answer where there cannot be one.
#[derive(Debug)]
struct Unexpected(String);

impl std::fmt::Display for Unexpected {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "an answer to what was not sent: {}", self.0)
    }
}

impl std::error::Error for Unexpected {}

/// How long all addresses of the next server have to be reached: 30 s, as Postfix waits.
pub(crate) const CONNECT_TIME: Duration = Duration::from_secs(30);

/// How long a block of a message may stand still: 3 minutes (RFC 5321, section 4.5.3.2.5).
pub(crate) const WRITE_TIME: Duration = Duration::from_secs(3 * 60);

/// How long the greeting, and an answer to `MAIL` or `RCPT`, may take: 5 minutes (sections 4.5.3.2.1 to 4.5.3.2.3).
const ANSWER_TIME: Duration = Duration::from_secs(5 * 60);

/// How long the answer to `DATA` may take: 2 minutes (section 4.5.3.2.4).
const DATA_TIME: Duration = Duration::from_secs(2 * 60);

/// How long the answer to a message may take: 10 minutes (section 4.5.3.2.6).
const END_TIME: Duration = Duration::from_secs(10 * 60);

/// How long a connection is kept for another message: 1 minute. Servers wait 5 (section 4.5.3.2.7), and less when they are
/// pressed; messages that come in a burst come within seconds.
const KEEP_TIME: Duration = Duration::from_secs(60);

/// Most commands that wait for an answer: 100, as many recipients as every server takes at least.
const PIPELINE: usize = 100;
