//! [`Framing`]: how a conversation's input is cut into messages, and what has not been delivered yet.

use crate::frame::Frame;
use crate::{Splitter, Terminator};

/// The input side of a conversation: its terminator, its limits, and the input that waits.
///
/// A callback has it as [`Conversation::framing`](crate::Conversation::framing).
#[derive(Debug)]
pub struct Framing {
    pub(crate) splitter: Splitter,
    /// What was received and not delivered, because the channel paused or a callback failed. One box, there only while
    /// it says something.
    late: Option<Box<Late>>,
    pub(crate) in_size: u32,
    /// 0: as the channel's limits say.
    pub(crate) out_size: u32,
    pub(crate) on_too_long: OnTooLong,
    /// Whether the channel is prepared for a chat.
    pub(crate) prepared: bool,
    /// What is being delivered is to be dropped.
    pub(crate) discarded: bool,
}

/// What waits to be delivered.
#[derive(Debug, Default)]
struct Late {
    /// A message that is complete.
    found: Option<Found>,
    /// The input behind it.
    waiting: Waiting,
}

/// What came with the message that waits in what is held.
#[derive(Debug)]
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
        Self {
            splitter: Splitter::default(),
            late: None,
            in_size: AC_IN_BUFFER_SIZE,
            out_size: 0,
            on_too_long: OnTooLong::Close,
            prepared: false,
            discarded: false,
        }
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
        self.on_too_long = on_too_long;
    }

    /// Whether there is input to deliver without a read.
    pub(crate) fn has_waiting(&self) -> bool {
        self.late.is_some() || self.splitter.has_replay()
    }

    /// A message is complete and cannot be delivered now: it waits in `held`, with its terminator, should it be another
    /// that reads on.
    #[cold]
    pub(crate) fn hold_end(&mut self, held: &mut Vec<u8>, terminator: &[u8]) {
        held.extend_from_slice(terminator);
        self.late().found = Some(Found { terminator: terminator.len(), frame: None });
    }

    /// As [`hold_end`](Self::hold_end), of a message that came in a frame.
    #[cold]
    pub(crate) fn hold_frame(&mut self, frame: Frame) {
        self.late().found = Some(Found { terminator: 0, frame: Some(frame) });
    }

    /// The length of the message that waits in so many held bytes, if one does.
    #[inline]
    pub(crate) fn take_found(&mut self, held: usize) -> Option<usize> {
        let found = self.late.as_mut()?.found.take()?;
        self.forget_nothing();
        Some(held.saturating_sub(found.terminator))
    }

    /// Takes the input that waits.
    pub(crate) fn take_waiting(&mut self) -> Waiting {
        let waiting = self.late.as_mut().map(|late| std::mem::take(&mut late.waiting));
        self.forget_nothing();
        waiting.unwrap_or_default()
    }

    /// Has input wait.
    pub(crate) fn set_waiting(&mut self, waiting: Waiting) {
        self.late().waiting = waiting;
    }

    fn late(&mut self) -> &mut Late {
        self.late.get_or_insert_default()
    }

    /// Nothing that waits needs no box.
    fn forget_nothing(&mut self) {
        self.late.take_if(|late| late.found.is_none() && late.waiting.rest().is_empty());
    }

    /// Takes all that was received and not delivered, as it came; `held` was kept of the message.
    pub(crate) fn take_input(&mut self, mut held: Vec<u8>) -> Vec<u8> {
        let late = self.late.take().unwrap_or_default();
        if let Some(frame) = late.found.and_then(|found| found.frame) {
            frame.put_back_into(&mut held);
        }
        self.splitter.put_back_into(&mut held);
        held.extend_from_slice(late.waiting.rest());
        held
    }

    /// Drops all input that was received and not delivered, and the message that has begun.
    ///
    /// Needed where the input changes its meaning: what a peer sent in clear text behind STARTTLS must not be read as if
    /// it had come inside TLS (CVE-2011-0411).
    pub fn discard_incoming(&mut self) {
        self.splitter.reset();
        self.late = None;
        self.discarded = true;
    }
}

/// Input that waits to be delivered; delivering a part of it moves nothing.
#[derive(Debug, Default)]
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
