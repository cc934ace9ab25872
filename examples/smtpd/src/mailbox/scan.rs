//! A look at the folders: what was there before the server, what others have put there, what is gone.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use asyncore::Map;

use super::{LISTED, Message, events};
use crate::app::App;

/// Reads the folders in the background, now, and again while a page is open: other programs may change them.
pub fn watch(map: &mut Map<App>, app: &mut App) {
    if !app.mailbox.keeps() {
        return;
    }
    scan(map, app);
    map.every(LOOK_EVERY, |map, app| {
        if app.mailbox.events.has_streams() {
            scan(map, app);
        }
    });
}

/// Where messages are.
#[derive(Debug)]
pub(super) struct Place {
    root: Arc<Path>,
    per_recipient: bool,
    /// When the folders had last changed, as of the last look; `None` if they may have changed since without a sign of it.
    changed: Mutex<Option<Vec<Option<SystemTime>>>>,
}

/// A message in the folders that is not listed, or is not known to be in all of them.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) name: String,
    pub(super) folders: Vec<Arc<Path>>,
    pub(super) received: SystemTime,
    pub(super) seen: Option<String>,
}

/// A look that has begun.
#[derive(Debug, Default)]
pub(super) struct UnderWay {
    /// What was removed meanwhile: the look may still have seen it.
    removed: HashSet<String>,
}

impl UnderWay {
    pub(super) fn removed(&mut self, name: &str) {
        self.removed.insert(name.to_owned());
    }
}

/// What a look has come to.
#[derive(Default)]
struct Seen {
    /// The newest of those that are not listed, or not with all folders, the oldest first.
    found: Vec<Found>,
    /// Those that were listed, and are gone.
    gone: Vec<Arc<Message>>,
}

/// Looks at the folders off the loop, unless that is under way.
fn scan(map: &Map<App>, app: &mut App) {
    let Some(place) = app.mailbox.place.clone().filter(|_| app.mailbox.scan.is_none()) else { return };
    let known: Vec<_> = app.mailbox.messages.values().cloned().collect();
    let remote = map.remote();
    let look = move || {
        let seen = place.look(known);
        // Without the loop nobody wants to know.
        let _ = remote.post(move |map, app| settle(map, app, seen));
    };
    match thread::Builder::new().name("smtpd-mailbox".to_owned()).spawn(look) {
        Ok(_) => app.mailbox.scan = Some(UnderWay::default()),
        Err(error) => tracing::warn!(%error, "the mailbox cannot be looked at"),
    }
}

/// Lists what was found, and drops what is gone.
fn settle(map: &mut Map<App>, app: &mut App, seen: io::Result<Seen>) {
    let UnderWay { removed } = app.mailbox.scan.take().unwrap_or_default();
    app.mailbox.is_scanned = true;
    let Seen { found, gone } = match seen {
        Ok(seen) => seen,
        Err(error) => return tracing::warn!(%error, "the mailbox cannot be read"),
    };
    super::removed(map, app, &gone);
    let found = found.into_iter().filter(|found| !removed.contains(&found.name));
    // What is no newer than the oldest was there before the server, or had no room when it came: it goes below, if there is
    // room now. Else it would push out what is newer, and that come back with the next look.
    let oldest = app.mailbox.messages.first_key_value().map(|(number, oldest)| (*number, oldest.received));
    let is_above = |found: &Found| oldest.is_some_and(|(_, received)| found.received > received);
    let (above, below): (Vec<_>, Vec<_>) =
        found.filter_map(|found| app.mailbox.join(found)).partition(is_above);
    let mut added = Vec::new();
    for found in above {
        let number = app.mailbox.above();
        added.extend(app.mailbox.insert(number, found));
    }
    let (room, first) =
        (LISTED.saturating_sub(app.mailbox.len()), oldest.map_or(0, |(number, _)| number - 1));
    for (number, found) in (0..).zip(below.into_iter().rev().take(room)) {
        added.extend(app.mailbox.insert(first - number, found));
    }
    for id in added {
        events::added(map, app, id);
    }
}

impl Place {
    pub(super) fn new(root: &Path, per_recipient: bool) -> Self {
        Self { root: root.into(), per_recipient, changed: Mutex::default() }
    }

    /// Reads all names, if there may be other ones than at the last look, and compares them with those that are known.
    fn look(&self, known: Vec<Arc<Message>>) -> io::Result<Seen> {
        let folders = self.folders()?;
        let changed = folders.iter().flat_map(|folder| PARTS.map(|part| changed(&folder.join(part))));
        let changed: Vec<_> = changed.collect();
        let mut last = self.changed.lock().unwrap_or_else(PoisonError::into_inner);
        if last.as_ref() == Some(&changed) {
            return Ok(Seen::default());
        }
        let settled = SystemTime::now().checked_sub(SETTLED);
        *last = None;
        let seen = Self::read(folders, known)?;
        *last = Some(changed).filter(|changed| changed.iter().flatten().all(|time| Some(*time) < settled));
        Ok(seen)
    }

    fn read(folders: Vec<Arc<Path>>, known: Vec<Arc<Message>>) -> io::Result<Seen> {
        let known: HashMap<String, Arc<Message>> =
            known.into_iter().map(|message| (message.name.clone(), message)).collect();
        let mut missing: HashSet<&str> = known.keys().map(String::as_str).collect();
        // The newest so far, by time and name, which is the order in which they are listed.
        let mut newest: BTreeMap<(SystemTime, String), Found> = BTreeMap::new();
        for folder in folders {
            for part in PARTS {
                for entry in entries(&folder.join(part))? {
                    let entry = entry?;
                    // What is no text is not of this server's making, nor of any other's.
                    let Ok(file) = entry.file_name().into_string() else { continue };
                    if file.starts_with('.') {
                        continue;
                    }
                    let name = file.split(FLAGS).next().unwrap_or(&file);
                    let seen = (part != NEW || name != file).then(|| format!("{part}/{file}"));
                    if let Some(message) = known.get(name) {
                        missing.remove(name);
                        message.seen.lock().unwrap_or_else(PoisonError::into_inner).clone_from(&seen);
                        if message.is_in(&folder) {
                            continue;
                        }
                    }
                    let Some(received) = time_of(name, &entry) else { continue };
                    let folder = Arc::clone(&folder);
                    let found = newest.entry((received, name.to_owned()));
                    let found = found.or_insert_with(|| Found {
                        name: name.to_owned(),
                        folders: Vec::new(),
                        received,
                        seen,
                    });
                    found.folders.push(folder);
                    if newest.len() > LISTED {
                        newest.pop_first();
                    }
                }
            }
        }
        let gone = missing.into_iter().filter_map(|name| known.get(name)).cloned();
        // One that came after its folder was read, or moved meanwhile, is still there.
        let gone = gone.filter(|message| message.is_gone()).collect();
        Ok(Seen { found: newest.into_values().collect(), gone })
    }

    /// The Maildirs.
    fn folders(&self) -> io::Result<Vec<Arc<Path>>> {
        let mut folders = vec![Arc::clone(&self.root)];
        if self.per_recipient {
            for entry in entries(&self.root)? {
                let path: PathBuf = entry?.path();
                if path.join(NEW).is_dir() {
                    folders.push(path.into());
                }
            }
        }
        Ok(folders)
    }
}

/// The entries of a folder; none if there is no such folder.
fn entries(path: &Path) -> io::Result<impl Iterator<Item = io::Result<fs::DirEntry>>> {
    match fs::read_dir(path) {
        Ok(entries) => Ok(Some(entries).into_iter().flatten()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None.into_iter().flatten()),
        Err(error) => Err(error),
    }
}

/// When names were last added to a folder or removed; `None` if there is no such folder.
fn changed(path: &Path) -> Option<SystemTime> {
    fs::metadata(path).ok()?.modified().ok()
}

/// When a file came: its name begins with that, or the system knows. `None` if it is gone already, or no file.
fn time_of(name: &str, entry: &fs::DirEntry) -> Option<SystemTime> {
    let seconds = name.split_once('.').and_then(|(seconds, _)| seconds.parse().ok());
    match seconds.and_then(|seconds| UNIX_EPOCH.checked_add(Duration::from_secs(seconds))) {
        Some(time) => Some(time),
        None => entry.metadata().ok().filter(fs::Metadata::is_file)?.modified().ok(),
    }
}

/// The part of a Maildir that has what nobody has read.
pub(super) const NEW: &str = "new";

/// The part of a Maildir that has what was read.
pub(super) const CUR: &str = "cur";

const PARTS: [&str; 2] = [NEW, CUR];

/// Stands before the flags of a message.
pub(super) const FLAGS: char = ':';

/// For how long a folder must not have changed before its time stands for what is in it: 1 s, longer than the tick by which
/// any file system dates.
const SETTLED: Duration = Duration::from_secs(1);

/// How often the folders are looked at while a page is open: every 2 s, as long as one waits for what another program does.
const LOOK_EVERY: Duration = Duration::from_secs(2);
