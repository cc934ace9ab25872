//! Channels as members of a map: found by id and by type, entered, taken out, written to together, and closed for a
//! reason.

use std::time::Duration;

use asyncore::{
    Address, Channel, ChannelId, CloseReason, Context, Dispatcher, Limits, Map, Pushed, Received, Result,
    State,
};
use bytes::Bytes;
use integration_tests::{
    Call, Log, Net, Peer, Recorder, Script, ids, map, run_to_the_end, settle, turn_until,
};

/// Counts, and answers when it is asked.
#[derive(Debug, Default)]
struct Counter(u32);

impl Channel for Counter {}

#[test]
fn a_channel_is_found_by_its_id_and_its_handler_by_its_type() {
    let mut map: Map = map();
    let (_peer, here) = Peer::pair();
    let id = map.add(here, Counter(7)).unwrap();
    assert_eq!(map.get(id).unwrap().state(), State::Open);
    assert_eq!(map.handler::<Counter>(id).unwrap().0, 7);
    map.handler_mut::<Counter>(id).unwrap().0 = 8;
    assert_eq!(map.with(&mut (), id, |counter: &mut Counter, _| counter.0), Some(8));
    assert!(map.handler::<Recorder>(id).is_none());
    assert!(map.handler_mut::<Recorder>(id).is_none());
    assert!(map.with(&mut (), id, |_: &mut Recorder, _| ()).is_none());
    assert_eq!(map.handler::<Counter>(id).unwrap().0, 8, "a wrong guess leaves it there");
    assert_eq!((map.len(), ids(&map)), (1, vec![id]));
}

#[test]
fn a_stale_id_finds_nothing() {
    let mut map: Map = map();
    let (_peer, here) = Peer::pair();
    let stale = map.add(here, Counter(1)).unwrap();
    map.close(stale);
    run_to_the_end(&mut map, &mut ());
    let (_peer, here) = Peer::pair();
    let next = map.add(here, Counter(2)).unwrap();
    assert_eq!(next.to_string(), "0.2", "the next generation of the same slot");

    assert!(map.get(stale).is_none() && map.limits(stale).is_none());
    assert!(!map.is_open(stale) && !map.is_reading(stale));
    assert!(map.handler::<Counter>(stale).is_none());
    assert!(map.with(&mut (), stale, |_: &mut Counter, _| ()).is_none());
    assert!(map.remove(stale).is_none());
    assert_eq!(map.push(stale, b"lost"), Pushed::Gone);
    assert_eq!(map.send(stale, b"lost").unwrap(), 0);
    assert!(matches!(map.recv(stale, 16).unwrap(), Received::End));
    assert!(map.recv_from(stale, 16).unwrap().is_none());
    assert!(map.recv_urgent(stale).unwrap().is_none());
    assert!(map.accept(stale).unwrap().is_none());
    assert_eq!(map.discard_output(stale), 0);
    assert!(map.set_timer(stale, Duration::ZERO).is_none());
    map.close(stale);
    map.close_with(stale, CloseReason::TooLong);
    map.close_when_done(stale);
    map.shutdown_write(stale);
    map.pause_reading(stale);
    map.resume_reading(stale);
    map.read_again(stale);
    map.touch(stale);
    map.set_background(stale);
    map.set_limits(stale, Limits::default());
    settle(&mut map, &mut ());
    assert_eq!(map.handler::<Counter>(next).unwrap().0, 2);
    assert!(map.is_reading(next));
}

#[test]
fn a_handler_on_the_stack_is_not_entered_again_but_its_socket_can_be_used() {
    struct Enters(Log);
    impl Channel for Enters {
        fn handle_connect(&mut self, cx: &mut Context<'_>) -> Result {
            let id = cx.id;
            self.0.add(format_args!("itself {:?}", cx.with(id, |_: &mut Self, _| ())));
            self.0.add(format_args!("handler {}", cx.map.handler::<Self>(id).is_some()));
            self.0.add(format_args!("remove {}", cx.map.remove(id).is_some()));
            self.0.add(format_args!("push {:?}", cx.map.push(id, b"hello")));
            Ok(())
        }
    }
    let mut map: Map = map();
    let log = Log::new();
    let (mut peer, here) = Peer::pair();
    map.add(here, Enters(log.clone())).unwrap();
    settle(&mut map, &mut ());
    assert_eq!(log.lines(), ["itself None", "handler false", "remove false", "push Queued"]);
    assert_eq!(peer.read_bytes(5), b"hello");
}

#[test]
fn with_nests_and_a_panic_inside_closes_every_channel_it_passes() {
    /// Enters the next channel; the last one panics.
    struct Nested(Log, Vec<ChannelId>);
    impl Channel for Nested {
        fn handle_close(&mut self, _cx: &mut Context<'_>, reason: CloseReason) {
            self.0.add(format_args!("close {reason:?}"));
        }
    }
    fn enter(nested: &mut Nested, cx: &mut Context<'_>) {
        let Some(next) = nested.1.pop() else { panic!("at the end") };
        let rest = nested.1.clone();
        cx.with(next, |nested: &mut Nested, cx| {
            nested.1 = rest;
            enter(nested, cx);
        })
        .unwrap();
    }
    let mut map: Map = map();
    let log = Log::new();
    let mut peers = Vec::new();
    let mut members = Vec::new();
    for _ in 0..4 {
        let (peer, here) = Peer::pair();
        peers.push(peer);
        members.push(map.add(here, Nested(log.clone(), Vec::new())).unwrap());
    }
    let (first, rest) = members.split_last().unwrap();
    // The first in the list is not entered.
    let path = rest[1..].to_vec();
    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        map.with(&mut (), *first, |nested: &mut Nested, cx| {
            nested.1 = path;
            enter(nested, cx);
        })
    }));
    assert!(outcome.is_err(), "the panic goes on to the caller");
    settle(&mut map, &mut ());
    assert_eq!(log.lines(), ["close HandlerPanic"; 3]);
    assert_eq!(ids(&map), [members[0]]);
}

#[test]
fn a_removed_channel_hears_no_end_and_goes_on_in_another_map() {
    let mut map: Map = map();
    let log = Log::new();
    let (mut peer, here) = Peer::pair();
    let id = map.add(here, Recorder::new(&log)).unwrap();
    settle(&mut map, &mut ());
    map.push(id, b"queued");
    let (dispatcher, handler) = map.remove(id).unwrap();
    assert_eq!(dispatcher.queued(), 6);
    assert!(map.is_empty());
    assert_eq!(map.queued(), 0);
    run_to_the_end(&mut map, &mut ());
    assert_eq!(log.take(), ["connect"]);

    peer.send(b"unread");
    let mut other: Map = integration_tests::map();
    other.insert(dispatcher, handler).unwrap();
    assert_eq!(other.queued(), 6);
    turn_until(&mut other, &mut (), "what was not read", |_, ()| log.has("read unread"));
    assert_eq!(log.lines(), ["connect", "read unread"], "a new channel there");
    assert_eq!(peer.read_bytes(6), b"queued");
}

#[test]
fn a_broadcast_reaches_every_member_that_is_there() {
    let mut map: Map = map();
    let mut peers = Vec::new();
    let mut members = Vec::new();
    for _ in 0..4 {
        let (peer, here) = Peer::pair();
        peers.push(peer);
        members.push(map.add(here, Recorder::new(&Log::new())).unwrap());
    }
    map.close(members[0]);
    map.close_when_done(members[1]);
    // Small data is copied into each queue, large data is shared.
    let large = Bytes::from(vec![b'x'; 100_000]);
    assert_eq!(map.broadcast(&members, &b"small "[..]), 2);
    assert_eq!(map.broadcast(&members, large.clone()), 2);
    assert_eq!(map.queued(), 2 * (6 + large.len()));
    let readers: Vec<_> = peers
        .split_off(2)
        .into_iter()
        .map(|mut peer| std::thread::spawn(move || peer.read_bytes(100_006)))
        .collect();
    turn_until(&mut map, &mut (), "the queues to drain", |map, ()| map.queued() == 0);
    for reader in readers {
        assert_eq!(reader.join().unwrap(), [b"small ", &large[..]].concat());
    }
}

#[test]
fn send_goes_out_at_once_and_never_overtakes_the_queue() {
    let mut map: Map = map();
    let (mut peer, here) = Peer::pair();
    let id = map.add(here, Recorder::new(&Log::new())).unwrap();
    assert_eq!(map.send(id, b"at once ").unwrap(), 8);
    assert_eq!(peer.read_bytes(8), b"at once ");
    map.push(id, b"queued ");
    assert_eq!(map.send(id, b"overtakes").unwrap(), 0);
    settle(&mut map, &mut ());
    assert_eq!(map.send(id, b"behind").unwrap(), 6);
    assert_eq!(peer.read_bytes(13), b"queued behind");
    map.shutdown_write(id);
    assert_eq!(map.send(id, b"too late").unwrap(), 0);
}

#[test]
fn a_channel_is_closed_for_the_reason_it_was_given() {
    let mut map: Map = map();
    let log = Log::new();
    let (_peer, here) = Peer::pair();
    let id = map.add(here, Recorder::named("from outside", &log)).unwrap();
    map.close_with(id, CloseReason::TooLong);
    map.close_with(id, CloseReason::Limit);
    let (_peer, here) = Peer::pair();
    let script = Script::new("from handle_error", &log, |cx: &mut Context<'_>, call| match call {
        Call::Connect => Err("too much".into()),
        Call::Error(_) => {
            cx.map.close_with(cx.id, CloseReason::Limit);
            Ok(())
        }
        _ => Ok(()),
    });
    map.add(here, script).unwrap();
    run_to_the_end(&mut map, &mut ());
    assert_eq!(
        log.lines(),
        [
            "from handle_error connect",
            "from handle_error error too much",
            "from outside close TooLong",
            "from handle_error close Limit",
        ]
    );
}

#[test]
fn a_listener_on_a_path_makes_channels() {
    let mut map: Map = map();
    let log = Log::new();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    let seen = log.clone();
    let server = map
        .listen_unix(&path, move |peer| {
            assert_eq!(peer, Some(Address::Unnamed));
            Recorder::new(&seen)
        })
        .unwrap();
    assert!(map.listen_unix(&path, |_| Counter::default()).is_err(), "the path exists");
    drop(Peer::connect(&path.into()));
    turn_until(&mut map, &mut (), "a visit", |_, ()| log.has("close Eof"));
    assert!(map.is_open(server));
}

#[test]
fn accept_takes_a_connection_that_the_loop_has_not_told_of() {
    let mut map: Map = map();
    let (listener, address, _folder) = Net::V4.listener();
    let mut limits = Limits::default();
    limits.output = 4;
    let server = map.add(listener, Counter::default()).unwrap();
    map.set_limits(server, limits);
    assert!(map.accept(server).unwrap().is_none());
    let _peer = Peer::connect(&address);
    let accepted: Dispatcher = map.accept(server).unwrap().unwrap();
    let id = map.add(accepted, Counter::default()).unwrap();
    assert_eq!(map.limits(id).unwrap().output, 4, "the listener's limits");
    assert_eq!(map.push(id, b"12345"), Pushed::Full);
}

#[test]
fn reading_that_pauses_while_output_is_high_goes_on_when_it_is_low() {
    const FLOOD: usize = 4 << 20;
    let mut map: Map = map();
    let log = Log::new();
    let (mut peer, here) = Peer::pair();
    let script = Script::new("", &log, |cx: &mut Context<'_>, call| {
        if *call == Call::Read
            && let Received::Data(data) = cx.map.recv(cx.id, 4096)?
        {
            cx.map.push(cx.id, &data);
        }
        Ok(())
    });
    let id = map.add(here, script).unwrap();
    map.pause_when_high(id, true);
    settle(&mut map, &mut ());
    peer.set_nonblocking();
    let sent = flood(&mut map, &mut peer, FLOOD);
    assert!(sent < FLOOD, "the peer has to wait");
    assert!(map.queued() <= map.limits(id).unwrap().output, "{map:?}");
    assert!(!map.is_reading(id) && map.is_open(id));

    map.pause_when_high(id, false);
    assert!(map.is_reading(id), "and not if it is not asked for");
    map.pause_when_high(id, true);
    assert!(!map.is_reading(id));
    let mut echoed = 0;
    turn_until(&mut map, &mut (), "all that was sent", |_, ()| {
        let mut room = [0; 65536];
        while let Ok(more @ 1..) = std::io::Read::read(&mut peer, &mut room) {
            echoed += more;
        }
        echoed == sent
    });
    assert!(map.is_reading(id));
}

/// Sends up to `most` bytes while the loop turns, until no more is taken; how many.
fn flood(map: &mut Map, peer: &mut Peer, most: usize) -> usize {
    let (mut sent, mut refused) = (0, 0);
    while sent < most && refused < 20 {
        match std::io::Write::write(peer, &[b'x'; 65536]) {
            Ok(more) => (sent, refused) = (sent + more, 0),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => refused += 1,
            Err(error) => panic!("{error}"),
        }
        map.poll(&mut (), Some(Duration::ZERO)).unwrap();
    }
    sent
}
