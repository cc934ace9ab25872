//! Snapshots: what a map holds, as plain data.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use asynchat::{AsyncChat, Chat, Conversation};
use asyncore::testing::Simulation;
use asyncore::{
    Address, Channel, ChannelId, ChannelSnapshot, CloseReason, Context, Family, HIGH_MARK, Kind, Limits, Map,
    Options, Pause, Rate, Received, Result, Snapshot, State, Timeout,
};
use integration_tests::{Peer, map};

struct Quiet;

impl<A: 'static> Channel<A> for Quiet {
    fn handle_read(&mut self, cx: &mut Context<'_, A>) -> Result {
        if let Received::Data(data) = cx.map.recv(cx.id, 4096)? {
            cx.map.push(cx.id, &data);
        }
        Ok(())
    }
}

struct Talk;

impl Chat for Talk {
    fn found_terminator(&mut self, cx: &mut Conversation<'_>, line: &[u8]) -> Result {
        cx.push((line, b"\n"));
        Ok(())
    }
}

fn of(sim: &Simulation, id: ChannelId) -> ChannelSnapshot {
    sim.map.channel_snapshot(id).expect("a channel")
}

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn a_snapshot_is_a_copy_that_can_be_kept_compared_and_sent_away() -> Result {
    fn plain<T: Clone + PartialEq + std::fmt::Debug + Send + Sync + 'static>(value: T) -> T {
        value
    }

    let mut sim = Simulation::new(())?;
    assert_eq!(plain(sim.map.snapshot()), Snapshot::default(), "nothing has happened yet");
    sim.map.listen("192.0.2.1:7", |_peer| Quiet)?;
    let mut peer = sim.connect("192.0.2.1:7".parse::<Address>()?);
    sim.settle()?;
    let before = sim.map.snapshot();
    assert_eq!(sim.map.snapshot(), before, "nothing has happened since");
    peer.send("hello");
    sim.settle()?;
    let after = sim.map.snapshot();
    assert_ne!(after, before);
    assert_eq!(after.counters, sim.map.counters());
    let bytes: Vec<_> =
        [before, after].iter().map(|snapshot| snapshot.channels[1].counters.bytes_in).collect();
    assert_eq!(bytes, [0, 5]);
    Ok(())
}

#[test]
fn every_channel_is_listed_as_it_is_until_it_is_closed() -> Result {
    let mut sim = Simulation::new(())?;
    let at: Address = "192.0.2.1:7".parse()?;
    let silent: Address = "192.0.2.9:7".parse()?;
    sim.black_hole(silent.clone());
    let [listener] = sim.map.listen("192.0.2.1:7", |_peer| AsyncChat::new(Talk).terminator(b"\n"))?[..]
    else {
        panic!("one address")
    };
    let connecting = sim.map.connect(silent.clone(), Quiet)?;
    sim.map.set_background(connecting);
    let mut peer = sim.connect(at.clone());
    sim.settle()?;
    peer.send("one\ntwo\n");
    peer.stop_reading();
    sim.settle()?;

    let snapshot = sim.map.snapshot();
    let [first, second, third] = &snapshot.channels[..] else { panic!("three channels: {snapshot:#?}") };
    assert_eq!((first.id, first.name, first.state), (listener, Some("listener"), State::Listening));
    assert_eq!((&first.local_addr, &first.peer_addr), (&Some(at.clone()), &None));
    assert_eq!((first.family, first.kind, first.background), (Family::V4, Kind::Stream, false));
    assert_eq!((second.id, second.state, second.background), (connecting, State::Connecting, true));
    assert_eq!(second.peer_addr, Some(silent));
    assert_eq!((third.state, third.name), (State::Open, Some(std::any::type_name::<Talk>())));
    assert_eq!((&third.local_addr, &third.peer_addr), (&Some(at), &peer.local_addr()));
    assert_eq!((third.counters.messages, third.counters.pushes, third.counters.bytes_in), (2, 2, 8));
    assert_eq!((third.queued, third.stalled, third.reason), (0, false, None));
    assert!(first.pauses.is_empty() && second.pauses.is_empty() && third.pauses.is_empty());

    let chat = third.id;
    sim.map.push(chat, vec![0; 900_000]);
    sim.map.close_when_done(chat);
    sim.settle()?;
    let ending = of(&sim, chat);
    assert_eq!(
        (ending.state, ending.reason, ending.stalled),
        (State::Draining, Some(CloseReason::Local), true)
    );
    assert!(ending.queued > 0 && ending.queued == sim.map.snapshot().queued);
    sim.map.close(chat);
    assert_eq!(sim.map.snapshot().channels.len(), 2);
    assert_eq!(sim.map.channel_snapshot(chat), None);
    Ok(())
}

#[test]
fn each_reason_not_to_read_has_its_name() -> Result {
    let mut options = Options::default();
    options.connections = 9;
    let mut sim = Simulation::with_options(0, options, ())?;
    let mut peers = Vec::new();
    let mut ids = Vec::new();
    for _ in 0..8 {
        let (dispatcher, mut peer) = sim.pair()?;
        peer.stop_reading();
        peers.push(peer);
        ids.push(sim.map.add(dispatcher, Quiet)?);
    }
    sim.settle()?;
    let [user, output, source, target, rate, ending, several, _free] = ids[..] else { panic!("eight") };
    let mut limits = Limits::default();
    limits.read_rate = Some(Rate { bytes: 10, per: SECOND * 1000 });
    sim.map.set_limits(rate, limits);
    peers[4].send([b'x'; 100]);

    sim.map.pause_reading(user);
    sim.map.pause_when_high(output, true);
    sim.map.couple(source, target);
    for id in [output, target] {
        sim.map.push(id, vec![0; HIGH_MARK * 8]);
    }
    for id in [ending, several] {
        sim.map.spawn_blocking(id, || (), |_: &mut Quiet, _cx, ()| Ok(()))?;
        sim.map.close_when_answered(id);
    }
    sim.map.pause_reading(several);
    let pauses = |sim: &Simulation, id| of(sim, id).pauses;
    assert_eq!(pauses(&sim, user), [Pause::User]);
    assert_eq!(pauses(&sim, output), [Pause::Output]);
    assert_eq!((pauses(&sim, source), pauses(&sim, target)), (vec![Pause::Coupling], vec![]));
    assert_eq!(pauses(&sim, ending), [Pause::Ending]);
    assert_eq!(pauses(&sim, several), [Pause::User, Pause::Ending]);
    assert_eq!((of(&sim, ending).jobs, sim.map.snapshot().jobs), (1, 2));
    sim.run_until(SECOND, |sim| !pauses(sim, rate).is_empty())?;
    assert_eq!(pauses(&sim, rate), [Pause::Rate]);

    let [listener] = sim.map.listen("192.0.2.1:7", |_peer| Quiet)?[..] else { panic!("one address") };
    let _waits =
        [sim.connect("192.0.2.1:7".parse::<Address>()?), sim.connect("192.0.2.1:7".parse::<Address>()?)];
    sim.run_until(SECOND, |sim| !pauses(sim, listener).is_empty())?;
    assert_eq!(pauses(&sim, listener), [Pause::Accept]);
    let names: Vec<_> = [Pause::User, Pause::Accept, Pause::Output].iter().map(ToString::to_string).collect();
    assert_eq!(names, ["paused", "no room to accept", "output high"]);
    Ok(())
}

#[test]
fn timers_and_the_timeout_that_comes_first_are_told() -> Result {
    let mut sim = Simulation::new(())?;
    let (dispatcher, mut peer) = sim.pair()?;
    let id = sim.map.add(dispatcher, Quiet)?;
    sim.settle()?;
    assert_eq!((of(&sim, id).timers, of(&sim, id).timeout, sim.map.snapshot().deadlines), (0, None, 0));
    let timer = sim.map.set_timer(id, SECOND * 100).expect("a channel");
    sim.map.set_interval(id, SECOND * 100);
    sim.map.after(SECOND * 100, |_map, ()| ());
    sim.map.set_timeout(id, Timeout::Total, Some(SECOND * 60));
    assert_eq!(of(&sim, id).timeout, Some((Timeout::Total, SECOND * 60)));
    sim.map.set_timeout(id, Timeout::Idle, Some(SECOND * 20));
    assert_eq!((of(&sim, id).timers, of(&sim, id).timeout), (2, Some((Timeout::Idle, SECOND * 20))));
    assert_eq!(sim.map.snapshot().deadlines, 4, "three timers, and one for all timeouts");
    sim.advance(SECOND * 15)?;
    assert_eq!(of(&sim, id).timeout, Some((Timeout::Idle, SECOND * 5)));
    peer.send("x");
    sim.settle()?;
    let rest = of(&sim, id).timeout.map(|(_, rest)| rest);
    assert!(rest > Some(SECOND * 19), "{rest:?}");
    sim.map.cancel_timer(timer);
    assert_eq!(of(&sim, id).timers, 1);
    Ok(())
}

#[test]
fn posts_that_wait_are_told_and_so_is_a_shutdown() -> Result {
    let mut map: Map = map();
    let (_peer, here) = Peer::pair();
    let id = map.add(here, Quiet)?;
    let remote = map.remote();
    remote.push(id, "x")?;
    remote.post(|map, ()| map.shutdown(SECOND))?;
    assert_eq!((map.snapshot().posts, map.snapshot().shutting_down), (2, false));
    map.poll(&mut (), None)?;
    assert_eq!((map.snapshot().posts, map.snapshot().shutting_down), (0, true));
    Ok(())
}

#[test]
fn a_handler_whose_callback_runs_is_listed_without_its_name() -> Result {
    /// Takes a snapshot in its own callback.
    struct Curious(Rc<RefCell<Vec<Snapshot>>>);

    impl Channel for Curious {
        fn handle_connect(&mut self, cx: &mut Context<'_>) -> Result {
            self.0.borrow_mut().push(cx.map.snapshot());
            Ok(())
        }

        fn name(&self) -> &'static str {
            "curious"
        }
    }

    let seen = Rc::<RefCell<Vec<_>>>::default();
    let mut sim = Simulation::new(())?;
    for _ in 0..2 {
        let (dispatcher, peer) = sim.pair()?;
        sim.map.add(dispatcher, Curious(Rc::clone(&seen)))?;
        std::mem::forget(peer);
    }
    sim.turn()?;
    let names: Vec<Vec<_>> = seen
        .borrow()
        .iter()
        .map(|snapshot: &Snapshot| snapshot.channels.iter().map(|channel| channel.name).collect())
        .collect();
    assert_eq!(names, [[None, Some("curious")], [Some("curious"), None]]);
    Ok(())
}
