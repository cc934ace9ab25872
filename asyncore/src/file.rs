//! A descriptor that is no socket as a [`Carrier`]: a pipe, a terminal, any file that tells when it is ready, and for
//! standard input and output those that do not.

use std::io::{self, IoSlice, Write as _};
use std::net::Shutdown;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{OFlags, fcntl_getfl};
use rustix::io::Errno;

use crate::carrier::Carrier;
use crate::entry::Flags;
use crate::interest::Interest;
use crate::limits::Wait;
use crate::nonblocking::NonBlocking;
use crate::poller::{Poller, Source};
use crate::socket::{Moved, Socket};
use crate::system::moved;
use crate::world::World;
use crate::{Dispatcher, Family, Kind, State};

/// A file that polls, or one behind a stand-in that does. Its fields end in this order: it closes, its flags are put back.
#[derive(Debug)]
pub(crate) struct File {
    /// What is waited for.
    source: Source,
    /// What is read and written, if something else.
    behind: Option<Behind>,
    access: Access,
    /// Asked at the beginning: one that is hung up denies it.
    is_terminal: bool,
    /// `None` where nobody else has this open file.
    _non_blocking: Option<NonBlocking>,
}

/// A file that the system cannot wait for. It is always ready, as is the pipe that stands in for it.
#[derive(Debug)]
struct Behind {
    file: OwnedFd,
    /// The other end of that pipe, open so that it does not hang up.
    _other: OwnedFd,
}

/// What a file was opened for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    Read,
    Write,
    Both,
}

impl Access {
    pub(crate) fn of(fd: BorrowedFd<'_>) -> io::Result<Self> {
        Ok(match fcntl_getfl(fd)? & OFlags::ACCMODE {
            OFlags::RDONLY => Self::Read,
            OFlags::WRONLY => Self::Write,
            _ => Self::Both,
        })
    }
}

impl File {
    /// A file that others may have open too: the flag that is set here is put back.
    pub(crate) fn shared(fd: OwnedFd, access: Access) -> io::Result<Self> {
        let non_blocking = NonBlocking::set(fd.as_fd())?;
        let is_terminal = rustix::termios::isatty(&fd);
        let source = Source::new(fd);
        Ok(Self { source, behind: None, access, is_terminal, _non_blocking: Some(non_blocking) })
    }

    /// A file that is open here alone, as the near end of a new pipe.
    pub(crate) fn own(fd: OwnedFd, access: Access) -> io::Result<Self> {
        rustix::io::ioctl_fionbio(&fd, true)?;
        let source = Source::new(fd);
        Ok(Self { source, behind: None, access, is_terminal: false, _non_blocking: None })
    }

    /// A file of one way that does not [poll](Self::polls): reading it and writing it take as long as they take.
    pub(crate) fn always_ready(fd: OwnedFd, access: Access) -> io::Result<Self> {
        let (reader, mut writer) = io::pipe()?;
        let (stand_in, other) = if access == Access::Read {
            // There is something to read for ever.
            writer.write_all(b"!")?;
            (reader.into(), writer.into())
        } else {
            (writer.into(), reader.into())
        };
        let behind = Some(Behind { file: fd, _other: other });
        Ok(Self { behind, ..Self::own(stand_in, access)? })
    }

    /// Whether the system tells when a file is ready: a poller that is here for nothing else is asked.
    ///
    /// Not about a regular file, which some pollers take: of kqueue(2), that has no event at its end.
    pub(crate) fn polls(fd: BorrowedFd<'_>) -> io::Result<bool> {
        if rustix::fs::FileType::from_raw_mode(rustix::fs::fstat(fd)?.st_mode).is_file() {
            return Ok(false);
        }
        let mut source = Source::new(fd.try_clone_to_owned()?);
        match source.join(&Poller::new(Wait::Portable)?, 0, Interest::NONE) {
            Ok(()) => Ok(true),
            // epoll_ctl(2): "The target file fd does not support epoll".
            Err(error) if Errno::from_io_error(&error) == Some(Errno::PERM) => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn fd(&self) -> BorrowedFd<'_> {
        self.behind.as_ref().map_or_else(|| self.source.as_fd(), |behind| behind.file.as_fd())
    }

    /// A file of one way begins where a socket is that has ended its other side.
    pub(crate) fn into_dispatcher(self) -> Dispatcher {
        let access = self.access;
        let state = match access {
            Access::Read => State::WriteClosed,
            Access::Write => State::PeerClosed,
            Access::Both => State::Open,
        };
        let mut dispatcher = Dispatcher::new(Socket::other(self), Family::File, Kind::Stream, state, None);
        if access == Access::Write {
            dispatcher.rare().input = Flags::EOF_SEEN;
        }
        dispatcher
    }
}

impl Carrier for File {
    fn descriptor(&self) -> BorrowedFd<'_> {
        self.fd()
    }

    fn is_registered(&self) -> bool {
        self.source.is_registered()
    }

    fn register(&mut self, world: &World, key: usize, interest: Interest) -> io::Result<()> {
        self.source.join(world.poller()?, key, interest)
    }

    fn deregister(&mut self) {
        self.source.leave();
    }

    fn recv(&mut self, room: &mut [u8]) -> io::Result<Moved> {
        if self.access == Access::Write {
            return Err(io::Error::new(io::ErrorKind::Unsupported, "this file is open for writing only"));
        }
        match moved(|| rustix::io::read(self.fd(), &mut *room)) {
            // The end of a terminal whose other side is closed: pty(7) on Linux, where others read nothing.
            Err(error) if is_input_output(&error) && self.is_terminal => Ok(Moved::Bytes(0)),
            other => other,
        }
    }

    /// A pipe whose reader is gone is an error and no signal: every Rust program ignores `SIGPIPE` from its start.
    fn send_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<Moved> {
        if self.access == Access::Read {
            return Err(io::Error::new(io::ErrorKind::Unsupported, "this file is open for reading only"));
        }
        match moved(|| rustix::io::writev(self.fd(), slices)) {
            Err(error) if is_input_output(&error) && self.is_terminal => {
                Err(io::ErrorKind::BrokenPipe.into())
            }
            other => other,
        }
    }

    fn shutdown(&mut self, _how: Shutdown) -> io::Result<()> {
        Err(io::Error::new(io::ErrorKind::Unsupported, "a file ends by closing only: drop it"))
    }

    fn half_closes(&self) -> bool {
        false
    }

    fn reads(&self) -> bool {
        self.access != Access::Write
    }
}

fn is_input_output(error: &io::Error) -> bool {
    Errno::from_io_error(error) == Some(Errno::IO)
}
