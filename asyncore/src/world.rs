//! The world that a map lives in: the one place where it asks for sockets, for events and for the time.

use std::io;
use std::time::{Duration, Instant};

use crate::limits::Wait;
use crate::poller::{Event, Poller, Waker};
use crate::resolve::Lookup;
use crate::socket::Socket;
use crate::workers::Work;
use crate::{Family, Kind};

/// Where sockets, events and the time come from.
#[derive(Debug)]
pub(crate) enum World {
    /// The system.
    System(Poller),
    /// A simulated network with a clock of its own.
    #[cfg(feature = "testing")]
    Simulated(crate::testing::Network),
}

impl World {
    pub(crate) fn system(wait: Wait) -> io::Result<Self> {
        Poller::new(wait).map(Self::System)
    }

    /// The time, which never goes back. A turn goes by the time of its beginning, what is set in it by that of the call.
    pub(crate) fn now(&self) -> Instant {
        match self {
            Self::System(_) => system_time(),
            #[cfg(feature = "testing")]
            Self::Simulated(network) => network.now(),
        }
    }

    pub(crate) fn create_socket(&self, family: Family, kind: Kind) -> io::Result<Socket> {
        match self {
            Self::System(_) => Socket::create(family, kind),
            #[cfg(feature = "testing")]
            Self::Simulated(network) => network.create_socket(kind),
        }
    }

    /// The poller of the system's sockets, which a simulated map does not have.
    #[cfg_attr(not(feature = "testing"), expect(clippy::unnecessary_wraps, reason = "a simulation has none"))]
    pub(crate) fn poller(&self) -> io::Result<&Poller> {
        match self {
            Self::System(poller) => Ok(poller),
            #[cfg(feature = "testing")]
            Self::Simulated(_) => Err(io::Error::new(
                io::ErrorKind::Unsupported,
                "a simulated map takes simulated sockets only",
            )),
        }
    }

    /// Waits for events and appends them to `batch`; the end of the timeout and a notification append nothing.
    pub(crate) fn wait(&mut self, batch: &mut Vec<Event>, timeout: Option<Duration>) -> io::Result<()> {
        match self {
            Self::System(poller) => poller.wait(batch, timeout),
            #[cfg(feature = "testing")]
            Self::Simulated(network) => network.wait(batch, timeout),
        }
    }

    /// What ends a wait from another thread; a simulated one waits for nobody.
    pub(crate) fn waker(&self) -> Option<Waker> {
        match self {
            Self::System(poller) => Some(poller.waker()),
            #[cfg(feature = "testing")]
            Self::Simulated(_) => None,
        }
    }

    /// Takes blocking work if it is to be done on the loop's thread, or else gives it back.
    pub(crate) fn take_work(&self, work: Work) -> Option<Work> {
        match self {
            Self::System(_) => Some(work),
            #[cfg(feature = "testing")]
            Self::Simulated(network) => {
                network.submit(work);
                None
            }
        }
    }

    /// What finds out the addresses of a host.
    pub(crate) fn lookup(&self, host: String, port: u16) -> Lookup {
        match self {
            Self::System(_) => Lookup::System(host, port),
            #[cfg(feature = "testing")]
            Self::Simulated(network) => Lookup::Simulated(network.addresses_of(&host, port)),
        }
    }

    /// A descriptor to give up when they run out, so that a connection can be taken and told so.
    pub(crate) fn reserve(&self) -> Option<Reserve> {
        match self {
            Self::System(_) => std::fs::File::open("/dev/null").ok().map(|file| Reserve::System(file.into())),
            #[cfg(feature = "testing")]
            Self::Simulated(network) => network.reserve().map(Reserve::Simulated),
        }
    }
}

pub(crate) fn system_time() -> Instant {
    Instant::now()
}

/// A descriptor that is kept open, and gives its place when it is dropped.
#[derive(Debug)]
#[expect(dead_code, reason = "held for the place they take")]
pub(crate) enum Reserve {
    System(std::os::fd::OwnedFd),
    #[cfg(feature = "testing")]
    Simulated(crate::testing::Descriptor),
}
