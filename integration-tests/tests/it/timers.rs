//! Timers, of a channel and of the map: order, cancelling and resetting, intervals, their end, and what they cost.

use std::time::Duration;

use asyncore::{Channel, Context, Map, Received, Result, TimerId};
use integration_tests::{Peer, map, settle, turn_until};

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
            cx.app.set.extend(cx.map.set_timer(cx.id, Duration::from_millis(*after)));
        }
        Ok(())
    }

    fn handle_timer(&mut self, cx: &mut Context<'_, Seen>, timer: TimerId) -> Result {
        cx.app.fired.extend(cx.app.set.iter().position(|set| *set == timer));
        Ok(())
    }
}

#[test]
fn timers_come_once_and_in_order_of_their_time() {
    let mut map: Map<Seen> = map();
    let mut seen = Seen::default();
    let (_peer, here) = Peer::pair();
    map.add(here, Timed(vec![30, 0, 20, 0])).unwrap();
    turn_until(&mut map, &mut seen, "four timers", |_, seen| seen.fired.len() == 4);
    settle(&mut map, &mut seen);
    assert_eq!(seen.fired, [1, 3, 2, 0]);
}

#[test]
fn a_cancelled_timer_does_not_come() {
    let mut map: Map<Seen> = map();
    let mut seen = Seen::default();
    let (_peer, here) = Peer::pair();
    map.add(here, Timed(vec![10, 20])).unwrap();
    turn_until(&mut map, &mut seen, "the timers to be set", |_, seen| seen.set.len() == 2);
    let waited = !seen.fired.contains(&0);
    assert_eq!(map.cancel_timer(seen.set[0]), waited, "cancel says whether the timer was still waiting");
    assert!(!map.cancel_timer(seen.set[0]));
    turn_until(&mut map, &mut seen, "the second timer", |_, seen| seen.fired.contains(&1));
    assert!(!waited || seen.fired == [1]);
}

#[test]
fn a_timer_ends_with_its_channel() {
    let mut map: Map<Seen> = map();
    let mut seen = Seen::default();
    let (_peer, here) = Peer::pair();
    let id = map.add(here, Timed(vec![5])).unwrap();
    let (_other_peer, other) = Peer::pair();
    turn_until(&mut map, &mut seen, "the timer to be set", |_, seen| seen.set.len() == 1);
    seen.fired.clear();
    map.close(id);
    assert_eq!(map.set_timer(id, Duration::ZERO), None);
    map.add(other, Timed(vec![10])).unwrap();
    turn_until(&mut map, &mut seen, "the other channel's timer", |_, seen| seen.fired.contains(&1));
    assert_eq!(seen.fired, [1], "the slot's next channel does not get the timer");
}

#[test]
fn a_timer_that_sets_itself_at_once_does_not_keep_sockets_from_being_served() {
    struct Restless;
    impl Channel<usize> for Restless {
        fn handle_connect(&mut self, cx: &mut Context<'_, usize>) -> Result {
            cx.map.set_timer(cx.id, Duration::ZERO);
            Ok(())
        }
        fn handle_read(&mut self, cx: &mut Context<'_, usize>) -> Result {
            while let Received::Data(data) = cx.map.recv(cx.id, 100)? {
                cx.map.push(cx.id, &data);
            }
            Ok(())
        }
        fn handle_timer(&mut self, cx: &mut Context<'_, usize>, _timer: TimerId) -> Result {
            *cx.app += 1;
            cx.map.set_timer(cx.id, Duration::ZERO);
            Ok(())
        }
    }
    let mut map: Map<usize> = map();
    let (mut peer, here) = Peer::pair();
    let id = map.add(here, Restless).unwrap();
    peer.send(b"still there?");
    let mut fired = 0;
    map.run_for(&mut fired, 10).unwrap();
    assert!((1..=10).contains(&fired), "once a turn, {fired} times in ten");
    assert_eq!(map.get(id).unwrap().bytes_out(), 12);
    assert_eq!(peer.read_bytes(12), b"still there?");
}

#[test]
fn a_time_that_the_clock_cannot_tell_is_as_good_as_never() {
    let mut map: Map<Seen> = map();
    let mut seen = Seen::default();
    let (peer, here) = Peer::pair();
    let id = map.add(here, Timed(vec![])).unwrap();
    assert!(map.set_timer(id, Duration::MAX).is_some());
    map.shutdown(Duration::MAX);
    drop(peer);
    map.run(&mut seen).unwrap();
    assert_eq!(seen.fired, [0; 0]);
}

#[test]
fn a_map_that_was_shut_down_can_be_run_again() {
    let mut map: Map<Seen> = map();
    let mut seen = Seen::default();
    let (_peer, here) = Peer::pair();
    map.add(here, Timed(vec![])).unwrap();
    map.shutdown(Duration::ZERO);
    assert!(map.is_shutting_down());
    map.run(&mut seen).unwrap();
    assert!(!map.is_shutting_down());

    let (_peer, here) = Peer::pair();
    let id = map.add(here, Timed(vec![20])).unwrap();
    turn_until(&mut map, &mut seen, "the timer", |_, seen| seen.fired == [0]);
    assert!(map.is_open(id), "the deadline of the shutdown is gone with it");
}

#[test]
fn a_timer_of_the_map_is_called_with_the_map_and_the_app() {
    let mut map: Map<Seen> = map();
    let mut seen = Seen::default();
    let (_peer, here) = Peer::pair();
    let id = map.add(here, Timed(vec![])).unwrap();
    map.after(Duration::ZERO, move |map, seen| {
        seen.fired.push(7);
        map.close(id);
    });
    map.run(&mut seen).unwrap();
    assert_eq!(seen.fired, [7]);
}

#[test]
fn timers_of_the_map_do_not_keep_it_running() {
    let mut map: Map<Seen> = map();
    let mut seen = Seen::default();
    map.after(Duration::ZERO, |_, seen| seen.fired.push(1));
    map.every(Duration::ZERO, |_, seen| seen.fired.push(2));
    map.run(&mut seen).unwrap();
    assert_eq!(seen.fired, [0; 0]);
    map.poll(&mut seen, Some(Duration::ZERO)).unwrap();
    assert_eq!(seen.fired, [1, 2], "they wait for the next turn");
}

#[test]
fn an_interval_of_no_length_comes_once_a_turn() {
    let mut map: Map<Seen> = map();
    let mut seen = Seen::default();
    let ticker = map.every(Duration::ZERO, |_, seen| seen.fired.push(0));
    for _ in 0..10 {
        map.poll(&mut seen, None).unwrap();
    }
    assert_eq!(seen.fired.len(), 10);
    assert!(map.cancel_timer(ticker));
    map.poll(&mut seen, Some(Duration::ZERO)).unwrap();
    assert_eq!(seen.fired.len(), 10);
}

#[test]
fn a_panic_in_a_timer_of_the_map_goes_no_further() {
    let mut map: Map<Seen> = map();
    let mut seen = Seen::default();
    map.after(Duration::ZERO, |_, _| panic!("once"));
    let every = map.every(Duration::ZERO, |_, seen| {
        seen.fired.push(0);
        panic!("every");
    });
    map.after(Duration::ZERO, |_, seen| seen.fired.push(1));
    for _ in 0..3 {
        map.poll(&mut seen, Some(Duration::ZERO)).unwrap();
    }
    assert_eq!(seen.fired, [0, 1], "an interval that panicked has ended");
    assert!(!map.cancel_timer(every));
}

#[test]
fn a_closure_whose_drop_panics_is_dropped_all_the_same() {
    struct Loud;
    impl Drop for Loud {
        fn drop(&mut self) {
            panic!("dropped");
        }
    }
    let mut map: Map<Seen> = map();
    let mut seen = Seen::default();
    let loud = Loud;
    let timer = map.after(Duration::ZERO, move |_, _| drop(loud));
    assert!(map.cancel_timer(timer));
    let loud = Loud;
    let timer = std::rc::Rc::new(std::cell::Cell::new(None));
    let own = timer.clone();
    timer.set(Some(map.every(Duration::ZERO, move |map: &mut Map<Seen>, seen| {
        let _kept = &loud;
        seen.fired.push(0);
        assert!(own.get().is_some_and(|timer| map.cancel_timer(timer)), "it waits while it runs");
    })));
    for _ in 0..2 {
        map.poll(&mut seen, Some(Duration::ZERO)).unwrap();
    }
    assert_eq!(seen.fired, [0]);
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
            Deed::Reset => assert!(cx.map.reset_timer(timer, Duration::from_secs(3600))),
            Deed::Close => cx.map.close(cx.id),
            Deed::Fail => return Err("on purpose".into()),
            Deed::Panic => panic!("on purpose"),
        }
        Ok(())
    }
}

#[test]
fn an_interval_may_be_cancelled_reset_and_ended_by_its_own_callback() {
    for deed in [Deed::Cancel, Deed::Reset, Deed::Close, Deed::Fail, Deed::Panic] {
        let mut map: Map<Seen> = map();
        let mut seen = Seen::default();
        let (_peer, here) = Peer::pair();
        let id = map.add(here, Ticker(deed)).unwrap();
        for _ in 0..5 {
            map.poll(&mut seen, Some(Duration::ZERO)).unwrap();
        }
        assert_eq!(seen.fired, [0], "{deed:?}");
        let waits = matches!(deed, Deed::Reset);
        assert_eq!(map.cancel_timer(seen.set[0]), waits, "{deed:?}");
        assert_eq!(map.is_open(id), matches!(deed, Deed::Reset | Deed::Cancel), "{deed:?}");
    }
}

#[test]
fn a_timer_set_before_the_first_turn_comes_after_handle_connect_which_may_cancel_it() {
    struct Canceller;
    impl Channel<Seen> for Canceller {
        fn handle_connect(&mut self, cx: &mut Context<'_, Seen>) -> Result {
            assert!(cx.map.cancel_timer(cx.app.set[0]));
            Ok(())
        }
        fn handle_timer(&mut self, cx: &mut Context<'_, Seen>, timer: TimerId) -> Result {
            cx.app.fired.extend(cx.app.set.iter().position(|set| *set == timer));
            Ok(())
        }
    }
    let mut map: Map<Seen> = map();
    let mut seen = Seen::default();
    let (_peer, here) = Peer::pair();
    let id = map.add(here, Canceller).unwrap();
    seen.set.extend(map.set_timer(id, Duration::ZERO));
    seen.set.extend(map.set_timer(id, Duration::ZERO));
    for _ in 0..3 {
        map.poll(&mut seen, Some(Duration::ZERO)).unwrap();
    }
    assert_eq!(seen.fired, [1]);
}

#[test]
fn a_turn_touches_the_timers_that_come_in_it_and_no_other() {
    let mut map: Map<Seen> = map();
    let mut seen = Seen::default();
    let (mut peer, here) = Peer::pair();
    let id = map.add(here, Timed(vec![])).unwrap();
    for hours in 1..=100_000 {
        map.set_timer(id, Duration::from_secs(3600 * hours)).unwrap();
    }
    for _ in 0..100 {
        peer.send(b"x");
        map.poll(&mut seen, None).unwrap();
    }
    assert_eq!(map.counters().deadlines, 0);
    for _ in 0..10 {
        map.after(Duration::ZERO, |_, seen| seen.fired.push(0));
    }
    map.poll(&mut seen, None).unwrap();
    assert_eq!((map.counters().deadlines, seen.fired.len()), (10, 10));
    map.close(id);
    assert_eq!(map.set_interval(id, Duration::ZERO), None);
}
