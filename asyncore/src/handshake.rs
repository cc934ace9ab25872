//! The start of TLS on a channel, and what was agreed on.

use rustls::Connection;

use crate::entry::Flags;
use crate::secured::Secured;
use crate::{ChannelId, CloseReason, Dispatcher, Kind, Map, Result, State, TlsSession};

impl<A: 'static> Map<A> {
    /// Begins TLS on a stream: before its first byte, or in its midst, as STARTTLS has it.
    ///
    /// - What was pushed before goes out first, in clear text; what is pushed from now on waits for the handshake, and goes
    ///   under TLS. A channel that still connects, also to a host, begins once it is connected, and sends nothing in clear
    ///   text.
    /// - Nothing is delivered until the handshake is done. [`handle_tls`](crate::Channel::handle_tls) tells of that;
    ///   before it comes [`handle_connect`](crate::Channel::handle_connect), if that was not told yet.
    /// - Input that came in clear text and was not delivered is dropped, and the log says how much: read as if it had come
    ///   under TLS, it would be commands of anybody on the way (CVE-2011-0411). A conversation drops what it holds; a raw channel
    ///   that holds input itself has to do the same.
    /// - A handshake that fails goes to [`handle_error`](crate::Channel::handle_error) and closes the channel with
    ///   [`CloseReason::Tls`]. It may take
    ///   [`Limits::handshake_time`](crate::Limits::handshake_time).
    ///
    /// ```no_run
    /// use asyncore::{Channel, Context, Map, Received, Result, TlsClient};
    ///
    /// struct Greeting;
    ///
    /// impl Channel for Greeting {
    ///     fn handle_read(&mut self, cx: &mut Context<'_>) -> Result {
    ///         while let Received::Data(data) = cx.map.recv(cx.id, 4096)? {
    ///             print!("{}", data.escape_ascii());
    ///         }
    ///         Ok(())
    ///     }
    /// }
    ///
    /// let client = TlsClient::new()?;
    /// let mut map = Map::new()?;
    /// let id = map.connect_host("mail.example.org", 465, Greeting)?;
    /// map.start_tls(id, client.session("mail.example.org")?)?;
    /// map.run(&mut ())?;
    /// # Ok::<(), asyncore::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// If the channel is neither open nor connecting, is no stream, has TLS already, or has a producer queued.
    pub fn start_tls(&mut self, id: ChannelId, session: impl Into<TlsSession>) -> Result {
        let session = session.into();
        let Some(entry) = self.live_mut(id) else { return Err("the channel is closed".into()) };
        let dispatcher = &mut entry.dispatcher;
        if dispatcher.kind() != Kind::Stream {
            return Err("TLS needs a stream".into());
        }
        if dispatcher.has_tls() {
            return Err("TLS has begun already".into());
        }
        match dispatcher.state {
            State::Connecting => {
                dispatcher.rare().tls = Some(session);
                return Ok(());
            }
            State::Open => {}
            state => return Err(format!("TLS cannot begin on a channel that is {state}").into()),
        }
        let mut clear = Vec::new();
        if let Some(outbox) = &dispatcher.outbox {
            if outbox.has_producer() {
                return Err("TLS cannot begin behind a producer, whose bytes are not made yet".into());
            }
            outbox.copy_to(&mut clear);
        }
        let unread = dispatcher.unread();
        if unread > 0 {
            tracing::warn!(%id, unread, "input in clear text before TLS dropped");
        }
        dispatcher.count_out(clear.len());
        self.counters.bytes_out += clear.len() as u64;
        self.discard_output(id);
        self.forget_unread(id);
        self.cover(id, session, clear)
    }

    /// A connect has succeeded: whether TLS comes before the channel hears of that.
    pub(crate) fn start_tls_when_connected(&mut self, app: &mut A, id: ChannelId) -> bool {
        let Some(session) = self.tls_to_come(id) else { return false };
        if let Err(error) = self.cover(id, session, Vec::new()) {
            self.report(app, id, &error);
            self.override_reason(id, CloseReason::Limit);
        }
        true
    }

    /// A channel is added: TLS begins on what was accepted with it.
    pub(crate) fn start_tls_when_added(&mut self, id: ChannelId) -> Result {
        if self.live(id).is_some_and(|entry| entry.dispatcher.state == State::Open)
            && let Some(session) = self.tls_to_come(id)
            && let Err(error) = self.cover(id, session, Vec::new())
        {
            drop(self.remove(id));
            return Err(error);
        }
        Ok(())
    }

    fn tls_to_come(&mut self, id: ChannelId) -> Option<TlsSession> {
        self.live_mut(id)?.dispatcher.rare_mut()?.tls.take()
    }

    /// Puts TLS over a connected socket, for which `clear` is still to be written, and has the handshake begin.
    pub(crate) fn cover(&mut self, id: ChannelId, session: TlsSession, clear: Vec<u8>) -> Result {
        let Some(entry) = Self::entry_in(&mut self.slots, id) else { return Ok(()) };
        entry.dispatcher.socket.cover(|socket| Secured::new(socket, session.into_connection(), clear))?;
        entry.dispatcher.state = State::Handshaking;
        entry.flags.clear(Flags::FLOWING);
        self.set_handshake_deadline(id);
        self.touch(id);
        self.update_serving(id);
        // It may be this side that speaks first.
        self.make_ready(id);
        Ok(())
    }
}

impl Dispatcher {
    /// The TLS session over it: what was agreed on (version, cipher suite, ALPN, whether it was resumed), and the peer's
    /// certificates, once the handshake is done.
    ///
    /// ```
    /// use asyncore::{Dispatcher, Family, Kind};
    ///
    /// let plain = Dispatcher::create_socket(Family::V4, Kind::Stream)?;
    /// let version = plain.tls().and_then(|session| session.protocol_version());
    /// assert_eq!(version, None);
    /// # Ok::<(), asyncore::Error>(())
    /// ```
    #[must_use]
    pub fn tls(&self) -> Option<&Connection> {
        self.socket.session()
    }

    /// Whether TLS has begun, or will once it is connected.
    fn has_tls(&self) -> bool {
        self.tls().is_some() || self.rare_ref().is_some_and(|rare| rare.tls.is_some())
    }
}
