//! What the model test found, each with the sequence that went wrong.

use std::time::Duration;

use asynchat::{AsyncChat, Chat, Conversation};
use asyncore::testing::{Faults, Simulation};
use asyncore::{
    Address, Channel, CloseReason, Context, Dispatcher, Limits, Rate, Received, Result, State, Timeout,
};

/// Keeps a log of what it is told, a word each.
struct Told;

type Log = Vec<&'static str>;

impl Channel<Log> for Told {
    fn handle_connect(&mut self, cx: &mut Context<'_, Log>) -> Result {
        cx.app.push("connect");
        Ok(())
    }

    fn handle_drained(&mut self, cx: &mut Context<'_, Log>) -> Result {
        cx.app.push("drained");
        Ok(())
    }

    fn handle_shutdown(&mut self, cx: &mut Context<'_, Log>) -> Result {
        cx.app.push("shutdown");
        cx.map.close_when_done(cx.id);
        Ok(())
    }

    fn handle_close(&mut self, cx: &mut Context<'_, Log>, _: CloseReason) {
        cx.app.push("close");
    }
}

/// Leaves a channel behind when it closes, with low marks and something for its peer.
struct Heir<C>(Option<(Dispatcher, C)>);

impl<C: Channel<Log>> Channel<Log> for Heir<C> {
    fn handle_connect(&mut self, cx: &mut Context<'_, Log>) -> Result {
        cx.map.close(cx.id);
        Ok(())
    }

    fn handle_close(&mut self, cx: &mut Context<'_, Log>, _: CloseReason) {
        let Some((mut dispatcher, handler)) = self.0.take() else { return };
        let mut limits = Limits::default();
        (limits.high_mark, limits.low_mark) = (10, 5);
        dispatcher.set_limits(limits);
        if let Ok(id) = cx.map.add(dispatcher, handler) {
            cx.map.push(id, b"more than ten bytes");
        }
    }
}

fn at(text: &str) -> Address {
    text.parse().expect("an address")
}

#[test]
fn an_urgent_byte_does_not_keep_a_closing_channel_turning() -> Result {
    let mut sim = Simulation::new(Log::new())?;
    let (dispatcher, mut peer) = sim.pair()?;
    let id = sim.map.add(dispatcher, Told)?;
    sim.map.close_when_done(id);
    peer.send_urgent(7);
    sim.settle()?;
    assert_eq!(sim.map.get(id).map(Dispatcher::state), Some(State::Lingering));
    assert!(sim.map.counters().turns < 10, "{:?}", sim.map.counters());
    Ok(())
}

#[test]
fn a_channel_added_late_in_a_turn_hears_of_its_connection_before_its_output() -> Result {
    let mut sim = Simulation::new(Log::new())?;
    let (dispatcher, _peer) = sim.pair()?;
    let (first, _other) = sim.pair()?;
    sim.map.add(first, Heir(Some((dispatcher, Told))))?;
    sim.settle()?;
    assert_eq!(sim.app, ["connect", "drained"]);
    Ok(())
}

#[test]
fn output_queued_in_handle_connect_is_not_said_to_have_drained() -> Result {
    /// Its first answer is as long as what was pushed before.
    struct Long;
    impl Channel<Log> for Long {
        fn handle_connect(&mut self, cx: &mut Context<'_, Log>) -> Result {
            cx.map.push(cx.id, b"more than ten bytes");
            Ok(())
        }

        fn handle_drained(&mut self, cx: &mut Context<'_, Log>) -> Result {
            let low = cx.map.get(cx.id).is_some_and(|channel| channel.queued() == 0);
            cx.app.push(if low { "drained" } else { "high" });
            Ok(())
        }
    }
    let mut sim = Simulation::new(Log::new())?;
    let (dispatcher, _peer) = sim.pair()?;
    let (first, _other) = sim.pair()?;
    sim.map.add(first, Heir(Some((dispatcher, Long))))?;
    sim.settle()?;
    assert_eq!(sim.app, ["drained"]);
    Ok(())
}

#[test]
fn a_write_clock_that_goes_on_is_not_over_again_at_once() -> Result {
    /// Goes on, whatever takes too long.
    struct Stubborn;
    impl Channel<Log> for Stubborn {
        fn handle_timeout(&mut self, cx: &mut Context<'_, Log>, _: Timeout) -> Result {
            cx.app.push("timeout");
            Ok(())
        }
    }
    let mut sim = Simulation::new(Log::new())?;
    let (dispatcher, mut peer) = sim.pair()?;
    let id = sim.map.add(dispatcher, Stubborn)?;
    sim.map.set_timeout(id, Timeout::Write, Some(Duration::from_millis(15)));
    sim.map.set_write_rate(id, Some(Rate { bytes: 1000, per: Duration::from_millis(10) }));
    // The system has no memory for its output, however often it is tried.
    sim.fail_writes_with_no_memory(1000);
    sim.map.push(id, b"more than ten bytes");
    sim.advance(Duration::from_millis(100))?;
    assert!((1..=6).contains(&sim.app.len()), "every 15 ms at most: {:?}", sim.app);
    sim.fail_writes_with_no_memory(0);
    sim.expect(&mut peer, "more than ten bytes")
}

#[test]
fn a_channel_that_drops_its_output_while_it_connects_hears_of_that_when_it_is_connected() -> Result {
    let mut sim = Simulation::new(Log::new())?;
    let mut slow = Faults::none();
    slow.delay = Duration::from_millis(50);
    sim.set_faults(slow);
    let _server = sim.listen(at("192.0.2.9:80"))?;
    let id = sim.map.connect(at("192.0.2.9:80"), Told)?;
    let mut limits = Limits::default();
    limits.high_mark = 10;
    sim.map.set_limits(id, limits);
    sim.map.push(id, b"more than ten bytes");
    sim.map.discard_output(id);
    sim.turn()?;
    assert!(sim.app.is_empty(), "{:?}", sim.app);
    sim.settle()?;
    assert_eq!(sim.app, ["connect", "drained"]);
    Ok(())
}

#[test]
fn messages_held_back_in_a_pause_come_when_the_channel_is_added_again() -> Result {
    /// Pauses after each line.
    struct Slow;
    impl Chat<Vec<String>> for Slow {
        fn found_terminator(&mut self, cx: &mut Conversation<'_, Vec<String>>, line: &[u8]) -> Result {
            cx.app.push(String::from_utf8_lossy(line).into_owned());
            cx.pause_reading();
            Ok(())
        }
    }
    let mut sim = Simulation::new(Vec::new())?;
    let (dispatcher, mut peer) = sim.pair()?;
    let id = sim.map.add(dispatcher, AsyncChat::new(Slow).terminator(b"\r\n"))?;
    peer.send("one\r\ntwo\r\n");
    sim.settle()?;
    assert_eq!(sim.app, ["one"]);
    let (dispatcher, handler) = sim.map.remove(id).ok_or("it is there")?;
    sim.map.insert(dispatcher, handler)?;
    sim.settle()?;
    assert_eq!(sim.app, ["one", "two"]);
    Ok(())
}

#[test]
fn input_asked_for_once_more_waits_for_the_next_turn() -> Result {
    /// Reads a turn's share, asks for more, and notes what it got in which turn.
    struct Greedy;
    impl Channel<Vec<(u64, usize)>> for Greedy {
        fn handle_read(&mut self, cx: &mut Context<'_, Vec<(u64, usize)>>) -> Result {
            cx.map.read_again(cx.id);
            while let Received::Data(data) = cx.map.recv(cx.id, 4096)? {
                cx.app.push((cx.map.counters().turns, data.len()));
            }
            if cx.app.len() > 3 {
                cx.map.close(cx.id);
            }
            Ok(())
        }
    }
    let mut sim = Simulation::new(Vec::new())?;
    let (mut dispatcher, mut peer) = sim.pair()?;
    let mut limits = Limits::default();
    limits.read_budget = 10;
    dispatcher.set_limits(limits);
    sim.map.add(dispatcher, Greedy)?;
    peer.send([b'x'; 100]);
    sim.settle()?;
    let turns: Vec<u64> = sim.app.iter().map(|(turn, _)| *turn).collect();
    assert!(turns.windows(2).all(|pair| pair[0] < pair[1]), "a share a turn: {:?}", sim.app);
    Ok(())
}

#[test]
fn a_channel_that_closes_once_it_is_connected_is_not_told_of_a_shutdown() -> Result {
    let mut sim = Simulation::new(Log::new())?;
    let mut slow = Faults::none();
    slow.delay = Duration::from_millis(50);
    sim.set_faults(slow);
    let server = sim.listen(at("192.0.2.9:80"))?;
    let id = sim.map.connect(at("192.0.2.9:80"), Told)?;
    sim.map.push(id, b"the last word\r\n");
    sim.map.close_when_done(id);
    sim.map.shutdown(Duration::from_secs(60));
    let mut peer = sim.expect_accept(&server)?;
    assert_eq!(sim.expect_line(&mut peer)?, "the last word");
    peer.close();
    sim.settle()?;
    assert_eq!(sim.app, ["connect", "close"]);
    Ok(())
}

#[test]
fn a_channel_that_pauses_over_the_last_bytes_before_a_reset_hears_of_the_reset() -> Result {
    struct Full;
    impl Channel<Log> for Full {
        fn handle_read(&mut self, cx: &mut Context<'_, Log>) -> Result {
            cx.map.recv(cx.id, 4096)?;
            cx.map.pause_reading(cx.id);
            Ok(())
        }

        fn handle_close(&mut self, cx: &mut Context<'_, Log>, reason: CloseReason) {
            cx.app.push(if reason == CloseReason::Reset { "reset" } else { "closed" });
        }
    }
    let mut sim = Simulation::new(Log::new())?;
    let (dispatcher, mut peer) = sim.pair()?;
    sim.map.add(dispatcher, Full)?;
    sim.turn()?;
    // Both arrive at once.
    peer.send("the last bytes");
    peer.reset();
    sim.settle()?;
    assert_eq!(sim.app, ["reset"]);
    Ok(())
}

#[test]
fn bytes_do_not_overtake_when_a_callback_takes_its_time() -> Result {
    let mut sim = Simulation::new(Log::new())?;
    let clock = sim.clock();
    let (dispatcher, mut peer) = sim.pair()?;
    let id = sim.map.add(dispatcher, Told)?;
    let mut slow = Faults::none();
    slow.delay = Duration::from_millis(50);
    sim.set_faults(slow);
    sim.map.send(id, b"first ")?;
    clock.pass(Duration::from_millis(60));
    sim.set_faults(Faults::none());
    sim.map.send(id, b"second")?;
    sim.expect(&mut peer, "first second")
}

#[test]
fn a_peer_that_closes_before_its_question_arrives_is_not_accepted() -> Result {
    let mut sim = Simulation::new(Log::new())?;
    let mut slow = Faults::none();
    slow.delay = Duration::from_millis(50);
    sim.set_faults(slow);
    sim.map.listen("192.0.2.1:7", |_| Told)?;
    let mut peer = sim.connect(at("192.0.2.1:7"));
    peer.close();
    sim.settle()?;
    assert!(sim.app.is_empty(), "{:?}", sim.app);
    assert_eq!(sim.map.len(), 1);
    Ok(())
}
