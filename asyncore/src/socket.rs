//! The kinds of socket under one name: what the system is asked, and what its errors mean.

use std::io::{self, IoSlice};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{RecvFlags, SendAncillaryBuffer, SendFlags};
use socket2::SockRef;

use crate::Address;
use crate::poller::Source;

/// The family of a socket's addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
    /// Unix-domain: paths in the file system, within one machine.
    Unix,
}

impl Family {
    /// The family that an address belongs to.
    #[must_use]
    pub const fn of(address: &Address) -> Self {
        match address {
            Address::Inet(address) if address.is_ipv4() => Self::V4,
            Address::Inet(_) => Self::V6,
            Address::Unix(_) | Address::Unnamed => Self::Unix,
        }
    }
}

/// What a socket carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Kind {
    /// A stream of bytes: TCP, or a Unix-domain stream.
    Stream,
    /// Single messages: UDP, or Unix-domain datagrams.
    Datagram,
}

/// A non-blocking socket of any kind, or any other source of bytes that stands for one.
///
/// What lies over it (TLS) or in its place (a socket in memory) belongs here, beside `source`, so that nothing above
/// tells them apart.
#[derive(Debug)]
pub(crate) struct Socket {
    pub(crate) source: Source,
    pub(crate) family: Family,
    pub(crate) kind: Kind,
}

/// How far a connect came at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Connecting {
    Done,
    Pending,
}

/// What came of a read or write that did not fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Moved {
    /// So many bytes; 0 is the end of a stream, or an empty datagram.
    Bytes(usize),
    WouldBlock,
}

impl Socket {
    pub(crate) fn create(family: Family, kind: Kind) -> io::Result<Self> {
        let domain = match family {
            Family::V4 => socket2::Domain::IPV4,
            Family::V6 => socket2::Domain::IPV6,
            Family::Unix => socket2::Domain::UNIX,
        };
        let ty = match kind {
            Kind::Stream => socket2::Type::STREAM,
            Kind::Datagram => socket2::Type::DGRAM,
        };
        let socket = socket2::Socket::new(domain, ty, None)?;
        socket.set_nonblocking(true)?;
        Ok(Self { source: Source::new(socket.into()), family, kind })
    }

    pub(crate) fn options(&self) -> SockRef<'_> {
        SockRef::from(&self.source)
    }

    pub(crate) fn bind(&self, address: &Address) -> io::Result<()> {
        self.options().bind(&address.to_sock_addr()?)
    }

    pub(crate) fn listen(&self, backlog: u32) -> io::Result<()> {
        self.options().listen(i32::try_from(backlog).unwrap_or(i32::MAX))
    }

    /// Takes a connection, and its peer's address from the same answer: asking later fails when the peer has reset.
    pub(crate) fn accept(&self) -> io::Result<(Self, Option<Address>)> {
        let (fd, peer) = rustix::io::retry_on_intr(|| accept_non_blocking(self.source.as_fd()))?;
        let peer = match peer.as_ref().and_then(Address::from_any) {
            None if self.family == Family::Unix => Some(Address::Unnamed),
            peer => peer,
        };
        Ok((Self { source: Source::new(fd), family: self.family, kind: Kind::Stream }, peer))
    }

    pub(crate) fn connect(&self, address: &Address) -> io::Result<Connecting> {
        match self.options().connect(&address.to_sock_addr()?) {
            Ok(()) => Ok(Connecting::Done),
            Err(error) => match Errno::from_io_error(&error) {
                // An interrupted connect goes on by itself. A Unix-domain connect never goes on: there AGAIN says
                // that the listener's queue is full.
                Some(Errno::INPROGRESS | Errno::INTR | Errno::ALREADY) => Ok(Connecting::Pending),
                Some(Errno::ISCONN) => Ok(Connecting::Done),
                Some(Errno::AGAIN) if self.family == Family::Unix => {
                    Err(io::Error::new(io::ErrorKind::ConnectionRefused, "the listener's queue is full"))
                }
                _ => Err(error),
            },
        }
    }

    pub(crate) fn take_error(&self) -> Option<io::Error> {
        match self.options().take_error() {
            Ok(error) => error,
            Err(error) => Some(error),
        }
    }

    pub(crate) fn recv(&self, room: &mut [u8]) -> io::Result<Moved> {
        moved(|| rustix::net::recv(&self.source, &mut *room, RecvFlags::empty()).map(|(_, filled)| filled))
    }

    /// Receives one datagram and its sender.
    pub(crate) fn recv_from(&self, room: &mut [u8]) -> io::Result<Option<(usize, Option<Address>)>> {
        let mut sender = None;
        let received = moved(|| {
            let (_, filled, from) = rustix::net::recvfrom(&self.source, &mut *room, RecvFlags::empty())?;
            sender = from.as_ref().and_then(Address::from_any);
            Ok(filled)
        })?;
        Ok(match received {
            Moved::Bytes(filled) => Some((filled.min(room.len()), sender)),
            Moved::WouldBlock => None,
        })
    }

    /// Takes the urgent byte, if one is there.
    pub(crate) fn recv_urgent(&self) -> io::Result<Option<u8>> {
        let mut byte = [0];
        match moved(|| rustix::net::recv(&self.source, &mut byte, RecvFlags::OOB).map(|(_, filled)| filled)) {
            Ok(Moved::Bytes(1)) => Ok(Some(byte[0])),
            Ok(_) => Ok(None),
            // No urgent byte, or it was read already.
            Err(error) if Errno::from_io_error(&error) == Some(Errno::INVAL) => Ok(None),
            Err(error) => Err(error),
        }
    }

    pub(crate) fn send(&self, data: &[u8]) -> io::Result<Moved> {
        moved(|| rustix::net::send(&self.source, data, SEND_FLAGS))
    }

    pub(crate) fn send_vectored(&self, slices: &[IoSlice<'_>]) -> io::Result<Moved> {
        moved(|| rustix::net::sendmsg(&self.source, slices, &mut SendAncillaryBuffer::default(), SEND_FLAGS))
    }

    pub(crate) fn send_to(&self, data: &[u8], to: &Address) -> io::Result<Moved> {
        match to {
            Address::Inet(to) => moved(|| rustix::net::sendto(&self.source, data, SEND_FLAGS, to)),
            Address::Unix(path) => {
                let to = rustix::net::SocketAddrUnix::new(path.as_path())?;
                moved(|| rustix::net::sendto(&self.source, data, SEND_FLAGS, &to))
            }
            Address::Unnamed => {
                Err(io::Error::new(io::ErrorKind::InvalidInput, "an unnamed socket has no address"))
            }
        }
    }

    pub(crate) fn shutdown(&self, how: std::net::Shutdown) -> io::Result<()> {
        self.options().shutdown(how)
    }

    pub(crate) fn local_address(&self) -> io::Result<Option<Address>> {
        self.options().local_addr().map(|address| Address::from_sock_addr(&address))
    }

    pub(crate) fn peer_address(&self) -> io::Result<Option<Address>> {
        self.options().peer_addr().map(|address| Address::from_sock_addr(&address))
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.source.as_fd()
    }
}

/// What an accept that failed asks of its listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AcceptError {
    /// That one connection is lost; the next may be fine.
    Next,
    /// No descriptor is left; trying at once again would only burn time.
    NoDescriptor,
    /// No memory is left; as above.
    NoMemory,
    /// The listener itself is broken.
    Fatal,
}

impl AcceptError {
    pub(crate) fn classify(error: &io::Error) -> Self {
        let Some(errno) = Errno::from_io_error(error) else { return Self::Fatal };
        match errno {
            // The errors of a connection that is already lost come out of accept: accept(2), "Error handling".
            Errno::CONNABORTED
            | Errno::PROTO
            | Errno::PERM
            | Errno::NETDOWN
            | Errno::NOPROTOOPT
            | Errno::HOSTDOWN
            | Errno::HOSTUNREACH
            | Errno::OPNOTSUPP
            | Errno::NETUNREACH
            | Errno::TIMEDOUT => Self::Next,
            #[cfg(target_os = "linux")]
            Errno::NONET => Self::Next,
            Errno::MFILE | Errno::NFILE => Self::NoDescriptor,
            Errno::NOBUFS | Errno::NOMEM => Self::NoMemory,
            _ => Self::Fatal,
        }
    }
}

/// Whether a write failed only because the system is short of memory for now.
pub(crate) fn is_short_of_memory(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::NOBUFS | Errno::NOMEM))
}

/// Runs one system call again when a signal interrupted it; would-block is an answer, not an error.
fn moved(mut call: impl FnMut() -> rustix::io::Result<usize>) -> io::Result<Moved> {
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
