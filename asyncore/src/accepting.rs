//! Accepting: one connection after the other, whom a listener turns away, and what it does when descriptors run out.

use std::rc::Rc;
use std::time::Duration;

use crate::deadline::{DeadlineKey, Due};
use crate::entry::Entry;
use crate::gate::Gate;
use crate::interest::Pauses;
use crate::limits::ListenOptions;
use crate::socket::AcceptError;
use crate::{Channel, ChannelId, Dispatcher, Map, Result, State};

impl<A: 'static> Map<A> {
    /// Has listening channels accept by these options, and count together what they accept from now on.
    ///
    /// For a channel of your own that listens, whose [`handle_accepted`](Channel::handle_accepted) takes the
    /// connections: [`accept`](Self::accept) gives it those alone that are let in. What a socket can be told only before
    /// it listens, `backlog` and `reuse_port`, is passed over. Without `limits` in the options, a listener keeps its own.
    ///
    /// ```
    /// use asyncore::{ListenOptions, Map};
    /// # struct Quiet;
    /// # impl asyncore::Channel for Quiet {}
    ///
    /// let mut map: Map = Map::new()?;
    /// let listeners = map.listen("127.0.0.1:0", |_peer| Quiet)?;
    /// let mut options = ListenOptions::default();
    /// options.per_address = 4;
    /// map.set_listen_options(&listeners, options);
    /// # Ok::<(), asyncore::Error>(())
    /// ```
    pub fn set_listen_options(&mut self, listeners: &[ChannelId], options: ListenOptions) {
        let gate = Gate::new(&options);
        let limits = options.limits.map(Rc::new);
        for id in listeners {
            if let Some(limits) = &limits {
                self.set_limits(*id, Rc::clone(limits));
            }
            if let Some(entry) = self.live_mut(*id) {
                entry.dispatcher.rare().gate = Some(Rc::clone(&gate));
            }
        }
    }

    /// Accepts the next connection that waits on a listening channel, if any, with the listener's limits.
    ///
    /// A connection that is lost already is passed over, and so is one that the listener's [`ListenOptions`] turn away.
    /// When descriptors or memory run out, or the map is full, the listener pauses until a channel closes or a moment
    /// has passed, and the answer is `None`; so it does at its own total, if it [waits](crate::WhenFull::Wait) there.
    ///
    /// # Errors
    ///
    /// If the listener itself fails.
    pub fn accept(&mut self, id: ChannelId) -> Result<Option<Dispatcher>> {
        if self.reserve.is_none() {
            self.reserve = self.world.reserve();
        }
        loop {
            if self.serving.id == Some(id) {
                if self.serving.accepts == 0 {
                    return Ok(None);
                }
                self.serving.accepts -= 1;
            }
            let listener = self.live(id).map(|entry| &entry.dispatcher);
            let Some(listener) = listener.filter(|listener| listener.state == State::Listening) else {
                return Ok(None);
            };
            if listener.gate().is_some_and(|gate| gate.is_shut()) {
                tracing::debug!(%id, "as many connections are open as may be: listener paused");
                self.starve(id, Pauses::FULL);
                return Ok(None);
            }
            if self.channels >= self.options.connections {
                tracing::debug!(%id, channels = self.channels, "the map is full: listener paused");
                self.starve(id, Pauses::ACCEPT);
                return Ok(None);
            }
            let Some(entry) = self.live(id) else { return Ok(None) };
            match entry.dispatcher.accept_one() {
                Ok(None) => return Ok(None),
                Ok(Some(accepted)) => {
                    if let Some(accepted) = self.admit(id, accepted) {
                        self.counters.accepted += 1;
                        return Ok(Some(accepted));
                    }
                }
                Err(error) => {
                    self.counters.accept_errors += 1;
                    match AcceptError::classify(&error) {
                        AcceptError::Next => {
                            tracing::debug!(%id, %error, "a connection was lost before it was accepted");
                        }
                        AcceptError::NoDescriptor => {
                            self.refuse_one(id);
                            self.cannot_accept(id, &error);
                            return Ok(None);
                        }
                        AcceptError::NoMemory => {
                            self.cannot_accept(id, &error);
                            return Ok(None);
                        }
                        AcceptError::Fatal => return Err(error.into()),
                    }
                }
            }
        }
    }

    /// How many connections a listener may accept in one turn.
    pub(crate) fn accept_budget(&self, id: ChannelId) -> usize {
        let gate = self.live(id).and_then(|entry| entry.dispatcher.gate());
        gate.and_then(|gate| gate.accept_budget).unwrap_or(self.options.accept_budget).max(1)
    }

    /// Lets a connection in, or turns it away.
    fn admit(&mut self, id: ChannelId, mut accepted: Dispatcher) -> Option<Dispatcher> {
        let Some(gate) = self.live(id).and_then(|entry| entry.dispatcher.gate().cloned()) else {
            return Some(accepted);
        };
        match gate.enter(accepted.peer_addr().and_then(|peer| peer.ip())) {
            Ok(seat) => {
                if seat.is_some() {
                    accepted.rare().seat = seat;
                }
                #[cfg(feature = "tls")]
                if let Some(server) = &gate.tls {
                    match server.session() {
                        Ok(session) => accepted.rare().tls = Some(session),
                        Err(error) => {
                            tracing::warn!(%id, peer = %accepted.peer(), %error, "no TLS: connection closed");
                            return None;
                        }
                    }
                }
                Some(accepted)
            }
            Err(why) => {
                tracing::debug!(%id, peer = %accepted.peer(), why, "connection refused");
                self.counters.refused += 1;
                self.refuse(&gate, accepted);
                None
            }
        }
    }

    /// Closes a connection with a last line, which reaches its peer also behind what that has sent: see
    /// [`close_when_done`](Self::close_when_done).
    fn refuse(&mut self, gate: &Rc<Gate>, mut refused: Dispatcher) {
        if gate.refusal.is_empty() {
            return;
        }
        // Who expects TLS does not read a line, and a handshake is more than is owed.
        #[cfg(feature = "tls")]
        if gate.tls.is_some() {
            return;
        }
        let Some(seat) = gate.leave() else {
            // One that is lost already needs no answer.
            drop(refused.send(&gate.refusal));
            return;
        };
        refused.rare().seat = Some(seat);
        if let Ok(id) = self.add(refused, Refused) {
            self.push(id, gate.refusal.clone());
            self.close_when_done(id);
        }
    }

    /// No descriptor is left: gives up the reserve to take one connection and close it, so that its client does not
    /// wait in vain.
    fn refuse_one(&mut self, id: ChannelId) {
        if self.reserve.take().is_some() {
            if let Some(Ok(Some(refused))) = self.live(id).map(|entry| entry.dispatcher.accept_one()) {
                tracing::debug!(%id, peer = %refused.peer(), "connection refused: no descriptor is left");
                self.counters.refused += 1;
            }
            if !planted!(ReserveLost) {
                self.reserve = self.world.reserve();
            }
        }
    }

    /// Descriptors or memory have run out: logs it, and pauses the listener for a moment.
    fn cannot_accept(&mut self, id: ChannelId, error: &std::io::Error) {
        if self.phase.starved_logged.is_none_or(|logged| self.now.duration_since(logged) >= LOG_EVERY) {
            self.phase.starved_logged = Some(self.now);
            tracing::warn!(%id, %error, channels = self.channels, "cannot accept: listener paused");
        }
        self.starve(id, Pauses::ACCEPT);
        self.set_deadline(id, ACCEPT_PAUSE, Due::Accept(id));
    }

    /// Pauses a listener until a channel closes.
    fn starve(&mut self, id: ChannelId, reason: Pauses) {
        let Some(entry) = self.live_mut(id) else { return };
        entry.pauses.insert(reason);
        if !self.starved.contains(&id) {
            self.starved.push(id);
        }
        self.touch(id);
    }

    /// A descriptor or a place in the map is free, or the pause is over: listeners accept again.
    pub(crate) fn feed_starved(&mut self) {
        self.feed(|Entry { dispatcher, pauses, .. }| {
            pauses.remove(Pauses::ACCEPT);
            dispatcher.rare_mut().and_then(|rare| rare.deadline.take())
        });
    }

    /// Has listeners accept again that have fewer connections now. Asked before every wait, because a connection may be
    /// removed from the map, and closed where the map does not see it.
    #[inline]
    pub(crate) fn feed_full(&mut self) {
        if !self.starved.is_empty() && self.has_listener_with_room() {
            self.feed(|Entry { dispatcher, pauses, .. }| {
                if dispatcher.gate().is_none_or(|gate| !gate.is_shut()) {
                    pauses.remove(Pauses::FULL);
                }
                None
            });
        }
    }

    /// Whether a listener waits that has fewer connections now.
    pub(crate) fn has_listener_with_room(&self) -> bool {
        self.starved.iter().filter_map(|id| self.live(*id)).any(|Entry { dispatcher, pauses, .. }| {
            pauses.contains(Pauses::FULL) && dispatcher.gate().is_none_or(|gate| !gate.is_shut())
        })
    }

    /// Takes reasons to pause from the listeners that have some; those that keep others go on waiting.
    fn feed(&mut self, mut relieve: impl FnMut(&mut Entry<A>) -> Option<DeadlineKey>) {
        let mut starved = std::mem::take(&mut self.starved);
        starved.retain(|id| {
            let Some(entry) = self.live_mut(*id) else { return false };
            let before = entry.pauses;
            let deadline = relieve(entry);
            let (changed, waits) = (entry.pauses != before, entry.pauses.contains(Pauses::LISTENERS));
            if let Some(key) = deadline {
                self.deadlines.cancel(key);
            }
            if changed {
                self.touch(*id);
            }
            waits
        });
        self.starved = starved;
    }
}

/// A connection that was turned away, while the last line goes out.
struct Refused;

impl<A: 'static> Channel<A> for Refused {
    fn name(&self) -> &'static str {
        "refused"
    }
}

/// How long a listener pauses when descriptors or memory run out: 100 ms, HAProxy's choice; ten failed accepts a
/// second cost nothing, and nobody waits long.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How often running out is logged: once a second at most.
const LOG_EVERY: Duration = Duration::from_secs(1);
