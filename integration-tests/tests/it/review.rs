//! What a review of both crates found, each as the sequence that went wrong.

use std::collections::VecDeque;
use std::net::UdpSocket;
use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use asynchat::{AsyncChat, Collected, IterProducer};
use asyncore::{Channel, Context, Limits, Map, Producer, Received, Result, State};
use bytes::Bytes;
use integration_tests::{Log, Peer, Recorder, descriptors, map, options, run_to_the_end, settle, turn_until};

use crate::scripted::{Scripted, converse};

/// Without its channel a signal has nobody to tell: its descriptor goes with a removed channel or a dropped map.
#[test]
fn a_signal_s_descriptors_go_with_a_dropped_map() {
    let signals = || {
        for _ in 0..200 {
            let mut map: Map = map();
            let removed = map.add_signal(asyncore::SIGUSR2, |_, _| Ok(())).unwrap();
            map.add_signal(asyncore::SIGUSR2, |_, _| Ok(())).unwrap();
            drop(map.remove(removed));
        }
    };
    let Some(before) = descriptors() else { return };
    signals();
    // Tests beside this one open and close some too.
    let after = descriptors().unwrap();
    assert!(after < before + 200, "{before} descriptors before, {after} after");
}

/// Pieces, of which an empty one says "nothing yet".
struct Pieces(VecDeque<&'static [u8]>);

impl Producer for Pieces {
    fn more(&mut self, _most: usize) -> Result<Option<Bytes>> {
        Ok(self.0.pop_front().map(Bytes::from_static))
    }
}

#[test]
fn a_producer_on_a_datagram_channel_sends_each_piece_as_a_datagram() {
    let mut map: Map = map();
    let log = Log::new();
    let (here, there) = UnixDatagram::pair().unwrap();
    there.set_nonblocking(true).unwrap();
    let id = map.add(here, Recorder::new(&log)).unwrap();
    map.push(id, b"before");
    map.push_with_producer(id, IterProducer::new(["one", "two"]));
    map.push(id, b"between");
    map.push(id, b"");
    map.push_with_producer(id, Pieces([&b""[..], b"", b"late"].into()));
    map.push(id, b"after");
    let mut arrived = Vec::new();
    let receive = |arrived: &mut Vec<String>| {
        let mut room = [0; 100];
        while let Ok(length) = there.recv(&mut room) {
            arrived.push(room[..length].escape_ascii().to_string());
        }
    };
    settle(&mut map, &mut ());
    receive(&mut arrived);
    assert_eq!(arrived, ["before", "one", "two", "between", ""]);
    let turns = map.counters().turns;
    map.poll(&mut (), Some(Duration::from_millis(50))).unwrap();
    assert_eq!(map.counters().turns, turns + 1);
    map.touch(id);
    settle(&mut map, &mut ());
    receive(&mut arrived);
    assert_eq!(arrived[5..], ["late", "after"]);
    map.close_when_done(id);
    run_to_the_end(&mut map, &mut ());
    assert_eq!(log.lines(), ["connect", "close Local"]);
}

#[test]
fn a_datagram_that_came_back_to_a_send_does_not_close_the_channel() {
    let mut map: Map = map();
    let peer = UdpSocket::bind("127.0.0.1:0").unwrap();
    let here = UdpSocket::bind("127.0.0.1:0").unwrap();
    here.connect(peer.local_addr().unwrap()).unwrap();
    drop(peer);
    let id = map.add(here, Recorder::new(&Log::new())).unwrap();
    for _ in 0..10 {
        map.send(id, b"to nobody").unwrap();
    }
    assert!(map.is_open(id));
}

/// Receives as much as there is, in one read.
struct Greedy(Log);

impl Channel for Greedy {
    fn handle_read(&mut self, cx: &mut Context<'_>) -> Result {
        if let Received::Data(data) = cx.map.recv(cx.id, usize::MAX)? {
            self.0.add(format_args!("read {}", data.escape_ascii()));
        }
        Ok(())
    }
}

#[test]
fn a_read_of_all_that_there_is_needs_no_more_room_than_there_can_be() {
    let mut limits = Limits::default();
    limits.read_budget = usize::MAX;
    let mut map: Map = map();
    let log = Log::new();
    let (mut peer, here) = Peer::pair();
    let id = map.add(here, Greedy(log.clone())).unwrap();
    map.set_limits(id, limits);
    peer.send(b"inside");
    turn_until(&mut map, &mut (), "the input", |_, ()| log.has("read inside"));
    peer.send(b"outside");
    let Received::Data(data) = map.recv(id, usize::MAX).unwrap() else { panic!("nothing came") };
    assert_eq!(*data, *b"outside");

    let (here, there) = UnixDatagram::pair().unwrap();
    let id = map.add(here, Greedy(log)).unwrap();
    there.send(b"datagram").unwrap();
    assert_eq!(*map.recv_from(id, usize::MAX).unwrap().unwrap().0, *b"datagram");
}

/// Only a listener waits for room in the map.
#[test]
fn an_accept_on_what_is_no_listener_pauses_nothing() {
    let mut options = options();
    options.connections = 1;
    let mut map: Map = Map::with_options(options).unwrap();
    let log = Log::new();
    let (mut peer, here) = Peer::pair();
    let id = map.add(here, Recorder::new(&log)).unwrap();
    assert!(map.accept(id).unwrap().is_none());
    peer.send(b"heard");
    turn_until(&mut map, &mut (), "the input", |_, ()| log.has("read heard"));
}

/// A channel that lingers has sent all: a reset is its peer's end, with late data before it or without.
#[test]
fn a_reset_while_lingering_is_the_end_that_was_waited_for() {
    for late in [&b"late"[..], b""] {
        let mut map: Map = map();
        let log = Log::new();
        let (mut peer, here) = Peer::tcp_pair();
        let id = map.add(here, Recorder::new(&log)).unwrap();
        map.close_when_done(id);
        turn_until(&mut map, &mut (), "all sent", |map, ()| {
            map.get(id).is_some_and(|channel| channel.state() == State::Lingering)
        });
        if !late.is_empty() {
            peer.send(late);
        }
        peer.reset();
        run_to_the_end(&mut map, &mut ());
        assert_eq!(log.lines(), ["connect", "close Local"], "{late:?}");
    }
}

/// What came while output was still to be sent is no part of what a channel drops after its last byte.
#[test]
fn input_that_came_while_draining_does_not_shorten_lingering() {
    let mut map: Map = map();
    let log = Log::new();
    let (mut peer, here) = Peer::pair();
    let id = map.add(here, Recorder::new(&log)).unwrap();
    let mut limits = Limits::default();
    limits.linger_bytes = 1000;
    map.set_limits(id, limits);
    map.push(id, &[b'x'; 1 << 20]);
    map.close_when_done(id);
    settle(&mut map, &mut ());
    assert_eq!(map.get(id).unwrap().state(), State::Draining);
    peer.send(&[b'y'; 10_000]);
    settle(&mut map, &mut ());
    let mut received = 0;
    turn_until(&mut map, &mut (), "all sent", |map, ()| {
        peer.set_nonblocking();
        while let Ok(read @ 1..) = std::io::Read::read(&mut peer, &mut [0; 65536]) {
            received += read;
        }
        map.get(id).is_some_and(|channel| channel.state() == State::Lingering)
    });
    assert_eq!(received, 1 << 20);
    peer.send(b"late");
    settle(&mut map, &mut ());
    assert!(map.is_open(id), "{:?}", log.lines());
    peer.send(&[b'y'; 1000]);
    run_to_the_end(&mut map, &mut ());
}

#[test]
fn a_shutdown_ends_with_a_run_of_some_turns_as_well() {
    let mut map: Map = map();
    let (_peer, here) = Peer::pair();
    let log = Log::new();
    map.add(here, Recorder::new(&log)).unwrap();
    let mut limits = Limits::default();
    limits.linger_time = Duration::ZERO;
    let id = integration_tests::ids(&map)[0];
    map.set_limits(id, limits);
    map.shutdown(Duration::from_secs(3600));
    map.run_for(&mut (), 100).unwrap();
    assert!(map.is_empty() && !map.is_shutting_down());
}

/// The end of input is told once, whoever met it and wherever the channel is by then.
#[test]
fn the_end_of_input_is_told_once_to_a_channel_that_is_removed_and_added_again() {
    // Met by somebody else's read, and not told yet.
    let mut map: Map = map();
    let log = Log::new();
    let (peer, here) = Peer::pair();
    let id = map.add(here, Recorder::new(&log)).unwrap();
    settle(&mut map, &mut ());
    drop(peer);
    assert!(matches!(map.recv(id, 10).unwrap(), Received::End));
    let (dispatcher, handler) = map.remove(id).unwrap();
    map.insert(dispatcher, handler).unwrap();
    run_to_the_end(&mut map, &mut ());
    assert_eq!(log.take(), ["connect", "eof", "close Eof"]);

    // Told already, while the last output is still to be sent.
    let (mut peer, here) = Peer::pair();
    let mut recorder = Recorder::new(&log);
    recorder.closes_at_eof = false;
    let id = map.add(here, recorder).unwrap();
    map.push(id, &[b'x'; 1 << 20]);
    map.shutdown_write(id);
    peer.shutdown_write();
    turn_until(&mut map, &mut (), "the end of file", |_, ()| log.has("eof"));
    assert_eq!(map.get(id).unwrap().state(), State::Finishing);
    let (dispatcher, handler) = map.remove(id).unwrap();
    map.insert(dispatcher, handler).unwrap();
    let reader = std::thread::spawn(move || peer.read_rest());
    run_to_the_end(&mut map, &mut ());
    assert_eq!(reader.join().unwrap().len(), 1 << 20);
    assert_eq!(log.count("eof"), 1, "{:?}", log.lines());
}

#[test]
fn output_that_is_high_when_a_channel_is_added_again_holds_back_its_reading_and_is_told_of() {
    let mut map: Map = map();
    let log = Log::new();
    let (mut peer, here) = Peer::pair();
    let id = map.add(here, Recorder::new(&log)).unwrap();
    map.push(id, &[b'x'; 1 << 20]);
    settle(&mut map, &mut ());
    let (dispatcher, handler) = map.remove(id).unwrap();
    assert_eq!(map.queued(), 0);
    let id = map.insert(dispatcher, handler).unwrap();
    map.pause_when_high(id, true);
    assert!(!map.is_reading(id));
    let reader = std::thread::spawn(move || peer.read_bytes(1 << 20).len());
    turn_until(&mut map, &mut (), "the low mark", |_, ()| log.has("drained"));
    assert_eq!(reader.join().unwrap(), 1 << 20);
    assert!(map.is_reading(id));
    assert_eq!(log.count("drained"), 1);
}

/// The end of input may have two things to tell; the first may close the channel.
#[test]
fn a_close_at_the_end_of_input_is_the_last_that_is_heard_of_it() {
    let log = Log::new();
    let chat = Scripted::new(&log).on_piece(|cx, piece| {
        if piece.starts_with(b"\r\n") {
            cx.close();
        }
        Ok(Collected::Kept)
    });
    let chat =
        AsyncChat::new(chat).terminator(b"\r\n.\r\n").message_limit(3).on_too_long(asynchat::OnTooLong::Skip);
    let (mut map, mut peer, _) = converse(chat);
    peer.send(b"a\r\n.\r");
    peer.shutdown_write();
    run_to_the_end(&mut map, &mut ());
    assert_eq!(log.lines(), ["connect", "close Local"]);
}

#[test]
fn a_discard_at_the_end_of_input_drops_the_rest() {
    let log = Log::new();
    let chat = Scripted::new(&log).on_piece(|cx, piece| {
        if piece == b"\r" {
            cx.discard_incoming();
        }
        Ok(Collected::Kept)
    });
    let (mut map, mut peer, _) = converse(AsyncChat::new(chat).terminator(b"\r\n"));
    peer.send(b"rest\r");
    peer.shutdown_write();
    run_to_the_end(&mut map, &mut ());
    assert_eq!(log.lines(), ["connect", "eof ", "close Eof"]);
}
