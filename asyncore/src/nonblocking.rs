//! [`NonBlocking`]: an open file that does not block for as long as a channel needs it so.
//!
//! `O_NONBLOCK` belongs to the open file, which everybody who has a duplicate of its descriptor shares: a shell and what
//! it starts share their terminal. So it is set for a time only, and counted: of two channels on one terminal, the first
//! to close must not make the other block.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};

/// While it lives, the file does not block; with the last one for a file, its flags are put back.
#[derive(Debug)]
pub(crate) struct NonBlocking {
    /// `None`: the file did not block before.
    file: Option<Identity>,
}

/// What a file is known by: its device, its number there, and how it was opened. The two ends of a pipe differ in the last.
type Identity = (u64, u64, u32);

#[derive(Default)]
struct Held {
    users: usize,
    /// The open files whose flag was set here. Usually one: nothing tells two open files of one terminal apart.
    changed: Vec<OwnedFd>,
}

/// Of the whole process, as the files are.
static HELD: Mutex<BTreeMap<Identity, Held>> = Mutex::new(BTreeMap::new());

impl NonBlocking {
    /// Sets `O_NONBLOCK` for as long as the answer lives.
    pub(crate) fn set(fd: BorrowedFd<'_>) -> io::Result<Self> {
        let duplicate = fd.try_clone_to_owned()?;
        let mut held = lock();
        let flags = fcntl_getfl(fd)?;
        let file = File::from(duplicate);
        let metadata = file.metadata()?;
        let identity = (metadata.dev(), metadata.ino(), (flags & OFlags::ACCMODE).bits());
        if flags.contains(OFlags::NONBLOCK) {
            // Set here for another channel, or by whoever opened the file.
            let Some(held) = held.get_mut(&identity) else { return Ok(Self { file: None }) };
            held.users += 1;
        } else {
            fcntl_setfl(fd, flags | OFlags::NONBLOCK)?;
            let held = held.entry(identity).or_default();
            held.users += 1;
            held.changed.push(file.into());
        }
        Ok(Self { file: Some(identity) })
    }
}

impl Drop for NonBlocking {
    fn drop(&mut self) {
        let Some(identity) = self.file else { return };
        let mut all = lock();
        let Some(held) = all.get_mut(&identity) else { return };
        held.users -= 1;
        if held.users == 0 {
            // Under the lock: who adopts the file meanwhile must find its flag as it will be.
            for fd in all.remove(&identity).unwrap_or_default().changed {
                if let Err(error) = put_back(fd.as_fd()) {
                    tracing::warn!(%error, "a descriptor's flags could not be put back");
                }
            }
        }
    }
}

/// Clears the one flag; others may have been changed since by others.
fn put_back(fd: BorrowedFd<'_>) -> io::Result<()> {
    Ok(fcntl_setfl(fd, fcntl_getfl(fd)? - OFlags::NONBLOCK)?)
}

fn lock() -> MutexGuard<'static, BTreeMap<Identity, Held>> {
    HELD.lock().unwrap_or_else(PoisonError::into_inner)
}
