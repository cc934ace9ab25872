//! Dispatcher channels, and the loop that serves a shared map of them.
//!
//! There are few ways for a program to do more than one thing at a time. Threads are the usual one. This is another: one
//! thread, many sockets that never block, and a loop that calls you back when one of them has something for you. It
//! suits programs that wait more than they compute, which nearly every network server does, and it needs no locks,
//! because nothing ever runs at the same time as anything else.
//!
//! # An echo server
//!
//! ```
//! use asyncore::{Channel, Context, Map, Received, Result};
//!
//! /// Sends back what it reads.
//! struct Echo;
//!
//! impl Channel for Echo {
//!     fn handle_read(&mut self, cx: &mut Context<'_>) -> Result {
//!         if let Received::Data(data) = cx.map.recv(cx.id, 4096)? {
//!             cx.map.push(cx.id, &data);
//!         }
//!         Ok(())
//!     }
//! }
//!
//! let mut map = Map::new()?;
//! map.listen("127.0.0.1:0", |_peer| Echo)?;
//! # map.stop();
//! map.run(&mut ())?;
//! # Ok::<(), asyncore::Error>(())
//! ```
//!
//! For protocols that talk in lines or other messages, take the `asynchat` crate, which stands on this one.
//!
//! # What is where
//!
//! - [`Map`] owns every channel and runs the loop: [`run`](Map::run), [`poll`](Map::poll), [`stop`](Map::stop),
//!   [`shutdown`](Map::shutdown). All that a channel does, it does through the map: [`recv`](Map::recv),
//!   [`push`](Map::push), [`close_when_done`](Map::close_when_done).
//! - [`Channel`] is what you write: two predicates and the callbacks, each with a default.
//! - [`Context`] is what a callback is given: the map, your own state, and the channel's [`ChannelId`].
//! - [`Dispatcher`] is one socket with its [`State`]. Prepare one by hand, or use [`Map::listen`] and [`Map::connect`].
//! - [`Map::connect_host`] connects by a name: resolved off the loop, its addresses tried as RFC 8305 says.
//!   [`Map::listen_host`] listens on every address of one.
//! - [`Map::set_timer`], [`Map::set_interval`], [`Map::after`] and [`Map::every`] set timers, a channel's or the map's.
//! - [`Map::set_timeout`], or a field of [`Limits`], bounds what may take how long: a connect, silence, output that does
//!   not move, a whole life.
//! - [`Map::couple`] and [`Map::pipe`] have a channel wait while another one's output is high; a [`Rate`] bounds what it
//!   receives or sends.
//! - [`Map::replace`] gives a channel another handler, and every byte that the first has not used.
//! - [`Producer`] makes output while it is sent. [`Pushed`] says what became of a push.
//! - [`Limits`] and [`Options`] bound what a channel and a map may cost. Bounds of size are on from the start, times are not.
//! - [`ListenOptions`] bound what listeners accept, and say what who is turned away is told.
//! - [`Remote`] is a handle on a map for other threads: they post closures, push bytes, and stop the loop.
//! - [`serve_threads`] runs a loop in each of several threads, which share a port and post to each other: [`Remotes`].
//! - [`Dispatcher::from_descriptor`] makes a channel of a pipe or a terminal, [`Map::spawn_child`] of a child process.
//! - [`Map::spawn_blocking`] runs what would hold up the loop on another thread, and tells the channel the result.
//! - [`Map::counters`], [`Map::channel_counters`] and [`Map::snapshot`] show what a map does and holds,
//!   [`Map::timings`] how long its callbacks take.
//! - [`Map::next_deadline`] and the map's descriptor let it live inside another loop.
//! - [`CloseReason`] says why a channel closed. Its `handle_close` is called exactly once.
//! - [`default_map()`] and [`run()`] serve programs that need no more than one map in a thread.
//!
//! # Features
//!
//! - `testing`: a simulated map, for tests: `testing::Simulation`.
//! - `listenfd`: the listeners that a service manager started the program with, with `Map::listen_inherited`.
//! - `tls`: TLS over streams, from their first byte or in mid-stream, with `Map::start_tls` and `ListenOptions::tls`.
//! - `signals`: signals as a channel of the map, with `Map::add_signal` and `Map::shutdown_on_signals`.
//!
//! # What it does not do
//!
//! - Run callbacks of one map in parallel. One that takes a second stops all of it for a second, unless it hands its work
//!   on.
//! - Windows, and systems whose poller has no level-triggered events. It is tested on Linux.

#![warn(
    clippy::exhaustive_enums,
    clippy::exhaustive_structs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::missing_fields_in_debug
)]

/// Whether a bug is planted here; never so without the feature for that.
#[cfg(feature = "planted-bugs")]
macro_rules! planted {
    ($bug:ident) => {
        crate::planted::is_planted(crate::planted::Bug::$bug)
    };
}

#[cfg(not(feature = "planted-bugs"))]
macro_rules! planted {
    ($bug:ident) => {
        false
    };
}

mod absent;
mod accepting;
mod address;
mod adopt;
mod blocking;
mod buffer;
mod callback;
mod carrier;
mod channel;
mod child;
mod closing;
mod context;
mod counters;
mod coupling;
mod deadline;
mod default_map;
mod dispatcher;
mod embed;
mod entry;
mod extra;
mod eyeballs;
mod file;
mod flush;
mod gate;
#[cfg(feature = "tls")]
mod handshake;
mod histogram;
mod host;
mod id;
#[cfg(feature = "listenfd")]
mod inherited;
mod input;
mod interest;
mod limits;
mod listener;
mod map;
mod nonblocking;
mod outbox;
mod output;
mod panics;
#[cfg(feature = "planted-bugs")]
#[doc(hidden)]
pub mod planted;
mod poller;
mod producer;
mod push;
mod rate;
mod reason;
mod remote;
mod remotes;
mod replace;
mod resolve;
#[cfg(feature = "tls")]
mod secured;
mod serve;
mod short_bytes;
#[cfg(feature = "signals")]
mod signals;
mod snapshot;
mod socket;
mod stdio;
mod system;
mod tail;
#[cfg(feature = "testing")]
pub mod testing;
mod threads;
mod throttle;
mod timeouts;
mod timer;
mod timing;
#[cfg(feature = "tls")]
mod tls;
mod tuning;
mod turn;
mod unread;
mod workers;
mod world;

pub use address::{Address, ParseAddressError};
pub use blocking::SpawnError;
pub use buffer::ReadBuffer;
pub use channel::Channel;
pub use child::Child;
pub use context::Context;
pub use counters::{ChannelCounters, Counters};
pub use default_map::{default_map, run};
pub use dispatcher::{Dispatcher, State};
pub use eyeballs::{ATTEMPT_DELAY, MOST_ADDRESSES, MOST_ATTEMPTS};
pub use histogram::Histogram;
pub use host::HostError;
pub use id::ChannelId;
#[cfg(feature = "listenfd")]
pub use inherited::inherited_listeners;
pub use input::Received;
pub use limits::{
    AC_OUT_BUFFER_SIZE, ACCEPT_BUDGET, BACKLOG, DRAIN_TIME, HANDSHAKE_TIME, HIGH_MARK, JOBS, LINGER_BYTES,
    LINGER_TIME, LOW_MARK, Limits, ListenOptions, MAP_OUTPUT_LIMIT, MOST_WORKERS, OUTPUT_LIMIT, OnFull,
    Options, POSTS, READ_BUDGET, REFUSALS, SLOW_CALLBACK, SPARE_DESCRIPTORS, WORKERS_BESIDE_PROCESSORS, Wait,
    WhenFull,
};
pub use map::Map;
pub use producer::Producer;
pub use push::{KEEP_FROM, PushData, Pushed};
pub use rate::Rate;
pub use reason::{CloseReason, Timeout};
pub use remote::{POST_BUDGET, PostError, Remote};
pub use remotes::Remotes;
#[cfg(feature = "tls")]
pub use rustls;
pub use short_bytes::ShortBytes;
#[cfg(feature = "signals")]
pub use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGUSR2};
pub use snapshot::{ChannelSnapshot, Pause, Snapshot};
pub use socket::{Family, Kind};
pub use threads::{FAREWELL_TIME, Thread, serve_threads, serve_threads_with};
pub use timer::TimerId;
pub use timing::Timings;
#[cfg(feature = "tls")]
pub use tls::{Identity, TlsClient, TlsClientOptions, TlsServer, TlsServerOptions, TlsSession};

/// Any error: what callbacks return and what the map answers with.
pub type Error = Box<dyn std::error::Error + Send + Sync>;

/// A result whose error is any error.
pub type Result<T = (), E = Error> = std::result::Result<T, E>;
