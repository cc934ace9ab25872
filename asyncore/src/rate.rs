//! A rate: so many bytes in so long.

use std::time::Duration;

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
}
