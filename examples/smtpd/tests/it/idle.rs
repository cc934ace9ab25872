//! Ten thousand sessions that do nothing, and one that works.

use std::io::Read;
use std::net::TcpStream;

use integration_tests::DEADLINE;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::program::Program;

#[test]
fn ten_thousand_idle_sessions_do_not_harm_the_one_that_works() {
    let maximum = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).unwrap();
    let room = maximum.map_or(usize::MAX, |most| usize::try_from(most).unwrap_or(usize::MAX));
    let sessions = SESSIONS.min(room.saturating_sub(DESCRIPTORS_FOR_THE_REST));
    if sessions < SESSIONS {
        eprintln!(
            "{sessions} sessions instead of {SESSIONS}: the system has no more descriptors for a process"
        );
    }
    let program = Program::start(&["--sessions-per-address=20000", "--sessions=20000"]);
    let mut idle: Vec<TcpStream> = (0..sessions)
        .map(|_| {
            let mut stream = TcpStream::connect(program.smtp()).unwrap();
            stream.set_read_timeout(Some(DEADLINE)).unwrap();
            let mut greeting = [0; 4];
            stream.read_exact(&mut greeting).unwrap();
            assert_eq!(&greeting, b"220 ");
            stream
        })
        .collect();
    let mut client = program.client();
    client.ask("EHLO client.example", "250-");
    for number in 0..MESSAGES {
        let reply = client.deliver(&format!("Subject: {number}\r\n\r\ntext\r\n"));
        assert!(reply.starts_with("250 2."), "{reply}");
    }
    assert_eq!(program.messages().len(), MESSAGES);
    println!("{} kB in memory for {sessions} idle sessions", program.resident());
    // None of them was ended meanwhile.
    for stream in &mut idle {
        stream.set_nonblocking(true).unwrap();
        let more = std::io::copy(&mut stream.take(512), &mut std::io::sink());
        assert!(more.is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock));
    }
}

/// Idle sessions: 10,000.
const SESSIONS: usize = 10_000;

/// Descriptors of the test and of the server that are no idle session.
const DESCRIPTORS_FOR_THE_REST: usize = 500;

/// Messages of the one that works.
const MESSAGES: usize = 50;
