//! One exchange with a server: the request out, the answer in, on one chat channel.

use std::io::Write;

use asynchat::{Chat, Collected, Conversation, Terminator};
use asyncore::{CloseReason, Error, Result, TimerId};

use super::chunks::{Chunks, Part};
use super::head::{BodyEnd, Head};
use super::{Failure, Url};

/// What an exchange shares with the client: where the body goes, and what became of it.
#[derive(Debug)]
pub(crate) struct Exchange<W> {
    pub(crate) out: W,
    /// Bytes of body that are still welcome.
    pub(crate) room: u64,
    /// Whether the body of a redirect is left alone.
    pub(crate) follows: bool,
    /// The answer's head when all of it came, or why it did not.
    pub(crate) outcome: Option<Result<Head, Failure>>,
}

/// The channel of one exchange.
#[derive(Debug)]
pub(crate) struct Fetch {
    request: String,
    is_connected: bool,
    /// Interim answers so far.
    interim: u32,
    head: Option<Head>,
    chunks: Chunks,
}

impl Fetch {
    pub(crate) fn new(url: &Url) -> Self {
        let request = format!(
            "GET {} HTTP/1.1\r\nHost: {}\r\nUser-Agent: http_get/{}\r\nAccept: */*\r\n\
             Accept-Encoding: identity\r\nConnection: close\r\n\r\n",
            url.target,
            url.authority(),
            env!("CARGO_PKG_VERSION"),
        );
        Self { request, is_connected: false, interim: 0, head: None, chunks: Chunks::new() }
    }

    /// Takes a head; afterwards the terminator is what ends the body.
    fn take_head<W: 'static>(
        &mut self,
        cx: &mut Conversation<'_, Exchange<W>>,
        head: &[u8],
    ) -> Result<(), Failure> {
        let head = Head::parse(head)?;
        match head.status {
            101 => return Err(Failure::Protocol("a switch of protocols that was not asked for")),
            100..=199 if self.interim == INTERIM_LIMIT => {
                return Err(Failure::TooLong("the interim answers"));
            }
            100..=199 => {
                self.interim += 1;
                return Ok(());
            }
            ..100 => return Err(Failure::Protocol("an unknown status")),
            _ => {}
        }
        let is_left_alone = cx.app.follows && head.redirect().is_some();
        let body = head.body;
        self.head = Some(head);
        match body {
            BodyEnd::Count(length) if length > cx.app.room && !is_left_alone => {
                return Err(Failure::TooLong("the body"));
            }
            BodyEnd::Count(length) if !is_left_alone && length > 0 => expect_bytes(cx, length),
            BodyEnd::Count(_) => self.finish(cx),
            _ if is_left_alone => self.finish(cx),
            BodyEnd::Chunked => {
                cx.framing.set_message_limit(LINE_LIMIT);
                cx.set_terminator(Terminator::crlf());
            }
            BodyEnd::Eof => cx.set_terminator(Terminator::none()),
        }
        Ok(())
    }

    /// Takes a part of a chunked body; afterwards the terminator is what ends the next.
    fn take_part<W: 'static>(
        &mut self,
        cx: &mut Conversation<'_, Exchange<W>>,
        part: &[u8],
    ) -> Result<(), Failure> {
        match self.chunks.step(part)? {
            Some(Part::Data(size)) if size > cx.app.room => return Err(Failure::TooLong("the body")),
            Some(Part::Data(size)) => expect_bytes(cx, size),
            Some(Part::End) => expect_bytes(cx, 2),
            Some(Part::Size | Part::Trailer) => cx.set_terminator(Terminator::crlf()),
            None => self.finish(cx),
        }
        Ok(())
    }

    /// All of the answer is here.
    fn finish<W: 'static>(&mut self, cx: &mut Conversation<'_, Exchange<W>>) {
        cx.app.outcome = Some(self.head.take().ok_or(Failure::Truncated));
        cx.close();
    }

    fn is_in_body(&self) -> bool {
        match self.head.as_ref().map(|head| head.body) {
            Some(BodyEnd::Chunked) => matches!(self.chunks.part(), Part::Data(_)),
            Some(BodyEnd::Count(_) | BodyEnd::Eof) => true,
            None => false,
        }
    }
}

impl<W: Write + 'static> Chat<Exchange<W>> for Fetch {
    fn handle_connect(&mut self, cx: &mut Conversation<'_, Exchange<W>>) -> Result {
        self.is_connected = true;
        cx.push(std::mem::take(&mut self.request));
        Ok(())
    }

    fn collect_incoming_data(
        &mut self,
        cx: &mut Conversation<'_, Exchange<W>>,
        data: &[u8],
    ) -> Result<Collected> {
        if !self.is_in_body() {
            return Ok(Collected::Kept);
        }
        let length = data.len() as u64;
        if length > cx.app.room {
            return Err(Failure::TooLong("the body").into());
        }
        cx.app.room -= length;
        let out = &mut cx.app.out;
        out.write_all(data).and_then(|()| out.flush()).map_err(|error| Failure::Output(error.to_string()))?;
        Ok(Collected::Taken)
    }

    fn found_terminator(&mut self, cx: &mut Conversation<'_, Exchange<W>>, message: &[u8]) -> Result {
        match self.head.as_ref().map(|head| head.body) {
            None => self.take_head(cx, message)?,
            Some(BodyEnd::Chunked) => self.take_part(cx, message)?,
            Some(BodyEnd::Count(_) | BodyEnd::Eof) => self.finish(cx),
        }
        Ok(())
    }

    fn handle_eof(&mut self, cx: &mut Conversation<'_, Exchange<W>>, _rest: &[u8]) -> Result {
        match self.head.as_ref().map(|head| head.body) {
            Some(BodyEnd::Eof) => self.finish(cx),
            _ => return Err(Failure::Truncated.into()),
        }
        Ok(())
    }

    fn handle_timer(&mut self, _cx: &mut Conversation<'_, Exchange<W>>, _timer: TimerId) -> Result {
        Err(Failure::TooSlow.into())
    }

    fn handle_error(&mut self, cx: &mut Conversation<'_, Exchange<W>>, error: &Error) {
        let failure = error.downcast_ref::<Failure>().cloned();
        cx.app.outcome = Some(Err(failure.unwrap_or_else(|| Failure::Connect(error.to_string()))));
        cx.close();
    }

    fn handle_close(&mut self, cx: &mut Conversation<'_, Exchange<W>>, reason: CloseReason) {
        // Only what this side did not settle is left: a line over its limit, or a connection that was lost.
        cx.app.outcome.get_or_insert_with(|| match reason {
            CloseReason::TooLong => Err(Failure::TooLong("a head, or a line of the chunked coding")),
            _ if self.is_connected => Err(Failure::Truncated),
            _ => Err(Failure::Connect(reason.to_string())),
        });
    }
}

fn expect_bytes<W: 'static>(cx: &mut Conversation<'_, Exchange<W>>, count: u64) {
    // No count here is zero: an empty body or chunk is complete at once.
    cx.set_terminator(Terminator::count(count).unwrap_or_else(|_| Terminator::none()));
}

/// Most interim answers (1xx) before the real one: 10.
const INTERIM_LIMIT: u32 = 10;

/// Longest line of the chunked coding: 4 KiB; a size needs 16 bytes, the rest is extensions and trailers.
const LINE_LIMIT: usize = 4 << 10;
