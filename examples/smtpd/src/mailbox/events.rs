//! What the page is told of: messages that came and went.

use std::time::Duration;

use asyncore::{ChannelId, Map};
use serde::Serialize;

use crate::app::App;

/// Who wants to know of changes, and those that nobody has been told of.
#[derive(Debug, Default)]
pub(super) struct Events {
    streams: Vec<ChannelId>,
    waiting: Waiting,
    is_due: bool,
}

/// What has changed.
#[derive(Debug, Default, Serialize)]
struct Waiting {
    added: Vec<String>,
    deleted: Vec<String>,
    /// How many changes are in neither list, for want of room.
    more: u64,
    /// How many messages there are.
    total: usize,
}

/// From now on a channel is pushed the changes as server-sent events.
pub fn stream(app: &mut App, channel: ChannelId) {
    app.mailbox.events.streams.push(channel);
}

/// A channel is pushed no more changes.
pub fn end_streams(app: &mut App, channel: ChannelId) {
    app.mailbox.events.streams.retain(|stream| *stream != channel);
}

pub(super) fn added(map: &mut Map<App>, app: &mut App, id: String) {
    changed(map, app, id, |waiting| &mut waiting.added);
}

pub(super) fn deleted(map: &mut Map<App>, app: &mut App, id: String) {
    changed(map, app, id, |waiting| &mut waiting.deleted);
}

impl Events {
    pub(super) const fn has_streams(&self) -> bool {
        !self.streams.is_empty()
    }
}

/// Notes a change, which is told a little later, with those that come meanwhile.
fn changed(map: &mut Map<App>, app: &mut App, id: String, list: fn(&mut Waiting) -> &mut Vec<String>) {
    let events = &mut app.mailbox.events;
    if events.streams.is_empty() {
        return;
    }
    let list = list(&mut events.waiting);
    if list.len() < NAMED {
        list.push(id);
    } else {
        events.waiting.more += 1;
    }
    if !std::mem::replace(&mut events.is_due, true) {
        map.after(GATHER, tell);
    }
}

fn tell(map: &mut Map<App>, app: &mut App) {
    let total = app.mailbox.len();
    let events = &mut app.mailbox.events;
    events.is_due = false;
    let waiting = Waiting { total, ..std::mem::take(&mut events.waiting) };
    match serde_json::to_string(&waiting) {
        Ok(data) => {
            map.broadcast(&events.streams, format!("event: messages\ndata: {data}\n\n"));
        }
        Err(error) => tracing::warn!(%error, "an event cannot be written"),
    }
}

/// How long changes are gathered before the page is told: 100 ms, which nobody notices; thousands a second are ten events.
const GATHER: Duration = Duration::from_millis(100);

/// Most ids of an event, of each kind: 100, twice what a page shows; who misses some asks for the list.
const NAMED: usize = 100;
