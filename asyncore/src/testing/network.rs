//! [`Network`]: the ends, what is under way between them, and the clock.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io::{self, IoSlice, PipeReader, PipeWriter};
use std::net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd};
use std::rc::Rc;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use fastrand::Rng;
use rustix::io::Errno;

use super::Faults;
use super::end::{Descriptor, End};
use super::wire::{EndId, Flight, Load, Role, Script, Then, Wire};
use crate::absent::nowhere;
use crate::poller::Event;
use crate::resolve::Addresses;
use crate::socket::{Connecting, Moved, Socket};
use crate::workers::Work;
use crate::{Address, Kind};

/// A simulated network with its clock; every end of it has a handle.
#[derive(Clone)]
pub(crate) struct Network {
    pub(super) wires: Rc<RefCell<Wires>>,
    /// What a simulated socket shows where a descriptor is asked for.
    pub(super) nowhere: &'static PipeReader,
    never_ready: &'static PipeReader,
}

/// All that a network holds.
pub(super) struct Wires {
    pub(super) now: Instant,
    pub(super) random: Rng,
    pub(super) faults: Faults,
    pub(super) ends: BTreeMap<EndId, Wire>,
    last_end: u64,
    /// What is under way, by its arrival; the number keeps those of one instant in order.
    pub(super) flights: BTreeMap<(Instant, u64), Flight>,
    pub(super) sent: u64,
    /// Blocking work, by the time at which it ends; numbered as what is under way.
    work: BTreeMap<(Instant, u64), Work>,
    /// Scripted ends with something to send.
    pub(super) senders: BTreeSet<EndId>,
    /// Where connects are refused although somebody listens.
    pub(super) refusing: Vec<Address>,
    /// Where connects are never answered.
    pub(super) silent: Vec<Address>,
    /// The addresses of hosts, by their names in small letters.
    pub(super) hosts: BTreeMap<String, Vec<IpAddr>>,
    /// Descriptors of the program, and how many it may have.
    descriptors: usize,
    pub(super) most_descriptors: usize,
    /// So many writes fail for want of memory.
    pub(super) no_memory: u32,
    last_port: u16,
}

impl Network {
    pub(super) fn new(seed: u64) -> io::Result<Self> {
        // The only look at the real clock: every other time is this one and what has been simulated since.
        let now = crate::world::system_time();
        let wires = Rc::new(RefCell::new(Wires {
            now,
            random: Rng::with_seed(seed),
            faults: Faults::none(),
            ends: BTreeMap::new(),
            last_end: 0,
            flights: BTreeMap::new(),
            sent: 0,
            work: BTreeMap::new(),
            senders: BTreeSet::new(),
            refusing: Vec::new(),
            silent: Vec::new(),
            hosts: BTreeMap::new(),
            descriptors: 0,
            most_descriptors: usize::MAX,
            no_memory: 0,
            last_port: FIRST_PORT,
        }));
        Ok(Self { wires, nowhere: nowhere()?, never_ready: never_ready()? })
    }

    /// What a host would wait for: nothing comes from outside.
    #[cfg_attr(
        polling_test_poll_backend,
        expect(dead_code, reason = "that poller has no descriptor to lend either")
    )]
    pub(crate) fn never_ready(&self) -> BorrowedFd<'_> {
        self.never_ready.as_fd()
    }

    pub(crate) fn now(&self) -> Instant {
        self.wires.borrow().now
    }

    pub(crate) fn create_socket(&self, kind: Kind) -> io::Result<Socket> {
        if kind == Kind::Datagram {
            return Err(io::Error::new(io::ErrorKind::Unsupported, "datagrams are not simulated"));
        }
        Ok(Socket::other(self.create_end()?))
    }

    pub(super) fn create_end(&self) -> io::Result<End> {
        let descriptor = self.descriptor()?;
        let id = self.wires.borrow_mut().add(Role::Fresh);
        Ok(End::new(self.clone(), id, descriptor))
    }

    /// A descriptor that is kept open for the moment when there are no more.
    pub(crate) fn reserve(&self) -> Option<Descriptor> {
        self.descriptor().ok()
    }

    pub(super) fn descriptor(&self) -> io::Result<Descriptor> {
        let mut wires = self.wires.borrow_mut();
        if wires.descriptors >= wires.most_descriptors {
            return Err(Errno::MFILE.into());
        }
        wires.descriptors += 1;
        Ok(Descriptor(self.clone()))
    }

    pub(super) fn give_descriptor_back(&self) {
        self.wires.borrow_mut().descriptors -= 1;
    }

    /// Takes blocking work, which is done on the loop's thread, in a wait, and takes as long as what is sent.
    pub(crate) fn submit(&self, work: Work) {
        let mut wires = self.wires.borrow_mut();
        wires.sent += 1;
        let end = (wires.now + wires.delay(), wires.sent);
        wires.work.insert(end, work);
    }

    pub(super) fn set_host(&self, host: &str, ips: Vec<IpAddr>) {
        self.wires.borrow_mut().hosts.insert(plain_name(host), ips);
    }

    /// What the resolver answers.
    pub(crate) fn addresses_of(&self, host: &str, port: u16) -> Addresses {
        let wires = self.wires.borrow();
        let ips = wires.hosts.get(&plain_name(host));
        let ips = ips.ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "the name is not known"))?;
        Ok(ips.iter().map(|ip| SocketAddr::new(*ip, port)).collect())
    }

    /// Appends the events of the ends that are ready; when there are none, lets time pass until there are, or until the
    /// timeout is over.
    ///
    /// # Errors
    ///
    /// If that would never end.
    pub(crate) fn wait(&self, batch: &mut Vec<Event>, timeout: Option<Duration>) -> io::Result<()> {
        let mut wires = self.wires.borrow_mut();
        let until = timeout.and_then(|timeout| wires.now.checked_add(timeout));
        loop {
            wires.deliver();
            let work = wires.take_work();
            if !work.is_empty() {
                drop(wires);
                // Its results wait for the loop, as those of another thread would.
                work.into_iter().for_each(Work::run);
                return Ok(());
            }
            let late = wires.collect(batch);
            if !batch.is_empty() || until.is_some_and(|until| wires.now >= until) {
                return Ok(());
            }
            let arrival = wires.next_arrival();
            let told_late = late.then(|| wires.now + LATE);
            match [arrival, told_late, until].into_iter().flatten().min() {
                Some(at) => wires.now = at.max(wires.now),
                None => {
                    return Err(io::Error::new(
                        io::ErrorKind::Deadlock,
                        "the simulation stands still: nothing is ready, under way or due",
                    ));
                }
            }
        }
    }

    /// When the next thing that is under way arrives. A connect that finds no place goes on asking: that is no arrival.
    pub(super) fn next_arrival(&self) -> Option<Instant> {
        self.wires.borrow().next_arrival_but(|load| matches!(load, Load::DialAgain(_)))
    }

    /// Whether a registered end is ready for what it waits for.
    pub(super) fn is_ready(&self) -> bool {
        let mut wires = self.wires.borrow_mut();
        wires.deliver();
        wires.has_work() || wires.ends.keys().any(|id| wires.event(*id).is_some())
    }
}

impl Wires {
    /// Whether something of this chance happens now.
    fn chance(&mut self, chance: f64) -> bool {
        chance > 0.0 && self.random.f64() < chance
    }

    /// When the next thing that is under way arrives, or the next piece of work ends.
    fn next_arrival(&self) -> Option<Instant> {
        self.next_arrival_but(|_| false)
    }

    /// [`next_arrival`](Self::next_arrival) of what is not passed over.
    fn next_arrival_but(&self, passed_over: impl Fn(&Load) -> bool) -> Option<Instant> {
        let flight =
            self.flights.iter().find_map(|((at, _), flight)| (!passed_over(&flight.load)).then_some(*at));
        let work = self.work.first_key_value().map(|((at, _), _)| *at);
        [flight, work].into_iter().flatten().min()
    }

    /// Whether blocking work ends now.
    fn has_work(&self) -> bool {
        self.work.first_key_value().is_some_and(|((at, _), _)| *at <= self.now)
    }

    /// The blocking work that ends now.
    fn take_work(&mut self) -> Vec<Work> {
        let mut due = Vec::new();
        while self.has_work() {
            due.extend(self.work.pop_first().map(|(_, work)| work));
        }
        due
    }

    pub(super) fn delay(&mut self) -> Duration {
        let most = u64::try_from(self.faults.delay.as_nanos()).unwrap_or(u64::MAX);
        if most == 0 { Duration::ZERO } else { Duration::from_nanos(self.random.u64(0..=most)) }
    }

    pub(super) fn add(&mut self, role: Role) -> EndId {
        self.last_end += 1;
        let id = EndId(self.last_end);
        self.ends.insert(id, Wire::new(role, self.now));
        id
    }

    pub(super) fn get(&self, id: EndId) -> Option<&Wire> {
        self.ends.get(&id)
    }

    pub(super) fn get_mut(&mut self, id: EndId) -> Option<&mut Wire> {
        self.ends.get_mut(&id)
    }

    /// Two ends of one connection; the second is at `address`.
    pub(super) fn join(&mut self, here: EndId, there: EndId, address: &Address) {
        let bound = self.get(here).and_then(|wire| wire.local.clone());
        let client = bound.unwrap_or_else(|| self.free_address(address));
        for (id, other, local, remote) in
            [(here, there, client.clone(), address.clone()), (there, here, address.clone(), client)]
        {
            if let Some(wire) = self.ends.get_mut(&id) {
                wire.other = Some(other);
                wire.local.get_or_insert(local);
                wire.remote = Some(remote);
            }
        }
    }

    fn free_address(&mut self, like: &Address) -> Address {
        match like {
            Address::Inet(_) => {
                self.last_port = self.last_port.checked_add(1).unwrap_or(FIRST_PORT);
                Address::Inet(SocketAddr::new(IpAddr::V4(CLIENT), self.last_port))
            }
            Address::Unix(_) | Address::Unnamed => Address::Unnamed,
        }
    }

    /// Appends the events of what is ready: whether some are told later.
    fn collect(&mut self, batch: &mut Vec<Event>) -> bool {
        batch.extend(self.ends.keys().filter_map(|id| self.event(*id)));
        let mut late = false;
        if self.faults.late_events > 0.0 {
            let chance = self.faults.late_events;
            batch.retain(|_| {
                let is_late = self.random.f64() < chance;
                late |= is_late;
                !is_late
            });
        }
        if self.faults.any_order {
            self.random.shuffle(batch);
        }
        late
    }

    fn event(&self, id: EndId) -> Option<Event> {
        let wire = self.ends.get(&id)?;
        wire.event(self.room(wire) > 0)
    }

    /// How many bytes an end can send now.
    pub(super) fn room(&self, wire: &Wire) -> usize {
        match wire.other.and_then(|other| self.ends.get(&other)) {
            Some(other) => self.faults.buffer.saturating_sub(other.inbox.len() + other.coming),
            // What goes to a closed end is taken, and answered with a reset.
            None => self.faults.buffer,
        }
    }

    pub(super) fn listen(&mut self, id: EndId, backlog: usize) -> io::Result<()> {
        let wire = self.ends.get_mut(&id).ok_or(io::ErrorKind::NotConnected)?;
        wire.role = Role::Listening(std::collections::VecDeque::new(), backlog);
        Ok(())
    }

    pub(super) fn bind(&mut self, id: EndId, address: &Address) -> io::Result<()> {
        let mut address = address.clone();
        if let Address::Inet(address) = &mut address
            && address.port() == 0
        {
            self.last_port = self.last_port.checked_add(1).unwrap_or(FIRST_PORT);
            address.set_port(self.last_port);
        }
        let listens = |wire: &Wire| {
            wire.local.as_ref() == Some(&address) && matches!(wire.role, Role::Fresh | Role::Listening(..))
        };
        if self.ends.values().any(listens) {
            return Err(io::ErrorKind::AddrInUse.into());
        }
        let wire = self.ends.get_mut(&id).ok_or(io::ErrorKind::NotConnected)?;
        wire.local = Some(address);
        Ok(())
    }

    pub(super) fn connect(&mut self, id: EndId, address: &Address) -> io::Result<Connecting> {
        let wire = self.ends.get_mut(&id).ok_or(io::ErrorKind::NotConnected)?;
        wire.role = Role::Connecting;
        wire.remote = Some(address.clone());
        self.send_off(id, Load::Dial(address.clone()));
        let any_order = self.faults.any_order;
        let at_once = any_order && self.random.bool();
        // A loopback connect may be done, or refused, when the call returns.
        match self.ends.get_mut(&id) {
            Some(wire) if at_once && wire.lost => {
                Err(wire.error.take().unwrap_or(io::ErrorKind::ConnectionRefused).into())
            }
            Some(Wire { role: Role::Connected, .. }) if at_once => Ok(Connecting::Done),
            _ => Ok(Connecting::Pending),
        }
    }

    /// The next end that waits at a listener.
    pub(super) fn accept(&mut self, id: EndId) -> io::Result<EndId> {
        let chance = self.faults.would_block;
        if self.chance(chance) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        match self.ends.get_mut(&id).map(|wire| &mut wire.role) {
            Some(Role::Listening(queue, _)) => {
                queue.pop_front().ok_or_else(|| io::ErrorKind::WouldBlock.into())
            }
            _ => Err(Errno::INVAL.into()),
        }
    }

    /// As [`accept`](Self::accept), for a listener of the test: without faults.
    pub(super) fn take_waiting(&mut self, id: EndId) -> Option<EndId> {
        self.deliver();
        match self.ends.get_mut(&id).map(|wire| &mut wire.role) {
            Some(Role::Listening(queue, _)) => queue.pop_front(),
            _ => None,
        }
    }

    pub(super) fn recv(&mut self, id: EndId, room: &mut [u8]) -> io::Result<Moved> {
        let (would_block, short) = (self.faults.would_block, self.faults.short_reads);
        self.lose_by_chance(id);
        if self.chance(would_block) {
            return Ok(Moved::WouldBlock);
        }
        let is_short = self.chance(short);
        let chunk = self.get(id).and_then(|wire| self.get(wire.other?)?.chunk).unwrap_or(usize::MAX);
        let Some(wire) = self.ends.get_mut(&id) else { return Err(io::ErrorKind::NotConnected.into()) };
        if wire.inbox.is_empty() {
            return match wire.error.take() {
                Some(error) => Err(error.into()),
                None if wire.ended || wire.lost => Ok(Moved::Bytes(0)),
                None if matches!(wire.role, Role::Connected) => Ok(Moved::WouldBlock),
                None => Err(io::ErrorKind::NotConnected.into()),
            };
        }
        let most = room.len().min(wire.inbox.len()).min(chunk.max(1));
        let length = if is_short { self.random.usize(1..=most.max(1)).min(most) } else { most };
        for (place, byte) in room.iter_mut().zip(wire.inbox.drain(..length)) {
            *place = byte;
        }
        Ok(Moved::Bytes(length))
    }

    pub(super) fn send(&mut self, id: EndId, slices: &[IoSlice<'_>]) -> io::Result<Moved> {
        let (would_block, short) = (self.faults.would_block, self.faults.short_writes);
        self.lose_by_chance(id);
        let is_blocked = self.chance(would_block);
        let is_short = self.chance(short);
        let Some(wire) = self.ends.get_mut(&id) else { return Err(io::ErrorKind::NotConnected.into()) };
        if let Some(error) = wire.error.take() {
            return Err(error.into());
        }
        if wire.lost || wire.finished {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        if !matches!(wire.role, Role::Connected) {
            return Err(io::ErrorKind::NotConnected.into());
        }
        let other = wire.other;
        if self.no_memory > 0 {
            self.no_memory -= 1;
            return Err(Errno::NOBUFS.into());
        }
        let room = self.get(id).map_or(0, |wire| self.room(wire));
        if room == 0 || is_blocked {
            return Ok(Moved::WouldBlock);
        }
        let mut bytes: Vec<u8> = slices.iter().flat_map(|slice| slice.iter().copied()).take(room).collect();
        if is_short && bytes.len() > 1 {
            let length = self.random.usize(1..=bytes.len());
            bytes.truncate(length);
        }
        let length = bytes.len();
        if length > 0
            && let Some(other) = other
        {
            self.carry(id, other, bytes);
        }
        Ok(Moved::Bytes(length))
    }

    /// By chance, the connection is lost now.
    fn lose_by_chance(&mut self, id: EndId) {
        let chance = self.faults.resets;
        if self.chance(chance)
            && let Some(wire) = self.ends.get_mut(&id)
            && !wire.lost
            && let Some(other) = wire.other
        {
            wire.lose(io::ErrorKind::ConnectionReset);
            self.send_off(id, Load::Reset(other));
        }
    }

    pub(super) fn shutdown(&mut self, id: EndId, how: Shutdown) -> io::Result<()> {
        let wire = self.ends.get_mut(&id).ok_or(io::ErrorKind::NotConnected)?;
        if wire.lost || !matches!(wire.role, Role::Connected) {
            return Err(io::ErrorKind::NotConnected.into());
        }
        if how != Shutdown::Write {
            wire.ended = true;
        }
        if how != Shutdown::Read && !wire.finished {
            wire.finished = true;
            if let Some(other) = wire.other {
                self.send_off(id, Load::End(other));
            }
        }
        Ok(())
    }

    /// Closes an end as the system does: unread input, or the wish for it, makes it a reset.
    pub(super) fn close(&mut self, id: EndId) {
        let Some(wire) = self.ends.get_mut(&id) else { return };
        if wire.closed {
            return;
        }
        wire.closed = true;
        wire.registered = None;
        let (other, was_lost) = (wire.other, wire.lost);
        let resets = wire.resets || !wire.inbox.is_empty();
        let finished = std::mem::replace(&mut wire.finished, true);
        wire.inbox.clear();
        let waiting = match std::mem::replace(&mut wire.role, Role::Connected) {
            Role::Listening(queue, _) => queue,
            role => {
                wire.role = role;
                Default::default()
            }
        };
        let is_scripted = wire.script.as_ref().is_some_and(|script| !script.forgotten);
        if !is_scripted {
            self.ends.remove(&id);
        }
        for unaccepted in waiting {
            if let Some(wire) = self.ends.get_mut(&unaccepted) {
                wire.resets = true;
            }
            self.close(unaccepted);
        }
        if let Some(other) = other
            && !was_lost
        {
            if resets {
                self.send_off(id, Load::Reset(other));
            } else if !finished {
                self.send_off(id, Load::End(other));
            }
        }
    }

    /// A scripted end has something to send, or to do after it.
    pub(super) fn script(&mut self, id: EndId, change: impl FnOnce(&mut Script)) {
        if let Some(script) = self.ends.get_mut(&id).and_then(|wire| wire.script.as_mut()) {
            change(script);
            self.senders.insert(id);
            self.pump();
        }
    }

    pub(super) fn send_urgent(&mut self, id: EndId, byte: u8) {
        if let Some(other) = self.get(id).and_then(|wire| wire.other) {
            self.send_off(id, Load::Urgent(other, byte));
        }
    }

    /// Nobody looks at a scripted end any more.
    pub(super) fn forget(&mut self, id: EndId) {
        if self.ends.get(&id).is_some_and(|wire| wire.closed) {
            self.ends.remove(&id);
        } else {
            self.script(id, |script| {
                script.forgotten = true;
                script.then = Then::Close;
            });
        }
    }
}

impl fmt::Debug for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut network = f.debug_struct("Network");
        if let Ok(wires) = self.wires.try_borrow() {
            network.field("ends", &wires.ends.len()).field("under_way", &wires.flights.len());
        }
        network.finish_non_exhaustive()
    }
}

/// A descriptor on which nothing ever happens: a pipe into which nobody writes.
fn never_ready() -> io::Result<&'static PipeReader> {
    static NEVER: OnceLock<(PipeReader, PipeWriter)> = OnceLock::new();
    let (reader, _) = match NEVER.get() {
        Some(pipe) => pipe,
        None => {
            let pipe = io::pipe()?;
            NEVER.get_or_init(|| pipe)
        }
    };
    Ok(reader)
}

/// A name without what makes no difference in one (RFC 4343).
fn plain_name(host: &str) -> String {
    host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase()
}

/// How much later a late event is told, when nothing else happens: 1 ms.
const LATE: Duration = Duration::from_millis(1);

/// Ports of connections are numbered from here: the first of the dynamic ones (RFC 6335 section 6).
const FIRST_PORT: u16 = 49152;

/// Where the peers of a simulation connect from: an address for documents (RFC 5737).
const CLIENT: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 7);
