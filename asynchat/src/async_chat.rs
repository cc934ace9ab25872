//! [`AsyncChat`]: a channel that splits its input into messages.

use asyncore::{Channel, CloseReason, Context, Error, Received, Result, Timeout, TimerId};

use crate::framing::Waiting;
use crate::{Chat, Collected, Conversation, FrameError, Framing, OnTooLong, Piece, Split, Terminator};

/// A channel that talks in messages: one [`Channel`] around a user's [`Chat`].
///
/// Without a [`terminator`](Self::terminator) all input is offered to `collect_incoming_data`, and no message ends.
///
/// A message that arrived whole in one read is handed on where it lies, without a copy or an allocation.
///
/// While the channel's own output is above its high mark, reading waits until it has drained: a peer that sends commands
/// and does not read the answers is stopped, and costs no more than the mark. [`Map::pause_when_high`](asyncore::Map::pause_when_high) undoes it.
#[derive(Debug)]
pub struct AsyncChat<C> {
    // Siblings, so that message, user and framing borrow apart.
    user: C,
    framing: Framing,
    /// What was kept of a message that is not complete.
    held: Vec<u8>,
}

impl<C> AsyncChat<C> {
    /// Makes a chat channel around `user`.
    pub fn new(user: C) -> Self {
        Self { user, framing: Framing::new(), held: Vec::new() }
    }

    /// Sets what ends a message.
    #[must_use]
    pub fn terminator(mut self, terminator: impl Into<Terminator>) -> Self {
        self.framing.set_terminator(terminator);
        self
    }

    /// Sets the most bytes that are kept of one message, [`MESSAGE_LIMIT`](crate::MESSAGE_LIMIT) by default.
    #[must_use]
    pub fn message_limit(mut self, bytes: usize) -> Self {
        self.framing.set_message_limit(bytes);
        self
    }

    /// Chooses what happens to a message over the limit; the channel closes by default.
    #[must_use]
    pub fn on_too_long(mut self, on_too_long: OnTooLong) -> Self {
        self.framing.set_on_too_long(on_too_long);
        self
    }

    /// Sets the most bytes that one read takes, [`AC_IN_BUFFER_SIZE`](crate::AC_IN_BUFFER_SIZE) by default; at least 1.
    #[must_use]
    pub fn ac_in_buffer_size(mut self, bytes: u32) -> Self {
        self.framing.in_size = bytes.max(1);
        self
    }

    /// Sets the most bytes that one write hands to the socket, [`AC_OUT_BUFFER_SIZE`](asyncore::AC_OUT_BUFFER_SIZE) by
    /// default; at least 1.
    #[must_use]
    pub fn ac_out_buffer_size(mut self, bytes: u32) -> Self {
        self.framing.out_size = bytes.max(1);
        self
    }

    /// The user's half.
    pub const fn user(&self) -> &C {
        &self.user
    }

    /// The user's half, to change.
    pub const fn user_mut(&mut self) -> &mut C {
        &mut self.user
    }

    /// The input side.
    pub const fn framing(&self) -> &Framing {
        &self.framing
    }

    /// The input side, to change.
    ///
    /// A terminator that is set here from outside a callback of this chat applies to input that has been received when
    /// the chat reads next: [`Map::read_again`](asyncore::Map::read_again) has that happen at once.
    pub const fn framing_mut(&mut self) -> &mut Framing {
        &mut self.framing
    }

    /// Calls `f` with the user's half and a conversation, as a callback has them.
    ///
    /// For what reaches a chat from outside its callbacks, as a channel: [`Map::with`](asyncore::Map::with), or the end
    /// of [`Map::spawn_blocking`](asyncore::Map::spawn_blocking).
    pub fn converse<A: 'static, R>(
        &mut self,
        cx: &mut Context<'_, A>,
        f: impl FnOnce(&mut C, &mut Conversation<'_, A>) -> R,
    ) -> R {
        f(&mut self.user, &mut Conversation::new(cx, &mut self.framing))
    }

    /// Delivers `input` message by message: how much of it is left when the channel stops reading on the way.
    fn feed<A>(&mut self, cx: &mut Context<'_, A>, mut input: &[u8]) -> (usize, Result)
    where
        A: 'static,
        C: Chat<A>,
    {
        self.forget_discarded();
        let mut messages = 0;
        let outcome = self.deliver(cx, &mut input, &mut messages);
        cx.map.count_messages(cx.id, messages);
        if self.forget_discarded() || !cx.map.is_open(cx.id) {
            input = &[];
        }
        if outcome.is_err() {
            // If the error leaves the channel open, the rest is delivered as if nothing had been.
            cx.map.read_again(cx.id);
        }
        if self.held.is_empty() {
            // An idle conversation owns no buffer.
            self.held = Vec::new();
        }
        (input.len(), outcome)
    }

    /// Delivers until the input is used up or the channel no longer reads; counts the messages.
    fn deliver<A>(&mut self, cx: &mut Context<'_, A>, input: &mut &[u8], messages: &mut usize) -> Result
    where
        A: 'static,
        C: Chat<A>,
    {
        loop {
            let Self { user, framing, held } = self;
            // The message, where it lies whole in the input; otherwise it is what is held.
            let mut whole = None;
            if let Some(length) = framing.take_found(held.len()) {
                held.truncate(length);
            } else {
                if framing.discarded || !cx.map.is_reading(cx.id) {
                    return Ok(());
                }
                let before = *input;
                match framing.splitter.split_end(input) {
                    Ok(piece) => {
                        let offered =
                            if piece.is_empty() { Ok(false) } else { Self::offer(user, framing, cx, piece) };
                        match offered {
                            Ok(true) if held.is_empty() => whole = Some(piece),
                            Ok(true) => held.extend_from_slice(piece),
                            _ => {}
                        }
                        if offered.is_err() || framing.discarded || !cx.map.is_reading(cx.id) {
                            if !framing.discarded {
                                held.extend_from_slice(whole.unwrap_or_default());
                                let used = before.len() - input.len();
                                framing.hold_end(held, &before[piece.len()..used]);
                            }
                            return offered.map(drop);
                        }
                    }
                    Err(_) if input.is_empty() && !framing.splitter.has_replay() => return Ok(()),
                    Err(vain) => match self.deliver_slowly(cx, input, vain)? {
                        Step::Stop => return Ok(()),
                        Step::Piece => continue,
                        Step::End(found) => whole = found,
                    },
                }
            }
            let Self { user, framing, held } = self;
            let message = whole.unwrap_or(held);
            *messages += 1;
            let outcome = user.found_terminator(&mut Conversation::new(cx, framing), message);
            held.clear();
            outcome?;
        }
    }

    /// One step of [`deliver`](Self::deliver) but for byte strings that end within the input at hand.
    fn deliver_slowly<'a, A>(
        &mut self,
        cx: &mut Context<'_, A>,
        input: &mut &'a [u8],
        vain: usize,
    ) -> Result<Step<'a>>
    where
        A: 'static,
        C: Chat<A>,
    {
        let Self { user, framing, held } = self;
        match framing.splitter.pass_over(input) {
            Ok(true) => {}
            Ok(false) => return Ok(Step::Stop),
            Err(error) => return Ok(self.malformed(cx, input, error)),
        }
        let (frame, before) = (framing.splitter.next_frame(), *input);
        let pending = if frame.is_some() { framing.splitter.replay() } else { framing.splitter.pending() };
        match framing.splitter.split_slowly(input, vain) {
            None => Ok(Step::Stop),
            Some(Split::Data { piece, end }) => {
                let offered =
                    if piece.is_empty() { Ok(false) } else { Self::offer(user, framing, cx, &piece) };
                let is_kept = matches!(offered, Ok(true));
                let whole = match piece {
                    Piece::Borrowed(piece) if is_kept && end && held.is_empty() => Some(piece),
                    _ => None,
                };
                if is_kept && whole.is_none() {
                    held.extend_from_slice(&piece);
                }
                if !end {
                    return offered.map(|_| Step::Piece);
                }
                if offered.is_ok() && !framing.discarded && cx.map.is_reading(cx.id) {
                    return Ok(Step::End(whole));
                }
                if !framing.discarded {
                    held.extend_from_slice(whole.unwrap_or_default());
                    let came = [&pending[..], &before[..before.len() - input.len()]].concat();
                    let came = &came[..came.len() - framing.splitter.pending().len()];
                    if let Some(mut frame) = frame {
                        frame.finish(came);
                        if !is_kept && !piece.is_empty() {
                            frame.set_taken(piece.len());
                        }
                        framing.hold_frame(frame);
                    } else {
                        // The piece and its terminator, begun in what was pending, or ended there.
                        framing.hold_end(held, &came[piece.len()..]);
                    }
                }
                offered.map(|_| Step::Stop)
            }
            Some(Split::Malformed(error)) => Ok(self.malformed(cx, input, error)),
            Some(Split::TooLong) => {
                Self::too_long(user, framing, held, cx)?;
                Ok(Step::Piece)
            }
        }
    }

    /// Offers a piece to the user: whether it is to be kept.
    #[inline]
    fn offer<A>(user: &mut C, framing: &mut Framing, cx: &mut Context<'_, A>, piece: &[u8]) -> Result<bool>
    where
        A: 'static,
        C: Chat<A>,
    {
        let outcome = user.collect_incoming_data(&mut Conversation::new(cx, framing), piece);
        if !matches!(outcome, Ok(Collected::Kept)) {
            framing.splitter.taken(piece.len());
        }
        outcome.map(|collected| collected == Collected::Kept)
    }

    /// A message went over its limit.
    #[cold]
    fn too_long<A>(user: &mut C, framing: &mut Framing, held: &mut Vec<u8>, cx: &mut Context<'_, A>) -> Result
    where
        A: 'static,
        C: Chat<A>,
    {
        if framing.on_too_long == OnTooLong::Close {
            tracing::debug!(id = %cx.id, limit = framing.splitter.limit(), "message too long: closing");
            cx.map.close_with(cx.id, CloseReason::TooLong);
            return Ok(());
        }
        let outcome = user.handle_too_long(&mut Conversation::new(cx, framing), held);
        held.clear();
        outcome
    }

    /// What came is no frame; nothing behind it is delivered.
    #[cold]
    fn malformed<'a, A>(&mut self, cx: &mut Context<'_, A>, input: &mut &[u8], error: FrameError) -> Step<'a>
    where
        A: 'static,
        C: Chat<A>,
    {
        *input = &[];
        self.held.clear();
        // Not by way of an `Err`, for which the channel would be blamed: the error is the peer's.
        self.user.handle_error(&mut Conversation::new(cx, &mut self.framing), &error.into());
        Step::Stop
    }

    /// Drops what is held if the input was discarded since: whether it was.
    fn forget_discarded(&mut self) -> bool {
        let discarded = std::mem::take(&mut self.framing.discarded);
        if discarded {
            self.held.clear();
        }
        discarded
    }

    /// Offers what looked like the start of a terminator when the input ended; it was a part of the message.
    fn feed_end<A>(&mut self, cx: &mut Context<'_, A>) -> Result
    where
        A: 'static,
        C: Chat<A>,
    {
        self.forget_discarded();
        let Self { user, framing, held } = self;
        while !cx.map.is_replaced(cx.id)
            && let Some(split) = framing.splitter.finish()
        {
            if !cx.map.is_open(cx.id) {
                return Ok(());
            }
            match split {
                Split::Data { piece, .. } => {
                    if Self::offer(user, framing, cx, &piece)? {
                        held.extend_from_slice(&piece);
                    }
                }
                Split::TooLong => Self::too_long(user, framing, held, cx)?,
                // Said of input alone, and there is no more.
                Split::Malformed(_) => {}
            }
        }
        self.forget_discarded();
        Ok(())
    }

    /// Prepares the channel, once it is connected or was handed over.
    #[cold]
    fn prepare<A: 'static>(&mut self, cx: &mut Context<'_, A>) {
        self.framing.prepared = true;
        // A peer that does not read its answers is not asked for more questions.
        cx.map.pause_when_high(cx.id, true);
        if self.framing.out_size != 0
            && let Some(mut limits) = cx.map.limits(cx.id).cloned()
        {
            limits.ac_out_buffer_size = self.framing.out_size as usize;
            cx.map.set_limits(cx.id, limits);
        }
    }

    /// Delivers what waited while the channel was not reading.
    fn feed_waiting<A>(&mut self, cx: &mut Context<'_, A>) -> Result
    where
        A: 'static,
        C: Chat<A>,
    {
        let mut waiting = self.framing.take_waiting();
        let (left, outcome) = self.feed(cx, waiting.rest());
        if left > 0 {
            waiting.keep_last(left);
            self.framing.set_waiting(waiting);
        }
        outcome
    }
}

impl<A, C> Channel<A> for AsyncChat<C>
where
    A: 'static,
    C: Chat<A>,
{
    fn handle_read(&mut self, cx: &mut Context<'_, A>) -> Result {
        if !self.framing.prepared {
            self.prepare(cx);
        }
        if self.framing.has_waiting() {
            self.feed_waiting(cx)?;
        }
        while cx.map.is_reading(cx.id) {
            let most = self.framing.in_size as usize;
            let Received::Data(data) = cx.map.recv(cx.id, most)? else { break };
            let (left, outcome) = self.feed(cx, &data);
            if left > 0 {
                self.framing.set_waiting(Waiting::new(&data[data.len() - left..]));
            }
            outcome?;
            if data.len() < most {
                // The socket is empty, most likely; if not, the loop calls again.
                break;
            }
        }
        Ok(())
    }

    fn handle_connect(&mut self, cx: &mut Context<'_, A>) -> Result {
        self.prepare(cx);
        self.user.handle_connect(&mut Conversation::new(cx, &mut self.framing))
    }

    fn handle_eof(&mut self, cx: &mut Context<'_, A>) -> Result {
        let outcome = self.feed_end(cx);
        if !cx.map.is_open(cx.id) {
            return outcome;
        }
        if cx.map.is_replaced(cx.id) {
            // The end is for the one that follows.
            cx.map.unread(cx.id, &[]);
            return outcome;
        }
        let rest = std::mem::take(&mut self.held);
        // Told whatever became of the last piece: the loop will not say again that the input has ended.
        let ended = self.user.handle_eof(&mut Conversation::new(cx, &mut self.framing), &rest);
        outcome.and(ended)
    }

    fn handle_drained(&mut self, cx: &mut Context<'_, A>) -> Result {
        self.user.handle_drained(&mut Conversation::new(cx, &mut self.framing))
    }

    fn handle_timer(&mut self, cx: &mut Context<'_, A>, timer: TimerId) -> Result {
        self.user.handle_timer(&mut Conversation::new(cx, &mut self.framing), timer)
    }

    fn handle_timeout(&mut self, cx: &mut Context<'_, A>, which: Timeout) -> Result {
        self.user.handle_timeout(&mut Conversation::new(cx, &mut self.framing), which)
    }

    fn handle_shutdown(&mut self, cx: &mut Context<'_, A>) -> Result {
        self.user.handle_shutdown(&mut Conversation::new(cx, &mut self.framing))
    }

    fn handle_error(&mut self, cx: &mut Context<'_, A>, error: &Error) {
        self.user.handle_error(&mut Conversation::new(cx, &mut self.framing), error);
    }

    /// The message that has begun, what may be the start of its terminator, and what has not been looked at.
    fn take_input(&mut self) -> Vec<u8> {
        self.forget_discarded();
        self.framing.take_input(std::mem::take(&mut self.held))
    }

    fn name(&self) -> &'static str {
        self.user.name()
    }

    fn handle_close(&mut self, cx: &mut Context<'_, A>, reason: CloseReason) {
        self.user.handle_close(&mut Conversation::new(cx, &mut self.framing), reason);
    }
}

/// What a step of the delivery came to.
enum Step<'a> {
    /// The input is used up, or the channel no longer reads.
    Stop,
    /// The message goes on.
    Piece,
    /// A message is complete: where it lies whole in the input, or else in what is held.
    End(Option<&'a [u8]>),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_size_of_an_idle_conversation_is_pinned() {
        assert!(size_of::<AsyncChat<()>>() <= 104, "{}", size_of::<AsyncChat<()>>());
    }
}
