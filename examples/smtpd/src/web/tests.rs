//! Conversations with the page's server on a simulated network.

use std::fs;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use asyncore::Result;
use asyncore::testing::{Peer, Simulation};
use proptest::prelude::*;
use serde_json::Value;

use super::*;
use crate::mailbox::{Mailbox, kept};

/// A server with a Maildir, in which nothing is yet.
struct Server {
    sim: Simulation<App>,
    maildir: tempfile::TempDir,
}

impl Server {
    fn new() -> Self {
        let maildir = tempfile::tempdir().unwrap();
        for part in ["tmp", "new", "cur"] {
            fs::create_dir(maildir.path().join(part)).unwrap();
        }
        let mut app = App::for_tests();
        app.mailbox = Mailbox::open(maildir.path(), false);
        Self { sim: Simulation::new(app).unwrap(), maildir }
    }

    fn path(&self) -> &Path {
        self.maildir.path()
    }

    /// Keeps a message: its id.
    fn keep(&mut self, id: &str, text: impl AsRef<[u8]>) {
        let name = format!("1700000000.{id}.host");
        fs::write(self.path().join("new").join(&name), text).unwrap();
        let folder: Arc<Path> = self.path().into();
        kept(&mut self.sim.map, &mut self.sim.app, &name, vec![folder]);
    }

    fn connect(&mut self) -> Peer {
        let (here, peer) = self.sim.pair().unwrap();
        let browser = Browser::new(Rc::new(["mail.example".to_owned()]));
        let id = self.sim.map.add(here, browser).unwrap();
        let mut limits = Limits::default();
        limits.write_time = Some(WRITE_TIME);
        self.sim.map.set_limits(id, limits);
        peer
    }

    /// Sends bytes, and ends its side: all that comes back.
    fn told(&mut self, request: impl AsRef<[u8]>) -> String {
        let mut peer = self.connect();
        peer.send(request);
        peer.shutdown_write();
        self.sim.settle().unwrap();
        assert!(peer.is_eof() || peer.is_reset(), "it goes on");
        String::from_utf8_lossy(&peer.received()).into_owned()
    }

    /// Asks for one thing: head and body of the answer.
    fn ask(&mut self, method: &str, path: &str) -> (String, String) {
        let answer =
            self.told(format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"));
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.to_owned(), body.to_owned())
    }

    /// The JSON of a good answer.
    fn json(&mut self, path: &str) -> Value {
        let (head, body) = self.ask("GET", path);
        assert!(head.starts_with("HTTP/1.1 200 "), "{path}: {head}");
        serde_json::from_str(&body).unwrap()
    }

    /// The ids of the messages in a list.
    fn ids(&mut self, query: &str) -> Vec<String> {
        let list = self.json(&format!("/api/messages{query}"));
        list["messages"]
            .as_array()
            .unwrap()
            .iter()
            .map(|row| row["id"].as_str().unwrap().to_owned())
            .collect()
    }
}

/// The status codes in what came back, and how often.
fn codes(answers: &str) -> Vec<&str> {
    answers.match_indices("HTTP/1.1 ").map(|(at, start)| &answers[at + start.len()..][..3]).collect()
}

const MESSAGE: &str = "Return-Path: <ann@example.org>\r\nX-Envelope-To: bob@example.org, eve@example.org\r\n\
    From: Ann <ann@example.org>\r\nTo: Bob <bob@example.org>\r\nSubject: =?utf-8?q?Caf=C3=A9?= plans\r\n\
    Date: Tue, 14 Nov 2023 22:13:20 +0000\r\nMIME-Version: 1.0\r\n\
    Content-Type: multipart/mixed; boundary=x\r\n\r\n\
    --x\r\nContent-Type: multipart/alternative; boundary=y\r\n\r\n\
    --y\r\nContent-Type: text/plain\r\n\r\nLet us meet at noon.\r\n\
    --y\r\nContent-Type: text/html\r\n\r\n<p onclick=go()>Let us <b>meet</b><script>1</script><img src=cid:logo>\
    <img src=https://track.example/></p>\r\n--y--\r\n\
    --x\r\nContent-Type: image/png\r\nContent-ID: <logo>\r\nContent-Disposition: attachment; filename=\"logo.png\"\r\n\
    Content-Transfer-Encoding: base64\r\n\r\nAAECAw==\r\n--x--\r\n";

#[test]
fn a_kept_message_is_listed_and_shown_with_all_its_parts() {
    let mut server = Server::new();
    server.keep("first-message", "Subject: one\r\n\r\nfirst\r\n");
    server.keep("second-message", MESSAGE);
    let list = server.json("/api/messages");
    assert_eq!((&list["total"], &list["next"]), (&Value::from(2), &Value::Null));
    let row = &list["messages"][0];
    for (key, value) in [
        ("id", Value::from("second-message")),
        ("from", "Ann <ann@example.org>".into()),
        ("to", vec!["bob@example.org", "eve@example.org"].into()),
        ("subject", "Café plans".into()),
        ("date", "2023-11-14T22:13:20Z".into()),
        ("size", MESSAGE.len().into()),
        ("attachments", 1.into()),
        ("preview", "Let us meet at noon.".into()),
    ] {
        assert_eq!(row[key], value, "{key}");
    }
    let message = server.json("/api/messages/second-message");
    assert_eq!(message["text"], "Let us meet at noon.");
    assert_eq!(message["html"], "<p>Let us <b>meet</b><img><img></p>");
    assert_eq!(message["headers"][4], Value::from(vec!["Subject", "Café plans"]));
    let parts = message["parts"].as_array().unwrap();
    let file = parts.iter().find(|part| part["attachment"] == true).unwrap();
    assert_eq!(
        (&file["name"], &file["type"], &file["size"]),
        (&"logo.png".into(), &"image/png".into(), &4.into())
    );

    let (head, body) = server.ask("GET", &format!("/api/messages/second-message/parts/{}", file["index"]));
    assert!(head.contains("\r\nContent-Disposition: attachment; filename=\"logo.png\""), "{head}");
    assert!(head.contains("\r\nContent-Type: application/octet-stream\r\n"), "{head}");
    assert_eq!(body, "\0\u{1}\u{2}\u{3}");
    let (head, body) = server.ask("GET", "/api/messages/second-message/html");
    assert!(head.contains("\r\nContent-Security-Policy: default-src 'none'; img-src data:;"), "{head}");
    assert!(head.contains("sandbox"), "{head}");
    assert!(
        body.ends_with("<p>Let us <b>meet</b><img src=\"data:image/png;base64,AAECAw==\"><img></p>\n"),
        "{body}"
    );
    let (head, body) = server.ask("GET", "/api/messages/second-message/raw");
    assert!(head.contains("\r\nContent-Type: message/rfc822\r\n"), "{head}");
    assert_eq!(body, MESSAGE);
    for path in
        ["/api/messages/first-message/html", "/api/messages/first-message/parts/9", "/api/messages/other/raw"]
    {
        assert!(server.ask("GET", path).0.starts_with("HTTP/1.1 404 "), "{path}");
    }
}

#[test]
fn the_list_is_searched_and_read_page_by_page() {
    let mut server = Server::new();
    for number in 0..120 {
        server.keep(
            &format!("message-{number}"),
            format!("Subject: number {number}\r\n\r\nThe Text of {number}\r\n"),
        );
    }
    assert_eq!(server.ids("").len(), 50);
    let list = server.json("/api/messages?limit=7&before=message-50");
    assert_eq!(list["next"], "message-43");
    assert_eq!(server.ids("?limit=100&before=message-43").len(), 43);
    assert_eq!(server.ids("?search=Number+77"), ["message-77"]);
    assert_eq!(server.ids("?search=text%20of%20119"), ["message-119"]);
    assert_eq!(server.ids("?search=nothing"), [""; 0]);
    assert_eq!(server.ids("?search=text&limit=3"), ["message-119", "message-118", "message-117"]);
    for query in ["?limit=x", "?limit=-1"] {
        assert!(
            server.ask("GET", &format!("/api/messages{query}")).0.starts_with("HTTP/1.1 400 "),
            "{query}"
        );
    }
    assert!(server.ask("GET", "/api/messages?before=other").0.starts_with("HTTP/1.1 404 "));
}

#[test]
fn a_deleted_message_is_gone_from_the_list_and_from_the_disk() {
    let mut server = Server::new();
    for id in ["message-1", "message-2", "message-3"] {
        server.keep(id, MESSAGE);
    }
    let (head, body) = server.ask("DELETE", "/api/messages/message-2");
    assert!(
        head.starts_with("HTTP/1.1 204 ") && !head.contains("Content-Length") && body.is_empty(),
        "{head}"
    );
    assert!(server.ask("DELETE", "/api/messages/message-2").0.starts_with("HTTP/1.1 404 "));
    assert_eq!(server.ids(""), ["message-3", "message-1"]);
    // A mail reader has seen this one.
    let name = "1700000000.message-3.host";
    fs::rename(server.path().join("new").join(name), server.path().join("cur").join(format!("{name}:2,S")))
        .unwrap();
    assert_eq!(server.json("/api/messages/message-3")["subject"], "Café plans");
    assert!(server.ask("DELETE", "/api/messages").0.starts_with("HTTP/1.1 204 "));
    assert_eq!(server.ids(""), [""; 0]);
    for part in ["new", "cur"] {
        assert_eq!(fs::read_dir(server.path().join(part)).unwrap().count(), 0, "{part}");
    }
}

#[test]
fn a_message_whose_file_is_gone_leaves_the_list() {
    let mut server = Server::new();
    for id in ["message-1", "message-2", "message-3"] {
        server.keep(id, MESSAGE);
    }
    assert_eq!(server.ids("").len(), 3);
    fs::remove_file(server.path().join("new/1700000000.message-2.host")).unwrap();
    assert_eq!(server.ids(""), ["message-3", "message-1"]);
    fs::remove_file(server.path().join("new/1700000000.message-3.host")).unwrap();
    assert!(server.ask("GET", "/api/messages/message-3").0.starts_with("HTTP/1.1 404 "));
    assert_eq!(server.sim.app.mailbox.len(), 1);
}

#[test]
fn messages_that_are_gone_leave_room_in_a_list_for_older_ones() {
    let mut server = Server::new();
    for number in 0..120 {
        server.keep(&format!("message-{number}"), MESSAGE);
    }
    for number in 60..120 {
        fs::remove_file(server.path().join(format!("new/1700000000.message-{number}.host"))).unwrap();
    }
    let list = server.json("/api/messages");
    assert_eq!((&list["total"], &list["next"]), (&60.into(), &"message-10".into()));
    assert_eq!(list["messages"].as_array().unwrap().len(), 50);
}

#[test]
fn every_answer_forbids_what_it_does_not_need() {
    let mut server = Server::new();
    server.keep("message-1", MESSAGE);
    for path in [
        "/",
        "/page.css",
        "/page.js",
        "/api/messages",
        "/api/messages/message-1",
        "/api/messages/message-1/raw",
        "/api/messages/message-1/html",
        "/api/messages/message-1/parts/2",
        "/api/channels",
        "/api/status",
        "/metrics",
        "/healthz",
        "/nothing",
    ] {
        let (head, body) = server.ask("GET", path);
        assert!(head.starts_with("HTTP/1.1 200 ") || path == "/nothing", "{path}: {head}");
        for field in [
            "\r\nContent-Security-Policy: default-src 'none'; ",
            "\r\nX-Content-Type-Options: nosniff",
            "\r\nReferrer-Policy: no-referrer",
            "\r\nCache-Control: no-store",
            "\r\nCross-Origin-Resource-Policy: same-origin",
            "frame-ancestors",
        ] {
            assert!(head.contains(field), "{path}: {field} is missing in {head}");
        }
        let length = format!("\r\nContent-Length: {}", body.len());
        assert!(head.contains(&length) || body.contains('\u{fffd}'), "{path}: {head}");
        let (without, nothing) = server.ask("HEAD", path);
        // The counters have moved on.
        assert_eq!(without.lines().next(), head.lines().next(), "{path}");
        assert_eq!(nothing, "", "{path}");
    }
}

#[test]
fn what_cannot_be_answered_is_refused_with_the_right_code() {
    let mut server = Server::new();
    server.keep("message-1", MESSAGE);
    let long = format!("GET / HTTP/1.1\r\nHost: localhost\r\nX: {}\r\n\r\n", "x".repeat(HEAD_LIMIT));
    let endless = "GET / HTTP/1.1\r\nX: ".to_owned() + &"x".repeat(3 * HEAD_LIMIT);
    let many = format!("GET / HTTP/1.1\r\nHost: localhost\r\n{}\r\n", "X: y\r\n".repeat(65));
    for (request, code) in [
        (&*long, "431"),
        (&endless, "431"),
        (&many, "431"),
        ("GET / HTTP/1.1\r\n\r\n", "400"),
        ("GET / HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n\r\n", "400"),
        ("GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n", "421"),
        ("GET http://evil.example/ HTTP/1.1\r\nHost: localhost\r\n\r\n", "421"),
        ("GET / HTTP/1.1\r\nHost: mail.example:80\r\n\r\n", "200"),
        ("GET / HTTP/1.0\r\n\r\n", "200"),
        ("GET /nothing HTTP/1.0\r\n\r\n", "404"),
        ("POST / HTTP/1.0\r\n\r\n", "405"),
        ("DELETE / HTTP/1.0\r\n\r\n", "405"),
        ("DELETE /api/messages/message-1/raw HTTP/1.0\r\n\r\n", "405"),
        ("PUT /api/messages/message-1 HTTP/1.0\r\nContent-Length: 65537\r\n\r\n", "413"),
        ("GET / HTTP/1.0\r\nContent-Length: 99999999999999999999999\r\n\r\n", "413"),
        ("GET / HTTP/1.0\r\nContent-Length: -1\r\n\r\n", "400"),
        ("GET / HTTP/1.0\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n", "400"),
        ("GET / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", "501"),
        ("GET / HTTP/1.0\r\nTransfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n", "400"),
        ("GET / HTTP/1.0\r\nExpect: 100-continue\r\n\r\n", "417"),
        ("GET / HTTP/3.0\r\n\r\n", "505"),
        ("GET nothing HTTP/1.0\r\n\r\n", "400"),
        ("EHLO there\r\n\r\n", "400"),
        ("GET / HTTP/1.0\r\nA b: c\r\n\r\n", "400"),
        ("\0\u{1}\u{2}\r\n\r\n", "400"),
    ] {
        let answer = server.told(request);
        assert_eq!(codes(&answer), [code], "{request:.80}");
    }
    // With the first refusal the connection is over.
    assert_eq!(codes(&server.told("BAD\r\n\r\nGET / HTTP/1.1\r\nHost: localhost\r\n\r\n")), ["400"]);
}

#[test]
fn pipelined_requests_are_answered_in_their_order() {
    let mut server = Server::new();
    server.keep("message-1", MESSAGE);
    let request = |line: &str| format!("{line} HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let requests = [
        &*request("GET /healthz"),
        &request("GET /api/messages/message-1/raw"),
        // The body of this one is passed over.
        "GET /nothing HTTP/1.1\r\nHost: localhost\r\nContent-Length: 31\r\n\r\nGET /healthz HTTP/1.1\r\n\r\n......",
        &request("HEAD /"),
        &request("DELETE /api/messages/message-1"),
        &request("GET /api/messages/message-1"),
        &request("GET /healthz"),
    ];
    let answer = server.told(requests.concat());
    assert_eq!(codes(&answer), ["200", "200", "404", "200", "204", "404", "200"]);
    assert!(answer.contains(MESSAGE) && answer.ends_with("\r\n\r\nok\n"), "{answer}");
}

#[test]
fn a_large_message_is_sent_as_it_is_read_and_costs_little() -> Result {
    let mut server = Server::new();
    let text: Vec<u8> = (0..10 << 20).map(|at: u32| b"0123456789abcdef\r\n"[at as usize % 18]).collect();
    server.keep("large-message", &text);
    let mut peer = server.connect();
    peer.stop_reading();
    peer.send("GET /api/messages/large-message/raw HTTP/1.1\r\nHost: localhost\r\n\r\n");
    server.sim.settle()?;
    assert!(server.sim.map.queued() <= PIECE + 1024, "{}", server.sim.map.queued());
    peer.start_reading();
    server.sim.settle()?;
    let received = peer.received();
    assert_eq!(
        received.len() - received.windows(4).position(|end| end == b"\r\n\r\n").unwrap() - 4,
        text.len()
    );
    assert!(received.ends_with(&text));
    // And the connection serves on.
    peer.send("GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n");
    server.sim.settle()?;
    assert!(peer.received().ends_with(b"\r\n\r\nok\n"));
    Ok(())
}

#[test]
fn a_long_list_waits_on_the_disk_for_who_reads_slowly() -> Result {
    let mut server = Server::new();
    for number in 0..500 {
        server.keep(&format!("message-{number}"), format!("Subject: {}\r\n\r\n", "s".repeat(900)));
    }
    let mut peer = server.connect();
    peer.stop_reading();
    peer.send("GET /api/messages?limit=500 HTTP/1.1\r\nHost: localhost\r\n\r\n");
    server.sim.settle()?;
    let ids: Vec<_> = server.sim.map.iter().map(|(id, _)| id).collect();
    server.sim.map.with(&mut server.sim.app, ids[0], |browser: &mut Browser, _cx| {
        assert!(matches!(browser.state, State::Sending(Rest::File(..))));
    });
    peer.start_reading();
    server.sim.settle()?;
    let answer = String::from_utf8(peer.received())?;
    let list: Value = serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1)?;
    assert_eq!(list["messages"].as_array().unwrap().len(), 500);
    Ok(())
}

#[test]
fn a_file_that_becomes_shorter_while_it_is_sent_ends_its_connection() -> Result {
    let mut server = Server::new();
    server.keep("message-1", vec![b'x'; 4 * PIECE]);
    let mut peer = server.connect();
    peer.stop_reading();
    peer.send("GET /api/messages/message-1/raw HTTP/1.1\r\nHost: localhost\r\n\r\n");
    server.sim.settle()?;
    let file = File::options().write(true).open(server.path().join("new/1700000000.message-1.host"))?;
    file.set_len(2 * PIECE as u64 + 10)?;
    peer.start_reading();
    server.sim.settle()?;
    assert!(peer.is_eof() || peer.is_reset());
    assert!(server.sim.map.is_empty(), "nobody waits for what does not come");
    Ok(())
}

#[test]
fn who_does_not_read_or_does_not_ask_is_not_waited_for() -> Result {
    let mut server = Server::new();
    server.keep("large-message", vec![b'x'; 4 << 20]);
    let (mut reader, mut silent, mut slow) = (server.connect(), server.connect(), server.connect());
    reader.stop_reading();
    reader.send("GET /api/messages/large-message/raw HTTP/1.1\r\nHost: localhost\r\n\r\n");
    for _ in 0..29 {
        slow.send("G");
        server.sim.advance(Duration::from_secs(1))?;
    }
    assert!(!silent.is_eof() && !slow.is_eof());
    server.sim.advance(Duration::from_secs(62))?;
    assert!(silent.is_eof() && slow.is_eof(), "thirty seconds have passed");
    assert!(server.sim.map.is_empty(), "nor is the one that does not read");
    silent.close();
    Ok(())
}

#[test]
fn a_stream_of_events_tells_what_comes_and_goes() -> Result {
    let mut server = Server::new();
    let mut peer = server.connect();
    peer.send("GET /api/events HTTP/1.1\r\nHost: localhost\r\n\r\n");
    server.sim.settle()?;
    let head = String::from_utf8(peer.take_received())?;
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n") && head.ends_with("\r\n\r\nretry: 1000\n\n"), "{head}");
    assert!(
        head.contains("\r\nContent-Type: text/event-stream\r\n") && !head.contains("Content-Length"),
        "{head}"
    );
    for id in ["message-1", "message-2"] {
        server.keep(id, MESSAGE);
    }
    server.sim.advance(Duration::from_secs(1))?;
    let event = "event: messages\ndata: {\"added\":[\"message-1\",\"message-2\"],\"deleted\":[],\"more\":0,\"total\":2}\n\n";
    assert_eq!(String::from_utf8(peer.take_received())?, event);
    server.ask("DELETE", "/api/messages/message-1");
    server.sim.advance(Duration::from_secs(1))?;
    let event =
        "event: messages\ndata: {\"added\":[],\"deleted\":[\"message-1\"],\"more\":0,\"total\":1}\n\n";
    assert_eq!(String::from_utf8(peer.take_received())?, event);
    for number in 0..1000 {
        server.keep(&format!("message-{number}-"), MESSAGE);
    }
    server.sim.advance(Duration::from_secs(60))?;
    let events = String::from_utf8(peer.take_received())?;
    assert!(events.contains("\"more\":900,\"total\":1001}\n\n:\n\n"), "{events}");
    assert_eq!(events.matches("\n:\n").count(), 4, "a heartbeat each quarter of a minute");
    server.sim.map.shutdown(Duration::from_secs(5));
    server.sim.settle()?;
    assert!(peer.is_eof());
    Ok(())
}

#[test]
fn a_stream_that_is_not_read_is_given_up_and_one_that_ends_is_forgotten() -> Result {
    let mut server = Server::new();
    let (mut deaf, mut leaving) = (server.connect(), server.connect());
    for peer in [&mut deaf, &mut leaving] {
        peer.send("GET /api/events HTTP/1.1\r\nHost: localhost\r\n\r\nand more that nobody reads");
    }
    server.sim.settle()?;
    leaving.shutdown_write();
    server.sim.settle()?;
    assert!(leaving.is_eof());
    deaf.stop_reading();
    for number in 0..3000 {
        server.keep(&format!("message-{number}-{}", "x".repeat(200)), "");
        if number % 100 == 0 {
            server.sim.advance(Duration::from_secs(1))?;
        }
    }
    server.sim.advance(Duration::from_secs(60))?;
    assert!(server.sim.map.is_empty());
    Ok(())
}

#[test]
fn another_page_can_neither_delete_nor_listen() {
    let mut server = Server::new();
    server.keep("message-1", MESSAGE);
    for fields in ["Origin: http://evil.example\r\n", "Sec-Fetch-Site: cross-site\r\n", "Origin: null\r\n"] {
        for line in
            ["DELETE /api/messages", "DELETE /api/messages/message-1", "GET /api/events", "GET /api/messages"]
        {
            let answer = server.told(format!("{line} HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n"));
            assert_eq!(codes(&answer), ["403"], "{line} {fields}");
        }
    }
    assert_eq!(server.ids(""), ["message-1"]);
}

#[test]
fn channels_and_counters_are_told() {
    let mut server = Server::new();
    let channels = server.json("/api/channels");
    assert_eq!((&channels["open"], &channels["channels"][0]["kind"]), (&1.into(), &"browser".into()));
    let status = server.json("/api/status");
    assert_eq!(
        (&status["keeps"], &status["delivery"], &status["hostname"]),
        (&true.into(), &"sink".into(), &"mail.example".into())
    );
    assert!(server.ask("GET", "/metrics").1.contains("\nsmtpd_sessions 0\n"));
}

#[test]
fn what_was_asked_before_a_shutdown_is_answered() -> Result {
    let mut server = Server::new();
    server.keep("large-message", vec![b'x'; 1 << 20]);
    let (mut idle, mut busy) = (server.connect(), server.connect());
    busy.stop_reading();
    busy.send("GET /api/messages/large-message/raw HTTP/1.1\r\nHost: localhost\r\n\r\n");
    server.sim.settle()?;
    server.sim.map.shutdown(Duration::from_secs(5));
    server.sim.settle()?;
    assert!(idle.is_eof() && !busy.is_eof());
    busy.start_reading();
    server.sim.settle()?;
    assert!(busy.is_eof() && busy.received().len() > 1 << 20);
    idle.close();
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_bytes_in_any_pieces_are_answered_alike(
        parts in prop::collection::vec(
            prop_oneof![
                Just(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n".to_vec()),
                Just(b"GET /api/messages HTTP/1.1\r\nHost: localhost\r\n\r\n".to_vec()),
                Just(b"GET /api/messages/message-1/raw HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\n\r\nabc".to_vec()),
                Just(b"HEAD / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n".to_vec()),
                Just(b"\r\n".to_vec()),
                prop::collection::vec(any::<u8>(), 0..40),
                "[A-Z]{0,8} /?[a-z/]{0,9} HTTP/1.[019]\r\n([A-Za-z-]{0,9}: ?[ -~]{0,9}\r\n){0,3}\r\n".prop_map(String::into_bytes),
            ],
            0..8,
        ),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
    ) {
        let input = parts.concat();
        let whole = {
            let mut server = Server::new();
            server.keep("message-1", MESSAGE);
            server.told(&input)
        };
        let mut server = Server::new();
        server.keep("message-1", MESSAGE);
        let mut peer = server.connect();
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(input.len() + 1)).collect();
        cuts.sort_unstable();
        let mut sent = 0;
        for cut in cuts.into_iter().chain([input.len()]) {
            peer.send(&input[sent..cut]);
            sent = cut;
            server.sim.settle().unwrap();
        }
        peer.shutdown_write();
        server.sim.settle().unwrap();
        let in_pieces = peer.received();
        // What is told of the time of arrival differs.
        let in_pieces = String::from_utf8_lossy(&in_pieces);
        prop_assert_eq!(codes(&in_pieces), codes(&whole));
        prop_assert_eq!(in_pieces.len(), whole.len());
    }

    #[test]
    fn any_message_is_shown_in_some_way(changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..30)) {
        let mut text = MESSAGE.as_bytes().to_vec();
        for (at, byte) in changes {
            let at = at.index(text.len());
            text[at] = byte;
        }
        let mut server = Server::new();
        server.keep("message-1", &text);
        let message = server.json("/api/messages/message-1");
        prop_assert_eq!(&message["size"], &Value::from(text.len()));
        for part in message["parts"].as_array().unwrap() {
            let (head, _) = server.ask("GET", &format!("/api/messages/message-1/parts/{}", part["index"]));
            prop_assert!(head.starts_with("HTTP/1.1 200 "), "{}", head);
        }
        server.ask("GET", "/api/messages/message-1/html");
    }
}
