//! [`Pool`]: the connections to the next server, and the messages that wait for one.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

use asynchat::{AsyncChat, Terminator};
use asyncore::{ChannelId, Map, Timeout};

use super::answer::ANSWER_LINE;
use super::client::{CONNECT_TIME, Client, WRITE_TIME};
use super::job::Job;
use super::options::RelayOptions;
use super::tls::NextTls;
use crate::app::App;
use crate::delivery::Outcome;
use crate::reply::Reply;

/// What all connections to the next server share.
///
/// Each message that waits is one that a session waits for, so there are no more of them than sessions.
pub(crate) struct Pool {
    pub(crate) options: RelayOptions,
    pub(crate) tls: Option<NextTls>,
    /// Borrowed for a moment, never while a channel is called.
    state: RefCell<State>,
}

#[derive(Debug, Default)]
struct State {
    waiting: VecDeque<Job>,
    /// Every connection that is open, or being made.
    clients: Vec<ChannelId>,
    /// Those among them that have nothing to do; the one that was used last comes last.
    idle: Vec<ChannelId>,
}

impl Pool {
    pub(crate) fn new(options: RelayOptions, tls: Option<NextTls>) -> Self {
        Self { options, tls, state: RefCell::default() }
    }

    /// The next server, as it is told in replies and in the log.
    pub(crate) fn next(&self) -> &str {
        &self.options.next.host
    }

    /// Has a message passed on. Its session is told from the loop, never before this returns: it could not be called.
    pub(crate) fn submit(self: Rc<Self>, map: &mut Map<App>, mut job: Job) {
        let (pool, envelope) = (Rc::clone(&self), job.envelope.clone());
        job.deadline = Some(map.after(PATIENCE, move |map, app| pool.give_up(map, app, &envelope.id)));
        self.state.borrow_mut().waiting.push_back(job);
        map.after(Duration::ZERO, move |map, app| self.dispatch(map, app));
    }

    /// Gives messages that wait to connections, as far as there may be some.
    pub(crate) fn dispatch(self: &Rc<Self>, map: &mut Map<App>, app: &mut App) {
        while let Some(job) = self.take_waiting() {
            let Some(job) = self.give_to_idle(map, app, job) else { continue };
            if self.state.borrow().clients.len() >= CONNECTIONS {
                return self.state.borrow_mut().waiting.push_front(job);
            }
            self.connect(map, app, job);
        }
    }

    /// The message that has waited longest.
    pub(crate) fn take_waiting(&self) -> Option<Job> {
        self.state.borrow_mut().waiting.pop_front()
    }

    /// Gives a message to a connection that is there already; it comes back if none is.
    fn give_to_idle(&self, map: &mut Map<App>, app: &mut App, job: Job) -> Option<Job> {
        let mut job = Some(job);
        while let Some(id) = self.take_idle() {
            if job.as_ref().is_some_and(|job| job.is_second_try) {
                // One that was used later than this one was lost: this one is too, most likely.
                map.close(id);
                self.forget(id);
                continue;
            }
            map.with(app, id, |chat: &mut AsyncChat<Client>, cx| {
                chat.converse(cx, |client, cx| {
                    if let Some(job) = job.take() {
                        client.serve(cx, job);
                    }
                });
            });
            job.as_ref()?;
        }
        job
    }

    fn take_idle(&self) -> Option<ChannelId> {
        self.state.borrow_mut().idle.pop()
    }

    /// Makes a connection for a message.
    fn connect(self: &Rc<Self>, map: &mut Map<App>, app: &mut App, job: Job) {
        let chat = AsyncChat::new(Client::new(Rc::clone(self)));
        let chat = chat.terminator(Terminator::crlf()).message_limit(ANSWER_LINE);
        let next = &self.options.next;
        match map.connect_host(&next.host, next.port, chat) {
            Ok(id) => {
                self.state.borrow_mut().clients.push(id);
                map.set_timeout(id, Timeout::Connect, Some(CONNECT_TIME));
                map.set_timeout(id, Timeout::Write, Some(WRITE_TIME));
                // Nothing has run since, so that it is there.
                if let Some(chat) = map.handler_mut::<AsyncChat<Client>>(id) {
                    chat.user_mut().give(job);
                }
            }
            Err(error) => {
                let reply = Reply::new(451, "4.4.1", error);
                job.settle(map, app, self.next(), Outcome::All(reply));
            }
        }
    }

    /// A connection has nothing to do.
    pub(crate) fn is_idle(&self, id: ChannelId) {
        self.state.borrow_mut().idle.push(id);
    }

    /// A connection is no longer to be used, or is gone.
    pub(crate) fn forget(&self, id: ChannelId) {
        let mut state = self.state.borrow_mut();
        state.clients.retain(|client| *client != id);
        state.idle.retain(|client| *client != id);
    }

    /// A message is to have another connection: a new one, as soon as it is dispatched.
    pub(crate) fn try_again(&self, mut job: Job) {
        job.is_second_try = true;
        self.state.borrow_mut().waiting.push_front(job);
    }

    /// The map shuts down, and has waited long enough.
    pub(crate) fn refuse_waiting(&self, map: &mut Map<App>, app: &mut App) {
        while let Some(job) = self.take_waiting() {
            job.settle(map, app, self.next(), Outcome::All(SHUT_DOWN));
        }
    }

    /// A message has had its time, wherever it is.
    fn give_up(&self, map: &mut Map<App>, app: &mut App, id: &str) {
        let mut state = self.state.borrow_mut();
        let waits = state.waiting.iter().position(|job| job.envelope.id == id);
        let waiting = waits.and_then(|at| state.waiting.remove(at));
        let clients = if waiting.is_none() { state.clients.clone() } else { Vec::new() };
        drop(state);
        if let Some(job) = waiting {
            job.settle(map, app, self.next(), Outcome::All(BUSY));
        }
        for client in clients {
            map.with(app, client, |chat: &mut AsyncChat<Client>, cx| {
                chat.converse(cx, |client, cx| client.give_up(cx, id));
            });
        }
    }
}

impl std::fmt::Debug for Pool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pool").field("next", &self.options.next).finish_non_exhaustive()
    }
}

const SHUT_DOWN: Reply = Reply::fixed("451 4.3.2 The server shuts down\r\n");
const BUSY: Reply = Reply::fixed("451 4.4.5 No connection to the next server was free in time\r\n");

/// Most connections to the next server at a time: 20, as Postfix has for one destination. More is taken for an attack by
/// some servers.
const CONNECTIONS: usize = 20;

/// How long a message may take until its last byte is sent: 9 minutes. A client waits for the reply to its message for 10
/// (RFC 5321, section 4.5.3.2.6); one that has gone would send again what was passed on meanwhile. So it hears of a failure
/// before that. When the last byte is sent, the next server has its own 10 minutes, since it is too late to take it back.
const PATIENCE: Duration = Duration::from_secs(9 * 60);
