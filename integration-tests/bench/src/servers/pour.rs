//! A long answer by asynchat: a line with a number comes, and as many bytes go, from a producer that reads them.

use std::io::{self, Read};
use std::net::TcpListener;

use asynchat::{AsyncChat, Chat, Conversation, ReadProducer, Terminator};
use asyncore::{Map, Result};

struct Pour;

impl Chat for Pour {
    fn found_terminator(&mut self, cx: &mut Conversation<'_>, line: &[u8]) -> Result {
        let length = std::str::from_utf8(line)?.parse()?;
        cx.push_with_producer(ReadProducer::exactly(Again { at: 0 }, length));
        Ok(())
    }
}

/// The same 64 KiB again and again.
struct Again {
    at: usize,
}

impl Read for Again {
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        let rest = &BLOCK[self.at..];
        let count = rest.len().min(room.len());
        room[..count].copy_from_slice(&rest[..count]);
        self.at = (self.at + count) % BLOCK.len();
        Ok(count)
    }
}

pub(crate) fn serve(listener: TcpListener) -> io::Result<()> {
    pour(listener).map_err(io::Error::other)
}

fn pour(listener: TcpListener) -> Result {
    let mut map = Map::new()?;
    map.listen_on(listener, |_peer| AsyncChat::new(Pour).terminator(Terminator::line()))?;
    map.run(&mut ())
}

static BLOCK: [u8; 65536] = {
    let mut block = [0; 65536];
    let mut at = 0;
    while at < block.len() {
        block[at] = (at * 7 + at / 256).to_le_bytes()[0];
        at += 1;
    }
    block
};
