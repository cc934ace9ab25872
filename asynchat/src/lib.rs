//! Conversations on asyncore's channels: input split at terminators, output queued, both in one shared map.
//!
//! A socket gives bytes, in whatever pieces the network likes. A protocol talks in messages. [`AsyncChat`] stands
//! between them: it collects what arrives until the message is complete, and calls your [`Chat`] with it.
//!
//! # What ends a message
//!
//! | terminator | a message ends |
//! |---|---|
//! | `b"\r\n"`, any byte string | where the byte string ends |
//! | [`Terminator::any`] of several | where the first of them ends; when two end together, the longer counts |
//! | [`Terminator::line`] | at CRLF or LF |
//! | [`Terminator::count`] | after so many bytes: fixed records |
//! | [`Terminator::length_prefixed`] | after as many bytes as the number before it says |
//! | [`Terminator::netstring`] | as a netstring, `5:hello,` |
//! | [`Terminator::dot_stuffed`] | at a line with a single dot, as in mail and news |
//! | [`Terminator::none`] | never: everything is offered to [`collect_incoming_data`](Chat::collect_incoming_data) |
//!
//! It may change in any callback, and applies from the next byte on, also to what has been received already. Where the
//! network cut the input makes no difference.
//!
//! # A conversation
//!
//! A header tells how long the body is; the terminator follows.
//!
//! ```
//! use std::io::{Read, Write};
//! use std::net::Shutdown;
//! use std::os::unix::net::UnixStream;
//!
//! use asynchat::{AsyncChat, Chat, Conversation, Terminator};
//! use asyncore::{Map, Result};
//!
//! /// Answers each text with its bytes in reverse.
//! enum Reverser {
//!     Header,
//!     Body,
//! }
//!
//! impl Chat for Reverser {
//!     fn found_terminator(&mut self, cx: &mut Conversation<'_>, message: &[u8]) -> Result {
//!         match self {
//!             Self::Header => {
//!                 let length = std::str::from_utf8(message)?.parse()?;
//!                 cx.set_terminator(Terminator::count(length)?);
//!                 *self = Self::Body;
//!             }
//!             Self::Body => {
//!                 let reversed: Vec<u8> = message.iter().rev().copied().collect();
//!                 cx.push(reversed);
//!                 cx.set_terminator(b"\r\n");
//!                 *self = Self::Header;
//!             }
//!         }
//!         Ok(())
//!     }
//! }
//!
//! let (mut peer, here) = UnixStream::pair()?;
//! let mut map = Map::new()?;
//! map.add(here, AsyncChat::new(Reverser::Header).terminator(b"\r\n"))?;
//! peer.write_all(b"3\r\nabc2\r\n\r\n")?;
//! peer.shutdown(Shutdown::Write)?;
//! map.run(&mut ())?;
//!
//! let mut answers = Vec::new();
//! peer.read_to_end(&mut answers)?;
//! assert_eq!(answers, b"cba\n\r");
//! # Ok::<(), asyncore::Error>(())
//! ```
//!
//! # What is where
//!
//! - [`Chat`] is what you write; only [`found_terminator`](Chat::found_terminator) must be there.
//! - [`AsyncChat`] is the channel to add to a [`Map`](asyncore::Map), with its settings.
//! - [`Conversation`] is what a callback is given: the map, your own state, the channel's id, and its [`Framing`].
//!   [`spawn_blocking`](Conversation::spawn_blocking) has work done on another thread,
//!   [`replace`](Conversation::replace) hands the channel over to another handler.
//! - [`Splitter`] is the framing alone, without a socket: bytes in, pieces of messages out.
//! - [`LengthPrefix`] and [`netstring`] frame what is sent.
//! - [`BytesProducer`], [`IterProducer`], [`ReadProducer`] and [`LinesProducer`] make output while it is sent.
//! - [`DotStuffer`] and [`DotUnstuffer`] carry texts that end with a dot alone on a line, as in mail and news.
//!
//! # What it does not do
//!
//! - Text. Messages are bytes; decode them where you need to.
//! - Protocols. There is no SMTP or IRC in here, only what they are made of.
//! - Messages without a limit: one that grows over 64 KiB closes the channel, unless you say otherwise.

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

mod ahead;
mod async_chat;
mod begun;
mod chat;
mod conversation;
mod dot_stuffer;
mod dot_unstuffer;
mod extra;
mod frame;
mod framing;
mod length;
mod needles;
mod producer;
mod split;
mod splitter;
mod terminator;

pub use async_chat::AsyncChat;
pub use chat::{Chat, Collected};
pub use conversation::Conversation;
pub use dot_stuffer::{BareEnd, BareOut, DotStuffer};
pub use dot_unstuffer::{BareIn, DotUnstuffer, Unstuffed};
pub use frame::FrameError;
pub use framing::{AC_IN_BUFFER_SIZE, Framing, OnTooLong};
pub use length::{LengthError, LengthPrefix, netstring};
pub use producer::{BytesProducer, IterProducer, LinesProducer, ReadProducer};
pub use split::{Piece, Split};
pub use splitter::{MESSAGE_LIMIT, Splitter};
pub use terminator::{EmptyTerminator, Terminator};
