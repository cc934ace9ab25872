//! The reference: what may happen to each channel, and what must have, kept beside the map by those who use it.
//!
//! It is the application's state of the simulation, so every callback reports here before it does anything. Nothing of it is
//! asked of the map that the map's user could not know.

use std::cell::Cell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

use asyncore::testing::{Peer, PeerListener, VirtualClock};
use asyncore::{Address, Channel, ChannelId, CloseReason, Dispatcher, Map, Pushed, State, Timeout, TimerId};

use crate::clocks::{Limited, Moved, Running};
use crate::queue::Out;
use crate::script::{Bounds, Callback, Ends, Kind, Place, Plan, Script};
use crate::seen::Seen;

pub(crate) struct Model {
    /// Set as soon as there is a simulation.
    pub(crate) clock: Option<VirtualClock>,
    pub(crate) seen: Seen,
    /// What should not have happened.
    pub(crate) wrong: Vec<String>,
    /// What happened, if somebody is to read it.
    pub(crate) trace: Option<Vec<String>>,
    pub(crate) channels: Vec<Chan>,
    pub(crate) peers: Vec<PeerSide>,
    pub(crate) timers: Vec<Timer>,
    /// Connected ends that a callback may add, and their peers.
    pub(crate) spare: VecDeque<(Dispatcher, usize)>,
    /// What was removed from the map.
    pub(crate) detached: VecDeque<(usize, Dispatcher, Box<dyn Channel<Self>>)>,
    pub(crate) answering: Option<PeerListener>,
    pub(crate) posts: Posts,
    pub(crate) jobs: Vec<Job>,
    pub(crate) most_jobs: usize,
    /// At most so many of them.
    pub(crate) jobs_under_way: usize,
    /// The turn that is under way, and when it began.
    pub(crate) turn: (u64, Duration),
    /// The one before, among those in which something happened.
    pub(crate) turn_before: (u64, Duration),
    /// Whose callback runs.
    pub(crate) running: Option<(usize, Callback)>,
    /// Whose handler is lent to `with`.
    pub(crate) lent: Vec<usize>,
    /// Whether turns are served.
    pub(crate) in_loop: bool,
    /// When the shutdown that is under way is over: between these, if the loop heard of it from afar.
    pub(crate) shutdown: Option<(Duration, Duration)>,
    pub(crate) was_shut_down: bool,
    /// A shutdown that the loop has not heard of.
    pub(crate) asked_from_afar: Option<(Duration, Duration)>,
    /// A push from afar that is under way: to whom, what it is to answer, and how much was queued before.
    pub(crate) watched: Option<(usize, Option<Pushed>, Option<usize>)>,
    /// Connections may have been lost by nobody's wish.
    pub(crate) resets: bool,
    pub(crate) accepted: u64,
    /// A queue was dropped over a cap, and nobody knows which pushes it had taken before.
    pub(crate) was_shed: bool,
    pub(crate) connections: usize,
    pub(crate) accept_budget: usize,
    pub(crate) most_output: usize,
    pub(crate) bounds: Bounds,
    /// Makes bytes that are told apart from others.
    fresh: u32,
}

#[derive(Debug, Default)]
pub(crate) struct Posts {
    pub(crate) most: usize,
    pub(crate) made: u64,
    pub(crate) run: u64,
    /// Pushes among those that wait.
    pub(crate) pushes: u64,
    /// Pushes in all.
    pub(crate) pushed: u64,
}

impl Posts {
    /// At most so many wait for the loop.
    pub(crate) const fn waiting(&self) -> u64 {
        self.made - self.run + self.pushes
    }
}

/// One channel, from its first id to its last.
pub(crate) struct Chan {
    pub(crate) id: ChannelId,
    pub(crate) plan: Plan,
    pub(crate) wants: Rc<Wants>,
    pub(crate) peer: Option<usize>,
    /// It connects, or connected, there.
    pub(crate) place: Option<Place>,
    /// It listens there.
    pub(crate) address: Option<Address>,
    pub(crate) life: Life,
    /// Why it closed, as far as the model knows.
    pub(crate) cause: Cause,
    /// A panic or a failed connect overrides every other reason.
    pub(crate) forced: Option<CloseReason>,
    pub(crate) reason: Option<CloseReason>,
    /// Nothing comes before `handle_connect`.
    pub(crate) connect_due: bool,
    pub(crate) told_connect: bool,
    pub(crate) told_eof: bool,
    pub(crate) told_shutdown: bool,
    pub(crate) ending: Ending,
    /// When it was seen to begin to end.
    pub(crate) lingers_since: Option<Duration>,
    /// When it was seen to drain, with so many bytes sent.
    pub(crate) drains_since: Option<(Duration, u64)>,
    pub(crate) added_at: Duration,
    pub(crate) paused: bool,
    pub(crate) couplings: Vec<usize>,
    pub(crate) high: Level,
    pub(crate) bounds: Bounds,
    pub(crate) bounds_changed: bool,
    pub(crate) out: Out,
    /// Pushes that were taken.
    pub(crate) pushes: u64,
    /// Messages that it was told.
    pub(crate) messages: u64,
    /// Of `out`, so many bytes have reached the peer.
    pub(crate) delivered: usize,
    /// Bytes of input that were received; of a chat, up to where its message begins.
    pub(crate) read: usize,
    /// Pieces of a chat's message.
    pub(crate) gathered: Vec<u8>,
    pub(crate) ends: Ends,
    /// A message is passed over.
    pub(crate) skipping: bool,
    /// A callback failed, and `handle_error` is to hear of it.
    pub(crate) error_due: bool,
    /// `handle_error` runs for an error that closes.
    pub(crate) erring: bool,
    /// It closed in `handle_error`, where it was to close when done before.
    pub(crate) erred: bool,
    pub(crate) budget: Budget,
    pub(crate) clocks: Vec<Running>,
    /// The clock that ran out, if it was left to close over that.
    pub(crate) timed_out: Option<Timeout>,
    /// Several things may have gone wrong at once.
    pub(crate) is_unclear: bool,
    pub(crate) timeouts: u32,
    pub(crate) input: Moved,
    pub(crate) output: Moved,
    pub(crate) rates: Vec<Limited>,
    /// It closes once its blocking work is done.
    pub(crate) answering: bool,
    /// Of what was received, so many bytes were put back.
    pub(crate) back: usize,
    /// Somebody else than its own `handle_read` has received for it.
    pub(crate) received_outside: bool,
    /// It is a chat that was handed over, and has not been called yet.
    pub(crate) prepares: bool,
    /// What it becomes when its callback returns.
    pub(crate) next: Option<(Plan, Rc<Wants>)>,
}

/// Of a channel's last turn: what it received then, or accepted, and how much it may.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Budget {
    pub(crate) turn: u64,
    pub(crate) most: usize,
    pub(crate) used: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Life {
    Open,
    /// Closed, and its `handle_close` is due.
    Closed,
    /// It heard `handle_close`.
    Over,
    Removed,
}

/// Why a channel closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cause {
    /// Something outside the program's calls.
    Unknown,
    /// A call of the program.
    Local,
    Exactly(CloseReason),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Ending {
    No,
    Writing,
    WhenDone,
}

/// Whether output was above the high mark since it was last said to have drained.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Level {
    No,
    Yes,
    /// Producers add to the output when the map asks them.
    Unsure,
}

/// What a raw handler answers, changed from outside.
#[derive(Debug)]
pub(crate) struct Wants {
    pub(crate) read: Cell<bool>,
    pub(crate) write: Cell<bool>,
    pub(crate) panic: Cell<bool>,
}

impl Default for Wants {
    fn default() -> Self {
        Self { read: Cell::new(true), write: Cell::new(false), panic: Cell::new(false) }
    }
}

/// A peer, and what the script has had it do.
pub(crate) struct PeerSide {
    pub(crate) peer: Peer,
    pub(crate) sent: usize,
    pub(crate) reads: bool,
    pub(crate) ended: bool,
    pub(crate) closed: bool,
    pub(crate) reset: bool,
    /// The listener it dialled, and the plan of what becomes of it there.
    pub(crate) dialled: Option<(Address, Plan)>,
    pub(crate) channel: Option<usize>,
    /// The listener has had it.
    pub(crate) was_accepted: bool,
    /// Nobody knows whose other side it is.
    pub(crate) orphan: bool,
}

impl PeerSide {
    pub(crate) fn new(peer: Peer, dialled: Option<(Address, Plan)>) -> Self {
        Self {
            peer,
            sent: 0,
            reads: true,
            ended: false,
            closed: false,
            reset: false,
            dialled,
            channel: None,
            was_accepted: false,
            orphan: false,
        }
    }
}

/// A piece of blocking work.
pub(crate) struct Job {
    pub(crate) channel: usize,
    pub(crate) panics: bool,
    /// Its result has not been told.
    pub(crate) waits: bool,
    /// It was begun for a chat.
    pub(crate) chat: bool,
    /// The channel had a handler of another kind meanwhile: its result may have been dropped.
    pub(crate) is_unsure: bool,
}

pub(crate) struct Timer {
    pub(crate) id: TimerId,
    /// `None`: the map's.
    pub(crate) channel: Option<usize>,
    pub(crate) due: Duration,
    pub(crate) period: Option<Duration>,
    pub(crate) waits: bool,
    /// It is cancelled when it has come so often.
    pub(crate) lives: u8,
    /// The turn in which it came last.
    pub(crate) came: u64,
    /// The turn in which it was set, reset, or came.
    pub(crate) set: u64,
}

impl Model {
    pub(crate) fn new(script: &Script) -> Self {
        let setup = &script.setup;
        Self {
            clock: None,
            seen: Seen::default(),
            wrong: Vec::new(),
            trace: None,
            channels: Vec::new(),
            peers: Vec::new(),
            timers: Vec::new(),
            spare: VecDeque::new(),
            detached: VecDeque::new(),
            answering: None,
            posts: Posts { most: setup.posts, ..Posts::default() },
            jobs: Vec::new(),
            most_jobs: setup.jobs,
            jobs_under_way: 0,
            turn: (0, Duration::ZERO),
            turn_before: (0, Duration::ZERO),
            running: None,
            lent: Vec::new(),
            in_loop: false,
            shutdown: None,
            was_shut_down: false,
            asked_from_afar: None,
            watched: None,
            resets: false,
            accepted: 0,
            was_shed: false,
            connections: setup.connections,
            accept_budget: setup.accept_budget,
            most_output: setup.output,
            bounds: setup.bounds,
            fresh: 0,
        }
    }

    pub(crate) fn wrong(&mut self, what: String) {
        self.note(|| format!("WRONG: {what}"));
        self.wrong.push(what);
    }

    /// Says what is wrong unless `holds`.
    pub(crate) fn check(&mut self, holds: bool, what: impl FnOnce() -> String) {
        if !holds {
            self.wrong(what());
        }
    }

    pub(crate) fn note(&mut self, what: impl FnOnce() -> String) {
        let now = self.now();
        if let Some(trace) = &mut self.trace {
            trace.push(format!("{:>8.3} ms  {}", now.as_secs_f64() * 1000.0, what()));
        }
    }

    /// The time that has passed in the simulation.
    pub(crate) fn now(&self) -> Duration {
        self.clock.as_ref().map_or(Duration::ZERO, VirtualClock::elapsed)
    }

    /// Bytes that are told apart from others.
    pub(crate) fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count)
            .map(|_| {
                self.fresh = self.fresh.wrapping_add(1);
                b'a' + u8::try_from(self.fresh % 25).unwrap_or(0)
            })
            .collect()
    }

    /// Knows of a channel that was added to the map, as the next in `channels`.
    pub(crate) fn channel(
        &mut self,
        id: ChannelId,
        plan: Plan,
        wants: Rc<Wants>,
        peer: Option<usize>,
    ) -> usize {
        let me = self.channels.len();
        let ends = if let Kind::Chat { ends, .. } = plan.kind { ends } else { Ends::Crlf };
        let bounds = plan.bounds.unwrap_or(self.bounds);
        if let Some(peer) = peer {
            self.peers[peer].channel = Some(me);
        }
        self.channels.push(Chan {
            id,
            plan,
            wants,
            peer,
            place: None,
            address: None,
            life: Life::Removed,
            cause: Cause::Unknown,
            forced: None,
            reason: None,
            connect_due: false,
            told_connect: false,
            told_eof: false,
            told_shutdown: false,
            ending: Ending::No,
            lingers_since: None,
            drains_since: None,
            added_at: Duration::ZERO,
            paused: false,
            couplings: Vec::new(),
            high: Level::No,
            bounds,
            bounds_changed: false,
            out: Out::default(),
            pushes: 0,
            messages: 0,
            delivered: 0,
            read: 0,
            gathered: Vec::new(),
            ends,
            skipping: false,
            error_due: false,
            erring: false,
            erred: false,
            budget: Budget::default(),
            clocks: Vec::new(),
            timed_out: None,
            is_unclear: false,
            timeouts: 0,
            input: Moved::default(),
            output: Moved::default(),
            rates: Vec::new(),
            answering: false,
            back: 0,
            received_outside: false,
            prepares: false,
            next: None,
        });
        me
    }

    /// A channel is in the map, for the first time or again.
    pub(crate) fn added(&mut self, map: &Map<Self>, me: usize, id: ChannelId) {
        self.note(|| format!("channel {me} is added as {id}"));
        let state = map.get(id).map(Dispatcher::state);
        let load = self.load(map, me, id);
        let now = self.now();
        let chan = &mut self.channels[me];
        chan.id = id;
        chan.added_at = now;
        chan.life = Life::Open;
        chan.connect_due = matches!(state, Some(State::Open | State::Connecting));
        chan.told_connect = false;
        chan.told_shutdown = false;
        chan.paused = false;
        chan.high = match load > chan.bounds.high {
            true if chan.out.sources() > 0 => Level::Unsure,
            true => Level::Yes,
            false => Level::No,
        };
        chan.lingers_since = None;
        chan.drains_since = None;
        chan.answering = false;
        chan.couplings.clear();
        self.restart_clocks(map, me);
        let known = self.channels.iter().filter(|chan| chan.id == id).count();
        self.check(known == 1, || format!("the id {id} is used again"));
    }

    /// What limits and marks go by.
    pub(crate) fn load(&mut self, map: &Map<Self>, me: usize, id: ChannelId) -> usize {
        let Some(dispatcher) = map.get(id) else { return 0 };
        let out = &mut self.channels[me].out;
        out.queued(length(dispatcher.bytes_out())) + PRODUCER_LOAD * out.sources()
    }

    /// Learns of channels that the map has closed by itself, for this reason if it is known.
    pub(crate) fn learn_closed(&mut self, map: &Map<Self>, cause: Cause) {
        self.learn_answered(map);
        for me in 0..self.channels.len() {
            if self.channels[me].life == Life::Open && !map.is_open(self.channels[me].id) {
                self.closed(me, cause);
            }
        }
    }

    /// A channel is closed, if it was open.
    pub(crate) fn closed(&mut self, me: usize, cause: Cause) {
        let chan = &mut self.channels[me];
        if chan.life != Life::Open {
            return;
        }
        chan.life = Life::Closed;
        chan.cause = cause;
        self.leave_map(me);
        self.note(|| format!("channel {me} is closed: {cause:?}"));
    }

    /// Its timers and couplings end with a channel.
    pub(crate) fn leave_map(&mut self, me: usize) {
        for job in self.jobs.iter_mut().filter(|job| job.channel == me) {
            job.waits = false;
        }
        for timer in self.timers.iter_mut().filter(|timer| timer.channel == Some(me)) {
            timer.waits = false;
        }
        for (at, chan) in self.channels.iter_mut().enumerate() {
            if at == me {
                chan.couplings.clear();
            } else {
                chan.couplings.retain(|to| *to != me);
            }
        }
    }

    /// Whether a handler is out of the map, lent to a callback or to `with`.
    pub(crate) fn is_out(&self, me: usize) -> bool {
        self.running.is_some_and(|(running, _)| running == me) || self.lent.contains(&me)
    }

    pub(crate) fn is_open(&self, me: usize) -> bool {
        self.channels[me].life == Life::Open
    }

    /// Whether the output of a channel that this one is coupled to holds it.
    pub(crate) fn is_held(&mut self, map: &Map<Self>, me: usize) -> Level {
        let chan = &self.channels[me];
        let mut held = if chan.prepares && chan.high != Level::No { Level::Unsure } else { Level::No };
        for to in self.channels[me].couplings.clone() {
            let load = self.load(map, to, self.channels[to].id);
            let target = &mut self.channels[to];
            match target.high {
                Level::No => {}
                Level::Yes
                    if load > target.bounds.low && !target.bounds_changed && target.out.sources() == 0 =>
                {
                    return Level::Yes;
                }
                _ => held = Level::Unsure,
            }
        }
        held
    }

    /// How long a chat's next message is, and its terminator, among what its peer has sent.
    pub(crate) fn next_message(&self, me: usize) -> Option<(usize, usize)> {
        let chan = &self.channels[me];
        let peer = chan.peer?;
        let rest = input(peer, chan.read, self.peers[peer].sent);
        match chan.ends {
            Ends::Crlf => rest.windows(2).position(|pair| pair == b"\r\n").map(|at| (at, 2)),
            Ends::Lf => rest.iter().position(|byte| *byte == b'\n').map(|at| (at, 1)),
            Ends::Line => rest
                .iter()
                .position(|byte| *byte == b'\n')
                .map(|at| if at > 0 && rest[at - 1] == b'\r' { (at - 1, 2) } else { (at, 1) }),
            Ends::Count(count) => (rest.len() >= usize::from(count)).then_some((usize::from(count), 0)),
        }
    }

    /// The most bytes of a chat's message, when it has a limit.
    pub(crate) fn message_limit(&self, me: usize) -> Option<usize> {
        match self.channels[me].plan.kind {
            Kind::Chat { limit, takes: false, .. } => limit.map(usize::from),
            _ => None,
        }
    }
}

/// What a peer sends, from one place to another.
pub(crate) fn input(peer: usize, from: usize, to: usize) -> Vec<u8> {
    (from..to).map(|at| input_byte(peer, at)).collect()
}

/// Byte `at` of what a peer sends: letters, with line ends of every kind among them.
fn input_byte(peer: usize, at: usize) -> u8 {
    let mix = |at: usize| {
        let mixed = (at as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15)
            ^ (peer as u64).wrapping_mul(0xd1b5_4a32_d192_ed03);
        (mixed ^ (mixed >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 32
    };
    let begins_line_end = |at: usize| mix(at) % 12 == 0;
    if at > 0 && begins_line_end(at - 1) {
        return b'\n';
    }
    match mix(at) {
        mixed if begins_line_end(at) || mixed % 31 == 0 => b'\r',
        mixed if mixed % 37 == 0 => b'\n',
        mixed => b'a' + u8::try_from((mixed >> 8) % 26).unwrap_or(0),
    }
}

pub(crate) fn length(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}

/// What a producer counts towards limits and marks.
pub(crate) const PRODUCER_LOAD: usize = 1 << 10;
