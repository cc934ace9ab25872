//! A TCP proxy of raw channels in pairs, with back-pressure both ways and half-close carried through.

use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use asyncore::{Channel, ChannelId, Context, Map, Result, Timeout};
use clap::Parser;
use examples::program::{Common, announce};
use examples::tunnel::Tunnel;

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

/// An accepted connection, until there is another side.
struct Accepted {
    to: SocketAddr,
}

impl Channel for Accepted {
    fn handle_connect(&mut self, cx: &mut Context<'_>) -> Result {
        let upstream = cx.map.connect(self.to, Tunnel::to(cx.id))?;
        cx.map.set_timeout(upstream, Timeout::Connect, Some(CONNECT_TIME));
        cx.map.replace(cx.id, Tunnel::to(upstream));
        cx.map.pipe(cx.id, upstream);
        Ok(())
    }
}

/// Puts the proxy into a map: its listeners.
pub(crate) fn serve(map: &mut Map, at: SocketAddr, to: SocketAddr) -> Result<Vec<ChannelId>> {
    map.listen(at, move |_peer| Accepted { to })
}

fn main() -> ExitCode {
    let Arguments { listen, to, common } = Arguments::parse();
    common.serve(&mut (), |map| {
        let listeners = serve(map, listen, to)?;
        announce(map, &listeners);
        Ok(())
    })
}

/// How long a connect may take: 10 s, three tries of the system's; the client's connection is reset then.
pub(crate) const CONNECT_TIME: Duration = Duration::from_secs(10);
