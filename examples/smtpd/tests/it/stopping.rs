//! How the server ends, and how it is told of new certificates and passwords without ending.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::TcpStream;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::Command;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use integration_tests::{Certificates, DEADLINE};
use rustix::process::Signal;

use crate::program::{Client, Program, run, until};

#[test]
fn a_message_in_flight_is_finished_when_the_server_is_told_to_stop() {
    let mut program = Program::start(&[]);
    let mut idle = program.client();
    let mut busy = program.client();
    busy.ask("HELO client.example", "250 ");
    busy.ask("MAIL FROM:<from@example.org>", "250 ");
    busy.ask("RCPT TO:<to@example.org>", "250 ");
    busy.ask("DATA", "354 ");
    busy.send("Subject: half\r\n");
    program.signal(Signal::TERM);
    assert!(idle.rest().starts_with("421 4.3.2 "));
    busy.send("\r\nwhole\r\n.\r\n");
    busy.expect("250 2.0.0 ");
    assert!(busy.rest().starts_with("421 4.3.2 "));
    assert!(program.wait().success());
    assert_eq!(program.messages(), [b"Subject: half\r\n\r\nwhole\r\n"]);
}

#[test]
fn who_does_not_finish_is_not_waited_for_longer_than_was_said() {
    let mut program = Program::start(&["--stop-time=300ms"]);
    let mut busy = program.client();
    busy.ask("HELO client.example", "250 ");
    busy.ask("MAIL FROM:<from@example.org>", "250 ");
    busy.ask("RCPT TO:<to@example.org>", "250 ");
    busy.ask("DATA", "354 ");
    busy.send("Subject: half\r\n");
    assert!(program.stop().success());
    assert_eq!(program.kept_in("Maildir/new").len() + program.kept_in("Maildir/tmp").len(), 0);
}

#[test]
fn its_page_ends_with_it() {
    let mut program = Program::start(&["--sink"]);
    let mut events = Client::connect(program.web());
    events.send("GET /api/events HTTP/1.1\r\nHost: localhost\r\n\r\n");
    events.expect("HTTP/1.1 200 ");
    assert!(program.stop().success());
    events.rest();
}

#[test]
fn a_unix_socket_goes_with_the_server_and_a_stale_one_is_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("smtp.sock");
    drop(UnixListener::bind(&path).unwrap());
    assert!(path.exists());
    let mut program = Program::start_in(folder, &["--sink", "--listen=./smtp.sock"]);
    drop(UnixStream::connect(&path).unwrap());
    assert!(program.stop().success());
    assert!(!path.exists());
}

#[test]
fn passwords_are_read_again_when_it_is_told_to() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("passwords");
    let set = |password: &str| {
        let mut hash = Command::new(env!("CARGO_BIN_EXE_smtpd"));
        // Of a file, the first line.
        let input = format!("{password}\nnot this\n");
        fs::write(&file, run(hash.args(["hash-password", "me"]), input.as_bytes()).stdout).unwrap();
    };
    set("old");
    let auth = format!("--auth-file={}", file.display());
    let program = Program::start_in(folder, &["--sink", "--auth-in-clear", &auth]);
    let login = |password: &str, expected: &str| {
        let mut client = program.client();
        client.ask("EHLO client.example", "250-");
        let answer = BASE64_STANDARD.encode(format!("\0me\0{password}"));
        client.ask(&format!("AUTH PLAIN {answer}"), expected);
    };
    login("old", "235 2.7.0 ");
    set("new");
    program.signal(Signal::HUP);
    until("the new password", || program.log().contains("read again").then_some(()));
    login("new", "235 2.7.0 ");
    login("old", "535 5.7.8 ");
    // What cannot be read changes nothing.
    fs::write(&file, "nonsense").unwrap();
    program.signal(Signal::HUP);
    until("the complaint", || program.log().contains("stay as they were").then_some(()));
    login("new", "235 2.7.0 ");
}

#[test]
fn the_certificate_is_read_again_when_it_is_told_to() {
    let certificates = Certificates::new();
    let install = |name: &str, folder: &Path| {
        drop(certificates.identity(name));
        for what in ["chain.pem", "key.pem"] {
            fs::copy(certificates.root().with_file_name(format!("{name}.{what}")), folder.join(what))
                .unwrap();
        }
    };
    let folder = tempfile::tempdir().unwrap();
    install("old.example", folder.path());
    let options = ["--sink", "--tls-cert=chain.pem", "--tls-key=key.pem", "--smtps=127.0.0.1:0"];
    let program = Program::start_in(folder, &options);
    let is_called = |name: &str| {
        let stream = TcpStream::connect(program.address(1)).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        let mut greeting = String::new();
        let read = BufReader::new(certificates.blocking(stream, name)).read_line(&mut greeting);
        read.is_ok() && greeting.starts_with("220 ")
    };
    assert!(is_called("old.example") && !is_called("new.example"));
    install("new.example", program.folder());
    program.signal(Signal::HUP);
    until("the new certificate", || program.log().contains("certificate read again").then_some(()));
    assert!(is_called("new.example") && !is_called("old.example"));
    // What cannot be read changes nothing.
    fs::write(program.folder().join("chain.pem"), "nonsense").unwrap();
    program.signal(Signal::HUP);
    until("the complaint", || program.log().contains("the certificate stays as it was").then_some(()));
    assert!(is_called("new.example"));
}
