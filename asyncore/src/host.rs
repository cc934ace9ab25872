//! Connecting to a host by its name: resolved off the loop, its addresses tried one beside the other.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use crate::absent::Absent;
use crate::deadline::{DeadlineKey, Due};
use crate::entry::Flags;
use crate::eyeballs::{ATTEMPT_DELAY, Eyeballs};
use crate::resolve::{Addresses, literal};
use crate::{Channel, ChannelId, CloseReason, Context, Dispatcher, Family, Kind, Map, Result, State};

impl<A: 'static> Map<A> {
    /// Connects to a host by its name, or by an address in words; the handler hears `handle_connect`, or `handle_error`
    /// with a [`HostError`] and `handle_close`.
    ///
    /// The name is resolved on a thread for [blocking work](Self::spawn_blocking). Its addresses are then tried as RFC
    /// 8305 (Happy Eyeballs) says: by turns of the families, the next when one has failed, or has not answered for
    /// [`ATTEMPT_DELAY`]; the first to answer is the channel's, and the others are closed. Each attempt is a background
    /// channel of the map while it lasts, and ends with the one that it is for. At most
    /// [`MOST_ADDRESSES`](crate::MOST_ADDRESSES) are tried, [`MOST_ATTEMPTS`](crate::MOST_ATTEMPTS) at a time.
    ///
    /// It is one channel from the start, connecting as after [`connect`](Self::connect): what is pushed waits, and
    /// [`Limits::connect_time`](crate::Limits::connect_time) bounds all of it, the resolver's time too. Until it is connected it has no socket: it
    /// has no address, its family is not known, and options of its socket can be set from `handle_connect` on. Taken out
    /// of its map before that, it begins anew where it is added again.
    ///
    /// `host` is a name, or an IPv4 or IPv6 address, the latter with brackets or without, also with a scope
    /// (`fe80::1%eth0`).
    ///
    /// ```
    /// use asyncore::{Channel, Context, Map, Result};
    ///
    /// struct Caller;
    ///
    /// impl Channel<Option<u16>> for Caller {
    ///     fn handle_connect(&mut self, cx: &mut Context<'_, Option<u16>>) -> Result {
    ///         let peer = cx.map.get(cx.id).and_then(|caller| caller.peer_addr());
    ///         *cx.app = peer.and_then(|peer| peer.port());
    ///         cx.map.close_all();
    ///         Ok(())
    ///     }
    /// }
    ///
    /// struct Quiet;
    /// impl<A: 'static> Channel<A> for Quiet {}
    ///
    /// let mut map = Map::new()?;
    /// let server = map.listen("127.0.0.1:0", |_peer| Quiet)?;
    /// let at = map.get(server[0]).and_then(|server| server.local_addr().ok()?);
    /// let port = at.and_then(|at| at.port()).unwrap_or(0);
    /// map.connect_host("localhost", port, Caller)?;
    /// let mut connected = None;
    /// map.run(&mut connected)?;
    /// assert_eq!(connected, Some(port));
    /// # Ok::<(), asyncore::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// A [`HostError`] if `host` can be no host: it is empty, longer than 253 bytes, holds a NUL or a port, or names a
    /// scope that is not there. Otherwise if the map has no slot left, or the system no descriptor for what all hosts
    /// share before they have a socket.
    pub fn connect_host(&mut self, host: &str, port: u16, handler: impl Channel<A>) -> Result<ChannelId> {
        let mut race = Race::new(host, port);
        if let Err(error) = literal(host, port) {
            race.unresolved = Some(error.into());
            return Err(race.error().into());
        }
        let socket = Absent::socket()?;
        // Whatever its family will be.
        let mut dispatcher = Dispatcher::new(socket, Family::V6, Kind::Stream, State::Connecting, None);
        dispatcher.rare().racing = Some(Racing::Host(Box::new(race)));
        self.add(dispatcher, handler)
    }

    /// How far a channel has come that [connects to a host](Self::connect_host), as the error that it would fail with
    /// now; `None` when it is connected, or does something else.
    ///
    /// For a [`handle_timeout`](Channel::handle_timeout) that is overridden; the default gives it to `handle_error`.
    #[must_use]
    pub fn host_error(&self, id: ChannelId) -> Option<HostError> {
        self.live(id)?.dispatcher.race().map(Race::error)
    }

    /// A channel was added that is to connect to a host.
    pub(crate) fn begin_race(&mut self, id: ChannelId) {
        let Some(race) = self.race(id) else { return };
        match literal(&race.host, race.port) {
            Ok(Some(address)) => self.resolved(id, Ok(vec![address])),
            Ok(None) => {
                let awaited = Arc::new(());
                race.asked = Some(Arc::clone(&awaited));
                let (host, port) = (race.host.clone(), race.port);
                tracing::debug!(%id, host, "resolving");
                let lookup = self.world.lookup(host, port);
                if let Err(error) = self.look_up(id, Arc::downgrade(&awaited), lookup) {
                    self.resolved(id, Err(io::Error::other(error)));
                }
            }
            Err(error) => self.resolved(id, Err(error)),
        }
    }

    /// The resolver has answered.
    pub(crate) fn resolved(&mut self, id: ChannelId, answer: Addresses) {
        let Some(race) = self.race(id) else { return };
        race.asked = None;
        match answer {
            Ok(addresses) if addresses.is_empty() => {
                race.unresolved = Some(io::Error::other("the name has no address").into());
            }
            Ok(addresses) => race.eyeballs = Eyeballs::new(addresses),
            Err(error) => race.unresolved = Some(error.into()),
        }
        self.try_next(id);
    }

    /// Tries the next address of a host, or has the channel hear that there is none.
    pub(crate) fn try_next(&mut self, id: ChannelId) {
        while let Some(race) = self.race(id)
            && let Some(address) = race.eyeballs.start()
        {
            tracing::debug!(%id, %address, "trying an address");
            race.tried.push(Tried { address, error: None });
            let place = race.tried.len() - 1;
            match self.attempt(id, address) {
                Ok(Begun::Connected(attempt)) => return self.won(id, attempt),
                Ok(Begun::Pending(attempt)) => {
                    let now = self.time();
                    let key = self.deadlines.set(now, ATTEMPT_DELAY, Due::Attempt(id));
                    let Some(race) = self.race(id) else { return };
                    race.attempts.push((attempt, place));
                    if let Some(earlier) = race.next.replace(key) {
                        self.deadlines.cancel(earlier);
                    }
                    return;
                }
                Err(error) => {
                    if let Some(race) = self.race(id) {
                        race.fail(place, error);
                    }
                }
            }
        }
        if self.race(id).is_some_and(|race| race.is_over()) {
            self.make_ready(id);
        }
    }

    /// Begins to connect to one address of a host.
    fn attempt(&mut self, host: ChannelId, address: SocketAddr) -> io::Result<Begun> {
        let mut dispatcher = self.create_socket(Family::of(&address.into()), Kind::Stream)?;
        let mut limits = self.limits(host).cloned().unwrap_or_default();
        // That of the channel is for all of them.
        limits.connect_time = None;
        dispatcher.set_limits(limits);
        dispatcher.connect(address)?;
        if let Some(result) = dispatcher.connect_result(false) {
            return result.map(|()| Begun::Connected(dispatcher));
        }
        dispatcher.rare().racing = Some(Racing::Attempt(host));
        let id = self.insert(dispatcher, Box::new(Attempt)).map_err(io::Error::other)?;
        self.set_background(id);
        Ok(Begun::Pending(id))
    }

    /// A channel that takes part in a race has something to hear: the end of its connect, or that no address is left.
    pub(crate) fn serve_race(&mut self, app: &mut A, id: ChannelId, writable: bool) {
        let Some(entry) = self.live_mut(id) else { return };
        let dispatcher = &mut entry.dispatcher;
        match dispatcher.rare_mut().and_then(|rare| rare.racing.as_ref()) {
            Some(Racing::Host(race)) if race.is_over() => {
                let error = race.error();
                tracing::debug!(%id, %error, "connect failed");
                let reason = error.reason();
                self.report(app, id, &error.into());
                self.override_reason(id, reason);
            }
            Some(&Racing::Attempt(host)) => match dispatcher.connect_result(writable) {
                None => {}
                Some(Ok(())) => {
                    // It has not failed by leaving.
                    entry.flags.clear(Flags::RACING);
                    if let Some((attempt, _)) = self.remove(id) {
                        self.won(host, attempt);
                    }
                }
                Some(Err(error)) => {
                    let reason = CloseReason::from_connect(&error);
                    self.attempt_failed(host, id, error);
                    self.close_as(id, reason);
                }
            },
            _ => {}
        }
    }

    /// An attempt has connected: its socket is the channel's, which hears of it from the ready list.
    fn won(&mut self, id: ChannelId, attempt: Dispatcher) {
        self.end_race(id);
        let Some(entry) = self.live_mut(id) else { return };
        entry.flags.clear(Flags::RACING);
        entry.dispatcher.take_connection(attempt);
        self.make_ready(id);
        self.touch_interest(id);
    }

    /// An attempt has failed: the next address is tried at once.
    fn attempt_failed(&mut self, host: ChannelId, attempt: ChannelId, error: io::Error) {
        let Some(race) = self.race(host) else { return };
        let Some(at) = race.attempts.iter().position(|(id, _)| *id == attempt) else { return };
        let (_, place) = race.attempts.swap_remove(at);
        race.fail(place, error);
        self.try_next(host);
    }

    /// A channel that takes part in a race is closed or removed before it is connected.
    pub(crate) fn leave_race(&mut self, id: ChannelId, reason: CloseReason) {
        let Some(entry) = self.entry_mut(id) else { return };
        entry.flags.clear(Flags::RACING);
        let racing = entry.dispatcher.rare_mut().and_then(|rare| rare.racing.as_ref());
        if let Some(&Racing::Attempt(host)) = racing {
            entry.dispatcher.rare().racing = None;
            self.attempt_failed(host, id, io::Error::other(reason.to_string()));
        } else {
            self.end_race(id);
        }
    }

    /// Nothing is tried any more: what is under way ends, and the race stands at its start.
    fn end_race(&mut self, id: ChannelId) {
        let Some(race) = self.entry_mut(id).and_then(|entry| entry.dispatcher.race_mut()) else { return };
        let start = Race::new(&race.host, race.port);
        let race = std::mem::replace(race, start);
        if let Some(key) = race.next {
            self.deadlines.cancel(key);
        }
        for (attempt, _) in race.attempts {
            self.close_as(attempt, CloseReason::Local);
        }
    }

    /// The race of a channel that connects to a host.
    fn race(&mut self, id: ChannelId) -> Option<&mut Race> {
        self.live_mut(id)?.dispatcher.race_mut()
    }
}

/// What takes part in a race for a connection, in [`Rare`](crate::extra::Rare).
#[derive(Debug)]
pub(crate) enum Racing {
    /// A channel that connects to a host.
    Host(Box<Race>),
    /// One that tries an address for such a channel.
    Attempt(ChannelId),
}

/// A host, and how far it has been tried.
#[derive(Debug)]
pub(crate) struct Race {
    host: String,
    port: u16,
    /// While the resolver is asked: without it, the question is not asked any more.
    asked: Option<Arc<()>>,
    /// Why there is no address.
    unresolved: Option<Arc<io::Error>>,
    eyeballs: Eyeballs,
    tried: Vec<Tried>,
    /// What is under way, each with its place in `tried`.
    attempts: Vec<(ChannelId, usize)>,
    /// When the next address is tried.
    next: Option<DeadlineKey>,
}

/// An address that was tried.
#[derive(Clone, Debug)]
struct Tried {
    address: SocketAddr,
    /// `None` as long as it has not answered.
    error: Option<Arc<io::Error>>,
}

impl Race {
    fn new(host: &str, port: u16) -> Self {
        Self {
            host: host.to_owned(),
            port,
            asked: None,
            unresolved: None,
            eyeballs: Eyeballs::default(),
            tried: Vec::new(),
            attempts: Vec::new(),
            next: None,
        }
    }

    fn is_over(&self) -> bool {
        self.asked.is_none() && self.eyeballs.is_over()
    }

    fn fail(&mut self, place: usize, error: io::Error) {
        self.eyeballs.failed();
        if let Some(tried) = self.tried.get_mut(place) {
            tracing::debug!(address = %tried.address, %error, "an address failed");
            tried.error = Some(error.into());
        }
    }

    fn error(&self) -> HostError {
        HostError {
            host: self.host.clone(),
            port: self.port,
            unresolved: self.unresolved.clone(),
            tried: self.tried.clone(),
            untried: self.eyeballs.waiting(),
        }
    }
}

impl Dispatcher {
    pub(crate) fn is_racing(&self) -> bool {
        self.rare_ref().is_some_and(|rare| rare.racing.is_some())
    }

    fn race(&self) -> Option<&Race> {
        match self.rare_ref()?.racing.as_ref()? {
            Racing::Host(race) => Some(race),
            Racing::Attempt(_) => None,
        }
    }

    fn race_mut(&mut self) -> Option<&mut Race> {
        match self.rare_mut()?.racing.as_mut()? {
            Racing::Host(race) => Some(race),
            Racing::Attempt(_) => None,
        }
    }
}

/// How far an attempt came at once.
enum Begun {
    Connected(Dispatcher),
    Pending(ChannelId),
}

/// The handler of an attempt, which hears nothing.
struct Attempt;

impl<A: 'static> Channel<A> for Attempt {
    /// It ends with the channel that it is for.
    fn handle_shutdown(&mut self, _cx: &mut Context<'_, A>) -> Result {
        Ok(())
    }

    fn name(&self) -> &'static str {
        "attempt to connect"
    }
}

/// Why a channel could not connect to a host, given to `handle_error` after [`Map::connect_host`].
///
/// ```text
/// cannot connect to mail.example:25: [2001:db8::1]:25: connection refused; 192.0.2.1:25: no answer
/// ```
#[derive(Clone, Debug)]
pub struct HostError {
    host: String,
    port: u16,
    unresolved: Option<Arc<io::Error>>,
    tried: Vec<Tried>,
    untried: usize,
}

impl HostError {
    /// The host, as it was given.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// The addresses that were tried, in that order, and what came of each: `None` if it had not answered by then.
    pub fn tried(&self) -> impl Iterator<Item = (SocketAddr, Option<&io::Error>)> {
        self.tried.iter().map(|tried| (tried.address, tried.error.as_deref()))
    }

    /// The reason to close for: refused if one address refused, else that of the last.
    fn reason(&self) -> CloseReason {
        if self.tried.is_empty() {
            return CloseReason::Unresolved;
        }
        let mut reasons = self.tried().filter_map(|(_, error)| error.map(CloseReason::from_connect));
        let first = reasons.next().unwrap_or(CloseReason::Refused);
        reasons.fold(first, |reason, next| if reason == CloseReason::Refused { reason } else { next })
    }
}

impl fmt::Display for HostError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = Place(&self.host, self.port).to_string();
        write!(f, "cannot connect to {name}: ")?;
        if let Some(error) = &self.unresolved {
            return error.fmt(f);
        }
        if self.tried.is_empty() {
            return f.write_str("no answer from the resolver");
        }
        for (place, (address, error)) in self.tried().enumerate() {
            if place > 0 {
                f.write_str("; ")?;
            }
            let address = address.to_string();
            if self.tried.len() > 1 || address != name {
                write!(f, "{address}: ")?;
            }
            match error {
                None => f.write_str("no answer")?,
                Some(error) => match CloseReason::from_io(error) {
                    Some(reason) => reason.fmt(f)?,
                    None => error.fmt(f)?,
                },
            }
        }
        match self.untried {
            0 => Ok(()),
            untried => write!(f, "; {untried} more not tried"),
        }
    }
}

impl std::error::Error for HostError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        let error: &io::Error = self.unresolved.as_ref()?;
        Some(error)
    }
}

/// A host and a port, as they are written.
pub(crate) struct Place<'a>(pub(crate) &'a str, pub(crate) u16);

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(host, port) = self;
        // What cannot be printed might steer a terminal.
        let printed = host.escape_debug();
        if host.contains(':') && !host.starts_with('[') {
            write!(f, "[{printed}]:{port}")
        } else {
            write!(f, "{printed}:{port}")
        }
    }
}

#[cfg(test)]
#[cfg(feature = "testing")]
mod tests {
    use super::*;
    use crate::testing::Simulation;

    struct Quiet;

    impl Channel for Quiet {}

    #[test]
    fn a_race_that_ends_leaves_no_deadline_and_no_question_behind() -> Result {
        let end: [fn(&mut Map, ChannelId); 2] =
            [|map, id| map.close(id), |map, id| drop(map.remove(id).expect("it is there"))];
        for end in end {
            for turns in 0..4 {
                let mut sim = Simulation::new(())?;
                let ips: [SocketAddr; 2] = ["[2001:db8::1]:25".parse()?, "192.0.2.1:25".parse()?];
                for ip in ips {
                    sim.black_hole(ip);
                }
                sim.set_host("mail.example", ips.map(|at| at.ip()));
                let id = sim.map.connect_host("mail.example", 25, Quiet)?;
                for _ in 0..turns {
                    sim.turn()?;
                }
                end(&mut sim.map, id);
                assert_eq!(sim.map.deadlines.len(), 0, "after {turns} turns");
                sim.settle()?;
                assert!(sim.map.is_empty());
                assert_eq!(sim.map.blocking.len(), 0);
            }
        }
        Ok(())
    }
}
