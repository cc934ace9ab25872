//! kill -9 under load: what was acknowledged is there, whole, and nothing is there by halves.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::mpsc::{self, Sender};
use std::thread::{self, JoinHandle};

use integration_tests::DEADLINE;

use crate::program::{Program, below_the_trace};

#[test]
fn a_killed_server_has_every_message_that_it_acknowledged_and_no_half() {
    let rounds =
        std::env::var("SMTPD_KILL_ROUNDS").map_or(ROUNDS, |rounds| rounds.parse().expect("a number"));
    let mut folder = tempfile::tempdir().unwrap();
    let mut acknowledged = BTreeSet::new();
    for round in 0..rounds {
        let program = Program::start_in(folder, &["--no-http", "--sessions-per-address=1000"]);
        let (tell, told) = mpsc::channel();
        let senders: Vec<_> =
            (0..SESSIONS).map(|sender| send(program.smtp(), round, sender, tell.clone())).collect();
        drop(tell);
        // The moment is another in each round: behind any acknowledgement, with the other sessions wherever they are.
        for _ in 0..fastrand::usize(1..MOST_BEFORE) {
            acknowledged.insert(told.recv_timeout(DEADLINE).expect("an acknowledgement"));
        }
        folder = program.kill();
        acknowledged.extend(told);
        senders.into_iter().for_each(|sender| sender.join().unwrap());

        let kept = crate::program::files(&folder.path().join("Maildir/new"));
        let kept: Vec<_> = kept.iter().map(|file| std::fs::read(file).unwrap()).collect();
        let names: BTreeSet<_> = kept.iter().map(|message| whole(below_the_trace(message))).collect();
        let lost: Vec<_> = acknowledged.difference(&names).collect();
        assert!(lost.is_empty(), "lost in round {round}: {lost:?}");
    }
    println!("{} messages were acknowledged in {rounds} rounds, and none was lost", acknowledged.len());
}

/// A session that sends one message after the other, and tells of each that was acknowledged, until the server is gone.
fn send(at: SocketAddr, round: usize, sender: usize, tell: Sender<String>) -> JoinHandle<()> {
    thread::spawn(move || {
        let session = || -> std::io::Result<()> {
            let mut stream = BufReader::new(TcpStream::connect(at)?);
            stream.get_ref().set_read_timeout(Some(DEADLINE))?;
            let mut ask = |said: &str, code: &str| -> std::io::Result<()> {
                stream.get_mut().write_all(said.as_bytes())?;
                let mut reply = String::new();
                stream.read_line(&mut reply)?;
                if reply.starts_with(code) && reply.ends_with('\n') {
                    Ok(())
                } else {
                    Err(std::io::ErrorKind::Other.into())
                }
            };
            ask("", "220 ")?;
            ask("HELO client.example\r\n", "250 ")?;
            for number in 0.. {
                let name = format!("{round}.{sender}.{number}");
                ask("MAIL FROM:<from@example.org>\r\n", "250 ")?;
                ask("RCPT TO:<to@example.org>\r\n", "250 ")?;
                ask("DATA\r\n", "354 ")?;
                ask(&text(&name), "250 ")?;
                drop(tell.send(name));
            }
            Ok(())
        };
        // It ends with the server's death.
        drop(session());
    })
}

/// A message on the wire, up to its dot: of a size that goes with its name, some beyond what is written at once.
fn text(name: &str) -> String {
    let lines = name.bytes().map(usize::from).sum::<usize>() * 37 % 3000;
    let filling = format!("{name} {}\r\n", "x".repeat(60)).repeat(lines);
    format!("Subject: {name}\r\n\r\n{filling}.\r\n")
}

/// The name of a message, which must be all there.
fn whole(message: &[u8]) -> String {
    let message = String::from_utf8(message.to_vec()).unwrap();
    let (name, _) = message
        .as_str()
        .strip_prefix("Subject: ")
        .unwrap_or_else(|| panic!("{message:?}"))
        .split_once("\r\n")
        .unwrap();
    assert_eq!(format!("{message}.\r\n"), text(name), "not as it was sent");
    name.to_owned()
}

/// How often it is killed: 3 times; `SMTPD_KILL_ROUNDS` says otherwise.
const ROUNDS: usize = 3;

/// Sessions at a time: 20, so that rounds of the committer hold several messages.
const SESSIONS: usize = 20;

/// Before this many acknowledgements the server is killed.
const MOST_BEFORE: usize = 120;
