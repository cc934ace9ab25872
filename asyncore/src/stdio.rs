//! The process's own standard input and output as dispatchers.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::OFlags;

use crate::Dispatcher;
use crate::file::{Access, File};

impl Dispatcher {
    /// The process's standard input, to read: a terminal, a pipe, a file, whatever it is.
    ///
    /// A terminal is opened anew, so that nothing changes for others who use it; anything else is a duplicate, whose
    /// file does not block while the channel lives: see [`from_descriptor`](Self::from_descriptor). What the system
    /// cannot wait for, a regular file for one, is always ready, and the loop waits for the disk while it is read. What
    /// [`std::io::stdin`] has read ahead is not seen here. Closing the channel leaves the process's descriptor open.
    ///
    /// ```no_run
    /// use asyncore::{Channel, Context, Dispatcher, Map, Received, Result};
    ///
    /// /// Counts the bytes of standard input.
    /// struct Counter;
    ///
    /// impl Channel<usize> for Counter {
    ///     fn handle_read(&mut self, cx: &mut Context<'_, usize>) -> Result {
    ///         if let Received::Data(data) = cx.map.recv(cx.id, 4096)? {
    ///             *cx.app += data.len();
    ///         }
    ///         Ok(())
    ///     }
    /// }
    ///
    /// let mut map = Map::new()?;
    /// map.add(Dispatcher::stdin()?, Counter)?;
    /// let mut bytes = 0;
    /// map.run(&mut bytes)?; // until the end of the input
    /// println!("{bytes}");
    /// # Ok::<(), asyncore::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// If no descriptor is left.
    pub fn stdin() -> io::Result<Self> {
        let stdin = io::stdin();
        standard(stdin.as_fd(), Access::Read)
    }

    /// The process's standard output, to push to; otherwise as [`stdin`](Self::stdin).
    ///
    /// What [`println!`] writes goes its own way, and may come before or after.
    ///
    /// Whoever reads the output may take a while, in a pager for one. A channel that
    /// [closes when done](crate::Map::close_when_done) gives such a reader up after the
    /// [`drain_time`](crate::Limits::drain_time) of its limits.
    ///
    /// # Errors
    ///
    /// If no descriptor is left.
    pub fn stdout() -> io::Result<Self> {
        let stdout = io::stdout();
        standard(stdout.as_fd(), Access::Write)
    }
}

fn standard(fd: BorrowedFd<'_>, access: Access) -> io::Result<Dispatcher> {
    let flags = if access == Access::Read { OFlags::RDONLY } else { OFlags::WRONLY };
    let fd = opened_anew(fd, flags)?;
    let polls = File::polls(fd.as_fd())?;
    let file = if polls { File::shared(fd, access)? } else { File::always_ready(fd, access)? };
    Ok(file.into_dispatcher())
}

/// A duplicate, or of a terminal another opening of it, as libuv does it for the same reason: a flag that is set on that
/// is nobody else's. Where the terminal cannot be opened, the duplicate has to do.
fn opened_anew(fd: BorrowedFd<'_>, access: OFlags) -> io::Result<OwnedFd> {
    if let Ok(name) = rustix::termios::ttyname(fd, Vec::new())
        // The name of a terminal's other side makes a new terminal when it is opened.
        && !name.to_bytes().ends_with(b"ptmx")
    {
        let flags = access | OFlags::NOCTTY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        match rustix::fs::open(&*name, flags, rustix::fs::Mode::empty()) {
            Ok(terminal) => return Ok(terminal),
            Err(error) => tracing::debug!(%error, ?name, "the terminal is shared"),
        }
    }
    fd.try_clone_to_owned()
}
