//! A script: what happens in one run from outside, and what each channel does when it is called.
//!
//! Channels, peers and timers are named by their place in the order in which they came, taken modulo how many there are.
//! So every part of a script stays meaningful when others are dropped, and the names of what is gone are used as well.

use std::fmt;
use std::time::Duration;

/// One run.
#[derive(Clone, Debug)]
pub(crate) struct Script {
    /// Of the simulation.
    pub(crate) seed: u64,
    pub(crate) setup: Setup,
    pub(crate) steps: Vec<Step>,
}

/// The map's options.
#[derive(Clone, Debug)]
pub(crate) struct Setup {
    pub(crate) connections: usize,
    pub(crate) accept_budget: usize,
    pub(crate) output: usize,
    pub(crate) posts: usize,
    pub(crate) jobs: usize,
    pub(crate) bounds: Bounds,
}

/// The limits of one channel, as far as scripts vary them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bounds {
    pub(crate) output: usize,
    /// Whether a push over `output` is refused; else it closes the channel.
    pub(crate) refuses: bool,
    pub(crate) high: usize,
    pub(crate) low: usize,
    pub(crate) out_size: usize,
    pub(crate) read_budget: usize,
    pub(crate) linger_bytes: usize,
}

/// How long a channel lingers, in every script.
pub(crate) const LINGER_TIME: Duration = Duration::from_millis(400);

/// How long the output of a closing channel may stand still, in every script.
pub(crate) const DRAIN_TIME: Duration = Duration::from_millis(300);

/// Something that happens between turns, or some turns.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    /// A listener, whose connections become channels with the plans of those who dial.
    Listen(Plan),
    /// A peer connects to a listener, and becomes a channel of this plan.
    Dial(u8, Plan),
    /// A connected pair: one end for the map, the other a peer.
    Pair(Plan),
    /// A connected pair, kept for a callback to add.
    Spare,
    Peer(u8, PeerAct),
    Do(Act),
    Turn,
    Settle,
    Advance(u64),
    /// `Map::run_for`.
    Run(u8),
    /// Everything comes to rest, and nothing may be forgotten then.
    Rest,
    Faults(Unkind),
    /// So many writes fail for want of memory.
    NoMemory(u32),
    /// The program may have so many descriptors more than it has; `None` ends the want.
    Descriptors(Option<u8>),
}

/// What a peer does.
#[derive(Clone, Copy, Debug)]
pub(crate) enum PeerAct {
    Send(u16),
    Urgent,
    ShutdownWrite,
    Close,
    Reset,
    StopReading,
    StartReading,
    ReadSome(u16),
    Chunk(u8),
}

/// How unkind the network is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Unkind {
    pub(crate) harmless: bool,
    pub(crate) resets: bool,
    /// What one direction of a connection holds.
    pub(crate) buffer: usize,
}

/// A channel, seen from what names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Who {
    /// Whose callback it is; nobody between turns.
    Me,
    /// From the first on.
    Nth(u8),
    /// From the last back.
    Late(u8),
}

/// Where the map connects to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Answering,
    Refusing,
    Silent,
}

/// A call on the map.
#[derive(Clone, Debug)]
pub(crate) enum Act {
    Push(Who, u16),
    Broadcast(Vec<Who>, u16),
    Send(Who, u16),
    Producer(Who, Vec<Made>),
    DiscardOutput(Who),
    Close(Who),
    CloseWith(Who),
    CloseAll,
    CloseWhenDone(Who),
    ShutdownWrite(Who),
    Pause(Who),
    Resume(Who),
    ReadAgain(Who),
    Recv(Who, u16),
    Touch(Who),
    Want(Who, Want, bool),
    PauseWhenHigh(Who, bool),
    Couple(Who, Who),
    Uncouple(Who, Who),
    Pipe(Who, Who),
    SetLimits(Who, Bounds),
    Remove(Who),
    /// Puts back what was removed first.
    Insert,
    AddSpare(Plan),
    Connect(Place, Plan),
    With(Who, bool, Vec<Self>, End),
    SetTimer(Who, u16),
    SetInterval(Who, u16, u8),
    After(u16, Vec<Self>, End),
    Every(u16, u8, Vec<Self>, End),
    CancelTimer(u8),
    ResetTimer(u8, u16),
    Post(Vec<Self>, End),
    RemotePush(Who, u16),
    Terminator(Ends),
    DiscardBuffers,
    /// A callback that takes its time.
    Dawdle(u16),
    SetTimeout(Who, Clock, Option<u16>),
    SetRate(Who, Direction, Option<(u16, u16)>),
    /// Blocking work, which may panic, and what its result does.
    Spawn(Who, bool, Vec<Self>, End),
    CloseWhenAnswered(Who),
    Unread(Who, u16),
    Replace(Who, Plan),
    Shutdown(u16),
    RemoteShutdown(u16),
    Stop,
    /// `Map::poll`, which a callback may not.
    Poll,
}

/// A timeout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Clock {
    Connect,
    Idle,
    Read,
    Write,
    Total,
    /// With a least rate of so many bytes.
    Rate(u16),
}

/// What a rate limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    Reads,
    Writes,
}

/// A predicate of a raw channel, or a panic in one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Want {
    Read,
    Write,
    Panic,
}

/// What a producer makes when it is asked.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Made {
    Piece(u16),
    Nothing,
    Fail,
    Panic,
}

/// What ends a chat's message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ends {
    Crlf,
    Lf,
    Line,
    Count(u8),
}

/// How a callback ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Well,
    Fail,
    Panic,
}

/// What a channel is, and does when it is called.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) kind: Kind,
    pub(crate) bounds: Option<Bounds>,
    /// Whether what is read is pushed back.
    pub(crate) echoes: bool,
    /// Whether the channel stays open at the peer's end.
    pub(crate) outlives_eof: bool,
    /// Whether an error leaves it open.
    pub(crate) outlives_errors: bool,
    /// Whether a timeout leaves it open.
    pub(crate) outlives_timeouts: bool,
    /// Each is used once, the first that fits.
    pub(crate) reactions: Vec<Reaction>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Listener,
    /// Reads `most` bytes at once, again and again in one callback or not.
    Raw {
        most: u16,
        greedy: bool,
    },
    /// Keeps what it collects or takes it.
    Chat {
        ends: Ends,
        takes: bool,
        limit: Option<u8>,
        skips: bool,
        in_size: u16,
    },
}

/// What a channel does in one callback.
#[derive(Clone, Debug)]
pub(crate) struct Reaction {
    pub(crate) on: Callback,
    pub(crate) acts: Vec<Act>,
    pub(crate) end: End,
}

/// The callbacks, of a raw channel and of a chat.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Callback {
    Connect,
    Accepted,
    Read,
    Write,
    Expt,
    Collect,
    Found,
    TooLong,
    Eof,
    Drained,
    Timer,
    Timeout,
    Done,
    Shutdown,
    Error,
    Close,
}

impl Plan {
    /// Reads, and does nothing else.
    pub(crate) const fn quiet() -> Self {
        Self {
            kind: Kind::Raw { most: 4096, greedy: true },
            bounds: None,
            echoes: false,
            outlives_eof: false,
            outlives_errors: false,
            outlives_timeouts: false,
            reactions: Vec::new(),
        }
    }
}

impl fmt::Display for Script {
    /// A line a step, and one for each reaction of a plan.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "  a map with {:?}", self.setup)?;
        for (at, step) in self.steps.iter().enumerate() {
            match step {
                Step::Listen(plan) => write!(f, "  {at}: Listen {plan}")?,
                Step::Dial(to, plan) => write!(f, "  {at}: Dial({to}) {plan}")?,
                Step::Pair(plan) => write!(f, "  {at}: Pair {plan}")?,
                other => writeln!(f, "  {at}: {other:?}")?,
            }
        }
        Ok(())
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.kind)?;
        if let Some(bounds) = &self.bounds {
            write!(f, ", {bounds:?}")?;
        }
        for (says, what) in [
            (self.echoes, "echoes"),
            (self.outlives_eof, "stays open at the end"),
            (self.outlives_errors, "stays open after errors"),
            (self.outlives_timeouts, "stays open after timeouts"),
        ] {
            if says {
                write!(f, ", {what}")?;
            }
        }
        writeln!(f)?;
        for Reaction { on, acts, end } in &self.reactions {
            writeln!(f, "       on {on:?}: {acts:?}, ends {end:?}")?;
        }
        Ok(())
    }
}
