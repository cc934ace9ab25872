//! [`Committer`]: rounds in which messages become acknowledged.
//!
//! ```text
//! writers     tmp/A  write, fsync ─┐
//!             tmp/B  write, fsync ─┼─► a round: for each folder `new`
//!             tmp/C  write, fsync ─┘     open it, link A, B and C into it, fsync it
//!                                      the names in tmp are removed
//!                                      one post to the loop: A, B and C are answered
//! ```
//!
//! A round takes what has gathered while the one before it ran, and waits for nothing: alone, a message is not held up; the
//! slower the disk, the more messages share its work.
//!
//! Where an `fsync` fails, nobody knows what is on the disk. Nothing that depended on it is acknowledged: its names are
//! removed, the client keeps the message and sends it again. A crash may bring such a name back, and with it a whole
//! message twice; never is one lost that was acknowledged.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use asyncore::Remote;
use rustix::io::Errno;

use crate::app::App;
use crate::delivery::{Outcome, Ticket};
use crate::draft::Draft;
use crate::envelope::Envelope;
use crate::folders::{BASE, Folders, New, sync_all};
use crate::mailbox;
use crate::queue::{Queue, lock, tell};
use crate::recipient;
use crate::reply::Reply;

/// A message that has been written and synchronized, or could not be.
pub(crate) struct Written {
    pub(crate) ticket: Ticket,
    pub(crate) envelope: Arc<Envelope>,
    pub(crate) draft: io::Result<Draft>,
}

/// What became of it.
struct Told {
    ticket: Ticket,
    outcome: Outcome,
    /// The name of its files, and the Maildirs in which they are, if it was kept.
    kept: Option<(String, Vec<Arc<Path>>)>,
}

/// The thread that commits; it ends with this.
pub(crate) struct Committer {
    queue: Arc<Queue<Written>>,
    thread: Option<JoinHandle<()>>,
}

impl Committer {
    pub(crate) fn start(rounds: Rounds, remote: Remote<App>) -> io::Result<Self> {
        let queue = Arc::new(Queue::new());
        let thread = thread::Builder::new().name("smtpd-committer".to_owned()).spawn({
            let queue = Arc::clone(&queue);
            move || commit(&queue, rounds, &remote)
        })?;
        Ok(Self { queue, thread: Some(thread) })
    }

    /// Where messages to be committed are put.
    pub(crate) fn queue(&self) -> Arc<Queue<Written>> {
        Arc::clone(&self.queue)
    }
}

impl Drop for Committer {
    fn drop(&mut self) {
        self.queue.close();
        if let Some(thread) = self.thread.take() {
            // A thread that has panicked has said so.
            thread.join().ok();
        }
    }
}

fn commit(queue: &Queue<Written>, mut rounds: Rounds, remote: &Remote<App>) {
    loop {
        let batch = queue.take_all();
        if batch.is_empty() {
            return;
        }
        let told = Arc::new(std::sync::Mutex::new(rounds.round(batch)));
        tell(remote, || {
            let told = Arc::clone(&told);
            move |map, app| {
                for Told { ticket, outcome, kept } in std::mem::take(&mut *lock(&told)) {
                    // First it is on the list, then its sender hears of it, and may look.
                    if let Some((name, folders)) = kept
                        && app.mailbox.keeps()
                    {
                        mailbox::kept(map, app, &name, folders);
                    }
                    ticket.answer(map, app, outcome);
                }
            }
        });
    }
}

/// Puts messages into folders.
#[derive(Debug)]
pub(crate) struct Rounds {
    folders: Folders,
    per_recipient: bool,
}

/// A message in a round.
struct Message {
    ticket: Ticket,
    envelope: Arc<Envelope>,
    draft: Option<Draft>,
    /// The Maildirs in which it is.
    links: Vec<Arc<Path>>,
    refused: Option<Reply>,
}

impl Rounds {
    /// Into the spool's own Maildir, or into one for each recipient.
    pub(crate) const fn new(folders: Folders, per_recipient: bool) -> Self {
        Self { folders, per_recipient }
    }

    fn round(&mut self, batch: impl IntoIterator<Item = Written>) -> Vec<Told> {
        let mut messages: Vec<_> = batch.into_iter().map(Message::new).collect();
        let mut targets = self.targets(&mut messages).into_iter();
        loop {
            let some: Vec<_> = targets.by_ref().take(OPEN_AT_ONCE).collect();
            if some.is_empty() {
                break;
            }
            self.fill(some, &mut messages);
        }
        messages.into_iter().map(Message::tell).collect()
    }

    /// Which messages go where.
    fn targets(&self, messages: &mut [Message]) -> BTreeMap<String, Vec<usize>> {
        let mut targets: BTreeMap<String, Vec<usize>> = BTreeMap::new();
        for (index, message) in messages.iter_mut().enumerate() {
            if message.draft.is_none() {
                continue;
            }
            if !self.per_recipient {
                targets.entry(BASE.to_owned()).or_default().push(index);
                continue;
            }
            let envelope = Arc::clone(&message.envelope);
            for mailbox in &envelope.to {
                // Such recipients were refused at RCPT.
                let Some(folder) = recipient::folder(mailbox) else {
                    message.refused = Some(NAME_TOO_LONG);
                    continue;
                };
                match targets.entry(folder) {
                    // Two recipients may have one folder.
                    Entry::Occupied(entry) if entry.get().last() == Some(&index) => {}
                    entry => entry.or_default().push(index),
                }
            }
        }
        targets
    }

    /// Links messages into folders, and sees that the names are on the disk.
    fn fill(&mut self, targets: Vec<(String, Vec<usize>)>, messages: &mut [Message]) {
        let mut filled = Vec::with_capacity(targets.len());
        let mut opened = Vec::with_capacity(targets.len());
        for (folder, indices) in targets {
            match self.folders.new_of(&folder) {
                Ok(new) => {
                    if link(&new, &indices, messages) {
                        filled.push((folder, indices));
                        opened.push(new);
                    }
                }
                Err(error) => refuse_all(&folder, &indices, messages, &error),
            }
        }
        for ((folder, indices), outcome) in filled.into_iter().zip(sync_all(opened)) {
            if let Err(error) = outcome {
                refuse_all(&folder, &indices, messages, &error);
            }
        }
    }
}

/// Links messages into one folder: whether there was anything to link.
fn link(new: &New, indices: &[usize], messages: &mut [Message]) -> bool {
    let mut is_any = false;
    for index in indices {
        let Some(message) = messages.get_mut(*index) else { continue };
        let Some(draft) = message.draft.as_ref().filter(|_| message.refused.is_none()) else { continue };
        match draft.link(&new.path) {
            Ok(()) => message.links.push(Arc::clone(&new.maildir)),
            Err(error) => message.refuse(&error),
        }
        is_any = true;
    }
    is_any
}

fn refuse_all(folder: &str, indices: &[usize], messages: &mut [Message], error: &io::Error) {
    tracing::error!(folder, %error, "messages are not kept");
    for index in indices {
        if let Some(message) = messages.get_mut(*index) {
            message.refuse(error);
        }
    }
}

impl Message {
    fn new(written: Written) -> Self {
        let Written { ticket, envelope, draft } = written;
        let mut message = Self { ticket, envelope, draft: None, links: Vec::new(), refused: None };
        match draft {
            Ok(draft) => message.draft = Some(draft.named(&message.envelope.id)),
            Err(error) => message.refuse(&error),
        }
        message
    }

    fn refuse(&mut self, error: &io::Error) {
        if self.refused.is_none() {
            tracing::error!(id = self.envelope.id, %error, "a message is not kept");
            self.refused = Some(refusal(error));
        }
    }

    fn tell(self) -> Told {
        let Self { ticket, envelope, draft, links, refused } = self;
        let name = draft.map(Draft::into_name).unwrap_or_default();
        let (reply, kept) = match refused {
            Some(reply) => {
                for maildir in links {
                    let path = maildir.join("new").join(&name);
                    if let Err(error) = std::fs::remove_file(&path) {
                        tracing::error!(path = %path.display(), %error, "a message that was refused stays");
                    }
                }
                (reply, None)
            }
            None => (Reply::new(250, "2.0.0", format_args!("Kept as {}", envelope.id)), Some((name, links))),
        };
        Told { ticket, outcome: Outcome::All(reply), kept }
    }
}

/// The reply to a message that the system does not take: it may be sent again later.
pub(crate) fn refusal(error: &io::Error) -> Reply {
    match Errno::from_io_error(error) {
        Some(Errno::NOSPC | Errno::DQUOT | Errno::FBIG) => NO_ROOM,
        Some(Errno::MFILE | Errno::NFILE) => TOO_BUSY,
        _ => FAILED,
    }
}

const NO_ROOM: Reply = Reply::fixed("452 4.3.1 There is no room for the message now\r\n");
const TOO_BUSY: Reply = Reply::fixed("451 4.3.2 Too much is open here now\r\n");
const FAILED: Reply = Reply::fixed("451 4.3.0 The message could not be kept\r\n");

/// Most folders that are filled and synchronized together: 64, each of which is a descriptor meanwhile.
const OPEN_AT_ONCE: usize = 64;

/// To a recipient whose folder no file system would take.
pub(crate) const NAME_TOO_LONG: Reply =
    Reply::fixed("553 5.1.3 The address is too long for a folder here\r\n");

#[cfg(test)]
mod tests {
    use std::fs;

    use asyncore::Map;

    use super::*;
    use crate::draft::Drafts;

    struct Bench {
        root: tempfile::TempDir,
        drafts: Drafts,
        rounds: Rounds,
    }

    impl Bench {
        fn new() -> Self {
            let root = tempfile::tempdir().unwrap();
            let folders = Folders::open(root.path().join("spool")).unwrap();
            let drafts = Drafts::new(folders.tmp(), "mx.example");
            Self { root, drafts, rounds: Rounds::new(folders, false) }
        }

        fn written(&self, number: u64, text: &str) -> Written {
            let mut draft = self.drafts.create().unwrap();
            draft.write(text.as_bytes()).unwrap();
            written(number, draft.sync())
        }

        fn files(&self, folder: &str) -> Vec<String> {
            let folder = self.root.path().join("spool").join(folder);
            let mut texts: Vec<_> = fs::read_dir(folder)
                .unwrap()
                .map(|entry| fs::read_to_string(entry.unwrap().path()).unwrap())
                .collect();
            texts.sort();
            texts
        }
    }

    fn written(message: u64, draft: io::Result<Draft>) -> Written {
        let session =
            Map::<()>::new().unwrap().add(std::os::unix::net::UnixStream::pair().unwrap().0, Quiet).unwrap();
        let envelope = Envelope {
            id: format!("m{message}"),
            client: crate::envelope::Client::default(),
            from: None,
            to: Vec::new(),
            at: std::time::UNIX_EPOCH,
            size: None,
            body: crate::envelope::Body::SevenBit,
            smtputf8: false,
        };
        Written { ticket: Ticket { session, message }, envelope: Arc::new(envelope), draft }
    }

    struct Quiet;
    impl asyncore::Channel for Quiet {}

    fn codes(told: &[Told]) -> Vec<(u64, u16)> {
        told.iter()
            .map(|told| match &told.outcome {
                Outcome::All(reply) => (told.ticket.message, reply.code()),
                Outcome::Each(_) => panic!("one message, one fate"),
            })
            .collect()
    }

    #[test]
    fn messages_of_a_round_come_into_new_and_leave_tmp() {
        let mut bench = Bench::new();
        let batch = [bench.written(1, "one"), bench.written(2, "two")];
        let told = bench.rounds.round(batch);
        assert_eq!(codes(&told), [(1, 250), (2, 250)]);
        assert_eq!(bench.files("new"), ["one", "two"]);
        assert!(bench.files("tmp").is_empty());
    }

    #[test]
    fn one_that_could_not_be_written_keeps_no_other_back() {
        let mut bench = Bench::new();
        let full = written(1, Err(Errno::NOSPC.into()));
        let batch = [full, bench.written(2, "two")];
        let told = bench.rounds.round(batch);
        assert_eq!(codes(&told), [(1, 452), (2, 250)]);
        assert_eq!(bench.files("new"), ["two"]);
    }

    #[test]
    fn what_cannot_be_put_into_new_is_refused_and_leaves_nothing() {
        let mut bench = Bench::new();
        let new = bench.root.path().join("spool/new");
        fs::remove_dir(&new).unwrap();
        fs::write(&new, "no folder").unwrap();
        let batch = [bench.written(1, "one")];
        assert_eq!(codes(&bench.rounds.round(batch)), [(1, 451)]);
        assert!(bench.files("tmp").is_empty());
        fs::remove_file(&new).unwrap();
        let batch = [bench.written(2, "two")];
        assert_eq!(codes(&bench.rounds.round(batch)), [(2, 250)]);
        assert_eq!(bench.files("new"), ["two"]);
    }

    #[test]
    fn replies_say_whether_room_or_descriptors_or_something_else_is_missing() {
        let table = [
            (Errno::NOSPC, "452 4.3.1"),
            (Errno::DQUOT, "452 4.3.1"),
            (Errno::FBIG, "452 4.3.1"),
            (Errno::MFILE, "451 4.3.2"),
            (Errno::NFILE, "451 4.3.2"),
            (Errno::IO, "451 4.3.0"),
            (Errno::ACCESS, "451 4.3.0"),
            (Errno::XDEV, "451 4.3.0"),
        ];
        for (errno, expected) in table {
            assert!(refusal(&errno.into()).to_line().starts_with(expected), "{errno}");
        }
        assert_eq!(refusal(&io::ErrorKind::WriteZero.into()), FAILED);
    }
}
