//! The handlers of a script's channels: each tells the model that it is called, then does what its plan says.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::rc::Rc;

use asynchat::{AsyncChat, Chat, Collected, Conversation, Framing, OnTooLong, Terminator};
use asyncore::{Channel, CloseReason, Context, Dispatcher, Error, Map, Received, Result, Timeout, TimerId};

use crate::act::{self, Here, Planned};
use crate::model::{Budget, Cause, Model, Wants};
use crate::rules::Left;
use crate::script::{Callback, Ends, Kind, Plan};

/// A raw channel.
pub(crate) struct Raw {
    me: usize,
    most: usize,
    greedy: bool,
    wants: Rc<Wants>,
}

/// A conversation.
pub(crate) struct Talk {
    me: usize,
    takes: bool,
}

/// A listener.
pub(crate) struct Door {
    pub(crate) me: usize,
}

impl Raw {
    pub(crate) fn new(me: usize, plan: &Plan, wants: Rc<Wants>) -> Self {
        let (most, greedy) = match plan.kind {
            Kind::Raw { most, greedy } => (usize::from(most).max(1), greedy),
            _ => (4096, true),
        };
        Self { me, most, greedy, wants }
    }
}

pub(crate) fn talk(me: usize, plan: &Plan) -> AsyncChat<Talk> {
    let Kind::Chat { ends, takes, limit, skips, in_size } = plan.kind else {
        return AsyncChat::new(Talk { me, takes: false });
    };
    let mut chat =
        AsyncChat::new(Talk { me, takes }).terminator(terminator(ends)).ac_in_buffer_size(in_size.into());
    if let Some(limit) = limit {
        chat = chat.message_limit(limit.into());
    }
    chat.on_too_long(if skips { OnTooLong::Skip } else { OnTooLong::Close })
}

pub(crate) fn terminator(ends: Ends) -> Terminator {
    match ends {
        Ends::Crlf => Terminator::crlf(),
        Ends::Lf => Terminator::lf(),
        Ends::Line => Terminator::line(),
        Ends::Count(count) => Terminator::count(count.max(1).into()).expect("not zero"),
    }
}

/// A callback: the model hears of it, the plan's reaction runs, then `body`.
pub(crate) fn told(
    cx: &mut Context<'_, Model>,
    mut framing: Option<&mut Framing>,
    me: usize,
    on: Callback,
    body: impl FnOnce(&mut Context<'_, Model>, Option<&mut Framing>) -> Result,
) -> Result {
    cx.app.enter(cx.map, me, cx.id, on);
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        act::react(cx.map, cx.app, framing.as_deref_mut(), me, on)?;
        body(cx, framing)
    }));
    left(cx.map, cx.app, me, on, outcome)
}

/// As [`told`], in a conversation.
fn told_chat(
    cx: &mut Conversation<'_, Model>,
    me: usize,
    on: Callback,
    body: impl FnOnce(&mut Map<Model>, &mut Model) -> Result,
) -> Result {
    cx.app.enter(cx.map, me, cx.id, on);
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        act::react(cx.map, cx.app, Some(cx.framing), me, on)?;
        body(cx.map, cx.app)
    }));
    left(cx.map, cx.app, me, on, outcome)
}

/// A callback has come back.
fn left(
    map: &Map<Model>,
    app: &mut Model,
    me: usize,
    on: Callback,
    outcome: std::thread::Result<Result>,
) -> Result {
    let left = match &outcome {
        Ok(Ok(())) => Left::Well,
        Ok(Err(_)) => Left::Failed,
        Err(panic) => {
            if !panic.is::<Planned>() {
                app.wrong(format!("channel {me}: {on:?} panics by itself"));
            }
            Left::Panicked
        }
    };
    app.leave(map, me, on, left);
    outcome.unwrap_or_else(|panic| resume_unwind(panic))
}

/// What is read goes back, if the plan says so.
fn echo(map: &mut Map<Model>, app: &mut Model, me: usize, count: usize) {
    if app.channels[me].plan.echoes && count > 0 {
        Here { map, app, me: Some(me), framing: None, on: None }.push(me, count);
    }
}

fn timer(map: &mut Map<Model>, app: &mut Model, me: usize, timer: TimerId) {
    match app.timer_of(me, timer) {
        Some(at) => {
            app.timer_comes(map, at);
            app.wear_out(map, at);
        }
        None => app.wrong(format!("channel {me}: a timer that it does not have: {timer:?}")),
    }
}

fn error(map: &mut Map<Model>, app: &mut Model, me: usize) {
    if !app.channels[me].plan.outlives_errors {
        Here { map, app, me: Some(me), framing: None, on: None }
            .act(&crate::script::Act::Close(crate::script::Who::Me));
    }
}

/// A clock has run out: the channel closes over it, if the plan does not say otherwise.
fn timeout(map: &mut Map<Model>, app: &mut Model, me: usize, which: Timeout) -> Result {
    let chan = &mut app.channels[me];
    chan.timeouts += 1;
    if !chan.plan.outlives_timeouts || chan.timeouts > MOST_TIMEOUTS {
        let reason = CloseReason::TimedOut(which);
        map.close_with(app.channels[me].id, reason);
        // One that was to close when done over another timeout before keeps that.
        app.closed(me, Cause::Exactly(reason));
    }
    Ok(())
}

fn eof(map: &mut Map<Model>, app: &mut Model, me: usize) {
    if !app.channels[me].plan.outlives_eof {
        Here { map, app, me: Some(me), framing: None, on: None }
            .act(&crate::script::Act::CloseWhenDone(crate::script::Who::Me));
    }
}

impl Channel<Model> for Raw {
    fn readable(&self) -> bool {
        if self.wants.panic.get() {
            resume_unwind(Box::new(Planned));
        }
        self.wants.read.get()
    }

    fn writable(&self) -> bool {
        self.wants.write.get()
    }

    fn handle_read(&mut self, cx: &mut Context<'_, Model>) -> Result {
        let Self { me, most, greedy, .. } = *self;
        told(cx, None, me, Callback::Read, |cx, _| {
            while let Received::Data(data) = cx.map.recv(cx.id, most)? {
                cx.app.received(me, &data, true);
                echo(cx.map, cx.app, me, data.len());
                if !greedy {
                    break;
                }
            }
            Ok(())
        })
    }

    fn handle_write(&mut self, cx: &mut Context<'_, Model>) -> Result {
        let wants = Rc::clone(&self.wants);
        told(cx, None, self.me, Callback::Write, |_, _| {
            // Once is enough, or it would be called without end.
            wants.write.set(false);
            Ok(())
        })
    }

    fn handle_expt(&mut self, cx: &mut Context<'_, Model>) -> Result {
        let taken = cx.map.recv_urgent(cx.id)?;
        cx.app.check(taken.is_some(), || "handle_expt without an urgent byte".to_owned());
        told(cx, None, self.me, Callback::Expt, |_, _| Ok(()))
    }

    fn handle_connect(&mut self, cx: &mut Context<'_, Model>) -> Result {
        told(cx, None, self.me, Callback::Connect, |_, _| Ok(()))
    }

    fn handle_eof(&mut self, cx: &mut Context<'_, Model>) -> Result {
        let me = self.me;
        told(cx, None, me, Callback::Eof, |cx, _| {
            eof(cx.map, cx.app, me);
            Ok(())
        })
    }

    fn handle_drained(&mut self, cx: &mut Context<'_, Model>) -> Result {
        told(cx, None, self.me, Callback::Drained, |_, _| Ok(()))
    }

    fn handle_timer(&mut self, cx: &mut Context<'_, Model>, id: TimerId) -> Result {
        timer(cx.map, cx.app, self.me, id);
        told(cx, None, self.me, Callback::Timer, |_, _| Ok(()))
    }

    fn handle_timeout(&mut self, cx: &mut Context<'_, Model>, which: Timeout) -> Result {
        let me = self.me;
        cx.app.in_turn(cx.map);
        cx.app.times_out(cx.map, me, which);
        told(cx, None, me, Callback::Timeout, |cx, _| timeout(cx.map, cx.app, me, which))
    }

    fn handle_shutdown(&mut self, cx: &mut Context<'_, Model>) -> Result {
        let me = self.me;
        told(cx, None, me, Callback::Shutdown, |cx, _| {
            eof(cx.map, cx.app, me);
            Ok(())
        })
    }

    fn handle_error(&mut self, cx: &mut Context<'_, Model>, _: &Error) {
        let me = self.me;
        drop(told(cx, None, me, Callback::Error, |cx, _| {
            error(cx.map, cx.app, me);
            Ok(())
        }));
    }

    fn handle_close(&mut self, cx: &mut Context<'_, Model>, reason: CloseReason) {
        cx.app.told_close(self.me, reason);
        drop(told(cx, None, self.me, Callback::Close, |_, _| Ok(())));
    }
}

impl Chat<Model> for Talk {
    fn collect_incoming_data(&mut self, cx: &mut Conversation<'_, Model>, data: &[u8]) -> Result<Collected> {
        cx.app.channels[self.me].gathered.extend_from_slice(data);
        told_chat(cx, self.me, Callback::Collect, |_, _| Ok(()))?;
        Ok(if self.takes { Collected::Taken } else { Collected::Kept })
    }

    fn found_terminator(&mut self, cx: &mut Conversation<'_, Model>, message: &[u8]) -> Result {
        let me = self.me;
        cx.app.found(me, message);
        told_chat(cx, me, Callback::Found, |map, app| {
            echo(map, app, me, message.len());
            Ok(())
        })
    }

    fn handle_too_long(&mut self, cx: &mut Conversation<'_, Model>, _start: &[u8]) -> Result {
        cx.app.too_long(self.me);
        told_chat(cx, self.me, Callback::TooLong, |_, _| Ok(()))
    }

    fn handle_connect(&mut self, cx: &mut Conversation<'_, Model>) -> Result {
        told_chat(cx, self.me, Callback::Connect, |_, _| Ok(()))
    }

    fn handle_eof(&mut self, cx: &mut Conversation<'_, Model>, rest: &[u8]) -> Result {
        let me = self.me;
        cx.app.rest_of_input(me, rest);
        told_chat(cx, me, Callback::Eof, |map, app| {
            eof(map, app, me);
            Ok(())
        })
    }

    fn handle_drained(&mut self, cx: &mut Conversation<'_, Model>) -> Result {
        told_chat(cx, self.me, Callback::Drained, |_, _| Ok(()))
    }

    fn handle_timer(&mut self, cx: &mut Conversation<'_, Model>, id: TimerId) -> Result {
        timer(cx.map, cx.app, self.me, id);
        told_chat(cx, self.me, Callback::Timer, |_, _| Ok(()))
    }

    fn handle_timeout(&mut self, cx: &mut Conversation<'_, Model>, which: Timeout) -> Result {
        let me = self.me;
        cx.app.in_turn(cx.map);
        cx.app.times_out(cx.map, me, which);
        told_chat(cx, me, Callback::Timeout, |map, app| timeout(map, app, me, which))
    }

    fn handle_shutdown(&mut self, cx: &mut Conversation<'_, Model>) -> Result {
        let me = self.me;
        told_chat(cx, me, Callback::Shutdown, |map, app| {
            eof(map, app, me);
            Ok(())
        })
    }

    fn handle_error(&mut self, cx: &mut Conversation<'_, Model>, _: &Error) {
        let me = self.me;
        drop(told_chat(cx, me, Callback::Error, |map, app| {
            error(map, app, me);
            Ok(())
        }));
    }

    fn handle_close(&mut self, cx: &mut Conversation<'_, Model>, reason: CloseReason) {
        cx.app.told_close(self.me, reason);
        drop(told_chat(cx, self.me, Callback::Close, |_, _| Ok(())));
    }
}

impl Channel<Model> for Door {
    fn handle_accepted(&mut self, cx: &mut Context<'_, Model>, accepted: Dispatcher) -> Result {
        let guest = cx.app.knocks(cx.map, self.me, &accepted);
        told(cx, None, self.me, Callback::Accepted, |cx, _| {
            if let Some((peer, plan)) = guest {
                act::add(cx.map, cx.app, accepted, &plan, Some(peer));
            }
            Ok(())
        })
    }

    fn handle_timer(&mut self, cx: &mut Context<'_, Model>, id: TimerId) -> Result {
        timer(cx.map, cx.app, self.me, id);
        told(cx, None, self.me, Callback::Timer, |_, _| Ok(()))
    }

    fn handle_shutdown(&mut self, cx: &mut Context<'_, Model>) -> Result {
        let me = self.me;
        told(cx, None, me, Callback::Shutdown, |cx, _| {
            eof(cx.map, cx.app, me);
            Ok(())
        })
    }

    fn handle_error(&mut self, cx: &mut Context<'_, Model>, _: &Error) {
        let me = self.me;
        drop(told(cx, None, me, Callback::Error, |cx, _| {
            error(cx.map, cx.app, me);
            Ok(())
        }));
    }

    fn handle_close(&mut self, cx: &mut Context<'_, Model>, reason: CloseReason) {
        cx.app.told_close(self.me, reason);
        drop(told(cx, None, self.me, Callback::Close, |_, _| Ok(())));
    }
}

impl Model {
    /// A listener has taken a connection: who dialled it, and the plan of what becomes of that.
    fn knocks(&mut self, map: &Map<Self>, me: usize, accepted: &Dispatcher) -> Option<(usize, Plan)> {
        let turn = map.counters().turns;
        self.accepted += 1;
        let most = self.accept_budget.max(1);
        let budget = &mut self.channels[me].budget;
        if budget.turn != turn {
            *budget = Budget { turn, most, used: 0 };
        }
        budget.used += 1;
        let count = budget.used;
        if count == most {
            self.seen.saw("accept budget reached");
        }
        self.check(count <= most, || format!("channel {me} accepts {count} in one turn, of {most}"));
        let from = accepted.peer_addr();
        let dialler = self.peers.iter().position(|side| {
            side.dialled.is_some() && !side.was_accepted && from.is_some() && side.peer.local_addr() == from
        });
        let Some(peer) = dialler else {
            self.wrong(format!("channel {me} accepts {from:?}, who has not dialled"));
            return None;
        };
        self.peers[peer].was_accepted = true;
        let (_, mut plan) = self.peers[peer].dialled.clone()?;
        plan.bounds.get_or_insert(self.channels[me].bounds);
        Some((peer, plan))
    }
}

/// No channel goes on after more timeouts than this.
const MOST_TIMEOUTS: u32 = 5;
