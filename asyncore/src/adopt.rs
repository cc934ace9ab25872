//! Descriptors that others opened, as dispatchers: sockets, pipes, terminals.

use std::fs::File as StdFile;
use std::io::{self, PipeReader, PipeWriter};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::process::{ChildStderr, ChildStdin, ChildStdout};

use socket2::SockRef;

use crate::file::{Access, File};
use crate::poller::Source;
use crate::socket::Socket;
use crate::{Dispatcher, Family, Kind, State};

impl Dispatcher {
    /// Adopts any descriptor that the system can wait for: a pipe, a FIFO, a terminal, a counter of events; a socket,
    /// as that.
    ///
    /// What was opened for reading only takes no pushes: they answer [`Closing`](crate::Pushed::Closing). What was
    /// opened for writing only is never read, and hears no `handle_eof`. A file has no addresses; its
    /// [`family`](Self::family) is [`Family::File`]. Its end is the end of the stream, or a lost connection where this
    /// side writes, and [`close_when_done`](crate::Map::close_when_done) closes it after the last byte. A file of both
    /// ways, a terminal for one, cannot tell its other side that no more will be written.
    ///
    /// The file does not block while the channel lives. That shows to all who have it open, other processes too, so the
    /// flag is put back when the last channel that needs it is dropped. A program that is killed puts nothing back.
    ///
    /// ```
    /// use std::io::Write;
    ///
    /// use asyncore::{Channel, Context, Dispatcher, Map, Received, Result};
    ///
    /// struct Reader;
    ///
    /// impl Channel<Vec<u8>> for Reader {
    ///     fn handle_read(&mut self, cx: &mut Context<'_, Vec<u8>>) -> Result {
    ///         if let Received::Data(data) = cx.map.recv(cx.id, 4096)? {
    ///             cx.app.extend_from_slice(&data);
    ///         }
    ///         Ok(())
    ///     }
    /// }
    ///
    /// let (reader, mut writer) = std::io::pipe()?;
    /// let mut map = Map::new()?;
    /// map.add(Dispatcher::from_descriptor(reader)?, Reader)?;
    /// writer.write_all(b"through a pipe")?;
    /// drop(writer);
    ///
    /// let mut read = Vec::new();
    /// map.run(&mut read)?;
    /// assert_eq!(read, b"through a pipe");
    /// # Ok::<(), asyncore::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// If the system cannot wait for it: a regular file, a directory, a disk, some devices. Those are read and written
    /// with [`Map::spawn_blocking`](crate::Map::spawn_blocking). If it is a socket of neither a stream nor datagrams. The
    /// descriptor is closed then.
    pub fn from_descriptor(descriptor: impl Into<OwnedFd>) -> io::Result<Self> {
        let file = StdFile::from(descriptor.into());
        let kind = file.metadata()?.file_type();
        let fd = OwnedFd::from(file);
        let what = if kind.is_socket() {
            return Self::from_socket_descriptor(fd);
        } else if kind.is_file() {
            "a regular file"
        } else if kind.is_dir() {
            "a directory"
        } else if kind.is_block_device() {
            "a block device"
        } else if kind.is_fifo() || File::polls(fd.as_fd())? {
            let access = Access::of(fd.as_fd())?;
            return File::shared(fd, access).map(File::into_dispatcher);
        } else {
            "this device"
        };
        Err(io::Error::new(
            io::ErrorKind::Unsupported,
            format!("{what} does not tell when it is ready: read or write it with Map::spawn_blocking"),
        ))
    }

    /// Adopts a socket: what it is, the system is asked.
    fn from_socket_descriptor(fd: OwnedFd) -> io::Result<Self> {
        let options = SockRef::from(&fd);
        let kind = match options.r#type()? {
            socket2::Type::STREAM => Kind::Stream,
            socket2::Type::DGRAM => Kind::Datagram,
            // A packet of a sequence, for one, would lose what a read leaves of it.
            _ => {
                let text = "this socket carries neither a stream nor datagrams";
                return Err(io::Error::new(io::ErrorKind::Unsupported, text));
            }
        };
        options.set_nonblocking(true)?;
        let local = options.local_addr()?;
        let family = match (local.as_socket_ipv4(), local.as_socket_ipv6()) {
            (Some(_), _) => Family::V4,
            (_, Some(_)) => Family::V6,
            _ => Family::Unix,
        };
        let listens = kind == Kind::Stream && options.is_listener()?;
        let socket = Socket::System(Source::new(fd));
        // A stream whose peer has reset it has no address any more; reading tells the rest.
        let peer = if listens { None } else { socket.peer_address().ok().flatten() };
        Ok(Self::new(socket, family, kind, if listens { State::Listening } else { State::Open }, peer))
    }
}

macro_rules! adopt {
    ($($type:ty),+ $(,)? : $how:expr, $doc:literal) => {$(
        impl TryFrom<$type> for Dispatcher {
            type Error = io::Error;

            #[doc = $doc]
            fn try_from(descriptor: $type) -> io::Result<Self> {
                $how(descriptor.into())
            }
        }
    )+};
}

adopt!(
    TcpStream, TcpListener, UdpSocket, UnixStream, UnixListener, UnixDatagram:
    Self::from_socket_descriptor,
    "Adopts the socket, and makes it non-blocking."
);
adopt!(
    OwnedFd, StdFile, PipeReader, PipeWriter:
    |fd: OwnedFd| Self::from_descriptor(fd),
    "Adopts the file: see [`from_descriptor`](Self::from_descriptor)."
);
// The near ends of pipes that nobody else has open.
adopt!(
    ChildStdout, ChildStderr:
    |fd| File::own(fd, Access::Read).map(File::into_dispatcher),
    "Adopts what a child process writes."
);
adopt!(
    ChildStdin:
    |fd| File::own(fd, Access::Write).map(File::into_dispatcher),
    "Adopts what a child process reads."
);
