//! The POP3 client example: against dovecot as it is, and on a simulated network against servers that answer badly, late
//! or not at all.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{IpAddr, Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use asyncore::testing::{Peer, Simulation};
use asyncore::{Result, SIGINT};
use integration_tests::{DEADLINE, Terminal, in_time};
use rustix::process::{Pid, Signal, getuid, kill_process};
use rustix::termios::{LocalModes, tcgetattr};

use crate::examples::command;

use pop3_probe::{Account, Failure, Report};

#[expect(dead_code, reason = "its main is the program's")]
#[path = "../../../examples/pop3_probe.rs"]
mod pop3_probe;

#[test]
fn a_real_server_is_read_whole_with_apop_and_with_a_password() {
    // Dots at line starts, lines of the server's own terminator, an empty message, and one of more than the limits with
    // returns that end no line.
    let long = "Subject: long\n\n".to_owned() + &".a line that begins\rwith a dot\n..\n.\n".repeat(20_000);
    let messages = ["Subject: dots\n\n.\n..\n...\n.text\nend\n", "subject:second\r\n\r\n", "\n", &long];
    let Some(server) = Dovecot::start(&messages) else { return };
    let sizes = messages.map(|text| text.replace("\r\n", "\n").replace('\n', "\r\n").len());
    for arguments in [&["--plain"][..], &[]] {
        let output = server.ask("secret", arguments);
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        let text = String::from_utf8(output.stdout).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 5, "{text}");
        for ((line, bytes), subject) in lines.iter().zip(sizes).zip(["dots", "second", "", "long"]) {
            let words: Vec<&str> = line.split_whitespace().collect();
            assert_eq!(words[1], bytes.to_string(), "{line}");
            assert_eq!(words.get(3).copied().unwrap_or_default(), subject, "{line}");
        }
        assert_eq!(lines[4], format!("4 messages, {} bytes fetched", sizes.iter().sum::<usize>()));
    }
    let log = server.log();
    assert!(log.contains("method=APOP") && log.contains("method=PLAIN"), "{log}");

    let output = server.ask("wrong", &[]);
    assert_eq!(output.status.code(), Some(8), "{output:?}");
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.starts_with("error: the server refused APOP: "), "{text}");
}

#[test]
fn a_terminal_asks_for_the_password_and_does_not_show_it() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let Some(mut terminal) = at_a_terminal(&listener) else { return };
    assert!(!echoes(&terminal));
    // What is rubbed out is no part of it.
    terminal.type_in(b"secrex\x7ft\n");
    let server = in_time(move || answer_all(&listener));
    assert_eq!(server, ["CAPA", "USER bob", "PASS secret", "STAT", "LIST", "UIDL", "QUIT"]);
    terminal.await_text("0 messages, 0 bytes fetched");
    assert_eq!(terminal.wait().code(), Some(0));
    let seen = String::from_utf8_lossy(terminal.seen());
    assert!(seen.starts_with("password: \r\n") && !seen.contains("sec"), "{seen}");
    assert!(echoes(&terminal));
}

#[test]
fn ctrl_c_instead_of_a_password_ends_the_program_with_the_echo_back() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let Some(mut terminal) = at_a_terminal(&listener) else { return };
    terminal.type_in(b"sec\x03");
    let status = terminal.wait();
    // It has no password when whoever started the tests has interrupts ignored.
    assert!(status.signal() == Some(SIGINT) || status.code() == Some(2), "{status}");
    assert!(echoes(&terminal));
}

#[test]
fn ctrl_d_instead_of_a_password_is_none() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let Some(mut terminal) = at_a_terminal(&listener) else { return };
    terminal.type_in(b"\x04");
    terminal.await_text("error: no password: ");
    assert_eq!(terminal.wait().code(), Some(2));
    assert!(echoes(&terminal));
}

/// The program at a terminal that has just asked.
fn at_a_terminal(listener: &TcpListener) -> Option<Terminal> {
    let port = listener.local_addr().unwrap().port().to_string();
    let mut program = command("pop3_probe", &["127.0.0.1", &port, "bob"]);
    let mut terminal = Terminal::start(program.env_remove("POP3_PASSWORD"))?;
    terminal.await_text("password: ");
    Some(terminal)
}

fn echoes(terminal: &Terminal) -> bool {
    tcgetattr(terminal.inside()).unwrap().local_modes.contains(LocalModes::ECHO)
}

/// Serves an empty mailbox to the next visitor, and returns what was asked.
fn answer_all(listener: &TcpListener) -> Vec<String> {
    let (mut visitor, _) = listener.accept().unwrap();
    visitor.write_all(b"+OK\r\n").unwrap();
    let mut asked = Vec::new();
    for line in BufReader::new(visitor.try_clone().unwrap()).lines() {
        let line = line.unwrap();
        let answer = match line.as_str() {
            "CAPA" | "UIDL" => "-ERR\r\n",
            "STAT" => "+OK 0 0\r\n",
            "LIST" => "+OK\r\n.\r\n",
            _ => "+OK\r\n",
        };
        visitor.write_all(answer.as_bytes()).unwrap();
        asked.push(line);
    }
    asked
}

/// A dovecot of our own, with a mailbox for `bob`; it ends with the value.
struct Dovecot {
    child: Child,
    port: u16,
    folder: tempfile::TempDir,
}

impl Dovecot {
    /// `None` where it is not installed; in CI that fails.
    fn start(messages: &[&str]) -> Option<Self> {
        let version = Command::new("dovecot").arg("--version").output();
        if !version.as_ref().is_ok_and(|output| output.status.success()) {
            assert!(std::env::var_os("CI").is_none(), "dovecot does not work here: {version:?}");
            eprintln!("skipped: dovecot does not work here: {version:?}");
            return None;
        }
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
        fs::write(path.join("users"), "bob:{PLAIN}secret\n").unwrap();
        let mut owned = vec![path.join("home"), path.join("home/Maildir")];
        owned.extend(["new", "cur", "tmp"].map(|name| path.join("home/Maildir").join(name)));
        for part in &owned {
            fs::create_dir(part).unwrap();
        }
        for (number, message) in messages.iter().enumerate() {
            let file = path.join(format!("home/Maildir/new/{number}.a"));
            fs::write(&file, message).unwrap();
            owned.push(file);
        }
        if getuid().is_root() {
            // It gives no mail to root.
            owned.iter().for_each(|part| chown(part, Some(NOBODY), Some(NOBODY)).unwrap());
        }
        // A port that is free now may be taken when it starts.
        let started = (0..5).find_map(|_| Self::try_start(folder.path()));
        let (child, port) = started.expect("one of five ports is free");
        Some(Self { child, port, folder })
    }

    fn try_start(path: &std::path::Path) -> Option<(Child, u16)> {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        fs::write(path.join("conf"), configuration(&path.display().to_string(), port)).unwrap();
        let mut child = Command::new("dovecot")
            .arg("-F")
            .arg("-c")
            .arg(path.join("conf"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let began = Instant::now();
        while child.try_wait().unwrap().is_none() {
            if TcpStream::connect(("127.0.0.1", port)).is_ok() {
                return Some((child, port));
            }
            assert!(began.elapsed() < DEADLINE, "dovecot does not serve");
            thread::sleep(Duration::from_millis(10));
        }
        let output = child.wait_with_output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(text.contains("Address already in use"), "dovecot does not start: {text}");
        None
    }

    fn ask(&self, password: &str, arguments: &[&str]) -> Output {
        let mut program = command("pop3_probe", &["127.0.0.1", &self.port.to_string(), "bob"]);
        let program = program.args(arguments).env_remove("POP3_PASSWORD").stdin(Stdio::piped());
        let mut child = program.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(format!("{password}\n").as_bytes()).unwrap();
        child.wait_with_output().unwrap()
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap()
    }
}

impl Drop for Dovecot {
    fn drop(&mut self) {
        // Its own children go with it.
        if kill_process(Pid::from_child(&self.child), Signal::TERM).is_ok() {
            drop(self.child.wait());
        }
    }
}

/// A dovecot of one user. One that is not started by root is all of that user's, and changes no root folder.
fn configuration(path: &str, port: u16) -> String {
    let id = |what: &str| {
        let output = Command::new("id").arg(what).output().unwrap();
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    };
    let (owner, rootless) = if getuid().is_root() {
        (format!("uid={NOBODY} gid={NOBODY}"), String::new())
    } else {
        let (user, group) = (id("-un"), id("-gn"));
        let services = "service anvil {\n chroot =\n}\nservice stats {\n chroot =\n}\n";
        let users = format!(
            "default_internal_user = {user}\ndefault_login_user = {user}\ndefault_internal_group = {group}\n"
        );
        (format!("uid={} gid={}", id("-u"), id("-g")), users + services)
    };
    format!(
        "base_dir = {path}/run\nstate_dir = {path}/run\nlog_path = {path}/log\nprotocols = pop3\n\
         listen = 127.0.0.1\nssl = no\ndisable_plaintext_auth = no\nauth_mechanisms = plain apop\n\
         auth_failure_delay = 0\nfirst_valid_uid = 1\nmail_location = maildir:~/Maildir\n\
         passdb {{\n driver = passwd-file\n args = {path}/users\n}}\n\
         userdb {{\n driver = static\n args = {owner} home={path}/home\n}}\n\
         service pop3-login {{\n chroot =\n inet_listener pop3 {{\n port = {port}\n }}\n \
         inet_listener pop3s {{\n port = 0\n }}\n}}\n{rootless}"
    )
}

/// Whose the mail is when root tests: nobody's.
const NOBODY: u32 = 65534;

/// A client that visits `pop.example` on a simulated network, and the server's side of it.
fn visit(seed: u64) -> (Simulation<Report>, Peer) {
    let mut sim = Simulation::with_seed(seed, Report::default()).unwrap();
    sim.set_host("pop.example", [IP1]);
    let listener = sim.listen((IP1, 110)).unwrap();
    call(&mut sim);
    let server = sim.expect_accept(&listener).unwrap();
    (sim, server)
}

fn call(sim: &mut Simulation<Report>) {
    let account = Account::new("bob".into(), "secret".into(), false).unwrap();
    pop3_probe::visit(&mut sim.map, "pop.example", 110, account, [ANSWER_TIME, MAX_TIME]).unwrap();
}

const IP1: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
const IP2: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 2));
const ANSWER_TIME: Duration = Duration::from_secs(30);
const MAX_TIME: Duration = Duration::from_secs(600);

/// What became of a visit, once it is over.
fn outcome(mut sim: Simulation<Report>) -> Result<Report, Failure> {
    sim.run().unwrap();
    match sim.app.outcome.clone() {
        Some(Ok(())) => Ok(sim.app),
        Some(Err(failure)) => Err(failure),
        None => panic!("no outcome"),
    }
}

#[test]
fn a_server_without_extensions_is_asked_one_thing_at_a_time() {
    let (mut sim, mut server) = visit(1);
    server.send("+OK\r\n");
    let talk = [
        ("CAPA", "-ERR what?\r\n"),
        ("USER bob", "+OK\r\n"),
        ("PASS secret", "+OK welcome\r\n"),
        ("STAT", "+OK 2 8\r\n"),
        ("LIST", "+OK\r\n1 5\r\n7 3\r\n.\r\n"),
        ("UIDL", "-ERR\r\n"),
        ("TOP 1 0", "+OK\r\nSUBJECT:  a\x1b[31mb \r\n.\r\n"),
        ("RETR 1", "+OK\r\n..\n..\r\n.\r\n"),
        ("TOP 7 0", "-ERR\r\n"),
        ("RETR 7", "+OK\r\na\r\n.\r\n"),
        ("QUIT", "+OK bye\r\n"),
    ];
    for (question, answer) in talk {
        assert_eq!(sim.expect_line(&mut server).unwrap(), question);
        assert_eq!(server.received(), b"", "behind {question}");
        server.send(answer);
    }
    let report = outcome(sim).unwrap();
    let mut out = Vec::new();
    report.write(&mut out).unwrap();
    let wanted = [
        "    1         5    a\u{fffd}[31mb",
        "              6  fetched: it was listed with another size",
        "    7         3    ",
        "2 messages, 9 bytes fetched\n",
    ];
    assert_eq!(String::from_utf8(out).unwrap(), wanted.join("\n"));
}

#[test]
fn with_pipelining_questions_wait_for_no_answers_but_for_not_too_many() {
    let (mut sim, mut server) = visit(2);
    server.send("+OK ready <1.2@pop.example>\r\n");
    sim.expect(&mut server, "CAPA\r\n").unwrap();
    server.send("+OK\r\nTOP\r\nPIPELINING\r\n.\r\n");
    // The digest of `<1.2@pop.example>secret`, by another program.
    sim.expect(&mut server, "APOP bob 9e80c1a30c626f4ef208fb99b5aabfdb\r\n").unwrap();
    server.send("+OK\r\n");
    sim.expect(&mut server, "STAT\r\nLIST\r\nUIDL\r\n").unwrap();
    let count = 40;
    let list: String = (1..=count).map(|number| format!("{number} 3\r\n")).collect();
    server.send(format!("+OK {count} 0\r\n+OK\r\n{list}.\r\n"));
    sim.settle().unwrap();
    let asked = String::from_utf8(server.take_received()).unwrap();
    assert_eq!(asked.lines().count(), 31, "UIDL is one of the 32: {asked}");
    server.send("+OK\r\n1 x\r\n.\r\n");
    for _ in 0..count {
        server.send("+OK\r\n.\r\n+OK\r\na\r\n.\r\n");
    }
    server.send("+OK\r\n");
    let report = outcome(sim).unwrap();
    assert_eq!(report.messages.len(), count);
    assert!(report.messages.values().all(|message| message.fetched == 3 && message.bytes == 3));
}

#[test]
fn every_misbehaviour_is_told_with_what_was_asked() {
    let ready = "+OK\r\n-ERR\r\n+OK\r\n+OK\r\n";
    let long = format!("+OK {}\r\n", "x".repeat(600));
    let table = [
        ("-ERR go away\r\n".to_owned(), "the server refused the connection: go away"),
        ("220 mail.example ESMTP\r\n".into(), "not valid POP3: an answer of \"220 mail.example ESMTP\""),
        (long, "too long an answer to the connection"),
        ("+OK\r\n+OK\r\nTOP\r\n".into(), "the server went away before it had answered CAPA"),
        ("+OK\r\n-ERR\r\n+OK\r\n-ERR no\r\n".into(), "the server refused PASS: no"),
        (format!("{ready}+OK many\r\n"), "not valid POP3: \"many\" where a number belongs"),
        (format!("{ready}+OK 2 3\r\n+OK\r\n1 3\r\n.\r\n"), "not valid POP3: STAT and LIST do not agree"),
        (
            format!("{ready}+OK 1 3\r\n+OK\r\n1 3\n.\r\n"),
            "not valid POP3: dot-stuffed text: bare LF at byte 3: only CRLF ends a line",
        ),
        (
            format!("{ready}+OK 1 3\r\n+OK\r\n1 3\r\n.\r\n-ERR\r\n-ERR\r\n-ERR it is gone\r\n"),
            "the server refused RETR 1: it is gone",
        ),
    ];
    for (answers, text) in table {
        for seed in 0..5 {
            let (sim, mut server) = visit(seed);
            server.send(&answers);
            server.shutdown_write();
            assert_eq!(outcome(sim).unwrap_err().to_string(), text);
        }
    }
}

#[test]
fn each_step_has_its_time() {
    for (answers, awaited) in [("", "the connection"), ("+OK\r\n", "CAPA"), ("+OK\r\n+OK\r\n", "CAPA")] {
        let (mut sim, mut server) = visit(3);
        server.send(answers);
        sim.settle().unwrap();
        let began = sim.elapsed();
        sim.run().unwrap();
        assert!((sim.elapsed() - began).abs_diff(ANSWER_TIME) < Duration::from_secs(5));
        let text = outcome(sim).unwrap_err().to_string();
        assert_eq!(text, format!("the server took too long to answer {awaited}"));
    }

    // A server that goes on for ever, a byte at a time.
    let (mut sim, mut server) = visit(4);
    server.send("+OK\r\n+OK\r\n");
    while !sim.map.is_empty() {
        server.send("x");
        sim.advance(Duration::from_secs(10)).unwrap();
    }
    assert!(sim.elapsed() <= MAX_TIME + Duration::from_secs(30));
    assert_eq!(outcome(sim).unwrap_err().to_string(), "the server took too long to answer CAPA");
}

#[test]
fn nobody_there_is_told_with_every_address() {
    let mut sim = Simulation::with_seed(5, Report::default()).unwrap();
    sim.set_host("pop.example", [IP1, IP2]);
    sim.refuse((IP1, 110));
    sim.black_hole((IP2, 110));
    call(&mut sim);
    let failure = outcome(sim).unwrap_err();
    assert_eq!(failure.exit_code(), 3);
    let text = failure.to_string();
    assert!(text.starts_with("cannot connect to pop.example:110: "), "{text}");
    assert!(text.contains("192.0.2.1:110: connection refused") && text.contains("192.0.2.2:110: "), "{text}");
}

#[test]
fn what_cannot_be_sent_is_no_account() {
    for (user, password) in [("", "x"), ("a b", "x"), ("a\r\nDELE 1", "x"), ("a", "x\r\nDELE 1"), ("a", "\0")]
    {
        assert!(Account::new(user.into(), password.into(), false).is_err(), "{user:?} {password:?}");
    }
}
