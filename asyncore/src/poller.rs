//! Readiness: the only module that names `polling`, and the only one with `unsafe`.
//!
//! `polling` keeps the raw number of a descriptor after it was added, so a descriptor that is closed while it is
//! registered would leave the poller with a stale one. [`Source`] rules that out: it owns the descriptor, lends it
//! only borrowed, and leaves the poller before the descriptor closes.
//!
//! On Linux the loop waits on the poller's own descriptor, one system call instead of five. How `polling` maps its
//! keys to the kernel's is no promise of its documentation, so the mapping is proved once a process, and where it
//! does not hold the portable wait is used.

#![expect(unsafe_code, reason = "`Poller::add` is unsafe: the source must be deleted before it is dropped")]

use std::fmt;
use std::io;
use std::num::NonZeroUsize;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use polling::{PollMode, Poller as Inner};

use crate::interest::Interest;
use crate::limits::Wait;

/// What the poller says of one registered source.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Event {
    pub(crate) key: usize,
    /// A read would not block: data, an end, or an error.
    pub(crate) readable: bool,
    /// A write would not block.
    pub(crate) writable: bool,
    /// Both directions are over (HUP); a hint, not told on every system.
    pub(crate) hung_up: bool,
    /// The socket has an error to report (ERR); a hint, not told on every system.
    pub(crate) failed: bool,
    /// Urgent data (PRI).
    pub(crate) urgent: bool,
}

/// A descriptor and its registration; leaves the poller before it closes.
pub(crate) struct Source {
    /// `Some` while registered.
    registered: Option<Arc<Inner>>,
    fd: OwnedFd,
}

impl Source {
    pub(crate) const fn new(fd: OwnedFd) -> Self {
        Self { registered: None, fd }
    }

    pub(crate) const fn is_registered(&self) -> bool {
        self.registered.is_some()
    }

    /// Registers the descriptor under `key`, or changes what it waits for.
    pub(crate) fn join(&mut self, poller: &Poller, key: usize, interest: Interest) -> io::Result<()> {
        let event = polling::Event::new(key, interest.read, interest.write);
        if let Some(inner) = &self.registered {
            return inner.modify_with_mode(&self.fd, event, PollMode::Level);
        }
        // SAFETY: the descriptor is owned by this source, which hands out neither ownership nor `&mut` while
        // `registered` is set, and deletes it from the poller before it drops or gives it away.
        unsafe { poller.inner.add_with_mode(&self.fd, event, PollMode::Level)? };
        self.registered = Some(Arc::clone(&poller.inner));
        Ok(())
    }

    /// Leaves the poller.
    pub(crate) fn leave(&mut self) {
        if let Some(inner) = self.registered.take()
            && let Err(error) = inner.delete(&self.fd)
        {
            tracing::debug!(%error, "a source was not in the poller");
        }
    }
}

impl AsFd for Source {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        self.leave();
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Source").field("fd", &self.fd).field("registered", &self.is_registered()).finish()
    }
}

/// The poller of one map.
pub(crate) struct Poller {
    pub(crate) inner: Arc<Inner>,
    wait: Waiting,
    /// Whether the last wait failed, and notifications may be lost: see [`rearm`].
    failed: bool,
}

/// Ends the wait of a poller, from any thread: the one under way, or the next.
#[derive(Clone)]
pub(crate) struct Waker(Arc<Inner>);

impl Waker {
    pub(crate) fn wake(&self) {
        if let Err(error) = self.0.notify() {
            tracing::warn!(%error, "the loop could not be woken");
        }
    }
}

/// How the poller waits; one binary holds both ways, so that its tests can run either.
enum Waiting {
    #[cfg(all(target_os = "linux", not(polling_test_poll_backend)))]
    Direct(Vec<rustix::event::epoll::Event>),
    Portable(polling::Events),
}

impl Poller {
    /// A poller that waits as asked, as far as the system can.
    pub(crate) fn new(wait: Wait) -> io::Result<Self> {
        let inner = Inner::new()?;
        if !inner.supports_level() {
            return Err(io::Error::new(
                io::ErrorKind::Unsupported,
                "asyncore needs a poller with level-triggered events, which this system does not have",
            ));
        }
        let wait = match wait {
            #[cfg(all(target_os = "linux", not(polling_test_poll_backend)))]
            Wait::Direct if direct::is_proved() => Waiting::Direct(Vec::with_capacity(BATCH)),
            Wait::Direct | Wait::Portable => Waiting::Portable(polling::Events::with_capacity(BATCH_SIZE)),
        };
        Ok(Self { inner: Arc::new(inner), wait, failed: false })
    }

    pub(crate) fn waker(&self) -> Waker {
        Waker(Arc::clone(&self.inner))
    }

    /// Waits for events and appends them to `batch`; the end of the timeout and a notification append nothing. Nor does
    /// the wait after one that failed, which takes no time.
    pub(crate) fn wait(&mut self, batch: &mut Vec<Event>, timeout: Option<Duration>) -> io::Result<()> {
        if self.failed {
            return self.recover();
        }
        let waited = match &mut self.wait {
            #[cfg(all(target_os = "linux", not(polling_test_poll_backend)))]
            Waiting::Direct(events) => direct::wait(&self.inner, events, batch, timeout),
            Waiting::Portable(events) => portable::wait(&self.inner, events, batch, timeout),
        };
        waited.or_else(|error| self.fail(error))
    }

    #[cold]
    fn fail(&mut self, error: io::Error) -> io::Result<()> {
        self.failed = true;
        // The `poll` backend marks a notification before it sends it. A wait that begins in between finds the mark and
        // nothing to read: it was notified.
        if error.kind() == io::ErrorKind::WouldBlock { Ok(()) } else { Err(error) }
    }

    #[cold]
    fn recover(&mut self) -> io::Result<()> {
        rearm(&self.inner)?;
        self.failed = false;
        Ok(())
    }
}

/// Has the poller drain and re-arm its notifier, and forget that it was notified. It does so at the end of a wait of its
/// own that succeeds, and until then swallows every notification. What is ready it will tell again.
fn rearm(inner: &Inner) -> io::Result<()> {
    inner.wait(&mut polling::Events::with_capacity(NonZeroUsize::MIN), Some(Duration::ZERO)).map(drop)
}

impl fmt::Debug for Poller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let wait = match self.wait {
            #[cfg(all(target_os = "linux", not(polling_test_poll_backend)))]
            Waiting::Direct(_) => "direct",
            Waiting::Portable(_) => "portable",
        };
        f.debug_struct("Poller").field("wait", &wait).finish_non_exhaustive()
    }
}

/// The wait of the poller itself.
mod portable {
    use super::{Duration, Event, Inner, io};

    pub(super) fn wait(
        inner: &Inner,
        events: &mut polling::Events,
        batch: &mut Vec<Event>,
        timeout: Option<Duration>,
    ) -> io::Result<()> {
        events.clear();
        inner.wait(events, timeout)?;
        batch.extend(events.iter().map(|event| Event {
            key: event.key,
            readable: event.readable,
            writable: event.writable,
            hung_up: event.is_interrupt(),
            failed: event.is_err() == Some(true),
            urgent: event.is_priority(),
        }));
        Ok(())
    }
}

/// The wait on the poller's own epoll descriptor.
#[cfg(all(target_os = "linux", not(polling_test_poll_backend)))]
mod direct {
    use std::os::unix::net::UnixStream;
    use std::sync::OnceLock;
    use std::time::Instant;

    use rustix::buffer::spare_capacity;
    use rustix::event::Timespec;
    use rustix::event::epoll::{self, EventFlags};
    use rustix::io::Errno;

    use super::{BATCH, Duration, Event, Inner, Interest, Poller, Source, Waiting, io, rearm};

    pub(super) fn wait(
        inner: &Inner,
        events: &mut Vec<epoll::Event>,
        batch: &mut Vec<Event>,
        timeout: Option<Duration>,
    ) -> io::Result<()> {
        events.clear();
        let mut left = timeout;
        let mut interrupted = None;
        loop {
            let timespec = left.and_then(|left| Timespec::try_from(left).ok());
            match epoll::wait(inner, spare_capacity(events), timespec.as_ref()) {
                Ok(_) => break,
                // A signal is no event: the rest of the time is still to be waited.
                Err(Errno::INTR) => {
                    let now = Instant::now();
                    let since = *interrupted.get_or_insert(now);
                    left = timeout.map(|timeout| timeout.saturating_sub(now - since));
                }
                Err(error) => return Err(error.into()),
            }
        }
        for event in &*events {
            let (data, flags) = (event.data.u64(), event.flags);
            if data == NOTIFIED {
                rearm(inner)?;
                continue;
            }
            let ended = flags.intersects(EventFlags::HUP | EventFlags::ERR);
            batch.push(Event {
                key: usize::try_from(data).unwrap_or(usize::MAX),
                readable: ended || flags.intersects(EventFlags::IN | EventFlags::PRI | EventFlags::RDHUP),
                writable: ended || flags.contains(EventFlags::OUT),
                hung_up: flags.contains(EventFlags::HUP),
                failed: flags.contains(EventFlags::ERR),
                urgent: flags.contains(EventFlags::PRI),
            });
        }
        Ok(())
    }

    /// Whether keys and notifications show up on the poller's descriptor as this module expects.
    pub(super) fn is_proved() -> bool {
        static PROVED: OnceLock<bool> = OnceLock::new();
        *PROVED.get_or_init(|| {
            let proved = prove().unwrap_or(false);
            if !proved {
                tracing::warn!("the poller's keys are not mapped as expected: using its portable wait");
            }
            proved
        })
    }

    fn prove() -> io::Result<bool> {
        let inner = Inner::new()?;
        let wait = Waiting::Direct(Vec::with_capacity(BATCH));
        let mut poller = Poller { inner: inner.into(), wait, failed: false };
        let (end, _other) = UnixStream::pair()?;
        let mut source = Source::new(end.into());
        let key = usize::MAX / 3;
        source.join(&poller, key, Interest::WRITE)?;
        let mut batch = Vec::new();
        poller.wait(&mut batch, Some(Duration::ZERO))?;
        let keyed =
            matches!(batch[..], [Event { key: seen, writable: true, readable: false, .. }] if seen == key);
        source.leave();

        // Twice: the second shows that the first was drained and re-armed.
        let mut notified = true;
        for _ in 0..2 {
            poller.inner.notify()?;
            let mut events = Vec::with_capacity(BATCH);
            let zero = Timespec { tv_sec: 0, tv_nsec: 0 };
            epoll::wait(&*poller.inner, spare_capacity(&mut events), Some(&zero))?;
            notified &= matches!(events[..], [event] if event.data.u64() == NOTIFIED);
            rearm(&poller.inner)?;
        }
        Ok(keyed && notified)
    }

    /// The poller's own notifier: its key is `usize::MAX`.
    const NOTIFIED: u64 = usize::MAX as u64;
}

/// Events taken in one wait: 1024, as `polling` itself takes; more come with the next.
pub(crate) const BATCH: usize = BATCH_SIZE.get();

const BATCH_SIZE: NonZeroUsize = NonZeroUsize::new(1024).unwrap();

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::unix::net::UnixStream;
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::thread;
    use std::time::Instant;

    use super::*;

    fn both(test: impl Fn(Poller)) {
        for wait in [Wait::Direct, Wait::Portable] {
            test(Poller::new(wait).unwrap());
        }
    }

    #[test]
    fn a_level_is_told_until_it_is_gone() {
        both(|mut poller| {
            let (end, mut other) = UnixStream::pair().unwrap();
            let mut source = Source::new(end.into());
            source.join(&poller, 7, Interest { read: true, write: false }).unwrap();
            let mut batch = Vec::new();
            poller.wait(&mut batch, Some(Duration::ZERO)).unwrap();
            assert!(batch.is_empty());
            other.write_all(b"x").unwrap();
            for _ in 0..2 {
                batch.clear();
                poller.wait(&mut batch, None).unwrap();
                assert!(matches!(batch[..], [Event { key: 7, readable: true, writable: false, .. }]));
            }
            source.join(&poller, 7, Interest::NONE).unwrap();
            batch.clear();
            poller.wait(&mut batch, Some(Duration::ZERO)).unwrap();
            assert!(batch.is_empty());
        });
    }

    #[test]
    fn a_dropped_source_has_left_the_poller() {
        both(|mut poller| {
            let (end, other) = UnixStream::pair().unwrap();
            let mut source = Source::new(end.into());
            source.join(&poller, 7, Interest::WRITE).unwrap();
            drop((source, other));
            let mut batch = Vec::new();
            poller.wait(&mut batch, Some(Duration::ZERO)).unwrap();
            assert!(batch.is_empty());
        });
    }

    #[test]
    fn every_notification_ends_a_wait() {
        both(|mut poller| {
            for _ in 0..3 {
                poller.waker().wake();
                let mut batch = Vec::new();
                poller.wait(&mut batch, None).unwrap();
                assert!(batch.is_empty());
            }
        });
    }

    #[test]
    fn a_notification_may_come_at_any_moment_of_a_wait() {
        const NOTIFICATIONS: u64 = 20_000;
        both(|mut poller| {
            let waker = poller.waker();
            let (sent, seen) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
            let (told, looked) = (Arc::clone(&sent), Arc::clone(&seen));
            let notifier = thread::spawn(move || {
                for number in 1..=NOTIFICATIONS {
                    told.store(number, Ordering::SeqCst);
                    waker.wake();
                    while looked.load(Ordering::SeqCst) < number {
                        std::hint::spin_loop();
                        thread::yield_now();
                    }
                }
            });
            let mut batch = Vec::new();
            while seen.load(Ordering::SeqCst) < NOTIFICATIONS {
                let began = Instant::now();
                poller.wait(&mut batch, Some(Duration::from_secs(20))).unwrap();
                assert!(began.elapsed() < Duration::from_secs(20), "a notification was lost");
                seen.store(sent.load(Ordering::SeqCst), Ordering::SeqCst);
            }
            assert!(batch.is_empty());
            notifier.join().unwrap();
        });
    }
}
