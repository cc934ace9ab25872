//! Faults at moments that no real network can be made to choose: each over many seeds, on the simulated map.

use std::time::Duration;

use asynchat::{AsyncChat, BytesProducer, Chat, Conversation};
use asyncore::testing::{Faults, Peer, Simulation, each_seed};
use asyncore::{Address, CloseReason, Dispatcher, Limits, Options, Result, State};

/// Every line that came, and why each channel closed.
#[derive(Default)]
struct Seen {
    lines: usize,
    connects: usize,
    closes: Vec<CloseReason>,
}

/// Answers a line with a long one.
struct Wordy;

const ANSWER: usize = 3000;

impl Chat<Seen> for Wordy {
    fn handle_connect(&mut self, cx: &mut Conversation<'_, Seen>) -> Result {
        cx.app.connects += 1;
        Ok(())
    }

    fn found_terminator(&mut self, cx: &mut Conversation<'_, Seen>, line: &[u8]) -> Result {
        cx.app.lines += 1;
        cx.push((line, b" "));
        cx.push_with_producer(BytesProducer::new(vec![b'.'; ANSWER]));
        cx.push(b"\r\n");
        Ok(())
    }

    fn handle_close(&mut self, cx: &mut Conversation<'_, Seen>, reason: CloseReason) {
        cx.app.closes.push(reason);
    }
}

fn here() -> Address {
    "192.0.2.1:7".parse().expect("an address")
}

fn server(seed: u64, options: Options) -> Result<Simulation<Seen>> {
    let mut sim = Simulation::with_options(seed, options, Seen::default())?;
    sim.map.listen("192.0.2.1:7", |_| AsyncChat::new(Wordy).terminator(b"\r\n"))?;
    Ok(sim)
}

fn ask(sim: &mut Simulation<Seen>, peer: &mut Peer, question: &str) -> Result {
    peer.send(format!("{question}\r\n"));
    let answer = sim.expect_line(peer)?;
    assert_eq!(answer, format!("{question} {}", ".".repeat(ANSWER)));
    Ok(())
}

#[test]
fn a_connection_that_is_lost_anywhere_takes_no_other_with_it() -> Result {
    let mut lost = 0;
    each_seed(200, |seed| {
        let mut sim = server(seed, Options::default())?;
        let mut faults = Faults::harmless();
        faults.resets = 0.02;
        sim.set_faults(faults);
        let mut peers: Vec<Peer> = (0..5).map(|_| sim.connect(here())).collect();
        for round in 0..5 {
            for peer in &mut peers {
                peer.send(format!("{round}\r\n"));
            }
            sim.settle()?;
        }
        let dead = peers.iter().filter(|peer| peer.is_reset()).count();
        assert_eq!((sim.app.closes.len(), sim.map.len()), (dead, 1 + 5 - dead));
        assert!(sim.app.closes.iter().all(|reason| *reason == CloseReason::Reset), "{:?}", sim.app.closes);
        lost += dead;
        // Those that live still answer.
        sim.set_faults(Faults::none());
        for peer in peers.iter_mut().filter(|peer| !peer.is_reset()) {
            peer.take_received();
            ask(&mut sim, peer, "alive")?;
        }
        Ok(())
    })?;
    assert!(lost > 100, "only {lost} were lost");
    Ok(())
}

#[test]
fn a_write_that_finds_no_memory_loses_and_doubles_nothing() -> Result {
    each_seed(100, |seed| {
        let mut sim = server(seed, Options::default())?;
        sim.set_faults(Faults::harmless());
        let mut peer = sim.connect(here());
        for question in ["one", "two", "three"] {
            sim.fail_writes_with_no_memory(1 + u32::try_from(seed % 5)?);
            ask(&mut sim, &mut peer, question)?;
        }
        Ok(())
    })
}

#[test]
fn descriptors_that_come_and_go_leave_nobody_waiting() -> Result {
    each_seed(100, |seed| {
        let mut sim = server(seed, Options::default())?;
        sim.set_faults(Faults::harmless());
        sim.set_descriptors(4);
        let mut peers: Vec<Peer> = (0..12).map(|_| sim.connect(here())).collect();
        sim.advance(Duration::from_secs(1))?;
        assert!(sim.map.counters().turns < 1000, "{:?}", sim.map.counters());
        sim.set_descriptors(100);
        sim.advance(Duration::from_secs(1))?;
        for peer in &mut peers {
            if peer.is_eof() || peer.is_reset() {
                continue;
            }
            ask(&mut sim, peer, "served")?;
        }
        let refused = usize::try_from(sim.map.counters().refused)?;
        assert_eq!((sim.app.connects + refused, sim.map.len()), (12, 1 + sim.app.connects));
        Ok(())
    })
}

#[test]
fn a_map_that_is_full_serves_all_in_turn() -> Result {
    each_seed(50, |seed| {
        let mut options = Options::default();
        options.connections = 3;
        let mut sim = server(seed, options)?;
        sim.set_faults(Faults::harmless());
        let mut peers: Vec<Peer> = (0..8).map(|_| sim.connect(here())).collect();
        for peer in &mut peers {
            peer.send("in\r\nand out\r\n");
        }
        let answers = 2 * (ANSWER + 3) + "inand out".len();
        while !peers.is_empty() {
            let done = |peer: &Peer| peer.received().len() == answers;
            sim.run_until(Duration::from_secs(60), |_| peers.iter().any(done))?;
            assert!(sim.map.len() <= 1 + 3, "{:?}", sim.map);
            // Those in the queue stay there until one of these leaves.
            peers.retain(|peer| !done(peer));
        }
        sim.settle()?;
        assert_eq!((sim.app.connects, sim.map.len()), (8, 1));
        Ok(())
    })
}

#[test]
fn a_reset_before_the_accept_is_one_lost_channel() -> Result {
    each_seed(50, |seed| {
        let mut sim = server(seed, Options::default())?;
        let mut faults = Faults::harmless();
        faults.delay = Duration::ZERO;
        sim.set_faults(faults);
        let mut peers: Vec<Peer> = (0..3).map(|_| sim.connect(here())).collect();
        peers[1].reset();
        sim.settle()?;
        assert_eq!(sim.app.closes, [CloseReason::Reset]);
        for peer in [0, 2] {
            ask(&mut sim, &mut peers[peer], "still here")?;
        }
        Ok(())
    })
}

#[test]
fn a_reset_of_a_paused_channel_is_heard_and_costs_few_turns() -> Result {
    each_seed(50, |seed| {
        let mut sim = Simulation::with_seed(seed, Seen::default())?;
        sim.set_faults(Faults::harmless());
        let (dispatcher, mut peer) = sim.pair()?;
        let id = sim.map.add(dispatcher, AsyncChat::new(Wordy).terminator(b"\r\n"))?;
        sim.map.pause_reading(id);
        sim.settle()?;
        let before = sim.map.counters().turns;
        peer.send("unread\r\n");
        peer.reset();
        sim.advance(Duration::from_secs(60))?;
        assert_eq!((sim.app.closes.as_slice(), sim.app.lines), (&[CloseReason::Reset][..], 0));
        assert!(sim.map.counters().turns - before < 10, "{:?}", sim.map.counters());
        Ok(())
    })
}

#[test]
fn input_in_single_bytes_is_the_same_conversation() -> Result {
    each_seed(50, |seed| {
        let mut sim = server(seed, Options::default())?;
        sim.set_faults(Faults::harmless());
        let mut peer = sim.connect(here());
        peer.set_chunk(1);
        for question in ["one", "two and more", ""] {
            ask(&mut sim, &mut peer, question)?;
        }
        Ok(())
    })
}

#[test]
fn the_last_reply_reaches_a_peer_that_reads_it_byte_by_byte() -> Result {
    each_seed(50, |seed| {
        let mut sim = Simulation::with_seed(seed, Seen::default())?;
        let mut faults = Faults::harmless();
        faults.buffer = 64;
        sim.set_faults(faults);
        let (mut dispatcher, mut peer) = sim.pair()?;
        let mut limits = Limits::default();
        limits.linger_time = Duration::from_secs(3600);
        dispatcher.set_limits(limits);
        let id = sim.map.add(dispatcher, AsyncChat::new(Wordy).terminator(b"\r\n"))?;
        peer.stop_reading();
        sim.map.push(id, &[b'x'; 500]);
        sim.map.close_when_done(id);
        // It was still talking.
        peer.send("and another thing\r\n");
        while peer.received().len() < 500 {
            peer.read_some(1);
            sim.settle()?;
            assert!(!peer.is_reset(), "after {} bytes", peer.received().len());
        }
        assert!(peer.is_eof());
        assert_eq!(sim.map.get(id).map(Dispatcher::state), Some(State::Lingering));
        peer.close();
        sim.settle()?;
        assert_eq!((sim.app.closes.as_slice(), sim.app.lines), (&[CloseReason::Local][..], 0));
        Ok(())
    })
}

#[test]
fn a_burst_larger_than_the_listeners_queue_is_served_in_the_end() -> Result {
    let mut sim = Simulation::new(Seen::default())?;
    let mut listener = sim.map.create_socket(asyncore::Family::V4, asyncore::Kind::Stream)?;
    listener.bind(here())?;
    listener.listen(2)?;
    sim.map.listen_on(listener, |_| AsyncChat::new(Wordy).terminator(b"\r\n"))?;
    let mut peers: Vec<Peer> = (0..20).map(|_| sim.connect(here())).collect();
    for peer in &mut peers {
        ask(&mut sim, peer, "late")?;
    }
    assert!(sim.elapsed() >= Duration::from_secs(1), "the connect was asked again");
    Ok(())
}
