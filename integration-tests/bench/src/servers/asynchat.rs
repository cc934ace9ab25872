//! A line echo on asynchat, as the README shows it.

use std::io;
use std::net::TcpListener;

use asynchat::{AsyncChat, Chat, Conversation, Terminator};
use asyncore::{Map, Result};

pub(super) struct Echo;

impl Chat for Echo {
    fn found_terminator(&mut self, cx: &mut Conversation<'_>, line: &[u8]) -> Result {
        cx.push((line, b"\r\n"));
        Ok(())
    }
}

/// The limit of a line is the library's own, 65,536 bytes; the others have the same.
pub(crate) fn serve(listener: TcpListener) -> io::Result<()> {
    echo(listener).map_err(io::Error::other)
}

fn echo(listener: TcpListener) -> Result {
    let mut map = Map::new()?;
    map.listen_on(listener, |_peer| AsyncChat::new(Echo).terminator(Terminator::line()))?;
    map.run(&mut ())
}
