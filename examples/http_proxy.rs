//! An HTTP proxy for `CONNECT`: the head is read as a conversation, then both sides are a tunnel.
//!
//! The client's channel changes its handler in place, so what it sent behind the head is the tunnel's, however the packets
//! were cut. Names are resolved off the loop, and their addresses tried until one answers.

use std::net::SocketAddr;
use std::process::ExitCode;
use std::rc::Rc;
use std::time::Duration;

use asynchat::{AsyncChat, Chat, Conversation, OnTooLong};
use asyncore::{Channel, ChannelId, CloseReason, Context, Error, HostError, Map, Result, Timeout};
use clap::Parser;
use examples::http::HEAD_LIMIT;
use examples::program::{Common, announce};
use examples::tunnel::Tunnel;

/// Tunnels the connections of HTTP clients: try `curl -p -x http://127.0.0.1:7003 https://example.org/`.
#[derive(Parser)]
struct Arguments {
    /// Where to listen.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:7003")]
    listen: SocketAddr,
    /// A port that may be connected to; give it again for another.
    #[arg(long = "port", value_name = "PORT", default_values_t = [443])]
    ports: Vec<u16>,
    #[command(flatten)]
    common: Common,
}

/// The client's side, until the tunnel stands.
struct Head {
    ports: Rc<[u16]>,
}

impl Chat for Head {
    fn handle_connect(&mut self, cx: &mut Conversation<'_>) -> Result {
        cx.map.set_timeout(cx.id, Timeout::Total, Some(HEAD_TIME));
        Ok(())
    }

    fn found_terminator(&mut self, cx: &mut Conversation<'_>, head: &[u8]) -> Result {
        let (host, port) = match parse(head, &self.ports) {
            Ok(target) => target,
            Err(answer) => {
                refuse(cx.map, cx.id, answer);
                return Ok(());
            }
        };
        tracing::info!(id = %cx.id, host, port, "asked for");
        cx.pause_reading();
        // From here on it is for the other side to be quick.
        cx.map.set_timeout(cx.id, Timeout::Total, None);
        match cx.map.connect_host(&host, port, Dial { client: cx.id }) {
            Ok(upstream) => {
                cx.map.set_timeout(upstream, Timeout::Connect, Some(CONNECT_TIME));
            }
            Err(error) => {
                tracing::info!(id = %cx.id, %error, "not connected");
                // Either what was asked for is no host, or there is no descriptor or slot to ask with.
                let is_no_host = error.is::<HostError>();
                refuse(cx.map, cx.id, if is_no_host { BAD_REQUEST } else { BAD_GATEWAY });
            }
        }
        Ok(())
    }

    fn handle_too_long(&mut self, cx: &mut Conversation<'_>, _start: &[u8]) -> Result {
        refuse(cx.map, cx.id, TOO_LARGE);
        Ok(())
    }

    fn handle_timeout(&mut self, cx: &mut Conversation<'_>, _which: Timeout) -> Result {
        refuse(cx.map, cx.id, TOO_SLOW);
        Ok(())
    }
}

/// The other side, until it is connected.
struct Dial {
    client: ChannelId,
}

impl Channel for Dial {
    fn handle_connect(&mut self, cx: &mut Context<'_>) -> Result {
        let client = self.client;
        if !cx.map.push(client, "HTTP/1.1 200 Connection established\r\n\r\n").is_queued() {
            // It did not wait.
            cx.map.close(cx.id);
            return Ok(());
        }
        cx.map.replace(client, Tunnel::to(cx.id));
        cx.map.replace(cx.id, Tunnel::to(client));
        cx.map.pipe(client, cx.id);
        cx.map.resume_reading(client);
        Ok(())
    }

    fn handle_error(&mut self, cx: &mut Context<'_>, error: &Error) {
        tracing::info!(id = %cx.id, client = %self.client, %error, "not connected");
        cx.map.close(cx.id);
    }

    fn handle_close(&mut self, cx: &mut Context<'_>, reason: CloseReason) {
        let answer = if reason == CloseReason::TimedOut(Timeout::Connect) { NO_ANSWER } else { BAD_GATEWAY };
        refuse(cx.map, self.client, answer);
    }
}

/// Where a request's head asks to be connected to, or how it is answered.
fn parse(head: &[u8], ports: &[u16]) -> Result<(String, u16), Answer> {
    let mut fields = [httparse::EMPTY_HEADER; MOST_FIELDS];
    let mut request = httparse::Request::new(&mut fields);
    let whole = [head, &END_OF_HEAD[..]].concat();
    if !request.parse(&whole).is_ok_and(|parsed| parsed.is_complete()) {
        return Err(BAD_REQUEST);
    }
    if request.method != Some("CONNECT") {
        return Err(NOT_ALLOWED);
    }
    let (host, port) = request.path.and_then(|target| target.rsplit_once(':')).ok_or(BAD_REQUEST)?;
    let port = port.parse().map_err(|_| BAD_REQUEST)?;
    if ports.contains(&port) { Ok((host.to_owned(), port)) } else { Err(FORBIDDEN) }
}

/// A refusal: its status, and a field of its own.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Answer(&'static str, &'static str);

const BAD_GATEWAY: Answer = Answer("502 Bad Gateway", "");
const BAD_REQUEST: Answer = Answer("400 Bad Request", "");
const FORBIDDEN: Answer = Answer("403 Forbidden", "");
const NOT_ALLOWED: Answer = Answer("405 Method Not Allowed", "Allow: CONNECT\r\n");
const NO_ANSWER: Answer = Answer("504 Gateway Timeout", "");
const TOO_LARGE: Answer = Answer("431 Request Header Fields Too Large", "");
const TOO_SLOW: Answer = Answer("408 Request Timeout", "");

/// Answers with a refusal, and closes behind it.
fn refuse(map: &mut Map, client: ChannelId, Answer(status, field): Answer) {
    tracing::info!(id = %client, status, "refused");
    let body = format!("{status}\n");
    let length = body.len();
    let head = format!(
        "HTTP/1.1 {status}\r\n{field}Content-Type: text/plain\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
    );
    map.push(client, (head, body));
    map.close_when_done(client);
}

/// Puts the proxy into a map: its listeners.
pub(crate) fn serve(map: &mut Map, at: SocketAddr, ports: &[u16]) -> Result<Vec<ChannelId>> {
    let ports = Rc::from(ports);
    map.listen(at, move |_peer| {
        AsyncChat::new(Head { ports: Rc::clone(&ports) })
            .terminator(END_OF_HEAD)
            .message_limit(HEAD_LIMIT)
            .on_too_long(OnTooLong::Skip)
    })
}

fn main() -> ExitCode {
    let Arguments { listen, ports, common } = Arguments::parse();
    common.serve(&mut (), |map| {
        let listeners = serve(map, listen, &ports)?;
        announce(map, &listeners);
        Ok(())
    })
}

const END_OF_HEAD: &[u8; 4] = b"\r\n\r\n";

/// How long a client may take for its head: 10 s, which no client needs.
pub(crate) const HEAD_TIME: Duration = Duration::from_secs(10);

/// How long a name and its addresses may take to answer: 10 s, two lost packets and a slow line.
pub(crate) const CONNECT_TIME: Duration = Duration::from_secs(10);

/// Fields that a head may have: 64. A `CONNECT` has three or four.
const MOST_FIELDS: usize = 64;
