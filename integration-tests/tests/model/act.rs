//! Calls on the map, each with the answer that the model expects.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::rc::Rc;
use std::time::Duration;

use asynchat::{AsyncChat, Framing};
use asyncore::{Address, CloseReason, Dispatcher, Limits, Map, OnFull, Result, State};

use crate::handler::{self, Raw, Talk};
use crate::model::{Cause, Ending, Level, Model, Wants, length};
use crate::script::{Act, Bounds, Callback, DRAIN_TIME, End, Kind, LINGER_TIME, Place, Plan, Want, Who};

/// Carried by the panics of a script, so that others are told from them.
pub(crate) struct Planned;

/// The calls of one place: between turns, in a callback, in a timer or a post.
pub(crate) struct Here<'a> {
    pub(crate) map: &'a mut Map<Model>,
    pub(crate) app: &'a mut Model,
    pub(crate) me: Option<usize>,
    /// Of the chat whose callback it is.
    pub(crate) framing: Option<&'a mut Framing>,
    /// Which callback.
    pub(crate) on: Option<Callback>,
}

impl<'a> Here<'a> {
    /// No callback of a channel.
    pub(crate) fn outside(map: &'a mut Map<Model>, app: &'a mut Model) -> Self {
        Self { map, app, me: None, framing: None, on: None }
    }

    pub(crate) fn all(&mut self, acts: &[Act], end: End) -> Result {
        for act in acts {
            self.act(act);
        }
        match end {
            End::Well => Ok(()),
            End::Fail => Err("planned".into()),
            End::Panic => resume_unwind(Box::new(Planned)),
        }
    }

    pub(crate) fn who(&self, who: Who) -> Option<usize> {
        let count = self.app.channels.len();
        match who {
            _ if count == 0 => None,
            Who::Me => self.me,
            Who::Nth(at) => Some(usize::from(at) % count),
            Who::Late(back) => Some(count - 1 - usize::from(back) % count),
        }
    }

    pub(crate) fn act(&mut self, act: &Act) {
        self.app.seen.did(act);
        self.app.note(|| format!("    {act:?}"));
        self.app.learn_closed(self.map, Cause::Unknown);
        match act {
            Act::Push(who, count) => self.on(*who, |here, to| here.push(to, usize::from(*count))),
            Act::Broadcast(whom, count) => self.broadcast(whom, usize::from(*count)),
            Act::Send(who, count) => self.on(*who, |here, to| here.send(to, usize::from(*count))),
            Act::Producer(who, plan) => self.on(*who, |here, to| here.push_producer(to, plan)),
            Act::DiscardOutput(who) => self.on(*who, Self::discard_output),
            Act::Close(who) => self.on(*who, |here, to| {
                here.map.close(here.app.channels[to].id);
                here.app.closed(to, Cause::Local);
            }),
            Act::CloseWith(who) => self.on(*who, |here, to| {
                here.map.close_with(here.app.channels[to].id, CloseReason::TooLong);
                here.app.closed(to, Cause::Exactly(CloseReason::TooLong));
            }),
            Act::CloseAll => {
                self.map.close_all();
                for to in 0..self.app.channels.len() {
                    self.app.closed(to, Cause::Local);
                }
            }
            Act::CloseWhenDone(who) => self.on(*who, Self::close_when_done),
            Act::ShutdownWrite(who) => self.on(*who, Self::shutdown_write),
            Act::Pause(who) => self.on(*who, |here, to| {
                here.map.pause_reading(here.app.channels[to].id);
                here.app.channels[to].paused = here.app.is_open(to);
            }),
            Act::Resume(who) => self.on(*who, |here, to| {
                here.map.resume_reading(here.app.channels[to].id);
                here.app.channels[to].paused = false;
            }),
            Act::ReadAgain(who) => self.on(*who, |here, to| here.map.read_again(here.app.channels[to].id)),
            Act::Recv(who, count) => self.on(*who, |here, to| here.recv(to, usize::from(*count))),
            Act::Touch(who) => self.on(*who, |here, to| here.map.touch(here.app.channels[to].id)),
            Act::Want(who, want, yes) => self.on(*who, |here, to| here.want(to, *want, *yes)),
            Act::PauseWhenHigh(who, pauses) => self.on(*who, |here, to| {
                here.map.pause_when_high(here.app.channels[to].id, *pauses);
                here.couples(to, to, *pauses);
            }),
            Act::Couple(from, to) => self.on(*from, |here, from| {
                here.on(*to, |here, to| {
                    here.map.couple(here.app.channels[from].id, here.app.channels[to].id);
                    here.couples(from, to, true);
                });
            }),
            Act::Uncouple(from, to) => self.on(*from, |here, from| {
                here.on(*to, |here, to| {
                    here.map.uncouple(here.app.channels[from].id, here.app.channels[to].id);
                    here.couples(from, to, false);
                });
            }),
            Act::Pipe(one, other) => self.on(*one, |here, one| {
                here.on(*other, |here, other| {
                    here.map.pipe(here.app.channels[one].id, here.app.channels[other].id);
                    here.couples(one, other, true);
                    here.couples(other, one, true);
                });
            }),
            Act::SetLimits(who, bounds) => self.on(*who, |here, to| {
                here.map.set_limits(here.app.channels[to].id, limits(bounds));
                if here.app.is_open(to) {
                    let load = here.app.load(here.map, to, here.app.channels[to].id);
                    let chan = &mut here.app.channels[to];
                    if load > bounds.high && chan.high == Level::No {
                        // The next write finds it so.
                        chan.high = Level::Unsure;
                    }
                    chan.bounds = *bounds;
                    chan.bounds_changed = true;
                    chan.clocks.clear();
                    chan.rates.clear();
                }
            }),
            Act::Remove(who) => self.on(*who, Self::remove),
            Act::Insert => self.insert(),
            Act::AddSpare(plan) => {
                if let Some((dispatcher, peer)) = self.app.spare.pop_front() {
                    add(self.map, self.app, dispatcher, plan, Some(peer));
                }
            }
            Act::Connect(place, plan) => self.connect(*place, plan),
            Act::With(who, right, acts, end) => self.on(*who, |here, to| here.with(to, *right, acts, *end)),
            Act::SetTimer(who, after) => self.on(*who, |here, to| here.set_timer(to, *after, None)),
            Act::SetInterval(who, every, lives) => {
                self.on(*who, |here, to| here.set_timer(to, *every, Some(*lives)));
            }
            Act::After(after, acts, end) => self.after(*after, acts, *end),
            Act::Every(period, lives, acts, end) => self.every(*period, *lives, acts, *end),
            Act::CancelTimer(at) => self.cancel_timer(*at),
            Act::ResetTimer(at, after) => self.reset_timer(*at, *after),
            Act::Post(acts, end) => self.post(acts.clone(), *end),
            Act::RemotePush(who, count) => {
                self.on(*who, |here, to| here.remote_push(to, usize::from(*count)));
            }
            Act::Terminator(ends) => {
                // Elsewhere a part of the next message may have been looked at.
                if let (Some(me), Some(framing), Some(Callback::Found)) =
                    (self.me, &mut self.framing, self.on)
                {
                    framing.set_terminator(handler::terminator(*ends));
                    self.app.channels[me].ends = *ends;
                }
            }
            Act::DiscardBuffers => {
                if let (Some(me), Some(framing)) = (self.me, &mut self.framing)
                    && let Some(dispatcher) = self.map.get(self.app.channels[me].id)
                {
                    let received = length(dispatcher.bytes_in());
                    framing.discard_incoming();
                    let chan = &mut self.app.channels[me];
                    chan.read = received;
                    chan.back = 0;
                    chan.skipping = false;
                    chan.gathered.clear();
                    self.discard_output(me);
                }
            }
            Act::Dawdle(time) => {
                if let Some(clock) = &self.app.clock {
                    clock.pass(Duration::from_millis(u64::from(*time)));
                }
                self.app.put_forward();
            }
            Act::SetTimeout(who, clock, time) => {
                self.on(*who, |here, to| here.app.set_timeout(here.map, to, *clock, *time));
            }
            Act::SetRate(who, direction, rate) => {
                self.on(*who, |here, to| here.app.set_rate(here.map, to, *direction, *rate));
            }
            Act::Spawn(who, panics, acts, end) => {
                self.on(*who, |here, to| here.spawn(to, *panics, acts, *end));
            }
            Act::CloseWhenAnswered(who) => self.on(*who, Self::close_when_answered),
            Act::Unread(who, count) => self.on(*who, |here, to| here.unread(to, usize::from(*count))),
            Act::Replace(who, plan) => self.on(*who, |here, to| here.replace(to, plan)),
            Act::Shutdown(after) => self.shutdown(Duration::from_millis(u64::from(*after))),
            Act::RemoteShutdown(after) => {
                let remote = self.map.remote();
                remote.shutdown(Duration::from_millis(u64::from(*after)));
                self.app.was_shut_down = true;
                self.app.asked_from_afar = Some((self.app.now(), Duration::from_millis(u64::from(*after))));
            }
            Act::Stop => self.map.stop(),
            Act::Poll => {
                let inside = self.app.in_loop || !self.app.lent.is_empty();
                if inside {
                    let refused = self.map.poll(self.app, Some(Duration::ZERO)).is_err();
                    self.app.check(refused, || "poll runs inside a callback".to_owned());
                }
            }
        }
        self.app.learn_closed(self.map, Cause::Unknown);
    }

    fn on(&mut self, who: Who, act: impl FnOnce(&mut Self, usize)) {
        if let Some(to) = self.who(who) {
            act(self, to);
        }
    }

    pub(crate) fn close_when_done(&mut self, to: usize) {
        let id = self.app.channels[to].id;
        self.map.close_when_done(id);
        if !self.app.is_open(to) {
            return;
        }
        if self.map.is_open(id) {
            self.app.channels[to].ending = Ending::WhenDone;
        } else {
            // There was nothing to be done: it listens, or is not connected, or could not end its side.
            self.app.closed(
                to,
                if self.app.channels[to].connect_due || self.app.channels[to].address.is_some() {
                    Cause::Local
                } else {
                    Cause::Unknown
                },
            );
            self.app.channels[to].ending = Ending::WhenDone;
        }
    }

    fn shutdown_write(&mut self, to: usize) {
        let id = self.app.channels[to].id;
        let state = self.map.get(id).map(Dispatcher::state);
        self.map.shutdown_write(id);
        let chan = &mut self.app.channels[to];
        chan.ending = chan.ending.max(match state {
            Some(State::Open | State::Connecting) => Ending::Writing,
            Some(State::PeerClosed) => Ending::WhenDone,
            _ => Ending::No,
        });
    }

    fn recv(&mut self, to: usize, most: usize) {
        if !matches!(self.app.channels[to].plan.kind, Kind::Raw { .. }) {
            return;
        }
        let served = self.app.running == Some((to, Callback::Read)) && self.app.lent.is_empty();
        match self.map.recv(self.app.channels[to].id, most) {
            Ok(asyncore::Received::Data(data)) => {
                self.app.channels[to].received_outside |= !served;
                self.app.received(to, &data, served);
            }
            Ok(_) => {}
            Err(error) => self.app.wrong(format!("recv of channel {to} fails: {error}")),
        }
    }

    fn want(&mut self, to: usize, want: Want, yes: bool) {
        let wants = Rc::clone(&self.app.channels[to].wants);
        if !matches!(self.app.channels[to].plan.kind, Kind::Raw { .. }) {
            return;
        }
        match want {
            Want::Read => wants.read.set(yes),
            Want::Write => wants.write.set(yes),
            Want::Panic => wants.panic.set(true),
        }
        self.map.touch(self.app.channels[to].id);
    }

    fn couples(&mut self, from: usize, to: usize, couples: bool) {
        let open = self.app.is_open(from) && self.app.is_open(to);
        let couplings = &mut self.app.channels[from].couplings;
        couplings.retain(|other| *other != to);
        if couples && open {
            couplings.push(to);
        }
    }

    fn remove(&mut self, to: usize) {
        let expected = self.app.is_open(to) && !self.app.is_out(to);
        let removed = self.map.remove(self.app.channels[to].id);
        self.app
            .check(removed.is_some() == expected, || format!("removing channel {to}: {}", removed.is_some()));
        if let Some((dispatcher, handler)) = removed {
            self.app.seen.saw("removed");
            self.app.channels[to].life = crate::model::Life::Removed;
            self.app.leave_map(to);
            let chan = &mut self.app.channels[to];
            if std::mem::take(&mut chan.answering) {
                // What it was to close after does not come any more.
                chan.ending = Ending::WhenDone;
            }
            self.app.detached.push_back((to, dispatcher, handler));
        }
    }

    fn insert(&mut self) {
        let Some((me, dispatcher, handler)) = self.app.detached.pop_front() else { return };
        match self.map.insert(dispatcher, handler) {
            Ok(id) => self.app.added(self.map, me, id),
            Err(error) => self.app.wrong(format!("channel {me} cannot be put back: {error}")),
        }
    }

    fn connect(&mut self, place: Place, plan: &Plan) {
        let wants = Rc::new(Wants::default());
        let me = self.app.channels.len();
        let connected = match plan.kind {
            Kind::Chat { .. } => self.map.connect(address(place), handler::talk(me, plan)),
            _ => self.map.connect(address(place), Raw::new(me, plan, Rc::clone(&wants))),
        };
        // Without descriptors there is none.
        let Ok(id) = connected else {
            self.app.seen.saw("no descriptor to connect");
            return;
        };
        let me = self.app.channel(id, plan.clone(), wants, None);
        if let Some(bounds) = plan.bounds {
            self.map.set_limits(id, limits(&bounds));
        }
        self.app.channels[me].place = Some(place);
        self.app.added(self.map, me, id);
    }

    fn with(&mut self, to: usize, right: bool, acts: &[Act], end: End) {
        let id = self.app.channels[to].id;
        let is_chat = matches!(self.app.channels[to].plan.kind, Kind::Chat { .. });
        let is_door = self.app.channels[to].address.is_some();
        let expected = right && !is_door && self.app.is_open(to) && !self.app.is_out(to);
        let entered = catch_unwind(AssertUnwindSafe(|| {
            let inside = |map: &mut Map<Model>, app: &mut Model, framing: Option<&mut Framing>| {
                app.lent.push(to);
                let outcome = catch_unwind(AssertUnwindSafe(|| {
                    Here { map: &mut *map, app: &mut *app, me: Some(to), framing, on: None }.all(acts, end)
                }));
                app.lent.pop();
                app.hand_over(map, to);
                match outcome {
                    Ok(done) => drop(done),
                    Err(panic) => {
                        app.closed(to, Cause::Exactly(CloseReason::HandlerPanic));
                        resume_unwind(panic);
                    }
                }
            };
            if is_chat == right {
                self.map.with(self.app, id, |chat: &mut AsyncChat<Talk>, cx| {
                    inside(cx.map, cx.app, Some(chat.framing_mut()));
                })
            } else {
                self.map.with(self.app, id, |_: &mut Raw, cx| inside(cx.map, cx.app, None))
            }
        }));
        match entered {
            Ok(entered) => {
                self.app.seen.saw(if entered.is_some() { "with: entered" } else { "with: None" });
                self.app.check(entered.is_some() == expected, || {
                    format!("with channel {to} answers {entered:?}")
                });
            }
            Err(panic) => {
                self.app.seen.saw("with: panicked");
                let open = self.map.is_open(id);
                self.app.check(!open, || format!("channel {to} is open after a panic in `with`"));
                // On to the caller's, if there is one.
                if self.me.is_some() || self.app.in_loop {
                    resume_unwind(panic);
                }
            }
        }
    }
}

/// Adds a connected socket with its handler.
pub(crate) fn add(
    map: &mut Map<Model>,
    app: &mut Model,
    mut dispatcher: Dispatcher,
    plan: &Plan,
    peer: Option<usize>,
) {
    let wants = Rc::new(Wants::default());
    let me = app.channels.len();
    if let Some(bounds) = plan.bounds {
        dispatcher.set_limits(limits(&bounds));
    }
    let added = match plan.kind {
        Kind::Chat { .. } => map.add(dispatcher, handler::talk(me, plan)),
        _ => map.add(dispatcher, Raw::new(me, plan, Rc::clone(&wants))),
    };
    match added {
        Ok(id) => {
            let me = app.channel(id, plan.clone(), wants, peer);
            app.added(map, me, id);
        }
        Err(error) => app.wrong(format!("a channel cannot be added: {error}")),
    }
}

/// What a channel does in a callback: the first reaction to it that is left.
pub(crate) fn react(
    map: &mut Map<Model>,
    app: &mut Model,
    framing: Option<&mut Framing>,
    me: usize,
    on: Callback,
) -> Result {
    let reactions = &mut app.channels[me].plan.reactions;
    let Some(at) = reactions.iter().position(|reaction| reaction.on == on) else { return Ok(()) };
    let reaction = reactions.remove(at);
    let end = match (on, reaction.end) {
        // A piece that fails is lost to its message, which the model does not follow.
        (Callback::Collect, End::Fail) => End::Well,
        (_, end) => end,
    };
    Here { map, app, me: Some(me), framing, on: Some(on) }.all(&reaction.acts, end)
}

pub(crate) fn limits(bounds: &Bounds) -> Limits {
    let mut limits = Limits::default();
    limits.output = bounds.output;
    limits.on_full = if bounds.refuses { OnFull::Refuse } else { OnFull::Close };
    limits.high_mark = bounds.high;
    limits.low_mark = bounds.low;
    limits.ac_out_buffer_size = bounds.out_size;
    limits.read_budget = bounds.read_budget;
    limits.linger_time = LINGER_TIME;
    limits.linger_bytes = bounds.linger_bytes;
    limits.drain_time = DRAIN_TIME;
    limits
}

pub(crate) fn address(place: Place) -> Address {
    let port = match place {
        Place::Answering => 1,
        Place::Refusing => 2,
        Place::Silent => 3,
    };
    Address::from(std::net::SocketAddr::from(([192, 0, 2, 9], port)))
}
