//! [`Remote`]: what other threads may do with a map, and the inbox in which it waits for the loop.

use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;

use crate::blocking::Finished;
use crate::panics::{contain, guard};
use crate::poller::Waker;
use crate::resolve::Addresses;
use crate::{ChannelId, Map, Options};

/// A handle on a map for other threads: it posts closures to the loop, pushes bytes to channels, and stops the loop.
///
/// [`Map::remote`] makes one; it can be cloned and sent to any thread, whatever the map's `A` is. It keeps neither the
/// map nor its loop alive: a [`run`](Map::run) ends when the last channel is gone and nothing that was posted waits.
/// Nothing here ever blocks.
///
/// What is posted runs on the map's thread, in the order in which it came, at most [`POST_BUDGET`] a turn. The loop is
/// woken once, however much is posted before it looks.
///
/// ```
/// use std::thread;
///
/// use asyncore::Map;
///
/// let mut map: Map<u64> = Map::new()?;
/// let remote = map.remote();
/// let worker = thread::spawn(move || {
///     let sum = (1..=100).sum::<u64>();
///     remote.post(move |_map, total| *total += sum)
/// });
/// worker.join().unwrap()?;
///
/// let mut total = 0;
/// map.run(&mut total)?; // no channel is left, but a post waits
/// assert_eq!(total, 5050);
/// # Ok::<(), asyncore::Error>(())
/// ```
pub struct Remote<A: 'static = ()> {
    inbox: Arc<Inbox<A>>,
}

/// Why nothing was posted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum PostError {
    /// As much waits for the loop as may: [`Options::posts`], or [`Options::output`] for pushes.
    Full,
    /// The map was dropped.
    Gone,
}

impl fmt::Display for PostError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full => "too much waits for the map's loop",
            Self::Gone => "the map is gone",
        })
    }
}

impl std::error::Error for PostError {}

impl<A: 'static> Remote<A> {
    /// Has `f` called from the loop, with the map and the application's state.
    ///
    /// A panic in it is logged and goes no further. A closure that the loop has not come to when the map is dropped is
    /// dropped uncalled.
    ///
    /// # Errors
    ///
    /// `Full` when [`Options::posts`] wait already, `Gone` when the map was dropped.
    pub fn post(&self, f: impl FnOnce(&mut Map<A>, &mut A) + Send + 'static) -> Result<(), PostError> {
        self.inbox.post(Post::Call(Box::new(f)))
    }

    /// Has bytes pushed to a channel: [`Map::push`], from the loop.
    ///
    /// What a channel that is gone, closing or full answers there is not heard here.
    ///
    /// # Errors
    ///
    /// `Full` when [`Options::posts`] wait already, or their bytes would be more than [`Options::output`]; `Gone` when
    /// the map was dropped.
    pub fn push(&self, id: ChannelId, data: impl Into<Bytes>) -> Result<(), PostError> {
        self.inbox.post(Post::Push(id, data.into()))
    }

    /// Ends [`run`](Map::run) after the turn that is under way, or the next run after one turn: see [`Map::stop`].
    ///
    /// It waits for no room, and overtakes what was posted.
    pub fn stop(&self) {
        self.inbox.ask(|held| held.asked.stop = true);
    }

    /// Ends everything in good order: see [`Map::shutdown`]. The deadline counts from when the loop hears of it.
    ///
    /// It waits for no room, and overtakes what was posted.
    pub fn shutdown(&self, deadline: Duration) {
        self.inbox.ask(|held| {
            let soonest = held.asked.shutdown.map_or(deadline, |earlier| earlier.min(deadline));
            held.asked.shutdown = Some(soonest);
        });
    }

    /// Hands the outcome of blocking work to the loop; dropped when the map is gone.
    pub(crate) fn finish(&self, finished: Finished) {
        if self.inbox.post(Post::Finished(finished)).is_err() {
            tracing::debug!("blocking work outlived its map");
        }
    }

    /// Hands the answer of the resolver to the loop, likewise.
    pub(crate) fn answer(&self, id: ChannelId, addresses: Addresses) {
        if self.inbox.post(Post::Answered(id, addresses)).is_err() {
            tracing::debug!("the resolver outlived its map");
        }
    }
}

impl<A: 'static> Clone for Remote<A> {
    fn clone(&self) -> Self {
        Self { inbox: Arc::clone(&self.inbox) }
    }
}

impl<A: 'static> fmt::Debug for Remote<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Remote").finish_non_exhaustive()
    }
}

impl<A: 'static> Map<A> {
    /// A handle on this map for other threads.
    #[must_use]
    pub fn remote(&self) -> Remote<A> {
        Remote { inbox: Arc::clone(&self.posts.inbox) }
    }

    /// Serves what other threads posted.
    #[inline]
    pub(crate) fn serve_posts(&mut self, app: &mut A) {
        if self.posts.wait() {
            self.serve_waiting_posts(app);
        }
    }

    #[cold]
    fn serve_waiting_posts(&mut self, app: &mut A) {
        let mut batch = std::mem::take(&mut self.posts.batch);
        let asked = self.posts.inbox.take(&mut batch);
        if let Some(deadline) = asked.shutdown {
            self.shutdown(deadline);
        }
        if asked.stop {
            self.stop();
        }
        let answers = batch.iter().filter(|post| post.is_finished()).count();
        self.counters.posts += (batch.len() - answers) as u64;
        while let Some(post) = batch.pop_front() {
            match post {
                Post::Call(f) => self.timed(None, "post", |map| {
                    guard("running what was posted", || f(map, app));
                }),
                // Bytes may have an owner whose drop panics.
                Post::Push(id, data) => guard("pushing what was posted", || {
                    self.push(id, data);
                }),
                Post::Finished(finished) => self.serve_finished(app, finished),
                Post::Answered(id, addresses) => self.serve_answer(id, addresses),
            }
        }
        if planted!(LostWakeUp) {
            self.posts.inbox.waiting.store(false, Ordering::SeqCst);
        }
        // A burst leaves no buffer of its size behind.
        if batch.capacity() <= 2 * POST_BUDGET {
            self.posts.batch = batch;
        }
    }
}

/// The map's end of its inbox; other threads hear that the map is gone when this is dropped.
pub(crate) struct Posts<A: 'static> {
    inbox: Arc<Inbox<A>>,
    /// What was taken last, kept for its room.
    batch: VecDeque<Post<A>>,
}

impl<A: 'static> Posts<A> {
    /// `waker` ends the loop's wait; without one, the loop never waits for other threads.
    pub(crate) fn new(options: &Options, waker: Option<Waker>) -> Self {
        let held = Held {
            waker,
            gone: false,
            posts: VecDeque::new(),
            finished: 0,
            bytes: 0,
            asked: Asked::default(),
        };
        let inbox = Inbox {
            waiting: AtomicBool::new(false),
            asleep: AtomicBool::new(false),
            most_posts: options.posts.max(1),
            most_bytes: options.output,
            held: Mutex::new(held),
        };
        Self { inbox: Arc::new(inbox), batch: VecDeque::new() }
    }

    /// The loop is about to wait: whether it may. From here on it is woken.
    pub(crate) fn fall_asleep(&self) -> bool {
        self.inbox.asleep.store(true, Ordering::SeqCst);
        !self.wait()
    }

    /// The loop has waited.
    pub(crate) fn wake_up(&self) {
        self.inbox.asleep.store(false, Ordering::SeqCst);
    }

    /// How many wait for the loop.
    pub(crate) fn len(&self) -> usize {
        let held = self.inbox.lock();
        held.posts.len() - held.finished
    }

    /// Whether something waits for the loop.
    #[inline]
    pub(crate) fn wait(&self) -> bool {
        self.inbox.waiting.load(Ordering::SeqCst)
    }
}

impl<A: 'static> Drop for Posts<A> {
    fn drop(&mut self) {
        let (posts, waker) = {
            let mut held = self.inbox.lock();
            held.gone = true;
            (std::mem::take(&mut held.posts), held.waker.take())
        };
        drop(waker);
        // Unlocked: what a closure owns may use a remote as it is dropped.
        for post in posts {
            contain("dropping what was posted", || drop(post));
        }
    }
}

/// What waits for the loop of one map. No code of a user runs, or is dropped, under its lock.
struct Inbox<A: 'static> {
    /// Whether something is held. Changed under the lock only; the loop looks at it without, once a turn.
    ///
    /// Sequentially consistent, as is the poller's own mark of a notification: who finds that mark set, and so does not
    /// wake the loop, has set this one before the loop looks.
    waiting: AtomicBool,
    /// Whether the loop waits, or is about to: only then it is to be woken. It looks at `waiting` once more after it has
    /// set this, and who posts looks at this after `waiting` was set, so that one of the two sees the other.
    asleep: AtomicBool,
    most_posts: usize,
    most_bytes: usize,
    held: Mutex<Held<A>>,
}

struct Held<A: 'static> {
    /// Given up with the map, whose poller would live on in it.
    waker: Option<Waker>,
    gone: bool,
    posts: VecDeque<Post<A>>,
    /// Among `posts`: not bounded here, but where the work is taken.
    finished: usize,
    /// In the pushes among `posts`.
    bytes: usize,
    asked: Asked,
}

/// What needs no place in the queue.
#[derive(Clone, Copy, Debug, Default)]
struct Asked {
    stop: bool,
    shutdown: Option<Duration>,
}

/// One thing for the loop to do.
enum Post<A: 'static> {
    #[expect(clippy::type_complexity, reason = "said here alone")]
    Call(Box<dyn FnOnce(&mut Map<A>, &mut A) + Send>),
    Push(ChannelId, Bytes),
    Finished(Finished),
    Answered(ChannelId, Addresses),
}

impl<A: 'static> Post<A> {
    fn bytes(&self) -> usize {
        match self {
            Self::Push(_, data) => data.len(),
            Self::Call(_) | Self::Finished(_) | Self::Answered(..) => 0,
        }
    }

    const fn is_finished(&self) -> bool {
        matches!(self, Self::Finished(_) | Self::Answered(..))
    }
}

impl<A: 'static> Inbox<A> {
    fn post(&self, post: Post<A>) -> Result<(), PostError> {
        let waker = self.put(post)?;
        if let Some(waker) = waker {
            waker.wake();
        }
        Ok(())
    }

    /// Queues a post: whom to wake for it, if that has not been done. A post that is refused is dropped unlocked, as an
    /// argument, after the guard.
    fn put(&self, post: Post<A>) -> Result<Option<Waker>, PostError> {
        let mut held = self.lock();
        if held.gone {
            return Err(PostError::Gone);
        }
        if post.is_finished() {
            held.finished += 1;
        } else {
            let bytes = held.bytes.saturating_add(post.bytes());
            if held.posts.len() - held.finished >= self.most_posts || bytes > self.most_bytes {
                return Err(PostError::Full);
            }
            held.bytes = bytes;
        }
        held.posts.push_back(post);
        Ok(self.mark(&held))
    }

    fn ask(&self, change: impl FnOnce(&mut Held<A>)) {
        let mut held = self.lock();
        if held.gone {
            return;
        }
        change(&mut held);
        let waker = self.mark(&held);
        drop(held);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Marks that something waits: whom to wake, if it was not marked already.
    fn mark(&self, held: &Held<A>) -> Option<Waker> {
        let was_waiting = self.waiting.swap(true, Ordering::SeqCst);
        if was_waiting || !self.asleep.load(Ordering::SeqCst) { None } else { held.waker.clone() }
    }

    /// Hands over what waits, as much as a turn allows; `batch` is empty.
    fn take(&self, batch: &mut VecDeque<Post<A>>) -> Asked {
        let mut held = self.lock();
        if held.posts.len() <= POST_BUDGET {
            std::mem::swap(&mut held.posts, batch);
            (held.finished, held.bytes) = (0, 0);
        } else {
            batch.extend(held.posts.drain(..POST_BUDGET));
            held.finished -= batch.iter().filter(|post| post.is_finished()).count();
            held.bytes -= batch.iter().map(Post::bytes).sum::<usize>();
        }
        self.waiting.store(!held.posts.is_empty(), Ordering::SeqCst);
        std::mem::take(&mut held.asked)
    }

    fn lock(&self) -> MutexGuard<'_, Held<A>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Most posts that are served in one turn: 1024, so that a flood of them does not keep the sockets waiting.
pub const POST_BUDGET: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Wait;
    use crate::poller::Poller;

    fn posts(options: &Options) -> Posts<()> {
        let poller = Poller::new(Wait::Direct).unwrap();
        Posts::new(options, Some(poller.waker()))
    }

    fn push(bytes: &'static [u8]) -> Post<()> {
        Post::Push(ChannelId::new(0, std::num::NonZeroU32::MIN), Bytes::from_static(bytes))
    }

    #[test]
    fn the_loop_is_woken_once_for_all_that_comes_before_it_looks() {
        let posts = posts(&Options::default());
        let wakes = |post| posts.inbox.put(post).unwrap().is_some();
        assert!(!posts.wait());
        for _ in 0..2 {
            assert!(posts.fall_asleep());
            assert!(wakes(push(b"first")));
            assert!(!wakes(push(b"second")) && !wakes(Post::Call(Box::new(|_, ()| ()))));
            assert!(posts.wait());
            let mut batch = VecDeque::new();
            posts.inbox.take(&mut batch);
            assert_eq!(batch.len(), 3);
            assert!(!posts.wait());
        }
    }

    #[test]
    fn a_loop_that_is_awake_is_not_woken_and_does_not_fall_asleep_over_a_post() {
        let posts = posts(&Options::default());
        assert!(posts.fall_asleep());
        posts.wake_up();
        assert!(posts.inbox.put(push(b"first")).unwrap().is_none());
        assert!(!posts.fall_asleep());
    }

    #[test]
    fn what_is_over_the_budget_of_a_turn_goes_on_waiting() {
        let posts = posts(&Options::default());
        for _ in 0..POST_BUDGET + 1 {
            drop(posts.inbox.put(push(b"12")).unwrap());
        }
        let mut batch = VecDeque::new();
        posts.inbox.take(&mut batch);
        assert_eq!((batch.len(), posts.wait(), posts.inbox.lock().bytes), (POST_BUDGET, true, 2));
        batch.clear();
        posts.inbox.take(&mut batch);
        assert_eq!((batch.len(), posts.wait(), posts.inbox.lock().bytes), (1, false, 0));
    }

    #[test]
    fn both_bounds_refuse() {
        let posts = posts(&Options { posts: 2, output: 10, ..Options::default() });
        assert!(posts.inbox.put(push(b"12345678901")).is_err(), "more than ten bytes");
        assert!(posts.inbox.put(push(b"1234567890")).is_ok());
        assert!(posts.inbox.put(push(b"1")).is_err(), "eleven together");
        assert!(posts.inbox.put(push(b"")).is_ok());
        assert_eq!(posts.inbox.put(push(b"")).err(), Some(PostError::Full), "the third");
    }

    #[test]
    fn a_closed_inbox_keeps_no_poller_and_takes_nothing() {
        let posts = posts(&Options::default());
        let inbox = Arc::clone(&posts.inbox);
        drop(posts);
        assert!(inbox.lock().waker.is_none());
        assert_eq!(inbox.put(push(b"late")).err(), Some(PostError::Gone));
        inbox.ask(|held| held.asked.stop = true);
        assert!(!inbox.waiting.load(Ordering::SeqCst));
    }
}
