//! [`Session`]: one visit to a mailbox, from the greeting to the goodbye.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::io;

use asynchat::{BareIn, Chat, Collected, Conversation, Terminator};
use asyncore::{CloseReason, Error, Result, Timeout};

use super::command::{Command, Reply, plain};
use super::{Failure, md5};

/// Who visits.
pub(crate) struct Account {
    user: String,
    password: String,
    /// Whether APOP is left alone.
    plain: bool,
}

impl Account {
    /// An account whose name and password are lines' worth of text.
    pub(crate) fn new(user: String, password: String, plain: bool) -> Result<Self, Failure> {
        if user.is_empty() || user.chars().any(|c| c.is_control() || c == ' ') {
            return Err(Failure::Account(
                "a name that cannot be sent: it is empty, or has a space or worse in it",
            ));
        }
        if password.chars().any(char::is_control) {
            return Err(Failure::Account("a password that cannot be sent: it has a control character in it"));
        }
        Ok(Self { user, password, plain })
    }
}

impl fmt::Debug for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Account").field("user", &self.user).finish_non_exhaustive()
    }
}

/// What was found, and what became of the visit.
#[derive(Debug, Default)]
pub(crate) struct Report {
    pub(crate) messages: BTreeMap<u32, Message>,
    pub(crate) outcome: Option<Result<(), Failure>>,
}

/// What is known of a message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Message {
    /// As it was listed.
    pub(crate) bytes: u64,
    pub(crate) fetched: u64,
    pub(crate) uid: String,
    pub(crate) subject: String,
}

impl Report {
    /// Prints a line for each message, and the sum.
    pub(crate) fn write(&self, out: &mut impl io::Write) -> io::Result<()> {
        let mut fetched = 0;
        for (number, message) in &self.messages {
            let Message { bytes, uid, subject, .. } = message;
            writeln!(out, "{number:>5} {bytes:>9}  {uid}  {subject}")?;
            if message.fetched != *bytes {
                writeln!(out, "{:>15}  fetched: it was listed with another size", message.fetched)?;
            }
            fetched += message.fetched;
        }
        writeln!(out, "{} messages, {fetched} bytes fetched", self.messages.len())
    }
}

/// The channel of one visit.
#[derive(Debug)]
pub(crate) struct Session {
    account: Account,
    /// What will be asked.
    plan: VecDeque<Command>,
    /// What was asked and not answered; the answer that comes is for the first.
    asked: VecDeque<Command>,
    /// How many may be asked before they are answered.
    window: usize,
    /// Whether the text of an answer comes, behind its first line.
    in_text: bool,
    /// What the server put into its greeting for APOP.
    timestamp: Option<String>,
    /// How many messages there are, as STAT says.
    count: usize,
}

impl Session {
    pub(crate) fn new(account: Account) -> Self {
        Self {
            account,
            plan: VecDeque::new(),
            asked: VecDeque::from([Command::Greeting]),
            window: 1,
            in_text: false,
            timestamp: None,
            count: 0,
        }
    }

    /// Asks as much as may be asked.
    fn ask(&mut self, cx: &mut Conversation<'_, Report>) {
        while self.asked.len() < self.window
            && let Some(command) = self.plan.pop_front()
        {
            let Account { user, password, .. } = &self.account;
            match (command, &self.timestamp) {
                (Command::User, _) => cx.push(("USER ", user, "\r\n")),
                (Command::Pass, _) => cx.push(("PASS ", password, "\r\n")),
                (Command::Apop, Some(timestamp)) => {
                    let digest = md5::hex_digest(format!("{timestamp}{password}").as_bytes());
                    cx.push(format!("APOP {user} {digest}\r\n"))
                }
                _ => cx.push(format!("{command}\r\n")),
            };
            self.asked.push_back(command);
        }
    }

    /// An answer begins.
    fn take_reply(&mut self, cx: &mut Conversation<'_, Report>, command: Command, line: &[u8]) -> Result {
        match Reply::parse(line)? {
            Reply::Ok(_) if command.has_text() => {
                self.in_text = true;
                cx.framing.set_message_limit(TEXT_LIMIT);
                // What people have sent may have any bytes in it; what the server says itself may not.
                let bare = match command {
                    Command::Top(_) | Command::Retr(_) => BareIn::Keep,
                    _ => BareIn::Refuse,
                };
                cx.set_terminator(Terminator::dot_stuffed_with_bare(bare));
                Ok(())
            }
            Reply::Ok(text) => self.answered(cx, command, text.as_bytes()),
            Reply::Err(_) if command.is_optional() => self.answered(cx, command, b""),
            Reply::Err(text) => Err(Failure::Refused(command.to_string(), text).into()),
        }
    }

    /// All of an answer is here. It decides what is asked next.
    fn answered(&mut self, cx: &mut Conversation<'_, Report>, command: Command, text: &[u8]) -> Result {
        self.asked.pop_front();
        let messages = &mut cx.app.messages;
        match command {
            Command::Greeting => {
                self.timestamp = timestamp(&plain(text)).filter(|_| !self.account.plain);
                self.plan.push_back(Command::Capabilities);
            }
            Command::Capabilities => {
                let can = |what: &str| lines(text).any(|line| line.split(' ').next() == Some(what));
                self.window = if can("PIPELINING") { PIPELINE } else { 1 };
                self.plan.push_back(if self.timestamp.is_some() { Command::Apop } else { Command::User });
            }
            Command::User => self.plan.push_back(Command::Pass),
            Command::Apop | Command::Pass => {
                self.plan.extend([Command::Stat, Command::List, Command::Uidl]);
            }
            Command::Stat => (self.count, _) = numbered(&plain(text))?,
            Command::List => {
                for line in lines(text) {
                    let (number, bytes) = numbered(&line)?;
                    messages.insert(number, Message { bytes: parse(&bytes)?, ..Message::default() });
                }
                if messages.len() != self.count {
                    return Err(Failure::Protocol("STAT and LIST do not agree".into()).into());
                }
                let fetches =
                    messages.keys().flat_map(|&number| [Command::Top(number), Command::Retr(number)]);
                self.plan.extend(fetches.chain([Command::Quit]));
            }
            Command::Uidl => {
                for line in lines(text) {
                    let (number, uid) = numbered(&line)?;
                    messages.entry(number).and_modify(|message| message.uid = uid);
                }
            }
            Command::Top(number) => {
                let subject = lines(text).find_map(|line| {
                    let (name, value) = line.split_once(':')?;
                    name.eq_ignore_ascii_case("Subject").then(|| value.trim().to_owned())
                });
                messages.entry(number).and_modify(|message| message.subject = subject.unwrap_or_default());
            }
            Command::Retr(_) => {}
            Command::Quit => {
                cx.app.outcome = Some(Ok(()));
                cx.close();
            }
        }
        self.ask(cx);
        Ok(())
    }

    /// What the server is to answer next.
    fn awaited(&self) -> String {
        self.asked.front().unwrap_or(&Command::Quit).to_string()
    }
}

impl Chat<Report> for Session {
    fn collect_incoming_data(&mut self, cx: &mut Conversation<'_, Report>, data: &[u8]) -> Result<Collected> {
        // A message is counted and let go, however long it is.
        let Some(Command::Retr(number)) = self.asked.front().filter(|_| self.in_text) else {
            return Ok(Collected::Kept);
        };
        cx.app.messages.entry(*number).and_modify(|message| message.fetched += data.len() as u64);
        Ok(Collected::Taken)
    }

    fn found_terminator(&mut self, cx: &mut Conversation<'_, Report>, message: &[u8]) -> Result {
        let Some(&command) = self.asked.front() else {
            return Err(Failure::Protocol("an answer to nothing".into()).into());
        };
        if !self.in_text {
            return self.take_reply(cx, command, message);
        }
        self.in_text = false;
        cx.framing.set_message_limit(LINE_LIMIT);
        cx.set_terminator(b"\r\n");
        self.answered(cx, command, message)
    }

    fn handle_eof(&mut self, _cx: &mut Conversation<'_, Report>, _rest: &[u8]) -> Result {
        Err(Failure::Truncated(self.awaited()).into())
    }

    fn handle_timeout(&mut self, cx: &mut Conversation<'_, Report>, _which: Timeout) -> Result {
        match cx.map.host_error(cx.id) {
            Some(error) => Err(error.into()),
            None => Err(Failure::TooSlow(self.awaited()).into()),
        }
    }

    fn handle_error(&mut self, cx: &mut Conversation<'_, Report>, error: &Error) {
        let failure = match error.downcast_ref::<Failure>() {
            Some(failure) => failure.clone(),
            None if error.is::<asynchat::FrameError>() => Failure::Protocol(error.to_string()),
            None => Failure::Connect(error.to_string()),
        };
        cx.app.outcome = Some(Err(failure));
        cx.close();
    }

    fn handle_close(&mut self, cx: &mut Conversation<'_, Report>, reason: CloseReason) {
        // Only what this side did not settle is left: an answer over its limit, or a connection that was lost.
        cx.app.outcome.get_or_insert_with(|| match reason {
            CloseReason::TooLong => Err(Failure::TooLong(self.awaited())),
            _ => Err(Failure::Truncated(self.awaited())),
        });
    }
}

/// The lines of an answer's text.
fn lines(text: &[u8]) -> impl Iterator<Item = String> {
    text.split(|&byte| byte == b'\n').filter(|line| !line.is_empty()).map(|line| plain(line.trim_ascii_end()))
}

/// The number that a line begins with, and the word behind it.
fn numbered<N: std::str::FromStr>(line: &str) -> Result<(N, String), Failure> {
    let mut words = line.split(' ');
    let number = parse(words.next().unwrap_or_default())?;
    Ok((number, words.next().unwrap_or_default().to_owned()))
}

fn parse<N: std::str::FromStr>(word: &str) -> Result<N, Failure> {
    word.parse().map_err(|_| Failure::Protocol(format!("{word:?} where a number belongs")))
}

/// The timestamp of a greeting, `<process.clock@host>`. Another form could be chosen to draw the password out
/// (CVE-2007-1558).
fn timestamp(greeting: &str) -> Option<String> {
    let (timestamp, _) = greeting.split_once('<')?.1.split_once('>')?;
    let (left, right) = timestamp.split_once('@')?;
    let is_plain = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_graphic());
    (is_plain(left) && is_plain(right)).then(|| format!("<{timestamp}>"))
}

/// Longest line of an answer: 512 bytes with its end (RFC 2449, section 4).
pub(crate) const LINE_LIMIT: usize = 510;

/// Longest text that is kept, a list or a message's head: 4 MiB, which lists 50,000 messages. Messages are not kept.
const TEXT_LIMIT: usize = 4 << 20;

/// Most questions that wait for an answer: 32, far less than a socket's buffer holds (RFC 2449, section 6.6).
const PIPELINE: usize = 32;
