//! A message on its way: its pieces, its end, and what became of it.

use std::borrow::Cow;
use std::mem;
use std::time::Instant;

use asynchat::{BareIn, Conversation};

use super::lines::Lines;
use super::{Session, Stage};
use crate::app::App;
use crate::delivery::{Incoming, Outcome, Ticket};
use crate::reply::Reply;

/// A message that has begun and whose outcome was not told.
pub(super) struct Message {
    /// Where it goes; nowhere once it was refused, or is whole.
    incoming: Option<Box<dyn Incoming>>,
    /// What the delivery had to say against it.
    refusal: Option<Reply>,
    /// Its bytes so far.
    size: u64,
    /// Whether it has more than it may have, or was announced to have.
    is_too_large: bool,
    lines: Lines,
    /// How many pieces have come, as far as it matters: none, one, or more.
    pace: Pace,
    /// When it was whole.
    ended: Option<Instant>,
}

/// Whether the least rate counts. Most messages come in one piece, and are not worth a clock.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Pace {
    Begun,
    First,
    Timed,
}

impl Message {
    pub(super) fn new(incoming: Result<Box<dyn Incoming>, Reply>) -> Self {
        let (incoming, refusal) = match incoming {
            Ok(incoming) => (Some(incoming), None),
            Err(refusal) => (None, Some(refusal)),
        };
        Self {
            incoming,
            refusal,
            size: 0,
            is_too_large: false,
            lines: Lines::default(),
            pace: Pace::Begun,
            ended: None,
        }
    }

    /// The reply to it, if something is wrong with it. What it is does not depend on the pieces in which it came.
    pub(super) fn fault(&self, cx: &Conversation<'_, App>) -> Option<Reply> {
        let settings = &cx.app.settings;
        if self.is_too_large {
            Some(TOO_LARGE)
        } else if self.lines.is_bare && settings.bare == BareIn::Refuse {
            Some(BARE)
        } else if self.lines.is_too_long {
            Some(LINE_TOO_LONG)
        } else {
            self.refusal.clone()
        }
    }

    /// More than its limit is announced: the chunk is not to be stored.
    pub(super) fn expect(&mut self, octets: u64, limit: u64) {
        if self.size.saturating_add(octets) > limit {
            self.is_too_large = true;
            self.incoming = None;
        }
    }

    /// It goes no further, or not now.
    pub(super) fn stop_clock(&mut self, cx: &mut Conversation<'_, App>) {
        if mem::replace(&mut self.pace, Pace::Begun) == Pace::Timed {
            cx.map.set_min_rate(cx.id, None);
        }
    }

    fn arrived(&mut self, cx: &mut Conversation<'_, App>, piece: &[u8], is_unstuffed: bool) {
        let (rate, limit) = (cx.app.settings.min_rate, cx.app.settings.text_line_limit);
        match self.pace {
            Pace::Begun => self.pace = Pace::First,
            Pace::First if rate.is_some() => {
                self.pace = Pace::Timed;
                cx.map.set_min_rate(cx.id, rate);
            }
            Pace::First | Pace::Timed => {}
        }
        self.size = self.size.saturating_add(piece.len() as u64);
        self.is_too_large |= self.size > cx.app.settings.message_limit;
        if is_unstuffed {
            self.lines.take(piece, limit);
        } else {
            self.lines.take_unchecked(piece, limit);
        }
        if self.incoming.is_none() {
            return;
        }
        if self.fault(cx).is_some() {
            self.incoming = None;
        } else if let Some(incoming) = &mut self.incoming
            && let Err(refusal) = incoming.write(cx, piece)
        {
            self.incoming = None;
            self.refusal = Some(refusal);
        }
    }
}

impl Session {
    /// A piece of a text, or of a chunk.
    pub(super) fn arrived(&mut self, cx: &mut Conversation<'_, App>, piece: &[u8]) {
        if let Some(message) = &mut self.message {
            message.arrived(cx, piece, matches!(self.stage, Stage::Text));
        }
    }

    /// The message is whole.
    pub(super) fn end_message(&mut self, cx: &mut Conversation<'_, App>) {
        let Some(message) = &mut self.message else { return };
        message.stop_clock(cx);
        if matches!(self.stage, Stage::Chunk(_)) {
            message.lines.end_unchecked();
        }
        message.ended = Some(Instant::now());
        let fault = message.fault(cx);
        let outcome = match (fault, message.incoming.take()) {
            (None, Some(incoming)) => incoming.finish(cx, Ticket { session: cx.id, message: self.begun }),
            (fault, _) => Some(Outcome::All(fault.unwrap_or_else(|| LOST.clone()))),
        };
        match outcome {
            Some(outcome) => self.conclude(cx, &outcome),
            None => self.wait(cx),
        }
    }

    /// Tells the client what became of its message.
    pub(super) fn conclude(&mut self, cx: &mut Conversation<'_, App>, outcome: &Outcome) {
        self.stage = Stage::Command;
        let Some(message) = self.message.take() else { return };
        let time = message.ended.map(|ended| ended.elapsed()).unwrap_or_default();
        cx.app.metrics.delivered(outcome, message.size, time);
        let envelope = self.envelope.take();
        let (id, from, to) = envelope.as_ref().map_or(("", None, 0), |envelope| {
            (envelope.id.as_str(), envelope.from.as_ref(), envelope.to.len())
        });
        let from = from.map_or("<>", |from| from.as_str());
        tracing::debug!(session = %cx.id, id, from, to, size = message.size, outcome = %line(outcome), ?time, "message");
        if is_accepted(outcome) {
            self.messages += 1;
            self.bytes += message.size;
        }
        if !cx.app.settings.lmtp {
            cx.push(reply_for_all(outcome).wire());
            return;
        }
        for place in mem::take(&mut self.places) {
            let reply = match outcome {
                Outcome::All(reply) => reply,
                Outcome::Each(replies) => replies.get(place).unwrap_or(&LOST),
            };
            cx.push(reply.wire());
        }
    }

    /// A bare CR or LF: the message is refused, and nothing behind it is obeyed.
    pub(super) fn refuse_bare(&mut self, cx: &mut Conversation<'_, App>) {
        if let Some(message) = &mut self.message {
            message.incoming = None;
        }
        self.conclude(cx, &Outcome::All(BARE));
        self.leave(cx, "bare CR or LF");
    }
}

impl Session {
    /// Takes the outcome of a message that was whole: whether it is the one that is waited for.
    pub(crate) fn told(&mut self, cx: &mut Conversation<'_, App>, message: u64, outcome: &Outcome) -> bool {
        if self.begun != message || self.message.as_ref().is_none_or(|message| message.ended.is_none()) {
            return false;
        }
        self.conclude(cx, outcome);
        self.go_on(cx);
        true
    }
}

/// The one reply that SMTP has: the first error, if the message was not taken for all.
fn reply_for_all(outcome: &Outcome) -> &Reply {
    match outcome {
        Outcome::All(reply) => reply,
        Outcome::Each(replies) => {
            replies.iter().find(|reply| reply.is_error()).or_else(|| replies.first()).unwrap_or(&LOST)
        }
    }
}

fn is_accepted(outcome: &Outcome) -> bool {
    match outcome {
        Outcome::All(reply) => !reply.is_error(),
        Outcome::Each(replies) => replies.iter().any(|reply| !reply.is_error()),
    }
}

/// An outcome for the log.
pub(crate) fn line(outcome: &Outcome) -> Cow<'_, str> {
    match outcome {
        Outcome::All(reply) => reply.to_line(),
        Outcome::Each(replies) => replies.iter().map(Reply::to_line).collect::<Vec<_>>().join(" | ").into(),
    }
}

const TOO_LARGE: Reply = Reply::fixed("552 5.3.4 The message is larger than what is taken here\r\n");
const LINE_TOO_LONG: Reply = Reply::fixed("554 5.6.0 A line of the message is too long\r\n");
const BARE: Reply = Reply::fixed("550 5.5.2 A CR or LF stands alone in the message\r\n");
/// For a delivery that does not say what became of a message.
static LOST: Reply = Reply::fixed("451 4.3.0 The message was not stored\r\n");
