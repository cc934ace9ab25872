//! [`Job`]: a message that is to be passed on.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;

use asynchat::ReadProducer;
use asyncore::{Map, Producer, Result, TimerId};
use bytes::Bytes;

use super::answer::Answer;
use super::features::Features;
use crate::app::App;
use crate::delivery::{Outcome, Ticket};
use crate::envelope::{Body, Envelope};
use crate::reply::Reply;
use crate::spool::{SpoolReader, Spooled};

/// A message that is whole, and whom to tell what became of it.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) envelope: Arc<Envelope>,
    ticket: Ticket,
    /// As it goes over the wire, up to the final dot.
    text: Spooled,
    /// Its bytes, dots not doubled.
    size: u64,
    needs: Needs,
    /// Whether each recipient has an outcome of its own.
    by_recipient: bool,
    /// Whether it was begun on a connection that was lost, and is to have another one.
    pub(crate) is_second_try: bool,
    /// When it is given up.
    pub(crate) deadline: Option<TimerId>,
    /// What was said to each recipient.
    answers: Vec<Option<Answer>>,
}

/// What a message asks of the next server: by what is in it, whatever was declared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Needs {
    pub(crate) eight_bit: bool,
    pub(crate) utf8: bool,
}

impl Job {
    pub(crate) fn new(
        ticket: Ticket,
        envelope: Arc<Envelope>,
        text: Spooled,
        size: u64,
        needs: Needs,
        by_recipient: bool,
    ) -> Self {
        Self {
            answers: vec![None; envelope.to.len()],
            envelope,
            ticket,
            text,
            size,
            needs,
            by_recipient,
            is_second_try: false,
            deadline: None,
        }
    }

    /// Begins anew with a server of these features: the reply if that cannot take it, without a question.
    pub(crate) fn begin(&mut self, features: Features) -> Result<(), Reply> {
        self.answers.fill(None);
        match features.size {
            Some(most) if most != 0 && self.size > most => Err(TOO_LARGE),
            _ if self.needs.utf8 && !features.utf8 => Err(NO_UTF8),
            _ if self.needs.eight_bit && !features.eight_bit => Err(NO_EIGHT_BIT),
            _ => Ok(()),
        }
    }

    /// The command `MAIL`, with what this server understands.
    pub(crate) fn mail(&self, features: Features) -> String {
        let from = self.envelope.from.as_ref().map_or("", |from| from.as_str());
        let mut mail = format!("MAIL FROM:<{from}>");
        if features.size.is_some() {
            mail += &format!(" SIZE={}", self.size);
        }
        if features.eight_bit && (self.needs.eight_bit || self.envelope.body == Body::EightBitMime) {
            mail += " BODY=8BITMIME";
        }
        if features.utf8 && (self.needs.utf8 || self.envelope.smtputf8) {
            mail += " SMTPUTF8";
        }
        mail
    }

    /// The command `RCPT` for one of the recipients.
    pub(crate) fn rcpt(&self, index: usize) -> String {
        format!("RCPT TO:<{}>", self.recipient(index))
    }

    fn recipient(&self, index: usize) -> &str {
        self.envelope.to.get(index).map_or("", |to| to.as_str())
    }

    /// What was said to a recipient. Nothing while more is to be said; then whether the text is to be sent, or else the
    /// outcome.
    pub(crate) fn answered(
        &mut self,
        next: &str,
        index: usize,
        answer: &Answer,
    ) -> Option<Result<(), Outcome>> {
        if !self.by_recipient && !answer.is_ok() {
            return Some(Err(Outcome::All(self.refusal(next, index, answer))));
        }
        if let Some(slot) = self.answers.get_mut(index) {
            *slot = Some(answer.clone());
        }
        if self.answers.iter().any(Option::is_none) {
            return None;
        }
        let all_refused = self.answers.iter().flatten().all(|answer| !answer.is_ok());
        Some(if all_refused { Err(self.outcome(next, answer)) } else { Ok(()) })
    }

    /// What becomes of the message when this was answered to it as a whole.
    pub(crate) fn outcome(&self, next: &str, answer: &Answer) -> Outcome {
        if !self.by_recipient {
            return Outcome::All(answer.pass_on(next, ""));
        }
        let each = self.answers.iter().enumerate().map(|(index, said)| match said {
            Some(refusal) if !refusal.is_ok() => self.refusal(next, index, refusal),
            _ => answer.pass_on(next, ""),
        });
        Outcome::Each(each.collect())
    }

    fn refusal(&self, next: &str, index: usize, answer: &Answer) -> Reply {
        answer.pass_on(next, &format!("<{}>", self.recipient(index)))
    }

    /// The text, to push; `is_sent` becomes true with its final dot.
    pub(crate) fn text(&self, is_sent: Rc<Cell<bool>>) -> impl Producer + 'static {
        let left = self.text.length();
        Text { producer: ReadProducer::exactly(self.text.reader(), left), left, is_sent }
    }

    /// Tells the session; the log too, if that one has gone.
    pub(crate) fn settle(self, map: &mut Map<App>, app: &mut App, next: &str, outcome: Outcome) {
        if let Some(deadline) = self.deadline {
            map.cancel_timer(deadline);
        }
        let Self { envelope, ticket, .. } = self;
        let replies = match &outcome {
            Outcome::All(reply) => std::slice::from_ref(reply),
            Outcome::Each(replies) => replies,
        };
        let refused = replies.iter().find(|reply| reply.is_error());
        let reply = refused.or_else(|| replies.first()).map(Reply::to_line).unwrap_or_default();
        if map.is_open(ticket.session) {
            tracing::debug!(id = envelope.id, next, %reply, "relayed");
        } else {
            tracing::info!(id = envelope.id, next, %reply, "relayed, and the client did not wait for it");
        }
        ticket.answer(map, app, outcome);
    }
}

/// The text of a message, which tells when its end is handed out.
struct Text {
    producer: ReadProducer<SpoolReader>,
    left: u64,
    is_sent: Rc<Cell<bool>>,
}

impl Producer for Text {
    fn more(&mut self, most: usize) -> Result<Option<Bytes>> {
        let piece = self.producer.more(most)?;
        self.left = self.left.saturating_sub(piece.as_ref().map_or(0, |piece| piece.len() as u64));
        if self.left == 0 {
            self.is_sent.set(true);
        }
        Ok(piece)
    }
}

const TOO_LARGE: Reply = Reply::fixed("552 5.3.4 The message is larger than the next server takes\r\n");
const NO_UTF8: Reply = Reply::fixed("554 5.6.7 The next server does not support SMTPUTF8\r\n");
const NO_EIGHT_BIT: Reply = Reply::fixed("554 5.6.3 The next server does not support 8BITMIME\r\n");
