//! [`Queue`]: what the loop leaves to threads of the server, and what these leave to each other.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use asyncore::{Map, PostError, Remote};

use crate::app::App;

/// First in, first out; whoever takes waits for something to take, until the queue is closed.
///
/// It has no bound: what sessions put into it is bounded by what each may have under way.
#[derive(Debug)]
pub(crate) struct Queue<T> {
    held: Mutex<Held<T>>,
    something: Condvar,
}

#[derive(Debug)]
struct Held<T> {
    items: VecDeque<T>,
    is_closed: bool,
}

impl<T> Queue<T> {
    pub(crate) const fn new() -> Self {
        Self {
            held: Mutex::new(Held { items: VecDeque::new(), is_closed: false }),
            something: Condvar::new(),
        }
    }

    /// Puts something in; dropped if the queue is closed.
    pub(crate) fn push(&self, item: T) {
        let mut held = self.lock();
        if !held.is_closed {
            held.items.push_back(item);
            drop(held);
            self.something.notify_one();
        }
    }

    /// Waits for something and takes it; `None` when the queue is closed.
    pub(crate) fn pop(&self) -> Option<T> {
        self.wait().items.pop_front()
    }

    /// Waits for something and takes all that is there; nothing when the queue is closed.
    pub(crate) fn take_all(&self) -> VecDeque<T> {
        std::mem::take(&mut self.wait().items)
    }

    /// Nothing can be put in or taken any more; what is in it is dropped.
    pub(crate) fn close(&self) {
        let mut held = self.lock();
        held.is_closed = true;
        let items = std::mem::take(&mut held.items);
        drop(held);
        self.something.notify_all();
        drop(items);
    }

    fn wait(&self) -> MutexGuard<'_, Held<T>> {
        self.something
            .wait_while(self.lock(), |held| held.items.is_empty() && !held.is_closed)
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn lock(&self) -> MutexGuard<'_, Held<T>> {
        lock(&self.held)
    }
}

/// Locks what no panic leaves half changed.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Has the loop call `f`, from another thread. What is told in this way must arrive, or a session waits for ever: while
/// the loop has no room for it, the thread waits. False if the loop is gone.
pub(crate) fn tell<F>(remote: &Remote<App>, mut f: impl FnMut() -> F) -> bool
where
    F: FnOnce(&mut Map<App>, &mut App) + Send + 'static,
{
    loop {
        match remote.post(f()) {
            Ok(()) => return true,
            Err(PostError::Full) => thread::sleep(LOOP_IS_BEHIND),
            Err(_) => return false,
        }
    }
}

/// After how long a thread looks again whether the loop has room: 5 ms. 65,536 posts wait before it lacks any, and it
/// serves them in a few times that.
const LOOP_IS_BEHIND: Duration = Duration::from_millis(5);

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn what_is_put_in_comes_out_in_its_order_until_it_is_closed() {
        let queue = Arc::new(Queue::new());
        let taker = thread::spawn({
            let queue = Arc::clone(&queue);
            move || std::iter::from_fn(|| queue.pop()).take(2).collect::<Vec<_>>()
        });
        queue.push(1);
        queue.push(2);
        assert_eq!(taker.join().unwrap(), [1, 2]);
        queue.push(3);
        queue.push(4);
        assert_eq!(queue.take_all(), [3, 4]);
        queue.push(5);
        queue.close();
        queue.push(6);
        assert_eq!(queue.pop(), None);
        assert!(queue.take_all().is_empty());
    }
}
