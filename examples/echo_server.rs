//! A line echo over chat channels: CRLF or LF in, CRLF out.
//!
//! A service manager may start it with listeners of its own making (systemd's socket activation).

use std::net::SocketAddr;
use std::process::ExitCode;

use asynchat::{AsyncChat, Chat, Conversation, Terminator};
use asyncore::{ChannelId, ListenOptions, Map, Result};
use clap::Parser;
use examples::program::{Common, announce};

/// Sends every line back.
#[derive(Parser)]
struct Arguments {
    /// Where to listen, unless the program was started with listeners (`LISTEN_FDS`).
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:7000")]
    listen: SocketAddr,
    #[command(flatten)]
    common: Common,
}

struct Echo;

impl Chat for Echo {
    fn found_terminator(&mut self, cx: &mut Conversation<'_>, line: &[u8]) -> Result {
        cx.push((line, b"\r\n"));
        Ok(())
    }
}

/// Puts the echo into a map: its listeners.
pub(crate) fn serve(map: &mut Map, at: SocketAddr) -> Result<Vec<ChannelId>> {
    let echo = |_peer| AsyncChat::new(Echo).terminator(Terminator::line());
    let inherited = map.listen_inherited(ListenOptions::default(), echo)?;
    if inherited.is_empty() { map.listen(at, echo) } else { Ok(inherited) }
}

fn main() -> ExitCode {
    let Arguments { listen, common } = Arguments::parse();
    common.serve(&mut (), |map| {
        let listeners = serve(map, listen)?;
        announce(map, &listeners);
        Ok(())
    })
}
