//! The splitter against an oracle that sees the whole input at once: every small input cut in every way,
//! random larger ones, and the bound on the work.

use asynchat::{Split, Splitter, Terminator};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

mod receiver;

use receiver::{END, Receiver, Row, TOO_LONG};

/// The length of the first message of `input` and of what ends it: the earliest end, and of those the longest.
fn first_end(terminator: &Terminator, input: &[u8]) -> Option<(usize, usize)> {
    if let Some(count) = terminator.as_count() {
        let count = usize::try_from(count).ok()?;
        return (count <= input.len()).then_some((count, 0));
    }
    (1..=input.len()).find_map(|end| {
        let pattern = terminator
            .patterns()
            .filter(|pattern| input[..end].ends_with(pattern))
            .max_by_key(|p| p.len())?;
        Some((end - pattern.len(), pattern.len()))
    })
}

/// The oracle.
fn expected(terminator: &Terminator, limit: usize, mut input: &[u8], row: &mut Row) {
    row.clear();
    loop {
        let end = first_end(terminator, input);
        let message = &input[..end.map_or(input.len(), |(len, _)| len)];
        if message.len() > limit {
            row.push(TOO_LONG);
        } else {
            row.extend(message.iter().map(|&byte| u16::from(byte)));
        }
        let Some((len, terminator)) = end else { return };
        if len <= limit {
            row.push(END);
        }
        input = &input[len + terminator..];
    }
}

/// Splits `input` after each byte whose bit in `cuts` is set.
fn chunks(input: &[u8], cuts: u32) -> impl Iterator<Item = &[u8]> {
    let mut from = 0;
    (1..=input.len()).filter_map(move |to| {
        let is_cut = to == input.len() || cuts >> (to - 1) & 1 == 1;
        is_cut.then(|| &input[std::mem::replace(&mut from, to)..to])
    })
}

/// Every input of up to `most` bytes, cut in every way.
fn try_everything(terminator: &Terminator, limit: usize, most: u32, takes: bool) {
    let mut splitter = Splitter::new(terminator.clone());
    splitter.set_limit(limit);
    let mut receiver = Receiver { takes, ..Receiver::default() };
    let mut wanted = Row::new();
    let mut input = Vec::new();
    for len in 1..=most {
        for number in 0..3_u32.pow(len) {
            input.clear();
            let digits = std::iter::successors(Some(number), |number| Some(number / 3)).take(len as usize);
            input.extend(digits.map(|digits| b"a\r\n"[digits as usize % 3]));
            expected(terminator, if takes { usize::MAX } else { limit }, &input, &mut wanted);
            for cuts in 0..1 << (len - 1) {
                for chunk in chunks(&input, cuts) {
                    receiver.feed(&mut splitter, chunk);
                }
                let row = receiver.finish(&mut splitter);
                assert_eq!(
                    row,
                    wanted,
                    "{terminator:?}, limit {limit}, {} cut {cuts:b}",
                    input.escape_ascii()
                );
                receiver.row = row;
                receiver.row.clear();
            }
        }
    }
}

fn any(patterns: &[&str]) -> Terminator {
    Terminator::any(patterns).unwrap()
}

fn some_terminators() -> Vec<Terminator> {
    let sets: [&[&str]; 11] = [
        &["\n"],
        &["\r\n"],
        &["\r\n", "\n"],
        &["\r\n\r"],
        &["\n\n"],
        &["a", "\r\n"],
        &["aa\r", "a\n"],
        &["a", "\r", "\n"],
        // The finder, the automaton, and a pattern inside another.
        &["aa\ra"],
        &["a\ra\ra\ra\ra\ra\ra\ra\ra\r", "a\ra\na\ra\na\ra\na\ra\n", "\r\r", "a\n\n"],
        &["aa\r\na", "a\r"],
    ];
    let counts = [1, 2, 3].map(|count| Terminator::count(count).unwrap());
    sets.map(any).into_iter().chain(counts).chain([Terminator::none()]).collect()
}

#[test]
fn every_small_input_cut_in_every_way_gives_the_same_messages() {
    for terminator in some_terminators() {
        let is_common =
            terminator.patterns().all(|pattern| pattern.iter().all(|byte| b"\r\n".contains(byte)));
        try_everything(&terminator, usize::MAX, if is_common { 8 } else { 7 }, false);
    }
}

#[test]
fn the_limit_does_not_depend_on_the_cuts() {
    for terminator in some_terminators() {
        for limit in 0..=3 {
            try_everything(&terminator, limit, 6, false);
        }
    }
}

#[test]
fn a_receiver_that_takes_every_piece_has_no_limit() {
    for terminator in some_terminators() {
        for limit in 1..=2 {
            try_everything(&terminator, limit, 6, true);
        }
    }
}

fn random_input() -> impl Strategy<Value = Vec<u8>> {
    vec(prop_oneof![9 => select(&b"ab\r\n"[..]), 1 => 0..=255_u8], 0..80)
}

fn random_terminator() -> impl Strategy<Value = Terminator> {
    let pattern = vec(select(&b"ab\r\n"[..]), 1..6);
    prop_oneof![
        8 => vec(pattern, 1..6).prop_map(|patterns| Terminator::any(patterns).unwrap()),
        2 => (1..20_u64).prop_map(|count| Terminator::count(count).unwrap()),
        1 => Just(Terminator::none()),
    ]
}

/// The lengths of the chunks, used in turn.
fn random_cuts() -> impl Strategy<Value = Vec<usize>> {
    vec(1..9_usize, 1..20)
}

fn cut<'a>(mut input: &'a [u8], cuts: &[usize]) -> impl Iterator<Item = &'a [u8]> {
    cuts.iter()
        .cycle()
        .map_while(move |&len| input.split_off(..len.min(input.len())).filter(|c| !c.is_empty()))
}

fn marks(bytes: &[u8]) -> impl Iterator<Item = u16> {
    bytes.iter().map(|&byte| u16::from(byte))
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(1000) })]

    #[test]
    fn random_inputs_give_the_messages_of_the_oracle(
        input in random_input(),
        terminator in random_terminator(),
        cuts in random_cuts(),
        limit in prop_oneof![0..12_usize, Just(usize::MAX)],
    ) {
        let mut wanted = Row::new();
        expected(&terminator, limit, &input, &mut wanted);

        let mut splitter = Splitter::new(terminator);
        splitter.set_limit(limit);
        let mut receiver = Receiver::default();
        cut(&input, &cuts).for_each(|chunk| receiver.feed(&mut splitter, chunk));
        prop_assert_eq!(receiver.finish(&mut splitter), wanted);
    }

    #[test]
    fn pieces_and_terminators_together_are_the_input(
        input in random_input(),
        pattern in vec(select(&b"ab\r\n"[..]), 1..4),
        cuts in random_cuts(),
    ) {
        let mut splitter = Splitter::new(Terminator::any([&pattern]).unwrap());
        let mut receiver = Receiver::default();
        cut(&input, &cuts).for_each(|chunk| receiver.feed(&mut splitter, chunk));
        let row = receiver.finish(&mut splitter);
        let whole: Vec<u16> = row
            .into_iter()
            .flat_map(|mark| if mark == END { marks(&pattern).collect() } else { vec![mark] })
            .collect();
        prop_assert_eq!(whole, marks(&input).collect::<Vec<_>>());
    }

    #[test]
    fn a_terminator_chosen_after_a_message_applies_from_the_next_byte(
        input in random_input(),
        terminators in vec(random_terminator(), 1..5),
        cuts in random_cuts(),
    ) {
        let mut wanted = Row::new();
        let mut rest = &input[..];
        for terminator in terminators.iter().cycle() {
            let Some((len, terminator)) = first_end(terminator, rest) else { break };
            wanted.extend(marks(&rest[..len]));
            wanted.push(END);
            rest = &rest[len + terminator..];
        }
        wanted.extend(marks(rest));

        let mut splitter = Splitter::new(terminators[0].clone());
        let mut receiver = Receiver::default();
        for mut chunk in cut(&input, &cuts) {
            while let Some(split) = splitter.split(&mut chunk) {
                let ended = receiver.ended;
                receiver.receive(&mut splitter, split);
                if receiver.ended > ended {
                    splitter.set_terminator(terminators[receiver.ended % terminators.len()].clone());
                }
            }
        }
        prop_assert_eq!(receiver.finish(&mut splitter), wanted);
    }

    #[test]
    fn a_terminator_chosen_in_mid_message_applies_to_what_was_remembered(
        input in random_input(),
        at in 0..80_usize,
        first in random_terminator(),
        second in random_terminator(),
        cuts in random_cuts(),
    ) {
        let (before, after) = input.split_at(at.min(input.len()));
        let mut wanted = Row::new();
        expected(&first, usize::MAX, before, &mut wanted);
        let rest = wanted.iter().rev().take_while(|&&mark| mark != END).count();
        let held = (0..=rest)
            .rev()
            .find(|&held| {
                let held = &before[before.len() - held..];
                held.is_empty() || first.patterns().any(|pattern| pattern.starts_with(held))
            })
            .unwrap_or(0);
        let mut from_held = Row::new();
        expected(&second, usize::MAX, &input[before.len() - held..], &mut from_held);
        wanted.truncate(wanted.len() - held);
        wanted.extend(from_held);

        let mut splitter = Splitter::new(first);
        let mut receiver = Receiver::default();
        cut(before, &cuts).for_each(|chunk| receiver.feed(&mut splitter, chunk));
        assert_eq!(splitter.pending().len(), held);
        splitter.set_terminator(second);
        cut(after, &cuts).for_each(|chunk| receiver.feed(&mut splitter, chunk));
        receiver.feed(&mut splitter, b"");
        prop_assert_eq!(receiver.finish(&mut splitter), wanted);
    }
}

const MIB: usize = 1 << 20;

/// How many bytes are looked at for each byte of `input`, cut every `len` bytes.
fn looks(terminator: &Terminator, input: &[u8], len: usize) -> f64 {
    let mut splitter = Splitter::new(terminator.clone());
    splitter.set_limit(usize::MAX);
    let mut received = 0;
    let before = terminator.searched();
    for mut chunk in input.chunks(len) {
        while let Some(split) = splitter.split(&mut chunk) {
            if let Split::Data { piece, .. } = split {
                received += piece.len();
            }
        }
    }
    assert!(received <= input.len());
    (terminator.searched() - before) as f64 / input.len() as f64
}

#[test]
fn a_long_message_in_single_bytes_is_looked_at_twice_at_most() {
    let mut line = vec![b'x'; MIB];
    line.extend_from_slice(b"\r\n.\r\n");
    for terminator in [any(&["\n"]), any(&["\r\n"]), any(&["\r\n.\r\n"]), any(&["\r\n", "\n"])] {
        for input in [&line[..], &[b'\r'; MIB], &[b'\n'; MIB]] {
            let looks = looks(&terminator, input, 1);
            assert!(looks <= 2.0, "{terminator:?}: {looks}");
        }
    }
}

#[test]
fn nothing_that_a_peer_sends_makes_the_search_more_than_linear() {
    let repeated = |unit: &[u8]| unit.iter().copied().cycle().take(MIB / 16).collect::<Vec<u8>>();
    let inputs = [&b"\r"[..], b"\n", b"a", b"\r\n.\r", b"aaab", b"b", b"baaa"].map(repeated);
    let singles =
        ["\n", "\r\n", "\r\n.\r\n", "aaaab", "baaaa", "aaaaaaaaaaaaaaaa"].map(|pattern| any(&[pattern]));
    for input in &inputs {
        for len in [1, 2, 3, 5, 7, 16, 100, 4096, MIB] {
            for terminator in &singles {
                let looks = looks(terminator, input, len);
                assert!(looks <= 3.0, "{terminator:?} in {:?} by {len}: {looks}", &input[..5]);
            }
            for patterns in [&["\r\n", "\n"][..], &["aaaab", "baaab", "caaab"], &["aaab", "baaa", "x", "y"]] {
                let looks = looks(&any(patterns), input, len);
                let total: usize = patterns.iter().map(|pattern| pattern.len()).sum();
                assert!(looks <= total as f64 + 3.0, "{patterns:?} in {:?} by {len}: {looks}", &input[..5]);
            }
        }
    }
}

#[test]
fn a_small_limit_does_not_make_the_search_more_than_linear() {
    let input = [b'a'; MIB / 16];
    for terminator in [any(&["\n"]), any(&["\r\n"]), any(&["\r\n.\r\n"]), any(&["aaaab"])] {
        let mut splitter = Splitter::new(terminator.clone());
        splitter.set_limit(1);
        let before = terminator.searched();
        let mut rest = &input[..];
        while let Some(Split::Data { piece, .. }) = splitter.split(&mut rest) {
            splitter.taken(piece.len());
        }
        assert!(rest.is_empty());
        let looks = (terminator.searched() - before) as f64 / input.len() as f64;
        assert!(looks <= 8.0, "{terminator:?}: {looks}");
    }
}
