//! What a line costs in system calls, counted by strace on a server in a process of its own.
//!
//! Other costs are guarded where they can be counted: allocations a line in `tests/allocations.rs`, bytes looked at per
//! byte received beside the splitter, the size of a slot beside the map, crates in the tree in `tidy`, and what an idle
//! conversation keeps in memory in the tests of `bench`.

use rustix::process::Signal;

use crate::faults::{Client, Server};

/// A server whose every system call is a line of a file.
struct Traced {
    server: Server,
    log: tempfile::NamedTempFile,
}

impl Traced {
    /// It waits on the poller's descriptor, whatever the suite does: other ways to wait take more calls.
    fn start() -> Option<Self> {
        // What polling does on its `poll` backend is not what is promised.
        if cfg!(polling_test_poll_backend) {
            return None;
        }
        let log = tempfile::NamedTempFile::new().unwrap();
        let path = log.path().to_str().unwrap();
        let tool =
            ["strace", "-f", "-qq", "-o", path, "-e", "signal=none", "-E", "ASYNCORE_TEST_WAIT=direct"];
        let server = Server::start(&tool, &[])?;
        Some(Self { server, log })
    }

    /// How many calls have ended, but for the last few: strace writes them a moment later.
    fn calls(&self) -> usize {
        let text = std::fs::read_to_string(self.log.path()).unwrap();
        text.lines().filter(|line| !line.ends_with("<unfinished ...>")).count()
    }
}

/// One wait, one receive, one send.
#[test]
fn a_line_on_one_connection_takes_three_system_calls() {
    let Some(traced) = Traced::start() else { return };
    let mut client = traced.server.client();
    for _ in 0..20 {
        client.ask("to begin with");
    }
    let before = traced.calls();
    for _ in 0..LINES {
        assert_eq!(client.ask("a line"), "a line");
    }
    let calls = traced.calls() - before;
    assert!(calls.abs_diff(3 * LINES) <= UNCERTAIN, "{calls} calls for {LINES} lines");
}

/// One receive and one send; the wait is shared by all that came meanwhile.
#[test]
fn lines_that_come_together_share_the_wait() {
    let Some(traced) = Traced::start() else { return };
    let mut clients: Vec<Client> = (0..CONNECTIONS).map(|_| traced.server.client()).collect();
    let mut round = || {
        // The server stands still until all have spoken: that nobody speaks faster than it serves is no matter of luck.
        traced.server.pause();
        clients.iter_mut().for_each(|client| client.say("a line"));
        traced.server.signal(Signal::CONT);
        for client in &mut clients {
            assert_eq!(client.hear(), "a line");
        }
    };
    round();
    let before = traced.calls();
    for _ in 0..ROUNDS {
        round();
    }
    let (calls, lines) = (traced.calls() - before, ROUNDS * CONNECTIONS);
    assert!(10 * calls <= 21 * lines, "{calls} calls for {lines} lines, more than 2.1 a line");
    assert!(calls + UNCERTAIN >= 2 * lines, "{calls} calls for {lines} lines: is each of them counted?");
}

const LINES: usize = 500;

const CONNECTIONS: usize = 64;

const ROUNDS: usize = 5;

/// Calls at either end that may be counted or not, since strace writes them a moment later: 15, a hundredth of them all.
const UNCERTAIN: usize = 15;
