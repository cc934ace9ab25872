//! [`NonBlocking`]: an open file that does not block for as long as a channel needs it so.
//!
//! `O_NONBLOCK` belongs to the open file, which everybody who has a duplicate of its descriptor shares: a shell and what
//! it starts share their terminal. So it is set for a time only, and counted: of two channels on one terminal, the first
//! to close must not make the other block.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::os::unix::fs::MetadataExt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};

/// While it lives, the file does not block; with the last one for an open file, its flag is put back.
#[derive(Debug)]
pub(crate) struct NonBlocking {
    /// `None`: the file did not block before.
    held: Option<Key>,
}

/// The file's device, its number there, and the duplicate that is held: of one terminal, many files may be open.
type Key = (u64, u64, RawFd);

/// An open file whose flag was set here.
struct Held {
    file: File,
    users: usize,
}

/// Of the whole process, as the files are.
static HELD: Mutex<BTreeMap<Key, Held>> = Mutex::new(BTreeMap::new());

impl NonBlocking {
    /// Sets `O_NONBLOCK` for as long as the answer lives.
    pub(crate) fn set(fd: BorrowedFd<'_>) -> io::Result<Self> {
        let file = File::from(fd.try_clone_to_owned()?);
        let metadata = file.metadata()?;
        let key = |duplicate| (metadata.dev(), metadata.ino(), duplicate);
        let mut all = lock();
        let flags = fcntl_getfl(fd)?;
        if flags.contains(OFlags::NONBLOCK) {
            // Set here for another channel, or by whoever opened the file.
            for (&key, held) in all.range_mut(key(0)..=key(RawFd::MAX)) {
                if are_one(fd, held.file.as_fd())? {
                    held.users += 1;
                    return Ok(Self { held: Some(key) });
                }
            }
            return Ok(Self { held: None });
        }
        fcntl_setfl(fd, flags | OFlags::NONBLOCK)?;
        let key = key(file.as_raw_fd());
        all.insert(key, Held { file, users: 1 });
        Ok(Self { held: Some(key) })
    }
}

impl Drop for NonBlocking {
    fn drop(&mut self) {
        let Some(key) = self.held else { return };
        let mut all = lock();
        let Some(held) = all.get_mut(&key) else { return };
        held.users -= 1;
        if held.users == 0
            && let Some(held) = all.remove(&key)
            // Under the lock: who adopts the file meanwhile must find its flag as it will be.
            && let Err(error) = put_back(held.file.as_fd())
        {
            tracing::warn!(%error, "a descriptor's flags could not be put back");
        }
    }
}

/// Whether two descriptors are of one open file: what is set by the one shows by the other. `O_APPEND` is, which means
/// nothing to what has no positions.
fn are_one(one: BorrowedFd<'_>, other: BorrowedFd<'_>) -> io::Result<bool> {
    let (flags, before) = (fcntl_getfl(one)?, fcntl_getfl(other)?);
    fcntl_setfl(one, flags ^ OFlags::APPEND)?;
    let changed = fcntl_getfl(other)? != before;
    fcntl_setfl(one, flags)?;
    Ok(changed)
}

/// Clears the one flag; others may have been changed since by others.
fn put_back(fd: BorrowedFd<'_>) -> io::Result<()> {
    Ok(fcntl_setfl(fd, fcntl_getfl(fd)? - OFlags::NONBLOCK)?)
}

fn lock() -> MutexGuard<'static, BTreeMap<Key, Held>> {
    HELD.lock().unwrap_or_else(PoisonError::into_inner)
}
