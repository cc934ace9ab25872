//! [`Dispatcher`]: one non-blocking socket, its state, its output queue and its counts.

use std::fmt;
use std::io;
use std::net::{Shutdown, SocketAddr, SocketAddrV4};
use std::os::fd::{AsFd, BorrowedFd};
use std::rc::Rc;

use crate::address::PeerName;
use crate::counters::Count;
use crate::coupling::Coupling;
use crate::extra::{Ending, Extra};
use crate::gate::Gate;
use crate::host::Racing;
use crate::outbox::Outbox;
use crate::socket::{AcceptError, Connecting, Moved, Socket};
use crate::{Address, CloseReason, Family, Kind, Limits, ListenOptions};

/// A thin wrapper of one non-blocking socket: the half of a channel that the map keeps.
///
/// Create one, prepare it (bind, listen, connect), and give it to [`Map::add`](crate::Map::add) with its handler. Or
/// adopt a socket of the standard library, `Dispatcher::try_from(stream)`, or a [pipe or
/// terminal](Self::from_descriptor). From then on the map owns it, reads and writes go through the map by id, and
/// [`Map::get`](crate::Map::get) shows it.
///
/// ```
/// use asyncore::{Address, Dispatcher, Family, Kind, State};
///
/// let mut listener = Dispatcher::create_socket(Family::V4, Kind::Stream)?;
/// listener.set_reuse_addr()?;
/// listener.bind("127.0.0.1:0".parse::<Address>()?)?;
/// listener.listen(128)?;
/// assert_eq!(listener.state(), State::Listening);
/// assert!(listener.accept()?.is_none(), "nobody has connected");
/// # Ok::<(), asyncore::Error>(())
/// ```
pub struct Dispatcher {
    pub(crate) socket: Socket,
    pub(crate) family: Family,
    pub(crate) kind: Kind,
    pub(crate) state: State,
    /// When bytes last moved either way: the lower half of a tick.
    pub(crate) active_at: u32,
    /// Why it closes, from the moment that is settled.
    pub(crate) reason: Option<CloseReason>,
    /// If it has an IPv4 address; any other is in `extra`.
    peer: Option<SocketAddrV4>,
    /// Present only while there is output.
    pub(crate) outbox: Option<Box<Outbox>>,
    pub(crate) bytes_in: Count,
    pub(crate) bytes_out: Count,
    /// Less those that its queue has [not counted](Outbox::uncounted) yet.
    pub(crate) pushes: Count,
    pub(crate) messages: Count,
    pub(crate) extra: Extra,
}

/// Where a channel is in its life.
///
/// ```text
/// Created ──► Listening ─────────────────────────────────────────────┐
///    │                                                               ▼
///    └─► Connecting ─► Open ─► PeerClosed ──────► Draining ───────► Closed
///                  │   ▲ │ └────────────────────────▲ └► Lingering ─▲
///                  ▼   ▼ └─► Finishing ─► WriteClosed ┴─────────────┘
///               Handshaking
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum State {
    /// Neither connected nor listening.
    Created,
    /// Accepts connections.
    Listening,
    /// A connect is under way.
    Connecting,
    /// A TLS handshake is under way (feature `tls`); what is pushed waits.
    Handshaking,
    /// Reads and writes; a datagram socket is always open.
    Open,
    /// The peer has ended its side, or there is none to read, as of a pipe that is written; writing goes on.
    PeerClosed,
    /// Writing ends when the queue is empty; reading goes on.
    Finishing,
    /// Writing has ended, or was never possible, as of a pipe that is read; reading goes on.
    WriteClosed,
    /// Closes when the queue is empty; input is dropped.
    Draining,
    /// All is sent and writing has ended; late input is dropped for a while, so that the peer sees the last reply.
    Lingering,
    /// Closed.
    Closed,
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Created => "created",
            Self::Listening => "listening",
            Self::Connecting => "connecting",
            Self::Handshaking => "handshaking",
            Self::Open => "open",
            Self::PeerClosed => "peer closed",
            Self::Finishing => "finishing",
            Self::WriteClosed => "write closed",
            Self::Draining => "draining",
            Self::Lingering => "lingering",
            Self::Closed => "closed",
        })
    }
}

impl Dispatcher {
    pub(crate) fn new(
        socket: Socket,
        family: Family,
        kind: Kind,
        state: State,
        peer: Option<Address>,
    ) -> Self {
        let mut dispatcher = Self {
            socket,
            family,
            kind,
            state,
            active_at: 0,
            reason: None,
            peer: None,
            outbox: None,
            bytes_in: Count::default(),
            bytes_out: Count::default(),
            pushes: Count::default(),
            messages: Count::default(),
            extra: Extra::default(),
        };
        dispatcher.set_peer(peer);
        dispatcher
    }

    fn set_peer(&mut self, peer: Option<Address>) {
        let (near, other) = match peer {
            Some(Address::Inet(SocketAddr::V4(address))) => (Some(address), None),
            other => (None, other),
        };
        self.peer = near;
        self.extra.set_peer(other);
    }

    /// Creates a non-blocking socket that is not inherited by child processes.
    ///
    /// # Errors
    ///
    /// If the system has no descriptor left, or does not know the family.
    pub fn create_socket(family: Family, kind: Kind) -> io::Result<Self> {
        Ok(Self::from_socket(Socket::create(family, kind)?, family, kind))
    }

    /// A new socket's.
    pub(crate) fn from_socket(socket: Socket, family: Family, kind: Kind) -> Self {
        let state = match kind {
            Kind::Stream => State::Created,
            Kind::Datagram => State::Open,
        };
        Self::new(socket, family, kind, state, None)
    }

    /// A TCP or Unix-domain listener on `address`, with [`BACKLOG`](crate::BACKLOG) and, for TCP, the address reusable at once.
    ///
    /// # Errors
    ///
    /// If the address is in use, not one of this machine's, or not permitted.
    pub fn listener(address: impl Into<Address>) -> io::Result<Self> {
        let address = address.into();
        let mut listener = Self::create_socket(Family::of(&address), Kind::Stream)?;
        listener.listen_at(address, &ListenOptions::default())?;
        Ok(listener)
    }

    /// What [`listener`](Self::listener) does with its socket.
    pub(crate) fn listen_at(&mut self, address: Address, options: &ListenOptions) -> io::Result<()> {
        if self.family() != Family::Unix {
            self.set_reuse_addr()?;
        }
        if options.reuse_port {
            self.set_reuse_port()?;
        }
        self.bind(address)?;
        self.listen(options.backlog)
    }

    /// A stream socket that connects to `address`: see [`connect`](Self::connect).
    ///
    /// # Errors
    ///
    /// If no socket can be created, or the address cannot be one.
    pub fn connecting_to(address: impl Into<Address>) -> io::Result<Self> {
        let address = address.into();
        let mut dispatcher = Self::create_socket(Family::of(&address), Kind::Stream)?;
        dispatcher.connect(address)?;
        Ok(dispatcher)
    }

    /// Binds the socket to an address of this machine; port 0 takes a free one.
    ///
    /// # Errors
    ///
    /// If the address is in use, not one of this machine's, or not permitted.
    pub fn bind(&mut self, address: impl Into<Address>) -> io::Result<()> {
        self.socket.bind(&address.into())
    }

    /// Begins to accept connections; the system queues up to `backlog` of them.
    ///
    /// # Errors
    ///
    /// If the socket is connected, or cannot listen.
    pub fn listen(&mut self, backlog: u32) -> io::Result<()> {
        if self.state != State::Created {
            return Err(misuse("only a new stream socket can listen"));
        }
        self.socket.listen(backlog)?;
        self.state = State::Listening;
        Ok(())
    }

    /// Takes the next connection that waits, if any. A connection that is already lost is passed over.
    ///
    /// In a map use [`Map::accept`](crate::Map::accept), which also minds the limits.
    ///
    /// # Errors
    ///
    /// If the socket does not listen, or the system is out of descriptors or memory.
    pub fn accept(&mut self) -> io::Result<Option<Self>> {
        loop {
            match self.accept_one() {
                Err(error) if AcceptError::classify(&error) == AcceptError::Next => {}
                other => return other,
            }
        }
    }

    /// One try: would-block is `None`. The peer's address is in the same answer: asking later fails when the peer has reset.
    pub(crate) fn accept_one(&self) -> io::Result<Option<Self>> {
        match self.socket.accept() {
            Ok((socket, peer)) => {
                let family = self.family;
                let peer = peer.or_else(|| (family == Family::Unix).then_some(Address::Unnamed));
                let mut accepted = Self::new(socket, family, Kind::Stream, State::Open, peer);
                if let Some(limits) = self.extra.own_limits() {
                    accepted.set_limits(Rc::clone(limits));
                }
                accepted.apply_nodelay();
                Ok(Some(accepted))
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Begins to connect. The result is told once, by the loop: `handle_connect`, or `handle_error` and
    /// `handle_close`. A connect that fails at once is told in the same way.
    ///
    /// A datagram socket is connected when this returns: it then sends to and receives from that peer alone.
    ///
    /// # Errors
    ///
    /// If the socket is connected, connecting or listening, or the address cannot be one.
    pub fn connect(&mut self, address: impl Into<Address>) -> io::Result<()> {
        let address = address.into();
        if self.kind == Kind::Datagram {
            self.socket.connect(&address)?;
            self.set_peer(Some(address));
            return Ok(());
        }
        if self.state != State::Created {
            return Err(misuse("this socket is connected, connecting or listening already"));
        }
        address.to_sock_addr()?;
        self.apply_nodelay();
        let connected = match self.socket.connect(&address) {
            Ok(Connecting::Pending) => None,
            Ok(Connecting::Done) => Some(Ok(())),
            Err(error) => Some(Err(error)),
        };
        if connected.is_some() {
            self.rare().connected = connected;
        }
        self.set_peer(Some(address));
        self.state = State::Connecting;
        Ok(())
    }

    /// What has become of the connect under way: `None` while it is still open.
    pub(crate) fn connect_result(&mut self, writable: bool) -> Option<io::Result<()>> {
        if let Some(connected) = self.rare_mut().and_then(|rare| rare.connected.take()) {
            return Some(connected);
        }
        match self.socket.take_error() {
            Some(error) => Some(Err(error)),
            None => writable.then_some(Ok(())),
        }
    }

    /// Whether `close_when_done` or `shutdown_write` was called before the connect came to an end.
    pub(crate) fn is_to_finish(&self) -> bool {
        self.rare_ref().is_some_and(|rare| rare.when_connected.is_some())
    }

    /// A channel without a map is to close when done: it goes on with that once it is in one again.
    pub(crate) fn end(&mut self) {
        if matches!(self.state, State::Connecting | State::Handshaking) {
            self.rare().when_connected = Some(Ending::Close);
        }
        self.state = match self.state {
            State::Open | State::PeerClosed | State::Finishing => State::Draining,
            State::WriteClosed => State::Lingering,
            other => other,
        };
    }

    /// Whether a channel that is added with it hears `handle_connect` at once. A file of one way is never quite open.
    pub(crate) fn is_connected_anew(&self) -> bool {
        match self.state {
            State::Open => true,
            State::PeerClosed | State::WriteClosed => self.family() == Family::File,
            _ => false,
        }
    }

    pub(crate) fn has_connect_result(&self) -> bool {
        self.rare_ref().is_some_and(|rare| rare.connected.is_some())
    }

    /// Whether the end of its connect comes without an event of its own socket.
    pub(crate) fn awaits_no_event(&self) -> bool {
        self.rare_ref()
            .is_some_and(|rare| rare.connected.is_some() || matches!(rare.racing, Some(Racing::Host(_))))
    }

    /// Has the connection that another one has made: its own connect has come to its end.
    pub(crate) fn take_connection(&mut self, other: Self) {
        self.set_peer(other.peer_addr());
        self.family = other.family;
        self.socket = other.socket;
        let rare = self.rare();
        rare.racing = None;
        rare.connected = Some(Ok(()));
    }

    /// Sends what the socket takes at once: how many bytes, 0 when it would block, or while it has output queued from a
    /// map that it was removed from.
    ///
    /// In a map use [`Map::send`](crate::Map::send).
    ///
    /// # Errors
    ///
    /// If the connection is lost.
    pub fn send(&mut self, data: &[u8]) -> io::Result<usize> {
        if self.outbox.is_some() {
            return Ok(0);
        }
        #[cfg(feature = "tls")]
        if self.tls().is_some() {
            return Err(misuse("what goes under TLS is sent by a map"));
        }
        match self.socket.send(data)? {
            Moved::Bytes(sent) => {
                self.count_out(sent);
                Ok(sent)
            }
            Moved::WouldBlock => Ok(0),
        }
    }

    /// Receives into `room`: how many bytes, 0 at the end of the stream; `None` when it would block.
    ///
    /// In a map use [`Map::recv`](crate::Map::recv).
    ///
    /// # Errors
    ///
    /// If the connection is lost.
    pub fn recv(&mut self, room: &mut [u8]) -> io::Result<Option<usize>> {
        if self.unread() > 0 {
            return Ok(Some(self.take_unread(room)));
        }
        match self.socket.recv(room)? {
            Moved::Bytes(received) => {
                self.count_in(received);
                Ok(Some(received))
            }
            Moved::WouldBlock => Ok(None),
        }
    }

    /// Closes the socket. In a map use [`Map::close`](crate::Map::close).
    pub fn close(self) {
        drop(self);
    }

    /// Ends the writing side: the peer reads an end of file. In a map use
    /// [`Map::shutdown_write`](crate::Map::shutdown_write), which sends what is queued first.
    ///
    /// # Errors
    ///
    /// If the socket is not connected.
    pub fn shutdown_write(&mut self) -> io::Result<()> {
        self.socket.shutdown(Shutdown::Write)
    }

    /// The address it is bound to, with the port that was chosen for port 0.
    ///
    /// # Errors
    ///
    /// If the system does not tell.
    pub fn local_addr(&self) -> io::Result<Option<Address>> {
        self.socket.local_address()
    }

    /// The peer's address as accept or connect knew it; `None` for a listener or an unconnected socket.
    #[must_use]
    pub fn peer_addr(&self) -> Option<Address> {
        self.peer.map(|address| SocketAddr::V4(address).into()).or_else(|| self.extra.peer().cloned())
    }

    pub(crate) fn peer(&self) -> PeerName {
        PeerName(self.peer_addr())
    }

    /// Where it is in its life.
    #[must_use]
    pub const fn state(&self) -> State {
        self.state
    }

    /// The family of its addresses.
    #[must_use]
    pub const fn family(&self) -> Family {
        self.family
    }

    /// Whether it carries a stream or datagrams.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        self.kind
    }

    /// Bytes of output that are queued; what producers have not made yet is not among them.
    #[must_use]
    pub fn queued(&self) -> usize {
        self.outbox.as_ref().map_or(0, |outbox| outbox.bytes())
    }

    /// What limits and marks go by: see [`Outbox::load`].
    pub(crate) fn load(&self) -> usize {
        self.outbox.as_ref().map_or(0, |outbox| outbox.load())
    }

    /// Gives this socket, and what it accepts, its own limits instead of the map's.
    pub fn set_limits(&mut self, limits: impl Into<Rc<Limits>>) {
        self.extra.set_limits(limits.into());
    }

    pub(crate) fn gate(&self) -> Option<&Rc<Gate>> {
        self.rare_ref()?.gate.as_ref()
    }

    pub(crate) fn coupling_mut(&mut self) -> Option<&mut Coupling> {
        self.rare_mut()?.coupling.as_deref_mut()
    }
}

impl AsFd for Dispatcher {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.descriptor()
    }
}

impl fmt::Debug for Dispatcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dispatcher")
            .field("state", &self.state)
            .field("peer", &format_args!("{}", self.peer()))
            .field("queued", &self.queued())
            .finish_non_exhaustive()
    }
}

fn misuse(text: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, text)
}
