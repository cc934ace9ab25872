//! Timeouts: the clocks of a channel, looked at when one may have run out and not with every byte.

use std::rc::Rc;
use std::time::Duration;

use crate::deadline::{DeadlineKey, Due};
use crate::entry::{Entry, Flags};
use crate::extra::Rare;
use crate::interest::Pauses;
use crate::poller::BATCH;
use crate::{ChannelId, CloseReason, Limits, Map, Rate, State, Timeout};

/// What a map keeps for each slot, once one of its channels has a timeout. Times are in ticks.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Check {
    /// When the channel's clocks are looked at next: not after the first of them may run out.
    key: Option<DeadlineKey>,
    /// When the channel was connected; while it is not, when its connect began.
    since: u64,
}

/// The marks that some of a channel's clocks count from; most channels have none. Times are in ticks.
#[derive(Debug, Default)]
pub(crate) struct Clocks {
    /// When input last came; put forward by the pauses since.
    received_at: u64,
    /// Since when it takes no input.
    paused_at: Option<u64>,
    /// What had been received when the window of its least rate began; put forward likewise.
    window: Mark,
    /// What the socket had taken when it last did not take all.
    stalled: Option<Mark>,
}

/// A count of bytes, and when it was that.
#[derive(Clone, Copy, Debug, Default)]
struct Mark {
    bytes: u64,
    at: u64,
}

/// # Timeouts
///
/// A channel's limits may hold it to times: [`Limits::idle_time`] and its neighbours, for all that share the limits, or
/// one by one with these. What runs out is told by [`handle_timeout`](crate::Channel::handle_timeout), which closes
/// the channel unless it is overridden. A timeout is never early, and counts in milliseconds, rounded up, at least one.
///
/// Input that has arrived in time counts as such, also when the loop was kept from reading it.
impl<A: 'static> Map<A> {
    /// Sets how long one channel may take for something, `None` for ever: whether there is such a channel, and such a
    /// clock.
    ///
    /// The clock starts anew: a total of a minute that is set after a login is a minute from there. The channel gets its
    /// own copy of its limits. [`Timeout::Rate`] is set with [`set_min_rate`](Self::set_min_rate); `Drain` and
    /// `Transport` are no clocks of the map's.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use asyncore::{Channel, CloseReason, Context, Map, Result, Timeout};
    ///
    /// struct Silent;
    ///
    /// impl Channel<Option<CloseReason>> for Silent {
    ///     fn handle_connect(&mut self, cx: &mut Context<'_, Option<CloseReason>>) -> Result {
    ///         cx.map.set_timeout(cx.id, Timeout::Idle, Some(Duration::from_millis(5)));
    ///         Ok(())
    ///     }
    ///
    ///     fn handle_close(&mut self, cx: &mut Context<'_, Option<CloseReason>>, reason: CloseReason) {
    ///         *cx.app = Some(reason);
    ///     }
    /// }
    ///
    /// let (here, _there) = std::os::unix::net::UnixStream::pair()?;
    /// let mut map = Map::new()?;
    /// map.add(here, Silent)?;
    /// let mut reason = None;
    /// map.run(&mut reason)?;
    /// assert_eq!(reason, Some(CloseReason::TimedOut(Timeout::Idle)));
    /// # Ok::<(), asyncore::Error>(())
    /// ```
    pub fn set_timeout(&mut self, id: ChannelId, which: Timeout, time: Option<Duration>) -> bool {
        let Some(limits) = self.own_limits(id) else { return false };
        let Some(place) = limits.time_mut(which) else { return false };
        *place = time;
        self.restart_clock(id, which);
        self.arm(id);
        true
    }

    /// Sets the least rate at which one channel must receive, `None` for any: whether there is such a channel.
    ///
    /// As [`Limits::min_rate`]; the first window begins now.
    pub fn set_min_rate(&mut self, id: ChannelId, rate: Option<Rate>) -> bool {
        let Some(limits) = self.own_limits(id) else { return false };
        limits.min_rate = rate;
        self.restart_clock(id, Timeout::Rate);
        self.arm(id);
        true
    }

    /// The limits of a channel, to change for it alone.
    pub(crate) fn own_limits(&mut self, id: ChannelId) -> Option<&mut Limits> {
        let shared = &self.limits;
        let entry = Self::entry_in(&mut self.slots, id)?;
        if entry.dispatcher.state == State::Closed {
            return None;
        }
        Some(Rc::make_mut(entry.dispatcher.extra.limits_mut(shared)))
    }

    /// The present time in ticks of the map, milliseconds since it was made, rounded up: what happens now is marked with
    /// it, so that nothing that counts from there is early.
    fn tick(&self) -> u64 {
        self.tick_of(self.time())
    }

    /// The tick of bytes that move now: in a turn that of its beginning, which [is put
    /// forward](Self::put_marks_forward) at its end.
    #[inline]
    pub(crate) fn moving_tick(&self) -> u64 {
        if self.phase.in_turn { self.tick } else { self.tick() }
    }

    pub(crate) fn tick_of(&self, time: std::time::Instant) -> u64 {
        ticks(time.saturating_duration_since(self.started))
    }

    /// A channel was added or connected: all its clocks start.
    pub(crate) fn start_clocks(&mut self, id: ChannelId) {
        let tick = self.moving_tick();
        let Some(entry) = Self::entry_in(&mut self.slots, id) else { return };
        entry.dispatcher.active_at = low(tick);
        entry.flags.clear(Flags::TIMED);
        if let Some(rare) = entry.dispatcher.rare_mut() {
            rare.clocks = None;
        }
        if entry.dispatcher.extra.limits(&self.limits).has_timeouts() {
            for which in CLOCKS {
                self.restart_clock(id, which);
            }
            self.arm(id);
        }
    }

    /// A handshake is done: what counts bytes begins now, and the channel's total time goes on.
    pub(crate) fn go_on_with_clocks(&mut self, id: ChannelId) {
        for which in [Timeout::Idle, Timeout::Read, Timeout::Rate] {
            self.restart_clock(id, which);
        }
        self.arm(id);
    }

    /// A channel's limits were replaced: the clocks whose limits differ start anew.
    pub(crate) fn limits_changed(&mut self, id: ChannelId, old: &Limits) {
        let mut changed = false;
        for which in CLOCKS {
            if self.limits(id).is_some_and(|new| !new.agrees(old, which)) {
                self.restart_clock(id, which);
                changed = true;
            }
        }
        if changed {
            self.arm(id);
        }
    }

    /// Has one clock count from now on.
    fn restart_clock(&mut self, id: ChannelId, which: Timeout) {
        let at = self.tick();
        let Some(Entry { dispatcher, flags, interest, .. }) = Self::entry_in(&mut self.slots, id) else {
            return;
        };
        let limits = dispatcher.extra.limits(&self.limits);
        let counts_input = limits.read_time.is_some() || limits.min_rate.is_some();
        let is_connecting = dispatcher.state == State::Connecting;
        match which {
            Timeout::Connect | Timeout::Total if is_connecting == (which == Timeout::Connect) => {
                check_in(&mut self.checks, id).since = at;
            }
            Timeout::Idle => dispatcher.active_at = low(at),
            Timeout::Read | Timeout::Rate if counts_input => {
                let bytes = dispatcher.bytes_in();
                let clocks = dispatcher.rare().clocks();
                if !flags.has(Flags::TIMED) {
                    flags.set(Flags::TIMED);
                    clocks.paused_at = (!interest.read).then_some(at);
                }
                // In a pause these count from its beginning, and are put forward by it.
                let at = clocks.paused_at.unwrap_or(at);
                match which {
                    Timeout::Read => clocks.received_at = at,
                    _ => clocks.window = Mark { bytes, at },
                }
            }
            Timeout::Read | Timeout::Rate => flags.clear(Flags::TIMED),
            Timeout::Write if flags.any(Flags::STALLED) => {
                let bytes = dispatcher.bytes_out();
                let clocks = dispatcher.rare().clocks();
                // What waits for its own rate limit does not wait for its peer. A clock that runs is another matter.
                if !flags.is_throttled() || clocks.stalled.is_some() {
                    clocks.stalled = Some(Mark { bytes, at });
                }
            }
            _ => {}
        }
    }

    /// Sees to it that a channel's clocks are looked at when the first of them may run out.
    fn arm(&mut self, id: ChannelId) {
        let Some((tick, _)) = self.first_clock(id) else { return };
        let now = self.time();
        let passed = now.saturating_duration_since(self.started);
        let wait = Duration::from_millis(tick).saturating_sub(passed);
        let check = check_in(&mut self.checks, id);
        if let Some(key) = check.key {
            if key.at().saturating_duration_since(now) <= wait {
                return;
            }
            self.deadlines.cancel(key);
        }
        check.key = Some(self.deadlines.set(now, wait, Due::Check(id)));
    }

    /// The clock of a channel that runs out first, and the tick at which it does if nothing happens until then.
    fn first_clock(&self, id: ChannelId) -> Option<(u64, Timeout)> {
        let entry = self.live(id)?;
        let dispatcher = &entry.dispatcher;
        let limits = dispatcher.extra.limits(&self.limits);
        let since = self.checks.get(id.slot()).map_or(0, |check| check.since);
        let mut first: Option<(u64, Timeout)> = None;
        let mut look = |which, from: u64, time: Option<Duration>| {
            let Some(time) = time else { return };
            let tick = from.saturating_add(ticks(time).max(1));
            if first.is_none_or(|(earliest, _)| tick < earliest) {
                first = Some((tick, which));
            }
        };
        match dispatcher.state {
            State::Connecting => look(Timeout::Connect, since, limits.connect_time),
            State::Open | State::PeerClosed | State::Finishing | State::WriteClosed => {
                let now = self.tick();
                let active_at = now - u64::from(low(now).wrapping_sub(dispatcher.active_at)).min(now);
                look(Timeout::Idle, active_at, limits.idle_time.map(|time| time.min(IDLE_MOST)));
                if let Some(clocks) = dispatcher.rare_ref().and_then(|rare| rare.clocks.as_ref()) {
                    if entry.flags.has(Flags::TIMED) && clocks.paused_at.is_none() {
                        look(Timeout::Read, clocks.received_at, limits.read_time);
                        look(Timeout::Rate, clocks.window.at, limits.min_rate.map(|rate| rate.per));
                    }
                    if entry.flags.any(Flags::STALLED)
                        && let Some(stalled) = clocks.stalled
                        && stalled.bytes == dispatcher.bytes_out()
                    {
                        look(Timeout::Write, stalled.at, limits.write_time);
                    }
                }
                look(Timeout::Total, since, limits.total_time);
            }
            // Those that close have clocks of their own; the others none.
            _ => {}
        }
        first
    }

    /// The clock of a channel that runs out first, and how long that is from now.
    pub(crate) fn next_timeout(&self, id: ChannelId) -> Option<(Timeout, Duration)> {
        let (tick, which) = self.first_clock(id)?;
        Some((which, Duration::from_millis(tick.saturating_sub(self.tick()))))
    }

    /// A channel's clocks are to be looked at: at the end of the turn, when what arrived in time is counted.
    pub(crate) fn check_later(&mut self, id: ChannelId) {
        if let Some(check) = self.checks.get_mut(id.slot()) {
            check.key = None;
        }
        self.checking.push(id);
    }

    /// Looks at the clocks that may have run out.
    pub(crate) fn serve_timeouts(&mut self, app: &mut A) {
        if !self.checks.is_empty() {
            self.put_marks_forward();
        }
        if self.checking.is_empty() {
            return;
        }
        // After a long callback more channels may have input than one batch tells of. Each is reported before another
        // one is for the second time.
        if self.batch.len() >= BATCH {
            self.reported += self.batch.len();
            if self.reported < self.channels {
                return;
            }
        }
        self.reported = 0;
        for id in std::mem::take(&mut self.checking) {
            self.check_clocks(app, id);
        }
        // What was told may have taken its time as well.
        self.put_marks_forward();
    }

    /// Bytes that moved in this turn moved before its end: that counts, as the callbacks before them may have taken long.
    fn put_marks_forward(&mut self) {
        let end = self.tick();
        let began = std::mem::replace(&mut self.tick, end);
        if began == end {
            return;
        }
        for &id in &self.touched {
            if let Some(Entry { dispatcher, .. }) = Self::entry_in(&mut self.slots, id)
                && dispatcher.active_at == low(began)
            {
                dispatcher.active_at = low(end);
            }
        }
    }

    fn check_clocks(&mut self, app: &mut A, id: ChannelId) {
        let passed = self.now.saturating_duration_since(self.started).as_millis();
        while let Some((tick, which)) = self.first_clock(id)
            && u128::from(tick) <= passed
        {
            if which == Timeout::Rate && self.met_rate(id) {
                self.restart_clock(id, which);
            } else {
                self.time_out(app, id, which);
                break;
            }
        }
        self.arm(id);
    }

    /// Whether a channel has received what it must in the window that is over.
    fn met_rate(&self, id: ChannelId) -> bool {
        let Some(Entry { dispatcher, .. }) = self.live(id) else { return false };
        let limits = dispatcher.extra.limits(&self.limits);
        let clocks = dispatcher.rare_ref().and_then(|rare| rare.clocks.as_ref());
        limits.min_rate.zip(clocks).is_some_and(|(rate, clocks)| {
            dispatcher.bytes_in().saturating_sub(clocks.window.bytes) >= rate.bytes
        })
    }

    /// A clock has run out: the channel is told. If it goes on, the clock does too, from now.
    pub(crate) fn time_out(&mut self, app: &mut A, id: ChannelId, which: Timeout) {
        tracing::debug!(%id, peer = %self.peer_name(id), ?which, "timed out");
        if let Some(reason @ CloseReason::TimedOut(_)) = self.get(id).and_then(|timed| timed.reason) {
            // It has been told, and still waits for an answer that it owes.
            return self.close_as(id, reason);
        }
        self.restart_clock(id, which);
        self.call(app, id, "handle_timeout", |handler, cx| handler.handle_timeout(cx, which));
        let reason = CloseReason::TimedOut(which);
        if matches!(which, Timeout::Connect | Timeout::Handshake) {
            self.close_as(id, reason);
        }
        let Some(Entry { dispatcher, pauses, .. }) = self.entry_mut(id) else { return };
        // A channel that closes over it, at once, when done or when answered, does so for that reason.
        let closes = match dispatcher.state {
            State::Draining | State::Lingering | State::Closed => matches!(
                dispatcher.reason,
                Some(CloseReason::Local | CloseReason::Eof | CloseReason::ShutDown)
            ),
            _ => pauses.contains(Pauses::ENDING),
        };
        if closes {
            dispatcher.reason = Some(reason);
        }
    }

    /// The socket did not take all that is queued: the clock of its output starts, or goes on if it took nothing.
    #[cold]
    pub(crate) fn note_stall(&mut self, id: ChannelId) {
        let at = self.tick();
        let Some(Entry { dispatcher, .. }) = Self::entry_in(&mut self.slots, id) else { return };
        if dispatcher.extra.limits(&self.limits).write_time.is_none() {
            return;
        }
        let bytes = dispatcher.bytes_out();
        let clocks = dispatcher.rare().clocks();
        if clocks.stalled.is_none_or(|stalled| stalled.bytes != bytes) {
            clocks.stalled = Some(Mark { bytes, at });
            self.arm(id);
        }
    }

    /// Input came from the socket: for the clocks that count it.
    pub(crate) fn note_received(&mut self, id: ChannelId) {
        let at = self.tick();
        if let Some(entry) = self.live_mut(id)
            && entry.flags.has(Flags::TIMED)
        {
            entry.dispatcher.rare().clocks().received_at = at;
        }
    }

    /// A channel begins or ceases to take input: what it does not take says nothing of its peer.
    #[cold]
    pub(crate) fn note_reading(&mut self, id: ChannelId, reads: bool) {
        let at = self.tick();
        let Some(entry) = Self::entry_in(&mut self.slots, id) else { return };
        let clocks = entry.dispatcher.rare().clocks();
        if !reads {
            clocks.paused_at.get_or_insert(at);
        } else if let Some(paused_at) = clocks.paused_at.take() {
            let pause = at.saturating_sub(paused_at);
            for mark in [&mut clocks.received_at, &mut clocks.window.at] {
                *mark = mark.saturating_add(pause).min(at);
            }
            self.arm(id);
        }
    }

    /// A channel ends: its clocks are not looked at any more.
    pub(crate) fn end_clocks(&mut self, id: ChannelId) {
        if let Some(key) = self.checks.get_mut(id.slot()).and_then(|check| check.key.take()) {
            self.deadlines.cancel(key);
        }
    }
}

impl Rare {
    fn clocks(&mut self) -> &mut Clocks {
        self.clocks.get_or_insert_default()
    }

    /// The output that did not move was dropped.
    pub(crate) fn forget_stall(&mut self) {
        if let Some(clocks) = &mut self.clocks {
            clocks.stalled = None;
        }
    }
}

impl Limits {
    fn has_timeouts(&self) -> bool {
        self.min_rate.is_some()
            || [self.connect_time, self.idle_time, self.read_time, self.write_time, self.total_time]
                .iter()
                .any(Option::is_some)
    }

    /// Whether two sets of limits say the same of a clock.
    fn agrees(&self, other: &Self, which: Timeout) -> bool {
        match which {
            Timeout::Connect => self.connect_time == other.connect_time,
            Timeout::Idle => self.idle_time == other.idle_time,
            Timeout::Read => self.read_time == other.read_time,
            Timeout::Write => self.write_time == other.write_time,
            Timeout::Total => self.total_time == other.total_time,
            Timeout::Rate => self.min_rate == other.min_rate,
            Timeout::Drain | Timeout::Handshake | Timeout::Transport => true,
        }
    }

    fn time_mut(&mut self, which: Timeout) -> Option<&mut Option<Duration>> {
        match which {
            Timeout::Connect => Some(&mut self.connect_time),
            Timeout::Idle => Some(&mut self.idle_time),
            Timeout::Read => Some(&mut self.read_time),
            Timeout::Write => Some(&mut self.write_time),
            Timeout::Total => Some(&mut self.total_time),
            Timeout::Rate | Timeout::Drain | Timeout::Handshake | Timeout::Transport => None,
        }
    }
}

/// Every clock that a channel may have.
const CLOCKS: [Timeout; 6] =
    [Timeout::Connect, Timeout::Idle, Timeout::Read, Timeout::Write, Timeout::Total, Timeout::Rate];

/// What is kept for a slot; there is room for it from the first time on.
fn check_in(checks: &mut Vec<Check>, id: ChannelId) -> &mut Check {
    if checks.len() <= id.slot() {
        checks.resize_with(id.slot() + 1, Check::default);
    }
    &mut checks[id.slot()]
}

/// A duration in ticks, rounded up.
fn ticks(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX)
}

/// The lower half of a tick, which is all that a slot has room for: it comes again after 49 days.
#[expect(clippy::cast_possible_truncation, reason = "the lower half")]
#[inline]
pub(crate) const fn low(tick: u64) -> u32 {
    tick as u32
}

/// The longest idle time: 24 days. Half of what the lower half of a tick can tell, so that a check that is late does not
/// take an old time for a new one.
const IDLE_MOST: Duration = Duration::from_secs(24 * 24 * 3600);

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;
    use crate::poller::Event;
    use crate::{Channel, Result};

    struct Quiet;

    impl Channel for Quiet {}

    const HOUR: Duration = Duration::from_secs(3600);

    #[test]
    fn a_channel_that_ends_leaves_no_deadline_behind() -> Result {
        let mut map: Map = Map::new()?;
        let mut ids = Vec::new();
        let mut peers = Vec::new();
        for _ in 0..10 {
            let (here, there) = UnixStream::pair()?;
            ids.push(map.add(here, Quiet)?);
            peers.push(there);
        }
        assert!(map.checks.is_empty(), "nobody has a timeout yet");
        for id in &ids {
            for which in [Timeout::Idle, Timeout::Read, Timeout::Total] {
                assert!(map.set_timeout(*id, which, Some(HOUR)));
            }
        }
        assert_eq!(map.deadlines.len(), 10, "one for each channel");
        for id in &ids[..9] {
            map.close(*id);
        }
        assert!(map.remove(ids[9]).is_some());
        assert_eq!(map.deadlines.len(), 0);
        map.poll(&mut (), Some(Duration::ZERO))?;
        assert!(map.is_empty() && map.checks.iter().all(|check| check.key.is_none()));
        Ok(())
    }

    #[test]
    fn an_idle_time_alone_takes_no_room_in_the_channel() -> Result {
        let mut map: Map = Map::new()?;
        let (here, _there) = UnixStream::pair()?;
        let id = map.add(here, Quiet)?;
        for which in [Timeout::Idle, Timeout::Total, Timeout::Connect] {
            assert!(map.set_timeout(id, which, Some(HOUR)));
        }
        assert!(map.get(id).is_some_and(|channel| channel.rare_ref().is_none()));
        assert!(size_of::<Check>() <= 32);
        Ok(())
    }

    #[test]
    fn clocks_wait_until_every_channel_could_tell_of_its_input() -> Result {
        let mut map: Map = Map::new()?;
        let (here, _there) = UnixStream::pair()?;
        let id = map.add(here, Quiet)?;
        map.poll(&mut (), Some(Duration::ZERO))?;
        map.set_timeout(id, Timeout::Idle, Some(HOUR));
        map.checking.push(id);
        let event =
            Event { key: 0, readable: true, writable: false, hung_up: false, failed: false, urgent: false };
        let channels = std::mem::replace(&mut map.channels, BATCH + 1);
        map.batch = vec![event; BATCH];
        map.serve_timeouts(&mut ());
        assert!(map.has_work_at_once(), "one channel at least has not been reported");
        map.serve_timeouts(&mut ());
        assert!(!map.has_work_at_once(), "now all have been");
        map.checking.push(id);
        map.batch.pop();
        map.serve_timeouts(&mut ());
        assert!(!map.has_work_at_once(), "a batch with room tells of all");
        map.channels = channels;
        Ok(())
    }

    #[test]
    fn the_lower_half_of_a_tick_tells_the_time_of_49_days() -> Result {
        let mut map: Map = Map::new()?;
        let (here, _there) = UnixStream::pair()?;
        let id = map.add(here, Quiet)?;
        let made = map.started;
        for now in [5, 1 << 32, (1 << 32) + 5, (7 << 32) - 1] {
            // As if the map had been made so long ago; ticks since then are rounded up.
            map.started = made.checked_sub(Duration::from_millis(now)).ok_or("the clock began later")?;
            map.set_timeout(id, Timeout::Idle, Some(Duration::from_millis(100)));
            let since = map.get(id).map_or(0, |channel| channel.active_at);
            map.started = map.started.checked_sub(Duration::from_millis(2_000_000_000)).ok_or("likewise")?;
            let first = map.first_clock(id).map(|(tick, _)| tick).ok_or("it has a clock")?;
            assert_eq!(low(first), since.wrapping_add(100));
            assert!((now + 100..now + 60_000).contains(&first), "{first} after {now}");
        }
        Ok(())
    }
}
