//! The servers that are compared do the same work: the same lines, the same limit, and patience with a slow reader.

#![cfg(target_os = "linux")]

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use socket2::SockRef;

#[test]
fn each_answers_whole_lines_however_they_arrive() {
    for_each_server(|server| {
        let mut peer = server.connect();
        let mut answers = BufReader::new(peer.try_clone().unwrap());
        let mut expect = |lines: &[&str]| {
            for expected in lines {
                let mut line = String::new();
                answers.read_line(&mut line).unwrap();
                assert_eq!(line, format!("{expected}{}", server.end), "{}", server.name);
            }
        };
        // An answer between two pieces: each is a read of its own.
        peer.write_all(b"one\r\ntw").unwrap();
        expect(&["one"]);
        peer.write_all(b"o\r\n\r\nthree\nfour\r").unwrap();
        expect(&["two", "", "three"]);
        peer.write_all(b"\nfive\n").unwrap();
        expect(&["four", "five"]);
    });
}

#[test]
fn each_takes_a_line_of_64_kib_and_no_longer_one() {
    for_each_server(|server| {
        let mut peer = server.connect();
        let line = "x".repeat(LINE_LIMIT);
        writeln!(peer, "{line}").unwrap();
        let mut answer = vec![0; LINE_LIMIT + server.end.len()];
        peer.read_exact(&mut answer).unwrap();
        assert!(answer == format!("{line}{}", server.end).into_bytes(), "{}", server.name);

        // It may close, and reset, before all is sent.
        drop(peer.write_all(&[b'x'; 2 * LINE_LIMIT]));
        let read = peer.read(&mut [0]);
        let is_closed = match &read {
            Ok(count) => *count == 0,
            Err(error) => error.kind() == ErrorKind::ConnectionReset,
        };
        assert!(is_closed, "{}: {read:?}", server.name);
    });
}

#[test]
fn each_waits_for_a_peer_that_does_not_read_and_loses_nothing() {
    let sent: String = (0..SLOW_LINES).map(|number| format!("{number:01000}\r\n")).collect();
    for_each_server(|server| {
        let mut peer = server.connect();
        // With a small buffer on this side the answers do not fit between the two: the server meets a socket that is full.
        SockRef::from(&peer).set_recv_buffer_size(SMALL_BUFFER).unwrap();
        // message-io keeps what comes before it has begun to serve, all of it: an answer shows that it has.
        peer.write_all(b"first\r\n").unwrap();
        let mut first = vec![0; "first".len() + server.end.len()];
        peer.read_exact(&mut first).unwrap();
        // Until nothing moves any more, or all is sent.
        peer.set_write_timeout(Some(STALL)).unwrap();
        let (mut done, before) = (0, server.peak());
        while let Some(count) = peer.write(&sent.as_bytes()[done..]).ok().filter(|count| *count > 0) {
            done += count;
        }
        let kept = server.peak() - before;
        assert!(kept < MOST_KEPT, "{} keeps {kept} bytes for a peer that does not read", server.name);
        peer.set_write_timeout(None).unwrap();
        let mut writer = peer.try_clone().unwrap();
        let expected = sent.replace("\r\n", server.end);
        let mut answers = vec![0; expected.len()];
        thread::scope(|scope| {
            scope.spawn(|| writer.write_all(&sent.as_bytes()[done..]).unwrap());
            peer.read_exact(&mut answers).unwrap();
        });
        assert!(answers == expected.into_bytes(), "{} answered with other lines", server.name);
    });
}

/// A server that runs, until it is dropped.
struct Server {
    name: &'static str,
    /// How its lines end.
    end: &'static str,
    process: Child,
    address: String,
}

impl Server {
    /// Starts a command that says where it listens.
    fn start(name: &'static str, end: &'static str, command: &mut Command) -> Self {
        let mut process = command.stdout(Stdio::piped()).spawn().unwrap();
        let output = process.stdout.take().unwrap();
        let (said, first) = mpsc::channel();
        // On a thread of its own, since nothing else ends a read of what nobody writes.
        thread::spawn(move || said.send(BufReader::new(output).lines().next()));
        let line = first.recv_timeout(PATIENCE);
        let mut server = Self { name, end, process, address: String::new() };
        let line = line.ok().flatten().and_then(Result::ok).unwrap_or_default();
        let address = line.trim_end().strip_prefix("listening on ").unwrap_or_default();
        assert!(!address.is_empty(), "{name} says {line:?}");
        server.address = address.to_owned();
        server
    }

    /// The most bytes that it has ever had in memory.
    fn peak(&self) -> usize {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        line.trim().strip_suffix(" kB").unwrap().parse::<usize>().unwrap() << 10
    }

    fn connect(&self) -> TcpStream {
        let peer = TcpStream::connect(&self.address).unwrap();
        peer.set_nodelay(true).unwrap();
        peer.set_read_timeout(Some(PATIENCE)).unwrap();
        peer
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

/// Starts the servers of the echo one after the other, those for which all is there that they need.
fn for_each_server(check: impl Fn(&Server)) {
    for (name, end) in SERVED {
        let mut command = tethered(env!("CARGO_BIN_EXE_bench"));
        check(&Server::start(name, end, command.args(["serve", name])));
    }
    let folder = tempfile::tempdir().unwrap();
    let source = |path: &str| Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    let program = folder.path().join("echo");
    let has_compiler = is_there(Command::new("cc").arg("-o").arg(&program).arg(source("c/echo.c")));
    assert!(has_compiler || std::env::var_os("CI").is_none(), "cc is not installed, or fails");
    if has_compiler {
        check(&Server::start("c", "\r\n", tethered(&program).args(["127.0.0.1", "0"])));
    }
    for (name, module, file) in PYTHON {
        let python = |words: &[&str]| {
            let mut command = tethered("python3");
            command.args(["-W", "ignore"]).args(words);
            command
        };
        if is_there(&mut python(&["-c", &format!("import {module}")])) {
            let file = source(file);
            let mut command = python(&[file.to_str().unwrap(), "127.0.0.1", "0"]);
            check(&Server::start(name, "\r\n", &mut command));
        }
    }
}

/// A program that ends with this process.
fn tethered(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bench"));
    command.arg("tethered").arg(program);
    command
}

/// Whether a command can be run, and ends well; if not, a server less is looked at.
fn is_there(command: &mut Command) -> bool {
    let is_there = command.stderr(Stdio::null()).status().is_ok_and(|status| status.success());
    if !is_there {
        eprintln!("without the server that needs {command:?}");
    }
    is_there
}

/// Those that are part of the program, and how their lines end.
const SERVED: &[(&str, &str)] = &[
    ("asynchat", "\r\n"),
    #[cfg(not(polling_test_poll_backend))]
    ("calloop", "\r\n"),
    ("message-io", "\r\n"),
    ("mio", "\r\n"),
    ("polling", "\r\n"),
    ("tokio", "\n"),
    ("tokio-tuned", "\r\n"),
];

/// Those in Python: what they are called, the module that may be missing, and the file.
const PYTHON: &[(&str, &str, &str)] = &[
    ("python-asynchat", "asynchat", "python/asynchat_echo.py"),
    ("python-asyncio", "asyncio", "python/asyncio_echo.py"),
];

/// The longest line of all of them: 64 KiB.
const LINE_LIMIT: usize = 65_536;

/// Lines of a thousand bytes for a peer that does not read: 24 MB, several times what a socket holds to be sent.
const SLOW_LINES: usize = 24_000;

/// What a peer that does not read lets the system keep for it: 64 KiB.
const SMALL_BUFFER: usize = 64 << 10;

/// What a server may keep for a peer that does not read: 8 MiB, many times its buffers. What its system keeps for it is not
/// its own, and at most some MB of the 24.
const MOST_KEPT: usize = 8 << 20;

/// How long nothing is taken from a writer before it is said to stand still.
const STALL: Duration = Duration::from_millis(300);

/// How long an answer may take: 30 s.
const PATIENCE: Duration = Duration::from_secs(30);
