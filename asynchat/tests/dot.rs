//! Dot-stuffing both ways in a small world, exhaustively, and over random bodies.
//!
//! What is expected comes from an oracle that looks at the whole input and asks of each byte what stands in front of
//! it. The tests in `src/dot_stuffer.rs` and `src/dot_unstuffer.rs` use another one, which cuts the input into lines.

use asynchat::{BareEnd, BareIn, BareOut, DotStuffer, DotUnstuffer, Unstuffed};
use proptest::{collection::vec, prelude::*, sample::select};

/// Every string over these bytes up to `LONGEST` is tried: what ends a line, the dot, a letter, and the NUL that some
/// receivers have dropped.
const ALPHABET: &[u8] = b"\r\n.x\0";

/// 488,281 strings with the empty one, each at every cut; about a second in all.
const LONGEST: u32 = 8;

#[test]
fn every_body_is_stuffed_as_the_oracle_says_at_every_cut() {
    let mut wire = Vec::new();
    for_every_string(|body| {
        for bare in [BareOut::Refuse, BareOut::Normalise] {
            let expected = stuffed(bare, body);
            for cut in 0..=body.len() {
                wire.clear();
                let (head, tail) = body.split_at(cut);
                match (stuff(bare, &[head, tail], &mut wire), &expected) {
                    (Ok(()), Ok(expected)) => assert_eq!(&wire, expected, "{}", at(body, cut)),
                    (answer, expected) => {
                        assert_eq!(answer.err(), expected.clone().err(), "{}", at(body, cut));
                    }
                }
            }
        }
    });
}

#[test]
fn every_wire_is_unstuffed_as_the_oracle_says_at_every_cut() {
    let mut body = Vec::new();
    for_every_string(|wire| {
        for bare in [BareIn::Refuse, BareIn::Keep] {
            let (expected_body, expected_end) = unstuffed(bare, wire);
            for cut in 0..=wire.len() {
                body.clear();
                let (head, tail) = wire.split_at(cut);
                let end = unstuff(bare, &[head, tail], &mut body);
                assert_eq!((&body, end), (&expected_body, expected_end), "{}", at(wire, cut));
            }
        }
    });
}

#[test]
fn every_body_comes_back_as_it_was_sent() {
    let (mut wire, mut body) = (Vec::new(), Vec::new());
    for_every_string(|sent| {
        for bare in [BareOut::Refuse, BareOut::Normalise] {
            wire.clear();
            body.clear();
            if stuff(bare, &[sent], &mut wire).is_ok() {
                assert_eq!(unstuff(BareIn::Refuse, &[&wire], &mut body), Ok(Some(wire.len())));
                assert_eq!(body, in_lines(sent), "{}", sent.escape_ascii());
            }
        }
    });
}

proptest! {
    #[test]
    fn random_bodies_come_back_whatever_the_pieces(
        words in vec(select(vec!["\r\n", ".", "..", "a line of text", "\r\n.\r\n", "\r", "\n", "\0", "é"]), 0..200),
        out_cuts in vec(any::<prop::sample::Index>(), 0..9),
        in_cuts in vec(any::<prop::sample::Index>(), 0..9),
    ) {
        let sent = words.concat();
        let (mut wire, mut body) = (Vec::new(), Vec::new());
        let refused = stuff(BareOut::Refuse, &pieces(sent.as_bytes(), &out_cuts), &mut wire);
        prop_assert_eq!(refused.err(), first_bare(sent.as_bytes()));

        wire.clear();
        let normalised = stuff(BareOut::Normalise, &pieces(sent.as_bytes(), &out_cuts), &mut wire);
        prop_assert_eq!(normalised, Ok(()));
        let end = wire.len();
        wire.extend_from_slice(b"QUIT\r\n");
        prop_assert_eq!(unstuff(BareIn::Refuse, &pieces(&wire, &in_cuts), &mut body), Ok(Some(end)));
        prop_assert_eq!(body, in_lines(sent.as_bytes()));
    }

    #[test]
    fn random_wires_are_read_the_same_whatever_the_pieces(
        wire in vec(select(ALPHABET), 0..60),
        cuts in vec(any::<prop::sample::Index>(), 0..60),
        bare in select(vec![BareIn::Refuse, BareIn::Keep]),
    ) {
        let mut body = Vec::new();
        let end = unstuff(bare, &pieces(&wire, &cuts), &mut body);
        prop_assert_eq!((body, end), unstuffed(bare, &wire));
    }
}

/// A [`BareEnd`] that the oracles can build.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Refusal {
    byte: u8,
    position: u64,
}

impl From<BareEnd> for Refusal {
    fn from(refusal: BareEnd) -> Self {
        Self { byte: refusal.byte, position: refusal.position }
    }
}

/// The oracle of stuffing.
fn stuffed(bare: BareOut, body: &[u8]) -> Result<Vec<u8>, Refusal> {
    if let (BareOut::Refuse, Some(refusal)) = (bare, first_bare(body)) {
        return Err(refusal);
    }
    let lines = in_lines(body);
    let mut wire = Vec::new();
    for (index, &byte) in lines.iter().enumerate() {
        if byte == b'.' && is_line_start(&lines, index) {
            wire.push(b'.');
        }
        wire.push(byte);
    }
    wire.extend_from_slice(b".\r\n");
    Ok(wire)
}

/// The oracle of unstuffing: the body as far as it is certain, and how much of the wire it took, if it ended.
fn unstuffed(bare: BareIn, wire: &[u8]) -> (Vec<u8>, Result<Option<usize>, Refusal>) {
    let is_end = |&index: &usize| is_line_start(wire, index) && wire[index..].starts_with(b".\r\n");
    let end = (0..wire.len()).find(is_end);
    let mut wire = &wire[..end.unwrap_or(wire.len())];
    let mut answer = Ok(end.map(|end| end + 3));
    if let (BareIn::Refuse, Some(refusal)) = (bare, first_bare(wire)) {
        // A CR that is the last of all may yet become a CRLF.
        let may_go_on = end.is_none() && refusal.byte == b'\r' && refusal.position + 1 == wire.len() as u64;
        if !may_go_on {
            wire = &wire[..usize::try_from(refusal.position).unwrap()];
            answer = Err(refusal);
        }
    }
    let is_stuffing = |index: usize| wire[index] == b'.' && is_line_start(wire, index);
    let is_held = |index: usize| answer == Ok(None) && index + 1 == wire.len() && wire[index] == b'\r';
    let body =
        (0..wire.len()).filter(|&index| !is_stuffing(index) && !is_held(index)).map(|index| wire[index]);
    (body.collect(), answer)
}

/// The first CR or LF that has not the other beside it, and where it stands.
fn first_bare(text: &[u8]) -> Option<Refusal> {
    let is_bare = |&index: &usize| match text[index] {
        b'\r' => text.get(index + 1) != Some(&b'\n'),
        b'\n' => index == 0 || text[index - 1] != b'\r',
        _ => false,
    };
    (0..text.len()).find(is_bare).map(|index| Refusal { byte: text[index], position: index as u64 })
}

/// The body in whole lines: each CR, LF and CRLF made CRLF, and one added where the last line has none.
fn in_lines(body: &[u8]) -> Vec<u8> {
    let mut lines = Vec::new();
    for (index, &byte) in body.iter().enumerate() {
        match byte {
            b'\n' if index > 0 && body[index - 1] == b'\r' => {}
            b'\r' | b'\n' => lines.extend_from_slice(b"\r\n"),
            byte => lines.push(byte),
        }
    }
    if !is_line_start(&lines, lines.len()) {
        lines.extend_from_slice(b"\r\n");
    }
    lines
}

fn is_line_start(text: &[u8], index: usize) -> bool {
    index == 0 || text[..index].ends_with(b"\r\n")
}

/// Stuffs `pieces` as one body.
fn stuff(bare: BareOut, pieces: &[&[u8]], wire: &mut Vec<u8>) -> Result<(), Refusal> {
    let mut stuffer = DotStuffer::with_bare(bare);
    for piece in pieces {
        stuffer.stuff(piece, wire)?;
    }
    Ok(stuffer.finish(wire)?)
}

/// Unstuffs `pieces` as they would arrive; says how much of them was taken, if the end was found.
fn unstuff(bare: BareIn, pieces: &[&[u8]], body: &mut Vec<u8>) -> Result<Option<usize>, Refusal> {
    let mut unstuffer = DotUnstuffer::with_bare(bare);
    let mut taken = 0;
    for piece in pieces {
        let mut rest = *piece;
        let part = loop {
            match unstuffer.unstuff(&mut rest)? {
                Some(Unstuffed::Body(piece)) => body.extend_from_slice(piece),
                part => break part,
            }
        };
        taken += piece.len() - rest.len();
        if part == Some(Unstuffed::End) {
            return Ok(Some(taken));
        }
        assert!(rest.is_empty(), "bytes were left without an end");
    }
    Ok(None)
}

fn for_every_string(mut check: impl FnMut(&[u8])) {
    let mut string = Vec::new();
    let mut tried = 0;
    for length in 0..=LONGEST {
        for number in 0..ALPHABET.len().pow(length) {
            let digits = (0..length).map(|place| number / ALPHABET.len().pow(place) % ALPHABET.len());
            string.clear();
            string.extend(digits.map(|digit| ALPHABET[digit]));
            check(&string);
            tried += 1;
        }
    }
    assert_eq!(tried, 488_281);
}

/// `text` cut at each of `cuts`.
fn pieces<'t>(text: &'t [u8], cuts: &[prop::sample::Index]) -> Vec<&'t [u8]> {
    let mut places: Vec<_> = cuts.iter().map(|cut| cut.index(text.len() + 1)).collect();
    places.extend([0, text.len()]);
    places.sort_unstable();
    places.windows(2).map(|ends| &text[ends[0]..ends[1]]).collect()
}

fn at(text: &[u8], cut: usize) -> String {
    format!("{} cut at {cut}", text.escape_ascii())
}
