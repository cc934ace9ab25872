//! [`Mailbox`]: the index of kept messages, which the page lists.
//!
//! It holds names, and reads a file only when somebody wants to see it: who delivers pays for an entry in two maps, and for
//! no look at the disk. Whatever looks at the disk runs off the loop, with a share of the [`Message`].

mod details;
mod events;
pub mod mime;
mod scan;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::SystemTime;

use asyncore::Map;

pub use details::Details;
pub use events::{end_streams, stream};
pub use scan::watch;

use crate::app::App;
use events::Events;
use scan::Place;

/// The messages that were kept last, in the order of their arrival.
#[derive(Debug, Default)]
pub struct Mailbox {
    /// Where the messages are; `None` if the server keeps none.
    place: Option<Arc<Place>>,
    /// By number: those that came while the server ran count up from 1, those that were there before it down from 0.
    messages: BTreeMap<i64, Arc<Message>>,
    /// The number of each id.
    ids: HashMap<String, i64>,
    /// The number of each name.
    names: HashMap<String, i64>,
    /// A look at the folders that is under way.
    scan: Option<scan::UnderWay>,
    /// Whether the folders have been looked at.
    is_scanned: bool,
    events: Events,
}

/// One kept message: a file in one Maildir, or links to it in several.
#[derive(Debug)]
pub struct Message {
    /// What the page and the API call it: letters, digits, `.`, `-` and `_`.
    pub id: String,
    /// What its files are called, up to the flags that a mail reader adds behind a colon.
    name: String,
    /// The Maildirs in which it is.
    folders: Vec<Arc<Path>>,
    /// When it was kept.
    pub received: SystemTime,
    /// Which file was seen last, `cur/NAME:2,S`, if it is not `new/NAME`.
    seen: Mutex<Option<String>>,
    /// What was read of it, once somebody has asked.
    details: OnceLock<Details>,
}

impl Message {
    fn is_in(&self, folder: &Path) -> bool {
        self.folders.iter().any(|known| known.as_os_str() == folder.as_os_str())
    }
}

/// The list takes a message that has just been kept, and the page shows it.
///
/// `name` is what its files in `new` are called; the part between the first two dots becomes its id, if it can be one.
/// `folders` are the Maildirs in which it is: more than one if each recipient has a link.
pub fn kept(map: &mut Map<App>, app: &mut App, name: &str, folders: Vec<Arc<Path>>) {
    let mailbox = &mut app.mailbox;
    if !mailbox.keeps() {
        return; // there is no page
    }
    let found = scan::Found { name: name.to_owned(), folders, received: SystemTime::now(), seen: None };
    // A look may have been faster, when it was not in all folders.
    let Some(found) = mailbox.join(found) else { return };
    let number = mailbox.above();
    if let Some(id) = mailbox.insert(number, found) {
        events::added(map, app, id);
    }
}

/// Takes messages off the list whose files are gone.
pub fn removed(map: &mut Map<App>, app: &mut App, gone: &[Arc<Message>]) {
    for message in gone {
        if app.mailbox.remove(message) {
            events::deleted(map, app, message.id.clone());
        }
    }
}

impl Mailbox {
    /// The index of a Maildir, or of the Maildirs in a folder, one for each recipient; empty until it is
    /// [watched](watch).
    #[must_use]
    pub fn open(root: &Path, per_recipient: bool) -> Self {
        // As who delivers calls the folders.
        let root = std::path::absolute(root).unwrap_or_else(|_| root.to_owned());
        Self { place: Some(Arc::new(Place::new(&root, per_recipient))), ..Self::default() }
    }

    /// Whether the server keeps messages at all.
    #[must_use]
    pub const fn keeps(&self) -> bool {
        self.place.is_some()
    }

    /// How many messages are listed.
    #[must_use]
    pub fn len(&self) -> usize {
        self.messages.len()
    }

    /// Whether no message is listed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    /// A message by its id.
    #[must_use]
    pub fn get(&self, id: &str) -> Option<&Arc<Message>> {
        self.messages.get(self.ids.get(id)?)
    }

    /// The messages, the newest first; only those that are older than `before`, if that is one.
    pub fn newest(&self, before: Option<&str>) -> impl Iterator<Item = &Arc<Message>> {
        let before = before.and_then(|id| self.ids.get(id)).copied().unwrap_or(i64::MAX);
        self.messages.range(..before).rev().map(|(_, message)| message)
    }

    /// The number of one that goes above all.
    fn above(&self) -> i64 {
        self.messages.last_key_value().map_or(1, |(last, _)| (last + 1).max(1))
    }

    /// Gives a message that is not listed back; one that is listed is in these folders too from now on.
    fn join(&mut self, found: scan::Found) -> Option<scan::Found> {
        let Some(message) = self.names.get(&found.name).and_then(|number| self.messages.get_mut(number))
        else {
            return Some(found);
        };
        let mut folders = message.folders.clone();
        folders.extend(found.folders.into_iter().filter(|folder| !message.is_in(folder)));
        if folders.len() > message.folders.len() {
            *message = Arc::new(Message {
                id: message.id.clone(),
                name: found.name,
                folders,
                received: message.received,
                seen: Mutex::new(found.seen),
                details: message.details.clone(),
            });
        }
        None
    }

    /// Lists a message that is not listed: its id. The oldest makes room.
    fn insert(&mut self, number: i64, found: scan::Found) -> Option<String> {
        if self.names.contains_key(&found.name) {
            return None;
        }
        let id = self.id_for(&found.name);
        self.ids.insert(id.clone(), number);
        self.names.insert(found.name.clone(), number);
        let message = Message {
            id: id.clone(),
            name: found.name,
            folders: found.folders,
            received: found.received,
            seen: Mutex::new(found.seen),
            details: OnceLock::new(),
        };
        self.messages.insert(number, Arc::new(message));
        if self.messages.len() > LISTED
            && let Some((_, oldest)) = self.messages.first_key_value()
        {
            let oldest = Arc::clone(oldest);
            self.remove(&oldest);
        }
        Some(id)
    }

    /// An id that no other message has.
    fn id_for(&self, name: &str) -> String {
        let delivery = name.split('.').nth(1).filter(|part| part.len() >= SHORTEST_ID);
        let may_be = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '.' | '-' | '_');
        let letters = delivery.unwrap_or(name).chars();
        let mut id: String = letters.map(|letter| if may_be(letter) { letter } else { '_' }).collect();
        if id.is_empty() || id.starts_with('.') {
            // A browser would take `..` for the way up.
            id.insert(0, '_');
        }
        let more = (2..).map(|count: u32| format!("{id}_{count}"));
        std::iter::once(id.clone()).chain(more).find(|id| !self.ids.contains_key(id)).unwrap_or_default()
    }

    /// Forgets a message: whether it was listed.
    fn remove(&mut self, message: &Message) -> bool {
        let Some(number) = self.names.remove(&message.name) else { return false };
        self.ids.remove(&message.id);
        self.messages.remove(&number);
        if let Some(scan) = &mut self.scan {
            scan.removed(&message.name);
        }
        true
    }
}

/// Most messages that are listed: 10,000, of about 300 bytes each until somebody looks at them; more are in the folder, and
/// no page is read so far.
pub const LISTED: usize = 10_000;

/// A delivery's part of a file name is its id from eight letters on: shorter ones are what old programs wrote, a process id.
const SHORTEST_ID: usize = 8;
