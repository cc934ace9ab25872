//! A small HTTP/1.1 server channel, raw: requests of `GET` and `HEAD`, answered by one function.
//!
//! It keeps connections alive, takes pipelined requests one by one, and stops reading while a peer does not take its
//! answers. It answers only what asks for this machine by a name that is its own, so that a web page from elsewhere
//! cannot reach it through the browser of someone who sits here.
//!
//! [`Input`], [`Request`] and [`Status`] do without the channel: the page of `smtpd` has them too.

mod input;
mod request;
mod response;
mod status;

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use asyncore::{Channel, ChannelId, Context, Dispatcher, Map, Received, Result, TimerId};

pub use input::{HEAD_LIMIT, Input};
pub use request::{BODY_LIMIT, Hosts, Request};
pub use response::Response;
pub use status::Status;

/// Answers a request.
pub type Respond<A> = fn(&mut Context<'_, A>, &Request<'_>) -> Response;

/// How long a connection may stay idle: 30 s. Browsers connect again by themselves.
pub const IDLE_TIME: Duration = Duration::from_secs(30);

/// Listens for browsers, and answers what they ask with `respond`: the listeners.
///
/// # Errors
///
/// If the address is in use, not one of this machine's, or not permitted.
pub fn listen<A: 'static>(map: &mut Map<A>, at: SocketAddr, respond: Respond<A>) -> Result<Vec<ChannelId>> {
    map.listen(at, move |_peer| HttpServer::new(respond))
}

/// The server's side of one connection.
#[derive(Debug)]
pub struct HttpServer<A: 'static> {
    respond: Respond<A>,
    /// The address that the peer connected to.
    local: Option<IpAddr>,
    input: Input,
    idle_time: Duration,
    /// What had been sent when the idle timer last went off.
    sent: u64,
}

impl<A: 'static> HttpServer<A> {
    /// A connection whose requests `respond` answers.
    #[must_use]
    pub fn new(respond: Respond<A>) -> Self {
        Self { respond, local: None, input: Input::default(), idle_time: IDLE_TIME, sent: 0 }
    }

    /// Closes a connection that was sent nothing for so long, or up to twice that; [`IDLE_TIME`] by default.
    #[must_use]
    pub const fn idle_time(mut self, time: Duration) -> Self {
        self.idle_time = time;
        self
    }

    /// Answers every request that is complete, for as long as the peer takes the answers.
    fn serve(&mut self, cx: &mut Context<'_, A>) {
        while cx.map.is_reading(cx.id) {
            let head = match self.input.head() {
                Ok(Some(head)) => head,
                Ok(None) => break,
                Err(status) => return Self::refuse(cx, status),
            };
            match Request::parse(&head, &Hosts { local: self.local, names: &[] }) {
                Ok(request) if request.is_foreign && !is_safe(request.method) => {
                    Self::refuse(cx, Status::Forbidden);
                }
                Ok(request) => self.answer(cx, &request),
                Err(status) => Self::refuse(cx, status),
            }
        }
    }

    fn answer(&mut self, cx: &mut Context<'_, A>, request: &Request<'_>) {
        let response = match request.method {
            "GET" | "HEAD" => (self.respond)(cx, request),
            _ => Response::plain(Status::MethodNotAllowed).with("Allow", "GET, HEAD"),
        };
        self.input.pass_over(request.body);
        cx.map.count_messages(cx.id, 1);
        send(cx, &response, request.method != "HEAD", request.keeps_alive);
        tracing::info!(id = %cx.id, method = request.method, path = request.path, status = ?response.status, "answered");
    }

    /// Answers what cannot be understood or is not to be served, and closes: where the next request begins is unknown.
    fn refuse(cx: &mut Context<'_, A>, status: Status) {
        tracing::info!(id = %cx.id, ?status, "refused");
        send(cx, &Response::plain(status), true, false);
    }
}

impl<A: 'static> Channel<A> for HttpServer<A> {
    fn name(&self) -> &'static str {
        "browser"
    }

    fn handle_connect(&mut self, cx: &mut Context<'_, A>) -> Result {
        let local = cx.map.get(cx.id).and_then(|connection| connection.local_addr().ok().flatten());
        self.local = local.and_then(|address| address.ip());
        cx.map.pause_when_high(cx.id, true);
        cx.map.set_timer(cx.id, self.idle_time);
        Ok(())
    }

    fn handle_read(&mut self, cx: &mut Context<'_, A>) -> Result {
        // First what a pause held back: else the input could grow for ever.
        self.serve(cx);
        if cx.map.is_reading(cx.id)
            && let Received::Data(data) = cx.map.recv(cx.id, HEAD_LIMIT)?
        {
            self.input.add(&data);
            self.serve(cx);
        }
        Ok(())
    }

    fn handle_timer(&mut self, cx: &mut Context<'_, A>, _timer: TimerId) -> Result {
        // What a peer sends does not count: else one byte a minute would keep it for ever.
        let sent = cx.map.get(cx.id).map_or(0, Dispatcher::bytes_out);
        if sent == std::mem::replace(&mut self.sent, sent) {
            cx.map.close_when_done(cx.id);
        } else {
            cx.map.set_timer(cx.id, self.idle_time);
        }
        Ok(())
    }
}

/// Queues an answer, and closes behind it if it is the last.
fn send<A: 'static>(cx: &mut Context<'_, A>, response: &Response, with_body: bool, keeps_alive: bool) {
    cx.map.push(cx.id, response.head(keeps_alive));
    if with_body {
        cx.map.push(cx.id, response.body.clone());
    }
    if !keeps_alive {
        cx.map.close_when_done(cx.id);
    }
}

/// Whether nothing is changed by a method (RFC 9110 section 9.2.1).
fn is_safe(method: &str) -> bool {
    matches!(method, "GET" | "HEAD" | "OPTIONS" | "TRACE")
}
