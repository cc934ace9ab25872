//! Rate limits of a channel, one for each direction.

use std::time::Duration;

use crate::callback::Fault;
use crate::deadline::{DeadlineKey, Due};
use crate::entry::Flags;
use crate::extra::Rare;
use crate::interest::Pauses;
use crate::rate::Bucket;
use crate::{ChannelId, Limits, Map, Rate};

/// What a channel with a rate limit remembers.
#[derive(Debug, Default)]
pub(crate) struct Throttles {
    read: Throttle,
    write: Throttle,
}

/// One direction.
#[derive(Debug, Default)]
struct Throttle {
    bucket: Bucket,
    /// When the direction goes on, while nothing is left.
    goes_on: Option<DeadlineKey>,
}

impl<A: 'static> Map<A> {
    /// Limits how fast one channel receives, `None` for no limit: whether there is such a channel.
    ///
    /// As [`Limits::read_rate`]; the bucket is full again.
    pub fn set_read_rate(&mut self, id: ChannelId, rate: Option<Rate>) -> bool {
        let Some(limits) = self.own_limits(id) else { return false };
        limits.read_rate = rate;
        self.restart_reads(id);
        true
    }

    /// Limits how fast one channel sends, `None` for no limit: whether there is such a channel.
    ///
    /// As [`Limits::write_rate`]; the bucket is full again.
    pub fn set_write_rate(&mut self, id: ChannelId, rate: Option<Rate>) -> bool {
        let Some(limits) = self.own_limits(id) else { return false };
        limits.write_rate = rate;
        self.restart_writes(id);
        true
    }

    /// A channel's limits were replaced: what is limited otherwise starts anew.
    pub(crate) fn rates_changed(&mut self, id: ChannelId, old: &Limits) {
        if self.limits(id).is_some_and(|new| new.read_rate != old.read_rate) {
            self.restart_reads(id);
        }
        if self.limits(id).is_some_and(|new| new.write_rate != old.write_rate) {
            self.restart_writes(id);
        }
    }

    fn restart_reads(&mut self, id: ChannelId) {
        let is_limited = self.limits(id).is_some_and(|limits| limits.read_rate.is_some());
        let Some(entry) = self.live_mut(id) else { return };
        entry.flags.put(Flags::READ_RATE, is_limited);
        let old = entry.dispatcher.rare_mut().and_then(|rare| rare.throttles.as_mut());
        let old = old.map(|throttles| std::mem::take(&mut throttles.read));
        self.cancel_throttle(old);
        self.resume(id, Pauses::RATE);
    }

    fn restart_writes(&mut self, id: ChannelId) {
        let is_limited = self.limits(id).is_some_and(|limits| limits.write_rate.is_some());
        let Some(entry) = self.live_mut(id) else { return };
        entry.flags.put(Flags::WRITE_RATE, is_limited);
        let old = entry.dispatcher.rare_mut().and_then(|rare| rare.throttles.as_mut());
        let old = old.map(|throttles| std::mem::take(&mut throttles.write));
        if self.cancel_throttle(old) {
            self.write_again(id);
        }
    }

    /// How many bytes a channel may receive now; none: its reading pauses until there are some.
    pub(crate) fn may_read(&mut self, id: ChannelId) -> usize {
        let now = self.time();
        let Some(rate) = self.limits(id).and_then(|limits| limits.read_rate) else { return usize::MAX };
        let Some(entry) = self.live_mut(id) else { return 0 };
        let bucket = entry.dispatcher.rare().throttles().read.bucket;
        let left = bucket.left(rate, now);
        if left == 0 {
            self.pause_for_rate(id, bucket.wait(rate, now));
        }
        usize::try_from(left).unwrap_or(usize::MAX)
    }

    /// A channel with a rate limit received so many bytes.
    pub(crate) fn has_read(&mut self, id: ChannelId, bytes: usize) {
        let now = self.time();
        let Some(rate) = self.limits(id).and_then(|limits| limits.read_rate) else { return };
        let Some(entry) = self.live_mut(id) else { return };
        entry.dispatcher.rare().throttles().read.bucket.spend(rate, now, bytes as u64);
        // At once, so that a loop of reads ends here and the poller is not asked in vain.
        self.may_read(id);
    }

    fn pause_for_rate(&mut self, id: ChannelId, wait: Duration) {
        if self.live(id).is_some_and(|entry| entry.pauses.contains(Pauses::RATE)) {
            return;
        }
        let goes_on = self.deadlines.set(self.time(), wait, Due::Read(id));
        if let Some(entry) = self.live_mut(id) {
            entry.dispatcher.rare().throttles().read.goes_on = Some(goes_on);
        }
        self.pause(id, Pauses::RATE);
    }

    /// The pause of a channel that had received all it may is over.
    pub(crate) fn read_at_rate(&mut self, id: ChannelId) {
        self.resume(id, Pauses::RATE);
    }

    /// How many bytes a channel may send now; none: its writing is put off until there are some.
    pub(crate) fn may_write(&mut self, id: ChannelId) -> usize {
        let now = self.time();
        let Some(rate) = self.limits(id).and_then(|limits| limits.write_rate) else { return usize::MAX };
        let Some(entry) = self.live_mut(id) else { return 0 };
        let bucket = entry.dispatcher.rare().throttles().write.bucket;
        let left = bucket.left(rate, now);
        if left == 0 && !entry.flags.has(Flags::PUT_OFF) {
            entry.dispatcher.rare().forget_stall();
            let goes_on = self.put_off(id, bucket.wait(rate, now));
            if let Some(entry) = self.live_mut(id) {
                entry.dispatcher.rare().throttles().write.goes_on = goes_on;
            }
        }
        usize::try_from(left).unwrap_or(usize::MAX)
    }

    /// A channel with a rate limit sent so many bytes.
    pub(crate) fn has_written(&mut self, id: ChannelId, bytes: usize) {
        let now = self.time();
        let Some(rate) = self.limits(id).and_then(|limits| limits.write_rate) else { return };
        let Some(entry) = self.live_mut(id) else { return };
        entry.dispatcher.rare().throttles().write.bucket.spend(rate, now, bytes as u64);
    }

    /// [`write_queued`](Self::write_queued) for a channel with a rate limit: whether there is more to write at once.
    #[cold]
    pub(crate) fn write_at_rate(&mut self, id: ChannelId) -> Result<bool, Fault> {
        let Some(dispatcher) = self.get(id).filter(|dispatcher| dispatcher.outbox.is_some()) else {
            return Ok(false);
        };
        let sent_before = dispatcher.bytes_out();
        let left = self.may_write(id);
        if left == 0 {
            return Ok(false);
        }
        let more = self.write_queued(id, left);
        let sent = self.get(id).map_or(0, |dispatcher| dispatcher.bytes_out() - sent_before);
        self.has_written(id, usize::try_from(sent).unwrap_or(usize::MAX));
        // At once, so that no turn is spent in vain.
        Ok(more? && self.may_write(id) > 0)
    }

    /// Puts off writing: the socket is not tried, and `handle_write` not called, until some time has passed.
    pub(crate) fn put_off(&mut self, id: ChannelId, wait: Duration) -> Option<DeadlineKey> {
        self.live_mut(id)?.flags.set(Flags::PUT_OFF);
        self.touch_interest(id);
        Some(self.deadlines.set(self.time(), wait, Due::Retry(id)))
    }

    /// Writing was put off until now.
    pub(crate) fn write_again(&mut self, id: ChannelId) {
        if let Some(entry) = self.live_mut(id) {
            entry.flags.clear(Flags::PUT_OFF);
            self.make_unsent(id);
            // Its own `handle_write` may be due again.
            self.touch_interest(id);
        }
    }

    /// A channel closes or leaves the map: it goes on at no time. What it has moved stays counted.
    pub(crate) fn end_throttles(&mut self, id: ChannelId) {
        let Some(entry) = self.entry_mut(id) else { return };
        let Some(throttles) = entry.dispatcher.rare_mut().and_then(|rare| rare.throttles.as_mut()) else {
            return;
        };
        let keys = [throttles.read.goes_on.take(), throttles.write.goes_on.take()];
        for key in keys.into_iter().flatten() {
            self.deadlines.cancel(key);
        }
    }

    /// Whether something waited for it.
    fn cancel_throttle(&mut self, throttle: Option<Throttle>) -> bool {
        throttle.and_then(|throttle| throttle.goes_on).is_some_and(|key| self.deadlines.cancel(key))
    }
}

impl Rare {
    fn throttles(&mut self) -> &mut Throttles {
        self.throttles.get_or_insert_default()
    }
}

impl Limits {
    /// The marks of a channel with these limits.
    pub(crate) fn rate_flags(&self) -> Flags {
        let mut flags = Flags::default();
        flags.put(Flags::READ_RATE, self.read_rate.is_some());
        flags.put(Flags::WRITE_RATE, self.write_rate.is_some());
        flags
    }
}
