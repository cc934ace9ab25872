//! The bounds of channels and maps: which are on by default, what happens at each, and that idle channels cost little.

use std::time::Duration;

use asynchat::{AC_IN_BUFFER_SIZE, MESSAGE_LIMIT};
use asyncore::testing::{Peer as SimulatedPeer, Simulation};
use asyncore::{
    ChannelId, Dispatcher, Limits, Map, OUTPUT_LIMIT, OnFull, Options, Pushed, SPARE_DESCRIPTORS, State,
};
use integration_tests::{Log, Net, Peer, Recorder, map, options, run_to_the_end, settle, turn_until};

use crate::faults::{Client, Server, assert_quiet};

/// A channel with its own limits, its peer, and what it logs.
fn limited(map: &mut Map, limits: Limits) -> (Peer, ChannelId, Log) {
    let log = Log::new();
    let (peer, here) = Peer::pair();
    let mut dispatcher = Dispatcher::try_from(here).unwrap();
    dispatcher.set_limits(limits);
    let id = map.add(dispatcher, Recorder::new(&log)).unwrap();
    (peer, id, log)
}

/// Nobody has to ask for a bound: each is on, with the value that the documentation gives.
#[test]
fn every_limit_is_on_by_default() {
    let limits = Limits::default();
    assert_eq!(limits.output, 1 << 20);
    assert_eq!(limits.on_full, OnFull::Close);
    assert_eq!((limits.high_mark, limits.low_mark), (64 << 10, 16 << 10));
    assert_eq!((limits.ac_out_buffer_size, AC_IN_BUFFER_SIZE), (65536, 65536));
    assert_eq!(limits.read_budget, 256 << 10);
    assert_eq!((limits.linger_time, limits.linger_bytes), (Duration::from_secs(2), 1 << 20));
    assert_eq!(limits.drain_time, Duration::from_secs(30));
    assert!(limits.nodelay);
    let options = Options::default();
    assert_eq!((options.output, options.accept_budget), (256 << 20, 64));
    assert_eq!(options.limits, limits);
    assert_eq!(MESSAGE_LIMIT, 64 << 10);
}

/// The default maximum of channels leaves descriptors to the rest of the program.
#[test]
fn the_default_maximum_of_connections_follows_the_limit_of_descriptors() {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    let limit = limit.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap());
    assert_eq!(Options::default().connections, (limit - SPARE_DESCRIPTORS).max(limit / 2));
}

/// At the maximum a listener waits, without a wake, and goes on when a channel closes or is taken out.
#[test]
fn a_full_map_accepts_again_when_a_place_is_free() {
    let mut options = options();
    options.connections = 3;
    let mut map: Map = Map::with_options(options).unwrap();
    let log = Log::new();
    let (listener, address, _folder) = Net::V4.listener();
    let for_channels = log.clone();
    let listener = map.listen_on(listener, move |_| Recorder::new(&for_channels)).unwrap();
    let _peers: Vec<Peer> = (0..4).map(|_| Peer::connect(&address)).collect();
    turn_until(&mut map, &mut (), "a full map", |map, ()| map.len() == 3);
    settle(&mut map, &mut ());
    assert_quiet(&mut map, &mut ());
    assert_eq!((map.counters().accepted, map.counters().accept_errors), (2, 0));

    let first = map.iter().map(|(id, _)| id).find(|id| *id != listener).unwrap();
    map.close(first);
    turn_until(&mut map, &mut (), "the third", |_, ()| log.count("connect") == 3);
    settle(&mut map, &mut ());
    assert_eq!(map.counters().accepted, 3);

    let next = map.iter().map(|(id, _)| id).find(|id| *id != listener).unwrap();
    drop(map.remove(next).unwrap());
    turn_until(&mut map, &mut (), "the fourth", |_, ()| log.count("connect") == 4);
    assert_eq!(map.len(), 3);
}

/// A push over the limit closes the channel, or is refused as a whole and leaves it as it was.
#[test]
fn a_push_over_the_limit_closes_or_is_refused() {
    for (on_full, lines) in
        [(OnFull::Close, vec!["connect", "close OutputFull"]), (OnFull::Refuse, vec!["connect"])]
    {
        let mut map = map();
        let mut limits = Limits::default();
        limits.output = 1000;
        limits.on_full = on_full;
        let (_peer, id, log) = limited(&mut map, limits);
        settle(&mut map, &mut ());
        assert_eq!(map.push(id, &[b'x'; 600]), Pushed::Queued);
        assert_eq!(map.push(id, &[b'x'; 400]), Pushed::Queued, "to the limit");
        assert_eq!(map.push(id, b"x"), Pushed::Full);
        assert_eq!(map.queued(), if on_full == OnFull::Close { 0 } else { 1000 });
        settle(&mut map, &mut ());
        assert_eq!(log.lines(), lines, "{on_full:?}");
        assert_eq!(map.queued(), 0);
    }
}

/// Output that went over the high mark and falls to the low mark is told once; what stays below is not.
#[test]
fn a_channel_hears_once_that_its_output_has_drained() {
    let mut map = map();
    let mut limits = Limits::default();
    (limits.high_mark, limits.low_mark, limits.ac_out_buffer_size) = (1000, 100, 300);
    let (mut peer, id, log) = limited(&mut map, limits);
    for (pushed, drained) in [(1000, 0), (1001, 1), (5000, 2), (10, 2)] {
        map.push(id, vec![b'x'; pushed]);
        turn_until(&mut map, &mut (), "all to be sent", |map, ()| map.queued() == 0);
        settle(&mut map, &mut ());
        assert_eq!(log.count("drained"), drained, "after {pushed} bytes");
        assert_eq!(peer.read_bytes(pushed).len(), pushed);
    }
    // Discarded output has drained too.
    map.push(id, vec![b'x'; 2000]);
    assert_eq!(map.discard_output(id), 2000);
    settle(&mut map, &mut ());
    assert_eq!((log.count("drained"), map.queued()), (3, 0));
}

/// A channel with its own limits on a simulated map, and its peer.
fn simulated(log: &Log, change: impl FnOnce(&mut Limits)) -> (Simulation, SimulatedPeer, ChannelId) {
    let mut sim = Simulation::new(()).unwrap();
    let (mut dispatcher, peer) = sim.pair().unwrap();
    let mut limits = Limits::default();
    change(&mut limits);
    dispatcher.set_limits(limits);
    let id = sim.map.add(dispatcher, Recorder::new(log)).unwrap();
    sim.settle().unwrap();
    (sim, peer, id)
}

const TIME: Duration = Duration::from_secs(10);
const TICK: Duration = Duration::from_nanos(1);

/// A channel that has sent its last byte waits for its peer's end, though not for ever.
#[test]
fn lingering_ends_with_the_peer_or_with_its_time() {
    for peer_ends in [true, false] {
        let log = Log::new();
        let (mut sim, mut peer, id) = simulated(&log, |limits| limits.linger_time = TIME);
        sim.map.push(id, b"last words");
        sim.map.close_when_done(id);
        assert_eq!(sim.map.push(id, b"too late"), Pushed::Closing);
        sim.advance(TIME - TICK).unwrap();
        assert_eq!(sim.map.get(id).map(Dispatcher::state), Some(State::Lingering));
        if peer_ends {
            peer.shutdown_write();
            sim.settle().unwrap();
        } else {
            sim.advance(TICK).unwrap();
        }
        assert_eq!(log.lines(), ["connect", "close Local"]);
        assert_eq!(peer.received(), b"last words");
    }
}

/// Late input is read and dropped up to a bound; a peer that goes on sending does not hold the channel.
#[test]
fn lingering_ends_when_too_much_comes() {
    let log = Log::new();
    let (mut sim, mut peer, id) = simulated(&log, |limits| limits.linger_bytes = 10_000);
    sim.map.close_when_done(id);
    sim.settle().unwrap();
    peer.send([b'x'; 10_000]);
    sim.settle().unwrap();
    assert!(sim.map.is_open(id), "the bound itself is allowed");
    peer.send(b"x");
    sim.settle().unwrap();
    assert_eq!(log.lines(), ["connect", "close Local"]);
}

/// Draining is given up when the peer takes nothing for the drain time.
#[test]
fn draining_gives_up_a_peer_that_does_not_read() {
    let log = Log::new();
    let (mut sim, mut peer, id) = simulated(&log, |limits| limits.drain_time = TIME);
    peer.stop_reading();
    sim.map.push(id, vec![b'x'; 1 << 20]);
    sim.map.close_when_done(id);
    // What the network's buffer takes at first has moved.
    sim.advance(2 * TIME - TICK).unwrap();
    assert_eq!(log.lines(), ["connect"]);
    sim.advance(TICK).unwrap();
    assert_eq!(log.lines(), ["connect", "close TimedOut(Drain)"]);
    assert_eq!(sim.map.queued(), 0);
}

/// A peer that reads a little in every drain time is slow, not gone: it gets everything.
#[test]
fn draining_waits_for_a_peer_that_reads_slowly() {
    let log = Log::new();
    let (mut sim, mut peer, id) = simulated(&log, |limits| limits.drain_time = TIME);
    peer.stop_reading();
    sim.map.push(id, vec![b'x'; 1 << 20]);
    sim.map.close_when_done(id);
    while peer.received().len() < 1 << 20 {
        peer.read_some(16 << 10);
        sim.advance(TIME - TICK).unwrap();
    }
    assert!(sim.elapsed() > 50 * TIME);
    peer.close();
    sim.settle().unwrap();
    assert_eq!(log.lines(), ["connect", "close Local"]);
}

/// The time between two turns is the program's own: it does not count against a channel that is told to close there.
#[test]
fn time_between_turns_does_not_count_against_draining() {
    let log = Log::new();
    let (mut sim, mut peer, id) = simulated(&log, |limits| limits.drain_time = TIME);
    let before = sim.map.counters();
    sim.let_time_pass(2 * TIME);
    sim.map.push(id, b"last words");
    sim.map.close_when_done(id);
    peer.shutdown_write();
    sim.settle().unwrap();
    assert!(sim.map.counters().turns > before.turns);
    assert_eq!(peer.received(), b"last words");
    assert!(!log.has("close TimedOut(Drain)"), "{:?}", log.lines());
}

/// An idle conversation owns no buffers, also after it was a busy one.
#[test]
fn an_idle_conversation_costs_less_than_a_kibibyte() {
    // Few enough for any limit of descriptors; what thousands cost is measured outside the tests.
    const MANY: usize = 200;
    let Some(server) = Server::start(&[], &[]) else { return };
    let mut watcher = server.client();
    let busy_once = |count| -> Vec<Client> {
        let mut clients: Vec<Client> = (0..count).map(|_| server.client()).collect();
        for client in &mut clients {
            assert_eq!(client.ask("long 20000").len(), 20_000);
        }
        clients
    };
    let _first = busy_once(20);
    let before = watcher.stats();
    let _many = busy_once(MANY);
    let after = watcher.stats();
    let growth = after["resident"].saturating_sub(before["resident"]);
    assert!(growth <= (MANY as u64) << 10, "{growth} bytes for {MANY}");
}

#[test]
fn producers_count_towards_the_output_limit() {
    let mut map: Map = map();
    let mut limits = Limits::default();
    limits.on_full = OnFull::Refuse;
    let (mut peer, here) = Peer::pair();
    let id = map.add(here, Recorder::new(&Log::new())).unwrap();
    map.set_limits(id, limits);
    let answers = || asynchat::BytesProducer::new("x");
    let taken = (0..2000).take_while(|_| map.push_with_producer(id, answers()).is_queued()).count();
    assert_eq!(taken, OUTPUT_LIMIT / 1024, "1 KiB each");
    map.close_when_done(id);
    turn_until(&mut map, &mut (), "all to be sent", |map, ()| {
        map.get(id).is_none_or(|sent| sent.state() == State::Lingering)
    });
    assert_eq!(peer.read_rest().len(), taken, "none that was taken is lost");
    drop(peer);
    run_to_the_end(&mut map, &mut ());
}
