//! Blocking work of a channel: done on a worker, its result told to the channel from the loop.

use std::any::Any;
use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Weak;

use crate::callback::Fault;
use crate::interest::Pauses;
use crate::panics::{contain, describe};
use crate::resolve::{Addresses, Lookup};
use crate::workers::{Work, Workers};
use crate::{Channel, ChannelId, Context, Map, Options, Result};

/// Why blocking work was not taken; it is dropped then.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SpawnError {
    /// As many pieces are under way as may be: [`Options::jobs`].
    Full,
    /// There is no such channel, or its handler is of another type.
    Gone,
    /// The system has no thread to give, and the map has none yet.
    NoThread,
}

impl fmt::Display for SpawnError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full => "too much blocking work is under way",
            Self::Gone => "the channel of the work is gone",
            Self::NoThread => "there is no thread for blocking work",
        })
    }
}

impl std::error::Error for SpawnError {}

/// # Blocking work
///
/// What would hold up the loop (a look at the disk, a query, a long sum, resolving a name) runs on a thread of the map's
/// own, and its result comes back to the channel as one more callback. Threads are started when there is work for them,
/// [`Options::workers`] at most, and end with the map.
impl<A: 'static> Map<A> {
    /// Runs `work` on another thread, then calls `done` from the loop with the channel's handler and the result.
    ///
    /// Results are told in the order of the calls, whichever is there first. `done` is a callback of the channel as any
    /// other: an error in it goes to `handle_error`, a panic closes the channel. A panic in `work` is dealt with as if
    /// `done` had panicked, and `done` is not called. `T` is the type of the handler, named by the closure's argument.
    ///
    /// Nothing tells the work that its channel is gone: it goes on to its end, and the result and `done` are dropped.
    /// They are, too, when the channel is [removed](Self::remove), or has a handler of another type by then. Bytes that
    /// `done` pushes to a channel that is to close when done are refused, as always: one that owes an answer closes with
    /// [`close_when_answered`](Self::close_when_answered).
    ///
    /// A run that ends because of a [`shutdown`](Self::shutdown) waits for work under way until its deadline; no other
    /// run does. A map that is dropped waits for nothing: work that has not begun is dropped, the rest ends by itself.
    ///
    /// ```
    /// use std::io::Read;
    ///
    /// use asyncore::{Channel, Context, Map, Result};
    ///
    /// /// Sends a file.
    /// struct Page;
    ///
    /// impl Channel for Page {
    ///     fn handle_connect(&mut self, cx: &mut Context<'_>) -> Result {
    ///         cx.map.spawn_blocking(cx.id, || std::fs::read("Cargo.toml"), |_page: &mut Page, cx, file| {
    ///             cx.map.push(cx.id, file?);
    ///             cx.map.close_when_done(cx.id);
    ///             Ok(())
    ///         })?;
    ///         Ok(())
    ///     }
    /// }
    ///
    /// let (here, mut there) = std::os::unix::net::UnixStream::pair()?;
    /// let mut map = Map::new()?;
    /// map.add(here, Page)?;
    /// # let reader = std::thread::spawn(move || {
    /// let mut page = String::new();
    /// there.read_to_string(&mut page)?;
    /// assert!(page.starts_with("[package]"));
    /// # std::io::Result::Ok(())
    /// # });
    /// map.run(&mut ())?;
    /// # reader.join().unwrap()?;
    /// # Ok::<(), asyncore::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// `Full` when [`Options::jobs`] pieces are under way, `Gone` when there is no such channel or its handler is no `T`
    /// (one whose callback runs is looked at later), `NoThread` when the system has none to give.
    pub fn spawn_blocking<T, R>(
        &mut self,
        id: ChannelId,
        work: impl FnOnce() -> R + Send + 'static,
        done: impl FnOnce(&mut T, &mut Context<'_, A>, R) -> Result + 'static,
    ) -> Result<(), SpawnError>
    where
        T: Channel<A>,
        R: Send + 'static,
    {
        if let Some(handler) = self.live(id).ok_or(SpawnError::Gone)?.handler.as_deref() {
            let handler: &dyn Any = handler;
            if !handler.is::<T>() {
                return Err(SpawnError::Gone);
            }
        }
        if self.blocking.len() >= self.options.jobs.max(1) {
            return Err(SpawnError::Full);
        }
        self.blocking.last += 1;
        let number = self.blocking.last;
        let remote = self.remote();
        let work = Work::new(move || {
            let outcome = match catch_unwind(AssertUnwindSafe(work)) {
                Ok(result) => Outcome::Result(Box::new(result)),
                Err(panic) => Outcome::Panic(describe(panic)),
            };
            remote.finish(Finished { id, number, outcome });
        });
        if let Some(work) = self.world.take_work(work) {
            self.blocking.start(work, &self.options)?;
        }
        let done = move |handler: &mut (dyn Channel<A> + 'static),
                         cx: &mut Context<'_, A>,
                         result: Box<dyn Any + Send>| {
            let handler: &mut dyn Any = handler;
            match (handler.downcast_mut::<T>(), result.downcast::<R>()) {
                (Some(handler), Ok(result)) => done(handler, cx, *result),
                _ => {
                    tracing::warn!(id = %cx.id, "the handler was replaced: the result of its work is dropped");
                    Ok(())
                }
            }
        };
        self.blocking.unfinished += 1;
        let jobs = self.blocking.jobs.entry(id).or_default();
        jobs.push_back(Job { number, outcome: None, done: Done(Box::new(done)) });
        Ok(())
    }

    /// How many pieces of a channel's blocking work are under way: their results have not been told yet.
    #[must_use]
    pub fn pending_work(&self, id: ChannelId) -> usize {
        self.blocking.jobs.get(&id).map_or(0, VecDeque::len)
    }

    /// Closes a channel once the results of its blocking work have been told, and what is queued then has been sent.
    ///
    /// For one that may owe an answer. Input is no longer delivered from now on; pushes are taken until the last result
    /// has been told. Without work under way it is [`close_when_done`](Self::close_when_done).
    pub fn close_when_answered(&mut self, id: ChannelId) {
        if self.pending_work(id) == 0 {
            self.close_when_done(id);
        } else {
            self.pause(id, Pauses::ENDING);
        }
    }

    /// Asks the resolver on behalf of a channel, unless nobody awaits the answer when its turn comes. No shutdown waits
    /// for it.
    pub(crate) fn look_up(
        &mut self,
        id: ChannelId,
        awaited: Weak<()>,
        lookup: Lookup,
    ) -> Result<(), SpawnError> {
        if self.blocking.len() >= self.options.jobs.max(1) {
            return Err(SpawnError::Full);
        }
        let remote = self.remote();
        let work = Work::new(move || {
            let answer = if awaited.strong_count() == 0 { Ok(Vec::new()) } else { lookup.ask() };
            remote.answer(id, answer);
        });
        if let Some(work) = self.world.take_work(work) {
            self.blocking.start(work, &self.options)?;
        }
        self.blocking.lookups += 1;
        Ok(())
    }

    /// A piece of work has ended: its channel hears of it, and of later ones that waited for it.
    pub(crate) fn serve_finished(&mut self, app: &mut A, finished: Finished) {
        let id = finished.id;
        if let Some(stray) = self.blocking.keep(finished) {
            contain("dropping the result of blocking work", || drop(stray));
            return;
        }
        while let Some((done, outcome)) = self.blocking.next(id) {
            self.serve_connected(app, id);
            if !self.is_open(id) {
                contain("dropping the result of blocking work", || drop((done, outcome)));
                continue;
            }
            match outcome {
                Outcome::Result(result) => {
                    self.call(app, id, "spawn_blocking", |handler, cx| (done.0)(handler, cx, result));
                }
                Outcome::Panic(message) => {
                    contain("dropping what was to follow blocking work", || drop(done));
                    self.fault(app, id, Fault::Panic(message));
                }
            }
            if self.pending_work(id) == 0
                && self.live(id).is_some_and(|entry| entry.pauses.contains(Pauses::ENDING))
            {
                self.close_when_done(id);
            }
        }
    }

    /// The resolver has answered a channel, which may be gone.
    pub(crate) fn serve_answer(&mut self, id: ChannelId, addresses: Addresses) {
        self.blocking.lookups = self.blocking.lookups.saturating_sub(1);
        self.resolved(id, addresses);
    }

    /// A channel leaves the map: it will hear of no result any more.
    pub(crate) fn forget_work(&mut self, id: ChannelId) {
        for job in self.blocking.forget(id) {
            contain("dropping the result of blocking work", || drop(job));
        }
    }

    /// Whether a shutdown waits for work.
    pub(crate) fn awaits_work(&self) -> bool {
        self.blocking.unfinished > 0
            && self.phase.shutdown.is_some_and(|deadline| self.deadlines.is_waiting(deadline))
    }
}

/// The blocking work of one map that is under way.
pub(crate) struct Blocking<A: 'static> {
    /// Of each channel that has any, in the order in which its results are told; by number, ascending.
    jobs: HashMap<ChannelId, VecDeque<Job<A>>>,
    /// Pieces that have not ended, of channels that are gone too.
    unfinished: usize,
    /// Questions to the resolver that have not been answered.
    lookups: usize,
    /// Results in `jobs`: each waits for that of a piece before it.
    held: usize,
    /// The number of the piece that was taken last.
    last: u64,
    workers: Option<Workers>,
}

/// One piece of work, as its channel sees it.
struct Job<A: 'static> {
    number: u64,
    /// Once it has ended.
    outcome: Option<Outcome>,
    done: Done<A>,
}

/// What follows a piece of work, its types forgotten.
struct Done<A: 'static>(
    #[expect(clippy::type_complexity, reason = "said here alone")]
    Box<dyn FnOnce(&mut (dyn Channel<A> + 'static), &mut Context<'_, A>, Box<dyn Any + Send>) -> Result>,
);

/// What became of a piece of work.
pub(crate) enum Outcome {
    Result(Box<dyn Any + Send>),
    Panic(String),
}

/// A piece of work that has ended, on its way from the worker to the loop.
pub(crate) struct Finished {
    id: ChannelId,
    number: u64,
    outcome: Outcome,
}

impl<A: 'static> Default for Blocking<A> {
    fn default() -> Self {
        Self { jobs: HashMap::new(), unfinished: 0, lookups: 0, held: 0, last: 0, workers: None }
    }
}

impl<A: 'static> Blocking<A> {
    /// Pieces that are under way, questions to the resolver among them, or whose results wait for that of one before
    /// them.
    pub(crate) const fn len(&self) -> usize {
        self.unfinished + self.lookups + self.held
    }

    fn start(&mut self, work: Work, options: &Options) -> Result<(), SpawnError> {
        let workers = self.workers.get_or_insert_with(|| Workers::new(options.workers));
        workers.submit(work).map_err(|error| {
            tracing::warn!(%error, "no thread for blocking work");
            SpawnError::NoThread
        })
    }

    /// Keeps the outcome for its channel, or gives it back if nobody waits for it.
    fn keep(&mut self, finished: Finished) -> Option<Outcome> {
        self.unfinished = self.unfinished.saturating_sub(1);
        let job = self.jobs.get_mut(&finished.id).and_then(|jobs| {
            let place = jobs.binary_search_by_key(&finished.number, |job| job.number).ok()?;
            jobs.get_mut(place)
        });
        let Some(job) = job else { return Some(finished.outcome) };
        job.outcome = Some(finished.outcome);
        self.held += 1;
        None
    }

    /// The next outcome that a channel is to hear of.
    fn next(&mut self, id: ChannelId) -> Option<(Done<A>, Outcome)> {
        let jobs = self.jobs.get_mut(&id)?;
        jobs.front()?.outcome.as_ref()?;
        let first = jobs.pop_front()?;
        self.held -= 1;
        if jobs.is_empty() {
            self.jobs.remove(&id);
        }
        Some((first.done, first.outcome?))
    }

    fn forget(&mut self, id: ChannelId) -> VecDeque<Job<A>> {
        let jobs = self.jobs.remove(&id).unwrap_or_default();
        self.held -= jobs.iter().filter(|job| job.outcome.is_some()).count();
        jobs
    }
}

impl<A: 'static> Drop for Blocking<A> {
    fn drop(&mut self) {
        for job in std::mem::take(&mut self.jobs).into_values().flatten() {
            contain("dropping what was to follow blocking work", || drop(job));
        }
    }
}
