//! How long turns and callbacks take, and the warning about one that takes long. The clock is the simulation's.

use std::cell::Cell;
use std::time::Duration;

use asynchat::{AsyncChat, Chat, Conversation};
use asyncore::testing::{Simulation, VirtualClock};
use asyncore::{
    Channel, CloseReason, Context, Error, HIGH_MARK, Options, Producer, Result, SLOW_CALLBACK, Timeout,
    TimerId,
};
use bytes::Bytes;
use integration_tests::captured;
use tracing::Level;

const MILLISECOND: Duration = Duration::from_millis(1);

/// A simulation that measures, and its clock.
fn measuring() -> Result<(Simulation, VirtualClock)> {
    let mut options = Options::default();
    options.timings = true;
    let sim = Simulation::with_options(0, options, ())?;
    let clock = sim.clock();
    Ok((sim, clock))
}

/// Takes a moment longer than it may in the callback of this name, and only once.
struct Slow {
    clock: VirtualClock,
    at: Cell<Option<&'static str>>,
}

impl Slow {
    fn pass(&self, name: &'static str) {
        if self.at.get() == Some(name) {
            self.at.set(None);
            self.clock.pass(SLOW_CALLBACK + MILLISECOND);
        }
    }
}

impl Channel for Slow {
    fn readable(&self) -> bool {
        self.pass("readable or writable");
        true
    }

    fn writable(&self) -> bool {
        self.at.get() == Some("handle_write")
    }

    fn handle_connect(&mut self, cx: &mut Context<'_>) -> Result {
        self.pass("handle_connect");
        cx.map.set_timer(cx.id, MILLISECOND);
        cx.map.set_timeout(cx.id, Timeout::Total, Some(MILLISECOND * 2));
        Ok(())
    }

    fn handle_read(&mut self, cx: &mut Context<'_>) -> Result {
        self.pass("handle_read");
        drop(cx.map.recv(cx.id, 4096)?);
        Err("seen".into())
    }

    fn handle_write(&mut self, _cx: &mut Context<'_>) -> Result {
        self.pass("handle_write");
        Ok(())
    }

    fn handle_expt(&mut self, cx: &mut Context<'_>) -> Result {
        self.pass("handle_expt");
        cx.map.recv_urgent(cx.id)?;
        Ok(())
    }

    fn handle_drained(&mut self, _cx: &mut Context<'_>) -> Result {
        self.pass("handle_drained");
        Ok(())
    }

    fn handle_timer(&mut self, cx: &mut Context<'_>, _timer: TimerId) -> Result {
        self.pass("handle_timer");
        cx.map.spawn_blocking(
            cx.id,
            || (),
            |slow: &mut Self, _cx, ()| {
                slow.pass("spawn_blocking");
                Ok(())
            },
        )?;
        Ok(())
    }

    fn handle_timeout(&mut self, _cx: &mut Context<'_>, _which: Timeout) -> Result {
        self.pass("handle_timeout");
        Ok(())
    }

    fn handle_eof(&mut self, _cx: &mut Context<'_>) -> Result {
        self.pass("handle_eof");
        Ok(())
    }

    fn handle_shutdown(&mut self, cx: &mut Context<'_>) -> Result {
        self.pass("handle_shutdown");
        cx.map.close(cx.id);
        Ok(())
    }

    fn handle_error(&mut self, _cx: &mut Context<'_>, _error: &Error) {
        self.pass("handle_error");
    }

    fn handle_close(&mut self, _cx: &mut Context<'_>, _reason: CloseReason) {
        self.pass("handle_close");
    }

    fn name(&self) -> &'static str {
        "slow"
    }
}

/// Makes one piece, and takes its time if that is asked for.
struct Made(Option<VirtualClock>, bool);

impl Producer for Made {
    fn more(&mut self, _most: usize) -> Result<Option<Bytes>> {
        if let Some(clock) = self.0.take() {
            clock.pass(SLOW_CALLBACK + MILLISECOND);
        }
        Ok(std::mem::take(&mut self.1).then(|| Bytes::from_static(b"made")))
    }
}

/// A life in which each callback of a channel is called.
fn live(slow: &'static str) -> Result {
    let (mut sim, clock) = measuring()?;
    let (dispatcher, mut peer) = sim.pair()?;
    let id = sim.map.add(dispatcher, Slow { clock: clock.clone(), at: Cell::new(Some(slow)) })?;
    sim.settle()?;
    sim.advance(MILLISECOND * 5)?;
    sim.map.push(id, vec![0; HIGH_MARK + 1]);
    sim.map.push_with_producer(id, Made((slow == "more").then_some(clock), true));
    sim.settle()?;
    peer.send_urgent(b'!');
    sim.settle()?;
    peer.send("x");
    sim.settle()?;
    peer.shutdown_write();
    sim.settle()?;
    sim.map.shutdown(MILLISECOND);
    sim.run()
}

#[test]
fn a_slow_callback_is_warned_of_by_its_name_whichever_it_is() {
    for name in [
        "readable or writable",
        "handle_connect",
        "handle_read",
        "handle_write",
        "handle_expt",
        "handle_drained",
        "handle_timer",
        "handle_timeout",
        "handle_eof",
        "handle_shutdown",
        "handle_error",
        "handle_close",
        "spawn_blocking",
        "more",
    ] {
        let log = captured(Level::WARN, || live(name).expect("a life"));
        let lines: Vec<&str> = log.lines().filter(|line| line.contains("a callback took long")).collect();
        assert!(!lines.is_empty(), "{name}: {log}");
        assert_eq!(lines.len(), 1, "{name}: {log}");
        for word in [
            "id=0.1",
            "peer=192.0.2.1:1",
            r#"handler="slow""#,
            &format!(r#"callback="{name}""#),
            "took=101ms",
        ] {
            assert!(lines[0].contains(word), "{name} without {word}: {log}");
        }
    }
}

#[test]
fn what_is_no_channels_is_warned_of_without_one() -> Result {
    let (mut sim, clock) = measuring()?;
    let once = clock.clone();
    let long = SLOW_CALLBACK * 3;
    sim.map.after(MILLISECOND, move |_map, ()| once.pass(long));
    sim.map.every(long * 2, move |_map, ()| clock.pass(long));
    let log = captured(Level::WARN, || sim.advance(long * 3).expect("turns"));
    for name in ["after", "every"] {
        assert!(log.contains(&format!(r#"callback="{name}" took=300ms"#)), "{log}");
    }
    assert!(!log.contains("id="), "{log}");
    Ok(())
}

#[test]
fn a_listener_that_takes_long_over_a_connection_is_warned_of() -> Result {
    let (mut sim, clock) = measuring()?;
    sim.map.listen("192.0.2.1:7", move |_peer| {
        clock.pass(SLOW_CALLBACK * 2);
        Slow { clock: clock.clone(), at: Cell::new(None) }
    })?;
    let _peer = sim.connect("192.0.2.1:7".parse::<asyncore::Address>()?);
    let log =
        captured(Level::WARN, || sim.run_until(MILLISECOND * 500, |sim| sim.map.len() == 2).expect("a turn"));
    assert!(log.contains(r#"handler="listener" callback="handle_accept" took=200ms"#), "{log}");
    Ok(())
}

#[test]
fn a_post_that_takes_long_is_warned_of() -> Result {
    let mut options = integration_tests::options();
    (options.timings, options.slow_callback) = (true, Duration::ZERO);
    let mut map = asyncore::Map::<()>::with_options(options)?;
    map.remote().post(|_map, ()| std::thread::sleep(MILLISECOND))?;
    let log = captured(Level::WARN, || map.run(&mut ()).expect("a run"));
    assert!(log.contains(r#"callback="post""#), "{log}");
    assert_eq!(map.timings().map(|timings| timings.callbacks.count()), Some(1));
    Ok(())
}

#[test]
fn a_callback_that_takes_as_long_as_it_may_is_not_warned_of() -> Result {
    let take = |slow_callback: Option<Duration>, time: Duration| -> Result<bool> {
        let mut options = Options::default();
        options.timings = true;
        options.slow_callback = slow_callback.unwrap_or(options.slow_callback);
        let mut sim = Simulation::with_options(0, options, ())?;
        let clock = sim.clock();
        sim.map.after(MILLISECOND, move |_map, ()| clock.pass(time));
        let log = captured(Level::WARN, || sim.advance(MILLISECOND).expect("a turn"));
        Ok(log.contains("a callback took long"))
    };
    assert_eq!(SLOW_CALLBACK, Duration::from_millis(100));
    assert!(!take(None, SLOW_CALLBACK)? && take(None, SLOW_CALLBACK + Duration::from_nanos(1))?);
    let second = Duration::from_secs(1);
    assert!(!take(Some(second), second)? && take(Some(second), second + MILLISECOND)?);
    assert!(!take(Some(Duration::MAX), second * 3600)?);
    Ok(())
}

#[test]
fn a_map_that_was_not_asked_measures_nothing_and_warns_of_nothing() -> Result {
    let mut sim = Simulation::new(())?;
    let clock = sim.clock();
    sim.map.after(MILLISECOND, move |_map, ()| clock.pass(Duration::from_secs(60)));
    let log = captured(Level::WARN, || sim.advance(MILLISECOND).expect("a turn"));
    assert_eq!((log.as_str(), sim.map.timings(), sim.map.snapshot().timings), ("", None, None));
    Ok(())
}

#[test]
fn turns_and_callbacks_are_recorded_with_the_time_that_they_took() -> Result {
    let (mut sim, clock) = measuring()?;
    for (at, takes) in [(10, 0), (20, 3), (20, 4), (30, 50)] {
        let clock = clock.clone();
        sim.map.after(MILLISECOND * at, move |_map, ()| clock.pass(MILLISECOND * takes));
    }
    sim.advance(Duration::from_secs(3600))?;
    let timings = sim.map.timings().expect("measured");
    assert_eq!((timings.callbacks.count(), timings.callbacks.sum()), (4, MILLISECOND * 57));
    assert_eq!(timings.callbacks.max(), MILLISECOND * 50);
    let times: Vec<u64> = timings.callbacks.iter().map(|(_, count)| count).collect();
    assert_eq!(times, [1, 1, 1, 1]);
    // The wait is no part of a turn.
    assert_eq!((timings.turns.sum(), timings.turns.max()), (MILLISECOND * 57, MILLISECOND * 50));
    assert_eq!(timings.turns.count(), sim.map.counters().turns);
    assert_eq!(sim.map.snapshot().timings.as_ref(), Some(timings));
    Ok(())
}

#[test]
fn every_callback_of_a_channel_is_counted_once_and_predicates_are_not() -> Result {
    struct Counting;

    impl Channel<u64> for Counting {
        fn handle_connect(&mut self, cx: &mut Context<'_, u64>) -> Result {
            *cx.app += 1;
            Ok(())
        }

        fn handle_read(&mut self, cx: &mut Context<'_, u64>) -> Result {
            *cx.app += 1;
            drop(cx.map.recv(cx.id, 10)?);
            Ok(())
        }

        fn handle_eof(&mut self, cx: &mut Context<'_, u64>) -> Result {
            *cx.app += 1;
            panic!("a panic is measured as well");
        }

        fn handle_error(&mut self, cx: &mut Context<'_, u64>, _error: &Error) {
            *cx.app += 1;
        }

        fn handle_close(&mut self, cx: &mut Context<'_, u64>, reason: CloseReason) {
            assert_eq!(reason, CloseReason::HandlerPanic);
            *cx.app += 1;
        }
    }

    let mut options = Options::default();
    options.timings = true;
    let mut sim = Simulation::with_options(0, options, 0)?;
    let (dispatcher, mut peer) = sim.pair()?;
    sim.map.add(dispatcher, Counting)?;
    peer.send([0; 100]);
    peer.shutdown_write();
    sim.run()?;
    assert!(sim.app >= 5);
    assert_eq!(sim.map.timings().map(|timings| timings.callbacks.count()), Some(sim.app));
    Ok(())
}

#[test]
fn the_warning_says_how_many_messages_a_slow_read_brought_and_whose() -> Result {
    struct Slow(VirtualClock);

    impl Chat for Slow {
        fn found_terminator(&mut self, _cx: &mut Conversation<'_>, _line: &[u8]) -> Result {
            self.0.pass(SLOW_CALLBACK);
            Ok(())
        }
    }

    let (mut sim, clock) = measuring()?;
    let (dispatcher, mut peer) = sim.pair()?;
    sim.map.add(dispatcher, AsyncChat::new(Slow(clock)).terminator(b"\n"))?;
    peer.send("1\n2\n3\n");
    let log = captured(Level::WARN, || sim.settle().expect("a rest"));
    let expected = format!(
        r#"handler="{}" callback="handle_read" took=300ms messages=3"#,
        std::any::type_name::<Slow>()
    );
    assert!(log.contains(&expected), "{log}");
    Ok(())
}

#[test]
fn a_handler_whose_name_panics_is_warned_of_all_the_same() -> Result {
    struct Nameless(VirtualClock);

    impl Channel for Nameless {
        fn handle_connect(&mut self, _cx: &mut Context<'_>) -> Result {
            self.0.pass(SLOW_CALLBACK * 2);
            Ok(())
        }

        fn name(&self) -> &'static str {
            panic!("no name")
        }
    }

    let (mut sim, clock) = measuring()?;
    let (dispatcher, _peer) = sim.pair()?;
    let id = sim.map.add(dispatcher, Nameless(clock))?;
    let log = captured(Level::WARN, || sim.settle().expect("a rest"));
    assert!(log.contains(r#"handler="unknown" callback="handle_connect""#), "{log}");
    assert!(sim.map.is_open(id));
    Ok(())
}
