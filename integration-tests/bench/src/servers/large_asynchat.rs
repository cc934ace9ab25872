//! Messages of 1 MiB sent back by asynchat as the guide says of large ones: each piece is used when it comes.

use std::io;
use std::net::TcpListener;

use asynchat::{AsyncChat, Chat, Collected, Conversation, Terminator};
use asyncore::{Map, Result};

#[derive(Default)]
struct Echo {
    messages: u64,
}

impl Chat for Echo {
    fn collect_incoming_data(&mut self, cx: &mut Conversation<'_>, piece: &[u8]) -> Result<Collected> {
        cx.push(piece);
        Ok(Collected::Taken)
    }

    fn found_terminator(&mut self, _cx: &mut Conversation<'_>, _message: &[u8]) -> Result {
        self.messages += 1;
        Ok(())
    }
}

pub(crate) fn serve(listener: TcpListener) -> io::Result<()> {
    echo(listener).map_err(io::Error::other)
}

fn echo(listener: TcpListener) -> Result {
    let mut map = Map::new()?;
    let message = Terminator::count(1 << 20)?;
    map.listen_on(listener, move |_peer| AsyncChat::new(Echo::default()).terminator(message.clone()))?;
    map.run(&mut ())
}
