//! `AUTH` and `STARTTLS`: who may say what, before and behind them.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use smtpd::password::{self, Passwords};
use smtpd::settings::Settings;

use crate::sessions::{Talk, settings};

/// A server that knows ann, and lets her say who she is in clear text.
fn with_users() -> Settings {
    let mut settings = settings();
    settings.passwords =
        Some(Arc::new(Passwords::parse(&password::line("ann", b"s3cret").unwrap()).unwrap()));
    settings.auth_in_clear = true;
    settings
}

fn plain(user: &str, password: &str) -> String {
    BASE64.encode(format!("\0{user}\0{password}"))
}

impl Talk {
    /// Says a line, and hears the answer also if another thread is to think about it.
    fn ask(&mut self, line: impl AsRef<str>) -> String {
        let mut heard = self.say(format!("{}\r\n", line.as_ref()));
        while heard.is_empty() {
            self.sim.advance(std::time::Duration::from_millis(10)).unwrap();
            heard = self.hear();
        }
        heard
    }
}

#[test]
fn auth_is_offered_where_it_is_allowed() {
    let offers = |settings| Talk::with(settings).say("EHLO client\r\n").contains("AUTH PLAIN LOGIN");
    assert!(offers(with_users()));
    let mut in_clear = with_users();
    in_clear.auth_in_clear = false;
    assert!(!offers(in_clear.clone()) && !offers(settings()));
    Talk::new().hello().expect(&[("AUTH PLAIN AAAA", "502 ")]);
    Talk::with(in_clear).hello().expect(&[("AUTH PLAIN AAAA", "538 5.7.11 ")]);
    Talk::with(with_users()).expect(&[
        ("AUTH PLAIN AAAA", "503 "),
        ("HELO a", "250 "),
        ("AUTH PLAIN AAAA", "503 "),
    ]);
}

#[test]
fn both_mechanisms_work_with_and_without_an_initial_response() {
    let name = BASE64.encode("ann");
    let secret = BASE64.encode("s3cret");
    let all = plain("ann", "s3cret");
    for (lines, replies) in [
        (vec![format!("AUTH PLAIN {all}")], vec!["235 2.7.0 "]),
        (vec!["auth plain".to_owned(), all], vec!["334 \r\n", "235 "]),
        (vec![format!("AUTH PLAIN {}", BASE64.encode("ann\0ann\0s3cret"))], vec!["235 "]),
        (
            vec!["AUTH LOGIN".to_owned(), name.clone(), secret.clone()],
            vec!["334 VXNlcm5hbWU6\r\n", "334 UGFzc3dvcmQ6\r\n", "235 "],
        ),
        (vec![format!("AUTH LOGIN {name}"), secret], vec!["334 UGFzc3dvcmQ6\r\n", "235 "]),
    ] {
        let mut talk = Talk::with(with_users()).hello();
        for (line, expected) in lines.iter().zip(replies) {
            let reply = talk.ask(line);
            assert!(reply.starts_with(expected), "{line}: {reply}");
        }
        talk.expect(&[("AUTH PLAIN AAAA", "503 ")]);
        let mut talk = talk.at_data();
        talk.expect(&[(".", "250 ")]);
        assert_eq!(talk.office.desk().kept[0].envelope.client.user.as_deref(), Some("ann"));
    }
}

#[test]
fn nobody_becomes_another_in_the_middle_of_a_mail() {
    let mut talk = Talk::with(with_users()).hello();
    talk.expect(&[("MAIL FROM:<a@example>", "250 ")]);
    assert!(talk.ask(format!("AUTH PLAIN {}", plain("ann", "s3cret"))).starts_with("503 "));
    talk.expect(&[("RSET", "250 ")]);
    assert!(talk.ask(format!("AUTH PLAIN {}", plain("ann", "s3cret"))).starts_with("235 "));
}

#[test]
fn whoever_is_wrong_hears_the_same() {
    for answer in [
        plain("ann", "wrong"),
        plain("bob", "s3cret"),
        plain("", ""),
        BASE64.encode("bob\0ann\0s3cret"),
        BASE64.encode(b"\0ann\xff\0s3cret"),
    ] {
        let mut talk = Talk::with(with_users()).hello();
        assert_eq!(talk.ask(format!("AUTH PLAIN {answer}")), "535 5.7.8 Name or password is wrong\r\n");
        assert_eq!(talk.sim.app.metrics.auth_failures, 1);
    }
}

#[test]
fn three_wrong_passwords_end_the_session() {
    let mut talk = Talk::with(with_users()).hello();
    let wrong = format!("AUTH PLAIN {}", plain("ann", "wrong"));
    for _ in 0..2 {
        assert!(talk.ask(&wrong).starts_with("535 "));
    }
    assert!(talk.ask(&wrong).ends_with("\r\n421 4.7.0 Too many wrong passwords\r\n"));
    assert!(talk.is_over());
}

#[test]
fn what_is_no_answer_is_told_so() {
    let mut settings = with_users();
    settings.errors = 100;
    let mut talk = Talk::with(settings).hello();
    talk.expect(&[
        ("AUTH", "501 "),
        ("AUTH CRAM-MD5", "504 "),
        ("AUTH PLAIN !", "501 5.5.2 "),
        ("AUTH PLAIN =", "501 5.5.2 "),
        ("AUTH PLAIN YW5u", "501 5.5.2 "),
        ("AUTH PLAIN", "334 "),
        ("*", "501 5.7.0 "),
        ("AUTH PLAIN", "334 "),
        ("", "501 5.5.2 "),
        ("AUTH LOGIN =", "334 UGFzc3dvcmQ6"),
        ("secret!", "501 5.5.2 "),
        ("NOOP", "250 "),
    ]);
}

#[test]
fn an_answer_may_be_as_long_as_the_limit_and_no_longer() {
    let mut talk = Talk::with(with_users()).hello();
    talk.expect(&[("AUTH PLAIN", "334 ")]);
    let longest = "A".repeat(12_288 - "\r\n".len() - 2);
    assert!(talk.ask(&longest).starts_with("535 "), "no name, and NUL all over for a password");
    talk.expect(&[("AUTH PLAIN", "334 "), (&"A".repeat(12_288), "500 5.5.6 "), ("NOOP", "250 ")]);
    talk.expect(&[(&format!("AUTH PLAIN {}", "A".repeat(12_288)), "500 5.5.2 "), ("NOOP", "250 ")]);
}

#[test]
fn commands_behind_a_password_wait_for_its_check() {
    let mut talk = Talk::with(with_users()).hello();
    let mut replies =
        talk.say(format!("AUTH PLAIN {}\r\nMAIL FROM:<a@b>\r\nAUTH PLAIN AAAA\r\n", plain("ann", "s3cret")));
    talk.sim.advance(std::time::Duration::from_secs(1)).unwrap();
    replies += &talk.hear();
    let codes: Vec<&str> = replies.lines().map(|line| &line[..3]).collect();
    assert_eq!(codes, ["235", "250", "503"]);
}

#[test]
fn who_must_authenticate_may_send_nothing_before() {
    let mut settings = with_users();
    settings.require_auth = true;
    let mut talk = Talk::with(settings.clone()).hello();
    talk.expect(&[("MAIL FROM:<a@b>", "530 5.7.0 "), ("RCPT TO:<a@b>", "530 5.7.0 "), ("DATA", "503 ")]);
    assert!(talk.ask(format!("AUTH PLAIN {}", plain("ann", "s3cret"))).starts_with("235 "));
    talk.expect(&[("MAIL FROM:<a@b>", "250 "), ("RCPT TO:<a@b>", "250 ")]);
    settings.allow_from = vec!["192.0.2.0/24".parse().unwrap()];
    Talk::with(settings.clone()).hello().expect(&[("MAIL FROM:<a@b>", "250 ")]);
    settings.allow_from = vec!["192.0.3.0/24".parse().unwrap()];
    Talk::with(settings.clone()).hello().expect(&[("MAIL FROM:<a@b>", "530 ")]);
    // Whoever reaches a Unix socket is on this machine, and was let in by its folder.
    Talk::local(settings).hello().expect(&[("MAIL FROM:<a@b>", "250 ")]);
}

#[test]
fn a_session_that_waits_for_a_check_when_the_server_goes_is_answered() {
    let mut talk = Talk::with(with_users()).hello();
    talk.peer.send(format!("AUTH PLAIN {}\r\n", plain("ann", "s3cret")));
    while talk.sim.map.pending_work(talk.id) == 0 {
        talk.sim.turn().unwrap();
    }
    talk.sim.map.shutdown(std::time::Duration::from_secs(30));
    talk.sim.advance(std::time::Duration::from_secs(1)).unwrap();
    assert_eq!(talk.hear(), "235 2.7.0 Welcome\r\n421 4.3.2 The server shuts down\r\n");
}
