//! The defects of the original, D20 to D27 and D36: what a turn costs, counted in events, turns and bytes, not timed.
//!
//! Some defects have their test, or a part of it, elsewhere:
//!
//! | defect | test |
//! |---|---|
//! | D21 | `sequences::descriptors_above_1023_are_served` |
//! | D22 | `faults_calls::row_05_a_channel_that_the_poller_cannot_take_is_closed_alone` |
//! | D23 | `sequences::ten_pending_connections_are_accepted_in_one_turn` |
//! | D23 | `sequences_data::all_that_a_channel_may_read_in_a_turn_is_read_in_one` |
//! | D27 | `outbox::output_leaves_in_the_order_of_the_pushes_whatever_a_write_takes` |

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use asynchat::{AsyncChat, Chat, Conversation, MESSAGE_LIMIT, Split, Splitter, Terminator};
use asyncore::{AC_OUT_BUFFER_SIZE, Channel, Context, Limits, Map, Pushed, Received, Result, TimerId};
use bytes::Bytes;
use integration_tests::{Log, Net, Peer, Recorder, map, settle, turn_until};

#[test]
fn d20_a_turn_costs_what_happens_in_it_not_what_exists() {
    /// Counts how often its predicates are asked.
    struct Idle(Rc<Cell<u64>>);
    impl Channel for Idle {
        fn readable(&self) -> bool {
            self.0.set(self.0.get() + 1);
            true
        }
        fn writable(&self) -> bool {
            self.0.set(self.0.get() + 1);
            false
        }
    }
    let costs = [10, 500].map(|idle| {
        let mut map: Map = map();
        let asked = Rc::new(Cell::new(0));
        let _peers: Vec<Peer> = (0..idle)
            .map(|_| {
                let (peer, here) = Peer::pair();
                map.add(here, Idle(Rc::clone(&asked))).unwrap();
                peer
            })
            .collect();
        let (mut peer, here) = Peer::pair();
        let mut echo = Recorder::new(&Log::new());
        echo.echoes = true;
        map.add(here, echo).unwrap();
        settle(&mut map, &mut ());
        let (before, asked_before) = (map.counters(), asked.get());
        assert!(asked_before >= idle, "they are asked when they are added");
        for _ in 0..100 {
            peer.send(b"line\n");
            map.poll(&mut (), None).unwrap();
            assert_eq!(peer.read_bytes(5), b"line\n");
        }
        let after = map.counters();
        assert_eq!(asked.get(), asked_before, "nothing has happened to the idle ones");
        assert_eq!(after.registrations, before.registrations, "nor has the interest of the one that talks");
        (after.events - before.events, after.turns - before.turns)
    });
    assert_eq!(costs, [(100, 100); 2]);
}

#[test]
fn d24_ten_thousand_small_pushes_leave_in_one_turn() {
    let (listener, address, _folder) = Net::V4.listener();
    let mut map: Map = map();
    let log = Log::new();
    map.listen_on(listener, move |_| Recorder::new(&log)).unwrap();
    let mut peer = Peer::connect(&address);
    turn_until(&mut map, &mut (), "the connection", |map, ()| map.len() == 2);
    let (id, served) = map.iter().last().unwrap();
    // Nagle's wait would hold the last write back until the one before is acknowledged.
    assert!(socket2::SockRef::from(served).tcp_nodelay().unwrap());

    for _ in 0..10_000 {
        assert_eq!(map.push(id, b"reply"), Pushed::Queued);
    }
    assert!(map.get(id).unwrap().queued() <= AC_OUT_BUFFER_SIZE, "one write can take them");
    map.poll(&mut (), None).unwrap();
    assert_eq!(map.get(id).unwrap().bytes_out(), 50_000);
    assert_eq!(peer.read_bytes(50_000), b"reply".repeat(10_000));
}

#[test]
fn d25_a_large_push_is_shared_not_copied() {
    /// Bytes that tell by their count of owners whether they are still held.
    struct Held(Arc<[u8]>);
    impl AsRef<[u8]> for Held {
        fn as_ref(&self) -> &[u8] {
            &self.0
        }
    }
    let text: Arc<[u8]> = vec![b'x'; 1 << 20].into();
    let mut map: Map = map();
    let (peers, ids): (Vec<Peer>, Vec<_>) = (0..5)
        .map(|_| {
            let (peer, here) = Peer::pair();
            (peer, map.add(here, Recorder::new(&Log::new())).unwrap())
        })
        .unzip();
    assert_eq!(map.broadcast(&ids, Bytes::from_owner(Held(Arc::clone(&text)))), 5);
    // A copy would have let the owner go.
    assert_eq!((map.queued(), Arc::strong_count(&text)), (5 << 20, 2));
    let readers: Vec<_> = peers
        .into_iter()
        .map(|mut peer| std::thread::spawn(move || (peer.read_bytes(1 << 20).len(), peer)))
        .collect();
    turn_until(&mut map, &mut (), "the output to go", |map, ()| map.queued() == 0);
    assert_eq!(Arc::strong_count(&text), 1, "what was sent is not held");
    for reader in readers {
        assert_eq!(reader.join().unwrap().0, 1 << 20);
    }
}

#[test]
fn d25_a_long_queue_leaves_in_full_writes_and_no_others() {
    const TOTAL: usize = 4 << 20;
    let mut map: Map = map();
    let (mut peer, here) = Peer::tcp_pair();
    let id = map.add(here, Recorder::new(&Log::new())).unwrap();
    let mut limits = Limits::default();
    limits.output = TOTAL;
    map.set_limits(id, limits);
    for _ in 0..TOTAL / 64 {
        assert_eq!(map.push(id, &[b'x'; 64]), Pushed::Queued);
    }
    let reader = std::thread::spawn(move || (peer.read_bytes(TOTAL).len(), peer));
    let mut sent = 0;
    turn_until(&mut map, &mut (), "the output to go", |map, ()| {
        let now = map.get(id).unwrap().bytes_out();
        assert!(now - sent <= AC_OUT_BUFFER_SIZE as u64, "one write a turn");
        sent = now;
        sent == TOTAL as u64
    });
    assert_eq!(reader.join().unwrap().0, TOTAL);
}

#[test]
fn d26_the_search_for_the_end_looks_at_each_byte_about_once() {
    // Many short messages in one read; one long message in single bytes, with starts of a terminator in it.
    let short = b"\r\n".repeat(32 << 10);
    let long = [b"abc\r".repeat(MESSAGE_LIMIT / 4), b"\r\n".to_vec()].concat();
    for (what, input, piece, messages) in
        [("short", &short, short.len(), 32 << 10), ("long", &long, 1, 1), ("long", &long, 1000, 1)]
    {
        let mut splitter = Splitter::new(b"\r\n");
        let before = splitter.terminator().searched();
        let mut found = 0;
        for mut part in input.chunks(piece) {
            while let Some(split) = splitter.split(&mut part) {
                match split {
                    Split::Data { end, .. } => found += usize::from(end),
                    other => panic!("{what} in pieces of {piece}: {other:?}"),
                }
            }
        }
        assert_eq!(found, messages, "{what} in pieces of {piece}");
        let searched = splitter.terminator().searched() - before;
        let length = input.len() as u64;
        assert!(searched <= 2 * length, "{what} in pieces of {piece}: {searched} of {length}");
    }
}

#[test]
fn d26_a_conversation_looks_at_each_byte_about_once_too() {
    /// Counts its messages, and ends the map's run with the input.
    struct Counting;
    impl Chat<usize> for Counting {
        fn found_terminator(&mut self, cx: &mut Conversation<'_, usize>, _message: &[u8]) -> Result {
            *cx.app += 1;
            Ok(())
        }
    }
    for length in [0, 1, 16, 80, 1000] {
        for size in [1, 7, 64, 1 << 16] {
            let lines = (20_000 / (length + 2)).max(2);
            let input = [vec![b'x'; length], b"\r\n".to_vec()].concat().repeat(lines);
            let (mut peer, here) = Peer::pair();
            peer.send(&input);
            drop(peer);
            let terminator = Terminator::crlf();
            let before = terminator.searched();
            let mut map = map();
            map.add(here, AsyncChat::new(Counting).terminator(b"\r\n").ac_in_buffer_size(size)).unwrap();
            let mut messages = 0;
            map.run(&mut messages).unwrap();
            assert_eq!(messages, lines, "lines of {length} in reads of {size}");
            let (searched, came) = (terminator.searched() - before, input.len() as u64);
            assert!(searched >= came / 2, "the search is counted");
            assert!(searched <= 2 * came, "lines of {length} in reads of {size}: {searched} of {came}");
        }
    }
}

/// Sets the next timer in each, and counts them.
struct Ticker(u64, Duration);

impl Channel for Ticker {
    fn handle_connect(&mut self, cx: &mut Context<'_>) -> Result {
        cx.map.set_timer(cx.id, self.1);
        Ok(())
    }

    fn handle_read(&mut self, cx: &mut Context<'_>) -> Result {
        while let Received::Data(_) = cx.map.recv(cx.id, 4096)? {}
        Ok(())
    }

    fn handle_timer(&mut self, cx: &mut Context<'_>, _timer: TimerId) -> Result {
        self.0 += 1;
        cx.map.set_timer(cx.id, self.1);
        Ok(())
    }
}

#[test]
fn d36_a_wait_of_less_than_a_millisecond_is_a_wait() {
    for micros in [1, 300, 999, 1500] {
        let mut map: Map = map();
        let (_peer, here) = Peer::pair();
        let id = map.add(here, Ticker(0, Duration::from_micros(micros))).unwrap();
        map.poll(&mut (), None).unwrap();
        map.run_for(&mut (), 100).unwrap();
        // A loop that spins until the time has come makes many turns for each timer.
        let timers = map.handler::<Ticker>(id).unwrap().0;
        assert!(timers >= 99, "{timers} timers of {micros} µs in 100 turns");
    }
}
