//! [`Gate`]: how many connections the listeners of one call have taken, and from where; no I/O.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::rc::Rc;

use bytes::Bytes;

use crate::limits::{ListenOptions, REFUSALS, WhenFull};

/// What the listeners of one call take together.
#[derive(Debug)]
pub(crate) struct Gate {
    total: usize,
    per_address: usize,
    prefix_v4: u32,
    prefix_v6: u32,
    pub(crate) accept_budget: Option<usize>,
    pub(crate) refusal: Bytes,
    #[cfg(feature = "tls")]
    pub(crate) tls: Option<crate::TlsServer>,
    waits: bool,
    /// Connections that were let in and are not closed yet.
    open: Cell<usize>,
    /// The same by where they come from, if that is bounded; nothing of those that have none.
    from: RefCell<HashMap<IpAddr, usize>>,
    /// Connections that were refused, and have time to hear of it.
    leaving: Cell<usize>,
}

/// A place that a connection takes up until its socket is closed: it ends with the dispatcher, wherever that is by then.
#[derive(Debug)]
pub(crate) struct Seat {
    gate: Rc<Gate>,
    place: Place,
}

#[derive(Debug)]
enum Place {
    /// Among those that were let in, from a prefix if that is counted.
    Inside(Option<IpAddr>),
    /// Among those that were refused.
    Outside,
}

impl Gate {
    pub(crate) fn new(options: &ListenOptions) -> Rc<Self> {
        Rc::new(Self {
            total: options.total,
            per_address: options.per_address,
            prefix_v4: u32::from(options.prefix_v4),
            prefix_v6: u32::from(options.prefix_v6),
            accept_budget: options.accept_budget,
            refusal: options.refusal.clone(),
            #[cfg(feature = "tls")]
            tls: options.tls.clone(),
            waits: options.when_full == WhenFull::Wait,
            open: Cell::new(0),
            from: RefCell::default(),
            leaving: Cell::new(0),
        })
    }

    /// Whether its listeners are to leave connections in their backlogs.
    pub(crate) const fn is_shut(&self) -> bool {
        self.waits && self.open.get() >= self.total
    }

    /// A place for a connection from an address, or why there is none. Where nothing is bounded, nothing is counted.
    pub(crate) fn enter(self: &Rc<Self>, from: Option<IpAddr>) -> Result<Option<Seat>, &'static str> {
        let prefix = from.filter(|_| self.per_address < usize::MAX).map(|from| self.prefix(from));
        if prefix.is_none() && self.total == usize::MAX {
            return Ok(None);
        }
        if self.open.get() >= self.total {
            return Err("as many connections are open as may be");
        }
        if let Some(prefix) = prefix {
            let mut counts = self.from.borrow_mut();
            let open = counts.get(&prefix).copied().unwrap_or(0);
            if open >= self.per_address {
                return Err("as many connections of its address are open as may be");
            }
            counts.insert(prefix, open + 1);
        }
        self.open.set(self.open.get() + 1);
        Ok(Some(Seat { gate: Rc::clone(self), place: Place::Inside(prefix) }))
    }

    /// A place for a connection that is refused to hear of that, unless too many have one.
    pub(crate) fn leave(self: &Rc<Self>) -> Option<Seat> {
        let leaving = self.leaving.get();
        (leaving < REFUSALS).then(|| {
            self.leaving.set(leaving + 1);
            Seat { gate: Rc::clone(self), place: Place::Outside }
        })
    }

    /// The part of an address that counts.
    fn prefix(&self, address: IpAddr) -> IpAddr {
        // An IPv4 peer of a listener for both families comes as `::ffff:192.0.2.1` (RFC 4291 section 2.5.5.2).
        match address.to_canonical() {
            IpAddr::V4(address) => {
                let mask = u32::MAX.checked_shl(u32::BITS.saturating_sub(self.prefix_v4)).unwrap_or(0);
                Ipv4Addr::from_bits(address.to_bits() & mask).into()
            }
            IpAddr::V6(address) => {
                let mask = u128::MAX.checked_shl(u128::BITS.saturating_sub(self.prefix_v6)).unwrap_or(0);
                Ipv6Addr::from_bits(address.to_bits() & mask).into()
            }
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let gate = &self.gate;
        match self.place {
            Place::Outside => gate.leaving.set(gate.leaving.get() - 1),
            Place::Inside(prefix) => {
                gate.open.set(gate.open.get() - 1);
                let mut counts = gate.from.borrow_mut();
                if let Some(prefix) = prefix
                    && let Some(open) = counts.get_mut(&prefix)
                {
                    *open -= 1;
                    if *open == 0 {
                        counts.remove(&prefix);
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gate(change: impl FnOnce(&mut ListenOptions)) -> Rc<Gate> {
        let mut options = ListenOptions::default();
        change(&mut options);
        Gate::new(&options)
    }

    fn ip(text: &str) -> Option<IpAddr> {
        Some(text.parse().unwrap())
    }

    #[test]
    fn prefixes_are_of_each_family_and_of_any_length() {
        let cases = [
            (32, 64, "192.0.2.77", "192.0.2.77"),
            (24, 64, "192.0.2.77", "192.0.2.0"),
            (0, 64, "192.0.2.77", "0.0.0.0"),
            (200, 64, "192.0.2.77", "192.0.2.77"),
            (24, 64, "::ffff:192.0.2.77", "192.0.2.0"),
            (32, 64, "2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"),
            (32, 48, "2001:db8:1:2:3:4:5:6", "2001:db8:1::"),
            (32, 128, "2001:db8:1:2:3:4:5:6", "2001:db8:1:2:3:4:5:6"),
            (32, 255, "2001:db8::6", "2001:db8::6"),
            (32, 0, "2001:db8::6", "::"),
        ];
        for (v4, v6, address, prefix) in cases {
            let gate = gate(|options| (options.prefix_v4, options.prefix_v6) = (v4, v6));
            assert_eq!(Some(gate.prefix(address.parse().unwrap())), ip(prefix), "{address} /{v4} /{v6}");
        }
    }

    #[test]
    fn a_place_is_free_again_when_it_is_left() {
        let gate = gate(|options| (options.total, options.per_address) = (3, 2));
        let first = gate.enter(ip("192.0.2.1")).unwrap();
        let second = gate.enter(ip("::ffff:192.0.2.1")).unwrap();
        assert!(gate.enter(ip("192.0.2.1")).is_err(), "two of that address");
        let third = gate.enter(ip("192.0.2.2")).unwrap();
        assert!(gate.is_shut());
        assert!(gate.enter(ip("192.0.2.3")).is_err() && gate.enter(None).is_err(), "three together");
        drop((second, third));
        assert!(!gate.is_shut());
        assert_eq!(gate.from.borrow().len(), 1, "of an address without connections nothing is kept");
        assert!(gate.enter(None).unwrap().is_some(), "no address, which counts in the total alone");
        drop(first);
        assert_eq!((gate.open.get(), gate.from.borrow().len()), (0, 0));
    }

    #[test]
    fn without_a_bound_nothing_is_counted() {
        let gate = gate(|_| {});
        assert!(gate.enter(ip("192.0.2.1")).unwrap().is_none());
        assert!(!gate.is_shut());
    }

    #[test]
    fn only_so_many_are_given_time_to_hear_of_their_refusal() {
        let gate = gate(|options| options.total = 0);
        let mut leaving: Vec<Seat> = std::iter::from_fn(|| gate.leave()).collect();
        assert_eq!(leaving.len(), REFUSALS);
        leaving.pop();
        assert!(gate.leave().is_some());
    }
}
