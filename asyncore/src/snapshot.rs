//! [`Snapshot`]: what a map holds at one moment, as plain data.

use std::fmt;
use std::time::Duration;

use crate::entry::{Entry, Flags};
use crate::interest::Pauses;
use crate::{
    Address, ChannelCounters, ChannelId, CloseReason, Counters, Family, Kind, Map, State, Timeout, Timings,
};

/// What a map holds at one moment: a plain copy that can be kept, compared and sent to another thread;
/// [`Map::snapshot`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Snapshot {
    /// What the map has done so far.
    pub counters: Counters,
    /// Bytes of output queued in all channels together.
    pub queued: usize,
    /// Deadlines that wait for their time: of timers, of timeouts, and of what the loop itself waits for.
    pub deadlines: usize,
    /// Posts of other threads that wait for the loop.
    pub posts: usize,
    /// Pieces of blocking work that are under way.
    pub jobs: usize,
    /// How long turns and callbacks took so far, if the map measures it.
    pub timings: Option<Timings>,
    /// Whether the map shuts down.
    pub shutting_down: bool,
    /// Every channel that is not closed, by slot.
    pub channels: Vec<ChannelSnapshot>,
}

/// One channel at one moment: a part of a [`Snapshot`], or by itself from [`Map::channel_snapshot`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ChannelSnapshot {
    /// Its id.
    pub id: ChannelId,
    /// What its handler [is called](crate::Channel::name); `None` while a callback of it runs.
    pub name: Option<&'static str>,
    /// Where it is in its life.
    pub state: State,
    /// Why it closes, once that is settled.
    pub reason: Option<CloseReason>,
    /// The family of its addresses.
    pub family: Family,
    /// Whether it carries a stream or datagrams.
    pub kind: Kind,
    /// The address it is bound to, if the system tells.
    pub local_addr: Option<Address>,
    /// The peer's address, as accept or connect knew it.
    pub peer_addr: Option<Address>,
    /// What it has done so far.
    pub counters: ChannelCounters,
    /// Bytes of output that are queued.
    pub queued: usize,
    /// Whether output waits because the socket did not take all of it.
    pub stalled: bool,
    /// Why it does not read, or accept, for now; empty when nothing keeps it from that.
    pub pauses: Vec<Pause>,
    /// Timers of its own that wait.
    pub timers: usize,
    /// The clock that runs out first if nothing happens until then, and how long that is.
    pub timeout: Option<(Timeout, Duration)>,
    /// Pieces of its blocking work whose results it has not been told.
    pub jobs: usize,
    /// Whether the loop ends without waiting for it: see [`Map::set_background`].
    pub background: bool,
}

/// Why a channel does not read for now, or a listener not accept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Pause {
    /// The program asked for it: [`Map::pause_reading`].
    User,
    /// A listener has no descriptor to accept with, or the map is full.
    Accept,
    /// A listener has as many connections open as its [`ListenOptions`](crate::ListenOptions) allow.
    Full,
    /// Its own output is high: [`Map::pause_when_high`].
    Output,
    /// The output of a channel that it is coupled to is high: [`Map::couple`].
    Coupling,
    /// It has received all that its rate limit allows for now.
    Rate,
    /// It closes when the results of its blocking work have been told: [`Map::close_when_answered`].
    Ending,
}

impl fmt::Display for Pause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::User => "paused",
            Self::Accept => "no room to accept",
            Self::Full => "connections full",
            Self::Output => "output high",
            Self::Coupling => "coupled output high",
            Self::Rate => "rate limit",
            Self::Ending => "ending",
        })
    }
}

/// # Snapshots
impl<A: 'static> Map<A> {
    /// What the map holds now, as plain data: for a status page, a log or a test.
    ///
    /// It walks over every channel and asks the system for the address of each: for now and then, rather than for every
    /// turn.
    ///
    /// ```
    /// use asyncore::{Map, State};
    /// # struct Echo;
    /// # impl asyncore::Channel for Echo {}
    ///
    /// let mut map: Map = Map::new()?;
    /// map.listen("127.0.0.1:0", |_peer| Echo)?;
    /// let snapshot = map.snapshot();
    /// for channel in &snapshot.channels {
    ///     println!("{} {:?} {} {:?}", channel.id, channel.name, channel.state, channel.local_addr);
    /// }
    /// assert_eq!(snapshot.channels[0].state, State::Listening);
    /// # Ok::<(), asyncore::Error>(())
    /// ```
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        Snapshot {
            counters: self.counters(),
            queued: self.queued,
            deadlines: self.deadlines.len(),
            posts: self.posts.len(),
            jobs: self.blocking.len(),
            timings: self.timings().cloned(),
            shutting_down: self.is_shutting_down(),
            channels: self.iter().filter_map(|(id, _)| self.channel_snapshot(id)).collect(),
        }
    }

    /// What a channel is about now; `None` when there is none or it is closed.
    #[must_use]
    pub fn channel_snapshot(&self, id: ChannelId) -> Option<ChannelSnapshot> {
        let Entry { dispatcher, handler, pauses, flags, .. } = self.live(id)?;
        Some(ChannelSnapshot {
            id,
            name: handler.as_ref().map(|handler| handler.name()),
            state: dispatcher.state,
            reason: dispatcher.reason,
            family: dispatcher.family(),
            kind: dispatcher.kind(),
            local_addr: dispatcher.local_addr().ok().flatten(),
            peer_addr: dispatcher.peer_addr(),
            counters: self.channel_counters(id)?,
            queued: dispatcher.queued(),
            stalled: flags.any(Flags::STALLED) && dispatcher.outbox.is_some(),
            pauses: NAMED
                .iter()
                .filter(|(pause, _)| pauses.contains(*pause))
                .map(|(_, name)| *name)
                .collect(),
            timers: self.timers.count(dispatcher.rare_ref().and_then(|rare| rare.timers)),
            timeout: self.next_timeout(id),
            jobs: self.pending_work(id),
            background: flags.has(Flags::BACKGROUND),
        })
    }
}

/// The reasons by their public names.
const NAMED: [(Pauses, Pause); 7] = [
    (Pauses::USER, Pause::User),
    (Pauses::ACCEPT, Pause::Accept),
    (Pauses::FULL, Pause::Full),
    (Pauses::OUTPUT, Pause::Output),
    (Pauses::COUPLING, Pause::Coupling),
    (Pauses::RATE, Pause::Rate),
    (Pauses::ENDING, Pause::Ending),
];
