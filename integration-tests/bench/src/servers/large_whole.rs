//! Messages of 1 MiB sent back by asynchat once they are whole.

use std::io;
use std::net::TcpListener;

use asynchat::{AsyncChat, Chat, Conversation, Terminator};
use asyncore::{Map, Options, Result};

struct Echo;

impl Chat for Echo {
    fn found_terminator(&mut self, cx: &mut Conversation<'_>, message: &[u8]) -> Result {
        cx.push(message);
        Ok(())
    }
}

pub(crate) fn serve(listener: TcpListener) -> io::Result<()> {
    echo(listener).map_err(io::Error::other)
}

fn echo(listener: TcpListener) -> Result {
    let mut options = Options::default();
    // The message and what is not sent of the one before it.
    options.limits.output = 2 * MESSAGE;
    let mut map = Map::with_options(options)?;
    let message = Terminator::count(MESSAGE as u64)?;
    map.listen_on(listener, move |_peer| {
        AsyncChat::new(Echo).terminator(message.clone()).message_limit(MESSAGE)
    })?;
    map.run(&mut ())
}

const MESSAGE: usize = 1 << 20;
