//! Coupled channels: a source is not read while its target has much to take, whoever closes, pauses or goes meanwhile.

use asyncore::{ChannelId, Dispatcher, HIGH_MARK, LOW_MARK, Limits, Map, Received};
use integration_tests::{Call, Log, Peer, Recorder, Script, map, settle, turn_until};

/// So many channels that record what they read, named by number, and their peers.
fn channels<const N: usize>(map: &mut Map, log: &Log) -> ([ChannelId; N], Vec<Peer>) {
    let mut peers = Vec::new();
    let ids = std::array::from_fn(|number| {
        let (peer, here) = Peer::pair();
        peers.push(peer);
        map.add(here, Recorder::named(&number.to_string(), log)).unwrap()
    });
    settle(map, &mut ());
    drop(log.take());
    (ids, peers)
}

/// Makes the output of a channel high, which it stays until its peer reads.
fn fill(map: &mut Map, id: ChannelId) {
    while map.get(id).unwrap().queued() <= HIGH_MARK {
        map.push(id, vec![0; HIGH_MARK]);
        settle(map, &mut ());
    }
}

/// Reads until all that was queued for a channel has come.
fn drain(map: &mut Map, id: ChannelId, peer: &mut Peer) {
    peer.set_nonblocking();
    turn_until(map, &mut (), "the output to drain", |map, ()| {
        while matches!(std::io::Read::read(peer, &mut [0; 65536]), Ok(1..)) {}
        map.get(id).unwrap().queued() == 0
    });
}

#[test]
fn a_source_waits_while_its_target_is_high_and_loses_nothing() {
    let (mut map, log) = (map(), Log::new());
    let ([source, target], mut peers) = channels(&mut map, &log);
    map.couple(source, target);
    assert!(map.is_reading(source));
    peers[0].send(b"before");
    settle(&mut map, &mut ());
    assert_eq!(log.take(), ["0 read before"]);

    fill(&mut map, target);
    assert!(!map.is_reading(source) && map.is_reading(target));
    peers[0].send(b"meanwhile");
    settle(&mut map, &mut ());
    assert!(log.take().is_empty());

    drain(&mut map, target, &mut peers[1]);
    settle(&mut map, &mut ());
    assert_eq!(log.take(), ["1 drained", "0 read meanwhile"]);
}

/// Not below the high mark, and not above the low one.
#[test]
fn a_source_waits_from_the_high_mark_to_the_low_one() {
    let (mut map, log) = (map(), Log::new());
    let ([source, target], _peers) = channels(&mut map, &log);
    let mut limits = Limits::default();
    (limits.high_mark, limits.low_mark, limits.ac_out_buffer_size) = (1000, 100, 300);
    map.set_limits(target, limits);
    map.couple(source, target);
    map.push(target, &[0; 1000]);
    assert!(map.is_reading(source), "at the mark");
    map.push(target, &[0; 1]);
    let mut seen = Vec::new();
    while map.get(target).unwrap().queued() > 0 {
        seen.push((map.get(target).unwrap().queued(), map.is_reading(source)));
        map.poll(&mut (), None).unwrap();
    }
    assert_eq!(seen, [(1001, false), (701, false), (401, false), (101, false)]);
    assert!(map.is_reading(source));
}

/// The push that makes the target high ends the source's own reading, in the same callback.
#[test]
fn a_callback_that_fills_its_target_stops_reading_at_once() {
    let (mut map, log) = (map(), Log::new());
    let ([target], _peers) = channels(&mut map, &log);
    let (mut peer, here) = Peer::pair();
    let source = map.add(
        here,
        Script::new("source", &log, move |cx, call| {
            while *call == Call::Read
                && cx.map.is_reading(cx.id)
                && let Received::Data(data) = cx.map.recv(cx.id, 1)?
            {
                cx.map.push(target, vec![data[0]; HIGH_MARK]);
            }
            Ok(())
        }),
    );
    let source = source.unwrap();
    map.couple(source, target);
    peer.send(b"abc");
    turn_until(&mut map, &mut (), "a read", |_, ()| log.has("source read"));
    assert_eq!(map.get(source).unwrap().bytes_in(), 2, "one to the mark, one above it");
}

#[test]
fn a_source_reads_when_none_of_its_targets_is_high() {
    let (mut map, log) = (map(), Log::new());
    let ([source, one, two], mut peers) = channels(&mut map, &log);
    map.couple(source, one);
    map.couple(source, two);
    fill(&mut map, one);
    fill(&mut map, two);
    drain(&mut map, one, &mut peers[1]);
    assert!(!map.is_reading(source), "the other is still high");
    drain(&mut map, two, &mut peers[2]);
    assert!(map.is_reading(source));
}

#[test]
fn all_sources_of_a_target_wait_for_it() {
    let (mut map, log) = (map(), Log::new());
    let ([target, one, two, other], mut peers) = channels(&mut map, &log);
    map.couple(one, target);
    map.couple(two, target);
    fill(&mut map, target);
    let reading = |map: &Map| [one, two, other].map(|id| map.is_reading(id));
    assert_eq!(reading(&map), [false, false, true]);
    drain(&mut map, target, &mut peers[0]);
    assert_eq!(reading(&map), [true; 3]);
}

#[test]
fn a_target_that_goes_lets_its_sources_go_on() {
    type Go = fn(&mut Map, ChannelId, &mut Vec<Peer>);
    let ways: [(&str, Go); 4] = [
        ("closed", |map, id, _| map.close(id)),
        ("removed", |map, id, _| drop(map.remove(id).unwrap())),
        ("lost", |_, _, peers| drop(peers.pop())),
        ("over its limit", |map, id, _| assert!(!map.push(id, vec![0; 1 << 20]).is_queued())),
    ];
    for (how, go) in ways {
        let (mut map, log) = (map(), Log::new());
        let ([source, target], mut peers) = channels(&mut map, &log);
        map.couple(source, target);
        fill(&mut map, target);
        assert!(!map.is_reading(source));
        peers[0].send(b"x");
        go(&mut map, target, &mut peers);
        turn_until(&mut map, &mut (), how, |map, ()| map.len() == 1);
        settle(&mut map, &mut ());
        assert!(map.is_reading(source) && log.has("0 read x"), "{how}: {:?}", log.lines());
    }
}

/// A target may come back under another id: it is another channel then, coupled to nobody.
#[test]
fn a_removed_channel_comes_back_without_its_couplings() {
    let (mut map, log) = (map(), Log::new());
    let ([source, target], _peers) = channels(&mut map, &log);
    map.pipe(source, target);
    fill(&mut map, target);
    for id in [source, target] {
        let (dispatcher, handler) = map.remove(id).unwrap();
        map.insert(dispatcher, handler).unwrap();
    }
    let ids: Vec<ChannelId> = map.iter().map(|(id, _)| id).collect();
    assert_eq!(ids.iter().filter(|id| map.is_reading(**id)).count(), 2, "{ids:?}");
}

#[test]
fn no_reason_to_pause_undoes_another() {
    let (mut map, log) = (map(), Log::new());
    let ([source, target], mut peers) = channels(&mut map, &log);
    map.couple(source, target);
    map.pause_when_high(source, true);
    map.pause_reading(source);
    fill(&mut map, target);
    fill(&mut map, source);
    map.resume_reading(source);
    assert!(!map.is_reading(source), "two are left");
    drain(&mut map, target, &mut peers[1]);
    assert!(!map.is_reading(source), "its own output is left");
    map.pause_reading(source);
    drain(&mut map, source, &mut peers[0]);
    assert!(!map.is_reading(source), "the program's is left");
    map.resume_reading(source);
    assert!(map.is_reading(source));
}

#[test]
fn a_target_that_is_high_already_stops_its_new_source() {
    let (mut map, log) = (map(), Log::new());
    let ([source, target], mut peers) = channels(&mut map, &log);
    fill(&mut map, target);
    map.couple(source, target);
    assert!(!map.is_reading(source));
    drain(&mut map, target, &mut peers[1]);
    assert!(map.is_reading(source));
}

#[test]
fn uncoupling_ends_the_wait_and_coupling_twice_is_coupling_once() {
    let (mut map, log) = (map(), Log::new());
    let ([source, target], mut peers) = channels(&mut map, &log);
    map.couple(source, target);
    map.couple(source, target);
    fill(&mut map, target);
    map.uncouple(source, target);
    assert!(map.is_reading(source));
    map.uncouple(source, target);
    map.couple(source, target);
    assert!(!map.is_reading(source), "still high");
    drain(&mut map, target, &mut peers[1]);
    assert!(map.is_reading(source));
}

#[test]
fn a_channel_can_be_coupled_to_itself() {
    let (mut map, log) = (map(), Log::new());
    let ([one], mut peers) = channels(&mut map, &log);
    map.couple(one, one);
    fill(&mut map, one);
    assert!(!map.is_reading(one));
    map.uncouple(one, one);
    assert!(map.is_reading(one));
    map.couple(one, one);
    assert!(!map.is_reading(one));
    drain(&mut map, one, &mut peers[0]);
    assert!(map.is_reading(one));
}

#[test]
fn ids_that_are_gone_are_ignored() {
    let (mut map, log) = (map(), Log::new());
    let ([here, closed, gone], _peers) = channels(&mut map, &log);
    map.close(gone);
    settle(&mut map, &mut ());
    map.close(closed);
    for other in [closed, gone] {
        map.pipe(here, other);
        map.uncouple(here, other);
        map.uncouple(other, here);
    }
    fill(&mut map, here);
    assert!(map.is_reading(here));
}

/// Each reads from its peer what the other is to send, and neither peer reads.
#[test]
fn a_pipe_holds_a_bounded_amount_each_way() {
    let (mut map, log) = (map(), Log::new());
    let ([one, two], mut peers) = channels(&mut map, &log);
    map.pipe(one, two);
    fill(&mut map, one);
    assert!(map.is_reading(one) && !map.is_reading(two));
    fill(&mut map, two);
    assert!(!map.is_reading(one) && !map.is_reading(two));
    drain(&mut map, one, &mut peers[0]);
    assert!(!map.is_reading(one) && map.is_reading(two));
    drain(&mut map, two, &mut peers[1]);
    assert!(map.is_reading(one) && map.is_reading(two));
}

/// A channel that waits costs no turns.
#[test]
fn a_source_that_waits_does_not_keep_the_loop_turning() {
    let (mut map, log) = (map(), Log::new());
    let ([source, target], mut peers) = channels(&mut map, &log);
    map.couple(source, target);
    fill(&mut map, target);
    peers[0].send(b"unread");
    settle(&mut map, &mut ());
    let before = map.counters();
    map.poll(&mut (), Some(std::time::Duration::from_millis(30))).unwrap();
    assert_eq!(map.counters().events, before.events);
}

/// Whatever is coupled, filled, emptied, paused and closed in whatever order: a channel reads when the program lets it and
/// no target of it is high.
#[test]
fn random_couplings_agree_with_a_model() {
    const CHANNELS: usize = 5;
    for seed in 1..=60 {
        let mut random = seed;
        let mut dice = |sides: usize| {
            // xorshift64
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            usize::try_from(random % sides as u64).unwrap()
        };
        let mut map: Map = map();
        let mut limits = Limits::default();
        (limits.high_mark, limits.low_mark, limits.ac_out_buffer_size) = (1000, 100, 300);
        let log = Log::new();
        let mut peers = Vec::new();
        let mut ids = Vec::new();
        for _ in 0..CHANNELS {
            let (peer, here) = Peer::pair();
            peers.push(peer);
            let mut dispatcher = Dispatcher::try_from(here).unwrap();
            dispatcher.set_limits(limits.clone());
            ids.push(map.add(dispatcher, Recorder::new(&log)).unwrap());
        }
        let mut coupled = [[false; CHANNELS]; CHANNELS];
        let mut high = [false; CHANNELS];
        let mut paused = [false; CHANNELS];
        for step in 0..200 {
            let (one, other) = (dice(CHANNELS), dice(CHANNELS));
            match dice(40) {
                0..10 => {
                    map.couple(ids[one], ids[other]);
                    coupled[one][other] = map.is_open(ids[one]) && map.is_open(ids[other]);
                }
                10..14 => {
                    map.uncouple(ids[one], ids[other]);
                    coupled[one][other] = false;
                }
                14..22 => {
                    map.push(ids[one], vec![0; 400]);
                }
                22..24 => {
                    map.discard_output(ids[one]);
                }
                24..27 => {
                    map.pause_reading(ids[one]);
                    paused[one] = true;
                }
                27..30 => {
                    map.resume_reading(ids[one]);
                    paused[one] = false;
                }
                30 if dice(10) == 0 => map.close(ids[one]),
                31 if dice(10) == 0 => drop(map.remove(ids[one])),
                _ => {}
            }
            let mut update = |map: &Map, turned: bool| {
                for at in 0..CHANNELS {
                    let queued = map.get(ids[at]).map_or(0, Dispatcher::queued);
                    high[at] = match queued {
                        1001.. => true,
                        0..=100 if turned || !map.is_open(ids[at]) => false,
                        _ => high[at],
                    };
                }
                for (at, id) in ids.iter().enumerate() {
                    let held = (0..CHANNELS).any(|to| coupled[at][to] && high[to]);
                    let expected = map.is_open(*id) && !paused[at] && !held;
                    assert_eq!(map.is_reading(*id), expected, "seed {seed}, step {step}, channel {at}");
                }
            };
            update(&map, false);
            map.poll(&mut (), Some(std::time::Duration::ZERO)).unwrap();
            update(&map, true);
        }
    }
}

/// The low mark is below the high one, as all of this needs.
const _: () = assert!(LOW_MARK < HIGH_MARK);
