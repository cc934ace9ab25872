//! [`AsyncChat`]: a channel that splits its input into messages.

use asyncore::{Channel, CloseReason, Context, Error, Received, Result, Timeout, TimerId};

use crate::ahead::Ahead;
use crate::framing::Waiting;
use crate::needles::Needles;
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
    // Siblings, so that user and framing borrow apart.
    user: C,
    framing: Framing,
}

impl<C> AsyncChat<C> {
    /// Makes a chat channel around `user`.
    pub fn new(user: C) -> Self {
        Self { user, framing: Framing::new() }
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
        self.framing.set_in_size(bytes);
        self
    }

    /// Sets the most bytes that one write hands to the socket, [`AC_OUT_BUFFER_SIZE`](asyncore::AC_OUT_BUFFER_SIZE) by
    /// default; at least 1.
    #[must_use]
    pub fn ac_out_buffer_size(mut self, bytes: u32) -> Self {
        self.framing.set_out_size(bytes);
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
        self.framing.take_discarded();
        let mut held = self.framing.take_held();
        let mut messages = 0;
        let outcome = self.deliver(cx, &mut held, &mut input, &mut messages);
        cx.map.count_messages(cx.id, messages);
        let discarded = self.framing.take_discarded();
        if discarded || !cx.map.is_open(cx.id) {
            input = &[];
        }
        if outcome.is_err() {
            // If the error leaves the channel open, the rest is delivered as if nothing had been.
            cx.map.read_again(cx.id);
        }
        self.framing.set_held(if discarded { Vec::new() } else { held });
        (input.len(), outcome)
    }

    /// Delivers until the input is used up or the channel no longer reads; counts the messages.
    fn deliver<A>(
        &mut self,
        cx: &mut Context<'_, A>,
        held: &mut Vec<u8>,
        input: &mut &[u8],
        messages: &mut usize,
    ) -> Result
    where
        A: 'static,
        C: Chat<A>,
    {
        if let Some(length) = self.framing.take_found(held.len()) {
            held.truncate(length);
            self.found(cx, held, None, messages)?;
        }
        loop {
            let mut vain = 0;
            if held.is_empty() {
                match self.deliver_whole(cx, held, input, messages)? {
                    Some(seen) => vain = seen,
                    None => return Ok(()),
                }
            }
            if self.framing.is_discarded() || !cx.map.is_reading(cx.id) {
                return Ok(());
            }
            if input.is_empty() && !self.framing.splitter.has_replay() {
                return Ok(());
            }
            match self.deliver_slowly(cx, held, input, vain)? {
                Step::Stop => return Ok(()),
                Step::Piece => {}
                Step::End(whole) => self.found(cx, held, whole, messages)?,
            }
        }
    }

    /// [`deliver`](Self::deliver) in the usual case, in a loop of its own: messages that lie whole in the input, while
    /// nothing is held.
    ///
    /// Nothing when the channel no longer reads; otherwise another way is to go on, and is told in how many bytes no
    /// message ends.
    // By itself, with what it changes in variables of its own: in registers, that is.
    #[inline(never)]
    fn deliver_whole<A>(
        &mut self,
        cx: &mut Context<'_, A>,
        held: &mut Vec<u8>,
        input: &mut &[u8],
        messages: &mut usize,
    ) -> Result<Option<usize>>
    where
        A: 'static,
        C: Chat<A>,
    {
        let Self { user, framing } = self;
        let (mut rest, mut found, mut ahead) = (*input, 0, Ahead::default());
        let outcome = loop {
            if framing.is_discarded() || !cx.map.is_reading(cx.id) {
                break Ok(None);
            }
            let before = rest;
            let find = |needles: &Needles, input: &[u8]| needles.find_ahead(input, &mut ahead);
            let mut message = match framing.splitter.split_whole(&mut rest, find) {
                Ok(message) => message,
                Err(vain) => break Ok(Some(vain)),
            };
            if !message.is_empty() {
                let offered = Self::offer(user, framing, cx, message);
                let is_kept = matches!(offered, Ok(true));
                if offered.is_err() || framing.is_discarded() || !cx.map.is_reading(cx.id) {
                    if !framing.is_discarded() {
                        held.extend_from_slice(if is_kept { message } else { &[] });
                        framing.hold_end(held, &before[message.len()..before.len() - rest.len()]);
                    }
                    break offered.map(|_| None);
                }
                if !is_kept {
                    message = &[];
                }
            }
            found += 1;
            if let Err(error) = user.found_terminator(&mut Conversation::new(cx, framing), message) {
                break Err(error);
            }
        };
        *input = rest;
        *messages += found;
        outcome
    }

    /// One step of [`deliver`](Self::deliver) in all cases.
    fn deliver_slowly<'a, A>(
        &mut self,
        cx: &mut Context<'_, A>,
        held: &mut Vec<u8>,
        input: &mut &'a [u8],
        vain: usize,
    ) -> Result<Step<'a>>
    where
        A: 'static,
        C: Chat<A>,
    {
        let Self { user, framing } = self;
        match framing.splitter.pass_over(input) {
            Ok(true) => {}
            Ok(false) => return Ok(Step::Stop),
            Err(error) => return Ok(self.malformed(cx, held, input, error)),
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
                if offered.is_ok() && !framing.is_discarded() && cx.map.is_reading(cx.id) {
                    return Ok(Step::End(whole));
                }
                if !framing.is_discarded() {
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
            Some(Split::Malformed(error)) => Ok(self.malformed(cx, held, input, error)),
            Some(Split::TooLong) => {
                Self::too_long(user, framing, held, cx)?;
                Ok(Step::Piece)
            }
        }
    }

    /// Tells the user of a message: where it lies whole in the input, or else what is held.
    // So that the user's callback is inlined where it is called most.
    #[inline(never)]
    fn found<A>(
        &mut self,
        cx: &mut Context<'_, A>,
        held: &mut Vec<u8>,
        whole: Option<&[u8]>,
        messages: &mut usize,
    ) -> Result
    where
        A: 'static,
        C: Chat<A>,
    {
        *messages += 1;
        let message = whole.unwrap_or(held);
        let outcome = self.user.found_terminator(&mut Conversation::new(cx, &mut self.framing), message);
        held.clear();
        outcome
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
        if framing.on_too_long() == OnTooLong::Close {
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
    fn malformed<'a, A>(
        &mut self,
        cx: &mut Context<'_, A>,
        held: &mut Vec<u8>,
        input: &mut &[u8],
        error: FrameError,
    ) -> Step<'a>
    where
        A: 'static,
        C: Chat<A>,
    {
        *input = &[];
        held.clear();
        // Not by way of an `Err`, for which the channel would be blamed: the error is the peer's.
        self.user.handle_error(&mut Conversation::new(cx, &mut self.framing), &error.into());
        Step::Stop
    }

    /// Offers what looked like the start of a terminator when the input ended; it was a part of the message.
    fn feed_end<A>(&mut self, cx: &mut Context<'_, A>) -> Result
    where
        A: 'static,
        C: Chat<A>,
    {
        self.framing.take_discarded();
        let mut held = self.framing.take_held();
        let outcome = self.finish(cx, &mut held);
        let discarded = self.framing.take_discarded();
        self.framing.set_held(if discarded { Vec::new() } else { held });
        outcome
    }

    /// [`feed_end`](Self::feed_end), with what is held at hand.
    fn finish<A>(&mut self, cx: &mut Context<'_, A>, held: &mut Vec<u8>) -> Result
    where
        A: 'static,
        C: Chat<A>,
    {
        let Self { user, framing } = self;
        while !cx.map.is_replaced(cx.id)
            && let Some(split) = framing.splitter.finish()
        {
            if !cx.map.is_open(cx.id) {
                break;
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
        Ok(())
    }

    /// Prepares the channel, once it is connected or was handed over.
    #[cold]
    fn prepare<A: 'static>(&mut self, cx: &mut Context<'_, A>) {
        // A peer that does not read its answers is not asked for more questions.
        cx.map.pause_when_high(cx.id, true);
        if let Some(out_size) = self.framing.prepared()
            && let Some(mut limits) = cx.map.limits(cx.id).cloned()
        {
            limits.ac_out_buffer_size = out_size;
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
        if self.framing.is_new() {
            self.prepare(cx);
        }
        if self.framing.has_waiting() {
            self.feed_waiting(cx)?;
        }
        while cx.map.is_reading(cx.id) {
            let most = self.framing.in_size();
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

    /// What was received before came in clear text: it is dropped, and never read as if it had come under TLS.
    fn handle_tls(&mut self, cx: &mut Context<'_, A>) -> Result {
        let dropped = self.framing.take_input().len();
        self.framing.discard_incoming();
        if dropped > 0 {
            tracing::warn!(id = %cx.id, dropped, "input in clear text before TLS dropped");
        }
        self.user.handle_tls(&mut Conversation::new(cx, &mut self.framing))
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
        let rest = self.framing.take_rest();
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
        self.framing.take_discarded();
        self.framing.take_input()
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
        assert!(size_of::<AsyncChat<()>>() <= 24, "{}", size_of::<AsyncChat<()>>());
    }
}
