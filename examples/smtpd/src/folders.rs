//! [`Folders`]: the Maildirs of a spool, made when they are first needed, and so that they stay.

use std::collections::HashSet;
use std::fs::{self, DirBuilder, File};
use std::io::{self, ErrorKind};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::thread;

use crate::queue::lock;
use crate::recipient::FOLDERS;

/// The spool: a Maildir of its own, and perhaps one for each recipient in it.
#[derive(Debug)]
pub(crate) struct Folders {
    base: PathBuf,
    /// Maildirs known to be on the disk themselves.
    known: HashSet<String>,
}

/// A folder `new`, opened before anything is put into it.
#[derive(Debug)]
pub(crate) struct New {
    /// The folder that it is in.
    pub(crate) maildir: Arc<Path>,
    pub(crate) path: PathBuf,
    file: File,
}

impl Folders {
    /// Makes the spool, if it is not there.
    pub(crate) fn open(base: PathBuf) -> io::Result<Self> {
        let mut folders = Self { base, known: HashSet::new() };
        folders.make(BASE)?;
        Ok(folders)
    }

    /// Where messages are written.
    pub(crate) fn tmp(&self) -> PathBuf {
        self.base.join("tmp")
    }

    /// Opens the `new` of a Maildir, [`BASE`] or one below it, which is made if it is not there.
    pub(crate) fn new_of(&mut self, name: &str) -> io::Result<New> {
        if !self.known.contains(name) {
            self.make(name)?;
        }
        let maildir: Arc<Path> = self.path(name).into();
        let path = maildir.join("new");
        let file = match File::open(&path) {
            // Somebody has removed it.
            Err(error) if error.kind() == ErrorKind::NotFound => {
                self.known.remove(name);
                self.make(name)?;
                File::open(&path)?
            }
            opened => opened?,
        };
        Ok(New { maildir, path, file })
    }

    /// Makes a Maildir, and sees that its names are on the disk: also if it was there, since whoever made it may have
    /// ended before.
    fn make(&mut self, name: &str) -> io::Result<()> {
        let folder = self.path(name);
        if let Err(error) = make_all(&folder) {
            // Found again, it would be taken for one that is on the disk, which the next success does not say. What has
            // something in it stays.
            for part in FOLDERS {
                fs::remove_dir(folder.join(part)).ok();
            }
            fs::remove_dir(&folder).ok();
            return Err(error);
        }
        if self.known.len() >= KNOWN_LIMIT {
            self.known.clear();
        }
        self.known.insert(name.to_owned());
        Ok(())
    }

    fn path(&self, name: &str) -> PathBuf {
        if name == BASE { self.base.clone() } else { self.base.join(name) }
    }
}

impl New {
    /// Waits until the names in it are on the disk.
    ///
    /// Whether they are is not known if this fails: some may be, and a later success would tell of later changes alone.
    /// So a folder is opened anew for each round, before the round's names are put in, and this takes it: success then
    /// speaks for all names of that round and of no other, and what has failed is not asked again.
    pub(crate) fn sync(self) -> io::Result<()> {
        self.file.sync_all()
    }
}

/// Synchronizes folders, several at a time: of those that wait together the file system writes its journal once.
pub(crate) fn sync_all(folders: Vec<New>) -> Vec<io::Result<()>> {
    let count = folders.len();
    let waiting = Mutex::new(folders.into_iter().enumerate());
    let work = || {
        let mut done = Vec::new();
        loop {
            let next = lock(&waiting).next();
            let Some((index, folder)) = next else { return done };
            done.push((index, folder.sync()));
        }
    };
    let done = thread::scope(|scope| {
        let start = |_| thread::Builder::new().name("smtpd-syncer".to_owned()).spawn_scoped(scope, work).ok();
        let threads: Vec<_> = (1..count.min(SYNCERS)).filter_map(start).collect();
        let mut done = work();
        threads.into_iter().for_each(|thread| done.extend(thread.join().unwrap_or_default()));
        done
    });
    // Of what nobody tells nothing is known.
    let mut outcomes: Vec<io::Result<()>> = (0..count).map(|_| Err(ErrorKind::Other.into())).collect();
    for (index, outcome) in done {
        if let Some(place) = outcomes.get_mut(index) {
            *place = outcome;
        }
    }
    outcomes
}

/// Makes a Maildir; its names are on the disk then.
fn make_all(folder: &Path) -> io::Result<()> {
    make_folder(folder)?;
    for part in FOLDERS {
        make_one(&folder.join(part))?;
    }
    sync(folder)
}

/// Makes a folder and those above it; their names are on the disk then.
pub(crate) fn make_folder(folder: &Path) -> io::Result<()> {
    let parent = folder.parent().filter(|parent| !parent.as_os_str().is_empty());
    if let Some(parent) = parent
        && !parent.is_dir()
    {
        make_folder(parent)?;
    }
    make_one(folder)?;
    parent.map_or(Ok(()), sync)
}

/// Makes a folder that nobody else reads, if it is not there.
fn make_one(folder: &Path) -> io::Result<()> {
    match DirBuilder::new().mode(0o700).create(folder) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists && fs::metadata(folder)?.is_dir() => Ok(()),
        made => made,
    }
}

fn sync(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// How many folders are synchronized at a time: 8, as many as files.
const SYNCERS: usize = 8;

/// The name of the spool's own Maildir.
pub(crate) const BASE: &str = "";

/// Most Maildirs that are known to be on the disk: 10,000, one megabyte of names. What is forgotten is looked after once
/// more.
const KNOWN_LIMIT: usize = 10_000;

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_maildir_has_three_folders_that_nobody_else_reads() {
        let root = tempfile::tempdir().unwrap();
        let base = root.path().join("a/b");
        let mut folders = Folders::open(base.clone()).unwrap();
        drop(folders.new_of("jane@x.org").unwrap());
        for folder in ["", "tmp", "new", "cur", "jane@x.org/tmp", "jane@x.org/new", "jane@x.org/cur"] {
            let meta = fs::metadata(base.join(folder)).unwrap();
            assert_eq!((meta.is_dir(), meta.permissions().mode() & 0o777), (true, 0o700), "{folder}");
        }
    }

    #[test]
    fn a_maildir_that_was_removed_is_made_again() {
        let root = tempfile::tempdir().unwrap();
        let mut folders = Folders::open(root.path().join("spool")).unwrap();
        drop(folders.new_of("jane@x.org").unwrap());
        fs::remove_dir_all(root.path().join("spool")).unwrap();
        assert!(folders.new_of("jane@x.org").unwrap().path.is_dir());
        assert!(folders.new_of(BASE).unwrap().path.is_dir());
    }

    #[test]
    fn what_is_no_folder_is_no_spool() {
        let root = tempfile::tempdir().unwrap();
        fs::write(root.path().join("file"), "").unwrap();
        Folders::open(root.path().join("file")).unwrap_err();
        Folders::open(root.path().join("file/below")).unwrap_err();
    }
}
