//! Where a message or a conversation's input ends early: the message limit, the end of file, and a discard.

use std::cell::Cell;
use std::rc::Rc;

use asynchat::{AsyncChat, Collected, Conversation, OnTooLong, Terminator};
use asyncore::{ChannelId, Limits, Map};
use integration_tests::{DEADLINE, Log, Peer, every_split, run_to_the_end, settle, turn_until};

use crate::scripted::{Scripted, converse, send_pieces};

/// Sends the pieces for as long as the channel is open, and the end of file; then runs to the end.
fn play<P: AsRef<[u8]>>(mut map: Map, mut peer: Peer, id: ChannelId, pieces: impl IntoIterator<Item = P>) {
    for piece in pieces {
        if map.is_open(id) {
            send_pieces(&mut map, id, &mut peer, [piece]);
        }
    }
    drop(peer);
    run_to_the_end(&mut map, &mut ());
}

#[test]
fn a_message_of_exactly_the_limit_passes_and_one_byte_more_closes() {
    for pieces in every_split(b"ab\r\ncde\r\nf") {
        let log = Log::new();
        let (map, peer, id) =
            converse(AsyncChat::new(Scripted::new(&log)).terminator(b"\r\n").message_limit(2));
        play(map, peer, id, pieces);
        assert_eq!(log.lines(), ["connect", "found ab", "close TooLong"]);
    }
}

#[test]
fn a_message_that_is_passed_over_is_told_once_and_the_next_is_fine() {
    for pieces in every_split(b"ab\r\ncde\r\nf") {
        let log = Log::new();
        let chat = AsyncChat::new(Scripted::new(&log)).terminator(b"\r\n");
        let (map, peer, id) = converse(chat.message_limit(2).on_too_long(OnTooLong::Skip));
        play(map, peer, id, pieces);
        assert_eq!(log.lines(), ["connect", "found ab", "too long cd", "eof f", "close Eof"]);
    }
}

#[test]
fn a_long_message_is_passed_over_whole() {
    for size in [1, 2, 3, 7, 1000] {
        let log = Log::new();
        let chat = AsyncChat::new(Scripted::new(&log)).terminator(b"\r\n");
        let (map, peer, id) = converse(chat.message_limit(3).on_too_long(OnTooLong::Skip));
        let data = [&b"ok\r\n"[..], &[b'x'; 200], b"\r\nyes\r\n\r\n", &[b'y'; 200], b"\r\nend\r\n"].concat();
        play(map, peer, id, data.chunks(size));
        assert_eq!(
            log.lines(),
            [
                "connect",
                "found ok",
                "too long xxx",
                "found yes",
                "found ",
                "too long yyy",
                "found end",
                "eof ",
                "close Eof"
            ],
            "in pieces of {size}"
        );
    }
}

#[test]
fn a_counted_message_over_the_limit_is_passed_over_by_its_count() {
    for pieces in every_split(b"12345678abc") {
        let log = Log::new();
        let chat = Scripted::new(&log).on_too_long(|cx| {
            cx.set_terminator(Terminator::count(2)?);
            Ok(())
        });
        let chat = AsyncChat::new(chat).terminator(Terminator::count(8).unwrap());
        let (map, peer, id) = converse(chat.message_limit(5).on_too_long(OnTooLong::Skip));
        play(map, peer, id, pieces);
        assert_eq!(log.lines(), ["connect", "too long 12345", "found ab", "eof c", "close Eof"]);
    }
}

#[test]
fn what_is_taken_does_not_count_towards_the_limit() {
    let log = Log::new();
    let total = Rc::new(Cell::new(0));
    let sum = Rc::clone(&total);
    let chat = Scripted::new(&log).on_piece(move |_, data| {
        sum.set(sum.get() + data.len());
        Ok(Collected::Taken)
    });
    let (map, peer, id) = converse(AsyncChat::new(chat).terminator(b"\r\n").message_limit(10));
    let data = [&[b'x'; 5000][..], b"\r\n"].concat();
    play(map, peer, id, data.chunks(700));
    assert_eq!(log.lines(), ["connect", "found ", "eof ", "close Eof"]);
    assert_eq!(total.get(), 5000);
}

#[test]
fn a_pause_or_an_error_in_handle_too_long_costs_no_other_message() {
    for pieces in every_split(b"abcd\nef\ng") {
        let log = Log::new();
        let chat = Scripted::new(&log).outlives_errors().on_too_long(|cx| {
            cx.pause_reading();
            Err("too much".into())
        });
        let chat = AsyncChat::new(chat).terminator(b"\n").message_limit(2).on_too_long(OnTooLong::Skip);
        let (mut map, mut peer, id) = converse(chat);
        map.run_for(&mut (), 1).unwrap();
        for piece in pieces {
            peer.send(piece);
        }
        turn_until(&mut map, &mut (), "the error", |_, ()| log.has("error too much"));
        assert_eq!(log.lines(), ["connect", "too long ab", "error too much"]);
        map.resume_reading(id);
        play(map, peer, id, [""; 0]);
        assert_eq!(log.take()[3..], ["found ef", "eof g", "close Eof"]);
    }
}

#[test]
fn the_end_of_file_hands_over_the_rest_with_a_begun_terminator() {
    let table: [(&str, &str); 6] =
        [("", ""), ("abc", "abc"), ("abc\r", "abc\\r"), ("\r", "\\r"), ("a\r\n", ""), ("a\r\nb\r", "b\\r")];
    for (data, rest) in table {
        for pieces in every_split(data.as_bytes()) {
            let log = Log::new();
            let (map, peer, id) = converse(AsyncChat::new(Scripted::new(&log)).terminator(b"\r\n"));
            play(map, peer, id, pieces);
            let lines: Vec<_> = log.lines().into_iter().filter(|line| !line.starts_with("found")).collect();
            assert_eq!(lines, ["connect", &format!("eof {rest}"), "close Eof"]);
        }
    }
}

#[test]
fn the_begun_terminator_at_the_end_counts_towards_the_limit() {
    let log = Log::new();
    let chat = AsyncChat::new(Scripted::new(&log)).terminator(b"\r\n").message_limit(2);
    let (map, peer, id) = converse(chat);
    play(map, peer, id, ["ab\r"]);
    assert_eq!(log.lines(), ["connect", "close TooLong"]);

    let log = Log::new();
    let chat = AsyncChat::new(Scripted::new(&log)).terminator(b"\r\n").message_limit(2);
    let (map, peer, id) = converse(chat.on_too_long(OnTooLong::Skip));
    play(map, peer, id, ["ab\r"]);
    assert_eq!(log.lines(), ["connect", "too long ab", "eof ", "close Eof"]);
}

#[test]
fn an_error_over_the_last_piece_does_not_hide_the_end_of_file() {
    let log = Log::new();
    let chat = Scripted::new(&log).outlives_errors().on_piece(|_, data| match data {
        b"\r" => Err("refused".into()),
        _ => Ok(Collected::Kept),
    });
    let (map, peer, id) = converse(AsyncChat::new(chat).terminator(b"\r\n"));
    play(map, peer, id, ["ab\r"]);
    assert_eq!(log.lines(), ["connect", "eof ab", "error refused", "close Eof"]);
}

#[test]
fn the_end_of_file_waits_behind_a_pause_and_the_messages_it_keeps() {
    let log = Log::new();
    let chat = Scripted::new(&log).on_found(|cx, message| {
        if message == b"1" {
            cx.pause_reading();
        }
        Ok(())
    });
    let (mut map, mut peer, id) = converse(AsyncChat::new(chat).terminator(b"\n"));
    map.run_for(&mut (), 1).unwrap();
    peer.send(b"1\n2\n3");
    drop(peer);
    settle(&mut map, &mut ());
    assert_eq!(log.lines(), ["connect", "found 1"]);
    map.resume_reading(id);
    run_to_the_end(&mut map, &mut ());
    assert_eq!(log.lines(), ["connect", "found 1", "found 2", "eof 3", "close Eof"]);
}

#[test]
fn what_is_queued_before_the_end_of_file_is_still_sent() {
    let chat = Scripted::new(&Log::new()).on_found(|cx, line| {
        cx.push(line);
        Ok(())
    });
    let (mut map, mut peer, id) = converse(AsyncChat::new(chat).terminator(b"\n"));
    map.run_for(&mut (), 1).unwrap();
    peer.send(b"one\ntwo\n");
    peer.shutdown_write();
    run_to_the_end(&mut map, &mut ());
    assert!(!map.is_open(id));
    assert_eq!(peer.read_rest(), b"onetwo");
}

#[test]
fn a_conversation_may_go_on_writing_after_the_end_of_file() {
    let log = Log::new();
    let chat = Scripted::new(&log).on_eof(|cx| {
        cx.push("still here");
        Ok(())
    });
    let (mut map, mut peer, id) = converse(AsyncChat::new(chat).terminator(b"\n"));
    peer.shutdown_write();
    settle(&mut map, &mut ());
    assert_eq!(peer.read_bytes(10), b"still here");
    map.push(id, " and gone");
    map.close_when_done(id);
    run_to_the_end(&mut map, &mut ());
    assert_eq!(peer.read_rest(), b" and gone");
    assert_eq!(log.lines(), ["connect", "eof ", "close Eof"]);
}

#[test]
fn a_discard_in_a_message_drops_everything_behind_it() {
    let ways: [fn(&mut Conversation<'_>); 2] = [|cx| cx.discard_incoming(), |cx| cx.discard_buffers()];
    for discard in ways {
        for rest in ["", "x", "injected\r\n", "injected\r\nmore\r", "\r"] {
            let log = Log::new();
            let chat = Scripted::new(&log).on_found(move |cx, line| {
                if line == b"STARTTLS" {
                    discard(cx);
                }
                Ok(())
            });
            let (mut map, mut peer, id) = converse(AsyncChat::new(chat).terminator(b"\r\n"));
            let data = format!("a\r\nSTARTTLS\r\n{rest}");
            send_pieces(&mut map, id, &mut peer, [&data[..], "\n", "after\r\n"]);
            drop(peer);
            run_to_the_end(&mut map, &mut ());
            assert_eq!(
                log.lines(),
                ["connect", "found a", "found STARTTLS", "found \\nafter", "eof ", "close Eof"],
                "{rest:?}"
            );
        }
    }
}

#[test]
fn a_discard_while_collecting_drops_the_message_and_everything_behind_it() {
    for answer in [Collected::Kept, Collected::Taken] {
        let log = Log::new();
        let chat = Scripted::new(&log).on_piece(move |cx, data| {
            if data.starts_with(b"!") {
                cx.discard_incoming();
                return Ok(answer);
            }
            Ok(Collected::Kept)
        });
        let (mut map, mut peer, id) = converse(AsyncChat::new(chat).terminator(b"\n"));
        send_pieces(
            &mut map,
            id,
            &mut peer,
            ["start,", "!middle", "new\n", "start,", "!end\nbehind\n", "next\n"],
        );
        assert_eq!(log.lines(), ["connect", "found new", "found next"]);
    }
}

#[test]
fn a_discard_from_another_channel_drops_what_is_held_and_what_waits() {
    for data in ["start,", "start\r", "one\r\ntwo\r\nthr"] {
        let log = Log::new();
        let chat = Scripted::new(&log).on_found(|cx, message| {
            if message == b"one" {
                cx.pause_reading();
            }
            Ok(())
        });
        let (mut map, mut peer, id) = converse(AsyncChat::new(chat).terminator(b"\r\n"));
        send_pieces(&mut map, id, &mut peer, [data]);
        let (_controls, here) = Peer::pair();
        let control = Scripted::new(&Log::new()).on_connect(move |cx| {
            let discarded =
                cx.with(id, |chat: &mut AsyncChat<Scripted>, _| chat.framing_mut().discard_incoming());
            assert_eq!(discarded, Some(()));
            cx.close();
            Ok(())
        });
        map.add(here, AsyncChat::new(control)).unwrap();
        settle(&mut map, &mut ());
        map.resume_reading(id);
        settle(&mut map, &mut ());
        assert!(!log.take().contains(&"found two".to_owned()));
        send_pieces(&mut map, id, &mut peer, ["\n", "next\r\n"]);
        drop(peer);
        run_to_the_end(&mut map, &mut ());
        assert_eq!(log.lines(), ["found \\nnext", "eof ", "close Eof"], "{data:?}");
    }
}

#[test]
fn a_discard_drops_a_complete_message_that_a_pause_holds_back() {
    let log = Log::new();
    let chat = Scripted::new(&log).on_piece(|cx, data| {
        if data == b"hold" {
            cx.pause_reading();
        }
        Ok(Collected::Kept)
    });
    let (mut map, mut peer, id) = converse(AsyncChat::new(chat).terminator(b"\n"));
    send_pieces(&mut map, id, &mut peer, ["hold\nbehind\n"]);
    map.handler_mut::<AsyncChat<Scripted>>(id).unwrap().framing_mut().discard_incoming();
    map.resume_reading(id);
    send_pieces(&mut map, id, &mut peer, ["next\n"]);
    assert_eq!(log.lines(), ["connect", "found next"]);
}

#[test]
fn a_discard_in_handle_connect_or_at_the_end_drops_nothing_that_comes_later() {
    let log = Log::new();
    let chat = Scripted::new(&log).on_connect(|cx| {
        cx.discard_incoming();
        Ok(())
    });
    let (map, peer, id) = converse(AsyncChat::new(chat).terminator(b"\n"));
    play(map, peer, id, ["one\ntw", "o\n"]);
    assert_eq!(log.lines(), ["connect", "found one", "found two", "eof ", "close Eof"]);
}

#[test]
fn a_discard_in_handle_drained_drops_the_message_that_has_begun() {
    let log = Log::new();
    let chat = Scripted::new(&log).on_drained(|cx| {
        cx.discard_incoming();
        Ok(())
    });
    let (mut map, mut peer, id) = converse(AsyncChat::new(chat).terminator(b"\n"));
    let mut limits = Limits::default();
    (limits.high_mark, limits.low_mark) = (10, 5);
    map.set_limits(id, limits);
    send_pieces(&mut map, id, &mut peer, ["begun,"]);
    map.push(id, "more than the high mark");
    settle(&mut map, &mut ());
    assert_eq!(peer.read_bytes(23), b"more than the high mark");
    play(map, peer, id, ["next\n"]);
    assert_eq!(log.lines(), ["connect", "drained", "found next", "eof ", "close Eof"]);
}

#[test]
fn discard_buffers_does_not_cancel_a_pending_close() {
    let log = Log::new();
    let chat = Scripted::new(&log).on_connect(|cx| {
        cx.push("dropped");
        cx.close_when_done();
        cx.discard_buffers();
        assert!(!cx.push("refused").is_queued());
        Ok(())
    });
    let (mut map, mut peer, _) = converse(AsyncChat::new(chat).terminator(b"\n"));
    peer.shutdown_write();
    run_to_the_end(&mut map, &mut ());
    assert_eq!(peer.read_rest(), b"");
    assert_eq!(log.lines(), ["connect", "close Local"]);
}

#[test]
fn a_conversation_that_is_to_close_when_done_hears_nothing_of_a_shutdown() {
    let log = Log::new();
    let chat = Scripted::new(&log).on_found(|cx, _| {
        cx.close_when_done();
        Ok(())
    });
    let (mut map, mut peer, id) = converse(AsyncChat::new(chat).terminator(b"\n"));
    let (mut other, here) = Peer::pair();
    map.add(here, AsyncChat::new(Scripted::new(&log)).terminator(b"\n")).unwrap();
    map.run_for(&mut (), 1).unwrap();
    send_pieces(&mut map, id, &mut peer, ["quit\n"]);
    assert_eq!(log.take(), ["connect", "connect", "found quit"]);
    map.shutdown(DEADLINE);
    settle(&mut map, &mut ());
    assert_eq!(log.take(), ["shutdown"], "the other one alone");
    peer.shutdown_write();
    other.shutdown_write();
    run_to_the_end(&mut map, &mut ());
    let mut lines = log.take();
    lines.sort_unstable();
    assert_eq!(lines, ["close Local", "close ShutDown"]);
}
