//! A terminal of its own for a program under test.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::OFlags;
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

use crate::DEADLINE;

/// A program at a terminal of its own; the test sits at the other side.
#[derive(Debug)]
pub struct Terminal {
    program: Child,
    outside: File,
    inside: OwnedFd,
    seen: Vec<u8>,
}

impl Terminal {
    /// Starts a program, whose own choice of standard streams does not count.
    ///
    /// `None` without `setsid`, which gives the program its terminal; says so, and fails in CI.
    #[must_use]
    pub fn start(command: &Command) -> Option<Self> {
        let outside =
            openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).expect("a terminal");
        grantpt(&outside).expect("a terminal");
        unlockpt(&outside).expect("a terminal");
        let name = ptsname(&outside, Vec::new()).expect("a name");
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
        let inside = rustix::fs::open(&*name, flags, rustix::fs::Mode::empty()).expect("a terminal");
        let end = || Stdio::from(inside.try_clone().expect("a descriptor"));
        let mut setsid = Command::new("setsid");
        setsid.arg("--ctty").arg(command.get_program()).args(command.get_args());
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => setsid.env(name, value),
                None => setsid.env_remove(name),
            };
        }
        match setsid.stdin(end()).stdout(end()).stderr(end()).spawn() {
            Ok(program) => Some(Self { program, outside: outside.into(), inside, seen: Vec::new() }),
            Err(error) => {
                assert!(std::env::var_os("CI").is_none(), "setsid is missing: {error}");
                eprintln!("skipped: setsid is missing: {error}");
                None
            }
        }
    }

    /// Reads until the screen shows `text`.
    pub fn await_text(&mut self, text: &str) {
        let began = Instant::now();
        let is_there = |seen: &[u8]| seen.escape_ascii().to_string().contains(text);
        while !is_there(&self.seen) {
            assert!(began.elapsed() < DEADLINE, "no {text:?} in {}", self.seen.escape_ascii());
            let mut polled = [rustix::event::PollFd::new(&self.outside, rustix::event::PollFlags::IN)];
            let tick = rustix::event::Timespec { tv_sec: 0, tv_nsec: 50_000_000 };
            if rustix::event::poll(&mut polled, Some(&tick)).is_ok_and(|ready| ready > 0) {
                let mut room = [0; 4096];
                let count = self.outside.read(&mut room).expect("the screen");
                self.seen.extend(&room[..count]);
            }
        }
    }

    /// All that the screen has shown and the waits have read.
    #[must_use]
    pub fn seen(&self) -> &[u8] {
        &self.seen
    }

    /// The program's side of the terminal, which is open as long as the value.
    #[must_use]
    pub fn inside(&self) -> BorrowedFd<'_> {
        self.inside.as_fd()
    }

    /// Types on the keyboard, control characters for one.
    pub fn type_in(&mut self, text: &[u8]) {
        self.outside.write_all(text).expect("the keyboard");
    }

    /// Waits until the program ends by itself.
    pub fn wait(&mut self) -> ExitStatus {
        let began = Instant::now();
        loop {
            if let Some(status) = self.program.try_wait().expect("a status") {
                return status;
            }
            assert!(began.elapsed() < DEADLINE, "the program does not end");
            thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        drop(self.program.kill());
        drop(self.program.wait());
    }
}
