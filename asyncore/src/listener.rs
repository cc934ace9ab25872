//! Listening and connecting in one line: a listener that makes a channel of each connection.

use std::cell::RefCell;
use std::collections::HashSet;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::path::Path;
use std::rc::Rc;

use crate::host::Place;
use crate::resolve::{Addresses, literal};
use crate::{
    Address, Channel, ChannelId, CloseReason, Context, Dispatcher, Error, Family, Kind, ListenOptions, Map,
    Result,
};

impl<A: 'static> Map<A> {
    /// Listens on every address that `at` stands for, and makes a channel of each connection with `make`, which is
    /// given the peer's address.
    ///
    /// An address of a family that this machine does not have is passed over, unless it is the only one.
    ///
    /// # Errors
    ///
    /// If the name is unknown, or an address is in use, not one of this machine's, or not permitted.
    pub fn listen<C: Channel<A>>(
        &mut self,
        at: impl ToSocketAddrs,
        make: impl FnMut(Option<Address>) -> C + 'static,
    ) -> Result<Vec<ChannelId>> {
        self.listen_with(at, ListenOptions::default(), make)
    }

    /// As [`listen`](Self::listen), with bounds on what is accepted and choices of how.
    ///
    /// # Errors
    ///
    /// As [`listen`](Self::listen).
    pub fn listen_with<C: Channel<A>>(
        &mut self,
        at: impl ToSocketAddrs,
        options: ListenOptions,
        make: impl FnMut(Option<Address>) -> C + 'static,
    ) -> Result<Vec<ChannelId>> {
        self.listen_at_each(at, options, make, |map, address, options| map.listener(address.into(), options))
    }

    /// [`listen_with`](Self::listen_with), with sockets that are opened otherwise.
    pub(crate) fn listen_at_each<C: Channel<A>>(
        &mut self,
        at: impl ToSocketAddrs,
        options: ListenOptions,
        make: impl FnMut(Option<Address>) -> C + 'static,
        open: impl FnMut(&Self, SocketAddr, &ListenOptions) -> io::Result<Dispatcher>,
    ) -> Result<Vec<ChannelId>> {
        let addresses: Vec<_> = at.to_socket_addrs()?.collect();
        let listeners = self.listeners(&addresses, &options, open)?;
        self.listen_on_each(listeners, options, make)
    }

    /// Listens on every address of a host, and makes a channel of each connection with `make`, which is given the peer's
    /// address: all of them, or none. Blocks while the name is resolved.
    ///
    /// `host` is a name or an address, as for [`connect_host`](Self::connect_host), or every interface: `""` or `"*"`, which
    /// listens on `[::]` and `0.0.0.0`. An IPv6 listener is for IPv6 alone, so that it leaves IPv4 to its neighbour.
    /// Port 0 takes a free one, the same on all addresses. An address of a family that this machine does not have is
    /// passed over, unless it is the only one.
    ///
    /// ```
    /// use asyncore::{Channel, Map};
    ///
    /// struct Session;
    /// impl Channel for Session {}
    ///
    /// let mut map: Map = Map::new()?;
    /// let listeners = map.listen_host("*", 0, |_peer| Session)?;
    /// let ports = listeners.iter().filter_map(|id| map.get(*id)?.local_addr().ok()??.port());
    /// let ports: Vec<u16> = ports.collect();
    /// assert!(ports.iter().all(|port| *port != 0 && *port == ports[0]));
    /// # Ok::<(), asyncore::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// If `host` can be none or is unknown; if an address is in use, not one of this machine's, or not permitted. None of
    /// the listeners stays then.
    pub fn listen_host<C: Channel<A>>(
        &mut self,
        host: &str,
        port: u16,
        make: impl FnMut(Option<Address>) -> C + 'static,
    ) -> Result<Vec<ChannelId>> {
        self.listen_host_with(host, port, ListenOptions::default(), make)
    }

    /// As [`listen_host`](Self::listen_host), with bounds on what is accepted and choices of how.
    ///
    /// # Errors
    ///
    /// As [`listen_host`](Self::listen_host).
    pub fn listen_host_with<C: Channel<A>>(
        &mut self,
        host: &str,
        port: u16,
        options: ListenOptions,
        make: impl FnMut(Option<Address>) -> C + 'static,
    ) -> Result<Vec<ChannelId>> {
        let addresses = self.addresses_of(host, port);
        let addresses =
            addresses.map_err(|error| format!("cannot listen on {}: {error}", Place(host, port)))?;
        // Kept, so that the system does not choose their port again.
        let mut taken = Vec::new();
        let listeners = loop {
            let mut port = port;
            let listeners = self.listeners(&addresses, &options, |map, mut address, options| {
                address.set_port(port);
                let mut listener = map.create_socket(Family::of(&address.into()), Kind::Stream)?;
                if address.is_ipv6() {
                    listener.set_only_v6(true)?;
                }
                listener.listen_at(address.into(), options)?;
                port = listener.local_addr()?.and_then(|address| address.port()).unwrap_or(port);
                Ok(listener)
            });
            match listeners {
                Ok(listeners) => break listeners,
                Err(failed) if failed.is_of_port() && taken.len() < MOST_PORTS => taken.push(failed),
                Err(failed) => return Err(failed.into()),
            }
        };
        drop(taken);
        self.listen_on_each(listeners, options, make)
    }

    /// The addresses to listen on for a host, each once.
    fn addresses_of(&self, host: &str, port: u16) -> Addresses {
        if matches!(host, "" | "*") {
            return Ok(vec![(Ipv6Addr::UNSPECIFIED, port).into(), (Ipv4Addr::UNSPECIFIED, port).into()]);
        }
        let mut addresses = match literal(host, port)? {
            Some(address) => vec![address],
            None => self.world.lookup(host.to_owned(), port).ask()?,
        };
        let mut seen = HashSet::new();
        addresses.retain(|address| seen.insert(*address));
        Ok(addresses)
    }

    /// Listeners on all of the addresses, or none.
    fn listeners(
        &self,
        addresses: &[SocketAddr],
        options: &ListenOptions,
        mut open: impl FnMut(&Self, SocketAddr, &ListenOptions) -> io::Result<Dispatcher>,
    ) -> Result<Vec<Dispatcher>, Failed> {
        let mut listeners = Vec::new();
        let mut passed_over = None;
        for &address in addresses {
            match open(self, address, options) {
                Ok(listener) => listeners.push(listener),
                Err(error) if self.lacks_family(address, &error) => {
                    tracing::debug!(%address, %error, "passed over");
                    passed_over = Some((address, error));
                }
                Err(error) => return Err(Failed { at: Some((address, error)), bound: listeners }),
            }
        }
        if listeners.is_empty() { Err(Failed { at: passed_over, bound: listeners }) } else { Ok(listeners) }
    }

    /// Whether that went wrong because the machine does not have the family of the address at all.
    fn lacks_family(&self, address: SocketAddr, error: &io::Error) -> bool {
        let is_missing = |error: &io::Error| error.kind() == io::ErrorKind::AddrNotAvailable;
        // Where IPv6 is switched off there may be sockets of it, but no address, not even the loopback's.
        let has_loopback = || {
            let mut socket = self.create_socket(Family::V6, Kind::Stream)?;
            socket.bind(SocketAddr::from((Ipv6Addr::LOCALHOST, 0)))
        };
        rustix::io::Errno::from_io_error(error) == Some(rustix::io::Errno::AFNOSUPPORT)
            || (address.is_ipv6()
                && is_missing(error)
                && has_loopback().is_err_and(|error| is_missing(&error)))
    }

    /// Listens on several sockets that listen already, with one `make` and one count: all of them, or none.
    pub(crate) fn listen_on_each<C: Channel<A>>(
        &mut self,
        listeners: Vec<Dispatcher>,
        options: ListenOptions,
        make: impl FnMut(Option<Address>) -> C + 'static,
    ) -> Result<Vec<ChannelId>> {
        let make = Rc::new(RefCell::new(make));
        let mut ids = Vec::new();
        for listener in listeners {
            let make = Rc::clone(&make);
            match self.listen_on(listener, move |peer| make.borrow_mut()(peer)) {
                Ok(id) => ids.push(id),
                Err(error) => {
                    for id in ids {
                        drop(self.remove(id));
                    }
                    return Err(error);
                }
            }
        }
        self.set_listen_options(&ids, options);
        Ok(ids)
    }

    /// Listens on a Unix-domain path. The path must not exist, and stays when the listener closes.
    ///
    /// # Errors
    ///
    /// If the path exists, or cannot be created.
    pub fn listen_unix<C: Channel<A>>(
        &mut self,
        path: impl AsRef<Path>,
        make: impl FnMut(Option<Address>) -> C + 'static,
    ) -> Result<ChannelId> {
        let path = path.as_ref();
        let listener = self
            .listener(path.into(), &ListenOptions::default())
            .map_err(|error| format!("cannot listen on {}: {error}", path.display()))?;
        self.listen_on(listener, make)
    }

    /// As [`listen`](Self::listen), with a socket that listens already: one with its own limits, or an inherited one.
    ///
    /// # Errors
    ///
    /// If the socket cannot be adopted, or the map has no slot left.
    pub fn listen_on<S, C>(
        &mut self,
        socket: S,
        make: impl FnMut(Option<Address>) -> C + 'static,
    ) -> Result<ChannelId>
    where
        S: TryInto<Dispatcher>,
        S::Error: Into<Error>,
        C: Channel<A>,
    {
        let id = self.add(socket, Listener { make })?;
        if let Some(address) = self.get(id).and_then(|listener| listener.local_addr().ok().flatten()) {
            tracing::info!(%id, %address, "listening");
        }
        Ok(id)
    }

    /// Connects to an address; the handler hears `handle_connect`, or `handle_error` and `handle_close`.
    ///
    /// # Errors
    ///
    /// If no socket can be created, or the address cannot be one.
    pub fn connect(&mut self, to: impl Into<Address>, handler: impl Channel<A>) -> Result<ChannelId> {
        let to = to.into();
        let mut dispatcher = self.create_socket(Family::of(&to), Kind::Stream)?;
        dispatcher.set_limits(self.limits.clone());
        dispatcher.connect(to)?;
        self.add(dispatcher, handler)
    }

    /// A socket for a channel of this map: as [`Dispatcher::create_socket`], and on a simulated map a simulated one.
    ///
    /// # Errors
    ///
    /// If the system has no descriptor left, or does not know the family.
    pub fn create_socket(&self, family: Family, kind: Kind) -> io::Result<Dispatcher> {
        Ok(Dispatcher::from_socket(self.world.create_socket(family, kind)?, family, kind))
    }

    pub(crate) fn listener(&self, address: Address, options: &ListenOptions) -> io::Result<Dispatcher> {
        let mut listener = self.create_socket(Family::of(&address), Kind::Stream)?;
        listener.listen_at(address, options)?;
        Ok(listener)
    }
}

/// Makes a channel of each accepted connection.
struct Listener<F> {
    make: F,
}

impl<A, C, F> Channel<A> for Listener<F>
where
    A: 'static,
    C: Channel<A>,
    F: FnMut(Option<Address>) -> C + 'static,
{
    fn handle_accepted(&mut self, cx: &mut Context<'_, A>, accepted: Dispatcher) -> Result {
        let handler = (self.make)(accepted.peer_addr());
        let peer = accepted.peer();
        let id = cx.map.add(accepted, handler)?;
        tracing::debug!(%id, %peer, listener = %cx.id, "accepted");
        Ok(())
    }

    fn name(&self) -> &'static str {
        "listener"
    }

    fn handle_close(&mut self, cx: &mut Context<'_, A>, reason: CloseReason) {
        tracing::info!(id = %cx.id, %reason, "no longer listening");
    }
}

/// Why there is no listener.
struct Failed {
    /// An address, and what was wrong with it; `None` when there was none.
    at: Option<(SocketAddr, io::Error)>,
    /// Those that were bound before it.
    bound: Vec<Dispatcher>,
}

impl Failed {
    /// Whether the system chose a port that is in use on another address.
    fn is_of_port(&self) -> bool {
        !self.bound.is_empty()
            && self.at.as_ref().is_some_and(|(address, error)| {
                address.port() == 0 && error.kind() == io::ErrorKind::AddrInUse
            })
    }
}

impl From<Failed> for Error {
    fn from(failed: Failed) -> Self {
        match failed.at {
            Some((address, error)) => format!("cannot listen on {address}: {error}").into(),
            None => "the name has no address".into(),
        }
    }
}

/// Ports that are tried when all addresses of a host are to have the same and none is given: 16; on a machine where one of
/// them after the other is taken on another address, there is hardly one left.
const MOST_PORTS: usize = 16;
