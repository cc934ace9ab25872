//! [`ReadBuffer`]: input on loan from the map, so that idle channels own none.

use std::cell::Cell;
use std::fmt;
use std::ops::Deref;
use std::rc::Rc;

/// Bytes that were received, in a buffer that goes back to its map's pool when it is dropped.
///
/// It borrows nothing: the map can be used freely while it is held.
pub struct ReadBuffer {
    bytes: Vec<u8>,
    filled: usize,
    pool: Rc<BufferPool>,
}

impl ReadBuffer {
    /// The room to receive into.
    pub(crate) fn room(&mut self, most: usize) -> &mut [u8] {
        if self.bytes.len() < most {
            self.bytes.resize(most, 0);
        }
        &mut self.bytes[..most]
    }

    pub(crate) fn fill(&mut self, filled: usize) {
        self.filled = filled.min(self.bytes.len());
    }
}

impl Deref for ReadBuffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes[..self.filled]
    }
}

impl AsRef<[u8]> for ReadBuffer {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl fmt::Debug for ReadBuffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ReadBuffer(\"{}\")", self.escape_ascii())
    }
}

impl Drop for ReadBuffer {
    #[inline]
    fn drop(&mut self) {
        let bytes = std::mem::take(&mut self.bytes);
        if bytes.capacity() <= LARGEST_POOLED {
            self.pool.free.set(bytes);
        }
    }
}

/// The read buffer that nobody holds for now. One is enough: callbacks follow one another, and where they nest, through
/// `with`, the inner one makes its own.
#[derive(Default)]
pub(crate) struct BufferPool {
    free: Cell<Vec<u8>>,
}

impl BufferPool {
    #[inline]
    pub(crate) fn lend(pool: &Rc<Self>) -> ReadBuffer {
        ReadBuffer { bytes: pool.free.take(), filled: 0, pool: Rc::clone(pool) }
    }
}

/// A larger buffer is not kept: sixteen times the usual `ac_in_buffer_size`, so that one greedy reader does not
/// pin its memory for ever.
const LARGEST_POOLED: usize = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dropped_buffer_is_lent_again() {
        let pool = Rc::new(BufferPool::default());
        let mut buffer = BufferPool::lend(&pool);
        buffer.room(100).fill(7);
        buffer.fill(3);
        assert_eq!(*buffer, [7; 3]);
        let address = buffer.as_ptr();
        drop(buffer);
        let again = BufferPool::lend(&pool);
        assert_eq!(again.bytes.as_ptr(), address);
        assert!(again.is_empty(), "nothing of the last loan shows");
    }

    #[test]
    fn nested_loans_do_not_share_and_a_huge_buffer_is_not_kept() {
        let pool = Rc::new(BufferPool::default());
        let mut outer = BufferPool::lend(&pool);
        outer.room(10).fill(1);
        let mut inner = BufferPool::lend(&pool);
        inner.room(LARGEST_POOLED + 1).fill(2);
        assert_eq!(outer.room(10), [1; 10]);
        drop(outer);
        drop(inner);
        assert_eq!(pool.free.take().len(), 10);
    }
}
