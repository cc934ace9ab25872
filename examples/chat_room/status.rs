//! The status page: what the map does, and every channel in it.

use std::fmt::Write;

use asyncore::{ChannelId, Context, Dispatcher, Family, State};
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
    let counters = cx.map.counters();
    let listed: Vec<_> =
        cx.map.iter().take(MOST_LISTED).map(|(id, dispatcher)| channel(cx, id, dispatcher)).collect();
    format!(
        r#"{{"uptime":{:.1},"turns":{},"events":{},"accepted":{},"members":{},"queued":{},"open":{},"channels":[{}]}}"#,
        cx.app.opened.elapsed().as_secs_f64(),
        counters.turns,
        counters.events,
        counters.accepted,
        cx.app.len(),
        cx.map.queued(),
        cx.map.len(),
        listed.join(","),
    )
    .into()
}

fn channel(cx: &Context<'_, Room>, id: ChannelId, dispatcher: &Dispatcher) -> String {
    let peer = dispatcher.peer_addr().map(|address| address.to_string());
    let local = || dispatcher.local_addr().ok().flatten().map(|address| address.to_string());
    let name = cx.app.name(id);
    let (kind, address) = match dispatcher.state() {
        State::Listening => ("listener", local()),
        _ if name.is_some() => ("chat", peer),
        // Signals arrive on a socket pair of the program's own.
        _ if dispatcher.family() == Family::Unix => ("signals", None),
        _ if cx.map.handler::<asynchat::AsyncChat<super::room::Member>>(id).is_some() => ("chat", peer),
        _ => ("browser", peer),
    };
    format!(
        r#"{{"id":"{id}","kind":"{kind}","name":{},"address":{},"state":"{}","in":{},"out":{},"queued":{}}}"#,
        json_string(name.unwrap_or_default()),
        json_string(&address.unwrap_or_default()),
        dispatcher.state(),
        dispatcher.bytes_in(),
        dispatcher.bytes_out(),
        dispatcher.queued(),
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
