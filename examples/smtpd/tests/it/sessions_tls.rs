//! `STARTTLS` and TLS from the first byte, over real sockets: what is forgotten, and what is never obeyed.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::rc::Rc;
use std::sync::Arc;
use std::thread;

use asyncore::{Identity, ListenOptions, TlsServer};
use integration_tests::{Certificates, turn_until};
use smtpd::app::App;
use smtpd::gate::Gate;
use smtpd::password::{self, Passwords};
use smtpd::session;
use smtpd::settings::Settings;

use crate::sessions::{Kept, Office, settings};

/// Serves one client with TLS while it runs: the messages that were kept.
fn serve(
    certificates: &Certificates,
    change: impl FnOnce(&mut Settings),
    is_implicit: bool,
    client: impl FnOnce(TcpStream) + Send,
) -> Vec<Kept> {
    let identity: Identity = certificates.identity("localhost");
    let tls = TlsServer::new(identity).unwrap();
    let mut settings = Settings { tls: Some(tls.clone()), ..settings() };
    change(&mut settings);
    let mut options = ListenOptions::default();
    options.limits = Some(session::limits(&settings));
    let is_proxied = settings.proxies.is_some();
    let office = Office::default();
    let mut app = App::new(Rc::new(settings), Rc::new(office.clone()));
    let mut map = integration_tests::map();
    let listeners = if is_proxied {
        map.listen_with("127.0.0.1:0", options, move |peer| Gate::new(peer, is_implicit.then(|| tls.clone())))
    } else {
        options.tls = is_implicit.then_some(tls);
        map.listen_with("127.0.0.1:0", options, session::conversation)
    }
    .unwrap();
    let port = map.get(listeners[0]).unwrap().local_addr().unwrap().unwrap().port().unwrap();
    thread::scope(|scope| {
        let client = scope.spawn(move || client(TcpStream::connect(("127.0.0.1", port)).unwrap()));
        turn_until(&mut map, &mut app, "the client to be content", |_, _| client.is_finished());
        client.join().unwrap();
    });
    let desk = office.desk();
    desk.kept.clone()
}

/// Says a line in one write: the reply to it, without its last line end.
fn ask(stream: &mut BufReader<impl Read + Write>, line: &str) -> String {
    stream.get_mut().write_all(format!("{line}\r\n").as_bytes()).unwrap();
    hear(stream)
}

/// One reply.
fn hear(stream: &mut impl BufRead) -> String {
    let mut reply = String::new();
    loop {
        let begin = reply.len();
        assert!(stream.read_line(&mut reply).unwrap() > 0, "{reply:?}");
        if reply.as_bytes().get(begin + 3) != Some(&b'-') {
            return reply.trim_end().to_owned();
        }
    }
}

/// `STARTTLS`, with something behind it in the same segment.
fn start_tls(
    certificates: &Certificates,
    mut stream: BufReader<TcpStream>,
    behind: &str,
) -> BufReader<impl Read + Write + use<>> {
    assert_eq!(ask(&mut stream, &format!("STARTTLS\r\n{behind}")), "220 2.0.0 Go ahead");
    BufReader::new(certificates.blocking(stream.into_inner(), "localhost"))
}

#[test]
fn behind_starttls_the_session_is_as_new() {
    let certificates = Certificates::new();
    let kept = serve(
        &certificates,
        |_| {},
        false,
        |stream| {
            let mut stream = BufReader::new(stream);
            hear(&mut stream);
            assert!(ask(&mut stream, "STARTTLS").starts_with("503 "), "not before EHLO");
            assert!(ask(&mut stream, "EHLO clear").contains("\r\n250-STARTTLS\r\n"));
            assert!(ask(&mut stream, "STARTTLS now").starts_with("501 "));
            assert!(ask(&mut stream, "MAIL FROM:<clear@b>").starts_with("250 "));
            assert!(ask(&mut stream, "RCPT TO:<clear@b>").starts_with("250 "));
            assert_eq!(ask(&mut stream, "STARTTLS"), "220 2.0.0 Go ahead");
            let mut stream = BufReader::new(certificates.blocking(stream.into_inner(), "localhost"));
            // Nobody is greeted twice, and nobody is known.
            assert!(ask(&mut stream, "DATA").starts_with("503 "));
            assert!(ask(&mut stream, "MAIL FROM:<a@b>").starts_with("503 "));
            assert!(!ask(&mut stream, "EHLO secret").contains("STARTTLS"));
            assert!(ask(&mut stream, "STARTTLS").starts_with("503 "));
            assert!(ask(&mut stream, "MAIL FROM:<a@b>").starts_with("250 "));
            assert!(ask(&mut stream, "RCPT TO:<a@b>").starts_with("250 "));
            assert!(ask(&mut stream, "DATA").starts_with("354 "));
            assert!(ask(&mut stream, "text\r\n.").starts_with("250 "));
            assert!(ask(&mut stream, "QUIT").starts_with("221 "));
        },
    );
    let client = &kept[0].envelope.client;
    assert_eq!(client.helo, "secret");
    assert!(client.tls.as_deref().is_some_and(|tls| tls.starts_with("TLSv1.3 TLS_AES_")), "{:?}", client.tls);
}

/// CVE-2011-0411, and CVE-2024-34083 of aiosmtpd.
#[test]
fn what_comes_in_clear_text_behind_starttls_is_not_obeyed() {
    let certificates = Certificates::new();
    let behind = "EHLO evil\r\nMAIL FROM:<evil@b>\r\nRCPT TO:<evil@b>\r\nDATA\r\nevil\r\n.\r\n";
    let kept = serve(
        &certificates,
        |_| {},
        false,
        |stream| {
            let mut stream = BufReader::new(stream);
            hear(&mut stream);
            ask(&mut stream, "EHLO client");
            // The line end of the last line comes with `ask`.
            let mut stream = start_tls(&certificates, stream, &behind[..behind.len() - 2]);
            assert_eq!(
                ask(&mut stream, "NOOP"),
                "250 2.0.0 OK",
                "the first reply is to the first command under TLS"
            );
            assert!(ask(&mut stream, "MAIL FROM:<a@b>").starts_with("503 "));
        },
    );
    assert!(kept.is_empty());
}

#[test]
fn a_password_is_taken_under_tls() {
    let certificates = Certificates::new();
    let line = password::line("ann", b"s3cret").unwrap();
    let change =
        |settings: &mut Settings| settings.passwords = Some(Arc::new(Passwords::parse(&line).unwrap()));
    serve(&certificates, change, false, |stream| {
        let mut stream = BufReader::new(stream);
        hear(&mut stream);
        assert!(!ask(&mut stream, "EHLO client").contains("AUTH"));
        assert!(ask(&mut stream, "AUTH PLAIN AGFubgBzM2NyZXQ=").starts_with("538 5.7.11 "));
        assert_eq!(ask(&mut stream, "STARTTLS"), "220 2.0.0 Go ahead");
        let mut stream = BufReader::new(certificates.blocking(stream.into_inner(), "localhost"));
        assert!(ask(&mut stream, "EHLO client").contains("AUTH PLAIN LOGIN"));
        assert!(ask(&mut stream, "AUTH PLAIN AGFubgBzM2NyZXQ=").starts_with("235 "));
    });
}

/// It may have been somebody on the way (RFC 3207, section 4.2).
#[test]
fn whoever_was_known_in_clear_text_is_not_known_under_tls() {
    let certificates = Certificates::new();
    let line = password::line("ann", b"s3cret").unwrap();
    let change = |settings: &mut Settings| {
        settings.passwords = Some(Arc::new(Passwords::parse(&line).unwrap()));
        (settings.auth_in_clear, settings.require_auth) = (true, true);
    };
    serve(&certificates, change, false, |stream| {
        let mut stream = BufReader::new(stream);
        hear(&mut stream);
        ask(&mut stream, "EHLO client");
        assert!(ask(&mut stream, "AUTH PLAIN AGFubgBzM2NyZXQ=").starts_with("235 "));
        assert_eq!(ask(&mut stream, "STARTTLS"), "220 2.0.0 Go ahead");
        let mut stream = BufReader::new(certificates.blocking(stream.into_inner(), "localhost"));
        ask(&mut stream, "EHLO client");
        assert!(ask(&mut stream, "MAIL FROM:<a@b>").starts_with("530 "));
    });
}

#[test]
fn tls_from_the_first_byte_has_one_greeting_under_it() {
    let certificates = Certificates::new();
    serve(
        &certificates,
        |_| {},
        true,
        |stream| {
            let mut stream = BufReader::new(certificates.blocking(stream, "localhost"));
            assert_eq!(hear(&mut stream), "220 mx.example ESMTP");
            assert!(!ask(&mut stream, "EHLO client").contains("STARTTLS"));
            assert!(ask(&mut stream, "QUIT").starts_with("221 "));
            assert_eq!(stream.read(&mut [0]).unwrap(), 0);
        },
    );
}

#[test]
fn a_tls_hello_may_come_in_the_same_segment_as_the_proxy_header() {
    let certificates = Certificates::new();
    let change = |settings: &mut Settings| settings.proxies = Some(vec!["127.0.0.0/8".parse().unwrap()]);
    let kept = serve(&certificates, change, true, |stream| {
        let stream = Ahead { ahead: b"PROXY TCP4 198.51.100.7 192.0.2.1 40000 465\r\n".to_vec(), stream };
        let mut stream = BufReader::new(certificates.blocking(stream, "localhost"));
        assert_eq!(hear(&mut stream), "220 mx.example ESMTP");
        for line in ["EHLO a", "MAIL FROM:<a@b>", "RCPT TO:<a@b>", "BDAT 0 LAST"] {
            assert!(ask(&mut stream, line).starts_with("250"));
        }
    });
    assert_eq!(kept[0].envelope.client.address, Some("198.51.100.7".parse().unwrap()));
    assert!(kept[0].envelope.client.tls.is_some());
}

/// A stream that sends some bytes together with its first.
struct Ahead {
    ahead: Vec<u8>,
    stream: TcpStream,
}

impl Read for Ahead {
    fn read(&mut self, room: &mut [u8]) -> std::io::Result<usize> {
        self.stream.read(room)
    }
}

impl Write for Ahead {
    fn write(&mut self, data: &[u8]) -> std::io::Result<usize> {
        self.stream.write_all(&[&std::mem::take(&mut self.ahead)[..], data].concat())?;
        Ok(data.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
