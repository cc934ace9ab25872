//! Framed messages on chat channels: where they lie, what a pause or a hand-over leaves, and what is malformed.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use asynchat::{
    AsyncChat, BareIn, Chat, Collected, Conversation, FrameError, LengthPrefix, OnTooLong, Terminator,
    netstring,
};
use asyncore::{Channel, CloseReason, Context, Error, Map, Received, Result};
use integration_tests::{Log, Peer, every_split, map, run_to_the_end, settle, turn_until};

use crate::replacing::turn;
use crate::scripted::{Scripted, converse, send_pieces};

/// Two messages as a framing carries them.
struct Framed {
    terminator: Terminator,
    wire: [Vec<u8>; 2],
    messages: [&'static str; 2],
}

impl Framed {
    fn new(
        terminator: impl Into<Terminator>,
        wire: [impl AsRef<[u8]>; 2],
        messages: [&'static str; 2],
    ) -> Self {
        Self { terminator: terminator.into(), wire: wire.map(|wire| wire.as_ref().to_vec()), messages }
    }

    fn whole(&self) -> Vec<u8> {
        self.wire.concat()
    }

    /// What a conversation of it logs, to its end.
    fn lines(&self) -> [String; 5] {
        let [first, second] = self.messages;
        [
            "connect".into(),
            format!("found {first}"),
            format!("found {second}"),
            "eof ".into(),
            "close Eof".into(),
        ]
    }
}

/// Every framing; where it can be, the second message is empty.
fn framed() -> Vec<Framed> {
    let lengths = LENGTHS.into_iter().map(|prefix| {
        let [first, second] = ["ab", ""].map(|text| prefix.frame(text).unwrap());
        let wire = [first, second].map(|(header, payload)| [&header[..], payload.as_bytes()].concat());
        Framed::new(prefix, wire, ["ab", ""])
    });
    lengths
        .chain([
            // Longer than it must be, and given back as it came.
            Framed::new(LengthPrefix::Varint, [&b"\x82\x80\0ab"[..], b"\x80\0"], ["ab", ""]),
            Framed::new(Terminator::netstring(), ["2:ab,", "0:,"], ["ab", ""]),
            Framed::new(Terminator::dot_stuffed(), ["a\r\nb\r\n.\r\n", ".\r\n"], [r"a\r\nb\r\n", ""]),
            Framed::new(Terminator::dot_stuffed(), ["..ab\r\n.\r\n", ".\r\n"], [r".ab\r\n", ""]),
            Framed::new(
                Terminator::dot_stuffed_with_bare(BareIn::Keep),
                ["\r.\n\r\n.\r\n", ".\r\n"],
                [r"\r.\n\r\n", ""],
            ),
            Framed::new(Terminator::count(2).unwrap(), ["ab", "cd"], ["ab", "cd"]),
            Framed::new(b"\r\n", ["ab\r\n", "\r\n"], ["ab", ""]),
        ])
        .collect()
}

const LENGTHS: [LengthPrefix; 8] = [
    LengthPrefix::U8,
    LengthPrefix::U16Be,
    LengthPrefix::U16Le,
    LengthPrefix::U32Be,
    LengthPrefix::U32Le,
    LengthPrefix::U64Be,
    LengthPrefix::U64Le,
    LengthPrefix::Varint,
];

/// `input` whole, in single bytes, and in two pieces at each byte.
fn some_cuts(input: &[u8]) -> Vec<Vec<&[u8]>> {
    let pairs = (1..input.len()).map(|at| vec![&input[..at], &input[at..]]);
    [vec![input], input.chunks(1).collect()].into_iter().chain(pairs).collect()
}

#[test]
fn framed_messages_are_found_at_every_cut() {
    for framed in framed() {
        for pieces in some_cuts(&framed.whole()) {
            let log = Log::new();
            let chat = AsyncChat::new(Scripted::new(&log)).terminator(framed.terminator.clone());
            let (mut map, mut peer, id) = converse(chat);
            send_pieces(&mut map, id, &mut peer, &pieces);
            drop(peer);
            run_to_the_end(&mut map, &mut ());
            assert_eq!(log.lines(), framed.lines(), "{:?} {pieces:?}", framed.terminator);
        }
    }
}

#[test]
fn a_framed_message_that_is_whole_in_one_read_is_not_copied() {
    // A stuffed dot cuts its text in two.
    for framed in framed().into_iter().filter(|framed| !framed.wire[0].starts_with(b"..")) {
        let log = Log::new();
        let offered = Rc::new(Cell::new(None));
        let (piece, found) = (Rc::clone(&offered), Rc::clone(&offered));
        let chat = Scripted::new(&log)
            .on_piece(move |_, data| {
                piece.set(Some(data.as_ptr()));
                Ok(Collected::Kept)
            })
            .on_found(move |cx, message| {
                assert_eq!(found.take(), Some(message.as_ptr()));
                cx.close();
                Ok(())
            });
        let (mut map, mut peer, _) = converse(AsyncChat::new(chat).terminator(framed.terminator.clone()));
        peer.send(&framed.whole());
        run_to_the_end(&mut map, &mut ());
        assert_eq!(log.lines()[2..], ["close Local"], "{:?}", framed.terminator);
    }
}

#[test]
fn a_pause_over_a_piece_or_a_message_loses_nothing() {
    for framed in framed() {
        for pieces in some_cuts(&framed.whole()) {
            let log = Log::new();
            let chat = Scripted::new(&log)
                .on_piece(|cx, _| {
                    cx.pause_reading();
                    Ok(Collected::Kept)
                })
                .on_found(|cx, _| {
                    cx.pause_reading();
                    Ok(())
                });
            let (mut map, mut peer, id) =
                converse(AsyncChat::new(chat).terminator(framed.terminator.clone()));
            for piece in &pieces {
                peer.send(piece);
                turn(&mut map, &mut (), 2);
            }
            drop(peer);
            turn_until(&mut map, &mut (), "the end", |map, ()| {
                map.resume_reading(id);
                map.is_empty()
            });
            assert_eq!(log.lines(), framed.lines(), "{:?} {pieces:?}", framed.terminator);
        }
    }
}

/// A chat that hands over to a raw channel at its `left`th callback; what that reads goes to the application.
struct HandsOver {
    left: usize,
    at_pause: bool,
}

impl HandsOver {
    fn count(&mut self, cx: &mut Conversation<'_, Vec<u8>>) {
        if self.left == 0 {
            return;
        }
        self.left -= 1;
        if self.left == 0 {
            if self.at_pause {
                cx.pause_reading();
            } else {
                assert!(cx.replace(Raw));
            }
        }
    }
}

impl Chat<Vec<u8>> for HandsOver {
    fn collect_incoming_data(
        &mut self,
        cx: &mut Conversation<'_, Vec<u8>>,
        _data: &[u8],
    ) -> Result<Collected> {
        self.count(cx);
        Ok(Collected::Kept)
    }

    fn found_terminator(&mut self, cx: &mut Conversation<'_, Vec<u8>>, _message: &[u8]) -> Result {
        cx.app.push(b'F');
        self.count(cx);
        Ok(())
    }
}

struct Raw;

impl Channel<Vec<u8>> for Raw {
    fn handle_read(&mut self, cx: &mut Context<'_, Vec<u8>>) -> Result {
        while let Received::Data(data) = cx.map.recv(cx.id, 100)? {
            cx.app.extend_from_slice(&data);
        }
        Ok(())
    }
}

#[test]
fn a_hand_over_leaves_every_byte_that_was_not_delivered_with_its_header() {
    for Framed { terminator, wire, .. } in framed() {
        let whole = wire.concat();
        for pieces in some_cuts(&whole) {
            for (left, at_pause) in (1..8).flat_map(|left| [(left, false), (left, true)]) {
                let mut map: Map<Vec<u8>> = map();
                let (mut peer, here) = Peer::pair();
                let chat = AsyncChat::new(HandsOver { left, at_pause }).terminator(terminator.clone());
                let id = map.add(here, chat).unwrap();
                let mut seen = Vec::new();
                for piece in &pieces {
                    peer.send(piece);
                    turn(&mut map, &mut seen, 2);
                }
                if at_pause {
                    map.replace(id, Raw);
                    map.resume_reading(id);
                } else if map.with(&mut seen, id, |_: &mut Raw, _| ()).is_none() {
                    // It had fewer callbacks.
                    continue;
                }
                turn(&mut map, &mut seen, 2);
                let found = seen.iter().take_while(|&&byte| byte == b'F').count();
                assert_eq!(
                    seen[found..].escape_ascii().to_string(),
                    wire[found..].concat().escape_ascii().to_string(),
                    "{terminator:?} {pieces:?} at callback {left}, paused: {at_pause}"
                );
            }
        }
    }
}

#[test]
fn what_is_taken_of_a_frame_stays_taken_at_a_hand_over() {
    let mut map: Map<Vec<u8>> = map();
    let (mut peer, here) = Peer::pair();
    let chat = AsyncChat::new(Takes).terminator(Terminator::netstring());
    map.add(here, chat).unwrap();
    let mut seen = Vec::new();
    for piece in [&b"8:abc"[..], b"de", b"fgh,rest"] {
        peer.send(piece);
        turn(&mut map, &mut seen, 2);
    }
    assert_eq!(seen, b"defgh,rest");
}

/// Takes the first piece, keeps the second and hands over.
struct Takes;

impl Chat<Vec<u8>> for Takes {
    fn collect_incoming_data(
        &mut self,
        cx: &mut Conversation<'_, Vec<u8>>,
        data: &[u8],
    ) -> Result<Collected> {
        if data == b"abc" {
            return Ok(Collected::Taken);
        }
        assert!(cx.replace(Raw));
        Ok(Collected::Kept)
    }

    fn found_terminator(&mut self, _cx: &mut Conversation<'_, Vec<u8>>, _message: &[u8]) -> Result {
        Ok(())
    }
}

#[test]
fn what_came_before_a_text_is_not_stuffed_at_a_hand_over() {
    // The terminator changes in the middle of a message; the text begins on what is a new line to it.
    struct Switches;
    impl Chat<Vec<u8>> for Switches {
        fn collect_incoming_data(
            &mut self,
            cx: &mut Conversation<'_, Vec<u8>>,
            _data: &[u8],
        ) -> Result<Collected> {
            cx.set_terminator(Terminator::dot_stuffed());
            Ok(Collected::Kept)
        }

        fn found_terminator(&mut self, _cx: &mut Conversation<'_, Vec<u8>>, _message: &[u8]) -> Result {
            Ok(())
        }
    }
    let mut map: Map<Vec<u8>> = map();
    let (mut peer, here) = Peer::pair();
    let id = map.add(here, AsyncChat::new(Switches)).unwrap();
    let mut seen = Vec::new();
    for piece in [&b".before"[..], b"..text\r\n..", b"more"] {
        peer.send(piece);
        turn(&mut map, &mut seen, 2);
    }
    assert!(map.replace(id, Raw));
    turn(&mut map, &mut seen, 2);
    assert_eq!(seen.escape_ascii().to_string(), r".before..text\r\n..more");
}

#[test]
fn a_frame_over_the_limit_closes_before_any_of_it_is_kept() {
    for (terminator, wire) in [
        (Terminator::from(LengthPrefix::U32Be), &b"\0\0\0\x02ab\0\0\0\x03"[..]),
        (LengthPrefix::Varint.into(), b"\x02ab\x03"),
        (Terminator::netstring(), b"2:ab,3:"),
    ] {
        for pieces in every_split(wire) {
            let log = Log::new();
            let chat = AsyncChat::new(Scripted::new(&log)).terminator(terminator.clone()).message_limit(2);
            let (mut map, mut peer, id) = converse(chat);
            send_pieces(&mut map, id, &mut peer, &pieces);
            run_to_the_end(&mut map, &mut ());
            assert_eq!(log.lines(), ["connect", "found ab", "close TooLong"], "{terminator:?}");
        }
    }
}

#[test]
fn exactly_the_frame_over_the_limit_is_passed_over() {
    for (terminator, wire, lines) in [
        (
            Terminator::from(LengthPrefix::U8),
            &b"\x05abcde\x04ab\r\n\xff"[..],
            ["too long ", r"found ab\r\n", "too long "],
        ),
        (Terminator::netstring(), b"5:,,,,,,4:ab\r\n,5:abcde", ["too long ", r"found ab\r\n", "too long "]),
        (
            Terminator::dot_stuffed(),
            b"....\r\n.\r\nab\r\n.\r\nab\r\n..\r\n.",
            [r"too long ...\r", r"found ab\r\n", r"too long ab\r\n"],
        ),
    ] {
        let log = Log::new();
        for pieces in some_cuts(wire) {
            let chat = AsyncChat::new(Scripted::new(&log)).terminator(terminator.clone());
            let chat = chat.message_limit(4).on_too_long(OnTooLong::Skip);
            let (mut map, mut peer, id) = converse(chat);
            send_pieces(&mut map, id, &mut peer, &pieces);
            drop(peer);
            run_to_the_end(&mut map, &mut ());
            assert_eq!(log.take()[1..4], lines, "{terminator:?} {pieces:?}");
        }
    }
}

#[test]
fn malformed_input_ends_the_conversation_and_nothing_behind_it_is_delivered() {
    for (terminator, wire, text) in [
        (Terminator::netstring(), &b"1:a,01:b,1:c,"[..], "netstring: a length with a leading zero"),
        (Terminator::netstring(), b"1:a,1:bb1:c,", "netstring: 'b' where the comma belongs"),
        (
            Terminator::dot_stuffed(),
            b"a\r\n.\r\nb\n.\r\nDELE\r\n.\r\n",
            "dot-stuffed text: bare LF at byte 1: only CRLF ends a line",
        ),
    ] {
        for pieces in some_cuts(wire) {
            let log = Log::new();
            let chat = Judge { log: log.clone(), is_default: true };
            let (mut map, mut peer, id) = converse(AsyncChat::new(chat).terminator(terminator.clone()));
            for piece in &pieces {
                if map.is_open(id) {
                    peer.send(piece);
                    turn(&mut map, &mut (), 2);
                }
            }
            assert!(!map.is_open(id));
            let lines = log.take();
            assert_eq!(lines.len(), 2, "{lines:?}");
            assert!(lines[0].starts_with("found a") && lines[1] == "close Malformed", "{lines:?}");

            // Left open, to say why: what comes then is passed over, until it is said to be another conversation.
            let chat = Judge { log: log.clone(), is_default: false };
            let (mut map, mut peer, id) = converse(AsyncChat::new(chat).terminator(terminator.clone()));
            for piece in &pieces {
                peer.send(piece);
                turn(&mut map, &mut (), 2);
            }
            peer.send(wire);
            turn(&mut map, &mut (), 2);
            assert_eq!(log.take()[1..], [text], "cut as {pieces:?}");
            map.with(&mut (), id, |chat: &mut AsyncChat<Judge>, _| chat.framing_mut().discard_incoming());
            peer.send(wire);
            turn(&mut map, &mut (), 2);
            assert_eq!(log.take()[1..], [text], "cut as {pieces:?}");
        }
    }
}

struct Judge {
    log: Log,
    is_default: bool,
}

impl Chat for Judge {
    fn found_terminator(&mut self, _cx: &mut Conversation<'_>, message: &[u8]) -> Result {
        self.log.add(format_args!("found {}", message.escape_ascii()));
        Ok(())
    }

    fn handle_error(&mut self, cx: &mut Conversation<'_>, error: &Error) {
        assert!(error.is::<FrameError>());
        if self.is_default {
            Chat::<()>::handle_error(&mut Default, cx, error);
        } else {
            self.log.add(error);
        }
    }

    fn handle_close(&mut self, _cx: &mut Conversation<'_>, reason: CloseReason) {
        self.log.add(format_args!("close {reason:?}"));
    }
}

/// A chat whose callbacks are the defaults.
struct Default;

impl Chat for Default {
    fn found_terminator(&mut self, _cx: &mut Conversation<'_>, _message: &[u8]) -> Result {
        Ok(())
    }
}

#[test]
fn a_discard_in_mid_frame_lets_the_next_byte_begin_a_frame() {
    for (terminator, begun, whole, found) in [
        (Terminator::from(LengthPrefix::U16Be), &b"\0"[..], &b"\0\x01a"[..], "found a"),
        (LengthPrefix::U16Be.into(), b"\0\x05ab", b"\0\x01a", "found a"),
        (Terminator::netstring(), b"5:ab", b"1:a,", "found a"),
        (Terminator::dot_stuffed(), b"some\r", b"a\r\n.\r\n", r"found a\r\n"),
    ] {
        let log = Log::new();
        let chat = AsyncChat::new(Scripted::new(&log)).terminator(terminator);
        let (mut map, mut peer, id) = converse(chat);
        send_pieces(&mut map, id, &mut peer, [begun]);
        map.with(&mut (), id, |chat: &mut AsyncChat<Scripted>, _| chat.framing_mut().discard_incoming());
        send_pieces(&mut map, id, &mut peer, [whole]);
        settle(&mut map, &mut ());
        assert_eq!(log.lines(), ["connect", found]);
    }
}

#[test]
fn framings_switch_in_mid_stream_and_answers_go_out_framed() {
    let log = Log::new();
    let missing = Rc::new(RefCell::new(Vec::new()));
    let seen = Rc::clone(&missing);
    let chat = Scripted::new(&log)
        .on_piece(move |cx, _| {
            seen.borrow_mut().extend(cx.framing.remaining());
            Ok(Collected::Kept)
        })
        .on_found(|cx, message| {
            match message {
                b"LENGTH" => cx.set_terminator(LengthPrefix::U16Be),
                b"NET" => cx.set_terminator(Terminator::netstring()),
                b"DOTS" => cx.set_terminator(Terminator::dot_stuffed()),
                _ => cx.set_terminator(b"\r\n"),
            }
            cx.push(LengthPrefix::Varint.frame(message)?);
            cx.push(netstring(message));
            Ok(())
        });
    let (mut map, mut peer, id) = converse(AsyncChat::new(chat).terminator(b"\r\n"));
    let wire = b"LENGTH\r\n\0\x03NET4:DOTS,..x\r\n.\r\nQUIT\r\n";
    send_pieces(&mut map, id, &mut peer, wire.chunks(3));
    settle(&mut map, &mut ());
    assert_eq!(
        log.lines(),
        ["connect", "found LENGTH", "found NET", "found DOTS", r"found .x\r\n", "found QUIT"]
    );
    // Where a piece ended within `NET`, and within `DOTS`.
    assert_eq!(*missing.borrow(), [1, 1]);
    let answers = b"\x06LENGTH6:LENGTH,\x03NET3:NET,\x04DOTS4:DOTS,\x04.x\r\n4:.x\r\n,\x04QUIT4:QUIT,";
    assert_eq!(peer.read_bytes(answers.len()), answers);
}
