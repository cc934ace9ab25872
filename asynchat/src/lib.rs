//! Conversations on asyncore's channels: input split at terminators, output queued, both in one shared map.

#![forbid(unsafe_code)]
#![warn(
    clippy::exhaustive_enums,
    clippy::exhaustive_structs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::missing_fields_in_debug
)]

mod chat;
mod conversation;
mod dot;
mod framing;
mod producer;
mod splitter;
mod terminator;

pub use chat::{AsyncChat, Chat, Collected};
pub use conversation::Conversation;
pub use dot::{BareEnd, BareIn, BareOut, DotStuffer, DotUnstuffer, Unstuffed};
pub use framing::{AC_IN_BUFFER_SIZE, Framing, OnTooLong};
pub use producer::{BytesProducer, IterProducer, LinesProducer, ReadProducer};
pub use splitter::{MESSAGE_LIMIT, Piece, Split, Splitter};
pub use terminator::{EmptyTerminator, Terminator};
