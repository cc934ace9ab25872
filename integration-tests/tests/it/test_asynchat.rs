//! What the original's `test_asynchat` proves, in our own words: a test for every row, over every kind of network where the
//! original used a socket.

use std::cell::RefCell;
use std::rc::Rc;

use asynchat::{AsyncChat, BytesProducer, EmptyTerminator, IterProducer, Splitter, Terminator};
use asyncore::Pushed;
use bytes::{Bytes, BytesMut};
use integration_tests::{Log, each_stream, run_to_the_end, turn_until};

use crate::scripted::{Scripted, converse, converse_over, send_pieces};

/// `test_line_terminator1`, `test_line_terminator2`, `test_line_terminator3`.
#[test]
fn terminators_of_one_to_three_bytes_are_found_in_chunks_of_one_to_three_bytes() {
    each_stream(|stream| {
        for terminator in [&b"\n"[..], b"\r\n", b"qqq"] {
            let data = [b"hello world", terminator, b"I'm not dead yet!", terminator].concat();
            for size in 1..=3 {
                let log = Log::new();
                let chat =
                    AsyncChat::new(Scripted::new(&log)).terminator(Terminator::try_from(terminator).unwrap());
                let (mut map, mut peer, id, _folder) = converse_over(stream, chat);
                send_pieces(&mut map, id, &mut peer, data.chunks(size));
                drop(peer);
                run_to_the_end(&mut map, &mut ());
                assert_eq!(
                    log.lines(),
                    ["connect", "found hello world", "found I\\'m not dead yet!", "eof ", "close Eof"],
                    "{terminator:?} in chunks of {size}"
                );
            }
        }
    });
}

/// `test_numeric_terminator1`, `test_numeric_terminator2`.
#[test]
fn a_count_ends_a_message_after_exactly_so_many_bytes() {
    each_stream(|stream| {
        for count in [1, 6] {
            for size in 1..=3 {
                let log = Log::new();
                let first = Scripted::new(&log).on_found(|cx, _| {
                    cx.set_terminator(Terminator::none());
                    Ok(())
                });
                let chat = AsyncChat::new(first).terminator(Terminator::count(count).unwrap());
                let (mut map, mut peer, id, _folder) = converse_over(stream, chat);
                let data = b"hello world, I'm not dead yet!\n";
                send_pieces(&mut map, id, &mut peer, data.chunks(size));
                drop(peer);
                run_to_the_end(&mut map, &mut ());
                let (message, rest) = data.split_at(usize::try_from(count).unwrap());
                assert_eq!(
                    log.lines(),
                    [
                        "connect".to_owned(),
                        format!("found {}", message.escape_ascii()),
                        format!("eof {}", rest.escape_ascii()),
                        "close Eof".to_owned(),
                    ]
                );
            }
        }
    });
}

/// `test_none_terminator`.
#[test]
fn without_a_terminator_everything_is_collected_and_no_message_ends() {
    each_stream(|stream| {
        for size in 1..=3 {
            let log = Log::new();
            let chat = AsyncChat::new(Scripted::new(&log)).terminator(Terminator::none());
            let (mut map, mut peer, id, _folder) = converse_over(stream, chat);
            send_pieces(&mut map, id, &mut peer, b"hello world\nnot yet\n".chunks(size));
            drop(peer);
            run_to_the_end(&mut map, &mut ());
            assert_eq!(log.lines(), ["connect", "eof hello world\\nnot yet\\n", "close Eof"]);
        }
    });
}

/// `test_simple_producer`.
#[test]
fn output_through_a_producer_of_small_pieces_arrives_whole() {
    each_stream(|stream| {
        let log = Log::new();
        let data = b"hello world\nI'm not dead yet!\n";
        let sender = Scripted::new(&log).on_connect(|cx| {
            assert!(cx.push_with_producer(IterProducer::new(data.chunks(8))).is_queued());
            cx.close_when_done();
            Ok(())
        });
        let (mut map, mut peer, _, _folder) = converse_over(stream, AsyncChat::new(sender));
        turn_until(&mut map, &mut (), "the output", |map, ()| {
            map.iter().all(|(_, channel)| channel.bytes_out() == data.len() as u64)
        });
        peer.shutdown_write();
        run_to_the_end(&mut map, &mut ());
        assert_eq!(peer.read_rest(), data);
    });
}

/// `test_string_producer`: plain bytes are a producer too, [`BytesProducer`].
#[test]
fn plain_bytes_can_be_sent_as_a_producer() {
    each_stream(|stream| {
        let data = b"hello world\nI'm not dead yet!\n";
        let sender = Scripted::new(&Log::new()).on_connect(|cx| {
            cx.push_with_producer(BytesProducer::new(&data[..]));
            cx.close_when_done();
            Ok(())
        });
        let (mut map, mut peer, _, _folder) = converse_over(stream, AsyncChat::new(sender));
        peer.shutdown_write();
        run_to_the_end(&mut map, &mut ());
        assert_eq!(peer.read_rest(), data);
    });
}

/// `test_empty_line`.
#[test]
fn terminators_in_a_row_end_empty_messages() {
    each_stream(|stream| {
        for size in 1..=3 {
            let log = Log::new();
            let (mut map, mut peer, id, _folder) =
                converse_over(stream, AsyncChat::new(Scripted::new(&log)).terminator(b"\n"));
            send_pieces(&mut map, id, &mut peer, b"hello world\n\nI am not dead yet!\n".chunks(size));
            drop(peer);
            run_to_the_end(&mut map, &mut ());
            assert_eq!(
                log.lines(),
                ["connect", "found hello world", "found ", "found I am not dead yet!", "eof ", "close Eof"]
            );
        }
    });
}

/// `test_close_when_done`.
#[test]
fn close_when_done_delivers_what_is_queued_and_hears_no_reply() {
    each_stream(|stream| {
        let log = Log::new();
        let talker = Scripted::new(&log).on_connect(|cx| {
            cx.push(b"hello world\n");
            cx.push(b"I'm not dead yet!\n");
            cx.close_when_done();
            Ok(())
        });
        let (mut map, mut peer, _, _folder) = converse_over(stream, AsyncChat::new(talker).terminator(b"\n"));
        peer.send(b"a reply that comes too late\n");
        peer.shutdown_write();
        run_to_the_end(&mut map, &mut ());
        assert_eq!(peer.read_rest(), b"hello world\nI'm not dead yet!\n");
        assert_eq!(log.lines(), ["connect", "close Local"]);
    });
}

/// `test_push`. What is not bytes does not compile: see the documentation of `asyncore::PushData`.
#[test]
fn everything_that_is_bytes_can_be_pushed() {
    each_stream(|stream| {
        let talker = Scripted::new(&Log::new()).on_connect(|cx| {
            let kept = b"v ".to_vec();
            let pushed = [
                cx.push(b"array "),
                cx.push(&b"slice "[..]),
                cx.push("text "),
                cx.push(&kept),
                cx.push(b"Vec ".to_vec()),
                cx.push(String::from("String ")),
                cx.push(b"box ".to_vec().into_boxed_slice()),
                cx.push(Bytes::from_static(b"Bytes ")),
                cx.push(BytesMut::from("BytesMut ")),
                cx.push(b""),
            ];
            assert_eq!(pushed, [Pushed::Queued; 10]);
            cx.close_when_done();
            Ok(())
        });
        let (mut map, mut peer, _, _folder) = converse_over(stream, AsyncChat::new(talker));
        peer.shutdown_write();
        run_to_the_end(&mut map, &mut ());
        assert_eq!(peer.read_rest(), b"array slice text v Vec String box Bytes BytesMut ");
    });
}

/// `TestAsynchatMocked.test_blockingioerror`.
#[test]
fn a_read_that_would_block_is_no_error() {
    let log = Log::new();
    let (mut map, mut peer, id) = converse(AsyncChat::new(Scripted::new(&log)).terminator(b"\n"));
    for _ in 0..3 {
        map.read_again(id);
        map.run_for(&mut (), 1).unwrap();
    }
    send_pieces(&mut map, id, &mut peer, ["still here\n"]);
    assert_eq!(log.lines(), ["connect", "found still here"]);
}

/// `TestHelperFunctions.test_find_prefix_at_end`: the splitter holds back what may be the start of a terminator.
#[test]
fn the_longest_start_of_a_terminator_at_the_end_of_the_input_is_held_back() {
    let table: [(&[u8], &[u8], &[u8]); 6] = [
        (b"qwerty\r", b"\r\n", b"\r"),
        (b"qwertydkjf", b"\r\n", b""),
        (b"a\r\n.\r", b"\r\n.\r\n", b"\r\n.\r"),
        (b"\r\n\r", b"\r\n\r\n", b"\r\n\r"),
        (b"aa", b"aab", b"aa"),
        (b"abc", b"x", b""),
    ];
    for (input, terminator, held) in table {
        let mut splitter = Splitter::new(Terminator::try_from(terminator).unwrap());
        let mut rest = input;
        while splitter.split(&mut rest).is_some() {}
        assert_eq!(splitter.pending(), held, "{} in {}", terminator.escape_ascii(), input.escape_ascii());
    }
}

/// `TestNotConnected.test_disallow_negative_terminator`: a count is a `u64`, and what else cannot be is refused.
#[test]
fn a_terminator_that_ends_nothing_cannot_be_built() {
    assert_eq!(Terminator::count(0), Err(EmptyTerminator));
    assert_eq!(Terminator::try_from(&b""[..]), Err(EmptyTerminator));
    assert_eq!(Terminator::any([&b"\n"[..], b""]), Err(EmptyTerminator));
    assert_eq!(Terminator::any::<&[u8]>([]), Err(EmptyTerminator));
}

/// `TestFifo.test_basic`, of 2.7: in place of a fifo there is the queue of a channel, which is looked at by its length.
#[test]
fn output_leaves_in_the_order_it_was_queued() {
    let lengths = Rc::new(RefCell::new(Vec::new()));
    let seen = Rc::clone(&lengths);
    let talker = Scripted::new(&Log::new()).on_connect(move |cx| {
        let note = |length| seen.borrow_mut().push(length);
        note(cx.map.get(cx.id).unwrap().queued());
        cx.push(b"seven");
        note(cx.map.get(cx.id).unwrap().queued());
        cx.push_with_producer(BytesProducer::new("la"));
        cx.push(b"spam");
        note(cx.map.get(cx.id).unwrap().queued());
        Ok(())
    });
    let (mut map, mut peer, id) = converse(AsyncChat::new(talker));
    turn_until(&mut map, &mut (), "the output", |map, ()| map.get(id).unwrap().bytes_out() == 11);
    assert_eq!(peer.read_bytes(11), b"sevenlaspam");
    assert_eq!(*lengths.borrow(), [0, 5, 9], "what a producer has not made yet is not counted");
    assert_eq!(map.get(id).unwrap().queued(), 0);
}

/// `TestFifo.test_given_list`, of 2.7: a list that is there already is queued by [`IterProducer`].
#[test]
fn a_given_list_leaves_in_its_order() {
    let talker = Scripted::new(&Log::new()).on_connect(|cx| {
        cx.push_with_producer(IterProducer::new(["x", "", "17", "3"]));
        cx.push(b".");
        Ok(())
    });
    let (mut map, mut peer, id) = converse(AsyncChat::new(talker));
    turn_until(&mut map, &mut (), "the output", |map, ()| map.get(id).unwrap().bytes_out() == 5);
    assert_eq!(peer.read_bytes(5), b"x173.");
}
