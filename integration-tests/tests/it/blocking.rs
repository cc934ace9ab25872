//! Blocking work: done elsewhere, its results told in order, from the loop, to the channel that asked, or to nobody.

use std::cell::Cell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;

use asyncore::testing::Simulation;
use asyncore::{Channel, ChannelId, CloseReason, Context, Error, Map, Received, Result, SpawnError};
use integration_tests::{DEADLINE, Peer, in_time, map, options, run_to_the_end, settle, turn_until};

/// Writes down what it hears.
struct Scribe;

type Heard = Vec<String>;

impl Channel<Heard> for Scribe {
    fn handle_connect(&mut self, cx: &mut Context<'_, Heard>) -> Result {
        cx.app.push("connect".to_owned());
        Ok(())
    }

    fn handle_read(&mut self, cx: &mut Context<'_, Heard>) -> Result {
        while let Received::Data(data) = cx.map.recv(cx.id, 100)? {
            cx.app.push(format!("read {}", data.escape_ascii()));
        }
        Ok(())
    }

    fn handle_error(&mut self, cx: &mut Context<'_, Heard>, error: &Error) {
        cx.app.push(format!("error: {error}"));
        cx.map.close(cx.id);
    }

    fn handle_close(&mut self, cx: &mut Context<'_, Heard>, reason: CloseReason) {
        cx.app.push(format!("close: {reason}"));
    }
}

/// Spawns work that gives a word, which is written down.
fn spawn(map: &mut Map<Heard>, id: ChannelId, work: impl FnOnce() -> &'static str + Send + 'static) {
    map.spawn_blocking(id, work, |_: &mut Scribe, cx, word| {
        cx.app.push(word.to_owned());
        Ok(())
    })
    .unwrap();
}

/// A map with one channel that is connected and has nothing to do.
fn connected() -> (Map<Heard>, Heard, ChannelId, Peer) {
    let mut map = map();
    let (peer, here) = Peer::pair();
    let id = map.add(here, Scribe).unwrap();
    let mut heard = Vec::new();
    settle(&mut map, &mut heard);
    heard.clear();
    (map, heard, id, peer)
}

/// Waits for as many pieces to be told.
fn until(map: &mut Map<Heard>, heard: &mut Heard, count: usize) {
    turn_until(map, heard, "the results", |_, heard| heard.len() >= count);
}

/// Work that ends when the sender is dropped.
fn gate() -> (mpsc::Sender<()>, impl FnOnce() + Send + 'static) {
    let (open, opens) = mpsc::channel::<()>();
    let wait = move || {
        let _ = opens.recv_timeout(DEADLINE);
    };
    (open, wait)
}

/// Counts its drops.
struct Token(Arc<AtomicUsize>);

impl Drop for Token {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

#[test]
fn the_work_is_done_elsewhere_and_its_result_told_by_the_loop() {
    let (mut map, mut heard, id, mut peer) = connected();
    let not_to_be_sent = Rc::new(Cell::new(None));
    let told = Rc::clone(&not_to_be_sent);
    map.spawn_blocking(
        id,
        || (thread::current().id(), thread::current().name().map(str::to_owned)),
        move |_: &mut Scribe, cx, (worker, name)| {
            assert_ne!(worker, thread::current().id());
            told.set(name);
            cx.map.push(cx.id, "done");
            cx.app.push("told".to_owned());
            Ok(())
        },
    )
    .unwrap();
    assert_eq!(map.pending_work(id), 1);
    until(&mut map, &mut heard, 1);
    assert_eq!(not_to_be_sent.take().as_deref(), Some("asyncore-worker"));
    assert_eq!((peer.read_bytes(4), map.pending_work(id)), (b"done".to_vec(), 0));
}

#[test]
fn results_are_told_in_the_order_in_which_they_were_asked_for() {
    let (mut map, mut heard, id, _peer) = connected();
    let (open, first) = gate();
    let (second, second_is_done) = mpsc::channel();
    spawn(&mut map, id, || {
        first();
        "first"
    });
    spawn(&mut map, id, move || {
        second.send(()).unwrap();
        "second"
    });
    second_is_done.recv_timeout(DEADLINE).unwrap();
    settle(&mut map, &mut heard);
    assert!(heard.is_empty(), "the second waits for the first: {heard:?}");
    // Another channel does not wait for it.
    let (_other_peer, here) = Peer::pair();
    let other = map.add(here, Scribe).unwrap();
    spawn(&mut map, other, || "other");
    until(&mut map, &mut heard, 2);
    assert_eq!(heard, ["connect", "other"]);
    drop(open);
    until(&mut map, &mut heard, 4);
    assert_eq!(heard[2..], ["first", "second"]);
}

#[test]
fn a_result_that_is_there_before_its_callback_ends_waits_for_the_loop() {
    struct Impatient;
    impl Channel<Heard> for Impatient {
        fn handle_connect(&mut self, cx: &mut Context<'_, Heard>) -> Result {
            let (done, is_done) = mpsc::channel();
            cx.map.spawn_blocking(
                cx.id,
                move || done.send(()),
                |_: &mut Self, cx, _| {
                    cx.app.push("told".to_owned());
                    Ok(())
                },
            )?;
            is_done.recv_timeout(DEADLINE)?;
            cx.app.push("end of handle_connect".to_owned());
            Ok(())
        }
    }
    let mut map: Map<Heard> = map();
    let (_peer, here) = Peer::pair();
    map.add(here, Impatient).unwrap();
    let mut heard = Vec::new();
    until(&mut map, &mut heard, 2);
    assert_eq!(heard, ["end of handle_connect", "told"]);
}

#[test]
fn what_a_channel_hears_first_is_that_it_is_connected() {
    let mut map: Map<Heard> = map();
    let mut heard = Vec::new();
    let remote = map.remote();
    remote
        .post(|map, _| {
            let (_peer, here) = Peer::pair();
            let id = map.add(here, Scribe).unwrap();
            spawn(map, id, || "told");
            map.spawn_blocking(
                id,
                || (),
                |_: &mut Scribe, cx, ()| {
                    cx.map.close(cx.id);
                    Ok(())
                },
            )
            .unwrap();
        })
        .unwrap();
    map.poll(&mut heard, None).unwrap();
    run_to_the_end(&mut map, &mut heard);
    assert_eq!(heard[..2], ["connect", "told"]);
}

#[test]
fn an_error_in_what_follows_goes_to_handle_error() {
    let (mut map, mut heard, id, _peer) = connected();
    map.spawn_blocking(id, || (), |_: &mut Scribe, _, ()| Err("cannot use it".into())).unwrap();
    run_to_the_end(&mut map, &mut heard);
    assert_eq!(heard, ["error: cannot use it", "close: error in a callback"]);
}

#[test]
fn a_panic_in_what_follows_closes_the_channel() {
    let (mut map, mut heard, id, _peer) = connected();
    map.spawn_blocking(id, || (), |_: &mut Scribe, _, ()| panic!("in done")).unwrap();
    spawn(&mut map, id, || "told after the close");
    run_to_the_end(&mut map, &mut heard);
    assert_eq!(heard, ["error: panic: in done", "close: panic in a callback"]);
}

#[test]
fn a_panic_in_the_work_closes_its_channel_and_no_other() {
    let (mut map, mut heard, id, _peer) = connected();
    let (_other_peer, here) = Peer::pair();
    let other = map.add(here, Scribe).unwrap();
    spawn(&mut map, id, || panic!("in the work"));
    until(&mut map, &mut heard, 3);
    assert_eq!(heard, ["connect", "error: panic: in the work", "close: panic in a callback"]);
    spawn(&mut map, other, || "told");
    until(&mut map, &mut heard, 4);
    assert_eq!(heard[3], "told");
}

#[test]
fn the_result_of_a_channel_that_is_gone_is_dropped() {
    let (mut map, mut heard, id, _peer) = connected();
    let dropped = Arc::new(AtomicUsize::new(0));
    let (result, follows) = (Token(Arc::clone(&dropped)), Token(Arc::clone(&dropped)));
    let (open, wait) = gate();
    let work = move || {
        wait();
        result
    };
    map.spawn_blocking(id, work, move |_: &mut Scribe, _, _result| {
        drop(follows);
        unreachable!("it is gone")
    })
    .unwrap();
    map.close(id);
    settle(&mut map, &mut heard);
    assert_eq!((heard.as_slice(), map.pending_work(id)), (&["close: closed here".to_owned()][..], 0));
    assert_eq!(dropped.load(Ordering::SeqCst), 1, "what follows is dropped with the channel");
    // The next channel in the same slot gets nothing of it.
    let (_peer, here) = Peer::pair();
    let next = map.add(here, Scribe).unwrap();
    assert_eq!(next.to_string().split('.').next(), id.to_string().split('.').next());
    drop(open);
    turn_until(&mut map, &mut heard, "the result to be dropped", |_, _| dropped.load(Ordering::SeqCst) == 2);
    assert_eq!(heard[1..], ["connect"]);
    assert!(map.is_open(next));
}

#[test]
fn a_channel_that_is_removed_hears_of_no_result_also_when_it_comes_back() {
    let (mut map, mut heard, id, _peer) = connected();
    let dropped = Arc::new(AtomicUsize::new(0));
    let (result, follows) = (Token(Arc::clone(&dropped)), Token(Arc::clone(&dropped)));
    let (open, wait) = gate();
    let work = move || {
        wait();
        result
    };
    map.spawn_blocking(id, work, move |_: &mut Scribe, _, _result| {
        drop(follows);
        unreachable!("it was removed")
    })
    .unwrap();
    let (dispatcher, handler) = map.remove(id).unwrap();
    map.insert(dispatcher, handler).unwrap();
    drop(open);
    turn_until(&mut map, &mut heard, "the result to be dropped", |_, _| dropped.load(Ordering::SeqCst) == 2);
    assert_eq!(heard, ["connect"]);
}

#[test]
fn a_result_whose_drop_panics_harms_nobody() {
    struct Bad;
    impl Drop for Bad {
        fn drop(&mut self) {
            panic!("in a drop");
        }
    }
    let (mut map, mut heard, id, _peer) = connected();
    let (_other_peer, here) = Peer::pair();
    let other = map.add(here, Scribe).unwrap();
    let (open, wait) = gate();
    let work = move || {
        wait();
        Bad
    };
    let follows = Bad;
    map.spawn_blocking(id, work, move |_: &mut Scribe, _, _result| {
        let _follows = &follows;
        Ok(())
    })
    .unwrap();
    map.close(id);
    settle(&mut map, &mut heard);
    drop(open);
    spawn(&mut map, other, || "still there");
    until(&mut map, &mut heard, 3);
    assert_eq!(heard, ["connect", "close: closed here", "still there"]);
}

#[test]
fn work_for_nobody_is_refused() {
    struct Other;
    impl Channel<Heard> for Other {}
    let (mut map, mut heard, id, _peer) = connected();
    let refused = map.spawn_blocking(id, || (), |_: &mut Other, _, ()| Ok(()));
    assert_eq!(refused, Err(SpawnError::Gone), "of another type");
    map.close(id);
    assert_eq!(map.spawn_blocking(id, || (), |_: &mut Scribe, _, ()| Ok(())), Err(SpawnError::Gone));
    settle(&mut map, &mut heard);
    assert_eq!(map.spawn_blocking(id, || (), |_: &mut Scribe, _, ()| Ok(())), Err(SpawnError::Gone));
}

#[test]
fn no_more_is_under_way_than_may_be_held_results_among_it() {
    let mut options = options();
    options.jobs = 2;
    let mut map: Map<Heard> = Map::with_options(options).unwrap();
    let (_peer, here) = Peer::pair();
    let id = map.add(here, Scribe).unwrap();
    let mut heard = Vec::new();
    let (open, wait) = gate();
    spawn(&mut map, id, || {
        wait();
        "first"
    });
    let (done, is_done) = mpsc::channel();
    spawn(&mut map, id, move || {
        done.send(()).unwrap();
        "second"
    });
    is_done.recv_timeout(DEADLINE).unwrap();
    settle(&mut map, &mut heard);
    let full = |map: &mut Map<Heard>| map.spawn_blocking(id, || (), |_: &mut Scribe, _, ()| Ok(()));
    assert_eq!(full(&mut map), Err(SpawnError::Full));
    drop(open);
    until(&mut map, &mut heard, 3);
    assert_eq!(
        (heard.as_slice(), full(&mut map)),
        (&["connect", "first", "second"].map(str::to_owned)[..], Ok(()))
    );

    // What a closed channel left behind counts until it has ended.
    map.close(id);
    run_to_the_end(&mut map, &mut heard);
    let (_peer, here) = Peer::pair();
    let id = map.add(here, Scribe).unwrap();
    let mut taken = 0;
    turn_until(&mut map, &mut heard, "room for more", |map, _| {
        taken += usize::from(map.spawn_blocking(id, || (), |_: &mut Scribe, _, ()| Ok(())).is_ok());
        taken == 10
    });
}

#[test]
fn no_more_threads_work_than_may() {
    static AT_ONCE: AtomicUsize = AtomicUsize::new(0);
    static MOST: AtomicUsize = AtomicUsize::new(0);
    let mut options = options();
    options.workers = 3;
    let mut map: Map<Heard> = Map::with_options(options).unwrap();
    let (_peer, here) = Peer::pair();
    let id = map.add(here, Scribe).unwrap();
    for _ in 0..100 {
        spawn(&mut map, id, || {
            MOST.fetch_max(AT_ONCE.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            thread::yield_now();
            AT_ONCE.fetch_sub(1, Ordering::SeqCst);
            "done"
        });
    }
    until(&mut map, &mut Vec::new(), 101);
    assert!(MOST.load(Ordering::SeqCst) <= 3);
}

#[test]
fn many_pieces_of_many_channels_are_each_told_once_and_in_order() {
    struct Counts(u32);
    impl Channel<u32> for Counts {}
    const CHANNELS: usize = 50;
    const PIECES: u32 = 60;
    in_time(|| {
        let mut map: Map<u32> = map();
        let mut told = 0;
        let channels: Vec<_> = (0..CHANNELS)
            .map(|_| {
                let (peer, here) = Peer::pair();
                (map.add(here, Counts(0)).unwrap(), peer)
            })
            .collect();
        for piece in 0..PIECES {
            for (id, _) in &channels {
                map.spawn_blocking(
                    *id,
                    move || piece,
                    |counts: &mut Counts, cx, piece| {
                        assert_eq!(counts.0, piece);
                        counts.0 += 1;
                        *cx.app += 1;
                        if counts.0 == PIECES {
                            cx.map.close(cx.id);
                        }
                        Ok(())
                    },
                )
                .unwrap();
            }
        }
        map.run(&mut told).unwrap();
        assert_eq!(told, PIECES * u32::try_from(CHANNELS).unwrap());
    });
}

#[test]
fn a_peer_that_ends_its_side_still_gets_the_answer() {
    let (mut map, mut heard, id, mut peer) = connected();
    let (open, wait) = gate();
    map.spawn_blocking(id, wait, |_: &mut Scribe, cx, ()| {
        cx.map.push(cx.id, "the answer");
        Ok(())
    })
    .unwrap();
    peer.shutdown_write();
    settle(&mut map, &mut heard);
    assert!(map.is_open(id), "it owes an answer");
    drop(open);
    run_to_the_end(&mut map, &mut heard);
    assert_eq!(peer.read_rest(), b"the answer");
    assert_eq!(heard, ["close: closed by the peer"]);
}

#[test]
fn a_channel_that_closes_when_answered_takes_no_more_input_and_every_answer() {
    let (mut map, mut heard, id, mut peer) = connected();
    let (open, wait) = gate();
    map.spawn_blocking(id, wait, |_: &mut Scribe, cx, ()| {
        cx.map.push(cx.id, "one ");
        let work = |map: &mut Map<Heard>| {
            map.spawn_blocking(
                cx.id,
                || "two",
                |_: &mut Scribe, cx, two| {
                    cx.map.push(cx.id, two);
                    Ok(())
                },
            )
        };
        Ok(work(cx.map)?)
    })
    .unwrap();
    map.close_when_answered(id);
    peer.send(b"one more thing");
    settle(&mut map, &mut heard);
    map.resume_reading(id);
    settle(&mut map, &mut heard);
    assert!(!map.is_reading(id) && heard.is_empty(), "{heard:?}");
    drop(open);
    peer.shutdown_write();
    run_to_the_end(&mut map, &mut heard);
    assert_eq!(peer.read_rest(), b"one two");
    assert_eq!(heard, ["close: closed here"]);
}

#[test]
fn a_channel_that_is_removed_while_it_owes_an_answer_goes_on_ending() {
    let (mut map, mut heard, id, mut peer) = connected();
    let (_open, wait) = gate();
    map.spawn_blocking(id, wait, |_: &mut Scribe, _, ()| unreachable!("it was removed")).unwrap();
    map.push(id, "bye");
    peer.shutdown_write();
    settle(&mut map, &mut heard);
    let (dispatcher, handler) = map.remove(id).unwrap();
    map.insert(dispatcher, handler).unwrap();
    run_to_the_end(&mut map, &mut heard);
    assert_eq!(peer.read_rest(), b"bye");
}

#[test]
fn a_connecting_channel_that_is_removed_while_it_owes_an_answer_closes_when_connected() -> Result {
    let mut sim = Simulation::new(Heard::new())?;
    let at = SocketAddr::from(([192, 0, 2, 9], 80));
    let server = sim.listen(at)?;
    let id = sim.map.connect(at, Scribe)?;
    sim.map.push(id, b"question");
    sim.map.spawn_blocking(id, || (), |_: &mut Scribe, _, ()| Ok(()))?;
    sim.map.close_when_answered(id);
    let (dispatcher, handler) = sim.map.remove(id).ok_or("it is there")?;
    sim.map.insert(dispatcher, handler)?;
    let mut peer = sim.expect_accept(&server)?;
    sim.expect(&mut peer, b"question")?;
    sim.expect_eof(&mut peer)
}

#[test]
fn without_work_under_way_it_closes_when_done() {
    let (mut map, mut heard, id, mut peer) = connected();
    map.push(id, "bye");
    map.close_when_answered(id);
    peer.shutdown_write();
    run_to_the_end(&mut map, &mut heard);
    assert_eq!(peer.read_rest(), b"bye");
}

#[test]
fn a_dropped_map_waits_for_nobody() {
    in_time(|| {
        let mut options = options();
        options.workers = 1;
        let mut map: Map<Heard> = Map::with_options(options).unwrap();
        let (_peer, here) = Peer::pair();
        let id = map.add(here, Scribe).unwrap();
        let dropped = Arc::new(AtomicUsize::new(0));
        let (began, has_begun) = mpsc::channel();
        let (open, wait) = gate();
        let result = Token(Arc::clone(&dropped));
        let running = move || {
            began.send(()).unwrap();
            wait();
            result
        };
        map.spawn_blocking(id, running, |_: &mut Scribe, _, _| unreachable!("the map is gone")).unwrap();
        has_begun.recv_timeout(DEADLINE).unwrap();
        let (waits, follows) = (Token(Arc::clone(&dropped)), Token(Arc::clone(&dropped)));
        let waiting = move || drop(waits);
        map.spawn_blocking(id, waiting, move |_: &mut Scribe, _, ()| {
            drop(follows);
            unreachable!("the map is gone")
        })
        .unwrap();
        drop(map);
        assert_eq!(dropped.load(Ordering::SeqCst), 2, "what waits, and what would follow it");
        drop(open);
        while dropped.load(Ordering::SeqCst) < 3 {
            thread::yield_now();
        }
    });
}

#[test]
fn a_run_that_is_not_shut_down_does_not_wait_for_work() {
    in_time(|| {
        let (mut map, mut heard, id, _peer) = connected();
        let (_open, wait) = gate();
        map.spawn_blocking(id, wait, |_: &mut Scribe, _, ()| unreachable!("it is closed")).unwrap();
        map.close(id);
        map.run(&mut heard).unwrap();
        assert_eq!(heard, ["close: closed here"]);
    });
}
