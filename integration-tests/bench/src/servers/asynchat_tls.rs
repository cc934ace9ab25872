//! A line echo on asynchat under TLS.

use std::io;
use std::net::TcpListener;

use asynchat::{AsyncChat, Terminator};
use asyncore::{Identity, ListenOptions, Map, Result, TlsServer};

use super::asynchat::Echo;
use crate::load::secure::{CERTIFICATE, KEY};

/// Serves every connection until the process is killed.
pub(crate) fn serve(listener: TcpListener) -> io::Result<()> {
    echo(listener).map_err(io::Error::other)
}

fn echo(listener: TcpListener) -> Result {
    let mut map = Map::new()?;
    let id = map.listen_on(listener, |_peer| AsyncChat::new(Echo).terminator(Terminator::line()))?;
    let mut options = ListenOptions::default();
    options.tls = Some(TlsServer::new(Identity::new(CERTIFICATE, KEY))?);
    map.set_listen_options(&[id], options);
    map.run(&mut ())
}
