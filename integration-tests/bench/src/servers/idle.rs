//! A line echo on asynchat whose handler holds 64 bytes, for conversations that are there and silent.

use std::io;
use std::net::TcpListener;

use asynchat::{AsyncChat, Chat, Conversation, Terminator};
use asyncore::{Map, Result};

/// What a small program keeps of a peer. The line `?` is answered with it.
struct Session {
    lines: u64,
    bytes: u64,
    longest: u64,
    last: u64,
    /// How its first line began.
    name: [u8; 32],
}

const _: () = assert!(size_of::<Session>() == 64, "the figure in the documents is for 64 bytes");

impl Session {
    fn new() -> Self {
        Self { lines: 0, bytes: 0, longest: 0, last: 0, name: [0; 32] }
    }

    fn note(&mut self, line: &[u8]) {
        if self.lines == 0 {
            let known = line.len().min(self.name.len());
            self.name[..known].copy_from_slice(&line[..known]);
        }
        self.last = line.len() as u64;
        self.longest = self.longest.max(self.last);
        self.lines += 1;
        self.bytes += self.last;
    }
}

impl Chat for Session {
    fn found_terminator(&mut self, cx: &mut Conversation<'_>, line: &[u8]) -> Result {
        if line == b"?" {
            let Self { lines, bytes, longest, last, name } = self;
            let name = name.escape_ascii();
            cx.push(format!("{name}: {lines} lines, {bytes} bytes, longest {longest}, last {last}\r\n"));
        } else {
            self.note(line);
            cx.push((line, b"\r\n"));
        }
        Ok(())
    }
}

pub(crate) fn serve(listener: TcpListener) -> io::Result<()> {
    echo(listener).map_err(io::Error::other)
}

fn echo(listener: TcpListener) -> Result {
    let mut map = Map::new()?;
    map.listen_on(listener, |_peer| AsyncChat::new(Session::new()).terminator(Terminator::line()))?;
    map.run(&mut ())
}
