//! How input is cut into reads does not matter: a conversation that reads 64 KiB at once and one that reads a few bytes
//! tell their handlers the same, whatever the handlers do between two messages.

use std::io::Write;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use asynchat::{AsyncChat, Chat, Collected, Conversation, OnTooLong, Terminator};
use asyncore::{CloseReason, Error, Map, Result};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

/// What a handler does with a message.
#[derive(Clone, Debug)]
enum Act {
    Nothing,
    Set(Terminator),
    Pause,
    PauseAndSet(Terminator),
    Fail,
    Replace,
}

/// What the two conversations have in common.
#[derive(Clone, Debug)]
struct Script {
    input: Vec<u8>,
    first: Terminator,
    /// One for each message, over and over.
    acts: Vec<Act>,
    /// Whether a piece pauses reading, over and over. How many pieces there are differs between the two.
    pauses: Vec<bool>,
    limit: usize,
    /// Whether the handler takes the pieces itself.
    takes: bool,
}

/// What a conversation was told, as text that the cuts do not change.
#[derive(Debug)]
struct Told {
    script: Script,
    ac_in_buffer_size: u32,
    log: String,
    messages: usize,
    pieces: usize,
}

impl Told {
    fn conversation(&self, terminator: Terminator) -> AsyncChat<Teller> {
        AsyncChat::new(Teller)
            .terminator(terminator)
            .ac_in_buffer_size(self.ac_in_buffer_size)
            .message_limit(self.script.limit)
            .on_too_long(OnTooLong::Skip)
    }
}

struct Teller;

impl Chat<Told> for Teller {
    fn collect_incoming_data(&mut self, cx: &mut Conversation<'_, Told>, data: &[u8]) -> Result<Collected> {
        if cx.app.script.pauses[cx.app.pieces % cx.app.script.pauses.len()] {
            cx.pause_reading();
        }
        cx.app.pieces += 1;
        if !cx.app.script.takes {
            return Ok(Collected::Kept);
        }
        cx.app.log += &data.escape_ascii().to_string();
        Ok(Collected::Taken)
    }

    fn found_terminator(&mut self, cx: &mut Conversation<'_, Told>, message: &[u8]) -> Result {
        cx.app.log += &format!("<{}>", message.escape_ascii());
        let act = cx.app.script.acts[cx.app.messages % cx.app.script.acts.len()].clone();
        cx.app.messages += 1;
        match act {
            Act::Nothing => {}
            Act::Set(terminator) => cx.set_terminator(terminator),
            Act::Pause => cx.pause_reading(),
            Act::PauseAndSet(terminator) => {
                cx.pause_reading();
                cx.set_terminator(terminator);
            }
            Act::Fail => return Err("the handler fails".into()),
            Act::Replace => {
                let terminator = cx.framing.get_terminator().clone();
                let next = cx.app.conversation(terminator);
                cx.replace(next);
            }
        }
        Ok(())
    }

    fn handle_too_long(&mut self, cx: &mut Conversation<'_, Told>, _beginning: &[u8]) -> Result {
        cx.app.log += "<too long>";
        Ok(())
    }

    fn handle_error(&mut self, cx: &mut Conversation<'_, Told>, _error: &Error) {
        cx.app.log += "<error>";
    }

    fn handle_eof(&mut self, cx: &mut Conversation<'_, Told>, rest: &[u8]) -> Result {
        cx.app.log += &format!("<end of file, {}>", rest.escape_ascii());
        cx.map.close(cx.id);
        Ok(())
    }

    fn handle_close(&mut self, cx: &mut Conversation<'_, Told>, reason: CloseReason) {
        cx.app.log += &format!("<{reason:?}>");
    }
}

/// Turns for a conversation: it reads at least a byte in each, or is resumed.
const MOST_TURNS: usize = 20_000;

/// Has a conversation read the script's input in portions of so many bytes.
fn log(script: &Script, ac_in_buffer_size: u32) -> String {
    let (mut peer, here) = UnixStream::pair().unwrap();
    let mut told =
        Told { script: script.clone(), ac_in_buffer_size, log: String::new(), messages: 0, pieces: 0 };
    let mut map = Map::new().unwrap();
    let id = map.add(here, told.conversation(script.first.clone())).unwrap();
    peer.write_all(&script.input).unwrap();
    drop(peer);
    for _ in 0..MOST_TURNS {
        if map.is_empty() {
            return told.log;
        }
        map.poll(&mut told, Some(Duration::from_millis(1))).unwrap();
        map.resume_reading(id);
    }
    panic!("a conversation did not end: {}", told.log);
}

fn terminator() -> impl Strategy<Value = Terminator> {
    let any = |patterns: &[&str]| Terminator::any(patterns).unwrap();
    prop_oneof![
        2 => Just(Terminator::crlf()),
        2 => Just(Terminator::lf()),
        2 => Just(Terminator::line()),
        1 => Just(any(&["a"])),
        1 => Just(any(&["\r\n.\r\n"])),
        1 => Just(any(&["ab", "\n\n", "a"])),
        3 => (1..30_u64).prop_map(|count| Terminator::count(count).unwrap()),
        1 => Just(Terminator::netstring()),
    ]
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        6 => Just(Act::Nothing),
        4 => terminator().prop_map(Act::Set),
        2 => Just(Act::Pause),
        2 => terminator().prop_map(Act::PauseAndSet),
        1 => Just(Act::Fail),
        1 => Just(Act::Replace),
    ]
}

fn input() -> impl Strategy<Value = Vec<u8>> {
    let words = ["\r\n", "\n", "\r", "a", "b", "\0", "3:abc,", "0:,", "\n\n\n\n\n\n", "\r\n.\r\n"];
    let part = prop_oneof![
        5 => select(words.map(|word| word.as_bytes().to_vec()).to_vec()),
        1 => (1..100_usize, select(&b"xab\r\n"[..])).prop_map(|(length, byte)| vec![byte; length]),
        2 => (1..20_usize).prop_map(|length| vec![b'x'; length]),
    ];
    // Several blocks of the search for the ends of lines.
    vec(part, 1..100).prop_map(|parts| parts.concat())
}

fn script() -> impl Strategy<Value = Script> {
    let limit = prop_oneof![1 => 1..40_usize, 2 => Just(asynchat::MESSAGE_LIMIT)];
    let pauses = vec(prop_oneof![4 => Just(false), 1 => Just(true)], 1..8);
    let parts = (input(), terminator(), vec(act(), 1..20), pauses, limit, any::<bool>());
    parts.prop_map(|(input, first, acts, pauses, limit, takes)| {
        // What is taken does not count against the limit, and how much is taken before a message is too long is up to
        // the cuts.
        let limit = if takes { asynchat::MESSAGE_LIMIT } else { limit };
        Script { input, first, acts, pauses, limit, takes }
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(2000) })]

    #[test]
    fn a_handler_is_told_the_same_however_the_input_is_cut(script in script(), ac_in_buffer_size in 1..9_u32) {
        prop_assert_eq!(log(&script, 65_536), log(&script, ac_in_buffer_size));
    }
}
