//! Faults where connections come in: no descriptors, accepts that fail, clients that are gone, bursts.
//! The numbers are rows of the list of faults that both crates are to survive.

use std::io::Read;
use std::net::TcpStream;

use crate::faults::{Client, Server, strace};

/// Row 1. Out of descriptors, the loop neither dies nor spins: at most twenty accepts fail in a second, and who waits
/// is served as soon as somebody leaves.
#[test]
fn row_01_out_of_descriptors_a_listener_pauses_and_goes_on_when_one_is_free() {
    let Some(mut server) = Server::start(&["prlimit", "--nofile=64:64"], &["connections=1000"]) else {
        return;
    };
    let mut watcher = server.client();
    let at_start = watcher.stats();
    let mut clients: Vec<Client> = (0..150).map(|_| server.client()).collect();
    for (number, client) in clients.iter_mut().enumerate() {
        client.say(&format!("client {number}"));
    }
    let starved = watcher.stats_until("an accept to fail", |stats| stats["accept_errors"] > 0);
    assert!(starved["channels"] <= 64, "{starved:?}");

    let (before, after) = watcher.stats_after(500);
    let ticks = (after["millis"] - before["millis"]) / 100 + 1;
    assert!(after["accept_errors"] - before["accept_errors"] <= 2 * ticks, "{before:?} {after:?}");
    // A pause that ends, an accept that fails, and the question itself.
    assert!(after["turns"] - before["turns"] <= 4 * ticks + 8, "{before:?} {after:?}");

    // Those that were accepted are answered; the first that waits is answered once one of them leaves.
    let served = usize::try_from(after["accepted"] - 1).unwrap();
    for (number, client) in clients.iter_mut().take(served).enumerate() {
        assert_eq!(client.hear(), format!("client {number}"));
    }
    drop(clients.drain(..1));
    let next = watcher.stats_until("the next accept", |stats| stats["accepted"] > after["accepted"]);
    assert!(next["refused"] <= after["refused"] + 5, "it was served, not refused: {next:?}");

    drop(clients);
    let at_end = watcher.stats_until("all to be gone", |stats| stats["channels"] == at_start["channels"]);
    // The reserve is one more.
    assert!(at_end["descriptors"] <= at_start["descriptors"] + 1, "{at_start:?} {at_end:?}");
    server.answers();
}

/// Row 1. With the default maximum of connections the descriptors never run out: nothing fails and nobody is turned away.
#[test]
fn row_01_the_default_maximum_of_connections_keeps_clear_of_the_limit_of_descriptors() {
    let Some(mut server) = Server::start(&["prlimit", "--nofile=100:100"], &[]) else { return };
    let mut watcher = server.client();
    let clients: Vec<Client> = (0..150).map(|_| server.client()).collect();
    // Half of the limit: with the two listeners and the watcher that is 47 clients.
    let full = watcher.stats_until("the map to be full", |stats| stats["channels"] == 50);
    let (before, after) = watcher.stats_after(200);
    assert_eq!((after["accept_errors"], after["refused"], after["channels"]), (0, 0, 50), "{full:?}");
    assert!(after["turns"] - before["turns"] <= 8, "{before:?} {after:?}");
    drop(clients);
    watcher
        .stats_until("all to be served and gone", |stats| stats["accepted"] == 151 && stats["channels"] == 3);
    server.answers();
}

/// Row 2. An accept that fails for want of memory or descriptors pauses the listener; one that fails for its own
/// connection does not. In both cases that is counted and the client is served in the end.
#[test]
fn row_02_failed_accepts_are_counted_and_the_next_is_served() {
    // Of four accepts that fail: how many are counted. Without a descriptor, every other tries to turn a client away with
    // the one in reserve. An interrupted accept is nobody's failure.
    let errors = [
        ("ENFILE", 2),
        ("EMFILE", 2),
        ("ENOBUFS", 4),
        ("ENOMEM", 4),
        ("ECONNABORTED", 4),
        ("EPROTO", 4),
        ("EPERM", 4),
        ("EINTR", 0),
    ];
    for (error, counted) in errors {
        let log = tempfile::NamedTempFile::new().unwrap();
        let inject = format!("inject=accept4:error={error}:when=1..4");
        let Some(mut server) =
            Server::start(&strace(log.path().to_str().unwrap(), "trace=accept4", &inject), &[])
        else {
            return;
        };
        let mut client = server.client();
        let stats = client.stats();
        let log = std::fs::read_to_string(&log).unwrap();
        assert_eq!(log.matches("INJECTED").count(), 4, "{error}: {log}");
        assert_eq!(
            (stats["accept_errors"], stats["accepted"], stats["refused"]),
            (counted, 1, 0),
            "{error}: {stats:?}"
        );
        // A failure and the end of its pause are a turn each; what does not pause fails within one turn.
        assert!(stats["turns"] <= 12, "{error}: {stats:?}");
        server.answers();
    }
}

/// Row 3. A client that resets before it was accepted is accepted, read and closed: no panic, one close each.
#[test]
fn row_03_a_reset_before_the_accept_closes_that_connection_alone() {
    let Some(mut server) = Server::start(&[], &[]) else { return };
    let mut watcher = server.client();
    let before = watcher.stats();
    server.signal(rustix::process::Signal::STOP);
    for _ in 0..500 {
        let client = Client::connect(server.lines);
        socket2::SockRef::from(client.socket()).set_linger(Some(std::time::Duration::ZERO)).unwrap();
    }
    server.signal(rustix::process::Signal::CONT);
    let after = watcher.stats_until("500 closes", |stats| stats["closed"] == 500);
    assert_eq!(after["accepted"] + after["accept_errors"], 501, "{after:?}");
    assert_eq!((after["channels"], after["Reset"]), (before["channels"], after["accepted"] - 1), "{after:?}");
    server.answers();
}

/// Row 18. Listeners ask for a backlog of 4096 connections, so that a burst does not stall.
#[test]
fn row_18_a_listener_asks_for_room_for_4096_connections() {
    assert_eq!(asyncore::BACKLOG, 4096);
    let log = tempfile::NamedTempFile::new().unwrap();
    let path = log.path().to_str().unwrap();
    let Some(mut server) = Server::start(&["strace", "-f", "-qq", "-o", path, "-e", "trace=listen"], &[])
    else {
        return;
    };
    server.answers();
    drop(server);
    let log = std::fs::read_to_string(path).unwrap();
    assert_eq!(log.matches(", 4096)").count(), 2, "{log}");
}

/// Row 18. Connects in a burst are all taken while the server does not accept: up to the backlog, nobody waits.
#[test]
fn row_18_a_burst_waits_in_the_backlog_and_is_served() {
    let Some(mut server) = Server::start(&[], &[]) else { return };
    let mut watcher = server.client();
    server.signal(rustix::process::Signal::STOP);
    // Far more than std's 128, and few enough for any limit of descriptors.
    let mut clients: Vec<TcpStream> = (0..300).map(|_| TcpStream::connect(server.raw).unwrap()).collect();
    server.signal(rustix::process::Signal::CONT);
    watcher.stats_until("all to be accepted", |stats| stats["accepted"] == 301);
    for client in &mut clients {
        std::io::Write::write_all(client, b"x").unwrap();
        let mut byte = [0];
        client.read_exact(&mut byte).unwrap();
        assert_eq!(byte, *b"x");
    }
    server.answers();
}
