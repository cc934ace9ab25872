//! The frames against an oracle that sees the whole input at once: every small input cut in every way, one framing
//! after another at every byte, and what the sender's side makes.

use asynchat::LengthPrefix::{U8, U16Be, U64Be, U64Le, Varint};
use asynchat::{BareIn, FrameError, Piece, Split, Splitter, Terminator};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

#[path = "frames/oracle.rs"]
mod oracle;
mod receiver;

use oracle::Framing::{self, Bytes, Count, Dots, Length, Netstring};
use oracle::{FRAMES, all, marks};
use receiver::{END, MALFORMED, Receiver, Row, TOO_LONG};

/// Splits `input` after each byte whose bit in `cuts` is set.
fn chunks(input: &[u8], cuts: u32) -> impl Iterator<Item = &[u8]> {
    let mut from = 0;
    (1..=input.len()).filter_map(move |to| {
        let is_cut = to == input.len() || cuts >> (to - 1) & 1 == 1;
        is_cut.then(|| &input[std::mem::replace(&mut from, to)..to])
    })
}

/// Every input of up to `most` of the bytes that matter, cut in every way.
fn try_everything(framing: Framing, limit: usize, most: u32, takes: bool) {
    let bytes: &[u8] = match framing {
        Length(Varint) => b"\x00\x01\x02\x80\x83",
        Netstring => b"012:,",
        Dots(_) => b"a.\r\n",
        _ => b"\x00\x01\x02\x03",
    };
    let mut wanted = Row::new();
    let mut input = Vec::new();
    for len in 1..=most {
        for number in 0..bytes.len().pow(len) {
            input.clear();
            input.extend((0..len).map(|at| bytes[number / bytes.len().pow(at) % bytes.len()]));
            wanted.clear();
            framing.row(limit, takes, &input, &mut wanted);
            for cuts in 0..1 << (len - 1) {
                let mut splitter = Splitter::new(framing.terminator());
                splitter.set_limit(limit);
                let mut receiver = Receiver { takes, ..Receiver::default() };
                chunks(&input, cuts).for_each(|chunk| receiver.feed(&mut splitter, chunk));
                let input = input.escape_ascii();
                assert_eq!(receiver.row, wanted, "{framing:?}, limit {limit}, {input} cut {cuts:b}");
                assert_eq!(splitter.finish(), None);
                assert!(splitter.pending().is_empty() && !splitter.is_skipping());
            }
        }
    }
}

/// The framings whose headers fit into a small input.
const SMALL: [Framing; 6] =
    [Length(U8), Length(U16Be), Length(Varint), Netstring, Dots(BareIn::Refuse), Dots(BareIn::Keep)];

#[test]
fn every_small_input_cut_in_every_way_gives_the_same_messages() {
    for framing in SMALL {
        try_everything(framing, usize::MAX, 6, false);
    }
}

#[test]
fn the_limit_does_not_depend_on_the_cuts() {
    for framing in SMALL {
        for limit in 0..=2 {
            try_everything(framing, limit, 5, false);
        }
    }
}

#[test]
fn a_receiver_that_takes_every_piece_of_a_text_has_no_limit() {
    for limit in 1..=2 {
        try_everything(Dots(BareIn::Refuse), limit, 6, true);
        try_everything(Dots(BareIn::Keep), limit, 6, true);
    }
}

#[test]
fn a_length_over_the_limit_is_too_long_also_for_a_receiver_that_takes_every_piece() {
    try_everything(Length(U8), 1, 5, true);
    try_everything(Netstring, 1, 5, true);
}

/// Inputs that begin with messages of `framing`, among them an empty one, and end in the middle of one.
fn samples(framing: Framing) -> [Vec<u8>; 2] {
    let first = framing.encode(&framing.fit("a.\nb"));
    let empty = framing.encode(&framing.fit(""));
    let long = framing.encode(&framing.fit(".\n0:,\n\u{1}\0\0\n."));
    [[&first[..], &empty, &long].concat(), [&long[..], &first[..first.len() / 2]].concat()]
}

#[test]
fn one_framing_follows_another_at_every_byte() {
    for before in all() {
        for after in all().into_iter().filter(|&after| after != before) {
            for (sample, input) in samples(before).into_iter().zip(samples(after)) {
                for at in 0..=sample.len() {
                    let input = [&sample[..at], &input].concat();
                    switch_at(before, after, at, &input);
                }
            }
        }
    }
}

/// `before` applies to the first `at` bytes, then `after`: as if cut there, or in single bytes.
fn switch_at(before: Framing, after: Framing, at: usize, input: &[u8]) {
    let mut wanted = Row::new();
    let pending = before.row(usize::MAX, false, &input[..at], &mut wanted);
    // Where the input was malformed, a framing that is chosen later changes nothing.
    if wanted.last() != Some(&MALFORMED) {
        let mut from_pending = Row::new();
        after.row(usize::MAX, false, &input[at - pending..], &mut from_pending);
        // What was handed out of a message is the start of the next, also if that turns out to be malformed.
        if let Some(first) = from_pending.iter().position(|&mark| mark > 255)
            && from_pending[first] == MALFORMED
        {
            let started = wanted.iter().rposition(|&mark| mark > 255).map_or(0, |at| at + 1);
            wanted.truncate(started);
        }
        wanted.extend(from_pending);
    }
    for size in [input.len().max(1), 1] {
        let mut splitter = Splitter::new(before.terminator());
        splitter.set_limit(usize::MAX);
        let mut receiver = Receiver::default();
        input[..at].chunks(size).for_each(|chunk| receiver.feed(&mut splitter, chunk));
        assert_eq!(splitter.pending(), &input[at - pending..at], "{before:?} at {at}");
        splitter.set_terminator(after.terminator());
        receiver.feed(&mut splitter, b"");
        input[at..].chunks(size).for_each(|chunk| receiver.feed(&mut splitter, chunk));
        let input = input.escape_ascii();
        assert_eq!(receiver.row, wanted, "{before:?}, then {after:?} at {at} of {input} by {size}");
    }
}

/// A terminator of which `begun` bytes have come and may be its start.
fn splitter_that_waits(pattern: &'static str, begun: usize, limit: usize) -> Splitter {
    let mut splitter = Splitter::new(Bytes(pattern).terminator());
    splitter.set_limit(limit);
    assert_eq!(splitter.split(&mut &pattern.as_bytes()[..begun]), None);
    splitter
}

#[test]
fn a_text_that_is_gone_through_again_has_the_limit_of_any() {
    for pattern in [".\rxy", "\r\n.xyz", "ab\r\n..\r\nxy"] {
        for rest in ["", "q", "\n", "\r", "\r\n.\r\n", "xz\r\n.\r\n"] {
            for (limit, begun) in (0..=7).flat_map(|limit| (1..pattern.len()).map(move |at| (limit, at))) {
                for after in [Dots(BareIn::Refuse), Dots(BareIn::Keep)] {
                    let mut wanted = Row::new();
                    let input = [&pattern.as_bytes()[..begun], rest.as_bytes()].concat();
                    after.row(limit, false, &input, &mut wanted);
                    let mut splitter = splitter_that_waits(pattern, begun, limit);
                    splitter.set_terminator(after.terminator());
                    let mut receiver = Receiver::default();
                    receiver.feed(&mut splitter, b"");
                    receiver.feed(&mut splitter, rest.as_bytes());
                    let input = input.escape_ascii();
                    assert_eq!(receiver.row, wanted, "{after:?}, limit {limit}, {input} from {begun} on");
                }
            }
        }
    }
}

#[test]
fn nothing_is_lost_when_the_framing_changes_twice_at_once() {
    // The limit leaves a CR that waits for its LF, and that LF behind it.
    let mut splitter = splitter_that_waits("ab\r\nxy", 5, 3);
    splitter.set_terminator(Terminator::dot_stuffed());
    let ab = Piece::Released((&b"ab"[..]).into());
    assert_eq!(splitter.split(&mut &b""[..]), Some(Split::Data { piece: ab, end: false }));
    assert_eq!(splitter.pending(), "\r\nx");
    splitter.set_limit(usize::MAX);
    splitter.set_terminator(Terminator::none());
    let rest = Piece::Released((&b"\r\nx"[..]).into());
    assert_eq!(splitter.split(&mut &b""[..]), Some(Split::Data { piece: rest, end: false }));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(500) })]

    #[test]
    fn what_is_framed_is_received_whichever_framing_follows_which(
        parts in vec((select(all()), "[a-c.\r\n\0]{0,12}"), 1..8),
        cuts in vec(1..9_usize, 1..20),
    ) {
        let mut wire = Vec::new();
        let mut wanted = Row::new();
        for (framing, text) in &parts {
            let message = framing.fit(text);
            wire.extend(framing.encode(&message));
            wanted.extend(marks(&message));
            wanted.push(END);
        }
        let framing = |at: usize| parts[at.min(parts.len() - 1)].0.terminator();
        let mut splitter = Splitter::new(framing(0));
        let mut receiver = Receiver::default();
        let mut rest = &wire[..];
        for &cut in cuts.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let (mut chunk, after) = rest.split_at(cut.min(rest.len()));
            rest = after;
            while let Some(split) = splitter.split(&mut chunk) {
                let ended = receiver.ended;
                receiver.receive(&mut splitter, split);
                if receiver.ended > ended {
                    splitter.set_terminator(framing(receiver.ended));
                }
            }
        }
        prop_assert_eq!(receiver.row, wanted);
    }

    #[test]
    fn random_bytes_give_the_messages_of_the_oracle(
        input in vec(prop_oneof![9 => select(&b"\0\x01\x0501:,a.\r\n\x80"[..]), 1 => 0..=255_u8], 0..60),
        framing in select(all()),
        cuts in vec(1..9_usize, 1..20),
        limit in prop_oneof![0..12_usize, Just(usize::MAX)],
    ) {
        let mut wanted = Row::new();
        framing.row(limit, false, &input, &mut wanted);
        let mut splitter = Splitter::new(framing.terminator());
        splitter.set_limit(limit);
        let mut receiver = Receiver::default();
        let mut rest = &input[..];
        for &cut in cuts.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let (chunk, after) = rest.split_at(cut.min(rest.len()));
            rest = after;
            receiver.feed(&mut splitter, chunk);
        }
        if matches!(framing, Bytes(_)) {
            receiver.row = receiver.finish(&mut splitter);
            wanted.clear();
            let pending = framing.row(limit, false, &input, &mut wanted);
            let kept = wanted.iter().rev().take_while(|&&mark| mark < END).count();
            if kept + pending > limit {
                wanted.truncate(wanted.len() - kept);
                wanted.push(TOO_LONG);
            } else {
                wanted.extend(marks(&input[input.len() - pending..]));
            }
        }
        prop_assert_eq!(receiver.row, wanted);
    }
}

#[test]
fn a_frame_that_is_whole_in_one_chunk_is_borrowed_from_it() {
    for framing in FRAMES.into_iter().chain([Count(5)]) {
        let message = framing.fit("hello");
        let wire = [&framing.encode(&message)[..], b"\0"].concat();
        let mut input = &wire[..];
        let split = Splitter::new(framing.terminator()).split(&mut input);
        let Some(Split::Data { piece: Piece::Borrowed(piece), end: true }) = split else {
            panic!("{framing:?}: {split:?}")
        };
        assert_eq!(piece, message);
        assert!(wire.as_ptr_range().contains(&piece.as_ptr()));
        assert_eq!(input, b"\0");
    }
}

#[test]
fn the_missing_bytes_of_a_frame_are_known_once_its_length_is() {
    let mut splitter = Splitter::new(Terminator::netstring());
    assert_eq!(splitter.remaining(), None);
    for (chunk, remaining) in
        [(&b"1"[..], None), (b"2:", Some(12)), (b"12345", Some(7)), (b"6789012", Some(0))]
    {
        Receiver::default().feed(&mut splitter, chunk);
        assert_eq!(splitter.remaining(), remaining, "{}", chunk.escape_ascii());
    }
    Receiver::default().feed(&mut splitter, b",");
    assert_eq!(splitter.remaining(), None);
}

#[test]
fn what_is_malformed_is_told_once_with_its_reason() {
    let varint = [&[0xff; 9][..], &[2]].concat();
    let bare = Terminator::dot_stuffed();
    for (terminator, wire, text) in [
        (Varint.into(), &varint[..], "varint: more than 64 bits"),
        (Terminator::netstring(), b"05:hello,", "netstring: a length with a leading zero"),
        (Terminator::netstring(), b"18446744073709551616:", "netstring: a length of more than 64 bits"),
        (Terminator::netstring(), b":,", "netstring: ':' where the length belongs"),
        (Terminator::netstring(), b"5 hello", "netstring: ' ' where the length belongs"),
        (Terminator::netstring(), b"1:a\n", r"netstring: '\n' where the comma belongs"),
        (bare, b"a\nb", "dot-stuffed text: bare LF at byte 1: only CRLF ends a line"),
    ] {
        let mut splitter = Splitter::new(terminator.clone());
        let mut input = wire;
        let error = loop {
            match splitter.split(&mut input) {
                Some(Split::Data { end: false, .. }) => {}
                Some(Split::Malformed(error)) => break error,
                other => panic!("{terminator:?}: {other:?}"),
            }
        };
        assert_eq!(error.to_string(), text);
        assert!(splitter.is_skipping());
        assert_eq!((splitter.split(&mut input), input), (None, &b""[..]));

        // Neither more input nor another terminator helps, only a new start.
        splitter.set_terminator(b"\n");
        assert_eq!(splitter.split(&mut &b"a\n"[..]), None);
        assert_eq!(*splitter.terminator(), Terminator::lf());
        splitter.reset();
        let a = Piece::Borrowed(b"a");
        assert_eq!(splitter.split(&mut &b"a\n"[..]), Some(Split::Data { piece: a, end: true }));
    }
}

#[test]
fn a_frame_that_is_passed_over_can_be_malformed_too() {
    for (terminator, wire) in
        [(Terminator::netstring(), &b"5:hello;"[..]), (Terminator::dot_stuffed(), b"hello\n")]
    {
        let mut splitter = Splitter::new(terminator);
        splitter.set_limit(3);
        let mut receiver = Receiver::default();
        wire.chunks(1).for_each(|chunk| receiver.feed(&mut splitter, chunk));
        assert_eq!(receiver.row, [TOO_LONG, MALFORMED]);
    }
}

#[test]
fn the_longest_lengths_are_too_long_and_no_more() {
    let longest = [0xff; 9].into_iter().chain([1]).collect::<Vec<u8>>();
    let netstring = b"18446744073709551615:";
    for (terminator, header) in [
        (Terminator::from(U64Be), &[0xff; 8][..]),
        (U64Le.into(), &[0xff; 8]),
        (Varint.into(), &longest),
        (Terminator::netstring(), netstring),
    ] {
        let mut splitter = Splitter::new(terminator.clone());
        let mut receiver = Receiver::default();
        receiver.feed(&mut splitter, header);
        receiver.feed(&mut splitter, b"abc");
        assert_eq!(receiver.row, [TOO_LONG], "{terminator:?}");
        assert_eq!(splitter.remaining(), Some(u64::MAX - 3));
    }
}

#[test]
fn a_varint_may_be_longer_than_it_must_be() {
    let mut receiver = Receiver::default();
    receiver.feed(&mut Splitter::new(Varint), &[0x81, 0x80, 0x00, b'a', 0x80, 0x00]);
    assert_eq!(receiver.row, [u16::from(b'a'), END, END]);
}

#[test]
fn an_error_of_a_frame_names_its_kind() {
    let mut splitter = Splitter::new(Terminator::netstring());
    assert_eq!(splitter.split(&mut &b"x"[..]), Some(Split::Malformed(FrameError::NoLength(b'x'))));
}
