//! [`Peer`]: the other end of a connection, played by the test.

use std::fmt;

use super::network::Network;
use super::wire::{EndId, Role, Script, Then, Wire};
use crate::Address;

/// The other end of a connection, which does what the test has it do.
///
/// It reads everything at once unless it was told not to, and what it sends waits, without bound, until there is room.
/// Nothing happens before the map's next turn: the calls of [`Simulation`](super::Simulation) that take a peer serve turns,
/// those of the peer itself do not. A peer that is dropped closes.
///
/// ```
/// use asyncore::testing::Simulation;
/// use asyncore::{Channel, CloseReason, Context};
///
/// struct Quiet;
///
/// impl Channel<Vec<CloseReason>> for Quiet {
///     fn handle_close(&mut self, cx: &mut Context<'_, Vec<CloseReason>>, reason: CloseReason) {
///         cx.app.push(reason);
///     }
/// }
///
/// let mut sim = Simulation::new(Vec::new())?;
/// let (dispatcher, mut peer) = sim.pair()?;
/// sim.map.add(dispatcher, Quiet)?;
/// peer.reset();
/// sim.settle()?;
/// assert_eq!(sim.app, [CloseReason::Reset]);
/// # Ok::<(), asyncore::Error>(())
/// ```
pub struct Peer {
    pub(super) network: Network,
    pub(super) id: EndId,
}

/// A listener that the test plays: what the map connects to.
pub struct PeerListener {
    pub(super) network: Network,
    pub(super) id: EndId,
}

impl Peer {
    /// Makes a scripted peer of an end.
    pub(super) fn new(network: Network, id: EndId) -> Self {
        if let Some(wire) = network.wires.borrow_mut().get_mut(id) {
            let received = wire.inbox.drain(..).collect();
            wire.script = Some(Script { received, ..Script::default() });
        }
        Self { network, id }
    }

    /// Sends bytes, after those that still wait to be sent. Behind its end, or on a lost connection, they are dropped.
    pub fn send(&mut self, data: impl AsRef<[u8]>) {
        self.script(|script| script.outgoing.extend(data.as_ref()));
    }

    /// Sends one urgent (out-of-band) byte, past what still waits to be sent.
    pub fn send_urgent(&mut self, byte: u8) {
        self.network.wires.borrow_mut().send_urgent(self.id, byte);
    }

    /// Ends its writing side once all is sent.
    pub fn shutdown_write(&mut self) {
        self.script(|script| script.then = script.then.max(Then::Finish));
    }

    /// Closes once all is sent; what arrives later is answered with a reset. What it has received can still be looked at.
    pub fn close(&mut self) {
        self.script(|script| script.then = Then::Close);
    }

    /// Resets the connection; what waits to be sent is dropped.
    pub fn reset(&mut self) {
        if let Some(wire) = self.network.wires.borrow_mut().get_mut(self.id) {
            wire.resets = true;
        }
        self.script(|script| {
            script.outgoing.clear();
            script.then = Then::Close;
        });
    }

    /// Reads nothing from now on: what the other side sends fills the network's buffer.
    pub fn stop_reading(&mut self) {
        self.script(|script| script.reads = false);
    }

    /// Reads all that waits, and goes on reading.
    pub fn start_reading(&mut self) {
        if let Some(Wire { inbox, script: Some(script), .. }) =
            self.network.wires.borrow_mut().get_mut(self.id)
        {
            script.reads = true;
            script.received.extend(inbox.drain(..));
        }
    }

    /// Reads at most so many bytes of what waits: a peer that reads slowly.
    pub fn read_some(&mut self, most: usize) {
        if let Some(Wire { inbox, script: Some(script), .. }) =
            self.network.wires.borrow_mut().get_mut(self.id)
        {
            let length = most.min(inbox.len());
            script.received.extend(inbox.drain(..length));
        }
    }

    /// Has the other side's reads take at most so many bytes each; 0 counts as 1.
    pub fn set_chunk(&mut self, bytes: usize) {
        self.change(|wire| wire.chunk = Some(bytes.max(1)));
    }

    /// What it has received, without what an expectation has consumed.
    #[must_use]
    pub fn received(&self) -> Vec<u8> {
        self.look(|wire| wire.script.as_ref().map(|script| script.received.clone())).unwrap_or_default()
    }

    /// Takes what it has received.
    pub fn take_received(&mut self) -> Vec<u8> {
        let mut taken = Vec::new();
        self.script(|script| taken = std::mem::take(&mut script.received));
        taken
    }

    /// Bytes that have arrived while it does not read.
    #[must_use]
    pub fn unread(&self) -> usize {
        self.look(|wire| Some(wire.inbox.len())).unwrap_or(0)
    }

    /// Bytes that wait to be sent, because the other side does not read.
    #[must_use]
    pub fn unsent(&self) -> usize {
        self.look(|wire| wire.script.as_ref().map(|script| script.outgoing.len())).unwrap_or(0)
    }

    /// Its own address, as the map sees it; known once its connect has arrived.
    #[must_use]
    pub fn local_addr(&self) -> Option<Address> {
        self.look(|wire| wire.local.clone())
    }

    /// The address of the other side.
    #[must_use]
    pub fn peer_addr(&self) -> Option<Address> {
        self.look(|wire| wire.remote.clone())
    }

    /// Whether the connection stands, or has stood.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.look(|wire| Some(matches!(wire.role, Role::Connected) && wire.other.is_some())).unwrap_or(false)
    }

    /// Whether the other side has ended its writing, and all before that was read.
    #[must_use]
    pub fn is_eof(&self) -> bool {
        self.look(|wire| Some(wire.ended && wire.inbox.is_empty())).unwrap_or(false)
    }

    /// Whether the connection was reset, or refused.
    #[must_use]
    pub fn is_reset(&self) -> bool {
        self.look(|wire| Some(wire.lost)).unwrap_or(false)
    }

    pub(super) fn consume(&self, bytes: usize) -> Vec<u8> {
        let mut taken = Vec::new();
        self.script(|script| taken = script.received.drain(..bytes.min(script.received.len())).collect());
        taken
    }

    fn script(&self, change: impl FnOnce(&mut Script)) {
        self.network.wires.borrow_mut().script(self.id, change);
    }

    fn change(&self, change: impl FnOnce(&mut Wire)) {
        if let Some(wire) = self.network.wires.borrow_mut().get_mut(self.id) {
            change(wire);
        }
    }

    fn look<R>(&self, look: impl FnOnce(&Wire) -> Option<R>) -> Option<R> {
        self.network.wires.borrow().get(self.id).and_then(look)
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.network.wires.borrow_mut().forget(self.id);
    }
}

impl Drop for PeerListener {
    fn drop(&mut self) {
        self.network.wires.borrow_mut().close(self.id);
    }
}

impl fmt::Debug for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Peer")
            .field("received", &format_args!("\"{}\"", self.received().escape_ascii()))
            .field("unsent", &self.unsent())
            .field("eof", &self.is_eof())
            .field("reset", &self.is_reset())
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for PeerListener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PeerListener").finish_non_exhaustive()
    }
}
