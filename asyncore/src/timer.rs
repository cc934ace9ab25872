//! Timers: one-shot and periodic, each a channel's or the map's own.

use std::num::NonZeroU32;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use crate::deadline::{DeadlineKey, Due};
use crate::panics::{contain, describe};
use crate::{ChannelId, Map};

/// The name of one timer of a map, to cancel or reset it by and to tell it from others in
/// [`Channel::handle_timer`](crate::Channel::handle_timer).
///
/// It stays the same however often the timer comes or is reset, and is never used for another timer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TimerId {
    slot: u32,
    generation: NonZeroU32,
}

/// # Timers
///
/// A timer comes from the loop, once a turn at most, and never early: time counts from the call that sets it, and what
/// the system can only tell in milliseconds is rounded up. It comes as much later as the turn lasts that is under way.
/// The clock is monotonic: setting the system's date moves no timer.
///
/// Setting, resetting and cancelling cost O(log n) of the timers that wait; a turn costs nothing for those that do not
/// come in it.
impl<A: 'static> Map<A> {
    /// Has [`handle_timer`](crate::Channel::handle_timer) of a channel called once, when `after` has passed; `None` when
    /// there is no such channel.
    ///
    /// A timer ends with its channel: closed or removed, it hears of none of its timers any more.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use asyncore::{Channel, Context, Map, Result, TimerId};
    ///
    /// struct Patient;
    ///
    /// impl Channel for Patient {
    ///     fn handle_connect(&mut self, cx: &mut Context<'_>) -> Result {
    ///         cx.map.set_timer(cx.id, Duration::from_millis(10));
    ///         Ok(())
    ///     }
    ///
    ///     fn handle_timer(&mut self, cx: &mut Context<'_>, _timer: TimerId) -> Result {
    ///         cx.map.close(cx.id);
    ///         Ok(())
    ///     }
    /// }
    ///
    /// let (here, _there) = std::os::unix::net::UnixStream::pair()?;
    /// let mut map = Map::new()?;
    /// map.add(here, Patient)?;
    /// map.run(&mut ())?;
    /// assert!(map.is_empty());
    /// # Ok::<(), asyncore::Error>(())
    /// ```
    pub fn set_timer(&mut self, id: ChannelId, after: Duration) -> Option<TimerId> {
        self.set_for_channel(id, after, None)
    }

    /// Has [`handle_timer`](crate::Channel::handle_timer) of a channel called again and again, `every` time that has
    /// passed, until the timer is cancelled or the channel ends; `None` when there is no such channel.
    ///
    /// The times are the multiples of `every` from now on, however late the loop is: one that is late comes once, not
    /// once for each that was missed, and the next comes at its own time. Zero comes once in every turn, and keeps the
    /// loop turning without a wait.
    pub fn set_interval(&mut self, id: ChannelId, every: Duration) -> Option<TimerId> {
        self.set_for_channel(id, every, Some(every))
    }

    /// Calls `f` once, from the loop, when `delay` has passed.
    ///
    /// For what is no single channel's affair. Such a timer does not keep [`run`](Self::run) going, only channels do:
    /// when the last one is gone it waits for the next run. A panic in `f` is logged, and the loop goes on.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use asyncore::Map;
    ///
    /// let mut map: Map<u32> = Map::new()?;
    /// map.after(Duration::from_millis(5), |_map, count| *count += 1);
    /// let mut count = 0;
    /// while count == 0 {
    ///     map.poll(&mut count, None)?; // waits for the timer
    /// }
    /// assert_eq!(count, 1);
    /// # Ok::<(), asyncore::Error>(())
    /// ```
    pub fn after(&mut self, delay: Duration, f: impl FnOnce(&mut Self, &mut A) + 'static) -> TimerId {
        self.set(delay, None, Task::Once(Box::new(f)))
    }

    /// Calls `f` from the loop again and again, each time that `period` has passed, until the timer is cancelled; by `f`
    /// itself, for one.
    ///
    /// Late ones come as those of [`set_interval`](Self::set_interval) do. Like [`after`](Self::after) it does not keep
    /// [`run`](Self::run) going. A panic in `f` is logged and ends the timer; the loop goes on.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use asyncore::Map;
    ///
    /// let mut map: Map<u32> = Map::new()?;
    /// let ticker = map.every(Duration::from_millis(1), |_map, count| *count += 1);
    /// let mut count = 0;
    /// while count < 3 {
    ///     map.poll(&mut count, None)?;
    /// }
    /// assert!(map.cancel_timer(ticker));
    /// # Ok::<(), asyncore::Error>(())
    /// ```
    pub fn every(&mut self, period: Duration, f: impl FnMut(&mut Self, &mut A) + 'static) -> TimerId {
        self.set(period, Some(period), Task::Every(Some(Box::new(f))))
    }

    /// Cancels a timer: whether it was still waiting. An interval waits until it is cancelled, also while it is served.
    pub fn cancel_timer(&mut self, timer: TimerId) -> bool {
        let Some(Timer { key, task, .. }) = self.timers.remove(timer) else { return false };
        self.deadlines.cancel(key);
        self.unlink(&task);
        contain("dropping a timer", || drop(task));
        true
    }

    /// Has a timer that waits come when `after` has passed from now, instead of when it would have come: whether there
    /// is such a timer.
    ///
    /// Its id stays. An interval keeps its period, and counts it from there. A one-shot timer that has come is over.
    pub fn reset_timer(&mut self, timer: TimerId, after: Duration) -> bool {
        let Some(Timer { key, .. }) = self.timers.get_mut(timer) else { return false };
        self.deadlines.cancel(*key);
        *key = self.deadlines.set(self.world.now(), after, Due::Timer(timer));
        true
    }

    fn set_for_channel(
        &mut self,
        id: ChannelId,
        after: Duration,
        period: Option<Duration>,
    ) -> Option<TimerId> {
        let next = self.live_mut(id)?.dispatcher.rare().timers;
        let timer = self.set(after, period, Task::Channel { id, previous: None, next });
        if let Some(next) = next {
            self.timers.link(next, Link::Previous, Some(timer));
        }
        self.live_mut(id)?.dispatcher.rare().timers = Some(timer);
        Some(timer)
    }

    fn set(&mut self, after: Duration, period: Option<Duration>, task: Task<A>) -> TimerId {
        // The clock's time, not the turn's: after a slow callback that would be early.
        let now = self.world.now();
        let deadlines = &mut self.deadlines;
        self.timers.insert(|id| Timer { key: deadlines.set(now, after, Due::Timer(id)), period, task })
    }

    /// Takes a timer that is gone out of its channel's list.
    fn unlink(&mut self, task: &Task<A>) {
        let Task::Channel { id, previous, next } = *task else { return };
        match previous {
            Some(previous) => self.timers.link(previous, Link::Next, next),
            None => {
                if let Some(rare) = self.entry_mut(id).and_then(|entry| entry.dispatcher.rare_mut()) {
                    rare.timers = next;
                }
            }
        }
        if let Some(next) = next {
            self.timers.link(next, Link::Previous, previous);
        }
    }

    /// A channel ends, and its timers with it.
    pub(crate) fn cancel_timers(&mut self, first: Option<TimerId>) {
        let mut following = first;
        while let Some(Timer { key, task, .. }) = following.and_then(|timer| self.timers.remove(timer)) {
            self.deadlines.cancel(key);
            following = if let Task::Channel { next, .. } = task { next } else { None };
        }
    }

    /// A timer's deadline has passed.
    pub(crate) fn serve_timer(&mut self, app: &mut A, timer: TimerId, key: DeadlineKey) {
        let id = match self.timers.get_mut(timer) {
            Some(Timer { task: Task::Channel { id, .. }, .. }) => Some(*id),
            _ => None,
        };
        if let Some(id) = id {
            self.serve_connected(app, id);
        }
        // That may have cancelled or reset it.
        let Some(set) = self.timers.get_mut(timer).filter(|set| set.key == key) else { return };
        let mut periodic = None;
        let task = match set.period {
            Some(period) => {
                // Before the call, which may cancel or reset it in turn.
                let wait = until_next(period, self.now.saturating_duration_since(key.at()));
                set.key = self.deadlines.set(self.now, wait, Due::Timer(timer));
                if let Task::Every(f) = &mut set.task {
                    periodic = f.take();
                }
                None
            }
            None => self.timers.remove(timer).map(|set| set.task),
        };
        if let Some(task) = &task {
            self.unlink(task);
        }
        if let Some(id) = id {
            self.call(app, id, "handle_timer", |handler, cx| handler.handle_timer(cx, timer));
        } else if let Some(Task::Once(f)) = task {
            self.run_task("after", |map| f(map, app));
        } else if let Some(mut f) = periodic {
            if !self.run_task("every", |map| f(map, app)) {
                self.cancel_timer(timer);
            }
            match self.timers.get_mut(timer) {
                Some(Timer { task: Task::Every(place), .. }) => *place = Some(f),
                _ => contain("dropping a timer", || drop(f)),
            }
        }
    }

    /// Runs a timer's closure: whether it came back without a panic.
    fn run_task(&mut self, name: &'static str, f: impl FnOnce(&mut Self)) -> bool {
        match self.timed(None, name, |map| catch_unwind(AssertUnwindSafe(|| f(map)))) {
            Ok(()) => true,
            Err(panic) => {
                let panic = describe(panic);
                tracing::error!(panic, "a timer of the map panicked");
                false
            }
        }
    }
}

/// How long an interval waits that comes `late` after its time: until the next multiple of its period.
fn until_next(period: Duration, late: Duration) -> Duration {
    let past = late.as_nanos().checked_rem(period.as_nanos()).unwrap_or_default();
    let seconds = u64::try_from(past / NANOS).unwrap_or(u64::MAX);
    let nanos = u32::try_from(past % NANOS).unwrap_or_default();
    period.saturating_sub(Duration::new(seconds, nanos))
}

const NANOS: u128 = 1_000_000_000;

/// Every timer of a map by its id.
pub(crate) struct Timers<A: 'static> {
    places: Vec<Place<A>>,
    /// Places without a timer.
    free: Vec<u32>,
}

struct Place<A: 'static> {
    generation: NonZeroU32,
    timer: Option<Timer<A>>,
}

/// A timer that waits.
struct Timer<A: 'static> {
    key: DeadlineKey,
    /// Of an interval.
    period: Option<Duration>,
    task: Task<A>,
}

/// What is done when a timer comes.
#[expect(clippy::type_complexity, reason = "a closure, as `after` and `every` take it")]
enum Task<A: 'static> {
    /// `handle_timer` of a channel. A channel's timers are a list, so that they end with it; `Rare::timers` is the first.
    Channel {
        id: ChannelId,
        previous: Option<TimerId>,
        next: Option<TimerId>,
    },
    Once(Box<dyn FnOnce(&mut Map<A>, &mut A)>),
    /// `None` while it runs.
    Every(Option<Box<dyn FnMut(&mut Map<A>, &mut A)>>),
}

/// Which of a timer's two neighbours.
#[derive(Clone, Copy)]
enum Link {
    Previous,
    Next,
}

impl<A: 'static> Timers<A> {
    fn insert(&mut self, make: impl FnOnce(TimerId) -> Timer<A>) -> TimerId {
        let slot = self.free.pop().unwrap_or_else(|| {
            // As many as 2^32 do not fit into memory.
            let slot = u32::try_from(self.places.len()).unwrap_or(u32::MAX);
            self.places.push(Place { generation: NonZeroU32::MIN, timer: None });
            slot
        });
        let place = &mut self.places[slot as usize];
        let id = TimerId { slot, generation: place.generation };
        place.timer = Some(make(id));
        id
    }

    /// How many timers a channel has, of which this is the first.
    pub(crate) fn count(&self, first: Option<TimerId>) -> usize {
        let next = |id: &TimerId| match &self.places.get(id.slot as usize)?.timer.as_ref()?.task {
            Task::Channel { next, .. } => *next,
            Task::Once(_) | Task::Every(_) => None,
        };
        std::iter::successors(first, next).count()
    }

    fn get_mut(&mut self, id: TimerId) -> Option<&mut Timer<A>> {
        let place = self.places.get_mut(id.slot as usize)?;
        if place.generation == id.generation { place.timer.as_mut() } else { None }
    }

    /// Empties a place. Its next timer has another generation; a place that has had them all is not used again.
    fn remove(&mut self, id: TimerId) -> Option<Timer<A>> {
        let place =
            self.places.get_mut(id.slot as usize).filter(|place| place.generation == id.generation)?;
        let timer = place.timer.take()?;
        if let Some(next) = place.generation.checked_add(1) {
            place.generation = next;
            self.free.push(id.slot);
        }
        Some(timer)
    }

    /// Names the neighbour of a channel's timer.
    fn link(&mut self, id: TimerId, link: Link, neighbour: Option<TimerId>) {
        if let Some(Timer { task: Task::Channel { previous, next, .. }, .. }) = self.get_mut(id) {
            match link {
                Link::Previous => *previous = neighbour,
                Link::Next => *next = neighbour,
            }
        }
    }
}

impl<A: 'static> Drop for Timers<A> {
    fn drop(&mut self) {
        for place in std::mem::take(&mut self.places) {
            contain("dropping a timer", || drop(place));
        }
    }
}

impl<A: 'static> Default for Timers<A> {
    fn default() -> Self {
        Self { places: Vec::new(), free: Vec::new() }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;
    use crate::{Channel, Result};

    struct Quiet;

    impl Channel for Quiet {}

    const HOUR: Duration = Duration::from_secs(3600);

    /// A map with two channels, and their peers to keep.
    fn two() -> Result<(Map, [ChannelId; 2], [UnixStream; 2])> {
        let mut map = Map::new()?;
        let (a, x) = UnixStream::pair()?;
        let (b, y) = UnixStream::pair()?;
        let ids = [map.add(a, Quiet)?, map.add(b, Quiet)?];
        Ok((map, ids, [x, y]))
    }

    fn waiting(map: &Map) -> usize {
        map.timers.places.len() - map.timers.free.len()
    }

    #[test]
    fn a_channel_that_ends_leaves_no_timer_behind() -> Result {
        let (mut map, [a, b], _peers) = two()?;
        let mut of_b = None;
        for _ in 0..1000 {
            map.set_timer(a, HOUR);
            map.set_interval(a, HOUR);
            of_b = map.set_timer(b, HOUR);
        }
        let of_map = map.after(HOUR, |_, ()| {});
        map.close(a);
        assert_eq!((waiting(&map), map.deadlines.len()), (1001, 1001));
        map.poll(&mut (), Some(Duration::ZERO))?;
        let (dispatcher, handler) = map.remove(b).ok_or("the channel is there")?;
        assert_eq!((waiting(&map), map.deadlines.len()), (1, 1));
        let b = map.insert(dispatcher, handler)?;
        assert!(map.get(b).is_some_and(|b| b.rare_ref().is_some_and(|rare| rare.timers.is_none())));
        assert!(of_b.is_some_and(|timer| !map.cancel_timer(timer)), "it ended with the channel");
        assert!(map.cancel_timer(of_map));
        assert_eq!((waiting(&map), map.deadlines.len()), (0, 0));
        Ok(())
    }

    #[test]
    fn timers_are_cancelled_in_any_order() -> Result {
        let (mut map, [a, _], _peers) = two()?;
        for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
            let mut timers = Vec::new();
            for _ in 0..3 {
                timers.extend(map.set_timer(a, HOUR));
            }
            for (cancelled, at) in (1..).zip(order) {
                assert!(map.cancel_timer(timers[at]) && !map.cancel_timer(timers[at]));
                let mut following = map.get(a).and_then(|a| a.rare_ref()?.timers);
                let mut listed = 0;
                while let Some(timer) = following {
                    listed += 1;
                    let timer = map.timers.get_mut(timer).map(|timer| &timer.task);
                    let Some(Task::Channel { next, .. }) = timer else { return Err("not listed".into()) };
                    following = *next;
                }
                assert_eq!(listed, 3 - cancelled);
            }
        }
        map.close(a);
        assert_eq!((waiting(&map), map.deadlines.len()), (0, 0));
        Ok(())
    }

    #[test]
    fn a_timers_id_is_not_used_again() {
        let mut map: Map = Map::new().unwrap();
        let first = map.after(HOUR, |_, ()| {});
        assert!(map.cancel_timer(first));
        let second = map.after(HOUR, |_, ()| {});
        assert_eq!(first.slot, second.slot);
        assert_ne!(first, second);
        assert!(!map.reset_timer(first, HOUR) && !map.cancel_timer(first) && map.cancel_timer(second));
        assert_eq!(size_of::<Option<TimerId>>(), 8);
    }

    #[test]
    fn a_late_interval_goes_on_at_the_next_multiple_of_its_period() {
        let until =
            |period, late| until_next(Duration::from_millis(period), Duration::from_millis(late)).as_millis();
        assert_eq!(until(100, 0), 100);
        assert_eq!(until(100, 1), 99);
        assert_eq!(until(100, 99), 1);
        assert_eq!(until(100, 100), 100);
        assert_eq!(until(100, 12_345), 55);
        assert_eq!(until(0, 5), 0, "once a turn");
        assert_eq!(until_next(Duration::MAX, Duration::from_secs(1)), Duration::MAX - Duration::from_secs(1));
        assert_eq!(until_next(Duration::from_nanos(1), Duration::MAX), Duration::from_nanos(1));
    }
}
