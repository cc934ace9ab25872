//! The write at the end of a turn, and what follows it.

use std::io::{self, IoSlice};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use crate::callback::Fault;
use crate::entry::{Entry, Flags};
use crate::input::is_refused;
use crate::interest::Pauses;
use crate::outbox::Filled;
use crate::panics::describe;
use crate::socket::{Moved, is_short_of_memory};
use crate::timeouts::low;
use crate::{ChannelId, Kind, Map, State};

impl<A: 'static> Map<A> {
    /// Writes the output of every channel that was given some in this turn; what callbacks push here is the next
    /// turn's work.
    pub(crate) fn flush(&mut self, app: &mut A) {
        let mut list = std::mem::replace(&mut self.unsent, std::mem::take(&mut self.spare));
        for &id in &list {
            let Some(entry) = Self::entry_in(&mut self.slots, id) else { continue };
            if entry.dispatcher.state == State::Closed {
                continue;
            }
            self.counters.pushes += u64::from(entry.dispatcher.settle_pushes());
            let flags = entry.flags;
            entry.flags.clear(Flags::OF_THIS_FLUSH);
            // One whose queue was dropped meanwhile waits for nothing.
            if entry.flags.any(Flags::STALLED) && entry.dispatcher.outbox.is_some() {
                // Its queue may have been dropped, and a new one begun: that is low.
                self.after_write(app, id);
                continue;
            }
            let is_limited = entry.flags.has(Flags::WRITE_RATE);
            let asks = self.timings.is_some()
                && entry.dispatcher.outbox.as_ref().is_some_and(|outbox| outbox.has_producer());
            let write = |map: &mut Self| {
                if is_limited { map.write_at_rate(id) } else { map.write_queued(id, usize::MAX) }
            };
            let wrote = match self.send_tail(id, flags) {
                Some((length, Ok(Moved::Bytes(sent)))) if sent == length => {
                    self.sent_all(id, sent);
                    continue;
                }
                Some((length, moved)) => self.settle_write(id, length, moved),
                None if asks => self.timed(Some(id), "more", write),
                None => write(self),
            };
            match wrote {
                Ok(false) => {}
                Ok(true) if planted!(ForgottenFlush) => {}
                Ok(true) => self.make_unsent(id),
                Err(fault) => {
                    self.serve_connected(app, id);
                    self.fault(app, id, fault);
                }
            }
            self.after_write(app, id);
        }
        list.clear();
        self.spare = list;
    }

    /// Sends the usual output of an open stream, small pieces that nothing waits for, and no more than a write takes: how
    /// much it is, and what became of it. `flags` were the channel's before the flush.
    fn send_tail(&mut self, id: ChannelId, flags: Flags) -> Option<(usize, io::Result<Moved>)> {
        let Entry { dispatcher, pauses, interest, .. } = Self::entry_in(&mut self.slots, id)?;
        let is_usual = flags.has(Flags::FLOWING)
            && flags.has(Flags::FRESH)
            && !flags.any(Flags::WRITE_WITH_CARE)
            && !pauses.contains(Pauses::OUTPUT)
            && !interest.write;
        let limits = dispatcher.extra.limits(&self.limits);
        let tail = dispatcher.outbox.as_ref()?.only_tail()?;
        let fits = (1..=limits.ac_out_buffer_size).contains(&tail.len());
        (is_usual && fits).then(|| (tail.len(), dispatcher.socket.send(tail)))
    }

    /// All that was queued has been sent in one write, and nothing waited for that.
    fn sent_all(&mut self, id: ChannelId, sent: usize) {
        let Some(Entry { dispatcher, .. }) = Self::entry_in(&mut self.slots, id) else { return };
        dispatcher.count_out(sent);
        self.counters.bytes_out += sent as u64;
        dispatcher.active_at = low(self.tick);
        if let Some(outbox) = dispatcher.outbox.take() {
            self.recycle(outbox);
        }
        if !self.checks.is_empty() {
            // The marks of what was touched are put forward when the turn is over: none is to run out early.
            self.touch_interest(id);
        }
    }

    /// One write of what is queued, `most` bytes at most: whether there is more to write at once.
    pub(crate) fn write_queued(&mut self, id: ChannelId, most: usize) -> Result<bool, Fault> {
        let Some(entry) = Self::entry_in(&mut self.slots, id) else { return Ok(false) };
        let Entry { dispatcher, flags, .. } = entry;
        if !matches!(dispatcher.state, State::Open | State::PeerClosed | State::Finishing | State::Draining) {
            return Ok(false);
        }
        let Some(outbox) = dispatcher.outbox.as_mut() else { return Ok(false) };
        let limits = dispatcher.extra.limits(&self.limits);
        let most = limits.ac_out_buffer_size.max(1).min(most);

        let (before, kind) = (outbox.bytes(), dispatcher.kind);
        let filled = catch_unwind(AssertUnwindSafe(|| outbox.fill(most, kind)));
        let made = outbox.bytes() - before;
        self.queued += made;
        if outbox.load() > limits.high_mark {
            flags.set(Flags::HIGH);
        }
        match filled {
            Ok(Ok(Filled::Ready)) => {}
            // A datagram without a byte may stand before the producer.
            Ok(Ok(Filled::Waiting)) if outbox.first_datagram().is_some() => {}
            Ok(Ok(Filled::Waiting)) => return Ok(false),
            Ok(Err(error)) => {
                // Asked again, it would fail again, in every turn.
                self.discard_output(id);
                return Err(Fault::Error(error));
            }
            Err(panic) => return Err(Fault::Panic(describe(panic))),
        }
        if dispatcher.kind == Kind::Datagram {
            return self.write_datagrams(id, most);
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
        self.settle_write(id, offered, moved)
    }

    /// What became of a write of `offered` bytes: whether there is more to write at once.
    fn settle_write(
        &mut self,
        id: ChannelId,
        offered: usize,
        moved: io::Result<Moved>,
    ) -> Result<bool, Fault> {
        let Some(Entry { dispatcher, flags, .. }) = Self::entry_in(&mut self.slots, id) else {
            return Ok(false);
        };
        let Some(outbox) = dispatcher.outbox.as_mut() else { return Ok(false) };
        match moved {
            Ok(Moved::Bytes(written)) => {
                outbox.advance(written);
                dispatcher.count_out(written);
                self.counters.bytes_out += written as u64;
                self.queued -= written;
                if written > 0 {
                    dispatcher.active_at = low(self.tick);
                }
                if written < offered {
                    flags.set(Flags::BLOCKED);
                }
            }
            Ok(Moved::WouldBlock) => flags.set(Flags::BLOCKED),
            Err(error) if is_short_of_memory(&error) => {
                tracing::debug!(%id, %error, "write put off");
                self.put_off(id, RETRY_TIME);
                self.note_stall(id);
                return Ok(false);
            }
            Err(error) => return self.lost(id, error).map(|()| false).map_err(Fault::Error),
        }
        let is_blocked = flags.has(Flags::BLOCKED);
        let more = !is_blocked && dispatcher.outbox.as_ref().is_some_and(|outbox| !outbox.is_empty());
        if is_blocked {
            self.counters.partial_writes += 1;
            dispatcher.rare().partial_writes += 1;
            self.note_stall(id);
        }
        Ok(more)
    }

    /// What follows every write but the usual one: the low mark, and the end of a queue that something waits for.
    fn after_write(&mut self, app: &mut A, id: ChannelId) {
        // What the channel waits for may have changed: for want of room, of a producer's bytes, or of a queue.
        self.touch_interest(id);
        let Some(Entry { dispatcher, flags, pauses, .. }) = Self::entry_in(&mut self.slots, id) else {
            return;
        };
        let limits = dispatcher.extra.limits(&self.limits);
        let outbox = dispatcher.outbox.as_ref();
        let is_low = outbox.is_none_or(|outbox| outbox.load() <= limits.low_mark);
        let state = dispatcher.state;
        let drained = is_low
            && flags.has(Flags::HIGH)
            && outbox.is_none_or(|outbox| !outbox.has_producer())
            // One that connects hears of that first.
            && !matches!(state, State::Created | State::Connecting | State::Handshaking)
            && !flags.has(Flags::CONNECT_DUE);
        if let Some(outbox) = dispatcher.outbox.take_if(|outbox| outbox.is_empty()) {
            self.outboxes.put(outbox);
        }
        if drained {
            flags.clear(Flags::HIGH);
        }
        let is_empty = dispatcher.outbox.is_none();
        if is_low && (flags.has(Flags::FED) || pauses.contains(Pauses::OUTPUT)) {
            self.went_low(id);
        }
        if is_empty {
            match state {
                State::Draining => return self.drained_to_close(id),
                State::Finishing => self.finish_writing(id),
                _ => {}
            }
        }
        if drained && state != State::Draining && !(planted!(MarkNotReported) && is_empty) {
            self.call(app, id, "handle_drained", |handler, cx| handler.handle_drained(cx));
        }
    }

    /// Writes queued datagrams, each by itself, as many as a turn allows and until `most` bytes are gone: whether there is
    /// more to write at once.
    fn write_datagrams(&mut self, id: ChannelId, most: usize) -> Result<bool, Fault> {
        let mut left = most;
        for _ in 0..MOST_SLICES {
            if left == 0 {
                break;
            }
            let Some(Entry { dispatcher, flags, .. }) = Self::entry_in(&mut self.slots, id) else {
                return Ok(false);
            };
            let Some(outbox) = dispatcher.outbox.as_mut() else { return Ok(false) };
            let Some(datagram) = outbox.first_datagram() else {
                return Ok(outbox.has_producer());
            };
            let length = datagram.len();
            match dispatcher.socket.send(datagram) {
                Ok(Moved::WouldBlock) => {
                    flags.set(Flags::BLOCKED);
                    self.counters.partial_writes += 1;
                    dispatcher.rare().partial_writes += 1;
                    self.note_stall(id);
                    return Ok(false);
                }
                Err(error) if is_short_of_memory(&error) => {
                    self.put_off(id, RETRY_TIME);
                    self.note_stall(id);
                    return Ok(false);
                }
                sent => {
                    outbox.pop_datagram();
                    self.queued -= length;
                    left = left.saturating_sub(length);
                    match sent {
                        Ok(_) => {
                            dispatcher.count_out(length);
                            self.counters.bytes_out += length as u64;
                            dispatcher.active_at = low(self.tick);
                        }
                        // An earlier datagram came back; that says nothing of this peer's future (RFC 1122 section 4.1.3.3).
                        Err(error) if is_refused(&error) => {
                            tracing::debug!(%id, %error, "datagram not delivered");
                        }
                        Err(error) => return Err(Fault::Error(error.into())),
                    }
                }
            }
        }
        Ok(true)
    }
}

/// Slices of one write, and datagrams of one turn: 64, enough to fill a write with pieces of 1 KiB.
const MOST_SLICES: usize = 64;

/// How long a write waits when the system had no memory for it: 10 ms.
pub(crate) const RETRY_TIME: Duration = Duration::from_millis(10);
