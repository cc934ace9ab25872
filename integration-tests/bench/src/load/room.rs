//! A room in a closed loop: some of its members talk, and all hear all.
//!
//! A talker says its lines at once, and says more when every member has heard them. One thread, on level-triggered epoll.
//! What a member hears is compared, byte by byte, with what the first to come that far has heard; and that, a line at a
//! time, with what was said.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use socket2::SockRef;

use super::lines::letters;
use super::poll::{PATIENCE, READ, Sockets, heard};

/// Members of a room on one server, and what is on its way to them.
pub(crate) struct Room {
    sockets: Sockets,
    members: Vec<Member>,
    /// The first of the members.
    talkers: Vec<Talker>,
    /// Lines that a talker says at once.
    depth: usize,
    /// Bytes of a line, without its end.
    length: usize,
    stream: Stream,
    buffer: Vec<u8>,
    /// Talkers whose lines are not all heard.
    busy: usize,
    deliveries: u64,
}

struct Member {
    socket: TcpStream,
    /// How many bytes it has heard.
    position: u64,
}

#[derive(Clone, Default)]
struct Talker {
    said: u64,
    /// How many of its lines the first listener has heard.
    heard: u64,
    /// How many every member has heard.
    delivered: u64,
    /// How many times it is to say more.
    left: u64,
}

/// What the room hears: the same for all.
#[derive(Default)]
struct Stream {
    /// What the first to come that far has heard, from `start` on.
    bytes: Vec<u8>,
    start: u64,
    /// How a line ends.
    end: &'static [u8],
    /// The lines that not everybody has heard: who said it, and how many have heard it.
    lines: VecDeque<(usize, usize)>,
    /// The number of the first of them.
    first: u64,
}

/// What a stretch of load has shown.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seen {
    /// Lines, each counted once for every member that has heard it.
    pub(crate) deliveries: u64,
    pub(crate) elapsed: Duration,
}

impl Room {
    /// Fills a room, and waits until every member hears what the last one says.
    pub(crate) fn open(
        server: SocketAddr,
        members: usize,
        talkers: usize,
        depth: usize,
        length: usize,
    ) -> io::Result<Self> {
        let mut room = Self {
            sockets: Sockets::new()?,
            members: Vec::new(),
            talkers: vec![Talker::default(); talkers.min(members)],
            depth,
            length: length.max(SHORTEST),
            stream: Stream::default(),
            buffer: vec![0; READ],
            busy: 0,
            deliveries: 0,
        };
        for place in 0..members {
            let socket = TcpStream::connect(server)?;
            socket.set_nodelay(true)?;
            // Closing resets: thousands of ports would be kept for a minute otherwise.
            SockRef::from(&socket).set_linger(Some(Duration::ZERO))?;
            socket.set_nonblocking(true)?;
            room.sockets.add(&socket, place)?;
            room.members.push(Member { socket, position: 0 });
        }
        room.greet()?;
        Ok(room)
    }

    /// Has the last member say something until all have heard it, and learns how the server ends a line.
    fn greet(&mut self) -> io::Result<()> {
        let deadline = Instant::now() + PATIENCE;
        let mut heard = vec![Vec::new(); self.members.len()];
        for round in 0_u32.. {
            let greeting = format!("greeting {round}");
            if let Some(last) = self.members.last_mut() {
                last.socket.write_all(format!("{greeting}\r\n").as_bytes())?;
            }
            let end_of = |heard: &Vec<u8>| {
                let is_end = |end: &&&[u8]| heard.ends_with(&[greeting.as_bytes(), end].concat());
                ENDS.iter().find(is_end).copied()
            };
            while self.sockets.wait(Duration::from_millis(200))? {
                let mut number = 0;
                while let Some(ready) = self.sockets.ready(number) {
                    let count = self.read(ready.place)?;
                    heard[ready.place].extend_from_slice(&self.buffer[..count]);
                    number += 1;
                }
                if let Some(Some(end)) = heard.last().map(end_of)
                    && heard.iter().all(|heard| end_of(heard).is_some())
                {
                    self.stream.end = end;
                    return Ok(());
                }
            }
            if Instant::now() > deadline {
                break;
            }
        }
        Err(io::Error::other("not every member hears the others"))
    }

    /// Has each talker speak `times` times, and waits until all of it is heard.
    pub(crate) fn speak(&mut self, times: u64) -> io::Result<Seen> {
        self.observe(times, |room| room.busy > 0)
    }

    /// Keeps the talkers speaking for a time, and until a member has heard something. What is on its way then stays so.
    pub(crate) fn keep_up(&mut self, time: Duration) -> io::Result<Seen> {
        let end = Instant::now() + time;
        self.observe(u64::MAX, |load| load.deliveries == 0 || Instant::now() < end)
    }

    fn observe(&mut self, times: u64, goes_on: impl Fn(&Self) -> bool) -> io::Result<Seen> {
        let start = Instant::now();
        for place in 0..self.talkers.len() {
            let talker = &mut self.talkers[place];
            talker.left = times;
            if talker.delivered == talker.said {
                self.say(place)?;
            }
        }
        while goes_on(self) {
            self.sockets.wait_for_answers()?;
            let mut number = 0;
            while let Some(ready) = self.sockets.ready(number) {
                let count = self.read(ready.place)?;
                self.hear(ready.place, count)?;
                number += 1;
            }
        }
        Ok(Seen { deliveries: std::mem::take(&mut self.deliveries), elapsed: start.elapsed() })
    }

    /// Has a talker say its next lines, if it is to say more.
    fn say(&mut self, place: usize) -> io::Result<()> {
        let talker = &mut self.talkers[place];
        if talker.left == 0 {
            return Ok(());
        }
        talker.left -= 1;
        self.busy += 1;
        let mut lines = Vec::new();
        for _ in 0..self.depth {
            lines.extend_from_slice(&line(place, talker.said, self.length));
            lines.extend_from_slice(b"\r\n");
            talker.said += 1;
        }
        if self.members[place].socket.write(&lines)? < lines.len() {
            return Err(io::Error::other("a talker says more at once than its socket takes"));
        }
        Ok(())
    }

    /// Reads what a member hears: how many bytes came.
    fn read(&mut self, place: usize) -> io::Result<usize> {
        heard(self.members[place].socket.read(&mut self.buffer))
    }

    /// Takes what a member has heard, and lets those speak whose lines all have heard now.
    fn hear(&mut self, place: usize, count: usize) -> io::Result<()> {
        let size = (self.length + self.stream.end.len()) as u64;
        let position = self.members[place].position;
        self.stream.hear(position, &self.buffer[..count])?;
        self.check_lines(size)?;
        let next = position + count as u64;
        self.members[place].position = next;
        let (before, after) = (position / size, next / size);
        self.deliveries += after - before;
        for number in before..after {
            let (talker, heard) = self.stream.line(number);
            *heard += 1;
            if *heard == self.members.len() {
                let place = *talker;
                let talker = &mut self.talkers[place];
                talker.delivered += 1;
                if talker.delivered == talker.said {
                    self.busy -= 1;
                    self.say(place)?;
                }
            }
        }
        self.stream.forget(self.members.len(), size);
        Ok(())
    }

    /// Compares the lines that have been heard for the first time with what was said.
    fn check_lines(&mut self, size: u64) -> io::Result<()> {
        while let Some(heard) = self.stream.next_line(size) {
            let (text, end) = heard.split_at(self.length);
            let digits = std::str::from_utf8(&text[..TALKER_DIGITS]).ok();
            let place: usize = digits.and_then(|digits| digits.parse().ok()).unwrap_or(usize::MAX);
            let is_said = self.talkers.get(place).is_some_and(|talker| {
                talker.heard < talker.said && line(place, talker.heard, self.length) == text
            });
            if !is_said || end != self.stream.end {
                return Err(io::Error::other("a line was heard that nobody said, or at a wrong time"));
            }
            self.talkers[place].heard += 1;
            self.stream.lines.push_back((place, 0));
        }
        Ok(())
    }
}

impl Stream {
    /// Compares what a member heard from a position on with what others heard there.
    fn hear(&mut self, position: u64, heard: &[u8]) -> io::Result<()> {
        let at = index(position - self.start);
        let known = (self.bytes.len() - at).min(heard.len());
        if self.bytes[at..at + known] != heard[..known] {
            return Err(io::Error::other("two members have heard different things"));
        }
        self.bytes.extend_from_slice(&heard[known..]);
        Ok(())
    }

    /// The first line that is whole and not among the lines yet.
    fn next_line(&self, size: u64) -> Option<&[u8]> {
        let from = (self.first + self.lines.len() as u64) * size - self.start;
        self.bytes.get(index(from)..index(from + size))
    }

    /// A line that not everybody has heard: who said it, and how many have heard it.
    fn line(&mut self, number: u64) -> &mut (usize, usize) {
        &mut self.lines[index(number - self.first)]
    }

    /// Drops what all have heard.
    fn forget(&mut self, members: usize, size: u64) {
        while self.lines.front().is_some_and(|(_, heard)| *heard == members) {
            self.lines.pop_front();
            self.first += 1;
        }
        let past = index(self.first * size - self.start);
        if past > READ {
            self.bytes.drain(..past);
            self.start += past as u64;
        }
    }
}

/// The text of a line: who says it, its number, and letters.
fn line(place: usize, number: u64, length: usize) -> Vec<u8> {
    let mut text = format!("{place:0TALKER_DIGITS$} {number:010} ").into_bytes();
    text.extend_from_slice(&letters(place, 0, length - text.len()));
    text
}

fn index(number: u64) -> usize {
    number.try_into().expect("an index")
}

/// How lines may end.
const ENDS: &[&[u8]] = &[b"\r\n", b"\n"];

/// The digits of a talker's number: 5, for as many as there are ports.
const TALKER_DIGITS: usize = 5;

/// The shortest line: 17 bytes, which hold the two numbers.
const SHORTEST: usize = 17;
