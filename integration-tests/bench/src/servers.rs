//! The servers that are part of this program: `bench serve NAME` runs one.

use std::io::{self, Write};
use std::net::{SocketAddr, TcpListener};

use socket2::{Domain, Socket, Type};

mod asynchat;
mod asynchat_tls;
#[cfg(not(polling_test_poll_backend))]
mod calloop;
mod idle;
mod large_asynchat;
mod large_whole;
mod lines;
mod message_io;
mod mio;
mod pour;
mod raw_polling;
mod room_asynchat;
mod room_tokio;
mod tokio_lines;
mod tokio_rustls;
mod tokio_tuned;

/// Listens, says where, and serves for ever.
pub(crate) fn run(name: &str, at: SocketAddr) -> io::Result<()> {
    let serve = match name {
        "asynchat" => asynchat::serve,
        "asynchat-tls" => asynchat_tls::serve,
        #[cfg(not(polling_test_poll_backend))]
        "calloop" => calloop::serve,
        "idle" => idle::serve,
        "large-asynchat" => large_asynchat::serve,
        "large-whole" => large_whole::serve,
        "message-io" => return message_io::serve(at, announce),
        "mio" => mio::serve,
        "polling" => raw_polling::serve,
        "pour" => pour::serve,
        "room-asynchat" => room_asynchat::serve,
        "room-tokio" => room_tokio::serve,
        "tokio" => tokio_lines::serve,
        "tokio-rustls" => tokio_rustls::serve,
        "tokio-tuned" => tokio_tuned::serve,
        _ => return Err(io::Error::other(format!("no server is called {name}"))),
    };
    let socket = Socket::new(Domain::for_address(at), Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.bind(&at.into())?;
    socket.listen(BACKLOG)?;
    let listener = TcpListener::from(socket);
    announce(listener.local_addr()?)?;
    serve(listener)
}

fn announce(address: SocketAddr) -> io::Result<()> {
    writeln!(io::stdout(), "listening on {address}")
}

/// The backlog of the servers here that are given a listener: 4096, more than the connections that any driver has under
/// way.
const BACKLOG: i32 = 4096;
