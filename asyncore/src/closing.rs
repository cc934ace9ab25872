//! The ways a channel ends: at once, when done, one side only, or with the whole map.

use std::io::ErrorKind;
use std::time::Duration;

use crate::deadline::Due;
use crate::entry::{Entry, Flags};
use crate::extra::Ending;
use crate::panics::contain;
use crate::{ChannelId, CloseReason, Context, Kind, Map, Result, State, Timeout};

impl<A: 'static> Map<A> {
    /// Closes a channel at once: what is queued is dropped, and nothing of it runs any more but `handle_close`, at the
    /// end of the turn.
    ///
    /// The peer reads what was sent before, then an end, as if that had been all. Where a part must not be taken for the
    /// whole, [`Dispatcher::set_linger`](crate::Dispatcher::set_linger) with zero makes it a reset.
    pub fn close(&mut self, id: ChannelId) {
        self.close_as(id, CloseReason::Local);
    }

    /// Closes a channel for a reason of the caller's: a protocol's limit, for one.
    pub fn close_with(&mut self, id: ChannelId, reason: CloseReason) {
        self.close_as(id, reason);
    }

    /// Closes a channel once what is queued has been sent. Later pushes are refused and input is no longer delivered.
    ///
    /// After the last byte the channel ends its writing side, then reads and drops what still comes for a bounded time
    /// and amount (`linger_time` and `linger_bytes` of its [`Limits`](crate::Limits)). Without that, closing while input is
    /// unread would reset the connection, and the peer could lose the last reply.
    pub fn close_when_done(&mut self, id: ChannelId) {
        let shutting_down = self.is_shutting_down();
        let Some(entry) = self.live_mut(id) else { return };
        let dispatcher = &mut entry.dispatcher;
        match dispatcher.state {
            State::Draining | State::Lingering | State::Closed => return,
            State::Connecting | State::Handshaking if dispatcher.outbox.is_some() => {
                dispatcher.rare().when_connected = Some(Ending::Close);
                return;
            }
            State::Created | State::Listening | State::Connecting | State::Handshaking => {
                let reason = if shutting_down { CloseReason::ShutDown } else { CloseReason::Local };
                return self.close_as(id, reason);
            }
            State::Open | State::PeerClosed | State::Finishing | State::WriteClosed => {}
        }
        dispatcher.reason = Some(match dispatcher.reason {
            // Said goodbye over a timeout, and had to wait for an answer that it owed.
            Some(reason @ CloseReason::TimedOut(_)) => reason,
            _ if entry.flags.has(Flags::EOF_SEEN) && dispatcher.socket.reads() => CloseReason::Eof,
            _ if shutting_down => CloseReason::ShutDown,
            _ => CloseReason::Local,
        });
        let was = std::mem::replace(&mut dispatcher.state, State::Draining);
        entry.flags.clear(Flags::FLOWING);
        if dispatcher.outbox.is_some() {
            self.set_drain_deadline(id);
        }
        self.forget_unread(id);
        self.touch(id);
        self.update_serving(id);
        if was == State::WriteClosed {
            self.drained_to_close(id);
        } else {
            self.make_unsent(id);
        }
    }

    /// Ends a channel's writing side once it is connected and what is queued has been sent; the peer reads an end of
    /// file, and reading goes on. Later pushes are refused.
    pub fn shutdown_write(&mut self, id: ChannelId) {
        let Some(entry) = self.live_mut(id) else { return };
        match entry.dispatcher.state {
            State::Open => {
                entry.dispatcher.state = State::Finishing;
                entry.flags.clear(Flags::FLOWING);
                self.touch(id);
                self.make_unsent(id);
            }
            State::Connecting | State::Handshaking => {
                entry.dispatcher.rare().when_connected.get_or_insert(Ending::ShutdownWrite);
            }
            // With both sides over there is nothing left to do.
            State::PeerClosed => self.close_when_done(id),
            _ => {}
        }
    }

    /// Closes every channel at once; each hears of it in the next turn.
    pub fn close_all(&mut self) {
        for id in self.ids() {
            self.close(id);
        }
    }

    /// Ends everything in good order: listeners close, every other channel hears `handle_shutdown` and sends what is
    /// queued, and what is left after `deadline` is closed with [`CloseReason::ShutDown`].
    ///
    /// The run that is under way, or the next, ends when all are gone and the map's [blocking work](Self::spawn_blocking) is
    /// finished, but waits for that no longer than the deadline.
    ///
    /// Called again, only the deadline changes, and only to an earlier one.
    pub fn shutdown(&mut self, deadline: Duration) {
        let key = self.deadlines.set(self.time(), deadline, Due::ShutDown);
        match self.phase.shutdown.replace(key) {
            None => {}
            // One that has passed already does not bound what came since.
            Some(earlier) if !self.deadlines.is_waiting(earlier) => return,
            Some(earlier) => {
                self.deadlines.cancel(key.max(earlier));
                self.phase.shutdown = Some(key.min(earlier));
                return;
            }
        }
        tracing::info!(channels = self.channels, ?deadline, "shutting down");
        for id in self.ids() {
            let Some(entry) = self.live_mut(id) else { continue };
            if entry.dispatcher.state == State::Listening {
                self.close_as(id, CloseReason::ShutDown);
            } else {
                entry.flags.set(Flags::SHUTDOWN_DUE);
                self.make_ready(id);
            }
        }
    }

    /// Whether [`shutdown`](Self::shutdown) was called, and the run has not ended since.
    #[must_use]
    pub const fn is_shutting_down(&self) -> bool {
        self.phase.shutdown.is_some()
    }

    /// The run has ended: a map that is run again is not shut down any more.
    pub(crate) fn end_shutdown(&mut self) {
        if let Some(key) = self.phase.shutdown.take() {
            self.deadlines.cancel(key);
        }
    }

    /// Closes a channel: its queue is dropped, its `handle_close` is due. Does nothing when it is closed already.
    pub(crate) fn close_as(&mut self, id: ChannelId, reason: CloseReason) {
        let Some(entry) = self.live_mut(id) else { return };
        entry.dispatcher.state = State::Closed;
        entry.flags.clear(Flags::FLOWING);
        let races = entry.flags.has(Flags::RACING);
        // A channel that was closing when done keeps that reason when its end comes early and in good order; one that was
        // closing over a timeout, also when its last word was not taken.
        let reason = match entry.dispatcher.reason {
            Some(settled) if reason == CloseReason::Local => settled,
            Some(settled @ CloseReason::TimedOut(_)) if reason == DRAINED_IN_VAIN => settled,
            _ => reason,
        };
        entry.dispatcher.reason = Some(reason);
        let timers = entry.dispatcher.rare_mut().and_then(|rare| rare.timers.take());
        let pushes = entry.dispatcher.settle_pushes();
        let outbox = entry.dispatcher.outbox.take();
        let unsent = outbox.as_ref().map_or(0, |outbox| outbox.bytes());
        tracing::debug!(%id, peer = %entry.dispatcher.peer(), %reason, unsent, "channel closed");
        match outbox {
            Some(outbox) => self.recycle(outbox),
            None => entry.dispatcher.socket.say_end(),
        }
        if !planted!(TimerKeptAfterClose) {
            self.cancel_timers(timers);
        }
        self.end_clocks(id);
        self.end_throttles(id);
        self.counters.closed += 1;
        self.counters.pushes += u64::from(pushes);
        self.closed.push(id);
        self.end_couplings(id);
        if !planted!(CallbackAfterClose) {
            self.update_serving(id);
        }
        if races {
            self.leave_race(id, reason);
        }
    }

    /// A read or write failed: closes the channel if the connection is lost, else passes the error on.
    pub(crate) fn lost(&mut self, id: ChannelId, error: std::io::Error) -> Result {
        match CloseReason::from_io(&error) {
            Some(reason) => {
                self.close_as(id, reason);
                Ok(())
            }
            None => Err(error.into()),
        }
    }

    /// Closed channels hear `handle_close` and leave the map.
    pub(crate) fn reap(&mut self, app: &mut A) {
        if self.closed.is_empty() {
            return;
        }
        let mut list = std::mem::replace(&mut self.closed, std::mem::take(&mut self.spare));
        for &id in &list {
            let Some(entry) = self.entry_mut(id) else { continue };
            let reason = entry.dispatcher.reason.unwrap_or(CloseReason::Local);
            let Some(mut handler) = entry.handler.take() else { continue };
            self.timed(Some(id), "handle_close", |map| {
                contain("handle_close", || handler.handle_close(&mut Context::new(map, app, id), reason));
                if planted!(DoubleClose) && reason == CloseReason::HandlerPanic {
                    contain("handle_close", || handler.handle_close(&mut Context::new(map, app, id), reason));
                }
                map.give_back(id, handler);
            });
            if let Some(mut entry) = self.vacate(id) {
                let handler = entry.handler.take();
                contain("dropping a channel", || drop(handler));
                self.cancel_deadline(&mut entry.dispatcher);
            }
        }
        list.clear();
        self.spare = list;
        self.feed_starved();
    }

    /// All is sent: ends the writing side and waits for the peer's end, or closes if that has been seen.
    pub(crate) fn drained_to_close(&mut self, id: ChannelId) {
        let Some(Entry { dispatcher, flags, .. }) = Self::entry_in(&mut self.slots, id) else { return };
        let seen_eof = flags.has(Flags::EOF_SEEN);
        if seen_eof || dispatcher.kind == Kind::Datagram || !dispatcher.socket.half_closes() {
            return self.close_as(id, CloseReason::Local);
        }
        match dispatcher.shutdown_write() {
            Ok(()) => dispatcher.state = State::Lingering,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return self.end_later(id),
            Err(error) => {
                tracing::debug!(%id, %error, "the connection was lost before its end");
                return self.close_as(id, CloseReason::Local);
            }
        }
        self.set_linger_deadline(id);
        self.touch_interest(id);
    }

    /// The queue of a channel that ends its writing side is empty.
    pub(crate) fn finish_writing(&mut self, id: ChannelId) {
        let Some(entry) = self.live_mut(id) else { return };
        let socket = &entry.dispatcher.socket;
        match if socket.half_closes() { entry.dispatcher.shutdown_write() } else { Ok(()) } {
            Ok(()) => entry.dispatcher.state = State::WriteClosed,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return self.end_later(id),
            Err(error) => {
                if let Err(error) = self.lost(id, error) {
                    tracing::debug!(%id, %error, "writing could not be ended");
                    self.close_as(id, CloseReason::Reset);
                }
                return;
            }
        }
        if entry.flags.has(Flags::EOF_SEEN) {
            self.close_as(id, CloseReason::Eof);
        }
    }

    /// The socket has no room for the last word of TLS: it is said when there is some.
    fn end_later(&mut self, id: ChannelId) {
        let Some(Entry { dispatcher, flags, .. }) = Self::entry_in(&mut self.slots, id) else { return };
        flags.set(Flags::BLOCKED);
        let has_deadline = dispatcher.rare_ref().is_some_and(|rare| rare.deadline.is_some());
        if dispatcher.state == State::Draining && !has_deadline {
            self.set_drain_deadline(id);
        }
        self.touch_interest(id);
    }

    /// A channel that was removed while it ended, or shook hands, comes back and goes on with that.
    pub(crate) fn go_on(&mut self, id: ChannelId, state: State) {
        match state {
            State::Lingering => self.set_linger_deadline(id),
            State::Draining => self.set_drain_deadline(id),
            State::Handshaking => self.set_handshake_deadline(id),
            _ => {}
        }
        self.make_unsent(id);
    }

    /// A handshake may take so long.
    pub(crate) fn set_handshake_deadline(&mut self, id: ChannelId) {
        if let Some(wait) = self.limits(id).map(|limits| limits.handshake_time) {
            self.set_deadline(id, wait, Due::Handshake(id));
        }
    }

    /// A lingering channel waits so long for its peer's end.
    fn set_linger_deadline(&mut self, id: ChannelId) {
        if let Some(wait) = self.limits(id).map(|limits| limits.linger_time) {
            self.set_deadline(id, wait, Due::Linger(id));
        }
    }

    /// A draining channel must show within the drain time that its output moves.
    pub(crate) fn set_drain_deadline(&mut self, id: ChannelId) {
        let Some(wait) = self.limits(id).map(|limits| limits.drain_time) else { return };
        self.set_deadline(id, wait, Due::Drain(id));
        if let Some(Entry { dispatcher, .. }) = self.live_mut(id) {
            let sent = dispatcher.bytes_out();
            dispatcher.rare().drained_at = sent;
        }
    }

    /// The drain time is over: another one if output moved, else the peer is given up.
    pub(crate) fn check_drain(&mut self, id: ChannelId) {
        let Some(entry) = self.live_mut(id) else { return };
        if entry.dispatcher.state != State::Draining {
            return;
        }
        let sent = entry.dispatcher.bytes_out();
        let moved = entry.dispatcher.rare_ref().is_some_and(|rare| sent > rare.drained_at);
        if moved || entry.flags.is_throttled() {
            self.set_drain_deadline(id);
        } else {
            self.close_as(id, DRAINED_IN_VAIN);
        }
    }
}

/// Why a channel ends that could not send its last bytes.
const DRAINED_IN_VAIN: CloseReason = CloseReason::TimedOut(Timeout::Drain);
