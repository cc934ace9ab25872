//! The room: its members, what they say, and what they are told.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use asynchat::{AsyncChat, Chat, Conversation, OnTooLong, Terminator};
use asyncore::{ChannelId, CloseReason, Limits, ListenOptions, Map, PostError, Remotes, Result, Thread};
use bytes::Bytes;

use super::names::Names;
use super::status::Figures;

/// What the members share whom one thread serves.
pub(crate) struct Room {
    /// In the order they came.
    members: Vec<ChannelId>,
    /// Under which number each is on the list of names, and the name.
    names: HashMap<ChannelId, (u64, String)>,
    /// The names in all threads.
    all_names: Arc<Names>,
    /// Which thread's part this is.
    index: usize,
    remotes: Remotes<Self>,
    /// What is on its way to the part of each thread, by its index.
    outgoing: Vec<Outgoing>,
    /// Members that are not listened to until it has got on.
    waiting: Vec<ChannelId>,
    pub(crate) opened: Instant,
    /// What the loops of the other threads do, in the thread that serves the status page.
    pub(crate) others: BTreeMap<usize, Figures>,
}

/// What the members of one thread have said, on its way to those of another: posted at once, but when that thread is
/// behind, gathered for one post, so that it is not sent more posts than it comes to.
#[derive(Default)]
struct Outgoing {
    /// Bytes that were posted and have not been passed on yet.
    under_way: usize,
    /// What has been said since the last post.
    gathered: Vec<u8>,
}

impl Outgoing {
    fn send(&mut self, remotes: &Remotes<Room>, from: usize, to: usize) {
        if self.under_way >= AHEAD_LIMIT || self.gathered.is_empty() {
            return;
        }
        let lines = Bytes::from(std::mem::take(&mut self.gathered));
        let bytes = lines.len();
        let posted = remotes.get(to).map(|remote| {
            remote.post(move |map, room| {
                room.pass_on(map, lines);
                let sender = room.remotes.get(from);
                note(sender.map(|sender| sender.post(move |map, room| room.arrived(map, to, bytes))));
            })
        });
        if matches!(posted, Some(Ok(()))) {
            self.under_way += bytes;
        }
        note(posted);
    }
}

/// A loop that has ended has no members.
fn note(posted: Option<Result<(), PostError>>) {
    if let Some(Err(error)) = posted {
        tracing::debug!(%error, "a thread was not told");
    }
}

impl Room {
    /// One thread's part of the room, with the names of all.
    pub(crate) fn new(all_names: &Arc<Names>, thread: &Thread<Self>) -> Self {
        Self {
            members: Vec::new(),
            names: HashMap::new(),
            all_names: Arc::clone(all_names),
            index: thread.index(),
            remotes: thread.remotes(),
            outgoing: std::iter::repeat_with(Outgoing::default).take(thread.count()).collect(),
            waiting: Vec::new(),
            opened: Instant::now(),
            others: BTreeMap::new(),
        }
    }

    /// The name of a member whom this thread serves.
    pub(crate) fn name(&self, id: ChannelId) -> Option<&str> {
        self.names.get(&id).map(|(_, name)| name.as_str())
    }

    /// How many members there are, in all threads.
    pub(crate) fn len(&self) -> usize {
        self.all_names.count()
    }

    /// Passes lines on to the members whom this thread serves.
    fn pass_on(&self, map: &mut Map<Self>, lines: Bytes) {
        map.broadcast(&self.members, lines);
    }

    /// Sends a line to the other threads, in one post to each at most, however many members it serves.
    fn send_on(&mut self, line: &[u8]) {
        for (to, outgoing) in self.outgoing.iter_mut().enumerate() {
            if to != self.index {
                outgoing.gathered.extend_from_slice(line);
                outgoing.send(&self.remotes, self.index, to);
            }
        }
    }

    /// Another thread has passed on what it was sent.
    fn arrived(&mut self, map: &mut Map<Self>, at: usize, bytes: usize) {
        if let Some(outgoing) = self.outgoing.get_mut(at) {
            outgoing.under_way -= bytes;
            outgoing.send(&self.remotes, self.index, at);
        }
        if !self.is_ahead() {
            for id in std::mem::take(&mut self.waiting) {
                map.resume_reading(id);
            }
        }
    }

    /// Whether more has been said here than another thread keeps up with.
    fn is_ahead(&self) -> bool {
        self.outgoing.iter().any(|outgoing| outgoing.gathered.len() >= AHEAD_LIMIT)
    }
}

/// One member's side of the conversation.
pub(crate) struct Member;

/// Puts the room into a thread's map: its listeners.
pub(crate) fn serve(thread: &mut Thread<Room>, at: SocketAddr) -> Result<Vec<ChannelId>> {
    let member = |_peer| {
        AsyncChat::new(Member)
            .terminator(Terminator::line())
            .message_limit(LINE_LIMIT)
            .on_too_long(OnTooLong::Skip)
    };
    let mut limits = Limits::default();
    limits.output = OUTPUT_LIMIT;
    limits.read_budget = READ_BUDGET;
    let mut options = ListenOptions::default();
    options.limits = Some(limits);
    thread.listen_with(at, options, member)
}

impl Chat<Room> for Member {
    fn name(&self) -> &'static str {
        "chat"
    }

    fn handle_connect(&mut self, cx: &mut Conversation<'_, Room>) -> Result {
        let (number, name) = cx.app.all_names.join();
        cx.push(format!("*** welcome, {name}; /help lists what you can do\r\n"));
        cx.app.names.insert(cx.id, (number, name.clone()));
        cx.app.members.push(cx.id);
        tell_all(cx, &format!("*** {name} joined"));
        Ok(())
    }

    fn found_terminator(&mut self, cx: &mut Conversation<'_, Room>, line: &[u8]) -> Result {
        let Ok(line) = std::str::from_utf8(line) else {
            cx.push("!!! not UTF-8: that line was not passed on\r\n");
            return Ok(());
        };
        let line = without_controls(line);
        let (command, rest) = match line.split_once(' ') {
            Some((command, rest)) => (command, rest.trim()),
            None => (&*line, ""),
        };
        match command {
            "/nick" => rename(cx, rest),
            "/who" => list(cx),
            "/me" if !rest.is_empty() => tell_all(cx, &format!("* {} {rest}", own_name(cx))),
            "/help" => {
                cx.push(HELP);
            }
            "/quit" => {
                cx.push("*** bye\r\n");
                leave(cx, "left");
                cx.close_when_done();
            }
            _ if command.starts_with('/') => {
                cx.push(format!("!!! no such command, or not so: {command}; /help lists them\r\n"));
            }
            _ if line.trim().is_empty() => {}
            _ => tell_all(cx, &format!("{}: {line}", own_name(cx))),
        }
        Ok(())
    }

    fn handle_too_long(&mut self, cx: &mut Conversation<'_, Room>, _start: &[u8]) -> Result {
        cx.push(format!("!!! more than {LINE_LIMIT} bytes: that line was not passed on\r\n"));
        Ok(())
    }

    fn handle_eof(&mut self, cx: &mut Conversation<'_, Room>, rest: &[u8]) -> Result {
        if !rest.is_empty() {
            // Whoever ends without a line end meant what they said.
            self.found_terminator(cx, rest)?;
        }
        leave(cx, "left");
        cx.close_when_done();
        Ok(())
    }

    fn handle_shutdown(&mut self, cx: &mut Conversation<'_, Room>) -> Result {
        cx.push("*** the room closes\r\n");
        cx.close_when_done();
        Ok(())
    }

    fn handle_close(&mut self, cx: &mut Conversation<'_, Room>, reason: CloseReason) {
        leave(cx, &format!("is gone: {reason}"));
    }
}

/// Tells every member, the one whose callback runs too. Who says more than the other threads pass on has to wait.
fn tell_all(cx: &mut Conversation<'_, Room>, text: &str) {
    let line = Bytes::from(format!("{text}\r\n"));
    cx.app.send_on(&line);
    if cx.app.is_ahead() {
        cx.app.waiting.push(cx.id);
        cx.pause_reading();
    }
    cx.app.pass_on(cx.map, line);
}

fn own_name(cx: &Conversation<'_, Room>) -> String {
    cx.app.name(cx.id).unwrap_or_default().to_owned()
}

fn rename(cx: &mut Conversation<'_, Room>, name: &str) {
    let is_plain = |letter: char| letter.is_alphanumeric() || matches!(letter, '-' | '_');
    if name.is_empty() || name.chars().count() > NAME_LIMIT || !name.chars().all(is_plain) {
        cx.push(format!("!!! a name is 1 to {NAME_LIMIT} letters, digits, - and _\r\n"));
        return;
    }
    let old = own_name(cx);
    let Some((number, own)) = cx.app.names.get_mut(&cx.id) else { return };
    if !cx.app.all_names.rename(*number, name) {
        cx.push(format!("!!! {name} is somebody else\r\n"));
        return;
    }
    name.clone_into(own);
    tell_all(cx, &format!("*** {old} is now {name}"));
}

fn list(cx: &mut Conversation<'_, Room>) {
    let (count, names) = cx.app.all_names.list(WHO_LIMIT);
    let more = count - names.len();
    let more = if more == 0 { String::new() } else { format!(" and {more} more") };
    cx.push(format!("*** {count} here: {}{more}\r\n", names.join(", ")));
}

/// Takes a member off the list and tells the others, unless that has been done.
fn leave(cx: &mut Conversation<'_, Room>, how: &str) {
    let Some((number, name)) = cx.app.names.remove(&cx.id) else { return };
    cx.app.all_names.leave(number);
    cx.app.members.retain(|id| *id != cx.id);
    tell_all(cx, &format!("*** {name} {how}"));
}

/// The text without what could steer a reader's terminal or turn its writing around; a tab becomes a space.
fn without_controls(text: &str) -> Cow<'_, str> {
    let steers = |letter: char| {
        letter.is_control() || matches!(letter, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    if !text.contains(steers) {
        return Cow::Borrowed(text);
    }
    Cow::Owned(text.replace('\t', " ").replace(steers, ""))
}

const HELP: &str = "\
*** /nick NAME   take another name\r
*** /who         who is here\r
*** /me DOES     say what you do\r
*** /quit        leave\r
*** anything else is said to everybody\r
";

/// Longest line, without its end: 1 KiB, twice that of IRC.
const LINE_LIMIT: usize = 1 << 10;

/// Most bytes queued for one member before it is dropped: 512 KiB; Ergo, an IRC server, allows 96 KiB.
const OUTPUT_LIMIT: usize = 512 << 10;

/// Most bytes that one member may say in a turn: 4 KiB. What is said goes out at the end of the turn, so that somebody
/// who pours in lines must not fill the others' queues within one.
const READ_BUDGET: usize = 4 << 10;

/// How much of what is said in one thread may be under way to another, and may be gathered beside it: 16 KiB, four such
/// turns.
const AHEAD_LIMIT: usize = 16 << 10;

/// Longest name, in letters: 20.
const NAME_LIMIT: usize = 20;

/// Most names that `/who` lists: 200, a screenful.
const WHO_LIMIT: usize = 200;
