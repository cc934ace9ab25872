//! The status page: what the map does, and every channel in it.

use std::fmt::Write;

use asyncore::{ChannelSnapshot, Context, Snapshot, State};
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

fn figures(cx: &Context<'_, Room>) -> Bytes {
    let Snapshot { counters, queued, channels, .. } = cx.map.snapshot();
    let listed: Vec<_> =
        channels.iter().take(MOST_LISTED).map(|channel| row(channel, cx.app.name(channel.id))).collect();
    format!(
        r#"{{"uptime":{:.1},"turns":{},"events":{},"accepted":{},"messages":{},"pushes":{},"members":{},"queued":{},"open":{},"channels":[{}]}}"#,
        cx.app.opened.elapsed().as_secs_f64(),
        counters.turns,
        counters.events,
        counters.accepted,
        counters.messages,
        counters.pushes,
        cx.app.len(),
        queued,
        channels.len(),
        listed.join(","),
    )
    .into()
}

fn row(channel: &ChannelSnapshot, name: Option<&str>) -> String {
    let address = match channel.state {
        State::Listening => &channel.local_addr,
        _ => &channel.peer_addr,
    };
    // Signals arrive on a socket pair of the program's own, which has none.
    let address = address.as_ref().filter(|address| address.ip().is_some()).map(ToString::to_string);
    format!(
        r#"{{"id":"{}","kind":{},"name":{},"address":{},"state":"{}","messages":{},"in":{},"out":{},"queued":{}}}"#,
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
