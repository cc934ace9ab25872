//! What is asked for, and the answer: the page, the messages, the channels, the counters.

use std::fs::File;
use std::io;
use std::sync::Arc;

use asyncore::{Context, State};
use examples::http::Status;
use serde::Serialize;

use super::page::{self, Asset};
use super::request::{Method, Request};
use super::response::{Body, Response, TEXT};
use super::{Done, Work, message};
use crate::app::App;
use crate::mailbox::{Details, Message};

/// How a request is answered.
pub(super) enum Answer {
    Now(Response),
    Later(Work),
    Events,
}

/// What there is to ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Target<'a> {
    Asset(Asset),
    Messages,
    Message(&'a str, View),
    Events,
    Channels,
    Status,
    Metrics,
    Health,
}

/// What of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum View {
    Whole,
    Raw,
    Html,
    Part(usize),
}

/// Answers a request, or says how.
pub(super) fn answer(cx: &Context<'_, App>, request: &Request<'_>) -> Answer {
    let Some(target) = Target::of(request.path) else {
        return Answer::Now(Response::plain(Status::NotFound));
    };
    match (request.method, target) {
        (Method::Get | Method::Head, target) => get(cx, request, target),
        (Method::Delete, Target::Messages) => delete(cx.app.mailbox.newest(None).cloned().collect()),
        (Method::Delete, Target::Message(id, View::Whole)) => match cx.app.mailbox.get(id) {
            Some(message) => delete(vec![Arc::clone(message)]),
            None => Answer::Now(Response::plain(Status::NotFound)),
        },
        (Method::Delete | Method::Other, target) => {
            Answer::Now(Response::plain(Status::MethodNotAllowed).with("Allow", target.methods()))
        }
    }
}

fn get(cx: &Context<'_, App>, request: &Request<'_>, target: Target<'_>) -> Answer {
    Answer::Now(match target {
        Target::Asset(asset) => asset.response(),
        Target::Messages => return list(cx.app, request),
        Target::Message(id, view) => match cx.app.mailbox.get(id) {
            Some(message) => {
                let message = Arc::clone(message);
                return Answer::Later(Box::new(move || show(&message, view)));
            }
            None => Response::plain(Status::NotFound),
        },
        Target::Events => return Answer::Events,
        Target::Channels => channels(cx),
        Target::Status => status(cx.app),
        Target::Metrics => {
            Response::ok("text/plain; version=0.0.4; charset=utf-8", cx.app.metrics.to_text(cx.map))
        }
        Target::Health => Response::ok(TEXT, "ok\n"),
    })
}

impl<'a> Target<'a> {
    fn of(path: &'a str) -> Option<Self> {
        let path: Vec<&str> = path.strip_prefix('/')?.split('/').collect();
        Some(match path[..] {
            [""] => Self::Asset(Asset::Page),
            ["page.css"] => Self::Asset(Asset::Style),
            ["page.js"] => Self::Asset(Asset::Script),
            ["api", "messages"] => Self::Messages,
            ["api", "messages", id] => Self::Message(id, View::Whole),
            ["api", "messages", id, "raw"] => Self::Message(id, View::Raw),
            ["api", "messages", id, "html"] => Self::Message(id, View::Html),
            ["api", "messages", id, "parts", part] => Self::Message(id, View::Part(part.parse().ok()?)),
            ["api", "events"] => Self::Events,
            ["api", "channels"] => Self::Channels,
            ["api", "status"] => Self::Status,
            ["metrics"] => Self::Metrics,
            ["healthz"] => Self::Health,
            _ => return None,
        })
    }

    const fn methods(self) -> &'static str {
        match self {
            Self::Messages | Self::Message(_, View::Whole) => "GET, HEAD, DELETE",
            _ => "GET, HEAD",
        }
    }
}

/// A list of messages.
#[derive(Serialize)]
struct List<'a> {
    /// How many are listed in all.
    total: usize,
    messages: Vec<Row<'a>>,
    /// What `before` is to be for those that come next; `None` if these are all.
    next: Option<&'a str>,
}

/// A message as the list and the view of it begin.
#[derive(Serialize)]
struct Row<'a> {
    id: &'a str,
    /// When it was kept, as of RFC 3339.
    received: String,
    #[serde(flatten)]
    details: &'a Details,
}

/// A message and what is in it.
#[derive(Serialize)]
struct Whole<'a> {
    #[serde(flatten)]
    row: Row<'a>,
    #[serde(flatten)]
    view: message::View,
}

impl<'a> Row<'a> {
    fn of(message: &'a Message, details: &'a Details) -> Self {
        let received = jiff::Timestamp::try_from(message.received).unwrap_or_default();
        Self { id: &message.id, received: format!("{received:.3}"), details }
    }
}

/// Lists messages: `limit` of them, older than `before`, in which the words of `search` are.
fn list(app: &App, request: &Request<'_>) -> Answer {
    let limit = request.field("limit").map_or(Ok(USUAL_ROWS), |limit| limit.parse());
    let Ok(limit) = limit.map(|limit: usize| limit.clamp(1, MOST_ROWS)) else {
        return Answer::Now(Response::plain(Status::BadRequest));
    };
    let before = request.field("before");
    if before.as_ref().is_some_and(|before| app.mailbox.get(before).is_none()) {
        return Answer::Now(Response::plain(Status::NotFound));
    }
    let words = request.field("search").unwrap_or_default().to_lowercase();
    // All, though the first may do: whether their files are still there is for the worker to see.
    let messages: Vec<_> = app.mailbox.newest(before.as_deref()).cloned().collect();
    let total = app.mailbox.len();
    Answer::Later(Box::new(move || {
        let mut gone = Vec::new();
        let mut rows = Vec::new();
        let mut is_all = true;
        for message in &messages {
            let found = message.has(&words).and_then(|has| Ok(has.then_some(message.details()?)));
            match found {
                Ok(None) => {}
                Ok(Some(_)) if rows.len() == limit => {
                    is_all = false;
                    break;
                }
                Ok(Some(_)) if message.is_gone() => gone.push(Arc::clone(message)),
                Ok(Some(details)) => rows.push(Row::of(message, details)),
                Err(error) if error.kind() == io::ErrorKind::NotFound => gone.push(Arc::clone(message)),
                Err(error) => tracing::warn!(id = message.id, %error, "a message cannot be read"),
            }
        }
        let next = rows.last().map(|row| row.id).filter(|_| !is_all);
        let total = total - gone.len().min(total);
        let response = json(&List { total, messages: rows, next }).spooled().unwrap_or_else(|error| {
            tracing::warn!(%error, "a list cannot be kept on the disk until it is sent");
            Response::plain(Status::InternalServerError)
        });
        Done { response, gone }
    }))
}

/// Shows a message, on a worker.
fn show(message: &Arc<Message>, view: View) -> Done {
    let response = message.open().and_then(|file| match view {
        View::Whole => {
            let row = Row::of(message, message.details()?);
            Ok(json(&Whole { row, view: message::view(file)? }))
        }
        View::Raw => raw(file, &message.id),
        View::Html => Ok(message::html(file)?.map_or_else(not_found, |html| page::frame(&html))),
        View::Part(index) => Ok(message::part(file, index)?.map_or_else(not_found, |part| {
            let response = Response::ok("application/octet-stream", part.bytes);
            response.with("Content-Disposition", page::saved_as(&part.name))
        })),
    });
    match response.and_then(Response::spooled) {
        Ok(response) => Done { response, gone: Vec::new() },
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Done { response: not_found(), gone: vec![Arc::clone(message)] }
        }
        Err(error) => {
            tracing::warn!(id = message.id, %error, "a message cannot be read");
            Done { response: Response::plain(Status::InternalServerError), gone: Vec::new() }
        }
    }
}

fn raw(file: File, id: &str) -> io::Result<Response> {
    let length = file.metadata()?.len();
    let response = Response::whole("message/rfc822", Body::File(file, length));
    Ok(response.with("Content-Disposition", page::saved_as(&format!("{id}.eml"))))
}

/// Deletes messages, on a worker.
fn delete(messages: Vec<Arc<Message>>) -> Answer {
    Answer::Later(Box::new(move || {
        let mut status = Status::NoContent;
        let deleted = |message: &Arc<Message>| match message.delete() {
            Ok(()) => true,
            Err(error) => {
                tracing::warn!(id = message.id, %error, "a message cannot be deleted");
                status = Status::InternalServerError;
                false
            }
        };
        let gone: Vec<_> = messages.into_iter().filter(deleted).collect();
        let response = if status == Status::NoContent { Response::empty() } else { Response::plain(status) };
        Done { response, gone }
    }))
}

/// What the server is, and what it has done.
#[derive(Serialize)]
struct Standing<'a> {
    hostname: &'a str,
    /// Where messages go.
    delivery: &'a str,
    /// Whether any are kept, and listed.
    keeps: bool,
    total: usize,
    sessions: u64,
    accepted: u64,
}

fn status(app: &App) -> Response {
    json(&Standing {
        hostname: &app.settings.hostname,
        delivery: app.delivery.name(),
        keeps: app.mailbox.keeps(),
        total: app.mailbox.len(),
        sessions: app.metrics.sessions(),
        accepted: app.metrics.accepted(),
    })
}

/// What the map does, and its channels.
#[derive(Serialize)]
struct Channels {
    turns: u64,
    events: u64,
    accepted: u64,
    queued: usize,
    /// How many channels there are; not all may be listed.
    open: usize,
    channels: Vec<Listed>,
}

/// A channel.
#[derive(Serialize)]
struct Listed {
    id: String,
    kind: &'static str,
    address: Option<String>,
    state: String,
    messages: u64,
    bytes_in: u64,
    bytes_out: u64,
    queued: usize,
}

fn channels(cx: &Context<'_, App>) -> Response {
    let snapshot = cx.map.snapshot();
    let rows = snapshot.channels.iter().take(MOST_CHANNELS).map(|channel| {
        let address =
            if channel.state == State::Listening { &channel.local_addr } else { &channel.peer_addr };
        Listed {
            id: channel.id.to_string(),
            // The one without a name is the browser that asks: its callback runs.
            kind: short_name(channel.name.unwrap_or("browser")),
            // Signals come over a pair of sockets without names.
            address: address.as_ref().map(ToString::to_string).filter(|address| address != "unix:"),
            state: channel.state.to_string(),
            messages: channel.counters.messages,
            bytes_in: channel.counters.bytes_in,
            bytes_out: channel.counters.bytes_out,
            queued: channel.queued,
        }
    });
    json(&Channels {
        turns: snapshot.counters.turns,
        events: snapshot.counters.events,
        accepted: snapshot.counters.accepted,
        queued: snapshot.queued,
        open: snapshot.channels.len(),
        channels: rows.collect(),
    })
}

/// The name of a type without its path and parameters.
fn short_name(name: &'static str) -> &'static str {
    let name = name.split('<').next().unwrap_or(name);
    name.rsplit("::").next().unwrap_or(name)
}

fn json(value: &impl Serialize) -> Response {
    match serde_json::to_vec(value) {
        Ok(text) => Response::ok("application/json", text),
        Err(error) => {
            tracing::warn!(%error, "an answer cannot be written");
            Response::plain(Status::InternalServerError)
        }
    }
}

fn not_found() -> Response {
    Response::plain(Status::NotFound)
}

/// How many messages a list has unless it is asked for more or fewer: 50, two screens.
const USUAL_ROWS: usize = 50;

/// Most messages of a list: 500, about 300 KiB, and ten times that of messages made to be long.
const MOST_ROWS: usize = 500;

/// Most channels that are listed: 500, about 80 KiB; nobody reads on.
const MOST_CHANNELS: usize = 500;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_leads_to_one_thing_or_to_none() {
        for (path, target) in [
            ("/", Some(Target::Asset(Asset::Page))),
            ("/page.js", Some(Target::Asset(Asset::Script))),
            ("/api/messages", Some(Target::Messages)),
            ("/api/messages/a", Some(Target::Message("a", View::Whole))),
            ("/api/messages/a/raw", Some(Target::Message("a", View::Raw))),
            ("/api/messages/a/parts/2", Some(Target::Message("a", View::Part(2)))),
            ("/api/messages/a/parts/x", None),
            ("/api/messages/a/parts/-1", None),
            ("/api/messages/a/b", None),
            ("/api/messages/a/raw/", None),
            ("/../etc/passwd", None),
            ("//", None),
            ("*", None),
            ("", None),
        ] {
            assert_eq!(Target::of(path), target, "{path}");
        }
    }
}
