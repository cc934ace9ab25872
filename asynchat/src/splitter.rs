//! Splits a stream of bytes into messages.
//!
//! A [`Splitter`] knows nothing of sockets and buffers nothing. It is shown the input in chunks, cut anywhere,
//! and hands out the messages in pieces that borrow from these chunks. All that it remembers between chunks
//! is how far the automaton of the terminator has come. The bytes that may be the start of a terminator are
//! then consumed but not handed out; should the next chunk show that they were none, they are known without
//! having been stored, for they are the start of a pattern:
//!
//! ```text
//!   chunks    "HELO a\r"            "x"          "b\r"             "\nQUIT"
//!   pieces    "HELO a"        "\r"  "x"          "b"         "" and the end, "QUIT"
//!   at        "\r"            ROOT               "\r"        ROOT
//! ```
//!
//! With one byte string as the terminator, each byte is looked at once or twice, whatever the chunks; with
//! several, [`Terminator::any`] says how often.

use std::num::NonZeroUsize;

use bytes::Bytes;

use crate::begun::Begun;
use crate::extra::Extra;
use crate::frame::{Frame, Layout, Part};
use crate::needles::{Hit, Needles, ROOT};
use crate::terminator::{Kind, Terminator};
use crate::{FrameError, Piece, Split};

/// Splits a stream of bytes into messages at a [`Terminator`].
///
/// A chat channel has one inside. Use it by itself for another transport, or to test a protocol without any.
///
/// [`split`](Self::split) hands out the messages in pieces. How often it is called, and where the input was
/// cut, changes where the pieces are cut and nothing else. The terminator may change between any two calls
/// and applies from the first byte that was not handed out.
///
/// ```
/// use asynchat::{Split, Splitter};
///
/// let mut splitter = Splitter::new(b"\r\n");
/// let mut message = Vec::new();
/// let mut messages = Vec::new();
/// for mut chunk in [&b"HELO mail\r"[..], b"\nNOOP\r\nQU", b"IT\r\n"] {
///     while let Some(split) = splitter.split(&mut chunk) {
///         match split {
///             Split::Data { piece, end } => {
///                 message.extend_from_slice(&piece);
///                 if end {
///                     messages.push(std::mem::take(&mut message));
///                 }
///             }
///             Split::TooLong => message.clear(),
///             // Of frames alone: no line is malformed.
///             Split::Malformed(error) => return Err(error),
///         }
///     }
/// }
/// assert_eq!(messages, [&b"HELO mail"[..], b"NOOP", b"QUIT"]);
/// # Ok::<(), asynchat::FrameError>(())
/// ```
#[derive(Debug)]
pub struct Splitter {
    terminator: Terminator,
    pub(crate) extra: Extra,
}

impl Splitter {
    /// Makes a splitter for messages that end at `terminator`, with a limit of [`MESSAGE_LIMIT`] bytes.
    pub fn new(terminator: impl Into<Terminator>) -> Self {
        let terminator = terminator.into();
        Self { terminator, extra: Extra::default() }
    }

    /// Hands out the next piece of `input` and moves `input` behind it.
    ///
    /// Returns `None` when the input is used up. Call it until then: what is left in `input` has not been
    /// seen, and comes first in the next call.
    #[inline]
    pub fn split<'a>(&mut self, input: &mut &'a [u8]) -> Option<Split<'a>> {
        match self.split_whole(input, Needles::find) {
            Ok(message) => Some(Split::Data { piece: Piece::Borrowed(message), end: true }),
            Err(vain) => self.split_slowly(input, vain),
        }
    }

    /// [`split`](Self::split) in the usual case, inlined: a whole message, its end found with `find`.
    ///
    /// Otherwise [`split_slowly`](Self::split_slowly) is to go on, and is told in how many bytes no terminator ends.
    #[inline(always)]
    pub(crate) fn split_whole<'a>(
        &self,
        input: &mut &'a [u8],
        find: impl FnOnce(&Needles, &[u8]) -> Option<Hit>,
    ) -> Result<&'a [u8], usize> {
        let limit = self.extra.limit_between_messages().ok_or(0_usize)?;
        let (length, end) = match *self.terminator.kind() {
            Kind::Bytes(ref needles) => {
                let Hit { end, len } = find(needles, input).ok_or(input.len())?;
                (end - len.get(), end)
            }
            Kind::Count(count) => {
                let length = usize::try_from(count.get()).unwrap_or(usize::MAX);
                (length, length)
            }
            Kind::Frame(_) | Kind::Never => return Err(0),
        };
        match (input.get(..length), input.get(end..)) {
            (Some(message), Some(rest)) if length <= limit => {
                *input = rest;
                Ok(message)
            }
            _ => Err(0),
        }
    }

    /// Says that `bytes` bytes of the last piece were used at once and do not count towards the limit.
    ///
    /// A caller that takes every piece can receive a message of any length.
    pub fn taken(&mut self, bytes: usize) {
        let Some(begun) = self.extra.begun_mut() else { return };
        begun.kept = begun.kept.saturating_sub(bytes);
        if let Some(frame) = &mut begun.frame {
            frame.set_taken(bytes);
        }
    }

    /// Chooses what ends the message, from the first byte that was not handed out.
    ///
    /// What was handed out of an unfinished message stays the start of it. Bytes remembered as the possible
    /// start of the former terminator are gone through again: when `"abc\r"` was seen under `"\r\n"` and now
    /// a count of three is chosen, the `"\r"` is the first of the three. A count starts anew.
    ///
    /// While a message that was [too long](Split::TooLong) is passed over, its end is still the former
    /// terminator, and the new one applies to the next message. Otherwise a peer could smuggle commands in the
    /// rest of a message that was refused. Only [`Terminator::none`], whose message has no end, gives way at
    /// once. [`reset`](Self::reset) stops the passing over.
    #[inline]
    pub fn set_terminator(&mut self, terminator: impl Into<Terminator>) {
        let terminator = terminator.into();
        if self.extra.begun().is_none() {
            self.terminator = terminator;
        } else {
            self.change_terminator(terminator);
        }
    }

    /// [`set_terminator`](Self::set_terminator), when a message has begun.
    #[inline(never)]
    fn change_terminator(&mut self, terminator: Terminator) {
        if self.is_skipping() {
            if !self.terminator.is_none() {
                self.extra.begin().later = Some(terminator);
                return;
            }
            self.stop_skipping();
        }
        // The same byte strings or frame: what has been remembered of them still holds.
        if terminator == self.terminator && terminator.as_count().is_none() {
            return;
        }
        let pending = self.pending();
        if !pending.is_empty() {
            self.replay_only(pending);
        }
        self.begin(terminator);
    }

    /// Sets the most bytes of one message, without its terminator; `usize::MAX` is no limit.
    ///
    /// Pieces that were [taken](Self::taken) do not count.
    pub fn set_limit(&mut self, limit: usize) {
        self.extra.set_limit(limit);
    }

    /// Ends the input: the possible start of a terminator was a part of the message after all.
    ///
    /// Call it once [`split`](Self::split) has returned `None` for the last input, and until it returns `None`
    /// itself: the limit may cut the rest in two. Then the splitter is [reset](Self::reset).
    ///
    /// ```
    /// use asynchat::{Split, Splitter};
    ///
    /// let mut splitter = Splitter::new(b"\r\n");
    /// assert!(splitter.split(&mut &b"\r"[..]).is_none());
    /// let mut rest = Vec::new();
    /// while let Some(Split::Data { piece, end: false }) = splitter.finish() {
    ///     rest.extend_from_slice(&piece);
    /// }
    /// assert_eq!(rest, b"\r");
    /// ```
    pub fn finish(&mut self) -> Option<Split<'static>> {
        // A header is no part of its message.
        let is_dropped = self.is_skipping() || self.frame().is_some();
        let rest = if is_dropped { Bytes::new() } else { self.pending() };
        let room = self.room();
        if rest.len() > room && room > 0 {
            self.replay_only(rest.slice(room..));
            return self.data(Piece::Released(rest.slice(..room)), false);
        }
        self.reset();
        match rest.len() {
            0 => None,
            _ if room == 0 => Some(Split::TooLong),
            _ => Some(Split::Data { piece: Piece::Released(rest), end: false }),
        }
    }

    /// Forgets the message that has begun, and all of it that was not handed out.
    ///
    /// The next byte starts a new message. Use it where one stream ends and another begins on the same
    /// connection, as after STARTTLS. The terminator and the limit stay.
    pub fn reset(&mut self) {
        self.stop_skipping();
        self.extra.forget_begun();
    }

    /// What ends the message, as it was last set.
    #[must_use]
    pub fn terminator(&self) -> &Terminator {
        self.later().unwrap_or(&self.terminator)
    }

    /// Of a count, and of a frame whose length has come, how many bytes the message still lacks; otherwise `None`.
    #[must_use]
    pub fn remaining(&self) -> Option<u64> {
        match self.later() {
            Some(later) => later.as_count(),
            None => match self.terminator.as_count() {
                Some(count) => Some(count.saturating_sub(self.at())),
                None => self.frame()?.remaining(),
            },
        }
    }

    /// The most bytes of one message.
    #[must_use]
    pub fn limit(&self) -> usize {
        self.extra.limit()
    }

    /// The bytes that were consumed and not handed out: the possible start of a terminator, or a frame's header.
    #[must_use]
    pub fn pending(&self) -> Bytes {
        let (held, replay) = (self.held(), self.replay());
        match (held.is_empty(), replay.is_empty()) {
            (_, true) => held,
            (true, _) => replay,
            // A CR of a dot-stuffed text, and what the limit left of what is gone through again.
            _ => [held, replay].concat().into(),
        }
    }

    /// The frame that the next byte belongs to, if messages are framed.
    pub(crate) fn next_frame(&self) -> Option<Frame> {
        let Kind::Frame(layout) = *self.terminator.kind() else { return None };
        Some(self.frame().cloned().unwrap_or_else(|| Frame::new(layout)))
    }

    /// Makes what was kept of the message what had come of it again: the frame's header, what was kept, what is pending.
    pub(crate) fn put_back_into(&self, kept: &mut Vec<u8>) {
        if self.is_skipping() {
            return;
        }
        if let Some(frame) = self.frame() {
            frame.put_back_into(kept);
        }
        kept.extend_from_slice(&self.pending());
    }

    /// What is to be gone through again before the input, because the terminator has changed.
    pub(crate) fn replay(&self) -> Bytes {
        self.extra.begun().map(|begun| begun.replay.clone()).unwrap_or_default()
    }

    /// Whether that is anything.
    pub(crate) fn has_replay(&self) -> bool {
        self.extra.begun().is_some_and(|begun| !begun.replay.is_empty())
    }

    /// Whether input is being passed over: the rest of a message that was too long, or all that follows malformed input.
    #[must_use]
    pub fn is_skipping(&self) -> bool {
        self.extra.begun().is_some_and(|begun| begun.skipping)
    }

    /// [`split`](Self::split) in all cases; no terminator ends in the first `vain` bytes of `input`.
    #[inline(never)]
    pub(crate) fn split_slowly<'a>(&mut self, input: &mut &'a [u8], vain: usize) -> Option<Split<'a>> {
        if self.extra.begun().is_none() {
            return if input.is_empty() { None } else { self.step(input, self.room(), vain) };
        }
        match self.pass_over(input) {
            Ok(true) => {}
            Ok(false) => return None,
            Err(error) => return Some(Split::Malformed(error)),
        }
        let split = self.step_replay(input, self.room());
        self.extra.forget_nothing();
        split
    }

    /// Passes over the rest of a message that was too long, if one is: whether its end has come.
    pub(crate) fn pass_over(&mut self, input: &mut &[u8]) -> Result<bool, FrameError> {
        while self.is_skipping() {
            if let Some(begun) = self.extra.begun_mut().filter(|begun| begun.lost) {
                begun.replay = Bytes::new();
                *input = &[];
                return Ok(false);
            }
            match self.step_replay(input, usize::MAX) {
                Some(Split::Data { end: true, .. }) => self.stop_skipping(),
                Some(Split::Malformed(error)) => return Err(error),
                Some(_) => {}
                None => return Ok(false),
            }
        }
        Ok(true)
    }

    /// [`step`](Self::step), through what is to be gone through again first.
    fn step_replay<'a>(&mut self, input: &mut &'a [u8], room: usize) -> Option<Split<'a>> {
        loop {
            let replay = std::mem::take(&mut self.extra.begin().replay);
            if replay.is_empty() {
                return self.step(input, room, 0);
            }
            let mut rest = &replay[..];
            let split = self.step(&mut rest, room, 0).map(|split| split.released_from(&replay));
            self.extra.begin().replay = replay.slice_ref(rest);
            if split.is_some() {
                return split;
            }
        }
    }

    /// Hands out the next piece of `input`, of at most `room` bytes.
    fn step<'a>(&mut self, input: &mut &'a [u8], room: usize, vain: usize) -> Option<Split<'a>> {
        let Kind::Bytes(needles) = self.terminator.kind() else { return self.step_unsearched(input, room) };
        if self.at() != ROOT as u64 {
            return self.step_held(input, room);
        }
        let window = window(needles, input, room);
        let to_end = window.len() == input.len();
        let (len, used, next, end) = match needles.search(window, vain, to_end) {
            Ok(Hit { end, len }) => (end - len.get(), end, ROOT, true),
            Err(node) if to_end => (input.len() - needles.depth(node), input.len(), node, false),
            Err(_) => (usize::MAX, 0, ROOT, false),
        };
        if len > room {
            return self.step_part(input, room);
        }
        self.set_at(next as u64);
        let piece = &input[..len];
        *input = &input[used..];
        self.data(Piece::Borrowed(piece), end)
    }

    /// [`step`](Self::step), when bytes before `input` may be the start of a terminator.
    ///
    /// The automaton goes on from there until it is clear how many of these are no part of one.
    ///
    /// ```text
    ///   |---- held ----|------ input ------|
    ///   |- free -|---- depth ----|
    ///                  |- used --|
    /// ```
    fn step_held<'a>(&mut self, input: &mut &'a [u8], room: usize) -> Option<Split<'a>> {
        let Kind::Bytes(needles) = self.terminator.kind() else { return None };
        let held = needles.depth(self.node());
        let mut node = self.node();
        let mut used = 0;
        let (free, next, end) = loop {
            let Some(&byte) = input.get(used) else {
                // All of the input may belong to the terminator.
                break (held + used - needles.depth(node), node, false);
            };
            node = needles.next(node, byte);
            used += 1;
            needles.looked_at(1);
            match needles.ends(node).map(NonZeroUsize::get) {
                Some(len) if len >= used => break (held + used - len, ROOT, true),
                None if needles.depth(node) > used => {}
                _ => {
                    // What begins in the input is for the next step, from the root, to find.
                    used = 0;
                    break (held, ROOT, false);
                }
            }
        };

        let prefix = needles.prefix(self.node());
        let given = self.extra.begun().map_or(0, |begun| begun.given);
        if free.saturating_sub(given) > room {
            // Some now. The next step comes to the same end and hands out more, if there is room then.
            if room == 0 {
                return self.too_long();
            }
            self.extra.begin().given += room;
            return self.data(Piece::Released(prefix.slice(given..given + room)), false);
        }
        self.set_at(next as u64);
        if let Some(begun) = self.extra.begun_mut() {
            begun.given = 0;
        }
        *input = &input[used..];
        self.data(Piece::Released(prefix.slice(given.min(free)..free)), end)
    }

    /// [`step`](Self::step) under a count, a frame, or none.
    fn step_unsearched<'a>(&mut self, input: &mut &'a [u8], room: usize) -> Option<Split<'a>> {
        if let Kind::Frame(layout) = *self.terminator.kind() {
            return self.step_frame(layout, input, room);
        }
        let count = self.terminator.as_count();
        let missing = count.map_or(u64::MAX, |count| count - self.at());
        let len = usize::try_from(missing).unwrap_or(usize::MAX).min(input.len());
        let end = len as u64 == missing && len <= room;
        if !end && count.is_some() {
            self.set_at(self.at() + len.min(room) as u64);
        }
        if len > room {
            return self.step_part(input, room);
        }
        self.data(Piece::Borrowed(input.split_off(..len).unwrap_or_default()), end)
    }

    /// [`step`](Self::step) through a frame, which is remembered while more of it is to come.
    fn step_frame<'a>(&mut self, layout: Layout, input: &mut &'a [u8], room: usize) -> Option<Split<'a>> {
        let begun = self.extra.begun_mut().and_then(|begun| begun.frame.take());
        let mut frame = begun.unwrap_or_else(|| Frame::new(layout));
        let part = frame.step(input, room);
        if matches!(part, Ok(Part::None | Part::TooLong | Part::Piece(_, false))) && frame.has_begun() {
            self.extra.begin().frame = Some(frame);
        }
        match part {
            Ok(Part::None) => None,
            Ok(Part::TooLong) => self.too_long(),
            Ok(Part::Piece(piece, end)) => self.data(piece, end),
            Err(error) => {
                let begun = self.extra.begin();
                (begun.kept, begun.skipping, begun.lost) = (0, true, true);
                Some(Split::Malformed(error))
            }
        }
    }

    /// Hands out what there is room for, because the message has more.
    fn step_part<'a>(&mut self, input: &mut &'a [u8], room: usize) -> Option<Split<'a>> {
        if room == 0 {
            self.too_long()
        } else {
            self.data(Piece::Borrowed(input.split_off(..room).unwrap_or_default()), false)
        }
    }

    fn data<'a>(&mut self, piece: Piece<'a>, end: bool) -> Option<Split<'a>> {
        if piece.is_empty() && !end {
            return None;
        }
        if end {
            self.end_message();
        } else {
            let begun = self.extra.begin();
            // Saturating: what is passed over is counted too, and may be longer than the address space.
            begun.kept = begun.kept.saturating_add(piece.len());
        }
        Some(Split::Data { piece, end })
    }

    fn too_long<'a>(&mut self) -> Option<Split<'a>> {
        let begun = self.extra.begin();
        (begun.kept, begun.skipping) = (0, true);
        Some(Split::TooLong)
    }

    /// The next byte belongs to another message.
    fn stop_skipping(&mut self) {
        let Some(begun) = self.extra.begun_mut() else { return };
        (begun.kept, begun.skipping) = (0, false);
        if let Some(terminator) = begun.later.take() {
            self.begin(terminator);
        }
    }

    fn begin(&mut self, terminator: Terminator) {
        self.terminator = terminator;
        if let Some(begun) = self.extra.begun_mut() {
            (begun.at, begun.frame) = (ROOT as u64, None);
        }
    }

    /// What has been handed out of a message was all of it.
    fn end_message(&mut self) {
        if let Some(begun) = self.extra.begun_mut() {
            (begun.at, begun.kept) = (ROOT as u64, 0);
            self.extra.forget_nothing();
        }
    }

    /// Of what has begun, `replay` is to be gone through again, and what was handed out stays so.
    fn replay_only(&mut self, replay: Bytes) {
        *self.extra.begin() = Begun { replay, kept: self.kept(), ..Begun::default() };
    }

    /// How many bytes of this message may be handed out.
    fn room(&self) -> usize {
        self.extra.limit().saturating_sub(self.kept())
    }

    fn kept(&self) -> usize {
        self.extra.begun().map_or(0, |begun| begun.kept)
    }

    fn at(&self) -> u64 {
        self.extra.begun().map_or(ROOT as u64, |begun| begun.at)
    }

    fn set_at(&mut self, at: u64) {
        if at != self.at() {
            self.extra.begin().at = at;
        }
    }

    fn later(&self) -> Option<&Terminator> {
        self.extra.begun()?.later.as_ref()
    }

    /// The frame that has begun.
    fn frame(&self) -> Option<&Frame> {
        self.extra.begun()?.frame.as_ref()
    }

    /// What the automaton remembers and was not handed out.
    fn held(&self) -> Bytes {
        let Kind::Bytes(needles) = self.terminator.kind() else {
            return self.frame().map(Frame::pending).unwrap_or_default();
        };
        let given = self.extra.begun().map_or(0, |begun| begun.given);
        needles.prefix(self.node()).slice(given..)
    }

    #[expect(clippy::cast_possible_truncation, reason = "it was made from an index of nodes, a usize")]
    fn node(&self) -> usize {
        self.at() as usize
    }
}

impl Default for Splitter {
    /// A splitter that ends no message.
    fn default() -> Self {
        Self::new(Terminator::none())
    }
}

/// As much of `input` as shows whether a message has more than `room` bytes.
///
/// To look at more would be to look at it again for the next piece.
///
/// ```text
///   |------- room -------|-- longest --|      no terminator ends in here:
///   |------------- window -------------|      more than `room` bytes come before it
/// ```
#[inline]
fn window<'a>(needles: &Needles, input: &'a [u8], room: usize) -> &'a [u8] {
    &input[..room.saturating_add(needles.longest()).min(input.len())]
}

/// The most bytes of one message, unless another limit is set: 64 KiB.
///
/// It is what a peer can make a conversation hold by never ending its line. SMTP's lines have at most 1000 bytes, IRC's
/// 8191 and 512; Python's `asyncio`, Go's `bufio.Scanner` and Redis' inline commands have this limit too.
pub const MESSAGE_LIMIT: usize = 65536;

#[cfg(test)]
mod tests {
    use super::*;

    /// What a conversation would be told: a message, or that one was too long.
    #[derive(Debug, PartialEq)]
    enum Told {
        Message(String),
        TooLong,
    }

    fn message(text: &str) -> Told {
        Told::Message(text.to_owned())
    }

    /// Feeds `chunks`; returns what was told, and what was handed out of an unfinished message.
    fn feed(splitter: &mut Splitter, chunks: &[&str]) -> (Vec<Told>, String) {
        let mut told = Vec::new();
        let mut rest = String::new();
        for chunk in chunks {
            let mut input = chunk.as_bytes();
            while let Some(split) = splitter.split(&mut input) {
                match split {
                    Split::Data { piece, end } => {
                        rest.push_str(str::from_utf8(&piece).unwrap());
                        if end {
                            told.push(Told::Message(std::mem::take(&mut rest)));
                        }
                    }
                    Split::TooLong => {
                        rest.clear();
                        told.push(Told::TooLong);
                    }
                    Split::Malformed(error) => panic!("{error}"),
                }
            }
        }
        (told, rest)
    }

    fn with_limit(terminator: impl Into<Terminator>, limit: usize) -> Splitter {
        let mut splitter = Splitter::new(terminator);
        splitter.set_limit(limit);
        splitter
    }

    #[test]
    fn a_splitter_is_three_words() {
        assert!(size_of::<Splitter>() <= 24);
    }

    #[test]
    fn a_message_that_is_whole_in_one_chunk_is_borrowed_from_it() {
        let chunk = b"one line\r\nrest";
        let mut input = &chunk[..];
        let split = Splitter::new(b"\r\n").split(&mut input);
        let Some(Split::Data { piece: Piece::Borrowed(piece), end: true }) = split else {
            panic!("{split:?}")
        };
        assert_eq!(piece.as_ptr_range(), chunk[..8].as_ptr_range());
        assert_eq!(input, b"rest");
    }

    #[test]
    fn an_empty_message_is_a_message() {
        let mut splitter = Splitter::new(b"\n");
        assert_eq!(feed(&mut splitter, &["\n\n"]), (vec![message(""), message("")], String::new()));
    }

    #[test]
    fn the_possible_start_of_a_terminator_is_remembered() {
        for (input, terminator, kept) in [
            ("qwerty\r", "\r\n", 1),
            ("qwertydkjf", "\r\n", 0),
            ("a\r\n.\r", "\r\n.\r\n", 4),
            ("\r\n\r", "\r\n\r\n", 3),
        ] {
            let mut splitter = Splitter::new(Terminator::try_from(terminator.as_bytes()).unwrap());
            let (told, offered) = feed(&mut splitter, &[input]);
            assert_eq!((told, &offered[..]), (vec![], &input[..input.len() - kept]));
            assert_eq!(splitter.pending(), input[input.len() - kept..]);
        }
    }

    #[test]
    fn a_start_that_was_no_terminator_is_released() {
        let mut splitter = Splitter::new(b"\r\n");
        assert!(splitter.split(&mut &b"\r"[..]).is_none());
        let mut input = &b"\rx\r\n"[..];
        let released = Piece::Released(Bytes::from_static(b"\r"));
        assert_eq!(splitter.split(&mut input), Some(Split::Data { piece: released, end: false }));
        let rest = Piece::Borrowed(b"\rx");
        assert_eq!(splitter.split(&mut input), Some(Split::Data { piece: rest, end: true }));
    }

    #[test]
    fn a_count_applies_to_every_message_until_another_is_chosen() {
        let mut splitter = Splitter::new(Terminator::count(3).unwrap());
        assert_eq!(
            feed(&mut splitter, &["abcd", "efg"]),
            (vec![message("abc"), message("def")], "g".to_owned())
        );
        assert_eq!(splitter.remaining(), Some(2));
        assert_eq!(splitter.terminator().as_count(), Some(3));

        splitter.set_terminator(Terminator::count(3).unwrap());
        assert_eq!(splitter.remaining(), Some(3));
        splitter.set_terminator(b"\n");
        assert_eq!(splitter.remaining(), None);
    }

    #[test]
    fn none_ends_no_message() {
        let mut splitter = Splitter::default();
        assert_eq!(feed(&mut splitter, &["a\r\n", "b"]), (vec![], "a\r\nb".to_owned()));
        assert_eq!(splitter.terminator().searched(), 0);
    }

    #[test]
    fn the_terminator_may_change_while_a_piece_is_held() {
        let mut splitter = Splitter::new(b"\n");
        let mut input = &b"5\nhello\nrest"[..];
        let Some(Split::Data { piece, end: true }) = splitter.split(&mut input) else { panic!() };
        splitter.set_terminator(Terminator::count(str::from_utf8(&piece).unwrap().parse().unwrap()).unwrap());
        let hello = Piece::Borrowed(b"hello");
        assert_eq!(splitter.split(&mut input), Some(Split::Data { piece: hello, end: true }));
    }

    #[test]
    fn remembered_bytes_come_under_the_new_terminator() {
        let mut splitter = Splitter::new(b"\r\n");
        assert_eq!(feed(&mut splitter, &["abc\r"]).1, "abc");
        splitter.set_terminator(Terminator::count(3).unwrap());
        assert_eq!(splitter.pending(), "\r");
        assert_eq!(feed(&mut splitter, &["12", "3"]), (vec![message("\r12")], "3".to_owned()));
    }

    #[test]
    fn remembered_bytes_may_hold_several_messages_of_the_new_terminator() {
        let mut splitter = Splitter::new(b"\r\n\r\n");
        assert!(splitter.split(&mut &b"\r\n\r"[..]).is_none());
        splitter.set_terminator(b"\r");
        let mut no_input = &b""[..];
        let empty = Piece::Released(Bytes::new());
        assert_eq!(splitter.split(&mut no_input), Some(Split::Data { piece: empty, end: true }));
        splitter.set_terminator(Terminator::count(1).unwrap());
        assert_eq!(feed(&mut splitter, &["x"]).0, [message("\n"), message("\r"), message("x")]);
    }

    #[test]
    fn the_same_terminator_chosen_again_changes_nothing() {
        let mut splitter = Splitter::new(b"\r\n");
        assert!(splitter.split(&mut &b"\r"[..]).is_none());
        splitter.set_terminator(b"\r\n");
        assert_eq!(feed(&mut splitter, &["\n"]).0, [message("")]);
    }

    #[test]
    fn a_message_may_be_as_long_as_the_limit_and_no_longer() {
        for terminator in [Terminator::line(), Terminator::crlf(), Terminator::any(["\r\n", "x"]).unwrap()] {
            let mut splitter = with_limit(terminator, 3);
            let told =
                feed(&mut splitter, &["abc\r\n", "abcd", "ef", "g\r\nab\r", "\n", "ab\r\r", "\r\nab\r\n"]).0;
            let wanted = ["abc", "", "ab", "", "ab"].map(message);
            let [first, _, second, _, third] = wanted;
            assert_eq!(told, [first, Told::TooLong, second, Told::TooLong, third]);
        }
    }

    #[test]
    fn a_count_beyond_the_limit_is_too_long_and_passed_over() {
        let mut splitter = with_limit(Terminator::count(5).unwrap(), 3);
        assert_eq!(feed(&mut splitter, &["abcdeab", "cd"]).0, [Told::TooLong, Told::TooLong]);
        assert!(splitter.is_skipping());
        assert_eq!(splitter.remaining(), Some(1));
        assert_eq!(feed(&mut splitter, &["e"]).0, []);
        assert_eq!(splitter.remaining(), Some(5));
    }

    #[test]
    fn bytes_that_were_taken_do_not_count_towards_the_limit() {
        let mut splitter = with_limit(b"\n", 3);
        let mut input = &b"0123456789\n"[..];
        let mut received = 0;
        while let Some(Split::Data { piece, .. }) = splitter.split(&mut input) {
            assert!(piece.len() <= 3);
            received += piece.len();
            splitter.taken(piece.len());
        }
        assert_eq!((received, input), (10, &b""[..]));
    }

    #[test]
    fn a_terminator_chosen_while_passing_over_applies_to_the_next_message() {
        let mut splitter = with_limit(b"\r\n.\r\n", 4);
        assert_eq!(feed(&mut splitter, &["a long body\r\n"]).0, [Told::TooLong]);
        splitter.set_terminator(b"\r\n");
        assert_eq!(*splitter.terminator(), Terminator::crlf());
        assert!(splitter.is_skipping());
        let told = feed(&mut splitter, &["DELE 1\r\n.\r", "\nQUIT\r\n"]).0;
        assert_eq!(told, [message("QUIT")]);

        let mut splitter = with_limit(b"\n", 4);
        assert_eq!(feed(&mut splitter, &["a long line"]).0, [Told::TooLong]);
        splitter.set_terminator(Terminator::count(2).unwrap());
        assert_eq!(splitter.remaining(), Some(2));
        assert_eq!(feed(&mut splitter, &["\nab"]).0, [message("ab")]);
    }

    #[test]
    fn a_message_without_an_end_is_passed_over_until_a_terminator_is_chosen() {
        let mut splitter = with_limit(Terminator::none(), 4);
        assert_eq!(feed(&mut splitter, &["123456789", "123456789"]).0, [Told::TooLong]);
        splitter.set_terminator(b"\n");
        assert!(!splitter.is_skipping());
        assert_eq!(feed(&mut splitter, &["ab\n"]).0, [message("ab")]);
    }

    #[test]
    fn reset_forgets_the_message_and_keeps_the_terminator() {
        let mut splitter = with_limit(b"\r\n", 4);
        assert_eq!(feed(&mut splitter, &["a long line\r"]).0, [Told::TooLong]);
        splitter.reset();
        assert!(!splitter.is_skipping() && splitter.pending().is_empty());
        assert_eq!(feed(&mut splitter, &["\nab\r"]), (vec![], "\nab".to_owned()));
        splitter.reset();
        assert_eq!(feed(&mut splitter, &["1234\r\n"]).0, [message("1234")]);
    }

    #[test]
    fn a_terminator_chosen_while_passing_over_outlives_a_reset() {
        let mut splitter = with_limit(b"\r\n", 4);
        assert_eq!(feed(&mut splitter, &["a long line"]).0, [Told::TooLong]);
        splitter.set_terminator(b"\n");
        splitter.reset();
        assert_eq!(feed(&mut splitter, &["ab\n"]).0, [message("ab")]);
    }

    #[test]
    fn the_end_of_input_releases_what_was_remembered_as_far_as_the_limit_allows() {
        let finish = |limit| {
            let mut splitter = with_limit(b"\r\n\r\n", limit);
            assert_eq!(feed(&mut splitter, &["a\r\n\r"]).1, "a");
            let first = splitter.finish();
            let second = splitter.finish();
            assert_eq!(splitter.finish(), None);
            (first, second)
        };
        let released = |bytes| Split::Data { piece: Piece::Released(Bytes::from_static(bytes)), end: false };
        assert_eq!(finish(4), (Some(released(b"\r\n\r")), None));
        assert_eq!(finish(3), (Some(released(b"\r\n")), Some(Split::TooLong)));
        assert_eq!(finish(1), (Some(Split::TooLong), None));
    }

    #[test]
    fn the_rest_of_a_message_that_was_too_long_is_not_released() {
        let mut splitter = with_limit(b"\r\n", 2);
        assert_eq!(feed(&mut splitter, &["abc\r"]).0, [Told::TooLong]);
        assert_eq!(splitter.finish(), None);
        assert!(!splitter.is_skipping());
    }

    #[test]
    fn nothing_rare_stays_allocated_once_it_is_over() {
        let mut splitter = with_limit(b"\r\n", 2);
        feed(&mut splitter, &["abc\r", "\n", "a\r", "b\r"]);
        splitter.set_terminator(b"\n");
        feed(&mut splitter, &["\n\n"]);
        assert!(splitter.extra.begun().is_none());
    }
}
