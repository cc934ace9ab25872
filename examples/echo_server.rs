//! A line echo over chat channels: CRLF or LF in, CRLF out.

use asynchat::{AsyncChat, Chat, Conversation, Terminator};
use asyncore::{Map, Result};
use clap::Parser;

/// Sends every line back.
#[derive(Parser)]
struct Arguments {
    /// Where to listen.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:7000")]
    listen: std::net::SocketAddr,
}

struct Echo;

impl Chat for Echo {
    fn found_terminator(&mut self, cx: &mut Conversation<'_>, line: &[u8]) -> Result {
        cx.push(line);
        cx.push(b"\r\n");
        Ok(())
    }
}

fn main() -> Result {
    let arguments = Arguments::parse();
    let mut map = Map::new()?;
    let ids = map.listen(arguments.listen, |_peer| AsyncChat::new(Echo).terminator(Terminator::line()))?;
    println!("listening on {}", map.get(ids[0]).unwrap().local_addr()?.unwrap());
    map.run(&mut ())
}
