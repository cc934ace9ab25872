//! What a channel is served in a turn: deadlines, events, and what is due without one.

use crate::buffer::BufferPool;
use crate::deadline::Due;
use crate::entry::{Entry, Flags};
use crate::extra::Ending;
use crate::interest::Interest;
use crate::map::Serving;
use crate::poller::Event;
use crate::socket::Moved;
use crate::{ChannelId, CloseReason, Map, State, Timeout};

impl<A: 'static> Map<A> {
    pub(crate) fn serve_deadlines(&mut self, app: &mut A) {
        let before = self.deadlines.mark();
        for _ in 0..MOST_DEADLINES {
            let Some((key, due)) = self.deadlines.take_due(self.now, before) else { break };
            self.counters.deadlines += 1;
            match due {
                Due::Linger(id) => self.close_as(id, CloseReason::Local),
                Due::Drain(id) => self.check_drain(id),
                Due::Retry(id) => self.write_again(id),
                Due::Read(id) => self.read_at_rate(id),
                Due::Accept(_) => self.feed_starved(),
                Due::Check(id) => self.check_later(id),
                Due::Attempt(id) => self.try_next(id),
                Due::Handshake(id) => self.time_out(app, id, Timeout::Handshake),
                Due::Timer(timer) => self.serve_timer(app, timer, key),
                Due::ShutDown => {
                    for id in self.ids() {
                        self.close_as(id, CloseReason::ShutDown);
                    }
                }
            }
        }
    }

    pub(crate) fn serve_events(&mut self, app: &mut A) {
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
            State::Handshaking => {
                if event.urgent {
                    drop(entry.dispatcher.socket.recv_urgent());
                }
                return self.serve_handshake(app, id);
            }
            State::Draining | State::Lingering => {
                if event.urgent {
                    // Nobody reads past it any more, and the poller would repeat it for ever.
                    drop(entry.dispatcher.socket.recv_urgent());
                }
                self.discard_input(id);
            }
            _ if entry.flags.has(Flags::CONNECT_DUE) => self.serve_connected(app, id),
            _ => {}
        }
        let reads = self.wants_read(id);
        // Before the read, which would pass over the urgent byte.
        if event.urgent && reads {
            self.call(app, id, "handle_expt", |handler, cx| handler.handle_expt(cx));
        }
        // Asked again after a callback that may have paused or closed it.
        if event.readable && reads && (!event.urgent || self.wants_read(id)) {
            self.serve_read(app, id);
        }
        // A read meets it, now or the next time; unless there is none.
        if event.failed && (!self.serving.received || !self.wants_read(id)) {
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
            self.serving = Serving { id: Some(id), accepts: self.accept_budget(id), ..Serving::default() };
            self.call(app, id, "handle_accept", |handler, cx| handler.handle_accept(cx));
            self.serving = Serving::default();
        }
    }

    /// Reports the end of a connect, once it has come.
    fn serve_connect(&mut self, app: &mut A, id: ChannelId, writable: bool) {
        let Some(entry) = self.live_mut(id) else { return };
        if entry.flags.has(Flags::RACING) {
            return self.serve_race(app, id, writable);
        }
        match entry.dispatcher.connect_result(writable) {
            None => {}
            Some(Ok(())) => {
                tracing::debug!(%id, peer = %entry.dispatcher.peer(), "connected");
                entry.flags.set(Flags::CONNECT_DUE);
                entry.dispatcher.state = State::Open;
                self.start_clocks(id);
                #[cfg(feature = "tls")]
                if self.start_tls_when_connected(app, id) {
                    return;
                }
                self.begin(id);
                self.serve_connected(app, id);
            }
            Some(Err(error)) => {
                let reason = CloseReason::from_connect(&error);
                tracing::debug!(%id, peer = %entry.dispatcher.peer(), %error, "connect failed");
                self.report(app, id, &error.into());
                self.override_reason(id, reason);
            }
        }
    }

    /// A stream takes output at last: what waited for that goes on.
    fn begin(&mut self, id: ChannelId) {
        let Some(Entry { dispatcher, flags, .. }) = self.live_mut(id) else { return };
        let ending = dispatcher.rare_mut().and_then(|rare| rare.when_connected.take());
        // What was queued is sent; of what was dropped, the low mark is told.
        if dispatcher.outbox.is_some() || flags.has(Flags::HIGH) {
            self.make_unsent(id);
        }
        // Before a callback, so that what is pushed there is refused as promised.
        match ending {
            Some(Ending::Close) => self.close_when_done(id),
            Some(Ending::ShutdownWrite) => self.shutdown_write(id),
            None => {}
        }
    }

    /// Goes on with a handshake, and reports its end.
    fn serve_handshake(&mut self, app: &mut A, id: ChannelId) {
        let Some(entry) = self.live_mut(id) else { return };
        match entry.dispatcher.socket.handshake() {
            Ok(false) => self.touch_interest(id),
            Ok(true) => {
                tracing::debug!(%id, peer = %entry.dispatcher.peer(), "handshake done");
                entry.dispatcher.state = State::Open;
                // What a former handler had put back came in clear text.
                entry.flags.clear(Flags::UNREAD);
                let deadline = entry.dispatcher.rare_mut().and_then(|rare| rare.deadline.take());
                if let Some(key) = deadline {
                    self.deadlines.cancel(key);
                }
                self.touch(id);
                self.go_on_with_clocks(id);
                self.begin(id);
                self.serve_connected(app, id);
                self.call(app, id, "handle_tls", |handler, cx| handler.handle_tls(cx));
            }
            Err(error) => {
                let reason = CloseReason::from_io(&error).unwrap_or(CloseReason::Tls);
                tracing::debug!(%id, peer = %entry.dispatcher.peer(), %error, "handshake failed");
                self.report(app, id, &error.into());
                self.override_reason(id, reason);
            }
        }
    }

    /// Tells a channel that was added connected, before anything else of it.
    pub(crate) fn serve_connected(&mut self, app: &mut A, id: ChannelId) {
        if !self.is_handshaking(id) && self.take_flag(id, Flags::CONNECT_DUE) {
            if self.live(id).is_some_and(|entry| entry.flags.has(Flags::HIGH)) {
                // It may have been sent already, and is said to have drained after this.
                self.make_unsent(id);
            }
            self.call(app, id, "handle_connect", |handler, cx| handler.handle_connect(cx));
        }
    }

    fn serve_read(&mut self, app: &mut A, id: ChannelId) {
        let Some(entry) = Self::entry_in(&mut self.slots, id) else { return };
        entry.flags.set(Flags::HAS_READ);
        let bytes = entry.dispatcher.extra.limits(&self.limits).read_budget.max(1);
        self.serving = Serving { id: Some(id), bytes, reading: Some(id), ..Serving::default() };
        self.call(app, id, "handle_read", |handler, cx| handler.handle_read(cx));
        self.serve_eof(app, id);
    }

    fn serve_eof(&mut self, app: &mut A, id: ChannelId) {
        if self.live_mut(id).is_some_and(|entry| entry.flags.take(Flags::EOF_DUE)) {
            self.call(app, id, "handle_eof", |handler, cx| handler.handle_eof(cx));
            // With both sides over, nothing can happen any more.
            if self.live(id).is_some_and(|entry| {
                entry.dispatcher.state == State::WriteClosed && entry.flags.has(Flags::EOF_SEEN)
            }) {
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
            self.call(app, id, "handle_write", |handler, cx| handler.handle_write(cx));
        }
    }

    /// Serves what is due without an event.
    pub(crate) fn serve_ready(&mut self, app: &mut A) {
        let mut list = std::mem::replace(&mut self.ready, std::mem::take(&mut self.spare));
        for &id in &list {
            let Some(entry) = self.live_mut(id) else { continue };
            entry.flags.clear(Flags::READY);
            let has_read = entry.flags.has(Flags::HAS_READ);
            if entry.dispatcher.state == State::Connecting {
                self.serve_connect(app, id, false);
            }
            if self.is_handshaking(id) {
                self.serve_handshake(app, id);
            }
            self.serve_connected(app, id);
            // What is to close when done does so without being asked.
            if self.take_flag(id, Flags::SHUTDOWN_DUE) && !self.is_ending(id) {
                self.call(app, id, "handle_shutdown", |handler, cx| handler.handle_shutdown(cx));
            }
            if has_read {
                // It has had its share of this turn.
                if self.live(id).is_some_and(|entry| entry.flags.has(Flags::READ_DUE)) {
                    self.make_ready(id);
                }
            } else if self.take_flag(id, Flags::READ_DUE) && self.wants_read(id) {
                self.serve_read(app, id);
            }
            self.serve_eof(app, id);
            self.serving = Serving::default();
        }
        list.clear();
        self.spare = list;
    }

    /// Whether a channel is to close when done, or will be once it is connected.
    fn is_ending(&self, id: ChannelId) -> bool {
        self.get(id).is_some_and(|dispatcher| {
            let when_connected = dispatcher.rare_ref().and_then(|rare| rare.when_connected);
            matches!(dispatcher.state, State::Draining | State::Lingering)
                || when_connected == Some(Ending::Close)
        })
    }

    fn is_handshaking(&self, id: ChannelId) -> bool {
        self.live(id).is_some_and(|entry| entry.dispatcher.state == State::Handshaking)
    }

    fn take_flag(&mut self, id: ChannelId, flag: Flags) -> bool {
        self.live_mut(id).is_some_and(|entry| entry.flags.take(flag))
    }

    /// Whether input is to be delivered to a channel now; asked again because others may have changed it in this turn.
    fn wants_read(&mut self, id: ChannelId) -> bool {
        let Some(entry) = self.live(id) else { return false };
        if !matches!(entry.dispatcher.state, State::Open | State::Finishing | State::WriteClosed) {
            return false;
        }
        // What has not been touched since wants what it wanted then.
        if entry.flags.has(Flags::TOUCHED) {
            self.ask(id, |entry| entry.wanted().read) == Some(true)
        } else {
            entry.interest.read
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
        let has_sent_all = match entry.dispatcher.state {
            State::Lingering => true,
            State::Draining => entry.flags.has(Flags::EOF_SEEN) && entry.dispatcher.outbox.is_none(),
            _ => false,
        };
        if has_sent_all {
            // The end that was waited for. A peer may reset right behind the last word of TLS.
            return self.close_as(id, CloseReason::Local);
        }
        let socket = &entry.dispatcher.socket;
        if entry.flags.has(Flags::EOF_SEEN) && socket.reads() && !socket.half_closes() {
            // A terminal that is hung up has an end and an error, and this was both.
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
            entry.dispatcher.socket.deregister();
            let read = std::mem::replace(&mut entry.interest, Interest::NONE).read;
            entry.flags.set(Flags::HUNG_UP);
            if read && entry.flags.has(Flags::TIMED) {
                self.note_reading(id, false);
            }
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
        let limits = dispatcher.extra.limits(&self.limits);
        let (budget, most) = (limits.read_budget.max(1), limits.linger_bytes);
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
                    dispatcher.count_in(received);
                    self.counters.bytes_in += received as u64;
                    if dispatcher.state == State::Lingering {
                        let rare = dispatcher.rare();
                        rare.dropped += received;
                        if rare.dropped > most {
                            return self.close_as(id, CloseReason::Local);
                        }
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
}

/// Deadlines served in one turn: 1024, so that a flood of them does not keep the sockets waiting.
const MOST_DEADLINES: usize = 1024;

/// What one read of dropped input takes: 64 KiB.
const DISCARD_SIZE: usize = 64 << 10;
