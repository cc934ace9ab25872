//! The loop: one turn, and the turns repeated.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use crate::buffer::BufferPool;
use crate::deadline::Due;
use crate::interest::Interest;
use crate::map::{Entry, Flags, Serving};
use crate::panics::{contain, describe};
use crate::poller::Event;
use crate::socket::Moved;
use crate::{Channel, ChannelId, CloseReason, Context, Error, Map, Result, State};

impl<A: 'static> Map<A> {
    /// Serves the channels until the last one is gone, or until [`stop`](Self::stop).
    ///
    /// # Errors
    ///
    /// If called from a callback, or the poller fails for good. What fails in a channel stays in that channel.
    pub fn run(&mut self, app: &mut A) -> Result {
        self.refuse_in_callback()?;
        while self.has_work() && !self.phase.stopping {
            self.turn(app, None)?;
        }
        self.phase.stopping = false;
        Ok(())
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
        self.phase.stopping = false;
        Ok(())
    }

    /// Serves one turn, which waits for at most `timeout`; `None` waits for an event however long that takes.
    ///
    /// # Errors
    ///
    /// As [`run`](Self::run).
    pub fn poll(&mut self, app: &mut A, timeout: Option<Duration>) -> Result {
        self.refuse_in_callback()?;
        self.turn(app, timeout)
    }

    /// Ends [`run`](Self::run) after this turn; the channels stay as they are.
    pub const fn stop(&mut self) {
        self.phase.stopping = true;
    }

    /// Ends everything in good order: listeners close, every other channel hears `handle_shutdown` and sends what is
    /// queued, and what is left after `deadline` is closed with [`CloseReason::ShutDown`].
    ///
    /// Called again, only the deadline changes, and only to an earlier one.
    pub fn shutdown(&mut self, deadline: Duration) {
        self.deadlines.set(self.clock.now() + deadline, Due::ShutDown);
        if self.phase.shutting_down {
            return;
        }
        self.phase.shutting_down = true;
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

    /// Whether [`shutdown`](Self::shutdown) was called.
    #[must_use]
    pub const fn is_shutting_down(&self) -> bool {
        self.phase.shutting_down
    }

    fn turn(&mut self, app: &mut A, timeout: Option<Duration>) -> Result {
        self.phase.in_turn = true;
        let waited = self.wait(timeout);
        if waited.is_ok() {
            self.counters.turns += 1;
            self.serve_deadlines();
            self.serve_events(app);
            self.serve_ready(app);
            self.reap(app);
            self.flush(app);
            self.update_interest();
        }
        self.phase.in_turn = false;
        waited
    }

    /// Waits for events: not at all when there is work without one.
    fn wait(&mut self, timeout: Option<Duration>) -> Result {
        // What was added or touched between turns.
        self.update_interest();
        let now = self.clock.now();
        let has_work = !(self.ready.is_empty() && self.unsent.is_empty() && self.closed.is_empty());
        let timeout = if has_work {
            Some(Duration::ZERO)
        } else {
            let due = self.deadlines.next().map(|at| at.saturating_duration_since(now));
            [timeout, due].into_iter().flatten().min()
        };
        self.batch.clear();
        match self.poller.wait(&mut self.batch, timeout) {
            Ok(()) => self.failed_waits = 0,
            // polling re-arms descriptors of its own in a wait, which may fail for want of memory.
            Err(error) if self.failed_waits < MOST_FAILED_WAITS => {
                self.failed_waits += 1;
                tracing::warn!(%error, "the poller failed; trying again");
                std::thread::sleep(FAILED_WAIT_PAUSE);
            }
            Err(error) => return Err(error.into()),
        }
        self.counters.events += self.batch.len() as u64;
        self.now = self.clock.now();
        Ok(())
    }

    fn serve_deadlines(&mut self) {
        for _ in 0..MOST_DEADLINES {
            match self.deadlines.take_due(self.now) {
                None => break,
                Some(Due::Linger(id)) => self.close_as(id, CloseReason::Local),
                Some(Due::Drain(id)) => self.check_drain(id),
                Some(Due::Retry(id)) => {
                    self.take_flag(id, Flags::PUT_OFF);
                    self.make_unsent(id);
                }
                Some(Due::Accept(_)) => self.feed_starved(),
                Some(Due::ShutDown) => {
                    for id in self.ids() {
                        self.close_as(id, CloseReason::ShutDown);
                    }
                }
            }
        }
    }

    fn serve_events(&mut self, app: &mut A) {
        let batch = std::mem::take(&mut self.batch);
        for event in &batch {
            if let Some(id) = self.id_of(event.key) {
                self.serve_event(app, id, *event);
            }
        }
        self.batch = batch;
    }

    /// Hands one event to its channel: connect or accept, urgent data, read, write.
    fn serve_event(&mut self, app: &mut A, id: ChannelId, event: Event) {
        let Some(entry) = self.live(id) else { return };
        match entry.dispatcher.state {
            State::Listening => {
                self.serve_accept(app, id);
                if event.hung_up {
                    self.mute_hang_up(id);
                }
                return;
            }
            State::Connecting => self.serve_connect(app, id, event.writable),
            State::Draining | State::Lingering => self.discard_input(id),
            _ => self.serve_connected(app, id),
        }
        let reads = self.wants_read(id);
        // Before the read, which would pass over the urgent byte.
        if event.urgent && reads {
            self.call(app, id, |handler, cx| handler.handle_expt(cx));
        }
        // Asked again after a callback that may have paused or closed it.
        if event.readable && reads && (!event.urgent || self.wants_read(id)) {
            self.serve_read(app, id);
        }
        if event.failed && !self.serving.received {
            self.hear_failure(id);
        }
        if event.writable {
            self.serve_write(app, id);
        }
        if event.hung_up {
            self.mute_hang_up(id);
        }
        self.serving = Serving::default();
    }

    fn serve_accept(&mut self, app: &mut A, id: ChannelId) {
        if self.live(id).is_some_and(|entry| entry.pauses.is_empty()) {
            self.serving =
                Serving { id: Some(id), accepts: self.options.accept_budget, ..Serving::default() };
            self.call(app, id, |handler, cx| handler.handle_accept(cx));
            self.serving = Serving::default();
        }
    }

    /// Reports the end of a connect, once it has come.
    fn serve_connect(&mut self, app: &mut A, id: ChannelId, writable: bool) {
        let Some(entry) = self.live_mut(id) else { return };
        match entry.dispatcher.connect_result(writable) {
            None => {}
            Some(Ok(())) => {
                let dispatcher = &mut entry.dispatcher;
                dispatcher.state = State::Open;
                let finish = dispatcher.rare.take().is_some_and(|rare| rare.finish_when_connected);
                tracing::debug!(%id, peer = %dispatcher.peer(), "connected");
                if dispatcher.outbox.is_some() {
                    self.make_unsent(id);
                }
                self.call(app, id, |handler, cx| handler.handle_connect(cx));
                if finish {
                    self.close_when_done(id);
                }
            }
            Some(Err(error)) => {
                let reason = CloseReason::from_connect(&error);
                tracing::debug!(%id, peer = %entry.dispatcher.peer(), %error, "connect failed");
                self.report(app, id, &error.into());
                self.override_reason(id, reason);
            }
        }
    }

    /// Tells a channel that was added connected, before anything else of it.
    fn serve_connected(&mut self, app: &mut A, id: ChannelId) {
        if self.take_flag(id, Flags::CONNECT_DUE) {
            self.call(app, id, |handler, cx| handler.handle_connect(cx));
        }
    }

    fn serve_read(&mut self, app: &mut A, id: ChannelId) {
        let Some(entry) = self.live(id) else { return };
        let bytes = entry.dispatcher.limits.as_ref().unwrap_or(&self.limits).read_budget;
        self.serving = Serving { id: Some(id), bytes, reads: true, ..Serving::default() };
        self.call(app, id, |handler, cx| handler.handle_read(cx));
        self.serve_eof(app, id);
    }

    fn serve_eof(&mut self, app: &mut A, id: ChannelId) {
        if self.live_mut(id).is_some_and(|entry| entry.flags.take(Flags::EOF_DUE)) {
            self.call(app, id, |handler, cx| handler.handle_eof(cx));
            // With both sides over, nothing can happen any more.
            if self.live(id).is_some_and(|entry| entry.dispatcher.state == State::WriteClosed) {
                self.close_as(id, CloseReason::Eof);
            }
        }
    }

    fn serve_write(&mut self, app: &mut A, id: ChannelId) {
        let Some(entry) = self.live_mut(id) else { return };
        if entry.flags.take(Flags::BLOCKED) {
            self.make_unsent(id);
            // Whatever comes of that write, write interest ends unless it asks for it again.
            self.touch_interest(id);
        }
        let asked = self.ask(id, |entry| {
            entry.interest.write
                && entry.dispatcher.outbox.is_none()
                && matches!(entry.dispatcher.state, State::Open | State::PeerClosed)
                && entry.wanted().write
        });
        if asked == Some(true) {
            self.call(app, id, |handler, cx| handler.handle_write(cx));
        }
    }

    /// Serves what is due without an event.
    fn serve_ready(&mut self, app: &mut A) {
        let mut list = std::mem::replace(&mut self.ready, std::mem::take(&mut self.spare));
        for &id in &list {
            let Some(entry) = self.live_mut(id) else { continue };
            entry.flags.clear(Flags::READY);
            if entry.dispatcher.state == State::Connecting {
                self.serve_connect(app, id, false);
            }
            self.serve_connected(app, id);
            if self.take_flag(id, Flags::SHUTDOWN_DUE) {
                self.call(app, id, |handler, cx| handler.handle_shutdown(cx));
            }
            if self.take_flag(id, Flags::READ_DUE) && self.wants_read(id) {
                self.serve_read(app, id);
            }
            self.serve_eof(app, id);
            self.serving = Serving::default();
        }
        list.clear();
        self.spare = list;
    }

    fn take_flag(&mut self, id: ChannelId, flag: Flags) -> bool {
        self.live_mut(id).is_some_and(|entry| entry.flags.take(flag))
    }

    /// Whether input is to be delivered to a channel now; asked again because others may have changed it in this turn.
    fn wants_read(&mut self, id: ChannelId) -> bool {
        self.ask(id, |entry| {
            matches!(entry.dispatcher.state, State::Open | State::Finishing | State::WriteClosed)
                && entry.wanted().read
        }) == Some(true)
    }

    /// Asks a channel's predicates; a panic there closes it.
    fn ask<R>(&mut self, id: ChannelId, question: impl FnOnce(&Entry<A>) -> R) -> Option<R> {
        let entry = self.live(id)?;
        match catch_unwind(AssertUnwindSafe(|| question(entry))) {
            Ok(answer) => Some(answer),
            Err(panic) => {
                tracing::error!(%id, panic = describe(panic), "a predicate panicked");
                self.close_as(id, CloseReason::HandlerPanic);
                None
            }
        }
    }

    /// The socket has an error that no read has met: closes the channel with it.
    fn hear_failure(&mut self, id: ChannelId) {
        let Some(entry) = self.live(id) else { return };
        if entry.dispatcher.kind() == crate::Kind::Datagram {
            // An earlier datagram came back; taking the error is all there is to do.
            drop(entry.dispatcher.socket.take_error());
            return;
        }
        let error = entry.dispatcher.socket.take_error();
        let reason = error.as_ref().and_then(CloseReason::from_io).unwrap_or(CloseReason::Reset);
        self.close_as(id, reason);
    }

    /// A hang-up of which nothing is wanted: the poller would repeat it for ever, so the channel leaves it until it
    /// wants something again.
    fn mute_hang_up(&mut self, id: ChannelId) {
        if self.ask(id, Entry::wanted) == Some(Interest::NONE)
            && let Some(entry) = self.live_mut(id)
        {
            entry.dispatcher.socket.source.deregister();
            entry.interest = Interest::NONE;
            entry.flags.set(Flags::HUNG_UP);
            self.touch_interest(id);
        }
    }

    /// Reads and drops the input of a channel that closes, up to its bound.
    fn discard_input(&mut self, id: ChannelId) {
        let buffers = &self.buffers;
        let Some(entry) = Self::entry_in(&mut self.slots, id) else { return };
        let Entry { dispatcher, flags, .. } = entry;
        if flags.has(Flags::EOF_SEEN) {
            return;
        }
        let limits = dispatcher.limits.as_ref().unwrap_or(&self.limits);
        let (budget, most) = (limits.read_budget, limits.linger_bytes);
        let mut buffer = BufferPool::lend(buffers);
        let mut read = 0;
        while read < budget {
            match dispatcher.socket.recv(buffer.room(DISCARD_SIZE)) {
                Ok(Moved::Bytes(0)) => {
                    flags.set(Flags::EOF_SEEN);
                    if dispatcher.state == State::Lingering {
                        self.close_as(id, CloseReason::Local);
                    }
                    break;
                }
                Ok(Moved::Bytes(received)) => {
                    read += received;
                    dispatcher.bytes_in += received as u64;
                    let rare = dispatcher.rare();
                    rare.dropped += received;
                    if rare.dropped > most && dispatcher.state == State::Lingering {
                        return self.close_as(id, CloseReason::Local);
                    }
                    if received < DISCARD_SIZE {
                        break;
                    }
                }
                Ok(Moved::WouldBlock) => break,
                Err(error) => {
                    // All was sent and the peer is gone: the end that was waited for.
                    let reason = match dispatcher.state {
                        State::Lingering => CloseReason::Local,
                        _ => CloseReason::from_io(&error).unwrap_or(CloseReason::Reset),
                    };
                    return self.close_as(id, reason);
                }
            }
        }
        self.touch_interest(id);
    }

    /// Closed channels hear `handle_close` and leave the map.
    fn reap(&mut self, app: &mut A) {
        if self.closed.is_empty() {
            return;
        }
        let mut list = std::mem::replace(&mut self.closed, std::mem::take(&mut self.spare));
        for &id in &list {
            let Some(entry) = self.entry_mut(id) else { continue };
            let reason = entry.dispatcher.reason.unwrap_or(CloseReason::Local);
            let Some(mut handler) = entry.handler.take() else { continue };
            contain("handle_close", || handler.handle_close(&mut Context::new(self, app, id), reason));
            let entry = self.vacate(id);
            contain("dropping a channel", || drop(handler));
            if let Some(mut entry) = entry {
                self.cancel_deadline(&mut entry.dispatcher);
            }
        }
        list.clear();
        self.spare = list;
        self.feed_starved();
    }

    /// Tells the poller what the touched channels wait for now, where that has changed.
    fn update_interest(&mut self) {
        let mut list = std::mem::replace(&mut self.touched, std::mem::take(&mut self.spare));
        for &id in &list {
            let Some(entry) = self.live_mut(id) else { continue };
            entry.flags.clear(Flags::TOUCHED);
            let Some(wanted) = self.ask(id, Entry::wanted) else { continue };
            let Some(entry) = Self::entry_in(&mut self.slots, id) else { continue };
            let is_registered = entry.dispatcher.socket.source.is_registered();
            // A channel that wants nothing stays registered, to hear of a reset.
            let unchanged = is_registered && wanted == entry.interest;
            if unchanged || (!is_registered && wanted == Interest::NONE && !entry.is_watched()) {
                continue;
            }
            let source = &mut entry.dispatcher.socket.source;
            self.counters.registrations += 1;
            if let Err(error) = source.register(&self.poller, id.key(), wanted) {
                tracing::warn!(%id, %error, "the poller cannot take the channel");
                self.close_as(id, CloseReason::Limit);
                continue;
            }
            entry.interest = wanted;
            entry.flags.clear(Flags::HUNG_UP);
        }
        list.clear();
        self.spare = list;
    }

    /// Calls one callback: the handler is lent out, comes back, and what it failed with is reported.
    pub(crate) fn call(
        &mut self,
        app: &mut A,
        id: ChannelId,
        callback: impl FnOnce(&mut dyn Channel<A>, &mut Context<'_, A>) -> Result,
    ) {
        let Some(mut handler) = self.live_mut(id).and_then(|entry| entry.handler.take()) else { return };
        self.touch(id);
        let outcome =
            catch_unwind(AssertUnwindSafe(|| callback(&mut *handler, &mut Context::new(self, app, id))));
        self.give_back(id, handler);
        match outcome {
            Ok(Ok(())) => {}
            Ok(Err(error)) => self.fault(app, id, Fault::Error(error)),
            Err(panic) => self.fault(app, id, Fault::Panic(describe(panic))),
        }
    }

    /// Deals with what a callback or a producer failed with.
    pub(crate) fn fault(&mut self, app: &mut A, id: ChannelId, fault: Fault) {
        match fault {
            Fault::Error(error) => {
                let reason = CloseReason::from_handler(&error);
                let was_open = self.is_open(id);
                self.report(app, id, &error);
                if was_open && !self.is_open(id) {
                    self.override_reason(id, reason);
                }
            }
            Fault::Panic(message) => {
                tracing::error!(%id, peer = %self.peer_name(id), message, "a callback panicked");
                self.report(app, id, &format!("panic: {message}").into());
                self.override_reason(id, CloseReason::HandlerPanic);
            }
        }
    }

    /// Tells a channel of an error, unless it is closed; a panic there closes it.
    fn report(&mut self, app: &mut A, id: ChannelId, error: &Error) {
        let Some(mut handler) = self.live_mut(id).and_then(|entry| entry.handler.take()) else {
            tracing::debug!(%id, %error, "an error of a closed channel");
            return;
        };
        self.touch(id);
        let mut finished = false;
        contain("handle_error", || {
            handler.handle_error(&mut Context::new(self, app, id), error);
            finished = true;
        });
        self.give_back(id, handler);
        if !finished {
            self.override_reason(id, CloseReason::HandlerPanic);
        }
    }

    /// Closes a channel for `reason`, also when it has been closed for another in the same breath.
    fn override_reason(&mut self, id: ChannelId, reason: CloseReason) {
        self.close_as(id, reason);
        if let Some(entry) = self.entry_mut(id) {
            entry.dispatcher.reason = Some(reason);
        }
    }

    fn refuse_in_callback(&self) -> Result {
        if self.phase.in_turn {
            return Err(
                "the loop is running already: `run` and `poll` cannot be called from a callback".into()
            );
        }
        Ok(())
    }

    fn has_work(&self) -> bool {
        self.channels > self.background || !self.closed.is_empty()
    }
}

impl<A: 'static> Entry<A> {
    /// What the channel waits for.
    fn wanted(&self) -> Interest {
        let reads = self.pauses.is_empty() && !self.flags.has(Flags::EOF_SEEN);
        let blocked = self.flags.has(Flags::BLOCKED);
        let handler = self.handler.as_deref();
        let readable = || handler.is_some_and(Channel::readable);
        let writable = || handler.is_some_and(Channel::writable);
        match self.dispatcher.state {
            State::Created | State::Closed => Interest::NONE,
            State::Listening => Interest { read: self.pauses.is_empty(), write: false },
            State::Connecting if self.dispatcher.has_connect_result() => Interest::NONE,
            State::Connecting => Interest::WRITE,
            State::Open | State::PeerClosed => {
                Interest { read: reads && readable(), write: blocked || writable() }
            }
            State::Finishing | State::WriteClosed => Interest { read: reads && readable(), write: blocked },
            // Input is dropped whether the handler was paused or not.
            State::Draining | State::Lingering => {
                Interest { read: !self.flags.has(Flags::EOF_SEEN), write: blocked }
            }
        }
    }

    /// Whether the poller is to know the channel even when it wants nothing, so that a reset is heard.
    fn is_watched(&self) -> bool {
        !self.flags.has(Flags::HUNG_UP)
            && !matches!(self.dispatcher.state, State::Created)
            && !self.dispatcher.has_connect_result()
    }
}

/// What a callback or a producer failed with.
pub(crate) enum Fault {
    Error(Error),
    Panic(String),
}

/// Deadlines served in one turn: 1024, so that a flood of them does not keep the sockets waiting.
const MOST_DEADLINES: usize = 1024;

/// Waits that may fail in a row before the loop gives up: 100; a lack of memory passes, a broken poller does not.
const MOST_FAILED_WAITS: u32 = 100;

/// The pause after a wait that failed: 10 ms, so that the loop holds out for a second and does not spin meanwhile.
const FAILED_WAIT_PAUSE: Duration = Duration::from_millis(10);

/// What one read of dropped input takes: 64 KiB.
const DISCARD_SIZE: usize = 64 << 10;
