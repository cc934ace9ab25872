//! What is due at a time: the deadlines of a map, soonest first.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::{ChannelId, Dispatcher, Map, TimerId};

/// What happens when a deadline passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Due {
    /// A lingering channel has waited long enough for its peer's end.
    Linger(ChannelId),
    /// A draining channel shows whether its output moved.
    Drain(ChannelId),
    /// A channel whose writing was put off, for want of memory or by its rate limit, goes on.
    Retry(ChannelId),
    /// A channel that had received all that its rate limit allows goes on.
    Read(ChannelId),
    /// A listener that was out of descriptors accepts again.
    Accept(ChannelId),
    /// A channel's clocks are to be looked at.
    Check(ChannelId),
    /// A handshake has had its time.
    Handshake(ChannelId),
    /// A channel that connects to a host tries its next address.
    Attempt(ChannelId),
    /// A timer comes.
    Timer(TimerId),
    /// A shutdown has lasted long enough.
    ShutDown,
}

/// The name of one deadline, to cancel it by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct DeadlineKey {
    at: Instant,
    /// Tells deadlines of one instant apart, and keeps them in the order in which they were set.
    number: u64,
}

impl DeadlineKey {
    pub(crate) const fn at(self) -> Instant {
        self.at
    }
}

/// An ordered list of deadlines; set, cancel and take are O(log n).
#[derive(Debug, Default)]
pub(crate) struct Deadlines {
    waiting: BTreeMap<DeadlineKey, Due>,
    set: u64,
}

impl Deadlines {
    /// Sets a deadline `after` a time; one that the clock cannot tell is put off by a century.
    pub(crate) fn set(&mut self, now: Instant, after: Duration, due: Due) -> DeadlineKey {
        let at = now.checked_add(after).or_else(|| now.checked_add(CENTURY)).unwrap_or(now);
        self.set += 1;
        let key = DeadlineKey { at, number: self.set };
        self.waiting.insert(key, due);
        key
    }

    pub(crate) fn is_waiting(&self, key: DeadlineKey) -> bool {
        self.waiting.contains_key(&key)
    }

    /// Whether it was still waiting.
    pub(crate) fn cancel(&mut self, key: DeadlineKey) -> bool {
        self.waiting.remove(&key).is_some()
    }

    pub(crate) fn len(&self) -> usize {
        self.waiting.len()
    }

    pub(crate) fn next(&self) -> Option<Instant> {
        self.waiting.first_key_value().map(|(key, _)| key.at)
    }

    /// A mark between the deadlines that were set so far and those to come.
    pub(crate) const fn mark(&self) -> u64 {
        self.set
    }

    /// Takes the soonest deadline, if it has passed by `now` and was set before `mark`: one that is set again and again
    /// for the present time waits for the next turn.
    pub(crate) fn take_due(&mut self, now: Instant, mark: u64) -> Option<(DeadlineKey, Due)> {
        let first = self.waiting.first_entry()?;
        (first.key().at <= now && first.key().number <= mark).then(|| first.remove_entry())
    }
}

impl<A: 'static> Map<A> {
    /// The time, for a deadline: the clock's and not the turn's, which after a slow callback would be early.
    pub(crate) fn time(&self) -> Instant {
        self.world.now()
    }

    /// Sets the one deadline of a channel that closes or shakes hands, or of a listener that pauses.
    pub(crate) fn set_deadline(&mut self, id: ChannelId, after: Duration, due: Due) {
        let now = self.time();
        let Some(entry) = Self::entry_in(&mut self.slots, id) else { return };
        let key = self.deadlines.set(now, after, due);
        if let Some(old) = entry.dispatcher.rare().deadline.replace(key) {
            self.deadlines.cancel(old);
        }
    }

    pub(crate) fn cancel_deadline(&mut self, dispatcher: &mut Dispatcher) {
        if let Some(key) = dispatcher.rare_mut().and_then(|rare| rare.deadline.take()) {
            self.deadlines.cancel(key);
        }
    }
}

/// As good as never.
const CENTURY: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::*;

    #[test]
    fn deadlines_come_in_order_and_not_before_their_time() {
        let start = Instant::now();
        let id = |slot| ChannelId::new(slot, NonZeroU32::MIN);
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut deadlines = Deadlines::default();
        deadlines.set(start, Duration::from_secs(2), Due::Linger(id(2)));
        let cancelled = deadlines.set(start, Duration::from_secs(1), Due::Linger(id(9)));
        deadlines.set(start, Duration::from_secs(1), Due::Linger(id(1)));
        deadlines.set(start, Duration::from_secs(1), Due::Accept(id(1)));
        assert!(deadlines.cancel(cancelled) && !deadlines.cancel(cancelled));
        assert_eq!(deadlines.next(), Some(at(1)));
        let mark = deadlines.mark();
        deadlines.set(start, Duration::ZERO, Due::ShutDown);
        assert_eq!(deadlines.take_due(start, mark), None, "set after the mark");
        let mark = deadlines.mark();
        assert_eq!(deadlines.take_due(start, mark).map(|(_, due)| due), Some(Due::ShutDown));
        let mut take = |at| deadlines.take_due(at, mark).map(|(_, due)| due);
        assert_eq!(take(start), None);
        assert_eq!(take(at(3)), Some(Due::Linger(id(1))));
        assert_eq!(take(at(3)), Some(Due::Accept(id(1))));
        assert_eq!(take(at(3)), Some(Due::Linger(id(2))));
        assert_eq!(take(at(3)), None);
        assert_eq!(deadlines.next(), None);
    }
}
