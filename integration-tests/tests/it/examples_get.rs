//! The HTTP client example against servers that answer well, badly, slowly and without end: its exit status tells.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::Output;
use std::thread::{self, JoinHandle};

use integration_tests::{DEADLINE, Net};

use crate::examples::command;

#[expect(dead_code, reason = "its main is the program's")]
#[path = "../../../examples/http_get.rs"]
mod http_get;

#[test]
fn every_way_to_end_a_body_is_understood() {
    let table = [
        ("a count", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello and more", "hello"),
        ("a count of none", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\nmore", ""),
        ("no content", "HTTP/1.1 204 No Content\r\n\r\nmore", ""),
        ("end of file", "HTTP/1.0 200 OK\r\n\r\nto the end\r\n\r\n", "to the end\r\n\r\n"),
        ("an empty end of file", "HTTP/1.0 200\r\n\r\n", ""),
        (
            "chunks",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\nmore",
            "hello",
        ),
        (
            "chunks with all that may be in them",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: Chunked\r\n\r\n\
             00A;name=\"value\"\r\n0123\r\n5678\r\n1 ; x\r\n!\r\n000\r\nTrailer: a\r\nAnother: b\r\n\r\n",
            "0123\r\n5678!",
        ),
        (
            "interim answers",
            "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n\
             HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
            "ok",
        ),
    ];
    for (what, answer, body) in table {
        let (output, request) = ask(&[], answer);
        assert_eq!(output.status.code(), Some(0), "{what}: {output:?}");
        assert_eq!(String::from_utf8_lossy(&output.stdout), body, "{what}");
        assert_eq!(output.stderr, b"", "{what}");
        assert!(request.starts_with("GET /path?query HTTP/1.1\r\nHost: 127.0.0.1:"), "{request}");
        assert!(request.ends_with("\r\nConnection: close\r\n\r\n"), "{request}");
    }
}

#[test]
fn every_misbehaviour_has_its_exit_status() {
    let ok = "HTTP/1.1 200 OK\r\n";
    let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    let hundred_interim = "HTTP/1.1 100 Continue\r\n\r\n".repeat(100);
    let hundred_and_one_fields = (0..101).fold(String::new(), |mut fields, number| {
        write!(fields, "A{number}: b\r\n").expect("a string takes all");
        fields
    });
    let extension = "x".repeat(2000);
    let many_extensions = format!("1;{extension}\r\nx\r\n").repeat(20);
    let many_trailers = format!("A: {extension}\r\n").repeat(20);
    let table: [(&str, i32, String, &str); 27] = [
        ("the server says no", 9, "HTTP/1.1 404 Not Found\r\nContent-Length: 4\r\n\r\nnone".into(), "none"),
        ("nothing at all", 6, String::new(), ""),
        ("half a head", 6, "HTTP/1.1 200 OK\r\nContent-".into(), ""),
        ("half a count", 6, format!("{ok}Content-Length: 10\r\n\r\nhalf"), "half"),
        ("half a chunk", 6, format!("{chunked}a\r\nhalf"), "half"),
        ("no last chunk", 6, format!("{chunked}4\r\nhalf\r\n"), "half"),
        ("no end of the trailer", 6, format!("{chunked}4\r\nhalf\r\n0\r\n"), "half"),
        ("another protocol", 4, "220 mail.example.org ESMTP\r\n\r\n".into(), ""),
        ("a switch of protocols", 4, "HTTP/1.1 101 Switching Protocols\r\n\r\n".into(), ""),
        ("a status below 100", 4, "HTTP/1.1 099 What\r\n\r\n".into(), ""),
        ("a field without a colon", 4, format!("{ok}what\r\n\r\n"), ""),
        ("a carriage return in a field", 4, format!("{ok}A: b\rc\r\n\r\n"), ""),
        ("a head that ends twice", 4, format!("{ok}A: b\n\nC: d\r\n\r\n"), ""),
        (
            "a count and chunks",
            4,
            format!("{ok}Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
            "",
        ),
        ("two counts", 4, format!("{ok}Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello!"), ""),
        ("a negative count", 4, format!("{ok}Content-Length: -5\r\n\r\nhello"), ""),
        ("a list of counts", 4, format!("{ok}Content-Length: 5, 5\r\n\r\nhello"), ""),
        ("an unknown coding", 4, format!("{ok}Transfer-Encoding: gzip, chunked\r\n\r\n"), ""),
        (
            "chunks in HTTP/1.0",
            4,
            "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n".into(),
            "",
        ),
        ("a chunk's size that is none", 4, format!("{chunked}0x5\r\nhello\r\n0\r\n\r\n"), ""),
        ("a chunk longer than its size", 4, format!("{chunked}4\r\nhello\r\n0\r\n\r\n"), "hell"),
        ("a chunk too large to count", 5, format!("{chunked}11111111111111111\r\n"), ""),
        ("a count too large to count", 5, format!("{ok}Content-Length: 99999999999999999999\r\n\r\n"), ""),
        ("a hundred interim answers", 5, hundred_interim, ""),
        ("a hundred and one fields", 5, format!("{ok}{hundred_and_one_fields}\r\n"), ""),
        ("extensions without end", 5, format!("{chunked}{many_extensions}"), "xxxxxxxx"),
        ("trailers without end", 5, format!("{chunked}0\r\n{many_trailers}"), ""),
    ];
    for (what, code, answer, body) in table {
        let (output, _) = ask(&[], answer);
        assert_eq!(output.status.code(), Some(code), "{what}: {output:?}");
        assert_eq!(String::from_utf8_lossy(&output.stdout), body, "{what}");
        let error = String::from_utf8(output.stderr).expect("text");
        assert!(error.starts_with("error: ") && error.lines().count() == 1, "{what}: {error}");
    }
}

#[test]
fn what_never_ends_is_given_up_at_its_limit() {
    let table = [
        ("a status line", "", "HTTP/1.1 200 O", &[][..]),
        ("a head", "HTTP/1.1 200 OK\r\n", "A: b\r\n", &[]),
        ("a line of the chunked coding", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "0", &[]),
        ("a body to the end", "HTTP/1.1 200 OK\r\n\r\n", "body", &["--max-bytes", "100000"]),
        (
            "chunks",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
            "1\r\nx\r\n",
            &["--max-bytes", "1000"],
        ),
        ("a long count", "HTTP/1.1 200 OK\r\nContent-Length: 1001\r\n\r\n", "body", &["--max-bytes", "1000"]),
    ];
    for (what, start, repeated, options) in table {
        let (at, server) = serve(move |mut client| {
            read_request(&mut client);
            drop(client.write_all(start.as_bytes()));
            let block = repeated.repeat(1000);
            // Until the client has gone.
            while client.write_all(block.as_bytes()).is_ok() {}
        });
        let output = get(options, at, "/");
        assert_eq!(output.status.code(), Some(5), "{what}: {output:?}");
        assert!(output.stdout.len() <= 100_000, "{what}: {} bytes were printed", output.stdout.len());
        server.join().expect("no panic");
    }
}

#[test]
fn a_server_that_says_nothing_is_given_up_in_time() {
    let (at, server) = serve(|mut client| {
        read_request(&mut client);
        // Until the client has gone.
        assert_eq!(client.read_to_end(&mut Vec::new()).expect("an end"), 0);
    });
    let output = get(&["--max-time", "1"], at, "/");
    assert_eq!(output.status.code(), Some(7), "{output:?}");
    server.join().expect("no panic");
}

#[test]
fn nobody_there_and_bad_addresses_are_told_apart() {
    let (asyncore::Address::Inet(dead), _folder) = Net::V4.dead_address() else { panic!("an IPv4 address") };
    assert_eq!(get(&[], dead, "/").status.code(), Some(3));
    for bad in [
        "https://127.0.0.1/",
        "127.0.0.1",
        "http://",
        "http://a b/",
        "http://me:pw@127.0.0.1/",
        "file:///etc/passwd",
    ] {
        let output = command("http_get", &[bad]).output().expect("the program to run");
        assert_eq!(output.status.code(), Some(2), "{bad}");
    }
}

#[test]
fn a_redirect_is_followed_only_when_asked_and_only_so_often() {
    let (target, second) = serve_answer("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nyes".into());
    let moved =
        format!("HTTP/1.1 302 Found\r\nLocation: http://{target}/new#part\r\nContent-Length: 4\r\n\r\ngone");
    let (output, _) = ask(&[], moved.clone());
    assert_eq!(output.status.code(), Some(8), "{output:?}");
    assert_eq!(output.stdout, b"gone");
    let (output, _) = ask(&["--follow"], moved);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert_eq!(output.stdout, b"yes");
    assert!(second.join().expect("no panic").starts_with("GET /new HTTP/1.1\r\n"));

    for location in
        ["https://127.0.0.1/", "file:///etc/passwd", "ftp://127.0.0.1/", "data:text/plain,x", "http://me@x/"]
    {
        let (output, _) = ask(&["--follow"], format!("HTTP/1.1 301 Moved\r\nLocation: {location}\r\n\r\n"));
        assert_eq!(output.status.code(), Some(8), "{location}: {output:?}");
    }

    // A server that sends its client round in circles.
    let listener = TcpListener::bind("127.0.0.1:0").expect("a listener");
    let at = listener.local_addr().expect("an address");
    let server = thread::spawn(move || {
        for asked in 1.. {
            let (mut client, _) = listener.accept().expect("a connection");
            if read_request(&mut client).starts_with("STOP") {
                return asked - 1;
            }
            client.write_all(b"HTTP/1.1 307 Again\r\nLocation: ?again\r\n\r\n").expect("a write");
        }
        0
    });
    let output = get(&["--follow"], at, "/");
    assert_eq!(output.status.code(), Some(8), "{output:?}");
    TcpStream::connect(at).and_then(|mut stop| stop.write_all(b"STOP\r\n\r\n")).expect("a connection");
    assert_eq!(server.join().expect("no panic"), 6, "the first and five more");
}

#[test]
fn links_lead_where_they_say() {
    use http_get::Url;
    let base: Url = "http://Host.example:8080/a/b?c".parse().expect("an address");
    let table = [
        ("http://other/x", Some("http://other/x")),
        ("//other:81", Some("http://other:81/")),
        ("/x?y#z", Some("http://Host.example:8080/x?y")),
        ("x", Some("http://Host.example:8080/a/x")),
        ("?x", Some("http://Host.example:8080/a/b?x")),
        ("#x", Some("http://Host.example:8080/a/b?c")),
        ("http://[::1]:99/x", Some("http://[::1]:99/x")),
        ("mailto:x", None),
        ("/x y", None),
        ("/x\r\nHost: y", None),
        ("http://[::x]/", None),
        ("http://x:99999/", None),
    ];
    for (location, expected) in table {
        let reached = base.join(location).ok().map(|url| url.to_string());
        assert_eq!(reached.as_deref(), expected, "{location:?}");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_standard_output_is_an_error_and_no_panic() {
    let (at, server) = serve_answer("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello".into());
    let full = File::options().write(true).open("/dev/full").expect("a full device");
    let url = format!("http://{at}/");
    let output = command("http_get", &[&url]).stdout(full).output().expect("the program to run");
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(output.stderr.starts_with(b"error: cannot print: "), "{output:?}");
    server.join().expect("no panic");
}

#[test]
fn a_name_that_has_several_addresses_is_tried_at_each() {
    // Only IPv4 listens; where the name has an IPv6 address too, that one refuses.
    let (at, server) = serve_answer("HTTP/1.0 200 OK\r\n\r\nhere".into());
    let url = format!("http://localhost:{}/", at.port());
    let output = command("http_get", &[&url]).output().expect("the program to run");
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert_eq!(output.stdout, b"here");
    server.join().expect("no panic");
}

/// Asks a server that sends `answer` and closes: what the client makes of it, and what it asked.
fn ask(options: &[&str], answer: impl Into<String>) -> (Output, String) {
    let (at, server) = serve_answer(answer.into());
    let output = get(options, at, "/path?query");
    (output, server.join().expect("no panic"))
}

fn get(options: &[&str], at: SocketAddr, path: &str) -> Output {
    let url = format!("http://{at}{path}");
    command("http_get", options).arg(url).output().expect("the program to run")
}

fn serve_answer(answer: String) -> (SocketAddr, JoinHandle<String>) {
    serve(move |mut client| {
        let request = read_request(&mut client);
        // It may have heard enough before all is sent.
        drop(client.write_all(answer.as_bytes()));
        request
    })
}

/// Serves one client on a thread.
fn serve<T: Send + 'static>(
    talk: impl FnOnce(TcpStream) -> T + Send + 'static,
) -> (SocketAddr, JoinHandle<T>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a listener");
    let at = listener.local_addr().expect("an address");
    let server = thread::spawn(move || {
        let (client, _) = listener.accept().expect("a connection");
        client.set_read_timeout(Some(DEADLINE)).expect("an option");
        client.set_write_timeout(Some(DEADLINE)).expect("an option");
        talk(client)
    });
    (at, server)
}

fn read_request(client: &mut TcpStream) -> String {
    let mut request = Vec::new();
    let mut byte = [0];
    while !request.ends_with(b"\r\n\r\n") && client.read(&mut byte).is_ok_and(|read| read == 1) {
        request.push(byte[0]);
    }
    String::from_utf8(request).expect("text")
}
