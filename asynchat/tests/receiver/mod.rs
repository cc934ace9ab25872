//! What receives the pieces that a splitter hands out, as a conversation would.

use asynchat::{Split, Splitter};

/// Messages as one row of marks, so that two splittings can be compared without regard to the pieces: bytes,
/// then `END` or nothing; `TOO_LONG` or `MALFORMED` alone.
pub(crate) type Row = Vec<u16>;

pub(crate) const END: u16 = 256;
pub(crate) const TOO_LONG: u16 = 257;
pub(crate) const MALFORMED: u16 = 258;

#[derive(Default)]
pub(crate) struct Receiver {
    pub(crate) row: Row,
    /// Where in `row` the message begins.
    pub(crate) message: usize,
    pub(crate) ended: usize,
    /// Says of every piece that it was used at once.
    pub(crate) takes: bool,
}

impl Receiver {
    pub(crate) fn feed(&mut self, splitter: &mut Splitter, mut chunk: &[u8]) {
        while let Some(split) = splitter.split(&mut chunk) {
            self.receive(splitter, split);
        }
        assert!(chunk.is_empty());
    }

    pub(crate) fn receive(&mut self, splitter: &mut Splitter, split: Split<'_>) {
        match split {
            Split::Data { piece, end } => {
                assert!(end || !piece.is_empty(), "an empty piece that ends nothing");
                self.row.extend(piece.iter().map(|&byte| u16::from(byte)));
                if self.takes {
                    splitter.taken(piece.len());
                } else {
                    assert!(self.row.len() - self.message <= splitter.limit());
                }
                if end {
                    self.end(END);
                }
            }
            Split::TooLong => {
                self.row.truncate(self.message);
                self.end(TOO_LONG);
            }
            Split::Malformed(_) => {
                self.row.truncate(self.message);
                self.end(MALFORMED);
            }
        }
    }

    fn end(&mut self, mark: u16) {
        self.row.push(mark);
        self.message = self.row.len();
        self.ended += 1;
    }

    pub(crate) fn finish(&mut self, splitter: &mut Splitter) -> Row {
        while let Some(split) = splitter.finish() {
            self.receive(splitter, split);
        }
        self.message = 0;
        std::mem::take(&mut self.row)
    }
}
