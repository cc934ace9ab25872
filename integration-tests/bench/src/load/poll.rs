//! Which sockets are ready, as every load asks: level-triggered epoll, and a place in a list for each socket.

use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, Event, EventData, EventFlags};
use rustix::time::Timespec;

/// The sockets of a load, and those that were found ready.
pub(crate) struct Sockets {
    epoll: OwnedFd,
    events: Vec<Event>,
}

impl Sockets {
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self { epoll: epoll::create(epoll::CreateFlags::CLOEXEC)?, events: Vec::with_capacity(EVENTS) })
    }

    /// Watches a socket for input.
    pub(crate) fn add(&self, socket: impl AsFd, place: usize) -> io::Result<()> {
        Ok(epoll::add(&self.epoll, socket, EventData::new_u64(place as u64), EventFlags::IN)?)
    }

    /// Has it watched for input, and for room to write if it `waits` for that.
    pub(crate) fn change(&self, socket: impl AsFd, place: usize, waits: bool) -> io::Result<()> {
        let flags = if waits { EventFlags::IN | EventFlags::OUT } else { EventFlags::IN };
        Ok(epoll::modify(&self.epoll, socket, EventData::new_u64(place as u64), flags)?)
    }

    /// Waits for a time: whether that has brought anything. An interruption has, though no socket is ready.
    pub(crate) fn wait(&mut self, time: Duration) -> io::Result<bool> {
        self.events.clear();
        let time = Timespec::try_from(time).map_err(io::Error::other)?;
        match epoll::wait(&self.epoll, spare_capacity(&mut self.events), Some(&time)) {
            Ok(count) => Ok(count > 0),
            Err(rustix::io::Errno::INTR) => Ok(true),
            Err(error) => Err(error.into()),
        }
    }

    /// Waits, and gives a server up that says nothing.
    pub(crate) fn wait_for_answers(&mut self) -> io::Result<()> {
        if self.wait(PATIENCE)? { Ok(()) } else { Err(io::Error::other("no answer for ten seconds")) }
    }

    /// What the wait has found, by number: whose socket it is.
    pub(crate) fn ready(&self, number: usize) -> Option<Ready> {
        let Event { flags, data } = *self.events.get(number)?;
        Some(Ready {
            place: data.u64().try_into().expect("a place in a list"),
            has_input: flags != EventFlags::OUT,
            has_room: flags.contains(EventFlags::OUT),
        })
    }
}

/// A socket that is ready.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ready {
    pub(crate) place: usize,
    /// It can be read, or has an error.
    pub(crate) has_input: bool,
    /// It can be written.
    pub(crate) has_room: bool,
}

/// What a socket that does not block has moved: nothing, if it was not ready.
pub(crate) fn moved(result: io::Result<usize>) -> io::Result<usize> {
    match result {
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => Ok(0),
        result => result,
    }
}

/// What was read: nothing, if nothing has come; a server that closes is an error.
pub(crate) fn heard(result: io::Result<usize>) -> io::Result<usize> {
    match result {
        Ok(0) => Err(io::Error::other("the server has closed a connection")),
        result => moved(result),
    }
}

/// How many events a wait takes: 1024, as the servers.
const EVENTS: usize = 1024;

/// How much a read takes: 256 KiB, more than any batch and a quarter of a large message.
pub(crate) const READ: usize = 256 << 10;

/// How long a server may say nothing: ten seconds, a thousand times the slowest answer.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// What is not counted at the start of a round: 0.3 s, in which buffers and the system's windows grow.
pub(crate) const WARM_UP: Duration = Duration::from_millis(300);
