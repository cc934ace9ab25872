//! What a map counts.

/// What a map has done so far; [`Map::counters`](crate::Map::counters).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counters {
    /// Turns of the loop.
    pub turns: u64,
    /// Events that the poller reported.
    pub events: u64,
    /// Deadlines that passed: of timers, of timeouts, and of what the loop itself waits for.
    pub deadlines: u64,
    /// Connections accepted.
    pub accepted: u64,
    /// Accepts that failed.
    pub accept_errors: u64,
    /// Connections taken and closed at once because no descriptor was left.
    pub refused: u64,
    /// Changes of what the poller waits for.
    pub registrations: u64,
    /// Channels that were closed.
    pub closed: u64,
}
