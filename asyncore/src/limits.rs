//! [`Limits`] of a channel, [`ListenOptions`] of listeners and [`Options`] of a map: every bound, its default and why.

use std::num::NonZero;
use std::sync::OnceLock;
use std::time::Duration;

use bytes::Bytes;

use crate::Rate;

/// The bounds of one channel, shared by all that a listener accepts.
///
/// ```
/// use asyncore::{Limits, OnFull};
///
/// let mut limits = Limits::default();
/// limits.output = 96 << 10;
/// limits.on_full = OnFull::Refuse;
/// assert_eq!(limits.high_mark, 64 << 10);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// Most bytes of output that may be queued, [`OUTPUT_LIMIT`] by default. Producers count what they have made so
    /// far, and 1 KiB each.
    pub output: usize,
    /// What happens to a push that would go over [`output`](Self::output).
    pub on_full: OnFull,
    /// Queued output above this many bytes counts as high; when it has been, and falls back to
    /// [`low_mark`](Self::low_mark), `handle_drained` is called. [`HIGH_MARK`] by default.
    pub high_mark: usize,
    /// See [`high_mark`](Self::high_mark). [`LOW_MARK`] by default.
    pub low_mark: usize,
    /// Most bytes that one write hands to the socket, [`AC_OUT_BUFFER_SIZE`] by default; 0 counts as 1.
    pub ac_out_buffer_size: usize,
    /// Most bytes that a channel may receive in one turn, [`READ_BUDGET`] by default; 0 counts as 1.
    pub read_budget: usize,
    /// How long a channel that closes when done waits, after its last byte, for the peer to close.
    /// [`LINGER_TIME`] by default.
    pub linger_time: Duration,
    /// How many bytes of late input such a channel reads and drops. [`LINGER_BYTES`] by default.
    pub linger_bytes: usize,
    /// How long the output of such a channel may stand still before it is given up. [`DRAIN_TIME`] by default. It moves
    /// when the socket takes more, which needs a part of the system's buffer to be free: a peer that reads, but less
    /// than about a megabyte in this time, may be given up all the same.
    pub drain_time: Duration,
    /// How long a connect may take, from [`Map::connect`](crate::Map::connect) or
    /// [`connect_host`](crate::Map::connect_host) on; the system gives up after minutes.
    ///
    /// This and the other timeouts are `None` by default, never: what is too long is the protocol's to say. They are
    /// told by [`Channel::handle_timeout`](crate::Channel::handle_timeout), and can be set for one channel with
    /// [`Map::set_timeout`](crate::Map::set_timeout). They count in milliseconds, at least one. A channel that closes when
    /// done has its drain and linger times instead.
    pub connect_time: Option<Duration>,
    /// How long a TLS handshake may take, [`HANDSHAKE_TIME`] by default.
    pub handshake_time: Duration,
    /// How long a channel may stay without a byte either way, at most 24 days. It costs nothing for each byte: the time
    /// of the last one is looked at when this much has passed. A peer that sends a byte now and then is never idle:
    /// see [`min_rate`](Self::min_rate) and [`total_time`](Self::total_time).
    pub idle_time: Option<Duration>,
    /// How long a channel may receive nothing while it takes input. A pause of its own, or a handler that is not
    /// [`readable`](crate::Channel::readable), is not held against the peer: the clock stands still meanwhile.
    pub read_time: Option<Duration>,
    /// How long queued output may stand still because the peer does not take it. What a channel sends past the queue,
    /// with [`Map::send`](crate::Map::send), is not seen.
    pub write_time: Option<Duration>,
    /// How long a channel may last, from when it was connected, or added connected.
    pub total_time: Option<Duration>,
    /// How much must be received at least: so many bytes in each window, one after the other, while the channel takes
    /// input.
    pub min_rate: Option<Rate>,
    /// How fast a channel receives at most, `None` by default. It begins with a whole window's bytes, which are there again
    /// after as long a rest; when none is left, reading pauses, and goes on with an eighth of them. What the system's
    /// buffers hold comes on top at first. A datagram is received whole, and what it takes too much is waited for. Zero
    /// bytes are none at all, a window of zero is no limit.
    pub read_rate: Option<Rate>,
    /// How fast a channel sends at most, otherwise as [`read_rate`](Self::read_rate). What is queued waits, and so does a
    /// channel that calls [`Map::send`](crate::Map::send); its peer is not held to account for it.
    pub write_rate: Option<Rate>,
    /// Whether accepted and connecting TCP sockets send small writes at once (`TCP_NODELAY`). True by default:
    /// the loop gathers a turn's output in one write already, and Nagle's wait would only add to it.
    pub nodelay: bool,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            output: OUTPUT_LIMIT,
            on_full: OnFull::Close,
            high_mark: HIGH_MARK,
            low_mark: LOW_MARK,
            ac_out_buffer_size: AC_OUT_BUFFER_SIZE,
            read_budget: READ_BUDGET,
            linger_time: LINGER_TIME,
            linger_bytes: LINGER_BYTES,
            drain_time: DRAIN_TIME,
            connect_time: None,
            handshake_time: HANDSHAKE_TIME,
            idle_time: None,
            read_time: None,
            write_time: None,
            total_time: None,
            min_rate: None,
            read_rate: None,
            write_rate: None,
            nodelay: true,
        }
    }
}

/// What happens to output that would go over a channel's limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum OnFull {
    /// The channel is closed with [`CloseReason::OutputFull`](crate::CloseReason::OutputFull): its peer does not read.
    Close,
    /// The push is refused as a whole and answers [`Pushed::Full`](crate::Pushed::Full); the channel stays open.
    Refuse,
}

/// What listeners take, and whom they turn away, for [`Map::listen_with`](crate::Map::listen_with).
///
/// The counts are of all listeners of one call together. A connection counts from its accept until its socket is
/// closed, wherever that is by then.
///
/// ```
/// use asyncore::{Channel, ListenOptions, Map, WhenFull};
/// # struct Session;
/// # impl Channel for Session {}
///
/// let mut options = ListenOptions::default();
/// options.total = 1000;
/// options.per_address = 10;
/// options.when_full = WhenFull::Refuse;
/// options.refusal = "421 too many connections, try again later\r\n".into();
///
/// let mut map: Map = Map::new()?;
/// map.listen_with("127.0.0.1:0", options, |_peer| Session)?;
/// # Ok::<(), asyncore::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ListenOptions {
    /// The limits of what is accepted; `None`, the default, is the map's.
    pub limits: Option<Limits>,
    /// Most connections that are open at a time; without a bound by default. See [`when_full`](Self::when_full).
    pub total: usize,
    /// Most connections of one address that are open at a time; without a bound by default. One more is refused. Peers
    /// without an IP address, those of a Unix-domain listener, count in the total alone.
    pub per_address: usize,
    /// How many bits of an IPv4 address make it another one: 32 by default, all of them. An IPv4 address that is mapped
    /// into IPv6 counts as what it is.
    pub prefix_v4: u8,
    /// How many bits of an IPv6 address make it another one: 64 by default, which is what one network, and often one
    /// customer, is given (RFC 6177).
    pub prefix_v6: u8,
    /// Most connections that a listener accepts in one turn, those that it refuses included; `None`, the default, is the
    /// map's [`accept_budget`](Options::accept_budget). 0 counts as 1.
    pub accept_budget: Option<usize>,
    /// Connections that the system queues before they are accepted, [`BACKLOG`] by default; the system has a bound of
    /// its own.
    pub backlog: u32,
    /// Whether other sockets that say so too may listen at the same address, and share what comes (`SO_REUSEPORT`): one
    /// for each loop of [`serve_threads`](crate::serve_threads). False by default. See
    /// [`Dispatcher::set_reuse_port`](crate::Dispatcher::set_reuse_port).
    pub reuse_port: bool,
    /// The last line to who is refused. Empty by default: closed without a word.
    ///
    /// It arrives also behind what the peer has sent already, by [`close_when_done`](crate::Map::close_when_done): a
    /// peer that does not go costs a descriptor for the `linger_time` of its [`limits`](Self::limits). [`REFUSALS`] at a
    /// time are given that; who is refused beyond is sent the line once, and closed.
    pub refusal: Bytes,
    /// TLS on what is accepted, from its first byte on (feature `tls`). `None`, the default, is clear text. Who is refused
    /// is closed without a [`refusal`](Self::refusal) then.
    #[cfg(feature = "tls")]
    pub tls: Option<crate::TlsServer>,
    /// What happens when [`total`](Self::total) is reached; [`WhenFull::Wait`] by default.
    pub when_full: WhenFull,
}

impl Default for ListenOptions {
    fn default() -> Self {
        Self {
            limits: None,
            total: usize::MAX,
            per_address: usize::MAX,
            prefix_v4: 32,
            prefix_v6: 64,
            accept_budget: None,
            backlog: BACKLOG,
            reuse_port: false,
            refusal: Bytes::new(),
            #[cfg(feature = "tls")]
            tls: None,
            when_full: WhenFull::Wait,
        }
    }
}

/// What listeners do that have as many connections open as they may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum WhenFull {
    /// They pause: who comes waits in the system's queue until a connection closes.
    Wait,
    /// They accept, and turn away with the [`refusal`](ListenOptions::refusal).
    Refuse,
}

/// The bounds and choices of one map, for [`Map::with_options`](crate::Map::with_options).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Options {
    /// How the loop waits for events.
    pub wait: Wait,
    /// Most channels in the map before its listeners wait for one to close. By default the process's limit of
    /// descriptors less [`SPARE_DESCRIPTORS`], though never less than half of that limit.
    pub connections: usize,
    /// Most bytes of output queued in all channels together, [`MAP_OUTPUT_LIMIT`] by default. Over it, the channel
    /// with the most queued bytes is closed with [`CloseReason::OutputFull`](crate::CloseReason::OutputFull).
    pub output: usize,
    /// Most connections that one listener accepts in one turn, [`ACCEPT_BUDGET`] by default; 0 counts as 1.
    pub accept_budget: usize,
    /// Most closures and pushes of other threads that wait for the loop, [`POSTS`] by default; 0 counts as 1. The bytes
    /// of such pushes are bounded by [`output`](Self::output).
    pub posts: usize,
    /// Most threads for [blocking work](crate::Map::spawn_blocking); 0 counts as 1. By default
    /// [`WORKERS_BESIDE_PROCESSORS`] more than the machine has processors, and [`MOST_WORKERS`] at most. They are started
    /// when there is work for them.
    pub workers: usize,
    /// Most pieces of blocking work that are under way: that wait for a thread, run, or have a result which waits for
    /// one before it. Names that are [looked up](crate::Map::connect_host) are among it. [`JOBS`] by default; 0 counts
    /// as 1.
    pub jobs: usize,
    /// Whether the map measures how long turns and callbacks take: [`Map::timings`](crate::Map::timings). False by default;
    /// it costs two looks at the clock a callback.
    pub timings: bool,
    /// With [`timings`](Self::timings), a callback that takes longer than this is warned of through `tracing`, with its
    /// name, its channel and that one's handler. [`SLOW_CALLBACK`] by default; `Duration::MAX` warns of none.
    pub slow_callback: Duration,
    /// The limits of channels that were not given their own.
    pub limits: Limits,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            wait: Wait::Direct,
            connections: default_connections(),
            output: MAP_OUTPUT_LIMIT,
            accept_budget: ACCEPT_BUDGET,
            posts: POSTS,
            workers: default_workers(),
            jobs: JOBS,
            timings: false,
            slow_callback: SLOW_CALLBACK,
            limits: Limits::default(),
        }
    }
}

/// How the loop waits for events.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Wait {
    /// On the poller's own descriptor, one system call a turn, where the system has one (Linux); elsewhere as
    /// [`Portable`](Self::Portable).
    Direct,
    /// Through the poller, which costs five system calls a turn on Linux.
    Portable,
}

fn default_connections() -> usize {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    let limit = limit.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX));
    limit.saturating_sub(SPARE_DESCRIPTORS).max(limit / 2)
}

fn default_workers() -> usize {
    // Asked once: the answer is spelt out in files.
    static WORKERS: OnceLock<usize> = OnceLock::new();
    *WORKERS.get_or_init(|| {
        let processors = std::thread::available_parallelism().map_or(1, NonZero::get);
        processors.saturating_add(WORKERS_BESIDE_PROCESSORS).min(MOST_WORKERS)
    })
}

/// Most bytes of output queued in one channel: 1 MiB, a burst of any line protocol's replies. Redis gives a
/// subscriber 32 MB, Ergo a chat user 96 KiB, NATS a client 64 MiB.
pub const OUTPUT_LIMIT: usize = 1 << 20;

/// Where queued output begins to count as high: 64 KiB, one full write.
pub const HIGH_MARK: usize = 64 << 10;

/// Where output that was high counts as drained: 16 KiB, so that the socket stays busy while more is made.
pub const LOW_MARK: usize = 16 << 10;

/// Most bytes that one write hands to the socket: 64 KiB, past which a larger write no longer saves time.
pub const AC_OUT_BUFFER_SIZE: usize = 64 << 10;

/// Most bytes that a channel receives in one turn: 256 KiB, four reads of the usual size; then the others get theirs.
pub const READ_BUDGET: usize = 256 << 10;

/// How long a TLS handshake may take: 30 s, several round trips of a slow line. nginx and HAProxy wait as long or longer for
/// a client; without a bound a silent peer would hold its place for ever.
pub const HANDSHAKE_TIME: Duration = Duration::from_secs(30);

/// How long a channel lingers for its peer's end: 2 s, several round trips of a slow line.
pub const LINGER_TIME: Duration = Duration::from_secs(2);

/// How much late input a lingering channel drops: 1 MiB, what a client may have had under way.
pub const LINGER_BYTES: usize = 1 << 20;

/// How long draining output may stand still: 30 s, after which the peer is taken for gone.
pub const DRAIN_TIME: Duration = Duration::from_secs(30);

/// Most bytes of output queued in a whole map: 256 MiB, 256 channels at their limit.
pub const MAP_OUTPUT_LIMIT: usize = 256 << 20;

/// Most connections a listener accepts in a turn: 64, enough to empty a burst quickly and few enough that those
/// already connected do not wait for it.
pub const ACCEPT_BUDGET: usize = 64;

/// Most refused connections that linger at a time, so that the refusal is heard, for the listeners of one call: 64, as
/// many as a listener accepts in a turn. Who has said nothing yet hears it without that.
pub const REFUSALS: usize = 64;

/// Most posts of other threads that wait for the loop: 65,536, 64 turns' worth, which the loop serves in milliseconds; one
/// that is that far behind does not catch up.
pub const POSTS: usize = 1 << 16;

/// Threads for blocking work beside one for each processor: 4, since such work waits more than it computes. It is the
/// rule of Python's `ThreadPoolExecutor`, as [`MOST_WORKERS`] is.
pub const WORKERS_BESIDE_PROCESSORS: usize = 4;

/// Most threads for blocking work by default: 32, past which a large machine gains little and each costs a stack.
pub const MOST_WORKERS: usize = 32;

/// Most pieces of blocking work under way: 4096, a piece for each connection of a full backlog.
pub const JOBS: usize = 4096;

/// Connections that the system queues for a listener before it is served: 4096. With the usual 128 a burst of
/// connects overflows and stalls clients for a second (the SYN's retry).
pub const BACKLOG: u32 = 4096;

/// How long a callback may take before it is warned of: 100 ms, which a person at the other end notices. It is the
/// threshold of the debug mode of Python's asyncio.
pub const SLOW_CALLBACK: Duration = Duration::from_millis(100);

/// Descriptors left to the rest of the program: 64, for its files, pipes and libraries.
pub const SPARE_DESCRIPTORS: usize = 64;
