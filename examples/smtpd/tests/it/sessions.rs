//! [`Talk`]: one session on a simulated map, with a delivery that keeps what it is given.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use asynchat::{BareIn, Conversation};
use asyncore::testing::{Peer, Simulation};
use asyncore::{Address, ChannelId, Rate};
use smtpd::app::App;
use smtpd::delivery::{Delivery, Incoming, Outcome, Ticket};
use smtpd::envelope::Envelope;
use smtpd::gate::Gate;
use smtpd::reply::Reply;
use smtpd::session;
use smtpd::settings::Settings;

/// Settings of a server that takes from everybody.
pub(crate) fn settings() -> Settings {
    Settings {
        hostname: "mx.example".into(),
        lmtp: false,
        message_limit: 32 << 20,
        text_line_limit: Some(1000),
        recipients: 1000,
        errors: 10,
        idle_time: Duration::from_secs(300),
        total_time: Duration::from_secs(1800),
        min_rate: Some(Rate { bytes: 30_000, per: Duration::from_secs(60) }),
        bare: BareIn::Refuse,
        tls: None,
        passwords: None,
        auth_in_clear: false,
        require_auth: false,
        allow_from: Vec::new(),
        proxies: None,
    }
}

/// A client and its session.
pub(crate) struct Talk {
    pub(crate) sim: Simulation<App>,
    pub(crate) peer: Peer,
    pub(crate) id: ChannelId,
    pub(crate) office: Office,
}

/// A delivery that keeps messages in memory.
#[derive(Clone, Default)]
pub(crate) struct Office(Rc<RefCell<Desk>>);

/// What an [`Office`] has, and what it is to do.
#[derive(Default)]
pub(crate) struct Desk {
    /// Messages that were whole.
    pub(crate) kept: Vec<Kept>,
    /// Who is still to be told.
    pub(crate) tickets: Vec<Ticket>,
    /// Messages that have begun, less those that are over.
    pub(crate) under_way: usize,
    /// The reply to those that begin.
    pub(crate) refusal: Option<Reply>,
    /// The reply to a piece.
    pub(crate) fault: Option<Reply>,
    /// What becomes of those that are whole: accepted, unless it says something else.
    pub(crate) outcome: Option<Outcome>,
    /// Whether outcomes are told later.
    pub(crate) is_late: bool,
    /// Whether it takes no more after a piece, until somebody resumes the session.
    pub(crate) is_full: bool,
}

/// A message that came whole.
#[derive(Clone, Debug)]
pub(crate) struct Kept {
    pub(crate) envelope: Arc<Envelope>,
    pub(crate) text: Vec<u8>,
}

struct Letter {
    office: Office,
    kept: Kept,
}

impl Office {
    /// What it has, and what it is to do.
    pub(crate) fn desk(&self) -> std::cell::RefMut<'_, Desk> {
        self.0.borrow_mut()
    }
}

impl Delivery for Office {
    fn begin(
        &self,
        _cx: &mut Conversation<'_, App>,
        envelope: &Arc<Envelope>,
    ) -> Result<Box<dyn Incoming>, Reply> {
        let mut desk = self.desk();
        if let Some(refusal) = &desk.refusal {
            return Err(refusal.clone());
        }
        desk.under_way += 1;
        let kept = Kept { envelope: Arc::clone(envelope), text: Vec::new() };
        Ok(Box::new(Letter { office: self.clone(), kept }))
    }

    fn name(&self) -> &'static str {
        "office"
    }
}

impl Incoming for Letter {
    fn write(&mut self, cx: &mut Conversation<'_, App>, piece: &[u8]) -> Result<(), Reply> {
        self.kept.text.extend_from_slice(piece);
        let desk = self.office.desk();
        if desk.is_full {
            cx.pause_reading();
        }
        desk.fault.clone().map_or(Ok(()), Err)
    }

    fn finish(self: Box<Self>, _cx: &mut Conversation<'_, App>, ticket: Ticket) -> Option<Outcome> {
        let mut desk = self.office.desk();
        desk.kept.push(self.kept.clone());
        if desk.is_late {
            desk.tickets.push(ticket);
            return None;
        }
        Some(desk.outcome.clone().unwrap_or(Outcome::All(ACCEPTED)))
    }
}

impl Drop for Letter {
    fn drop(&mut self) {
        self.office.desk().under_way -= 1;
    }
}

pub(crate) const ACCEPTED: Reply = Reply::fixed("250 2.0.0 Taken\r\n");

impl Talk {
    /// A session with the usual settings, greeted.
    pub(crate) fn new() -> Self {
        Self::with(settings())
    }

    /// A session with these settings, greeted.
    pub(crate) fn with(settings: Settings) -> Self {
        let mut talk = Self::with_seed(0, settings);
        let greeting = talk.hear();
        assert!(greeting.starts_with("220 mx.example "), "{greeting}");
        talk
    }

    /// A session in a simulation of that seed.
    pub(crate) fn with_seed(seed: u64, settings: Settings) -> Self {
        Self::open(seed, settings, |sim, dispatcher| {
            let peer = dispatcher.peer_addr();
            sim.map.add(dispatcher, session::conversation(peer)).unwrap()
        })
    }

    /// A connection of a proxy.
    pub(crate) fn proxied(settings: Settings) -> Self {
        Self::open(0, settings, |sim, dispatcher| {
            let peer = dispatcher.peer_addr();
            sim.map.add(dispatcher, Gate::new(peer, None)).unwrap()
        })
    }

    /// A client at the other end of a Unix socket.
    pub(crate) fn local(settings: Settings) -> Self {
        let mut talk = Self::open(0, settings, |sim, dispatcher| {
            sim.map.add(dispatcher, session::conversation(Some(Address::Unnamed))).unwrap()
        });
        assert!(talk.hear().starts_with("220 "));
        talk
    }

    fn open(
        seed: u64,
        settings: Settings,
        add: impl FnOnce(&mut Simulation<App>, asyncore::Dispatcher) -> ChannelId,
    ) -> Self {
        let office = Office::default();
        let limits = session::limits(&settings);
        let app = App::new(Rc::new(settings), Rc::new(office.clone()));
        let mut sim = Simulation::with_seed(seed, app).unwrap();
        let (dispatcher, peer) = sim.pair().unwrap();
        let id = add(&mut sim, dispatcher);
        sim.map.set_limits(id, limits);
        Self { sim, peer, id, office }
    }

    /// Says something: the reply to it, or the replies.
    pub(crate) fn say(&mut self, text: impl AsRef<[u8]>) -> String {
        self.peer.send(text);
        self.hear()
    }

    /// What is there to be heard.
    pub(crate) fn hear(&mut self) -> String {
        self.sim.settle().unwrap();
        String::from_utf8(self.peer.take_received()).unwrap()
    }

    /// Says lines, each once the one before it is answered, and expects of each reply that it begins so.
    #[track_caller]
    pub(crate) fn expect(&mut self, lines: &[(&str, &str)]) {
        for (line, expected) in lines {
            let reply = self.say(format!("{line}\r\n"));
            assert!(reply.starts_with(expected), "{line:?} got {reply:?}, not {expected:?}");
            let is_whole = reply.ends_with("\r\n")
                && reply.lines().rev().skip(1).all(|line| line.as_bytes().get(3) == Some(&b'-'));
            assert!(is_whole, "{line:?} got {reply:?}, which is not one reply");
        }
    }

    /// `EHLO`, or `LHLO`.
    pub(crate) fn hello(mut self) -> Self {
        let lmtp = self.sim.app.settings.lmtp;
        self.expect(&[(if lmtp { "LHLO client" } else { "EHLO client" }, "250-mx.example\r\n")]);
        self
    }

    /// A session at whose end the client may write the text of a message.
    pub(crate) fn at_data(mut self) -> Self {
        self.expect(&[
            ("MAIL FROM:<a@example>", "250 2.1.0 "),
            ("RCPT TO:<b@example>", "250 2.1.5 "),
            ("DATA", "354 "),
        ]);
        self
    }

    /// Whether the server has ended the connection.
    pub(crate) fn is_over(&mut self) -> bool {
        self.sim.settle().unwrap();
        self.peer.is_eof() || self.peer.is_reset()
    }

    /// The texts of the messages that were kept.
    pub(crate) fn texts(&self) -> Vec<String> {
        self.office.desk().kept.iter().map(|kept| String::from_utf8_lossy(&kept.text).into_owned()).collect()
    }
}
