//! Timeouts of a channel: connect, idle, read, write, total life and least rate; what each counts, and what they cost.

use std::time::Duration;

use asynchat::{AsyncChat, Chat, Conversation};
use asyncore::testing::{Faults, Peer, Simulation, each_seed};
use asyncore::{
    Channel, ChannelId, CloseReason, Context, DRAIN_TIME, Limits, Options, Rate, Received, Result, Timeout,
};

/// What a [`Timed`] does when a clock of it runs out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Then {
    /// As the default of the trait.
    #[default]
    Default,
    GoOn,
    SayGoodbye,
    SayGoodbyeWhenAnswered,
    Close,
    Fail,
    Panic,
}

#[derive(Default)]
struct Seen {
    then: Then,
    connected: usize,
    told: Vec<Timeout>,
    closed: Vec<CloseReason>,
}

/// Reads and drops its input.
struct Timed;

impl Channel<Seen> for Timed {
    fn handle_connect(&mut self, cx: &mut Context<'_, Seen>) -> Result {
        cx.app.connected += 1;
        Ok(())
    }

    fn handle_read(&mut self, cx: &mut Context<'_, Seen>) -> Result {
        while let Received::Data(_) = cx.map.recv(cx.id, 4096)? {}
        Ok(())
    }

    fn handle_timeout(&mut self, cx: &mut Context<'_, Seen>, which: Timeout) -> Result {
        cx.app.told.push(which);
        match cx.app.then {
            Then::Default => cx.map.close_with(cx.id, CloseReason::TimedOut(which)),
            Then::GoOn => {}
            Then::SayGoodbye => {
                cx.map.push(cx.id, b"421 timeout\r\n");
                cx.map.close_when_done(cx.id);
            }
            Then::SayGoodbyeWhenAnswered => {
                cx.map.push(cx.id, b"421 timeout\r\n");
                cx.map.close_when_answered(cx.id);
            }
            Then::Close => cx.map.close(cx.id),
            Then::Fail => return Err("on purpose".into()),
            Then::Panic => panic!("on purpose"),
        }
        Ok(())
    }

    fn handle_close(&mut self, cx: &mut Context<'_, Seen>, reason: CloseReason) {
        cx.app.closed.push(reason);
    }
}

const MILLISECOND: Duration = Duration::from_millis(1);

const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// A simulation with one connected channel that has one timeout.
fn with(which: Timeout, time: Duration) -> Result<(Simulation<Seen>, ChannelId, Peer)> {
    let mut sim = Simulation::new(Seen::default())?;
    let (dispatcher, peer) = sim.pair()?;
    let id = sim.map.add(dispatcher, Timed)?;
    assert!(sim.map.set_timeout(id, which, Some(time)));
    sim.settle()?;
    Ok((sim, id, peer))
}

/// The channel outlives all but the last millisecond of a time, and not that.
fn ends_in(sim: &mut Simulation<Seen>, time: Duration, which: Timeout) -> Result {
    sim.advance(time.saturating_sub(MILLISECOND))?;
    assert_eq!(sim.app.closed, [], "too early, at {:?}", sim.elapsed());
    sim.advance(MILLISECOND)?;
    assert_eq!(sim.app.closed, [CloseReason::TimedOut(which)], "at {:?}", sim.elapsed());
    assert!(sim.map.is_empty());
    Ok(())
}

#[test]
fn a_channel_is_idle_when_no_byte_moves_either_way() -> Result {
    let (mut sim, id, mut peer) = with(Timeout::Idle, seconds(10))?;
    sim.advance(seconds(6))?;
    peer.send(b"x");
    sim.advance(seconds(6))?;
    sim.map.push(id, b"y");
    sim.advance(seconds(6))?;
    assert_eq!(peer.received(), b"y");
    ends_in(&mut sim, seconds(4), Timeout::Idle)?;
    assert_eq!(sim.app.told, [Timeout::Idle]);
    Ok(())
}

#[test]
fn an_idle_time_costs_one_check_in_its_length_however_much_moves() -> Result {
    let (mut sim, _, mut peer) = with(Timeout::Idle, seconds(10))?;
    let before = sim.map.counters().deadlines;
    for _ in 0..2000 {
        peer.send(b"x");
        sim.advance(Duration::from_millis(10))?;
    }
    assert_eq!(sim.map.counters().deadlines - before, 2);
    ends_in(&mut sim, seconds(10) - Duration::from_millis(10), Timeout::Idle)
}

#[test]
fn nothing_received_is_a_read_timeout_whatever_is_sent() -> Result {
    let (mut sim, id, mut peer) = with(Timeout::Read, seconds(10))?;
    sim.advance(seconds(3))?;
    peer.send(b"x");
    for _ in 0..3 {
        sim.advance(seconds(3))?;
        sim.map.push(id, b"y");
    }
    ends_in(&mut sim, seconds(1), Timeout::Read)
}

#[test]
fn a_pause_of_our_own_does_not_count_against_a_peer_that_is_read() -> Result {
    let (mut sim, id, _peer) = with(Timeout::Read, seconds(10))?;
    for _ in 0..3 {
        sim.advance(seconds(2))?;
        sim.map.pause_reading(id);
        sim.advance(seconds(1000))?;
        sim.map.resume_reading(id);
    }
    ends_in(&mut sim, seconds(4), Timeout::Read)
}

#[test]
fn a_read_time_that_is_set_in_a_pause_begins_with_its_end() -> Result {
    let (mut sim, id, _peer) = with(Timeout::Read, seconds(10))?;
    sim.map.pause_reading(id);
    sim.advance(seconds(100))?;
    sim.map.set_timeout(id, Timeout::Read, Some(seconds(5)));
    sim.advance(seconds(100))?;
    sim.map.resume_reading(id);
    ends_in(&mut sim, seconds(5), Timeout::Read)
}

#[test]
fn the_end_of_input_ends_the_read_clock() -> Result {
    struct HalfClosed;
    impl Channel<Seen> for HalfClosed {
        fn handle_eof(&mut self, _cx: &mut Context<'_, Seen>) -> Result {
            Ok(())
        }
    }
    let mut sim = Simulation::new(Seen::default())?;
    let (dispatcher, mut peer) = sim.pair()?;
    let id = sim.map.add(dispatcher, HalfClosed)?;
    sim.map.set_timeout(id, Timeout::Read, Some(seconds(5)));
    sim.map.set_min_rate(id, Some(Rate::per_second(1)));
    peer.shutdown_write();
    sim.advance(seconds(100))?;
    assert!(sim.map.is_open(id));
    Ok(())
}

#[test]
fn output_that_does_not_move_is_a_write_timeout() -> Result {
    let (mut sim, id, mut peer) = with(Timeout::Write, seconds(10))?;
    sim.advance(seconds(100))?;
    assert!(sim.map.is_open(id), "nothing is queued");
    peer.stop_reading();
    sim.map.push(id, vec![0; 900 << 10]);
    sim.advance(seconds(6))?;
    // What it takes is time gained, and no more than that: the clock starts again when the socket took something.
    peer.read_some(200 << 10);
    sim.settle()?;
    assert!(sim.map.get(id).is_some_and(|channel| channel.queued() > 0));
    ends_in(&mut sim, seconds(10), Timeout::Write)
}

#[test]
fn output_that_was_taken_leaves_no_clock_behind() -> Result {
    let (mut sim, id, mut peer) = with(Timeout::Write, seconds(10))?;
    for _ in 0..5 {
        peer.stop_reading();
        sim.map.push(id, vec![0; 600 << 10]);
        sim.advance(seconds(9))?;
        assert!(sim.map.get(id).is_some_and(|channel| channel.queued() > 0));
        peer.start_reading();
        sim.advance(seconds(30))?;
        peer.take_received();
        assert_eq!(sim.map.queued(), 0);
    }
    peer.stop_reading();
    sim.map.push(id, vec![0; 600 << 10]);
    sim.settle()?;
    sim.map.discard_output(id);
    sim.advance(seconds(9))?;
    sim.map.push(id, vec![0; 600 << 10]);
    sim.settle()?;
    ends_in(&mut sim, seconds(10), Timeout::Write)
}

#[test]
fn a_write_that_is_tried_again_in_vain_does_not_move() -> Result {
    let (mut sim, id, _peer) = with(Timeout::Write, seconds(1))?;
    sim.fail_writes_with_no_memory(1_000_000);
    sim.map.push(id, b"y");
    sim.settle()?;
    ends_in(&mut sim, seconds(1), Timeout::Write)
}

#[test]
fn a_total_time_ends_the_busiest_channel() -> Result {
    let (mut sim, id, mut peer) = with(Timeout::Total, seconds(10))?;
    for _ in 0..9 {
        peer.send(b"x");
        sim.map.push(id, b"y");
        sim.advance(seconds(1))?;
    }
    ends_in(&mut sim, seconds(1), Timeout::Total)
}

#[test]
fn a_peer_must_keep_up_the_least_rate_in_each_window() -> Result {
    let mut sim = Simulation::new(Seen::default())?;
    let (dispatcher, mut peer) = sim.pair()?;
    let id = sim.map.add(dispatcher, Timed)?;
    assert!(sim.map.set_min_rate(id, Some(Rate { bytes: 10, per: seconds(5) })));
    for _ in 0..20 {
        sim.advance(seconds(2))?;
        peer.send(b"0123456789");
        sim.advance(seconds(3))?;
    }
    // A pause stretches the window by as much.
    peer.send(b"012345678");
    sim.advance(seconds(2))?;
    sim.map.pause_reading(id);
    sim.advance(seconds(1000))?;
    sim.map.resume_reading(id);
    ends_in(&mut sim, seconds(3), Timeout::Rate)
}

#[test]
fn a_trickle_that_is_never_idle_is_too_slow() -> Result {
    let (mut sim, id, mut peer) = with(Timeout::Idle, seconds(10))?;
    sim.map.set_min_rate(id, Some(Rate { bytes: 100, per: seconds(60) }));
    for _ in 0..11 {
        sim.advance(seconds(5))?;
        peer.send(b"x");
    }
    ends_in(&mut sim, seconds(5), Timeout::Rate)
}

#[test]
fn a_connect_that_nobody_answers_ends_in_its_time() -> Result {
    for then in [Then::Default, Then::GoOn, Then::SayGoodbye, Then::Close] {
        let mut options = Options::default();
        options.limits.connect_time = Some(seconds(7));
        let mut sim = Simulation::with_options(0, options, Seen { then, ..Seen::default() })?;
        sim.black_hole("192.0.2.9:80".parse::<std::net::SocketAddr>()?);
        let id = sim.map.connect("192.0.2.9:80".parse::<std::net::SocketAddr>()?, Timed)?;
        sim.map.push(id, b"GET");
        ends_in(&mut sim, seconds(7), Timeout::Connect)?;
        assert_eq!(sim.app.told, [Timeout::Connect], "{then:?}");
        assert_eq!(sim.app.connected, 0);
    }
    Ok(())
}

#[test]
fn a_clock_that_is_set_for_later_leaves_the_connects_alone() -> Result {
    let mut sim = Simulation::new(Seen::default())?;
    let at = "192.0.2.9:80".parse::<std::net::SocketAddr>()?;
    sim.black_hole(at);
    let id = sim.map.connect(at, Timed)?;
    assert!(sim.map.set_timeout(id, Timeout::Connect, Some(seconds(7))));
    sim.advance(seconds(3))?;
    for which in [Timeout::Total, Timeout::Idle, Timeout::Read, Timeout::Write] {
        assert!(sim.map.set_timeout(id, which, Some(seconds(1))));
    }
    ends_in(&mut sim, seconds(4), Timeout::Connect)
}

#[test]
fn the_clocks_of_a_connection_start_when_it_is_connected() -> Result {
    let mut options = Options::default();
    options.limits.connect_time = Some(seconds(7));
    options.limits.total_time = Some(seconds(20));
    options.limits.idle_time = Some(seconds(15));
    let mut sim = Simulation::with_options(0, options, Seen::default())?;
    let at = "192.0.2.9:80".parse::<std::net::SocketAddr>()?;
    let server = sim.listen(at)?;
    let mut faults = Faults::none();
    faults.delay = seconds(5);
    sim.set_faults(faults);
    let id = sim.map.connect(at, Timed)?;
    let mut peer = sim.expect_accept(&server)?;
    sim.run_until(seconds(5), |sim| sim.app.connected == 1)?;
    assert!(sim.elapsed() > Duration::ZERO);
    sim.set_faults(Faults::none());
    sim.advance(seconds(14))?;
    assert!(sim.map.is_open(id), "the connect was in time");
    peer.send(b"x");
    // It was connected between two milliseconds, and counts from the later.
    ends_in(&mut sim, seconds(6) + MILLISECOND, Timeout::Total)
}

#[test]
fn a_channel_may_say_goodbye_and_the_reason_stays() -> Result {
    for (then, reason) in [
        (Then::SayGoodbye, CloseReason::TimedOut(Timeout::Idle)),
        (Then::Close, CloseReason::TimedOut(Timeout::Idle)),
        (Then::Fail, CloseReason::HandlerError),
        (Then::Panic, CloseReason::HandlerPanic),
    ] {
        let (mut sim, _, mut peer) = with(Timeout::Idle, seconds(10))?;
        sim.app.then = then;
        sim.advance(seconds(10))?;
        if then == Then::SayGoodbye {
            assert_eq!(sim.expect_line(&mut peer)?, "421 timeout");
            sim.expect_eof(&mut peer)?;
            peer.close();
            sim.settle()?;
        }
        assert_eq!(sim.app.closed, [reason], "{then:?}");
        assert_eq!(sim.app.told, [Timeout::Idle]);
    }
    Ok(())
}

#[test]
fn a_goodbye_that_nobody_reads_leaves_the_reason() -> Result {
    let (mut sim, id, mut peer) = with(Timeout::Write, seconds(10))?;
    sim.app.then = Then::SayGoodbye;
    peer.stop_reading();
    sim.map.push(id, vec![0; 900 << 10]);
    sim.advance(seconds(10))?;
    assert_eq!((sim.app.told.as_slice(), sim.app.closed.len()), (&[Timeout::Write][..], 0));
    sim.advance(DRAIN_TIME)?;
    assert_eq!(sim.app.closed, [CloseReason::TimedOut(Timeout::Write)]);
    Ok(())
}

#[test]
fn a_channel_that_owes_an_answer_says_goodbye_once_and_waits_for_it_once_more() -> Result {
    each_seed(20, |seed| {
        let app = Seen { then: Then::SayGoodbyeWhenAnswered, ..Seen::default() };
        let mut sim = Simulation::with_seed(seed, app)?;
        let (dispatcher, mut peer) = sim.pair()?;
        let id = sim.map.add(dispatcher, Timed)?;
        sim.map.set_timeout(id, Timeout::Idle, Some(seconds(10)));
        sim.settle()?;
        let mut faults = Faults::none();
        faults.delay = seconds(50);
        sim.set_faults(faults);
        // Answered after up to 50 s: before the clock has run out, after that, or too late.
        sim.map.spawn_blocking(id, || (), |_: &mut Timed, _, ()| Ok(()))?;
        sim.advance(seconds(19))?;
        assert_eq!(sim.app.told, [Timeout::Idle]);
        peer.close();
        sim.advance(seconds(100))?;
        assert_eq!(sim.app.told, [Timeout::Idle]);
        assert_eq!(sim.app.closed, [CloseReason::TimedOut(Timeout::Idle)]);
        Ok(())
    })
}

#[test]
fn a_channel_that_goes_on_is_told_again_after_the_same_time() -> Result {
    for which in [Timeout::Idle, Timeout::Read, Timeout::Write, Timeout::Total] {
        let (mut sim, id, mut peer) = with(which, seconds(10))?;
        sim.app.then = Then::GoOn;
        peer.stop_reading();
        sim.map.push(id, vec![0; 900 << 10]);
        sim.settle()?;
        for times in 1..=3 {
            sim.advance(seconds(10) - MILLISECOND)?;
            assert_eq!(sim.app.told.len(), times - 1, "{which:?}");
            sim.advance(MILLISECOND)?;
            assert_eq!(sim.app.told, vec![which; times]);
        }
        assert!(sim.map.is_open(id));
    }
    let (mut sim, id, _peer) = with(Timeout::Idle, seconds(10_000))?;
    sim.app.then = Then::GoOn;
    sim.map.set_min_rate(id, Some(Rate::per_second(1)));
    sim.advance(seconds(3))?;
    assert_eq!(sim.app.told, [Timeout::Rate; 3]);
    Ok(())
}

#[test]
fn a_channel_that_closes_has_the_clocks_of_its_end() -> Result {
    let (mut sim, id, mut peer) = with(Timeout::Idle, seconds(1))?;
    for which in [Timeout::Read, Timeout::Write, Timeout::Total] {
        sim.map.set_timeout(id, which, Some(seconds(1)));
    }
    peer.stop_reading();
    sim.map.push(id, vec![0; 900 << 10]);
    sim.settle()?;
    sim.map.close_when_done(id);
    sim.advance(seconds(29))?;
    assert_eq!((&sim.app.told, &sim.app.closed), (&vec![], &vec![]));
    sim.advance(seconds(1))?;
    assert_eq!(sim.app.closed, [CloseReason::TimedOut(Timeout::Drain)]);
    Ok(())
}

#[test]
fn a_clock_starts_anew_when_its_limit_is_set_and_ends_when_it_is_taken_away() -> Result {
    let (mut sim, id, _peer) = with(Timeout::Total, seconds(10))?;
    sim.advance(seconds(9))?;
    assert!(sim.map.set_timeout(id, Timeout::Total, Some(seconds(5))));
    sim.advance(seconds(4))?;
    assert!(sim.map.set_timeout(id, Timeout::Total, None));
    sim.advance(seconds(1000))?;
    assert!(sim.map.set_timeout(id, Timeout::Idle, Some(seconds(5))));
    // What stays as it is goes on.
    sim.advance(seconds(3))?;
    let mut limits = sim.map.limits(id).cloned().unwrap_or_default();
    limits.output = 1;
    sim.map.set_limits(id, limits.clone());
    sim.advance(seconds(1))?;
    limits.idle_time = Some(seconds(2));
    sim.map.set_limits(id, limits);
    ends_in(&mut sim, seconds(2), Timeout::Idle)
}

#[test]
fn what_is_no_clock_of_a_channel_cannot_be_set() -> Result {
    let (mut sim, id, _peer) = with(Timeout::Total, seconds(1))?;
    for which in [Timeout::Rate, Timeout::Drain, Timeout::Transport] {
        assert!(!sim.map.set_timeout(id, which, Some(seconds(1))), "{which:?}");
    }
    sim.map.close(id);
    assert!(!sim.map.set_timeout(id, Timeout::Idle, Some(seconds(1))));
    assert!(!sim.map.set_min_rate(id, None));
    sim.settle()
}

#[test]
fn what_a_listener_accepts_has_its_timeouts() -> Result {
    let mut sim = Simulation::new(Seen::default())?;
    let listeners = sim.map.listen("192.0.2.1:25", |_| Timed)?;
    let mut limits = Limits::default();
    limits.idle_time = Some(seconds(10));
    sim.map.set_limits(listeners[0], limits);
    let _peer = sim.connect("192.0.2.1:25".parse::<std::net::SocketAddr>()?);
    sim.settle()?;
    assert_eq!(sim.map.len(), 2);
    sim.advance(seconds(10))?;
    assert_eq!(sim.app.closed, [CloseReason::TimedOut(Timeout::Idle)]);
    assert_eq!(sim.map.len(), 1, "the listener has no clock");
    Ok(())
}

#[test]
fn a_removed_channel_has_no_clock_until_it_is_added_again() -> Result {
    let (mut sim, id, _peer) = with(Timeout::Read, seconds(10))?;
    sim.map.set_timeout(id, Timeout::Total, Some(seconds(1000)));
    sim.advance(seconds(9))?;
    let (dispatcher, handler) = sim.map.remove(id).ok_or("it is there")?;
    sim.advance(seconds(100))?;
    sim.map.insert(dispatcher, handler)?;
    ends_in(&mut sim, seconds(10), Timeout::Read)
}

#[test]
fn a_chat_hears_of_a_timeout_as_a_channel_does() -> Result {
    struct Polite;
    impl Chat<Seen> for Polite {
        fn found_terminator(&mut self, _cx: &mut Conversation<'_, Seen>, _line: &[u8]) -> Result {
            Ok(())
        }
        fn handle_timeout(&mut self, cx: &mut Conversation<'_, Seen>, which: Timeout) -> Result {
            cx.app.told.push(which);
            cx.push(b"bye\r\n");
            cx.close_when_done();
            Ok(())
        }
        fn handle_close(&mut self, cx: &mut Conversation<'_, Seen>, reason: CloseReason) {
            cx.app.closed.push(reason);
        }
    }
    struct Curt;
    impl Chat<Seen> for Curt {
        fn found_terminator(&mut self, _cx: &mut Conversation<'_, Seen>, _line: &[u8]) -> Result {
            Ok(())
        }
        fn handle_close(&mut self, cx: &mut Conversation<'_, Seen>, reason: CloseReason) {
            cx.app.closed.push(reason);
        }
    }
    let mut options = Options::default();
    options.limits.read_time = Some(seconds(60));
    let mut sim = Simulation::with_options(0, options, Seen::default())?;
    let (dispatcher, mut peer) = sim.pair()?;
    sim.map.add(dispatcher, AsyncChat::new(Polite).terminator(b"\r\n").ac_out_buffer_size(100))?;
    let (dispatcher, _other) = sim.pair()?;
    sim.map.add(dispatcher, AsyncChat::new(Curt).terminator(b"\r\n"))?;
    assert_eq!(sim.expect_line(&mut peer)?, "bye");
    assert_eq!(sim.elapsed(), seconds(60));
    peer.close();
    sim.settle()?;
    assert_eq!(sim.app.closed, [CloseReason::TimedOut(Timeout::Read); 2]);
    assert_eq!(sim.app.told, [Timeout::Read]);
    Ok(())
}

#[test]
fn an_idle_time_holds_for_months() -> Result {
    let day = seconds(24 * 3600);
    let (mut sim, id, mut peer) = with(Timeout::Total, 1000 * day)?;
    // Past what 32 bits of milliseconds can tell, with and without bytes.
    sim.advance(60 * day)?;
    assert!(sim.map.set_timeout(id, Timeout::Idle, Some(10 * day)));
    for _ in 0..20 {
        sim.advance(9 * day)?;
        peer.send(b"x");
    }
    ends_in(&mut sim, 10 * day, Timeout::Idle)?;

    let (mut sim, _, _peer) = with(Timeout::Idle, Duration::MAX)?;
    ends_in(&mut sim, 24 * day, Timeout::Idle)
}

#[test]
fn a_time_of_nothing_counts_as_a_millisecond() -> Result {
    for which in [Timeout::Idle, Timeout::Read, Timeout::Total] {
        let mut sim = Simulation::new(Seen { then: Then::GoOn, ..Seen::default() })?;
        let (dispatcher, _peer) = sim.pair()?;
        let id = sim.map.add(dispatcher, Timed)?;
        sim.map.set_timeout(id, which, Some(Duration::ZERO));
        sim.advance(10 * MILLISECOND)?;
        assert_eq!(sim.app.told.len(), 10, "{which:?}");
        assert!(sim.map.counters().turns < 40, "no turn is busy: {}", sim.map.counters().turns);
    }
    Ok(())
}

#[test]
fn input_that_arrived_while_the_loop_was_kept_from_it_counts() -> Result {
    let mut sim = Simulation::new(Seen::default())?;
    let (dispatcher, mut peer) = sim.pair()?;
    let id = sim.map.add(dispatcher, Timed)?;
    let (dispatcher, _silent) = sim.pair()?;
    let silent = sim.map.add(dispatcher, Timed)?;
    for id in [id, silent] {
        sim.map.set_timeout(id, Timeout::Idle, Some(20 * MILLISECOND));
    }
    sim.settle()?;
    peer.send(b"in time");
    // A callback that takes too long; how much too long, makes no difference.
    sim.let_time_pass(40 * MILLISECOND);
    sim.turn()?;
    assert!(sim.map.is_open(id) && !sim.map.is_open(silent), "{:?}", sim.app.told);
    Ok(())
}
