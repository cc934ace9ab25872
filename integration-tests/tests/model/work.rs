//! Blocking work, and a handler that another takes the place of.

use std::panic::resume_unwind;
use std::rc::Rc;

use asynchat::AsyncChat;
use asyncore::{Dispatcher, Map, SpawnError};

use crate::act::{Here, Planned};
use crate::handler::{self, Raw, Talk, told};
use crate::model::{Ending, Job, Model, Wants, input, length};
use crate::script::{Act, Callback, End, Kind, Plan};

impl Here<'_> {
    pub(crate) fn spawn(&mut self, to: usize, panics: bool, acts: &[Act], end: End) {
        let id = self.app.channels[to].id;
        let (number, acts) = (self.app.jobs.len(), acts.to_vec());
        if self.app.channels[to].address.is_some() {
            return;
        }
        let chat = matches!(self.app.kind_to_come(to), Kind::Chat { .. });
        let work = move || {
            if panics {
                resume_unwind(Box::new(Planned));
            }
            number
        };
        let spawned = if chat {
            self.map.spawn_blocking(id, work, move |chat: &mut AsyncChat<Talk>, cx, number| {
                cx.app.result_comes(to, number);
                told(cx, Some(chat.framing_mut()), to, Callback::Done, |cx, framing| {
                    Here { map: cx.map, app: cx.app, me: Some(to), framing, on: None }.all(&acts, end)
                })
            })
        } else {
            self.map.spawn_blocking(id, work, move |_: &mut Raw, cx, number| {
                cx.app.result_comes(to, number);
                told(cx, None, to, Callback::Done, |cx, framing| {
                    Here { map: cx.map, app: cx.app, me: Some(to), framing, on: None }.all(&acts, end)
                })
            })
        };
        let open = self.app.is_open(to);
        match spawned {
            Ok(()) => {
                self.app.check(open, || format!("work of channel {to}, which is gone, is taken"));
                self.app.jobs.push(Job { channel: to, panics, waits: true, chat, is_unsure: false });
                self.app.jobs_under_way += 1;
            }
            Err(SpawnError::Full) => {
                self.app.seen.saw("spawn: Full");
                let under_way = self.app.jobs_under_way;
                let full = under_way >= self.app.most_jobs;
                self.app.check(full, || format!("work is refused with {under_way} pieces under way"));
            }
            Err(error) => self.app.check(!open, || format!("work of channel {to} is refused: {error}")),
        }
    }

    pub(crate) fn close_when_answered(&mut self, to: usize) {
        if self.map.pending_work(self.app.channels[to].id) == 0 {
            return self.close_when_done(to);
        }
        self.map.close_when_answered(self.app.channels[to].id);
        self.app.channels[to].answering = self.app.is_open(to);
    }

    /// Puts back the last bytes that a raw channel has received.
    pub(crate) fn unread(&mut self, me: usize, count: usize) {
        let chan = &self.app.channels[me];
        let (Kind::Raw { .. }, Some(peer), None) = (chan.plan.kind, chan.peer, &chan.next) else { return };
        let count = count.min(chan.read);
        if count == 0 {
            return;
        }
        let from = chan.read - count;
        self.map.unread(chan.id, &input(peer, from, chan.read));
        let takes = self.app.is_open(me) && chan_reads(self.map, self.app, me);
        if takes {
            self.app.seen.saw("unread");
            let chan = &mut self.app.channels[me];
            chan.read = from;
            chan.back += count;
            chan.told_eof = false;
        }
    }

    pub(crate) fn replace(&mut self, to: usize, plan: &Plan) {
        let chan = &self.app.channels[to];
        let limited = |kind: Kind| matches!(kind, Kind::Chat { limit: Some(_), .. } | Kind::Listener);
        // What a message that is passed over leaves behind, the model does not follow.
        if limited(chan.plan.kind) || limited(plan.kind) || chan.address.is_some() {
            return;
        }
        let (id, wants) = (chan.id, Rc::new(Wants::default()));
        let replaced = match plan.kind {
            Kind::Chat { .. } => self.map.replace(id, handler::talk(to, plan)),
            _ => self.map.replace(id, Raw::new(to, plan, Rc::clone(&wants))),
        };
        let open = self.app.is_open(to);
        self.app
            .check(replaced == open, || format!("replacing the handler of channel {to} answers {replaced}"));
        if !replaced {
            return;
        }
        self.app.seen.saw("replaced");
        self.app.channels[to].couplings.retain(|other| *other != to);
        self.app.channels[to].next = Some((plan.clone(), wants));
        if !self.app.is_out(to) {
            self.app.hand_over(self.map, to);
        }
    }
}

/// The state of a channel that was put something back: whether it took it.
fn chan_reads(map: &Map<Model>, app: &Model, me: usize) -> bool {
    use asyncore::State;
    let state = map.get(app.channels[me].id).map(Dispatcher::state);
    matches!(state, Some(State::Open | State::Finishing | State::WriteClosed | State::PeerClosed))
}

impl Model {
    /// What the handler of a channel is, when the callback that runs returns.
    pub(crate) fn kind_to_come(&self, me: usize) -> Kind {
        let chan = &self.channels[me];
        chan.next.as_ref().map_or(chan.plan.kind, |(plan, _)| plan.kind)
    }

    /// A piece of work of a channel whose result is to be told.
    pub(crate) fn awaited_work(&self, me: usize) -> Option<usize> {
        self.jobs.iter().position(|job| job.channel == me && job.waits && !job.is_unsure)
    }

    /// A result comes to its channel, in its order.
    fn result_comes(&mut self, me: usize, number: usize) {
        let first = self.awaited_work(me);
        let unsure = self.jobs.get(number).is_some_and(|job| job.waits && job.is_unsure);
        self.check(unsure || first == Some(number), || {
            format!("channel {me}: the result of {number} comes before that of {first:?}")
        });
        self.job_is_over(number);
    }

    pub(crate) fn job_is_over(&mut self, number: usize) {
        if let Some(job) = self.jobs.get_mut(number) {
            job.waits = false;
        }
        self.jobs_under_way = self.jobs_under_way.saturating_sub(1);
    }

    /// The piece of work whose panic a channel is told next, if that is a panic.
    pub(crate) fn panicked_work(&self, me: usize) -> Option<usize> {
        // Results for a handler of another kind are dropped on the way.
        let waits = |job: &Job| job.channel == me && job.waits && (job.panics || !job.is_unsure);
        self.jobs.iter().position(waits).filter(|first| self.jobs[*first].panics)
    }

    pub(crate) fn is_chat(&self, me: usize) -> bool {
        matches!(self.channels[me].plan.kind, Kind::Chat { .. })
    }

    /// Those that were to close once their work was done are to close when done from then on.
    pub(crate) fn learn_answered(&mut self, map: &Map<Self>) {
        for me in 0..self.channels.len() {
            let chan = &mut self.channels[me];
            let served = self.running.is_some_and(|(running, _)| running == me);
            if chan.answering && !served && map.is_open(chan.id) && map.pending_work(chan.id) == 0 {
                chan.answering = false;
                chan.ending = Ending::WhenDone;
            }
        }
    }

    /// A replaced handler leaves what it has not used to the next.
    pub(crate) fn hand_over(&mut self, map: &Map<Self>, me: usize) {
        let Some((plan, wants)) = self.channels[me].next.take() else { return };
        let received = map.get(self.channels[me].id).map_or(0, |dispatcher| length(dispatcher.bytes_in()));
        let chan = &mut self.channels[me];
        if let Kind::Chat { takes: true, .. } = chan.plan.kind {
            // The pieces of a message that were taken are used.
            chan.read += chan.gathered.len();
        }
        chan.gathered.clear();
        if let Kind::Chat { ends, .. } = plan.kind {
            chan.ends = ends;
        }
        chan.back = received.saturating_sub(chan.read);
        if chan.back > 0 && chan.ending != Ending::WhenDone {
            chan.told_eof = false;
        }
        chan.prepares = matches!(plan.kind, Kind::Chat { .. });
        chan.plan = plan;
        chan.wants = wants;
        let chat = self.is_chat(me);
        for job in self.jobs.iter_mut().filter(|job| job.channel == me && job.chat != chat) {
            job.is_unsure = true;
        }
        self.note(|| format!("  channel {me}: another handler"));
    }
}
