//! That the options are what sessions are held to, and who may connect and send at all.

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;

use integration_tests::DEADLINE;

use crate::program::{Client, Program};

/// Where a server listens that has one listener on loopback and one for everybody.
fn open_address(program: &Program) -> SocketAddr {
    program.address(1).parse().unwrap()
}

#[test]
fn sessions_are_bounded_in_total_and_off_loopback_by_address() {
    let bounds = ["--sink", "--sessions=2", "--sessions-per-address=1", "--listen=0.0.0.0:0"];
    let program = Program::start(&bounds);
    let here = [program.client(), program.client()];
    assert!(Client::connect(program.smtp()).rest().starts_with("421 4.7.0 "), "the total of loopback is 2");
    let mut there = Client::connect(open_address(&program));
    there.expect("220 ");
    assert!(Client::connect(open_address(&program)).rest().starts_with("421 4.7.0 "), "one an address");
    drop(here);
    there.ask("NOOP", "250 ");
}

#[test]
fn sessions_are_held_to_the_options() {
    let message =
        |text: &str| format!("HELO a\r\nMAIL FROM:<a@b>\r\nRCPT TO:<a@b>\r\nDATA\r\n{text}\r\n.\r\n");
    for (option, input, expected) in [
        ("--hostname=mx.example", "HELO a\r\n".to_owned(), "250 mx.example\r\n"),
        ("--errors=1", "BAD\r\nNOOP\r\n".to_owned(), "BAD\r\n421 4.7.0 "),
        (
            "--recipients=1",
            "HELO a\r\nMAIL FROM:<>\r\nRCPT TO:<a@b>\r\nRCPT TO:<c@d>\r\n".to_owned(),
            "452 4.5.3 ",
        ),
        ("--message-limit=5", message("text"), "552 5.3.4 "),
        ("--message-limit=6", message("text"), "250 2.0.0 Accepted"),
        ("--text-line-limit=5", message("text"), "554 5.6.0 "),
        ("--text-line-limit=6", message("text"), "250 2.0.0 Accepted"),
        ("--bare=refuse", message("te\nxt"), "550 5.5.2 "),
        ("--bare=keep", message("te\nxt"), "250 2.0.0 Accepted"),
        ("--idle-time=50ms", "NOOP\r\n".to_owned(), "421 4.4.2 Idle "),
        ("--total-time=50ms", "NOOP\r\n".to_owned(), "421 4.4.2 The time "),
    ] {
        let program = Program::start(&["--sink", option]);
        let mut client = Client::connect(program.smtp());
        client.send(input);
        let mut replies = String::new();
        while !replies.contains(expected) {
            let reply = client.reply();
            assert!(!reply.is_empty(), "{option}: {replies}");
            replies += &reply;
        }
    }
}

#[test]
fn a_relay_that_others_reach_takes_mail_from_whom_it_is_told_to_alone() {
    for (allowed, expected) in [("192.0.2.0/24", "530 5.7.0 "), ("127.0.0.0/8", "250 ")] {
        let options = ["--relay=127.0.0.1:1", "--listen=0.0.0.0:0", "--allow-from", allowed];
        let program = Program::start(&options);
        for at in [program.smtp(), open_address(&program)] {
            let mut client = Client::connect(at);
            client.expect("220 ");
            client.ask("HELO a", "250 ");
            client.ask("MAIL FROM:<a@b>", expected);
        }
    }
}

#[test]
fn a_proxy_is_one_that_was_named() {
    for (from, greeting) in [("192.0.2.1", ""), ("127.0.0.1", "220 ")] {
        let program = Program::start(&["--sink", "--proxy-protocol", "--proxy-from", from]);
        let mut client = Client::connect(program.smtp());
        client.send("PROXY UNKNOWN\r\nQUIT\r\n");
        let heard = client.try_reply().unwrap_or_default();
        assert!(heard.starts_with(greeting) && heard.is_empty() == greeting.is_empty(), "{from}: {heard:?}");
    }
    // Who reaches a Unix socket was let in by its folder.
    let listen = ["--sink", "--proxy-protocol", "--proxy-from=192.0.2.1", "--listen=./proxy.sock"];
    let program = Program::start(&listen);
    let mut stream = UnixStream::connect(program.folder().join("proxy.sock")).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream.write_all(b"PROXY UNKNOWN\r\nQUIT\r\n").unwrap();
    let mut heard = String::new();
    stream.read_to_string(&mut heard).unwrap();
    assert!(heard.starts_with("220 "), "{heard:?}");
}
