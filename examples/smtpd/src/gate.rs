//! [`Gate`]: what a connection of a proxy is until its header has been read, and a [`Session`] begins.

use std::net::IpAddr;

use asyncore::{Address, Channel, CloseReason, Context, Received, Result, TlsServer};

use crate::app::App;
use crate::proxy::{self, Header, Source};
use crate::session::{Peer, Session};

/// A connection whose first bytes are a PROXY header. It takes as many bytes as are the header's, and leaves the next for
/// the session: they may be those of a TLS handshake.
#[derive(Debug)]
pub struct Gate {
    proxy: Peer,
    tls: Option<TlsServer>,
    header: Vec<u8>,
}

impl Gate {
    /// A connection from a proxy at that address; behind its header TLS begins at once, or clear text goes on.
    #[must_use]
    pub fn new(proxy: Option<Address>, tls: Option<TlsServer>) -> Self {
        Self { proxy: proxy.into(), tls, header: Vec::new() }
    }

    /// Whether the server believes what comes from there. Who reaches a Unix socket was let in by its folder.
    fn is_trusted(&self, app: &App) -> bool {
        let is_proxy =
            |address: IpAddr| app.settings.proxies.iter().flatten().any(|net| net.contains(&address));
        match self.proxy {
            Peer::Inet(address) => is_proxy(address.ip().to_canonical()),
            Peer::Local => true,
            Peer::Unknown => false,
        }
    }

    fn refuse(&self, cx: &mut Context<'_, App>, why: &str) {
        cx.app.metrics.sessions_refused += 1;
        tracing::warn!(id = %cx.id, peer = %self.proxy, "connection refused: {why}");
        cx.map.close_with(cx.id, CloseReason::Malformed);
    }

    fn open(&mut self, cx: &mut Context<'_, App>, source: Source) -> Result {
        let peer = match source {
            Source::Proxy => self.proxy,
            Source::Unknown => Peer::Unknown,
            Source::Client(address) => Peer::Inet(address),
        };
        let mut session = Session::of(peer);
        match self.tls.take() {
            // It greets when the handshake is done.
            Some(tls) => cx.map.start_tls(cx.id, tls.session()?)?,
            None => session.greet(cx.map, cx.app, cx.id),
        }
        cx.map.replace(cx.id, session.chat());
        Ok(())
    }
}

impl Channel<App> for Gate {
    fn handle_connect(&mut self, cx: &mut Context<'_, App>) -> Result {
        if !self.is_trusted(cx.app) {
            self.refuse(cx, "not from a trusted proxy");
        }
        Ok(())
    }

    fn handle_read(&mut self, cx: &mut Context<'_, App>) -> Result {
        loop {
            match proxy::read(&self.header) {
                Header::More(most) => match cx.map.recv(cx.id, most)? {
                    Received::Data(data) => self.header.extend_from_slice(&data),
                    _ => return Ok(()),
                },
                Header::Whole(source) => return self.open(cx, source),
                Header::Malformed => {
                    self.refuse(cx, "no PROXY header");
                    return Ok(());
                }
            }
        }
    }

    fn name(&self) -> &'static str {
        "proxy header"
    }
}
