//! Dispatcher channels and the loop that serves a shared map of them.

#![warn(
    clippy::exhaustive_enums,
    clippy::exhaustive_structs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::missing_fields_in_debug
)]

mod address;
mod buffer;
mod channel;
mod clock;
mod context;
mod deadline;
mod default_map;
mod dispatcher;
mod id;
mod input;
mod interest;
mod limits;
mod listener;
mod map;
mod outbox;
mod output;
mod panics;
mod poller;
mod producer;
mod push;
mod reason;
#[cfg(feature = "signals")]
mod signals;
mod socket;
mod turn;

pub use address::{Address, ParseAddressError};
pub use buffer::ReadBuffer;
pub use channel::Channel;
pub use context::Context;
pub use default_map::{default_map, run};
pub use dispatcher::{Dispatcher, State};
pub use id::ChannelId;
pub use input::Received;
pub use limits::{
    AC_OUT_BUFFER_SIZE, ACCEPT_BUDGET, BACKLOG, DRAIN_TIME, HIGH_MARK, LINGER_BYTES, LINGER_TIME, LOW_MARK,
    Limits, MAP_OUTPUT_LIMIT, OUTPUT_LIMIT, OnFull, Options, READ_BUDGET, SPARE_DESCRIPTORS, Wait,
};
pub use map::{Counters, Map};
pub use producer::Producer;
pub use push::{KEEP_FROM, PushData, Pushed};
pub use reason::{CloseReason, Timeout};
#[cfg(feature = "signals")]
pub use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGUSR2};
pub use socket::{Family, Kind};

/// Any error: what callbacks return and what the map answers with.
pub type Error = Box<dyn std::error::Error + Send + Sync>;

/// A result whose error is any error.
pub type Result<T = (), E = Error> = std::result::Result<T, E>;
