//! [`VirtualClock`]: the clock of a simulation, for what takes time in it.

use std::fmt;
use std::time::{Duration, Instant};

use super::network::Network;

/// A handle on the clock of a [`Simulation`](super::Simulation): give it to a handler that takes its time.
///
/// ```
/// use std::time::Duration;
///
/// use asyncore::testing::{Simulation, VirtualClock};
///
/// let mut sim = Simulation::new(0)?;
/// let clock: VirtualClock = sim.clock();
/// sim.map.every(Duration::from_secs(1), move |_map, ticks| {
///     *ticks += 1;
///     if *ticks == 1 {
///         clock.pass(Duration::from_millis(2500)); // the first time takes its time
///     }
/// });
/// sim.advance(Duration::from_secs(10))?;
/// assert_eq!(sim.app, 9, "two were missed, and came as one");
/// # Ok::<(), asyncore::Error>(())
/// ```
#[derive(Clone)]
pub struct VirtualClock {
    network: Network,
    started: Instant,
}

impl VirtualClock {
    pub(super) const fn new(network: Network, started: Instant) -> Self {
        Self { network, started }
    }

    /// Lets time pass without a turn. What falls due or arrives meanwhile is served late.
    pub fn pass(&self, time: Duration) {
        let mut wires = self.network.wires.borrow_mut();
        wires.now = wires.now.checked_add(time).unwrap_or(wires.now);
    }

    /// How much time has passed since the simulation was made.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.network.now() - self.started
    }
}

impl fmt::Debug for VirtualClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("VirtualClock").field(&self.elapsed()).finish()
    }
}
