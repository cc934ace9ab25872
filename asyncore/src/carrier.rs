//! [`Carrier`]: what a socket stands on, whatever that is.

use std::fmt;
use std::io::{self, IoSlice};
use std::net::Shutdown;
use std::os::fd::BorrowedFd;
use std::time::Duration;

use socket2::SockRef;

use crate::Address;
use crate::interest::Interest;
use crate::socket::{Connecting, Moved, Socket};
use crate::world::World;

/// What carries bytes for a [`Socket`], and never blocks.
///
/// What not every carrier can do answers [`Unsupported`](io::ErrorKind::Unsupported), or that there is nothing.
pub(crate) trait Carrier: fmt::Debug {
    fn descriptor(&self) -> BorrowedFd<'_>;

    /// Whether it can be in that world at all.
    fn belongs_to(&self, world: &World) -> io::Result<()> {
        world.poller().map(drop)
    }

    fn is_registered(&self) -> bool;

    /// Has the world tell of events under `key`, or changes of which.
    fn register(&mut self, world: &World, key: usize, interest: Interest) -> io::Result<()>;

    /// Has the world tell of nothing more.
    fn deregister(&mut self);

    fn recv(&mut self, room: &mut [u8]) -> io::Result<Moved>;

    fn send_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<Moved>;

    fn send(&mut self, data: &[u8]) -> io::Result<Moved> {
        self.send_vectored(&[IoSlice::new(data)])
    }

    fn shutdown(&mut self, how: Shutdown) -> io::Result<()>;

    /// Whether one side can end without the other.
    fn half_closes(&self) -> bool {
        true
    }

    /// Whether there is something to read at all.
    fn reads(&self) -> bool {
        true
    }

    /// Goes on with what comes before the first byte, as TLS has it: whether that is done.
    fn handshake(&mut self) -> io::Result<bool> {
        Ok(true)
    }

    /// Whether it has input that no event tells of.
    fn holds_input(&mut self) -> bool {
        false
    }

    /// Whether it has output of its own that is not in the channel's queue.
    fn holds_output(&self) -> bool {
        false
    }

    /// What was offered to a write that took nothing is dropped, and not offered again.
    fn forget_offered(&mut self) {}

    /// It will be dropped, and nothing that was queued for it with it: a word to the peer, if there is one to be said.
    fn say_end(&mut self) {}

    /// The TLS session over it.
    #[cfg(feature = "tls")]
    fn session(&self) -> Option<&rustls::Connection> {
        None
    }

    /// The error that waits to be told, if any.
    fn take_error(&self) -> Option<io::Error> {
        None
    }

    /// The options of the system's sockets, which others do not have.
    fn options(&self) -> Option<SockRef<'_>> {
        None
    }

    fn set_linger(&self, _linger: Option<Duration>) -> io::Result<()> {
        Ok(())
    }

    fn bind(&self, _address: &Address) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn listen(&self, _backlog: u32) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Takes a connection, and its peer's address if that is told.
    fn accept(&self) -> io::Result<(Socket, Option<Address>)> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn connect(&self, _address: &Address) -> io::Result<Connecting> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Receives one datagram and its sender.
    fn recv_from(&self, _room: &mut [u8]) -> io::Result<Option<(usize, Option<Address>)>> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn send_to(&self, _data: &[u8], _to: &Address) -> io::Result<Moved> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Takes the urgent byte, if one is there.
    fn recv_urgent(&self) -> io::Result<Option<u8>> {
        Ok(None)
    }

    fn local_address(&self) -> io::Result<Option<Address>> {
        Ok(None)
    }

    fn peer_address(&self) -> io::Result<Option<Address>> {
        Ok(None)
    }
}
