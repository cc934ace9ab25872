//! [`Splits`]: the pieces of one chunk of input.

use crate::ahead::Ahead;
use crate::{Piece, Split, Splitter};

/// The pieces of one chunk of input, in order: made by [`Splitter::splits`].
///
/// It looks at the chunk as a whole, so that several short messages in it cost little more than one.
#[derive(Debug)]
pub struct Splits<'s, 'a> {
    splitter: &'s mut Splitter,
    input: &'a [u8],
    ahead: Ahead,
}

impl<'s, 'a> Splits<'s, 'a> {
    pub(crate) fn new(splitter: &'s mut Splitter, input: &'a [u8]) -> Self {
        Self { splitter, input, ahead: Ahead::default() }
    }

    /// The splitter: to change its terminator for what follows, or to say that a piece was taken.
    pub const fn splitter(&mut self) -> &mut Splitter {
        self.splitter
    }

    /// The input behind the last piece.
    #[must_use]
    pub const fn rest(&self) -> &'a [u8] {
        self.input
    }
}

impl<'a> Iterator for Splits<'_, 'a> {
    type Item = Split<'a>;

    #[inline]
    fn next(&mut self) -> Option<Split<'a>> {
        let Self { splitter, input, ahead } = self;
        match splitter.split_whole(input, |needles, input| needles.find_ahead(input, ahead)) {
            Ok(message) => Some(Split::Data { piece: Piece::Borrowed(message), end: true }),
            Err(vain) => {
                // What was found may not have been taken, for a limit, and would be missed.
                *ahead = Ahead::default();
                splitter.split_slowly(input, vain)
            }
        }
    }
}
