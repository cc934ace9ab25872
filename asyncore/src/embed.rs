//! A map inside another loop: the descriptor that this one watches, and how long it may wait.

use std::time::Instant;

use crate::Map;

/// # Inside another loop
///
/// A map can live in a loop that is not its own: that of a toolkit, or of an async runtime. The host watches the map's
/// descriptor for input ([`AsFd`](std::os::fd::AsFd), where the system's poller has one: epoll, kqueue), and a timer of its
/// own for the [next deadline](Self::next_deadline). When either comes, it serves a turn that does not wait:
/// `map.poll(app, Some(Duration::ZERO))`. [`stop`](Self::stop) means nothing there: the host ends when it likes, or when
/// the map no longer [has work](Self::has_work).
///
/// The descriptor stays ready while there are events. A host that is told of changes alone, as tokio's `AsyncFd` is, serves
/// turns until one has brought no event: [`Counters::events`](crate::Counters::events) says so.
///
/// ```
/// use std::io::Write;
/// use std::os::unix::net::UnixStream;
/// use std::time::{Duration, Instant};
///
/// use asyncore::{Channel, Context, Map, Received, Result};
/// use rustix::event::{PollFd, PollFlags, Timespec, poll};
///
/// struct Reader;
///
/// impl Channel<Vec<u8>> for Reader {
///     fn handle_read(&mut self, cx: &mut Context<'_, Vec<u8>>) -> Result {
///         while let Received::Data(data) = cx.map.recv(cx.id, 4096)? {
///             cx.app.extend_from_slice(&data);
///         }
///         Ok(())
///     }
/// }
///
/// let (here, mut there) = UnixStream::pair()?;
/// let mut map = Map::new()?;
/// map.add(here, Reader)?;
/// there.write_all(b"hello")?;
/// drop(there);
/// let mut read = Vec::new();
/// // The host's loop: with other descriptors beside the map's, in life.
/// while map.has_work() {
///     let wait = map.next_deadline().map(|at| at.saturating_duration_since(Instant::now()));
///     let wait = wait.and_then(|wait| Timespec::try_from(wait).ok());
///     poll(&mut [PollFd::new(&map, PollFlags::IN)], wait.as_ref())?;
///     map.poll(&mut read, Some(Duration::ZERO))?;
/// }
/// assert_eq!(read, b"hello");
/// # Ok::<(), asyncore::Error>(())
/// ```
impl<A: 'static> Map<A> {
    /// Until when a host may wait for the map's descriptor before it serves a turn; `None` is for ever.
    ///
    /// It is now, or a time that has passed, when there is work already. Asked right before each wait, after whatever
    /// else the host did with the map: what was touched is told to the poller here, and from here on a
    /// [post](Self::remote) of another thread makes the descriptor ready. In a callback the answer is always now. The
    /// time is the map's: a simulated one has its own.
    pub fn next_deadline(&mut self) -> Option<Instant> {
        if self.phase.in_turn || self.phase.lends {
            // What was touched is for the end of the turn.
            return Some(self.time());
        }
        self.prepare_to_wait()
    }

    /// Whether [`run`](Self::run) would go on: there are channels beside those in the background, a post waits, or a
    /// shutdown waits for blocking work.
    #[must_use]
    pub fn has_work(&self) -> bool {
        self.channels > self.background || !self.closed.is_empty() || self.posts.wait() || self.awaits_work()
    }
}

/// Where the poller is a descriptor itself.
#[cfg(all(
    any(
        target_os = "linux",
        target_os = "android",
        target_vendor = "apple",
        target_os = "freebsd",
        target_os = "netbsd",
        target_os = "openbsd",
        target_os = "dragonfly",
    ),
    not(polling_test_poll_backend)
))]
mod descriptor {
    use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};

    use crate::Map;
    use crate::world::World;

    impl<A: 'static> AsFd for Map<A> {
        /// What a host watches for input: see [`Map::next_deadline`]. That of a simulated map is never ready.
        fn as_fd(&self) -> BorrowedFd<'_> {
            match &self.world {
                World::System(poller) => poller.inner.as_fd(),
                #[cfg(feature = "testing")]
                World::Simulated(network) => network.never_ready(),
            }
        }
    }

    impl<A: 'static> AsRawFd for Map<A> {
        fn as_raw_fd(&self) -> RawFd {
            self.as_fd().as_raw_fd()
        }
    }
}
