//! The status page: what the loops do, and every channel in their maps.

use std::fmt::Write;
use std::time::Duration;

use asyncore::{ChannelSnapshot, Context, Counters, Map, Snapshot, State, Thread};
use bytes::Bytes;
use examples::http::{Request, Response, Status};

use super::Room;

/// Answers a browser: the page, its parts, and the figures that it asks for every second.
pub(crate) fn respond(cx: &mut Context<'_, Room>, request: &Request<'_>) -> Response {
    match request.path {
        "/" => Response::ok("text/html; charset=utf-8", PAGE).with("Content-Security-Policy", POLICY),
        "/status.css" => Response::ok("text/css; charset=utf-8", STYLE),
        "/status.js" => Response::ok("text/javascript; charset=utf-8", SCRIPT),
        "/status.json" => Response::ok("application/json", figures(cx)),
        _ => Response::plain(Status::NotFound),
    }
}

/// What one loop does, and the first of its channels with the names of the members among them.
pub(crate) struct Figures {
    counters: Counters,
    queued: usize,
    open: usize,
    listed: Vec<(ChannelSnapshot, Option<String>)>,
}

impl Figures {
    fn of(map: &Map<Room>, room: &Room) -> Self {
        let Snapshot { counters, queued, channels, .. } = map.snapshot();
        let open = channels.len();
        let named = |channel: ChannelSnapshot| {
            let name = room.name(channel.id).map(str::to_owned);
            (channel, name)
        };
        Self { counters, queued, open, listed: channels.into_iter().take(MOST_LISTED).map(named).collect() }
    }
}

/// Has a loop tell the page's what it does, once a second.
pub(crate) fn report(thread: &mut Thread<Room>) {
    let (index, remotes) = (thread.index(), thread.remotes());
    thread.map.every(REPORT_EVERY, move |map, room| {
        let figures = Figures::of(map, room);
        let posted =
            remotes.get(0).map(|page| page.post(move |_, room| drop(room.others.insert(index, figures))));
        if let Some(Err(error)) = posted {
            tracing::debug!(%error, "the status page was not told");
        }
    });
}

fn figures(cx: &Context<'_, Room>) -> Bytes {
    let own = Figures::of(cx.map, cx.app);
    let loops: Vec<_> =
        std::iter::once((0, &own)).chain(cx.app.others.iter().map(|(at, other)| (*at, other))).collect();
    let sum =
        |count: fn(&Counters) -> u64| loops.iter().map(|(_, figures)| count(&figures.counters)).sum::<u64>();
    let rows = loops.iter().flat_map(|(index, figures)| {
        figures.listed.iter().map(|(channel, name)| row(*index, channel, name.as_deref()))
    });
    format!(
        r#"{{"uptime":{:.1},"loops":{},"turns":{},"events":{},"accepted":{},"messages":{},"pushes":{},"members":{},"queued":{},"open":{},"channels":[{}]}}"#,
        cx.app.opened.elapsed().as_secs_f64(),
        loops.len(),
        sum(|counters| counters.turns),
        sum(|counters| counters.events),
        sum(|counters| counters.accepted),
        sum(|counters| counters.messages),
        sum(|counters| counters.pushes),
        cx.app.len(),
        loops.iter().map(|(_, figures)| figures.queued).sum::<usize>(),
        loops.iter().map(|(_, figures)| figures.open).sum::<usize>(),
        rows.take(MOST_LISTED).collect::<Vec<_>>().join(","),
    )
    .into()
}

fn row(index: usize, channel: &ChannelSnapshot, name: Option<&str>) -> String {
    let address = match channel.state {
        State::Listening => &channel.local_addr,
        _ => &channel.peer_addr,
    };
    // Signals arrive on a socket pair of the program's own, which has none.
    let address = address.as_ref().filter(|address| address.ip().is_some()).map(ToString::to_string);
    format!(
        r#"{{"loop":{index},"id":"{}","kind":{},"name":{},"address":{},"state":"{}","messages":{},"in":{},"out":{},"queued":{}}}"#,
        channel.id,
        // The one without a name is the browser that asks: its callback runs.
        json_string(channel.name.unwrap_or("browser")),
        json_string(name.unwrap_or_default()),
        json_string(&address.unwrap_or_default()),
        channel.state,
        channel.counters.messages,
        channel.counters.bytes_in,
        channel.counters.bytes_out,
        channel.queued,
    )
}

/// A JSON string that is harmless inside a page too.
fn json_string(text: &str) -> String {
    let mut json = String::from('"');
    for letter in text.chars() {
        match letter {
            '"' | '\\' => json.extend(['\\', letter]),
            '<' | '>' | '&' | '\'' | '\u{2028}' | '\u{2029}' => {
                // Writing to a string does not fail.
                let _ = write!(json, "\\u{:04x}", u32::from(letter));
            }
            _ if letter.is_control() => {
                let _ = write!(json, "\\u{:04x}", u32::from(letter));
            }
            _ => json.push(letter),
        }
    }
    json.push('"');
    json
}

const PAGE: &str = include_str!("status.html");
const STYLE: &str = include_str!("status.css");
const SCRIPT: &str = include_str!("status.js");

/// The page uses its own parts only, and nobody frames it.
const POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src data:; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// Most channels that are listed: 500, about 80 KiB, so that a full room does not cost the browser its connection.
const MOST_LISTED: usize = 500;

/// How often the other loops tell the page's what they do: every second, as often as the page asks.
const REPORT_EVERY: Duration = Duration::from_secs(1);
