//! The simulated map: what a test can rely on when it plays the other side.

use std::time::Duration;

use asynchat::{AsyncChat, Chat, Conversation};
use asyncore::testing::{Faults, Peer, Simulation, each_seed};
use asyncore::{Address, Channel, CloseReason, Context, Dispatcher, Family, Kind, Received, Result};

/// Answers each line with itself, and keeps a log.
struct Echo;

impl Chat<Vec<String>> for Echo {
    fn found_terminator(&mut self, cx: &mut Conversation<'_, Vec<String>>, line: &[u8]) -> Result {
        cx.app.push(String::from_utf8_lossy(line).into_owned());
        cx.push((line, b"\r\n"));
        Ok(())
    }

    fn handle_close(&mut self, cx: &mut Conversation<'_, Vec<String>>, reason: CloseReason) {
        cx.app.push(reason.to_string());
    }
}

fn at(text: &str) -> Address {
    text.parse().expect("an address")
}

fn served(seed: u64, faults: Faults) -> (Simulation<Vec<String>>, Peer) {
    let mut sim = Simulation::with_seed(seed, Vec::new()).expect("a simulation");
    sim.set_faults(faults);
    sim.map.listen("192.0.2.1:7", |_| AsyncChat::new(Echo).terminator(b"\r\n")).expect("a listener");
    let peer = sim.connect(at("192.0.2.1:7"));
    (sim, peer)
}

#[test]
fn harmless_faults_change_nothing_that_is_said() -> Result {
    each_seed(200, |seed| {
        let (mut sim, mut peer) = served(seed, Faults::harmless());
        for line in 0..20 {
            peer.send(format!("{line}\r\n"));
        }
        for line in 0..20 {
            assert_eq!(sim.expect_line(&mut peer)?, line.to_string());
        }
        peer.shutdown_write();
        sim.expect_eof(&mut peer)?;
        peer.close();
        sim.settle()?;
        assert_eq!(sim.app.last().map(String::as_str), Some("closed by the peer"));
        assert_eq!(sim.app.len(), 21);
        Ok(())
    })
}

#[test]
fn one_seed_is_one_run() -> Result {
    let run = |seed| -> Result<_> {
        let (mut sim, mut peer) = served(seed, Faults::harmless());
        for line in 0..50 {
            peer.send(format!("{line}\r\n"));
            sim.expect_line(&mut peer)?;
        }
        Ok((sim.elapsed(), sim.map.counters()))
    };
    let first = run(7)?;
    assert_eq!(first, run(7)?);
    assert_ne!(first, run(8)?);
    Ok(())
}

#[test]
fn time_passes_only_when_there_is_nothing_to_do() -> Result {
    let (mut sim, mut peer) = served(0, Faults::none());
    peer.send("one\r\n");
    sim.expect_line(&mut peer)?;
    assert_eq!(sim.elapsed(), Duration::ZERO);
    sim.advance(Duration::from_secs(3600))?;
    assert_eq!(sim.elapsed(), Duration::from_secs(3600));
    Ok(())
}

#[test]
fn a_chunk_bounds_every_read() -> Result {
    struct Sizes;
    impl Channel<Vec<usize>> for Sizes {
        fn handle_read(&mut self, cx: &mut Context<'_, Vec<usize>>) -> Result {
            if let Received::Data(data) = cx.map.recv(cx.id, 100)? {
                cx.app.push(data.len());
            }
            Ok(())
        }
    }
    let mut sim = Simulation::new(Vec::new())?;
    let (dispatcher, mut peer) = sim.pair()?;
    sim.map.add(dispatcher, Sizes)?;
    peer.set_chunk(3);
    peer.send("12345678");
    sim.settle()?;
    assert_eq!(sim.app, [3, 3, 2]);
    Ok(())
}

#[test]
fn a_peer_that_does_not_read_stops_its_writer() -> Result {
    let mut sim = Simulation::new(Vec::new())?;
    let (dispatcher, mut peer) = sim.pair()?;
    let id = sim.map.add(dispatcher, AsyncChat::new(Echo))?;
    peer.stop_reading();
    sim.map.push(id, vec![b'x'; 100_000]);
    sim.settle()?;
    assert_eq!((peer.unread(), sim.map.queued()), (65536, 100_000 - 65536));
    peer.read_some(1000);
    sim.settle()?;
    assert_eq!((peer.unread(), sim.map.queued()), (65536, 99_000 - 65536));
    peer.start_reading();
    sim.settle()?;
    assert_eq!((peer.take_received().len(), sim.map.queued()), (100_000, 0));
    Ok(())
}

#[test]
fn a_peer_that_is_not_read_has_to_wait() -> Result {
    let mut sim = Simulation::new(Vec::new())?;
    let (dispatcher, mut peer) = sim.pair()?;
    let id = sim.map.add(dispatcher, AsyncChat::new(Echo).terminator(b"\r\n"))?;
    sim.map.pause_reading(id);
    peer.send(vec![b'\n'; 70_000]);
    sim.settle()?;
    assert_eq!(peer.unsent(), 70_000 - 65536);
    sim.map.resume_reading(id);
    sim.map.close(id);
    // Closed over unread input: the system resets, and so does the simulation.
    sim.expect_reset(&mut peer)
}

#[test]
fn the_map_connects_to_a_listener_of_the_test() -> Result {
    let mut sim = Simulation::new(Vec::new())?;
    let server = sim.listen(at("192.0.2.9:80"))?;
    let id = sim.map.connect(at("192.0.2.9:80"), AsyncChat::new(Echo).terminator(b"\r\n"))?;
    let mut peer = sim.expect_accept(&server)?;
    peer.send("hello\r\n");
    sim.expect(&mut peer, "hello\r\n")?;
    assert_eq!(sim.map.get(id).and_then(Dispatcher::peer_addr), Some(at("192.0.2.9:80")));
    peer.reset();
    sim.settle()?;
    assert_eq!(sim.app, ["hello", "connection lost"]);
    Ok(())
}

#[test]
fn connects_are_refused_or_never_answered() -> Result {
    let mut sim = Simulation::new(Vec::new())?;
    let _server = sim.listen(at("192.0.2.9:80"))?;
    sim.refuse(at("192.0.2.9:80"));
    sim.black_hole(at("192.0.2.9:81"));
    for port in [79, 80] {
        sim.map.connect(at(&format!("192.0.2.9:{port}")), AsyncChat::new(Echo))?;
        sim.settle()?;
    }
    assert_eq!(sim.app, ["connection refused", "connection refused"]);
    sim.map.connect(at("192.0.2.9:81"), AsyncChat::new(Echo))?;
    sim.advance(Duration::from_secs(3600))?;
    assert_eq!((sim.app.len(), sim.map.len()), (2, 1));
    Ok(())
}

#[test]
fn a_listener_without_descriptors_waits_and_goes_on() -> Result {
    let (mut sim, first) = served(0, Faults::none());
    sim.settle()?;
    // The listener, the first connection, the reserve: the next takes the reserve's place and is refused.
    sim.set_descriptors(3);
    let mut refused = sim.connect(at("192.0.2.1:7"));
    sim.settle()?;
    assert_eq!((refused.is_eof(), sim.map.counters().refused, sim.map.len()), (true, 1, 2));
    let mut waiting = sim.connect(at("192.0.2.1:7"));
    sim.settle()?;
    assert_eq!(sim.map.len(), 2);
    drop(first);
    waiting.send("in\r\n");
    assert_eq!(sim.expect_line(&mut waiting)?, "in");
    refused.close();
    Ok(())
}

#[test]
fn a_peer_says_nothing_behind_its_end() -> Result {
    for end in [Peer::shutdown_write, Peer::close] {
        let (mut sim, mut peer) = served(0, Faults::none());
        peer.send("before\r\n");
        end(&mut peer);
        peer.send("behind\r\n");
        sim.settle()?;
        assert_eq!(sim.app.first().map(String::as_str), Some("before"));
        assert!(!sim.app.contains(&"behind".to_owned()) && peer.unsent() == 0, "{:?}", sim.app);
    }
    Ok(())
}

/// As on Linux, which has a descriptor ready before it looks.
#[test]
fn without_a_descriptor_to_spare_a_listener_pauses_also_when_nobody_waits() -> Result {
    let (mut sim, mut only) = served(0, Faults::none());
    // The listener, the reserve, one connection: it is accepted, and the look for the next one fails.
    sim.set_descriptors(3);
    only.send("in\r\n");
    assert_eq!(sim.expect_line(&mut only)?, "in");
    let counters = sim.map.counters();
    assert_eq!((counters.accepted, counters.accept_errors, counters.refused), (1, 1, 0));
    Ok(())
}

/// As on Linux.
#[test]
fn a_listener_holds_one_connection_more_than_its_backlog() -> Result {
    let mut sim = Simulation::new(Vec::new())?;
    let mut listener = sim.map.create_socket(Family::V4, Kind::Stream)?;
    listener.bind(at("192.0.2.1:7"))?;
    listener.listen(0)?;
    let id = sim.map.add(listener, AsyncChat::new(Echo))?;
    sim.map.pause_reading(id);
    let peers = [(); 3].map(|()| sim.connect(at("192.0.2.1:7")));
    sim.advance(Duration::from_millis(500))?;
    assert_eq!(peers.each_ref().map(Peer::is_connected), [true, false, false]);
    assert_eq!(sim.elapsed(), Duration::from_millis(500), "those that go on asking hold nobody up");
    Ok(())
}

#[test]
fn writes_without_memory_are_tried_again() -> Result {
    let (mut sim, mut peer) = served(0, Faults::none());
    sim.fail_writes_with_no_memory(3);
    peer.send("one\r\n");
    assert_eq!(sim.expect_line(&mut peer)?, "one");
    assert!(sim.elapsed() > Duration::ZERO);
    Ok(())
}

#[test]
fn an_urgent_byte_is_told_as_such() -> Result {
    struct Urgent;
    impl Channel<Vec<u8>> for Urgent {
        fn handle_expt(&mut self, cx: &mut Context<'_, Vec<u8>>) -> Result {
            cx.app.extend(cx.map.recv_urgent(cx.id)?);
            Ok(())
        }
    }
    let mut sim = Simulation::new(Vec::new())?;
    let (dispatcher, mut peer) = sim.pair()?;
    sim.map.add(dispatcher, Urgent)?;
    peer.send_urgent(7);
    sim.settle()?;
    assert_eq!(sim.app, [7]);
    Ok(())
}

#[test]
fn what_fell_due_between_turns_is_served_before_the_map_is_at_rest() -> Result {
    let mut sim = Simulation::new(0)?;
    sim.map.after(Duration::from_secs(1), |_map, count| *count += 1);
    sim.let_time_pass(Duration::from_secs(2));
    sim.settle()?;
    let Simulation { app, .. } = sim;
    assert_eq!(app, 1);
    Ok(())
}

#[test]
fn a_run_that_can_never_go_on_ends_with_an_error() -> Result {
    let (mut sim, peer) = served(0, Faults::none());
    let error = sim.run().expect_err("nothing happens");
    assert!(error.to_string().contains("stands still"), "{error}");
    drop(peer);
    Ok(())
}

#[test]
fn a_map_that_spins_is_told_from_one_that_works() -> Result {
    struct Spinning;
    impl Channel for Spinning {
        fn handle_read(&mut self, _cx: &mut Context<'_>) -> Result {
            Ok(())
        }
    }
    let mut sim = Simulation::new(())?;
    let (dispatcher, mut peer) = sim.pair()?;
    sim.map.add(dispatcher, Spinning)?;
    peer.send("never read");
    let error = sim.settle().expect_err("it never reads");
    assert!(error.to_string().contains("does not come to rest"), "{error}");
    Ok(())
}

#[test]
fn an_expectation_that_fails_says_what_came_instead_and_the_seed() -> Result {
    let (mut sim, mut peer) = served(5, Faults::none());
    peer.send("one\r\n");
    let error = sim.expect(&mut peer, "two\r\n").expect_err("it says one").to_string();
    assert!(error.contains("one\\r\\n") && error.contains("seed 5"), "{error}");
    let error = sim.expect_eof(&mut peer).expect_err("it stays open").to_string();
    assert!(error.contains("within 3600s"), "{error}");
    Ok(())
}

#[test]
fn real_and_simulated_sockets_do_not_mix() -> Result {
    let mut sim = Simulation::new(Vec::new())?;
    let (real, _other) = std::os::unix::net::UnixStream::pair()?;
    let refused = sim.map.add(real, AsyncChat::new(Echo)).expect_err("it is real");
    assert_eq!(refused.to_string(), "a simulated map takes simulated sockets only");

    let mut map = integration_tests::map::<Vec<String>>();
    let (simulated, _peer) = sim.pair()?;
    let refused = map.add(simulated, AsyncChat::new(Echo)).expect_err("it is simulated");
    assert_eq!(refused.to_string(), "this socket is another simulation's");
    assert!(sim.map.is_empty() && map.is_empty());
    Ok(())
}

#[test]
fn every_family_listens_and_a_port_is_found_for_0() -> Result {
    let mut sim = Simulation::new(Vec::new())?;
    let ids = sim.map.listen("[::1]:0", |_| AsyncChat::new(Echo).terminator(b"\n"))?;
    let unix = sim.map.listen_unix("/run/nowhere/echo", |_| AsyncChat::new(Echo).terminator(b"\n"))?;
    for id in [ids[0], unix] {
        let address = sim.map.get(id).and_then(|listener| listener.local_addr().ok().flatten());
        let mut peer = sim.connect(address.expect("it is bound"));
        peer.send("x\n");
        sim.expect(&mut peer, "x\r\n")?;
    }
    let taken = sim.map.listen_unix("/run/nowhere/echo", |_| AsyncChat::new(Echo));
    assert!(taken.expect_err("it is taken").to_string().contains("in use"));
    Ok(())
}
