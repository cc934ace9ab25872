//! The web page: an HTTP/1.1 server on raw channels of the same map.
//!
//! ```text
//! received ──► head ──► Request ──► answer ──┬─ at once ──────────────► Response ──► sent in pieces
//!                                            └─ from the disk: a worker ──┘   │
//!            the next request waits ◄─────────────────────────────────────────┘
//! ```
//!
//! A connection reads no further while it answers, so that pipelined requests are answered in their order, and whoever sends
//! them and does not read costs two heads and a piece of an answer. It answers only who calls the server by a name of its
//! own, and changes something only for its own page or for no page.

mod api;
mod message;
mod page;
mod request;
mod response;
mod sanitize;
#[cfg(test)]
mod tests;

use std::fs::File;
use std::io::Read;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use asyncore::{
    Channel, ChannelId, CloseReason, Context, Limits, ListenOptions, Map, Received, Result, TimerId,
};
use bytes::Bytes;
use examples::http::{HEAD_LIMIT, Hosts, Input, Status};

use crate::app::App;
use crate::mailbox::{self, Message};
use api::Answer;
use request::{Method, Request};
use response::{Body, Response};

/// Serves the page at an address: the listeners. `names` are the hosts that it answers to, besides `localhost` and the
/// addresses that it is reached at.
///
/// # Errors
///
/// If the address is in use, not one of this machine's, or not permitted.
pub fn listen(map: &mut Map<App>, at: SocketAddr, names: Vec<String>) -> Result<Vec<ChannelId>> {
    let names: Rc<[String]> = names.into();
    let mut limits = Limits::default();
    limits.write_time = Some(WRITE_TIME);
    let mut options = ListenOptions::default();
    options.limits = Some(limits);
    options.total = CONNECTIONS;
    map.listen_with(at, options, move |_peer| Browser::new(Rc::clone(&names)))
}

/// The server's side of one connection.
struct Browser {
    /// Names of the server that the options allow.
    names: Rc<[String]>,
    /// The address that the peer connected to.
    local: Option<IpAddr>,
    input: Input,
    state: State,
    /// Whether another request may come after this one.
    keeps_alive: bool,
    /// Runs out when nothing has been asked for too long.
    clock: Option<TimerId>,
}

/// What a connection is about.
enum State {
    /// It waits for a request.
    Asked,
    /// A worker looks for the answer, or reads the next piece of it.
    Working,
    /// A piece of the answer is on its way, and there is more.
    Sending(Rest),
    /// It is pushed events until it ends.
    Streaming,
}

/// What is still to be sent of a body.
enum Rest {
    Bytes(Bytes),
    File(File, u64),
}

/// What a worker has come to.
struct Done {
    response: Response,
    /// Messages that were found to be gone, or that were deleted.
    gone: Vec<Arc<Message>>,
}

/// Looks for an answer, on a worker.
type Work = Box<dyn FnOnce() -> Done + Send>;

impl Browser {
    fn new(names: Rc<[String]>) -> Self {
        Self {
            names,
            local: None,
            input: Input::default(),
            state: State::Asked,
            keeps_alive: true,
            clock: None,
        }
    }

    /// Answers every request that is whole, for as long as the peer takes the answers.
    fn serve(&mut self, cx: &mut Context<'_, App>) {
        while matches!(self.state, State::Asked) && cx.map.is_reading(cx.id) {
            let head = match self.input.head() {
                Ok(Some(head)) => head,
                Ok(None) => break,
                Err(status) => return self.refuse(cx, status),
            };
            match Request::parse(&head, &Hosts { local: self.local, names: &self.names }) {
                Ok(request) => self.answer(cx, &request),
                Err(status) => self.refuse(cx, status),
            }
        }
    }

    fn answer(&mut self, cx: &mut Context<'_, App>, request: &Request<'_>) {
        self.input.pass_over(request.body);
        self.keeps_alive = request.keeps_alive;
        cx.map.count_messages(cx.id, 1);
        tracing::debug!(id = %cx.id, method = ?request.method, path = request.path, "asked");
        let with_body = request.method != Method::Head;
        match api::answer(cx, request) {
            Answer::Now(response) => self.send(cx, response, with_body),
            Answer::Later(work) => self.work(cx, work, with_body),
            Answer::Events => self.stream(cx, with_body),
        }
    }

    /// Has a worker look for the answer.
    fn work(&mut self, cx: &mut Context<'_, App>, work: Work, with_body: bool) {
        let told = move |browser: &mut Self, cx: &mut Context<'_, App>, done: Done| {
            mailbox::removed(cx.map, cx.app, &done.gone);
            browser.send(cx, done.response, with_body);
            Ok(())
        };
        match cx.map.spawn_blocking(cx.id, work, told) {
            Ok(()) => {
                self.state = State::Working;
                cx.map.pause_reading(cx.id);
            }
            Err(error) => {
                tracing::warn!(id = %cx.id, %error, "a request is refused");
                self.send(cx, Response::plain(Status::ServiceUnavailable), with_body);
            }
        }
    }

    /// Sends an answer, its body in pieces.
    fn send(&mut self, cx: &mut Context<'_, App>, response: Response, with_body: bool) {
        cx.map.push(cx.id, response.head(self.keeps_alive));
        let rest = match response.body {
            _ if !with_body => Rest::Bytes(Bytes::new()),
            Body::Bytes(bytes) => Rest::Bytes(bytes),
            Body::File(file, length) => Rest::File(file, length),
            Body::Endless => Rest::Bytes(Bytes::new()),
        };
        self.send_piece(cx, rest);
    }

    /// Sends the next piece; the one after it goes when this one has.
    fn send_piece(&mut self, cx: &mut Context<'_, App>, rest: Rest) {
        match rest {
            Rest::Bytes(mut bytes) => {
                let piece = bytes.split_to(bytes.len().min(PIECE));
                self.sent(cx, piece, Rest::Bytes(bytes));
            }
            Rest::File(file, left) => {
                let read = move || {
                    let mut piece = Vec::new();
                    let read = (&file).take(left.min(PIECE as u64)).read_to_end(&mut piece);
                    read.map(|_| (piece, file))
                };
                let told = move |browser: &mut Self, cx: &mut Context<'_, App>, read: std::io::Result<_>| {
                    let (piece, file): (Vec<u8>, File) = read?;
                    // A short piece would end the answer without a sign: nothing says that it has been sent.
                    if (piece.len() as u64) < left.min(PIECE as u64) {
                        return Err("a file has become shorter while it was sent".into());
                    }
                    let left = left.saturating_sub(piece.len() as u64);
                    browser.sent(cx, piece.into(), Rest::File(file, left));
                    Ok(())
                };
                match cx.map.spawn_blocking(cx.id, read, told) {
                    Ok(()) => {
                        self.state = State::Working;
                        cx.map.pause_reading(cx.id);
                    }
                    Err(error) => {
                        // The head is out: only the end of the connection can tell.
                        tracing::warn!(id = %cx.id, %error, "an answer is cut off");
                        cx.map.close(cx.id);
                    }
                }
            }
        }
    }

    /// Queues a piece; behind the last one, the next request is served.
    fn sent(&mut self, cx: &mut Context<'_, App>, piece: Bytes, rest: Rest) {
        let is_last = match &rest {
            Rest::Bytes(bytes) => bytes.is_empty(),
            Rest::File(_, left) => *left == 0,
        };
        if !is_last {
            self.state = State::Sending(rest);
            cx.map.pause_reading(cx.id);
            cx.map.push(cx.id, piece);
            return;
        }
        cx.map.push(cx.id, piece);
        self.state = State::Asked;
        if self.keeps_alive {
            self.wind_up(cx);
            cx.map.resume_reading(cx.id);
        } else {
            cx.map.close_when_done(cx.id);
        }
    }

    /// Begins a stream of events.
    fn stream(&mut self, cx: &mut Context<'_, App>, with_body: bool) {
        self.keeps_alive = false;
        cx.map.push(cx.id, Response::events().head(false));
        if with_body {
            cx.map.push(cx.id, BEGIN_OF_EVENTS);
            self.state = State::Streaming;
            // What it asks now is not heard any more.
            self.input = Input::default();
            mailbox::stream(cx.app, cx.id);
            self.wind_up(cx);
        } else {
            cx.map.close_when_done(cx.id);
        }
    }

    /// Answers what cannot be understood or is not to be served, and closes: where the next request begins is unknown.
    fn refuse(&mut self, cx: &mut Context<'_, App>, status: Status) {
        tracing::debug!(id = %cx.id, ?status, "refused");
        self.keeps_alive = false;
        self.send(cx, Response::plain(status), true);
    }

    /// Sets the clock to its beginning.
    fn wind_up(&mut self, cx: &mut Context<'_, App>) {
        let time = if matches!(self.state, State::Streaming) { HEARTBEAT } else { IDLE_TIME };
        if !self.clock.is_some_and(|clock| cx.map.reset_timer(clock, time)) {
            self.clock = cx.map.set_timer(cx.id, time);
        }
    }
}

impl Channel<App> for Browser {
    fn name(&self) -> &'static str {
        "browser"
    }

    fn handle_connect(&mut self, cx: &mut Context<'_, App>) -> Result {
        let local = cx.map.get(cx.id).and_then(|connection| connection.local_addr().ok().flatten());
        self.local = local.and_then(|address| address.ip());
        cx.map.pause_when_high(cx.id, true);
        self.wind_up(cx);
        Ok(())
    }

    fn handle_read(&mut self, cx: &mut Context<'_, App>) -> Result {
        // First what a pause held back: else the input could grow for ever.
        self.serve(cx);
        if cx.map.is_reading(cx.id)
            && let Received::Data(data) = cx.map.recv(cx.id, HEAD_LIMIT)?
            && !matches!(self.state, State::Streaming)
        {
            self.input.add(&data);
            self.serve(cx);
        }
        Ok(())
    }

    fn handle_drained(&mut self, cx: &mut Context<'_, App>) -> Result {
        match std::mem::replace(&mut self.state, State::Asked) {
            State::Sending(rest) => self.send_piece(cx, rest),
            state => self.state = state,
        }
        Ok(())
    }

    fn handle_timer(&mut self, cx: &mut Context<'_, App>, _timer: TimerId) -> Result {
        self.clock = None;
        match self.state {
            // What a peer sends does not count: else one byte a minute would keep it for ever.
            State::Asked => cx.map.close_when_done(cx.id),
            State::Working | State::Sending(_) => self.wind_up(cx),
            State::Streaming => {
                cx.map.push(cx.id, HEARTBEAT_EVENT);
                self.wind_up(cx);
            }
        }
        Ok(())
    }

    fn handle_shutdown(&mut self, cx: &mut Context<'_, App>) -> Result {
        self.keeps_alive = false;
        if matches!(self.state, State::Asked | State::Streaming) {
            cx.map.close_when_done(cx.id);
        }
        Ok(())
    }

    fn handle_close(&mut self, cx: &mut Context<'_, App>, _reason: CloseReason) {
        if matches!(self.state, State::Streaming) {
            mailbox::end_streams(cx.app, cx.id);
        }
    }
}

/// Most connections at a time: 256, forty browsers with six each; one more waits.
const CONNECTIONS: usize = 256;

/// How long a connection may take to ask, the first time and again: 30 s. Browsers connect again by themselves.
const IDLE_TIME: Duration = Duration::from_secs(30);

/// How long an answer may stand still because nobody reads it: 30 s.
const WRITE_TIME: Duration = Duration::from_secs(30);

/// How often a stream of events says that it is alive: every 15 s, as the specification of server-sent events advises.
const HEARTBEAT: Duration = Duration::from_secs(15);

/// A comment, which a browser passes over.
const HEARTBEAT_EVENT: &str = ":\n\n";

/// The browser comes back after a second when the stream has ended.
const BEGIN_OF_EVENTS: &str = "retry: 1000\n\n";

/// How much of a body is queued at a time: 256 KiB, four writes. More than the high mark, so that its end is told.
const PIECE: usize = 256 << 10;

const _: () = assert!(PIECE > asyncore::HIGH_MARK && PIECE < asyncore::OUTPUT_LIMIT);
