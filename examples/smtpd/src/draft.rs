//! [`Draft`]: a message in `tmp`, and the names of files in a Maildir.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::folders::make_folder;

/// Makes drafts in one folder.
#[derive(Debug)]
pub(crate) struct Drafts {
    folder: PathBuf,
    host: String,
    made: AtomicU64,
}

impl Drafts {
    /// In `folder`, under names that end with this host's.
    pub(crate) fn new(folder: PathBuf, host: &str) -> Self {
        Self { folder, host: escaped(host), made: AtomicU64::new(0) }
    }

    /// A new file, empty, that nobody else reads.
    pub(crate) fn create(&self) -> io::Result<Draft> {
        let mut options = OpenOptions::new();
        options.write(true).create_new(true).mode(0o600);
        let name = self.name(SystemTime::now());
        let path = self.folder.join(&name);
        let file = match options.open(&path) {
            // Somebody has removed the folder, to have done with the mail in it.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                make_folder(&self.folder)?;
                options.open(&path)?
            }
            opened => opened?,
        };
        Ok(Draft { name, path, file })
    }

    /// A name that no file has had: the time, this process, a number in it, the host. The `M`, `P` and `Q` are as the
    /// Maildir specification has them.
    fn name(&self, now: SystemTime) -> String {
        let time = now.duration_since(UNIX_EPOCH).unwrap_or_default();
        let (seconds, micros) = (time.as_secs(), time.subsec_micros());
        let number = self.made.fetch_add(1, Ordering::Relaxed);
        format!("{seconds}.M{micros:06}P{}Q{number}.{}", std::process::id(), self.host)
    }

    /// Removes what crashes have left behind; never delivered, since it may not be whole. How many files it was.
    pub(crate) fn remove_stale(&self, now: SystemTime) -> io::Result<usize> {
        let mut removed = 0;
        for entry in fs::read_dir(&self.folder)? {
            let entry = entry?;
            // Somebody else may remove it, too: what is gone is no error.
            let Ok(meta) = entry.metadata() else { continue };
            let age = meta.modified().ok().and_then(|modified| now.duration_since(modified).ok());
            if meta.is_file() && age.is_some_and(|age| age > STALE) && fs::remove_file(entry.path()).is_ok() {
                removed += 1;
            }
        }
        Ok(removed)
    }
}

/// A message that is being written; dropped, its file is removed from `tmp`, where it has no reader.
#[derive(Debug)]
pub(crate) struct Draft {
    name: String,
    path: PathBuf,
    file: File,
}

impl Draft {
    pub(crate) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes)
    }

    /// Waits until it is on the disk.
    ///
    /// This is `fsync`, not `fdatasync`: of a new file both write the inode, so the lesser promise would save nothing. It
    /// takes the draft, and gives it back only on success: an error may have marked as written what was not, so that the
    /// next `fsync` would succeed, and say nothing. There is none.
    pub(crate) fn sync(self) -> io::Result<Self> {
        self.file.sync_all()?;
        Ok(self)
    }

    /// Its name in other folders has the message's id in the place of what made it the only one in `tmp`: so the page
    /// finds it by the id of the reply and of the log.
    #[must_use]
    pub(crate) fn named(mut self, id: &str) -> Self {
        let mut parts = self.name.splitn(3, '.');
        if let (Some(seconds), Some(_), Some(host)) = (parts.next(), parts.next(), parts.next()) {
            self.name = format!("{seconds}.{id}.{host}");
        }
        self
    }

    /// Puts it into `folder` too, under its name. It replaces no file.
    pub(crate) fn link(&self, folder: &Path) -> io::Result<()> {
        fs::hard_link(&self.path, folder.join(&self.name))
    }

    /// Its name; the file in `tmp` is removed.
    pub(crate) fn into_name(mut self) -> String {
        std::mem::take(&mut self.name)
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(&self.path) {
            tracing::debug!(path = %self.path.display(), %error, "a file in tmp was not removed");
        }
    }
}

/// A host's name as part of a file's: no `/`, which is no name, and no `:`, behind which the flags of a message stand.
fn escaped(host: &str) -> String {
    host.chars()
        .filter(|char| !char.is_control())
        .take(HOST_LIMIT)
        .flat_map(|char| match char {
            '/' => "\\057".chars().collect(),
            ':' => "\\072".chars().collect(),
            _ => vec![char],
        })
        .collect()
}

/// From what age on a file in `tmp` is nobody's: 36 hours, as the Maildir specification has it.
const STALE: Duration = Duration::from_secs(36 * 3600);

/// Most characters of a host's name in a file's: 40, so that with four bytes each, and the numbers in front, the name is
/// below 255 bytes.
const HOST_LIMIT: usize = 40;

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn drafts() -> (tempfile::TempDir, Drafts) {
        let folder = tempfile::tempdir().unwrap();
        let drafts = Drafts::new(folder.path().to_owned(), "mx.example");
        (folder, drafts)
    }

    #[test]
    fn a_name_is_used_once_and_says_when_where_and_by_whom() {
        let (_folder, drafts) = drafts();
        let at = UNIX_EPOCH + Duration::new(1_700_000_000, 42_000);
        assert_eq!(drafts.name(at), format!("1700000000.M000042P{}Q0.mx.example", std::process::id()));
        let names: HashSet<_> = (0..1000).map(|_| drafts.name(at)).collect();
        assert_eq!(names.len(), 1000);
    }

    #[test]
    fn a_host_stays_within_a_name() {
        assert_eq!(escaped("a/b:c\r\n"), "a\\057b\\072c");
        assert!(escaped(&"/".repeat(300)).len() <= 160);
        assert!(escaped(&"ü".repeat(300)).len() <= 160);
    }

    #[test]
    fn a_draft_that_is_dropped_leaves_nothing() {
        let (folder, drafts) = drafts();
        let mut draft = drafts.create().unwrap();
        draft.write(b"half").unwrap();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        drop(draft);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_folder_that_was_removed_is_made_again() {
        let (folder, drafts) = drafts();
        fs::remove_dir(folder.path()).unwrap();
        drafts.create().unwrap().sync().unwrap();
    }

    #[test]
    fn a_message_has_its_id_in_its_name() {
        let (_folder, drafts) = drafts();
        let draft = drafts.create().unwrap();
        let seconds = draft.name.split('.').next().unwrap().to_owned();
        assert_eq!(draft.named("0TTA3").into_name(), format!("{seconds}.0TTA3.mx.example"));
    }

    #[test]
    fn a_link_replaces_no_file() {
        let (folder, drafts) = drafts();
        let new = folder.path().join("new");
        fs::create_dir(&new).unwrap();
        let draft = drafts.create().unwrap();
        fs::write(new.join(&draft.name), "older").unwrap();
        assert_eq!(draft.link(&new).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read(new.join(&draft.name)).unwrap(), b"older");
    }

    #[test]
    fn only_files_in_tmp_of_more_than_36_hours_are_removed() {
        let (folder, drafts) = drafts();
        let now = SystemTime::now();
        let hours = |hours: u64| now.checked_sub(Duration::from_secs(hours * 3600)).unwrap();
        for (name, modified) in [("old", hours(37)), ("young", hours(35)), ("future", now + STALE)] {
            File::create(folder.path().join(name)).unwrap().set_modified(modified).unwrap();
        }
        fs::create_dir(folder.path().join("folder")).unwrap();
        File::open(folder.path().join("folder")).unwrap().set_modified(hours(99)).unwrap();
        assert_eq!(drafts.remove_stale(now).unwrap(), 1);
        let mut left: Vec<_> =
            fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, ["folder", "future", "young"]);
    }
}
