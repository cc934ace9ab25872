//! Delivery by the clients that people use: swaks, Python's smtplib, msmtp, curl, and Postfix's smtp-source. What they sent is
//! compared byte by byte with what was kept.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use integration_tests::{Certificates, is_installed};

use crate::program::{Program, run};

/// A message with all that gets lost on the way elsewhere: dots, empty lines, long lines, bytes above 127.
pub(crate) fn message() -> Vec<u8> {
    let mut text =
        b"From: from@example.org\r\nTo: to@example.org\r\nSubject: dots\r\nMessage-ID: <1@example.org>\r\n\
        Date: Mon, 23 Nov 2026 10:00:00 +0000\r\n\r\n"
            .to_vec();
    text.extend(b".\r\n..\r\n.begins with a dot\r\n\r\n\r\n \r\nmid.dle.\r\n");
    text.extend([b'x'; 990]);
    text.extend("\r\n.\r\nGrüße\r\nlast\r\n".as_bytes());
    text
}

/// The same as a file in the program's folder.
fn message_file(program: &Program) -> PathBuf {
    let file = program.folder().join("message");
    fs::write(&file, message()).unwrap();
    file
}

/// The files of an identity for `localhost`: options for the server.
fn tls_options(certificates: &Certificates) -> [String; 2] {
    drop(certificates.identity("localhost"));
    let file = |what: &str| certificates.root().with_file_name(format!("localhost.{what}.pem"));
    [format!("--tls-cert={}", file("chain").display()), format!("--tls-key={}", file("key").display())]
}

/// A password file for the user `me` with the password `secret`, made as its users make it: the option for the server.
fn auth_option(folder: &tempfile::TempDir) -> String {
    let mut hash = Command::new(env!("CARGO_BIN_EXE_smtpd"));
    let line = run(hash.args(["hash-password", "me"]), b"secret\n").stdout;
    let file = folder.path().join("passwords");
    fs::write(&file, line).unwrap();
    format!("--auth-file={}", file.display())
}

/// A server with TLS and passwords.
pub(crate) fn secured(certificates: &Certificates, more: &[&str]) -> Program {
    let folder = tempfile::tempdir().unwrap();
    let auth = auth_option(&folder);
    let [chain, key] = tls_options(certificates);
    Program::start_in(folder, &[&[chain.as_str(), &key, &auth], more].concat())
}

/// Runs swaks with the message as it is on the wire.
fn swaks(program: &Program, arguments: &[&str]) -> String {
    swaks_to(program, 0, arguments)
}

/// The same, to a listener by its place.
fn swaks_to(program: &Program, listener: usize, arguments: &[&str]) -> String {
    let stuffed = String::from_utf8(message()).unwrap().replace("\r\n.", "\r\n..");
    let file = program.folder().join("wire");
    fs::write(&file, stuffed + ".\r\n").unwrap();
    let mut swaks = Command::new("swaks");
    swaks.arg(format!("--server={}", program.address(listener)));
    swaks.args(["--from=from@example.org", "--to=to@example.org", "--no-data-fixup", "--timeout=20s"]);
    swaks.arg("--data").arg(format!("@{}", file.display())).args(arguments);
    String::from_utf8_lossy(&run(&mut swaks, b"").stdout).into_owned()
}

#[test]
fn swaks_delivers_in_clear_text_under_tls_and_with_a_password() {
    if !is_installed("swaks", "--version") {
        return;
    }
    let certificates = Certificates::new();
    let program = secured(&certificates, &["--auth-in-clear", "--smtps=127.0.0.1:0"]);
    let trust = format!("--tls-ca-path={}", certificates.root().display());
    let tls = ["--tls", "--tls-verify", trust.as_str(), "--tls-verify-host=localhost"];
    let password = ["--auth-user=me", "--auth-password=secret"];
    swaks(&program, &[]);
    swaks(&program, &tls[..3]);
    swaks_to(&program, 1, &[&["--tls-on-connect"][..], &tls[1..3]].concat());
    swaks(&program, &[&["--auth=PLAIN"][..], &password].concat());
    swaks(&program, &[&["--auth=LOGIN"][..], &password, &tls[..3]].concat());
    assert_eq!(program.messages(), vec![message(); 5]);
    let with = |protocol: &str| {
        let kept = program.kept_in("Maildir/new");
        kept.iter()
            .filter(|message| {
                String::from_utf8_lossy(message).replace("\r\n\t", " ").contains(&format!("with {protocol} "))
            })
            .count()
    };
    assert_eq!(["ESMTP", "ESMTPS", "ESMTPA", "ESMTPSA"].map(with), [1, 2, 1, 1]);
}

#[test]
fn testssl_finds_the_two_versions_of_tls_and_no_renegotiation_behind_starttls() {
    if !is_installed("testssl", "--version") {
        return;
    }
    let program = secured(&Certificates::new(), &[]);
    let mut testssl = Command::new("testssl");
    testssl.args(["--quiet", "--color=0", "--nodns=min", "--warnings=off", "--starttls=smtp", "-p", "-R"]);
    let output = run(testssl.arg(format!("localhost:{}", program.smtp().port())), b"");
    let found = String::from_utf8_lossy(&output.stdout);
    let found = found.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "));
    let found = found.collect::<Vec<_>>();
    for expected in [
        "SSLv2 not offered (OK)",
        "SSLv3 not offered (OK)",
        "TLS 1 not offered",
        "TLS 1.1 not offered",
        "TLS 1.2 offered (OK)",
        "TLS 1.3 offered (OK): final",
        "Secure Client-Initiated Renegotiation not vulnerable (OK)",
    ] {
        assert!(found.iter().any(|line| line == expected), "{expected}: {found:#?}");
    }
}

#[test]
fn swaks_delivers_by_lmtp() {
    if !is_installed("swaks", "--version") {
        return;
    }
    let program = Program::start(&["--lmtp"]);
    let said = swaks(&program, &["--protocol=LMTP", "--to=a@example.org,b@example.org"]);
    assert_eq!(program.messages(), [message()]);
    assert_eq!(said.matches("<-  250 2.0.0").count(), 2, "a reply for each recipient: {said}");
}

#[test]
fn swaks_is_known_by_the_address_that_a_proxy_tells() {
    if !is_installed("swaks", "--version") {
        return;
    }
    let certificates = Certificates::new();
    let program = secured(&certificates, &["--proxy-protocol", "--smtps=127.0.0.1:0"]);
    let client = [
        "--proxy-source=192.0.2.7",
        "--proxy-source-port=1234",
        "--proxy-dest=192.0.2.1",
        "--proxy-dest-port=25",
    ];
    let first = [&client[..], &["--proxy-version=1", "--proxy-family=TCP4"]].concat();
    let second =
        [&client[..], &["--proxy-version=2", "--proxy-family=AF_INET", "--proxy-protocol=STREAM"]].concat();
    swaks(&program, &first);
    swaks(&program, &second);
    swaks_to(&program, 1, &[&first[..], &["--tls-on-connect"]].concat());
    assert_eq!(program.messages(), vec![message(); 3]);
    for kept in program.kept_in("Maildir/new") {
        assert!(String::from_utf8_lossy(&kept).contains("[192.0.2.7]"), "{}", kept.escape_ascii());
    }
}

/// Runs a Python script with the address, the root of trust and the message's file as arguments.
fn python(program: &Program, certificates: &Certificates, script: &str) {
    let mut python = Command::new("python3");
    python.args(["-c", script]).arg(program.smtp().port().to_string()).arg(certificates.root());
    run(python.arg(message_file(program)), b"");
}

#[test]
fn smtplib_delivers_large_foreign_and_pipelined_messages() {
    if !is_installed("python3", "--version") {
        return;
    }
    let certificates = Certificates::new();
    let program = secured(&certificates, &["--require-auth"]);
    python(
        &program,
        &certificates,
        r"
import smtplib, ssl, sys
port, root, file = int(sys.argv[1]), sys.argv[2], sys.argv[3]
message = open(file, 'rb').read()
with smtplib.SMTP('localhost', port, timeout=20) as smtp:
    smtp.starttls(context=ssl.create_default_context(cafile=root))
    try:
        smtp.login('me', 'wrong')
        raise SystemExit('a wrong password was taken')
    except smtplib.SMTPAuthenticationError as error:
        assert error.smtp_code == 535, error
    smtp.login('me', 'secret')
    smtp.sendmail('from@example.org', ['to@example.org'], message, ['BODY=8BITMIME'])
    smtp.sendmail('from@example.org', ['to@example.org'], 'Subject: large\r\n\r\n' + '0123456789' * 9 + '\r\n' * 1000000)
    smtp.sendmail('grüße@example.org', ['leute@bücher.example'], message, ['SMTPUTF8', 'BODY=8BITMIME'])
    assert smtp.verify('someone')[0] == 252
    assert smtp.docmd('MAIL FROM:<from@example.org> SIZE=999999999')[0] == 552
",
    );
    let mut messages = program.messages();
    messages.sort_by_key(Vec::len);
    let large = ["Subject: large\r\n\r\n", &"0123456789".repeat(9), &"\r\n".repeat(1_000_000)].concat();
    assert_eq!(messages, [message(), message(), large.into_bytes()]);
    assert!(
        program.kept_in("Maildir/new").iter().any(|kept| {
            String::from_utf8_lossy(kept).starts_with("Return-Path: <grüße@example.org>\r\n")
        })
    );
}

#[test]
fn smtplib_delivers_by_lmtp_over_a_unix_socket() {
    if !is_installed("python3", "--version") {
        return;
    }
    let program = Program::start(&["--lmtp", "--listen=./lmtp.sock"]);
    let script = r"
import smtplib, sys
message = open(sys.argv[2], 'rb').read()
with smtplib.LMTP(sys.argv[1]) as lmtp:
    # For several recipients it would take the reply to the second for one to its next command.
    assert lmtp.sendmail('', ['a@example.org'], message) == {}
";
    let mut python = Command::new("python3");
    python.args(["-c", script]).arg(program.folder().join("lmtp.sock"));
    run(python.arg(message_file(&program)), b"");
    assert_eq!(program.messages(), [message()]);
}

#[test]
fn msmtp_delivers_in_clear_text_and_under_tls() {
    if !is_installed("msmtp", "--version") {
        return;
    }
    let certificates = Certificates::new();
    let program = secured(&certificates, &[]);
    let deliver = |arguments: &[&str]| {
        let mut msmtp = Command::new("msmtp");
        msmtp.args(["--host=localhost", "--from=from@example.org", "--timeout=20"]);
        msmtp.arg(format!("--port={}", program.smtp().port())).args(arguments).arg("to@example.org");
        // It makes the line ends of this system CRLF.
        run(&mut msmtp, String::from_utf8(message()).unwrap().replace("\r\n", "\n").as_bytes());
    };
    deliver(&["--tls=off"]);
    let trust = format!("--tls-trust-file={}", certificates.root().display());
    deliver(&[
        "--tls=on",
        "--tls-starttls=on",
        &trust,
        "--auth=plain",
        "--user=me",
        "--passwordeval=echo secret",
    ]);
    assert_eq!(program.messages(), vec![message(); 2]);
}

#[test]
fn curl_delivers_in_clear_text_and_under_tls() {
    if !is_installed("curl", "--version") {
        return;
    }
    let certificates = Certificates::new();
    let program = secured(&certificates, &[]);
    let file = message_file(&program);
    let deliver = |arguments: &[&str]| {
        let mut curl = Command::new("curl");
        curl.args(["--silent", "--show-error", "--max-time", "20", "--mail-from", "from@example.org"]);
        curl.args(["--mail-rcpt", "to@example.org", "--upload-file"]).arg(&file).args(arguments);
        run(curl.arg(format!("smtp://localhost:{}/client.example", program.smtp().port())), b"");
    };
    deliver(&[]);
    let root = certificates.root();
    deliver(&["--ssl-reqd", "--cacert", root.to_str().unwrap(), "--user", "me:secret"]);
    assert_eq!(program.messages(), vec![message(); 2]);
}

#[test]
fn smtp_source_delivers_from_many_sessions() {
    let count = std::env::var("SMTPD_MESSAGES").map_or(MESSAGES, |count| count.parse().expect("a number"));
    // It comes with it, and has no argument that does nothing.
    if !is_installed("/usr/sbin/postconf", "-d") {
        return;
    }
    let program = Program::start(&["--no-http"]);
    let mut source = Command::new("/usr/sbin/smtp-source");
    source.args(["-s", "50", "-l", "4096", "-m"]).arg(count.to_string());
    run(source.args(["-f", "from@example.org", "-t", "to@example.org"]).arg(program.smtp().to_string()), b"");
    let messages = program.messages();
    assert_eq!(messages.len(), count);
    // Lines of `X`, each with a digit in front, as long as was asked for, to the byte.
    let body = |message: &[u8]| {
        String::from_utf8(message.to_vec()).unwrap().split_once("\r\n\r\n").unwrap().1.to_owned()
    };
    let first = body(&messages[0]);
    let is_filling = |line: &str| {
        line.bytes().enumerate().all(|(at, byte)| byte == b'X' || at == 0 && byte.is_ascii_digit())
    };
    assert!(first.lines().all(is_filling) && first.len() > 3000, "{first}");
    assert!(messages.iter().all(|message| body(message) == first));
}

/// How many messages smtp-source sends: 500; `SMTPD_MESSAGES` says otherwise.
const MESSAGES: usize = 500;
