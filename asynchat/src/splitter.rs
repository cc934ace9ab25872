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
//! Each byte is looked at once or twice, whatever the chunks.

use std::ops::Deref;

use bytes::Bytes;

use crate::terminator::{Found, Kind, ROOT, Terminator};

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
///         }
///     }
/// }
/// assert_eq!(messages, [&b"HELO mail"[..], b"NOOP", b"QUIT"]);
/// ```
#[derive(Debug)]
pub struct Splitter {
    terminator: Terminator,
    /// Of byte strings, the automaton's node; of a count, the bytes that are missing.
    at: u64,
    /// Bytes of this message that were handed out and not said to be taken.
    kept: usize,
    limit: usize,
    searched: u64,
    /// There only while it says something.
    rare: Option<Box<Rare>>,
}

/// What a splitter seldom has to remember.
#[derive(Debug, Default, PartialEq)]
struct Rare {
    /// Bytes to go through again before the input, after the terminator has changed. While there are any, the
    /// automaton is at its root.
    replay: Bytes,
    /// How many bytes of the remembered prefix were handed out, as far as the limit let them.
    given: usize,
    /// Whether the message was too long and its rest is passed over.
    skipping: bool,
    /// The terminator after the message that is passed over.
    later: Option<Terminator>,
}

impl Splitter {
    /// Makes a splitter for messages that end at `terminator`, with a limit of [`MESSAGE_LIMIT`] bytes.
    pub fn new(terminator: impl Into<Terminator>) -> Self {
        let terminator = terminator.into();
        let at = start(&terminator);
        Self { terminator, at, kept: 0, limit: MESSAGE_LIMIT, searched: 0, rare: None }
    }

    /// Hands out the next piece of `input` and moves `input` behind it.
    ///
    /// Returns `None` when the input is used up. Call it until then: what is left in `input` has not been
    /// seen, and comes first in the next call.
    #[inline]
    pub fn split<'a>(&mut self, input: &mut &'a [u8]) -> Option<Split<'a>> {
        if self.rare.is_some() {
            return self.split_rare(input);
        }
        self.step(input, self.limit.saturating_sub(self.kept))
    }

    /// Says that `bytes` bytes of the last piece were used at once and do not count towards the limit.
    ///
    /// A caller that takes every piece can receive a message of any length.
    pub fn taken(&mut self, bytes: usize) {
        self.kept = self.kept.saturating_sub(bytes);
    }

    /// Chooses what ends the message, from the first byte that was not handed out.
    ///
    /// What was handed out of an unfinished message stays the start of it. Bytes remembered as the possible
    /// start of the former terminator are gone through again: when `"abc\r"` was seen under `"\r\n"` and now
    /// a count of three is chosen, the `"\r"` is the first of the three. A count starts anew.
    ///
    /// While a message that was [too long](Split::TooLong) is passed over, its end is still the former
    /// terminator, and the new one applies to the next message. Otherwise a peer could smuggle commands in the
    /// rest of a message that was refused. Only [`Terminator::none`], whose message has no end, gives way at once.
    /// [`reset`](Self::reset) stops the passing over.
    pub fn set_terminator(&mut self, terminator: impl Into<Terminator>) {
        let terminator = terminator.into();
        if self.is_skipping() {
            if !self.terminator.is_none() {
                self.rare().later = Some(terminator);
                return;
            }
            self.stop_skipping();
        }
        // The same byte strings: what has been remembered of them still holds.
        if terminator == self.terminator && terminator.as_count().is_none() {
            return;
        }
        let held = self.held();
        if !held.is_empty() {
            *self.rare() = Rare { replay: held, ..Rare::default() };
        }
        self.begin(terminator);
    }

    /// Sets the most bytes of one message, without its terminator; `usize::MAX` is no limit.
    ///
    /// Pieces that were [taken](Self::taken) do not count.
    pub fn set_limit(&mut self, limit: usize) {
        self.limit = limit;
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
        let rest = if self.is_skipping() { Bytes::new() } else { self.pending() };
        let room = self.limit.saturating_sub(self.kept);
        if rest.len() > room && room > 0 {
            *self.rare() = Rare { replay: rest.slice(room..), ..Rare::default() };
            self.at = start(&self.terminator);
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
        self.kept = 0;
        self.stop_skipping();
        self.rare = None;
        self.at = start(&self.terminator);
    }

    /// What ends the message, as it was last set.
    #[must_use]
    pub fn terminator(&self) -> &Terminator {
        self.later().unwrap_or(&self.terminator)
    }

    /// Of a count, how many bytes the message still lacks; otherwise `None`.
    #[must_use]
    pub fn remaining(&self) -> Option<u64> {
        match self.later() {
            Some(later) => later.as_count(),
            None => self.terminator.as_count().map(|_| self.at),
        }
    }

    /// The most bytes of one message.
    #[must_use]
    pub const fn limit(&self) -> usize {
        self.limit
    }

    /// The bytes that were consumed and not handed out: the possible start of a terminator.
    #[must_use]
    pub fn pending(&self) -> Bytes {
        match &self.rare {
            Some(rare) if !rare.replay.is_empty() => rare.replay.clone(),
            _ => self.held(),
        }
    }

    /// Whether the rest of a message that was too long is being passed over.
    #[must_use]
    pub fn is_skipping(&self) -> bool {
        self.rare.as_ref().is_some_and(|rare| rare.skipping)
    }

    /// How many bytes were looked at so far; one that was looked at twice counts twice.
    ///
    /// It shows that the work is linear in the input. A count, and none, look at no bytes.
    #[must_use]
    pub const fn searched(&self) -> u64 {
        self.searched
    }

    /// Goes on in `input`, of which at most `room` bytes may be handed out.
    #[inline]
    fn step<'a>(&mut self, input: &mut &'a [u8], room: usize) -> Option<Split<'a>> {
        if input.is_empty() {
            return None;
        }
        match self.terminator.kind() {
            Kind::Bytes(needles) if self.at == ROOT as u64 => {
                // Whether the message is too long shows within so many bytes. To look at more would be to
                // look at them again for the next piece.
                //
                //   |------- room -------|-- longest --|      no terminator ends in here:
                //   |------------- window -------------|      more than `room` bytes come before it
                let window = room.saturating_add(needles.longest()).min(input.len());
                let to_end = window == input.len();
                match needles.search(&input[..window], to_end, &mut self.searched) {
                    Found::Terminator { at, len } if at <= room => {
                        let piece = take(input, at);
                        take(input, len);
                        self.data(Piece::Borrowed(piece), true)
                    }
                    Found::Node(node) if to_end && window - needles.depth(node) <= room => {
                        let piece = take(input, window - needles.depth(node));
                        *input = &[];
                        self.at = node as u64;
                        if piece.is_empty() { None } else { self.data(Piece::Borrowed(piece), false) }
                    }
                    Found::Terminator { .. } | Found::Node(_) => self.no_more_than(room, input),
                }
            }
            Kind::Bytes(_) => self.step_held(input, room),
            Kind::Count(count) => {
                let missing = usize::try_from(self.at).unwrap_or(usize::MAX);
                let most = missing.min(input.len());
                if most > room {
                    self.at -= room as u64;
                    return self.no_more_than(room, input);
                }
                self.at -= most as u64;
                let end = self.at == 0;
                if end {
                    self.at = count.get();
                }
                self.data(Piece::Borrowed(take(input, most)), end)
            }
            Kind::Never if input.len() > room => self.no_more_than(room, input),
            Kind::Never => self.data(Piece::Borrowed(take(input, input.len())), false),
        }
    }

    /// [`step`](Self::step), when bytes before `input` may be the start of a terminator.
    ///
    /// The automaton goes on from there until it is clear how many of these are no part of a terminator.
    ///
    /// ```text
    ///   |---- held ----|------ input ------|
    ///   |- free -|---- depth ----|               node after i bytes of input
    ///                  |--- i ---|
    /// ```
    #[cold]
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
            self.searched += 1;
            let len = needles.ends(node);
            if len >= used && len > 0 {
                break (held + used - len, ROOT, true);
            }
            if len > 0 || needles.depth(node) <= used {
                // What begins in the input is for the next step, from the root, to find.
                used = 0;
                break (held, ROOT, false);
            }
        };

        let given = self.rare.as_ref().map_or(0, |rare| rare.given);
        let wanted = free.saturating_sub(given);
        if wanted > room {
            // Some now, and the rest, if there is room then, in the next step, which comes to the same end.
            if room == 0 {
                return self.too_long();
            }
            let piece = needles.prefix(self.node()).slice(given..given + room);
            self.rare().given += room;
            return self.data(Piece::Released(piece), false);
        }
        let piece = needles.prefix(self.node()).slice(free - wanted..free);
        take(input, used);
        self.at = next as u64;
        if let Some(rare) = &mut self.rare {
            rare.given = 0;
        }
        if piece.is_empty() && !end { None } else { self.data(Piece::Released(piece), end) }
    }

    /// [`split`](Self::split), when there is something in `rare`.
    #[cold]
    fn split_rare<'a>(&mut self, input: &mut &'a [u8]) -> Option<Split<'a>> {
        loop {
            let skipping = self.is_skipping();
            let room = if skipping { usize::MAX } else { self.limit.saturating_sub(self.kept) };
            let replay = std::mem::take(&mut self.rare().replay);
            let split = if replay.is_empty() {
                self.step(input, room)
            } else {
                let mut rest = &replay[..];
                let split = self.step(&mut rest, room).map(|split| split.released_from(&replay));
                self.rare().replay = replay.slice_ref(rest);
                if split.is_none() {
                    continue;
                }
                split
            };
            match split {
                Some(Split::Data { end, .. }) if skipping => {
                    if end {
                        self.stop_skipping();
                    }
                }
                split => {
                    self.rare.take_if(|rare| **rare == Rare::default());
                    return split;
                }
            }
        }
    }

    /// Hands out what there is room for, because the message has more.
    fn no_more_than<'a>(&mut self, room: usize, input: &mut &'a [u8]) -> Option<Split<'a>> {
        if room == 0 { self.too_long() } else { self.data(Piece::Borrowed(take(input, room)), false) }
    }

    #[inline]
    fn data<'a>(&mut self, piece: Piece<'a>, end: bool) -> Option<Split<'a>> {
        // Saturating: what is passed over is counted too, and may be longer than the address space.
        self.kept = if end { 0 } else { self.kept.saturating_add(piece.len()) };
        Some(Split::Data { piece, end })
    }

    #[cold]
    fn too_long<'a>(&mut self) -> Option<Split<'a>> {
        self.kept = 0;
        self.rare().skipping = true;
        Some(Split::TooLong)
    }

    /// The next byte belongs to another message.
    fn stop_skipping(&mut self) {
        let Some(rare) = &mut self.rare else { return };
        rare.skipping = false;
        self.kept = 0;
        if let Some(terminator) = rare.later.take() {
            self.begin(terminator);
        }
    }

    fn begin(&mut self, terminator: Terminator) {
        self.at = start(&terminator);
        self.terminator = terminator;
    }

    fn rare(&mut self) -> &mut Rare {
        self.rare.get_or_insert_default()
    }

    fn later(&self) -> Option<&Terminator> {
        self.rare.as_ref()?.later.as_ref()
    }

    /// What the automaton remembers and was not handed out.
    fn held(&self) -> Bytes {
        let Kind::Bytes(needles) = self.terminator.kind() else { return Bytes::new() };
        let given = self.rare.as_ref().map_or(0, |rare| rare.given);
        needles.prefix(self.node()).slice(given..)
    }

    #[expect(clippy::cast_possible_truncation, reason = "it was made from an index of nodes, a usize")]
    const fn node(&self) -> usize {
        self.at as usize
    }
}

impl Default for Splitter {
    /// A splitter that ends no message.
    fn default() -> Self {
        Self::new(Terminator::none())
    }
}

/// What [`Splitter::split`] came upon.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "a caller that overlooks a kind of result breaks the framing")]
pub enum Split<'a> {
    /// A piece of the message.
    Data {
        /// The bytes; empty only at the end of a message.
        piece: Piece<'a>,
        /// Whether the message ends after this piece, with the terminator or with the last counted byte.
        end: bool,
    },
    /// The message has more bytes than the limit allows.
    ///
    /// Said once a message. Its rest is passed over, its end included, and what was handed out of it is to be
    /// dropped.
    TooLong,
}

impl Split<'_> {
    /// The same, with a piece that owns its part of `replay`.
    fn released_from(self, replay: &Bytes) -> Split<'static> {
        match self {
            Split::Data { piece: Piece::Borrowed(piece), end } => {
                Split::Data { piece: Piece::Released(replay.slice_ref(piece)), end }
            }
            Split::Data { piece: Piece::Released(piece), end } => {
                Split::Data { piece: Piece::Released(piece), end }
            }
            Split::TooLong => Split::TooLong,
        }
    }
}

/// Some bytes of a message; it derefs to them.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "bytes are either in the input or remembered")]
pub enum Piece<'a> {
    /// A part of the input.
    Borrowed(&'a [u8]),
    /// Bytes of an earlier input, which had looked like the start of a terminator.
    Released(Bytes),
}

impl Deref for Piece<'_> {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        match self {
            Self::Borrowed(bytes) => bytes,
            Self::Released(bytes) => bytes,
        }
    }
}

impl AsRef<[u8]> for Piece<'_> {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

/// Where a message that ends at `terminator` starts.
fn start(terminator: &Terminator) -> u64 {
    terminator.as_count().unwrap_or(ROOT as u64)
}

/// Splits the first `len` bytes off.
#[inline]
fn take<'a>(input: &mut &'a [u8], len: usize) -> &'a [u8] {
    let (taken, rest) = input.split_at(len);
    *input = rest;
    taken
}

/// The most bytes of one message, unless another limit is set: 64 KiB.
///
/// It is what a peer can make a conversation hold by never ending its line. Long enough for every line
/// protocol in use (SMTP's lines have at most 1000 bytes, IRC's 512 and 8191 of tags), it is also the limit
/// of Python's `asyncio` streams, of Go's `bufio.Scanner` and of Redis' inline commands. Twisted chose 16384.
pub const MESSAGE_LIMIT: usize = 65536;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_splitter_is_seven_words() {
        assert!(size_of::<Splitter>() <= 56);
    }
}
