//! Rate limits, one for each direction: never faster, never stuck, no turn in vain, and nobody else is held to account.

use std::cell::Cell;
use std::os::unix::net::UnixDatagram;
use std::rc::Rc;
use std::time::Duration;

use asynchat::{AsyncChat, Chat, Conversation};
use asyncore::testing::{Faults, Peer, Simulation, each_seed};
use asyncore::{
    Channel, ChannelId, CloseReason, Context, Dispatcher, Limits, Map, Rate, Received, Result, Timeout,
};
use integration_tests::{Log, Recorder, map};

/// A thousand bytes a second: a millisecond each, and an eighth of it in 125 ms.
const RATE: Rate = Rate::per_second(1000);

const fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

const SECOND: Duration = Duration::from_secs(1);

/// Reads all there is, and keeps why it closed.
#[derive(Default)]
struct Sink {
    closed: Rc<Cell<Option<CloseReason>>>,
}

impl Channel for Sink {
    fn handle_read(&mut self, cx: &mut Context<'_>) -> Result {
        while let Received::Data(_) = cx.map.recv(cx.id, 65536)? {}
        Ok(())
    }

    fn handle_close(&mut self, _cx: &mut Context<'_>, reason: CloseReason) {
        self.closed.set(Some(reason));
    }
}

/// A simulation with one connected channel, served so far.
fn with(handler: impl Channel) -> Result<(Simulation, ChannelId, Peer)> {
    let mut sim = Simulation::new(())?;
    let (dispatcher, peer) = sim.pair()?;
    let id = sim.map.add(dispatcher, handler)?;
    sim.settle()?;
    Ok((sim, id, peer))
}

fn received(sim: &Simulation, id: ChannelId) -> u64 {
    sim.map.get(id).map_or(0, Dispatcher::bytes_in)
}

#[test]
fn a_channel_receives_a_window_at_once_and_then_at_its_rate() -> Result {
    let (mut sim, id, mut peer) = with(Sink::default())?;
    assert!(sim.map.set_read_rate(id, Some(RATE)));
    peer.send(vec![b'x'; 10_000]);
    sim.settle()?;
    assert_eq!(received(&sim, id), 1000);
    assert!(!sim.map.is_reading(id));
    sim.advance(ms(124))?;
    assert_eq!(received(&sim, id), 1000, "not a byte before there is a share");
    for eighths in 1..=72 {
        sim.advance(if eighths == 1 { ms(1) } else { ms(125) })?;
        assert_eq!(received(&sim, id), 1000 + eighths * 125);
    }
    sim.advance(60 * SECOND)?;
    peer.send(vec![b'x'; 5000]);
    sim.settle()?;
    assert_eq!(received(&sim, id), 11_000, "a minute's rest is worth a window, not sixty");
    Ok(())
}

#[test]
fn a_channel_sends_a_window_at_once_and_then_at_its_rate() -> Result {
    let (mut sim, id, mut peer) = with(Sink::default())?;
    assert!(sim.map.set_write_rate(id, Some(RATE)));
    // In many pieces and one large one: no matter.
    for _ in 0..50 {
        sim.map.push(id, vec![b'x'; 100]);
    }
    sim.map.push(id, vec![b'y'; 5000]);
    sim.settle()?;
    assert_eq!(peer.take_received().len(), 1000);
    sim.advance(ms(124))?;
    assert!(peer.received().is_empty());
    for eighths in 1..=72 {
        sim.advance(if eighths == 1 { ms(1) } else { ms(125) })?;
        assert_eq!(peer.received().len(), eighths * 125);
    }
    assert_eq!(sim.map.queued(), 0);
    Ok(())
}

/// A limited channel costs a turn or two each share, and none in between.
#[test]
fn no_turn_is_spent_on_waiting() -> Result {
    let (mut sim, id, mut peer) = with(Sink::default())?;
    sim.map.set_read_rate(id, Some(RATE));
    sim.map.set_write_rate(id, Some(RATE));
    peer.send(vec![b'x'; 11_000]);
    sim.map.push(id, vec![b'x'; 11_000]);
    sim.settle()?;
    let before = sim.map.counters();
    sim.advance(10 * SECOND)?;
    assert_eq!((received(&sim, id), peer.received().len()), (11_000, 11_000));
    let turns = sim.map.counters().turns - before.turns;
    assert!(turns <= 4 * 80 + 10, "{turns} turns for 80 shares each way");
    Ok(())
}

/// Whatever the network does, the rate holds over every stretch of time, and all arrives.
#[test]
fn the_rate_holds_at_every_moment_whatever_the_network_does() -> Result {
    each_seed(40, |seed| {
        let mut sim = Simulation::with_seed(seed, ())?;
        sim.set_faults(Faults::harmless());
        let (mut dispatcher, mut peer) = sim.pair()?;
        let mut limits = Limits::default();
        (limits.read_rate, limits.write_rate) = (Some(RATE), Some(RATE));
        dispatcher.set_limits(limits);
        let id = sim.map.add(dispatcher, Sink::default())?;
        peer.send(vec![b'x'; 3000]);
        sim.map.push(id, vec![b'y'; 3000]);
        let start = sim.elapsed();
        while received(&sim, id) < 3000 || peer.received().len() < 3000 {
            let passed = u64::try_from((sim.elapsed() - start).as_micros())?;
            let most = 1000 + passed.div_ceil(1000);
            let sent = sim.map.get(id).map_or(0, Dispatcher::bytes_out);
            assert!(received(&sim, id) <= most && sent <= most, "seed {seed}, after {passed} us");
            assert!(passed < 60_000_000, "seed {seed}: stuck");
            sim.advance(ms(10))?;
        }
        Ok(())
    })
}

/// What a listener accepts has the listener's rates, each channel its own bucket.
#[test]
fn accepted_channels_have_their_own_buckets() -> Result {
    let mut sim = Simulation::new(())?;
    let ids = sim.map.listen("192.0.2.1:9", |_| Sink::default())?;
    let mut limits = Limits::default();
    limits.read_rate = Some(RATE);
    sim.map.set_limits(ids[0], limits);
    let at: asyncore::Address = "192.0.2.1:9".parse()?;
    let mut peers = [sim.connect(at.clone()), sim.connect(at)];
    for peer in &mut peers {
        peer.send(vec![b'x'; 3000]);
    }
    sim.settle()?;
    let counts: Vec<u64> =
        sim.map.iter().filter(|(id, _)| *id != ids[0]).map(|(_, dispatcher)| dispatcher.bytes_in()).collect();
    assert_eq!(counts, [1000, 1000]);
    Ok(())
}

/// A conversation gets its messages whole, in their order.
#[test]
fn a_conversation_reads_at_its_rate() -> Result {
    struct Lines;
    impl Chat<Vec<usize>> for Lines {
        fn found_terminator(&mut self, cx: &mut Conversation<'_, Vec<usize>>, line: &[u8]) -> Result {
            cx.app.push(line.len());
            Ok(())
        }
    }
    let mut sim = Simulation::new(Vec::new())?;
    let (dispatcher, mut peer) = sim.pair()?;
    let id = sim.map.add(dispatcher, AsyncChat::new(Lines).terminator(b"\n"))?;
    sim.map.set_read_rate(id, Some(RATE));
    for length in 0..100 {
        peer.send([vec![b'x'; length], vec![b'\n']].concat());
    }
    sim.advance(ms(1500))?;
    let read: usize = sim.app.iter().map(|length| length + 1).sum();
    assert!((2300..=2500).contains(&read), "{read}");
    sim.advance(10 * SECOND)?;
    assert_eq!(sim.app, (0..100).collect::<Vec<_>>());
    Ok(())
}

/// Sends by itself, past the queue, and counts how often it is asked.
struct Sender {
    left: usize,
    asked: Rc<Cell<usize>>,
}

impl Channel for Sender {
    fn writable(&self) -> bool {
        self.left > 0
    }

    fn handle_write(&mut self, cx: &mut Context<'_>) -> Result {
        self.asked.set(self.asked.get() + 1);
        self.left -= cx.map.send(cx.id, &vec![b'x'; self.left])?;
        Ok(())
    }
}

#[test]
fn a_channel_that_sends_by_itself_keeps_to_its_rate_and_is_not_asked_in_vain() -> Result {
    let asked = Rc::new(Cell::new(0));
    let mut sim = Simulation::new(())?;
    let (mut dispatcher, peer) = sim.pair()?;
    let mut limits = Limits::default();
    limits.write_rate = Some(RATE);
    dispatcher.set_limits(limits);
    sim.map.add(dispatcher, Sender { left: 3000, asked: Rc::clone(&asked) })?;
    sim.settle()?;
    assert_eq!((peer.received().len(), asked.get()), (1000, 1));
    let turns = sim.map.counters().turns;
    sim.advance(SECOND)?;
    assert_eq!((peer.received().len(), asked.get()), (2000, 9));
    assert!(sim.map.counters().turns - turns <= 3 * 8 + 4, "{}", sim.map.counters().turns - turns);
    sim.advance(SECOND)?;
    assert_eq!((peer.received().len(), asked.get()), (3000, 17));
    Ok(())
}

/// Memory comes back; until then the channel is asked every 10 ms, not all the time.
#[test]
fn a_channel_that_sends_by_itself_waits_while_the_system_has_no_memory() -> Result {
    let asked = Rc::new(Cell::new(0));
    let mut sim = Simulation::new(())?;
    sim.fail_writes_with_no_memory(5);
    let (dispatcher, peer) = sim.pair()?;
    let id = sim.map.add(dispatcher, Sender { left: 100, asked: Rc::clone(&asked) })?;
    sim.settle()?;
    assert_eq!(asked.get(), 1);
    assert_eq!(sim.map.send(id, b"x")?, 0, "nobody is let past");
    let turns = sim.map.counters().turns;
    sim.advance(ms(49))?;
    assert_eq!((asked.get(), peer.received().len()), (5, 0));
    sim.advance(ms(1))?;
    assert_eq!((asked.get(), peer.received().len()), (6, 100));
    assert!(sim.map.counters().turns - turns <= 30);
    Ok(())
}

#[test]
fn the_rates_pause_and_others_do_not_undo_each_other() -> Result {
    let (mut sim, id, mut peer) = with(Sink::default())?;
    sim.map.set_read_rate(id, Some(RATE));
    peer.send(vec![b'x'; 3000]);
    sim.settle()?;
    sim.map.pause_reading(id);
    sim.map.resume_reading(id);
    sim.settle()?;
    assert_eq!(received(&sim, id), 1000, "there is nothing left to read with");
    sim.map.pause_reading(id);
    sim.advance(5 * SECOND)?;
    assert_eq!(received(&sim, id), 1000, "the program's pause goes on");
    sim.map.resume_reading(id);
    sim.settle()?;
    assert_eq!(received(&sim, id), 2000);
    Ok(())
}

#[test]
fn another_rate_applies_at_once_and_none_lets_all_go() -> Result {
    let (mut sim, id, mut peer) = with(Sink::default())?;
    let mut limits = Limits::default();
    (limits.read_rate, limits.write_rate) = (Some(RATE), Some(RATE));
    sim.map.set_limits(id, limits.clone());
    peer.send(vec![b'x'; 100_000]);
    sim.map.push(id, vec![b'x'; 100_000]);
    sim.settle()?;
    // The same once more is no change.
    sim.map.set_limits(id, limits);
    sim.settle()?;
    assert_eq!((received(&sim, id), peer.received().len()), (1000, 1000));
    sim.map.set_read_rate(id, Some(Rate::per_second(5000)));
    sim.map.set_write_rate(id, Some(Rate::per_second(3000)));
    sim.settle()?;
    assert_eq!((received(&sim, id), peer.received().len()), (6000, 4000));
    sim.map.set_limits(id, Limits::default());
    sim.settle()?;
    assert_eq!((received(&sim, id), peer.received().len()), (100_000, 100_000));
    Ok(())
}

#[test]
fn a_rate_of_nothing_moves_nothing_and_an_empty_window_is_no_limit() -> Result {
    let (mut sim, id, mut peer) = with(Sink::default())?;
    for rate in [Rate { bytes: 0, per: SECOND }, Rate { bytes: 0, per: Duration::ZERO }] {
        sim.map.set_read_rate(id, Some(rate));
        sim.map.set_write_rate(id, Some(rate));
        peer.send("x");
        sim.map.push(id, b"y");
        let turns = sim.map.counters().turns;
        sim.advance(Duration::from_secs(24 * 3600))?;
        let expected = if rate.per.is_zero() { 2 } else { 0 };
        assert_eq!((received(&sim, id), peer.received().len()), (expected, usize::try_from(expected)?));
        assert!(sim.map.counters().turns - turns < 20);
    }
    Ok(())
}

/// A channel that is gone leaves no deadline, however far off that was.
#[test]
fn a_limited_channel_that_closes_or_is_removed_leaves_no_deadline() -> Result {
    for removes in [false, true] {
        let (mut sim, id, mut peer) = with(Sink::default())?;
        let slow = Rate { bytes: 8, per: Duration::from_secs(3600) };
        sim.map.set_read_rate(id, Some(slow));
        sim.map.set_write_rate(id, Some(slow));
        peer.send(vec![b'x'; 100]);
        sim.map.push(id, vec![b'x'; 100]);
        sim.settle()?;
        let deadlines = sim.map.counters().deadlines;
        if removes {
            drop(sim.map.remove(id).ok_or("it is there")?);
        } else {
            sim.map.close(id);
        }
        sim.advance(Duration::from_secs(7200))?;
        assert_eq!(sim.map.counters().deadlines, deadlines);
    }
    Ok(())
}

/// Taking a channel out and putting it back does not fill its bucket.
#[test]
fn a_removed_channel_takes_its_bucket_along() -> Result {
    let (mut sim, id, mut peer) = with(Sink::default())?;
    sim.map.set_read_rate(id, Some(RATE));
    sim.map.set_write_rate(id, Some(RATE));
    peer.send(vec![b'x'; 3000]);
    sim.map.push(id, vec![b'x'; 3000]);
    sim.settle()?;
    let (dispatcher, handler) = sim.map.remove(id).ok_or("it is there")?;
    let id = sim.map.insert(dispatcher, handler)?;
    sim.settle()?;
    assert_eq!((received(&sim, id), peer.received().len()), (1000, 1000));
    sim.advance(SECOND)?;
    assert_eq!((received(&sim, id), peer.received().len()), (2000, 2000));
    Ok(())
}

/// Slowness of our own is not the peer's: neither the drain time nor the write time counts it.
#[test]
fn a_channel_that_closes_at_its_own_slow_rate_is_not_given_up() -> Result {
    let sink = Sink::default();
    let closed = Rc::clone(&sink.closed);
    let (mut sim, id, mut peer) = with(sink)?;
    let mut limits = Limits::default();
    limits.write_rate = Some(Rate { bytes: 100, per: Duration::from_secs(1000) });
    limits.write_time = Some(SECOND);
    sim.map.set_limits(id, limits);
    sim.map.push(id, vec![b'x'; 200]);
    sim.settle()?;
    // Set again, the clock begins anew, but does not run either.
    sim.map.set_timeout(id, Timeout::Write, Some(2 * SECOND));
    sim.advance(100 * SECOND)?;
    sim.map.close_when_done(id);
    sim.advance(1000 * SECOND)?;
    assert_eq!(peer.take_received().len(), 200);
    sim.expect_eof(&mut peer)?;
    peer.close();
    sim.settle()?;
    assert_eq!(closed.get(), Some(CloseReason::Local));
    Ok(())
}

/// A peer that made the channel wait is let off when the channel's own limit takes over.
#[test]
fn a_wait_for_the_peer_ends_where_the_rate_limit_begins() -> Result {
    let sink = Sink::default();
    let closed = Rc::clone(&sink.closed);
    let (mut sim, id, mut peer) = with(sink)?;
    sim.map.set_timeout(id, Timeout::Write, Some(SECOND));
    peer.stop_reading();
    sim.map.push(id, vec![b'x'; 1 << 20]);
    sim.settle()?;
    sim.map.set_write_rate(id, Some(Rate::per_second(0)));
    peer.start_reading();
    sim.advance(10 * SECOND)?;
    assert_eq!(closed.get(), None);
    Ok(())
}

/// The read time stands still while a channel has received all that it may.
#[test]
fn a_channel_that_may_not_receive_does_not_time_its_peer_out() -> Result {
    let sink = Sink::default();
    let closed = Rc::clone(&sink.closed);
    let (mut sim, id, mut peer) = with(sink)?;
    let mut limits = Limits::default();
    limits.read_rate = Some(Rate { bytes: 80, per: 100 * SECOND });
    limits.read_time = Some(3 * SECOND);
    sim.map.set_limits(id, limits);
    peer.send(vec![b'x'; 160]);
    sim.advance(99 * SECOND)?;
    assert_eq!(closed.get(), None);
    sim.advance(60 * SECOND)?;
    assert_eq!(closed.get(), Some(CloseReason::TimedOut(Timeout::Read)), "then the peer had nothing to say");
    Ok(())
}

/// A datagram cannot be cut: one that is larger than what is left goes out and comes in whole, and is waited for.
#[test]
fn datagrams_stay_whole_under_a_rate() -> Result {
    let mut map: Map = map();
    let (here, there) = UnixDatagram::pair()?;
    let log = Log::new();
    let id = map.add(here, Recorder::new(&log))?;
    // Nothing comes back within a test.
    let rate = Rate { bytes: 1000, per: Duration::from_secs(1_000_000) };
    map.set_read_rate(id, Some(rate));
    map.set_write_rate(id, Some(rate));
    for _ in 0..4 {
        map.push(id, vec![b'x'; 600]);
        assert_eq!(there.send(&[b'y'; 600])?, 600);
    }
    let turns = map.counters().turns;
    for _ in 0..5 {
        map.poll(&mut (), Some(ms(5)))?;
    }
    there.set_nonblocking(true)?;
    let mut room = [0; 1000];
    assert_eq!((there.recv(&mut room)?, there.recv(&mut room)?), (600, 600));
    assert!(there.recv(&mut room).is_err(), "two are over the rate by 200 bytes");
    assert_eq!(map.get(id).map_or(0, Dispatcher::bytes_in), 1200);
    assert_eq!(map.counters().turns, turns + 5, "no turn ends without its wait");
    Ok(())
}

/// As they are by their address.
#[test]
fn datagrams_by_address_stay_within_a_rate() -> Result {
    struct From(Rc<Cell<usize>>);
    impl Channel for From {
        fn handle_read(&mut self, cx: &mut Context<'_>) -> Result {
            while let Some((data, _)) = cx.map.recv_from(cx.id, 1000)? {
                self.0.set(self.0.get() + data.len());
            }
            Ok(())
        }
    }
    let mut map: Map = map();
    let here = std::net::UdpSocket::bind("127.0.0.1:0")?;
    let there = std::net::UdpSocket::bind("127.0.0.1:0")?;
    let (at, to) = (here.local_addr()?, there.local_addr()?);
    let read = Rc::new(Cell::new(0));
    let id = map.add(here, From(Rc::clone(&read)))?;
    let rate = Rate { bytes: 1000, per: Duration::from_secs(1_000_000) };
    map.set_read_rate(id, Some(rate));
    map.set_write_rate(id, Some(rate));
    for expected in [true, true, false, false] {
        assert_eq!(map.send_to(id, &[b'x'; 600], &to.into())?, expected);
        assert_eq!(there.send_to(&[b'y'; 600], at)?, 600);
    }
    for _ in 0..5 {
        map.poll(&mut (), Some(ms(5)))?;
    }
    assert_eq!(read.get(), 1200);
    Ok(())
}

#[test]
fn a_queue_that_was_dropped_behind_a_rate_lets_its_source_go_on() -> Result {
    let (mut sim, log) = (Simulation::new(())?, Log::new());
    let (dispatcher, _peer) = sim.pair()?;
    let target = sim.map.add(dispatcher, Recorder::new(&log))?;
    let (dispatcher, _other) = sim.pair()?;
    let source = sim.map.add(dispatcher, Recorder::new(&log))?;
    sim.map.couple(source, target);
    sim.map.set_write_rate(target, Some(Rate { bytes: 1000, per: Duration::from_secs(1000) }));
    sim.map.push(target, vec![0; asyncore::HIGH_MARK + 4096]);
    sim.settle()?;
    assert!(!sim.map.is_reading(source));
    sim.map.discard_output(target);
    sim.map.push(target, b"small");
    sim.settle()?;
    assert!(sim.map.is_reading(source));
    Ok(())
}
