//! A chat hands its connection over, to a chat or a raw channel: in every callback and at every cut, every byte is seen
//! exactly once.

use std::time::Duration;

use asynchat::{AsyncChat, Chat, Collected, Conversation, OnTooLong, Terminator};
use asyncore::{Channel, CloseReason, Context, Dispatcher, Error, HIGH_MARK, Map, Received, Result, TimerId};
use integration_tests::{Log, Peer, Recorder, every_split, map, settle, turn_until};

use crate::replacing::turn;

/// What a test's handlers saw, in order.
type Seen = Vec<String>;

/// A raw channel that logs all it reads as one text in `app`, and an end as `$`.
struct Raw;

impl Raw {
    fn note(seen: &mut Seen, data: &[u8]) {
        let text = data.escape_ascii().to_string();
        match seen.last_mut() {
            Some(last) if last.starts_with("raw ") => last.push_str(&text),
            _ => seen.push(format!("raw {text}")),
        }
    }
}

impl Channel<Seen> for Raw {
    fn handle_read(&mut self, cx: &mut Context<'_, Seen>) -> Result {
        while let Received::Data(data) = cx.map.recv(cx.id, 3)? {
            Self::note(cx.app, &data);
        }
        Ok(())
    }

    fn handle_eof(&mut self, cx: &mut Context<'_, Seen>) -> Result {
        Self::note(cx.app, b"$");
        cx.map.close_when_done(cx.id);
        Ok(())
    }
}

/// A chat that logs its messages, and hands over where it is told to.
struct Talk {
    hands_over: HandOver,
    keeps: bool,
}

/// When a chat hands over, and to whom.
#[derive(Clone, Copy, PartialEq)]
enum HandOver {
    Never,
    /// At the message `STOP`, to a raw channel.
    AtStopToRaw,
    /// At the message `STOP`, to a chat with this count as its terminator.
    AtStopToCount(u64),
    /// At the first piece that ends in this byte, to a raw channel.
    AtPiece(u8),
}

impl Talk {
    fn chat(hands_over: HandOver, terminator: Terminator) -> AsyncChat<Self> {
        AsyncChat::new(Self { hands_over, keeps: true }).terminator(terminator)
    }
}

impl Chat<Seen> for Talk {
    fn collect_incoming_data(&mut self, cx: &mut Conversation<'_, Seen>, data: &[u8]) -> Result<Collected> {
        if !self.keeps {
            cx.app.push(format!("took {}", data.escape_ascii()));
        }
        if let HandOver::AtPiece(byte) = self.hands_over
            && data.last() == Some(&byte)
        {
            assert!(cx.replace(Raw));
        }
        Ok(if self.keeps { Collected::Kept } else { Collected::Taken })
    }

    fn found_terminator(&mut self, cx: &mut Conversation<'_, Seen>, message: &[u8]) -> Result {
        assert!(!cx.map.is_replaced(cx.id), "nothing is delivered to one that was replaced");
        cx.app.push(message.escape_ascii().to_string());
        if message == b"STOP" {
            match self.hands_over {
                HandOver::AtStopToRaw => assert!(cx.replace(Raw)),
                HandOver::AtStopToCount(count) => {
                    let chat = Self::chat(HandOver::Never, Terminator::count(count)?);
                    assert!(cx.replace(chat));
                }
                HandOver::Never | HandOver::AtPiece(_) => {}
            }
        }
        Ok(())
    }

    fn handle_eof(&mut self, cx: &mut Conversation<'_, Seen>, rest: &[u8]) -> Result {
        cx.app.push(format!("rest {}", rest.escape_ascii()));
        cx.close_when_done();
        Ok(())
    }
}

/// What is seen when `input` comes cut in every way; it has to be the same each time.
fn whatever_the_cuts(input: &[u8], mut handler: impl FnMut(&mut Map<Seen>, Dispatcher)) -> Seen {
    let mut first: Option<Seen> = None;
    for pieces in every_split(input) {
        let mut map: Map<Seen> = map();
        let mut seen = Seen::new();
        let (mut peer, here) = Peer::pair();
        handler(&mut map, here.try_into().unwrap());
        for piece in &pieces {
            peer.send(piece);
            turn(&mut map, &mut seen, 3);
        }
        peer.shutdown_write();
        turn(&mut map, &mut seen, 4);
        let cuts = || pieces.iter().map(|piece| piece.escape_ascii().to_string()).collect::<Vec<_>>();
        let first = first.get_or_insert_with(|| seen.clone());
        assert_eq!(seen, *first, "cut as {:?}", cuts());
    }
    first.unwrap()
}

#[test]
fn a_chat_hands_over_to_a_raw_channel_at_every_cut() {
    let seen = whatever_the_cuts(b"a\r\nSTOP\r\nx\r\ny", |map, here| {
        map.add(here, Talk::chat(HandOver::AtStopToRaw, b"\r\n".into())).unwrap();
    });
    assert_eq!(seen, ["a", "STOP", r"raw x\r\ny$"]);
}

#[test]
fn a_chat_hands_over_to_a_chat_with_another_terminator_at_every_cut() {
    let seen = whatever_the_cuts(b"STOP\r\nab\r\ncd", |map, here| {
        map.add(here, Talk::chat(HandOver::AtStopToCount(3), b"\r\n".into())).unwrap();
    });
    assert_eq!(seen, ["STOP", r"ab\r", r"\ncd", "rest "]);
}

/// Reads raw up to a colon, then hands over to a chat; half of the time it puts back what it has read too much.
struct Prefix {
    puts_back: bool,
}

impl Channel<Seen> for Prefix {
    fn handle_read(&mut self, cx: &mut Context<'_, Seen>) -> Result {
        let most = if self.puts_back { 100 } else { 1 };
        while let Received::Data(data) = cx.map.recv(cx.id, most)? {
            let colon = data.iter().position(|byte| *byte == b':');
            Raw::note(cx.app, &data[..colon.unwrap_or(data.len())]);
            if let Some(colon) = colon {
                cx.map.unread(cx.id, &data[colon + 1..]);
                cx.map.replace(cx.id, Talk::chat(HandOver::Never, b"\r\n".into()));
            }
        }
        Ok(())
    }
}

#[test]
fn a_raw_channel_hands_over_to_a_chat_at_every_cut() {
    for puts_back in [false, true] {
        let seen = whatever_the_cuts(b"12:ab\r\nc\r\nd", |map, here| {
            map.add(here, Prefix { puts_back }).unwrap();
        });
        assert_eq!(seen, ["raw 12", "ab", "c", "rest d"]);
    }
}

/// Raw, to a chat, to a raw channel: what was put back passes through both.
#[test]
fn several_hand_over_in_a_row_at_every_cut() {
    struct First;
    impl Channel<Seen> for First {
        fn handle_read(&mut self, cx: &mut Context<'_, Seen>) -> Result {
            if let Received::Data(data) = cx.map.recv(cx.id, 100)? {
                Raw::note(cx.app, &data[..1]);
                cx.map.unread(cx.id, &data[1..]);
                cx.map.replace(cx.id, Talk::chat(HandOver::AtStopToRaw, b"\r\n".into()));
            }
            Ok(())
        }
    }
    let seen = whatever_the_cuts(b"!a\r\nSTOP\r\nz\r\n", |map, here| {
        map.add(here, First).unwrap();
    });
    assert_eq!(seen, ["raw !", "a", "STOP", r"raw z\r\n$"]);
}

/// A piece that was kept was not delivered, so it is the new handler's, and so is the terminator behind it.
#[test]
fn a_chat_that_hands_over_within_a_message_gives_back_all_of_it() {
    let terminators: [(Terminator, &[u8], &str); 5] = [
        (b"\r\n".into(), b"a\r\nbcd\r\ne\r\n", r"raw bcd\r\ne\r\n$"),
        (Terminator::any([&b"\n"[..], b"\r\n", b"--"]).unwrap(), b"a\nbcd\r\ne\n", r"raw bcd\r\ne\n$"),
        (Terminator::any([&b"\n"[..], b"\r\n", b"--"]).unwrap(), b"a--\rbcd--e", r"raw \rbcd--e$"),
        (Terminator::count(1).unwrap(), b"abcd\r\ne", r"raw d\r\ne$"),
        (b"abc".into(), b"aabcababdabc", r"raw ababdabc$"),
    ];
    for (terminator, input, expected) in terminators {
        for keeps in [true, false] {
            let mut rests = Vec::new();
            for pieces in every_split(input) {
                let mut map: Map<Seen> = map();
                let mut seen = Seen::new();
                let (mut peer, here) = Peer::pair();
                let mut chat = Talk::chat(HandOver::AtPiece(b'd'), terminator.clone());
                chat.user_mut().keeps = keeps;
                map.add(here, chat).unwrap();
                for piece in &pieces {
                    peer.send(piece);
                    turn(&mut map, &mut seen, 3);
                }
                peer.shutdown_write();
                turn(&mut map, &mut seen, 4);
                if keeps {
                    assert_eq!(seen.last().unwrap(), expected, "{pieces:?}");
                    continue;
                }
                // What was taken and what came to the new one are the input together, less the terminators of messages
                // that were delivered.
                let taken: String = seen.iter().filter_map(|line| line.strip_prefix("took ")).collect();
                let raw = seen.last().unwrap().strip_prefix("raw ").unwrap();
                assert!(taken.ends_with('d'), "{seen:?}");
                rests.push(raw.to_owned());
            }
            rests.dedup();
            assert!(rests.len() <= 1, "{rests:?}");
        }
    }
}

/// The rest of a message that was too long is passed over to its end, and is nobody's.
#[test]
fn a_chat_that_hands_over_behind_a_message_that_was_too_long_gives_back_nothing_of_it() {
    let seen = whatever_the_cuts(b"0123\r\nabd\r\nz", |map, here| {
        let chat = Talk::chat(HandOver::AtPiece(b'd'), b"\r\n".into());
        map.add(here, chat.message_limit(3).on_too_long(OnTooLong::Skip)).unwrap();
    });
    assert_eq!(seen, [r"raw abd\r\nz$"]);
}

/// The message was complete when a pause came, and is not delivered when another takes over.
#[test]
fn a_complete_message_that_waits_is_given_back_with_its_terminator() {
    struct Pauses;
    impl Chat<Seen> for Pauses {
        fn collect_incoming_data(&mut self, cx: &mut Conversation<'_, Seen>, _: &[u8]) -> Result<Collected> {
            cx.pause_reading();
            Ok(Collected::Kept)
        }

        fn found_terminator(&mut self, cx: &mut Conversation<'_, Seen>, message: &[u8]) -> Result {
            cx.app.push(message.escape_ascii().to_string());
            Ok(())
        }
    }
    for replaces in [true, false] {
        for pieces in every_split(b"ab\r\ncd\r\n") {
            let mut map: Map<Seen> = map();
            let mut seen = Seen::new();
            let (mut peer, here) = Peer::pair();
            let id = map.add(here, AsyncChat::new(Pauses).terminator(b"\r\n")).unwrap();
            for piece in &pieces {
                peer.send(piece);
                turn(&mut map, &mut seen, 2);
            }
            assert!(seen.is_empty());
            if replaces {
                map.replace(id, Raw);
            }
            for _ in 0..8 {
                map.resume_reading(id);
                turn(&mut map, &mut seen, 2);
            }
            let expected = if replaces { vec![r"raw ab\r\ncd\r\n"] } else { vec!["ab", "cd"] };
            assert_eq!(seen, expected, "{pieces:?}");
        }
    }
}

/// An error in the callback that hands over costs no byte either.
#[test]
fn a_chat_that_hands_over_and_fails_gives_back_its_input() {
    struct Fails;
    impl Chat<Seen> for Fails {
        fn collect_incoming_data(&mut self, cx: &mut Conversation<'_, Seen>, _: &[u8]) -> Result<Collected> {
            cx.replace(KeepsOpen);
            Err("failed".into())
        }

        fn found_terminator(&mut self, _: &mut Conversation<'_, Seen>, _: &[u8]) -> Result {
            Ok(())
        }
    }
    struct KeepsOpen;
    impl Channel<Seen> for KeepsOpen {
        fn handle_read(&mut self, cx: &mut Context<'_, Seen>) -> Result {
            while let Received::Data(data) = cx.map.recv(cx.id, 100)? {
                Raw::note(cx.app, &data);
            }
            Ok(())
        }

        fn handle_error(&mut self, _cx: &mut Context<'_, Seen>, _error: &Error) {}
    }
    for cut in 2..7 {
        let mut map: Map<Seen> = map();
        let mut seen = Seen::new();
        let (mut peer, here) = Peer::pair();
        map.add(here, AsyncChat::new(Fails).terminator(b"\r\n")).unwrap();
        for piece in [&b"\r\na\r\nb"[..cut], &b"\r\na\r\nb"[cut..]] {
            peer.send(piece);
            turn(&mut map, &mut seen, 4);
        }
        // The piece that failed counts as taken, as it does without a replacement.
        assert_eq!(seen, [r"raw \r\nb"], "cut at {cut}");
    }
}

/// A chat around a closure, called with the callback's name.
struct Called<F>(F);

impl<F: FnMut(&mut Conversation<'_>, &str) -> Result + 'static> Chat for Called<F> {
    fn collect_incoming_data(&mut self, cx: &mut Conversation<'_>, _: &[u8]) -> Result<Collected> {
        (self.0)(cx, "collect").map(|()| Collected::Kept)
    }

    fn found_terminator(&mut self, cx: &mut Conversation<'_>, message: &[u8]) -> Result {
        if message == b"fail" { Err("failed".into()) } else { (self.0)(cx, "found") }
    }

    fn handle_too_long(&mut self, cx: &mut Conversation<'_>, _: &[u8]) -> Result {
        (self.0)(cx, "too long")
    }

    fn handle_connect(&mut self, cx: &mut Conversation<'_>) -> Result {
        (self.0)(cx, "connect")
    }

    fn handle_eof(&mut self, cx: &mut Conversation<'_>, _: &[u8]) -> Result {
        (self.0)(cx, "eof")
    }

    fn handle_drained(&mut self, cx: &mut Conversation<'_>) -> Result {
        (self.0)(cx, "drained")
    }

    fn handle_timer(&mut self, cx: &mut Conversation<'_>, _: TimerId) -> Result {
        (self.0)(cx, "timer")
    }

    fn handle_shutdown(&mut self, cx: &mut Conversation<'_>) -> Result {
        (self.0)(cx, "shutdown")
    }

    fn handle_error(&mut self, cx: &mut Conversation<'_>, _: &Error) {
        drop((self.0)(cx, "error"));
    }

    fn handle_close(&mut self, cx: &mut Conversation<'_>, _: CloseReason) {
        drop((self.0)(cx, "close"));
    }
}

fn chat(
    name: &str,
    log: &Log,
    terminator: Terminator,
) -> AsyncChat<Called<impl FnMut(&mut Conversation<'_>, &str) -> Result + 'static>> {
    let (name, log) = (name.to_owned(), log.clone());
    let note = move |_: &mut Conversation<'_>, callback: &str| {
        log.add(format_args!("{name} {callback}"));
        Ok(())
    };
    AsyncChat::new(Called(note)).terminator(terminator)
}

/// Every callback of a chat can hand over; nothing of the former runs after it.
#[test]
fn a_chat_can_hand_over_in_every_callback() {
    for (at, sent, after) in [
        ("connect", &b"ab\r\n"[..], r"read ab\r\n"),
        ("collect", b"ab\r\ncd\r", r"read ab\r\ncd\r"),
        ("found", b"ab\r\ncd\r", r"read cd\r"),
        // What came with the limit is passed over, the rest of it is not known to be one.
        ("too long", b"0123456789\r\nab", ""),
        ("drained", b"ab", "read ab"),
        ("timer", b"ab\r", r"read ab\r"),
        ("shutdown", b"ab\r", r"read ab\r"),
        ("error", b"fail\r\nab\r\n", r"read ab\r\n"),
        ("eof", b"ab", ""),
    ] {
        let (mut map, log) = (map(), Log::new());
        let (mut peer, here) = Peer::pair();
        let to = log.clone();
        let chat = AsyncChat::new(Called(move |cx: &mut Conversation<'_>, callback: &str| {
            assert!(!to.has("handed over"), "{callback} after {at}");
            if callback == at {
                to.add("handed over");
                let mut new = Recorder::new(&to);
                new.closes_at_error = false;
                assert!(cx.replace(new));
            }
            Ok(())
        }));
        let chat = chat.terminator(b"\r\n").message_limit(8).on_too_long(OnTooLong::Skip);
        let id = map.add(here, chat).unwrap();
        turn(&mut map, &mut (), 2);
        if at == "drained" {
            map.push(id, vec![0; HIGH_MARK + 1]);
            turn(&mut map, &mut (), 1);
        }
        peer.send(sent);
        turn(&mut map, &mut (), 3);
        match at {
            "drained" => {
                assert_eq!(peer.read_bytes(HIGH_MARK + 1).len(), HIGH_MARK + 1);
            }
            "timer" => drop(map.set_timer(id, Duration::ZERO)),
            "shutdown" => map.shutdown(Duration::from_secs(60)),
            "eof" => peer.shutdown_write(),
            _ => {}
        }
        turn_until(&mut map, &mut (), at, |_, ()| log.has("handed over"));
        settle(&mut map, &mut ());
        let read: Vec<String> = log.lines().into_iter().filter(|line| line.starts_with("read")).collect();
        match at {
            "too long" => assert!(read.concat().ends_with(r"\r\nab"), "{read:?}"),
            _ => assert_eq!(read.concat(), after, "in {at}"),
        }
        assert_eq!(log.count("eof") + log.count("close"), 0, "in {at}: {:?}", log.lines());
        map.close(id);
        settle(&mut map, &mut ());
        assert_eq!(log.count("close Local"), 1, "in {at}");
    }
}

/// An end of file that came with the piece in which a chat handed over is told to the one that follows.
#[test]
fn a_chat_that_hands_over_in_its_last_piece_passes_the_end_on() {
    let mut map: Map<Seen> = map();
    let mut seen = Seen::new();
    let (mut peer, here) = Peer::pair();
    map.add(here, Talk::chat(HandOver::AtPiece(b'\r'), b"\r\n".into())).unwrap();
    peer.send(b"ab\r");
    turn(&mut map, &mut seen, 3);
    peer.shutdown_write();
    turn(&mut map, &mut seen, 6);
    assert_eq!(seen, [r"raw ab\r$"]);
    assert!(map.is_empty());
}

/// Discarded input is nobody's, also when another takes over in the same breath.
#[test]
fn discarded_input_is_not_handed_over() {
    struct Discards;
    impl Chat<Seen> for Discards {
        fn found_terminator(&mut self, cx: &mut Conversation<'_, Seen>, _: &[u8]) -> Result {
            cx.discard_incoming();
            cx.replace(Raw);
            Ok(())
        }
    }
    let mut map: Map<Seen> = map();
    let mut seen = Seen::new();
    let (mut peer, here) = Peer::pair();
    map.add(here, AsyncChat::new(Discards).terminator(b"\n")).unwrap();
    peer.send(b"STARTTLS\nsmuggled\n");
    turn(&mut map, &mut seen, 3);
    peer.send(b"clean");
    turn(&mut map, &mut seen, 3);
    assert_eq!(seen, ["raw clean"]);
}

/// Another channel's callback, or the program between turns, replaces a chat that has much left to deliver.
#[test]
fn a_chat_that_is_replaced_from_outside_gives_back_what_waited() {
    struct One;
    impl Chat<Seen> for One {
        fn found_terminator(&mut self, cx: &mut Conversation<'_, Seen>, message: &[u8]) -> Result {
            cx.app.push(message.escape_ascii().to_string());
            cx.pause_reading();
            Ok(())
        }
    }
    let mut map: Map<Seen> = map();
    let mut seen = Seen::new();
    let (mut peer, here) = Peer::pair();
    let id = map.add(here, AsyncChat::new(One).terminator(b"\n")).unwrap();
    peer.send(b"a\nb\nc\nd");
    turn(&mut map, &mut seen, 3);
    map.resume_reading(id);
    turn(&mut map, &mut seen, 3);
    peer.send(b"e\n");
    map.replace(id, Raw);
    turn(&mut map, &mut seen, 3);
    assert_eq!(seen, ["a", "b"], "the pause holds what was given back, too");
    map.resume_reading(id);
    turn(&mut map, &mut seen, 3);
    assert_eq!(seen, ["a", "b", r"raw c\nde\n"]);
}

/// A chat that takes over stops reading while its answers are not taken, as one that was there from the start.
#[test]
fn a_chat_that_takes_over_waits_while_its_output_is_high() {
    let (mut map, log) = (map(), Log::new());
    let (mut peer, here) = Peer::pair();
    let id = map.add(here, Recorder::new(&log)).unwrap();
    turn(&mut map, &mut (), 2);
    map.replace(id, chat("new", &log, b"\n".into()).ac_out_buffer_size(100));
    peer.send(b"x\n");
    turn(&mut map, &mut (), 3);
    assert_eq!(map.limits(id).unwrap().ac_out_buffer_size, 100);
    map.push(id, vec![0; HIGH_MARK + 1]);
    assert!(!map.is_reading(id));
}
