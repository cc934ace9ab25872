//! [`Workers`]: the threads of a map on which blocking work runs, and the queue before them.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use crate::panics::{contain, guard};

/// A piece of work; it says itself to whom its result goes.
pub(crate) struct Work(Box<dyn FnOnce() + Send>);

impl Work {
    pub(crate) fn new(work: impl FnOnce() + Send + 'static) -> Self {
        Self(Box::new(work))
    }

    pub(crate) fn run(self) {
        guard("doing blocking work", self.0);
    }
}

/// A pool of threads. They are started as they are needed, and end when this is dropped, each after the piece that it is
/// about; what nobody has begun is dropped.
pub(crate) struct Workers {
    shared: Arc<Shared>,
    /// Most threads.
    most: usize,
}

struct Shared {
    held: Mutex<Held>,
    /// There is more work, or there will be none.
    changed: Condvar,
}

#[derive(Default)]
struct Held {
    waiting: VecDeque<Work>,
    threads: usize,
    /// Threads that wait, those among them that have been woken and have not looked yet.
    idle: usize,
    gone: bool,
}

impl Workers {
    pub(crate) fn new(most: usize) -> Self {
        let shared = Shared { held: Mutex::default(), changed: Condvar::new() };
        Self { shared: Arc::new(shared), most: most.max(1) }
    }

    /// Queues a piece of work, and starts a thread for it if all are busy and another may be started.
    ///
    /// # Errors
    ///
    /// If there is no thread at all, and the system has none to give. The work is dropped.
    pub(crate) fn submit(&self, work: Work) -> io::Result<()> {
        let mut held = self.shared.lock();
        held.waiting.push_back(work);
        if held.waiting.len() > held.idle && held.threads < self.most {
            match start(&self.shared) {
                Ok(()) => held.threads += 1,
                Err(error) if held.threads == 0 => {
                    let refused = held.waiting.pop_back();
                    drop(held);
                    contain("dropping blocking work", || drop(refused));
                    return Err(error);
                }
                Err(error) => {
                    tracing::warn!(%error, threads = held.threads, "no further thread for blocking work");
                }
            }
        }
        drop(held);
        self.shared.changed.notify_one();
        Ok(())
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        let waiting = {
            let mut held = self.shared.lock();
            held.gone = true;
            std::mem::take(&mut held.waiting)
        };
        self.shared.changed.notify_all();
        for work in waiting {
            contain("dropping blocking work", || drop(work));
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a worker does until there is no more work to come.
    fn serve(&self) {
        let mut held = self.lock();
        while !held.gone {
            if let Some(work) = held.waiting.pop_front() {
                drop(held);
                work.run();
                held = self.lock();
            } else {
                held.idle += 1;
                held = self.changed.wait(held).unwrap_or_else(PoisonError::into_inner);
                held.idle -= 1;
            }
        }
    }
}

fn start(shared: &Arc<Shared>) -> io::Result<()> {
    let shared = Arc::clone(shared);
    // Detached: a map is dropped without waiting for anybody.
    thread::Builder::new().name("asyncore-worker".to_owned()).spawn(move || shared.serve()).map(drop)
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    /// Work that says that it has begun, and goes on when it is told to.
    fn held_up() -> (Work, mpsc::Receiver<()>, mpsc::Sender<()>) {
        let ((began, has_begun), (go, goes)) = (mpsc::channel(), mpsc::channel());
        let work = Work::new(move || {
            began.send(()).unwrap();
            let _ = goes.recv();
        });
        (work, has_begun, go)
    }

    fn threads(workers: &Workers) -> usize {
        workers.shared.lock().threads
    }

    #[test]
    fn threads_are_started_as_they_are_needed_and_no_more_than_may_be() {
        let workers = Workers::new(2);
        assert_eq!(threads(&workers), 0);
        let (first, first_began, go_first) = held_up();
        let (second, second_began, go_second) = held_up();
        let (third, third_began, go_third) = held_up();
        workers.submit(first).unwrap();
        first_began.recv().unwrap();
        assert_eq!(threads(&workers), 1);
        workers.submit(second).unwrap();
        second_began.recv().unwrap();
        workers.submit(third).unwrap();
        assert_eq!((threads(&workers), workers.shared.lock().waiting.len()), (2, 1));
        go_second.send(()).unwrap();
        third_began.recv().unwrap();
        drop((go_first, go_third));
    }

    #[test]
    fn work_for_more_than_the_idle_starts_another_thread() {
        let workers = Workers::new(9);
        let (done, is_done) = mpsc::channel();
        workers.submit(Work::new(move || done.send(()).unwrap())).unwrap();
        is_done.recv().unwrap();
        while workers.shared.lock().idle == 0 {
            thread::yield_now();
        }
        let (first, first_began, _go_first) = held_up();
        let (second, second_began, _go_second) = held_up();
        workers.submit(first).unwrap();
        // Whether the idle one has woken up or not, it cannot do both.
        workers.submit(second).unwrap();
        first_began.recv().unwrap();
        second_began.recv().unwrap();
        assert_eq!(threads(&workers), 2);
    }

    #[test]
    fn a_panic_costs_no_thread() {
        let workers = Workers::new(1);
        workers.submit(Work::new(|| panic!("in a worker"))).unwrap();
        let (done, is_done) = mpsc::channel();
        workers.submit(Work::new(move || done.send(()).unwrap())).unwrap();
        is_done.recv().unwrap();
        assert_eq!(threads(&workers), 1);
    }

    #[test]
    fn a_dropped_pool_drops_what_waits_and_lets_the_rest_finish() {
        let workers = Workers::new(1);
        let (first, began, go) = held_up();
        let (second, never_began, _go) = held_up();
        workers.submit(first).unwrap();
        began.recv().unwrap();
        workers.submit(second).unwrap();
        let shared = Arc::clone(&workers.shared);
        drop(workers);
        assert!(never_began.recv().is_err(), "dropped, and not begun");
        go.send(()).unwrap();
        while Arc::strong_count(&shared) > 1 {
            thread::yield_now();
        }
    }
}
