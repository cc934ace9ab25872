//! Large messages, in a closed loop: every connection sends one, and the next when all of it has come back.
//!
//! One thread, on level-triggered epoll. Every byte that comes back is compared with what must come.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, Event, EventData, EventFlags};
use rustix::time::Timespec;

/// Connections to one server, each with a message in flight.
pub(crate) struct Bulk {
    epoll: OwnedFd,
    events: Vec<Event>,
    conversations: Vec<Conversation>,
    /// Of which every message is a part.
    noise: Vec<u8>,
    size: usize,
    room: Vec<u8>,
    /// Bytes that came back.
    bytes: u64,
}

struct Conversation {
    socket: TcpStream,
    /// Where the message in flight begins in the noise.
    start: usize,
    /// Bytes of it that were sent, and that came back.
    sent: usize,
    heard: usize,
}

impl Bulk {
    /// So many connections, for messages of `size` bytes.
    pub(crate) fn connect(to: SocketAddr, connections: usize, size: usize) -> io::Result<Self> {
        let mut load = Self {
            epoll: epoll::create(epoll::CreateFlags::CLOEXEC)?,
            events: Vec::with_capacity(connections),
            conversations: Vec::new(),
            noise: noise(size + STARTS),
            size,
            room: vec![0; READ],
            bytes: 0,
        };
        for place in 0..connections {
            let socket = TcpStream::connect(to)?;
            socket.set_nodelay(true)?;
            socket.set_nonblocking(true)?;
            epoll::add(&load.epoll, &socket, EventData::new_u64(place as u64), BOTH)?;
            load.conversations.push(Conversation { socket, start: place, sent: 0, heard: 0 });
        }
        Ok(load)
    }

    /// Loads the server for a time, and until something has come back: the bytes that came back, and how long it was.
    pub(crate) fn keep_up(&mut self, time: Duration) -> io::Result<(u64, Duration)> {
        let start = Instant::now();
        self.bytes = 0;
        while self.bytes == 0 || start.elapsed() < time {
            self.turn()?;
        }
        Ok((self.bytes, start.elapsed()))
    }

    fn turn(&mut self) -> io::Result<()> {
        self.events.clear();
        match epoll::wait(&self.epoll, spare_capacity(&mut self.events), Some(&PATIENCE)) {
            Ok(0) => return Err(io::Error::other("no answer for ten seconds")),
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
        for at in 0..self.events.len() {
            let Event { flags, data } = self.events[at];
            let place = usize::try_from(data.u64()).map_err(io::Error::other)?;
            if flags != EventFlags::OUT {
                self.hear(place)?;
            }
            if flags.contains(EventFlags::OUT) {
                self.send(place)?;
            }
        }
        Ok(())
    }

    fn send(&mut self, place: usize) -> io::Result<()> {
        let Conversation { socket, start, sent, .. } = &mut self.conversations[place];
        let message = &self.noise[*start..][..self.size];
        *sent += (&*socket).write(&message[*sent..]).or_else(nothing_yet)?;
        if *sent == message.len() {
            epoll::modify(&self.epoll, &*socket, EventData::new_u64(place as u64), EventFlags::IN)?;
        }
        Ok(())
    }

    fn hear(&mut self, place: usize) -> io::Result<()> {
        let Conversation { socket, start, sent, heard } = &mut self.conversations[place];
        let count = match (&*socket).read(&mut self.room) {
            Ok(0) => return Err(io::Error::other("the server has closed a connection")),
            read => read.or_else(nothing_yet)?,
        };
        // No more can have come back than was sent.
        let expected = &self.noise[*start..][*heard..*sent];
        if !expected.starts_with(&self.room[..count]) {
            return Err(io::Error::other(format!("a wrong answer, {heard} bytes into a message")));
        }
        *heard += count;
        self.bytes += count as u64;
        if *heard == self.size {
            (*start, *sent, *heard) = ((*start + STEP) % STARTS, 0, 0);
            epoll::modify(&self.epoll, &*socket, EventData::new_u64(place as u64), BOTH)?;
        }
        Ok(())
    }
}

fn nothing_yet(error: io::Error) -> io::Result<usize> {
    match error.kind() {
        ErrorKind::WouldBlock | ErrorKind::Interrupted => Ok(0),
        _ => Err(error),
    }
}

/// Bytes without a pattern, the same in every run.
fn noise(size: usize) -> Vec<u8> {
    let mut state = 1_u64;
    let next = || {
        // Marsaglia's xorshift.
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_be_bytes()[0]
    };
    std::iter::repeat_with(next).take(size).collect()
}

const BOTH: EventFlags = EventFlags::IN.union(EventFlags::OUT);

/// Where a message may begin in the noise: 4096 places, so that one is never taken for another.
const STARTS: usize = 4096;

/// How far apart messages begin that follow one another; odd, so that it takes them through all places.
const STEP: usize = 61;

/// How much a read takes: 256 KiB, so that a message takes few.
const READ: usize = 256 << 10;

/// How long a server may say nothing: ten seconds, a thousand times the slowest answer.
const PATIENCE: Timespec = Timespec { tv_sec: 10, tv_nsec: 0 };
