//! `--exec` and `--debug`: messages for a command, and for the eye.

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use crate::program::{Client, Program, until};

fn greeted(program: &Program) -> Client {
    let mut client = program.client();
    client.ask("EHLO laptop.example", "250");
    client
}

#[test]
fn a_command_has_the_message_on_its_input_and_the_envelope_in_its_environment() {
    let program = Program::start(&[
        "--exec",
        "cat >got; printf '%s|%s|%s|%s|%s' \"$SENDER\" \"$RECIPIENT\" \"$RECIPIENTS\" \"$CLIENT_ADDRESS\" \
         \"$CLIENT_HELO\" >envelope",
    ]);
    let mut client = greeted(&program);
    client.ask("MAIL FROM:<from@example.org>", "250");
    client.ask("RCPT TO:<\"$(touch out)\"@example.org>", "250");
    client.ask("RCPT TO:<b@example.org>", "250");
    client.ask("DATA", "354");
    client.send("Subject: a\r\n\r\n..\r\n.\r\n");
    client.expect("250 2.0.0");
    let got = fs::read_to_string(program.folder().join("got")).unwrap();
    assert!(got.starts_with("Return-Path: <from@example.org>\r\nReceived: from laptop.example "), "{got}");
    assert!(got.ends_with("\r\nSubject: a\r\n\r\n.\r\n"), "{got}");
    assert_eq!(
        fs::read_to_string(program.folder().join("envelope")).unwrap(),
        "from@example.org|\"$(touch out)\"@example.org|\"$(touch out)\"@example.org\nb@example.org|127.0.0.1|laptop.example"
    );
    assert!(!program.folder().join("out").exists(), "an address is no command");
}

/// The system starts no program with more in one variable than 128 KiB.
#[test]
fn a_command_is_given_as_many_recipients_as_the_system_takes_and_more_are_refused_for_good() {
    let program = Program::start(&["--exec", "printf '%s' \"$RECIPIENTS\" | wc -l >lines"]);
    let mut client = greeted(&program);
    // Of 254 bytes each, the longest there may be.
    for (count, reply) in [(481, "250 2.0.0"), (482, "554 5.5.3")] {
        client.ask("MAIL FROM:<from@example.org>", "250");
        for number in 0..count {
            client.ask(&format!("RCPT TO:<{number:0>242}@example.org>"), "250");
        }
        client.ask("DATA", "354");
        client.ask(".", reply);
        let lines = fs::read_to_string(program.folder().join("lines")).unwrap();
        assert_eq!(lines.trim(), "480", "of {count}");
    }
}

#[test]
fn the_exit_of_a_command_is_the_reply() {
    for (command, reply) in [
        ("true", "250 2.0.0"),
        ("exit 75", "451 4.3.0"),
        ("kill -9 $$", "451 4.3.0"),
        ("there-is-no-such-command", "451 4.3.0"),
        ("echo no such user >&2; exit 67", "554 5.3.0 no such user\r\n"),
        ("printf '\\033[31mred\\nmore' >&2; exit 1", "554 5.3.0 ?[31mred\r\n"),
        ("yes | head -c 1000000 >&2; exit 65", "554 5.3.0 y\r\n"),
    ] {
        let program = Program::start(&["--exec", command]);
        let got = greeted(&program).deliver("Subject: a\r\n");
        assert!(got.starts_with(reply), "{command}: {got}");
    }
}

#[test]
fn a_large_message_comes_whole_and_more_than_may_run_wait() {
    let program = Program::start(&["--exec", "wc -c >>sizes"]);
    let text = "a line of text\r\n".repeat(100_000);
    let mut clients: Vec<_> = (0..10).map(|_| greeted(&program)).collect();
    for client in &mut clients {
        client.ask("MAIL FROM:<from@example.org>", "250");
        client.ask("RCPT TO:<to@example.org>", "250");
        client.ask("DATA", "354");
        client.send(&text);
    }
    clients.iter_mut().for_each(|client| client.send(".\r\n"));
    for client in &mut clients {
        client.expect("250");
    }
    let sizes = fs::read_to_string(program.folder().join("sizes")).unwrap();
    assert_eq!(sizes.lines().count(), 10);
    assert!(sizes.lines().all(|size| size.trim().parse::<usize>().unwrap() > text.len()), "{sizes}");
}

#[test]
fn a_command_ends_with_the_server_and_so_does_what_it_has_started() {
    let mut program = Program::start(&["--exec", "sleep 1000 & echo $! >one; echo $$ >two; sleep 1000"]);
    let mut client = greeted(&program);
    client.ask("MAIL FROM:<from@example.org>", "250");
    client.ask("RCPT TO:<to@example.org>", "250");
    client.ask("DATA", "354");
    client.send("Subject: a\r\n.\r\n");
    let pids = ["one", "two"].map(|name| {
        until("the command to start", || {
            fs::read_to_string(program.folder().join(name)).ok().filter(|pid| pid.ends_with('\n'))
        })
    });
    assert!(program.stop().success());
    client.expect("451 4.3.0");
    for pid in pids {
        let stat = format!("/proc/{}/stat", pid.trim());
        until("the command to end", || {
            // Whoever inherits it may not have looked after it yet.
            fs::read_to_string(&stat).map_or(true, |stat| stat.contains(") Z ")).then_some(())
        });
    }
}

#[test]
fn a_message_is_printed_between_two_lines() {
    let mut program = Program::start(&["--debug"]);
    assert!(greeted(&program).deliver("Subject: a\r\n\r\n\x1b[31mred\r\n").starts_with("250 2.0.0"));
    for line in [
        "---------- MESSAGE FOLLOWS ----------",
        "Subject: a",
        "X-Peer: 127.0.0.1",
        "",
        "\\x1b[31mred",
        "------------ END MESSAGE ------------",
    ] {
        assert_eq!(program.line(), line);
    }
}

#[test]
fn an_output_that_nobody_reads_holds_up_no_other_session() {
    let program = Program::start(&["--debug"]);
    let mut stuck = greeted(&program);
    stuck.ask("MAIL FROM:<from@example.org>", "250");
    stuck.ask("RCPT TO:<to@example.org>", "250");
    stuck.ask("DATA", "354");
    // More than a pipe holds.
    stuck.send("a line of text\r\n".repeat(100_000) + ".\r\n");
    let mut other = greeted(&program);
    other.ask("NOOP", "250");
    other.ask("QUIT", "221");
}

#[test]
fn a_closed_output_is_an_error_of_the_message_alone() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_smtpd"));
    command.args(["--listen=127.0.0.1:0", "--no-http", "--debug"]).current_dir(folder.path());
    let mut child =
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let mut client = Client::connect(line.trim_end().strip_prefix("listening on ").unwrap().parse().unwrap());
    client.expect("220");
    client.ask("EHLO laptop.example", "250");
    assert!(client.deliver("Subject: a\r\n").starts_with("451 4.3.0"));
    client.ask("NOOP", "250");
    child.kill().unwrap();
    child.wait().unwrap();
}
