//! The kinds of socket under one name: what the system is asked, and what its errors mean.

use std::io::{self, IoSlice};
use std::net::Shutdown;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

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

/// A non-blocking socket, or what stands for one: nothing above tells them apart.
#[derive(Debug)]
pub(crate) struct Socket {
    pub(crate) transport: Transport,
    pub(crate) family: Family,
    pub(crate) kind: Kind,
}

/// What carries a socket's bytes.
#[derive(Debug)]
pub(crate) enum Transport {
    /// The system.
    System(Source),
    /// A simulated network. Boxed, so that a slot is no larger for it.
    #[cfg(feature = "testing")]
    Memory(Box<crate::testing::End>),
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
    /// A socket of the system's.
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
        Ok(Self::system(Source::new(socket.into()), family, kind))
    }

    pub(crate) const fn system(source: Source, family: Family, kind: Kind) -> Self {
        Self { transport: Transport::System(source), family, kind }
    }

    /// The options of the system's sockets, which others do not have.
    pub(crate) fn options(&self) -> Option<SockRef<'_>> {
        match &self.transport {
            Transport::System(source) => Some(SockRef::from(source)),
            #[cfg(feature = "testing")]
            Transport::Memory(_) => None,
        }
    }

    pub(crate) fn set_linger(&self, linger: Option<Duration>) -> io::Result<()> {
        match &self.transport {
            Transport::System(source) => SockRef::from(source).set_linger(linger),
            #[cfg(feature = "testing")]
            Transport::Memory(end) => {
                end.set_linger(linger);
                Ok(())
            }
        }
    }

    pub(crate) fn is_registered(&self) -> bool {
        match &self.transport {
            Transport::System(source) => source.is_registered(),
            #[cfg(feature = "testing")]
            Transport::Memory(end) => end.is_registered(),
        }
    }

    /// Leaves the poller.
    pub(crate) fn deregister(&mut self) {
        match &mut self.transport {
            Transport::System(source) => source.deregister(),
            #[cfg(feature = "testing")]
            Transport::Memory(end) => end.deregister(),
        }
    }

    pub(crate) fn bind(&self, address: &Address) -> io::Result<()> {
        match &self.transport {
            Transport::System(source) => SockRef::from(source).bind(&address.to_sock_addr()?),
            #[cfg(feature = "testing")]
            Transport::Memory(end) => end.bind(address),
        }
    }

    pub(crate) fn listen(&self, backlog: u32) -> io::Result<()> {
        match &self.transport {
            Transport::System(source) => {
                SockRef::from(source).listen(i32::try_from(backlog).unwrap_or(i32::MAX))
            }
            #[cfg(feature = "testing")]
            Transport::Memory(end) => end.listen(backlog),
        }
    }

    /// Takes a connection, and its peer's address from the same answer: asking later fails when the peer has reset.
    pub(crate) fn accept(&self) -> io::Result<(Self, Option<Address>)> {
        match &self.transport {
            Transport::System(source) => {
                let (fd, peer) = rustix::io::retry_on_intr(|| accept_non_blocking(source.as_fd()))?;
                let peer = match peer.as_ref().and_then(Address::from_any) {
                    None if self.family == Family::Unix => Some(Address::Unnamed),
                    peer => peer,
                };
                Ok((Self::system(Source::new(fd), self.family, Kind::Stream), peer))
            }
            #[cfg(feature = "testing")]
            Transport::Memory(end) => {
                let (end, peer) = end.accept()?;
                Ok((end.into_socket(), Some(peer)))
            }
        }
    }

    pub(crate) fn connect(&self, address: &Address) -> io::Result<Connecting> {
        let connected = match &self.transport {
            Transport::System(source) => SockRef::from(source).connect(&address.to_sock_addr()?),
            #[cfg(feature = "testing")]
            Transport::Memory(end) => return end.connect(address),
        };
        match connected {
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
        let taken = match &self.transport {
            Transport::System(source) => SockRef::from(source).take_error(),
            #[cfg(feature = "testing")]
            Transport::Memory(end) => return end.take_error(),
        };
        match taken {
            Ok(error) => error,
            Err(error) => Some(error),
        }
    }

    pub(crate) fn recv(&self, room: &mut [u8]) -> io::Result<Moved> {
        match &self.transport {
            Transport::System(source) => {
                moved(|| rustix::net::recv(source, &mut *room, RecvFlags::empty()).map(|(_, filled)| filled))
            }
            #[cfg(feature = "testing")]
            Transport::Memory(end) => end.recv(room),
        }
    }

    /// Receives one datagram and its sender.
    pub(crate) fn recv_from(&self, room: &mut [u8]) -> io::Result<Option<(usize, Option<Address>)>> {
        let source = self.datagrams()?;
        let mut sender = None;
        let received = moved(|| {
            let (_, filled, from) = rustix::net::recvfrom(source, &mut *room, RecvFlags::empty())?;
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
        match &self.transport {
            Transport::System(source) => recv_urgent_from(source),
            #[cfg(feature = "testing")]
            Transport::Memory(end) => Ok(end.recv_urgent()),
        }
    }

    pub(crate) fn send(&self, data: &[u8]) -> io::Result<Moved> {
        match &self.transport {
            Transport::System(source) => moved(|| rustix::net::send(source, data, SEND_FLAGS)),
            #[cfg(feature = "testing")]
            Transport::Memory(end) => end.send(&[IoSlice::new(data)]),
        }
    }

    pub(crate) fn send_vectored(&self, slices: &[IoSlice<'_>]) -> io::Result<Moved> {
        match &self.transport {
            Transport::System(source) => moved(|| {
                rustix::net::sendmsg(source, slices, &mut SendAncillaryBuffer::default(), SEND_FLAGS)
            }),
            #[cfg(feature = "testing")]
            Transport::Memory(end) => end.send(slices),
        }
    }

    pub(crate) fn send_to(&self, data: &[u8], to: &Address) -> io::Result<Moved> {
        let source = self.datagrams()?;
        match to {
            Address::Inet(to) => moved(|| rustix::net::sendto(source, data, SEND_FLAGS, to)),
            Address::Unix(path) => {
                let to = rustix::net::SocketAddrUnix::new(path.as_path())?;
                moved(|| rustix::net::sendto(source, data, SEND_FLAGS, &to))
            }
            Address::Unnamed => {
                Err(io::Error::new(io::ErrorKind::InvalidInput, "an unnamed socket has no address"))
            }
        }
    }

    pub(crate) fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        match &self.transport {
            Transport::System(source) => SockRef::from(source).shutdown(how),
            #[cfg(feature = "testing")]
            Transport::Memory(end) => end.shutdown(how),
        }
    }

    pub(crate) fn local_address(&self) -> io::Result<Option<Address>> {
        match &self.transport {
            Transport::System(source) => {
                SockRef::from(source).local_addr().map(|address| Address::from_sock_addr(&address))
            }
            #[cfg(feature = "testing")]
            Transport::Memory(end) => Ok(end.local_address()),
        }
    }

    pub(crate) fn peer_address(&self) -> io::Result<Option<Address>> {
        match &self.transport {
            Transport::System(source) => {
                SockRef::from(source).peer_addr().map(|address| Address::from_sock_addr(&address))
            }
            #[cfg(feature = "testing")]
            Transport::Memory(end) => Ok(end.peer_address()),
        }
    }

    /// What carries datagrams: the system alone.
    #[cfg_attr(not(feature = "testing"), expect(clippy::unnecessary_wraps, reason = "a simulation has none"))]
    fn datagrams(&self) -> io::Result<&Source> {
        match &self.transport {
            Transport::System(source) => Ok(source),
            #[cfg(feature = "testing")]
            Transport::Memory(_) => Err(io::ErrorKind::Unsupported.into()),
        }
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.transport {
            Transport::System(source) => source.as_fd(),
            #[cfg(feature = "testing")]
            Transport::Memory(end) => end.as_fd(),
        }
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

fn recv_urgent_from(source: &Source) -> io::Result<Option<u8>> {
    let mut byte = [0];
    match moved(|| rustix::net::recv(source, &mut byte, RecvFlags::OOB).map(|(_, filled)| filled)) {
        Ok(Moved::Bytes(1)) => Ok(Some(byte[0])),
        Ok(_) => Ok(None),
        // No urgent byte, or it was read already.
        Err(error) if Errno::from_io_error(&error) == Some(Errno::INVAL) => Ok(None),
        Err(error) => Err(error),
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
