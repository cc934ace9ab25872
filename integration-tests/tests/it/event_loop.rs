//! The loop: turns, order, adding and removing inside callbacks, and its end.

use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use asyncore::{Address, Channel, ChannelId, Context, Limits, Map, Producer, Received, Result, TimerId};
use bytes::Bytes;
use integration_tests::{
    Call, DEADLINE, Log, Net, Peer, Recorder, Script, each_net, map, options, run_to_the_end, settle,
    turn_until,
};

#[test]
fn the_run_ends_when_the_map_is_empty() {
    let mut map: Map = map();
    map.run(&mut ()).unwrap();
    let log = Log::new();
    let (peer, here) = Peer::pair();
    map.add(here, Recorder::new(&log)).unwrap();
    drop(peer);
    map.run(&mut ()).unwrap();
    assert_eq!(log.lines(), ["connect", "eof", "close Eof"]);
}

#[test]
fn what_a_channel_pushes_reaches_its_peer() {
    let mut map: Map = map();
    let log = Log::new();
    let (mut peer, here) = Peer::tcp_pair();
    let mut recorder = Recorder::new(&log);
    recorder.echoes = true;
    map.add(here, recorder).unwrap();
    peer.send(b"hello");
    turn_until(&mut map, &mut (), "the echo", |map, ()| {
        map.iter().all(|(_, channel)| channel.bytes_out() == 5)
    });
    assert_eq!(peer.read_bytes(5), b"hello");
    peer.shutdown_write();
    run_to_the_end(&mut map, &mut ());
    assert_eq!(log.lines(), ["connect", "read hello", "eof", "close Eof"]);
    assert_eq!(peer.read_rest(), b"");
}

#[test]
fn every_address_of_a_name_is_listened_on() {
    each_net(|net| {
        if net == Net::Unix {
            return;
        }
        let mut map: Map = map();
        let log = Log::new();
        let (address, _) = net.free_address();
        let Address::Inet(address) = address else { panic!("{address} is no IP address") };
        let seen = log.clone();
        // The same address twice stands for a name with two.
        let listeners = map.listen(&[address, address][..], move |_| Recorder::new(&seen)).unwrap();
        assert_eq!(listeners.len(), 2);
        for id in listeners {
            drop(Peer::connect(&map.get(id).unwrap().local_addr().unwrap().unwrap()));
        }
        turn_until(&mut map, &mut (), "both visits", |_, ()| log.count("close") == 2);
    });
}

/// Logs its timers and what was drained; closes `victim` when it reads.
struct Ordered {
    log: Log,
    victim: Option<ChannelId>,
}

impl Channel for Ordered {
    fn handle_timer(&mut self, _cx: &mut Context<'_>, _timer: TimerId) -> Result {
        self.log.add("timer");
        Ok(())
    }

    fn handle_read(&mut self, cx: &mut Context<'_>) -> Result {
        self.log.add("read");
        while let Received::Data(data) = cx.map.recv(cx.id, 4096)? {
            cx.map.push(cx.id, &data);
        }
        if let Some(victim) = self.victim {
            cx.map.close(victim);
        }
        Ok(())
    }

    fn handle_drained(&mut self, _cx: &mut Context<'_>) -> Result {
        self.log.add("drained");
        Ok(())
    }
}

#[test]
fn a_turn_serves_timers_then_events_then_closes_then_output() {
    let mut map: Map = map();
    let log = Log::new();
    let (_other, here) = Peer::pair();
    let victim = map.add(here, Recorder::named("victim", &log)).unwrap();
    let (mut peer, here) = Peer::pair();
    let id = map.add(here, Ordered { log: log.clone(), victim: Some(victim) }).unwrap();
    let mut limits = Limits::default();
    (limits.high_mark, limits.low_mark) = (1, 0);
    map.set_limits(id, limits);
    settle(&mut map, &mut ());
    assert_eq!(log.take(), ["victim connect"]);
    peer.send(b"all at once");
    map.set_timer(id, Duration::ZERO);
    let turns = map.counters().turns;
    map.poll(&mut (), Some(DEADLINE)).unwrap();
    assert_eq!(log.lines(), ["timer", "read", "victim close Local", "drained"]);
    assert_eq!(map.counters().turns, turns + 1);
    assert_eq!(peer.read_bytes(11), b"all at once", "it was written in the same turn");
}

#[test]
fn what_a_callback_adds_is_connected_in_the_same_turn() {
    let mut map: Map = map();
    let log = Log::new();
    let (mut peer, here) = Peer::pair();
    let (_other, added) = Peer::pair();
    let mut added = Some(added);
    let inner = log.clone();
    let script = Script::new("first", &log, move |cx: &mut Context<'_>, call| {
        call.default(cx)?;
        if *call == Call::Read
            && let Some(added) = added.take()
        {
            cx.map.add(added, Recorder::named("second", &inner))?;
        }
        Ok(())
    });
    map.add(here, script).unwrap();
    settle(&mut map, &mut ());
    peer.send(b"x");
    map.poll(&mut (), Some(DEADLINE)).unwrap();
    assert_eq!(log.lines(), ["first connect", "first read", "second connect"]);
}

#[test]
fn what_handle_close_adds_keeps_the_run_going() {
    let mut map: Map = map();
    let log = Log::new();
    let (first_peer, here) = Peer::pair();
    let (second_peer, second) = Peer::pair();
    drop((first_peer, second_peer));
    let mut second = Some(second);
    let inner = log.clone();
    let script = Script::new("first", &log, move |cx: &mut Context<'_>, call| {
        call.default(cx)?;
        if let Call::Close(_) = call
            && let Some(second) = second.take()
        {
            cx.map.add(second, Recorder::named("second", &inner))?;
        }
        Ok(())
    });
    map.add(here, script).unwrap();
    map.run(&mut ()).unwrap();
    assert_eq!(log.lines().last().unwrap(), "second close Eof");
}

#[test]
fn run_for_serves_so_many_turns_and_fewer_when_the_map_empties() {
    let mut map: Map = map();
    let (peer, here) = Peer::pair();
    // Constantly writable, so that no turn waits.
    let mut recorder = Recorder::new(&Log::new());
    recorder.writable = true;
    map.add(here, recorder).unwrap();
    map.run_for(&mut (), 0).unwrap();
    assert_eq!(map.counters().turns, 0);
    map.run_for(&mut (), 5).unwrap();
    assert_eq!(map.counters().turns, 5);
    drop(peer);
    map.run_for(&mut (), usize::MAX).unwrap();
    assert!(map.is_empty());
}

#[test]
fn a_turn_without_work_waits_for_its_timeout_and_one_with_work_does_not() {
    let mut map: Map = map();
    let timeout = Duration::from_micros(2500);
    let start = Instant::now();
    map.poll(&mut (), Some(timeout)).unwrap();
    assert!(start.elapsed() >= timeout, "an empty map waits too: {:?}", start.elapsed());
    assert_eq!((map.counters().turns, map.counters().events), (1, 0));

    let (_peer, here) = Peer::pair();
    let log = Log::new();
    map.add(here, Recorder::new(&log)).unwrap();
    let start = Instant::now();
    map.poll(&mut (), Some(DEADLINE)).unwrap();
    assert!(start.elapsed() < DEADLINE);
    assert_eq!(log.lines(), ["connect"]);
}

#[test]
fn a_shutdown_closes_listeners_asks_the_others_and_ends_at_its_deadline() {
    let mut map: Map = map();
    let log = Log::new();
    let (listener, _, _folder) = Net::V4.listener();
    map.add(listener, Recorder::named("listener", &log)).unwrap();
    let (willing_peer, here) = Peer::pair();
    map.add(here, Recorder::named("willing", &log)).unwrap();
    let (_stubborn_peer, here) = Peer::pair();
    map.add(here, Script::new("stubborn", &log, |_: &mut Context<'_>, _| Ok(()))).unwrap();
    settle(&mut map, &mut ());
    assert_eq!(log.take(), ["willing connect", "stubborn connect"]);

    drop(willing_peer);
    map.shutdown(DEADLINE);
    // Only an earlier deadline counts.
    map.shutdown(Duration::from_millis(5));
    map.shutdown(DEADLINE);
    assert!(map.is_shutting_down());
    let (_late_peer, late) = Peer::pair();
    map.add(late, Recorder::named("late", &log)).unwrap();
    let start = Instant::now();
    map.run(&mut ()).unwrap();
    assert!(start.elapsed() < DEADLINE);
    let lines = log.lines();
    let of = |name: &str| -> Vec<&str> {
        lines.iter().filter_map(|line| line.strip_prefix(name)?.strip_prefix(' ')).collect()
    };
    assert_eq!(of("listener"), ["close ShutDown"]);
    assert_eq!(of("stubborn"), ["shutdown", "close ShutDown"]);
    assert_eq!(of("late"), ["connect", "shutdown", "close ShutDown"], "also what is added meanwhile");
    let willing = of("willing");
    assert!(willing.starts_with(&["eof"]) || willing.starts_with(&["shutdown"]), "{willing:?}");
    assert!(!map.is_shutting_down(), "a map can be run again");
}

#[test]
fn background_channels_do_not_keep_the_loop_running() {
    let mut map: Map = map();
    let log = Log::new();
    let (_peer, here) = Peer::pair();
    let background = map.add(here, Recorder::named("background", &log)).unwrap();
    map.set_background(background);
    map.set_background(background);
    map.run(&mut ()).unwrap();
    assert!(map.is_open(background));

    let (peer, here) = Peer::pair();
    map.add(here, Recorder::named("first", &log)).unwrap();
    drop(peer);
    map.run(&mut ()).unwrap();
    assert_eq!(log.lines().last().unwrap(), "first close Eof");

    map.close(background);
    map.run(&mut ()).unwrap();
    assert!(map.is_empty(), "it still hears its end");
    assert_eq!(log.lines().last().unwrap(), "background close Local");

    let (_peer, here) = Peer::pair();
    map.add(here, Recorder::named("second", &log)).unwrap();
    map.run_for(&mut (), 1).unwrap();
    assert!(log.has("second connect"), "the next in its place is an ordinary one");
}

#[test]
fn a_budget_of_nothing_is_a_budget_of_one() {
    let mut options = options();
    options.accept_budget = 0;
    options.limits.read_budget = 0;
    options.limits.ac_out_buffer_size = 0;
    let mut map: Map = Map::with_options(options).unwrap();
    let log = Log::new();
    let (listener, address, _folder) = Net::V4.listener();
    let seen = log.clone();
    let server = map.listen_on(listener, move |_| {
        let mut recorder = Recorder::new(&seen);
        recorder.echoes = true;
        recorder
    });
    let mut peer = Peer::connect(&address);
    peer.send(b"abc");
    peer.shutdown_write();
    turn_until(&mut map, &mut (), "the end", |_, ()| log.has("close Eof"));
    assert_eq!(log.lines(), ["connect", "read a", "read b", "read c", "eof", "close Eof"]);
    assert_eq!(peer.read_rest(), b"abc");
    map.close(server.unwrap());
}

#[test]
fn a_writable_channel_sleeps_while_its_producer_has_nothing_yet() {
    struct Patient(Rc<Cell<Option<&'static str>>>);
    impl Producer for Patient {
        fn more(&mut self, _most: usize) -> Result<Option<Bytes>> {
            Ok(match self.0.take() {
                Some("") => None,
                Some(data) => Some(data.into()),
                None => Some(Bytes::new()),
            })
        }
    }
    let mut map: Map = map();
    let log = Log::new();
    let (mut peer, here) = Peer::pair();
    let mut recorder = Recorder::new(&log);
    recorder.writable = true;
    let id = map.add(here, recorder).unwrap();
    let next = Rc::new(Cell::new(None));
    map.push_with_producer(id, Patient(next.clone()));
    settle(&mut map, &mut ());
    assert_eq!(log.lines(), ["connect"], "what stands behind the producer waits for it");
    next.set(Some("data"));
    map.touch(id);
    settle(&mut map, &mut ());
    assert_eq!(peer.read_bytes(4), b"data");
    assert!(!log.has("write"));
    next.set(Some(""));
    map.touch(id);
    turn_until(&mut map, &mut (), "room to write", |_, ()| log.has("write"));
}
