//! The line echo once more, over raw channels: what a chat channel does for `echo_server`, done by hand.

use std::net::SocketAddr;
use std::process::ExitCode;

use asyncore::{Channel, ChannelId, CloseReason, Context, Map, Received, Result};
use clap::Parser;
use examples::program::{Common, announce};

/// Sends every line back, on raw channels.
#[derive(Parser)]
struct Arguments {
    /// Where to listen.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:7001")]
    listen: SocketAddr,
    #[command(flatten)]
    common: Common,
}

#[derive(Default)]
struct Echo {
    /// The start of a line whose end has not come yet. Invariant: at most [`LINE_LIMIT`] bytes, no line feed.
    line: Vec<u8>,
}

impl Channel for Echo {
    fn handle_connect(&mut self, cx: &mut Context<'_>) -> Result {
        // Who does not take the answers is not asked for more.
        cx.map.pause_when_high(cx.id, true);
        Ok(())
    }

    fn handle_read(&mut self, cx: &mut Context<'_>) -> Result {
        let Received::Data(data) = cx.map.recv(cx.id, READ_SIZE)? else { return Ok(()) };
        for piece in data.split_inclusive(|byte| *byte == b'\n') {
            if self.line.len() + piece.len() > LINE_LIMIT {
                cx.map.close_with(cx.id, CloseReason::TooLong);
                return Ok(());
            }
            self.line.extend_from_slice(piece);
            if let Some(line) = self.line.strip_suffix(b"\n") {
                cx.map.push(cx.id, line.strip_suffix(b"\r").unwrap_or(line));
                cx.map.push(cx.id, b"\r\n");
                self.line.clear();
            }
        }
        if self.line.is_empty() {
            // An idle channel owns no buffer.
            self.line = Vec::new();
        }
        Ok(())
    }
}

/// Puts the echo into a map: its listeners.
pub(crate) fn serve(map: &mut Map, at: SocketAddr) -> Result<Vec<ChannelId>> {
    map.listen(at, |_peer| Echo::default())
}

fn main() -> ExitCode {
    let Arguments { listen, common } = Arguments::parse();
    common.serve(&mut (), |map| {
        let listeners = serve(map, listen)?;
        announce(map, &listeners);
        Ok(())
    })
}

/// Most bytes that one read takes: 64 KiB, as of a chat channel.
const READ_SIZE: usize = 64 << 10;

/// Longest line, its end included: 64 KiB, as of a chat channel.
const LINE_LIMIT: usize = 64 << 10;
