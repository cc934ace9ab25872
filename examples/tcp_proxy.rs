//! A TCP proxy of raw channels in pairs, with back-pressure both ways and half-close carried through.
//!
//! Neither side is read while the other has much to take, so a connection holds a bounded amount whatever its peers do.
//! An end in good order goes on as an end, a lost connection as a reset: nobody takes a part for the whole.

use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use asyncore::{Channel, ChannelId, CloseReason, Context, Map, Received, Result};
use clap::Parser;
use examples::program::{Common, announce};

/// Hands every connection on to another address.
#[derive(Parser)]
struct Arguments {
    /// Where to listen.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:7002")]
    listen: SocketAddr,
    /// Where to connect for each connection.
    #[arg(long, value_name = "ADDR")]
    to: SocketAddr,
    #[command(flatten)]
    common: Common,
}

/// One side of a proxied connection.
struct Side {
    role: Role,
}

enum Role {
    /// Accepted; it has yet to begin the connection to this address.
    Fresh(SocketAddr),
    /// One of a pair; the other side's id.
    Paired(ChannelId),
}

impl Side {
    const fn other(&self) -> Option<ChannelId> {
        match self.role {
            Role::Fresh(_) => None,
            Role::Paired(other) => Some(other),
        }
    }
}

impl Channel for Side {
    fn handle_connect(&mut self, cx: &mut Context<'_>) -> Result {
        if let Role::Fresh(to) = self.role {
            let upstream = cx.map.connect(to, Self { role: Role::Paired(cx.id) })?;
            self.role = Role::Paired(upstream);
            cx.map.pipe(cx.id, upstream);
        }
        Ok(())
    }

    fn handle_read(&mut self, cx: &mut Context<'_>) -> Result {
        let (Some(other), Received::Data(data)) = (self.other(), cx.map.recv(cx.id, READ_SIZE)?) else {
            return Ok(());
        };
        cx.map.push(other, &data);
        Ok(())
    }

    fn handle_eof(&mut self, cx: &mut Context<'_>) -> Result {
        if let Some(other) = self.other() {
            cx.map.shutdown_write(other);
        }
        Ok(())
    }

    fn handle_close(&mut self, cx: &mut Context<'_>, reason: CloseReason) {
        let Some(other) = self.other() else { return };
        if matches!(reason, CloseReason::Eof | CloseReason::Local | CloseReason::ShutDown) {
            cx.map.close_when_done(other);
            return;
        }
        tracing::info!(id = %cx.id, %other, %reason, "proxied connection lost");
        if let Some(other) = cx.map.get(other) {
            // Closed now, it is reset.
            if let Err(error) = other.set_linger(Some(Duration::ZERO)) {
                tracing::debug!(%error, "no reset");
            }
        }
        cx.map.close(other);
    }
}

/// Puts the proxy into a map: its listeners.
pub(crate) fn serve(map: &mut Map, at: SocketAddr, to: SocketAddr) -> Result<Vec<ChannelId>> {
    map.listen(at, move |_peer| Side { role: Role::Fresh(to) })
}

fn main() -> ExitCode {
    let Arguments { listen, to, common } = Arguments::parse();
    common.serve(&mut (), |map| {
        let listeners = serve(map, listen, to)?;
        announce(map, &listeners);
        Ok(())
    })
}

/// Most bytes that one read takes: 64 KiB, so that a queue never exceeds the high mark by more than that.
const READ_SIZE: usize = 64 << 10;
