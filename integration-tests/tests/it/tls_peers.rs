//! TLS with peers that fail, stand still, inject, or are another implementation: OpenSSL's client, and Python's.

use std::io::{Read, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;

use asynchat::{AsyncChat, Chat, Conversation};
use asyncore::{
    Address, ChannelId, CloseReason, Error, HIGH_MARK, ListenOptions, Map, Result, State, TlsServer,
    TlsServerOptions,
};
use integration_tests::{Certificates, Log, Peer, is_installed, map, run_to_the_end, settle, turn_until};

/// Answers each line with itself; `STARTTLS`, `QUIT`, and `BIG`, which is answered with [`BIG`] bytes.
struct Echo(TlsServer);

impl Echo {
    fn chat(server: &TlsServer) -> AsyncChat<Self> {
        AsyncChat::new(Self(server.clone())).terminator(b"\r\n")
    }
}

impl Chat<Log> for Echo {
    fn found_terminator(&mut self, cx: &mut Conversation<'_, Log>, line: &[u8]) -> Result {
        cx.app.add(line.escape_ascii());
        match line {
            b"STARTTLS" => cx.start_tls(self.0.session()?)?,
            b"QUIT" => cx.close_when_done(),
            b"BIG" => drop(cx.push(vec![b'x'; BIG])),
            _ => drop(cx.push((line, b"\r\n"))),
        }
        Ok(())
    }

    fn handle_drained(&mut self, cx: &mut Conversation<'_, Log>) -> Result {
        cx.app.add("drained");
        Ok(())
    }

    fn handle_error(&mut self, cx: &mut Conversation<'_, Log>, _error: &Error) {
        cx.close();
    }

    fn handle_close(&mut self, cx: &mut Conversation<'_, Log>, reason: CloseReason) {
        cx.app.add(format_args!("close {reason:?}"));
    }
}

/// More than what counts as high, several records, and more than the system's buffers hold at once.
const BIG: usize = 12 * HIGH_MARK;

/// A listener that speaks TLS from the first byte on, and where it is.
fn served(map: &mut Map<Log>, server: &TlsServer) -> Address {
    let mut options = ListenOptions::default();
    options.tls = Some(server.clone());
    let server = server.clone();
    let listeners = map.listen_with("127.0.0.1:0", options, move |_| Echo::chat(&server)).unwrap();
    map.get(listeners[0]).unwrap().local_addr().unwrap().unwrap()
}

/// A channel whose handshake is done, and its peer.
fn under_tls(map: &mut Map<Log>, log: &mut Log) -> (ChannelId, Peer) {
    let certificates = Certificates::new();
    let server = certificates.server();
    let (peer, here) = Peer::tcp_pair();
    let id = map.add(here, Echo::chat(&server)).unwrap();
    map.start_tls(id, server.session().unwrap()).unwrap();
    let peer = thread::spawn(move || peer.under_tls(&certificates));
    turn_until(map, log, "the handshake", |_, _| peer.is_finished());
    (id, peer.join().unwrap())
}

/// The first bytes of a client.
fn hello(certificates: &Certificates) -> Vec<u8> {
    let mut hello = Vec::new();
    certificates.blocking(std::io::empty(), "localhost").conn.write_tls(&mut hello).unwrap();
    hello
}

#[test]
fn a_reset_in_mid_handshake_closes_that_channel() {
    let certificates = Certificates::new();
    let hello = hello(&certificates);
    for sent in [0, 1, hello.len() / 2, hello.len()] {
        let (mut map, mut log) = (map(), Log::new());
        let address = served(&mut map, &certificates.server());
        let mut peer = Peer::connect(&address);
        peer.send(&hello[..sent]);
        turn_until(&mut map, &mut log, "the connection", |map, _| map.len() == 2);
        settle(&mut map, &mut log);
        peer.reset();
        turn_until(&mut map, &mut log, "the close", |map, _| map.len() == 1);
        assert_eq!(log.take(), ["close Reset"], "behind {sent} bytes");
    }
}

#[test]
fn who_has_no_certificate_is_refused_where_one_is_demanded() {
    let certificates = Certificates::new();
    let mut options = TlsServerOptions::default();
    options.client_roots = Some(certificates.root());
    let server = TlsServer::with(certificates.identity("localhost"), &options).unwrap();
    let (mut map, mut log) = (map(), Log::new());
    let address = served(&mut map, &server);
    let peer = thread::spawn(move || {
        let mut peer = certificates.blocking(Peer::connect(&address), "localhost");
        // In TLS 1.3 a client hears of it when it reads.
        drop(peer.write_all(b"hello\r\n"));
        peer.read_to_end(&mut Vec::new()).unwrap_err().to_string()
    });
    turn_until(&mut map, &mut log, "the refusal", |_, _| peer.is_finished());
    assert_eq!(peer.join().unwrap(), "received fatal alert: CertificateRequired");
    turn_until(&mut map, &mut log, "the close", |map, _| map.len() == 1);
    assert_eq!(log.take(), ["close Tls"]);
}

#[test]
fn a_pause_under_tls_holds_what_came_and_loses_nothing() {
    let (mut map, mut log) = (map(), Log::new());
    let (id, mut peer) = under_tls(&mut map, &mut log);
    peer.send(b"one\r\n");
    turn_until(&mut map, &mut log, "a line", |_, log| log.has("one"));
    map.pause_reading(id);
    peer.send(b"two\r\n");
    // One record, of which the end is sent later.
    peer.send(b"three");
    settle(&mut map, &mut log);
    assert_eq!(log.take(), ["one"]);
    map.resume_reading(id);
    turn_until(&mut map, &mut log, "what was held", |_, log| log.has("two"));
    // Paused in the midst of a record that holds several lines.
    peer.send(b"\r\nfour\r\nfive\r\n");
    turn_until(&mut map, &mut log, "the rest", |_, log| log.has("five"));
    assert_eq!(log.take(), ["two", "three", "four", "five"]);
    assert_eq!(map.get(id).unwrap().bytes_in(), b"onetwothreefourfive".len() as u64 + 10, "in clear text");
}

#[test]
fn the_marks_and_the_counts_are_of_what_is_said_under_tls() {
    let (mut map, mut log) = (map(), Log::new());
    let (id, mut peer) = under_tls(&mut map, &mut log);
    peer.send(b"BIG\r\n");
    turn_until(&mut map, &mut log, "the answer to begin", |map, log| {
        log.has("BIG") && map.get(id).is_some_and(|channel| channel.queued() > 0)
    });
    let reader = thread::spawn(move || {
        let big = peer.read_bytes(BIG);
        (peer, big)
    });
    turn_until(&mut map, &mut log, "the answer", |_, _| reader.is_finished());
    let (peer, big) = reader.join().unwrap();
    assert!(big.iter().all(|byte| *byte == b'x'));
    turn_until(&mut map, &mut log, "the low mark", |_, log| log.has("drained"));
    assert_eq!(map.get(id).unwrap().bytes_out(), BIG as u64);
    assert_eq!(map.get(id).unwrap().queued(), 0);
    drop(peer);
    run_to_the_end(&mut map, &mut log);
    assert_eq!(log.take(), ["BIG", "drained", "close Eof"]);
}

/// In one segment with the command, or in one behind it, at once or later: it is dropped, or is no TLS.
#[test]
fn what_is_said_in_clear_text_behind_starttls_is_never_heard_however_it_is_cut() {
    let server = Certificates::new().server();
    let said = b"one\r\nSTARTTLS\r\nRSET\r\n";
    for cut in 0..said.len() {
        let (mut map, mut log) = (map(), Log::new());
        let (mut peer, here) = Peer::pair();
        let id = map.add(here, Echo::chat(&server)).unwrap();
        let (first, second) = said.split_at(cut);
        for part in [first, second] {
            peer.send(part);
            settle(&mut map, &mut log);
        }
        if map.is_open(id) {
            assert_eq!(map.get(id).unwrap().state(), State::Handshaking, "cut at {cut}");
            // It goes on as if nothing had been said.
            peer.send(b"QUIT\r\n");
        }
        run_to_the_end(&mut map, &mut log);
        assert_eq!(log.take(), ["one", "STARTTLS", "close Tls"], "cut at {cut}");
    }
}

/// Runs an outside client against an echo under TLS, of which it is told the address and the root: what it printed.
fn outside(input: &[u8], command: impl FnOnce(&str, &Path) -> Command) -> String {
    let certificates = Certificates::new();
    let (mut map, mut log) = (map(), Log::new());
    let address = served(&mut map, &certificates.server());
    let mut command = command(&address.to_string(), &certificates.root());
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    let child = thread::spawn(move || child.wait_with_output().unwrap());
    turn_until(&mut map, &mut log, "the client to end", |_, _| child.is_finished());
    let output = child.join().unwrap();
    assert!(output.status.success(), "{output:?}");
    turn_until(&mut map, &mut log, "the close", |map, _| map.len() == 1);
    assert_eq!(log.take().last().map(String::as_str), Some("close Local"), "{output:?}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn the_client_of_openssl_is_answered_in_both_versions() {
    if !is_installed("openssl", "version") {
        return;
    }
    for version in ["-tls1_2", "-tls1_3"] {
        let answer = outside(b"hello\r\nQUIT\r\n", |address, root| {
            let mut openssl = Command::new("openssl");
            openssl.args(["s_client", version, "-quiet", "-connect", address, "-servername", "localhost"]);
            openssl.args(["-verify_return_error", "-verify_hostname", "localhost", "-CAfile"]).arg(root);
            openssl
        });
        assert_eq!(answer, "hello\r\n", "{version}");
    }
}

#[test]
fn the_client_of_python_is_answered_and_hears_the_end() {
    if !is_installed("python3", "--version") {
        return;
    }
    let script = r"
import socket, ssl, sys
host, port = sys.argv[1].rsplit(':', 1)
for version in ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3:
    context = ssl.create_default_context(cafile=sys.argv[2])
    context.minimum_version = context.maximum_version = version
    with socket.create_connection((host, int(port))) as plain:
        with context.wrap_socket(plain, server_hostname='localhost', suppress_ragged_eofs=False) as secure:
            secure.sendall(b'hello\r\n')
            assert secure.recv(100) == b'hello\r\n'
            secure.sendall(b'QUIT\r\n')
            # Without the word for the end this would raise.
            assert secure.recv(100) == b''
            print(secure.version())
";
    let versions = outside(b"", |address, root| {
        let mut python = Command::new("python3");
        python.args(["-c", script, address]).arg(root);
        python
    });
    assert_eq!(versions, "TLSv1.2\nTLSv1.3\n");
}
