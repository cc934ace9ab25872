//! A key-value server that speaks the Redis protocol: strings and lists, with expiry, in memory.
//!
//! Talk to it with `redis-cli -p 6380`, measure it with `redis-benchmark -p 6380` (which misses `CONFIG`, says so, and
//! goes on), or type commands into `nc 127.0.0.1 6380`. How a command is read off the wire is told in
//! `kv_server/client.rs`, and the commands are listed in `kv_server/command.rs`. Of `CLIENT` there are `GETNAME`, `HELP`,
//! `ID` and `SETNAME`; of `COMMAND` `COUNT`, `DOCS`, `HELP`, `INFO` and `LIST`. There is no `HELLO`: clients have to
//! speak RESP2 without being asked.

#[path = "kv_server/arguments.rs"]
mod arguments;
#[path = "kv_server/call.rs"]
mod call;
#[path = "kv_server/catalogue.rs"]
mod catalogue;
#[path = "kv_server/client.rs"]
mod client;
#[path = "kv_server/command.rs"]
mod command;
#[path = "kv_server/connection.rs"]
mod connection;
#[path = "kv_server/database.rs"]
mod database;
#[path = "kv_server/inline.rs"]
mod inline;
#[path = "kv_server/keys.rs"]
mod keys;
#[path = "kv_server/lists.rs"]
mod lists;
#[path = "kv_server/number.rs"]
mod number;
#[path = "kv_server/reply.rs"]
mod reply;
#[path = "kv_server/server.rs"]
mod server;
#[path = "kv_server/strings.rs"]
mod strings;

use std::net::SocketAddr;
use std::process::ExitCode;

use asynchat::{AsyncChat, OnTooLong, Terminator};
use asyncore::{ChannelId, Limits, ListenOptions, Map, Options, Result, WhenFull};
use clap::Parser;
use examples::program::{Common, STOP_TIME, announce};

pub(crate) use client::Client;
pub(crate) use server::Server;

/// Keeps keys and values in memory for whoever speaks the Redis protocol.
#[derive(Parser)]
struct Arguments {
    /// Where to listen; the default is the port beside that of Redis.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:6380")]
    listen: SocketAddr,
    #[command(flatten)]
    common: Common,
}

fn main() -> ExitCode {
    let Arguments { listen, common } = Arguments::parse();
    common.run(|| {
        let mut options = Options::default();
        options.output = ALL_OUTPUT_LIMIT;
        let mut map = Map::with_options(options)?;
        map.shutdown_on_signals(STOP_TIME)?;
        let listeners = serve(&mut map, listen)?;
        announce(&map, &listeners);
        map.run(&mut Server::default())
    })
}

/// Listens for clients: the listeners.
fn serve(map: &mut Map<Server>, at: SocketAddr) -> Result<Vec<ChannelId>> {
    let mut limits = Limits::default();
    limits.output = OUTPUT_LIMIT;
    let mut options = ListenOptions::default();
    options.limits = Some(limits);
    options.total = CLIENTS;
    options.when_full = WhenFull::Refuse;
    options.refusal = "-ERR max number of clients reached\r\n".into();
    map.listen_with(at, options, |_peer| conversation())
}

/// The channel of one client.
pub(crate) fn conversation() -> AsyncChat<Client> {
    AsyncChat::new(Client::default())
        .terminator(Terminator::lf())
        .message_limit(INLINE_LIMIT)
        .on_too_long(OnTooLong::Skip)
}

/// Most clients at a time: 10,000, as of Redis.
const CLIENTS: usize = 10_000;

/// Most bytes of a command that was typed, and of a header: 64 KiB, as of Redis.
const INLINE_LIMIT: usize = 64 << 10;

/// Most bytes of answers that wait for one client: 1 GiB, twice the longest text. Redis sets no bound. A client that
/// does not read is not listened to from 64 KiB on.
const OUTPUT_LIMIT: usize = 1 << 30;

/// Most bytes of answers that wait for all clients together: 4 GiB, so that one that does not read leaves the others
/// room for theirs.
const ALL_OUTPUT_LIMIT: usize = OUTPUT_LIMIT.saturating_mul(4);
