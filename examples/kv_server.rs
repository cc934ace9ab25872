//! A key-value server that speaks the Redis protocol: strings and lists, with expiry, in memory.
//!
//! Talk to it with `redis-cli -p 6380`, measure it with `redis-benchmark -p 6380`, or type commands into
//! `nc 127.0.0.1 6380`. How a command is read off the wire is told in `kv_server/client.rs`.

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

use asyncore::{Map, Options};
use clap::Parser;
use examples::program::{Common, STOP_TIME, announce};

use server::Server;

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
        options.output = server::OUTPUT_LIMIT;
        let mut map = Map::with_options(options)?;
        map.shutdown_on_signals(STOP_TIME)?;
        let listeners = server::listen(&mut map, listen)?;
        announce(&map, &listeners);
        map.run(&mut Server::default())
    })
}
