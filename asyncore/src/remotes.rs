//! [`Remotes`]: the loops of several threads, to post to from each of them.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::{Map, Remote};

/// The loops of all threads of [`serve_threads`](crate::serve_threads), to post to from any of them.
///
/// What is to reach channels in every loop is one post a loop, however many channels that are: each loop finds its own.
/// What one thread posts to a loop is run in its order; what several post has no order among them.
///
/// ```
/// use asyncore::{Map, serve_threads};
/// use std::sync::mpsc::channel;
///
/// let (sender, heard) = channel();
/// serve_threads(3, |thread| {
///     let sender = sender.clone();
///     if thread.index() == 0 {
///         thread.remotes().post_all(move |_map: &mut Map<usize>, index| sender.send(*index).unwrap());
///     }
///     Ok(thread.index())
/// })?;
/// let mut heard: Vec<usize> = heard.try_iter().collect();
/// heard.sort_unstable();
/// assert_eq!(heard, [0, 1, 2]);
/// # Ok::<(), asyncore::Error>(())
/// ```
pub struct Remotes<A: 'static = ()> {
    all: Arc<[Remote<A>]>,
    /// Which of them is the thread's that it was made for.
    own: usize,
}

impl<A: 'static> Remotes<A> {
    pub(crate) fn new(all: &[Remote<A>], own: usize) -> Self {
        Self { all: all.into(), own }
    }

    pub(crate) const fn own(&self) -> usize {
        self.own
    }

    /// How many loops there are, those that have ended among them.
    #[must_use]
    pub fn count(&self) -> usize {
        self.all.len()
    }

    /// The loop of one thread, by its [index](crate::Thread::index).
    #[must_use]
    pub fn get(&self, index: usize) -> Option<&Remote<A>> {
        self.all.get(index)
    }

    /// All loops, in the order of their threads.
    pub fn iter(&self) -> impl Iterator<Item = &Remote<A>> {
        self.all.iter()
    }

    /// All loops but that of the thread that this was [made for](crate::Thread::remotes), wherever it is used.
    pub fn others(&self) -> impl Iterator<Item = &Remote<A>> {
        let own = self.own;
        self.all.iter().enumerate().filter_map(move |(index, remote)| (index != own).then_some(remote))
    }

    /// Posts the same to every loop: how many took it. One does not that has ended, or that
    /// [as much waits for](crate::Options::posts) as may.
    pub fn post_all(&self, f: impl FnOnce(&mut Map<A>, &mut A) + Clone + Send + 'static) -> usize {
        self.iter().filter(|remote| remote.post(f.clone()).is_ok()).count()
    }

    /// As [`post_all`](Self::post_all), to the [others](Self::others).
    pub fn post_others(&self, f: impl FnOnce(&mut Map<A>, &mut A) + Clone + Send + 'static) -> usize {
        self.others().filter(|remote| remote.post(f.clone()).is_ok()).count()
    }

    /// Ends every loop after the turn that is under way: see [`Map::stop`].
    pub fn stop(&self) {
        self.iter().for_each(Remote::stop);
    }

    /// Ends what every loop serves in good order: see [`Map::shutdown`].
    pub fn shutdown(&self, deadline: Duration) {
        self.iter().for_each(|remote| remote.shutdown(deadline));
    }
}

impl<A: 'static> Clone for Remotes<A> {
    fn clone(&self) -> Self {
        Self { all: Arc::clone(&self.all), own: self.own }
    }
}

impl<A: 'static> fmt::Debug for Remotes<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Remotes")
            .field("count", &self.count())
            .field("own", &self.own)
            .finish_non_exhaustive()
    }
}
