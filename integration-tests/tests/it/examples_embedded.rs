//! The examples whose map lives in another loop: tokio's, and calloop's.

use std::io::Read;
use std::thread;
use std::time::{Duration, Instant};

use integration_tests::Peer;
use rustix::process::Signal;

use crate::examples::Program;

const HOSTS: [&str; 2] = ["in_tokio", "in_calloop"];

#[test]
fn lines_come_back_at_once_and_those_for_later_by_the_hosts_own_clock() {
    for name in HOSTS {
        let server = Program::serve(name);
        let mut peer = Peer::connect(&server.address().into());
        let began = Instant::now();
        peer.send(b"later 200 second\r\nlater 100 first\r\nat once\r\nlater\r\n");
        let expected = b"at once\r\nlater\r\nfirst\r\nsecond\r\n";
        assert_eq!(peer.read_bytes(expected.len()), expected, "{name}");
        assert!(began.elapsed() >= Duration::from_millis(200), "{name} was early");
    }
}

#[test]
fn many_peers_that_talk_at_the_same_time_get_every_line_back() {
    const PEERS: usize = 16;
    const LINES: usize = 2000;
    for name in HOSTS {
        let server = Program::serve(name);
        let at = server.address();
        let peers: Vec<_> = (0..PEERS)
            .map(|number| {
                thread::spawn(move || {
                    let mut peer = Peer::connect(&at.into());
                    for round in 0..LINES / 100 {
                        let lines: String =
                            (0..100).map(|line| format!("{number} {round} {line}\r\n")).collect();
                        peer.send(lines.as_bytes());
                        assert_eq!(peer.read_bytes(lines.len()), lines.as_bytes());
                    }
                })
            })
            .collect();
        for peer in peers {
            peer.join().unwrap_or_else(|_| panic!("{name}"));
        }
    }
}

#[test]
fn a_server_that_is_interrupted_says_goodbye_and_hears_nothing_of_what_was_for_later() {
    for name in HOSTS {
        let mut server = Program::serve(name);
        let mut peer = Peer::connect(&server.address().into());
        peer.send(b"later 60000 never\r\nlast\r\n");
        assert_eq!(peer.read_bytes(6), b"last\r\n");
        server.signal(Signal::INT);
        let mut rest = Vec::new();
        peer.read_to_end(&mut rest).expect("an end");
        assert_eq!(rest, b"", "{name}");
        drop(peer);
        assert_eq!(server.wait().code(), Some(0), "{name}");
    }
}
