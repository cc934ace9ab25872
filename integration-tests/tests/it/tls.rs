//! TLS over channels: from the first byte and in mid-stream, either side, whatever the peer does with it.

use std::io::{self, Read, Write};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use asynchat::{AsyncChat, Chat, Conversation};
use asyncore::rustls::pki_types::ServerName;
use asyncore::rustls::{ClientConnection, HandshakeKind, ProtocolVersion, StreamOwned, version};
use asyncore::testing::{Faults, Simulation, each_seed};
use asyncore::{
    Address, Channel, ChannelId, CloseReason, Context, Limits, ListenOptions, Map, Received, Result, State,
    Timeout, TlsClient, TlsServer, TlsServerOptions, TlsSession,
};
use integration_tests::{Certificates, Log, Net, Peer, Recorder, each_net, map, run_to_the_end, turn_until};

/// Answers each line with itself; `STARTTLS` begins TLS, `QUIT` closes when done.
struct Echo {
    server: TlsServer,
}

impl Echo {
    fn chat(server: &TlsServer) -> AsyncChat<Self> {
        AsyncChat::new(Self { server: server.clone() }).terminator(b"\r\n")
    }
}

impl Chat<Log> for Echo {
    fn handle_connect(&mut self, cx: &mut Conversation<'_, Log>) -> Result {
        cx.app.add("connect");
        Ok(())
    }

    fn handle_tls(&mut self, cx: &mut Conversation<'_, Log>) -> Result {
        cx.app.add("tls");
        Ok(())
    }

    fn found_terminator(&mut self, cx: &mut Conversation<'_, Log>, line: &[u8]) -> Result {
        cx.app.add(line.escape_ascii());
        match line {
            b"STARTTLS" => {
                cx.push("220 go ahead\r\n");
                cx.start_tls(self.server.session()?)?;
            }
            b"QUIT" => cx.close_when_done(),
            _ => {
                cx.push((line, b"\r\n"));
            }
        }
        Ok(())
    }

    fn handle_error(&mut self, cx: &mut Conversation<'_, Log>, _error: &asyncore::Error) {
        cx.app.add("error");
        cx.close();
    }

    fn handle_close(&mut self, cx: &mut Conversation<'_, Log>, reason: CloseReason) {
        cx.app.add(reason);
    }
}

/// Turns the loop while another thread plays the peer.
fn beside<R: Send + 'static>(
    map: &mut Map<Log>,
    log: &mut Log,
    peer: impl FnOnce() -> R + Send + 'static,
) -> R {
    let peer = thread::spawn(peer);
    turn_until(map, log, "the peer to be done", |_, _| peer.is_finished());
    match peer.join() {
        Ok(result) => result,
        Err(panic) => std::panic::resume_unwind(panic),
    }
}

/// An echo server on a listener with TLS, and where it is.
fn served(map: &mut Map<Log>, server: &TlsServer) -> Address {
    let mut options = ListenOptions::default();
    options.tls = Some(server.clone());
    let server = server.clone();
    let listeners = map.listen_with("127.0.0.1:0", options, move |_| Echo::chat(&server)).unwrap();
    map.get(listeners[0]).unwrap().local_addr().unwrap().unwrap()
}

fn line(stream: &mut impl Read) -> String {
    let mut line = Vec::new();
    while !line.ends_with(b"\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).expect("a line");
        line.push(byte[0]);
    }
    String::from_utf8_lossy(&line).trim_end().to_owned()
}

#[test]
fn a_conversation_runs_under_tls_over_every_kind_of_stream() {
    let certificates = Arc::new(Certificates::new());
    each_net(|net| {
        let (mut map, mut log) = (map(), Log::new());
        let server = certificates.server();
        let (listener, address, _folder) = net.listener();
        let accepting = server.clone();
        let id = map.listen_on(listener, move |_| Echo::chat(&accepting)).unwrap();
        let mut options = ListenOptions::default();
        options.tls = Some(server);
        map.set_listen_options(&[id], options);
        let trusted = Arc::clone(&certificates);
        beside(&mut map, &mut log, move || {
            let mut peer = trusted.blocking(Peer::connect(&address), "localhost");
            peer.write_all(b"hello\r\nworld\r\nQUIT\r\n").unwrap();
            let mut said = String::new();
            // Without the end of TLS this would be an error.
            peer.read_to_string(&mut said).unwrap();
            assert_eq!(said, "hello\r\nworld\r\n");
            assert_eq!(peer.conn.protocol_version(), Some(ProtocolVersion::TLSv1_3));
        });
        turn_until(&mut map, &mut log, "the end", |map, _| map.len() == 1);
        assert_eq!(log.take(), ["connect", "tls", "hello", "world", "QUIT", "closed here"]);
    });
}

/// The client's side: says hello once it is connected, collects what it hears.
struct Caller {
    heard: Vec<u8>,
}

impl Channel<Log> for Caller {
    fn handle_connect(&mut self, cx: &mut Context<'_, Log>) -> Result {
        cx.app.add("client connect");
        cx.map.push(cx.id, "hello\r\n");
        Ok(())
    }

    fn handle_tls(&mut self, cx: &mut Context<'_, Log>) -> Result {
        let version = cx.map.get(cx.id).and_then(|channel| channel.tls()?.protocol_version());
        cx.app.add(format_args!("client {version:?}"));
        Ok(())
    }

    fn handle_read(&mut self, cx: &mut Context<'_, Log>) -> Result {
        // A byte at a time: most of a record is held back by TLS, and no event tells of it.
        if let Received::Data(data) = cx.map.recv(cx.id, 1)? {
            self.heard.extend_from_slice(&data);
            if self.heard.ends_with(b"hello\r\n") {
                cx.map.push(cx.id, "QUIT\r\n");
            }
        }
        Ok(())
    }

    fn handle_close(&mut self, cx: &mut Context<'_, Log>, reason: CloseReason) {
        cx.app.add(format_args!("client {} {reason}", self.heard.escape_ascii()));
    }
}

#[test]
fn both_sides_are_channels_of_one_map_and_connect_by_name() {
    let certificates = Certificates::new();
    let (mut map, mut log) = (map(), Log::new());
    let address = served(&mut map, &certificates.server());
    let id = map.connect_host("localhost", address.port().unwrap(), Caller { heard: Vec::new() }).unwrap();
    map.start_tls(id, certificates.client().session("localhost").unwrap()).unwrap();
    map.push(id, "before\r\n");
    turn_until(&mut map, &mut log, "both ends", |map, _| map.len() == 1);
    let mut lines = log.take();
    lines.sort_unstable();
    assert_eq!(
        lines,
        [
            "QUIT",
            "before",
            "client Some(TLSv1_3)",
            "client before\\r\\nhello\\r\\n closed by the peer",
            "client connect",
            "closed here",
            "connect",
            "hello",
            "tls"
        ]
    );
}

#[test]
fn starttls_begins_in_mid_stream_and_nothing_in_clear_text_is_heard_under_it() {
    let certificates = Arc::new(Certificates::new());
    for behind in ["", "RSET\r\n", "RSET\r\nhalf a"] {
        let (mut map, mut log) = (map(), Log::new());
        let server = certificates.server();
        let (mut peer, here) = Peer::tcp_pair();
        map.add(here, Echo::chat(&server)).unwrap();
        let trusted = Arc::clone(&certificates);
        beside(&mut map, &mut log, move || {
            peer.send(format!("one\r\nSTARTTLS\r\n{behind}").as_bytes());
            assert_eq!(line(&mut peer), "one");
            assert_eq!(line(&mut peer), "220 go ahead");
            let mut peer = trusted.blocking(peer, "localhost");
            peer.write_all(b"two\r\nQUIT\r\n").unwrap();
            let mut said = String::new();
            peer.read_to_string(&mut said).unwrap();
            assert_eq!(said, "two\r\n");
        });
        run_to_the_end(&mut map, &mut log);
        assert_eq!(log.take(), ["connect", "one", "STARTTLS", "tls", "two", "QUIT", "closed here"]);
    }
}

#[test]
fn a_client_drops_what_is_said_in_clear_text_behind_the_answer() {
    struct Upgrading(TlsClient);

    impl Chat<Log> for Upgrading {
        fn found_terminator(&mut self, cx: &mut Conversation<'_, Log>, line: &[u8]) -> Result {
            cx.app.add(line.escape_ascii());
            if line == b"220" {
                cx.start_tls(self.0.session("localhost")?)?;
            }
            Ok(())
        }

        fn handle_tls(&mut self, cx: &mut Conversation<'_, Log>) -> Result {
            cx.app.add("tls");
            cx.push("QUIT\r\n");
            Ok(())
        }
    }

    let certificates = Certificates::new();
    let (mut map, mut log) = (map(), Log::new());
    let (mut peer, here) = Peer::pair();
    let server = map.add(here, AsyncChat::new(Upgrading(certificates.client())).terminator(b"\r\n")).unwrap();
    peer.send(b"220\r\n250 injected\r\nand a ha");
    turn_until(&mut map, &mut log, "the answer", |_, log| log.has("220"));
    assert_eq!(map.get(server).unwrap().state(), State::Handshaking);
    // The other side of the same connection, as a channel too.
    let Peer::Unix(there) = peer else { panic!("a Unix-domain pair") };
    let server = certificates.server();
    let other = map.add(there, Echo::chat(&server)).unwrap();
    map.start_tls(other, server.session().unwrap()).unwrap();
    run_to_the_end(&mut map, &mut log);
    let lines = log.take();
    assert!(lines.iter().any(|line| line == "QUIT"), "{lines:?}");
    assert!(!lines.iter().any(|line| line.contains("injected")), "{lines:?}");
}

/// Counts what it reads, and answers the end of input with so many bytes.
struct Bulk {
    read: u64,
    answer: usize,
}

impl Channel<Log> for Bulk {
    fn handle_read(&mut self, cx: &mut Context<'_, Log>) -> Result {
        while let Received::Data(data) = cx.map.recv(cx.id, 64 << 10)? {
            self.read += data.len() as u64;
        }
        Ok(())
    }

    fn handle_eof(&mut self, cx: &mut Context<'_, Log>) -> Result {
        cx.app.add(format_args!("read {}", self.read));
        cx.map.push(cx.id, pattern(self.answer));
        cx.map.close_when_done(cx.id);
        Ok(())
    }

    fn handle_close(&mut self, cx: &mut Context<'_, Log>, reason: CloseReason) {
        cx.app.add(reason);
    }
}

fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|at| u8::try_from(at % 251).expect("less than 251")).collect()
}

#[test]
fn megabytes_pass_both_ways_and_each_side_ends_by_itself() {
    const SIZE: usize = 5_000_000;
    let certificates = Certificates::new();
    let (mut map, mut log) = (map(), Log::new());
    let mut limits = Limits::default();
    limits.output = 2 * SIZE;
    let (peer, here) = Peer::tcp_pair();
    let id = map.add(here, Bulk { read: 0, answer: SIZE }).unwrap();
    map.set_limits(id, limits);
    map.start_tls(id, certificates.server().session().unwrap()).unwrap();
    beside(&mut map, &mut log, move || {
        let mut peer = certificates.blocking(peer, "localhost");
        peer.write_all(&pattern(SIZE)).unwrap();
        // This side ends, the other one answers.
        peer.conn.send_close_notify();
        peer.conn.complete_io(&mut peer.sock).unwrap();
        let mut answer = Vec::new();
        peer.read_to_end(&mut answer).unwrap();
        assert!(answer == pattern(SIZE), "{} bytes", answer.len());
    });
    run_to_the_end(&mut map, &mut log);
    assert_eq!(log.take(), [format!("read {SIZE}"), "closed by the peer".to_owned()]);
}

#[test]
fn an_end_without_the_word_for_it_is_a_truncation() {
    let certificates = Arc::new(Certificates::new());
    for says_so in [true, false] {
        let (mut map, mut log) = (map(), Log::new());
        let server = certificates.server();
        let address = served(&mut map, &server);
        let trusted = Arc::clone(&certificates);
        beside(&mut map, &mut log, move || {
            let mut peer = trusted.blocking(Peer::connect(&address), "localhost");
            peer.write_all(b"one\r\nhalf a li").unwrap();
            assert_eq!(line(&mut peer), "one");
            if says_so {
                peer.conn.send_close_notify();
                peer.conn.complete_io(&mut peer.sock).unwrap();
                assert_eq!(peer.read_to_end(&mut Vec::new()).unwrap(), 0);
            }
        });
        turn_until(&mut map, &mut log, "the end", |map, _| map.len() == 1);
        let end = if says_so { "closed by the peer" } else { "closed by the peer without an end of TLS" };
        assert_eq!(log.take(), ["connect", "tls", "one", end]);
    }
}

#[test]
fn what_is_no_handshake_closes_that_channel_alone() {
    let hello = {
        let certificates = Certificates::new();
        let config = Arc::new(certificates.blocking_config());
        let mut client = ClientConnection::new(config, ServerName::try_from("localhost").unwrap()).unwrap();
        let mut hello = Vec::new();
        client.write_tls(&mut hello).unwrap();
        hello
    };
    let cut = &hello[..hello.len() / 2];
    for (what, sent, expected) in [
        ("a request in clear text", &b"GET / HTTP/1.1\r\n\r\n"[..], "TLS failed"),
        ("noise", &[0x16, 3, 1, 0xff, 0xff, 1, 2, 3, 4, 5, 6, 7, 8, 9][..], "TLS failed"),
        ("nothing", b"", "closed by the peer without an end of TLS"),
        ("half a hello", cut, "closed by the peer without an end of TLS"),
    ] {
        let (mut map, mut log) = (map(), Log::new());
        let certificates = Certificates::new();
        let server = certificates.server();
        let address = served(&mut map, &server);
        let good = certificates.blocking(Peer::connect(&address), "localhost");
        let mut bad = Peer::connect(&address);
        bad.send(sent);
        bad.shutdown_write();
        turn_until(&mut map, &mut log, what, |_, log| log.has(expected));
        assert_eq!(log.take(), ["error", expected], "{what}");
        // The other one is not harmed.
        beside(&mut map, &mut log, move || {
            let mut good = good;
            good.write_all(b"one\r\n").unwrap();
            assert_eq!(line(&mut good), "one");
        });
    }
}

#[test]
fn a_handshake_has_its_time_and_no_more() {
    let certificates = Certificates::new();
    let (mut map, mut log) = (map(), Log::new());
    let server = certificates.server();
    let mut limits = Limits::default();
    limits.handshake_time = Duration::from_millis(50);
    let (_peer, here) = Peer::pair();
    let id = map.add(here, Echo::chat(&server)).unwrap();
    map.set_limits(id, limits);
    map.start_tls(id, server.session().unwrap()).unwrap();
    run_to_the_end(&mut map, &mut log);
    assert_eq!(log.take(), [CloseReason::TimedOut(Timeout::Handshake).to_string()]);
}

/// A stream that hands over a byte at a time.
struct Bytewise(Peer);

impl Read for Bytewise {
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        self.0.read(room)
    }
}

impl Write for Bytewise {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        self.0.write(&data[..data.len().min(1)])
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn records_may_come_a_byte_at_a_time() {
    let certificates = Certificates::new();
    let (mut map, mut log) = (map(), Log::new());
    let address = served(&mut map, &certificates.server());
    beside(&mut map, &mut log, move || {
        let mut peer = certificates.blocking(Bytewise(Peer::connect(&address)), "localhost");
        peer.write_all(b"one\r\nQUIT\r\n").unwrap();
        let mut said = String::new();
        peer.read_to_string(&mut said).unwrap();
        assert_eq!(said, "one\r\n");
    });
    turn_until(&mut map, &mut log, "the end", |map, _| map.len() == 1);
    assert_eq!(log.take(), ["connect", "tls", "one", "QUIT", "closed here"]);
}

#[test]
fn protocols_names_and_certificates_are_agreed_on() {
    struct Telling;

    impl Channel<Log> for Telling {
        fn handle_tls(&mut self, cx: &mut Context<'_, Log>) -> Result {
            let session = cx.map.get(cx.id).and_then(|channel| channel.tls()).ok_or("no TLS")?;
            let protocol = session.alpn_protocol().map(|protocol| protocol.escape_ascii().to_string());
            let asked = match session {
                asyncore::rustls::Connection::Server(server) => server.server_name(),
                asyncore::rustls::Connection::Client(_) => None,
            };
            let known = session.peer_certificates().map(<[_]>::len);
            cx.app.add(format_args!("{protocol:?} {asked:?} {known:?}"));
            cx.map.close_when_done(cx.id);
            Ok(())
        }
    }

    let certificates = Certificates::new();
    let mut options = TlsServerOptions::default();
    options.alpn = vec![b"smtp".to_vec(), b"other".to_vec()];
    options.names.insert("Mail.Example".to_owned(), certificates.identity("mail.example"));
    options.client_roots = Some(certificates.root());
    options.client_may_be_unknown = true;
    let server = TlsServer::with(certificates.identity("localhost"), &options).unwrap();
    let mut client_options = certificates.client_options();
    client_options.alpn = vec![b"other".to_vec()];
    let unknown = TlsClient::with(&client_options).unwrap();
    client_options.identity = Some(certificates.identity("client"));
    let known = TlsClient::with(&client_options).unwrap();
    client_options.alpn = vec![b"nothing of that".to_vec()];
    let stranger = TlsClient::with(&client_options).unwrap();

    for (client, name, expected) in [
        (&unknown, "localhost", "Some(\"other\") Some(\"localhost\") None"),
        (&known, "mail.example", "Some(\"other\") Some(\"mail.example\") Some(1)"),
        (&stranger, "localhost", "close Tls"),
        // The certificate is another's.
        (&known, "elsewhere.example", "close Tls"),
    ] {
        let (mut map, mut log) = (map(), Log::new());
        let (near, far) = std::os::unix::net::UnixStream::pair().unwrap();
        let near = map.add(near, Telling).unwrap();
        map.start_tls(near, server.session().unwrap()).unwrap();
        let far = map.add(far, Recorder::new(&log)).unwrap();
        map.start_tls(far, client.session(name).unwrap()).unwrap();
        run_to_the_end(&mut map, &mut log);
        let lines = log.take();
        assert!(lines.iter().any(|line| line == expected), "{name}: {lines:?}");
        let failed = lines.iter().any(|line| line.contains("Tls"));
        assert_eq!(failed, expected == "close Tls", "{name}: {lines:?}");
    }
}

/// How often a client's session is what kind of handshake, on a server.
fn kind_of_handshake(
    map: &mut Map<Log>,
    log: &mut Log,
    address: &Address,
    client: Arc<asyncore::rustls::ClientConfig>,
) -> Option<HandshakeKind> {
    let address = address.clone();
    beside(map, log, move || {
        let name = ServerName::try_from("localhost").unwrap();
        let session = ClientConnection::new(client, name).unwrap();
        let mut peer = StreamOwned::new(session, Peer::connect(&address));
        peer.write_all(b"one\r\nQUIT\r\n").unwrap();
        // Tickets come behind the handshake, so all is to be read.
        peer.read_to_string(&mut String::new()).unwrap();
        peer.conn.handshake_kind()
    })
}

#[test]
fn sessions_are_resumed_in_both_versions() {
    for version in [&version::TLS12, &version::TLS13] {
        let certificates = Certificates::new();
        let (mut map, mut log) = (map(), Log::new());
        let address = served(&mut map, &certificates.server());
        let client = Arc::new(certificates.blocking_config_of(&[version]));
        let first = kind_of_handshake(&mut map, &mut log, &address, Arc::clone(&client));
        let second = kind_of_handshake(&mut map, &mut log, &address, client);
        assert_eq!((first, second), (Some(HandshakeKind::Full), Some(HandshakeKind::Resumed)));
    }
}

#[test]
fn certificates_are_read_again_without_a_restart() {
    let certificates = Certificates::new();
    let (mut map, mut log) = (map(), Log::new());
    let server = certificates.server();
    let address = served(&mut map, &server);
    let shown = |map: &mut Map<Log>, log: &mut Log| {
        let mut peer = certificates.blocking(Peer::connect(&address), "localhost");
        beside(map, log, move || {
            peer.write_all(b"QUIT\r\n").unwrap();
            peer.read_to_end(&mut Vec::new()).unwrap();
            peer.conn.peer_certificates().unwrap()[0].to_vec()
        })
    };
    let first = shown(&mut map, &mut log);
    assert_eq!(shown(&mut map, &mut log), first);
    // Other files of the same names, and nothing happens yet.
    let identity = certificates.identity("localhost");
    assert_eq!(shown(&mut map, &mut log), first);
    server.reload().unwrap();
    let second = shown(&mut map, &mut log);
    assert_ne!(second, first);
    // What cannot be used is refused, and the old one stays.
    std::fs::write(&identity.chain, "no certificate").unwrap();
    let error = server.reload().unwrap_err().to_string();
    assert!(error.ends_with("localhost.chain.pem: no certificate in it"), "{error}");
    assert_eq!(shown(&mut map, &mut log), second);
}

#[test]
fn a_simulated_map_speaks_tls_too() -> Result {
    let certificates = Certificates::new();
    let (server, client) = (certificates.server(), certificates.client());
    each_seed(30, |seed| {
        let mut sim = Simulation::with_seed(seed, Log::new())?;
        sim.set_faults(Faults::harmless());
        let mut options = ListenOptions::default();
        options.tls = Some(server.clone());
        let accepting = server.clone();
        let listeners = sim.map.listen_with("192.0.2.1:7", options, move |_| Echo::chat(&accepting))?;
        let at: Address = "192.0.2.1:7".parse()?;
        let id = sim.map.connect(at, Caller { heard: Vec::new() })?;
        sim.map.start_tls(id, client.session("localhost")?)?;
        sim.settle()?;
        let mut lines = sim.app.take();
        lines.sort_unstable();
        assert_eq!(
            lines,
            [
                "QUIT",
                "client Some(TLSv1_3)",
                "client connect",
                "client hello\\r\\n closed by the peer",
                "closed here",
                "connect",
                "hello",
                "tls"
            ]
        );
        assert_eq!(sim.map.len(), listeners.len());
        Ok(())
    })
}

#[test]
fn tls_begins_once_on_an_open_stream_and_behind_no_producer() {
    let certificates = Certificates::new();
    let server = certificates.server();
    let session = || -> TlsSession { server.session().unwrap() };
    let (mut map, log) = (map::<Log>(), Log::new());
    let (_peer, here) = Peer::pair();
    let id = map.add(here, Recorder::new(&log)).unwrap();
    map.push_with_producer(id, asynchat::BytesProducer::new("text"));
    let refused = |map: &mut Map<Log>, id: ChannelId| map.start_tls(id, session()).unwrap_err().to_string();
    assert_eq!(refused(&mut map, id), "TLS cannot begin behind a producer, whose bytes are not made yet");
    map.discard_output(id);
    map.start_tls(id, session()).unwrap();
    assert_eq!(refused(&mut map, id), "TLS has begun already");
    map.close(id);
    assert_eq!(refused(&mut map, id), "the channel is closed");
    let datagrams = asyncore::Dispatcher::create_socket(Net::V4.family(), asyncore::Kind::Datagram).unwrap();
    let id = map.add(datagrams, Recorder::new(&log)).unwrap();
    assert_eq!(refused(&mut map, id), "TLS needs a stream");
}
