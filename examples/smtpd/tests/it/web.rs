//! The page's API of the program, from the message that comes in to the one that is deleted.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::MetadataExt;

use integration_tests::DEADLINE;
use rustix::process::Signal;
use serde_json::Value;

use crate::program::{Program, files, until};

/// Sends a request for one thing, with fields that end with CRLF: what comes back up to the end of the connection.
pub(crate) fn ask(program: &Program, line: &str, fields: &str) -> String {
    let mut stream = TcpStream::connect(program.web()).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    let host = program.web();
    write!(stream, "{line} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n{fields}\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

/// The JSON of a good answer.
fn json(program: &Program, path: &str) -> Value {
    let answer = ask(program, &format!("GET {path}"), "");
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200 "), "{path}: {head}");
    serde_json::from_str(body).unwrap()
}

/// Delivers a message: the reply to it.
pub(crate) fn send(program: &Program, text: &str) -> String {
    let mut client = program.client();
    client.ask("EHLO there", "250");
    let reply = client.deliver(text);
    assert!(reply.starts_with("250 "), "{reply}");
    reply
}

/// Delivers a message: the id that the reply tells.
fn deliver(program: &Program, text: &str) -> String {
    send(program, text).split_whitespace().last().unwrap().to_owned()
}

#[test]
fn a_message_is_listed_as_soon_as_it_is_acknowledged_and_deleted_on_demand() {
    let program = Program::start(&[]);
    let first = deliver(&program, "From: Ann <ann@example.org>\r\nSubject: one\r\n\r\nHello\r\n");
    let second = deliver(&program, "Subject: two\r\n\r\nHello\r\n");
    let list = json(&program, "/api/messages");
    assert_eq!((&list["total"], &list["messages"][1]["id"]), (&2.into(), &first.as_str().into()));
    let message = json(&program, &format!("/api/messages/{second}"));
    assert_eq!((&message["from"], &message["subject"]), (&"from@example.org".into(), &"two".into()));
    assert_eq!((&message["to"][0], &message["text"]), (&"to@example.org".into(), &"Hello\r\n".into()));
    assert!(message["headers"].as_array().unwrap().iter().any(|header| header[0] == "Received"));
    let raw = ask(&program, &format!("GET /api/messages/{second}/raw"), "");
    assert_eq!(raw.split_once("\r\n\r\n").unwrap().1.as_bytes(), program.kept_in("Maildir/new")[1]);
    assert_eq!(json(&program, "/api/messages?search=ann")["messages"].as_array().unwrap().len(), 1);

    for fields in ["Origin: http://evil.example\r\n", "Sec-Fetch-Site: cross-site\r\n"] {
        assert!(ask(&program, "DELETE /api/messages", fields).starts_with("HTTP/1.1 403 "));
    }
    assert!(ask(&program, &format!("DELETE /api/messages/{first}"), "").starts_with("HTTP/1.1 204 "));
    assert_eq!(files(&program.folder().join("Maildir/new")).len(), 1);
    assert!(ask(&program, "DELETE /api/messages", "").starts_with("HTTP/1.1 204 "));
    assert_eq!(files(&program.folder().join("Maildir/new")).len(), 0);
    assert_eq!(json(&program, "/api/messages")["total"], 0);

    let metrics = ask(&program, "GET /metrics", "");
    for line in
        ["smtpd_messages_total{outcome=\"accepted\"} 2", "smtpd_recipients_total 2", "smtpd_sessions_total 2"]
    {
        assert!(metrics.lines().any(|found| found == line), "{line} is missing in {metrics}");
    }
}

#[test]
fn a_message_for_several_recipients_with_folders_is_one_on_the_page() {
    let program = Program::start(&["--per-recipient"]);
    let mut client = program.client();
    client.ask("EHLO there", "250");
    client.ask("MAIL FROM:<>", "250 ");
    client.ask("RCPT TO:<ann@example.org>", "250 ");
    client.ask("RCPT TO:<bob@example.org>", "250 ");
    client.ask("DATA", "354 ");
    client.ask("Subject: for both\r\n\r\nHello\r\n.", "250 ");
    let list = json(&program, "/api/messages");
    assert_eq!(list["total"], 1);
    let links = || {
        files(&program.folder().join("Maildir")).iter().flat_map(|folder| files(&folder.join("new"))).count()
    };
    assert_eq!(links(), 2);
    let id = list["messages"][0]["id"].as_str().unwrap();
    assert!(ask(&program, &format!("DELETE /api/messages/{id}"), "").starts_with("HTTP/1.1 204 "));
    assert_eq!(links(), 0);
}

#[test]
fn what_was_kept_before_is_listed_by_the_next_server() {
    let program = Program::start(&[]);
    let id = deliver(&program, "Subject: one\r\n\r\nHello\r\n");
    let folder = program.kill();
    let program = Program::start_in(folder, &[]);
    let list = until("the message to be listed", || {
        Some(json(&program, "/api/messages")).filter(|list| list["total"] == 1)
    });
    assert_eq!(list["messages"][0]["id"], id);
}

#[test]
fn a_stream_of_events_tells_of_a_message_and_ends_with_the_server() {
    let mut program = Program::start(&[]);
    let mut stream = TcpStream::connect(program.web()).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    write!(stream, "GET /api/events HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    let mut heard = Vec::new();
    let mut hear = |words: &str| {
        let mut piece = [0; 4096];
        while !String::from_utf8_lossy(&heard).contains(words) {
            let count = stream.read(&mut piece).unwrap();
            assert!(count > 0, "{words} is missing in {}", String::from_utf8_lossy(&heard));
            heard.extend_from_slice(&piece[..count]);
        }
    };
    hear("retry: ");
    let id = deliver(&program, "Subject: one\r\n\r\nHello\r\n");
    hear(&format!("\"added\":[\"{id}\"]"));
    program.signal(Signal::TERM);
    assert!(program.wait().success());
    assert_eq!(stream.read(&mut [0; 16]).unwrap(), 0);
}

#[test]
fn a_large_message_is_shown_and_sent_back_whole() {
    let program = Program::start(&["--message-limit=40MiB"]);
    let line = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcd\r\n";
    let id = deliver(&program, &format!("Subject: large\r\n\r\n{}", line.repeat((32 << 20) / line.len())));
    let length = program
        .folder()
        .join("Maildir/new")
        .read_dir()
        .unwrap()
        .next()
        .unwrap()
        .unwrap()
        .metadata()
        .unwrap()
        .size();
    let raw = ask(&program, &format!("GET /api/messages/{id}/raw"), "");
    assert_eq!(raw.split_once("\r\n\r\n").unwrap().1.len() as u64, length);
    let message = json(&program, &format!("/api/messages/{id}"));
    assert_eq!((&message["cut"], message["text"].as_str().unwrap().len()), (&true.into(), 1 << 20));
}

#[test]
fn a_server_that_keeps_nothing_says_so() {
    let program = Program::start(&["--sink"]);
    assert!(program.page().starts_with("the server is shown at http://127.0.0.1:"), "{}", program.page());
    assert!(Program::start(&[]).page().starts_with("messages are shown at http://127.0.0.1:"));
    send(&program, "Subject: one\r\n\r\nHello\r\n");
    let status = json(&program, "/api/status");
    assert_eq!(
        (&status["keeps"], &status["delivery"], &status["accepted"]),
        (&false.into(), &"sink".into(), &1.into())
    );
    assert_eq!(json(&program, "/api/messages")["total"], 0);
    let kinds: Vec<_> = json(&program, "/api/channels")["channels"]
        .as_array()
        .unwrap()
        .iter()
        .map(|channel| channel["kind"].clone())
        .collect();
    assert!(kinds.contains(&"listener".into()) && kinds.contains(&"browser".into()), "{kinds:?}");
}
