//! A line echo on polling, the crate under asyncore, by hand: level-triggered, and a socket is added once.
#![expect(unsafe_code, reason = "polling has its user promise that a source is deleted before it is closed")]

use std::io::{self, ErrorKind};
use std::net::{TcpListener, TcpStream};

use polling::{AsRawSource, Event, Events, PollMode, Poller};
use slab::Slab;

use super::lines::{Buffers, Echo, Next};

/// Serves every connection until the process is killed.
#[expect(clippy::needless_pass_by_value, reason = "every server is given its listener")]
pub(crate) fn serve(listener: TcpListener) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    let poller = Poller::new()?;
    add(&poller, &listener, LISTENER)?;
    let mut events = Events::new();
    let mut connections = Slab::new();
    let mut buffers = Buffers::default();
    loop {
        events.clear();
        poller.wait(&mut events, None)?;
        for event in events.iter() {
            if event.key == LISTENER {
                accept(&listener, &poller, &mut connections)?;
                continue;
            }
            let Some((stream, echo)) = connections.get_mut(event.key) else { continue };
            let interest = match echo.serve(stream, &mut buffers) {
                Ok(Next::Read { .. }) => Event::readable(event.key),
                Ok(Next::Write) => Event::writable(event.key),
                Ok(Next::End) | Err(_) => {
                    poller.delete(&*stream)?;
                    connections.remove(event.key);
                    continue;
                }
            };
            // What came is what is waited for.
            if (interest.readable, interest.writable) != (event.readable, event.writable) {
                poller.modify_with_mode(&*stream, interest, PollMode::Level)?;
            }
        }
    }
}

fn accept(
    listener: &TcpListener,
    poller: &Poller,
    connections: &mut Slab<(TcpStream, Echo)>,
) -> io::Result<()> {
    loop {
        let stream = match listener.accept() {
            Ok((stream, _peer)) => stream,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error),
        };
        stream.set_nonblocking(true)?;
        stream.set_nodelay(true)?;
        let entry = connections.vacant_entry();
        add(poller, &stream, entry.key())?;
        entry.insert((stream, Echo::default()));
    }
}

fn add(poller: &Poller, source: impl AsRawSource, key: usize) -> io::Result<()> {
    // SAFETY: a connection is deleted before it is closed, and the listener lives as long as the poller is used.
    unsafe { poller.add_with_mode(source, Event::readable(key), PollMode::Level) }
}

/// Not `usize::MAX`, which is polling's own.
const LISTENER: usize = usize::MAX - 1;
