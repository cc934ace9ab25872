//! [`Split`] and [`Piece`]: what a splitter hands out.

use std::ops::Deref;

use bytes::Bytes;

use crate::FrameError;

/// What [`Splitter::split`](crate::Splitter::split) came upon.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "a caller that overlooks a kind of result breaks the framing")]
pub enum Split<'a> {
    /// A piece of the message.
    Data {
        /// The bytes; empty only at the end of a message.
        piece: Piece<'a>,
        /// Whether the message ends after this piece, with the terminator, its frame or the last counted byte.
        end: bool,
    },
    /// The message has more bytes than the limit allows.
    ///
    /// Said once a message. Its rest is passed over, its end included, and what was handed out of it is to be
    /// dropped.
    TooLong,
    /// The input is no frame of the kind that was expected.
    ///
    /// Said once. Nothing after it is handed out, until the splitter is [reset](crate::Splitter::reset); what was handed
    /// out of the message is to be dropped.
    Malformed(FrameError),
}

impl Split<'_> {
    /// The same, with a piece that owns its part of `replay`.
    pub(crate) fn released_from(self, replay: &Bytes) -> Split<'static> {
        match self {
            Split::Data { piece: Piece::Borrowed(piece), end } => {
                Split::Data { piece: Piece::Released(replay.slice_ref(piece)), end }
            }
            Split::Data { piece: Piece::Released(piece), end } => {
                Split::Data { piece: Piece::Released(piece), end }
            }
            Split::TooLong => Split::TooLong,
            Split::Malformed(error) => Split::Malformed(error),
        }
    }
}

/// Some bytes of a message; it derefs to them.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "bytes are either in the input or remembered")]
pub enum Piece<'a> {
    /// A part of the input.
    Borrowed(&'a [u8]),
    /// Bytes of an earlier input, which had looked like the start of a terminator or a line's end.
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
