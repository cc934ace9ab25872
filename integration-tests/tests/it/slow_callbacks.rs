//! Callbacks that take long: what begins in one counts from then on, and not from the beginning of its turn.

use std::time::Duration;

use asyncore::testing::{Simulation, VirtualClock};
use asyncore::{Channel, ChannelId, CloseReason, Context, LINGER_TIME, Received, Result, Timeout};

type Closed = Option<CloseReason>;

/// Takes seven seconds to read, then acts.
struct Slow(VirtualClock, fn(&mut Context<'_, Closed>));

impl Channel<Closed> for Slow {
    fn handle_read(&mut self, cx: &mut Context<'_, Closed>) -> Result {
        self.0.pass(seconds(7));
        while let Received::Data(_) = cx.map.recv(cx.id, 4096)? {}
        (self.1)(cx);
        Ok(())
    }

    fn handle_shutdown(&mut self, _cx: &mut Context<'_, Closed>) -> Result {
        Ok(())
    }

    fn handle_close(&mut self, cx: &mut Context<'_, Closed>, reason: CloseReason) {
        *cx.app = Some(reason);
    }
}

const MILLISECOND: Duration = Duration::from_millis(1);

const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// A channel that is made ready by `prepare` and acts after seven seconds lasts for `time` from there.
fn lasts(
    time: Duration,
    prepare: fn(&mut Simulation<Closed>, ChannelId),
    act: fn(&mut Context<'_, Closed>),
    reason: CloseReason,
) -> Result {
    let mut sim = Simulation::new(None)?;
    let (dispatcher, mut peer) = sim.pair()?;
    let id = sim.map.add(dispatcher, Slow(sim.clock(), act))?;
    prepare(&mut sim, id);
    sim.settle()?;
    peer.send(b"x");
    sim.settle()?;
    assert_eq!((sim.app, sim.elapsed()), (None, seconds(7)));
    sim.advance(time - MILLISECOND)?;
    assert_eq!(sim.app, None, "too early, at {:?}", sim.elapsed());
    sim.advance(MILLISECOND)?;
    assert_eq!(sim.app, Some(reason));
    Ok(())
}

#[test]
fn bytes_that_move_late_in_a_long_turn_count_from_there() -> Result {
    let nothing: fn(&mut Context<'_, Closed>) = |_| {};
    let answer: fn(&mut Context<'_, Closed>) = |cx| {
        cx.map.push(cx.id, b"answer");
    };
    for act in [nothing, answer] {
        lasts(
            seconds(5),
            |sim, id| assert!(sim.map.set_timeout(id, Timeout::Idle, Some(seconds(5)))),
            act,
            CloseReason::TimedOut(Timeout::Idle),
        )?;
    }
    Ok(())
}

#[test]
fn a_time_that_is_set_late_in_a_long_turn_counts_from_there() -> Result {
    lasts(
        seconds(3),
        |_, _| {},
        |cx| assert!(cx.map.set_timeout(cx.id, Timeout::Total, Some(seconds(3)))),
        CloseReason::TimedOut(Timeout::Total),
    )
}

#[test]
fn a_shutdown_from_a_slow_callback_has_all_its_time() -> Result {
    lasts(seconds(3), |_, _| {}, |cx| cx.map.shutdown(seconds(3)), CloseReason::ShutDown)
}

#[test]
fn a_peer_has_all_its_time_to_take_the_last_words_of_a_slow_callback() -> Result {
    lasts(
        LINGER_TIME,
        |_, _| {},
        |cx| {
            cx.map.push(cx.id, b"goodbye");
            cx.map.close_when_done(cx.id);
        },
        CloseReason::Local,
    )
}
