//! What a map counts, as a whole and for each channel.

use crate::dispatcher::Dispatcher;
use crate::{ChannelId, Map};

/// What a map has done so far; [`Map::counters`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counters {
    /// Turns of the loop.
    pub turns: u64,
    /// Events that the poller reported.
    pub events: u64,
    /// Deadlines that passed: of timers, of timeouts, and of what the loop itself waits for.
    pub deadlines: u64,
    /// Closures and pushes of other threads that the loop has come to.
    pub posts: u64,
    /// Bytes received.
    pub bytes_in: u64,
    /// Bytes that sockets took.
    pub bytes_out: u64,
    /// Messages that were cut from the input: see [`Map::count_messages`].
    pub messages: u64,
    /// Pushes that were taken; a broadcast is one for each channel that took it.
    pub pushes: u64,
    /// Writes of which the socket took only a part, or nothing: the rest waits until the peer has read.
    pub partial_writes: u64,
    /// Connections accepted.
    pub accepted: u64,
    /// Accepts that failed.
    pub accept_errors: u64,
    /// Connections turned away: by a listener's [`ListenOptions`](crate::ListenOptions), or because no descriptor was left.
    /// They are not among those accepted.
    pub refused: u64,
    /// Changes of what the poller waits for.
    pub registrations: u64,
    /// Channels that were closed.
    pub closed: u64,
}

/// What one channel has done so far; [`Map::channel_counters`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ChannelCounters {
    /// Bytes received.
    pub bytes_in: u64,
    /// Bytes that the socket took.
    pub bytes_out: u64,
    /// Messages that were cut from its input: see [`Map::count_messages`].
    pub messages: u64,
    /// Pushes that were taken.
    pub pushes: u64,
    /// Writes of which the socket took only a part, or nothing.
    pub partial_writes: u64,
}

/// A count in four bytes of a slot, and in [`Rare`](crate::extra::Rare) how often it has run over.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Count {
    low: u32,
}

impl Count {
    /// Adds some: whether the count has run over.
    #[must_use]
    #[inline]
    fn add(&mut self, more: u32) -> bool {
        let over;
        (self.low, over) = self.low.overflowing_add(more);
        over
    }

    const fn whole(self, over: u32) -> u64 {
        (over as u64) << u32::BITS | self.low as u64
    }
}

/// How often the counts of a channel have run over.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Overflows {
    bytes_in: u32,
    bytes_out: u32,
    pushes: u32,
    messages: u32,
}

impl Dispatcher {
    /// Counts what one call has received.
    #[inline]
    pub(crate) fn count_in(&mut self, bytes: usize) {
        if self.bytes_in.add(moved(bytes)) {
            self.rare().over.bytes_in += 1;
        }
    }

    /// Counts what the socket took of one call.
    #[inline]
    pub(crate) fn count_out(&mut self, bytes: usize) {
        if self.bytes_out.add(moved(bytes)) {
            self.rare().over.bytes_out += 1;
        }
    }

    /// Bytes received so far.
    #[must_use]
    pub fn bytes_in(&self) -> u64 {
        self.bytes_in.whole(self.overflows().bytes_in)
    }

    /// Bytes that the socket took so far.
    #[must_use]
    pub fn bytes_out(&self) -> u64 {
        self.bytes_out.whole(self.overflows().bytes_out)
    }

    fn overflows(&self) -> Overflows {
        self.rare_ref().map_or_else(Overflows::default, |rare| rare.over)
    }

    /// Counts the pushes that its queue has taken without counting them: how many.
    pub(crate) fn settle_pushes(&mut self) -> u32 {
        let pushes = self.outbox.as_mut().map_or(0, |outbox| std::mem::take(&mut outbox.uncounted));
        self.count_pushes(pushes);
        pushes
    }

    pub(crate) fn count_pushes(&mut self, pushes: u32) {
        if self.pushes.add(pushes) {
            self.rare().over.pushes += 1;
        }
    }

    fn counters(&self) -> ChannelCounters {
        let over = self.overflows();
        let uncounted = self.outbox.as_ref().map_or(0, |outbox| outbox.uncounted);
        ChannelCounters {
            bytes_in: self.bytes_in(),
            bytes_out: self.bytes_out(),
            messages: self.messages.whole(over.messages),
            pushes: self.pushes.whole(over.pushes) + u64::from(uncounted),
            partial_writes: self.rare_ref().map_or(0, |rare| rare.partial_writes),
        }
    }
}

/// # Counters
///
/// They are always on and only go up. They cost about one in fifty of the instructions of an echoed line: what is
/// counted often is added up once a read or write.
impl<A: 'static> Map<A> {
    /// What the map has done so far. In a `handle_drained` some pushes of the turn may be missing still.
    ///
    /// ```
    /// use asyncore::{Channel, Map};
    ///
    /// struct Quiet;
    /// impl Channel for Quiet {}
    ///
    /// let (here, _there) = std::os::unix::net::UnixStream::pair()?;
    /// let mut map = Map::new()?;
    /// let id = map.add(here, Quiet)?;
    /// map.push(id, "hello ");
    /// map.push(id, "world\r\n");
    /// map.poll(&mut (), None)?;
    /// let counters = map.counters();
    /// assert_eq!((counters.turns, counters.pushes, counters.bytes_out), (1, 2, 13));
    /// # Ok::<(), asyncore::Error>(())
    /// ```
    #[must_use]
    pub fn counters(&self) -> Counters {
        let uncounted = |id: &ChannelId| Some(self.entry(*id)?.dispatcher.outbox.as_ref()?.uncounted);
        let uncounted = self.unsent.iter().filter_map(uncounted).map(u64::from).sum::<u64>();
        Counters { pushes: self.counters.pushes + uncounted, ..self.counters }
    }

    /// What one channel has done so far; also in its `handle_close`, the time to log it. `None` when it is gone.
    #[must_use]
    pub fn channel_counters(&self, id: ChannelId) -> Option<ChannelCounters> {
        Some(self.entry(id)?.dispatcher.counters())
    }

    /// Counts messages that a channel's handler has cut from its input.
    ///
    /// What a message is, the handler says. A chat channel of `asynchat` counts its own, those of one read together when
    /// they have been delivered.
    pub fn count_messages(&mut self, id: ChannelId, messages: usize) {
        let Some(entry) = Self::entry_in(&mut self.slots, id) else { return };
        let messages = u32::try_from(messages).unwrap_or(u32::MAX);
        self.counters.messages += u64::from(messages);
        if entry.dispatcher.messages.add(messages) {
            entry.dispatcher.rare().over.messages += 1;
        }
    }
}

/// What one call has moved: less than 4 GiB on every system (read(2), "Notes": 0x7ffff000 bytes at most).
#[inline]
#[expect(clippy::cast_possible_truncation, reason = "no call moves as much")]
fn moved(bytes: usize) -> u32 {
    debug_assert!(u32::try_from(bytes).is_ok(), "{bytes} bytes moved in one call");
    bytes as u32
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;
    use crate::{Channel, Result};

    struct Quiet;

    impl Channel for Quiet {}

    #[test]
    fn a_count_that_runs_over_its_four_bytes_goes_on() -> Result {
        let mut map: Map = Map::new()?;
        let (here, _there) = UnixStream::pair()?;
        let id = map.add(here, Quiet)?;
        let most = u32::MAX as usize;
        for _ in 0..3 {
            map.count_messages(id, most);
        }
        assert_eq!(map.counters().messages, 3 * most as u64);
        assert_eq!(map.channel_counters(id).map(|counters| counters.messages), Some(3 * most as u64));
        if let Some(entry) = map.live_mut(id) {
            entry.dispatcher.count_pushes(u32::MAX);
        }
        for _ in 0..3 {
            map.push(id, b"x");
        }
        assert_eq!(map.channel_counters(id).map(|counters| counters.pushes), Some(u64::from(u32::MAX) + 3));
        assert_eq!(map.counters().pushes, 3);
        if let Some(entry) = map.live_mut(id) {
            for (moves, more) in [(1, 5), (2, u32::MAX)] {
                for _ in 0..moves {
                    entry.dispatcher.count_in(more as usize);
                }
                entry.dispatcher.count_out(more as usize);
            }
            assert_eq!(entry.dispatcher.bytes_in(), 5 + 2 * u64::from(u32::MAX));
            assert_eq!(entry.dispatcher.bytes_out(), 5 + u64::from(u32::MAX));
        }
        Ok(())
    }
}
