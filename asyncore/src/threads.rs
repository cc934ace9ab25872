//! [`serve_threads`]: a loop in each of several threads, which listen on one port and post to each other.

use std::collections::HashMap;
use std::fmt;
use std::net::{SocketAddr, ToSocketAddrs};
use std::num::NonZero;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use crate::panics::describe;
use crate::{
    Address, Channel, ChannelId, Error, Family, Kind, ListenOptions, Map, Options, Remote, Remotes, Result,
    WORKERS_BESIDE_PROCESSORS,
};

/// Serves `count` maps, each in a thread of its own, and returns when the loop of each has ended. 0 is as many as the
/// machine has processors.
///
/// `start` is called in each thread, for one after the other: it puts what is to be served into `thread.map`, and returns
/// the state that the loop lends to callbacks. No loop runs before all have started. A handler stays in its thread,
/// locks nothing, and reaches what other threads serve by posting to their loops: [`Thread::remotes`]. A loop ends when its
/// last channel is gone, as [`Map::run`] does; the others go on without it.
///
/// ```
/// use std::time::Duration;
///
/// use asyncore::{Channel, Context, Received, Result, serve_threads};
///
/// struct Echo;
///
/// impl Channel for Echo {
///     fn handle_read(&mut self, cx: &mut Context<'_>) -> Result {
///         if let Received::Data(data) = cx.map.recv(cx.id, 4096)? {
///             cx.map.push(cx.id, &data);
///         }
///         Ok(())
///     }
/// }
///
/// serve_threads(4, |thread| {
///     thread.listen("127.0.0.1:0", |_peer| Echo)?; // one port for all four
/// #   thread.remotes().shutdown(Duration::from_secs(5));
///     Ok(())
/// })?;
/// # Ok::<(), asyncore::Error>(())
/// ```
///
/// Each map has the default [`Options`], but an equal part of their `connections`, since descriptors are the process's, and
/// of their `output`, and of their `workers`, though at least [`WORKERS_BESIDE_PROCESSORS`].
///
/// # Errors
///
/// If a thread cannot be started, `start` fails, or a loop does: the others are shut down then, with
/// [`FAREWELL_TIME`] as their deadline, and the error is returned when all have ended. A panic in `start` counts as one.
pub fn serve_threads<A: 'static>(count: usize, start: impl Fn(&mut Thread<A>) -> Result<A> + Sync) -> Result {
    let count = threads_of(count);
    let mut options = Options::default();
    options.connections = (options.connections / count).max(1);
    options.output = (options.output / count).max(1);
    options.workers = (options.workers / count).max(WORKERS_BESIDE_PROCESSORS);
    serve_threads_with(count, &options, start)
}

/// As [`serve_threads`], with these options for each of the maps.
///
/// # Errors
///
/// As [`serve_threads`].
pub fn serve_threads_with<A: 'static>(
    count: usize,
    options: &Options,
    start: impl Fn(&mut Thread<A>) -> Result<A> + Sync,
) -> Result {
    let crew = Crew::new(threads_of(count));
    let (crew, start) = (&crew, &start);
    thread::scope(|scope| {
        for index in 0..crew.count {
            let thread = thread::Builder::new().name(format!("asyncore-{index}"));
            if let Err(error) = thread.spawn_scoped(scope, move || crew.contain(index, options, start)) {
                crew.fail(index, format!("cannot start a thread: {error}").into());
                break;
            }
        }
    });
    crew.lock().failure.take().map_or(Ok(()), Err)
}

/// One of the threads of [`serve_threads`], as it starts: its map, its place among them, and the way to the others.
#[non_exhaustive]
pub struct Thread<A: 'static> {
    /// The thread's map. What this thread alone listens on, it listens on here.
    pub map: Map<A>,
    remotes: Remotes<A>,
    shared: Arc<Shared>,
    /// How often it has asked for an address.
    asked: HashMap<SocketAddr, usize>,
}

impl<A: 'static> Thread<A> {
    /// Its place among the threads, from 0 on.
    #[must_use]
    pub const fn index(&self) -> usize {
        self.remotes.own()
    }

    /// How many threads there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.remotes.count()
    }

    /// The loops of all threads, this one's among them, to post to.
    #[must_use]
    pub fn remotes(&self) -> Remotes<A> {
        self.remotes.clone()
    }

    /// As [`Map::listen`], on an address that all threads listen on: the system shares what comes out among them. For
    /// port 0 the first takes a free one, and the others take the same.
    ///
    /// The threads share it among themselves: the program started twice does not, and the second is told that the address
    /// is in use.
    ///
    /// # Errors
    ///
    /// As [`Map::listen`], and with more than one thread if the system does not share a port.
    pub fn listen<C: Channel<A>>(
        &mut self,
        at: impl ToSocketAddrs,
        make: impl FnMut(Option<Address>) -> C + 'static,
    ) -> Result<Vec<ChannelId>> {
        self.listen_with(at, ListenOptions::default(), make)
    }

    /// As [`Map::listen_with`], on an address that all threads listen on.
    ///
    /// Each thread counts for itself, so that four threads take four times the total. Where one is full and
    /// [waits](crate::WhenFull::Wait), those wait too that the system has dealt to it, whatever room the others have. With
    /// `reuse_port` the address is shared with other programs of the same user too.
    ///
    /// # Errors
    ///
    /// As [`listen`](Self::listen).
    pub fn listen_with<C: Channel<A>>(
        &mut self,
        at: impl ToSocketAddrs,
        mut options: ListenOptions,
        make: impl FnMut(Option<Address>) -> C + 'static,
    ) -> Result<Vec<ChannelId>> {
        if self.count() == 1 {
            return self.map.listen_with(at, options, make);
        }
        let Self { map, shared, asked, .. } = self;
        let is_for_all = std::mem::replace(&mut options.reuse_port, true);
        map.listen_at_each(at, options, make, |map, address, options| {
            let times = asked.entry(address).or_insert(0);
            let asked = (address, *times);
            *times += 1;
            let mut bound = shared.bound.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(address) = bound.get(&asked) {
                return map.listener((*address).into(), options);
            }
            if !is_for_all {
                // Whoever shares its port does not hear of others that do: a socket that does not share finds them.
                let mut alone = map.create_socket(Family::of(&address.into()), Kind::Stream)?;
                alone.set_reuse_addr()?;
                alone.bind(address)?;
            }
            let listener = map.listener(address.into(), options)?;
            if let Some(Address::Inet(address)) = listener.local_addr()? {
                bound.insert(asked, address);
            }
            Ok(listener)
        })
    }

    /// Ends what all threads serve in good order when the process is asked to stop, by `SIGINT` or `SIGTERM`; at once when
    /// it is asked again. See [`Map::shutdown_on_signals`].
    ///
    /// # Errors
    ///
    /// If a signal cannot be caught, or no descriptor is left.
    #[cfg(feature = "signals")]
    pub fn shutdown_on_signals(&mut self, deadline: Duration) -> Result {
        use std::sync::atomic::Ordering;
        // Each thread hears every signal from when it has asked for them, and tells all: the others may not have asked yet.
        let heard = std::rc::Rc::new(std::cell::Cell::new(0usize));
        for signal in [crate::SIGINT, crate::SIGTERM] {
            let (heard, remotes, shared) = (heard.clone(), self.remotes.clone(), Arc::clone(&self.shared));
            self.map.count_signals(signal, move |cx, count| {
                heard.set(heard.get().saturating_add(count));
                let is_first = !shared.signalled.swap(true, Ordering::Relaxed);
                let is_repeated = heard.get() > 1 || (is_first && cx.map.is_shutting_down());
                remotes.shutdown(if is_repeated { Duration::ZERO } else { deadline });
                Ok(())
            })?;
        }
        Ok(())
    }
}

impl<A: 'static> fmt::Debug for Thread<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Thread").field("index", &self.index()).field("map", &self.map).finish_non_exhaustive()
    }
}

/// What threads know of each other while they serve.
#[derive(Debug, Default)]
struct Shared {
    /// Where the first thread is bound that asked for an address, by the address and how often it had asked before.
    bound: Mutex<HashMap<(SocketAddr, usize), SocketAddr>>,
    /// Whether a signal has been told.
    #[cfg(feature = "signals")]
    signalled: std::sync::atomic::AtomicBool,
}

/// The threads as they start, and what became of them.
struct Crew<A: 'static> {
    count: usize,
    shared: Arc<Shared>,
    progress: Mutex<Progress<A>>,
    changed: Condvar,
}

struct Progress<A: 'static> {
    /// Of the maps that are made, in the order of the threads.
    remotes: Vec<Remote<A>>,
    /// Threads that have started.
    started: usize,
    /// What failed first.
    failure: Option<Error>,
}

impl<A: 'static> Crew<A> {
    fn new(count: usize) -> Self {
        let progress = Progress { remotes: Vec::new(), started: 0, failure: None };
        Self { count, shared: Arc::default(), progress: Mutex::new(progress), changed: Condvar::new() }
    }

    /// What one thread does; if it fails, the others do not go on.
    fn contain(
        &self,
        index: usize,
        options: &Options,
        start: &(impl Fn(&mut Thread<A>) -> Result<A> + Sync),
    ) {
        match catch_unwind(AssertUnwindSafe(|| self.serve(index, options, start))) {
            Ok(Ok(())) => {}
            Ok(Err(error)) => self.fail(index, error),
            Err(panic) => self.fail(index, format!("thread {index} panicked: {}", describe(panic)).into()),
        }
    }

    fn serve(&self, index: usize, options: &Options, start: impl Fn(&mut Thread<A>) -> Result<A>) -> Result {
        let may_begin =
            |progress: &Progress<A>| progress.failure.is_none() && progress.remotes.len() == index;
        if !self.wait(may_begin) {
            return Ok(());
        }
        let map = Map::with_options(options.clone())?;
        self.lock().remotes.push(map.remote());
        self.changed.notify_all();

        let is_next = |progress: &Progress<A>| {
            progress.failure.is_none() && progress.remotes.len() == self.count && progress.started == index
        };
        if !self.wait(is_next) {
            return Ok(());
        }
        let remotes = Remotes::new(&self.lock().remotes, index);
        let mut thread = Thread { map, remotes, shared: Arc::clone(&self.shared), asked: HashMap::new() };
        let mut app = start(&mut thread)?;
        self.lock().started += 1;
        self.changed.notify_all();

        // Also if one has failed since: the others end in good order.
        if !self.wait(|progress| progress.started == self.count) {
            return Ok(());
        }
        tracing::debug!(thread = index, channels = thread.map.len(), "serving");
        thread.map.run(&mut app)
    }

    /// Waits until a condition holds, or a thread has failed: whether it does.
    fn wait(&self, condition: impl Fn(&Progress<A>) -> bool) -> bool {
        let waits = |progress: &mut Progress<A>| progress.failure.is_none() && !condition(progress);
        let progress = self.changed.wait_while(self.lock(), waits).unwrap_or_else(PoisonError::into_inner);
        condition(&progress)
    }

    /// A thread has failed: the others shut down.
    fn fail(&self, index: usize, error: Error) {
        let mut progress = self.lock();
        let later = if progress.failure.is_none() { progress.failure.replace(error) } else { Some(error) };
        self.changed.notify_all();
        for remote in &progress.remotes {
            remote.shutdown(FAREWELL_TIME);
        }
        drop(progress);
        if let Some(error) = later {
            tracing::error!(thread = index, %error, "another thread failed too");
        }
    }

    fn lock(&self) -> MutexGuard<'_, Progress<A>> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How many threads are asked for.
fn threads_of(count: usize) -> usize {
    if count == 0 { thread::available_parallelism().map_or(1, NonZero::get) } else { count }
}

/// How long the other threads may take to say goodbye when one of [`serve_threads`] has failed: 5 s, more than a healthy
/// connection needs.
pub const FAREWELL_TIME: Duration = Duration::from_secs(5);
