//! [`End`]: a simulated socket, as the map's dispatchers hold it.

use std::fmt;
use std::io::{self, IoSlice};
use std::net::Shutdown;
use std::os::fd::{AsFd, BorrowedFd};
use std::rc::Rc;
use std::time::Duration;

use super::network::Network;
use super::wire::EndId;
use crate::Address;
use crate::carrier::Carrier;
use crate::interest::Interest;
use crate::socket::{Connecting, Moved, Socket};
use crate::world::World;

/// One end of a simulated connection; closes when it is dropped.
pub(crate) struct End {
    network: Network,
    id: EndId,
    _descriptor: Descriptor,
}

/// One of the descriptors that a simulated program may have.
pub(crate) struct Descriptor(pub(super) Network);

impl Drop for Descriptor {
    fn drop(&mut self) {
        self.0.give_descriptor_back();
    }
}

impl End {
    pub(super) const fn new(network: Network, id: EndId, descriptor: Descriptor) -> Self {
        Self { network, id, _descriptor: descriptor }
    }

    pub(super) const fn id(&self) -> EndId {
        self.id
    }
}

impl Carrier for End {
    /// No socket stands behind it: what is asked of this descriptor, nobody answers.
    fn descriptor(&self) -> BorrowedFd<'_> {
        self.network.nowhere.as_fd()
    }

    fn belongs_to(&self, world: &World) -> io::Result<()> {
        match world {
            World::Simulated(network) if Rc::ptr_eq(&self.network.wires, &network.wires) => Ok(()),
            _ => Err(io::Error::new(io::ErrorKind::Unsupported, "this socket is another simulation's")),
        }
    }

    fn is_registered(&self) -> bool {
        self.network.wires.borrow().get(self.id).is_some_and(|wire| wire.registered.is_some())
    }

    fn register(&mut self, world: &World, key: usize, interest: Interest) -> io::Result<()> {
        self.belongs_to(world)?;
        if let Some(wire) = self.network.wires.borrow_mut().get_mut(self.id) {
            wire.registered = Some((key, interest));
        }
        Ok(())
    }

    fn deregister(&mut self) {
        if let Some(wire) = self.network.wires.borrow_mut().get_mut(self.id) {
            wire.registered = None;
        }
    }

    fn set_linger(&self, linger: Option<Duration>) -> io::Result<()> {
        if let Some(wire) = self.network.wires.borrow_mut().get_mut(self.id) {
            wire.resets = linger == Some(Duration::ZERO);
        }
        Ok(())
    }

    fn bind(&self, address: &Address) -> io::Result<()> {
        self.network.wires.borrow_mut().bind(self.id, address)
    }

    fn listen(&self, backlog: u32) -> io::Result<()> {
        self.network.wires.borrow_mut().listen(self.id, usize::try_from(backlog).unwrap_or(usize::MAX))
    }

    fn accept(&self) -> io::Result<(Socket, Option<Address>)> {
        // Linux takes a descriptor before it looks for a connection: without one, it fails also when nobody waits.
        let descriptor = self.network.descriptor()?;
        let id = self.network.wires.borrow_mut().accept(self.id)?;
        let peer = self.network.wires.borrow().get(id).and_then(|wire| wire.remote.clone());
        let end = Self::new(self.network.clone(), id, descriptor);
        Ok((Socket::other(end), Some(peer.unwrap_or(Address::Unnamed))))
    }

    fn connect(&self, address: &Address) -> io::Result<Connecting> {
        self.network.wires.borrow_mut().connect(self.id, address)
    }

    fn take_error(&self) -> Option<io::Error> {
        self.network.wires.borrow_mut().get_mut(self.id)?.error.take().map(io::Error::from)
    }

    fn recv(&mut self, room: &mut [u8]) -> io::Result<Moved> {
        self.network.wires.borrow_mut().recv(self.id, room)
    }

    fn recv_urgent(&self) -> io::Result<Option<u8>> {
        Ok(self.network.wires.borrow_mut().get_mut(self.id).and_then(|wire| wire.urgent.take()))
    }

    fn send_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<Moved> {
        self.network.wires.borrow_mut().send(self.id, slices)
    }

    fn shutdown(&mut self, how: Shutdown) -> io::Result<()> {
        self.network.wires.borrow_mut().shutdown(self.id, how)
    }

    fn local_address(&self) -> io::Result<Option<Address>> {
        Ok(self.network.wires.borrow().get(self.id).and_then(|wire| wire.local.clone()))
    }

    fn peer_address(&self) -> io::Result<Option<Address>> {
        Ok(self.network.wires.borrow().get(self.id).and_then(|wire| wire.remote.clone()))
    }
}

impl Drop for End {
    fn drop(&mut self) {
        self.network.wires.borrow_mut().close(self.id);
    }
}

impl fmt::Debug for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("End").field(&self.id).finish()
    }
}

impl fmt::Debug for Descriptor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Descriptor")
    }
}
