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
    fn drop(&mut self) {
        let mut free = self.pool.free.take();
        if free.len() < POOLED && self.bytes.capacity() <= LARGEST_POOLED {
            free.push(std::mem::take(&mut self.bytes));
        }
        self.pool.free.set(free);
    }
}

/// The read buffers that nobody holds for now.
#[derive(Default)]
pub(crate) struct BufferPool {
    free: Cell<Vec<Vec<u8>>>,
}

impl BufferPool {
    pub(crate) fn lend(pool: &Rc<Self>) -> ReadBuffer {
        let mut free = pool.free.take();
        let bytes = free.pop().unwrap_or_default();
        pool.free.set(free);
        ReadBuffer { bytes, filled: 0, pool: Rc::clone(pool) }
    }
}

/// Free buffers kept: one is in use at a time, a few more when callbacks nest through `with`.
const POOLED: usize = 4;

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
    fn the_pool_keeps_few_buffers_and_no_huge_ones() {
        let pool = Rc::new(BufferPool::default());
        let mut lent: Vec<_> = (0..10).map(|_| BufferPool::lend(&pool)).collect();
        lent[9].room(LARGEST_POOLED + 1);
        lent.reverse();
        drop(lent);
        let free = pool.free.take();
        assert_eq!(free.len(), POOLED);
        assert!(free.iter().all(|buffer| buffer.capacity() <= LARGEST_POOLED));
    }
}
