//! [`Sink`]: accepts every message, and keeps none.

use std::sync::Arc;

use asynchat::Conversation;

use crate::app::App;
use crate::delivery::{Delivery, Incoming, Outcome, Ticket};
use crate::envelope::Envelope;
use crate::reply::Reply;

/// Where messages end: for tests and measurements.
#[derive(Clone, Copy, Debug)]
pub struct Sink;

impl Delivery for Sink {
    fn begin(
        &self,
        _cx: &mut Conversation<'_, App>,
        _envelope: &Arc<Envelope>,
    ) -> Result<Box<dyn Incoming>, Reply> {
        Ok(Box::new(Self))
    }

    fn name(&self) -> &'static str {
        "sink"
    }
}

impl Incoming for Sink {
    fn write(&mut self, _cx: &mut Conversation<'_, App>, _piece: &[u8]) -> Result<(), Reply> {
        Ok(())
    }

    fn finish(self: Box<Self>, _cx: &mut Conversation<'_, App>, _ticket: Ticket) -> Option<Outcome> {
        Some(Outcome::All(ACCEPTED))
    }
}

const ACCEPTED: Reply = Reply::fixed("250 2.0.0 Accepted and dropped\r\n");
