//! The kinds of socket under one name, and what their errors mean.

use std::io::{self, IoSlice};
use std::ops::{Deref, DerefMut};

use rustix::io::Errno;

use crate::Address;
use crate::carrier::Carrier;
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
    /// No socket and no address: a pipe, a terminal, or another file that tells when it is ready.
    File,
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
pub(crate) enum Socket {
    /// A socket of the system's: known by its type, so that reads and writes are plain calls.
    System(Source),
    /// Anything else. A box in a box is one word, so that a slot is no larger for it.
    Other(Box<Box<dyn Carrier>>),
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
            Family::File => {
                let text = "a file is opened, not created as a socket: see Dispatcher::from_descriptor";
                return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
            }
        };
        let ty = match kind {
            Kind::Stream => socket2::Type::STREAM,
            Kind::Datagram => socket2::Type::DGRAM,
        };
        let socket = socket2::Socket::new(domain, ty, None)?;
        socket.set_nonblocking(true)?;
        Ok(Self::System(Source::new(socket.into())))
    }

    pub(crate) fn other(carrier: impl Carrier + 'static) -> Self {
        Self::Other(Box::new(Box::new(carrier)))
    }

    #[inline]
    pub(crate) fn is_registered(&self) -> bool {
        match self {
            Self::System(source) => source.is_registered(),
            Self::Other(other) => other.is_registered(),
        }
    }

    #[inline]
    pub(crate) fn recv(&mut self, room: &mut [u8]) -> io::Result<Moved> {
        match self {
            Self::System(source) => source.recv(room),
            Self::Other(other) => other.recv(room),
        }
    }

    #[inline]
    pub(crate) fn send(&mut self, data: &[u8]) -> io::Result<Moved> {
        match self {
            Self::System(source) => source.send(data),
            Self::Other(other) => other.send(data),
        }
    }

    #[inline]
    pub(crate) fn send_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<Moved> {
        match self {
            Self::System(source) => source.send_vectored(slices),
            Self::Other(other) => other.send_vectored(slices),
        }
    }
}

impl Socket {
    /// Whether it has input that no event tells of: never, for the system's.
    #[inline]
    pub(crate) fn has_more(&mut self) -> bool {
        match self {
            Self::System(_) => false,
            Self::Other(other) => other.holds_input(),
        }
    }

    /// Puts another carrier over it.
    ///
    /// # Errors
    ///
    /// If there is no descriptor left for what stands in its place meanwhile.
    #[cfg(feature = "tls")]
    pub(crate) fn cover<C: Carrier + 'static>(&mut self, over: impl FnOnce(Self) -> C) -> io::Result<()> {
        let socket = std::mem::replace(self, crate::absent::Absent::socket()?);
        *self = Self::other(over(socket));
        Ok(())
    }
}

/// All that is not asked with every read and write.
impl Deref for Socket {
    type Target = dyn Carrier;

    fn deref(&self) -> &Self::Target {
        match self {
            Self::System(source) => source,
            Self::Other(other) => &***other,
        }
    }
}

impl DerefMut for Socket {
    fn deref_mut(&mut self) -> &mut Self::Target {
        match self {
            Self::System(source) => source,
            Self::Other(other) => &mut ***other,
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
