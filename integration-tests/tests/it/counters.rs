//! What a map and its channels count.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use asynchat::{AsyncChat, Chat, Conversation};
use asyncore::testing::Simulation;
use asyncore::{
    Channel, ChannelCounters, ChannelId, CloseReason, Context, Dispatcher, Family, Kind, Limits, Map, OnFull,
    Pushed, Received, Result,
};
use bytes::Bytes;
use integration_tests::{Peer, in_time, map, run_to_the_end, turn_until};

struct Echo;

impl<A: 'static> Chat<A> for Echo {
    fn found_terminator(&mut self, cx: &mut Conversation<'_, A>, line: &[u8]) -> Result {
        cx.push((line, b"\r\n"));
        Ok(())
    }
}

struct Quiet;

impl<A: 'static> Channel<A> for Quiet {}

fn of<A>(map: &Map<A>, id: ChannelId) -> ChannelCounters {
    map.channel_counters(id).expect("a channel")
}

#[test]
fn lines_that_are_echoed_are_counted_for_the_map_and_for_each_channel() -> Result {
    let mut map = map();
    let (mut peer, here) = Peer::tcp_pair();
    let one = map.add(here, AsyncChat::new(Echo).terminator(b"\r\n"))?;
    let (mut other_peer, here) = Peer::pair();
    let other = map.add(here, AsyncChat::new(Echo).terminator(b"\r\n"))?;
    peer.send(&b"0123456789\r\n".repeat(100));
    other_peer.send(b"\r\nnot a whole line");
    turn_until(&mut map, &mut (), "the answers", |map, ()| {
        of(map, one).bytes_out == 1200 && of(map, other).bytes_out == 2 && of(map, other).bytes_in == 18
    });
    assert_eq!(peer.read_bytes(1200), b"0123456789\r\n".repeat(100));
    let (of_one, of_other, all) = (of(&map, one), of(&map, other), map.counters());
    assert_eq!((of_one.bytes_in, of_one.messages, of_one.pushes, of_one.partial_writes), (1200, 100, 100, 0));
    assert_eq!((of_other.messages, of_other.pushes), (1, 1));
    assert_eq!((all.bytes_in, all.bytes_out, all.messages, all.pushes), (1218, 1202, 101, 101));
    assert!(all.turns > 0 && all.events > 0);
    Ok(())
}

#[test]
fn a_push_is_counted_at_once_if_it_is_taken_and_however_it_is_made() -> Result {
    let mut map = map::<()>();
    let (_peer, here) = Peer::pair();
    let id = map.add(here, Quiet)?;
    let mut expected = 0;
    let mut check = |map: &Map, more: u64| {
        expected += more;
        assert_eq!((map.counters().pushes, of(map, id).pushes), (expected, expected));
    };
    check(&map, 0);
    for _ in 0..10 {
        assert_eq!(map.push(id, b"small"), Pushed::Queued);
        check(&map, 1);
    }
    map.push(id, (b"a pair", vec![0; 10_000]));
    check(&map, 1);
    map.push_with_producer(id, asynchat::BytesProducer::new("made"));
    check(&map, 1);
    assert_eq!(map.broadcast([id, id], Bytes::from_static(b"to both")), 2);
    check(&map, 2);
    map.poll(&mut (), Some(Duration::ZERO))?;
    check(&map, 0);
    map.push(id, b"one");
    map.push(id, b"another");
    check(&map, 2);
    map.discard_output(id);
    check(&map, 0);

    map.set_limits(id, limits(10));
    assert_eq!(map.push(id, b"more than ten bytes"), Pushed::Full);
    check(&map, 0);
    map.push(id, b"1");
    map.push(id, b"2");
    check(&map, 2);
    map.close(id);
    assert_eq!(map.push(id, b"late"), Pushed::Gone);
    check(&map, 0);
    map.poll(&mut (), Some(Duration::ZERO))?;
    assert_eq!((map.counters().pushes, map.channel_counters(id)), (expected, None));
    Ok(())
}

fn limits(output: usize) -> Limits {
    let mut limits = Limits::default();
    (limits.output, limits.on_full) = (output, OnFull::Refuse);
    limits
}

#[test]
fn a_channel_that_is_removed_takes_its_counts_along() -> Result {
    let mut map = map();
    let (mut peer, here) = Peer::pair();
    let id = map.add(here, AsyncChat::new(Echo).terminator(b"\r\n"))?;
    peer.send(b"one\r\ntwo\r\n");
    turn_until(&mut map, &mut (), "the answers", |map, ()| of(map, id).bytes_out == 10);
    map.push(id, b"1");
    map.push(id, b"2");
    let before = of(&map, id);
    assert_eq!((before.messages, before.pushes), (2, 4));
    let (dispatcher, handler) = map.remove(id).expect("an idle channel");
    assert_eq!(map.counters().pushes, 4);
    let mut second = Map::new()?;
    let id = second.insert(dispatcher, handler)?;
    assert_eq!(of(&second, id), before);
    assert_eq!(second.counters().pushes, 0, "the map counts what it took itself");
    Ok(())
}

#[test]
fn handle_close_can_tell_what_the_channel_has_done() -> Result {
    /// Notes what the channel that closes has counted.
    struct Noting;

    impl Channel<Vec<ChannelCounters>> for Noting {
        fn handle_read(&mut self, cx: &mut Context<'_, Vec<ChannelCounters>>) -> Result {
            if let Received::Data(data) = cx.map.recv(cx.id, 4096)? {
                cx.map.count_messages(cx.id, data.len());
                cx.map.push(cx.id, &data);
                cx.map.push(cx.id, &data);
            }
            Ok(())
        }

        fn handle_close(&mut self, cx: &mut Context<'_, Vec<ChannelCounters>>, _reason: CloseReason) {
            cx.app.extend(cx.map.channel_counters(cx.id));
        }
    }

    let mut map = map();
    let mut seen = Vec::new();
    let (mut peer, here) = Peer::pair();
    map.add(here, Noting)?;
    peer.send(b"12345");
    turn_until(&mut map, &mut seen, "the answer", |map, _| map.counters().bytes_out == 10);
    assert_eq!(peer.read_bytes(10), b"1234512345");
    drop(peer);
    run_to_the_end(&mut map, &mut seen);
    let [counters] = seen[..] else { panic!("one close: {seen:?}") };
    assert_eq!((counters.bytes_in, counters.bytes_out), (5, 10));
    assert_eq!((counters.messages, counters.pushes), (5, 2));
    Ok(())
}

#[test]
fn writes_that_a_peer_takes_in_part_or_not_at_all_are_counted() -> Result {
    let mut map = map::<()>();
    let (mut peer, here) = Peer::pair();
    let id = map.add(here, Quiet)?;
    map.push(id, b"fits");
    map.poll(&mut (), None)?;
    assert_eq!((map.counters().partial_writes, of(&map, id).partial_writes), (0, 0));
    map.set_limits(id, limits(64 << 20));
    map.push(id, vec![b'x'; 16 << 20]);
    turn_until(&mut map, &mut (), "a full socket", |map, ()| map.counters().partial_writes > 0);
    assert_eq!(of(&map, id).partial_writes, 1);
    // While the peer does not read nothing is tried.
    for _ in 0..10 {
        map.push(id, b"more");
        map.poll(&mut (), Some(Duration::ZERO))?;
    }
    assert_eq!(of(&map, id).partial_writes, 1);
    let reader = std::thread::spawn(move || peer.read_bytes((16 << 20) + 44).len());
    turn_until(&mut map, &mut (), "the rest to go", |map, ()| map.queued() == 0);
    assert_eq!(reader.join().expect("the reader"), (16 << 20) + 44);
    let counters = of(&map, id);
    assert_eq!(counters.partial_writes, map.counters().partial_writes);
    assert_eq!(counters.bytes_out, (16 << 20) + 44);
    assert_eq!(map.counters().bytes_out, counters.bytes_out);
    Ok(())
}

#[test]
fn what_is_sent_past_the_queue_is_counted() -> Result {
    let mut map = map::<()>();
    let (_peer, here) = Peer::pair();
    let id = map.add(here, Quiet)?;
    let data = vec![b'x'; 16 << 20];
    assert_eq!(map.send(id, b"fits")?, 4);
    assert_eq!(of(&map, id).partial_writes, 0);
    let sent = map.send(id, &data)? as u64;
    assert!(sent < 16 << 20);
    assert_eq!((of(&map, id).bytes_out, map.counters().bytes_out), (sent + 4, sent + 4));
    assert_eq!((of(&map, id).partial_writes, map.counters().partial_writes), (1, 1));
    assert_eq!(map.counters().pushes, 0);
    Ok(())
}

#[test]
fn datagrams_are_counted_both_ways() -> Result {
    /// Receives datagrams, each a message.
    struct Hearing;

    impl Channel for Hearing {
        fn handle_read(&mut self, cx: &mut Context<'_>) -> Result {
            if cx.map.recv_from(cx.id, 100)?.is_some() {
                cx.map.count_messages(cx.id, 1);
            }
            Ok(())
        }
    }

    let mut map = map::<()>();
    let bound = || -> Result<Dispatcher> {
        let mut socket = Dispatcher::create_socket(Family::V4, Kind::Datagram)?;
        socket.bind("127.0.0.1:0".parse::<asyncore::Address>()?)?;
        Ok(socket)
    };
    let (one, other) = (bound()?, bound()?);
    let to = other.local_addr()?.expect("an address");
    let (one, other) = (map.add(one, Quiet)?, map.add(other, Hearing)?);
    assert!(map.send_to(one, b"12345", &to)?);
    turn_until(&mut map, &mut (), "the datagram", |map, ()| of(map, other).bytes_in == 5);
    assert_eq!((of(&map, one).bytes_out, of(&map, other).messages), (5, 1));
    assert_eq!((map.counters().bytes_in, map.counters().bytes_out), (5, 5));
    Ok(())
}

#[test]
fn what_other_threads_post_is_counted_when_the_loop_comes_to_it() {
    in_time(|| -> Result {
        let mut map = map::<()>();
        let (_peer, here) = Peer::pair();
        let id = map.add(here, Quiet)?;
        let remote = map.remote();
        for _ in 0..3 {
            remote.post(|_map, ()| ())?;
        }
        remote.push(id, "pushed")?;
        // The result of work is not a post.
        map.spawn_blocking(
            id,
            || (),
            |_quiet: &mut Quiet, cx, ()| {
                cx.map.push(cx.id, "done");
                Ok(())
            },
        )?;
        assert_eq!((map.counters().posts, map.counters().pushes), (0, 0));
        turn_until(&mut map, &mut (), "both pushes", |map, ()| map.counters().bytes_out == 10);
        assert_eq!((map.counters().posts, map.counters().pushes, of(&map, id).pushes), (4, 2, 2));
        Ok(())
    })
    .expect("a run");
}

#[test]
fn messages_and_pushes_are_counted_over_pauses_errors_and_a_change_of_handler() -> Result {
    /// Fails at "bad", pauses at "wait".
    struct Moody(Rc<RefCell<Vec<u64>>>);

    impl Chat for Moody {
        fn found_terminator(&mut self, cx: &mut Conversation<'_>, line: &[u8]) -> Result {
            // Those of the read under way come with its end.
            let counted = cx.map.channel_counters(cx.id).map(|counters| counters.messages);
            self.0.borrow_mut().extend(counted);
            match line {
                b"bad" => Err("bad".into()),
                b"wait" => {
                    cx.pause_reading();
                    Ok(())
                }
                _ => Ok(()),
            }
        }

        fn handle_error(&mut self, _cx: &mut Conversation<'_>, _error: &asyncore::Error) {}
    }

    let seen = Rc::default();
    let mut sim = Simulation::new(())?;
    let (dispatcher, mut peer) = sim.pair()?;
    let id = sim.map.add(dispatcher, AsyncChat::new(Moody(Rc::clone(&seen))).terminator(b"\n"))?;
    peer.send("a\nb\nbad\nc\nwait\nd\n");
    sim.settle()?;
    assert_eq!(of(&sim.map, id).messages, 5);
    assert_eq!(*seen.borrow(), [0, 0, 0, 3, 3]);
    sim.map.resume_reading(id);
    sim.settle()?;
    assert_eq!(of(&sim.map, id).messages, 6);
    sim.map.replace(id, AsyncChat::new(Echo).terminator(b"\n"));
    peer.send("e\n");
    sim.settle()?;
    assert_eq!((of(&sim.map, id).messages, of(&sim.map, id).pushes), (7, 1));
    assert_eq!(sim.map.counters().messages, 7);
    Ok(())
}
