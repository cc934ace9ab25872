//! One-shot timers of a channel: order, cancelling, the end of their channel, and fairness.

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
