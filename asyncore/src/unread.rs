//! Input that was received and put back: it comes first in the next read.

use crate::buffer::BufferPool;
use crate::entry::Flags;
use crate::{ChannelId, Dispatcher, Kind, Map, ReadBuffer, State};

/// Input that was put back and waits to be received again.
#[derive(Debug, Default)]
pub(crate) struct Unread {
    bytes: Vec<u8>,
    /// How much of `bytes` was taken again: room for what is put back next.
    taken: usize,
}

impl<A: 'static> Map<A> {
    /// Puts input back in front of what is still to be received: the next [`recv`](Self::recv) gives it again.
    ///
    /// For a handler that has read more than was meant for it, before another [replaces](Self::replace) it.
    /// `handle_read` is called without an event, when the channel reads; so to wait for more input, a handler keeps what
    /// it has. Pauses hold these bytes too, and they count in the turn's share. Budgets aside they were counted when they
    /// came: [`bytes_in`](crate::Dispatcher::bytes_in) stays.
    ///
    /// An end of file comes behind them, also one that was told already: it is told again. Putting nothing back in
    /// `handle_eof` passes the end itself on. A channel that closes and one of datagrams take nothing back.
    pub fn unread(&mut self, id: ChannelId, input: &[u8]) {
        let Some(entry) = self.live_mut(id) else { return };
        if entry.dispatcher.kind() == Kind::Datagram {
            return;
        }
        match entry.dispatcher.state {
            State::Open | State::Finishing | State::WriteClosed => {}
            // Read again, the socket tells its end again.
            State::PeerClosed => entry.dispatcher.state = State::Open,
            _ => return,
        }
        entry.flags.clear(Flags::END_OF_INPUT);
        if !input.is_empty() {
            entry.dispatcher.rare().unread.get_or_insert_default().put_back(input);
            entry.flags.set(Flags::UNREAD);
        }
        self.touch(id);
        self.update_serving(id);
        self.read_again(id);
    }

    /// Takes from what was put back, at most `most` bytes.
    pub(crate) fn recv_unread(&mut self, id: ChannelId, most: usize) -> ReadBuffer {
        let mut buffer = BufferPool::lend(&self.buffers);
        if let Some(entry) = self.live_mut(id) {
            let dispatcher = &mut entry.dispatcher;
            let most = most.min(dispatcher.unread());
            let taken = dispatcher.take_unread(buffer.room(most));
            buffer.fill(taken);
            entry.flags.put(Flags::UNREAD, dispatcher.unread() > 0);
        }
        buffer
    }

    /// A channel closes when done: input is no longer delivered.
    pub(crate) fn forget_unread(&mut self, id: ChannelId) {
        if let Some(entry) = self.live_mut(id)
            && entry.flags.take(Flags::UNREAD)
        {
            entry.dispatcher.rare().unread = None;
        }
    }
}

impl Dispatcher {
    /// How many bytes were put back and not taken again.
    pub(crate) fn unread(&self) -> usize {
        let unread = self.rare_ref().and_then(|rare| rare.unread.as_ref());
        unread.map_or(0, |unread| unread.rest().len())
    }

    /// Takes from what was put back, as much as there is room for: how many bytes.
    pub(crate) fn take_unread(&mut self, room: &mut [u8]) -> usize {
        let most = room.len().min(self.unread());
        if let Some(rare) = self.rare_mut()
            && let Some(unread) = &mut rare.unread
        {
            for (place, byte) in room.iter_mut().zip(unread.take(most)) {
                *place = *byte;
            }
            if unread.rest().is_empty() {
                rare.unread = None;
                rare.input.clear(Flags::UNREAD);
            }
        }
        most
    }
}

impl Unread {
    fn rest(&self) -> &[u8] {
        self.bytes.get(self.taken..).unwrap_or_default()
    }

    /// The next `count` bytes, which are there.
    fn take(&mut self, count: usize) -> &[u8] {
        let from = self.taken;
        self.taken += count;
        self.bytes.get(from..self.taken).unwrap_or_default()
    }

    /// In front of what is left.
    ///
    /// ```text
    ///   |------ taken ------|------- rest -------|
    ///   |- taken -|- input -|------- rest -------|
    /// ```
    fn put_back(&mut self, input: &[u8]) {
        if let Some(free) = self.taken.checked_sub(input.len())
            && let Some(room) = self.bytes.get_mut(free..self.taken)
        {
            room.copy_from_slice(input);
            self.taken = free;
        } else {
            self.bytes = [input, self.rest()].concat();
            self.taken = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_put_back_comes_first_and_again() {
        let mut unread = Unread::default();
        unread.put_back(b"world");
        unread.put_back(b"hello ");
        assert_eq!(unread.rest(), b"hello world");
        assert_eq!(unread.take(8), b"hello wo");
        unread.put_back(b"wo");
        assert_eq!((unread.rest(), unread.bytes.len()), (&b"world"[..], 11), "in place");
        unread.put_back(b"a longer one than was taken: ");
        assert_eq!(unread.rest(), b"a longer one than was taken: world");
        unread.put_back(b"");
        assert_eq!(unread.take(34).len(), 34);
        assert!(unread.rest().is_empty());
    }
}
