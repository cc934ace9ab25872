//! Ready-made producers: output from bytes, an iterator, a reader, or lines.
//!
//! A [`Producer`] is asked for its next piece only when the one before is nearly sent, so what these hold at a time
//! stays small however much they send in all.

use std::{
    io::{self, Read},
    iter::Fuse,
};

use asyncore::{Producer, Result};
use bytes::Bytes;
use memchr::memchr2;

/// Sends one [`Bytes`] in slices, without copying it.
///
/// Use it for a large body that is in memory already, perhaps shared by many channels: each slice is another
/// reference to the same memory.
///
/// ```
/// use asynchat::BytesProducer;
/// use asyncore::Producer;
///
/// let mut producer = BytesProducer::new("an answer");
/// assert_eq!(producer.more(5)?.as_deref(), Some(&b"an an"[..]));
/// assert_eq!(producer.more(5)?.as_deref(), Some(&b"swer"[..]));
/// assert_eq!(producer.more(5)?, None);
/// # Ok::<(), asyncore::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct BytesProducer {
    rest: Bytes,
}

impl BytesProducer {
    /// Sends `data`.
    #[must_use]
    pub fn new(data: impl Into<Bytes>) -> Self {
        Self { rest: data.into() }
    }
}

impl Producer for BytesProducer {
    fn more(&mut self, most: usize) -> Result<Option<Bytes>> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        // An empty piece would say "nothing yet", so it is one byte at least.
        let size = most.clamp(1, self.rest.len());
        Ok(Some(self.rest.split_to(size)))
    }
}

/// Sends the items of an iterator, a piece each.
///
/// Use it when the output comes in chunks of a sensible size by itself. Empty items are skipped; a piece may be
/// longer than was asked for, if the item is. For many short items use [`LinesProducer`], which gathers them.
///
/// ```
/// use asynchat::IterProducer;
/// use asyncore::Producer;
///
/// let mut producer = IterProducer::new((0..3).map(|n| "=".repeat(n)));
/// assert_eq!(producer.more(65536)?.as_deref(), Some(&b"="[..]));
/// assert_eq!(producer.more(65536)?.as_deref(), Some(&b"=="[..]));
/// assert_eq!(producer.more(65536)?, None);
/// # Ok::<(), asyncore::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct IterProducer<I> {
    items: Fuse<I>,
}

impl<I: Iterator<Item: Into<Bytes>>> IterProducer<I> {
    /// Sends what `items` gives.
    #[must_use]
    pub fn new(items: impl IntoIterator<IntoIter = I>) -> Self {
        Self { items: items.into_iter().fuse() }
    }
}

impl<I: Iterator<Item: Into<Bytes>>> Producer for IterProducer<I> {
    fn more(&mut self, _most: usize) -> Result<Option<Bytes>> {
        Ok(self.items.by_ref().map(Into::into).find(|piece: &Bytes| !piece.is_empty()))
    }
}

/// Sends what a reader gives, up to its end or a stated length.
///
/// Use it for a file. The reader is read inside the loop, so a read that waits makes every channel wait: do not give
/// it a blocking pipe or socket. A reader that *would* block says "nothing yet"; the channel then sends nothing more
/// until something touches it, which falls to whoever learns that the reader is ready. An interrupted read is tried
/// again, and any other error ends the output.
///
/// ```
/// use asynchat::ReadProducer;
/// use asyncore::Producer;
///
/// let file = &b"contents"[..];
/// let mut producer = ReadProducer::new(file);
/// assert_eq!(producer.more(5)?.as_deref(), Some(&b"conte"[..]));
/// assert_eq!(producer.more(5)?.as_deref(), Some(&b"nts"[..]));
/// assert_eq!(producer.more(5)?, None);
/// # Ok::<(), asyncore::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct ReadProducer<R> {
    reader: R,
    length: Length,
}

impl<R: Read> ReadProducer<R> {
    /// Sends everything up to the end of `reader`.
    #[must_use]
    pub fn new(reader: R) -> Self {
        Self { reader, length: Length::Open }
    }

    /// Sends exactly `length` bytes of `reader`.
    ///
    /// Use it when the length was announced to the peer, as by HTTP's `Content-Length`. What the reader has beyond it
    /// is not read. When the reader ends before it, the output ends with an error, since the peer would take what is
    /// sent next for the missing rest.
    ///
    /// ```
    /// use asynchat::ReadProducer;
    /// use asyncore::Producer;
    ///
    /// let grown = &b"contents, and a line more"[..];
    /// let mut producer = ReadProducer::exactly(grown, 8);
    /// assert_eq!(producer.more(65536)?.as_deref(), Some(&b"contents"[..]));
    /// assert_eq!(producer.more(65536)?, None);
    ///
    /// let truncated = &b"cont"[..];
    /// let mut producer = ReadProducer::exactly(truncated, 8);
    /// assert_eq!(producer.more(65536)?.as_deref(), Some(&b"cont"[..]));
    /// assert!(producer.more(65536).is_err());
    /// # Ok::<(), asyncore::Error>(())
    /// ```
    #[must_use]
    pub fn exactly(reader: R, length: u64) -> Self {
        Self { reader, length: Length::Left(length) }
    }
}

impl<R: Read> Producer for ReadProducer<R> {
    fn more(&mut self, most: usize) -> Result<Option<Bytes>> {
        let room = most.clamp(1, PIECE);
        let room = match self.length {
            Length::Open => room,
            Length::Left(0) | Length::Ended => return Ok(None),
            Length::Left(left) => usize::try_from(left).map_or(room, |left| left.min(room)),
        };
        let mut piece = vec![0; room];
        let size = loop {
            match self.reader.read(&mut piece) {
                Ok(size) => break size,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(Some(Bytes::new())),
                Err(error) => return Err(error.into()),
            }
        };
        piece.truncate(size);
        match (&mut self.length, piece.len() as u64) {
            (Length::Left(left), 0) => {
                let reason = format!("the reader ended {left} bytes early");
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, reason).into());
            }
            // Not asked again: a file that grows, or a terminal, would go on.
            (length, 0) => {
                *length = Length::Ended;
                return Ok(None);
            }
            (Length::Left(left), size) => *left -= size,
            (Length::Open | Length::Ended, _) => {}
        }
        // A short read must not keep a whole buffer alive while it waits to be sent.
        piece.shrink_to_fit();
        Ok(Some(piece.into()))
    }
}

/// Sends lines, many to a piece, each with a line end added.
///
/// Use it for listings and answers of many lines. A line that holds a CR or LF is refused with an error, because the
/// peer would see two lines where one was meant, and one of them may have come from a stranger.
///
/// ```
/// use asynchat::LinesProducer;
/// use asyncore::Producer;
///
/// let mut producer = LinesProducer::new(["1 320", "2 400", "3 17"]);
/// assert_eq!(producer.more(15)?.as_deref(), Some(&b"1 320\r\n2 400\r\n"[..]));
/// assert_eq!(producer.more(15)?.as_deref(), Some(&b"3 17\r\n"[..]));
/// assert_eq!(producer.more(15)?, None);
///
/// let mut producer = LinesProducer::new(["Subject: hello\r\nBcc: everyone"]);
/// assert!(producer.more(65536).is_err());
/// # Ok::<(), asyncore::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct LinesProducer<I: Iterator> {
    lines: Fuse<I>,
    /// A line that is taken from the iterator and not sent: the last piece had no room for it, or it was refused.
    held: Option<I::Item>,
    end: &'static [u8],
    /// Lines sent, to name the one that is refused.
    sent: u64,
}

impl<I: Iterator<Item: AsRef<[u8]>>> LinesProducer<I> {
    /// Sends `lines`, each ended by CRLF.
    #[must_use]
    pub fn new(lines: impl IntoIterator<IntoIter = I>) -> Self {
        Self { lines: lines.into_iter().fuse(), held: None, end: b"\r\n", sent: 0 }
    }

    /// Sends `lines`, each ended by LF alone, as few protocols on the wire and most files on disk have it.
    #[must_use]
    pub fn lf(lines: impl IntoIterator<IntoIter = I>) -> Self {
        Self { end: b"\n", ..Self::new(lines) }
    }
}

impl<I: Iterator<Item: AsRef<[u8]>>> Producer for LinesProducer<I> {
    /// Gathers lines while they fit; a line that is longer than `most` makes a piece by itself.
    fn more(&mut self, most: usize) -> Result<Option<Bytes>> {
        let room = most.min(PIECE);
        let mut piece = Vec::new();
        while let Some(next) = self.held.take().or_else(|| self.lines.next()) {
            let line = next.as_ref();
            let fits = piece.is_empty() || piece.len() + line.len() + self.end.len() <= room;
            let is_sound = memchr2(b'\r', b'\n', line).is_none();
            if fits && is_sound {
                piece.extend_from_slice(line);
                piece.extend_from_slice(self.end);
                self.sent += 1;
                continue;
            }
            // Held even when it is refused: asked again, the producer must not go on as if it had not been there.
            self.held = Some(next);
            if piece.is_empty() {
                return Err(format!("line {} holds a CR or LF", self.sent + 1).into());
            }
            break;
        }
        Ok((!piece.is_empty()).then(|| piece.into()))
    }
}

/// How much a [`ReadProducer`] still has to send.
#[derive(Clone, Copy, Debug)]
enum Length {
    /// Up to the reader's end.
    Open,
    /// This many bytes, and no fewer.
    Left(u64),
    /// Nothing: the end was seen.
    Ended,
}

/// The longest piece that a producer makes of smaller parts, whatever is asked for: what one write hands to the socket
/// by default. A caller that asks for "all you have" then gets pieces of a bounded size.
const PIECE: usize = 65536;

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::*;

    /// Every piece of `producer`, asked for `most` bytes each time.
    fn pieces(mut producer: impl Producer, most: usize) -> Result<Vec<String>> {
        let mut all = Vec::new();
        while let Some(piece) = producer.more(most)? {
            assert!(!piece.is_empty());
            all.push(String::from_utf8(piece.to_vec())?);
        }
        assert_eq!(producer.more(most)?, None, "an ended producer stays ended");
        Ok(all)
    }

    #[test]
    fn bytes_are_sliced_to_the_size_asked_for() {
        let table: [(&str, usize, &[&str]); 5] = [
            ("", 4, &[]),
            ("abc", 4, &["abc"]),
            ("abcd", 4, &["abcd"]),
            ("abcde", 4, &["abcd", "e"]),
            ("ab", 0, &["a", "b"]),
        ];
        for (data, most, expected) in table {
            let made = pieces(BytesProducer::new(data), most).unwrap();
            assert_eq!(made, expected);
        }
    }

    #[test]
    fn bytes_are_not_copied() {
        let data = Bytes::from(vec![7; 100]);
        let mut producer = BytesProducer::new(data.clone());
        producer.more(40).unwrap();
        let piece = producer.more(40).unwrap().unwrap();
        assert_eq!(piece.as_ptr(), data[40..].as_ptr());
    }

    #[test]
    fn empty_items_are_skipped_so_no_piece_says_nothing_yet() {
        let table: [(&[&'static str], &[&str]); 4] =
            [(&[], &[]), (&["", ""], &[]), (&["a", "", "b"], &["a", "b"]), (&["", "ab", ""], &["ab"])];
        for (items, expected) in table {
            let made = pieces(IterProducer::new(items.iter().copied()), 1).unwrap();
            assert_eq!(made, expected);
        }
    }

    /// A reader that answers by a script, then with the end.
    struct Script(VecDeque<io::Result<&'static [u8]>>);

    impl Script {
        fn new<const N: usize>(answers: [io::Result<&'static [u8]>; N]) -> Self {
            Self(VecDeque::from(answers))
        }
    }

    impl Read for Script {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let answer = self.0.pop_front().unwrap_or(Ok(b""))?;
            buffer[..answer.len()].copy_from_slice(answer);
            Ok(answer.len())
        }
    }

    #[test]
    fn reader_is_read_to_its_end() {
        let table: [(&str, usize, &[&str]); 4] =
            [("", 4, &[]), ("abc", 4, &["abc"]), ("abcdef", 4, &["abcd", "ef"]), ("ab", 0, &["a", "b"])];
        for (data, most, expected) in table {
            let made = pieces(ReadProducer::new(data.as_bytes()), most).unwrap();
            assert_eq!(made, expected);
        }
    }

    #[test]
    fn reader_that_goes_on_after_its_end_is_not_asked_again() {
        let reader = Script::new([Ok(b"ab"), Ok(b""), Ok(b"later")]);
        assert_eq!(pieces(ReadProducer::new(reader), 9).unwrap(), ["ab"]);
    }

    #[test]
    fn interrupted_read_is_tried_again() {
        let reader = Script::new([Err(io::ErrorKind::Interrupted.into()), Ok(b"ab")]);
        assert_eq!(pieces(ReadProducer::new(reader), 9).unwrap(), ["ab"]);
    }

    #[test]
    fn read_that_would_block_says_nothing_yet() {
        let mut producer = ReadProducer::new(Script::new([Err(io::ErrorKind::WouldBlock.into()), Ok(b"ab")]));
        assert_eq!(producer.more(9).unwrap(), Some(Bytes::new()));
        assert_eq!(producer.more(9).unwrap().as_deref(), Some(&b"ab"[..]));
        assert_eq!(producer.more(9).unwrap(), None);
    }

    #[test]
    fn failing_read_ends_the_output_with_its_error() {
        let mut producer =
            ReadProducer::new(Script::new([Ok(b"ab"), Err(io::ErrorKind::PermissionDenied.into())]));
        producer.more(9).unwrap();
        let error = producer.more(9).unwrap_err();
        assert_eq!(
            error.downcast_ref::<io::Error>().map(io::Error::kind),
            Some(io::ErrorKind::PermissionDenied)
        );
    }

    #[test]
    fn exact_length_is_kept_whatever_the_reader_holds() {
        let table: [(&str, u64, &[&str]); 4] =
            [("abcdef", 0, &[]), ("abcdef", 3, &["abc"]), ("abcdef", 6, &["abcd", "ef"]), ("", 0, &[])];
        for (data, length, expected) in table {
            let made = pieces(ReadProducer::exactly(data.as_bytes(), length), 4).unwrap();
            assert_eq!(made, expected);
        }
    }

    #[test]
    fn reader_that_ends_early_is_an_error_each_time_it_is_asked() {
        let mut producer = ReadProducer::exactly(&b"abc"[..], 5);
        producer.more(9).unwrap();
        for _ in 0..2 {
            assert_eq!(producer.more(9).unwrap_err().to_string(), "the reader ended 2 bytes early");
        }
    }

    #[test]
    fn piece_of_a_reader_is_bounded_when_everything_is_asked_for() {
        let mut producer = ReadProducer::new(io::repeat(b'x'));
        assert_eq!(producer.more(usize::MAX).unwrap().unwrap().len(), PIECE);
    }

    #[test]
    fn lines_are_gathered_while_they_fit() {
        let table: [(&[&str], usize, &[&str]); 7] = [
            (&[], 9, &[]),
            (&[""], 9, &["\r\n"]),
            (&["", ""], 9, &["\r\n\r\n"]),
            (&["ab", "cd"], 8, &["ab\r\ncd\r\n"]),
            (&["ab", "cd"], 7, &["ab\r\n", "cd\r\n"]),
            (&["longer than asked", "a"], 4, &["longer than asked\r\n", "a\r\n"]),
            (&["a", "b"], 0, &["a\r\n", "b\r\n"]),
        ];
        for (lines, most, expected) in table {
            let made = pieces(LinesProducer::new(lines), most).unwrap();
            assert_eq!(made, expected);
        }
    }

    #[test]
    fn lines_end_with_lf_alone_on_request() {
        assert_eq!(pieces(LinesProducer::lf(["a", "b"]), 9).unwrap(), ["a\nb\n"]);
    }

    #[test]
    fn line_with_a_line_end_inside_is_refused_after_the_lines_before_it() {
        for bad in ["x\r\ny", "x\ny", "x\ry", "\n", "x\r"] {
            let mut producer = LinesProducer::new(["good", bad, "after"]);
            assert_eq!(producer.more(65536).unwrap().as_deref(), Some(&b"good\r\n"[..]));
            for _ in 0..2 {
                assert_eq!(producer.more(65536).unwrap_err().to_string(), "line 2 holds a CR or LF");
            }
        }
    }

    #[test]
    fn piece_of_endless_lines_is_bounded_when_everything_is_asked_for() {
        let mut producer = LinesProducer::new(std::iter::repeat("line"));
        let piece = producer.more(usize::MAX).unwrap().unwrap();
        assert!(piece.len() <= PIECE && piece.len() > PIECE - 6);
    }
}
