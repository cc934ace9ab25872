//! Listeners that a program is started with, as a service manager does it: `LISTEN_FDS` and descriptors from 3 on.

use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::process::{Command, Stdio};

use integration_tests::Peer;
use rustix::process::Signal;

use crate::examples::{Program, command};

/// The echo server, which a shell starts with its own input as the descriptors from 3 on.
fn activated(listener: impl Into<OwnedFd>, descriptors: &str, count: u32, pid: &str) -> Command {
    let program = command("echo_server", &[]);
    let script = format!(r#"exec {descriptors} 0</dev/null; LISTEN_PID={pid} LISTEN_FDS={count} exec "$@""#);
    let mut shell = Command::new("sh");
    shell.args(["-c", &script, "sh"]).arg(program.get_program()).args(["--listen", "127.0.0.1:0"]);
    shell.env_remove("RUST_LOG").stdin(Stdio::from(listener.into()));
    shell
}

fn echoes(peer: &mut Peer) {
    peer.send(b"hello\n");
    assert_eq!(peer.read_bytes(7), b"hello\r\n");
}

#[test]
fn a_server_serves_the_listener_that_it_is_given() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    // One that came before the program was there is served too.
    let mut early = Peer::connect(&address.into());
    let mut server = Program::start(&mut activated(listener, "3<&0", 1, "$$"));
    assert_eq!(server.address(), address);
    echoes(&mut early);
    echoes(&mut Peer::connect(&address.into()));
    drop(early);
    server.signal(Signal::TERM);
    assert!(server.wait().success());
}

#[test]
fn it_may_be_given_several_and_paths_too() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    let listener = UnixListener::bind(&path).unwrap();
    let server = Program::start(&mut activated(listener, "3<&0 4<&0", 2, "$$"));
    for _ in 0..2 {
        let line = server.lines.recv_timeout(integration_tests::DEADLINE).unwrap();
        assert_eq!(line, format!("listening on unix:{}", path.display()));
    }
    echoes(&mut Peer::connect(&path.as_path().into()));
}

#[test]
fn what_is_meant_for_another_process_is_left_alone() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let server = Program::start(&mut activated(listener, "3<&0", 1, "1"));
    let own = server.address();
    assert_ne!(own, address);
    echoes(&mut Peer::connect(&own.into()));
}

#[test]
fn what_does_not_listen_is_an_error_that_says_which() {
    let not_listening: [OwnedFd; 4] = [
        std::fs::File::open("/dev/null").unwrap().into(),
        UnixStream::pair().unwrap().0.into(),
        UnixDatagram::unbound().unwrap().into(),
        std::net::UdpSocket::bind("127.0.0.1:0").unwrap().into(),
    ];
    for descriptor in not_listening {
        let output = activated(descriptor, "3<&0", 1, "$$").output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(text, "error: descriptor 1 of LISTEN_FDS does not listen\n");
    }
}
