//! [`Tail`]: the buffer that small output is gathered in.

/// Bytes at the end of an output queue. All room behind them is initialised, so that an append is one look at the room and
/// a copy.
#[derive(Default)]
pub(crate) struct Tail {
    /// The bytes, and room behind them, of no meaning.
    buffer: Vec<u8>,
    /// Invariant: at most the buffer's length.
    end: usize,
}

impl Tail {
    #[inline]
    pub(crate) const fn len(&self) -> usize {
        self.end
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.end == 0
    }

    /// Bytes of memory.
    pub(crate) const fn capacity(&self) -> usize {
        self.buffer.capacity()
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.buffer[..self.end]
    }

    /// Room for so many bytes more, if there is as much. What is filled of it is [kept](Self::keep) after that.
    #[inline]
    pub(crate) fn room(&mut self, length: usize) -> Option<&mut [u8]> {
        self.buffer.get_mut(self.end..self.end + length)
    }

    /// Keeps the first `filled` bytes of the room.
    #[inline]
    pub(crate) const fn keep(&mut self, filled: usize) {
        self.end += filled;
    }

    /// Makes room for so many bytes more, and for more than that, should others follow. All of it is written once, so it
    /// is for small pieces.
    pub(crate) fn reserve(&mut self, length: usize) {
        self.buffer.truncate(self.end);
        self.buffer.reserve(length);
        self.buffer.resize(self.buffer.capacity(), 0);
    }

    /// Drops the first `sent` bytes, and moves the others there.
    pub(crate) fn drop_first(&mut self, sent: usize) {
        self.buffer.copy_within(sent..self.end, 0);
        self.end -= sent;
    }

    pub(crate) const fn clear(&mut self) {
        self.end = 0;
    }

    /// Takes the bytes, and the room with them.
    pub(crate) fn take(&mut self) -> Vec<u8> {
        let mut bytes = std::mem::take(&mut self.buffer);
        bytes.truncate(std::mem::take(&mut self.end));
        bytes
    }
}
