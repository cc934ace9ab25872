//! A map inside another loop: how long that may wait, and the descriptor that it watches.

use std::time::{Duration, Instant};

use asyncore::testing::Simulation;
use asyncore::{Channel, Context, Map, Received, Result, Timeout};
use integration_tests::{Peer, map};

const SECOND: Duration = Duration::from_secs(1);

/// Sends back what it reads.
struct Echo;

impl<A: 'static> Channel<A> for Echo {
    fn handle_read(&mut self, cx: &mut Context<'_, A>) -> Result {
        while let Received::Data(data) = cx.map.recv(cx.id, 4096)? {
            cx.map.push(cx.id, &data);
        }
        Ok(())
    }
}

/// A turn that does not wait.
fn turn<A: 'static>(map: &mut Map<A>, app: &mut A) {
    map.poll(app, Some(Duration::ZERO)).expect("a turn");
}

#[test]
fn the_next_deadline_is_that_of_whatever_comes_first() -> Result {
    let mut sim = Simulation::new(())?;
    let clock = sim.clock();
    let began = sim.map.next_deadline();
    assert_eq!(began, None, "nothing is in the map");
    // What the clock says, a timer that is due tells.
    let timer = sim.map.after(Duration::ZERO, |_map, ()| ());
    let began = sim.map.next_deadline().expect("a deadline");
    assert!(sim.map.cancel_timer(timer));

    let hour = sim.map.after(SECOND * 3600, |_map, ()| ());
    assert_eq!(sim.map.next_deadline(), Some(began + SECOND * 3600));
    let (dispatcher, _peer) = sim.pair()?;
    let id = sim.map.add(dispatcher, Echo)?;
    assert_eq!(sim.map.next_deadline(), Some(began), "handle_connect is due");
    turn(&mut sim.map, &mut sim.app);
    sim.map.set_timeout(id, Timeout::Idle, Some(SECOND * 60));
    assert_eq!(sim.map.next_deadline(), Some(began + SECOND * 60));
    sim.map.push(id, "x");
    assert_eq!(sim.map.next_deadline(), Some(began), "there is output");
    turn(&mut sim.map, &mut sim.app);
    assert_eq!(sim.map.next_deadline(), Some(began + SECOND * 60));
    clock.pass(SECOND * 61);
    assert_eq!(sim.map.next_deadline(), Some(began + SECOND * 60), "a time that has passed");
    turn(&mut sim.map, &mut sim.app);
    assert!(!sim.map.is_open(id), "it was idle");
    turn(&mut sim.map, &mut sim.app);
    assert_eq!(sim.map.next_deadline(), Some(began + SECOND * 3600));
    assert!(sim.map.cancel_timer(hour));
    assert_eq!(sim.map.next_deadline(), None);
    Ok(())
}

#[test]
fn a_host_has_work_for_as_long_as_a_run_would_go_on() -> Result {
    let mut map: Map = map();
    assert!(!map.has_work());
    let (_other, here) = Peer::pair();
    let background = map.add(here, Echo)?;
    map.set_background(background);
    assert!(!map.has_work());
    map.remote().post(|_map, ()| ())?;
    assert!(map.has_work());
    turn(&mut map, &mut ());
    assert!(!map.has_work());
    let (_peer, here) = Peer::pair();
    let id = map.add(here, Echo)?;
    assert!(map.has_work());
    map.close(id);
    assert!(map.has_work(), "its handle_close is due");
    turn(&mut map, &mut ());
    assert!(!map.has_work());
    Ok(())
}

#[test]
fn in_a_callback_the_next_deadline_is_now_and_nothing_is_disturbed() -> Result {
    /// Asks in the middle of its own callback.
    struct Asking;

    impl Channel<Vec<Duration>> for Asking {
        fn handle_read(&mut self, cx: &mut Context<'_, Vec<Duration>>) -> Result {
            let asked = Instant::now();
            let at = cx.map.next_deadline().ok_or("now")?;
            cx.app
                .push(at.saturating_duration_since(Instant::now()).max(asked.saturating_duration_since(at)));
            if let Received::Data(data) = cx.map.recv(cx.id, 1)? {
                cx.map.push(cx.id, &data);
            }
            Ok(())
        }
    }

    let mut map = map();
    let (mut peer, here) = Peer::pair();
    map.add(here, Asking)?;
    peer.send(b"abc");
    let mut off = Vec::new();
    integration_tests::turn_until(&mut map, &mut off, "all three", |map, _| map.counters().bytes_out == 3);
    assert_eq!(peer.read_bytes(3), b"abc");
    assert_eq!(off, [Duration::ZERO; 3]);
    Ok(())
}

/// What needs the descriptor, which the poller has on the usual systems.
#[cfg(not(polling_test_poll_backend))]
mod descriptor {
    use std::os::fd::{AsFd, AsRawFd};
    use std::thread;

    use asyncore::{Options, Wait};
    use integration_tests::DEADLINE;
    use rustix::event::{PollFd, PollFlags, Timespec, poll};

    use super::*;

    /// Whether the map's descriptor becomes ready within a time.
    fn is_ready<A>(map: &Map<A>, wait: Duration) -> bool {
        let wait = Timespec::try_from(wait).expect("a short time");
        loop {
            match poll(&mut [PollFd::new(map, PollFlags::IN)], Some(&wait)) {
                Err(rustix::io::Errno::INTR) => {}
                ready => return ready.expect("a wait") > 0,
            }
        }
    }

    /// One round of a host: waits as long as it may, and serves a turn.
    fn host<A: 'static>(map: &mut Map<A>, app: &mut A) {
        let wait = map.next_deadline().map_or(DEADLINE, |at| at.saturating_duration_since(Instant::now()));
        let ready = is_ready(map, wait);
        assert!(
            ready || map.next_deadline().is_some_and(|at| at <= Instant::now()),
            "nothing happened: {map:?}"
        );
        turn(map, app);
    }

    /// Runs a test with each way to wait.
    fn each_wait(test: impl Fn(Map<u64>) -> Result) -> Result {
        for wait in [Wait::Direct, Wait::Portable] {
            println!("{wait:?}");
            let mut options = Options::default();
            options.wait = wait;
            test(Map::with_options(options)?)?;
        }
        Ok(())
    }

    #[test]
    fn it_is_ready_while_there_is_an_event_and_only_then() -> Result {
        each_wait(|mut map| {
            let (mut peer, here) = Peer::pair();
            let id = map.add(here, Echo)?;
            turn(&mut map, &mut 0);
            assert!(map.next_deadline().is_none() && !is_ready(&map, Duration::ZERO));
            peer.send(b"x");
            assert!(is_ready(&map, DEADLINE) && is_ready(&map, Duration::ZERO), "it stays so");
            while map.get(id).is_some_and(|channel| channel.bytes_out() == 0) {
                turn(&mut map, &mut 0);
            }
            assert_eq!(peer.read_bytes(1), b"x");
            assert!(map.next_deadline().is_none() && !is_ready(&map, Duration::ZERO));
            assert_eq!(map.as_fd().as_raw_fd(), map.as_raw_fd());
            Ok(())
        })
    }

    #[test]
    fn a_post_makes_it_ready_from_when_the_host_has_asked_how_long_it_may_wait() -> Result {
        each_wait(|mut map| {
            let remote = map.remote();
            let mut count = 0;
            for _ in 0..3 {
                assert!(map.next_deadline().is_none() && !is_ready(&map, Duration::ZERO));
                remote.post(|_map, count| *count += 1)?;
                assert!(is_ready(&map, DEADLINE));
                turn(&mut map, &mut count);
                // Before it is asked, who posts need not make it ready: the answer is now.
                remote.post(|_map, count| *count += 1)?;
                assert!(map.next_deadline().is_some_and(|at| at <= Instant::now()));
                turn(&mut map, &mut count);
            }
            assert_eq!(count, 6);
            Ok(())
        })
    }

    #[test]
    fn what_is_touched_between_turns_is_waited_for_once_the_host_has_asked() -> Result {
        each_wait(|mut map| {
            let (mut peer, here) = Peer::pair();
            let id = map.add(here, Echo)?;
            turn(&mut map, &mut 0);
            map.pause_reading(id);
            peer.send(b"x");
            assert!(map.next_deadline().is_none() && !is_ready(&map, Duration::ZERO));
            map.resume_reading(id);
            assert!(map.next_deadline().is_some_and(|at| at <= Instant::now()), "it is asked to read");
            turn(&mut map, &mut 0);
            turn(&mut map, &mut 0);
            assert_eq!(peer.read_bytes(1), b"x");
            Ok(())
        })
    }

    #[test]
    fn a_host_serves_peers_timers_and_the_posts_of_several_threads_and_misses_none() -> Result {
        const THREADS: u64 = 4;
        const POSTS: u64 = 500;
        each_wait(|mut map| {
            let [listener] = map.listen("127.0.0.1:0", |_peer| Echo)?[..] else { panic!("one address") };
            let at =
                map.get(listener).and_then(|socket| socket.local_addr().ok().flatten()).expect("an address");
            let mut ticks = 0;
            map.every(Duration::from_millis(1), |_map, count| *count += 1_000_000);
            let others: Vec<_> = (0..THREADS)
                .map(|_| {
                    let (remote, at) = (map.remote(), at.clone());
                    thread::spawn(move || {
                        let mut peer = Peer::connect(&at);
                        for round in 0..POSTS {
                            // Each is heard before the next: one that wakes nobody would never be.
                            remote.post(|_map, count| *count += 1).expect("a map");
                            if round % 10 == 0 {
                                peer.send(b"hello");
                                assert_eq!(peer.read_bytes(5), b"hello");
                            }
                        }
                    })
                })
                .collect();
            while ticks % 1_000_000 < THREADS * POSTS || ticks < 5_000_000 {
                host(&mut map, &mut ticks);
            }
            for other in others {
                other.join().expect("a thread");
            }
            assert_eq!(ticks % 1_000_000, THREADS * POSTS);
            map.shutdown(SECOND);
            while map.has_work() {
                host(&mut map, &mut ticks);
            }
            Ok(())
        })
    }

    #[test]
    fn a_host_that_is_told_of_changes_alone_serves_turns_until_one_brings_no_event() -> Result {
        use rustix::event::epoll::{CreateFlags, EventData, EventFlags, add, create, wait};

        each_wait(|mut map| {
            let mut peers = Vec::new();
            for _ in 0..20 {
                let (peer, here) = Peer::pair();
                map.add(here, Echo)?;
                peers.push(peer);
            }
            let outer = create(CreateFlags::CLOEXEC)?;
            add(&outer, &map, EventData::new_u64(0), EventFlags::IN | EventFlags::ET)?;
            for round in 0u64..50 {
                for peer in &mut peers {
                    peer.send(b"hello");
                }
                let goal = (round + 1) * 20 * 5;
                while map.counters().bytes_out < goal {
                    if map.next_deadline().is_none() {
                        let mut told = Vec::with_capacity(8);
                        let limit = Timespec::try_from(DEADLINE)?;
                        wait(&outer, rustix::buffer::spare_capacity(&mut told), Some(&limit))?;
                        assert!(!told.is_empty(), "not told: {map:?}");
                    }
                    loop {
                        let before = map.counters().events;
                        turn(&mut map, &mut 0);
                        if map.counters().events == before {
                            break;
                        }
                    }
                }
                for peer in &mut peers {
                    assert_eq!(peer.read_bytes(5), b"hello");
                }
            }
            Ok(())
        })
    }

    #[test]
    fn that_of_a_simulated_map_is_never_ready() -> Result {
        let mut sim = Simulation::new(())?;
        let (dispatcher, mut peer) = sim.pair()?;
        sim.map.add(dispatcher, Echo)?;
        peer.send("x");
        assert!(!is_ready(&sim.map, Duration::ZERO));
        sim.settle()?;
        assert!(!is_ready(&sim.map, Duration::ZERO));
        assert_eq!(peer.received(), b"x");
        Ok(())
    }
}
