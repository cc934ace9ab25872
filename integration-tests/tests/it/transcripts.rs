//! What the original's asynchat did, replayed: the transcripts below `fixtures/asynchat`, whose format is described in
//! `fixtures/record_asynchat.py`.
//!
//! Each chunk is a read of its own, and what comes of it is compared chunk by chunk: the bytes collected, where a
//! message was found among them, and the close. Where a transcript says that it `differs`, a function of that reason
//! turns what the original did into what ours does; none is left out.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

use asynchat::{
    AsyncChat, BytesProducer, Chat, Collected, Conversation, EmptyTerminator, IterProducer, Terminator,
};
use asyncore::{CloseReason, Dispatcher, Error, Map, Producer, Result, State};
use bytes::Bytes;
use integration_tests::{Peer, map, run_to_the_end, settle, turn_until};

const INPUT: &str = include_str!("../../fixtures/asynchat/input.txt");
const GENERATED: &str = include_str!("../../fixtures/asynchat/generated.txt");
const OUTPUT: &str = include_str!("../../fixtures/asynchat/output.txt");

#[test]
fn input_is_framed_as_the_original_frames_it() {
    assert_eq!(replay_all(INPUT), 290);
}

#[test]
fn generated_input_is_framed_as_the_original_frames_it() {
    assert_eq!(replay_all(GENERATED), 100);
}

#[test]
fn output_arrives_as_the_original_sends_it() {
    let transcripts = transcripts(OUTPUT);
    for transcript in &transcripts {
        send(transcript);
    }
    assert_eq!(transcripts.len(), 26);
}

#[test]
fn every_chosen_difference_is_met() {
    let mut reasons: Vec<_> = [INPUT, GENERATED, OUTPUT]
        .into_iter()
        .flat_map(transcripts)
        .flat_map(|transcript| transcript.differs)
        .collect();
    reasons.sort_unstable();
    reasons.dedup();
    assert_eq!(
        reasons,
        [
            "after-close",
            "close-forgotten",
            "count-met",
            "no-terminator",
            "producer-error",
            "rest-at-eof",
            "sent-at-once"
        ]
    );
}

/// One scenario: its lines, each a word and its operands.
struct Transcript {
    name: &'static str,
    differs: Vec<&'static str>,
    lines: Vec<(&'static str, Vec<&'static str>)>,
}

fn transcripts(text: &'static str) -> Vec<Transcript> {
    let mut all = Vec::new();
    for block in text.split("\n\n") {
        let mut transcript = Transcript { name: "", differs: Vec::new(), lines: Vec::new() };
        for line in block.lines().filter(|line| !line.starts_with('#')) {
            let (word, operands) = line.split_once(' ').unwrap_or((line, ""));
            match word {
                "name" => transcript.name = operands,
                "differs" => transcript.differs = operands.split(' ').collect(),
                _ => transcript.lines.push((word, operands.split_terminator(' ').collect())),
            }
        }
        if !transcript.name.is_empty() {
            all.push(transcript);
        }
    }
    all
}

/// Replays every transcript of a file: how many.
fn replay_all(text: &'static str) -> usize {
    let transcripts = transcripts(text);
    for transcript in &transcripts {
        let mut script = script_of(transcript);
        let mut causes = causes_of(transcript);
        for &reason in &transcript.differs {
            match reason {
                "no-terminator" => no_terminator(&mut causes, &mut script),
                "count-met" => count_met(&mut causes),
                "rest-at-eof" => rest_at_eof(&mut causes),
                "after-close" => after_close(&mut causes),
                _ => panic!("{}: unknown reason {reason}", transcript.name),
            }
        }
        replay(transcript.name, causes, script);
    }
    transcripts.len()
}

/// A terminator as a transcript writes it; `None` when it is one that ours has no value for.
fn terminator(operands: &[&str]) -> Option<Terminator> {
    match operands {
        ["bytes", hex] => Terminator::try_from(&unhex(hex)[..]).ok(),
        ["count", count] => Terminator::count(count.parse().unwrap()).ok(),
        ["none"] => Some(Terminator::none()),
        _ => panic!("unknown terminator {operands:?}"),
    }
}

fn unhex(hex: &str) -> Vec<u8> {
    let hex = if hex == "-" { "" } else { hex };
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}

/// What a program does in one `found_terminator`.
#[derive(Clone, Debug, PartialEq)]
enum Act {
    /// `None`: an empty terminator, or a count of 0.
    Set(Option<Terminator>),
    Close,
}

/// What goes in.
#[derive(Debug)]
enum Cause {
    Set(Option<Terminator>),
    Chunk(Vec<u8>),
    Eof,
}

/// What comes out.
#[derive(Clone, Debug, PartialEq)]
enum Effect {
    /// Collected; what the packets have cut in two is joined.
    Collect(Vec<u8>),
    /// Found, and what was done then.
    Found(Vec<Act>),
    Close,
}

/// The acts of the n-th `found`, in order.
fn script_of(transcript: &Transcript) -> VecDeque<Vec<Act>> {
    let mut script = VecDeque::new();
    for (word, operands) in &transcript.lines {
        match *word {
            "found" => script.push_back(Vec::new()),
            "then" => script.back_mut().unwrap().push(act(operands)),
            _ => {}
        }
    }
    script
}

fn act(operands: &[&str]) -> Act {
    if operands == ["close"] { Act::Close } else { Act::Set(terminator(&operands[1..])) }
}

/// Each cause with its effects.
fn causes_of(transcript: &Transcript) -> Vec<(Cause, Vec<Effect>)> {
    let mut causes: Vec<(Cause, Vec<Effect>)> = Vec::new();
    for (word, operands) in &transcript.lines {
        match *word {
            "set" => causes.push((Cause::Set(terminator(operands)), Vec::new())),
            "chunk" => causes.push((Cause::Chunk(unhex(operands[0])), Vec::new())),
            "eof" => causes.push((Cause::Eof, Vec::new())),
            effect => {
                let effects = &mut causes.last_mut().unwrap().1;
                match effect {
                    "collect" => collect(effects, &unhex(operands[0])),
                    "found" => effects.push(Effect::Found(Vec::new())),
                    "close" => effects.push(Effect::Close),
                    "then" => match effects.last_mut() {
                        Some(Effect::Found(acts)) => acts.push(act(operands)),
                        _ => panic!("{}: then without found", transcript.name),
                    },
                    _ => panic!("{}: unknown word {effect}", transcript.name),
                }
            }
        }
    }
    causes
}

/// Appends to what is collected, without a cut.
fn collect(effects: &mut Vec<Effect>, data: &[u8]) {
    match effects.last_mut() {
        Some(Effect::Collect(before)) => before.extend_from_slice(data),
        _ => effects.push(Effect::Collect(data.to_vec())),
    }
}

/// The original takes an empty terminator, or a count of 0, for "none". Ours has no such values: what makes one answers
/// [`EmptyTerminator`], and a program that means "none" says so.
fn no_terminator(causes: &mut [(Cause, Vec<Effect>)], script: &mut VecDeque<Vec<Act>>) {
    assert_eq!(Terminator::try_from(&b""[..]), Err(EmptyTerminator));
    assert_eq!(Terminator::count(0), Err(EmptyTerminator));
    let none = || Some(Terminator::none());
    for acts in script {
        for act in acts {
            if *act == Act::Set(None) {
                *act = Act::Set(none());
            }
        }
    }
    for (cause, effects) in causes {
        if let Cause::Set(terminator @ None) = cause {
            *terminator = none();
        }
        for effect in effects {
            let Effect::Found(acts) = effect else { continue };
            for act in acts {
                if *act == Act::Set(None) {
                    *act = Act::Set(none());
                }
            }
        }
    }
}

/// The original forgets a count once it is met, and collects for ever. With ours it repeats, until another terminator is
/// set.
fn count_met(causes: &mut [(Cause, Vec<Effect>)]) {
    let mut current = Terminator::none();
    // Of a count that repeats, how many bytes its message has.
    let mut repeats: Option<(u64, u64)> = None;
    for (cause, effects) in causes {
        if let Cause::Set(Some(terminator)) = cause {
            current = terminator.clone();
            repeats = None;
        }
        let mut ours = Vec::new();
        for effect in effects.drain(..) {
            match (&effect, &mut repeats) {
                (Effect::Collect(data), Some((count, have))) => {
                    for byte in data {
                        collect(&mut ours, &[*byte]);
                        *have += 1;
                        if have == count {
                            *have = 0;
                            ours.push(Effect::Found(Vec::new()));
                        }
                    }
                    continue;
                }
                (Effect::Found(acts), _) => {
                    let set = acts.iter().rev().find_map(|act| match act {
                        Act::Set(terminator) => terminator.clone(),
                        Act::Close => None,
                    });
                    repeats = None;
                    match set {
                        Some(terminator) => current = terminator,
                        None => repeats = current.as_count().map(|count| (count, 0)),
                    }
                }
                _ => {}
            }
            ours.push(effect);
        }
        *effects = ours;
    }
}

/// The original loses what it holds back as the possible start of a terminator. Ours hands it to `handle_eof`, behind
/// the rest of the message.
fn rest_at_eof(causes: &mut [(Cause, Vec<Effect>)]) {
    let mut current = Terminator::none();
    let (mut sent, mut used) = (Vec::new(), 0);
    for (cause, effects) in causes {
        match cause {
            Cause::Set(Some(terminator)) => current = terminator.clone(),
            Cause::Chunk(data) => sent.extend_from_slice(data),
            _ => {}
        }
        for effect in effects.iter() {
            match effect {
                Effect::Collect(data) => used += data.len(),
                Effect::Found(acts) => {
                    used += current.patterns().next().map_or(0, <[u8]>::len);
                    for act in acts {
                        if let Act::Set(Some(terminator)) = act {
                            current = terminator.clone();
                        }
                    }
                }
                Effect::Close => {}
            }
        }
        if matches!(cause, Cause::Eof) {
            assert!(used < sent.len(), "nothing was held back");
            assert_eq!(effects.pop(), Some(Effect::Close));
            collect(effects, &sent[used..]);
            effects.push(Effect::Close);
        }
    }
}

/// The original goes on with what it has received after its channel was closed. With ours nothing is delivered after
/// a close.
fn after_close(causes: &mut Vec<(Cause, Vec<Effect>)>) {
    let closes = |effect: &Effect| match effect {
        Effect::Found(acts) => acts.contains(&Act::Close),
        Effect::Close => true,
        Effect::Collect(_) => false,
    };
    let last = causes.iter().position(|(_, effects)| effects.iter().any(closes)).expect("a close");
    causes.truncate(last + 1);
    let effects = &mut causes[last].1;
    let closing = effects.iter().position(closes).unwrap();
    effects.truncate(closing + 1);
}

/// What a [`Replayer`] has seen.
type Seen = Rc<RefCell<Vec<Effect>>>;

/// Does in its n-th `found_terminator` what the script says.
struct Replayer {
    seen: Seen,
    script: VecDeque<Vec<Act>>,
    /// Collected since the last message.
    message: Vec<u8>,
}

impl Chat for Replayer {
    fn collect_incoming_data(&mut self, _: &mut Conversation<'_>, data: &[u8]) -> Result<Collected> {
        self.message.extend_from_slice(data);
        collect(&mut self.seen.borrow_mut(), data);
        Ok(Collected::Kept)
    }

    fn found_terminator(&mut self, cx: &mut Conversation<'_>, message: &[u8]) -> Result {
        assert_eq!(std::mem::take(&mut self.message), message);
        let acts = self.script.pop_front().unwrap_or_default();
        self.seen.borrow_mut().push(Effect::Found(acts.clone()));
        for act in acts {
            match act {
                Act::Set(terminator) => cx.set_terminator(terminator.ok_or(EmptyTerminator)?),
                Act::Close => cx.close(),
            }
        }
        Ok(())
    }

    fn handle_eof(&mut self, cx: &mut Conversation<'_>, rest: &[u8]) -> Result {
        assert_eq!(std::mem::take(&mut self.message), rest);
        cx.close_when_done();
        Ok(())
    }

    fn handle_close(&mut self, _: &mut Conversation<'_>, reason: CloseReason) {
        match reason {
            CloseReason::Eof => self.seen.borrow_mut().push(Effect::Close),
            // The transcripts do not tell of a channel that closed itself.
            _ => assert_eq!(reason, CloseReason::Local),
        }
    }
}

/// Feeds the causes to a conversation, and compares what comes of each.
fn replay(name: &str, causes: Vec<(Cause, Vec<Effect>)>, script: VecDeque<Vec<Act>>) {
    let seen = Seen::default();
    let mut map: Map = map();
    let (mut peer, here) = Peer::pair();
    let replayer = Replayer { seen: Rc::clone(&seen), script, message: Vec::new() };
    let id = map.add(here, AsyncChat::new(replayer)).unwrap();
    let mut sent = 0;
    for (step, (cause, effects)) in causes.into_iter().enumerate() {
        match cause {
            Cause::Set(terminator) => {
                let chat = map.handler_mut::<AsyncChat<Replayer>>(id).unwrap();
                chat.framing_mut().set_terminator(terminator.expect("a terminator"));
            }
            Cause::Chunk(data) => {
                peer.send(&data);
                sent += data.len() as u64;
                turn_until(&mut map, &mut (), name, |map, ()| {
                    map.get(id).is_none_or(|channel| channel.bytes_in() == sent)
                });
            }
            Cause::Eof => {
                peer.shutdown_write();
                run_to_the_end(&mut map, &mut ());
            }
        }
        assert_eq!(seen.take(), effects, "{name}, step {step}");
    }
}

/// Queues the steps of an output transcript in `handle_connect`, so all before the loop's next turn.
struct Sender {
    lines: Vec<(&'static str, Vec<&'static str>)>,
    reason: Rc<RefCell<Option<CloseReason>>>,
}

impl Chat for Sender {
    fn handle_connect(&mut self, cx: &mut Conversation<'_>) -> Result {
        for (word, operands) in &self.lines {
            let pieces = operands.iter().map(|hex| Bytes::from(unhex(hex)));
            match *word {
                "push" => {
                    cx.push(unhex(operands[0]));
                }
                "push_with_producer" => {
                    cx.push_with_producer(IterProducer::new(pieces.collect::<Vec<_>>()));
                }
                "failing_producer" => {
                    cx.push_with_producer(Failing(pieces.collect()));
                }
                "string_producer" => {
                    cx.push_with_producer(BytesProducer::new(unhex(operands[0])));
                }
                "simple_producer" => {
                    let size = operands[0].parse().unwrap();
                    let slices: Vec<_> =
                        unhex(operands[1]).chunks(size).map(Bytes::copy_from_slice).collect();
                    cx.push_with_producer(IterProducer::new(slices));
                }
                "close_when_done" => cx.close_when_done(),
                "discard_buffers" => cx.discard_buffers(),
                _ => panic!("unknown step {word}"),
            }
        }
        Ok(())
    }

    fn found_terminator(&mut self, _: &mut Conversation<'_>, _: &[u8]) -> Result {
        Ok(())
    }

    fn handle_close(&mut self, _: &mut Conversation<'_>, reason: CloseReason) {
        *self.reason.borrow_mut() = Some(reason);
    }
}

/// Gives its pieces, and then fails.
struct Failing(VecDeque<Bytes>);

impl Producer for Failing {
    fn more(&mut self, _most: usize) -> Result<Option<Bytes>> {
        self.0.pop_front().map(Some).ok_or_else(|| Error::from("no more"))
    }
}

/// Plays one output transcript, and compares what arrived.
fn send(transcript: &Transcript) {
    let mut lines = transcript.lines.clone();
    let (end, _) = lines.pop().unwrap();
    let (word, arrived) = lines.pop().unwrap();
    assert_eq!(word, "arrived");
    let (mut arrived, mut is_open) = (unhex(arrived[0]), end == "open");
    let mut reason = CloseReason::Local;
    match transcript.differs[..] {
        [] => {}
        // A push is written at the end of the turn, so a discard before that drops it.
        ["sent-at-once"] => arrived = b"three".to_vec(),
        // A discard leaves a pending close alone; what is pushed behind it is refused.
        ["close-forgotten"] => (arrived, is_open) = (Vec::new(), false),
        // The pieces before the error may or may not have been sent; what was pushed behind it is not.
        ["producer-error"] => reason = CloseReason::HandlerError,
        _ => panic!("{}: unknown reason {:?}", transcript.name, transcript.differs),
    }

    let mut size = 65536;
    if lines[0].0 == "out_buffer" {
        size = lines.remove(0).1[0].parse().unwrap();
    }
    let closed = Rc::default();
    let sender = Sender { lines, reason: Rc::clone(&closed) };
    let mut map: Map = map();
    let (mut peer, here) = Peer::pair();
    let id = map.add(here, AsyncChat::new(sender).ac_out_buffer_size(size)).unwrap();
    settle(&mut map, &mut ());
    let state = map.get(id).map(Dispatcher::state);
    assert_eq!(state == Some(State::Open), is_open, "{}: {state:?}", transcript.name);
    if is_open {
        map.close(id);
    }
    // Ends a channel that lingers.
    peer.shutdown_write();
    run_to_the_end(&mut map, &mut ());
    assert_eq!(closed.take(), Some(reason), "{}", transcript.name);
    let received = peer.read_rest();
    if reason == CloseReason::HandlerError {
        assert!(arrived.starts_with(&received), "{}: {}", transcript.name, received.escape_ascii());
    } else {
        assert_eq!(received, arrived, "{}", transcript.name);
    }
}
