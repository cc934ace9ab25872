//! [`Entry`]: one channel in its slot, its two halves side by side.

use std::num::NonZeroU32;

use crate::interest::{Interest, Pauses};
use crate::panics::contain;
use crate::{Channel, Dispatcher, State};

/// A place for one channel at a time.
pub(crate) struct Slot<A: 'static> {
    pub(crate) generation: NonZeroU32,
    pub(crate) entry: Option<Entry<A>>,
}

impl<A: 'static> Drop for Slot<A> {
    /// With the whole map: a handler that panics as it is dropped takes no other with it.
    fn drop(&mut self) {
        if let Some(entry) = self.entry.take() {
            contain("dropping a channel", || drop(entry));
        }
    }
}

/// The two halves of a channel, side by side.
pub(crate) struct Entry<A: 'static> {
    pub(crate) dispatcher: Dispatcher,
    /// `None` while one of its callbacks runs.
    pub(crate) handler: Option<Box<dyn Channel<A>>>,
    /// What the poller was last told.
    pub(crate) interest: Interest,
    pub(crate) pauses: Pauses,
    pub(crate) flags: Flags,
}

/// A set of marks on a channel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Flags(u32);

impl Flags {
    /// In [`Map::touched`](crate::Map::touched).
    pub(crate) const TOUCHED: Self = Self(1);
    /// In [`Map::ready`](crate::Map::ready).
    pub(crate) const READY: Self = Self(1 << 1);
    /// In [`Map::unsent`](crate::Map::unsent).
    pub(crate) const UNSENT: Self = Self(1 << 2);
    /// The socket did not take all of the last write.
    pub(crate) const BLOCKED: Self = Self(1 << 3);
    /// Queued output went over the high mark and has not fallen to the low one since.
    pub(crate) const HIGH: Self = Self(1 << 4);
    /// `handle_connect` is due.
    pub(crate) const CONNECT_DUE: Self = Self(1 << 5);
    /// `handle_eof` is due.
    pub(crate) const EOF_DUE: Self = Self(1 << 6);
    /// `handle_shutdown` is due.
    pub(crate) const SHUTDOWN_DUE: Self = Self(1 << 7);
    /// `handle_read` is due without an event.
    pub(crate) const READ_DUE: Self = Self(1 << 8);
    /// The end of input has been seen.
    pub(crate) const EOF_SEEN: Self = Self(1 << 9);
    /// Out of the poller: it hung up while nothing was wanted of it, which the poller would repeat for ever.
    pub(crate) const HUNG_UP: Self = Self(1 << 10);
    /// Does not keep the loop running.
    pub(crate) const BACKGROUND: Self = Self(1 << 11);
    /// The system had no memory for the last write, or the rate limit allows none for now; a deadline says when to go on.
    pub(crate) const PUT_OFF: Self = Self(1 << 12);
    /// An open stream with an outbox that is written at the end of this turn: a push has only to append.
    pub(crate) const FLOWING: Self = Self(1 << 13);
    /// Does not read while its output is high.
    pub(crate) const COUPLED: Self = Self(1 << 14);
    /// Others do not read while its output is high.
    pub(crate) const FED: Self = Self(1 << 15);
    /// Has clocks that count its input: a read time or a least rate.
    pub(crate) const TIMED: Self = Self(1 << 16);
    /// The handler in the slot is a new one: the former, whose callback runs, is dropped when that returns.
    pub(crate) const REPLACED: Self = Self(1 << 17);
    /// Input that was put back comes before the socket's.
    pub(crate) const UNREAD: Self = Self(1 << 18);
    /// Has a limit of how fast it receives.
    pub(crate) const READ_RATE: Self = Self(1 << 19);
    /// Has a limit of how fast it sends.
    pub(crate) const WRITE_RATE: Self = Self(1 << 20);
    /// `handle_read` was called in this turn: that is the channel's share.
    pub(crate) const HAS_READ: Self = Self(1 << 21);
    /// Connects to a host, or tries one of a host's addresses.
    pub(crate) const RACING: Self = Self(1 << 22);

    /// Its output began after its interest was last compared with the poller's: once all is sent in one write, that is as
    /// it was, unless something else that changes it has touched the channel.
    pub(crate) const FRESH: Self = Self(1 << 23);

    /// What ends with the turn.
    pub(crate) const OF_THIS_TURN: Self = Self(Self::TOUCHED.0 | Self::HAS_READ.0 | Self::FRESH.0);

    /// What ends with the write at the end of the turn.
    pub(crate) const OF_THIS_FLUSH: Self = Self(Self::UNSENT.0 | Self::FLOWING.0 | Self::FRESH.0);

    /// With one of these, a write is not simply the socket's.
    pub(crate) const WRITE_WITH_CARE: Self =
        Self(Self::STALLED.0 | Self::HIGH.0 | Self::FED.0 | Self::WRITE_RATE.0);

    /// With one of these, a read is not simply the socket's.
    pub(crate) const READ_WITH_CARE: Self =
        Self(Self::REPLACED.0 | Self::UNREAD.0 | Self::TIMED.0 | Self::READ_RATE.0);

    /// With one of these, something waits while its output is high.
    pub(crate) const WAITED_FOR: Self = Self(Self::COUPLED.0 | Self::FED.0);

    /// The socket did not take all output, and has not been tried again since.
    pub(crate) const STALLED: Self = Self(Self::BLOCKED.0 | Self::PUT_OFF.0);

    /// With one of these, a channel with output is not put on the list of those that write.
    pub(crate) const NOT_TO_WRITE: Self = Self(Self::UNSENT.0 | Self::BLOCKED.0 | Self::PUT_OFF.0);

    /// The end of input has been seen, and may not have been told yet.
    pub(crate) const END_OF_INPUT: Self = Self(Self::EOF_DUE.0 | Self::EOF_SEEN.0);

    /// What a channel that is removed takes with it.
    pub(crate) const INPUT: Self = Self(Self::END_OF_INPUT.0 | Self::UNREAD.0 | Self::READ_DUE.0);

    /// Those of `self` that are in `mask`.
    pub(crate) const fn only(self, mask: Self) -> Self {
        Self(self.0 & mask.0)
    }

    pub(crate) const fn has(self, flag: Self) -> bool {
        self.0 & flag.0 != 0
    }

    /// Whether one of several flags is set.
    pub(crate) const fn any(self, flags: Self) -> bool {
        self.0 & flags.0 != 0
    }

    pub(crate) const fn set(&mut self, flag: Self) {
        self.0 |= flag.0;
    }

    pub(crate) const fn clear(&mut self, flag: Self) {
        self.0 &= !flag.0;
    }

    /// Whether output stands still for the channel's own rate limit, and not for its peer.
    pub(crate) const fn is_throttled(self) -> bool {
        self.has(Self::WRITE_RATE) && self.has(Self::PUT_OFF)
    }

    /// Sets or clears the flag.
    pub(crate) const fn put(&mut self, flag: Self, on: bool) {
        if on { self.set(flag) } else { self.clear(flag) }
    }

    /// Clears the flag: whether it was set.
    pub(crate) const fn take(&mut self, flag: Self) -> bool {
        let had = self.has(flag);
        self.clear(flag);
        had
    }
}

impl<A: 'static> Entry<A> {
    /// What the channel waits for.
    pub(crate) fn wanted(&self) -> Interest {
        let reads = self.pauses.is_empty() && !self.flags.has(Flags::EOF_SEEN);
        let blocked = self.flags.has(Flags::BLOCKED);
        let put_off = self.flags.has(Flags::PUT_OFF);
        let handler = self.handler.as_deref();
        let readable = || handler.is_some_and(Channel::readable);
        let writable = || handler.is_some_and(Channel::writable);
        match self.dispatcher.state {
            State::Created | State::Closed => Interest::NONE,
            State::Listening => Interest { read: self.pauses.is_empty(), write: false },
            State::Connecting if self.dispatcher.awaits_no_event() => Interest::NONE,
            State::Connecting => Interest::WRITE,
            State::Handshaking => Interest { read: true, write: self.dispatcher.socket.holds_output() },
            State::Open | State::PeerClosed => {
                // `handle_write` waits for an empty queue, and the queue may wait for its producer.
                let has_room = self.dispatcher.outbox.is_none();
                Interest { read: reads && readable(), write: blocked || (has_room && !put_off && writable()) }
            }
            State::Finishing | State::WriteClosed => Interest { read: reads && readable(), write: blocked },
            // Input is dropped whether the handler was paused or not.
            State::Draining | State::Lingering => {
                Interest { read: !self.flags.has(Flags::EOF_SEEN), write: blocked }
            }
        }
    }

    /// Whether it has stopped reading for output of its own that the next write, of `most` bytes, may take whole.
    ///
    /// One whose clocks count its input is to hear at once that it does not read.
    pub(crate) fn may_soon_read(&self, most: usize) -> bool {
        self.interest.read
            && self.pauses == Pauses::OUTPUT
            && self.flags.has(Flags::UNSENT)
            && !self.flags.has(Flags::TIMED)
            && self.dispatcher.outbox.as_ref().is_some_and(|outbox| outbox.ends_within(most))
    }

    /// Whether the poller is to know the channel even when it wants nothing, so that a reset is heard.
    pub(crate) fn is_watched(&self) -> bool {
        !self.flags.has(Flags::HUNG_UP)
            && !matches!(self.dispatcher.state, State::Created)
            && !self.dispatcher.awaits_no_event()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_size_of_a_slot_is_pinned() {
        assert!(size_of::<Slot<()>>() <= 96, "{}", size_of::<Slot<()>>());
    }
}
