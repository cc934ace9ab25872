//! Child processes: each is a channel, and its exit an event of the loop.

use std::ffi::c_int;
use std::io;
use std::process::{self, Command, ExitStatus};
use std::sync::OnceLock;
use std::sync::mpsc::{Sender, channel};
use std::thread;

use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};

use crate::file::{Access, File};
use crate::{Channel, ChannelId, Context, Dispatcher, Limits, Map, Result};

/// A child process that [`Map::spawn_child`] has started.
#[derive(Debug)]
#[non_exhaustive]
pub struct Child {
    /// The channel that stands for it until its exit has been told.
    pub id: ChannelId,
    /// Its process id, which is no other process's until its exit has been told.
    pub pid: u32,
    /// What writes to its standard input, if that was asked for with [`Stdio::piped`](process::Stdio::piped): to be added
    /// to a map with a handler. Dropped, it is closed.
    pub stdin: Option<Dispatcher>,
    /// What reads its standard output, likewise.
    pub stdout: Option<Dispatcher>,
    /// What reads its standard error, likewise.
    pub stderr: Option<Dispatcher>,
}

/// # Child processes
///
/// A child is a channel that tells one thing: that the process has exited. It keeps [`run`](Self::run) going until then,
/// and its process leaves no zombie behind. What it reads and writes are channels of their own, with handlers of any
/// kind.
///
/// A process does not outlive its channel. [`close`](Self::close), a timeout that is [set](Self::set_timeout) for it, and
/// the end of the map kill it with `SIGKILL`, and its exit is not told. [`remove`](Self::remove) hands it over with its
/// handler: put into a map it goes on, dropped it is killed. A [`shutdown`](Self::shutdown) asks it to end with
/// `SIGTERM`, and kills it at the deadline. What is to outlive the program is started with [`Command::spawn`].
impl<A: 'static> Map<A> {
    /// Starts a child process, and calls `exited` from the loop, once, when it has exited.
    ///
    /// It returns when the program has been started, or could not be. Its pipes come back as dispatchers. The exit and
    /// the end of the output are two events, in either order: a child may have exited with output still in the pipe, or
    /// leave the pipe to a child of its own. Who needs both waits for both.
    ///
    /// An error of `exited` is logged, and the channel ends all the same. The timeouts of the map's limits do not apply
    /// to it.
    ///
    /// ```
    /// use std::process::{Command, ExitStatus, Stdio};
    ///
    /// use asyncore::{Channel, Context, Map, Received, Result};
    ///
    /// #[derive(Default)]
    /// struct Job {
    ///     output: Vec<u8>,
    ///     status: Option<ExitStatus>,
    /// }
    ///
    /// struct Output;
    ///
    /// impl Channel<Job> for Output {
    ///     fn handle_read(&mut self, cx: &mut Context<'_, Job>) -> Result {
    ///         if let Received::Data(data) = cx.map.recv(cx.id, 4096)? {
    ///             cx.app.output.extend_from_slice(&data);
    ///         }
    ///         Ok(())
    ///     }
    /// }
    ///
    /// let mut map: Map<Job> = Map::new()?;
    /// let mut command = Command::new("echo");
    /// let child = map.spawn_child(command.arg("hello").stdout(Stdio::piped()), |cx, status| {
    ///     cx.app.status = Some(status);
    ///     Ok(())
    /// })?;
    /// map.add(child.stdout.ok_or("no pipe")?, Output)?;
    ///
    /// let mut job = Job::default();
    /// map.run(&mut job)?; // until the exit and the end of the output have come
    /// assert_eq!(job.output, b"hello\n");
    /// assert!(job.status.is_some_and(|status| status.success()));
    /// # Ok::<(), asyncore::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// If the program cannot be started, no descriptor or thread is left, or the map is a simulated one.
    pub fn spawn_child(
        &mut self,
        command: &mut Command,
        exited: impl FnOnce(&mut Context<'_, A>, ExitStatus) -> Result + 'static,
    ) -> Result<Child> {
        self.spawn_watched(command, watch, exited)
    }

    fn spawn_watched(
        &mut self,
        command: &mut Command,
        watch: fn(&process::Child) -> io::Result<File>,
        exited: impl FnOnce(&mut Context<'_, A>, ExitStatus) -> Result + 'static,
    ) -> Result<Child> {
        self.world.poller().map_err(|_| "a simulated map starts no processes")?;
        let mut child = command
            .spawn()
            .map_err(|error| format!("cannot start {}: {error}", command.get_program().display()))?;
        let pid = child.id();
        let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let watched = watch(&child);
        // From here on the process is killed if something fails.
        let process = Process { child: Some(child), exited: Some(Box::new(exited)) };
        let mut watched = watched?.into_dispatcher();
        watched.set_limits(Limits::default());
        let stdin = stdin.map(Dispatcher::try_from).transpose()?;
        let stdout = stdout.map(Dispatcher::try_from).transpose()?;
        let stderr = stderr.map(Dispatcher::try_from).transpose()?;
        let id = self.add(watched, process)?;
        tracing::debug!(%id, pid, "child process started");
        Ok(Child { id, pid, stdin, stdout, stderr })
    }

    /// The process id of a child whose exit has not been told.
    #[must_use]
    pub fn child_pid(&self, id: ChannelId) -> Option<u32> {
        Some(self.handler::<Process<A>>(id)?.child.as_ref()?.id())
    }

    /// Sends a signal to a child, `SIGTERM` for one. The exit that this may lead to is told as any other.
    ///
    /// One that has exited and has not been told of yet takes it in silence.
    ///
    /// # Errors
    ///
    /// If there is no such child, no such signal (real-time ones are not known here), or the child now runs as a user
    /// whom this program may not signal.
    pub fn signal_child(&self, id: ChannelId, signal: c_int) -> Result {
        let process = self.handler::<Process<A>>(id);
        let child = process.and_then(|process| process.child.as_ref()).ok_or(NO_CHILD)?;
        let signal = Signal::from_named_raw(signal).ok_or("there is no such signal")?;
        Ok(kill_process(Pid::from_child(child), signal)?)
    }

    /// Kills a child with `SIGKILL`. Its exit is told as any other; [`close`](Self::close) kills without a word.
    ///
    /// # Errors
    ///
    /// As [`signal_child`](Self::signal_child).
    pub fn kill_child(&self, id: ChannelId) -> Result {
        self.signal_child(id, Signal::KILL.as_raw())
    }
}

type Exited<A> = Box<dyn FnOnce(&mut Context<'_, A>, ExitStatus) -> Result>;

/// A process that has not been waited for; killed when it is dropped.
struct Process<A: 'static> {
    /// `None` once it has been waited for.
    child: Option<process::Child>,
    exited: Option<Exited<A>>,
}

impl<A: 'static> Channel<A> for Process<A> {
    /// There is nothing to read: that it is readable says that the process has exited.
    fn handle_read(&mut self, cx: &mut Context<'_, A>) -> Result {
        let Some(child) = &mut self.child else { return Ok(()) };
        let status = match child.try_wait() {
            Ok(Some(status)) => status,
            Ok(None) => return Ok(()),
            Err(error) => {
                // Somebody else has waited for it, and its number may be another's by now: nothing is left to kill.
                self.child = None;
                return Err(error.into());
            }
        };
        tracing::debug!(id = %cx.id, pid = child.id(), %status, "child process exited");
        self.child = None;
        if let Some(exited) = self.exited.take() {
            exited(cx, status)?;
        }
        cx.map.close(cx.id);
        Ok(())
    }

    fn handle_shutdown(&mut self, _cx: &mut Context<'_, A>) -> Result {
        match &self.child {
            Some(child) => Ok(kill_process(Pid::from_child(child), Signal::TERM)?),
            None => Ok(()),
        }
    }

    fn name(&self) -> &'static str {
        "child process"
    }
}

impl<A: 'static> Drop for Process<A> {
    fn drop(&mut self) {
        let Some(mut child) = self.child.take() else { return };
        if let Err(error) = child.kill() {
            tracing::warn!(pid = child.id(), %error, "a child process could not be killed");
        }
        if matches!(child.try_wait(), Ok(None)) {
            reap(child);
        }
    }
}

/// Waits for a killed process where nothing else has to wait. It takes a moment as a rule, but one that is held up in the
/// system, by a disk that does not answer, takes as long as that.
fn reap(child: process::Child) {
    static REAPER: OnceLock<Option<Sender<process::Child>>> = OnceLock::new();
    let reaper = REAPER.get_or_init(|| {
        let (reaper, killed) = channel::<process::Child>();
        let reap = move || {
            for mut child in killed {
                drop(child.wait());
            }
        };
        let started = thread::Builder::new().name("asyncore-reaper".to_owned()).spawn(reap);
        started.is_ok().then_some(reaper)
    });
    let left = match reaper {
        Some(reaper) => reaper.send(child).err().map(|refused| refused.0),
        None => Some(child),
    };
    if let Some(mut child) = left {
        drop(child.wait());
    }
}

/// What becomes readable when the process has exited.
fn watch(child: &process::Child) -> io::Result<File> {
    #[cfg(target_os = "linux")]
    match rustix::process::pidfd_open(Pid::from_child(child), rustix::process::PidfdFlags::empty()) {
        Ok(fd) => return File::own(fd, Access::Read),
        Err(error) => tracing::debug!(%error, "no descriptor of a process: a thread waits for it"),
    }
    watch_by_thread(child)
}

/// As [`watch`], where the system has no descriptor for a process: a thread waits for it, and lets a pipe end.
///
/// It leaves the process to be waited for once more, so that its id stays its own until its channel hears of it.
fn watch_by_thread(child: &process::Child) -> io::Result<File> {
    let (reader, writer) = io::pipe()?;
    let pid = Pid::from_child(child);
    let wait = move || {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
        while matches!(waitid(WaitId::Pid(pid), options), Err(Errno::INTR)) {}
        drop(writer);
    };
    thread::Builder::new().name("asyncore-child".to_owned()).spawn(wait)?;
    File::own(reader.into(), Access::Read)
}

const NO_CHILD: &str = "there is no such child process, or it has exited";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_tells_of_an_exit_where_the_system_has_no_descriptor_for_it() {
        let mut map: Map<Vec<Option<i32>>> = Map::new().unwrap();
        let mut command = Command::new("sh");
        command.args(["-c", "exit 7"]);
        map.spawn_watched(&mut command, watch_by_thread, |cx, status| {
            cx.app.push(status.code());
            Ok(())
        })
        .unwrap();
        let mut codes = Vec::new();
        map.run(&mut codes).unwrap();
        assert_eq!(codes, [Some(7)]);
    }

    #[test]
    fn a_process_that_a_thread_waits_for_is_killed_with_its_channel() {
        let mut map: Map = Map::new().unwrap();
        let mut command = Command::new("sleep");
        let child = map.spawn_watched(command.arg("1000"), watch_by_thread, |_, _| panic!("told")).unwrap();
        map.close(child.id);
        map.run(&mut ()).unwrap();
        assert!(map.is_empty());
    }
}
