//! `MAIL`, `RCPT`, `DATA` and `BDAT`: an envelope, and where its message begins.

use std::rc::Rc;
use std::sync::Arc;
use std::time::SystemTime;

use asynchat::{Conversation, Terminator};

use super::message::Message;
use super::{Peer, Session, Stage, no_argument, say};
use crate::app::App;
use crate::command::{Chunk, Verb};
use crate::envelope::Envelope;
use crate::parameters::{MailFrom, RcptTo};
use crate::reply::Reply;
use crate::serial;

impl Session {
    pub(super) fn mail(
        &mut self,
        cx: &Conversation<'_, App>,
        argument: &str,
    ) -> Result<Option<Reply>, Reply> {
        if self.client.helo.is_empty() {
            return Err(HELLO_FIRST);
        }
        if self.envelope.is_some() {
            return Err(NESTED);
        }
        if !self.may_send(cx) {
            return Err(AUTH_FIRST);
        }
        let mail = MailFrom::parse(argument, self.announced(cx))?;
        if mail.size.is_some_and(|size| size > cx.app.settings.message_limit) {
            return Ok(Some(TOO_LARGE));
        }
        self.envelope = Some(Arc::new(Envelope {
            id: serial::next(),
            client: self.client.clone(),
            from: mail.from,
            to: Vec::new(),
            at: SystemTime::now(),
            size: mail.size,
            body: mail.body,
            smtputf8: mail.smtputf8,
        }));
        Ok(Some(SENDER))
    }

    /// Whether the client has said who it is, or need not.
    fn may_send(&self, cx: &Conversation<'_, App>) -> bool {
        let settings = &cx.app.settings;
        !settings.require_auth
            || self.client.user.is_some()
            || match self.peer {
                Peer::Inet(address) => {
                    let address = address.ip().to_canonical();
                    settings.allow_from.iter().any(|net| net.contains(&address))
                }
                Peer::Local => true,
                Peer::Unknown => false,
            }
    }

    pub(super) fn rcpt(
        &mut self,
        cx: &mut Conversation<'_, App>,
        argument: &str,
    ) -> Result<Option<Reply>, Reply> {
        let announced = self.announced(cx);
        let Some(envelope) = &mut self.envelope else {
            return Err(if self.may_send(cx) { MAIL_FIRST } else { AUTH_FIRST });
        };
        if self.message.is_some() {
            return Err(IN_CHUNKS);
        }
        let RcptTo { to } = RcptTo::parse(argument, announced, envelope.smtputf8)?;
        cx.app.delivery.recipient(&to)?;
        // Nobody else has it before its message begins: this copies nothing.
        let recipients = &mut Arc::make_mut(envelope).to;
        let place = match recipients.iter().position(|recipient| *recipient == to) {
            Some(place) => place,
            None if recipients.len() >= cx.app.settings.recipients => return Ok(Some(TOO_MANY)),
            None => {
                recipients.push(to);
                cx.app.metrics.recipients += 1;
                recipients.len() - 1
            }
        };
        if cx.app.settings.lmtp {
            if self.places.len() >= cx.app.settings.recipients {
                return Ok(Some(TOO_MANY));
            }
            self.places.push(place);
        }
        Ok(Some(RECIPIENT))
    }

    pub(super) fn data(
        &mut self,
        cx: &mut Conversation<'_, App>,
        argument: &str,
    ) -> Result<Option<Reply>, Reply> {
        no_argument(argument)?;
        if self.message.is_some() {
            return Err(IN_CHUNKS);
        }
        let message = self.begin(cx)?;
        if let Some(refusal) = message.fault(cx) {
            self.forget_message(cx);
            return Ok(Some(refusal));
        }
        self.message = Some(Box::new(message));
        self.stage = Stage::Text;
        cx.set_terminator(Terminator::dot_stuffed_with_bare(cx.app.settings.bare));
        Ok(Some(GO_AHEAD))
    }

    /// A message of the envelope; it may be refused from the start.
    fn begin(&mut self, cx: &mut Conversation<'_, App>) -> Result<Message, Reply> {
        let Some(envelope) = &self.envelope else { return Err(MAIL_FIRST) };
        if envelope.to.is_empty() {
            return Err(RCPT_FIRST);
        }
        self.begun += 1;
        let delivery = Rc::clone(&cx.app.delivery);
        Ok(Message::new(delivery.begin(cx, envelope)))
    }

    /// `BDAT` (RFC 3030): the octets that are announced follow in any case, and are read. Only where it does not say how many
    /// they are, nothing behind it can be made sense of.
    pub(super) fn bdat(
        &mut self,
        cx: &mut Conversation<'_, App>,
        argument: &str,
    ) -> Result<Option<Reply>, Reply> {
        let Some(chunk) = Chunk::parse(argument) else {
            say(cx, &Reply::new(501, "5.5.4", format_args!("Syntax: {}", Verb::Bdat.syntax())));
            self.leave(cx, "BDAT without a length");
            return Ok(None);
        };
        if self.message.is_none()
            && let Ok(message) = self.begin(cx)
        {
            self.message = Some(Box::new(message));
        }
        if let Some(message) = &mut self.message {
            message.expect(chunk.octets, cx.app.settings.message_limit);
        }
        self.stage = Stage::Chunk(chunk);
        match Terminator::count(chunk.octets) {
            Ok(terminator) => cx.set_terminator(terminator),
            Err(_) => self.end_chunk(cx, chunk),
        }
        Ok(None)
    }

    /// The octets of a chunk have come.
    pub(super) fn end_chunk(&mut self, cx: &mut Conversation<'_, App>, chunk: Chunk) {
        let Some(message) = &mut self.message else {
            self.stage = Stage::Command;
            let reply = if self.envelope.is_some() { RCPT_FIRST } else { MAIL_FIRST };
            return self.refuse(cx, &reply);
        };
        if chunk.is_last {
            return self.end_message(cx);
        }
        // The next command may take the time of a command.
        message.stop_clock(cx);
        let fault = message.fault(cx);
        self.stage = Stage::Command;
        match fault {
            // The rest of the message is told the same.
            Some(fault) => say(cx, &fault),
            None => say(cx, &Reply::new(250, "2.0.0", format_args!("{} octets", chunk.octets))),
        }
    }
}

const SENDER: Reply = Reply::fixed("250 2.1.0 OK\r\n");
const RECIPIENT: Reply = Reply::fixed("250 2.1.5 OK\r\n");
const GO_AHEAD: Reply = Reply::fixed("354 End the message with a dot on a line by itself\r\n");
const HELLO_FIRST: Reply = Reply::fixed("503 5.5.1 Say HELO, EHLO or LHLO first\r\n");
const AUTH_FIRST: Reply = Reply::fixed("530 5.7.0 Authenticate first\r\n");
const NESTED: Reply = Reply::fixed("503 5.5.1 There is a sender already\r\n");
const MAIL_FIRST: Reply = Reply::fixed("503 5.5.1 MAIL first\r\n");
const RCPT_FIRST: Reply = Reply::fixed("503 5.5.1 RCPT first: there is no valid recipient\r\n");
const IN_CHUNKS: Reply = Reply::fixed("503 5.5.1 The message has begun: BDAT or RSET\r\n");
const TOO_LARGE: Reply = Reply::fixed("552 5.3.4 The message is larger than what is taken here\r\n");
const TOO_MANY: Reply = Reply::fixed("452 4.5.3 Too many recipients: the rest in another message\r\n");
