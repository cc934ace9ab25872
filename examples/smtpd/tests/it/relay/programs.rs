//! The program as a relay, on sockets: in front of another one, and of Postfix's smtp-sink.

use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use integration_tests::{Certificates, is_installed};

use crate::clients::{message, secured};
use crate::program::{Program, files, run, until};

#[test]
fn two_servers_pass_a_message_on_under_tls_with_a_password() {
    let certificates = Certificates::new();
    let last = secured(&certificates, &["--require-auth"]);
    let folder = tempfile::tempdir().unwrap();
    let password = folder.path().join("password");
    fs::write(&password, "secret\n").unwrap();
    let relay = Program::start_in(
        folder,
        &[
            &format!("--relay=localhost:{}", last.smtp().port()),
            "--relay-tls=must",
            &format!("--relay-roots={}", certificates.root().display()),
            "--relay-user=me",
            &format!("--relay-password-file={}", password.display()),
        ],
    );
    let mut client = relay.client();
    client.ask("EHLO client.test", "250");
    let text = String::from_utf8(message()).unwrap();
    let stuffed = text.replace("\r\n.", "\r\n..");
    for _ in 0..3 {
        let reply = client.deliver(&stuffed);
        assert!(reply.starts_with("250 2.0.0 localhost said: "), "{reply}");
    }
    let kept = last.kept_in("Maildir/new");
    assert_eq!(kept.len(), 3);
    for kept in kept {
        let kept = String::from_utf8(kept).unwrap();
        let trace = kept.strip_suffix(&text).unwrap_or_else(|| panic!("{kept}"));
        assert_eq!(
            (trace.matches("Return-Path: ").count(), trace.matches("Received: ").count()),
            (1, 2),
            "{trace}"
        );
        assert!(trace.contains("with ESMTPSA"), "{trace}");
    }
}

#[test]
fn a_machine_without_roots_relays_under_tls_where_that_may_be_and_does_not_start_where_it_must() {
    let last = secured(&Certificates::new(), &[]);
    let command = |tls: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_smtpd"));
        command.env("SSL_CERT_FILE", "/none").env("SSL_CERT_DIR", "/none");
        command.args(["--listen=127.0.0.1:0", "--http=127.0.0.1:0"]).args(tls.split_whitespace());
        command.arg(format!("--relay=localhost:{}", last.smtp().port()));
        command
    };
    let refused = command("--relay-tls=must").output().unwrap();
    assert!(!refused.status.success());
    let error = String::from_utf8(refused.stderr).unwrap();
    assert!(error.contains("--relay-roots names whom to trust"), "{error}");

    let relay = Program::spawn(tempfile::tempdir().unwrap(), command(""));
    let mut client = relay.client();
    client.ask("EHLO client.test", "250");
    let reply = client.deliver("x\r\n");
    assert!(reply.starts_with("250 "), "{reply}");
    let kept = last.kept_in("Maildir/new").concat();
    assert!(String::from_utf8_lossy(&kept).contains("with ESMTPS\r\n"), "{}", kept.escape_ascii());
}

#[test]
fn a_burst_of_messages_is_passed_on_to_another_server_of_another_make() {
    const MESSAGES: usize = 200;
    if !["smtp-sink", "smtp-source"].iter().all(|program| has_postfix(program)) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let sink = Sink::start(folder.path());
    let relay = Program::start(&[&format!("--relay={}", sink.address), "--relay-tls=none"]);
    let mut source = Command::new("/usr/sbin/smtp-source");
    source.args(["-s", "30", "-l", "4096", "-m"]).arg(MESSAGES.to_string());
    run(source.args(["-f", "from@example.org", "-t", "to@example.org"]).arg(relay.smtp().to_string()), b"");
    let taken = files(folder.path());
    assert_eq!(taken.len(), MESSAGES);
    for file in taken {
        let text = fs::read_to_string(file).unwrap();
        assert!(text.contains("X-Rcpt-Args: <to@example.org>\n"), "{text}");
        let (_, body) = text.split_once("\n\n").unwrap();
        let is_whole = body
            .trim_end()
            .lines()
            .all(|line| line.trim_start_matches(char::is_numeric).bytes().all(|byte| byte == b'X'));
        assert!(is_whole && body.len() > 4000, "{text}");
    }
}

#[test]
fn a_message_that_cannot_be_spooled_is_refused_and_the_next_one_is_not() {
    let last = Program::start(&[]);
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_smtpd"));
    command.env("TMPDIR", folder.path().join("none"));
    command.args(["--listen=127.0.0.1:0", "--http=127.0.0.1:0", "--relay-tls=none"]);
    command.arg(format!("--relay={}", last.smtp()));
    let relay = Program::spawn(folder, command);
    let mut client = relay.client();
    client.ask("EHLO client.test", "250");
    let reply = client.deliver(&"larger than what is kept in memory\r\n".repeat(3000));
    assert!(reply.starts_with("452 4.3.1 "), "{reply}");
    let reply = client.deliver("small\r\n");
    assert!(reply.starts_with("250 "), "{reply}");
    assert_eq!(last.kept_in("Maildir/new").len(), 1);
}

/// Whether a program of Postfix is where Debian has it.
fn has_postfix(program: &str) -> bool {
    Path::new("/usr/sbin").join(program).exists() || is_installed(program, "-h")
}

/// Postfix's server for tests, which writes each message to a file of its own.
struct Sink {
    child: Child,
    address: SocketAddr,
}

impl Sink {
    fn start(folder: &Path) -> Self {
        // It cannot choose a port itself.
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let mut command = Command::new("/usr/sbin/smtp-sink");
        if rustix::process::getuid().is_root() {
            command.args(["-u", "root"]);
        }
        command.arg("-d").arg(folder.join("message.")).arg(address.to_string()).arg("128");
        let child = command.stdin(Stdio::null()).spawn().unwrap();
        let sink = Self { child, address };
        until("smtp-sink to listen", || TcpStream::connect(address).ok());
        sink
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
