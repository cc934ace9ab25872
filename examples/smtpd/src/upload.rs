//! [`Upload`]: one message on its way from the loop to its file, written by the threads of a [`Writers`].
//!
//! The session hands over chunks; a thread takes all that is there and writes it. A message is written by one thread at a
//! time, and several messages by several threads. A session whose chunks wait is not read from until they are written, so
//! that a message of any size takes [`WAITING_LIMIT`] bytes of memory.

use std::collections::HashSet;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::{self, JoinHandle};

use asynchat::Conversation;
use asyncore::{ChannelId, Remote};

use crate::app::App;
use crate::draft::{Draft, Drafts};
use crate::queue::{Queue, lock, tell};

/// A message that arrives, shared by its session and whoever writes it.
pub(crate) struct Upload {
    session: ChannelId,
    state: Mutex<State>,
    /// Locked by the one thread that writes it.
    file: Mutex<File>,
}

struct State {
    /// What has not been written yet.
    chunks: Vec<Vec<u8>>,
    /// The bytes in it, and in what a thread has taken to write.
    waiting: usize,
    /// What is to happen when all is written.
    end: Option<End>,
    /// Whether it is in the queue, or a thread writes it.
    is_queued: bool,
    /// Whether the session waits for chunks to be written.
    is_paused: bool,
    has_failed: bool,
}

/// What becomes of the file.
enum End {
    /// It is synchronized, and told to this.
    Keep(Box<dyn FnOnce(io::Result<Draft>) + Send>),
    /// It is removed.
    Abandon,
}

enum File {
    None,
    Open(Draft),
    /// What could not be done, until it is told.
    Failed(Option<io::Error>),
}

/// The threads that write, and the queue of uploads with something to write.
pub(crate) struct Writers {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

/// What the threads that write know, and the sessions.
pub(crate) struct Shared {
    queue: Queue<Arc<Upload>>,
    drafts: Arc<Drafts>,
    remote: Remote<App>,
    /// Sessions that wait for chunks to be written. Only the loop looks at it: a session may have gone over to its next
    /// message, or be paused for another reason, when it hears that it may go on.
    paused: Arc<Mutex<HashSet<ChannelId>>>,
}

impl Writers {
    /// Starts the threads.
    pub(crate) fn start(drafts: Arc<Drafts>, remote: Remote<App>) -> io::Result<Self> {
        let shared = Arc::new(Shared { queue: Queue::new(), drafts, remote, paused: Arc::default() });
        let mut writers = Self { shared, threads: Vec::with_capacity(WRITERS) };
        for _ in 0..WRITERS {
            let shared = Arc::clone(&writers.shared);
            let write = move || {
                while let Some(upload) = shared.queue.pop() {
                    upload.write(&shared);
                }
            };
            writers.threads.push(thread::Builder::new().name("smtpd-writer".to_owned()).spawn(write)?);
        }
        Ok(writers)
    }

    pub(crate) fn shared(&self) -> Arc<Shared> {
        Arc::clone(&self.shared)
    }
}

impl Drop for Writers {
    fn drop(&mut self) {
        self.shared.queue.close();
        for thread in self.threads.drain(..) {
            // A thread that has panicked has said so.
            thread.join().ok();
        }
    }
}

impl Shared {
    /// The session is not held up by a message any more: by the one that has ended, or that ended before this began.
    pub(crate) fn release(&self, cx: &mut Conversation<'_, App>) {
        if lock(&self.paused).remove(&cx.id) {
            cx.map.resume_reading(cx.id);
        }
    }

    /// As [`release`](Self::release), for a session that is to stay paused, until it is answered.
    pub(crate) fn forget(&self, cx: &Conversation<'_, App>) {
        lock(&self.paused).remove(&cx.id);
    }

    /// The session may go on, said by a thread.
    fn resume(&self, session: ChannelId) {
        tell(&self.remote, || {
            let paused = Arc::clone(&self.paused);
            move |map, _app| {
                if lock(&paused).remove(&session) {
                    map.resume_reading(session);
                }
            }
        });
    }
}

impl Upload {
    pub(crate) fn new(session: ChannelId) -> Arc<Self> {
        let state = State {
            chunks: Vec::new(),
            waiting: 0,
            end: None,
            is_queued: false,
            is_paused: false,
            has_failed: false,
        };
        Arc::new(Self { session, state: Mutex::new(state), file: Mutex::new(File::None) })
    }

    /// Hands over a chunk; the session is paused if too much waits. After a failure, which [`keep`](Self::keep) tells, it is
    /// dropped.
    pub(crate) fn push(self: &Arc<Self>, shared: &Shared, cx: &mut Conversation<'_, App>, chunk: Vec<u8>) {
        let mut state = lock(&self.state);
        if state.has_failed {
            return;
        }
        state.waiting += chunk.len();
        state.chunks.push(chunk);
        if state.waiting > WAITING_LIMIT && !state.is_paused {
            state.is_paused = true;
            lock(&shared.paused).insert(cx.id);
            cx.pause_reading();
        }
        self.enqueue(state, shared);
    }

    /// The message is whole, `rest` its last chunk. `done` is called by the thread that has written and synchronized it.
    pub(crate) fn keep(
        self: &Arc<Self>,
        shared: &Shared,
        rest: Vec<u8>,
        done: impl FnOnce(io::Result<Draft>) + Send + 'static,
    ) {
        let mut state = lock(&self.state);
        state.waiting += rest.len();
        state.chunks.push(rest);
        self.end(state, shared, End::Keep(Box::new(done)));
    }

    /// The message will not be whole: nothing of it stays.
    pub(crate) fn abandon(self: &Arc<Self>, shared: &Shared) {
        let state = lock(&self.state);
        self.end(state, shared, End::Abandon);
    }

    fn end(self: &Arc<Self>, mut state: MutexGuard<'_, State>, shared: &Shared, end: End) {
        state.end = Some(end);
        self.enqueue(state, shared);
    }

    fn enqueue(self: &Arc<Self>, mut state: MutexGuard<'_, State>, shared: &Shared) {
        let was_queued = std::mem::replace(&mut state.is_queued, true);
        drop(state);
        if !was_queued {
            shared.queue.push(Arc::clone(self));
        }
    }

    /// Writes until nothing is left to write.
    fn write(&self, shared: &Shared) {
        let mut file = lock(&self.file);
        loop {
            let mut state = lock(&self.state);
            let chunks = std::mem::take(&mut state.chunks);
            let end = state.end.take();
            if chunks.is_empty() && end.is_none() {
                state.is_queued = false;
                return;
            }
            drop(state);
            let mut written = 0;
            for chunk in chunks {
                written += chunk.len();
                if !matches!(end, Some(End::Abandon)) {
                    file.write(&shared.drafts, &chunk);
                }
            }
            let mut state = lock(&self.state);
            state.waiting -= written;
            state.has_failed = matches!(*file, File::Failed(_));
            let goes_on = state.waiting <= WAITING_LIMIT / 2 && std::mem::take(&mut state.is_paused);
            drop(state);
            if goes_on {
                shared.resume(self.session);
            }
            match end {
                Some(End::Keep(done)) => done(std::mem::replace(&mut *file, File::None).finish()),
                Some(End::Abandon) => *file = File::None,
                None => {}
            }
        }
    }
}

impl File {
    fn write(&mut self, drafts: &Drafts, chunk: &[u8]) {
        let outcome = match self {
            Self::None => drafts.create().and_then(|mut draft| draft.write(chunk).map(|()| draft)),
            Self::Open(draft) => match draft.write(chunk) {
                Ok(()) => return,
                Err(error) => Err(error),
            },
            Self::Failed(_) => return,
        };
        // A draft that cannot be written goes here, and its file with it: a full disk has room again at once.
        *self = match outcome {
            Ok(draft) => Self::Open(draft),
            Err(error) => Self::Failed(Some(error)),
        };
    }

    fn finish(self) -> io::Result<Draft> {
        match self {
            Self::Open(draft) => draft.sync(),
            Self::Failed(error) => Err(error.unwrap_or_else(|| io::ErrorKind::Other.into())),
            Self::None => Err(io::ErrorKind::WriteZero.into()),
        }
    }
}

/// Threads that write and synchronize: 8. They wait for the disk, not for a processor: with as many files synchronized at
/// a time the file system writes its journal once for all of them. More gained nothing where it was measured.
const WRITERS: usize = 8;

/// How much of a message may wait to be written before its session is paused: 256 KiB, four chunks, so that the disk has
/// something to do while the next one comes in. What the session has read by then comes on top of it, 256 KiB at most.
const WAITING_LIMIT: usize = 256 << 10;
