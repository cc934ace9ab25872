//! Large messages, in a closed loop: every connection sends one, and the next when all of it has come back.
//!
//! One thread, on level-triggered epoll. Every byte that comes back is compared with what must come.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use super::poll::{READ, Sockets, heard, moved};

/// Connections to one server, each with a message in flight.
pub(crate) struct Bulk {
    sockets: Sockets,
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
            sockets: Sockets::new()?,
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
            load.sockets.add(&socket, place)?;
            load.sockets.change(&socket, place, true)?;
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
        self.sockets.wait_for_answers()?;
        let mut number = 0;
        while let Some(ready) = self.sockets.ready(number) {
            if ready.has_input {
                self.hear(ready.place)?;
            }
            if ready.has_room {
                self.send(ready.place)?;
            }
            number += 1;
        }
        Ok(())
    }

    fn send(&mut self, place: usize) -> io::Result<()> {
        let Conversation { socket, start, sent, .. } = &mut self.conversations[place];
        let message = &self.noise[*start..][..self.size];
        *sent += moved((&*socket).write(&message[*sent..]))?;
        if *sent == message.len() {
            self.sockets.change(&*socket, place, false)?;
        }
        Ok(())
    }

    fn hear(&mut self, place: usize) -> io::Result<()> {
        let Conversation { socket, start, sent, heard: done } = &mut self.conversations[place];
        let count = heard((&*socket).read(&mut self.room))?;
        // No more can have come back than was sent.
        let expected = &self.noise[*start..][*done..*sent];
        if !expected.starts_with(&self.room[..count]) {
            return Err(io::Error::other(format!("a wrong answer, {done} bytes into a message")));
        }
        *done += count;
        self.bytes += count as u64;
        if *done == self.size {
            (*start, *sent, *done) = ((*start + STEP) % STARTS, 0, 0);
            self.sockets.change(&*socket, place, true)?;
        }
        Ok(())
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

/// Where a message may begin in the noise: 4096 places, so that one is never taken for another.
const STARTS: usize = 4096;

/// How far apart messages begin that follow one another; odd, so that it takes them through all places.
const STEP: usize = 61;
