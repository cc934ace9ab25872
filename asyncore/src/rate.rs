//! A rate, so many bytes in so long, and the bucket that holds a channel to one.

use std::time::{Duration, Instant};

/// So many bytes in so long: what a channel may move at most, or has to move at least.
///
/// ```
/// use std::time::Duration;
///
/// use asyncore::Rate;
///
/// let rate = Rate::per_second(64 * 1024);
/// assert_eq!((rate.bytes, rate.per), (65_536, Duration::from_secs(1)));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(clippy::exhaustive_structs, reason = "two numbers, which is all that a rate can be")]
pub struct Rate {
    /// How many bytes.
    pub bytes: u64,
    /// In how long: the window that they are counted over.
    pub per: Duration,
}

impl Rate {
    /// So many bytes a second.
    #[must_use]
    pub const fn per_second(bytes: u64) -> Self {
        Self { bytes, per: Duration::from_secs(1) }
    }

    /// How long so many bytes take, rounded up.
    fn time_for(self, bytes: u64) -> Duration {
        if self.bytes == 0 {
            return if bytes == 0 { Duration::ZERO } else { Duration::MAX };
        }
        let nanos = (u128::from(bytes) * u128::from(self.nanos())).div_ceil(u128::from(self.bytes));
        u64::try_from(nanos).map_or(Duration::MAX, Duration::from_nanos)
    }

    /// The window; one of more than five centuries counts as that.
    fn nanos(self) -> u64 {
        u64::try_from(self.per.as_nanos()).unwrap_or(u64::MAX)
    }

    /// What is waited for when nothing is left.
    const fn share(self) -> u64 {
        let share = self.bytes / SHARES;
        if share == 0 { 1 } else { share }
    }
}

/// A bucket of tokens, a byte each: full at first, filled at a rate, and never fuller than the rate's bytes.
///
/// All it remembers is when it would be full again, so nothing is to be done while it fills.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Bucket {
    /// `None`: it has been full since ever.
    full_at: Option<Instant>,
}

impl Bucket {
    /// How many bytes may move now.
    pub(crate) fn left(self, rate: Rate, now: Instant) -> u64 {
        if rate.per.is_zero() {
            return u64::MAX;
        }
        let nanos = rate.nanos();
        let missing = u64::try_from(self.missing(now).as_nanos()).unwrap_or(u64::MAX);
        let there = u128::from(nanos.saturating_sub(missing)) * u128::from(rate.bytes) / u128::from(nanos);
        u64::try_from(there).unwrap_or(u64::MAX)
    }

    /// Bytes have moved; more than were left, when they could not be parted.
    pub(crate) fn spend(&mut self, rate: Rate, now: Instant, bytes: u64) {
        let from = self.full_at.map_or(now, |full_at| full_at.max(now));
        self.full_at = from.checked_add(rate.time_for(bytes)).or(Some(from));
    }

    /// How long until a share may move.
    pub(crate) fn wait(self, rate: Rate, now: Instant) -> Duration {
        let enough = Duration::from_nanos(rate.nanos()).saturating_sub(rate.time_for(rate.share()));
        if rate.bytes == 0 { Duration::MAX } else { self.missing(now).saturating_sub(enough) }
    }

    /// How long until it is full.
    fn missing(self, now: Instant) -> Duration {
        self.full_at.map_or(Duration::ZERO, |full_at| full_at.saturating_duration_since(now))
    }
}

/// In how many shares a window's bytes move when there is always more: 8. A wake for each byte would keep the loop busy;
/// one a window would stutter.
const SHARES: u64 = 8;

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn a_bucket_begins_full_and_fills_at_its_rate() {
        let (start, rate) = (Instant::now(), Rate::per_second(1000));
        let mut bucket = Bucket::default();
        assert_eq!((bucket.left(rate, start), bucket.wait(rate, start)), (1000, Duration::ZERO));
        bucket.spend(rate, start, 1000);
        assert_eq!((bucket.left(rate, start), bucket.wait(rate, start)), (0, 125 * MS));
        assert_eq!(bucket.left(rate, start + 125 * MS), 125);
        bucket.spend(rate, start + 125 * MS, 100);
        assert_eq!(bucket.left(rate, start + 125 * MS), 25);
        assert_eq!(bucket.left(rate, start + Duration::from_secs(9)), 1000, "never more than a window's");
    }

    #[test]
    fn what_was_moved_at_once_beyond_the_rate_is_waited_for() {
        let (start, rate) = (Instant::now(), Rate::per_second(1000));
        let mut bucket = Bucket::default();
        bucket.spend(rate, start, 3000);
        assert_eq!(bucket.left(rate, start + 2000 * MS), 0);
        assert_eq!(bucket.wait(rate, start), 2125 * MS);
        assert_eq!(bucket.left(rate, start + 2125 * MS), 125);
    }

    #[test]
    fn extreme_rates_neither_overflow_nor_divide_by_zero() {
        let now = Instant::now();
        for bytes in [0, 1, 7, u64::MAX] {
            for per in [Duration::ZERO, Duration::from_nanos(1), Duration::MAX] {
                let rate = Rate { bytes, per };
                let mut bucket = Bucket::default();
                let left = bucket.left(rate, now);
                assert_eq!(left, if per.is_zero() { u64::MAX } else { bytes }, "{rate:?}");
                bucket.spend(rate, now, left);
                bucket.spend(rate, now, u64::MAX);
                // Nothing left and nothing to wait for would be a loop that spins.
                assert!(bucket.left(rate, now) > 0 || bucket.wait(rate, now) > Duration::ZERO, "{rate:?}");
            }
        }
        let mut bucket = Bucket::default();
        bucket.spend(Rate::per_second(0), now, 0);
        assert_eq!(bucket.wait(Rate::per_second(0), now), Duration::MAX);
    }

    #[test]
    fn over_a_long_time_exactly_the_rate_moves() {
        let start = Instant::now();
        for rate in [Rate::per_second(7), Rate { bytes: 1_000_003, per: 777 * MS }] {
            let mut bucket = Bucket::default();
            let (mut now, mut moved) = (start, 0);
            while now < start + Duration::from_secs(100) {
                let left = bucket.left(rate, now);
                bucket.spend(rate, now, left);
                moved += left;
                now += bucket.wait(rate, now).max(Duration::from_nanos(1));
            }
            let windows = (now - start).as_nanos() / rate.per.as_nanos();
            let expected = u64::try_from(windows).unwrap() * rate.bytes;
            assert!(moved <= expected + 2 * rate.bytes && moved >= expected, "{moved} of {expected}");
        }
    }
}
