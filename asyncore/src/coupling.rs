//! Back-pressure between channels: who is not read while whose output is high.

use crate::entry::Flags;
use crate::interest::Pauses;
use crate::{ChannelId, Map};

/// What a coupled channel knows of the others.
#[derive(Debug, Default)]
pub(crate) struct Coupling {
    /// The channels that are not read while this one's output is high.
    sources: Vec<ChannelId>,
    /// Whether it holds its sources now.
    holds: bool,
    /// The channels whose output this one waits for.
    targets: Vec<ChannelId>,
    /// How many of `targets` hold it now; it reads when none does.
    held_by: usize,
}

impl<A: 'static> Map<A> {
    /// Couples the reading of one channel to the output of another: `from` is not read while what is queued for `to` is
    /// above the high mark, until that has fallen to the low mark.
    ///
    /// For what is read here and pushed there: a slow reader then slows its writer down instead of costing memory. A
    /// channel can be coupled to several, as one that feeds many, and reads when none of them is high; several can be
    /// coupled to one. A pause of this kind and those of [`pause_reading`](Self::pause_reading) do not undo each other.
    /// What a producer makes while it is sent does not count, being made only as fast as it goes.
    ///
    /// A coupling ends when one of the two closes or is removed, or with [`uncouple`](Self::uncouple). An id that is gone
    /// is ignored.
    ///
    /// ```
    /// use std::os::unix::net::UnixStream;
    ///
    /// use asyncore::{Channel, HIGH_MARK, Map};
    ///
    /// struct Quiet;
    /// impl Channel for Quiet {}
    ///
    /// let mut map = Map::new()?;
    /// let (from, _there) = UnixStream::pair()?;
    /// let (to, _elsewhere) = UnixStream::pair()?;
    /// let (from, to) = (map.add(from, Quiet)?, map.add(to, Quiet)?);
    /// map.couple(from, to);
    /// map.push(to, vec![0; HIGH_MARK + 1]);
    /// assert!(!map.is_reading(from));
    /// map.discard_output(to);
    /// map.poll(&mut (), None)?;
    /// assert!(map.is_reading(from));
    /// # Ok::<(), asyncore::Error>(())
    /// ```
    pub fn couple(&mut self, from: ChannelId, to: ChannelId) {
        if from == to {
            return self.pause_when_high(from, true);
        }
        if !self.is_open(to) {
            return;
        }
        let Some(source) = self.coupling(from) else { return };
        if source.targets.contains(&to) {
            return;
        }
        source.targets.push(to);
        let is_high = self.is_high(to);
        let Some(entry) = self.live_mut(to) else { return };
        let is_first = !entry.flags.has(Flags::FED);
        entry.flags.set(Flags::FED);
        let target = entry.dispatcher.rare().coupling.get_or_insert_default();
        target.sources.push(from);
        if is_first {
            target.holds = is_high;
        }
        if target.holds {
            self.hold(from);
        }
    }

    /// Couples two channels both ways: neither is read while the other has much to take. For tunnels and proxies, which
    /// push to each what they read from the other.
    pub fn pipe(&mut self, one: ChannelId, other: ChannelId) {
        self.couple(one, other);
        self.couple(other, one);
    }

    /// Ends what [`couple`](Self::couple) began: `from` is read whatever is queued for `to`.
    pub fn uncouple(&mut self, from: ChannelId, to: ChannelId) {
        if from == to {
            return self.pause_when_high(from, false);
        }
        self.forget_source(to, from);
    }

    /// Chooses whether a channel's reading waits while its own output is above the high mark, until that has fallen to
    /// the low mark. Off for a new channel.
    ///
    /// For channels that answer what they read: a peer that does not take its answers then stops asking. It is the same
    /// as coupling a channel to itself.
    pub fn pause_when_high(&mut self, id: ChannelId, pauses: bool) {
        let is_high = self.is_high(id);
        let Some(entry) = self.live_mut(id) else { return };
        if pauses {
            entry.flags.set(Flags::COUPLED);
            if is_high {
                self.pause(id, Pauses::OUTPUT);
            }
        } else {
            entry.flags.clear(Flags::COUPLED);
            self.resume(id, Pauses::OUTPUT);
        }
    }

    /// The output of a channel that something waits for went over its high mark.
    pub(crate) fn went_high(&mut self, id: ChannelId) {
        let Some(entry) = self.live_mut(id) else { return };
        let flags = entry.flags;
        if flags.has(Flags::FED)
            && let Some(target) = entry.dispatcher.coupling_mut()
            && !std::mem::replace(&mut target.holds, true)
        {
            let sources = std::mem::take(&mut target.sources);
            sources.iter().for_each(|source| self.hold(*source));
            self.put_back(id, sources);
        }
        if flags.has(Flags::COUPLED) {
            self.pause(id, Pauses::OUTPUT);
        }
    }

    /// The output of a channel that something may wait for has fallen to its low mark.
    pub(crate) fn went_low(&mut self, id: ChannelId) {
        if let Some(target) = self.coupled(id)
            && std::mem::take(&mut target.holds)
        {
            let sources = std::mem::take(&mut target.sources);
            sources.iter().for_each(|source| self.release(*source));
            self.put_back(id, sources);
        }
        self.resume(id, Pauses::OUTPUT);
    }

    /// A channel closes or leaves the map: nobody waits for it any more, and it waits for nobody.
    pub(crate) fn end_couplings(&mut self, id: ChannelId) {
        let Some(entry) = self.entry_mut(id) else { return };
        let Some(coupling) = entry.dispatcher.rare_mut().and_then(|rare| rare.coupling.take()) else {
            return;
        };
        entry.flags.clear(Flags::FED);
        for target in coupling.targets {
            if let Some(target) = self.coupled(target) {
                target.sources.retain(|source| *source != id);
            }
        }
        for source in coupling.sources {
            if let Some(coupled) = self.coupled(source) {
                coupled.targets.retain(|target| *target != id);
            }
            if coupling.holds {
                self.release(source);
            }
        }
    }

    /// Whether queued output has gone over the high mark and not fallen to the low one since.
    fn is_high(&self, id: ChannelId) -> bool {
        self.live(id).is_some_and(|entry| {
            let limits = entry.dispatcher.extra.limits(&self.limits);
            entry.flags.has(Flags::HIGH) && entry.dispatcher.load() > limits.low_mark
        })
    }

    /// One more target of a channel is high.
    fn hold(&mut self, source: ChannelId) {
        if let Some(coupling) = self.coupled(source) {
            coupling.held_by += 1;
            self.pause(source, Pauses::COUPLING);
        }
    }

    /// One target of a channel less is high.
    fn release(&mut self, source: ChannelId) {
        if let Some(coupling) = self.coupled(source) {
            coupling.held_by = coupling.held_by.saturating_sub(1);
            if coupling.held_by == 0 {
                self.resume(source, Pauses::COUPLING);
            }
        }
    }

    /// `source` no longer waits for `target`.
    fn forget_source(&mut self, target: ChannelId, source: ChannelId) {
        let Some(coupling) = self.coupled(target) else { return };
        let Some(at) = coupling.sources.iter().position(|id| *id == source) else { return };
        coupling.sources.swap_remove(at);
        let holds = coupling.holds;
        if let Some(coupled) = self.coupled(source) {
            coupled.targets.retain(|id| *id != target);
        }
        if holds {
            self.release(source);
        }
    }

    /// The list of sources comes back; nothing but pauses changed meanwhile.
    fn put_back(&mut self, target: ChannelId, sources: Vec<ChannelId>) {
        if let Some(coupling) = self.coupled(target) {
            coupling.sources = sources;
        }
    }

    /// What an open channel knows of others, if it is coupled.
    fn coupled(&mut self, id: ChannelId) -> Option<&mut Coupling> {
        self.live_mut(id)?.dispatcher.coupling_mut()
    }

    /// What an open channel knows of others, from now on.
    fn coupling(&mut self, id: ChannelId) -> Option<&mut Coupling> {
        Some(self.live_mut(id)?.dispatcher.rare().coupling.get_or_insert_default())
    }
}
