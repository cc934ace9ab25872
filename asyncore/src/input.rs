//! The input side of the map: receive, pause and resume.

use crate::buffer::BufferPool;
use crate::entry::Flags;
use crate::interest::Pauses;
use crate::socket::Moved;
use crate::timeouts::low;
use crate::{Address, ChannelId, Kind, Map, ReadBuffer, Result, State};

/// What [`Map::recv`] found.
#[derive(Debug)]
#[expect(clippy::exhaustive_enums, reason = "a read has these three outcomes")]
pub enum Received {
    /// Bytes; on a datagram channel one datagram, which may be empty.
    Data(ReadBuffer),
    /// Nothing for now, or the channel has had its share of this turn.
    WouldBlock,
    /// Nothing any more: the peer has ended its side, or the channel is closed. The loop tells the rest, by
    /// `handle_eof` or `handle_close`.
    End,
}

impl<A: 'static> Map<A> {
    /// Receives at most `most` bytes from a channel's socket, and never more than 16 MiB.
    ///
    /// A lost connection is not an error here: the channel is closed, and the answer is [`Received::End`].
    ///
    /// # Errors
    ///
    /// If the system refuses the read for another reason than a lost connection.
    #[inline]
    pub fn recv(&mut self, id: ChannelId, most: usize) -> Result<Received> {
        match self.entry(id) {
            Some(entry) if entry.flags.any(Flags::READ_WITH_CARE) => self.recv_carefully(id, most),
            _ => self.recv_now(id, most),
        }
    }

    /// [`recv`](Self::recv), where there is more than the socket to look at.
    #[cold]
    fn recv_carefully(&mut self, id: ChannelId, most: usize) -> Result<Received> {
        let Some(entry) = self.live(id) else { return Ok(Received::End) };
        if entry.flags.has(Flags::REPLACED) {
            return Ok(Received::WouldBlock);
        }
        if entry.flags.has(Flags::UNREAD) {
            let mine = self.serving.id == Some(id);
            let most = if mine { most.min(self.serving.bytes) } else { most };
            if most == 0 {
                return Ok(Received::WouldBlock);
            }
            let data = self.recv_unread(id, most);
            if mine {
                self.serving.received = true;
                self.serving.bytes -= data.len();
            }
            return Ok(Received::Data(data));
        }
        let is_stream = entry.dispatcher.kind() == Kind::Stream;
        let most = match self.may_read(id) {
            0 => return Ok(Received::WouldBlock),
            left if is_stream => most.min(left),
            // A datagram is received whole.
            _ => most,
        };
        let received = self.recv_now(id, most)?;
        if let Received::Data(data) = &received {
            self.note_received(id);
            self.has_read(id, data.len());
        }
        Ok(received)
    }

    /// [`recv`](Self::recv) from the socket.
    fn recv_now(&mut self, id: ChannelId, most: usize) -> Result<Received> {
        let mine = self.serving.id == Some(id);
        if !mine {
            // Its mark is to be put forward.
            self.touch_interest(id);
        }
        let tick = self.moving_tick();
        let Some(entry) = Self::entry_in(&mut self.slots, id) else { return Ok(Received::End) };
        let dispatcher = &mut entry.dispatcher;
        let is_stream = dispatcher.kind == Kind::Stream;
        let most = if mine {
            self.serving.received = true;
            match self.serving.bytes {
                // What a smaller room cuts off a datagram is lost.
                left if is_stream || left == 0 => most.min(left),
                _ => most,
            }
        } else {
            most
        };
        let most = most.min(LARGEST_READ);
        match dispatcher.state {
            State::Open | State::Finishing | State::WriteClosed if !entry.flags.has(Flags::EOF_SEEN) => {}
            State::Created | State::Connecting | State::Handshaking | State::Listening => {
                return Ok(Received::WouldBlock);
            }
            _ => return Ok(Received::End),
        }
        if most == 0 {
            return Ok(Received::WouldBlock);
        }
        let mut buffer = BufferPool::lend(&self.buffers);
        match dispatcher.socket.recv(buffer.room(most)) {
            Ok(Moved::Bytes(0)) if is_stream => {
                self.end_of_file(id);
                Ok(Received::End)
            }
            Ok(Moved::Bytes(received)) => {
                dispatcher.count_in(received);
                self.counters.bytes_in += received as u64;
                dispatcher.active_at = low(tick);
                if mine && !planted!(BudgetIgnored) {
                    let cost = if is_stream { received } else { received.max(SMALLEST_DATAGRAM) };
                    self.serving.bytes = self.serving.bytes.saturating_sub(cost);
                }
                buffer.fill(received);
                Ok(Received::Data(buffer))
            }
            Ok(Moved::WouldBlock) => Ok(Received::WouldBlock),
            // An earlier datagram came back; that says nothing of what its peer still sends.
            Err(error) if !is_stream && is_refused(&error) => {
                tracing::debug!(%id, %error, "datagram not delivered");
                Ok(Received::WouldBlock)
            }
            Err(error) => self.lost(id, error).map(|()| Received::End),
        }
    }

    /// Receives one datagram and its sender's address; `None` when there is none for now.
    ///
    /// What does not fit into `most` bytes is cut off by the system.
    ///
    /// # Errors
    ///
    /// If it is not a datagram channel, or the system refuses the read; on a connected socket also when an earlier
    /// datagram came back undelivered.
    pub fn recv_from(&mut self, id: ChannelId, most: usize) -> Result<Option<(ReadBuffer, Option<Address>)>> {
        let flags = self.live(id).map_or_else(Flags::default, |entry| entry.flags);
        if flags.has(Flags::REPLACED) {
            return Ok(None);
        }
        let mine = self.serving.id == Some(id);
        if mine {
            self.serving.received = true;
            if self.serving.bytes == 0 {
                return Ok(None);
            }
        } else {
            self.touch_interest(id);
        }
        let is_limited = flags.has(Flags::READ_RATE);
        if is_limited && self.may_read(id) == 0 {
            return Ok(None);
        }
        let tick = self.moving_tick();
        let Some(entry) = Self::entry_in(&mut self.slots, id) else { return Ok(None) };
        if entry.dispatcher.kind != Kind::Datagram {
            return Err(NO_DATAGRAMS.into());
        }
        if entry.dispatcher.state != State::Open {
            return Ok(None);
        }
        let mut buffer = BufferPool::lend(&self.buffers);
        let Some((received, sender)) =
            entry.dispatcher.socket.recv_from(buffer.room(most.min(LARGEST_READ)))?
        else {
            return Ok(None);
        };
        entry.dispatcher.count_in(received);
        self.counters.bytes_in += received as u64;
        entry.dispatcher.active_at = low(tick);
        self.note_received(id);
        if mine {
            // An empty datagram costs a turn's share too, so that a flood of them ends.
            self.serving.bytes = self.serving.bytes.saturating_sub(received.max(SMALLEST_DATAGRAM));
        }
        buffer.fill(received);
        if is_limited {
            self.has_read(id, received);
        }
        Ok(Some((buffer, sender)))
    }

    /// Takes the urgent (out-of-band) byte of a stream, if there is one.
    ///
    /// # Errors
    ///
    /// If the connection is lost.
    pub fn recv_urgent(&mut self, id: ChannelId) -> Result<Option<u8>> {
        match self.live(id) {
            Some(entry) => Ok(entry.dispatcher.socket.recv_urgent()?),
            None => Ok(None),
        }
    }

    /// Stops the delivery of input to a channel until [`resume_reading`](Self::resume_reading), from the next callback on.
    ///
    /// The system's buffers fill up, and the peer has to wait: this is back-pressure.
    pub fn pause_reading(&mut self, id: ChannelId) {
        self.pause(id, Pauses::USER);
    }

    /// Ends a pause; the channel is served in this turn or the next, also with input that it had received before.
    pub fn resume_reading(&mut self, id: ChannelId) {
        self.resume(id, Pauses::USER);
    }

    pub(crate) fn pause(&mut self, id: ChannelId, reason: Pauses) {
        if let Some(entry) = self.live_mut(id) {
            entry.pauses.insert(reason);
            self.touch(id);
            self.update_serving(id);
        }
    }

    pub(crate) fn resume(&mut self, id: ChannelId, reason: Pauses) {
        if let Some(entry) = self.live_mut(id)
            && entry.pauses.contains(reason)
        {
            entry.pauses.remove(reason);
            let resumes = entry.pauses.is_empty();
            if !planted!(InterestNotRestored) {
                self.touch(id);
            }
            self.update_serving(id);
            if resumes {
                self.read_again(id);
            }
        }
    }

    /// Has `handle_read` called once more without an event: for a channel that holds input back by itself.
    pub fn read_again(&mut self, id: ChannelId) {
        if let Some(entry) = self.live_mut(id) {
            entry.flags.set(Flags::READ_DUE);
            self.make_ready(id);
        }
    }

    /// Whether a channel takes input: open for reading, not paused, and not closing.
    #[must_use]
    #[inline]
    pub fn is_reading(&self, id: ChannelId) -> bool {
        self.serving.reading == Some(id) || self.finds_reading(id)
    }

    /// [`is_reading`](Self::is_reading) by the channel's state.
    #[cold]
    fn finds_reading(&self, id: ChannelId) -> bool {
        self.live(id).is_some_and(|entry| {
            entry.pauses.is_empty()
                && !entry.flags.has(Flags::REPLACED)
                && matches!(entry.dispatcher.state, State::Open | State::Finishing | State::WriteClosed)
        })
    }

    /// A channel's state or pauses have changed.
    pub(crate) fn update_serving(&mut self, id: ChannelId) {
        if self.serving.id == Some(id) {
            self.serving.reading = self.finds_reading(id).then_some(id);
        }
    }

    /// The peer has ended its side: `handle_eof` is due.
    fn end_of_file(&mut self, id: ChannelId) {
        let Some(entry) = self.live_mut(id) else { return };
        entry.flags.set(Flags::EOF_SEEN);
        entry.flags.set(Flags::EOF_DUE);
        if entry.dispatcher.state == State::Open {
            entry.dispatcher.state = State::PeerClosed;
        }
        self.touch(id);
        self.update_serving(id);
        self.make_ready(id);
    }
}

/// Whether an earlier datagram came back: nobody listens where it went.
pub(crate) fn is_refused(error: &std::io::Error) -> bool {
    error.kind() == std::io::ErrorKind::ConnectionRefused
}

/// Why a stream is not read or written by the datagram.
pub(crate) const NO_DATAGRAMS: &str = "this is not a datagram channel";

/// Most bytes of one read, whatever is asked for: 16 MiB, more than a socket holds. Room is made for as many.
const LARGEST_READ: usize = 16 << 20;

/// What the smallest datagram counts in a turn's share: 64 bytes, about its headers.
const SMALLEST_DATAGRAM: usize = 64;
