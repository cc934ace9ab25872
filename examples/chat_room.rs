//! A line chat room over chat channels, and its status page for browsers over raw ones: one map, one loop.
//!
//! Talk to it with `nc 127.0.0.1 6142`. The status page shows every channel of the map as it lives.

#[path = "chat_room/room.rs"]
mod room;
#[path = "chat_room/status.rs"]
mod status;

use std::net::SocketAddr;
use std::process::ExitCode;

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
    #[command(flatten)]
    common: Common,
}

fn main() -> ExitCode {
    let Arguments { listen, status, common } = Arguments::parse();
    common.serve(&mut Room::default(), |map| {
        let talk = room::serve(map, listen)?;
        let pages = http::listen(map, status, status::respond)?;
        announce(map, &talk);
        announce_page(map, &pages);
        Ok(())
    })
}
