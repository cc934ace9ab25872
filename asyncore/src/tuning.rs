//! Options of a socket: what the system is told of how to bind it and how to carry its bytes.

use std::io;
use std::time::Duration;

use socket2::SockRef;

use crate::{Dispatcher, Family, Kind};

impl Dispatcher {
    /// Lets the address be bound while connections of an earlier listener on it are still dying (`SO_REUSEADDR`).
    ///
    /// # Errors
    ///
    /// If the system refuses the option.
    pub fn set_reuse_addr(&self) -> io::Result<()> {
        self.option(|options| options.set_reuse_address(true))
    }

    /// Lets several sockets be bound to one address, if each of them says so (`SO_REUSEPORT`): the system shares what
    /// comes out among those that listen. Only sockets of the same user may.
    ///
    /// # Errors
    ///
    /// If the system refuses the option, or has none that shares.
    pub fn set_reuse_port(&self) -> io::Result<()> {
        self.option(share_port)
    }

    /// Whether an IPv6 socket is for IPv6 alone (`IPV6_V6ONLY`). Otherwise one that is bound to `[::]` is for IPv4 too, where
    /// the system says so by default. Asked for before it is bound.
    ///
    /// # Errors
    ///
    /// If it is no IPv6 socket, is bound already, or the system refuses the option.
    pub fn set_only_v6(&self, only: bool) -> io::Result<()> {
        self.option(|options| options.set_only_v6(only))
    }

    /// Whether small writes go out at once (`TCP_NODELAY`); other sockets than TCP ignore it.
    ///
    /// # Errors
    ///
    /// If the system refuses the option.
    pub fn set_nodelay(&self, nodelay: bool) -> io::Result<()> {
        if self.family() == Family::Unix || self.kind() == Kind::Datagram {
            return Ok(());
        }
        self.option(|options| options.set_tcp_nodelay(nodelay))
    }

    /// Whether the system probes a silent peer; with a time, after how much silence (else the system's own, often two
    /// hours).
    ///
    /// # Errors
    ///
    /// If the system refuses the option.
    pub fn set_keepalive(&self, keepalive: bool, after: Option<Duration>) -> io::Result<()> {
        self.option(|options| {
            options.set_keepalive(keepalive)?;
            match after {
                Some(after) if keepalive => {
                    options.set_tcp_keepalive(&socket2::TcpKeepalive::new().with_time(after))
                }
                _ => Ok(()),
            }
        })
    }

    /// What the system does with unsent bytes when the socket closes (`SO_LINGER`): with zero, the connection is reset.
    ///
    /// # Errors
    ///
    /// If the system refuses the option.
    pub fn set_linger(&self, linger: Option<Duration>) -> io::Result<()> {
        self.socket.set_linger(linger)
    }

    /// The system's receive buffer, in bytes; the system may round it.
    ///
    /// # Errors
    ///
    /// If the system refuses the option.
    pub fn set_recv_buffer_size(&self, bytes: usize) -> io::Result<()> {
        self.option(|options| options.set_recv_buffer_size(bytes))
    }

    /// The system's send buffer, in bytes; the system may round it.
    ///
    /// # Errors
    ///
    /// If the system refuses the option.
    pub fn set_send_buffer_size(&self, bytes: usize) -> io::Result<()> {
        self.option(|options| options.set_send_buffer_size(bytes))
    }

    /// Sets an option of the system's; a simulated socket has none to set.
    pub(crate) fn option(&self, set: impl FnOnce(&SockRef<'_>) -> io::Result<()>) -> io::Result<()> {
        self.socket.options().map_or(Ok(()), |options| set(&options))
    }

    pub(crate) fn apply_nodelay(&self) {
        if self.extra.own_limits().is_none_or(|limits| limits.nodelay)
            && let Err(error) = self.set_nodelay(true)
        {
            // The connection is lost already; its first read tells.
            tracing::debug!(%error, "no TCP_NODELAY");
        }
    }
}

#[cfg(any(target_os = "linux", target_os = "android"))]
fn share_port(options: &SockRef<'_>) -> io::Result<()> {
    options.set_reuse_port(true)
}

#[cfg(target_os = "freebsd")]
fn share_port(options: &SockRef<'_>) -> io::Result<()> {
    // The plain option gives everything to the socket that was bound last.
    options.set_reuse_port_lb(true)
}

#[cfg(not(any(target_os = "linux", target_os = "android", target_os = "freebsd")))]
fn share_port(_options: &SockRef<'_>) -> io::Result<()> {
    Err(io::Error::new(io::ErrorKind::Unsupported, "this system does not share a port among listeners"))
}
