//! The pieces of a chunk together are those that it gives one by one, whatever happens between them.

use asynchat::{Split, Splitter, Terminator};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

/// What happens between two pieces.
#[derive(Clone, Debug)]
enum Act {
    Nothing,
    Set(Terminator),
    Taken,
    Limit(usize),
    Reset,
}

impl Act {
    fn run(&self, splitter: &mut Splitter, piece: usize) {
        match self {
            Self::Nothing => {}
            Self::Set(terminator) => splitter.set_terminator(terminator.clone()),
            Self::Taken => splitter.taken(piece),
            Self::Limit(limit) => splitter.set_limit(*limit),
            Self::Reset => splitter.reset(),
        }
    }
}

fn terminator() -> impl Strategy<Value = Terminator> {
    let patterns = vec(vec(select(&b"ab\r\n"[..]), 1..4), 1..6);
    let any = |patterns: &[&str]| Terminator::any(patterns).unwrap();
    prop_oneof![
        2 => Just(Terminator::crlf()),
        2 => Just(Terminator::lf()),
        2 => Just(Terminator::line()),
        1 => Just(any(&["\0"])),
        1 => Just(any(&["x\0", "\0"])),
        3 => patterns.prop_map(|patterns| Terminator::any(patterns).unwrap()),
        3 => (1..300_u64).prop_map(|count| Terminator::count(count).unwrap()),
        1 => Just(Terminator::none()),
        1 => Just(Terminator::netstring()),
    ]
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        6 => Just(Act::Nothing),
        4 => terminator().prop_map(Act::Set),
        2 => Just(Act::Taken),
        1 => limit().prop_map(Act::Limit),
        1 => Just(Act::Reset),
    ]
}

fn limit() -> impl Strategy<Value = usize> {
    prop_oneof![0..200_usize, Just(usize::MAX), Just(asynchat::MESSAGE_LIMIT)]
}

/// Long runs, so that a block of the search holds no end, and short messages, so that it holds many.
fn chunk() -> impl Strategy<Value = Vec<u8>> {
    let words = ["\r\n", "\n", "\r", "a", "b", "\0", "3:abc,", "\n\n\n\n\n\n\n\n", "\r\n\r\n\r\n\r\n"];
    let part = prop_oneof![
        4 => select(words.map(|word| word.as_bytes().to_vec()).to_vec()),
        2 => (1..200_usize, select(&b"xab\r\0\n"[..])).prop_map(|(length, byte)| vec![byte; length]),
        2 => (1..20_usize).prop_map(|length| vec![b'x'; length]),
    ];
    vec(part, 1..80).prop_map(|parts| parts.concat())
}

/// A piece as it is told, and how much of the input is left.
fn told(split: &Split<'_>, rest: &[u8]) -> (String, usize) {
    match split {
        Split::Data { piece, end } => (format!("{} {end}", piece.escape_ascii()), rest.len()),
        other => (format!("{other:?}"), rest.len()),
    }
}

fn length(split: &Split<'_>) -> usize {
    if let Split::Data { piece, .. } = split { piece.len() } else { 0 }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(2000) })]

    #[test]
    fn the_pieces_of_a_chunk_are_those_that_it_gives_one_by_one(
        first in terminator(),
        chunks in vec(chunk(), 1..4),
        acts in vec(act(), 1..30),
        limit in limit(),
    ) {
        let splitter = || {
            let mut splitter = Splitter::new(first.clone());
            splitter.set_limit(limit);
            splitter
        };
        let (mut single, mut together) = (splitter(), splitter());
        // Long enough for every act between every two pieces; a reset may have a piece come again.
        let (mut single_acts, mut together_acts) = (acts.iter().cycle(), acts.iter().cycle());
        for chunk in &chunks {
            let (mut expected, mut found) = (Vec::new(), Vec::new());
            let mut rest = &chunk[..];
            while let Some(split) = single.split(&mut rest) {
                expected.push(told(&split, rest));
                single_acts.next().unwrap().run(&mut single, length(&split));
                if expected.len() > MOST_PIECES {
                    break;
                }
            }
            let mut splits = together.splits(chunk);
            while let Some(split) = splits.next() {
                found.push(told(&split, splits.rest()));
                together_acts.next().unwrap().run(splits.splitter(), length(&split));
                if found.len() > MOST_PIECES {
                    break;
                }
            }
            prop_assert_eq!(expected, found);
            prop_assert_eq!(single.pending(), together.pending());
            prop_assert_eq!(single.remaining(), together.remaining());
        }
    }
}

/// Pieces of one chunk that are looked at: with a limit of zero and a reset behind each they have no end.
const MOST_PIECES: usize = 20_000;
