//! A chat that records its callbacks and does in them what a test says; shared by the tests of conversations.

use std::thread;

use asynchat::{AsyncChat, Chat, Collected, Conversation};
use asyncore::{ChannelId, CloseReason, Error, ListenOptions, Map, Result};
use integration_tests::{Certificates, Log, Net, Peer, Stream, map, turn_until};

/// Records `connect`, `found TEXT`, `too long TEXT`, `eof REST`, `drained`, `shutdown`, `error TEXT`, `close REASON`, and does what
/// the test added. Pieces are recorded, as `piece TEXT`, only by a test's own [`on_piece`](Self::on_piece).
#[expect(clippy::type_complexity, reason = "each is the signature of one callback")]
pub(crate) struct Scripted {
    log: Log,
    connect: Box<dyn FnMut(&mut Conversation<'_>) -> Result>,
    piece: Box<dyn FnMut(&mut Conversation<'_>, &[u8]) -> Result<Collected>>,
    found: Box<dyn FnMut(&mut Conversation<'_>, &[u8]) -> Result>,
    too_long: Box<dyn FnMut(&mut Conversation<'_>) -> Result>,
    eof: Box<dyn FnMut(&mut Conversation<'_>) -> Result>,
    drained: Box<dyn FnMut(&mut Conversation<'_>) -> Result>,
    closes_at_error: bool,
}

impl Scripted {
    pub(crate) fn new(log: &Log) -> Self {
        Self {
            log: log.clone(),
            connect: Box::new(|_| Ok(())),
            piece: Box::new(|_, _| Ok(Collected::Kept)),
            found: Box::new(|_, _| Ok(())),
            too_long: Box::new(|_| Ok(())),
            eof: Box::new(|cx| {
                cx.close_when_done();
                Ok(())
            }),
            drained: Box::new(|_| Ok(())),
            closes_at_error: true,
        }
    }

    pub(crate) fn on_connect(mut self, act: impl FnMut(&mut Conversation<'_>) -> Result + 'static) -> Self {
        self.connect = Box::new(act);
        self
    }

    pub(crate) fn on_piece(
        mut self,
        act: impl FnMut(&mut Conversation<'_>, &[u8]) -> Result<Collected> + 'static,
    ) -> Self {
        self.piece = Box::new(act);
        self
    }

    pub(crate) fn on_found(
        mut self,
        act: impl FnMut(&mut Conversation<'_>, &[u8]) -> Result + 'static,
    ) -> Self {
        self.found = Box::new(act);
        self
    }

    pub(crate) fn on_too_long(mut self, act: impl FnMut(&mut Conversation<'_>) -> Result + 'static) -> Self {
        self.too_long = Box::new(act);
        self
    }

    /// In place of the default, which closes when done.
    pub(crate) fn on_eof(mut self, act: impl FnMut(&mut Conversation<'_>) -> Result + 'static) -> Self {
        self.eof = Box::new(act);
        self
    }

    pub(crate) fn on_drained(mut self, act: impl FnMut(&mut Conversation<'_>) -> Result + 'static) -> Self {
        self.drained = Box::new(act);
        self
    }

    /// Its `handle_error` does not close.
    pub(crate) fn outlives_errors(mut self) -> Self {
        self.closes_at_error = false;
        self
    }
}

impl Chat for Scripted {
    fn handle_connect(&mut self, cx: &mut Conversation<'_>) -> Result {
        self.log.add("connect");
        (self.connect)(cx)
    }

    fn collect_incoming_data(&mut self, cx: &mut Conversation<'_>, data: &[u8]) -> Result<Collected> {
        (self.piece)(cx, data)
    }

    fn found_terminator(&mut self, cx: &mut Conversation<'_>, message: &[u8]) -> Result {
        self.log.add(format_args!("found {}", message.escape_ascii()));
        (self.found)(cx, message)
    }

    fn handle_too_long(&mut self, cx: &mut Conversation<'_>, start: &[u8]) -> Result {
        self.log.add(format_args!("too long {}", start.escape_ascii()));
        (self.too_long)(cx)
    }

    fn handle_eof(&mut self, cx: &mut Conversation<'_>, rest: &[u8]) -> Result {
        self.log.add(format_args!("eof {}", rest.escape_ascii()));
        (self.eof)(cx)
    }

    fn handle_drained(&mut self, cx: &mut Conversation<'_>) -> Result {
        self.log.add("drained");
        (self.drained)(cx)
    }

    fn handle_shutdown(&mut self, cx: &mut Conversation<'_>) -> Result {
        self.log.add("shutdown");
        cx.close_when_done();
        Ok(())
    }

    fn handle_error(&mut self, cx: &mut Conversation<'_>, error: &Error) {
        self.log.add(format_args!("error {error}"));
        if self.closes_at_error {
            cx.close();
        }
    }

    fn handle_close(&mut self, _cx: &mut Conversation<'_>, reason: CloseReason) {
        self.log.add(format_args!("close {reason:?}"));
    }
}

/// A conversation over a socket pair: the map, the other end, and the chat's id.
pub(crate) fn converse<C: Chat>(chat: AsyncChat<C>) -> (Map, Peer, ChannelId) {
    let mut map = map();
    let (peer, here) = Peer::pair();
    let id = map.add(here, chat).unwrap();
    (map, peer, id)
}

/// A conversation that was accepted over a stream; what must live as long is the last value.
pub(crate) fn converse_over<C: Chat>(
    stream: Stream,
    chat: AsyncChat<C>,
) -> (Map, Peer, ChannelId, Option<tempfile::TempDir>) {
    let (net, certificates) = match stream {
        Stream::Clear(net) => (net, None),
        Stream::Tls => (Net::V4, Some(Certificates::new())),
    };
    let (listener, address, folder) = net.listener();
    let mut map: Map = map();
    let mut chat = Some(chat);
    let listener = map.listen_on(listener, move |_| chat.take().expect("one connection")).unwrap();
    let mut options = ListenOptions::default();
    options.tls = certificates.as_ref().map(Certificates::server);
    map.set_listen_options(&[listener], options);
    let peer = thread::spawn(move || {
        let peer = Peer::connect(&address);
        match &certificates {
            None => peer,
            Some(certificates) => peer.under_tls(certificates),
        }
    });
    turn_until(&mut map, &mut (), "the connection", |map, ()| map.len() == 2 && peer.is_finished());
    let peer = peer.join().expect("a peer");
    let (id, _) = map.iter().find(|(id, _)| *id != listener).unwrap();
    map.close(listener);
    (map, peer, id, folder)
}

/// Sends the pieces one by one; each is handled before the next is sent, so that each is a read of its own.
pub(crate) fn send_pieces<P: AsRef<[u8]>>(
    map: &mut Map,
    id: ChannelId,
    peer: &mut Peer,
    pieces: impl IntoIterator<Item = P>,
) {
    let mut sent = map.get(id).unwrap().bytes_in();
    for piece in pieces {
        let piece = piece.as_ref();
        peer.send(piece);
        sent += piece.len() as u64;
        turn_until(map, &mut (), "a piece to be read", |map, ()| {
            map.get(id).is_none_or(|channel| channel.bytes_in() == sent)
        });
    }
}
