//! A line chat room over chat channels, and its status page for browsers over raw ones: one map and one loop, or one of
//! each in every thread.
//!
//! Talk to it with `nc 127.0.0.1 6142`. The status page shows every channel as it lives.

#[path = "chat_room/names.rs"]
mod names;
#[path = "chat_room/room.rs"]
mod room;
#[path = "chat_room/status.rs"]
mod status;

use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Parser;
use examples::http;
use examples::program::{Common, announce, announce_page};

pub(crate) use room::Room;

/// A chat room for anybody with `nc`, and a status page for a browser.
#[derive(Parser)]
struct Arguments {
    /// Where to talk.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:6142")]
    listen: SocketAddr,
    /// Where to serve the status page.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8142")]
    status: SocketAddr,
    /// How many threads serve the talk, each with a loop of its own; 0 for as many as there are processors.
    #[arg(long, value_name = "COUNT", default_value_t = 1)]
    threads: usize,
    #[command(flatten)]
    common: Common,
}

fn main() -> ExitCode {
    let Arguments { listen, status, threads, common } = Arguments::parse();
    let names = Arc::default();
    common.serve_threads(threads, |thread| {
        let talk = room::serve(thread, listen)?;
        if thread.index() == 0 {
            let pages = http::listen(&mut thread.map, status, status::respond)?;
            announce(&thread.map, &talk);
            announce_page(&thread.map, &pages);
        } else {
            status::report(thread);
        }
        Ok(Room::new(&names, thread))
    })
}
