//! [`End`]: a simulated socket, as the map's dispatchers hold it.

use std::fmt;
use std::io::{self, IoSlice};
use std::net::Shutdown;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use super::network::Network;
use super::wire::EndId;
use crate::interest::Interest;
use crate::socket::{Connecting, Moved, Socket, Transport};
use crate::{Address, Kind};

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

    pub(crate) fn into_socket(self) -> Socket {
        let family = self.network.wires.borrow().get(self.id).map_or(crate::Family::V4, |wire| wire.family);
        Socket { transport: Transport::Memory(Box::new(self)), family, kind: Kind::Stream }
    }

    pub(crate) fn is_registered(&self) -> bool {
        self.network.wires.borrow().get(self.id).is_some_and(|wire| wire.registered.is_some())
    }

    pub(crate) fn register(&self, network: &Network, key: usize, interest: Interest) -> io::Result<()> {
        if !std::rc::Rc::ptr_eq(&self.network.wires, &network.wires) {
            return Err(io::Error::new(io::ErrorKind::Unsupported, "this socket is another simulation's"));
        }
        if let Some(wire) = self.network.wires.borrow_mut().get_mut(self.id) {
            wire.registered = Some((key, interest));
        }
        Ok(())
    }

    pub(crate) fn deregister(&self) {
        if let Some(wire) = self.network.wires.borrow_mut().get_mut(self.id) {
            wire.registered = None;
        }
    }

    pub(crate) fn set_linger(&self, linger: Option<Duration>) {
        if let Some(wire) = self.network.wires.borrow_mut().get_mut(self.id) {
            wire.resets = linger == Some(Duration::ZERO);
        }
    }

    pub(crate) fn bind(&self, address: &Address) -> io::Result<()> {
        self.network.wires.borrow_mut().bind(self.id, address)
    }

    pub(crate) fn listen(&self, backlog: u32) -> io::Result<()> {
        self.network.wires.borrow_mut().listen(self.id, usize::try_from(backlog).unwrap_or(usize::MAX))
    }

    pub(crate) fn accept(&self) -> io::Result<(Self, Address)> {
        // Linux takes a descriptor before it looks for a connection: without one, it fails also when nobody waits.
        let descriptor = self.network.descriptor()?;
        let id = self.network.wires.borrow_mut().accept(self.id)?;
        let peer = self.network.wires.borrow().get(id).and_then(|wire| wire.remote.clone());
        Ok((Self::new(self.network.clone(), id, descriptor), peer.unwrap_or(Address::Unnamed)))
    }

    pub(crate) fn connect(&self, address: &Address) -> io::Result<Connecting> {
        self.network.wires.borrow_mut().connect(self.id, address)
    }

    pub(crate) fn take_error(&self) -> Option<io::Error> {
        self.network.wires.borrow_mut().get_mut(self.id)?.error.take().map(io::Error::from)
    }

    pub(crate) fn recv(&self, room: &mut [u8]) -> io::Result<Moved> {
        self.network.wires.borrow_mut().recv(self.id, room)
    }

    pub(crate) fn recv_urgent(&self) -> Option<u8> {
        self.network.wires.borrow_mut().get_mut(self.id)?.urgent.take()
    }

    pub(crate) fn send(&self, slices: &[IoSlice<'_>]) -> io::Result<Moved> {
        self.network.wires.borrow_mut().send(self.id, slices)
    }

    pub(crate) fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        self.network.wires.borrow_mut().shutdown(self.id, how)
    }

    pub(crate) fn local_address(&self) -> Option<Address> {
        self.network.wires.borrow().get(self.id)?.local.clone()
    }

    pub(crate) fn peer_address(&self) -> Option<Address> {
        self.network.wires.borrow().get(self.id)?.remote.clone()
    }
}

impl AsFd for End {
    /// No socket stands behind it: what is asked of this descriptor, nobody answers.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.network.nowhere.as_fd()
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
