//! One database: keys, their values, and when they expire.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use asyncore::{Map, TimerId};

use super::reply::Refusal;
use super::server::Server;

/// Keys and their values.
///
/// Each key that expires has a timer of the map, which removes it. Nothing walks over the keys, and a lookup asks no
/// clock: a key whose time comes amid a turn is there until the turn's timers are due. Redis looks at the time again
/// whenever a key is asked for.
#[derive(Debug)]
pub(crate) struct Database {
    index: usize,
    entries: HashMap<Box<[u8]>, Entry>,
}

/// What a key stands for.
#[derive(Debug)]
pub(crate) enum Value {
    Text(Vec<u8>),
    /// From its head on.
    List(VecDeque<Box<[u8]>>),
}

#[derive(Debug)]
struct Entry {
    value: Value,
    /// Boxed, for most keys have none.
    expiry: Option<Box<Expiry>>,
}

#[derive(Debug)]
struct Expiry {
    timer: TimerId,
    /// In milliseconds since 1970.
    at: i64,
}

impl Database {
    /// The empty database of this number.
    pub(crate) fn new(index: usize) -> Self {
        Self { index, entries: HashMap::new() }
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(crate) fn contains(&self, key: &[u8]) -> bool {
        self.entries.contains_key(key)
    }

    /// The text of a key, if it has one.
    pub(crate) fn text(&self, key: &[u8]) -> Result<Option<&[u8]>, Refusal> {
        match self.entries.get(key).map(|entry| &entry.value) {
            Some(Value::Text(text)) => Ok(Some(text)),
            Some(Value::List(_)) => Err(Refusal::WRONG_TYPE),
            None => Ok(None),
        }
    }

    /// The list of a key, if it has one.
    pub(crate) fn list(&self, key: &[u8]) -> Result<Option<&VecDeque<Box<[u8]>>>, Refusal> {
        match self.entries.get(key).map(|entry| &entry.value) {
            Some(Value::List(list)) => Ok(Some(list)),
            Some(Value::Text(_)) => Err(Refusal::WRONG_TYPE),
            None => Ok(None),
        }
    }

    /// The list of a key, if it has one, to change.
    pub(crate) fn list_mut(&mut self, key: &[u8]) -> Result<Option<&mut VecDeque<Box<[u8]>>>, Refusal> {
        match self.entries.get_mut(key).map(|entry| &mut entry.value) {
            Some(Value::List(list)) => Ok(Some(list)),
            Some(Value::Text(_)) => Err(Refusal::WRONG_TYPE),
            None => Ok(None),
        }
    }

    /// Adds a key that is not there.
    pub(crate) fn insert(&mut self, key: &[u8], value: Value) {
        self.entries.insert(key.into(), Entry { value, expiry: None });
    }

    /// Has a key stand for a text, whatever it stood for. It expires no more, unless `keeps_time`.
    pub(crate) fn set(&mut self, map: &mut Map<Server>, key: &[u8], text: &[u8], keeps_time: bool) {
        let Some(entry) = self.entries.get_mut(key) else {
            return self.insert(key, Value::Text(text.to_vec()));
        };
        match &mut entry.value {
            // Where the former text had room for it, the new one takes its place.
            Value::Text(former) if text.len() <= former.capacity() && former.capacity() <= roomy(text) => {
                former.clear();
                former.extend_from_slice(text);
            }
            value => *value = Value::Text(text.to_vec()),
        }
        if !keeps_time && let Some(expiry) = entry.expiry.take() {
            map.cancel_timer(expiry.timer);
        }
    }

    /// Removes a key: whether it was there.
    pub(crate) fn remove(&mut self, map: &mut Map<Server>, key: &[u8]) -> bool {
        let Some(entry) = self.entries.remove(key) else { return false };
        if let Some(expiry) = entry.expiry {
            map.cancel_timer(expiry.timer);
        }
        true
    }

    /// Removes all keys.
    pub(crate) fn clear(&mut self, map: &mut Map<Server>) {
        // Their memory goes too.
        let entries = std::mem::take(&mut self.entries);
        for expiry in entries.into_values().filter_map(|entry| entry.expiry) {
            map.cancel_timer(expiry.timer);
        }
    }

    /// When a key expires, in milliseconds since 1970: `None` without such a key, `Some(None)` when it does not.
    pub(crate) fn expiry(&self, key: &[u8]) -> Option<Option<i64>> {
        Some(self.entries.get(key)?.expiry.as_ref().map(|expiry| expiry.at))
    }

    /// Has a key expire at a time, in milliseconds since 1970, if it is there: at once, if that has come.
    pub(crate) fn expire(&mut self, map: &mut Map<Server>, key: &[u8], now: i64, at: i64) {
        if at <= now {
            self.remove(map, key);
            return;
        }
        let Some(entry) = self.entries.get_mut(key) else { return };
        let after = Duration::from_millis(at.saturating_sub(now).try_into().unwrap_or_default());
        if let Some(expiry) = &mut entry.expiry {
            expiry.at = at;
            map.reset_timer(expiry.timer, after);
            return;
        }
        let (index, key) = (self.index, Box::<[u8]>::from(key));
        let timer = map.after(after, move |map, server: &mut Server| {
            // The timer is spent; there is none to cancel.
            server.databases[index].remove(map, &key);
        });
        entry.expiry = Some(Box::new(Expiry { timer, at }));
    }
}

/// The most room that a text may be kept in: a large one that becomes small gives its memory back.
const fn roomy(text: &[u8]) -> usize {
    2 * text.len() + 64
}
