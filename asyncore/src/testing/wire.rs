//! What the network knows of one end of a connection, of a listener, and of what is under way.

use std::collections::VecDeque;
use std::io;
use std::time::Instant;

use crate::Address;
use crate::interest::Interest;
use crate::poller::Event;

/// The name of one end; never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct EndId(pub(super) u64);

/// One end of a connection, or a listener.
#[derive(Debug)]
pub(super) struct Wire {
    pub(super) role: Role,
    pub(super) local: Option<Address>,
    pub(super) remote: Option<Address>,
    /// The other end; it may be gone.
    pub(super) other: Option<EndId>,
    /// Arrived, and not read yet.
    pub(super) inbox: VecDeque<u8>,
    /// Bytes under way to here.
    pub(super) coming: usize,
    /// Nothing that is under way to here arrives before what was sent earlier.
    pub(super) last_arrival: Instant,
    /// The other side's end has arrived.
    pub(super) ended: bool,
    /// This side has ended its writing.
    pub(super) finished: bool,
    /// The socket is closed; a scripted end stays to be looked at.
    pub(super) closed: bool,
    /// The connection is lost.
    pub(super) lost: bool,
    /// The loss, until somebody was told of it.
    pub(super) error: Option<io::ErrorKind>,
    pub(super) urgent: Option<u8>,
    pub(super) registered: Option<(usize, Interest)>,
    /// Closing resets the connection.
    pub(super) resets: bool,
    /// Most bytes that one read of the other end gives.
    pub(super) chunk: Option<usize>,
    /// Of an end that a test plays.
    pub(super) script: Option<Script>,
}

#[derive(Debug)]
pub(super) enum Role {
    /// Neither connected nor listening.
    Fresh,
    /// The ends that wait to be accepted, and how many may.
    Listening(VecDeque<EndId>, usize),
    Connecting,
    Connected,
}

/// What a test has an end do.
#[derive(Debug)]
pub(super) struct Script {
    pub(super) reads: bool,
    /// Read, and not consumed by an expectation yet.
    pub(super) received: Vec<u8>,
    /// To be sent as soon as there is room.
    pub(super) outgoing: VecDeque<u8>,
    /// What follows the last byte of `outgoing`.
    pub(super) then: Then,
    /// Nobody looks at it any more.
    pub(super) forgotten: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Then {
    GoOn,
    Finish,
    Close,
}

impl Default for Script {
    fn default() -> Self {
        Self {
            reads: true,
            received: Vec::new(),
            outgoing: VecDeque::new(),
            then: Then::GoOn,
            forgotten: false,
        }
    }
}

/// What is under way.
#[derive(Debug)]
pub(super) struct Flight {
    pub(super) from: EndId,
    pub(super) load: Load,
}

#[derive(Debug)]
pub(super) enum Load {
    /// A connect's question, to whoever listens there.
    Dial(Address),
    /// The same, to a listener whose queue was full.
    DialAgain(Address),
    /// Its answer, to this end.
    Connected(EndId),
    Refused(EndId),
    Bytes(EndId, Vec<u8>),
    Urgent(EndId, u8),
    End(EndId),
    Reset(EndId),
}

impl Wire {
    pub(super) fn new(role: Role, now: Instant) -> Self {
        Self {
            role,
            local: None,
            remote: None,
            other: None,
            inbox: VecDeque::new(),
            coming: 0,
            last_arrival: now,
            ended: false,
            finished: false,
            closed: false,
            lost: false,
            error: None,
            urgent: None,
            registered: None,
            resets: false,
            chunk: None,
            script: None,
        }
    }

    /// The connection is lost, for this reason.
    pub(super) fn lose(&mut self, error: io::ErrorKind) {
        self.lost = true;
        self.error = Some(error);
        self.role = Role::Connected;
    }

    /// What the poller says of a registered end, with the system's rules: a level, and hang-ups and errors unasked.
    pub(super) fn event(&self, has_room: bool) -> Option<Event> {
        let (key, interest) = self.registered?;
        let (input, output) = match &self.role {
            Role::Fresh | Role::Connecting => (false, false),
            Role::Listening(queue, _) => (!queue.is_empty(), false),
            Role::Connected => (!self.inbox.is_empty() || self.ended, has_room || self.finished),
        };
        let failed = self.error.is_some();
        let hung_up = self.lost || (self.ended && self.finished);
        let over = failed || hung_up;
        let urgent = interest.read && self.urgent.is_some();
        let event = Event {
            key,
            readable: over || urgent || (interest.read && input),
            writable: over || (interest.write && output),
            hung_up,
            failed,
            urgent,
        };
        (event.readable || event.writable).then_some(event)
    }
}
