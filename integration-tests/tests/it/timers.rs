//! Timers, of a channel and of the map: order, cancelling and resetting, intervals, their end, and what they cost.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use asyncore::testing::{Faults, Peer, Simulation, VirtualClock, each_seed};
use asyncore::{Channel, ChannelId, Context, Map, Received, Result, TimerId};

/// Sets timers when it connects, in milliseconds, and records in which order they come.
struct Timed(Vec<u64>);

#[derive(Default)]
struct Seen {
    set: Vec<TimerId>,
    fired: Vec<usize>,
}

impl Channel<Seen> for Timed {
    fn handle_connect(&mut self, cx: &mut Context<'_, Seen>) -> Result {
        for after in &self.0 {
            cx.app.set.extend(cx.map.set_timer(cx.id, ms(*after)));
        }
        Ok(())
    }

    fn handle_timer(&mut self, cx: &mut Context<'_, Seen>, timer: TimerId) -> Result {
        cx.app.fired.extend(cx.app.set.iter().position(|set| *set == timer));
        Ok(())
    }
}

const fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

/// A simulation with one connected channel.
fn with(handler: impl Channel<Seen>) -> Result<(Simulation<Seen>, ChannelId, Peer)> {
    let mut sim = Simulation::new(Seen::default())?;
    let (dispatcher, peer) = sim.pair()?;
    let id = sim.map.add(dispatcher, handler)?;
    Ok((sim, id, peer))
}

#[test]
fn timers_come_once_and_in_order_of_their_time() -> Result {
    let (mut sim, _, _peer) = with(Timed(vec![30, 0, 20, 0]))?;
    sim.advance(ms(19))?;
    assert_eq!(sim.app.fired, [1, 3]);
    sim.advance(ms(10))?;
    assert_eq!(sim.app.fired, [1, 3, 2]);
    sim.advance(ms(100))?;
    assert_eq!(sim.app.fired, [1, 3, 2, 0]);
    Ok(())
}

#[test]
fn timers_come_at_their_time_whatever_the_network_does() -> Result {
    each_seed(50, |seed| {
        let mut sim = Simulation::with_seed(seed, Seen::default())?;
        sim.set_faults(Faults::harmless());
        let (dispatcher, mut peer) = sim.pair()?;
        let id = sim.map.add(dispatcher, Timed(vec![1, 5, 9]))?;
        sim.settle()?;
        let at = sim.elapsed();
        sim.app.fired.clear();
        sim.app.set.clear();
        for after in [7, 3, 5] {
            sim.app.set.extend(sim.map.set_timer(id, ms(after)));
        }
        for (step, expected) in [(2, &[][..]), (1, &[1]), (1, &[1]), (1, &[1, 2]), (2, &[1, 2, 0])] {
            peer.send(b"noise");
            sim.run_until(ms(step), |_| false).unwrap_err();
            assert_eq!(sim.app.fired, expected, "at {:?}", sim.elapsed() - at);
        }
        Ok(())
    })
}

#[test]
fn a_timer_of_less_than_a_millisecond_is_not_early() -> Result {
    let (mut sim, id, _peer) = with(Timed(vec![]))?;
    sim.app.set.extend(sim.map.set_timer(id, Duration::from_nanos(1_500_001)));
    sim.run_until(ms(10), |sim| !sim.app.fired.is_empty())?;
    assert!(sim.elapsed() >= Duration::from_nanos(1_500_001), "{:?}", sim.elapsed());
    assert!(sim.elapsed() <= ms(3), "{:?}", sim.elapsed());
    Ok(())
}

#[test]
fn a_timer_counts_from_the_call_that_sets_it_not_from_the_turn() -> Result {
    /// Takes its time before it sets a timer.
    struct Slow(VirtualClock);
    impl Channel<Vec<Duration>> for Slow {
        fn handle_connect(&mut self, cx: &mut Context<'_, Vec<Duration>>) -> Result {
            self.0.pass(ms(20));
            cx.map.set_timer(cx.id, ms(10));
            Ok(())
        }
        fn handle_timer(&mut self, cx: &mut Context<'_, Vec<Duration>>, _timer: TimerId) -> Result {
            cx.app.push(self.0.elapsed());
            Ok(())
        }
    }
    let mut sim = Simulation::new(Vec::new())?;
    let (dispatcher, _peer) = sim.pair()?;
    sim.map.add(dispatcher, Slow(sim.clock()))?;
    sim.advance(ms(100))?;
    assert_eq!(sim.app, [ms(30)]);
    Ok(())
}

#[test]
fn a_cancelled_timer_does_not_come() -> Result {
    let (mut sim, _, _peer) = with(Timed(vec![10, 20]))?;
    sim.advance(ms(9))?;
    assert!(sim.map.cancel_timer(sim.app.set[0]), "it was still waiting");
    assert!(!sim.map.cancel_timer(sim.app.set[0]));
    sim.advance(ms(100))?;
    assert_eq!(sim.app.fired, [1]);
    assert!(!sim.map.cancel_timer(sim.app.set[1]), "it has come");
    Ok(())
}

#[test]
fn a_reset_timer_comes_at_its_new_time_under_its_old_name() -> Result {
    let (mut sim, _, _peer) = with(Timed(vec![10, 20]))?;
    sim.advance(ms(9))?;
    assert!(sim.map.reset_timer(sim.app.set[0], ms(50)), "later");
    assert!(sim.map.reset_timer(sim.app.set[1], ms(3)), "earlier");
    sim.advance(ms(3))?;
    assert_eq!(sim.app.fired, [1]);
    sim.advance(ms(46))?;
    assert_eq!(sim.app.fired, [1]);
    sim.advance(ms(1))?;
    assert_eq!(sim.app.fired, [1, 0]);
    assert!(!sim.map.reset_timer(sim.app.set[0], ms(50)), "it has come");
    Ok(())
}

#[test]
fn a_timer_ends_with_its_channel() -> Result {
    let (mut sim, id, _peer) = with(Timed(vec![5]))?;
    sim.settle()?;
    sim.map.close(id);
    assert!(!sim.map.cancel_timer(sim.app.set[0]), "closed is closed");
    assert_eq!((sim.map.set_timer(id, ms(0)), sim.map.set_interval(id, ms(0))), (None, None));
    let (dispatcher, _other) = sim.pair()?;
    let removed = sim.map.add(dispatcher, Timed(vec![10]))?;
    sim.settle()?;
    let (dispatcher, handler) = sim.map.remove(removed).ok_or("it is there")?;
    assert!(!sim.map.cancel_timer(sim.app.set[1]));
    sim.app.set.push(sim.app.set[1]);
    sim.map.insert(dispatcher, handler)?;
    sim.advance(ms(100))?;
    assert_eq!(sim.app.fired, [3], "what it set when it was added again, and nothing of before");
    Ok(())
}

#[test]
fn a_timer_that_sets_itself_at_once_does_not_keep_sockets_from_being_served() -> Result {
    struct Restless;
    impl Channel<Seen> for Restless {
        fn handle_connect(&mut self, cx: &mut Context<'_, Seen>) -> Result {
            cx.map.set_timer(cx.id, Duration::ZERO);
            Ok(())
        }
        fn handle_read(&mut self, cx: &mut Context<'_, Seen>) -> Result {
            while let Received::Data(data) = cx.map.recv(cx.id, 100)? {
                cx.map.push(cx.id, &data);
            }
            Ok(())
        }
        fn handle_timer(&mut self, cx: &mut Context<'_, Seen>, _timer: TimerId) -> Result {
            cx.app.fired.push(0);
            cx.map.set_timer(cx.id, Duration::ZERO);
            Ok(())
        }
    }
    let (mut sim, _, mut peer) = with(Restless)?;
    peer.send(b"still there?");
    sim.map.run_for(&mut sim.app, 10)?;
    assert_eq!(sim.app.fired.len(), 9, "once a turn, from the second on");
    assert_eq!(peer.received(), b"still there?");
    Ok(())
}

#[test]
fn a_time_that_the_clock_cannot_tell_is_as_good_as_never() -> Result {
    let (mut sim, id, mut peer) = with(Timed(vec![]))?;
    let timer = sim.map.set_timer(id, Duration::MAX).ok_or("it is there")?;
    assert!(sim.map.reset_timer(timer, Duration::MAX));
    assert!(sim.map.set_interval(id, Duration::MAX).is_some());
    sim.map.after(Duration::MAX, |_, seen| seen.fired.push(1));
    sim.map.every(Duration::MAX, |_, seen| seen.fired.push(2));
    sim.advance(Duration::from_secs(50 * 365 * 24 * 3600))?;
    sim.map.shutdown(Duration::MAX);
    peer.close();
    sim.run()?;
    assert_eq!(sim.app.fired, [0; 0]);
    Ok(())
}

#[test]
fn a_map_that_was_shut_down_can_be_run_again() -> Result {
    let (mut sim, _, _peer) = with(Timed(vec![]))?;
    sim.map.shutdown(Duration::ZERO);
    assert!(sim.map.is_shutting_down());
    sim.run()?;
    assert!(!sim.map.is_shutting_down());

    let (dispatcher, _peer) = sim.pair()?;
    let id = sim.map.add(dispatcher, Timed(vec![20]))?;
    sim.advance(ms(20))?;
    assert_eq!(sim.app.fired, [0]);
    assert!(sim.map.is_open(id), "the deadline of the shutdown is gone with it");
    Ok(())
}

#[test]
fn an_interval_comes_at_each_multiple_of_its_period() -> Result {
    let (mut sim, id, _peer) = with(Timed(vec![]))?;
    sim.app.set.extend(sim.map.set_interval(id, ms(100)));
    sim.map.every(ms(40), |_, seen| seen.fired.push(7));
    sim.advance(ms(250))?;
    assert_eq!(sim.app.fired, [7, 7, 0, 7, 7, 0, 7, 7], "at 40, 80, 100, 120, 160, 200, 200, 240");
    sim.app.fired.clear();
    // Counted from the reset from then on.
    assert!(sim.map.reset_timer(sim.app.set[0], ms(5)));
    sim.advance(ms(4))?;
    assert_eq!(sim.app.fired, [0; 0]);
    sim.advance(ms(1))?;
    assert_eq!(sim.app.fired, [0]);
    sim.advance(ms(100))?;
    assert_eq!(sim.app.fired.iter().filter(|one| **one == 0).count(), 2);
    Ok(())
}

#[test]
fn a_late_interval_comes_once_and_not_once_for_each_that_was_missed() -> Result {
    let mut sim = Simulation::new(Vec::new())?;
    let clock = sim.clock();
    sim.map.every(ms(40), move |_, times| times.push(clock.elapsed()));
    // A callback that takes too long: two times and more are missed.
    sim.let_time_pass(ms(105));
    sim.turn()?;
    assert_eq!(sim.app, [ms(105)]);
    sim.advance(ms(100))?;
    assert_eq!(
        sim.app,
        [ms(105), ms(120), ms(160), ms(200)],
        "at the multiples, not whole periods from there"
    );
    Ok(())
}

#[test]
fn a_timer_of_the_map_is_called_with_the_map_and_the_app() -> Result {
    let (mut sim, id, _peer) = with(Timed(vec![]))?;
    sim.map.after(ms(10), move |map, seen| {
        seen.fired.push(7);
        map.after(ms(10), move |map, seen| {
            seen.fired.push(8);
            map.close(id);
        });
    });
    sim.run()?;
    assert_eq!((&sim.app.fired[..], sim.elapsed()), (&[7, 8][..], ms(20)));
    Ok(())
}

#[test]
fn timers_of_the_map_do_not_keep_it_running() -> Result {
    let mut sim = Simulation::new(Seen::default())?;
    sim.map.after(Duration::ZERO, |_, seen| seen.fired.push(1));
    sim.map.every(Duration::ZERO, |_, seen| seen.fired.push(2));
    sim.run()?;
    assert_eq!(sim.app.fired, [0; 0]);
    sim.turn()?;
    assert_eq!(sim.app.fired, [1, 2], "they wait for the next turn");
    Ok(())
}

#[test]
fn an_interval_of_no_length_comes_once_a_turn() -> Result {
    let mut sim = Simulation::new(Seen::default())?;
    let ticker = sim.map.every(Duration::ZERO, |_, seen| seen.fired.push(0));
    for turns in 1..=10 {
        sim.turn()?;
        assert_eq!(sim.app.fired.len(), turns);
    }
    assert!(sim.map.cancel_timer(ticker));
    sim.turn()?;
    assert_eq!(sim.app.fired.len(), 10);
    Ok(())
}

#[test]
fn a_panic_in_a_timer_of_the_map_goes_no_further() -> Result {
    let mut sim = Simulation::new(Seen::default())?;
    sim.map.after(Duration::ZERO, |_, _| panic!("once"));
    let every = sim.map.every(Duration::ZERO, |_, seen| {
        seen.fired.push(0);
        panic!("every");
    });
    sim.map.after(Duration::ZERO, |_, seen| seen.fired.push(1));
    for _ in 0..3 {
        sim.turn()?;
    }
    assert_eq!(sim.app.fired, [0, 1], "an interval that panicked has ended");
    assert!(!sim.map.cancel_timer(every));
    Ok(())
}

#[test]
fn a_closure_whose_drop_panics_is_dropped_all_the_same() -> Result {
    struct Loud;
    impl Drop for Loud {
        fn drop(&mut self) {
            panic!("dropped");
        }
    }
    let mut sim = Simulation::new(Seen::default())?;
    let loud = Loud;
    let timer = sim.map.after(Duration::ZERO, move |_, _| drop(loud));
    assert!(sim.map.cancel_timer(timer));
    let (loud, timer) = (Loud, Rc::new(Cell::new(None)));
    let own = timer.clone();
    timer.set(Some(sim.map.every(Duration::ZERO, move |map: &mut Map<Seen>, seen| {
        let _kept = &loud;
        seen.fired.push(0);
        assert!(own.get().is_some_and(|timer| map.cancel_timer(timer)), "it waits while it runs");
    })));
    sim.turn()?;
    sim.turn()?;
    assert_eq!(sim.app.fired, [0]);
    Ok(())
}

/// What a [`Ticker`] does with its interval when that comes.
#[derive(Clone, Copy, Debug)]
enum Deed {
    Cancel,
    Reset,
    Close,
    Fail,
    Panic,
}

/// Sets an interval of no length, which would come in every turn.
struct Ticker(Deed);

impl Channel<Seen> for Ticker {
    fn handle_connect(&mut self, cx: &mut Context<'_, Seen>) -> Result {
        cx.app.set.extend(cx.map.set_interval(cx.id, Duration::ZERO));
        Ok(())
    }

    fn handle_timer(&mut self, cx: &mut Context<'_, Seen>, timer: TimerId) -> Result {
        assert_eq!(cx.app.set, [timer]);
        cx.app.fired.push(0);
        match self.0 {
            Deed::Cancel => assert!(cx.map.cancel_timer(timer)),
            Deed::Reset => assert!(cx.map.reset_timer(timer, ms(1000))),
            Deed::Close => cx.map.close(cx.id),
            Deed::Fail => return Err("on purpose".into()),
            Deed::Panic => panic!("on purpose"),
        }
        Ok(())
    }
}

#[test]
fn an_interval_may_be_cancelled_reset_and_ended_by_its_own_callback() -> Result {
    for deed in [Deed::Cancel, Deed::Reset, Deed::Close, Deed::Fail, Deed::Panic] {
        let (mut sim, id, _peer) = with(Ticker(deed))?;
        sim.advance(ms(999))?;
        assert_eq!(sim.app.fired, [0], "{deed:?}");
        assert_eq!(sim.map.cancel_timer(sim.app.set[0]), matches!(deed, Deed::Reset), "{deed:?}");
        assert_eq!(sim.map.is_open(id), matches!(deed, Deed::Reset | Deed::Cancel), "{deed:?}");
    }
    Ok(())
}

#[test]
fn a_timer_set_before_the_first_turn_comes_after_handle_connect_which_may_cancel_or_reset_it() -> Result {
    struct Meddler {
        cancels: bool,
    }
    impl Channel<Seen> for Meddler {
        fn handle_connect(&mut self, cx: &mut Context<'_, Seen>) -> Result {
            let first = cx.app.set[0];
            assert!(if self.cancels {
                cx.map.cancel_timer(first)
            } else {
                cx.map.reset_timer(first, ms(50))
            });
            Ok(())
        }
        fn handle_timer(&mut self, cx: &mut Context<'_, Seen>, timer: TimerId) -> Result {
            cx.app.fired.extend(cx.app.set.iter().position(|set| *set == timer));
            Ok(())
        }
    }
    for cancels in [true, false] {
        let (mut sim, id, _peer) = with(Meddler { cancels })?;
        for _ in 0..2 {
            sim.app.set.extend(sim.map.set_timer(id, Duration::ZERO));
        }
        sim.advance(ms(49))?;
        assert_eq!(sim.app.fired, [1]);
        sim.advance(ms(1))?;
        assert_eq!(sim.app.fired, if cancels { &[1][..] } else { &[1, 0] });
    }
    Ok(())
}

#[test]
fn a_turn_touches_the_timers_that_come_in_it_and_no_other() -> Result {
    let (mut sim, id, mut peer) = with(Timed(vec![]))?;
    for hours in 1..=100_000 {
        sim.map.set_timer(id, Duration::from_secs(3600 * hours)).ok_or("it is there")?;
    }
    for _ in 0..100 {
        peer.send(b"x");
        sim.advance(ms(10))?;
    }
    assert_eq!(sim.map.counters().deadlines, 0);
    let turns = sim.map.counters().turns;
    for _ in 0..10 {
        sim.map.after(ms(10), |_, seen| seen.fired.push(0));
    }
    sim.advance(ms(10))?;
    assert_eq!((sim.map.counters().deadlines, sim.app.fired.len()), (10, 10));
    assert!(sim.map.counters().turns - turns <= 3, "{}", sim.map.counters().turns - turns);
    Ok(())
}

#[test]
fn a_flood_of_timers_is_served_in_shares() -> Result {
    let mut sim = Simulation::new(Seen::default())?;
    for _ in 0..5000 {
        sim.map.after(Duration::ZERO, |_, seen| seen.fired.push(0));
    }
    sim.turn()?;
    assert_eq!(sim.app.fired.len(), 1024, "the sockets get their turn");
    for _ in 0..4 {
        sim.turn()?;
    }
    assert_eq!(sim.app.fired.len(), 5000);
    Ok(())
}
