//! What other threads do with a map: every post runs once and in order, every wait ends, and nothing blocks.

use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, mpsc};
use std::thread;
use std::time::Duration;

use asyncore::{Channel, CloseReason, Context, Map, POST_BUDGET, PostError, Received, Remote, Result, State};
use integration_tests::{DEADLINE, Peer, in_time, map, options, settle};

/// Counts what it hears.
#[derive(Default)]
struct Quiet;

impl Channel<Vec<u32>> for Quiet {
    fn handle_shutdown(&mut self, cx: &mut Context<'_, Vec<u32>>) -> Result {
        cx.app.push(SHUTDOWN);
        cx.map.close(cx.id);
        Ok(())
    }

    fn handle_close(&mut self, cx: &mut Context<'_, Vec<u32>>, _reason: CloseReason) {
        cx.app.push(CLOSED);
    }
}

const SHUTDOWN: u32 = 1_000_000;
const CLOSED: u32 = 1_000_001;

#[test]
fn a_remote_goes_to_any_thread_whatever_the_state_is() {
    fn goes_anywhere<T: Send + Sync + Clone>(value: T) -> T {
        value
    }
    let mut map: Map<Rc<()>> = map();
    let remote = goes_anywhere(map.remote());
    remote.post(|_, state| assert_eq!(Rc::strong_count(state), 1)).unwrap();
    map.run(&mut Rc::new(())).unwrap();
}

#[test]
fn posts_run_in_the_order_in_which_they_came() {
    let mut map: Map<Vec<u32>> = map();
    let remote = map.remote();
    let other = remote.clone();
    for number in 0..1000 {
        let remote = if number % 2 == 0 { &remote } else { &other };
        remote.post(move |_, seen| seen.push(number)).unwrap();
    }
    let mut seen = Vec::new();
    map.run(&mut seen).unwrap();
    assert_eq!(seen, (0..1000).collect::<Vec<_>>());
}

#[test]
fn every_wait_is_ended_by_a_post() {
    in_time(|| {
        let mut map: Map<Vec<u32>> = map();
        let (_peer, here) = Peer::pair();
        map.add(here, Quiet).unwrap();
        let mut seen = Vec::new();
        settle(&mut map, &mut seen);
        let remote = map.remote();
        let (ran, heard) = mpsc::channel();
        let poster = thread::spawn(move || {
            for number in 0..5000 {
                let ran = ran.clone();
                remote
                    .post(move |_, seen| {
                        seen.push(number);
                        let _ = ran.send(());
                    })
                    .unwrap();
                // The next wait is only ended by the next post.
                heard.recv_timeout(DEADLINE).unwrap();
            }
            remote.stop();
        });
        map.run(&mut seen).unwrap();
        poster.join().unwrap();
        assert_eq!(seen.len(), 5000);
        assert!(map.counters().turns < 3 * 5000, "{:?}: a turn for each wake-up", map.counters());
    });
}

#[test]
fn every_post_of_many_threads_runs_exactly_once() {
    const THREADS: u32 = 8;
    const POSTS: u32 = 5000;
    in_time(|| {
        let mut options = options();
        options.posts = 100;
        let mut map: Map<Vec<Vec<u32>>> = Map::with_options(options).unwrap();
        let remote = map.remote();
        let (_peer, here) = std::os::unix::net::UnixStream::pair().unwrap();
        let id = map.add(here, Waits).unwrap();
        let left = Arc::new(AtomicUsize::new(THREADS as usize));
        for thread in 0..THREADS {
            let (remote, left) = (remote.clone(), Arc::clone(&left));
            thread::spawn(move || {
                for number in 0..POSTS {
                    let mine = move |_: &mut Map<Vec<Vec<u32>>>, seen: &mut Vec<Vec<u32>>| {
                        seen[thread as usize].push(number);
                    };
                    while remote.post(mine) == Err(PostError::Full) {
                        thread::yield_now();
                    }
                }
                if left.fetch_sub(1, Ordering::SeqCst) == 1 {
                    while remote.post(move |map, _| map.close(id)).is_err() {
                        thread::yield_now();
                    }
                }
            });
        }
        let mut seen = vec![Vec::new(); THREADS as usize];
        map.run(&mut seen).unwrap();
        for (thread, numbers) in seen.iter().enumerate() {
            assert!(numbers.iter().copied().eq(0..POSTS), "thread {thread}: {} posts", numbers.len());
        }
    });
}

struct Waits;
impl<A: 'static> Channel<A> for Waits {}

#[test]
fn a_full_queue_refuses_and_takes_more_once_it_was_served() {
    let mut options = options();
    options.posts = 2;
    options.output = 4;
    let mut map: Map<Vec<u32>> = Map::with_options(options).unwrap();
    let (mut peer, here) = Peer::pair();
    let id = map.add(here, Quiet).unwrap();
    let remote = map.remote();
    let mut seen = Vec::new();
    for round in 0..3 {
        remote.push(id, "abc").unwrap();
        assert_eq!(remote.push(id, "de"), Err(PostError::Full), "too many bytes");
        remote.post(move |_, seen| seen.push(round)).unwrap();
        assert_eq!(remote.post(|_, _| unreachable!()), Err(PostError::Full), "too many posts");
        assert_eq!(remote.push(id, ""), Err(PostError::Full), "too many posts");
        settle(&mut map, &mut seen);
        assert_eq!(peer.read_bytes(3), b"abc");
    }
    assert_eq!(seen, [0, 1, 2]);
}

#[test]
fn stop_and_shutdown_need_no_room() {
    let mut options = options();
    options.posts = 1;
    let mut map: Map<Vec<u32>> = Map::with_options(options).unwrap();
    let (_peer, here) = Peer::pair();
    map.add(here, Quiet).unwrap();
    let remote = map.remote();
    let mut seen = Vec::new();
    remote.post(|_, seen| seen.push(1)).unwrap();
    remote.stop();
    map.run(&mut seen).unwrap();
    assert_eq!(seen, [1], "it stopped after the turn in which it heard of it");

    remote.post(|_, seen| seen.push(2)).unwrap();
    remote.shutdown(Duration::from_secs(60));
    map.run(&mut seen).unwrap();
    assert_eq!(seen, [1, 2, SHUTDOWN, CLOSED]);
}

#[test]
fn a_stop_between_runs_ends_the_next_one_and_no_other() {
    let mut map: Map<Vec<u32>> = map();
    let remote = map.remote();
    remote.stop();
    map.run(&mut Vec::new()).unwrap();
    let mut seen = Vec::new();
    let (_peer, here) = Peer::pair();
    let id = map.add(here, Quiet).unwrap();
    remote.post(move |map, _| map.close(id)).unwrap();
    map.run(&mut seen).unwrap();
    assert_eq!(seen, [CLOSED]);
}

#[test]
fn the_earlier_of_two_shutdowns_counts() {
    in_time(|| {
        struct Stays;
        impl Channel<Vec<CloseReason>> for Stays {
            fn handle_shutdown(&mut self, _cx: &mut Context<'_, Vec<CloseReason>>) -> Result {
                Ok(())
            }
            fn handle_close(&mut self, cx: &mut Context<'_, Vec<CloseReason>>, reason: CloseReason) {
                cx.app.push(reason);
            }
        }
        let mut map: Map<Vec<CloseReason>> = map();
        let (_peer, here) = Peer::pair();
        map.add(here, Stays).unwrap();
        let remote = map.remote();
        remote.shutdown(Duration::ZERO);
        remote.shutdown(Duration::from_secs(3600));
        let mut seen = Vec::new();
        map.run(&mut seen).unwrap();
        assert_eq!(seen, [CloseReason::ShutDown]);
    });
}

#[test]
fn a_dropped_map_is_gone_and_drops_what_waits() {
    /// Uses the remote as it is dropped, which a lock that is held would not survive.
    struct Last(Remote<Vec<u32>>, Arc<AtomicUsize>);
    impl Drop for Last {
        fn drop(&mut self) {
            assert_eq!(self.0.post(|_, _| ()), Err(PostError::Gone));
            self.1.fetch_add(1, Ordering::SeqCst);
        }
    }
    in_time(|| {
        let map: Map<Vec<u32>> = map();
        let remote = map.remote();
        let dropped = Arc::new(AtomicUsize::new(0));
        for _ in 0..3 {
            let last = Last(remote.clone(), Arc::clone(&dropped));
            remote.post(move |_, _| panic!("{}", last.1.load(Ordering::SeqCst))).unwrap();
        }
        // It does not keep the others from being dropped.
        remote.post(|_, _| ()).unwrap();
        drop(map);
        assert_eq!(dropped.load(Ordering::SeqCst), 3);
        let late = Last(remote.clone(), Arc::clone(&dropped));
        assert_eq!(remote.post(move |_, _| drop(late)), Err(PostError::Gone));
        assert_eq!(dropped.load(Ordering::SeqCst), 4, "what is refused is dropped at once");
        assert_eq!(remote.push(any_id(), "x"), Err(PostError::Gone));
        remote.stop();
        remote.shutdown(Duration::ZERO);
    });
}

fn any_id() -> asyncore::ChannelId {
    let (_peer, here) = Peer::pair();
    map::<()>().add(here, Waits).unwrap()
}

#[test]
fn a_closure_whose_drop_panics_harms_nobody() {
    struct Bad(Arc<AtomicUsize>);
    impl Drop for Bad {
        fn drop(&mut self) {
            self.0.fetch_add(1, Ordering::SeqCst);
            panic!("dropped");
        }
    }
    let dropped = Arc::new(AtomicUsize::new(0));
    let mut map: Map<Vec<u32>> = map();
    let remote = map.remote();
    let post = || {
        let bad = Bad(Arc::clone(&dropped));
        remote.post(move |_, seen| seen.push(u32::from(bad.0.load(Ordering::SeqCst) > 100))).unwrap();
    };
    post();
    post();
    let mut seen = Vec::new();
    map.run(&mut seen).unwrap();
    assert_eq!((seen.len(), dropped.load(Ordering::SeqCst)), (2, 2));
    post();
    post();
    drop(map);
    assert_eq!(dropped.load(Ordering::SeqCst), 4);
}

#[test]
fn a_map_dropped_under_posting_threads_loses_no_closure() {
    const THREADS: usize = 4;
    /// One post, and what became of it: `run`, or else dropped uncalled.
    struct Token(Arc<AtomicUsize>);
    impl Drop for Token {
        fn drop(&mut self) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }
    in_time(|| {
        for round in 0..50 {
            let dropped = Arc::new(AtomicUsize::new(0));
            let start = Arc::new(Barrier::new(THREADS + 1));
            let mut map: Map<usize> = map();
            let posters: Vec<_> = (0..THREADS)
                .map(|_| {
                    let (remote, dropped, start) = (map.remote(), Arc::clone(&dropped), Arc::clone(&start));
                    thread::spawn(move || {
                        start.wait();
                        let mut made = 0;
                        loop {
                            let token = Token(Arc::clone(&dropped));
                            made += 1;
                            match remote.post(move |_, ran| {
                                drop(token);
                                *ran += 1;
                            }) {
                                Ok(()) => {}
                                Err(PostError::Full) => thread::yield_now(),
                                Err(_) => return made,
                            }
                        }
                    })
                })
                .collect();
            start.wait();
            let mut ran = 0;
            for _ in 0..round {
                map.poll(&mut ran, Some(Duration::ZERO)).unwrap();
            }
            drop(map);
            let made: usize = posters.into_iter().map(|poster| poster.join().unwrap()).sum();
            assert_eq!(dropped.load(Ordering::SeqCst), made, "round {round}: {ran} ran");
        }
    });
}

#[test]
fn a_panic_in_a_post_stays_there() {
    let mut map: Map<Vec<u32>> = map();
    let remote = map.remote();
    let (_peer, here) = Peer::pair();
    let id = map.add(here, Quiet).unwrap();
    remote.post(|_, seen| seen.push(1)).unwrap();
    remote.post(|_, _| panic!("in a post")).unwrap();
    remote.post(|_, seen| seen.push(2)).unwrap();
    let mut seen = Vec::new();
    settle(&mut map, &mut seen);
    assert_eq!(seen, [1, 2]);
    assert!(map.is_open(id));
}

#[test]
fn a_push_goes_to_the_channel_of_that_id_or_to_nobody() {
    let mut map: Map<Vec<u32>> = map();
    let remote = map.remote();
    let (_old_peer, here) = Peer::pair();
    let old = map.add(here, Quiet).unwrap();
    assert!(map.remove(old).is_some());
    let (mut peer, here) = Peer::pair();
    let id = map.add(here, Quiet).unwrap();
    remote.push(old, "for the one before").unwrap();
    remote.push(id, vec![b'x'; 3]).unwrap();
    remote.push(id, "y").unwrap();
    settle(&mut map, &mut Vec::new());
    assert_eq!(peer.read_bytes(4), b"xxxy");
    assert_eq!(
        map.get(id).map(|dispatcher| (dispatcher.state(), dispatcher.bytes_out())),
        Some((State::Open, 4))
    );
}

#[test]
fn a_remote_alone_does_not_keep_a_run_going() {
    in_time(|| {
        let mut map: Map<Vec<u32>> = map();
        let remote = map.remote();
        let mut seen = Vec::new();
        map.run(&mut seen).unwrap();
        assert_eq!(map.counters().turns, 0);
        remote.post(|_, seen| seen.push(1)).unwrap();
        map.run(&mut seen).unwrap();
        assert_eq!((seen, map.counters().turns), (vec![1], 1));
    });
}

#[test]
fn what_a_post_does_is_finished_in_its_turn() {
    let mut map: Map<Vec<u32>> = map();
    let remote = map.remote();
    let (mut peer, here) = Peer::pair();
    let (mut other_peer, other) = Peer::pair();
    let (id, other) = (map.add(here, Quiet).unwrap(), map.add(other, Quiet).unwrap());
    let mut seen = Vec::new();
    settle(&mut map, &mut seen);
    remote
        .post(move |map, _| {
            map.push(other, "bye");
            map.close(id);
        })
        .unwrap();
    map.poll(&mut seen, None).unwrap();
    assert_eq!(seen, [CLOSED], "it hears of its end in the same turn");
    assert_eq!(peer.read_rest(), b"");
    assert_eq!(other_peer.read_bytes(3), b"bye");
}

#[test]
fn the_loop_cannot_be_run_from_a_post() {
    let mut map: Map<Vec<u32>> = map();
    let remote = map.remote();
    remote
        .post(|map, seen| {
            assert!(map.run(&mut Vec::new()).is_err() && map.poll(&mut Vec::new(), None).is_err());
            seen.push(1);
        })
        .unwrap();
    let mut seen = Vec::new();
    map.run(&mut seen).unwrap();
    assert_eq!(seen, [1]);
}

/// Posts itself again and again.
fn restless(remote: &Remote<usize>) {
    let again = remote.clone();
    remote
        .post(move |_, turns| {
            *turns += 1;
            restless(&again);
        })
        .unwrap();
}

#[test]
fn posts_that_post_again_do_not_keep_sockets_from_being_served() {
    struct Echo;
    impl Channel<usize> for Echo {
        fn handle_read(&mut self, cx: &mut Context<'_, usize>) -> Result {
            while let Received::Data(data) = cx.map.recv(cx.id, 100)? {
                cx.map.push(cx.id, &data);
            }
            Ok(())
        }
    }
    let mut map: Map<usize> = map();
    let (mut peer, here) = Peer::pair();
    map.add(here, Echo).unwrap();
    restless(&map.remote());
    peer.send(b"still there?");
    let mut ran = 0;
    map.run_for(&mut ran, 10).unwrap();
    assert_eq!(ran, 10, "once a turn");
    assert_eq!(peer.read_bytes(12), b"still there?");
}

#[test]
fn a_turn_serves_its_budget_of_posts_and_the_next_ones_the_rest() {
    let mut map: Map<usize> = map();
    let remote = map.remote();
    for _ in 0..2 * POST_BUDGET + 1 {
        remote.post(|_, ran| *ran += 1).unwrap();
    }
    let mut ran = 0;
    let mut after_each = Vec::new();
    for _ in 0..3 {
        map.poll(&mut ran, None).unwrap();
        after_each.push(ran);
    }
    assert_eq!(after_each, [POST_BUDGET, 2 * POST_BUDGET, 2 * POST_BUDGET + 1]);
}
