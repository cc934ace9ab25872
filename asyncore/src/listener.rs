//! Listening and connecting in one line: a listener that makes a channel of each connection.

use std::cell::RefCell;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::Path;
use std::rc::Rc;

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
        mut open: impl FnMut(&Self, SocketAddr, &ListenOptions) -> io::Result<Dispatcher>,
    ) -> Result<Vec<ChannelId>> {
        let mut listeners = Vec::new();
        let mut passed_over = None;
        for address in at.to_socket_addrs()? {
            match open(self, address, &options) {
                Ok(listener) => listeners.push(listener),
                Err(error) if is_unknown_family(&error) => passed_over = Some(error),
                Err(error) => return Err(format!("cannot listen on {address}: {error}").into()),
            }
        }
        if listeners.is_empty() {
            return Err(passed_over.map_or_else(|| "the name has no address".into(), Error::from));
        }
        self.listen_on_each(listeners, options, make)
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
        self.world.create_socket(family, kind).map(Dispatcher::from_socket)
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
        let peer = accepted.peer().clone();
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

/// Whether the machine has no such family: IPv6 switched off, for one.
fn is_unknown_family(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::AddrNotAvailable
        || rustix::io::Errno::from_io_error(error) == Some(rustix::io::Errno::AFNOSUPPORT)
}
