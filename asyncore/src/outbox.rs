//! The output queue of a channel: small pieces copied together, large ones kept, producers asked on demand. No I/O.

use std::collections::VecDeque;
use std::io::IoSlice;

use bytes::{Buf, Bytes};

use crate::panics::contain;
use crate::push::sealed::Sealed;
use crate::push::{KEEP_FROM, kept};
use crate::tail::Tail;
use crate::{Kind, Producer, Result};

/// What is queued for one socket, in order.
///
/// ```text
///   queue: | Kept | Copied | Producer | Kept |   then   tail: | small pieces |
///            ^ `sent` bytes of a copied first chunk are gone already
/// ```
#[derive(Default)]
pub(crate) struct Outbox {
    /// Everything before the tail.
    queue: VecDeque<Chunk>,
    /// Small pieces gather here; it is the last chunk.
    tail: Tail,
    /// Bytes of the first chunk that are sent, if it is a copied one or the tail.
    sent: usize,
    /// Invariant: the bytes of all chunks in the queue.
    before_tail: usize,
    /// Invariant: the producers in the queue.
    producers: usize,
    /// Up to how long a tail a push needs no closer look at limits and marks; 0 until someone has looked.
    easy_end: usize,
    /// Pushes since the last write that are not counted in the dispatcher and the map yet.
    pub(crate) uncounted: u32,
}

enum Chunk {
    Copied(Vec<u8>),
    Kept(Bytes),
    Producer(Box<dyn Producer>),
}

/// What became of the producers when the queue was filled for a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Filled {
    /// There is a write's worth, or all there is.
    Ready,
    /// The first producer has nothing yet.
    Waiting,
}

impl Outbox {
    /// Appends data of a length that was checked, copied behind what is there or kept as it is: how many bytes that were.
    pub(crate) fn push(&mut self, length: usize, data: impl Sealed) -> usize {
        // A copy of so much is made once, and not into a tail that grows for it.
        if data.is_large() || length >= TAIL_LIMIT {
            let data = kept(length, data);
            // A chunk of no bytes would never be written.
            return if data.is_empty() { 0 } else { self.push_kept(data) };
        }
        if self.tail.room(length).is_none() {
            self.make_room(length);
        }
        let pushed = self.tail.room(length).map_or(0, |room| data.copy_to(room));
        self.tail.keep(pushed);
        pushed
    }

    /// Appends data if neither limits nor marks nor the room in the tail need a look: how many bytes that were.
    #[inline(always)]
    pub(crate) fn push_easily(&mut self, length: usize, data: &impl Sealed) -> Option<usize> {
        if self.tail.len() + length > self.easy_end || data.is_large() {
            return None;
        }
        let pushed = data.copy_to(self.tail.room(length)?);
        self.tail.keep(pushed);
        self.uncounted = self.uncounted.wrapping_add(1);
        Some(pushed)
    }

    /// Lets pushes of small data pass without a look until `most` bytes are queued.
    pub(crate) const fn pass_until(&mut self, most: usize) {
        let easy = if self.has_producer() { 0 } else { most.saturating_sub(self.bytes()) };
        self.easy_end = self.tail.len().saturating_add(easy);
    }

    /// Appends without a copy, as a chunk of its own: how many bytes that were.
    pub(crate) fn push_kept(&mut self, data: Bytes) -> usize {
        let pushed = data.len();
        self.seal_tail();
        self.before_tail += pushed;
        self.queue.push_back(Chunk::Kept(data));
        pushed
    }

    pub(crate) fn push_producer(&mut self, producer: Box<dyn Producer>) {
        self.seal_tail();
        self.queue.push_back(Chunk::Producer(producer));
        self.producers += 1;
    }

    /// Bytes queued; what producers have not made yet is not among them.
    #[inline]
    pub(crate) const fn bytes(&self) -> usize {
        self.before_tail + self.tail.len() - self.sent
    }

    /// Whether nothing is queued, no producer either.
    pub(crate) fn is_empty(&self) -> bool {
        self.bytes() == 0 && self.queue.is_empty()
    }

    /// Whether `most` bytes are all of it: no producer makes more.
    pub(crate) const fn ends_within(&self, most: usize) -> bool {
        !self.has_producer() && self.bytes() <= most
    }

    pub(crate) const fn has_producer(&self) -> bool {
        self.producers > 0
    }

    /// What limits and marks go by: the bytes, and something for each producer, so that a peer cannot have them queued
    /// without end.
    pub(crate) const fn load(&self) -> usize {
        self.bytes() + self.producers * PRODUCER_LOAD
    }

    /// Asks the producer that stands first, until `most` bytes stand before the next one.
    pub(crate) fn fill(&mut self, most: usize, kind: Kind) -> Result<Filled> {
        if self.queue.is_empty() {
            return Ok(Filled::Ready);
        }
        let mut made = 0;
        let mut at = 0;
        while let Some(chunk) = self.queue.get_mut(at) {
            if made >= most {
                break;
            }
            match chunk {
                Chunk::Copied(data) => made += data.len() - if at == 0 { self.sent } else { 0 },
                Chunk::Kept(data) => made += data.len(),
                Chunk::Producer(producer) => {
                    match producer.more(most - made)? {
                        None => {
                            self.producers -= 1;
                            self.queue.remove(at);
                        }
                        Some(piece) if piece.is_empty() => {
                            return Ok(if made == 0 { Filled::Waiting } else { Filled::Ready });
                        }
                        Some(piece) => {
                            self.before_tail += piece.len();
                            // Small pieces of a stream are gathered, as they are when pushed.
                            if piece.len() >= KEEP_FROM || kind == Kind::Datagram {
                                self.queue.insert(at, Chunk::Kept(piece));
                            } else if at > 0
                                && let Some(Chunk::Copied(data)) = self.queue.get_mut(at - 1)
                            {
                                made += piece.len();
                                data.extend_from_slice(&piece);
                            } else {
                                self.queue.insert(at, Chunk::Copied(piece.to_vec()));
                            }
                        }
                    }
                    continue;
                }
            }
            at += 1;
        }
        Ok(Filled::Ready)
    }

    /// The next bytes to write, `most` at most, in as many slices as `slices` takes: how many slices and bytes.
    pub(crate) fn next_slices<'a>(&'a self, slices: &mut [IoSlice<'a>], most: usize) -> (usize, usize) {
        let mut skip = self.sent;
        let (mut count, mut total) = (0, 0);
        let chunks = self.queue.iter().map_while(|chunk| match chunk {
            Chunk::Copied(data) => Some(&data[..]),
            Chunk::Kept(data) => Some(&data[..]),
            Chunk::Producer(_) => None,
        });
        let tail = (!self.has_producer()).then_some(self.tail.bytes());
        for chunk in chunks.chain(tail) {
            let rest = &chunk[skip..];
            skip = 0;
            if rest.is_empty() {
                continue;
            }
            let Some(slice) = slices.get_mut(count) else { break };
            let rest = &rest[..rest.len().min(most - total)];
            *slice = IoSlice::new(rest);
            count += 1;
            total += rest.len();
            if total == most {
                break;
            }
        }
        (count, total)
    }

    /// The tail when it is all there is, which is the usual case: one slice, found without a walk.
    pub(crate) fn only_tail(&self) -> Option<&[u8]> {
        self.queue.is_empty().then(|| &self.tail.bytes()[self.sent..])
    }

    /// Appends a copy of all bytes that are made.
    #[cfg(feature = "tls")]
    pub(crate) fn copy_to(&self, copy: &mut Vec<u8>) {
        for chunk in &self.queue {
            match chunk {
                Chunk::Copied(data) => copy.extend_from_slice(data),
                Chunk::Kept(data) => copy.extend_from_slice(data),
                Chunk::Producer(_) => {}
            }
        }
        copy.extend_from_slice(self.tail.bytes());
        copy.drain(..self.sent);
    }

    /// Drops the first `written` bytes, which are sent.
    pub(crate) fn advance(&mut self, mut written: usize) {
        debug_assert!(written <= self.bytes(), "more was written than was queued");
        self.easy_end = 0;
        while written > 0 {
            match self.queue.front_mut() {
                Some(Chunk::Kept(data)) => {
                    let step = written.min(data.len());
                    data.advance(step);
                    self.before_tail -= step;
                    written -= step;
                    if data.is_empty() {
                        discard(self.queue.pop_front());
                    }
                }
                Some(Chunk::Copied(data)) => {
                    let step = written.min(data.len() - self.sent);
                    self.sent += step;
                    written -= step;
                    if self.sent == data.len() {
                        self.before_tail -= self.sent;
                        self.sent = 0;
                        self.queue.pop_front();
                    }
                }
                Some(Chunk::Producer(_)) => return,
                None => {
                    self.sent += written;
                    written = 0;
                    if self.sent >= self.tail.len() {
                        self.sent = 0;
                        self.tail.clear();
                    }
                }
            }
        }
        self.compact();
    }

    /// The first queued piece that is a datagram of its own.
    pub(crate) fn first_datagram(&self) -> Option<&[u8]> {
        match self.queue.front() {
            Some(Chunk::Kept(data)) => Some(data),
            _ => None,
        }
    }

    /// Drops the first datagram, sent or not.
    pub(crate) fn pop_datagram(&mut self) {
        let first = self.queue.pop_front();
        if let Some(Chunk::Kept(data)) = &first {
            self.before_tail -= data.len();
        }
        discard(first);
    }

    /// Drops all that is queued.
    pub(crate) fn clear(&mut self) {
        while !self.queue.is_empty() {
            discard(self.queue.pop_front());
        }
        self.tail.clear();
        self.sent = 0;
        self.before_tail = 0;
        self.producers = 0;
        self.easy_end = 0;
    }

    fn seal_tail(&mut self) {
        if self.tail.is_empty() {
            return;
        }
        // `sent` counts in the first chunk, and the tail stays first if it was.
        self.easy_end = 0;
        self.before_tail += self.tail.len();
        self.queue.push_back(Chunk::Copied(self.tail.take()));
    }

    /// Makes room for so many bytes more, in another tail if this one is full: sent ones give theirs before there is more
    /// memory, where that is worth the move.
    #[cold]
    fn make_room(&mut self, length: usize) {
        if self.tail.len() >= TAIL_LIMIT {
            self.seal_tail();
        }
        if self.queue.is_empty() && self.sent >= COMPACT_FROM && self.sent * 8 >= self.tail.len() {
            self.tail.drop_first(self.sent);
            self.sent = 0;
        }
        self.tail.reserve(length);
    }

    /// Keeps a tail that never runs empty from growing at its sent end: moved at most once per byte queued.
    fn compact(&mut self) {
        if self.queue.is_empty() && self.sent >= COMPACT_FROM && self.sent * 2 >= self.tail.len() {
            self.tail.drop_first(self.sent);
            self.sent = 0;
        }
    }

    fn capacity(&self) -> usize {
        size_of::<Self>() + self.tail.capacity() + self.queue.capacity() * size_of::<Chunk>()
    }
}

impl Drop for Outbox {
    fn drop(&mut self) {
        self.clear();
    }
}

/// Drops a chunk by itself: what is in it may have a drop of its user's, and two panics at once would abort.
fn discard(chunk: Option<Chunk>) {
    contain("dropping output", || drop(chunk));
}

/// The outboxes that no channel needs for now.
///
/// A channel has one only while it has output, so an idle channel costs none, and a busy one allocates none.
#[derive(Default)]
pub(crate) struct OutboxPool {
    #[expect(clippy::vec_box, reason = "a slot holds the box, and takes and gives it whole")]
    free: Vec<Box<Outbox>>,
    capacity: usize,
}

impl OutboxPool {
    pub(crate) fn take(&mut self) -> Box<Outbox> {
        self.free.pop().map_or_else(Box::default, |outbox| {
            self.capacity -= outbox.capacity();
            outbox
        })
    }

    pub(crate) fn put(&mut self, mut outbox: Box<Outbox>) {
        outbox.clear();
        let capacity = outbox.capacity();
        if capacity <= LARGEST_POOLED && self.capacity + capacity <= POOLED {
            self.capacity += capacity;
            self.free.push(outbox);
        }
    }
}

/// What a producer counts towards limits and marks: 1 KiB, about what a small one holds.
pub(crate) const PRODUCER_LOAD: usize = 1 << 10;

/// An outbox with more room is not pooled: 256 KiB, all that a channel reads in a turn, sent back.
const LARGEST_POOLED: usize = 256 << 10;

/// Room kept in pooled outboxes: 8 MiB, a thousand channels that are sent up to 8 KiB each in one turn.
const POOLED: usize = 8 << 20;

/// A tail of so many bytes does not grow: what it has no room for begins another. 64 KiB, one full write. A vector grows by
/// doubling, so without this a long queue would hold up to twice its bytes.
const TAIL_LIMIT: usize = 64 << 10;

/// Sent bytes below this are not worth moving the rest for: 4 KiB, a page.
const COMPACT_FROM: usize = 4 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    struct Pieces(Vec<&'static [u8]>);

    impl Producer for Pieces {
        fn more(&mut self, _most: usize) -> Result<Option<Bytes>> {
            Ok((!self.0.is_empty()).then(|| Bytes::from_static(self.0.remove(0))))
        }
    }

    fn next(outbox: &Outbox, most: usize) -> Vec<u8> {
        let mut slices = [IoSlice::new(&[]); 8];
        let (count, total) = outbox.next_slices(&mut slices, most);
        let bytes = slices[..count].iter().flat_map(|slice| slice.iter().copied()).collect::<Vec<u8>>();
        assert_eq!(bytes.len(), total);
        bytes
    }

    /// Writes everything out, `step` bytes a write.
    fn drain(outbox: &mut Outbox, step: usize) -> Vec<u8> {
        let mut all = Vec::new();
        while !outbox.is_empty() {
            assert_eq!(outbox.fill(step, Kind::Stream).unwrap(), Filled::Ready);
            let bytes = next(outbox, step);
            outbox.advance(bytes.len());
            all.extend(bytes);
        }
        assert_eq!(outbox.bytes(), 0);
        all
    }

    fn push(outbox: &mut Outbox, data: &[u8]) {
        outbox.push(data.len(), data);
    }

    #[test]
    fn output_leaves_in_the_order_of_the_pushes_whatever_a_write_takes() {
        for step in 1..=30 {
            let mut outbox = Outbox::default();
            push(&mut outbox, b"one ");
            push(&mut outbox, b"two ");
            outbox.push_kept(Bytes::from_static(b"three "));
            outbox.push_producer(Box::new(Pieces(vec![b"four ", b"five "])));
            push(&mut outbox, b"six ");
            outbox.push_producer(Box::new(Pieces(vec![])));
            push(&mut outbox, b"seven");
            assert_eq!(outbox.bytes(), 23, "a producer counts when it has made something");
            assert_eq!(drain(&mut outbox, step), b"one two three four five six seven", "{step}");
        }
    }

    #[test]
    fn a_producer_is_asked_only_when_there_is_room() {
        let mut outbox = Outbox::default();
        push(&mut outbox, &[b'x'; 10]);
        outbox.push_producer(Box::new(Pieces(vec![b"12345", b"67890"])));
        assert_eq!(outbox.fill(10, Kind::Stream).unwrap(), Filled::Ready);
        assert_eq!(outbox.bytes(), 10);
        assert_eq!(outbox.fill(12, Kind::Stream).unwrap(), Filled::Ready);
        assert_eq!(outbox.bytes(), 15);
    }

    #[test]
    fn an_empty_piece_waits_and_loses_nothing() {
        let mut outbox = Outbox::default();
        outbox.push_producer(Box::new(Pieces(vec![b"", b"late"])));
        push(&mut outbox, b" end");
        assert_eq!(outbox.fill(100, Kind::Stream).unwrap(), Filled::Waiting);
        assert_eq!(next(&outbox, 100), b"");
        assert!(!outbox.is_empty());
        assert_eq!(drain(&mut outbox, 100), b"late end");
    }

    #[test]
    fn pushes_between_short_writes_keep_their_place() {
        let mut outbox = Outbox::default();
        let (mut all, mut sent) = (Vec::new(), Vec::new());
        for round in 0..200u8 {
            let piece = vec![round; usize::from(round) * 7 % 301];
            all.extend_from_slice(&piece);
            if round % 3 == 0 {
                outbox.push_kept(Bytes::from(piece));
            } else {
                push(&mut outbox, &piece);
            }
            let bytes = next(&outbox, 97);
            outbox.advance(bytes.len());
            sent.extend(bytes);
        }
        sent.extend(drain(&mut outbox, 1000));
        assert!(sent == all);
    }

    #[test]
    fn a_tail_that_never_runs_empty_stays_small() {
        let mut outbox = Outbox::default();
        for _ in 0..10_000 {
            push(&mut outbox, &[1; 1000]);
            outbox.advance(if outbox.bytes() > 20_000 { 1500 } else { 500 });
        }
        assert!(outbox.tail.capacity() <= 128 << 10, "{}", outbox.tail.capacity());
    }

    #[test]
    fn the_pool_lends_what_was_given_back_empty_and_keeps_its_bounds() {
        let mut pool = OutboxPool::default();
        let mut outbox = pool.take();
        push(&mut outbox, b"left over");
        let address: *const Outbox = &raw const *outbox;
        pool.put(outbox);
        let again = pool.take();
        assert!(std::ptr::eq(address, &raw const *again) && again.is_empty() && again.bytes() == 0);

        for _ in 0..200 {
            let mut outbox = Box::<Outbox>::default();
            push(&mut outbox, &[0; 60_000]);
            pool.put(outbox);
        }
        assert!(pool.free.len() <= POOLED / 60_000);

        // Of the smallest, the box is the larger part.
        let mut pool = OutboxPool::default();
        for _ in 0..POOLED / size_of::<Outbox>() {
            let mut outbox = Box::<Outbox>::default();
            push(&mut outbox, b"ten bytes.");
            pool.put(outbox);
        }
        assert!(pool.free.len() * (size_of::<Outbox>() + 10) <= POOLED, "{}", pool.free.len());
    }

    #[test]
    fn a_large_push_makes_no_tail() {
        let mut outbox = Outbox::default();
        push(&mut outbox, &[1; 1 << 20]);
        assert_eq!((outbox.bytes(), outbox.tail.capacity()), (1 << 20, 0));
    }
}
