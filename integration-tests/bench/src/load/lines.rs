//! A closed loop of lines: every conversation keeps one batch in flight, and takes the whole answer before the next.
//!
//! One thread, on level-triggered epoll: a wait, and for each batch a read, a comparison and a write. Every byte that
//! comes back is compared with what must come.

use std::io::{self, Read, Write};
use std::mem;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use socket2::{Domain, SockRef, Socket, Type};

use super::poll::{READ, Sockets, heard, moved};
use super::secure::Stream;

/// What a conversation sends at once, and what it must hear.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Batch {
    pub(crate) request: Vec<u8>,
    pub(crate) answer: Vec<u8>,
}

/// How one talks to a server.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Dialogue {
    /// What comes before the lines, on a socket that blocks.
    pub(crate) greet: fn(&mut TcpStream) -> io::Result<()>,
    /// Whether it is under TLS.
    pub(crate) is_secure: bool,
    /// Makes a batch of `depth` lines of `length` bytes. Batches of other variants have other bytes.
    pub(crate) batch: fn(variant: usize, depth: usize, length: usize) -> Batch,
}

impl Dialogue {
    /// Lines that end in CRLF, both ways.
    pub(crate) const CRLF: Self =
        Self { greet: |_| Ok(()), is_secure: false, batch: |v, d, l| lines(v, d, l, b"\r\n") };

    /// As [`CRLF`](Self::CRLF), and what comes back ends in LF alone.
    pub(crate) const LF: Self = Self { batch: |v, d, l| lines(v, d, l, b"\n"), ..Self::CRLF };

    /// As [`CRLF`](Self::CRLF), under TLS.
    pub(crate) const SECURE: Self = Self { is_secure: true, ..Self::CRLF };
}

/// The text of one line of a batch.
pub(crate) fn letters(variant: usize, line: usize, length: usize) -> Vec<u8> {
    // The letters go on in other steps where the first ones come again.
    let step = 1 + variant / LETTERS.len();
    (0..length).map(|at| LETTERS[(variant * 7 + line * 3 + at * step) % LETTERS.len()]).collect()
}

/// Lines of letters, no two neighbours alike.
fn lines(variant: usize, depth: usize, length: usize, end: &[u8]) -> Batch {
    let (mut request, mut answer) = (Vec::new(), Vec::new());
    for line in 0..depth {
        let line = letters(variant, line, length);
        request.extend_from_slice(&line);
        request.extend_from_slice(b"\r\n");
        answer.extend_from_slice(&line);
        answer.extend_from_slice(end);
    }
    Batch { request, answer }
}

/// Connections to one server, and what is in flight on them.
pub(crate) struct Lines {
    sockets: Sockets,
    conversations: Vec<Conversation>,
    dialogue: Dialogue,
    batches: Vec<Batch>,
    /// Lines in a batch.
    depth: u64,
    room: Vec<u8>,
    /// Conversations with a batch in flight.
    busy: usize,
    /// Lines that came back, and how long each batch took, in nanoseconds.
    lines: u64,
    times: Histogram<u64>,
}

struct Conversation {
    stream: Stream,
    /// Which batch is in flight, or was.
    variant: usize,
    /// Bytes of it that were sent.
    sent: usize,
    /// Bytes of its answer that came.
    heard: usize,
    since: Instant,
    /// Batches still to be sent behind it.
    left: u64,
}

/// What a stretch of load has shown.
#[derive(Debug)]
pub(crate) struct Seen {
    pub(crate) lines: u64,
    pub(crate) elapsed: Duration,
    /// How long batches took, from the first byte sent to the last heard, in nanoseconds.
    pub(crate) times: Histogram<u64>,
}

impl Lines {
    /// No conversation yet, and batches of `depth` lines of `length` bytes.
    pub(crate) fn new(dialogue: Dialogue, depth: usize, length: usize) -> io::Result<Self> {
        Ok(Self {
            sockets: Sockets::new()?,
            conversations: Vec::new(),
            dialogue,
            batches: (0..VARIANTS).map(|variant| (dialogue.batch)(variant, depth, length)).collect(),
            depth: depth as u64,
            room: vec![0; READ],
            busy: 0,
            lines: 0,
            times: times(),
        })
    }

    /// Connects one more conversation.
    pub(crate) fn connect(&mut self, to: SocketAddr) -> io::Result<()> {
        let place = self.conversations.len();
        let socket = Socket::new(Domain::for_address(to), Type::STREAM, None)?;
        if place >= FROM_ONE_ADDRESS && to.is_ipv4() {
            let group = u32::try_from(place / FROM_ONE_ADDRESS).map_err(io::Error::other)?;
            let source = Ipv4Addr::from(u32::from(Ipv4Addr::LOCALHOST) + group);
            socket.bind(&SocketAddr::from((source, 0)).into())?;
        }
        socket.connect(&to.into())?;
        let mut socket = TcpStream::from(socket);
        socket.set_nodelay(true)?;
        // Closing resets: thousands of ports would be kept for a minute otherwise.
        SockRef::from(&socket).set_linger(Some(Duration::ZERO))?;
        (self.dialogue.greet)(&mut socket)?;
        let stream = if self.dialogue.is_secure { Stream::secure(socket)? } else { Stream::Clear(socket) };
        stream.socket().set_nonblocking(true)?;
        self.sockets.add(stream.socket(), place)?;
        let variant = place % VARIANTS;
        let conversation =
            Conversation { stream, variant, sent: 0, heard: 0, since: Instant::now(), left: 0 };
        self.conversations.push(conversation);
        Ok(())
    }

    /// Connects `count` conversations, each of which does a batch at once; a bounded number is under way at a time.
    pub(crate) fn open(&mut self, to: SocketAddr, count: usize) -> io::Result<Seen> {
        let start = Instant::now();
        for _ in 0..count {
            self.connect(to)?;
            self.begin(self.conversations.len() - 1, 1)?;
            while self.busy >= OPENING {
                self.turn()?;
            }
        }
        while self.busy > 0 {
            self.turn()?;
        }
        Ok(self.seen(start))
    }

    /// Has each conversation do `count` batches, and waits for the last answer.
    pub(crate) fn batches(&mut self, count: u64) -> io::Result<Seen> {
        self.observe(count, |load| load.busy > 0)
    }

    /// Loads the server for a time, and until a line has come back. What is in flight then stays so.
    pub(crate) fn keep_up(&mut self, time: Duration) -> io::Result<Seen> {
        let end = Instant::now() + time;
        self.observe(u64::MAX, |load| load.lines == 0 || Instant::now() < end)
    }

    fn observe(&mut self, batches: u64, goes_on: impl Fn(&Self) -> bool) -> io::Result<Seen> {
        let start = Instant::now();
        for place in 0..self.conversations.len() {
            self.begin(place, batches)?;
        }
        while goes_on(self) {
            self.turn()?;
        }
        Ok(self.seen(start))
    }

    /// What was seen since it was asked last.
    fn seen(&mut self, start: Instant) -> Seen {
        let (lines, times) = (mem::take(&mut self.lines), mem::replace(&mut self.times, times()));
        Seen { lines, elapsed: start.elapsed(), times }
    }

    /// Has one conversation do `count` batches more; one that is in flight is none of them.
    fn begin(&mut self, place: usize, count: u64) -> io::Result<()> {
        let conversation = &mut self.conversations[place];
        let is_busy = conversation.sent > 0;
        conversation.left = count;
        if !is_busy && count > 0 {
            self.busy += 1;
            self.send_next(place, Instant::now())?;
        }
        Ok(())
    }

    fn send_next(&mut self, place: usize, now: Instant) -> io::Result<()> {
        let conversation = &mut self.conversations[place];
        conversation.left -= 1;
        conversation.variant = (conversation.variant + 1) % VARIANTS;
        (conversation.sent, conversation.heard, conversation.since) = (0, 0, now);
        self.send(place)
    }

    /// Sends what the socket takes, and waits for room if that is not all.
    fn send(&mut self, place: usize) -> io::Result<()> {
        let conversation = &mut self.conversations[place];
        let waited = conversation.sent > 0;
        let rest = &self.batches[conversation.variant].request[conversation.sent..];
        let count = if rest.is_empty() { 0 } else { moved(conversation.stream.write(rest))? };
        if conversation.stream.holds_output() {
            moved(conversation.stream.flush().map(|()| 0))?;
        }
        conversation.sent += count;
        let waits = count < rest.len() || conversation.stream.holds_output();
        if waits || waited {
            self.sockets.change(conversation.stream.socket(), place, waits)?;
        }
        Ok(())
    }

    /// Waits for answers, and takes them.
    fn turn(&mut self) -> io::Result<()> {
        self.sockets.wait_for_answers()?;
        let mut number = 0;
        while let Some(ready) = self.sockets.ready(number) {
            if ready.has_room {
                self.send(ready.place)?;
            }
            if ready.has_input {
                self.hear(ready.place)?;
            }
            number += 1;
        }
        Ok(())
    }

    fn hear(&mut self, place: usize) -> io::Result<()> {
        let conversation = &mut self.conversations[place];
        let count = heard(conversation.stream.read(&mut self.room))?;
        if count == 0 {
            return Ok(());
        }
        let answer = &self.batches[conversation.variant].answer;
        let expected = answer[conversation.heard..].get(..count);
        if conversation.sent == 0 || expected != Some(&self.room[..count]) {
            return Err(io::Error::other(format!(
                "a wrong answer, {} bytes into a batch",
                conversation.heard
            )));
        }
        conversation.heard += count;
        if conversation.heard < answer.len() {
            return Ok(());
        }
        let now = Instant::now();
        let time = u64::try_from((now - conversation.since).as_nanos()).unwrap_or(u64::MAX);
        self.times.saturating_record(time);
        self.lines += self.depth;
        if conversation.left > 0 {
            return self.send_next(place, now);
        }
        conversation.sent = 0;
        self.busy -= 1;
        Ok(())
    }
}

/// A histogram of times of up to a minute, in nanoseconds, to three digits.
fn times() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 60_000_000_000, 3).expect("bounds in order")
}

/// How many different batches there are: 64, so that an answer to another batch, or conversation, is a wrong one.
const VARIANTS: usize = 64;

const LETTERS: &[u8] = b"abcdefghijklmnopqrstuvwxyz";

/// How many connections come from one loopback address: 4096, as the kernel searches long for one of its last free ports.
const FROM_ONE_ADDRESS: usize = 4096;

/// How many connections are opened at a time: 64, fewer than any server's backlog.
const OPENING: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_batch_is_like_another() {
        let batches: Vec<Batch> = (0..VARIANTS).map(|variant| lines(variant, 4, 16, b"\r\n")).collect();
        for (at, batch) in batches.iter().enumerate() {
            assert!(!batches[..at].contains(batch), "batch {at} is like one before it");
        }
    }
}
