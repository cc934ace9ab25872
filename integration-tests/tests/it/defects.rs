//! The defects of the original, D1 to D18: what a channel lives through. What a turn costs is in `defects_cost.rs`, what
//! the interface allows in `defects_api.rs`.
//!
//! Some defects have their test, or a part of it, elsewhere:
//!
//! | defect | test |
//! |---|---|
//! | D4 | `faults_callbacks::row_17_an_event_does_not_reach_the_next_channel_in_that_place` |
//! | D5 | `faults_accept::row_01_out_of_descriptors_a_listener_pauses_and_goes_on_when_one_is_free` |
//! | D7 | `faults_handlers::row_26_a_panic_after_the_end_is_contained` |
//! | D9 | `sequences::a_connect_that_fails_at_once_is_told_by_the_loop` |
//! | D10 | `sequences::a_handle_connect_that_fails_is_not_repeated` |
//! | D11 | `sequences_data::a_read_that_would_block_is_an_answer_and_not_an_error` |
//! | D13 | `sequences_data::a_peer_that_ends_its_side_gets_the_whole_reply` |
//! | D16 | `chat::a_close_in_a_message_stops_delivery` |
//! | D17 | `chat_ends::a_message_of_exactly_the_limit_passes_and_one_byte_more_closes` |
//! | D18 | `limits::a_push_over_the_limit_closes_or_is_refused` |

use std::cell::Cell;
use std::io;
use std::rc::Rc;

use asyncore::{Channel, CloseReason, Context, Dispatcher, Error, Family, Kind, Map, Pushed, Result, State};
use integration_tests::{Log, Peer, Recorder, each_net, map, run_to_the_end, turn_until};
use rustix::io::Errno;

use crate::faults::assert_quiet;

#[test]
fn d01_only_a_channel_that_asks_for_it_is_told_that_it_may_write() {
    for (writable, writes) in [(false, 0), (true, 10)] {
        let mut map: Map = map();
        let log = Log::new();
        let (_peer, here) = Peer::pair();
        let mut recorder = Recorder::new(&log);
        recorder.writable = writable;
        map.add(here, recorder).unwrap();
        // The first turn tells of the connection, and finds out what the channel waits for.
        map.poll(&mut (), None).unwrap();
        for _ in 0..10 {
            map.poll(&mut (), Some(std::time::Duration::from_millis(1))).unwrap();
        }
        assert!(log.count("write") >= writes, "{:?}", log.lines());
        assert_eq!(log.count("write") > 0, writable, "{:?}", log.lines());
    }
}

#[test]
fn d02_a_socket_that_is_not_connected_is_not_served() {
    let mut map: Map = map();
    let log = Log::new();
    let socket = Dispatcher::create_socket(Family::V4, Kind::Stream).unwrap();
    let mut recorder = Recorder::new(&log);
    recorder.writable = true;
    let id = map.add(socket, recorder).unwrap();
    // The system calls such a socket writable and hung up.
    assert_quiet(&mut map, &mut ());
    assert_eq!(map.get(id).unwrap().state(), State::Created);
    map.close(id);
    run_to_the_end(&mut map, &mut ());
    assert_eq!(log.lines(), ["close Local"]);
}

#[test]
fn d03_every_end_is_told_once_and_last() {
    for end in ["an end", "a reset", "a close", "closes and a reset", "all at once"] {
        let mut map: Map = map();
        let log = Log::new();
        let (peer, here) = Peer::tcp_pair();
        let mut recorder = Recorder::new(&log);
        recorder.writable = true;
        let id = map.add(here, recorder).unwrap();
        map.poll(&mut (), None).unwrap();
        map.push(id, b"output that may find nobody");
        match end {
            "an end" => drop(peer),
            "a reset" => peer.reset(),
            "a close" => map.close(id),
            "closes and a reset" => {
                map.close(id);
                peer.reset();
                map.close(id);
            }
            _ => {
                map.close_when_done(id);
                peer.reset();
                map.close_all();
            }
        }
        run_to_the_end(&mut map, &mut ());
        let lines = log.lines();
        assert_eq!(log.count("close"), 1, "{end}: {lines:?}");
        assert!(lines.last().unwrap().starts_with("close"), "{end}: {lines:?}");
    }
}

#[test]
fn d06_a_connection_that_is_not_taken_in_does_not_end_the_listener() {
    struct Choosy(Log);
    impl Channel for Choosy {
        fn handle_accepted(&mut self, cx: &mut Context<'_>, accepted: Dispatcher) -> Result {
            self.0.add("accepted");
            if self.0.count("accepted") == 1 {
                return Err("no room for the first".into());
            }
            cx.map.add(accepted, Recorder::named("second", &self.0)).map(drop)
        }
        fn handle_error(&mut self, _cx: &mut Context<'_>, _error: &Error) {
            self.0.add("error");
        }
    }
    each_net(|net| {
        let (listener, address, _folder) = net.listener();
        let mut map: Map = map();
        let log = Log::new();
        map.add(listener, Choosy(log.clone())).unwrap();
        let mut first = Peer::connect(&address);
        let _second = Peer::connect(&address);
        turn_until(&mut map, &mut (), "the second", |_, ()| log.has("second connect"));
        assert_eq!(log.lines(), ["accepted", "accepted", "second connect"]);
        assert_eq!(first.read_rest(), b"");
    });
}

#[test]
fn d08_a_close_comes_with_its_cause() {
    each_net(|net| {
        let (dead, _dead_folder) = net.dead_address();
        let mut map: Map = map();
        let log = Log::new();
        map.connect(dead, Recorder::named("refused", &log)).unwrap();
        let (listener, address, _folder) = net.listener();
        let seen = log.clone();
        let listener = map.listen_on(listener, move |_| Recorder::named("served", &seen)).unwrap();
        drop(Peer::connect(&address));
        turn_until(&mut map, &mut (), "both ends", |map, ()| map.len() == 1);
        map.close(listener);
        run_to_the_end(&mut map, &mut ());
        assert!(log.has("refused close Refused") && log.has("served close Eof"), "{:?}", log.lines());
        // The system's own words come first.
        assert_eq!(log.count("refused error"), 1, "{:?}", log.lines());
        assert!(!log.has("refused connect"), "{:?}", log.lines());
    });
}

#[test]
fn d09_what_cannot_be_an_address_is_refused_and_leaves_no_channel() {
    let mut map: Map = map();
    let log = Log::new();
    let too_long = std::path::Path::new("/").join("x".repeat(200));
    map.connect(too_long, Recorder::new(&log)).unwrap_err();
    assert!(map.is_empty());
    map.run(&mut ()).unwrap();
    assert_eq!(log.lines(), [""; 0]);
}

#[test]
fn d10_handle_connect_never_comes_from_inside_connect() {
    each_net(|net| {
        let (_listener, address, _folder) = net.listener();
        let mut map: Map = map();
        let log = Log::new();
        // A Unix-domain socket is connected when this returns, and so may others be.
        let id = map.connect(address, Recorder::new(&log)).unwrap();
        assert_eq!(log.lines(), [""; 0]);
        assert_eq!(map.get(id).unwrap().state(), State::Connecting);
        turn_until(&mut map, &mut (), "the connect", |_, ()| log.has("connect"));
        assert_eq!(log.lines(), ["connect"]);
        assert_eq!(map.get(id).unwrap().state(), State::Open);
    });
}

#[test]
fn d12_every_way_to_lose_a_connection_has_its_reason() {
    struct Fails(Errno, Rc<Cell<Option<CloseReason>>>);
    impl Channel for Fails {
        fn handle_connect(&mut self, _cx: &mut Context<'_>) -> Result {
            Err(io::Error::from(self.0).into())
        }
        fn handle_close(&mut self, _cx: &mut Context<'_>, reason: CloseReason) {
            self.1.set(Some(reason));
        }
    }
    let timed_out = CloseReason::TimedOut(asyncore::Timeout::Transport);
    let reasons = [
        (Errno::CONNRESET, CloseReason::Reset),
        (Errno::CONNABORTED, CloseReason::Reset),
        (Errno::PIPE, CloseReason::Reset),
        (Errno::NOTCONN, CloseReason::Reset),
        (Errno::SHUTDOWN, CloseReason::Reset),
        (Errno::BADF, CloseReason::Reset),
        (Errno::CONNREFUSED, CloseReason::Refused),
        (Errno::TIMEDOUT, timed_out),
        (Errno::HOSTUNREACH, CloseReason::Unreachable),
        (Errno::NETUNREACH, CloseReason::Unreachable),
        (Errno::NETDOWN, CloseReason::Unreachable),
        (Errno::HOSTDOWN, CloseReason::Unreachable),
        (Errno::NOSPC, CloseReason::HandlerError),
    ];
    for (error, reason) in reasons {
        let mut map: Map = map();
        let (_peer, here) = Peer::pair();
        let told = Rc::new(Cell::new(None));
        map.add(here, Fails(error, Rc::clone(&told))).unwrap();
        run_to_the_end(&mut map, &mut ());
        assert_eq!(told.get(), Some(reason), "{error:?}");
    }
}

#[test]
fn d14_close_when_done_sends_what_close_drops() {
    for when_done in [true, false] {
        let mut map: Map = map();
        let log = Log::new();
        let (mut peer, here) = Peer::tcp_pair();
        let id = map.add(here, Recorder::new(&log)).unwrap();
        assert_eq!(map.push(id, vec![b'x'; 50_000]), Pushed::Queued);
        assert_eq!(map.get(id).unwrap().queued(), 50_000);
        if when_done {
            map.close_when_done(id);
        } else {
            map.close(id);
        }
        let reader = std::thread::spawn(move || peer.read_rest().len());
        run_to_the_end(&mut map, &mut ());
        assert_eq!(reader.join().unwrap(), if when_done { 50_000 } else { 0 });
        assert_eq!((log.count("close"), map.queued()), (1, 0), "{:?}", log.lines());
    }
}

#[test]
fn d15_close_when_done_acts_at_once_when_nothing_is_queued_and_refuses_later_pushes() {
    let mut map: Map = map();
    let log = Log::new();
    let (mut peer, here) = Peer::pair();
    let id = map.add(here, Recorder::new(&log)).unwrap();
    map.poll(&mut (), None).unwrap();
    map.close_when_done(id);
    assert_eq!(map.push(id, b"too late"), Pushed::Closing);
    assert_eq!(map.discard_output(id), 0);
    map.poll(&mut (), None).unwrap();
    assert_eq!(peer.read_rest(), b"", "one turn was enough");
    drop(peer);
    run_to_the_end(&mut map, &mut ());
    assert_eq!(log.lines(), ["connect", "close Local"]);
}
