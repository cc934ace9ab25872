//! The servers that are part of this program: `bench serve NAME` runs one.

use std::io::{self, Write};
use std::net::{SocketAddr, TcpListener};

use socket2::{Domain, Socket, Type};

mod asynchat;

/// Listens, says where, and serves for ever.
pub(crate) fn run(name: &str, at: SocketAddr) -> io::Result<()> {
    let serve = match name {
        "asynchat" => asynchat::serve,
        _ => return Err(io::Error::other(format!("no server is called {name}"))),
    };
    let socket = Socket::new(Domain::for_address(at), Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.bind(&at.into())?;
    socket.listen(BACKLOG)?;
    let listener = TcpListener::from(socket);
    writeln!(io::stdout(), "listening on {}", listener.local_addr()?)?;
    serve(listener)
}

/// The backlog of every server: 4096, more than the connections that any driver has under way.
const BACKLOG: i32 = 4096;
