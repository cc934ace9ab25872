//! Faults of the system under a running server: interrupted calls, a poller without memory, writes that fail.
//! Rows 4 to 6 and 21 of the list of faults.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use rustix::process::Signal;

use crate::faults::{Client, Server, strace};

/// polling's `poll` backend keeps nothing in the kernel: no `epoll_ctl` can fail there.
const HAS_NO_EPOLL: bool = cfg!(polling_test_poll_backend);

/// A server with failures injected into `call`, and the file that says which were.
fn injected(call: &str, error: &str, when: &str) -> Option<(Server, tempfile::NamedTempFile)> {
    let log = tempfile::NamedTempFile::new().unwrap();
    let (trace, inject) = (format!("trace={call}"), format!("inject={call}:error={error}:when={when}"));
    let server = Server::start(&strace(log.path().to_str().unwrap(), &trace, &inject), &[])?;
    Some((server, log))
}

/// How many calls were made to fail. The log is written while the server runs; what was answered has been written.
fn failures(log: &tempfile::NamedTempFile) -> usize {
    std::fs::read_to_string(log).unwrap().matches("INJECTED").count()
}

/// Row 4. An interrupted call is made again: nothing shows, wherever the signal comes.
#[test]
fn row_04_an_interrupted_call_is_made_again() {
    let wait = if HAS_NO_EPOLL { "poll,ppoll" } else { "epoll_wait,epoll_pwait" };
    for (call, when) in
        [(wait, "2..9"), ("recvfrom", "1..4"), ("sendto", "1..4"), ("sendmsg", "1..4"), ("accept4", "1..4")]
    {
        let Some((mut server, log)) = injected(call, "EINTR", when) else { return };
        let mut client = server.client();
        for line in ["one", "two", "three"] {
            assert_eq!(client.ask(line), line);
        }
        // Large enough to be kept apart from its line end: a write of two slices.
        assert_eq!(client.ask("long 5000").len(), 5000);
        assert!(failures(&log) >= 4, "{call}");
        let stats = client.stats();
        assert_eq!((stats["accept_errors"], stats["closed"]), (0, 0), "{call}: {stats:?}");
        server.answers();
    }
}

/// Row 4. A storm of signals, and being stopped and continued, is no event: the conversation goes on, and nothing is told.
#[test]
fn row_04_a_storm_of_signals_has_no_visible_effect() {
    let Some(mut server) = Server::start(&[], &[]) else { return };
    let mut client = server.client();
    let before = client.stats();
    for round in 0..100 {
        for signal in [Signal::WINCH, Signal::STOP, Signal::CONT, Signal::PIPE, Signal::URG] {
            server.signal(signal);
        }
        assert_eq!(client.ask(&format!("round {round}")), format!("round {round}"));
    }
    let after = client.stats();
    // A question is one event, perhaps cut in two.
    assert!(after["events"] - before["events"] <= 2 * 101, "{before:?} {after:?}");
    server.answers();
}

/// Row 5. A channel that the poller cannot take is closed, with the reason; the listener and the loop go on.
#[test]
fn row_05_a_channel_that_the_poller_cannot_take_is_closed_alone() {
    if HAS_NO_EPOLL {
        return;
    }
    for error in ["ENOMEM", "ENOSPC"] {
        // Before come the calls for the poller's own descriptors and for the listeners: the channel's is found by trying.
        let hit = (1..40).any(|when| {
            let log = tempfile::NamedTempFile::new().unwrap();
            let path = log.path().to_str().unwrap();
            let inject = format!("inject=epoll_ctl:error={error}:when={when}");
            let Some(server) = Server::try_start(&strace(path, "trace=epoll_ctl", &inject), &[]) else {
                return true;
            };
            // What fails before the server listens ends it; what fails for a listener closes that.
            let Some(mut server) = server else { return false };
            if is_answered(server.lines) || !is_answered(server.lines) {
                return false;
            }
            let stats = server.client().stats();
            assert_eq!(stats["Limit"], 1, "{error} at {when}: {stats:?}");
            server.answers();
            true
        });
        assert!(hit, "no call was that of a channel");
    }
}

/// Whether a server takes a connection and answers it.
fn is_answered(server: SocketAddr) -> bool {
    let Ok(mut socket) = TcpStream::connect(server) else { return false };
    socket.write_all(b"?\r\n").is_ok() && socket.read_exact(&mut [0; 3]).is_ok()
}

/// Row 5. The poller re-arms descriptors of its own in a wait, which may fail: the loop waits again.
#[test]
fn row_05_a_wait_that_fails_is_tried_again() {
    if HAS_NO_EPOLL {
        return;
    }
    for error in ["ENOMEM", "ENOSPC"] {
        // The portable wait alone makes such calls in every turn; five of them fail in a row, far from the start.
        let log = tempfile::NamedTempFile::new().unwrap();
        let path = log.path().to_str().unwrap();
        let inject = format!("inject=epoll_ctl:error={error}:when=60..64");
        let mut wrapper = strace(path, "trace=epoll_ctl", &inject);
        wrapper.extend(["-E", "ASYNCORE_TEST_WAIT=portable"]);
        let Some(mut server) = Server::start(&wrapper, &[]) else { return };
        let mut client = server.client();
        let mut asked = 0;
        while failures(&log) < 5 {
            asked += 1;
            assert!(asked < 200, "the calls are not made");
            assert_eq!(client.ask("still there?"), "still there?");
        }
        let stats = client.stats();
        assert!(stats["turns"] < 3 * asked + 30, "{stats:?}");
        assert_eq!(stats["closed"], 0, "{stats:?}");
        server.answers();
    }
}

/// Row 5. A wait that fails may leave the poller deaf to other threads, which the next one mends.
#[test]
fn row_05_other_threads_are_heard_after_a_wait_that_failed() {
    if HAS_NO_EPOLL {
        return;
    }
    for wait in ["direct", "portable"] {
        // A question and its answer take four waits of two calls each: each of the eight fails once.
        for when in 40..48 {
            let log = tempfile::NamedTempFile::new().unwrap();
            let path = log.path().to_str().unwrap();
            let inject = format!("inject=epoll_ctl:error=ENOMEM:when={when}");
            let mut wrapper = strace(path, "trace=epoll_ctl", &inject);
            let environment = format!("ASYNCORE_TEST_WAIT={wait}");
            wrapper.extend(["-E", &environment]);
            let Some(mut server) = Server::start(&wrapper, &[]) else { return };
            let mut client = server.client();
            let mut asked = 0;
            while failures(&log) < 1 {
                asked += 1;
                assert!(asked < 200, "the call is not made");
                assert_eq!(client.ask("post"), "posted");
            }
            for _ in 0..3 {
                assert_eq!(client.ask("post"), "posted");
            }
            assert_eq!(client.stats()["closed"], 0);
            server.answers();
        }
    }
}

/// Row 6. A write that fails for want of memory is made again; any other failure closes that channel, once.
#[test]
fn row_06_a_failed_write_is_made_again_or_closes_its_channel() {
    for call in ["sendto", "sendmsg"] {
        for (error, reason) in [
            ("ENOBUFS", None),
            ("ENOMEM", None),
            ("EAGAIN", None),
            ("EINTR", None),
            ("EPIPE", Some("Reset")),
            ("ECONNRESET", Some("Reset")),
            ("ETIMEDOUT", Some("TimedOut(Transport)")),
            ("EHOSTUNREACH", Some("Unreachable")),
            ("EIO", Some("HandlerError")),
        ] {
            let Some((mut server, log)) = injected(call, error, "1..3") else { return };
            let mut watcher = None;
            let mut client = server.client();
            // A large reply and its line end are two slices, a small one is one.
            let (question, length) = if call == "sendmsg" { ("long 5000", 5000) } else { ("four", 4) };
            client.say(question);
            match reason {
                None => assert_eq!(client.hear().len(), length, "{call} {error}"),
                Some(reason) => {
                    assert_eq!(client.try_hear(), None, "{call} {error}");
                    // The injection hits the first three writes, whoever makes them.
                    while watcher.is_none() {
                        let mut client = server.client();
                        client.say(question);
                        watcher = client.try_hear().map(|_| client);
                    }
                    let stats = watcher.as_mut().unwrap().stats();
                    assert_eq!((stats["closed"], stats[reason]), (3, 3), "{call} {error}: {stats:?}");
                    assert_eq!(stats["queued"], 0, "{call} {error}: {stats:?}");
                }
            }
            assert_eq!(failures(&log), 3, "{call} {error}");
            let (before, after) = client_of(&server, watcher).stats_after(50);
            assert!(after["turns"] - before["turns"] <= 4, "{call} {error}: {before:?} {after:?}");
            server.answers();
        }
    }
}

fn client_of(server: &Server, client: Option<Client>) -> Client {
    client.unwrap_or_else(|| server.client())
}

/// Row 6. Without memory for writes the loop tries now and then, as often as its pause allows, however much is asked.
#[test]
fn row_06_writes_without_memory_do_not_spin() {
    let Some((mut server, log)) = injected("sendto", "ENOBUFS", "1..20") else { return };
    let mut client = server.client();
    client.say("answered late");
    assert_eq!(client.hear(), "answered late");
    assert_eq!(failures(&log), 20);
    let stats = client.stats();
    // Each try is a turn or two: the end of its pause, and none between.
    assert!(stats["turns"] <= 2 * 20 + 10, "{stats:?}");
    server.answers();
}

/// Row 6. A small send buffer makes every write short: all arrives, in order.
#[test]
fn row_06_short_writes_lose_nothing() {
    let Some(mut server) = Server::start(&[], &["sndbuf=4096"]) else { return };
    let mut client = server.client();
    for length in [1, 1000, 100_000, 900_000] {
        assert_eq!(client.ask(&format!("long {length}")).len(), length);
        assert_eq!(client.ask(&format!("after {length}")), format!("after {length}"));
    }
    assert_eq!(client.stats()["queued"], 0);
    server.answers();
}

/// Row 21. A signal for a broken pipe, and a standard output that nobody reads any more, end nothing.
#[test]
fn row_21_a_closed_standard_output_ends_nothing() {
    let Some(mut server) = Server::start(&[], &[]) else { return };
    server.signal(Signal::PIPE);
    server.answers();
    let mut client = server.client();
    // The other end of its standard output is closed already: a line written there is lost, and no more.
    assert_eq!(client.ask("print"), "print: Broken pipe (os error 32)");
    server.answers();
}
