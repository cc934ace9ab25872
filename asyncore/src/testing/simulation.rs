//! [`Simulation`]: a map, its application's state, and the network that both live in.

use std::fmt;
use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use super::network::Network;
use super::wire::Role;
use super::{Faults, Peer, PeerListener, VirtualClock};
use crate::socket::Socket;
use crate::world::World;
use crate::{Address, Dispatcher, Error, Family, Kind, Map, Options, Result, State};

/// A map on a simulated network, with a clock of its own.
///
/// The clock stands still while there is something to do, and runs ahead to the next deadline or arrival when there is
/// not. All that is left to chance follows from the seed: the same seed and the same calls are the same run. When a test
/// panics, the seed is printed.
///
/// ```
/// use std::time::Duration;
///
/// use asyncore::testing::Simulation;
/// use asyncore::{Channel, Context, Result, TimerId};
///
/// struct Patient;
///
/// impl Channel for Patient {
///     fn handle_connect(&mut self, cx: &mut Context<'_>) -> Result {
///         cx.map.set_timer(cx.id, Duration::from_secs(3600));
///         Ok(())
///     }
///
///     fn handle_timer(&mut self, cx: &mut Context<'_>, _timer: TimerId) -> Result {
///         cx.map.close(cx.id);
///         Ok(())
///     }
/// }
///
/// let mut sim = Simulation::new(())?;
/// let (dispatcher, _peer) = sim.pair()?;
/// sim.map.add(dispatcher, Patient)?;
/// sim.advance(Duration::from_secs(3599))?;
/// assert_eq!(sim.map.len(), 1);
/// sim.advance(Duration::from_secs(1))?;
/// assert!(sim.map.is_empty());
/// # Ok::<(), asyncore::Error>(())
/// ```
#[non_exhaustive]
pub struct Simulation<A: 'static = ()> {
    /// The map; everything but its clock and its sockets is as in life.
    pub map: Map<A>,
    /// The application's state, lent to every turn.
    pub app: A,
    network: Network,
    seed: Seed,
    started: Instant,
}

/// The seed, which prints itself when it is dropped by a panic. The simulation itself has no `Drop`, so that a test can take
/// `app` out of it.
struct Seed(u64);

impl<A: 'static> Simulation<A> {
    /// A simulation with the seed that the environment variable `ASYNCORE_SEED` gives, or else 0.
    ///
    /// # Errors
    ///
    /// If the variable is no number.
    pub fn new(app: A) -> Result<Self> {
        Self::with_seed(seed_asked_for()?.unwrap_or(0), app)
    }

    /// A simulation with this seed.
    ///
    /// # Errors
    ///
    /// If the system has no descriptor left: the one that simulated sockets share.
    pub fn with_seed(seed: u64, app: A) -> Result<Self> {
        Self::with_options(seed, Options::default(), app)
    }

    /// A simulation with this seed and a map with these options.
    ///
    /// # Errors
    ///
    /// As [`with_seed`](Self::with_seed).
    pub fn with_options(seed: u64, options: Options, app: A) -> Result<Self> {
        let network = Network::new(seed)?;
        let started = network.now();
        let map = Map::in_world(World::Simulated(network.clone()), options);
        Ok(Self { map, app, network, seed: Seed(seed), started })
    }

    /// The seed.
    #[must_use]
    pub const fn seed(&self) -> u64 {
        self.seed.0
    }

    /// How unkind the network is from now on; [`Faults::none`] at first.
    pub fn set_faults(&mut self, faults: Faults) {
        self.network.wires.borrow_mut().faults = faults;
    }

    /// A connected pair: one end for [`Map::add`], the other for the test.
    ///
    /// # Errors
    ///
    /// If the simulated descriptors have run out.
    pub fn pair(&mut self) -> Result<(Dispatcher, Peer)> {
        let address = Address::from(PAIRED);
        let end = self.network.create_end()?;
        let mut wires = self.network.wires.borrow_mut();
        let there = wires.add(Role::Connected);
        wires.join(end.id(), there, &address);
        if let Some(wire) = wires.get_mut(end.id()) {
            wire.role = Role::Connected;
        }
        drop(wires);
        let socket = Socket::other(end);
        let dispatcher = Dispatcher::new(socket, Family::V4, Kind::Stream, State::Open, Some(address));
        Ok((dispatcher, Peer::new(self.network.clone(), there)))
    }

    /// A peer that connects to where the map listens, or will be listening when its question arrives.
    pub fn connect(&mut self, to: impl Into<Address>) -> Peer {
        self.dial(None, &to.into())
    }

    /// A peer that connects from an address of its own, whichever that is: for what depends on where peers are.
    pub fn connect_from(&mut self, from: impl Into<Address>, to: impl Into<Address>) -> Peer {
        self.dial(Some(from.into()), &to.into())
    }

    fn dial(&self, from: Option<Address>, to: &Address) -> Peer {
        let mut wires = self.network.wires.borrow_mut();
        let id = wires.add(Role::Fresh);
        if let Some(wire) = wires.get_mut(id) {
            wire.local = from;
        }
        drop(wires);
        let peer = Peer::new(self.network.clone(), id);
        // A fresh end can connect to anything; that it was refused, the peer tells.
        drop(self.network.wires.borrow_mut().connect(id, to));
        peer
    }

    /// A listener that the test plays, for what the map connects to.
    ///
    /// # Errors
    ///
    /// If somebody listens there already.
    pub fn listen(&mut self, at: impl Into<Address>) -> Result<PeerListener> {
        let at = at.into();
        let mut wires = self.network.wires.borrow_mut();
        let id = wires.add(Role::Fresh);
        wires.bind(id, &at)?;
        wires.listen(id, usize::MAX)?;
        drop(wires);
        Ok(PeerListener { network: self.network.clone(), id })
    }

    /// The next connection that the map has made to a listener of the test, if any.
    pub fn accept(&mut self, listener: &PeerListener) -> Option<Peer> {
        let id = self.network.wires.borrow_mut().take_waiting(listener.id)?;
        Some(Peer::new(self.network.clone(), id))
    }

    /// Has every connect to an address refused, although somebody listens there.
    pub fn refuse(&mut self, at: impl Into<Address>) {
        self.network.wires.borrow_mut().refusing.push(at.into());
    }

    /// Has every connect to an address stay without an answer.
    pub fn black_hole(&mut self, at: impl Into<Address>) {
        self.network.wires.borrow_mut().silent.push(at.into());
    }

    /// Gives a host its addresses, in the order in which the resolver answers with them. Nobody knows any other name.
    ///
    /// The resolver takes as long as what is [under way](Faults::delay).
    pub fn set_host(&mut self, host: &str, ips: impl IntoIterator<Item = IpAddr>) {
        self.network.set_host(host, ips.into_iter().collect());
    }

    /// How many descriptors the program may have; without end at first. What it has beyond that, it keeps.
    pub fn set_descriptors(&mut self, most: usize) {
        self.network.wires.borrow_mut().most_descriptors = most;
    }

    /// Has the next writes fail because the system has no memory (`ENOBUFS`).
    pub fn fail_writes_with_no_memory(&mut self, writes: u32) {
        self.network.wires.borrow_mut().no_memory = writes;
    }

    /// How much time has passed in the simulation.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.network.now() - self.started
    }

    /// Serves one turn, which does not let time pass.
    ///
    /// # Errors
    ///
    /// As [`Map::poll`].
    pub fn turn(&mut self) -> Result {
        self.map.poll(&mut self.app, Some(Duration::ZERO))
    }

    /// As [`Map::run`]; a run that can never go on ends with an error.
    ///
    /// # Errors
    ///
    /// As [`Map::run`], and if nothing is ready, under way or due.
    pub fn run(&mut self) -> Result {
        self.map.run(&mut self.app)
    }

    /// Serves turns until nothing is ready or due and nothing is under way. Time passes for what is under way alone;
    /// deadlines that fall due meanwhile are served.
    ///
    /// # Errors
    ///
    /// As [`Map::poll`], and if that does not come to an end: a channel that asks for input and never reads it, for one.
    pub fn settle(&mut self) -> Result {
        for _ in 0..MOST_TURNS {
            let wait = if self.is_busy() {
                Duration::ZERO
            } else if let Some(at) = self.network.next_arrival() {
                at - self.network.now()
            } else {
                return Ok(());
            };
            self.map.poll(&mut self.app, Some(wait))?;
        }
        Err(self.complain("the map does not come to rest: there is always something to do at once"))
    }

    /// Lets time pass, and serves everything that falls due or arrives on its way, each at its time.
    ///
    /// # Errors
    ///
    /// As [`settle`](Self::settle).
    pub fn advance(&mut self, time: Duration) -> Result {
        let until = self.elapsed().saturating_add(time);
        self.run_while(until, |_| true)?;
        self.settle()
    }

    /// A handle on the clock, for handlers that take their time.
    #[must_use]
    pub fn clock(&self) -> VirtualClock {
        VirtualClock::new(self.network.clone(), self.started)
    }

    /// Lets time pass without a turn, as a program does that is busy between two. What falls due or arrives meanwhile is
    /// served late.
    pub fn let_time_pass(&mut self, time: Duration) {
        self.clock().pass(time);
    }

    /// Serves turns until `condition` holds, at most so long by the simulation's clock.
    ///
    /// # Errors
    ///
    /// As [`settle`](Self::settle), and if the time is over first.
    pub fn run_until(&mut self, limit: Duration, mut condition: impl FnMut(&mut Self) -> bool) -> Result {
        let until = self.elapsed().saturating_add(limit);
        if self.run_while(until, |sim| !condition(sim))? || condition(self) {
            return Ok(());
        }
        Err(self.complain(&format!("it did not happen within {limit:?}")))
    }

    /// Waits until a peer has received a whole line: the line, without its end (CRLF, or LF alone).
    ///
    /// # Errors
    ///
    /// If the connection ends first, or [`EXPECT_TIME`] passes.
    pub fn expect_line(&mut self, peer: &mut Peer) -> Result<String> {
        let end = |peer: &Peer| peer.received().iter().position(|byte| *byte == b'\n');
        self.expect_that(peer, "a line", |peer| end(peer).is_some())?;
        let mut line = peer.consume(end(peer).map_or(0, |at| at + 1));
        line.pop_if(|byte| *byte == b'\n');
        line.pop_if(|byte| *byte == b'\r');
        Ok(String::from_utf8_lossy(&line).into_owned())
    }

    /// Waits until a peer has received these bytes next.
    ///
    /// # Errors
    ///
    /// As soon as it has received others, and as [`expect_line`](Self::expect_line).
    pub fn expect(&mut self, peer: &mut Peer, bytes: impl AsRef<[u8]>) -> Result {
        let bytes = bytes.as_ref();
        let what = format!("\"{}\"", bytes.escape_ascii());
        let fits = |peer: &Peer| peer.received().iter().zip(bytes).all(|(one, other)| one == other);
        self.expect_that(peer, &what, |peer| peer.received().len() >= bytes.len() || !fits(peer))?;
        if !fits(peer) {
            return Err(self.complain(&format!("expected {what} of {peer:?}")));
        }
        peer.consume(bytes.len());
        Ok(())
    }

    /// Waits until the other side of a peer has ended in good order, and nothing is left to be consumed.
    ///
    /// # Errors
    ///
    /// As [`expect_line`](Self::expect_line).
    pub fn expect_eof(&mut self, peer: &mut Peer) -> Result {
        self.expect_that(peer, "an end", |peer| peer.is_eof() && peer.received().is_empty())
    }

    /// Waits until the connection of a peer is reset.
    ///
    /// # Errors
    ///
    /// If that does not happen within [`EXPECT_TIME`].
    pub fn expect_reset(&mut self, peer: &mut Peer) -> Result {
        self.expect_that(peer, "a reset", Peer::is_reset)
    }

    /// Waits until the map has connected to a listener of the test.
    ///
    /// # Errors
    ///
    /// If that does not happen within [`EXPECT_TIME`].
    pub fn expect_accept(&mut self, listener: &PeerListener) -> Result<Peer> {
        let mut accepted = None;
        self.run_until(EXPECT_TIME, |sim| {
            accepted = sim.accept(listener);
            accepted.is_some()
        })?;
        accepted.ok_or_else(|| self.complain("nobody has connected"))
    }

    /// Serves turns until a peer has what is expected, or never can.
    fn expect_that(&mut self, peer: &Peer, what: &str, holds: impl Fn(&Peer) -> bool) -> Result {
        let over = |peer: &Peer| peer.is_eof() || peer.is_reset();
        let ran = self.run_until(EXPECT_TIME, |_| holds(peer) || over(peer));
        if holds(peer) {
            return Ok(());
        }
        match ran {
            Ok(()) => Err(self.complain(&format!("expected {what} of {peer:?}"))),
            Err(error) => Err(self.complain(&format!("expected {what} of {peer:?}: {error}"))),
        }
    }

    /// Serves turns while `goes_on` holds, up to a time: whether it was ended by `goes_on`.
    fn run_while(&mut self, until: Duration, mut goes_on: impl FnMut(&mut Self) -> bool) -> Result<bool> {
        let mut at_once = 0;
        loop {
            if !goes_on(self) {
                return Ok(true);
            }
            let now = self.elapsed();
            if now >= until && !self.is_busy() {
                return Ok(false);
            }
            self.map.poll(&mut self.app, Some(until.saturating_sub(now)))?;
            // Past the end, callbacks that take their time do not count as progress.
            at_once = if self.elapsed() > now && now < until { 0 } else { at_once + 1 };
            if at_once > MOST_TURNS {
                return Err(
                    self.complain("the map does not come to rest: there is always something to do at once")
                );
            }
        }
    }

    /// Whether the map has something to do before time passes.
    fn is_busy(&self) -> bool {
        let is_due = self.map.deadlines.next().is_some_and(|at| at <= self.network.now());
        is_due
            || self.map.has_listener_with_room()
            || self.map.has_work_at_once()
            || !self.map.touched.is_empty()
            || self.network.is_ready()
    }

    fn complain(&self, what: &str) -> Error {
        format!("{what} (seed {}, at {:?})", self.seed.0, self.elapsed()).into()
    }
}

impl Drop for Seed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let replay = format!("the simulation's seed was {0}: {SEED}={0} replays it", self.0);
            // Standard error may be closed; the test fails all the same.
            drop(writeln!(std::io::stderr(), "{replay}"));
        }
    }
}

impl<A: 'static> fmt::Debug for Simulation<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Simulation")
            .field("seed", &self.seed.0)
            .field("elapsed", &self.elapsed())
            .field("map", &self.map)
            .finish_non_exhaustive()
    }
}

/// Calls `test` with the seeds from 0 to `count`, or with the one that the environment variable `ASYNCORE_SEED` gives.
///
/// ```
/// use asyncore::testing::{Faults, Simulation, each_seed};
/// # struct Quiet;
/// # impl asyncore::Channel for Quiet {}
///
/// each_seed(20, |seed| {
///     let mut sim = Simulation::with_seed(seed, ())?;
///     sim.set_faults(Faults::harmless());
///     let (dispatcher, mut peer) = sim.pair()?;
///     sim.map.add(dispatcher, Quiet)?;
///     peer.close();
///     sim.settle()
/// })?;
/// # Ok::<(), asyncore::Error>(())
/// ```
///
/// # Errors
///
/// The first error of a test, with its seed; or if the variable is no number.
pub fn each_seed(count: u64, mut test: impl FnMut(u64) -> Result) -> Result {
    let seeds = match seed_asked_for()? {
        Some(seed) => seed..seed.saturating_add(1),
        None => 0..count,
    };
    for seed in seeds {
        test(seed).map_err(|error| format!("with {SEED}={seed}: {error}"))?;
    }
    Ok(())
}

fn seed_asked_for() -> Result<Option<u64>> {
    let Some(text) = std::env::var_os(SEED) else { return Ok(None) };
    let seed = text.to_str().and_then(|text| text.parse().ok());
    Ok(Some(seed.ok_or_else(|| format!("{SEED} is to be a number, and is {}", text.display()))?))
}

/// The environment variable that chooses the seed.
const SEED: &str = "ASYNCORE_SEED";

/// How long an expectation waits by the simulation's clock: an hour, more than the timeouts of any protocol.
pub const EXPECT_TIME: Duration = Duration::from_secs(3600);

/// Where the peer of a pair is: an address for documents (RFC 5737).
const PAIRED: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), 1);

/// Turns without time passing that are taken for a map that spins: 100,000.
const MOST_TURNS: usize = 100_000;
