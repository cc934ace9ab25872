//! The loop: one turn, and the turns repeated.

use std::io;
use std::time::{Duration, Instant};

use crate::entry::{Entry, Flags};
use crate::interest::Interest;
use crate::{CloseReason, Map, Result};

impl<A: 'static> Map<A> {
    /// Serves the channels until the last one is gone and nothing waits that was [posted](Self::remote), or until
    /// [`stop`](Self::stop).
    ///
    /// # Errors
    ///
    /// If called from a callback, or the poller fails for good. What fails in a channel stays in that channel.
    pub fn run(&mut self, app: &mut A) -> Result {
        self.run_for(app, usize::MAX)
    }

    /// Serves `turns` turns, fewer if the last channel goes or [`stop`](Self::stop) is called before.
    ///
    /// # Errors
    ///
    /// As [`run`](Self::run).
    pub fn run_for(&mut self, app: &mut A, turns: usize) -> Result {
        self.refuse_in_callback()?;
        for _ in 0..turns {
            if !self.has_work() || self.phase.stopping {
                break;
            }
            self.turn(app, None)?;
        }
        self.end_run();
        Ok(())
    }

    /// Serves one turn, which waits for at most `timeout`; `None` waits for an event however long that takes.
    ///
    /// # Errors
    ///
    /// As [`run`](Self::run).
    pub fn poll(&mut self, app: &mut A, timeout: Option<Duration>) -> Result {
        self.refuse_in_callback()?;
        let turned = self.turn(app, timeout);
        self.end_run();
        turned
    }

    /// Ends [`run`](Self::run) after the turn that is under way; the channels stay as they are. Between runs it ends the next
    /// one before its first turn.
    pub const fn stop(&mut self) {
        self.phase.stopping = true;
    }

    /// What was asked of this run is not asked of the next.
    fn end_run(&mut self) {
        self.phase.stopping = false;
        if !self.has_work() {
            self.end_shutdown();
        }
    }

    fn turn(&mut self, app: &mut A, timeout: Option<Duration>) -> Result {
        self.phase.in_turn = true;
        let waited = self.wait(timeout);
        if waited.is_ok() {
            self.counters.turns += 1;
            self.serve_deadlines(app);
            self.serve_events(app);
            self.serve_ready(app);
            self.serve_posts(app);
            self.reap(app);
            self.flush(app);
            self.serve_timeouts(app);
            self.update_interest();
            self.note_turn();
        }
        self.phase.in_turn = false;
        waited
    }

    /// Waits for events: not at all when there is work without one.
    fn wait(&mut self, timeout: Option<Duration>) -> Result {
        let due = self.prepare_to_wait().map(|at| at.saturating_duration_since(self.now));
        let timeout = [timeout, due].into_iter().flatten().min();
        self.batch.clear();
        let waited = self.world.wait(&mut self.batch, timeout);
        self.posts.wake_up();
        match waited {
            Ok(()) => self.failed_waits = 0,
            // polling re-arms descriptors of its own in a wait, which may fail for want of memory.
            Err(error)
                if self.failed_waits < MOST_FAILED_WAITS && error.kind() != io::ErrorKind::Deadlock =>
            {
                self.failed_waits += 1;
                tracing::warn!(%error, "the poller failed; trying again");
                std::thread::sleep(FAILED_WAIT_PAUSE);
            }
            Err(error) => return Err(error.into()),
        }
        self.counters.events += self.batch.len() as u64;
        self.read_clock();
        Ok(())
    }

    /// The loop is about to wait: until when it may. From here on it is woken for posts.
    pub(crate) fn prepare_to_wait(&mut self) -> Option<Instant> {
        self.read_clock();
        // What was added or touched between turns.
        self.update_interest();
        // The wait after one that failed takes no time; a host is not to wait for it.
        if self.failed_waits > 0 || self.has_work_at_once() || !self.posts.fall_asleep() {
            Some(self.now)
        } else {
            self.deadlines.next()
        }
    }

    fn read_clock(&mut self) {
        self.now = self.world.now();
        self.tick = self.tick_of(self.now);
    }

    /// Tells the poller what the touched channels wait for now, where that has changed.
    fn update_interest(&mut self) {
        self.feed_full();
        let mut list = std::mem::replace(&mut self.touched, std::mem::take(&mut self.spare));
        for &id in &list {
            let Some(entry) = self.live_mut(id) else { continue };
            entry.flags.clear(Flags::OF_THIS_TURN);
            let Some(wanted) = self.ask(id, Entry::wanted) else { continue };
            let Some(entry) = Self::entry_in(&mut self.slots, id) else { continue };
            if wanted.read && (entry.flags.has(Flags::UNREAD) || entry.dispatcher.socket.has_more()) {
                entry.flags.set(Flags::READ_DUE);
                if !entry.flags.has(Flags::READY) {
                    entry.flags.set(Flags::READY);
                    self.ready.push(id);
                }
            }
            let is_registered = entry.dispatcher.socket.is_registered();
            // A channel that wants nothing stays registered, to hear of a reset.
            let unchanged = is_registered && wanted == entry.interest;
            if unchanged || (!is_registered && wanted == Interest::NONE && !entry.is_watched()) {
                continue;
            }
            // The next turn does not wait: no call of the system is worth it before that write.
            let limits = entry.dispatcher.extra.limits(&self.limits);
            if is_registered && wanted == Interest::NONE && entry.may_soon_read(limits.ac_out_buffer_size) {
                entry.flags.set(Flags::TOUCHED);
                self.touched.push(id);
                continue;
            }
            self.counters.registrations += 1;
            if let Err(error) = entry.dispatcher.socket.register(&self.world, id.key(), wanted) {
                tracing::warn!(%id, %error, "the poller cannot take the channel");
                self.close_as(id, CloseReason::Limit);
                continue;
            }
            let read = std::mem::replace(&mut entry.interest, wanted).read;
            entry.flags.clear(Flags::HUNG_UP);
            if read != wanted.read && entry.flags.has(Flags::TIMED) {
                self.note_reading(id, wanted.read);
            }
        }
        list.clear();
        self.spare = list;
    }

    fn refuse_in_callback(&self) -> Result {
        if self.phase.in_turn || self.phase.lends {
            return Err(
                "the loop is running already: `run` and `poll` cannot be called from a callback".into()
            );
        }
        Ok(())
    }

    /// Whether there is something to do without an event.
    pub(crate) fn has_work_at_once(&self) -> bool {
        let nothing = self.ready.is_empty()
            && self.unsent.is_empty()
            && self.closed.is_empty()
            && self.checking.is_empty();
        !nothing || self.posts.wait()
    }
}

/// Waits that may fail in a row before the loop gives up: 100; a lack of memory passes, a broken poller does not.
const MOST_FAILED_WAITS: u32 = 100;

/// The pause after a wait that failed: 10 ms, so that the loop holds out for a second and does not spin meanwhile.
const FAILED_WAIT_PAUSE: Duration = Duration::from_millis(10);
