//! Whole conversations: what is delivered, in which order, and when delivery stops.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use asynchat::{AsyncChat, Chat, Collected, Conversation, Terminator};
use asyncore::{ChannelId, Result};
use integration_tests::{Log, every_split, run_to_the_end, settle, turn_until};

use crate::scripted::{Scripted, converse, send_pieces};

/// Commands by lines, a text up to a dot, a body by count, lines of either habit, and then no end.
const TRANSCRIPT: &[u8] =
    b"HELO\r\n\r\nDATA\r\none\r\n..two\r\n.\r\nBDAT 5\r\nhelloQUIT\nNOOP\r\nREST\n..all the\r\nrest\r";

/// Chooses the next terminator by the message, as a protocol does.
fn follow(cx: &mut Conversation<'_>, message: &[u8]) -> Result {
    match message {
        b"DATA" => cx.set_terminator(b"\r\n.\r\n"),
        b"one\r\n..two" => cx.set_terminator(b"\r\n"),
        b"BDAT 5" => cx.set_terminator(Terminator::count(5)?),
        b"hello" => cx.set_terminator(Terminator::any(["\n", "\r\n"])?),
        b"REST" => cx.set_terminator(Terminator::none()),
        _ => {}
    }
    Ok(())
}

#[test]
fn where_packets_are_cut_changes_nothing() {
    let by_size = (1..=9).map(|size| TRANSCRIPT.chunks(size).collect::<Vec<_>>());
    let by_cut = (0..TRANSCRIPT.len()).map(|at| {
        let (start, end) = TRANSCRIPT.split_at(at);
        [start, end].into_iter().filter(|piece| !piece.is_empty()).collect()
    });
    for pieces in by_size.chain(by_cut) {
        let log = Log::new();
        let (mut map, mut peer, id) =
            converse(AsyncChat::new(Scripted::new(&log).on_found(follow)).terminator(b"\r\n"));
        send_pieces(&mut map, id, &mut peer, &pieces);
        drop(peer);
        run_to_the_end(&mut map, &mut ());
        assert_eq!(
            log.lines(),
            [
                "connect",
                "found HELO",
                "found ",
                "found DATA",
                "found one\\r\\n..two",
                "found BDAT 5",
                "found hello",
                "found QUIT",
                "found NOOP",
                "found REST",
                "eof ..all the\\r\\nrest\\r",
                "close Eof"
            ],
            "{pieces:?}"
        );
    }
}

#[test]
fn a_terminator_set_while_collecting_applies_from_the_next_byte() {
    let log = Log::new();
    let (pieces, mut calls) = (log.clone(), 0);
    let chat = Scripted::new(&log).on_piece(move |cx, data| {
        pieces.add(format_args!("piece {}", data.escape_ascii()));
        calls += 1;
        match calls {
            1 => cx.set_terminator(Terminator::count(2)?),
            3 => cx.set_terminator(Terminator::any([";", ","])?),
            5 => cx.set_terminator(Terminator::none()),
            _ => {}
        }
        Ok(Collected::Kept)
    });
    let (mut map, mut peer, id) = converse(AsyncChat::new(chat).terminator(b"\r\n"));
    send_pieces(&mut map, id, &mut peer, ["ab\r", "xyz;q,w;", "v,"]);
    drop(peer);
    run_to_the_end(&mut map, &mut ());
    assert_eq!(
        log.lines(),
        [
            "connect",
            "piece ab",
            // The held carriage return is the first of the two.
            "piece \\r",
            "piece x",
            "found ab\\rx",
            "piece yz",
            "found yz",
            "piece q",
            "found q",
            "piece w;",
            "piece v,",
            "eof w;v,",
            "close Eof"
        ]
    );
}

#[test]
fn a_terminator_set_by_another_channel_applies_from_the_next_byte() {
    let log = Log::new();
    let (mut map, mut peer, id) = converse(AsyncChat::new(Scripted::new(&log)).terminator(b"\r\n"));
    send_pieces(&mut map, id, &mut peer, ["ab\r"]);
    let set =
        map.with(&mut (), id, |chat: &mut AsyncChat<Scripted>, _| chat.framing_mut().set_terminator(b"\rx"));
    assert_eq!(set, Some(()));
    send_pieces(&mut map, id, &mut peer, ["xcd\rx"]);
    assert_eq!(log.lines(), ["connect", "found ab", "found cd"]);
}

#[test]
fn a_close_in_a_message_stops_delivery() {
    let ways: [fn(&mut Conversation<'_>); 4] = [
        |cx| cx.close(),
        |cx| cx.close_when_done(),
        |cx| cx.map.close_all(),
        |cx| {
            cx.push("bye");
            cx.close_when_done();
        },
    ];
    for (number, way) in ways.into_iter().enumerate() {
        for pieces in every_split(b"1\n2\nend") {
            let log = Log::new();
            let chat = Scripted::new(&log).on_found(move |cx, _| {
                way(cx);
                Ok(())
            });
            let (mut map, mut peer, id) = converse(AsyncChat::new(chat).terminator(b"\n"));
            for piece in pieces {
                if map.is_open(id) {
                    send_pieces(&mut map, id, &mut peer, [piece]);
                }
            }
            drop(peer);
            run_to_the_end(&mut map, &mut ());
            assert_eq!(log.lines(), ["connect", "found 1", "close Local"], "way {number}");
        }
    }
}

#[test]
fn a_close_while_collecting_stops_delivery() {
    let ways: [fn(&mut Conversation<'_>); 2] = [|cx| cx.close(), |cx| cx.close_when_done()];
    for way in ways {
        let log = Log::new();
        let chat = Scripted::new(&log).on_piece(move |cx, _| {
            way(cx);
            Ok(Collected::Kept)
        });
        let (mut map, mut peer, id) = converse(AsyncChat::new(chat).terminator(b"\n"));
        send_pieces(&mut map, id, &mut peer, ["one\ntwo\nthree"]);
        drop(peer);
        run_to_the_end(&mut map, &mut ());
        assert_eq!(log.lines(), ["connect", "close Local"]);
    }
}

#[test]
fn a_pause_in_a_message_keeps_the_rest_and_a_resume_goes_on_with_it() {
    let log = Log::new();
    let chat = Scripted::new(&log).on_found(|cx, _| {
        cx.pause_reading();
        Ok(())
    });
    let (mut map, mut peer, id) = converse(AsyncChat::new(chat).terminator(b"\r\n"));
    send_pieces(&mut map, id, &mut peer, ["one\r\ntwo\r\n\r\nthr"]);
    // More comes while it is paused; what was kept comes first all the same.
    peer.send(b"ee\r\nfour\r");
    peer.shutdown_write();
    settle(&mut map, &mut ());
    let mut expected = vec!["connect".to_owned()];
    for message in ["one", "two", "", "three"] {
        expected.push(format!("found {message}"));
        assert_eq!(log.lines(), expected);
        map.resume_reading(id);
        settle(&mut map, &mut ());
    }
    run_to_the_end(&mut map, &mut ());
    expected.extend(["eof four\\r".to_owned(), "close Eof".to_owned()]);
    assert_eq!(log.lines(), expected);
}

#[test]
fn a_pause_while_collecting_holds_a_complete_message_back() {
    for pieces in every_split(b"ab\ncd\ne") {
        let log = Log::new();
        let notes = log.clone();
        let chat = Scripted::new(&log).on_piece(move |cx, _| {
            notes.add("pause");
            cx.pause_reading();
            Ok(Collected::Kept)
        });
        let (mut map, mut peer, id) = converse(AsyncChat::new(chat).terminator(b"\n"));
        map.run_for(&mut (), 1).unwrap();
        for piece in &pieces {
            peer.send(piece);
        }
        peer.shutdown_write();
        while !map.is_empty() {
            turn_until(&mut map, &mut (), "a pause", |map, ()| !map.is_reading(id));
            let before = log.count("found");
            for _ in 0..2 {
                map.poll(&mut (), Some(Duration::ZERO)).unwrap();
            }
            assert_eq!(log.count("found"), before);
            map.resume_reading(id);
        }
        let rest: Vec<_> = log.lines().into_iter().filter(|line| line != "pause").collect();
        assert_eq!(rest, ["connect", "found ab", "found cd", "eof e", "close Eof"]);
    }
}

#[test]
fn a_pause_that_ends_in_the_same_callback_loses_nothing() {
    let log = Log::new();
    let chat = Scripted::new(&log).on_found(|cx, _| {
        cx.pause_reading();
        cx.map.resume_reading(cx.id);
        Ok(())
    });
    let (mut map, mut peer, id) = converse(AsyncChat::new(chat).terminator(b"\n"));
    send_pieces(&mut map, id, &mut peer, ["1\n2\n3\n4"]);
    drop(peer);
    run_to_the_end(&mut map, &mut ());
    assert_eq!(log.lines(), ["connect", "found 1", "found 2", "found 3", "eof 4", "close Eof"]);
}

#[test]
fn a_close_while_paused_drops_what_was_kept() {
    let log = Log::new();
    let chat = Scripted::new(&log).on_found(|cx, _| {
        cx.pause_reading();
        Ok(())
    });
    let (mut map, mut peer, id) = converse(AsyncChat::new(chat).terminator(b"\n"));
    send_pieces(&mut map, id, &mut peer, ["1\n2\n3\n"]);
    map.close(id);
    map.resume_reading(id);
    run_to_the_end(&mut map, &mut ());
    assert_eq!(log.lines(), ["connect", "found 1", "close Local"]);
}

#[test]
fn an_error_that_does_not_close_costs_no_other_message() {
    for pieces in every_split(b"a\nb\n\nc\nd") {
        let log = Log::new();
        let chat = Scripted::new(&log).outlives_errors().on_found(|_, message| match message {
            b"a" | b"c" => Err("refused".into()),
            _ => Ok(()),
        });
        let (mut map, mut peer, id) = converse(AsyncChat::new(chat).terminator(b"\n"));
        send_pieces(&mut map, id, &mut peer, pieces);
        drop(peer);
        run_to_the_end(&mut map, &mut ());
        assert_eq!(
            log.lines(),
            [
                "connect",
                "found a",
                "error refused",
                "found b",
                "found ",
                "found c",
                "error refused",
                "eof d",
                "close Eof"
            ]
        );
    }
}

#[test]
fn a_piece_that_could_not_be_used_is_missing_and_its_message_ends_all_the_same() {
    let log = Log::new();
    let chat = Scripted::new(&log).outlives_errors().on_piece(|_, data| match data {
        b"bad" => Err("refused".into()),
        _ => Ok(Collected::Kept),
    });
    let (mut map, mut peer, id) = converse(AsyncChat::new(chat).terminator(b"\n"));
    send_pieces(&mut map, id, &mut peer, ["good,", "bad\nnext\nbad\n", "bad", "end\n"]);
    assert_eq!(
        log.lines(),
        [
            "connect",
            "error refused",
            "found good,",
            "found next",
            "error refused",
            "found ",
            "error refused",
            "found end"
        ]
    );
}

/// Takes the pieces that hold an `x`, and keeps the others.
#[derive(Default)]
struct TakesSome {
    taken: Vec<u8>,
    messages: Vec<String>,
}

impl Chat for TakesSome {
    fn collect_incoming_data(&mut self, _: &mut Conversation<'_>, data: &[u8]) -> Result<Collected> {
        if data.contains(&b'x') {
            self.taken.extend_from_slice(data);
            return Ok(Collected::Taken);
        }
        Ok(Collected::Kept)
    }

    fn found_terminator(&mut self, _: &mut Conversation<'_>, message: &[u8]) -> Result {
        self.messages.push(message.escape_ascii().to_string());
        Ok(())
    }
}

#[test]
fn what_was_taken_is_not_part_of_the_message() {
    let (mut map, mut peer, id) = converse(AsyncChat::new(TakesSome::default()).terminator(b"\r\n"));
    // Kept and taken pieces in every order, the last one of each message included.
    send_pieces(
        &mut map,
        id,
        &mut peer,
        ["aa", "x1", "bb\r\n", "x2", "cc", "x3\r\nx4\r\ndd\r", "\nee", "x5\r\n"],
    );
    let chat = map.handler::<AsyncChat<TakesSome>>(id).unwrap().user();
    assert_eq!(chat.messages, ["aabb", "cc", "", "dd", "ee"]);
    assert_eq!(chat.taken, b"x1x2x3x4x5");
}

/// Talks to another chat inside its messages: pauses it at the first, and lets it go on at the second.
#[test]
fn a_chat_pauses_and_resumes_another_in_its_messages() {
    let log = Log::new();
    let other = Rc::new(Cell::new(None::<ChannelId>));
    let (mut map, mut peer, id) = converse(AsyncChat::new(Scripted::new(&log)).terminator(b"\n"));
    let (mut controls, here) = integration_tests::Peer::pair();
    let target = Rc::clone(&other);
    let control = Scripted::new(&Log::new()).on_found(move |cx, message| {
        let target = target.get().expect("known");
        match message {
            b"stop" => cx.map.pause_reading(target),
            _ => cx.map.resume_reading(target),
        }
        Ok(())
    });
    let control = map.add(here, AsyncChat::new(control).terminator(b"\n")).unwrap();
    other.set(Some(id));
    send_pieces(&mut map, control, &mut controls, ["stop\n"]);
    peer.send(b"1\n2\n");
    settle(&mut map, &mut ());
    assert_eq!(log.lines(), ["connect"]);
    send_pieces(&mut map, control, &mut controls, ["go\n"]);
    settle(&mut map, &mut ());
    assert_eq!(log.lines(), ["connect", "found 1", "found 2"]);
}
