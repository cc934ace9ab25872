//! [`Maildir`]: messages as files, each of which has been on the disk before it was acknowledged.
//!
//! A message is written to `tmp` by the threads of `upload.rs`, and comes into `new` in a round of `commit.rs`. The loop
//! itself never waits for the disk.

use std::fmt;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use asynchat::Conversation;
use asyncore::Remote;

use crate::address::Mailbox;
use crate::app::App;
use crate::commit::{Committer, NAME_TOO_LONG, Rounds, Written};
use crate::delivery::{Delivery, Incoming, Outcome, Ticket};
use crate::draft::Drafts;
use crate::envelope::Envelope;
use crate::folders::Folders;
use crate::queue::Queue;
use crate::recipient;
use crate::reply::Reply;
use crate::upload::{Shared, Upload, Writers};

/// Keeps messages in a Maildir, or in one for each recipient. Its threads end with it.
pub struct Maildir {
    hostname: String,
    per_recipient: bool,
    // The writers end first: what they have written goes to the committer.
    writers: Writers,
    committer: Committer,
}

impl Maildir {
    /// Opens a Maildir, and makes it if it is not there. Files in `tmp` that nobody can be writing any more are removed.
    ///
    /// With `per_recipient`, each message is linked into the `new` of a Maildir for each recipient, below `path`.
    ///
    /// # Errors
    ///
    /// If it cannot be made, written to or synchronized, or there are no threads.
    pub fn open(path: &Path, per_recipient: bool, hostname: &str, remote: &Remote<App>) -> io::Result<Self> {
        let folders = Folders::open(std::path::absolute(path)?)?;
        let drafts = Drafts::new(folders.tmp(), hostname);
        let mut trial = drafts.create()?;
        trial.write(b"Can this be written?\n")?;
        drop(trial.sync()?);
        let removed = drafts.remove_stale(SystemTime::now())?;
        if removed > 0 {
            tracing::info!(removed, "files that a crash had left in tmp");
        }
        let committer = Committer::start(Rounds::new(folders, per_recipient), remote.clone())?;
        let writers = Writers::start(Arc::new(drafts), remote.clone())?;
        Ok(Self { hostname: hostname.to_owned(), per_recipient, writers, committer })
    }

    /// The lines on top of a message.
    fn top(&self, envelope: &Envelope) -> Vec<u8> {
        let mut top = envelope.trace(&self.hostname);
        if !self.per_recipient {
            for (index, mailbox) in envelope.to.iter().enumerate() {
                let begin = if index == 0 { "X-Envelope-To: " } else { ",\r\n\t" };
                top.extend([begin, mailbox.as_str()]);
            }
            top.push_str("\r\n");
        }
        top.into_bytes()
    }
}

impl Delivery for Maildir {
    fn begin(
        &self,
        cx: &mut Conversation<'_, App>,
        envelope: &Arc<Envelope>,
    ) -> Result<Box<dyn Incoming>, Reply> {
        let shared = self.writers.shared();
        shared.release(cx);
        let mut text = self.top(envelope);
        let declared = envelope.size.and_then(|size| usize::try_from(size).ok()).unwrap_or_default();
        text.reserve(declared.min(CHUNK));
        let (envelope, committed) = (Arc::clone(envelope), self.committer.queue());
        Ok(Box::new(Arriving { text, upload: None, envelope, shared, committed }))
    }

    fn recipient(&self, mailbox: &Mailbox) -> Result<(), Reply> {
        if self.per_recipient && recipient::folder(mailbox).is_none() { Err(NAME_TOO_LONG) } else { Ok(()) }
    }

    fn name(&self) -> &'static str {
        "maildir"
    }
}

impl fmt::Debug for Maildir {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Maildir").field("per_recipient", &self.per_recipient).finish_non_exhaustive()
    }
}

/// A message that arrives.
struct Arriving {
    /// What has not been handed over yet.
    text: Vec<u8>,
    /// Begun with the first chunk; a small message has none before its end.
    upload: Option<Arc<Upload>>,
    envelope: Arc<Envelope>,
    shared: Arc<Shared>,
    committed: Arc<Queue<Written>>,
}

impl Incoming for Arriving {
    fn write(&mut self, cx: &mut Conversation<'_, App>, piece: &[u8]) -> Result<(), Reply> {
        self.text.extend_from_slice(piece);
        if self.text.len() >= CHUNK {
            let chunk = std::mem::take(&mut self.text);
            let upload = self.upload.get_or_insert_with(|| Upload::new(cx.id));
            upload.push(&self.shared, cx, chunk);
        }
        Ok(())
    }

    fn finish(mut self: Box<Self>, cx: &mut Conversation<'_, App>, ticket: Ticket) -> Option<Outcome> {
        self.shared.forget(cx);
        let upload = self.upload.take().unwrap_or_else(|| Upload::new(cx.id));
        let (envelope, committed) = (Arc::clone(&self.envelope), Arc::clone(&self.committed));
        upload.keep(&self.shared, std::mem::take(&mut self.text), move |draft| {
            committed.push(Written { ticket, envelope, draft });
        });
        None
    }
}

impl Drop for Arriving {
    fn drop(&mut self) {
        if let Some(upload) = self.upload.take() {
            upload.abandon(&self.shared);
        }
    }
}

/// How many bytes are gathered before they are given to be written: 64 KiB, so that a write is worth a change of threads,
/// and most messages are handed over once, as a whole.
const CHUNK: usize = 64 << 10;
