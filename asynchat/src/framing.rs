//! [`Framing`]: how a conversation's input is cut into messages, and what has not been delivered yet.

use crate::frame::Frame;
use crate::{Splitter, Terminator};

/// The input side of a conversation: its terminator, its limits, and the input that waits.
///
/// A callback has it as [`Conversation::framing`](crate::Conversation::framing).
#[derive(Debug)]
pub struct Framing {
    pub(crate) splitter: Splitter,
}

/// What few conversations have to remember, or all of them for a while.
#[derive(Debug, PartialEq)]
pub(crate) struct Rare {
    /// What was kept of a message that is not complete, or of one that waits.
    held: Vec<u8>,
    /// A message that is complete, and was not delivered because the channel paused or a callback failed.
    found: Option<Box<Found>>,
    /// The input behind it.
    waiting: Option<Box<Waiting>>,
    in_size: u32,
    /// 0: as the channel's limits say.
    out_size: u32,
    on_too_long: OnTooLong,
    /// Whether the channel is still to be prepared for a chat.
    is_new: bool,
    /// What is being delivered is to be dropped.
    discarded: bool,
}

impl Default for Rare {
    fn default() -> Self {
        Self {
            held: Vec::new(),
            found: None,
            waiting: None,
            in_size: AC_IN_BUFFER_SIZE,
            out_size: 0,
            on_too_long: OnTooLong::Close,
            is_new: false,
            discarded: false,
        }
    }
}

/// What came with the message that waits in what is held.
#[derive(Debug, PartialEq)]
struct Found {
    /// The length of its terminator, which is held behind it.
    terminator: usize,
    /// The frame that it came in, whole.
    frame: Option<Frame>,
}

/// What happens to a message that goes over its limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum OnTooLong {
    /// The channel is closed with [`CloseReason::TooLong`](asyncore::CloseReason::TooLong).
    Close,
    /// [`Chat::handle_too_long`](crate::Chat::handle_too_long) is called once, and the rest of the message is passed
    /// over, its end included.
    Skip,
}

impl Framing {
    pub(crate) fn new() -> Self {
        let mut framing = Self { splitter: Splitter::default() };
        framing.rare_mut().is_new = true;
        framing
    }

    /// Chooses what ends a message, from the next byte on: also from the next byte that was received already.
    pub fn set_terminator(&mut self, terminator: impl Into<Terminator>) {
        self.splitter.set_terminator(terminator);
    }

    /// What ends a message, as it was set.
    #[must_use]
    pub fn get_terminator(&self) -> &Terminator {
        self.splitter.terminator()
    }

    /// Of a count, and of a frame whose length has come, how many bytes the message still lacks; otherwise `None`.
    #[must_use]
    pub fn remaining(&self) -> Option<u64> {
        self.splitter.remaining()
    }

    /// Sets the most bytes of a message that are kept for it, without the terminator; `usize::MAX` is no limit.
    pub fn set_message_limit(&mut self, limit: usize) {
        self.splitter.set_limit(limit);
    }

    /// Chooses what happens to a message over the limit.
    pub fn set_on_too_long(&mut self, on_too_long: OnTooLong) {
        self.rare_mut().on_too_long = on_too_long;
        self.forget_nothing();
    }

    pub(crate) fn on_too_long(&self) -> OnTooLong {
        self.rare().map_or(OnTooLong::Close, |rare| rare.on_too_long)
    }

    /// Sets the most bytes of one read.
    pub(crate) fn set_in_size(&mut self, bytes: u32) {
        self.rare_mut().in_size = bytes.max(1);
    }

    pub(crate) fn in_size(&self) -> usize {
        self.rare().map_or(AC_IN_BUFFER_SIZE, |rare| rare.in_size) as usize
    }

    /// Sets the most bytes of one write, from when the channel is prepared.
    pub(crate) fn set_out_size(&mut self, bytes: u32) {
        self.rare_mut().out_size = bytes.max(1);
    }

    /// Whether the channel is still to be prepared for a chat.
    pub(crate) fn is_new(&self) -> bool {
        self.rare().is_some_and(|rare| rare.is_new)
    }

    /// The channel is prepared: the most bytes of one write, if the chat says how many.
    pub(crate) fn prepared(&mut self) -> Option<usize> {
        let rare = self.rare_mut();
        rare.is_new = false;
        let out_size = std::mem::take(&mut rare.out_size);
        self.forget_nothing();
        (out_size != 0).then_some(out_size as usize)
    }

    /// Whether there is input to deliver without a read.
    pub(crate) fn has_waiting(&self) -> bool {
        let has_waiting = |rare: &Rare| rare.found.is_some() || rare.waiting.is_some();
        self.rare().is_some_and(has_waiting) || self.splitter.has_replay()
    }

    /// A message is complete and cannot be delivered now: it waits in `held`, with its terminator, should it be another
    /// that reads on.
    #[cold]
    pub(crate) fn hold_end(&mut self, held: &mut Vec<u8>, terminator: &[u8]) {
        held.extend_from_slice(terminator);
        self.rare_mut().found = Some(Box::new(Found { terminator: terminator.len(), frame: None }));
    }

    /// As [`hold_end`](Self::hold_end), of a message that came in a frame.
    #[cold]
    pub(crate) fn hold_frame(&mut self, frame: Frame) {
        self.rare_mut().found = Some(Box::new(Found { terminator: 0, frame: Some(frame) }));
    }

    /// The length of the message that waits in so many held bytes, if one does.
    #[inline]
    pub(crate) fn take_found(&mut self, held: usize) -> Option<usize> {
        let found = self.splitter.extra.rare_mut()?.found.take()?;
        self.forget_nothing();
        Some(held.saturating_sub(found.terminator))
    }

    /// Takes what is held, for as long as input is delivered: [`set_held`](Self::set_held) follows.
    #[inline]
    pub(crate) fn take_held(&mut self) -> Vec<u8> {
        self.splitter.extra.rare_mut().map(|rare| std::mem::take(&mut rare.held)).unwrap_or_default()
    }

    /// Takes what is held, for good: the input has ended.
    pub(crate) fn take_rest(&mut self) -> Vec<u8> {
        let rest = self.take_held();
        self.forget_nothing();
        rest
    }

    /// Holds what was kept of a message; an idle conversation owns no buffer.
    #[inline]
    pub(crate) fn set_held(&mut self, held: Vec<u8>) {
        if !held.is_empty() {
            self.rare_mut().held = held;
        }
        self.forget_nothing();
    }

    /// Takes the input that waits.
    pub(crate) fn take_waiting(&mut self) -> Waiting {
        let waiting = self.splitter.extra.rare_mut().and_then(|rare| rare.waiting.take());
        self.forget_nothing();
        waiting.map_or_else(Waiting::default, |waiting| *waiting)
    }

    /// Has input wait.
    pub(crate) fn set_waiting(&mut self, waiting: Waiting) {
        self.rare_mut().waiting = Some(Box::new(waiting));
    }

    #[inline]
    fn rare(&self) -> Option<&Rare> {
        self.splitter.extra.rare()
    }

    fn rare_mut(&mut self) -> &mut Rare {
        self.splitter.extra.make_rare()
    }

    fn forget_nothing(&mut self) {
        self.splitter.extra.forget_nothing();
    }

    /// Takes all that was received and not delivered, as it came.
    pub(crate) fn take_input(&mut self) -> Vec<u8> {
        let mut held = self.take_held();
        let found = self.splitter.extra.rare_mut().and_then(|rare| rare.found.take());
        if let Some(frame) = found.and_then(|found| found.frame) {
            frame.put_back_into(&mut held);
        }
        self.splitter.put_back_into(&mut held);
        held.extend_from_slice(self.take_waiting().rest());
        held
    }

    /// Whether the input was discarded since this was asked last.
    #[inline]
    pub(crate) fn take_discarded(&mut self) -> bool {
        self.splitter.extra.rare_mut().is_some_and(|rare| std::mem::take(&mut rare.discarded))
    }

    /// Whether what is being delivered is to be dropped.
    #[inline]
    pub(crate) fn is_discarded(&self) -> bool {
        self.rare().is_some_and(|rare| rare.discarded)
    }

    /// Drops all input that was received and not delivered, and the message that has begun.
    ///
    /// Needed where the input changes its meaning: what a peer sent in clear text behind STARTTLS must not be read as if
    /// it had come inside TLS (CVE-2011-0411).
    pub fn discard_incoming(&mut self) {
        self.splitter.reset();
        let rare = self.rare_mut();
        (rare.held, rare.found, rare.waiting, rare.discarded) = (Vec::new(), None, None, true);
    }
}

/// Input that waits to be delivered; delivering a part of it moves nothing.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Waiting {
    bytes: Vec<u8>,
    delivered: usize,
}

impl Waiting {
    pub(crate) fn new(input: &[u8]) -> Self {
        Self { bytes: input.to_vec(), delivered: 0 }
    }

    pub(crate) fn rest(&self) -> &[u8] {
        &self.bytes[self.delivered..]
    }

    /// All but the last `left` bytes are delivered.
    pub(crate) fn keep_last(&mut self, left: usize) {
        self.delivered = self.bytes.len() - left;
    }
}

/// Most bytes that one read of a chat channel takes, unless set otherwise: 64 KiB, a few reads' worth of a socket's
/// buffer.
pub const AC_IN_BUFFER_SIZE: u32 = 64 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_held_leaves_no_box_behind() {
        let mut framing = Framing::new();
        framing.prepared();
        let owns_box = |framing: &Framing| framing.splitter.extra.rare().is_some();
        assert!(!owns_box(&framing));
        // A line that was cut in two.
        framing.set_held(b"half".to_vec());
        assert!(owns_box(&framing));
        assert_eq!(framing.take_held(), b"half");
        framing.set_held(Vec::new());
        assert!(!owns_box(&framing));
        // One that has no end.
        framing.set_held(b"half".to_vec());
        assert_eq!(framing.take_rest(), b"half");
        assert!(!owns_box(&framing));
    }
}
