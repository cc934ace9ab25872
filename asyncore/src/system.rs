//! A socket of the system's as a [`Carrier`]: the system calls.

use std::io::{self, IoSlice};
use std::net::Shutdown;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{RecvFlags, SendAncillaryBuffer, SendFlags};
use socket2::SockRef;

use crate::Address;
use crate::carrier::Carrier;
use crate::interest::Interest;
use crate::poller::Source;
use crate::socket::{Connecting, Moved, Socket};
use crate::world::World;

impl Carrier for Source {
    fn descriptor(&self) -> BorrowedFd<'_> {
        self.as_fd()
    }

    fn is_registered(&self) -> bool {
        Self::is_registered(self)
    }

    fn register(&mut self, world: &World, key: usize, interest: Interest) -> io::Result<()> {
        self.join(world.poller()?, key, interest)
    }

    fn deregister(&mut self) {
        self.leave();
    }

    #[inline]
    fn recv(&mut self, room: &mut [u8]) -> io::Result<Moved> {
        moved(|| rustix::net::recv(&*self, &mut *room, RecvFlags::empty()).map(|(_, filled)| filled))
    }

    #[inline]
    fn send(&mut self, data: &[u8]) -> io::Result<Moved> {
        moved(|| rustix::net::send(&*self, data, SEND_FLAGS))
    }

    #[inline]
    fn send_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<Moved> {
        moved(|| rustix::net::sendmsg(&*self, slices, &mut SendAncillaryBuffer::default(), SEND_FLAGS))
    }

    fn shutdown(&mut self, how: Shutdown) -> io::Result<()> {
        SockRef::from(&*self).shutdown(how)
    }

    fn take_error(&self) -> Option<io::Error> {
        match SockRef::from(self).take_error() {
            Ok(error) => error,
            Err(error) => Some(error),
        }
    }

    fn options(&self) -> Option<SockRef<'_>> {
        Some(SockRef::from(self))
    }

    fn set_linger(&self, linger: Option<Duration>) -> io::Result<()> {
        SockRef::from(self).set_linger(linger)
    }

    fn bind(&self, address: &Address) -> io::Result<()> {
        SockRef::from(self).bind(&address.to_sock_addr()?)
    }

    fn listen(&self, backlog: u32) -> io::Result<()> {
        SockRef::from(self).listen(i32::try_from(backlog).unwrap_or(i32::MAX))
    }

    fn accept(&self) -> io::Result<(Socket, Option<Address>)> {
        let (fd, peer) = rustix::io::retry_on_intr(|| accept_non_blocking(self.as_fd()))?;
        Ok((Socket::System(Self::new(fd)), peer.as_ref().and_then(Address::from_any)))
    }

    fn connect(&self, address: &Address) -> io::Result<Connecting> {
        match SockRef::from(self).connect(&address.to_sock_addr()?) {
            Ok(()) => Ok(Connecting::Done),
            Err(error) => match Errno::from_io_error(&error) {
                // An interrupted connect goes on by itself. A Unix-domain connect never goes on: there AGAIN says
                // that the listener's queue is full.
                Some(Errno::INPROGRESS | Errno::INTR | Errno::ALREADY) => Ok(Connecting::Pending),
                Some(Errno::ISCONN) => Ok(Connecting::Done),
                Some(Errno::AGAIN) if matches!(address, Address::Unix(_)) => {
                    Err(io::Error::new(io::ErrorKind::ConnectionRefused, "the listener's queue is full"))
                }
                _ => Err(error),
            },
        }
    }

    fn recv_from(&self, room: &mut [u8]) -> io::Result<Option<(usize, Option<Address>)>> {
        let mut sender = None;
        let received = moved(|| {
            let (_, filled, from) = rustix::net::recvfrom(self, &mut *room, RecvFlags::empty())?;
            sender = from.as_ref().and_then(Address::from_any);
            Ok(filled)
        })?;
        Ok(match received {
            Moved::Bytes(filled) => Some((filled.min(room.len()), sender)),
            Moved::WouldBlock => None,
        })
    }

    fn send_to(&self, data: &[u8], to: &Address) -> io::Result<Moved> {
        match to {
            Address::Inet(to) => moved(|| rustix::net::sendto(self, data, SEND_FLAGS, to)),
            Address::Unix(path) => {
                let to = rustix::net::SocketAddrUnix::new(path.as_path())?;
                moved(|| rustix::net::sendto(self, data, SEND_FLAGS, &to))
            }
            Address::Unnamed => {
                Err(io::Error::new(io::ErrorKind::InvalidInput, "an unnamed socket has no address"))
            }
        }
    }

    fn recv_urgent(&self) -> io::Result<Option<u8>> {
        let mut byte = [0];
        match moved(|| rustix::net::recv(self, &mut byte, RecvFlags::OOB).map(|(_, filled)| filled)) {
            Ok(Moved::Bytes(1)) => Ok(Some(byte[0])),
            Ok(_) => Ok(None),
            // No urgent byte, or it was read already.
            Err(error) if Errno::from_io_error(&error) == Some(Errno::INVAL) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn local_address(&self) -> io::Result<Option<Address>> {
        SockRef::from(self).local_addr().map(|address| Address::from_sock_addr(&address))
    }

    fn peer_address(&self) -> io::Result<Option<Address>> {
        SockRef::from(self).peer_addr().map(|address| Address::from_sock_addr(&address))
    }
}

/// Runs one system call again when a signal interrupted it; would-block is an answer, not an error.
pub(crate) fn moved(mut call: impl FnMut() -> rustix::io::Result<usize>) -> io::Result<Moved> {
    loop {
        match call() {
            Ok(bytes) => return Ok(Moved::Bytes(bytes)),
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => return Ok(Moved::WouldBlock),
            Err(error) => return Err(error.into()),
        }
    }
}

#[cfg(not(target_vendor = "apple"))]
fn accept_non_blocking(
    fd: BorrowedFd<'_>,
) -> rustix::io::Result<(OwnedFd, Option<rustix::net::SocketAddrAny>)> {
    use rustix::net::SocketFlags;
    rustix::net::acceptfrom_with(fd, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC)
}

#[cfg(target_vendor = "apple")]
fn accept_non_blocking(
    fd: BorrowedFd<'_>,
) -> rustix::io::Result<(OwnedFd, Option<rustix::net::SocketAddrAny>)> {
    let (fd, peer) = rustix::net::acceptfrom(fd)?;
    rustix::io::fcntl_setfd(&fd, rustix::io::FdFlags::CLOEXEC)?;
    rustix::io::ioctl_fionbio(&fd, true)?;
    // Fails when the peer has reset already, which is then the first thing a read finds.
    let _ = SockRef::from(&fd).set_nosigpipe(true);
    Ok((fd, peer))
}

/// A write to a lost connection is an error, never a signal.
#[cfg(not(target_vendor = "apple"))]
const SEND_FLAGS: SendFlags = SendFlags::NOSIGNAL;
#[cfg(target_vendor = "apple")]
const SEND_FLAGS: SendFlags = SendFlags::empty();
