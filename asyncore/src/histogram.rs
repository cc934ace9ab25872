//! [`Histogram`]: how often something took how long, in buckets that grow with the time. No I/O, and no clock.

use std::fmt;
use std::time::Duration;

/// How often something took how long: plain data in buckets, each an eighth of a power of two of nanoseconds wide.
///
/// A time is known to an eighth of itself, from a nanosecond to centuries; the longest, and the sum, are exact. To add
/// one costs a few instructions, and the whole takes 4 KiB at most.
///
/// ```
/// use std::time::Duration;
///
/// use asyncore::Histogram;
///
/// let mut waits = Histogram::default();
/// for milliseconds in 1..=100 {
///     waits.record(Duration::from_millis(milliseconds));
/// }
/// assert_eq!((waits.count(), waits.max()), (100, Duration::from_millis(100)));
/// let median = waits.quantile(0.5);
/// assert!(median >= Duration::from_millis(50) && median < Duration::from_millis(57));
/// ```
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Histogram {
    /// As many as are needed for the longest time. Invariant: they add up to `count`.
    buckets: Vec<u64>,
    count: u64,
    sum: Duration,
    max: Duration,
}

impl Histogram {
    /// Adds one time.
    pub fn record(&mut self, time: Duration) {
        let bucket = bucket_of(nanos(time));
        if self.buckets.len() <= bucket {
            self.buckets.resize(bucket + 1, 0);
        }
        if let Some(bucket) = self.buckets.get_mut(bucket) {
            *bucket += 1;
        }
        self.count += 1;
        self.sum = self.sum.saturating_add(time);
        self.max = self.max.max(time);
    }

    /// Adds all that another one holds: that of another map, for one.
    pub fn merge(&mut self, other: &Self) {
        if self.buckets.len() < other.buckets.len() {
            self.buckets.resize(other.buckets.len(), 0);
        }
        for (bucket, more) in self.buckets.iter_mut().zip(&other.buckets) {
            *bucket += more;
        }
        self.count += other.count;
        self.sum = self.sum.saturating_add(other.sum);
        self.max = self.max.max(other.max);
    }

    /// How many times were added.
    #[must_use]
    pub const fn count(&self) -> u64 {
        self.count
    }

    /// All of them together.
    #[must_use]
    pub const fn sum(&self) -> Duration {
        self.sum
    }

    /// The longest; zero when there is none.
    #[must_use]
    pub const fn max(&self) -> Duration {
        self.max
    }

    /// The time that a part of them did not exceed: `quantile(0.99)` is what 99 of 100 took at most. Zero when there is none.
    ///
    /// It is the longest time of its bucket: never too short, and too long by an eighth at most. What is not between 0 and 1
    /// counts as the nearer of the two.
    #[must_use]
    pub fn quantile(&self, part: f64) -> Duration {
        #[expect(clippy::cast_possible_truncation, clippy::cast_precision_loss, reason = "an estimate")]
        let rank = ((part * self.count as f64).ceil() as u64).clamp(1, self.count.max(1));
        let mut seen = 0;
        self.iter()
            .find(|(_, count)| {
                seen += count;
                seen >= rank
            })
            .map_or(Duration::ZERO, |(longest, _)| longest)
    }

    /// Every bucket that holds something, the shortest times first: the longest time that falls into it, and how many did.
    pub fn iter(&self) -> impl Iterator<Item = (Duration, u64)> {
        let filled = self.buckets.iter().enumerate().filter(|(_, count)| **count > 0);
        filled.map(|(bucket, count)| (Duration::from_nanos(longest_in(bucket)).min(self.max), *count))
    }
}

impl fmt::Debug for Histogram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Histogram")
            .field("count", &self.count)
            .field("median", &self.quantile(0.5))
            .field("p99", &self.quantile(0.99))
            .field("max", &self.max)
            .finish_non_exhaustive()
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// ```text
///   nanos    0 1 … 7 | 8 9 … 15 | 16 18 … 30 | 32 36 … 60 | …     the first of each bucket
///   bucket   0 1 … 7 | 8 9 … 15 | 16 17 … 23 | 24 25 … 31 | …
/// ```
#[expect(clippy::cast_possible_truncation, reason = "it is less than 496")]
const fn bucket_of(nanos: u64) -> usize {
    if nanos < PARTS {
        return nanos as usize;
    }
    let power = nanos.ilog2();
    let part = (nanos >> (power - PARTS.ilog2())) % PARTS;
    ((power - PARTS.ilog2() + 1) as u64 * PARTS + part) as usize
}

/// The most nanoseconds that fall into a bucket.
const fn longest_in(bucket: usize) -> u64 {
    let (row, part) = (bucket as u64 / PARTS, bucket as u64 % PARTS);
    if row == 0 {
        return part;
    }
    let width = 1 << (row - 1);
    (PARTS + part) * width + (width - 1)
}

/// Buckets for each power of two: 8, so that 100 ms and 110 ms can be told apart.
const PARTS: u64 = 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_follow_one_another_without_a_gap_and_are_an_eighth_wide() {
        let mut first = 0u64;
        for bucket in 0.. {
            let last = longest_in(bucket);
            assert_eq!((bucket_of(first), bucket_of(last)), (bucket, bucket));
            assert!(last - first <= first / PARTS, "{first} to {last}");
            let Some(next) = last.checked_add(1) else { break };
            first = next;
        }
        assert_eq!(bucket_of(u64::MAX), 495);
    }

    #[test]
    fn a_quantile_is_never_too_short_and_an_eighth_too_long_at_most() {
        let mut random = scattered(7);
        let mut times: Vec<u64> = (0..1000).map(|_| random() >> (random() % 60)).collect();
        let mut histogram = Histogram::default();
        for time in &times {
            histogram.record(Duration::from_nanos(*time));
        }
        times.sort_unstable();
        for part in 1..=1000usize {
            let exact = times[part - 1];
            let found = nanos(histogram.quantile(part as f64 / 1000.0));
            assert!(found >= exact && found - exact <= exact / PARTS, "{part}: {found}, not {exact}");
        }
        assert_eq!(histogram.quantile(1.0), histogram.max());
        assert_eq!(nanos(histogram.max()), times[999]);
        for part in [-1.0, 0.0, f64::NAN] {
            assert_eq!(histogram.quantile(part), histogram.quantile(0.001));
        }
        assert_eq!(histogram.quantile(f64::INFINITY), histogram.max());
    }

    /// Numbers that look like chance.
    fn scattered(mut state: u64) -> impl FnMut() -> u64 {
        move || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state
        }
    }

    #[test]
    fn two_that_are_merged_are_as_one_that_was_told_all() {
        let (mut one, mut other, mut all) =
            (Histogram::default(), Histogram::default(), Histogram::default());
        assert_eq!((all.count(), all.sum(), all.max(), all.quantile(0.5)), Default::default());
        for (at, time) in [0, 1, 7, 8, 1000, 12_345_678, u64::MAX].into_iter().enumerate() {
            let time = Duration::from_nanos(time);
            if at % 2 == 0 { &mut one } else { &mut other }.record(time);
            all.record(time);
        }
        one.merge(&other);
        assert_eq!(one, all);
        assert_eq!((all.count(), all.iter().map(|(_, count)| count).sum::<u64>()), (7, 7));
        one.record(Duration::MAX);
        one.merge(&all);
        assert_eq!(
            (one.max(), one.sum(), one.quantile(1.0)),
            (Duration::MAX, Duration::MAX, Duration::from_nanos(u64::MAX))
        );
    }
}
