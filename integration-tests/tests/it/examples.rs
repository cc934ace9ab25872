//! Every example is run as the program that it is: how it starts, how it speaks of itself, and how it ends.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use integration_tests::{DEADLINE, Peer};
use rustix::process::{Pid, Signal, kill_process};

/// Those that live in another loop need a poller that has a descriptor.
#[cfg(not(polling_test_poll_backend))]
const SERVERS: [&str; 8] = [
    "echo_server",
    "raw_echo_server",
    "chat_room",
    "kv_server",
    "tcp_proxy",
    "http_proxy",
    "in_tokio",
    "in_calloop",
];

#[cfg(polling_test_poll_backend)]
const SERVERS: [&str; 6] =
    ["echo_server", "raw_echo_server", "chat_room", "kv_server", "tcp_proxy", "http_proxy"];

/// Those that are no servers.
const CLIENTS: [&str; 3] = ["http_get", "telnet", "pop3_probe"];

#[test]
fn each_program_explains_itself() {
    for name in SERVERS.iter().chain(&CLIENTS) {
        let help = command(name, &["--help"]).output().expect("the program to run");
        let text = String::from_utf8(help.stdout).expect("text");
        assert!(help.status.success(), "{name}: {:?}", help.status);
        assert!(text.contains("Usage:") && text.contains("--verbose"), "{name}: {text}");
    }
}

#[test]
fn each_program_refuses_an_option_that_it_does_not_know() {
    for name in SERVERS.iter().chain(&CLIENTS) {
        let refused = command(name, &["--bogus"]).output().expect("the program to run");
        let text = String::from_utf8(refused.stderr).expect("text");
        assert_eq!(refused.status.code(), Some(2), "{name}: {text}");
        assert!(text.starts_with("error: ") && text.contains("'--bogus'"), "{name}: {text}");
        assert!(text.contains("try '--help'"), "{name}: {text}");
        assert_eq!(refused.stdout, b"", "{name}");
    }
}

#[test]
fn the_log_is_as_the_option_says_unless_rust_log_says_otherwise() {
    for name in SERVERS {
        let log = |option: &str, asked: Option<&str>| {
            let mut command = with_free_ports(name, "127.0.0.1:0");
            let mut server = Program::start(
                command.arg(option).envs(asked.map(|asked| ("RUST_LOG", asked))).stderr(Stdio::piped()),
            );
            server.address();
            server.signal(Signal::TERM);
            let mut text = String::new();
            let mut errors = server.child.stderr.take().expect("a pipe");
            errors.read_to_string(&mut text).expect("text");
            assert!(server.wait().success(), "{name}: {text}");
            text
        };
        let text = log("-v", None);
        assert!(text.contains("asyncore::listener") && !text.contains("asyncore::map"), "{name}: {text}");
        let text = log("-vv", None);
        assert!(text.contains("asyncore::listener") && text.contains("asyncore::map"), "{name}: {text}");
        assert_eq!(log("-vv", Some("warn")), "", "{name}");
        let text = log("--verbose", Some("warn,asyncore::map=debug"));
        assert!(!text.contains("asyncore::listener") && text.contains("asyncore::map"), "{name}: {text}");
    }
}

#[test]
fn each_server_tells_every_address_that_it_listens_on_and_nothing_else() {
    for name in SERVERS {
        let mut server = Program::serve(name);
        let has_page = name == "chat_room";
        TcpStream::connect(server.address()).expect("a connection");
        if has_page {
            let page = server.address();
            TcpStream::connect(page).expect("a connection");
            let line = server.lines.recv_timeout(DEADLINE).expect("a line for the browser");
            assert_eq!(line, format!("for browsers: http://{page}/"));
        }
        server.signal(Signal::TERM);
        assert!(server.wait().success(), "{name}");
        assert_eq!(server.lines.recv().ok(), None, "{name} says more");
    }
}

#[test]
fn each_server_ends_well_when_interrupted_or_told_to_terminate() {
    for name in SERVERS {
        for signal in [Signal::INT, Signal::TERM] {
            let mut server = Program::serve(name);
            let mut idle = Peer::connect(&server.address().into());
            server.signal(signal);
            // It hears the end; the proxy's is reset, for nobody answers on its other side.
            drop(idle.read_to_end(&mut Vec::new()));
            drop(idle);
            assert_eq!(server.wait().code(), Some(0), "{name} after {signal:?}");
        }
    }
}

#[test]
fn an_address_in_use_is_told_and_ends_the_program() {
    let first = Program::serve("echo_server");
    let address = first.address().to_string();
    let second = command("echo_server", &["--listen", &address]).output().expect("the program to run");
    assert_eq!(second.status.code(), Some(1));
    let text = String::from_utf8(second.stderr).expect("text");
    assert!(text.starts_with("error: cannot listen on ") && text.contains(&address), "{text}");
    assert_eq!(second.stdout, b"");
}

#[cfg(target_os = "linux")]
#[test]
fn a_server_whose_output_and_log_are_full_serves_all_the_same() {
    let full = || File::options().write(true).open("/dev/full").expect("a full device");
    for name in SERVERS {
        let address = free_address();
        let child = with_free_ports(name, &address.to_string())
            .env("RUST_LOG", "trace")
            .stdout(full())
            .stderr(full())
            .spawn()
            .expect("the program to run");
        let mut server = Program { child, lines: channel().1 };
        let began = Instant::now();
        while TcpStream::connect(address).is_err() {
            assert!(began.elapsed() < DEADLINE, "{name} does not serve");
            thread::sleep(Duration::from_millis(5));
        }
        server.signal(Signal::INT);
        assert_eq!(server.wait().code(), Some(0), "{name}");
    }
}

#[test]
fn both_echoes_take_either_line_end_however_the_packets_are_cut_and_answer_with_crlf() {
    for name in ["echo_server", "raw_echo_server"] {
        let server = Program::serve(name);
        let mut peer = Peer::connect(&server.address().into());
        for piece in ["one\r\ntwo\nth", "ree\r", "\n\n", "a\rb\r\r\n", "last\n"] {
            peer.send(piece.as_bytes());
        }
        let expected = b"one\r\ntwo\r\nthree\r\n\r\na\rb\r\r\nlast\r\n";
        assert_eq!(
            peer.read_bytes(expected.len()).escape_ascii().to_string(),
            expected.escape_ascii().to_string()
        );
        peer.send(b"no end");
        peer.shutdown_write();
        assert_eq!(peer.read_rest(), b"", "{name}: a line without an end is no line");
    }
}

#[test]
fn both_echoes_close_on_a_line_that_is_too_long() {
    for name in ["echo_server", "raw_echo_server"] {
        let server = Program::serve(name);
        let mut peer = Peer::connect(&server.address().into());
        // It may close before all is sent, and resets what comes late.
        drop(std::io::Write::write_all(&mut peer, &[b'x'; 100_000]));
        let mut echoed = Vec::new();
        drop(peer.read_to_end(&mut echoed));
        assert_eq!(echoed, b"", "{name}");
    }
}

#[test]
fn both_echoes_wait_for_a_peer_that_does_not_take_its_answers() {
    for name in ["echo_server", "raw_echo_server"] {
        let server = Program::serve(name);
        let mut peer = Peer::connect(&server.address().into());
        peer.set_nonblocking();
        let line = [&[b'x'; 1023][..], b"\n"].concat();
        let (mut sent, mut stuck_since) = (0, Instant::now());
        // Until everything between the two is full: nothing moved for a while, or enough has.
        while stuck_since.elapsed() < Duration::from_millis(300) && sent < 64 << 20 {
            match std::io::Write::write(&mut peer, &line[sent % line.len()..]) {
                Ok(written) => (sent, stuck_since) = (sent + written, Instant::now()),
                Err(error) => {
                    assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock, "{name} closed");
                    thread::yield_now();
                }
            }
        }
        assert!(sent < 64 << 20, "{name} takes everything in");
        let lines = sent / line.len();
        let mut received = 0;
        let began = Instant::now();
        let mut room = vec![0; 64 << 10];
        while received < lines * (line.len() + 1) {
            assert!(began.elapsed() < DEADLINE, "{name}: {received} bytes came back of {sent}");
            match peer.read(&mut room) {
                Ok(0) => panic!("{name} closed"),
                Ok(read) => received += read,
                Err(_) => thread::yield_now(),
            }
        }
    }
}

/// A program under test, killed when the test is over.
pub(crate) struct Program {
    child: Child,
    /// What it prints.
    pub(crate) lines: Receiver<String>,
}

impl Program {
    /// Starts a server on free ports.
    pub(crate) fn serve(name: &str) -> Self {
        Self::start(&mut with_free_ports(name, "127.0.0.1:0"))
    }

    /// Starts a program, and reads what it prints.
    pub(crate) fn start(command: &mut Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).spawn().expect("the program to run");
        let output = child.stdout.take().expect("a pipe");
        let (sender, lines) = channel();
        thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        Self { child, lines }
    }

    /// The next address that it says it listens on.
    pub(crate) fn address(&self) -> SocketAddr {
        let line = self.lines.recv_timeout(DEADLINE).expect("a line before the deadline");
        let address = line.strip_prefix("listening on ");
        address.and_then(|address| address.parse().ok()).unwrap_or_else(|| panic!("no address in {line:?}"))
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("the program to be there");
    }

    /// How the program has ended, if it has.
    pub(crate) fn try_wait(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("a child")
    }

    /// Waits until the program ends by itself.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        let began = Instant::now();
        loop {
            if let Some(status) = self.try_wait() {
                return status;
            }
            assert!(began.elapsed() < DEADLINE, "the program does not end");
            thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// An example's program, as the workspace's tests build it.
pub(crate) fn command(name: &str, arguments: &[&str]) -> Command {
    let test = std::env::current_exe().expect("the test's own path");
    let folder = test.ancestors().nth(2).expect("a target folder").join("examples");
    let program: PathBuf = folder.join(name);
    assert!(
        program.exists(),
        "{} is missing: `cargo test --workspace` or `cargo build --examples` builds it",
        program.display()
    );
    let mut command = Command::new(program);
    command.args(arguments).env_remove("RUST_LOG").stdin(Stdio::null());
    command
}

fn with_free_ports(name: &str, listen: &str) -> Command {
    let mut command = command(name, &["--listen", listen]);
    match name {
        "chat_room" => command.args(["--status", "127.0.0.1:0"]),
        "tcp_proxy" => command.args(["--to", "127.0.0.1:1"]),
        _ => &mut command,
    };
    command
}

#[cfg(target_os = "linux")]
fn free_address() -> SocketAddr {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a listener");
    listener.local_addr().expect("an address")
}
