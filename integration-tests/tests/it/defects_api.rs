//! The defects of the original, D32 to D46: what the interface allows, refuses, and leaves private.
//!
//! Some defects have their test, or a part of it, elsewhere:
//!
//! | defect | test |
//! |---|---|
//! | D38 | `sequences_data::an_empty_datagram_is_a_datagram` |
//! | D39 | `test_asyncore::a_channel_s_life_is_told_at_debug_and_not_at_warn` |
//! | D43 | `chat_ends::the_end_of_file_hands_over_the_rest_with_a_begun_terminator` |
//! | D44 | `test_asynchat::a_terminator_that_ends_nothing_cannot_be_built` |
//! | D45 | `test_asynchat::plain_bytes_can_be_sent_as_a_producer` |

use std::io::ErrorKind;

use asyncore::{
    Address, Channel, ChannelId, CloseReason, Context, Dispatcher, Map, Pushed, Received, Result, State,
};
use integration_tests::{Log, Net, Peer, Recorder, each_net, map, run_to_the_end, settle, turn_until};

#[test]
fn d32_a_push_calls_nobody() {
    each_net(|net| {
        let (listener, address, _folder) = net.listener();
        let mut map: Map = map();
        let log = Log::new();
        let seen = log.clone();
        let listener = map.listen_on(listener, move |_| Recorder::new(&seen)).unwrap();
        let peer = Peer::connect(&address);
        turn_until(&mut map, &mut (), "the connection", |_, ()| log.has("connect"));
        let (id, _) = map.iter().find(|(id, _)| *id != listener).unwrap();
        peer.reset();
        // The peer is gone: a push that wrote would find out here, inside its caller.
        for _ in 0..3 {
            assert_eq!(map.push(id, b"for nobody"), Pushed::Queued);
        }
        assert_eq!(log.lines(), ["connect"]);
        assert!(map.is_open(id));
        turn_until(&mut map, &mut (), "the close", |map, ()| map.len() == 1);
        assert_eq!(log.count("close"), 1, "{:?}", log.lines());
        assert_eq!(log.count("error"), 0, "{:?}", log.lines());
    });
}

#[test]
fn d33_maps_of_one_thread_know_nothing_of_one_another() {
    let log = Log::new();
    let [mut one, mut two]: [Map; 2] = [map(), map()];
    let (_peer, here) = Peer::pair();
    let id = one.add(here, Recorder::named("one", &log)).unwrap();
    let (_other, there) = Peer::pair();
    two.add(there, Recorder::named("two", &log)).unwrap();
    two.close_all();
    run_to_the_end(&mut two, &mut ());
    assert_eq!(log.take(), ["two close Local"]);
    assert_eq!(asyncore::default_map(|map| map.len()).unwrap(), 0);
    settle(&mut one, &mut ());
    assert_eq!(log.lines(), ["one connect"]);
    assert!(one.is_open(id));
}

#[test]
fn d35_a_hang_up_is_told_after_the_last_byte() {
    each_net(|net| {
        let (listener, address, _folder) = net.listener();
        let mut map: Map = map();
        let log = Log::new();
        let seen = log.clone();
        map.listen_on(listener, move |_| Recorder::new(&seen)).unwrap();
        let mut peer = Peer::connect(&address);
        peer.send(b"last words");
        drop(peer);
        turn_until(&mut map, &mut (), "the close", |_, ()| log.count("close") == 1);
        assert_eq!(log.lines(), ["connect", "read last words", "eof", "close Eof"]);
    });
}

#[test]
fn d40_a_dispatcher_has_one_socket_for_life() {
    each_net(|net| {
        let (mut listener, address, _folder) = net.listener();
        let mut client = Dispatcher::connecting_to(address.clone()).unwrap();
        for refused in [
            client.connect(address.clone()),
            client.listen(1),
            listener.connect(address.clone()),
            listener.listen(1),
        ] {
            assert_eq!(refused.unwrap_err().kind(), ErrorKind::InvalidInput);
        }
    });
}

/// Connects again when it is closed, three times.
struct Again(Address, Log);

impl Channel for Again {
    fn handle_close(&mut self, cx: &mut Context<'_>, reason: CloseReason) {
        self.1.add(format_args!("close {reason:?}"));
        if self.1.count("close") < 4 {
            let again = Self(self.0.clone(), self.1.clone());
            assert_eq!(cx.map.len(), 1, "only the one that is closing");
            cx.map.connect(self.0.clone(), again).unwrap();
        }
    }
}

#[test]
fn d40_a_new_connect_is_a_new_channel_and_leaves_nothing_of_the_old() {
    let (listener, address, _folder) = Net::Unix.listener();
    let mut map: Map = map();
    let log = Log::new();
    let client = Again(address.clone(), log.clone());
    map.connect(address, client).unwrap();
    drop(listener);
    run_to_the_end(&mut map, &mut ());
    assert_eq!(log.count("close"), 4, "{:?}", log.lines());
    assert_eq!((map.counters().closed, map.len()), (4, 0));
}

/// A line channel on asyncore alone: what D41 and D46 ask is that its public part is enough for one.
struct Lines {
    held: Vec<u8>,
    log: Log,
}

impl Lines {
    fn new(log: &Log) -> Self {
        Self { held: Vec::new(), log: log.clone() }
    }

    /// One command of a peer; its answer.
    fn answer(&self, cx: &mut Context<'_>, line: &[u8]) {
        self.log.add(line.escape_ascii());
        if line == b"quit" {
            cx.map.push(cx.id, b"bye\n");
            cx.map.close_when_done(cx.id);
        } else {
            cx.map.push(cx.id, [line, b"\n"].concat());
        }
    }
}

impl Channel for Lines {
    fn handle_read(&mut self, cx: &mut Context<'_>) -> Result {
        while let Received::Data(data) = cx.map.recv(cx.id, 4096)? {
            self.held.extend_from_slice(&data);
        }
        let held = std::mem::take(&mut self.held);
        let mut rest = &held[..];
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n')
            && cx.map.is_reading(cx.id)
        {
            self.answer(cx, &rest[..end]);
            rest = &rest[end + 1..];
        }
        self.held.extend_from_slice(rest);
        if self.held.len() > 1000 {
            cx.map.close_with(cx.id, CloseReason::TooLong);
        }
        Ok(())
    }

    fn handle_close(&mut self, cx: &mut Context<'_>, reason: CloseReason) {
        let peer = cx.map.get(cx.id).and_then(Dispatcher::peer_addr).is_some();
        self.log.add(format_args!("close {reason:?}, peer known: {peer}"));
    }
}

#[test]
fn d41_what_a_socket_tells_is_asked_of_its_dispatcher_by_name() {
    let (listener, address, _folder) = Net::V4.listener();
    let mut map: Map = map();
    let log = Log::new();
    map.listen_on(listener, move |_| Lines::new(&log)).unwrap();
    let mut peer = Peer::connect(&address);
    peer.send(b"hello\n");
    assert_eq!(with_turns(&mut map, &mut peer, 6), b"hello\n");
    let (id, served) = map.iter().last().unwrap();
    assert_eq!((served.state(), served.bytes_in(), served.bytes_out()), (State::Open, 6, 6));
    assert_eq!(served.local_addr().unwrap(), Some(address));
    let Peer::Tcp(socket) = &peer else { unreachable!("a TCP address") };
    assert_eq!(served.peer_addr(), Some(socket.local_addr().unwrap().into()));
    // What is gone has no dispatcher, rather than one that answers for it.
    map.close(id);
    run_until_gone(&mut map, id);
    assert!(map.get(id).is_none());
}

#[test]
fn d46_a_line_channel_needs_no_more_than_the_public_trait() {
    each_net(|net| {
        let (listener, address, _folder) = net.listener();
        let mut map: Map = map();
        let log = Log::new();
        let seen = log.clone();
        map.listen_on(listener, move |_| Lines::new(&seen)).unwrap();
        let mut peer = Peer::connect(&address);
        peer.send(b"one\ntwo\nthr");
        assert_eq!(with_turns(&mut map, &mut peer, 8), b"one\ntwo\n");
        peer.send(b"ee\nquit\nignored\n");
        assert_eq!(with_turns(&mut map, &mut peer, 10), b"three\nbye\n");
        drop(peer);
        turn_until(&mut map, &mut (), "the close", |map, ()| map.len() == 1);
        assert_eq!(log.lines().len(), 5, "{:?}", log.lines());
        assert_eq!(log.lines()[..4], ["one", "two", "three", "quit"]);
    });
}

/// Turns the loop until so many bytes were sent, and reads them at the other end.
fn with_turns(map: &mut Map, peer: &mut Peer, bytes: usize) -> Vec<u8> {
    let sent = |map: &Map| map.iter().map(|(_, channel)| channel.bytes_out()).sum::<u64>();
    let goal = sent(map) + bytes as u64;
    turn_until(map, &mut (), "the answer", |map, ()| sent(map) == goal);
    peer.read_bytes(bytes)
}

fn run_until_gone(map: &mut Map, id: ChannelId) {
    turn_until(map, &mut (), "the close", |map, ()| !map.is_open(id) && map.len() == 1);
}
