//! The process's own standard input and output as dispatchers.

use std::fs::File as StdFile;
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::thread;

use rustix::fs::OFlags;

use crate::Dispatcher;
use crate::file::{Access, File};

impl Dispatcher {
    /// The process's standard input, to read: a terminal, a pipe, a file, whatever it is.
    ///
    /// A terminal is opened anew, so that nothing changes for others who use it; anything else is a duplicate, whose
    /// file does not block while the channel lives: see [`from_descriptor`](Self::from_descriptor). What the system
    /// cannot wait for, a regular file for one, is read by a thread. What [`std::io::stdin`] has read ahead is not seen
    /// here. Closing the channel leaves the process's descriptor open.
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
    /// If no descriptor or thread is left.
    pub fn stdin() -> io::Result<Self> {
        let stdin = io::stdin();
        let fd = opened_anew(stdin.as_fd(), OFlags::RDONLY)?;
        if File::polls(fd.as_fd())? {
            return File::shared(fd, Access::Read).map(File::into_dispatcher);
        }
        let (reader, mut writer) = io::pipe()?;
        let mut from = StdFile::from(fd);
        // It ends with the file, or when nobody reads any more.
        spawn("asyncore-stdin", move || io::copy(&mut from, &mut writer))?;
        File::own(reader.into(), Access::Read).map(File::into_dispatcher)
    }

    /// The process's standard output, to push to; otherwise as [`stdin`](Self::stdin).
    ///
    /// What the system cannot wait for is written by a thread, and whoever drops the dispatcher waits until that has
    /// written all that it was given: nothing is lost when the map is dropped before the process exits. What
    /// [`println!`] writes goes its own way, and may come before or after.
    ///
    /// Whoever reads the output may take a while, in a pager for one. A channel that
    /// [closes when done](crate::Map::close_when_done) gives such a reader up after the
    /// [`drain_time`](crate::Limits::drain_time) of its limits.
    ///
    /// # Errors
    ///
    /// If no descriptor or thread is left.
    pub fn stdout() -> io::Result<Self> {
        let stdout = io::stdout();
        let fd = opened_anew(stdout.as_fd(), OFlags::WRONLY)?;
        if File::polls(fd.as_fd())? {
            return File::shared(fd, Access::Write).map(File::into_dispatcher);
        }
        let (mut reader, writer) = io::pipe()?;
        let mut to = StdFile::from(fd);
        let drain = spawn("asyncore-stdout", move || io::copy(&mut reader, &mut to))?;
        let file = File::own(writer.into(), Access::Write)?;
        Ok(file.drained_by(drain).into_dispatcher())
    }
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

fn spawn(
    name: &str,
    copy: impl FnOnce() -> io::Result<u64> + Send + 'static,
) -> io::Result<thread::JoinHandle<()>> {
    let thread = move || match copy() {
        Ok(_) => {}
        // The channel is gone.
        Err(error) if error.kind() == ErrorKind::BrokenPipe => {}
        Err(error) => {
            tracing::warn!(%error, thread = thread::current().name(), "standard input or output failed");
        }
    };
    thread::Builder::new().name(name.to_owned()).spawn(thread)
}
