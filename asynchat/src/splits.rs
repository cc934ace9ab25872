//! [`Splits`]: the pieces of one chunk of input.

use crate::ahead::Ahead;
use crate::{Piece, Split, Splitter};

/// The pieces of one chunk of input, in order: made by [`Splitter::splits`].
///
/// It looks at many bytes of the chunk at a time, and finds the ends of all short messages among them at once.
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

    // In a loop, what is between the pieces stays in registers: so nothing of it is lent to a call.
    #[inline(always)]
    fn next(&mut self) -> Option<Split<'a>> {
        let (mut input, mut ahead) = (self.input, self.ahead);
        let whole =
            self.splitter.split_whole(&mut input, |needles, input| needles.find_ahead(input, &mut ahead));
        let split = match whole {
            Ok(message) => Some(Split::Data { piece: Piece::Borrowed(message), end: true }),
            Err(vain) => {
                // What was found may not have been taken, for a limit, and would be missed.
                ahead = Ahead::default();
                let mut rest = input;
                let split = self.splitter.split_slowly(&mut rest, vain);
                input = rest;
                split
            }
        };
        (self.input, self.ahead) = (input, ahead);
        split
    }
}
