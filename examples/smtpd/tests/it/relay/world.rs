//! [`World`]: the server between a client and the next server, both played by the test.

use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use asyncore::Result;
use asyncore::testing::{Peer, PeerListener, Simulation};
use smtpd::app::App;
use smtpd::relay::{Relay, RelayOptions, RelayTls};
use smtpd::session;
use smtpd::settings::Settings;

use crate::sessions;

/// The server, and whom it talks with.
pub(crate) struct World {
    pub(crate) sim: Simulation<App>,
    pub(crate) next: PeerListener,
}

/// A relay to the next server, in clear text.
pub(crate) fn options() -> RelayOptions {
    RelayOptions { next: NEXT.parse().unwrap(), tls: RelayTls::None, roots: None, login: None }
}

pub(crate) fn settings() -> Settings {
    Settings {
        hostname: "relay.test".into(),
        message_limit: 64 << 20,
        recipients: 100,
        total_time: Duration::from_secs(24 * 3600),
        min_rate: None,
        ..sessions::settings()
    }
}

impl World {
    pub(crate) fn new() -> Self {
        Self::with(options(), settings())
    }

    pub(crate) fn with(options: RelayOptions, settings: Settings) -> Self {
        let mut world = Self::seeded(0, options, settings);
        world.next = world.sim.listen(NEXT.parse::<SocketAddr>().unwrap()).unwrap();
        world
    }

    /// The same, where the test has a next server of its own.
    pub(crate) fn seeded(seed: u64, options: RelayOptions, settings: Settings) -> Self {
        let delivery = Rc::new(Relay::new(options).unwrap());
        let mut sim = Simulation::with_seed(seed, App::new(Rc::new(settings), delivery)).unwrap();
        sim.map.listen(HERE, session::conversation).unwrap();
        let next = sim.listen("192.0.2.9:9".parse::<SocketAddr>().unwrap()).unwrap();
        sim.set_host("localhost", [NEXT.parse::<SocketAddr>().unwrap().ip()]);
        Self { sim, next }
    }

    /// A client that has said hello.
    pub(crate) fn client(&mut self) -> Peer {
        let mut client = self.sim.connect(HERE.parse::<SocketAddr>().unwrap());
        self.expect_reply(&mut client, "220 ");
        let hello = if self.sim.app.settings.lmtp { "LHLO" } else { "EHLO" };
        self.ask(&mut client, &format!("{hello} client.test"), "250 ");
        client
    }

    /// A client that has sent this message, and waits for the reply.
    pub(crate) fn client_with(&mut self, to: &[&str], text: &[u8]) -> Peer {
        let mut client = self.client();
        self.send(&mut client, to, text);
        client
    }

    /// Sends a message, without waiting for the reply to it.
    pub(crate) fn send(&mut self, client: &mut Peer, to: &[&str], text: &[u8]) {
        self.send_with(client, "MAIL FROM:<from@a.test>", to, text);
    }

    pub(crate) fn send_with(&mut self, client: &mut Peer, mail: &str, to: &[&str], text: &[u8]) {
        self.ask(client, mail, "250 ");
        for to in to {
            self.ask(client, &format!("RCPT TO:<{to}>"), "250 ");
        }
        self.ask(client, "DATA", "354 ");
        client.send(text);
        client.send(".\r\n");
    }

    pub(crate) fn ask(&mut self, peer: &mut Peer, line: &str, reply: &str) {
        peer.send(format!("{line}\r\n"));
        self.expect_reply(peer, reply);
    }

    /// The last line of the next reply, which begins with this.
    #[track_caller]
    pub(crate) fn expect_reply(&mut self, peer: &mut Peer, start: &str) -> String {
        loop {
            let line = self.sim.expect_line(peer).unwrap();
            if line.as_bytes().get(3) != Some(&b'-') {
                assert!(line.starts_with(start), "{line:?} instead of {start:?}");
                return line;
            }
        }
    }

    /// The next server has been connected to, and answers the greeting with these extensions.
    pub(crate) fn next_with(&mut self, extensions: &[&str]) -> Peer {
        let mut next = self.accept().unwrap();
        next.send("220 mx.test at your service\r\n");
        self.greet(&mut next, extensions);
        next
    }

    pub(crate) fn accept(&mut self) -> Result<Peer> {
        self.sim.expect_accept(&self.next)
    }

    /// Answers `EHLO`.
    #[track_caller]
    pub(crate) fn greet(&mut self, next: &mut Peer, extensions: &[&str]) {
        self.sim.expect(next, "EHLO relay.test\r\n").unwrap();
        next.send(hello(extensions));
    }

    /// Expects lines in one go, and answers each.
    #[track_caller]
    pub(crate) fn expect_all(&mut self, next: &mut Peer, exchanges: &[(&str, &str)]) {
        for (line, _) in exchanges {
            self.sim.expect(next, format!("{line}\r\n")).unwrap();
        }
        for (_, answer) in exchanges {
            next.send(format!("{answer}\r\n"));
        }
    }

    /// Expects lines one after the other, each when the one before is answered.
    #[track_caller]
    pub(crate) fn expect_each(&mut self, next: &mut Peer, exchanges: &[(&str, &str)]) {
        for exchange in exchanges {
            self.sim.settle().unwrap();
            assert_eq!(
                String::from_utf8_lossy(&next.received()),
                format!("{}\r\n", exchange.0),
                "nothing comes before its turn"
            );
            self.expect_all(next, &[*exchange]);
        }
    }

    /// Takes the text of a message with its end: what stands below the line that the relay has added.
    pub(crate) fn take_text(&mut self, next: &mut Peer) -> Vec<u8> {
        let mut text = Vec::new();
        self.sim
            .run_until(Duration::from_secs(60), |_| {
                text.extend(next.take_received());
                text.ends_with(b"\r\n.\r\n")
            })
            .unwrap_or_else(|error| panic!("{error}: {}", text.escape_ascii()));
        below_received(&text).to_vec()
    }

    /// Takes a message for one recipient as the next server does that takes all of them.
    #[track_caller]
    pub(crate) fn take_message(&mut self, next: &mut Peer, to: &str) -> Vec<u8> {
        let rcpt = format!("RCPT TO:<{to}>");
        self.expect_each(
            next,
            &[("MAIL FROM:<from@a.test>", "250 ok"), (&rcpt, "250 ok"), ("DATA", "354 go")],
        );
        let text = self.take_text(next);
        next.send("250 2.6.0 taken\r\n");
        text
    }

    /// A client and the next server, which have had one message to do with each other.
    #[track_caller]
    pub(crate) fn relayed(&mut self) -> (Peer, Peer) {
        let mut client = self.client_with(&["to@b.test"], b"x\r\n");
        let mut next = self.next_with(&[]);
        assert_eq!(self.take_message(&mut next, "to@b.test"), b"x\r\n.\r\n");
        self.expect_reply(&mut client, "250 ");
        (client, next)
    }

    /// Nothing has come, and nobody else has connected.
    #[track_caller]
    pub(crate) fn expect_quiet(&mut self, next: &Peer) {
        self.sim.settle().unwrap();
        assert_eq!(next.received().escape_ascii().to_string(), "");
        assert!(self.sim.accept(&self.next).is_none(), "another connection");
    }
}

/// The answer to `EHLO`.
pub(crate) fn hello(extensions: &[&str]) -> String {
    let mut lines = vec!["mx.test"];
    lines.extend(extensions);
    let last = lines.len() - 1;
    lines
        .iter()
        .enumerate()
        .map(|(at, line)| format!("250{}{line}\r\n", if at == last { ' ' } else { '-' }))
        .collect()
}

/// What follows the line that the relay has added on top.
pub(crate) fn below_received(text: &[u8]) -> &[u8] {
    assert!(text.starts_with(b"Received: "), "{}", text.escape_ascii());
    let mut rest = text;
    loop {
        let end = rest.windows(2).position(|end| end == b"\r\n").unwrap() + 2;
        rest = &rest[end..];
        if !rest.starts_with(b"\t") && !rest.starts_with(b" ") {
            return rest;
        }
    }
}

pub(crate) const HERE: &str = "192.0.2.1:2525";
pub(crate) const NEXT: &str = "192.0.2.9:25";
