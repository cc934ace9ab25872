//! [`CloseReason`]: why a channel closed, as its last callback hears it.

use std::fmt;
use std::io;

use rustix::io::Errno;

use crate::Error;

/// Why a channel was closed, given to [`Channel::handle_close`](crate::Channel::handle_close).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CloseReason {
    /// This program closed it: `close` or `close_when_done`.
    Local,
    /// The peer ended its side, and what was queued has been sent.
    Eof,
    /// The connection was lost: reset, aborted, or written to after the peer was gone.
    Reset,
    /// Nobody listens where the channel wanted to connect.
    Refused,
    /// The name of the host where the channel wanted to connect could not be resolved.
    Unresolved,
    /// There is no way to the peer's host or network.
    Unreachable,
    /// Something took too long.
    TimedOut(Timeout),
    /// A message went over its limit.
    TooLong,
    /// What came was not what the protocol allows.
    Malformed,
    /// TLS failed: the handshake was refused by either side, or a record was not genuine.
    Tls,
    /// The peer's end came without the word of TLS for it (`close_notify`): what came before may not be all.
    Truncated,
    /// The peer did not read, and the queued output went over its limit.
    OutputFull,
    /// A limit of the system or of the map kept the channel from being served.
    Limit,
    /// A callback or a producer returned an error.
    HandlerError,
    /// A callback or a producer panicked.
    HandlerPanic,
    /// The map was shut down: [`Map::shutdown`](crate::Map::shutdown).
    ShutDown,
}

/// What took too long, in [`CloseReason::TimedOut`] and [`Channel::handle_timeout`](crate::Channel::handle_timeout).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Timeout {
    /// The system gave the peer up: an unanswered connect, keepalive or retransmission.
    Transport,
    /// Nobody answered the channel's connect: [`Limits::connect_time`](crate::Limits::connect_time).
    Connect,
    /// A TLS handshake was not done: [`Limits::handshake_time`](crate::Limits::handshake_time).
    Handshake,
    /// No byte moved, either way: [`Limits::idle_time`](crate::Limits::idle_time).
    Idle,
    /// Nothing was received: [`Limits::read_time`](crate::Limits::read_time).
    Read,
    /// Output was queued and none of it moved: [`Limits::write_time`](crate::Limits::write_time).
    Write,
    /// The channel lasted too long, whatever it did: [`Limits::total_time`](crate::Limits::total_time).
    Total,
    /// Too little was received: [`Limits::min_rate`](crate::Limits::min_rate).
    Rate,
    /// A channel that was to close when done could not send what it had queued:
    /// [`Limits::drain_time`](crate::Limits::drain_time).
    Drain,
}

impl CloseReason {
    /// The reason that an error of the system stands for, if it means that the connection is lost.
    pub(crate) fn from_io(error: &io::Error) -> Option<Self> {
        match error.kind() {
            io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::BrokenPipe
            | io::ErrorKind::NotConnected => Some(Self::Reset),
            io::ErrorKind::ConnectionRefused => Some(Self::Refused),
            io::ErrorKind::HostUnreachable
            | io::ErrorKind::NetworkUnreachable
            | io::ErrorKind::NetworkDown
            | io::ErrorKind::AddrNotAvailable => Some(Self::Unreachable),
            io::ErrorKind::TimedOut => Some(Self::TimedOut(Timeout::Transport)),
            io::ErrorKind::UnexpectedEof => Some(Self::Truncated),
            #[cfg(feature = "tls")]
            _ if error.get_ref().is_some_and(|error| error.is::<rustls::Error>()) => Some(Self::Tls),
            _ => match Errno::from_io_error(error)? {
                Errno::SHUTDOWN | Errno::BADF => Some(Self::Reset),
                #[cfg(not(any(target_os = "haiku", target_os = "espidf", target_os = "vita")))]
                Errno::HOSTDOWN => Some(Self::Unreachable),
                _ => None,
            },
        }
    }

    /// The reason for a connect that failed: refused unless the error says otherwise.
    pub(crate) fn from_connect(error: &io::Error) -> Self {
        Self::from_io(error).unwrap_or(Self::Refused)
    }

    /// The reason for a channel that is closed over an error of its handler.
    pub(crate) fn from_handler(error: &Error) -> Self {
        error.downcast_ref().and_then(Self::from_io).unwrap_or(Self::HandlerError)
    }
}

impl fmt::Display for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Local => "closed here",
            Self::Eof => "closed by the peer",
            Self::Reset => "connection lost",
            Self::Refused => "connection refused",
            Self::Unresolved => "host name not resolved",
            Self::Unreachable => "peer unreachable",
            Self::TimedOut(Timeout::Transport) => "connection timed out",
            Self::TimedOut(Timeout::Connect) => "no answer to the connect in time",
            Self::TimedOut(Timeout::Idle) => "idle for too long",
            Self::TimedOut(Timeout::Read) => "nothing received in time",
            Self::TimedOut(Timeout::Write) => "output did not move in time",
            Self::TimedOut(Timeout::Total) => "time is up",
            Self::TimedOut(Timeout::Rate) => "peer too slow",
            Self::TimedOut(Timeout::Drain) => "peer did not take the rest in time",
            Self::TimedOut(Timeout::Handshake) => "TLS handshake not done in time",
            Self::TooLong => "message too long",
            Self::Malformed => "malformed input",
            Self::Tls => "TLS failed",
            Self::Truncated => "closed by the peer without an end of TLS",
            Self::OutputFull => "peer does not read",
            Self::Limit => "limit reached",
            Self::HandlerError => "error in a callback",
            Self::HandlerPanic => "panic in a callback",
            Self::ShutDown => "shut down",
        })
    }
}
