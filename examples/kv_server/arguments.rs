//! The arguments of one command: gathered in one buffer, which serves command after command.

/// What has come of a command.
///
/// ```text
///   bytes: | S E T | k e y | v a l |      ends: 3, 6      open: "val", of which more may come
/// ```
#[derive(Debug, Default)]
pub(crate) struct Request {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

/// The arguments of a command that is complete, its name among them.
///
/// The last one may lie elsewhere: where it was received.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Arguments<'a> {
    bytes: &'a [u8],
    ends: &'a [usize],
    last: &'a [u8],
}

impl Request {
    /// Adds an argument.
    pub(crate) fn push(&mut self, argument: &[u8]) {
        self.extend(argument);
        self.end();
    }

    /// Adds bytes to the argument that has begun.
    pub(crate) fn extend(&mut self, piece: &[u8]) {
        self.bytes.extend_from_slice(piece);
    }

    /// Ends the argument that has begun.
    pub(crate) fn end(&mut self) {
        self.ends.push(self.bytes.len());
    }

    /// Takes the last bytes of the argument that has begun off again.
    pub(crate) fn shorten(&mut self, bytes: usize) {
        let start = self.ends.last().copied().unwrap_or_default();
        self.bytes.truncate(self.bytes.len().saturating_sub(bytes).max(start));
    }

    /// The bytes that it holds, counted as they cost.
    pub(crate) fn held(&self) -> usize {
        self.bytes.len() + size_of_val(&self.ends[..])
    }

    /// The command, with one more argument behind those that were gathered.
    pub(crate) fn with<'a>(&'a self, last: &'a [u8]) -> Arguments<'a> {
        Arguments { bytes: &self.bytes, ends: &self.ends, last }
    }

    /// The command; its last argument is what has begun.
    pub(crate) fn complete(&self) -> Arguments<'_> {
        let start = self.ends.last().copied().unwrap_or_default();
        self.with(&self.bytes[start..])
    }

    /// Forgets the command. A buffer that has grown large is given back.
    pub(crate) fn clear(&mut self) {
        if self.bytes.capacity() > KEPT_BYTES || self.ends.capacity() > KEPT_BYTES / size_of::<usize>() {
            *self = Self::default();
        }
        self.bytes.clear();
        self.ends.clear();
    }
}

impl<'a> Arguments<'a> {
    /// How many there are, with the name.
    pub(crate) const fn len(&self) -> usize {
        self.ends.len() + 1
    }

    /// One of them, from 0; empty behind the last one.
    pub(crate) fn at(&self, index: usize) -> &'a [u8] {
        match self.ends.get(index) {
            Some(&end) => {
                let start = if index == 0 { 0 } else { self.ends[index - 1] };
                &self.bytes[start..end]
            }
            None if index == self.ends.len() => self.last,
            None => &[],
        }
    }

    /// All from one on.
    pub(crate) fn from(self, first: usize) -> impl DoubleEndedIterator<Item = &'a [u8]> {
        (first..self.len()).map(move |index| self.at(index))
    }
}

/// What a client keeps of its buffer between commands: 16 KiB, the size in which Redis reads.
const KEPT_BYTES: usize = 16 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    fn texts<'a>(arguments: Arguments<'a>) -> Vec<&'a [u8]> {
        arguments.from(0).collect()
    }

    #[test]
    fn the_last_argument_lies_where_it_was_received() {
        let mut request = Request::default();
        request.push(b"SET");
        request.push(b"");
        assert_eq!(texts(request.with(b"value")), [&b"SET"[..], b"", b"value"]);
        assert_eq!(request.with(b"value").at(3), b"");
    }

    #[test]
    fn an_argument_may_come_in_pieces() {
        let mut request = Request::default();
        request.push(b"ECHO");
        request.extend(b"ab");
        request.extend(b"c\r\n");
        request.shorten(2);
        assert_eq!(texts(request.complete()), [&b"ECHO"[..], b"abc"]);
        request.end();
        assert_eq!(texts(request.complete()), [&b"ECHO"[..], b"abc", b""]);
        request.clear();
        assert_eq!(request.held(), 0);
    }

    #[test]
    fn a_buffer_that_has_grown_large_is_given_back() {
        let mut request = Request::default();
        request.push(&[0; KEPT_BYTES + 1]);
        request.clear();
        assert_eq!(request.bytes.capacity(), 0);
    }
}
