//! [`Chat`]: what the user of a conversation writes.

use asyncore::{CloseReason, Error, Result, Timeout, TimerId};

use crate::{Conversation, FrameError};

/// One side of a conversation: what its user writes for each peer.
///
/// Only [`found_terminator`](Self::found_terminator) must be written. Callbacks run as those of a
/// [`Channel`](asyncore::Channel) do: from the loop, one at a time, and none but `handle_close` after the channel was closed. No input is
/// delivered to a channel that is to close when done. A message that follows a pause in the same read waits until reading is resumed.
///
/// ```
/// use asynchat::{AsyncChat, Chat, Conversation};
/// use asyncore::{Map, Result};
///
/// struct Echo;
///
/// impl Chat for Echo {
///     fn found_terminator(&mut self, cx: &mut Conversation<'_>, line: &[u8]) -> Result {
///         cx.push(line);
///         cx.push(b"\r\n");
///         Ok(())
///     }
/// }
///
/// let mut map = Map::new()?;
/// let ids = map.listen("127.0.0.1:0", |_peer| AsyncChat::new(Echo).terminator(b"\r\n"))?;
/// assert_eq!(ids.len(), 1);
/// # Ok::<(), asyncore::Error>(())
/// ```
pub trait Chat<A: 'static = ()>: 'static {
    /// Offers a piece of the message as it arrives.
    ///
    /// The default keeps it, and [`found_terminator`](Self::found_terminator) gets the whole message. A chat that
    /// uses pieces at once, to write them to a file for one, answers [`Collected::Taken`]; such pieces do not count
    /// towards the message limit. How a message is cut into pieces follows the packets, and means nothing.
    ///
    /// # Errors
    ///
    /// What it returns goes to [`handle_error`](Self::handle_error). If that leaves the channel open, the message goes
    /// on without the piece.
    fn collect_incoming_data(&mut self, _cx: &mut Conversation<'_, A>, _data: &[u8]) -> Result<Collected> {
        Ok(Collected::Kept)
    }

    /// A message is complete: the terminator was found, or the count is full.
    ///
    /// `message` is what was kept of it, without the terminator; empty when all was taken. A terminator that is set
    /// here applies from the next byte, also to what has been received already.
    ///
    /// # Errors
    ///
    /// What it returns goes to [`handle_error`](Self::handle_error).
    fn found_terminator(&mut self, cx: &mut Conversation<'_, A>, message: &[u8]) -> Result;

    /// A message went over its limit and is passed over, with [`OnTooLong::Skip`](crate::OnTooLong::Skip); once a message.
    ///
    /// `start` is what was kept of it.
    ///
    /// # Errors
    ///
    /// What it returns goes to [`handle_error`](Self::handle_error).
    fn handle_too_long(&mut self, cx: &mut Conversation<'_, A>, start: &[u8]) -> Result {
        tracing::debug!(id = %cx.id, kept = start.len(), "message too long: passed over");
        Ok(())
    }

    /// The channel is connected; at most once, before any message. Time for a greeting.
    ///
    /// # Errors
    ///
    /// What it returns goes to [`handle_error`](Self::handle_error).
    fn handle_connect(&mut self, _cx: &mut Conversation<'_, A>) -> Result {
        Ok(())
    }

    /// TLS is there (feature `tls`): the handshake that [`Map::start_tls`](asyncore::Map::start_tls) began is done. What was
    /// received before and not delivered is dropped; what is known from it, most protocols have the peer say again.
    ///
    /// # Errors
    ///
    /// What it returns goes to [`handle_error`](Self::handle_error).
    fn handle_tls(&mut self, _cx: &mut Conversation<'_, A>) -> Result {
        Ok(())
    }

    /// The peer has ended its side. `rest` is what was kept of a message without an end.
    ///
    /// The default closes the channel when its blocking work is answered and what is queued has been sent.
    ///
    /// # Errors
    ///
    /// What it returns goes to [`handle_error`](Self::handle_error).
    fn handle_eof(&mut self, cx: &mut Conversation<'_, A>, _rest: &[u8]) -> Result {
        cx.map.close_when_answered(cx.id);
        Ok(())
    }

    /// Output that had gone over the high mark has fallen to the low mark: time to push more.
    ///
    /// # Errors
    ///
    /// What it returns goes to [`handle_error`](Self::handle_error).
    fn handle_drained(&mut self, _cx: &mut Conversation<'_, A>) -> Result {
        Ok(())
    }

    /// A timer has come that was set with [`Map::set_timer`](asyncore::Map::set_timer) or
    /// [`Map::set_interval`](asyncore::Map::set_interval).
    ///
    /// # Errors
    ///
    /// What it returns goes to [`handle_error`](Self::handle_error).
    fn handle_timer(&mut self, cx: &mut Conversation<'_, A>, timer: TimerId) -> Result {
        tracing::warn!(id = %cx.id, ?timer, "unhandled timer event");
        Ok(())
    }

    /// Something took longer than the channel's limits allow: see [`Channel::handle_timeout`](asyncore::Channel::handle_timeout). The default closes the
    /// channel at once, with [`CloseReason::TimedOut`].
    ///
    /// # Errors
    ///
    /// What it returns goes to [`handle_error`](Self::handle_error).
    fn handle_timeout(&mut self, cx: &mut Conversation<'_, A>, which: Timeout) -> Result {
        if which == Timeout::Connect
            && let Some(error) = cx.map.host_error(cx.id)
        {
            self.handle_error(cx, &error.into());
        }
        cx.map.close_with(cx.id, CloseReason::TimedOut(which));
        Ok(())
    }

    /// The map shuts down. The default closes the channel when its blocking work is answered and what is queued has been
    /// sent.
    ///
    /// # Errors
    ///
    /// What it returns goes to [`handle_error`](Self::handle_error).
    fn handle_shutdown(&mut self, cx: &mut Conversation<'_, A>) -> Result {
        cx.map.close_when_answered(cx.id);
        Ok(())
    }

    /// One of the callbacks or producers failed, or the connect did, or what came is [no frame](FrameError) of the kind
    /// that was expected. The default logs and closes.
    ///
    /// Behind malformed input nothing is delivered, also if the channel stays open to send a last answer. The default then
    /// closes with [`CloseReason::Malformed`].
    fn handle_error(&mut self, cx: &mut Conversation<'_, A>, error: &Error) {
        let peer = cx.map.get(cx.id).and_then(asyncore::Dispatcher::peer_addr);
        tracing::warn!(id = %cx.id, ?peer, %error, "closing a conversation after an error");
        let reason = if error.is::<FrameError>() { CloseReason::Malformed } else { CloseReason::Local };
        cx.map.close_with(cx.id, reason);
    }

    /// What the chat is called in a [`Snapshot`](asyncore::Snapshot) and in a warning about a slow callback: its type's
    /// name, unless overridden.
    fn name(&self) -> &'static str {
        std::any::type_name::<Self>()
    }

    /// The channel is closed; the last callback, called exactly once.
    fn handle_close(&mut self, _cx: &mut Conversation<'_, A>, _reason: CloseReason) {}
}

/// What became of a piece that was offered to [`Chat::collect_incoming_data`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(clippy::exhaustive_enums, reason = "a piece is kept or it is not")]
pub enum Collected {
    /// The channel holds it until the message is complete.
    Kept,
    /// It was used, and is not held.
    Taken,
}
