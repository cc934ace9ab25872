//! [`Extra`]: what an ordinary idle channel does without, in one word of its slot.
//!
//! An accepted IPv4 connection with the map's own limits has no box: the slot is all there is of it.

use std::io;
use std::rc::Rc;

use crate::counters::Overflows;
use crate::coupling::Coupling;
use crate::deadline::DeadlineKey;
use crate::entry::Flags;
use crate::gate::{Gate, Seat};
use crate::host::Racing;
use crate::throttle::Throttles;
use crate::timeouts::Clocks;
use crate::unread::Unread;
use crate::{Address, Dispatcher, Limits, TimerId};

/// A box for what few channels have.
#[derive(Debug, Default)]
pub(crate) struct Extra(Option<Box<Parts>>);

#[derive(Debug, Default)]
struct Parts {
    /// `None`: the map's.
    limits: Option<Rc<Limits>>,
    /// Of a peer without an IPv4 address.
    peer: Option<Address>,
    rare: Option<Box<Rare>>,
}

/// What few channels need, and those only for a while.
#[derive(Debug, Default)]
pub(crate) struct Rare {
    /// The result of a connect that was known at once, until the loop reports it.
    pub(crate) connected: Option<io::Result<()>>,
    /// The deadline of a closing channel, of a handshake, or of a listener's pause.
    pub(crate) deadline: Option<DeadlineKey>,
    /// The marks of its clocks, if it has those that need some.
    pub(crate) clocks: Option<Box<Clocks>>,
    /// The first in the list of its timers.
    pub(crate) timers: Option<TimerId>,
    /// What `bytes_out` was when the drain deadline was last set.
    pub(crate) drained_at: u64,
    /// Input dropped while lingering.
    pub(crate) dropped: usize,
    /// What was asked for while connecting.
    pub(crate) when_connected: Option<Ending>,
    /// Of a channel that was removed: what it knew of its input.
    pub(crate) input: Flags,
    /// Input that was put back.
    pub(crate) unread: Option<Unread>,
    /// What it has moved of what its rate limits allow.
    pub(crate) throttles: Option<Box<Throttles>>,
    /// Whose output it waits for, and who waits for its own.
    pub(crate) coupling: Option<Box<Coupling>>,
    pub(crate) over: Overflows,
    pub(crate) partial_writes: u64,
    /// Of a listener: what it counts, and whom it turns away.
    pub(crate) gate: Option<Rc<Gate>>,
    /// Of what a listener with bounds has accepted: its place in them.
    pub(crate) seat: Option<Seat>,
    /// The TLS that begins once it is connected.
    #[cfg(feature = "tls")]
    pub(crate) tls: Option<crate::TlsSession>,
    /// Its part in connecting to a host.
    pub(crate) racing: Option<Racing>,
}

/// An end that waits until the channel is connected and its queue is empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    Close,
    ShutdownWrite,
}

impl Extra {
    fn parts(&mut self) -> &mut Parts {
        self.0.get_or_insert_default()
    }

    /// The channel's own limits, or those of its map.
    #[inline]
    pub(crate) fn limits<'a>(&'a self, shared: &'a Rc<Limits>) -> &'a Rc<Limits> {
        self.own_limits().unwrap_or(shared)
    }

    #[inline]
    pub(crate) fn own_limits(&self) -> Option<&Rc<Limits>> {
        self.0.as_ref()?.limits.as_ref()
    }

    /// Its own limits; at first those of its map.
    pub(crate) fn limits_mut(&mut self, shared: &Rc<Limits>) -> &mut Rc<Limits> {
        self.parts().limits.get_or_insert_with(|| Rc::clone(shared))
    }

    /// Gives it limits of its own: those it had before.
    pub(crate) fn set_limits(&mut self, limits: Rc<Limits>) -> Option<Rc<Limits>> {
        self.parts().limits.replace(limits)
    }

    /// Forgets limits of its own that are the map's: they need no box.
    pub(crate) fn share_limits(&mut self, shared: &Rc<Limits>) {
        self.0.take_if(|parts| {
            parts.limits.take_if(|own| Rc::ptr_eq(own, shared));
            parts.limits.is_none() && parts.peer.is_none() && parts.rare.is_none()
        });
    }

    pub(crate) fn peer(&self) -> Option<&Address> {
        self.0.as_ref()?.peer.as_ref()
    }

    pub(crate) fn set_peer(&mut self, peer: Option<Address>) {
        if peer.is_some() {
            self.parts().peer = peer;
        }
    }
}

impl Dispatcher {
    /// What few channels need: it is there from now on.
    pub(crate) fn rare(&mut self) -> &mut Rare {
        self.extra.parts().rare.get_or_insert_default()
    }

    /// What few channels need, if this one does.
    #[inline]
    pub(crate) fn rare_ref(&self) -> Option<&Rare> {
        self.extra.0.as_ref()?.rare.as_deref()
    }

    pub(crate) fn rare_mut(&mut self) -> Option<&mut Rare> {
        self.extra.0.as_mut()?.rare.as_deref_mut()
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;
    use crate::absent::Absent;
    use crate::{Channel, Family, Kind, Map, Result, State};

    struct Quiet;

    impl Channel for Quiet {}

    #[test]
    fn a_peer_of_any_family_is_known_and_an_ipv4_one_takes_no_box() -> Result {
        for (text, is_boxed) in [("127.0.0.1:25", false), ("[::1]:6667", true), ("unix:/run/a.sock", true)] {
            let peer: Address = text.parse()?;
            let family = Family::of(&peer);
            let dispatcher =
                Dispatcher::new(Absent::socket()?, family, Kind::Stream, State::Open, Some(peer.clone()));
            assert_eq!(dispatcher.peer_addr(), Some(peer));
            assert_eq!(dispatcher.peer().to_string(), text);
            assert_eq!(dispatcher.extra.0.is_some(), is_boxed, "{text}");
        }
        Ok(())
    }

    #[test]
    fn neither_end_of_a_connection_takes_a_box_with_the_limits_of_its_map() -> Result {
        let mut map: Map = Map::new()?;
        let listeners = map.listen("127.0.0.1:0", |_peer| Quiet)?;
        let at = map.get(listeners[0]).and_then(|listener| listener.local_addr().ok()?);
        let near = map.connect(at.ok_or("no address")?, Quiet)?;
        let deadline = Instant::now() + Duration::from_secs(20);
        while map.len() < 3 || map.get(near).is_none_or(|near| near.state() != State::Open) {
            map.poll(&mut (), Some(Duration::from_secs(1)))?;
            assert!(Instant::now() < deadline, "no connection");
        }
        let open = map.iter().filter(|(_, channel)| channel.state() == State::Open);
        assert_eq!(open.filter(|(_, channel)| channel.extra.0.is_none()).count(), 2);
        Ok(())
    }
}
