//! [`Begun`]: what a splitter remembers of a message that has begun.

use bytes::Bytes;

use crate::Terminator;
use crate::frame::Frame;

/// What a splitter remembers of a message that has begun.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Begun {
    /// Of byte strings, the automaton's node; of a count, the bytes that have come.
    pub(crate) at: u64,
    /// Bytes of this message that were handed out and not said to be taken.
    pub(crate) kept: usize,
    /// Bytes to go through again before the input, after the terminator has changed. While there are any, the
    /// automaton is at its root.
    pub(crate) replay: Bytes,
    /// How many bytes of the remembered prefix were handed out, as far as the limit let them.
    pub(crate) given: usize,
    /// Whether the message was too long and its rest is passed over.
    pub(crate) skipping: bool,
    /// Whether the input was malformed, and all of it is passed over.
    pub(crate) lost: bool,
    /// The terminator after the message that is passed over.
    pub(crate) later: Option<Terminator>,
    /// The frame that has begun.
    pub(crate) frame: Option<Frame>,
}
