//! [`Faults`]: how unkind the simulated network is.

use std::time::Duration;

/// How the simulated network treats what goes over it: each a chance from 0 (never) to 1 (always), decided by the seed.
///
/// With events that are always late, or reads that would always block, nothing ever happens: stay below 1 there, or
/// [`Simulation::run`](super::Simulation::run) has no end.
///
/// ```
/// use asyncore::testing::Faults;
///
/// let mut faults = Faults::harmless();
/// faults.resets = 0.001;
/// assert!(faults.short_reads > 0.0 && Faults::none().short_reads == 0.0);
/// ```
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Faults {
    /// The chance that a read gives fewer bytes than are there.
    pub short_reads: f64,
    /// The chance that a write takes fewer bytes than there is room for.
    pub short_writes: f64,
    /// The chance that a read, write or accept would block although the socket was ready.
    pub would_block: f64,
    /// The chance that an event is told in a later wait instead.
    pub late_events: f64,
    /// Whether the events of one wait come in any order.
    pub any_order: bool,
    /// The longest that bytes, ends and connects are under way; each takes a time from none to this.
    pub delay: Duration,
    /// The chance that a read or write finds the connection reset, by nobody's wish.
    pub resets: f64,
    /// Bytes that the network holds for one direction of a connection before its writer has to wait.
    pub buffer: usize,
}

impl Faults {
    /// A network that does at once what it is asked, as far as its buffers reach.
    #[must_use]
    pub const fn none() -> Self {
        Self {
            short_reads: 0.0,
            short_writes: 0.0,
            would_block: 0.0,
            late_events: 0.0,
            any_order: false,
            delay: Duration::ZERO,
            resets: 0.0,
            buffer: BUFFER,
        }
    }

    /// All that a network may do to a program without harm: short reads and writes, would-blocks, late events in any order,
    /// delays. A correct program gives the same answers as without.
    #[must_use]
    pub const fn harmless() -> Self {
        Self {
            short_reads: 0.3,
            short_writes: 0.3,
            would_block: 0.1,
            late_events: 0.2,
            any_order: true,
            delay: Duration::from_millis(20),
            resets: 0.0,
            buffer: BUFFER,
        }
    }
}

impl Default for Faults {
    fn default() -> Self {
        Self::none()
    }
}

/// What one direction of a connection holds: 64 KiB, a socket's usual buffer.
const BUFFER: usize = 64 << 10;
