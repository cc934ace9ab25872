//! What the tests of both crates share: maps that honour the chosen wait, peers with a deadline, recorders.
//!
//! Every wait here has a deadline, and what runs into it says what it was waiting for.

#![expect(clippy::missing_panics_doc, reason = "a helper panics when its test has failed")]

use std::cell::RefCell;
use std::fmt;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use asyncore::{
    Address, Channel, ChannelId, CloseReason, Context, Dispatcher, Error, Family, Map, Options, Received,
    Result, Wait,
};

mod capture;
mod certificates;
mod script;
mod secure_peer;
mod terminal;
mod tools;

pub use capture::captured;
pub use certificates::Certificates;
pub use script::{Call, Script};
pub use secure_peer::SecurePeer;
pub use terminal::Terminal;
pub use tools::is_installed;

/// Every snippet of the documents is a test: one line a page.
#[cfg(doctest)]
mod pages {
    #[doc = include_str!("../../README.md")]
    mod readme {}
    #[doc = include_str!("../../asyncore/README.md")]
    mod asyncore {}
    #[doc = include_str!("../../asynchat/README.md")]
    mod asynchat {}
    #[doc = include_str!("../../docs/guide.md")]
    mod guide {}
    #[doc = include_str!("../../docs/from-python.md")]
    mod from_python {}
    #[doc = include_str!("../../docs/hazards.md")]
    mod hazards {}
    #[doc = include_str!("../../docs/testing.md")]
    mod testing {}
    #[doc = include_str!("../../docs/design.md")]
    mod design {}
}

/// How long a test waits for anything before it fails: 20 s, far beyond what a busy machine needs.
pub const DEADLINE: Duration = Duration::from_secs(20);

/// Default options, with the portable wait when `ASYNCORE_TEST_WAIT=portable` is in the environment.
#[must_use]
pub fn options() -> Options {
    let mut options = Options::default();
    match std::env::var("ASYNCORE_TEST_WAIT").as_deref() {
        Ok("portable") => options.wait = Wait::Portable,
        Ok("direct") | Err(_) => {}
        Ok(other) => panic!("ASYNCORE_TEST_WAIT is {other:?}: expected direct or portable"),
    }
    options
}

/// An empty map with [`options`].
#[must_use]
pub fn map<A: 'static>() -> Map<A> {
    Map::with_options(options()).expect("a map")
}

/// Turns the loop until `done` says so; fails with `what` at the deadline.
pub fn turn_until<A: 'static>(
    map: &mut Map<A>,
    app: &mut A,
    what: &str,
    mut done: impl FnMut(&mut Map<A>, &mut A) -> bool,
) {
    let deadline = Instant::now() + DEADLINE;
    while !done(map, app) {
        assert!(Instant::now() < deadline, "timed out waiting for {what}; {map:?}");
        map.poll(app, Some(Duration::from_millis(20))).expect("a turn");
    }
}

/// Turns the loop until nothing happens any more: ten turns in a row without an event or a callback's work.
pub fn settle<A: 'static>(map: &mut Map<A>, app: &mut A) {
    let deadline = Instant::now() + DEADLINE;
    let mut quiet = 0;
    while quiet < 10 {
        assert!(Instant::now() < deadline, "the map does not settle: {map:?}");
        let before = map.counters().events;
        map.poll(app, Some(Duration::from_millis(1))).expect("a turn");
        quiet = if map.counters().events == before { quiet + 1 } else { 0 };
    }
}

/// Runs the loop until its last channel is gone; fails at the deadline.
pub fn run_to_the_end<A: 'static>(map: &mut Map<A>, app: &mut A) {
    turn_until(map, app, "the last channel to go", |map, _| map.is_empty());
}

/// Runs a test whose failure would be to wait for ever; it fails at the deadline.
pub fn in_time<R: Send + 'static>(test: impl FnOnce() -> R + Send + 'static) -> R {
    let (done, result) = mpsc::channel();
    let runner = thread::spawn(move || {
        // Whoever waits has given up when this fails.
        drop(done.send(test()));
    });
    match result.recv_timeout(DEADLINE) {
        Ok(result) => result,
        Err(mpsc::RecvTimeoutError::Timeout) => panic!("a wait did not end"),
        Err(mpsc::RecvTimeoutError::Disconnected) => {
            let Err(panic) = runner.join() else { panic!("a test ended without a word") };
            std::panic::resume_unwind(panic)
        }
    }
}

/// The kinds of network that stream tests run over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "tests match on it")]
pub enum Net {
    /// TCP over 127.0.0.1.
    V4,
    /// TCP over `[::1]`.
    V6,
    /// A Unix-domain path.
    Unix,
}

/// Runs a test over every kind of network that the machine has; without IPv6 it says so, and in CI it fails.
pub fn each_net(test: impl Fn(Net)) {
    for net in [Net::V4, Net::V6, Net::Unix] {
        if net == Net::V6 && TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_err() {
            assert!(std::env::var_os("CI").is_none(), "this machine has no IPv6 loopback");
            eprintln!("skipped over IPv6: this machine has no IPv6 loopback");
            continue;
        }
        println!("over {net:?}");
        test(net);
    }
}

/// What a conversation runs over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "tests match on it")]
pub enum Stream {
    /// A network, in clear text.
    Clear(Net),
    /// TLS over TCP over 127.0.0.1.
    Tls,
}

/// Runs a test over every kind of stream: as [`each_net`], and over TLS.
pub fn each_stream(test: impl Fn(Stream)) {
    each_net(|net| test(Stream::Clear(net)));
    println!("over TLS");
    test(Stream::Tls);
}

impl Net {
    /// The family of its sockets.
    #[must_use]
    pub const fn family(self) -> Family {
        match self {
            Self::V4 => Family::V4,
            Self::V6 => Family::V6,
            Self::Unix => Family::Unix,
        }
    }

    /// An address to bind: a free port, or a path in a new folder that lives as long as the second value.
    #[must_use]
    pub fn free_address(self) -> (Address, Option<tempfile::TempDir>) {
        match self {
            Self::V4 => (SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into(), None),
            Self::V6 => (SocketAddr::from((Ipv6Addr::LOCALHOST, 0)).into(), None),
            Self::Unix => {
                let folder = tempfile::tempdir().expect("a temporary folder");
                (folder.path().join("socket").into(), Some(folder))
            }
        }
    }

    /// A listening dispatcher, the address to reach it at, and the folder to keep for as long.
    #[must_use]
    pub fn listener(self) -> (Dispatcher, Address, Option<tempfile::TempDir>) {
        let (address, folder) = self.free_address();
        let listener = Dispatcher::listener(address).expect("a listener");
        let address = listener.local_addr().expect("an address").expect("a known family");
        (listener, address, folder)
    }

    /// An address where nobody listens.
    #[must_use]
    pub fn dead_address(self) -> (Address, Option<tempfile::TempDir>) {
        match self {
            // The port stays known to be free for as long as the test is likely to take.
            Self::V4 | Self::V6 => {
                let (listener, address, folder) = self.listener();
                drop(listener);
                (address, folder)
            }
            Self::Unix => self.free_address(),
        }
    }
}

/// The other end of a channel: a blocking socket whose reads and writes fail at the deadline.
#[derive(Debug)]
#[expect(clippy::exhaustive_enums, reason = "tests match on it")]
pub enum Peer {
    /// TCP.
    Tcp(TcpStream),
    /// Unix-domain.
    Unix(UnixStream),
    /// A client under TLS.
    Tls(Box<SecurePeer>),
}

impl Peer {
    /// Connects to a listener; the loop need not turn for it.
    #[must_use]
    pub fn connect(address: &Address) -> Self {
        let peer = match address {
            Address::Inet(address) => Self::Tcp(TcpStream::connect(address).expect("a connection")),
            Address::Unix(path) => Self::Unix(UnixStream::connect(path).expect("a connection")),
            other => panic!("cannot connect to {other}"),
        };
        peer.with_deadline()
    }

    /// A peer, and the socket to add to a map on the other side.
    #[must_use]
    pub fn pair() -> (Self, UnixStream) {
        let (peer, here) = UnixStream::pair().expect("a pair");
        (Self::Unix(peer).with_deadline(), here)
    }

    /// As [`pair`](Self::pair), over TCP: `(peer, here)`.
    #[must_use]
    pub fn tcp_pair() -> (Self, TcpStream) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a listener");
        let peer = TcpStream::connect(listener.local_addr().expect("an address")).expect("a connection");
        let (here, _) = listener.accept().expect("a connection");
        (Self::Tcp(peer).with_deadline(), here)
    }

    fn with_deadline(self) -> Self {
        match &self {
            Self::Tcp(socket) => {
                socket.set_nodelay(true).expect("an option");
                socket.set_read_timeout(Some(DEADLINE)).expect("an option");
                socket.set_write_timeout(Some(DEADLINE)).expect("an option");
            }
            Self::Unix(socket) => {
                socket.set_read_timeout(Some(DEADLINE)).expect("an option");
                socket.set_write_timeout(Some(DEADLINE)).expect("an option");
            }
            // The socket below has them.
            Self::Tls(_) => {}
        }
        self
    }

    /// Begins TLS with a server that is `localhost`; the handshake is done when this returns, for which its loop has to turn.
    #[must_use]
    pub fn under_tls(self, certificates: &Certificates) -> Self {
        Self::Tls(Box::new(SecurePeer::begin(self, certificates)))
    }

    /// Sends all of `data`.
    pub fn send(&mut self, data: &[u8]) {
        self.write_all(data).expect("the peer to take the data");
    }

    /// Reads exactly `count` bytes.
    #[must_use]
    pub fn read_bytes(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        self.read_exact(&mut bytes).expect("as many bytes");
        bytes
    }

    /// Reads to the end of file.
    #[must_use]
    pub fn read_rest(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.read_to_end(&mut bytes).expect("an end of file");
        bytes
    }

    /// Ends the writing side.
    pub fn shutdown_write(&mut self) {
        match self {
            Self::Tcp(socket) => socket.shutdown(Shutdown::Write),
            Self::Unix(socket) => socket.shutdown(Shutdown::Write),
            Self::Tls(peer) => peer.shutdown_write(),
        }
        .expect("a shutdown");
    }

    /// Closes with a reset instead of an end (on a Unix-domain socket: simply closes).
    pub fn reset(self) {
        if let Self::Tcp(socket) = &self {
            socket2::SockRef::from(socket).set_linger(Some(Duration::ZERO)).expect("an option");
        }
    }

    /// Sends one urgent (out-of-band) byte, which only TCP has.
    pub fn send_urgent(&self, byte: u8) {
        let Self::Tcp(socket) = self else { panic!("only TCP has urgent data") };
        assert_eq!(socket2::SockRef::from(socket).send_out_of_band(&[byte]).expect("a send"), 1);
    }

    /// Does not block from now on.
    pub fn set_nonblocking(&self) {
        match self {
            Self::Tcp(socket) => socket.set_nonblocking(true),
            Self::Unix(socket) => socket.set_nonblocking(true),
            Self::Tls(_) => panic!("a peer under TLS blocks"),
        }
        .expect("an option");
    }
}

impl Read for Peer {
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(socket) => socket.read(room),
            Self::Unix(socket) => socket.read(room),
            Self::Tls(peer) => peer.read(room),
        }
    }
}

impl Write for Peer {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(socket) => socket.write(data),
            Self::Unix(socket) => socket.write(data),
            Self::Tls(peer) => peer.write(data),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What a [`Recorder`] saw, shared between recorders and the test.
#[derive(Clone, Debug, Default)]
pub struct Log(Rc<RefCell<Vec<String>>>);

impl Log {
    /// An empty log.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a line.
    pub fn add(&self, line: impl fmt::Display) {
        self.0.borrow_mut().push(line.to_string());
    }

    /// Every line so far.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        self.0.borrow().clone()
    }

    /// Takes every line so far.
    #[must_use]
    pub fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.borrow_mut())
    }

    /// Whether a line is there.
    #[must_use]
    pub fn has(&self, line: &str) -> bool {
        self.0.borrow().iter().any(|seen| seen == line)
    }

    /// How many lines begin so.
    #[must_use]
    pub fn count(&self, start: &str) -> usize {
        self.0.borrow().iter().filter(|seen| seen.starts_with(start)).count()
    }
}

/// A raw channel that records its callbacks: `connect`, `read TEXT`, `write`, `expt`, `eof`, `drained`, `shutdown`,
/// `error TEXT`, `close REASON`. With a name, each line begins with it.
///
/// Reads are recorded one line each; a read that finds nothing is not.
#[derive(Debug)]
pub struct Recorder {
    name: String,
    log: Log,
    /// What `readable` answers.
    pub readable: bool,
    /// What `writable` answers.
    pub writable: bool,
    /// Whether what is read is sent back.
    pub echoes: bool,
    /// Whether the default end of file applies: close when done.
    pub closes_at_eof: bool,
    /// Whether an error closes, as by default.
    pub closes_at_error: bool,
}

impl Recorder {
    /// A recorder without a name.
    #[must_use]
    pub fn new(log: &Log) -> Self {
        Self::named("", log)
    }

    /// A recorder whose lines begin with `name` and a space.
    #[must_use]
    pub fn named(name: &str, log: &Log) -> Self {
        let name = if name.is_empty() { String::new() } else { format!("{name} ") };
        let log = log.clone();
        Self {
            name,
            log,
            readable: true,
            writable: false,
            echoes: false,
            closes_at_eof: true,
            closes_at_error: true,
        }
    }

    fn add(&self, line: impl fmt::Display) {
        self.log.add(format_args!("{}{line}", self.name));
    }
}

impl<A: 'static> Channel<A> for Recorder {
    fn readable(&self) -> bool {
        self.readable
    }

    fn writable(&self) -> bool {
        self.writable
    }

    fn handle_read(&mut self, cx: &mut Context<'_, A>) -> Result {
        while let Received::Data(data) = cx.map.recv(cx.id, 65536)? {
            self.add(format_args!("read {}", data.escape_ascii()));
            if self.echoes {
                cx.map.push(cx.id, &data);
            }
        }
        Ok(())
    }

    fn handle_write(&mut self, _cx: &mut Context<'_, A>) -> Result {
        self.add("write");
        Ok(())
    }

    fn handle_expt(&mut self, cx: &mut Context<'_, A>) -> Result {
        self.add("expt");
        cx.map.recv_urgent(cx.id).map(drop)
    }

    fn handle_connect(&mut self, _cx: &mut Context<'_, A>) -> Result {
        self.add("connect");
        Ok(())
    }

    fn handle_eof(&mut self, cx: &mut Context<'_, A>) -> Result {
        self.add("eof");
        if self.closes_at_eof {
            cx.map.close_when_done(cx.id);
        }
        Ok(())
    }

    fn handle_drained(&mut self, _cx: &mut Context<'_, A>) -> Result {
        self.add("drained");
        Ok(())
    }

    fn handle_shutdown(&mut self, cx: &mut Context<'_, A>) -> Result {
        self.add("shutdown");
        cx.map.close_when_done(cx.id);
        Ok(())
    }

    fn handle_error(&mut self, cx: &mut Context<'_, A>, error: &Error) {
        self.add(format_args!("error {error}"));
        if self.closes_at_error {
            cx.map.close(cx.id);
        }
    }

    fn handle_close(&mut self, _cx: &mut Context<'_, A>, reason: CloseReason) {
        self.add(format_args!("close {reason:?}"));
    }
}

/// Every way to cut `bytes` into pieces that are not empty.
///
/// # Panics
///
/// With more than 16 bytes: that would be more than 32,768 ways.
#[must_use]
pub fn every_split(bytes: &[u8]) -> Vec<Vec<&[u8]>> {
    assert!(bytes.len() <= 16, "too many ways to cut {} bytes", bytes.len());
    if bytes.is_empty() {
        return vec![vec![]];
    }
    let cuts = bytes.len() - 1;
    (0..1_u32 << cuts)
        .map(|mask| {
            let mut pieces = Vec::new();
            let mut start = 0;
            for at in 1..bytes.len() {
                if mask & (1 << (at - 1)) != 0 {
                    pieces.push(&bytes[start..at]);
                    start = at;
                }
            }
            pieces.push(&bytes[start..]);
            pieces
        })
        .collect()
}

/// The ids of a map, by slot.
#[must_use]
pub fn ids<A: 'static>(map: &Map<A>) -> Vec<ChannelId> {
    map.iter().map(|(id, _)| id).collect()
}

/// Bytes of this process that are resident in memory; `None` where the system does not tell, or cannot now.
#[must_use]
pub fn resident() -> Option<usize> {
    status("VmRSS:")
}

/// The most bytes of this process that ever were resident; `None` as for [`resident`].
#[must_use]
pub fn peak() -> Option<usize> {
    status("VmHWM:")
}

fn status(name: &str) -> Option<usize> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    Some(line.trim().strip_suffix(" kB")?.parse::<usize>().ok()? << 10)
}

/// Open descriptors of this process; `None` where the system does not tell.
#[must_use]
pub fn descriptors() -> Option<usize> {
    // The folder itself is one of them.
    Some(std::fs::read_dir("/proc/self/fd").ok()?.count() - 1)
}
