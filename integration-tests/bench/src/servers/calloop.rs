//! A line echo on calloop: a connection is an event source of its own, around the `Generic` of its socket.

use std::io::{self, ErrorKind};
use std::net::{TcpListener, TcpStream};

use calloop::generic::Generic;
use calloop::{EventLoop, EventSource, Interest, Mode, Poll, PostAction, Readiness, Token, TokenFactory};

use super::lines::{Buffers, Echo, Next};

/// Serves every connection until the process is killed.
pub(crate) fn serve(listener: TcpListener) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    let mut event_loop = EventLoop::try_new()?;
    let handle = event_loop.handle();
    let listener = Generic::new(listener, Interest::READ, Mode::Level);
    let connections = handle.clone();
    handle
        .insert_source(listener, move |_readiness, listener, _buffers: &mut Buffers| {
            loop {
                let stream = match listener.accept() {
                    Ok((stream, _peer)) => stream,
                    Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(PostAction::Continue),
                    Err(error) => return Err(error),
                };
                stream.set_nonblocking(true)?;
                stream.set_nodelay(true)?;
                connections
                    .insert_source(Connection::new(stream), |(), connection, buffers| {
                        connection.serve(buffers)
                    })
                    .map_err(|refused| refused.error)?;
            }
        })
        .map_err(|refused| refused.error)?;
    event_loop.run(None, &mut Buffers::default(), |_buffers| {})?;
    Ok(())
}

struct Connection {
    socket: Generic<TcpStream>,
    echo: Echo,
}

impl Connection {
    fn new(stream: TcpStream) -> Self {
        Self { socket: Generic::new(stream, Interest::READ, Mode::Level), echo: Echo::default() }
    }

    fn serve(&mut self, buffers: &mut Buffers) -> PostAction {
        let interest = match self.echo.serve(self.socket.get_ref(), buffers) {
            Ok(Next::Read { .. }) => Interest::READ,
            Ok(Next::Write) => Interest::WRITE,
            Ok(Next::End) | Err(_) => return PostAction::Remove,
        };
        if interest.writable == self.socket.interest.writable {
            return PostAction::Continue;
        }
        self.socket.interest = interest;
        PostAction::Reregister
    }
}

impl EventSource for Connection {
    type Event = ();
    type Metadata = Self;
    type Ret = PostAction;
    type Error = io::Error;

    fn process_events<F>(
        &mut self,
        _readiness: Readiness,
        _token: Token,
        mut callback: F,
    ) -> io::Result<PostAction>
    where
        F: FnMut((), &mut Self) -> PostAction,
    {
        Ok(callback((), self))
    }

    fn register(&mut self, poll: &mut Poll, tokens: &mut TokenFactory) -> calloop::Result<()> {
        self.socket.register(poll, tokens)
    }

    fn reregister(&mut self, poll: &mut Poll, tokens: &mut TokenFactory) -> calloop::Result<()> {
        self.socket.reregister(poll, tokens)
    }

    fn unregister(&mut self, poll: &mut Poll) -> calloop::Result<()> {
        self.socket.unregister(poll)
    }
}
