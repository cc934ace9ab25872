//! The output side of a conversation: the sizes of reads and writes, producers, and how they end.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io;
use std::rc::Rc;

use asynchat::{
    AsyncChat, BytesProducer, Collected, Conversation, IterProducer, LinesProducer, ReadProducer,
};
use asyncore::{Limits, Producer, Pushed, Result};
use bytes::Bytes;
use integration_tests::{Log, Peer, run_to_the_end, settle, turn_until};

use crate::scripted::{Scripted, converse, send_pieces};

#[test]
fn a_read_takes_no_more_than_ac_in_buffer_size() {
    for size in [1, 2, 3, 7] {
        let sizes = Rc::new(RefCell::new(Vec::new()));
        let seen = Rc::clone(&sizes);
        let chat = Scripted::new(&Log::new()).on_piece(move |_, data| {
            seen.borrow_mut().push(data.len());
            Ok(Collected::Kept)
        });
        let (mut map, mut peer, id) = converse(AsyncChat::new(chat).ac_in_buffer_size(size));
        map.run_for(&mut (), 1).unwrap();
        let before = map.counters().turns;
        peer.send(&[b'x'; 23]);
        turn_until(&mut map, &mut (), "the input", |map, ()| map.get(id).unwrap().bytes_in() == 23);
        let size = size as usize;
        let mut expected = vec![size; 23 / size];
        expected.extend((23 % size != 0).then_some(23 % size));
        assert_eq!(*sizes.borrow(), expected);
        assert_eq!(map.counters().turns, before + 1, "one turn reads several times");
    }
}

#[test]
fn messages_are_whole_whatever_the_size_of_a_read() {
    for size in 1..=6 {
        let log = Log::new();
        let chat = AsyncChat::new(Scripted::new(&log)).terminator(b"\r\n").ac_in_buffer_size(size);
        let (mut map, mut peer, id) = converse(chat);
        send_pieces(&mut map, id, &mut peer, ["one\r\n\r\ntwo\r\nthr"]);
        drop(peer);
        run_to_the_end(&mut map, &mut ());
        assert_eq!(log.lines(), ["connect", "found one", "found ", "found two", "eof thr", "close Eof"]);
    }
}

#[test]
fn a_write_takes_no_more_than_ac_out_buffer_size() {
    for size in [1, 2, 3, 7] {
        let chat = Scripted::new(&Log::new()).on_connect(|cx| {
            cx.push("0123456789");
            cx.push_with_producer(BytesProducer::new("abcdefghij"));
            cx.push(Bytes::from_static(b"end"));
            Ok(())
        });
        let (mut map, mut peer, id) = converse(AsyncChat::new(chat).ac_out_buffer_size(size));
        let mut sent = 0;
        while sent < 23 {
            // One write a turn.
            map.run_for(&mut (), 1).unwrap();
            let now = map.get(id).unwrap().bytes_out();
            let most = u64::from(size).min(23 - sent);
            assert!(now > sent && now - sent <= most, "{now} after {sent} by {size}");
            sent = now;
        }
        assert_eq!(peer.read_bytes(23), b"0123456789abcdefghijend");
    }
}

/// Runs a chat that pushes what `push` says when it is connected and then closes when done: what arrives.
fn arrives(push: impl FnMut(&mut Conversation<'_>) -> Result + 'static) -> (Vec<u8>, Vec<String>) {
    let log = Log::new();
    let (mut map, mut peer, _) = converse(AsyncChat::new(Scripted::new(&log).on_connect(push)));
    peer.shutdown_write();
    let reader = std::thread::spawn(move || peer.read_rest());
    run_to_the_end(&mut map, &mut ());
    assert_eq!(map.queued(), 0);
    (reader.join().unwrap(), log.lines())
}

#[test]
fn each_ready_made_producer_sends_all_and_then_the_channel_closes() {
    let large: Bytes = (0..300_000_u32).flat_map(u32::to_be_bytes).collect::<Vec<_>>().into();
    let file = large.clone();
    let (arrived, lines) = arrives(move |cx| {
        cx.push("<");
        cx.push_with_producer(BytesProducer::new(large.clone()));
        cx.push_with_producer(IterProducer::new((0..1000).map(|number| format!("{number},"))));
        cx.push_with_producer(LinesProducer::new(["one", "", "three"]));
        cx.push_with_producer(ReadProducer::new(io::Cursor::new(large.clone())));
        cx.push_with_producer(ReadProducer::exactly(io::repeat(b'r'), 100_000));
        cx.push(">");
        cx.close_when_done();
        assert_eq!(cx.push("refused"), Pushed::Closing);
        assert_eq!(cx.push_with_producer(BytesProducer::new("refused")), Pushed::Closing);
        Ok(())
    });
    let numbers: String = (0..1000).map(|number| format!("{number},")).collect();
    let expected =
        [&b"<"[..], &file, numbers.as_bytes(), b"one\r\n\r\nthree\r\n", &file, &[b'r'; 100_000], b">"]
            .concat();
    assert!(arrived == expected, "{} of {} bytes", arrived.len(), expected.len());
    assert_eq!(lines, ["connect", "close Local"]);
}

#[test]
fn a_producer_is_asked_for_no_more_than_a_write_at_a_time() {
    let made = Rc::new(Cell::new(0));
    let sum = Rc::clone(&made);
    let endless = IterProducer::new(std::iter::repeat_with(move || {
        sum.set(sum.get() + 1000);
        Bytes::from_static(&[b'x'; 1000])
    }));
    let (mut map, peer, id) = converse(AsyncChat::new(Scripted::new(&Log::new())));
    map.push_with_producer(id, endless);
    settle(&mut map, &mut ());
    let sent = usize::try_from(map.get(id).unwrap().bytes_out()).unwrap();
    assert!(sent > 0, "the socket took something");
    assert!(made.get() - sent <= 65536 + 1000, "{} made, {sent} sent", made.get());
    assert_eq!(map.queued(), made.get() - sent);
    drop(peer);
    run_to_the_end(&mut map, &mut ());
    assert_eq!(map.queued(), 0);
}

/// Gives its pieces, and then does as `end` says.
struct Pieces(VecDeque<&'static str>, fn() -> Result<Option<Bytes>>);

impl Producer for Pieces {
    fn more(&mut self, _most: usize) -> Result<Option<Bytes>> {
        match self.0.pop_front() {
            Some(piece) => Ok(Some(piece.into())),
            None => (self.1)(),
        }
    }
}

/// Two conversations in one map, of which the first pushes a producer that ends so: what each logged.
fn beside_a_producer(end: fn() -> Result<Option<Bytes>>) -> (Vec<String>, Vec<String>) {
    let (log, neighbour) = (Log::new(), Log::new());
    let chat = Scripted::new(&log).on_connect(move |cx| {
        cx.push_with_producer(Pieces(["a", "b"].into(), end));
        cx.push("behind");
        Ok(())
    });
    let (mut map, mut peer, _) = converse(AsyncChat::new(chat));
    let (mut other, here) = Peer::pair();
    let echo = Scripted::new(&neighbour).on_found(|cx, line| {
        cx.push(line);
        Ok(())
    });
    let other_id = map.add(here, AsyncChat::new(echo).terminator(b"\n")).unwrap();
    settle(&mut map, &mut ());
    send_pieces(&mut map, other_id, &mut other, ["still served\n"]);
    settle(&mut map, &mut ());
    assert_eq!(other.read_bytes(12), b"still served");
    drop(other);
    run_to_the_end(&mut map, &mut ());
    let arrived = peer.read_rest();
    assert!(b"ab".starts_with(&arrived[..]), "{}", arrived.escape_ascii());
    (log.lines(), neighbour.lines())
}

#[test]
fn a_producer_that_fails_closes_its_own_channel_only() {
    let (lines, neighbour) = beside_a_producer(|| Err("no more".into()));
    assert_eq!(lines, ["connect", "error no more", "close HandlerError"]);
    assert_eq!(neighbour, ["connect", "found still served", "eof ", "close Eof"]);
}

#[test]
fn a_producer_that_panics_closes_its_own_channel_only() {
    let (lines, neighbour) = beside_a_producer(|| panic!("a producer's panic"));
    assert_eq!(lines, ["connect", "error panic: a producer's panic", "close HandlerPanic"]);
    assert_eq!(neighbour, ["connect", "found still served", "eof ", "close Eof"]);
}

/// Has nothing until someone fills it, and ends when it is closed.
#[derive(Clone, Default)]
struct Tap(Rc<RefCell<VecDeque<Option<Bytes>>>>, Rc<Cell<u32>>);

impl Producer for Tap {
    fn more(&mut self, _most: usize) -> Result<Option<Bytes>> {
        self.1.set(self.1.get() + 1);
        Ok(self.0.borrow_mut().pop_front().unwrap_or_else(|| Some(Bytes::new())))
    }
}

#[test]
fn a_producer_with_nothing_yet_goes_on_after_a_touch() {
    let tap = Tap::default();
    let (mut map, mut peer, id) = converse(AsyncChat::new(Scripted::new(&Log::new())));
    map.push(id, "(");
    map.push_with_producer(id, tap.clone());
    map.push(id, ")");
    settle(&mut map, &mut ());
    let asked = tap.1.get();
    settle(&mut map, &mut ());
    assert_eq!(tap.1.get(), asked, "a producer with nothing yet is left alone");

    tap.0.borrow_mut().push_back(Some("late".into()));
    map.touch(id);
    settle(&mut map, &mut ());
    assert_eq!(peer.read_bytes(5), b"(late");
    tap.0.borrow_mut().push_back(None);
    map.close_when_done(id);
    peer.shutdown_write();
    run_to_the_end(&mut map, &mut ());
    assert_eq!(peer.read_rest(), b")");
}

#[test]
fn a_discard_frees_the_channel_for_what_is_pushed_next() {
    let log = Log::new();
    let (mut map, mut peer, id) = converse(AsyncChat::new(Scripted::new(&log)));
    let mut limits = Limits::default();
    limits.output = 8 << 20;
    map.set_limits(id, limits);
    map.push(id, vec![b'x'; 4 << 20]);
    settle(&mut map, &mut ());
    let sent = map.get(id).unwrap().bytes_out();
    assert_eq!(map.discard_output(id) as u64, (4 << 20) - sent);
    assert_eq!(map.queued(), 0);
    map.push(id, "next");
    let reader = std::thread::spawn(move || peer.read_rest());
    turn_until(&mut map, &mut (), "the rest", |map, ()| map.get(id).unwrap().queued() == 0);
    map.close(id);
    run_to_the_end(&mut map, &mut ());
    let arrived = reader.join().unwrap();
    assert_eq!(arrived.len() as u64, sent + 4);
    assert!(arrived.ends_with(b"xnext"));
    assert_eq!(log.count("drained"), 1, "the discard has brought it below the low mark");
}

#[test]
fn handle_drained_comes_once_each_time_the_output_falls_to_the_low_mark() {
    let log = Log::new();
    let (mut map, mut peer, id) = converse(AsyncChat::new(Scripted::new(&log)).ac_out_buffer_size(1));
    map.run_for(&mut (), 1).unwrap();
    let mut limits = map.limits(id).unwrap().clone();
    (limits.high_mark, limits.low_mark) = (3, 1);
    map.set_limits(id, limits);
    for (data, drained) in [("abc", 0), ("defg", 1), ("h", 1), ("ijkl", 2)] {
        map.push(id, data);
        turn_until(&mut map, &mut (), "the output", |map, ()| map.queued() == 0);
        settle(&mut map, &mut ());
        assert_eq!(log.count("drained"), drained, "after {data}");
    }
    assert_eq!(peer.read_bytes(12), b"abcdefghijkl");
}
