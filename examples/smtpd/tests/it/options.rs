//! The command line and the configuration file, as a user meets them.

use std::fs;
use std::process::{Command, Output};

fn smtpd(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_smtpd")).args(arguments).output().unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

#[test]
fn help_names_every_option_and_where_it_listens() {
    let output = smtpd(&["--help"]);
    assert!(output.status.success());
    for expected in
        ["--listen", "127.0.0.1:2525", "127.0.0.1:8025", "--maildir", "--relay", "--lmtp", "check-config"]
    {
        assert!(text(&output.stdout).contains(expected), "{expected}");
    }
}

#[test]
fn a_configuration_is_checked_without_serving() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("smtpd.toml");
    let file_name = file.to_str().unwrap();
    fs::write(&file, "listen = ['127.0.0.1:0']\nhostname = 'mx.example'\nsink = true\n").unwrap();
    let output = smtpd(&["check-config", "--config", file_name]);
    assert!(output.status.success(), "{output:?}");
    assert!(text(&output.stdout).contains("would call itself mx.example"));
    fs::write(&file, "listen = ['127.0.0.1:0']\ntls-cert = 'a'\ntls-key = 'b'\n").unwrap();
    let output = smtpd(&["check-config", "--config", file_name]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(text(&output.stderr), "error: a: I/O error: No such file or directory (os error 2)\n");
}

#[test]
fn what_cannot_be_meant_is_refused() {
    for (arguments, expected) in [
        (&["--listen=25"][..], "expected HOST:PORT"),
        (&["--relay=127.0.0.1:25", "--sink"], "cannot be used with"),
        (&["--relay=127.0.0.1:25", "--listen=0.0.0.0:0"], "needs --auth-file"),
        (&["--relay=127.0.0.1:25", "--proxy-protocol"], "needs --auth-file"),
        (&["--relay=127.0.0.1:25", "--relay-tls=must", "--relay-roots=/none"], "/none: "),
        (&["--relay=127.0.0.1:25", "--relay-user=me", "--relay-password-file=/none"], "/none: "),
        (&["--relay=example.org", "--relay-user=me", "--relay-password-file=/dev/null"], "is empty"),
        (&["--hostname=a b"], "no name for a server"),
        (&["--smtps=127.0.0.1:0"], "--tls-cert"),
        (&["--idle-time=0s"], "more than nothing"),
        (&["--message-limit=0"], "more than nothing"),
        (&["--auth-file=/dev/null"], "nobody could authenticate"),
    ] {
        let output = smtpd(&[&["check-config"][..], arguments].concat());
        assert!(!output.status.success(), "{arguments:?}");
        assert!(text(&output.stderr).contains(expected), "{arguments:?}: {}", text(&output.stderr));
    }
}
