//! The output side of the map: push and its limits, the two ways to close, and the write at the end of a turn.

use std::io::IoSlice;
use std::panic::{AssertUnwindSafe, catch_unwind};

use bytes::Bytes;

use crate::deadline::Due;
use crate::map::{Entry, Flags};
use crate::outbox::{Filled, Outbox};
use crate::panics::describe;
use crate::socket::{Moved, is_short_of_memory};
use crate::turn::Fault;
use crate::{
    ChannelId, CloseReason, KEEP_FROM, Kind, Limits, Map, OnFull, Producer, PushData, Pushed, Result, State,
    Timeout,
};

impl<A: 'static> Map<A> {
    /// Queues bytes for a channel; they are written at the end of the turn.
    ///
    /// Borrowed bytes are copied, owned ones kept when large: see [`PushData`]. On a datagram channel each push is one
    /// datagram. The answer may be ignored; a push never fails its caller.
    #[inline]
    pub fn push(&mut self, id: ChannelId, data: impl PushData) -> Pushed {
        let length = data.length();
        let queued = self.queued + length;
        if let Some(entry) = Self::entry_in(&mut self.slots, id)
            && entry.flags.has(Flags::FLOWING)
            && let Some(outbox) = &mut entry.dispatcher.outbox
            && outbox.takes_easily(length)
            && queued <= self.options.output
        {
            data.push_onto(outbox);
            self.queued = queued;
            return Pushed::Queued;
        }
        self.push_carefully(id, length, data)
    }

    #[inline(never)]
    fn push_carefully(&mut self, id: ChannelId, length: usize, data: impl PushData) -> Pushed {
        self.queue(id, length, |outbox, kind| match kind {
            Kind::Stream => data.push_onto(outbox),
            Kind::Datagram => outbox.push_kept(data.into_kept()),
        })
    }

    /// Queues a producer: what it makes goes out after what was pushed before and before what is pushed later.
    pub fn push_with_producer(&mut self, id: ChannelId, producer: impl Producer + 'static) -> Pushed {
        self.queue(id, 0, |outbox, _| outbox.push_producer(Box::new(producer)))
    }

    /// Queues the same bytes for many channels: how many took them.
    ///
    /// Small data is copied into each queue, large data is shared.
    pub fn broadcast(&mut self, ids: &[ChannelId], data: impl Into<Bytes>) -> usize {
        let data = data.into();
        let is_small = data.len() < KEEP_FROM;
        let mut push = |id| if is_small { self.push(id, &data) } else { self.push(id, data.clone()) };
        ids.iter().filter(|id| push(**id).is_queued()).count()
    }

    /// Sends at once what the socket takes, past the queue: how many bytes.
    ///
    /// 0 when the socket would block, when the channel cannot write (any more), and while output is queued, so that
    /// bytes never overtake. For channels that keep their own buffer: say `writable` until all is sent.
    ///
    /// # Errors
    ///
    /// If the system refuses the write for another reason than a lost connection; that closes the channel.
    pub fn send(&mut self, id: ChannelId, data: &[u8]) -> Result<usize> {
        self.touch(id);
        let Some(entry) = self.live_mut(id) else { return Ok(0) };
        if !matches!(entry.dispatcher.state, State::Open | State::PeerClosed)
            || entry.dispatcher.outbox.is_some()
        {
            return Ok(0);
        }
        match entry.dispatcher.send(data) {
            Ok(sent) => Ok(sent),
            Err(error) if is_short_of_memory(&error) => Ok(0),
            Err(error) => self.lost(id, error).map(|()| 0),
        }
    }

    /// Sends one datagram to an address, past the queue: whether the socket took it.
    ///
    /// # Errors
    ///
    /// If the system refuses it: too long for a datagram, no way to the address, not a datagram channel.
    pub fn send_to(&mut self, id: ChannelId, data: &[u8], to: &crate::Address) -> Result<bool> {
        let Some(entry) = self.live_mut(id) else { return Ok(false) };
        match entry.dispatcher.socket.send_to(data, to)? {
            Moved::Bytes(sent) => {
                entry.dispatcher.bytes_out += sent as u64;
                Ok(true)
            }
            Moved::WouldBlock => Ok(false),
        }
    }

    /// Drops what is queued for a channel and not yet sent: how many bytes. A pending close is not cancelled.
    pub fn discard_output(&mut self, id: ChannelId) -> usize {
        let Some(entry) = self.live_mut(id) else { return 0 };
        let Some(outbox) = entry.dispatcher.outbox.take() else { return 0 };
        entry.flags.clear(Flags::BLOCKED);
        let dropped = outbox.bytes();
        self.recycle(id, outbox);
        // The write at the end of the turn finds no queue, and goes on with what follows an empty one.
        self.make_unsent(id);
        self.touch(id);
        dropped
    }

    /// Closes a channel at once: what is queued is dropped, and nothing of it runs any more but `handle_close`, at the
    /// end of the turn.
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
    /// ([`Limits::linger_time`]) and amount ([`Limits::linger_bytes`]). Without that, closing while input is unread
    /// would reset the connection, and the peer could lose the last reply.
    pub fn close_when_done(&mut self, id: ChannelId) {
        let shutting_down = self.phase.shutting_down;
        let Some(entry) = self.live_mut(id) else { return };
        let dispatcher = &mut entry.dispatcher;
        match dispatcher.state {
            State::Draining | State::Lingering | State::Closed => return,
            State::Connecting if dispatcher.outbox.is_some() => {
                dispatcher.rare().finish_when_connected = true;
                return;
            }
            State::Created | State::Listening | State::Connecting => {
                let reason = if shutting_down { CloseReason::ShutDown } else { CloseReason::Local };
                return self.close_as(id, reason);
            }
            State::Open | State::PeerClosed | State::Finishing | State::WriteClosed => {}
        }
        dispatcher.reason = Some(if entry.flags.has(Flags::EOF_SEEN) {
            CloseReason::Eof
        } else if shutting_down {
            CloseReason::ShutDown
        } else {
            CloseReason::Local
        });
        let was = std::mem::replace(&mut dispatcher.state, State::Draining);
        entry.flags.clear(Flags::FLOWING);
        if dispatcher.outbox.is_some() {
            self.set_drain_deadline(id);
        }
        self.touch(id);
        self.update_serving(id);
        if was == State::WriteClosed {
            self.drained_to_close(id);
        } else {
            self.make_unsent(id);
        }
    }

    /// Ends a channel's writing side once what is queued has been sent; the peer reads an end of file, and reading goes
    /// on. Later pushes are refused.
    pub fn shutdown_write(&mut self, id: ChannelId) {
        let Some(entry) = self.live_mut(id) else { return };
        match entry.dispatcher.state {
            State::Open => {
                entry.dispatcher.state = State::Finishing;
                entry.flags.clear(Flags::FLOWING);
                self.touch(id);
                self.make_unsent(id);
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

    /// Checks state and limits, queues, and says what became of it.
    fn queue(&mut self, id: ChannelId, length: usize, put: impl FnOnce(&mut Outbox, Kind)) -> Pushed {
        let Some(entry) = self.live(id) else { return Pushed::Gone };
        let dispatcher = &entry.dispatcher;
        let finishing = dispatcher.rare.as_ref().is_some_and(|rare| rare.finish_when_connected);
        match dispatcher.state {
            State::Open | State::PeerClosed => {}
            State::Created | State::Connecting if !finishing => {}
            _ => return Pushed::Closing,
        }
        let limits: &Limits = dispatcher.limits.as_ref().unwrap_or(&self.limits);
        let (limit, on_full, high_mark) = (limits.output, limits.on_full, limits.high_mark);
        let queued = dispatcher.queued();
        if queued.saturating_add(length) > limit {
            if on_full == OnFull::Close {
                tracing::warn!(%id, peer = %dispatcher.peer(), queued, length, limit, "output limit reached");
                self.close_as(id, CloseReason::OutputFull);
            }
            return Pushed::Full;
        }
        while self.queued.saturating_add(length) > self.options.output {
            if !self.shed_output(id, length) {
                return Pushed::Full;
            }
        }
        self.queued += length;
        let outboxes = &mut self.outboxes;
        let Some(Entry { dispatcher, flags, .. }) = Self::entry_in(&mut self.slots, id) else {
            return Pushed::Gone;
        };
        let kind = dispatcher.socket.kind;
        let outbox = dispatcher.outbox.get_or_insert_with(|| outboxes.take());
        put(outbox, kind);
        outbox.easy = limit.min(high_mark);
        if outbox.bytes() > high_mark {
            flags.set(Flags::HIGH);
        }
        let pauses = flags.has(Flags::HIGH) && flags.has(Flags::COUPLED);
        let is_open_stream =
            kind == Kind::Stream && matches!(dispatcher.state, State::Open | State::PeerClosed);
        let is_blocked = flags.has(Flags::BLOCKED);
        self.touch(id);
        if is_open_stream
            && !is_blocked
            && let Some(entry) = self.live_mut(id)
        {
            entry.flags.set(Flags::FLOWING);
        }
        if pauses {
            self.pause_for_output(id);
        }
        Pushed::Queued
    }

    /// The map's cap is reached: closes the channel with the most queued bytes, `more` for `pushing` counted in. Whether
    /// that was another one.
    fn shed_output(&mut self, pushing: ChannelId, more: usize) -> bool {
        let queued = |(id, dispatcher): &(ChannelId, &crate::Dispatcher)| {
            dispatcher.queued() + if *id == pushing { more } else { 0 }
        };
        let Some((id, _)) = self.iter().max_by_key(queued) else { return false };
        tracing::warn!(%id, queued = self.queued, limit = self.options.output, "the map's output limit reached");
        self.close_as(id, CloseReason::OutputFull);
        id != pushing
    }

    /// Closes a channel: its queue is dropped, its `handle_close` is due. Does nothing when it is closed already.
    pub(crate) fn close_as(&mut self, id: ChannelId, reason: CloseReason) {
        let Some(entry) = self.live_mut(id) else { return };
        entry.dispatcher.state = State::Closed;
        entry.flags.clear(Flags::FLOWING);
        // A channel that was closing when done keeps that reason when its end comes early and in good order.
        let reason = match entry.dispatcher.reason {
            Some(settled) if reason == CloseReason::Local => settled,
            _ => reason,
        };
        entry.dispatcher.reason = Some(reason);
        let outbox = entry.dispatcher.outbox.take();
        let unsent = outbox.as_ref().map_or(0, |outbox| outbox.bytes());
        tracing::debug!(%id, peer = %entry.dispatcher.peer(), %reason, unsent, "channel closed");
        if let Some(outbox) = outbox {
            self.recycle(id, outbox);
        }
        self.counters.closed += 1;
        self.closed.push(id);
        self.update_serving(id);
    }

    /// Gives an outbox back to the pool. Dropping a producer runs its user's code, which may panic.
    fn recycle(&mut self, id: ChannelId, mut outbox: Box<Outbox>) {
        self.queued -= outbox.bytes();
        match catch_unwind(AssertUnwindSafe(|| outbox.clear())) {
            Ok(_) => self.outboxes.put(outbox),
            Err(panic) => {
                tracing::error!(%id, panic = describe(panic), "a producer panicked when it was dropped");
                std::mem::forget(outbox);
            }
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

    /// Writes the output of every channel that was given some in this turn; what callbacks push here is the next
    /// turn's work.
    pub(crate) fn flush(&mut self, app: &mut A) {
        let mut list = std::mem::replace(&mut self.unsent, std::mem::take(&mut self.spare));
        for &id in &list {
            let Some(entry) = self.live_mut(id) else { continue };
            entry.flags.clear(Flags::UNSENT);
            entry.flags.clear(Flags::FLOWING);
            if entry.flags.has(Flags::BLOCKED) || entry.flags.has(Flags::PUT_OFF) {
                continue;
            }
            if let Err(fault) = self.write_queued(id) {
                self.fault(app, id, fault);
            }
            self.after_write(app, id);
        }
        list.clear();
        self.spare = list;
    }

    /// One write of what is queued.
    fn write_queued(&mut self, id: ChannelId) -> Result<(), Fault> {
        let Some(entry) = Self::entry_in(&mut self.slots, id) else { return Ok(()) };
        let Entry { dispatcher, flags, .. } = entry;
        if !matches!(dispatcher.state, State::Open | State::PeerClosed | State::Finishing | State::Draining) {
            return Ok(());
        }
        let Some(outbox) = dispatcher.outbox.as_mut() else { return Ok(()) };
        if dispatcher.socket.kind == Kind::Datagram {
            return self.write_datagrams(id);
        }
        let limits = dispatcher.limits.as_ref().unwrap_or(&self.limits);
        let most = limits.ac_out_buffer_size.max(1);

        let before = outbox.bytes();
        let filled = catch_unwind(AssertUnwindSafe(|| outbox.fill(most)));
        let made = outbox.bytes() - before;
        self.queued += made;
        if outbox.bytes() > limits.high_mark {
            flags.set(Flags::HIGH);
        }
        match filled {
            Ok(Ok(Filled::Ready)) => {}
            Ok(Ok(Filled::Waiting)) => return Ok(()),
            Ok(Err(error)) => {
                // Asked again, it would fail again, in every turn.
                self.discard_output(id);
                return Err(Fault::Error(error));
            }
            Err(panic) => return Err(Fault::Panic(describe(panic))),
        }

        let (offered, moved) = match outbox.only_tail() {
            Some(tail) => {
                let tail = &tail[..tail.len().min(most)];
                (tail.len(), if tail.is_empty() { Ok(Moved::Bytes(0)) } else { dispatcher.socket.send(tail) })
            }
            None => {
                let mut slices = [IoSlice::new(&[]); MOST_SLICES];
                let (count, offered) = outbox.next_slices(&mut slices, most);
                let slices = &slices[..count];
                (
                    offered,
                    if count == 0 { Ok(Moved::Bytes(0)) } else { dispatcher.socket.send_vectored(slices) },
                )
            }
        };
        match moved {
            Ok(Moved::Bytes(written)) => {
                outbox.advance(written);
                dispatcher.bytes_out += written as u64;
                self.queued -= written;
                if written < offered {
                    flags.set(Flags::BLOCKED);
                }
            }
            Ok(Moved::WouldBlock) => flags.set(Flags::BLOCKED),
            Err(error) if is_short_of_memory(&error) => {
                tracing::debug!(%id, %error, "write put off");
                flags.set(Flags::PUT_OFF);
                self.deadlines.set(self.now + RETRY_TIME, Due::Retry(id));
                return Ok(());
            }
            Err(error) => return self.lost(id, error).map_err(Fault::Error),
        }
        if !outbox.is_empty() && !flags.has(Flags::BLOCKED) {
            self.make_unsent(id);
        }
        self.touch_interest(id);
        Ok(())
    }

    /// Writes queued datagrams, each by itself, as many as a turn allows.
    fn write_datagrams(&mut self, id: ChannelId) -> Result<(), Fault> {
        for _ in 0..MOST_SLICES {
            let Some(Entry { dispatcher, flags, .. }) = Self::entry_in(&mut self.slots, id) else {
                return Ok(());
            };
            let Some(outbox) = dispatcher.outbox.as_mut() else { return Ok(()) };
            let Some(datagram) = outbox.first_datagram() else { return Ok(()) };
            let length = datagram.len();
            match dispatcher.socket.send(datagram) {
                Ok(Moved::WouldBlock) => {
                    flags.set(Flags::BLOCKED);
                    self.touch_interest(id);
                    return Ok(());
                }
                Err(error) if is_short_of_memory(&error) => {
                    flags.set(Flags::PUT_OFF);
                    self.deadlines.set(self.now + RETRY_TIME, Due::Retry(id));
                    return Ok(());
                }
                sent => {
                    outbox.pop_datagram();
                    self.queued -= length;
                    match sent {
                        Ok(_) => dispatcher.bytes_out += length as u64,
                        // An earlier datagram came back; that says nothing of this peer's future (RFC 1122 section 4.1.3.3).
                        Err(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => {
                            tracing::debug!(%id, %error, "datagram not delivered");
                        }
                        Err(error) => return Err(Fault::Error(error.into())),
                    }
                }
            }
        }
        self.make_unsent(id);
        Ok(())
    }

    /// What follows a write: the low mark, and the end of a queue that something waits for.
    fn after_write(&mut self, app: &mut A, id: ChannelId) {
        let Some(Entry { dispatcher, flags, .. }) = Self::entry_in(&mut self.slots, id) else { return };
        let limits = dispatcher.limits.as_ref().unwrap_or(&self.limits);
        let outbox = dispatcher.outbox.as_ref();
        let is_low = outbox.is_none_or(|outbox| outbox.bytes() <= limits.low_mark);
        let drained = is_low && flags.has(Flags::HIGH) && outbox.is_none_or(|outbox| !outbox.has_producer());
        if let Some(outbox) = dispatcher.outbox.take_if(|outbox| outbox.is_empty()) {
            self.outboxes.put(outbox);
        }
        if drained {
            flags.clear(Flags::HIGH);
        }
        let state = dispatcher.state;
        let is_empty = dispatcher.outbox.is_none();
        if is_low {
            self.resume_for_output(id);
        }
        if is_empty {
            match state {
                State::Draining => return self.drained_to_close(id),
                State::Finishing => self.finish_writing(id),
                _ => {}
            }
        }
        if drained && state != State::Draining {
            self.call(app, id, |handler, cx| handler.handle_drained(cx));
        }
    }

    /// All is sent: ends the writing side and waits for the peer's end, or closes if that has been seen.
    fn drained_to_close(&mut self, id: ChannelId) {
        let Some(Entry { dispatcher, flags, .. }) = Self::entry_in(&mut self.slots, id) else { return };
        let seen_eof = flags.has(Flags::EOF_SEEN);
        if seen_eof || dispatcher.socket.kind == Kind::Datagram {
            return self.close_as(id, CloseReason::Local);
        }
        if let Err(error) = dispatcher.shutdown_write() {
            tracing::debug!(%id, %error, "the connection was lost before its end");
            return self.close_as(id, CloseReason::Local);
        }
        dispatcher.state = State::Lingering;
        self.set_linger_deadline(id);
        self.touch_interest(id);
    }

    /// A channel that was removed while it ended comes back, and goes on ending.
    pub(crate) fn end_again(&mut self, id: ChannelId, state: State) {
        match state {
            State::Lingering => self.set_linger_deadline(id),
            State::Draining => self.set_drain_deadline(id),
            _ => {}
        }
        self.make_unsent(id);
    }

    /// A lingering channel waits so long for its peer's end.
    fn set_linger_deadline(&mut self, id: ChannelId) {
        let now = self.time();
        let Some(Entry { dispatcher, .. }) = Self::entry_in(&mut self.slots, id) else { return };
        let wait = dispatcher.limits.as_ref().unwrap_or(&self.limits).linger_time;
        let key = self.deadlines.set(now + wait, Due::Linger(id));
        if let Some(old) = dispatcher.rare().deadline.replace(key) {
            self.deadlines.cancel(old);
        }
    }

    /// The queue of a channel that ends its writing side is empty.
    fn finish_writing(&mut self, id: ChannelId) {
        let Some(entry) = self.live_mut(id) else { return };
        match entry.dispatcher.shutdown_write() {
            Ok(()) => entry.dispatcher.state = State::WriteClosed,
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

    /// A draining channel must show within the drain time that its output moves.
    pub(crate) fn set_drain_deadline(&mut self, id: ChannelId) {
        let now = self.time();
        let Some(Entry { dispatcher, .. }) = Self::entry_in(&mut self.slots, id) else { return };
        let wait = dispatcher.limits.as_ref().unwrap_or(&self.limits).drain_time;
        let key = self.deadlines.set(now + wait, Due::Drain(id));
        let sent = dispatcher.bytes_out;
        let rare = dispatcher.rare();
        rare.drained_at = sent;
        if let Some(old) = rare.deadline.replace(key) {
            self.deadlines.cancel(old);
        }
    }

    /// The drain time is over: another one if output moved, else the peer is given up.
    pub(crate) fn check_drain(&mut self, id: ChannelId) {
        let Some(entry) = self.live_mut(id) else { return };
        if entry.dispatcher.state != State::Draining {
            return;
        }
        let sent = entry.dispatcher.bytes_out;
        if entry.dispatcher.rare.as_ref().is_some_and(|rare| sent > rare.drained_at) {
            self.set_drain_deadline(id);
        } else {
            self.close_as(id, CloseReason::TimedOut(Timeout::Drain));
        }
    }
}

/// Slices of one write, and datagrams of one turn: 64, enough to fill a write with pieces of 1 KiB.
const MOST_SLICES: usize = 64;

/// How long a write waits when the system had no memory for it: 10 ms.
const RETRY_TIME: std::time::Duration = std::time::Duration::from_millis(10);
