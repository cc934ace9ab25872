//! [`Exec`]: gives each message to a command, and answers with what becomes of that.
//!
//! The command is run by `sh -c`, with the message as a file on its standard input: `Return-Path:` and `Received:` on top,
//! lines with CRLF. Its environment says the rest:
//!
//! | variable | content |
//! |---|---|
//! | `SENDER` | the sender's address, empty for bounces |
//! | `RECIPIENT` | the first recipient |
//! | `RECIPIENTS` | all recipients, one a line |
//! | `MESSAGE_ID` | the message's id in the log and in `Received:` |
//! | `CLIENT_ADDRESS` | the client's address, empty on a Unix socket |
//! | `CLIENT_HELO` | what the client called itself |
//!
//! Whoever sends mail chooses most of it: a command uses it in quotes, `"$SENDER"`.
//!
//! | exit | reply |
//! |---|---|
//! | 0 | `250`: the message is the command's |
//! | 75, `EX_TEMPFAIL` | `451`, the client tries again later |
//! | 126, 127: the shell found no such command | `451` |
//! | by a signal, or after the time limit | `451` |
//! | any other | `554`, with the first line that the command wrote to its standard error |
//!
//! The command is a child of the map, and its exit an event: no thread waits for it. Its standard input is a file, not a
//! pipe, so that it may end without reading, and never takes a cut message for a whole one.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::fmt;
use std::fs::File;
use std::io::{self, Seek, Write};
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitStatus, Stdio};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use asynchat::Conversation;
use asyncore::{Channel, ChannelId, Context, Map, Received, Result};
use rustix::process::{Pid, Signal, kill_process_group};

use crate::app::App;
use crate::commit::refusal;
use crate::delivery::{Delivery, Incoming, Outcome, Ticket};
use crate::envelope::Envelope;
use crate::reply::Reply;

/// Runs a command for each message.
pub struct Exec {
    hostname: String,
    runs: Rc<Runs>,
}

impl Exec {
    /// With a command for the shell, and how long it may run.
    #[must_use]
    pub fn new(command: &str, hostname: &str, time: Duration) -> Self {
        let runs = Runs { command: command.to_owned(), time, state: RefCell::default() };
        Self { hostname: hostname.to_owned(), runs: Rc::new(runs) }
    }
}

impl fmt::Debug for Exec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Exec").field("command", &self.runs.command).finish_non_exhaustive()
    }
}

impl Delivery for Exec {
    fn begin(
        &self,
        _cx: &mut Conversation<'_, App>,
        envelope: &Arc<Envelope>,
    ) -> Result<Box<dyn Incoming>, Reply> {
        let begun = tempfile::tempfile().and_then(|mut file| {
            file.write_all(envelope.trace(&self.hostname).as_bytes())?;
            Ok(file)
        });
        let file = begun.map_err(|error| refuse(envelope, &error))?;
        Ok(Box::new(Arriving { envelope: Arc::clone(envelope), file, runs: Rc::clone(&self.runs) }))
    }

    fn name(&self) -> &'static str {
        "exec"
    }
}

struct Arriving {
    envelope: Arc<Envelope>,
    /// It has no name, and nothing of it stays.
    file: File,
    runs: Rc<Runs>,
}

impl Incoming for Arriving {
    fn write(&mut self, _cx: &mut Conversation<'_, App>, piece: &[u8]) -> Result<(), Reply> {
        self.file.write_all(piece).map_err(|error| refuse(&self.envelope, &error))
    }

    fn finish(self: Box<Self>, cx: &mut Conversation<'_, App>, ticket: Ticket) -> Option<Outcome> {
        let Self { envelope, file, runs } = *self;
        let job = Job { envelope, file, ticket };
        if runs.state.borrow().running >= RUNNING_LIMIT {
            runs.state.borrow_mut().waiting.push_back(job);
            return None;
        }
        runs.start(cx.map, job).err().map(Outcome::All)
    }
}

/// A message that is whole.
struct Job {
    envelope: Arc<Envelope>,
    file: File,
    ticket: Ticket,
}

/// The commands that run.
struct Runs {
    command: String,
    time: Duration,
    state: RefCell<State>,
}

#[derive(Default)]
struct State {
    running: usize,
    waiting: VecDeque<Job>,
}

impl Runs {
    /// Starts the command.
    ///
    /// # Errors
    ///
    /// The reply to the message, if it cannot be started.
    fn start(self: &Rc<Self>, map: &mut Map<App>, job: Job) -> Result<(), Reply> {
        let Job { envelope, file, ticket } = job;
        if envelope.to.iter().map(|to| to.as_str().len() + "\n".len()).sum::<usize>() > RECIPIENTS_LIMIT {
            return Err(TOO_MANY);
        }
        let mut command = self.command(&envelope, file).map_err(|error| refuse(&envelope, &error))?;
        let group = Rc::new(Group(Cell::new(None)));
        let complaint = Rc::new(RefCell::new(Vec::new()));
        let is_late = Rc::new(Cell::new(false));
        let timer = map.after(self.time, {
            let (group, is_late) = (Rc::downgrade(&group), Rc::clone(&is_late));
            move |_map, _app| {
                is_late.set(true);
                if let Some(group) = group.upgrade() {
                    group.kill();
                }
            }
        });
        let stderr: Rc<Cell<Option<ChannelId>>> = Rc::default();
        let started = map.spawn_child(&mut command, {
            let (runs, envelope) = (Rc::clone(self), Arc::clone(&envelope));
            let (group, complaint, stderr) = (Rc::clone(&group), Rc::clone(&complaint), Rc::clone(&stderr));
            move |cx, status| {
                group.0.set(None);
                cx.map.cancel_timer(timer);
                if let Some(id) = stderr.get() {
                    cx.with(id, |stderr: &mut Stderr, cx| stderr.read(cx));
                    cx.map.close(id);
                }
                let reply = if is_late.get() { TOO_LATE } else { judge(status, &complaint.borrow()) };
                tracing::debug!(id = envelope.id, %status, "the command has ended");
                runs.ended(cx, ticket, reply);
                Ok(())
            }
        });
        let child = started.map_err(|error| {
            map.cancel_timer(timer);
            tracing::error!(id = envelope.id, %error, "the command could not be started");
            NOT_STARTED
        })?;
        group.0.set(i32::try_from(child.pid).ok().and_then(Pid::from_raw));
        self.state.borrow_mut().running += 1;
        if let Some(pipe) = child.stderr {
            let text = complaint;
            match map.add(pipe, Stderr { text, group: Rc::downgrade(&group) }) {
                Ok(id) => stderr.set(Some(id)),
                Err(error) => tracing::warn!(%error, "nobody reads what the command says"),
            }
        }
        Ok(())
    }

    fn command(&self, envelope: &Envelope, mut message: File) -> io::Result<Command> {
        message.rewind()?;
        let recipients: Vec<_> = envelope.to.iter().map(|to| to.as_str()).collect();
        let mut command = Command::new("/bin/sh");
        command
            .args(["-c", &self.command])
            .env("SENDER", envelope.from.as_ref().map_or("", |from| from.as_str()))
            .env("RECIPIENT", recipients.first().copied().unwrap_or_default())
            .env("RECIPIENTS", recipients.join("\n"))
            .env("MESSAGE_ID", &envelope.id)
            .env("CLIENT_ADDRESS", envelope.client.address.map(|ip| ip.to_string()).unwrap_or_default())
            .env("CLIENT_HELO", &envelope.client.helo)
            .stdin(message)
            .stderr(Stdio::piped())
            // The command may start others, which end with it.
            .process_group(0);
        Ok(command)
    }

    /// A command has ended: its session is told, and the next one starts.
    fn ended(self: &Rc<Self>, cx: &mut Context<'_, App>, ticket: Ticket, reply: Reply) {
        self.state.borrow_mut().running -= 1;
        ticket.answer(cx.map, cx.app, Outcome::All(reply));
        while self.state.borrow().running < RUNNING_LIMIT {
            let Some(job) = self.state.borrow_mut().waiting.pop_front() else { return };
            let ticket = job.ticket;
            // Whoever is gone was told nothing, and sends it again.
            if cx.map.is_open(ticket.session)
                && let Err(reply) = self.start(cx.map, job)
            {
                ticket.answer(cx.map, cx.app, Outcome::All(reply));
            }
        }
    }
}

/// A command and all that it has started; killed when the map gives it up.
struct Group(Cell<Option<Pid>>);

impl Group {
    fn kill(&self) {
        self.signal(Signal::KILL);
    }

    fn signal(&self, signal: Signal) {
        if let Some(pid) = self.0.get()
            && let Err(error) = kill_process_group(pid, signal)
        {
            tracing::debug!(%pid, %error, "no process of a command to signal");
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.kill();
    }
}

/// What a command writes to its standard error: the start of it is kept.
struct Stderr {
    text: Rc<RefCell<Vec<u8>>>,
    group: std::rc::Weak<Group>,
}

impl Stderr {
    fn read(&self, cx: &mut Context<'_, App>) {
        while let Ok(Received::Data(data)) = cx.map.recv(cx.id, COMPLAINT_LIMIT) {
            let mut text = self.text.borrow_mut();
            let room = COMPLAINT_LIMIT - text.len();
            text.extend_from_slice(data.get(..room).unwrap_or(&data));
        }
    }
}

impl Channel<App> for Stderr {
    fn handle_read(&mut self, cx: &mut Context<'_, App>) -> Result {
        self.read(cx);
        Ok(())
    }

    /// The map asks the shell to end; this asks what the shell has started.
    fn handle_shutdown(&mut self, _cx: &mut Context<'_, App>) -> Result {
        if let Some(group) = self.group.upgrade() {
            group.signal(Signal::TERM);
        }
        Ok(())
    }

    fn name(&self) -> &'static str {
        "standard error of a command"
    }
}

/// What an exit says of the message.
fn judge(status: ExitStatus, complaint: &[u8]) -> Reply {
    match status.code() {
        Some(0) => TAKEN,
        Some(TEMPORARY | NOT_EXECUTABLE | NOT_FOUND) | None => NOT_NOW,
        Some(code) => {
            let text = String::from_utf8_lossy(complaint);
            match text.lines().map(str::trim).find(|line| !line.is_empty()) {
                Some(line) => Reply::new(554, "5.3.0", line),
                None => Reply::new(554, "5.3.0", format_args!("The command refuses the message ({code})")),
            }
        }
    }
}

fn refuse(envelope: &Envelope, error: &io::Error) -> Reply {
    tracing::error!(id = envelope.id, %error, "a message cannot be given to the command");
    refusal(error)
}

const TAKEN: Reply = Reply::fixed("250 2.0.0 Taken by the command\r\n");
const NOT_NOW: Reply = Reply::fixed("451 4.3.0 The command cannot take the message now\r\n");
const TOO_LATE: Reply = Reply::fixed("451 4.3.0 The command took too long\r\n");
const NOT_STARTED: Reply = Reply::fixed("451 4.3.0 The command could not be started\r\n");
const TOO_MANY: Reply = Reply::fixed("554 5.5.3 Too many recipients for the command\r\n");

/// `EX_TEMPFAIL` of `sysexits.h`.
const TEMPORARY: i32 = 75;

/// With these a shell says that there is no such command: no fault of the message.
const NOT_EXECUTABLE: i32 = 126;
const NOT_FOUND: i32 = 127;

/// How many commands run at once: 4. They compete with the loop for the processors of a small machine; more messages wait.
pub const RUNNING_LIMIT: usize = 4;

/// How long a command may run: 5 minutes, half of what clients wait for the reply to a message (RFC 5321, section
/// 4.5.3.2.6), so that a message that has waited is answered in time.
pub const TIME_LIMIT: Duration = Duration::from_secs(300);

/// Most bytes of `RECIPIENTS`: 120 KiB, more than 400 of the longest addresses. Linux starts no program with a variable of
/// more than 128 KiB.
const RECIPIENTS_LIMIT: usize = 120 << 10;

/// How much of what a command says is kept: 1 KiB, of which one line of 512 bytes at most is passed on.
const COMPLAINT_LIMIT: usize = 1024;

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;

    use super::*;

    #[test]
    fn an_exit_is_judged_as_sysexits_says() {
        let exit = |code: i32, text: &str| {
            judge(ExitStatus::from_raw(code << 8), text.as_bytes()).to_line().into_owned()
        };
        assert_eq!(exit(0, "ignored"), TAKEN.to_line());
        for code in [75, 126, 127] {
            assert_eq!(exit(code, "later"), NOT_NOW.to_line());
        }
        assert_eq!(exit(67, "\n no such user \nmore"), "554 5.3.0 no such user");
        assert_eq!(exit(1, "a\rb\x1b\0"), "554 5.3.0 a?b??");
        assert_eq!(exit(69, ""), "554 5.3.0 The command refuses the message (69)");
        assert!(exit(1, &"long ".repeat(1000)).len() <= 512);
        let killed = judge(ExitStatus::from_raw(9), b"");
        assert_eq!(killed, NOT_NOW);
    }
}
