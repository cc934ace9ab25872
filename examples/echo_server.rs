//! A line echo over chat channels: CRLF or LF in, CRLF out.
//!
//! A service manager may start it with listeners of its own making (systemd's socket activation). It reads its options
//! with `lexopt`, which is small; the other examples do so with `clap`.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::process::ExitCode;

use asynchat::{AsyncChat, Chat, Conversation, Terminator};
use asyncore::{ChannelId, ListenOptions, Map, Result};
use examples::program::{Common, announce, complain};
use lexopt::Arg::{Long, Short};
use lexopt::{Parser, ValueExt};

struct Arguments {
    listen: SocketAddr,
    common: Common,
}

impl Arguments {
    /// `None` when the command line asks for help.
    fn parse() -> std::result::Result<Option<Self>, lexopt::Error> {
        let mut listen = SocketAddr::from(([127, 0, 0, 1], 7000));
        let mut verbose: u8 = 0;
        let mut parser = Parser::from_env();
        while let Some(argument) = parser.next()? {
            match argument {
                Long("listen") => listen = parser.value()?.parse()?,
                Short('v') | Long("verbose") => verbose = verbose.saturating_add(1),
                Short('h') | Long("help") => return Ok(None),
                _ => return Err(argument.unexpected()),
            }
        }
        Ok(Some(Self { listen, common: Common::new(verbose) }))
    }
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
    match Arguments::parse() {
        Ok(Some(Arguments { listen, common })) => common.serve(&mut (), |map| {
            let listeners = serve(map, listen)?;
            announce(map, &listeners);
            Ok(())
        }),
        Ok(None) => {
            // Standard output may be closed; there is nothing to do about it.
            drop(io::stdout().write_all(HELP.as_bytes()));
            ExitCode::SUCCESS
        }
        Err(error) => {
            complain(&format_args!("{error}\n\nFor more information, try '--help'."));
            ExitCode::from(MISUSED)
        }
    }
}

const HELP: &str = "\
Sends every line back

Usage: echo_server [OPTIONS]

Options:
      --listen <ADDR>  Where to listen, unless the program was started with listeners (`LISTEN_FDS`) [default: 127.0.0.1:7000]
  -v, --verbose...     Log more to standard error; RUST_LOG overrides it
  -h, --help           Print help
";

/// The status of a program whose arguments make no sense: 2, as with `clap`.
const MISUSED: u8 = 2;
