//! The output side of the map: push and its limits.

use std::borrow::Borrow;

use bytes::Bytes;

use crate::entry::{Entry, Flags};
use crate::flush::RETRY_TIME;
use crate::input::{NO_DATAGRAMS, is_refused};
use crate::outbox::{Outbox, PRODUCER_LOAD};
use crate::push::kept;
use crate::socket::{Moved, is_short_of_memory};
use crate::timeouts::low;
use crate::{
    ChannelId, CloseReason, KEEP_FROM, Kind, Map, OnFull, Producer, PushData, Pushed, Result, State,
};

impl<A: 'static> Map<A> {
    /// Queues bytes for a channel; they are written at the end of the turn.
    ///
    /// Borrowed bytes are copied, owned ones kept when large: see [`PushData`]. On a datagram channel each push is one
    /// datagram. The answer may be ignored; a push never fails its caller.
    // A short line costs less to append than a call: what is rare is a call.
    #[inline(always)]
    pub fn push(&mut self, id: ChannelId, data: impl PushData) -> Pushed {
        let length = data.length();
        if let Some(entry) = Self::entry_in(&mut self.slots, id)
            && entry.flags.has(Flags::FLOWING)
            && let Some(outbox) = &mut entry.dispatcher.outbox
            && self.queued + length <= self.options.output
            && let Some(pushed) = outbox.push_easily(length, &data)
        {
            self.queued += pushed;
            return Pushed::Queued;
        }
        self.push_carefully(id, length, data)
    }

    /// [`push`](Self::push), where limits, marks and lists are to be looked after.
    #[inline(never)]
    fn push_carefully(&mut self, id: ChannelId, length: usize, data: impl PushData) -> Pushed {
        self.queue(id, length, |outbox, kind| match kind {
            Kind::Stream => outbox.push(length, data),
            Kind::Datagram => outbox.push_kept(kept(length, data)),
        })
    }

    /// Queues a producer: what it makes goes out after what was pushed before and before what is pushed later. On a
    /// datagram channel each piece is one datagram.
    pub fn push_with_producer(&mut self, id: ChannelId, producer: impl Producer + 'static) -> Pushed {
        self.queue(id, PRODUCER_LOAD, |outbox, _| {
            outbox.push_producer(Box::new(producer));
            0
        })
    }

    /// Queues the same bytes for many channels: how many took them.
    ///
    /// Small data is copied into each queue, large data is shared. The ids are a list's, a set's, or a table's keys.
    ///
    /// ```
    /// use std::collections::HashMap;
    /// use std::os::unix::net::UnixStream;
    ///
    /// use asyncore::{Channel, Map};
    ///
    /// struct Quiet;
    /// impl Channel for Quiet {}
    ///
    /// let mut map = Map::new()?;
    /// let (here, _there) = UnixStream::pair()?;
    /// let names = HashMap::from([(map.add(here, Quiet)?, "ann")]);
    /// assert_eq!(map.broadcast(names.keys(), "hello\r\n"), 1);
    /// # Ok::<(), asyncore::Error>(())
    /// ```
    pub fn broadcast<I>(&mut self, ids: I, data: impl Into<Bytes>) -> usize
    where
        I: IntoIterator<Item: Borrow<ChannelId>>,
    {
        let data = data.into();
        let is_small = data.len() < KEEP_FROM;
        let mut push = |id| if is_small { self.push(id, &data) } else { self.push(id, data.clone()) };
        ids.into_iter().filter(|id| push(*id.borrow()).is_queued()).count()
    }

    /// Sends at once what the socket takes, past the queue: how many bytes. Under TLS they are queued after all, as many as a
    /// record takes.
    ///
    /// 0 when the socket would block, when the channel cannot write (any more), while output is queued, so that bytes never
    /// overtake, and while the channel's rate limit or the system's memory allows none. For channels that keep their own buffer: say `writable` until all is sent.
    ///
    /// # Errors
    ///
    /// If the system refuses the write for another reason than a lost connection; that closes the channel.
    pub fn send(&mut self, id: ChannelId, data: &[u8]) -> Result<usize> {
        self.touch(id);
        let Some(entry) = self.live(id) else { return Ok(0) };
        if !matches!(entry.dispatcher.state, State::Open | State::PeerClosed)
            || entry.dispatcher.outbox.is_some()
            || entry.flags.has(Flags::PUT_OFF)
        {
            return Ok(0);
        }
        #[cfg(feature = "tls")]
        if entry.dispatcher.tls().is_some() {
            return Ok(self.send_in_record(id, data));
        }
        if entry.flags.has(Flags::WRITE_RATE) {
            return self.send_at_rate(id, data);
        }
        self.send_now(id, data)
    }

    /// [`send`](Self::send) under TLS: what a record takes is queued, for a record that has begun cannot be taken back.
    #[cfg(feature = "tls")]
    #[cold]
    fn send_in_record(&mut self, id: ChannelId, data: &[u8]) -> usize {
        let record = data.get(..RECORD_SIZE).unwrap_or(data);
        if self.push(id, record).is_queued() { record.len() } else { 0 }
    }

    /// [`send`](Self::send), as much as the channel's rate limit allows.
    #[cold]
    fn send_at_rate(&mut self, id: ChannelId, data: &[u8]) -> Result<usize> {
        let is_stream = self.get(id).is_some_and(|dispatcher| dispatcher.kind() == Kind::Stream);
        let data = match self.may_write(id) {
            0 => return Ok(0),
            left if is_stream => data.get(..left).unwrap_or(data),
            // A datagram is sent whole.
            _ => data,
        };
        let sent = self.send_now(id, data)?;
        self.has_written(id, sent);
        // Should that be all, `writable` is not asked before there is more.
        self.may_write(id);
        Ok(sent)
    }

    /// Hands bytes to the socket, past queue and limits.
    fn send_now(&mut self, id: ChannelId, data: &[u8]) -> Result<usize> {
        let tick = self.moving_tick();
        let Some(entry) = Self::entry_in(&mut self.slots, id) else { return Ok(0) };
        match entry.dispatcher.send(data) {
            Ok(sent) => {
                self.counters.bytes_out += sent as u64;
                if sent > 0 {
                    entry.dispatcher.active_at = low(tick);
                }
                if sent < data.len() {
                    self.counters.partial_writes += 1;
                    entry.dispatcher.rare().partial_writes += 1;
                }
                Ok(sent)
            }
            Err(error) if is_short_of_memory(&error) => {
                self.put_off(id, RETRY_TIME);
                Ok(0)
            }
            // An earlier datagram came back; that says nothing of this one.
            Err(error) if entry.dispatcher.kind == Kind::Datagram && is_refused(&error) => Ok(0),
            Err(error) => self.lost(id, error).map(|()| 0),
        }
    }

    /// Sends one datagram to an address, past the queue: whether the socket took it.
    ///
    /// # Errors
    ///
    /// If the system refuses it: too long for a datagram, no way to the address, not a datagram channel.
    pub fn send_to(&mut self, id: ChannelId, data: &[u8], to: &crate::Address) -> Result<bool> {
        let tick = self.moving_tick();
        let Some(entry) = self.live(id) else { return Ok(false) };
        if entry.dispatcher.kind != Kind::Datagram {
            return Err(NO_DATAGRAMS.into());
        }
        let is_limited = entry.flags.has(Flags::WRITE_RATE);
        if is_limited && self.may_write(id) == 0 {
            return Ok(false);
        }
        let Some(entry) = Self::entry_in(&mut self.slots, id) else { return Ok(false) };
        match entry.dispatcher.socket.send_to(data, to)? {
            Moved::Bytes(sent) => {
                entry.dispatcher.count_out(sent);
                self.counters.bytes_out += sent as u64;
                entry.dispatcher.active_at = low(tick);
                self.touch_interest(id);
                if is_limited {
                    self.has_written(id, sent);
                }
                Ok(true)
            }
            Moved::WouldBlock => Ok(false),
        }
    }

    /// Drops what is queued for a channel and not yet sent: how many bytes. A pending close is not cancelled.
    pub fn discard_output(&mut self, id: ChannelId) -> usize {
        let Some(entry) = self.live_mut(id) else { return 0 };
        let pushes = entry.dispatcher.settle_pushes();
        let Some(outbox) = entry.dispatcher.outbox.take() else { return 0 };
        entry.dispatcher.socket.forget_offered();
        entry.flags.clear(Flags::BLOCKED);
        if let Some(rare) = entry.dispatcher.rare_mut() {
            rare.forget_stall();
        }
        self.counters.pushes += u64::from(pushes);
        let dropped = outbox.bytes();
        self.recycle(outbox);
        // The write at the end of the turn finds no queue, and goes on with what follows an empty one.
        self.make_unsent(id);
        self.touch(id);
        dropped
    }

    /// Checks state and limits, queues, and says what became of it.
    fn queue(&mut self, id: ChannelId, load: usize, put: impl FnOnce(&mut Outbox, Kind) -> usize) -> Pushed {
        let Some(Entry { dispatcher, .. }) = Self::entry_in(&mut self.slots, id) else { return Pushed::Gone };
        match dispatcher.state {
            State::Open | State::PeerClosed => {}
            State::Closed => return Pushed::Gone,
            State::Created | State::Connecting | State::Handshaking if !dispatcher.is_to_finish() => {}
            _ => return Pushed::Closing,
        }
        let limits = dispatcher.extra.limits(&self.limits);
        let (limit, high_mark) = (limits.output, limits.high_mark);
        let queued = dispatcher.load();
        if queued.saturating_add(load) > limit {
            if limits.on_full == OnFull::Close {
                tracing::warn!(%id, peer = %dispatcher.peer(), queued, load, limit, "output limit reached");
                self.close_as(id, CloseReason::OutputFull);
            }
            return Pushed::Full;
        }
        while self.queued.saturating_add(load) > self.options.output {
            if !self.shed_output(id, load) {
                return Pushed::Full;
            }
        }
        let outboxes = &mut self.outboxes;
        let Some(entry) = Self::entry_in(&mut self.slots, id) else { return Pushed::Gone };
        let kind = entry.dispatcher.kind;
        let flags = &mut entry.flags;
        let outbox = entry.dispatcher.outbox.get_or_insert_with(|| {
            flags.set(Flags::FRESH);
            outboxes.take()
        });
        self.queued += put(outbox, kind);
        outbox.pass_until(limit.min(high_mark));
        let is_high = outbox.load() > high_mark;
        self.counters.pushes += 1;
        entry.dispatcher.count_pushes(1);
        // Write interest that is one too many in this turn costs nothing: the loop does not wait before the write, and any
        // but the usual one has it compared.
        if !entry.flags.any(Flags::NOT_TO_WRITE) {
            entry.flags.set(Flags::UNSENT);
            self.unsent.push(id);
        }
        if is_high {
            entry.flags.set(Flags::HIGH);
            if entry.flags.any(Flags::WAITED_FOR) {
                self.went_high(id);
            }
        } else if kind == Kind::Stream
            && entry.flags.has(Flags::UNSENT)
            && matches!(entry.dispatcher.state, State::Open | State::PeerClosed)
        {
            entry.flags.set(Flags::FLOWING);
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

    /// Gives an outbox back to the pool; what it holds is dropped.
    pub(crate) fn recycle(&mut self, outbox: Box<Outbox>) {
        self.queued -= outbox.bytes();
        self.outboxes.put(outbox);
    }
}

/// Most bytes of a TLS record: 16 KiB (RFC 8446 section 5.1).
#[cfg(feature = "tls")]
const RECORD_SIZE: usize = 16 << 10;
