//! [`Eyeballs`]: which address of a host is tried next. Happy Eyeballs (RFC 8305), without a socket or a clock.

use std::collections::{HashSet, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

/// The addresses of one host, in the order in which they are tried, and how many are being tried.
///
/// Whoever drives it starts what [`start`](Self::start) gives: at once, when [`ATTEMPT_DELAY`] has passed since the
/// last was started, and when one has [failed](Self::failed).
#[derive(Debug, Default)]
pub(crate) struct Eyeballs {
    waiting: VecDeque<SocketAddr>,
    in_flight: usize,
}

impl Eyeballs {
    /// Puts addresses in order: each once, the families by turns, the first family that of the first address (RFC 8305
    /// section 4, with a First Address Family Count of one). The resolver has put the better family first already
    /// (RFC 6724), which is IPv6 where both do.
    pub(crate) fn new(addresses: Vec<SocketAddr>) -> Self {
        let mut seen = HashSet::new();
        let leads = addresses.first().is_some_and(SocketAddr::is_ipv6);
        let (mut first, mut second): (VecDeque<_>, VecDeque<_>) = addresses
            .into_iter()
            .filter(|address| seen.insert(*address))
            .partition(|address| address.is_ipv6() == leads);
        let mut waiting = VecDeque::new();
        while waiting.len() < MOST_ADDRESSES
            && let Some(address) = first.pop_front()
        {
            waiting.push_back(address);
            if !second.is_empty() {
                std::mem::swap(&mut first, &mut second);
            }
        }
        Self { waiting, in_flight: 0 }
    }

    /// The address to try now, if there is one left and room for another attempt.
    pub(crate) fn start(&mut self) -> Option<SocketAddr> {
        if self.in_flight >= MOST_ATTEMPTS {
            return None;
        }
        let address = self.waiting.pop_front()?;
        self.in_flight += 1;
        Some(address)
    }

    /// One that was started has failed.
    pub(crate) const fn failed(&mut self) {
        self.in_flight = self.in_flight.saturating_sub(1);
    }

    /// How many addresses have not been tried.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Whether all have failed.
    pub(crate) fn is_over(&self) -> bool {
        self.in_flight == 0 && self.waiting.is_empty()
    }
}

/// How long an address has to answer before the next one is tried beside it: 250 ms, the Connection Attempt Delay that
/// RFC 8305 section 5 recommends.
pub const ATTEMPT_DELAY: Duration = Duration::from_millis(250);

/// Most addresses of a host that are tried: 32, past which a name lists machines and not ways to one.
pub const MOST_ADDRESSES: usize = 32;

/// Most addresses of a host that are tried at a time: 8, the attempts of two silent seconds. When that many do not answer,
/// the network is at fault and not an address; the next is tried when one of them ends.
pub const MOST_ATTEMPTS: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(list: &[&str]) -> Vec<SocketAddr> {
        list.iter().map(|ip| SocketAddr::new(ip.parse().unwrap(), 25)).collect()
    }

    fn order(list: &[&str]) -> Vec<String> {
        let mut eyeballs = Eyeballs::new(addresses(list));
        let mut order = Vec::new();
        while let Some(address) = eyeballs.start() {
            order.push(address.ip().to_string());
            eyeballs.failed();
        }
        assert!(eyeballs.is_over());
        order
    }

    #[test]
    fn families_take_turns_and_the_first_address_leads() {
        for (given, expected) in [
            (&["::1", "::2", "1.1.1.1", "2.2.2.2"][..], &["::1", "1.1.1.1", "::2", "2.2.2.2"][..]),
            (&["1.1.1.1", "2.2.2.2", "::1"], &["1.1.1.1", "::1", "2.2.2.2"]),
            (&["::1", "1.1.1.1", "2.2.2.2", "3.3.3.3"], &["::1", "1.1.1.1", "2.2.2.2", "3.3.3.3"]),
            (&["::1", "::2", "::3", "1.1.1.1"], &["::1", "1.1.1.1", "::2", "::3"]),
            (&["1.1.1.1", "::1", "1.1.1.1", "::1"], &["1.1.1.1", "::1"]),
            (&["2.2.2.2", "1.1.1.1"], &["2.2.2.2", "1.1.1.1"]),
            (&[], &[]),
        ] {
            assert_eq!(order(given), expected, "{given:?}");
        }
    }

    #[test]
    fn one_is_over_when_all_that_was_started_has_failed() {
        let mut eyeballs = Eyeballs::new(addresses(&["::1", "1.1.1.1"]));
        assert!(eyeballs.start().is_some() && eyeballs.start().is_some() && eyeballs.start().is_none());
        eyeballs.failed();
        assert!(!eyeballs.is_over(), "one is still being tried");
        eyeballs.failed();
        assert!(eyeballs.is_over());
    }

    #[test]
    fn only_so_many_are_tried_at_a_time_and_at_all() {
        let many: Vec<String> = (0..2 * MOST_ADDRESSES).map(|n| format!("192.0.2.{n}")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        assert_eq!(order(&many), many[..MOST_ADDRESSES]);
        let mut eyeballs = Eyeballs::new(addresses(&many));
        let started = std::iter::from_fn(|| eyeballs.start()).count();
        assert_eq!((started, eyeballs.waiting()), (MOST_ATTEMPTS, MOST_ADDRESSES - MOST_ATTEMPTS));
        eyeballs.failed();
        assert!(eyeballs.start().is_some() && eyeballs.start().is_none());
    }
}
