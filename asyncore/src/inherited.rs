//! Listeners that the process was started with, by a service manager: systemd's socket activation.

use listenfd::ListenFd;

use crate::{Address, Channel, ChannelId, Dispatcher, ListenOptions, Map, Result, State};

/// The listeners that the process was given as it was started (`LISTEN_FDS`), in their order; none if it was given none.
///
/// A service manager binds them before it starts the program, which so needs no right to do that, and lets nobody wait
/// while it is started again. They can be had once: the variables are taken out of the environment. Ask before other
/// threads are started, which might read the environment meanwhile.
///
/// ```
/// use asyncore::{Channel, Map};
///
/// struct Session;
/// impl Channel for Session {}
///
/// let mut map: Map = Map::new()?;
/// for listener in asyncore::inherited_listeners()? {
///     map.listen_on(listener, |_peer| Session)?;
/// }
/// # Ok::<(), asyncore::Error>(())
/// ```
///
/// # Errors
///
/// If one of them does not listen: it is no stream socket, or a connection.
pub fn inherited_listeners() -> Result<Vec<Dispatcher>> {
    let mut given = ListenFd::from_env();
    (0..given.len())
        .map(|place| {
            let listener = take(&mut given, place)?;
            listener
                .filter(|listener| listener.state() == State::Listening)
                .ok_or_else(|| format!("descriptor {} of LISTEN_FDS does not listen", place + 1).into())
        })
        .collect()
}

impl<A: 'static> Map<A> {
    /// As [`listen_with`](Self::listen_with), on the [listeners that the process was given](inherited_listeners). It was
    /// given none if the answer is empty.
    ///
    /// ```
    /// use asyncore::{Channel, ListenOptions, Map};
    ///
    /// struct Session;
    /// impl Channel for Session {}
    ///
    /// let mut map: Map = Map::new()?;
    /// let mut listeners = map.listen_inherited(ListenOptions::default(), |_peer| Session)?;
    /// if listeners.is_empty() {
    ///     listeners = map.listen("127.0.0.1:0", |_peer| Session)?;
    /// }
    /// # Ok::<(), asyncore::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`inherited_listeners`], and if the map has no slot left.
    pub fn listen_inherited<C: Channel<A>>(
        &mut self,
        options: ListenOptions,
        make: impl FnMut(Option<Address>) -> C + 'static,
    ) -> Result<Vec<ChannelId>> {
        self.listen_on_each(inherited_listeners()?, options, make)
    }
}

/// The stream socket in one place, if there is one.
fn take(given: &mut ListenFd, place: usize) -> Result<Option<Dispatcher>> {
    if let Ok(Some(listener)) = given.take_tcp_listener(place) {
        return Ok(Some(listener.try_into()?));
    }
    if let Ok(Some(listener)) = given.take_unix_listener(place) {
        return Ok(Some(listener.try_into()?));
    }
    Ok(None)
}
