//! TLS and a login towards the next server, which is a conversation in the same map here.

use std::cell::RefCell;
use std::path::PathBuf;
use std::rc::Rc;

use asynchat::{AsyncChat, Chat, Conversation, Terminator};
use asyncore::{Result, TlsServer};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use integration_tests::Certificates;
use smtpd::app::App;
use smtpd::relay::{Login, RelayOptions, RelayTls};

use super::world::{World, hello, settings};

/// A server that speaks TLS, and writes down what it hears: in clear text with `clear: ` in front.
struct Next {
    tls: TlsServer,
    script: Script,
    heard: Rc<RefCell<Vec<String>>>,
    is_secured: bool,
    in_text: bool,
}

/// How it answers.
#[derive(Clone, Copy)]
struct Script {
    /// What it offers in clear text.
    offers: &'static [&'static str],
    /// What it offers under TLS; with `500` there is no `EHLO`.
    offers_secured: &'static [&'static str],
    /// To `STARTTLS`, with what stands behind it in clear text.
    to_starttls: &'static str,
    /// To a password.
    to_password: &'static str,
}

const SCRIPT: Script = Script {
    offers: &["STARTTLS", "PIPELINING"],
    offers_secured: &["PIPELINING", "AUTH LOGIN PLAIN"],
    to_starttls: "220 go ahead\r\n",
    to_password: "235 2.7.0 welcome\r\n",
};

impl Chat<App> for Next {
    fn handle_connect(&mut self, cx: &mut Conversation<'_, App>) -> Result {
        cx.push("220 mx.test\r\n");
        Ok(())
    }

    fn handle_tls(&mut self, _cx: &mut Conversation<'_, App>) -> Result {
        self.is_secured = true;
        Ok(())
    }

    fn found_terminator(&mut self, cx: &mut Conversation<'_, App>, line: &[u8]) -> Result {
        let mut line = String::from_utf8_lossy(line).into_owned();
        if self.in_text {
            self.in_text = false;
            cx.set_terminator(Terminator::crlf());
            line.insert_str(0, "text: ");
            line.truncate("text: Received:".len());
            cx.push("250 taken\r\n");
        } else {
            match line.split([' ', ':']).next().unwrap_or_default() {
                "EHLO" if self.is_secured && self.script.offers_secured == ["500"] => {
                    cx.push("500 what?\r\n")
                }
                "HELO" => cx.push("250 mx.test\r\n"),
                "EHLO" if self.is_secured => cx.push(hello(self.script.offers_secured)),
                "EHLO" => cx.push(hello(self.script.offers)),
                "STARTTLS" => cx.push(self.script.to_starttls),
                "AUTH" if line == "AUTH LOGIN" => cx.push("334 VXNlcm5hbWU6\r\n"),
                "DATA" => {
                    self.in_text = true;
                    cx.set_terminator(Terminator::dot_stuffed());
                    cx.push("354 go\r\n")
                }
                _ if BASE64.decode(&line).is_ok_and(|name| name == b"me") => cx.push("334 UGFzc3dvcmQ6\r\n"),
                "MAIL" | "RCPT" | "RSET" => cx.push("250 ok\r\n"),
                _ => cx.push(self.script.to_password),
            };
        }
        let clear = if self.is_secured { "" } else { "clear: " };
        self.heard.borrow_mut().push(format!("{clear}{line}"));
        if line == "STARTTLS" && self.script.to_starttls.starts_with("220") {
            cx.start_tls(self.tls.session()?)?;
        }
        Ok(())
    }
}

/// What the next server hears of one message, and what the client is told; its certificate bears this name, by a root that the
/// relay is told of.
fn heard(script: Script, tls: RelayTls, login: Option<(&str, &str)>, name: &str) -> (Vec<String>, String) {
    let certificates = Certificates::new();
    heard_trusting(&certificates, Some(certificates.root()), script, tls, login, name)
}

fn heard_trusting(
    certificates: &Certificates,
    roots: Option<PathBuf>,
    script: Script,
    tls: RelayTls,
    login: Option<(&str, &str)>,
    name: &str,
) -> (Vec<String>, String) {
    let server = TlsServer::new(certificates.identity(name)).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let login = login.map(|(user, password)| {
        let file = folder.path().join("password");
        std::fs::write(&file, password).unwrap();
        Login::from_file(user, &file).unwrap()
    });
    let options = RelayOptions { next: format!("localhost:{PORT}").parse().unwrap(), tls, roots, login };
    let mut world = World::with(options, settings());
    let heard = Rc::<RefCell<Vec<String>>>::default();
    let log = Rc::clone(&heard);
    let make = move |_peer| {
        let next =
            Next { tls: server.clone(), script, heard: Rc::clone(&log), is_secured: false, in_text: false };
        AsyncChat::new(next).terminator(Terminator::crlf())
    };
    world.sim.map.listen(("192.0.2.9", PORT), make).unwrap();
    let mut client = world.client_with(&["to@b.test"], b"x\r\n");
    let reply = world.expect_reply(&mut client, "");
    let heard = heard.borrow().clone();
    (heard, reply)
}

const PORT: u16 = 587;

const SENT: [&str; 4] = ["MAIL FROM:<from@a.test>", "RCPT TO:<to@b.test>", "DATA", "text: Received:"];

#[test]
fn what_is_sent_is_sent_under_tls_and_the_server_is_asked_anew() {
    for tls in [RelayTls::May, RelayTls::Must] {
        let (heard, reply) = heard(SCRIPT, tls, None, "localhost");
        assert!(reply.starts_with("250 2.0.0 localhost said: taken"), "{reply}");
        assert_eq!(heard[..3], ["clear: EHLO relay.test", "clear: STARTTLS", "EHLO relay.test"]);
        assert_eq!(heard[3..], SENT);
    }
}

#[test]
fn answers_in_clear_text_behind_the_one_to_starttls_are_dropped() {
    // Taken for answers under TLS, they would be those to EHLO, to the login and to the message: nothing would have to be
    // sent, and nobody would have to take it.
    let to_starttls =
        "220 go ahead\r\n250-mx.test\r\n250 PIPELINING\r\n250 ok\r\n250 ok\r\n354 go\r\n250 taken\r\n";
    let (heard, reply) =
        heard(Script { to_starttls, ..SCRIPT }, RelayTls::Must, Some(("me", "secret")), "localhost");
    assert!(reply.starts_with("250 "), "{reply}");
    assert_eq!(heard[2], "EHLO relay.test");
    assert!(heard[3].starts_with("AUTH PLAIN "), "{heard:?}");
    assert_eq!(heard[4..], SENT);
}

#[test]
fn what_was_offered_in_clear_text_counts_no_longer_under_tls() {
    let script = Script { offers: &["STARTTLS", "SIZE", "SMTPUTF8"], offers_secured: &["500"], ..SCRIPT };
    let (heard, reply) = heard(script, RelayTls::Must, None, "localhost");
    assert!(reply.starts_with("250 "), "{reply}");
    assert_eq!(heard[2..4], ["EHLO relay.test", "HELO relay.test"]);
    assert_eq!(heard[4..], SENT);
}

#[test]
fn a_server_that_cannot_show_who_it_is_gets_nothing() {
    for tls in [RelayTls::May, RelayTls::Must] {
        let (heard, reply) = heard(SCRIPT, tls, None, "other.test");
        assert!(reply.starts_with("451 4.7.5 "), "{reply}");
        assert_eq!(heard, ["clear: EHLO relay.test", "clear: STARTTLS"]);
    }
}

#[test]
fn where_tls_may_be_nobody_has_to_vouch_for_the_server() {
    for name in ["localhost", "other.test"] {
        let certificates = Certificates::new();
        let (heard, reply) = heard_trusting(&certificates, None, SCRIPT, RelayTls::May, None, name);
        assert!(reply.starts_with("250 "), "{reply}");
        assert_eq!(heard[..3], ["clear: EHLO relay.test", "clear: STARTTLS", "EHLO relay.test"]);
        assert_eq!(heard[3..], SENT);
    }
}

#[test]
fn where_tls_must_be_nothing_is_sent_without_it() {
    for script in [
        Script { offers: &["PIPELINING"], ..SCRIPT },
        Script { to_starttls: "454 4.7.0 not now\r\n", ..SCRIPT },
    ] {
        let (heard, reply) = heard(script, RelayTls::Must, Some(("me", "secret")), "localhost");
        assert!(reply.starts_with("451 4.7.4 "), "{reply}");
        assert!(
            heard.iter().all(|line| line == "clear: EHLO relay.test" || line == "clear: STARTTLS"),
            "{heard:?}"
        );
        let (heard, reply) = self::heard(script, RelayTls::May, None, "localhost");
        assert!(reply.starts_with("250 "), "{reply}");
        assert_eq!(heard.last().map(String::as_str), Some("clear: text: Received:"));
    }
    let (heard, reply) = heard(SCRIPT, RelayTls::None, None, "localhost");
    assert!(reply.starts_with("250 "), "{reply}");
    assert!(!heard.contains(&"clear: STARTTLS".to_owned()));
}

#[test]
fn a_login_comes_before_the_message_by_what_the_server_offers() {
    let plain = format!("AUTH PLAIN {}", BASE64.encode("\0me\0s\u{e9}cret"));
    let password = BASE64.encode("s\u{e9}cret");
    for (offers_secured, login) in [
        (&["AUTH PLAIN"][..], &[&*plain][..]),
        (&["AUTH LOGIN CRAM-MD5"], &["AUTH LOGIN", "bWU=", &password]),
    ] {
        let script = Script { offers_secured, ..SCRIPT };
        let (heard, reply) = heard(script, RelayTls::Must, Some(("me", "s\u{e9}cret")), "localhost");
        assert!(reply.starts_with("250 "), "{reply}");
        let end = 3 + login.len();
        assert_eq!(heard[3..end], *login);
        assert_eq!(heard[end..], SENT);
    }
}

#[test]
fn a_login_that_fails_is_not_the_client_s_fault() {
    for script in [
        Script { to_password: "535 5.7.8 wrong\r\n", ..SCRIPT },
        Script { offers_secured: &["AUTH GSSAPI"], ..SCRIPT },
        Script { offers_secured: &[], ..SCRIPT },
    ] {
        let (heard, reply) = heard(script, RelayTls::Must, Some(("me", "secret")), "localhost");
        assert!(reply.starts_with("451 4.7.0 "), "{reply}");
        assert!(!heard.iter().any(|line| line.starts_with("MAIL")), "{heard:?}");
    }
}
