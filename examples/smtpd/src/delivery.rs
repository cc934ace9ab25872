//! [`Delivery`]: where messages go, and how a session learns what became of one.
//!
//! ```text
//! session                          delivery
//!   DATA, BDAT ── begin(envelope) ──► Incoming
//!   each piece ── write(piece) ─────►   │         an error is kept, and answered at the end of the message
//!   the end    ── finish(ticket) ───►   │         an outcome at once, or later by Ticket::answer
//!   lost       ── drop ─────────────►   ▼         nothing of it stays
//! ```

use std::sync::Arc;

use asynchat::{AsyncChat, Conversation};
use asyncore::{ChannelId, Map};

use crate::address::Mailbox;
use crate::app::App;
use crate::envelope::Envelope;
use crate::reply::Reply;
use crate::session::Session;

/// Where messages go.
pub trait Delivery: 'static {
    /// A message begins.
    ///
    /// # Errors
    ///
    /// The reply to `DATA`, or to the first `BDAT`, if it cannot be taken now.
    fn begin(
        &self,
        cx: &mut Conversation<'_, App>,
        envelope: &Arc<Envelope>,
    ) -> Result<Box<dyn Incoming>, Reply>;

    /// Whether a recipient is one for it, asked at `RCPT`.
    ///
    /// # Errors
    ///
    /// The reply to `RCPT`, if not.
    fn recipient(&self, _mailbox: &Mailbox) -> Result<(), Reply> {
        Ok(())
    }

    /// What it is called in the log.
    fn name(&self) -> &'static str;
}

/// A message that arrives; dropped before its end, nothing of it stays.
///
/// Who must not be given more for a while calls `cx.pause_reading()`, and later [`Map::resume_reading`]: what the session
/// has read by then, 256 KiB at most, still comes.
pub trait Incoming: 'static {
    /// Takes the next bytes of the message as it was sent: lines end with CRLF, dots are no longer stuffed.
    ///
    /// # Errors
    ///
    /// The reply to the whole message, which is not written any further.
    fn write(&mut self, cx: &mut Conversation<'_, App>, piece: &[u8]) -> Result<(), Reply>;

    /// The message is whole. The outcome, or `None` if [`Ticket::answer`] tells it later. Until then the session is paused,
    /// and it is the session that ends the pause: a pause of [`write`](Self::write) is not to be ended any more.
    fn finish(self: Box<Self>, cx: &mut Conversation<'_, App>, ticket: Ticket) -> Option<Outcome>;
}

/// What became of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "a message has one fate, or each recipient its own")]
pub enum Outcome {
    /// The same for all recipients.
    All(Reply),
    /// A reply for each recipient, in their order. LMTP passes them on. In SMTP, which has one reply, the first error counts,
    /// so that what was not taken for all is not taken for granted; a delivery that can avoid it takes a message for all
    /// recipients or for none.
    Each(Vec<Reply>),
}

/// To whom an outcome is told: one message of one session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticket {
    /// The session's channel.
    pub session: ChannelId,
    /// The number of the message in the session.
    pub message: u64,
}

impl Ticket {
    /// Tells the session, if it is still there and waits for it; from another thread by
    /// [`Remote::post`](asyncore::Remote::post).
    ///
    /// In a callback of that session nothing is told: there [`Incoming::finish`] has the outcome for an answer.
    #[expect(clippy::needless_pass_by_value, reason = "an outcome is told once, to one session")]
    pub fn answer(self, map: &mut Map<App>, app: &mut App, outcome: Outcome) {
        let is_told = map.with(app, self.session, |chat: &mut AsyncChat<Session>, cx| {
            chat.converse(cx, |session, cx| session.told(cx, self.message, &outcome))
        });
        if is_told != Some(true) {
            // What was accepted stays accepted: a client that does not hear of it sends it again.
            let (session, message) = (self.session, self.message);
            tracing::info!(%session, message, ?outcome, "nobody is there to hear what became of a message");
        }
    }
}
