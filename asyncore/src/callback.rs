//! Calling into a handler: it is lent out, comes back, and what fails in it stays in its channel.

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::entry::Entry;
use crate::panics::{contain, describe};
use crate::{Channel, ChannelId, CloseReason, Context, Error, Map, Result, State};

impl<A: 'static> Map<A> {
    /// Calls one callback, by its name: the handler is lent out, comes back, and what it failed with is reported.
    pub(crate) fn call(
        &mut self,
        app: &mut A,
        id: ChannelId,
        name: &'static str,
        callback: impl FnOnce(&mut (dyn Channel<A> + 'static), &mut Context<'_, A>) -> Result,
    ) {
        let Some(entry) = Self::entry_in(&mut self.slots, id) else { return };
        if entry.dispatcher.state == State::Closed {
            return;
        }
        let Some(mut handler) = entry.handler.take() else { return };
        Self::list(entry, id, &mut self.touched, &mut self.unsent);
        let outcome = self.timed(Some(id), name, |map| {
            let outcome =
                catch_unwind(AssertUnwindSafe(|| callback(&mut *handler, &mut Context::new(map, app, id))));
            map.give_back(id, handler);
            outcome
        });
        match outcome {
            Ok(Ok(())) => {}
            Ok(Err(error)) => self.fault(app, id, Fault::Error(error)),
            Err(panic) => self.fault(app, id, Fault::Panic(describe(panic))),
        }
    }

    /// The handler comes back from a callback.
    pub(crate) fn give_back(&mut self, id: ChannelId, handler: Box<dyn Channel<A>>) {
        match self.entry_mut(id) {
            Some(entry) if entry.handler.is_none() => entry.handler = Some(handler),
            Some(_) => self.retire(id, handler),
            // A channel stays in its slot while its handler is lent out.
            None => debug_assert!(false, "the slot of a running callback was vacated"),
        }
    }

    /// Deals with what a callback or a producer failed with.
    pub(crate) fn fault(&mut self, app: &mut A, id: ChannelId, fault: Fault) {
        match fault {
            Fault::Error(error) => {
                let reason = CloseReason::from_handler(&error);
                let was_open = self.is_open(id);
                let settled = self.entry(id).and_then(|entry| entry.dispatcher.reason);
                let finished = self.report(app, id, &error);
                // A reason that `handle_error` gave itself stays.
                let closed = self.entry(id).filter(|entry| entry.dispatcher.state == State::Closed);
                let given = closed.map(|entry| entry.dispatcher.reason);
                if finished && was_open && given == Some(settled.or(Some(CloseReason::Local))) {
                    self.override_reason(id, reason);
                }
                contain("dropping an error", || drop(error));
            }
            Fault::Panic(message) => {
                tracing::error!(%id, peer = %self.peer_name(id), message, "a callback panicked");
                self.report(app, id, &format!("panic: {message}").into());
                self.override_reason(id, CloseReason::HandlerPanic);
            }
        }
    }

    /// Tells a channel of an error, unless it is closed; a panic there closes it. Whether there was none.
    pub(crate) fn report(&mut self, app: &mut A, id: ChannelId, error: &Error) -> bool {
        let Some(mut handler) = self.live_mut(id).and_then(|entry| entry.handler.take()) else {
            tracing::debug!(%id, %error, "an error of a closed channel");
            return true;
        };
        self.touch(id);
        let mut finished = false;
        self.timed(Some(id), "handle_error", |map| {
            contain("handle_error", || {
                handler.handle_error(&mut Context::new(map, app, id), error);
                finished = true;
            });
            map.give_back(id, handler);
        });
        if !finished {
            self.override_reason(id, CloseReason::HandlerPanic);
        }
        finished
    }

    /// Closes a channel for `reason`, also when it has been closed for another in the same breath.
    pub(crate) fn override_reason(&mut self, id: ChannelId, reason: CloseReason) {
        self.close_as(id, reason);
        if let Some(entry) = self.entry_mut(id) {
            entry.dispatcher.reason = Some(reason);
        }
    }

    /// Asks a channel's predicates; a panic there closes it.
    pub(crate) fn ask<R>(&mut self, id: ChannelId, question: impl FnOnce(&Entry<A>) -> R) -> Option<R> {
        let answer = self.watched(id, |map| {
            let entry = map.live(id)?;
            Some(catch_unwind(AssertUnwindSafe(|| question(entry))))
        });
        match answer? {
            Ok(answer) => Some(answer),
            Err(panic) => {
                // Not among the log's arguments, which are not evaluated when nobody listens.
                let panic = describe(panic);
                tracing::error!(%id, panic, "a predicate panicked");
                self.close_as(id, CloseReason::HandlerPanic);
                None
            }
        }
    }
}

/// What a callback or a producer failed with.
pub(crate) enum Fault {
    Error(Error),
    Panic(String),
}
