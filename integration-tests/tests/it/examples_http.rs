//! The examples' HTTP server channel: what it answers, what it refuses, and what it costs a server to be asked badly.

use std::io::{Read, Write};
use std::time::Duration;

use asyncore::{Context, HIGH_MARK, Map};
use examples::http::{HEAD_LIMIT, HttpServer, Request, Response, Status};
use integration_tests::{Peer, map, run_to_the_end, settle, turn_until};

#[test]
fn good_requests_are_answered() {
    let table = [
        ("GET /a HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", "200 OK", "/a"),
        ("GET /a?b=c HTTP/1.1\r\nhost: 127.0.0.1:80\r\nconnection: x, Close\r\n\r\n", "200 OK", "/a b=c"),
        ("GET http://localhost/a HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", "200 OK", "/a"),
        ("\r\nGET /a HTTP/1.1\r\nHost: [::1]\r\nConnection: close\r\n\r\n", "200 OK", "/a"),
        ("GET /a HTTP/1.0\r\n\r\n", "200 OK", "/a"),
        ("HEAD /a HTTP/1.0\r\n\r\n", "200 OK", ""),
        ("GET /missing HTTP/1.0\r\n\r\n", "404 Not Found", "404 Not Found\n"),
        (
            "POST /a HTTP/1.0\r\nContent-Length: 3\r\n\r\nabc",
            "405 Method Not Allowed",
            "405 Method Not Allowed\n",
        ),
        ("OPTIONS * HTTP/1.0\r\n\r\n", "405 Method Not Allowed", "405 Method Not Allowed\n"),
    ];
    for (request, status, body) in table {
        let answer = talk(request.as_bytes());
        assert_eq!(answer.status(), status, "{request:?}");
        assert_eq!(answer.body, body, "{request:?}");
    }
    assert!(talk(b"PUT / HTTP/1.0\r\n\r\n").head.contains("\r\nAllow: GET, HEAD\r\n"));
    let (get, head) = (talk(b"GET /a HTTP/1.0\r\n\r\n"), talk(b"HEAD /a HTTP/1.0\r\n\r\n"));
    assert_eq!(get.head, head.head);
    assert!(head.head.ends_with("\r\nContent-Length: 2"), "{}", head.head);
}

#[test]
fn what_is_wrong_with_a_request_is_said_and_ends_the_connection() {
    let long = "x".repeat(HEAD_LIMIT);
    let many = "A: b\r\n".repeat(65);
    let table = [
        ("\0\r\n\r\n", "400 Bad Request"),
        ("GET /\r\n\r\n", "400 Bad Request"),
        ("GET / HTTP/2.0\r\n\r\n", "505 HTTP Version Not Supported"),
        ("GET /\x07 HTTP/1.0\r\n\r\n", "400 Bad Request"),
        ("GET x HTTP/1.0\r\n\r\n", "400 Bad Request"),
        ("GET ftp://localhost/ HTTP/1.0\r\n\r\n", "400 Bad Request"),
        ("GET / HTTP/1.0\r\nA : b\r\n\r\n", "400 Bad Request"),
        ("GET / HTTP/1.0\r\nA: b\r\n c\r\n\r\n", "400 Bad Request"),
        ("GET / HTTP/1.0\r\nA: b\rc\r\n\r\n", "400 Bad Request"),
        // A bare line feed ends a head for some: then two requests would be seen here.
        ("GET / HTTP/1.0\r\nA: b\n\nGET /b HTTP/1.0\r\n\r\n", "400 Bad Request"),
        (&format!("GET /{long} HTTP/1.0\r\n\r\n"), "431 Request Header Fields Too Large"),
        (&format!("GET / HTTP/1.0\r\nA: {long}"), "431 Request Header Fields Too Large"),
        (&format!("GET / HTTP/1.0\r\n{many}\r\n"), "431 Request Header Fields Too Large"),
        ("GET / HTTP/1.0\r\nContent-Length: 65537\r\n\r\n", "413 Content Too Large"),
        ("GET / HTTP/1.0\r\nContent-Length: 99999999999999999999\r\n\r\n", "413 Content Too Large"),
        ("GET / HTTP/1.0\r\nContent-Length: -1\r\n\r\n", "400 Bad Request"),
        ("GET / HTTP/1.0\r\nContent-Length: +1\r\n\r\n", "400 Bad Request"),
        ("GET / HTTP/1.0\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\nx", "400 Bad Request"),
        ("GET / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", "501 Not Implemented"),
        ("GET / HTTP/1.0\r\nTransfer-Encoding: chunked\r\nContent-Length: 0\r\n\r\n", "400 Bad Request"),
        ("POST / HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n", "417 Expectation Failed"),
    ];
    for (request, status) in table {
        // What follows is not answered: nobody knows where it begins.
        let input = [request.as_bytes(), b"GET /after HTTP/1.0\r\n\r\n"].concat();
        let answer = talk(&input);
        assert_eq!(answer.status(), status, "{request:?}");
        assert!(answer.head.contains("\r\nConnection: close\r\n"), "{request:?}");
        assert_eq!(answer.body, format!("{status}\n"), "{request:?}");
    }
}

#[test]
fn only_who_asks_for_this_machine_by_its_own_name_is_answered() {
    let table = [
        ("GET / HTTP/1.1\r\n\r\n", "400 Bad Request"),
        ("GET / HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n\r\n", "400 Bad Request"),
        ("GET / HTTP/1.1\r\nHost: example.org\r\n\r\n", "421 Misdirected Request"),
        ("GET / HTTP/1.1\r\nHost: localhost.example.org\r\n\r\n", "421 Misdirected Request"),
        ("GET / HTTP/1.1\r\nHost: 192.0.2.1\r\n\r\n", "421 Misdirected Request"),
        ("GET / HTTP/1.1\r\nHost:\r\n\r\n", "421 Misdirected Request"),
        ("GET http://example.org/ HTTP/1.1\r\nHost: localhost\r\n\r\n", "421 Misdirected Request"),
        ("GET http://localhost/ HTTP/1.1\r\nHost: example.org\r\n\r\n", "421 Misdirected Request"),
    ];
    for (request, status) in table {
        assert_eq!(talk(request.as_bytes()).status(), status, "{request:?}");
    }
}

#[test]
fn a_page_of_another_origin_changes_nothing() {
    let table = [
        ("http://localhost:80", "405 Method Not Allowed"),
        // By a proxy in front of it.
        ("https://localhost:80", "405 Method Not Allowed"),
        ("http://localhost", "403 Forbidden"),
        ("http://localhost:3000", "403 Forbidden"),
        ("http://example.org", "403 Forbidden"),
        ("null", "403 Forbidden"),
    ];
    for (origin, status) in table {
        let request =
            format!("POST / HTTP/1.1\r\nHost: localhost:80\r\nOrigin: {origin}\r\nConnection: close\r\n\r\n");
        assert_eq!(talk(request.as_bytes()).status(), status, "{origin}");
    }
}

#[test]
fn pipelined_requests_are_answered_in_order_and_bodies_are_passed_over() {
    let input = "GET /1 HTTP/1.1\r\nHost: localhost\r\n\r\n\
                 POST /2 HTTP/1.1\r\nHost: localhost\r\nContent-Length: 22\r\n\r\nGET /no HTTP/1.0\r\n\r\n\r\n\
                 GET /3 HTTP/1.0\r\nConnection: keep-alive\r\n\r\n\
                 GET /4 HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n\
                 GET /5 HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let whole = talk_in_pieces(&[input.as_bytes()]);
    let bodies: Vec<_> =
        whole.split("HTTP/1.1 ").filter_map(|answer| answer.rsplit("\r\n\r\n").next()).collect();
    assert_eq!(bodies, ["", "/1", "405 Method Not Allowed\n", "/3", "/4"]);
    for size in [1, 2, 3, 7, 64] {
        let pieces: Vec<_> = input.as_bytes().chunks(size).collect();
        assert_eq!(talk_in_pieces(&pieces), whole, "in pieces of {size}");
    }
}

#[test]
fn who_does_not_take_the_answers_is_not_asked_for_more_requests() {
    const REQUESTS: usize = 400;
    let (mut peer, here) = Peer::tcp_pair();
    peer.set_nonblocking();
    let mut map: Map = map();
    let id = map.add(here, HttpServer::new(respond)).expect("a channel");
    let requests = b"GET /large HTTP/1.1\r\nHost: localhost\r\n\r\n".repeat(REQUESTS);
    peer.send(&requests);
    let answer = talk(b"GET /large HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    // The other answers say `keep-alive` where this one says `close`.
    let length = answer.length() + "keep-alive".len() - "close".len();

    settle(&mut map, &mut ());
    let channel = map.get(id).expect("an open channel");
    let (mut received, mut most) = (0, channel.queued());
    assert!(most > 0 && channel.bytes_in() < requests.len() as u64, "nothing had to wait");
    let mut room = vec![0; 1 << 20];
    turn_until(&mut map, &mut (), "every answer", |map, ()| {
        received += peer.read(&mut room).unwrap_or(0);
        most = most.max(map.get(id).expect("an open channel").queued());
        received == length * REQUESTS
    });
    assert!(most <= HIGH_MARK + length, "{most} bytes of answers were queued");
}

#[test]
fn who_asks_for_nothing_does_not_stay_for_ever_however_much_is_sent() {
    for trickles in [false, true] {
        let (mut peer, here) = Peer::tcp_pair();
        let mut map: Map = map();
        map.add(here, HttpServer::new(respond).idle_time(Duration::from_millis(1))).expect("a channel");
        peer.send(b"GET / HTTP/1.1\r\n");
        turn_until(&mut map, &mut (), "the connection to be given up", |map, ()| {
            if trickles {
                // It fails once the other side has gone.
                drop(peer.write(b"x"));
            }
            map.counters().closed == 1 || map.iter().any(|(_, it)| it.state() == asyncore::State::Lingering)
        });
    }
}

/// What the tests' server answers: the path and the query, or something large.
fn respond(_cx: &mut Context<'_>, request: &Request<'_>) -> Response {
    match (request.path, request.query) {
        ("/missing", _) => Response::plain(Status::NotFound),
        ("/large", _) => Response::ok("text/plain", vec![b'x'; 50_000]),
        (path, "") => Response::ok("text/plain", path.to_owned()),
        (path, query) => Response::ok("text/plain", format!("{path} {query}")),
    }
}

struct Answer {
    head: String,
    body: String,
}

impl Answer {
    fn status(&self) -> &str {
        self.head.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.lines().next()).unwrap_or("none")
    }

    const fn length(&self) -> usize {
        self.head.len() + "\r\n\r\n".len() + self.body.len()
    }
}

/// Sends all of `input`, and returns the only answer.
fn talk(input: &[u8]) -> Answer {
    let answer = talk_in_pieces(&[input]);
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    assert!(!body.contains("HTTP/1.1 "), "more than one answer: {answer}");
    Answer { head: head.to_owned(), body: body.to_owned() }
}

/// Sends pieces, each when the last has been read, and returns all that comes back until the server closes.
fn talk_in_pieces(pieces: &[&[u8]]) -> String {
    let (mut peer, here) = Peer::tcp_pair();
    let mut map: Map = map();
    let id = map.add(here, HttpServer::new(respond)).expect("a channel");
    let mut sent = 0;
    for piece in pieces {
        peer.send(piece);
        sent += piece.len() as u64;
        // Once it closes, it drops what comes in.
        turn_until(&mut map, &mut (), "a piece to be read", |map, ()| {
            map.get(id).is_none_or(|channel| channel.bytes_in() == sent)
        });
    }
    peer.shutdown_write();
    run_to_the_end(&mut map, &mut ());
    String::from_utf8(peer.read_rest()).expect("text")
}
