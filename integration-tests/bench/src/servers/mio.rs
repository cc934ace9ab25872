//! A line echo on mio: edge-triggered, as mio is; a connection is registered once and served until it blocks.

use std::io::{self, ErrorKind};

use mio::event::Event;
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Registry, Token};
use slab::Slab;

use super::lines::{Buffers, Echo, Next};

/// Serves every connection until the process is killed.
pub(crate) fn serve(listener: std::net::TcpListener) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    let mut listener = TcpListener::from_std(listener);
    let mut poll = Poll::new()?;
    poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
    let mut events = Events::with_capacity(EVENTS);
    let mut connections = Slab::new();
    let mut buffers = Buffers::default();
    loop {
        match poll.poll(&mut events, None) {
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            polled => polled?,
        }
        for event in &events {
            if event.token() == LISTENER {
                accept(&listener, poll.registry(), &mut connections)?;
            } else if let Some((stream, echo)) = connections.get_mut(event.token().0)
                && !is_served(stream, echo, event, &mut buffers)
            {
                // Closing a socket takes it out of the poll.
                connections.remove(event.token().0);
            }
        }
    }
}

fn accept(
    listener: &TcpListener,
    registry: &Registry,
    connections: &mut Slab<(TcpStream, Echo)>,
) -> io::Result<()> {
    loop {
        let mut stream = match listener.accept() {
            Ok((stream, _peer)) => stream,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error),
        };
        stream.set_nodelay(true)?;
        let entry = connections.vacant_entry();
        registry.register(&mut stream, Token(entry.key()), Interest::READABLE | Interest::WRITABLE)?;
        entry.insert((stream, Echo::default()));
    }
}

/// Serves a connection until its socket would block: whether it goes on.
fn is_served(stream: &TcpStream, echo: &mut Echo, event: &Event, buffers: &mut Buffers) -> bool {
    loop {
        match echo.serve(stream, buffers) {
            // A read that was not filled took all there was, but for the end.
            Ok(Next::Read { is_drained }) if !is_drained || event.is_read_closed() => {}
            Ok(Next::Read { .. } | Next::Write) => return true,
            Ok(Next::End) | Err(_) => return false,
        }
    }
}

const LISTENER: Token = Token(usize::MAX);

/// Events of one poll: 1024, as in every server here that counts them.
const EVENTS: usize = 1024;
