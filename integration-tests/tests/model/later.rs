//! Calls whose effect comes later: timers, posts, a shutdown; and what the model makes of it when it comes.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::Duration;

use asyncore::{CloseReason, Dispatcher, Map, PostError, Pushed};

use crate::act::Here;
use crate::model::{Cause, Model, Timer};
use crate::script::{Act, End};

impl Here<'_> {
    pub(crate) fn set_timer(&mut self, to: usize, after: u16, lives: Option<u8>) {
        let (id, after) = (self.app.channels[to].id, Duration::from_millis(u64::from(after)));
        let set = match lives {
            Some(_) => self.map.set_interval(id, after),
            None => self.map.set_timer(id, after),
        };
        let open = self.app.is_open(to);
        self.app.check(set.is_some() == open, || format!("a timer of channel {to}: {set:?}"));
        if let Some(id) = set {
            let due = self.app.now() + after;
            self.app.new_timer(Timer {
                id,
                channel: Some(to),
                due,
                period: lives.map(|_| after),
                waits: true,
                lives: lives.unwrap_or(1),
                came: u64::MAX,
                set: self.map.counters().turns,
            });
        }
    }

    pub(crate) fn after(&mut self, after: u16, acts: &[Act], end: End) {
        let delay = Duration::from_millis(u64::from(after));
        let (at, acts) = (self.app.timers.len(), acts.to_vec());
        let id = self.map.after(delay, move |map, app| {
            app.timer_comes(map, at);
            drop(Here::outside(map, app).all(&acts, end));
        });
        let due = self.app.now() + delay;
        self.app.new_timer(Timer {
            id,
            channel: None,
            due,
            period: None,
            waits: true,
            lives: 1,
            came: u64::MAX,
            set: self.map.counters().turns,
        });
    }

    pub(crate) fn every(&mut self, period: u16, lives: u8, acts: &[Act], end: End) {
        let period = Duration::from_millis(u64::from(period));
        let at = self.app.timers.len();
        let mut acts = Some(acts.to_vec());
        let id = self.map.every(period, move |map, app| {
            app.timer_comes(map, at);
            app.wear_out(map, at);
            let Some(acts) = acts.take() else { return };
            let done = catch_unwind(AssertUnwindSafe(|| Here::outside(map, app).all(&acts, end)));
            if let Err(panic) = done {
                app.timers[at].waits = false;
                resume_unwind(panic);
            }
        });
        let due = self.app.now() + period;
        self.app.new_timer(Timer {
            id,
            channel: None,
            due,
            period: Some(period),
            waits: true,
            lives,
            came: u64::MAX,
            set: self.map.counters().turns,
        });
    }

    pub(crate) fn cancel_timer(&mut self, at: u8) {
        let Some(at) = usize::from(at).checked_rem(self.app.timers.len()) else { return };
        let waited = self.app.timers[at].waits;
        let cancelled = self.map.cancel_timer(self.app.timers[at].id);
        self.app.check(cancelled == waited, || format!("cancelling timer {at}: {cancelled}"));
        self.app.timers[at].waits = false;
    }

    pub(crate) fn reset_timer(&mut self, at: u8, after: u16) {
        let Some(at) = usize::from(at).checked_rem(self.app.timers.len()) else { return };
        let after = Duration::from_millis(u64::from(after));
        let waited = self.app.timers[at].waits;
        let reset = self.map.reset_timer(self.app.timers[at].id, after);
        self.app.check(reset == waited, || format!("resetting timer {at}: {reset}"));
        if waited {
            self.app.timers[at].set = self.map.counters().turns;
            self.app.timers[at].due = self.app.now() + after;
        }
    }

    pub(crate) fn post(&mut self, acts: Vec<Act>, end: End) {
        let remote = self.map.remote();
        let number = self.app.posts.made;
        let posted = remote.post(move |map, app| {
            app.post_runs(map, number);
            drop(Here::outside(map, app).all(&acts, end));
        });
        self.app.posted(posted);
    }

    /// Between two posts, so that what becomes of it can be seen.
    pub(crate) fn remote_push(&mut self, to: usize, count: usize) {
        if self.app.posts.waiting() + 3 > self.app.posts.most as u64 || count * 4 > self.app.most_output {
            return;
        }
        let remote = self.map.remote();
        let (id, data) = (self.app.channels[to].id, self.app.bytes(count));
        let (number, size) = (self.app.posts.made, count);
        let posted = remote.post(move |map, app| {
            app.post_runs(map, number);
            app.learn_closed(map, Cause::Unknown);
            let mut here = Here::outside(map, app);
            let is_same = here.app.channels[to].id == id;
            let expected = if is_same { here.expected(to, size) } else { Some(Pushed::Gone) };
            let queued = here.map.get(id).map(Dispatcher::queued);
            here.app.watched = Some((to, expected, queued));
        });
        if !self.app.posted(posted) {
            return;
        }
        let pushed = remote.push(id, data.clone());
        self.app.check(pushed.is_ok(), || format!("a push from afar is refused: {pushed:?}"));
        self.app.posts.pushes += 1;
        self.app.posts.pushed += 1;
        let number = self.app.posts.made;
        let posted = remote.post(move |map, app| {
            app.post_runs(map, number);
            app.posts.pushes -= 1;
            let Some((to, expected, queued)) = app.watched.take() else { return };
            let mut here = Here::outside(map, app);
            let now = here.map.get(id).map(Dispatcher::queued);
            let answer = match (queued, now) {
                (None, _) => Pushed::Gone,
                (Some(queued), Some(now)) if now == queued + data.len() => Pushed::Queued,
                (Some(_), Some(_)) => {
                    expected.filter(|pushed| *pushed != Pushed::Queued).unwrap_or(Pushed::Full)
                }
                (Some(_), None) => Pushed::Full,
            };
            here.answered(to, expected, answer);
            if answer.is_queued() {
                here.queued(to, &data);
            }
        });
        self.app.posted(posted);
    }

    pub(crate) fn shutdown(&mut self, deadline: Duration) {
        self.map.shutdown(deadline);
        self.app.was_shut_down = true;
        let due = self.app.now() + deadline;
        self.app.shut_down(due);
    }
}

impl Model {
    pub(crate) fn new_timer(&mut self, timer: Timer) {
        let known = self.timers.iter().any(|other| other.id == timer.id);
        self.check(!known, || format!("the timer {:?} is used again", timer.id));
        self.timers.push(timer);
    }

    /// An interval has come once more; its last time it is cancelled.
    pub(crate) fn wear_out(&mut self, map: &mut Map<Self>, at: usize) {
        let timer = &mut self.timers[at];
        timer.lives = timer.lives.saturating_sub(1);
        if timer.lives == 0 && timer.waits {
            timer.waits = false;
            let cancelled = map.cancel_timer(timer.id);
            self.check(cancelled, || format!("timer {at} cannot be cancelled while it is served"));
        }
    }

    fn post_runs(&mut self, map: &Map<Self>, number: u64) {
        self.in_turn(map);
        let run = self.posts.run;
        self.note(|| format!("  post {number}"));
        self.check(number == run, || format!("post {number} runs, after {run} others"));
        self.check(self.in_loop, || format!("post {number} runs outside the loop"));
        self.posts.run += 1;
    }

    fn posted(&mut self, posted: Result<(), PostError>) -> bool {
        if posted.is_ok() {
            self.posts.made += 1;
            return true;
        }
        self.seen.saw("post: Full");
        let waiting = self.posts.waiting();
        let full = posted == Err(PostError::Full) && waiting >= self.posts.most as u64;
        self.check(full, || format!("a post is refused with {waiting} waiting: {posted:?}"));
        false
    }

    /// Everything is to end by `due`.
    pub(crate) fn shut_down(&mut self, due: Duration) {
        let now = self.now();
        // One that is over this instant may have been served or not.
        let earlier = self.shutdown.filter(|(_, latest)| *latest >= now);
        if self.shutdown.is_none() {
            for me in 0..self.channels.len() {
                if self.channels[me].address.is_some() {
                    self.closed(me, Cause::Exactly(CloseReason::ShutDown));
                }
            }
        }
        self.shutdown = Some(earlier.map_or((due, due), |(from, to)| {
            let later = if to > now { to.min(due) } else { due };
            (from.min(due), later)
        }));
    }
}
