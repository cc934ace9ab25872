//! Another handler for a channel that goes on.

use crate::entry::{Entry, Flags};
use crate::panics::contain;
use crate::{Channel, ChannelId, Map};

impl<A: 'static> Map<A> {
    /// Gives a channel another handler: the connection, its id, its timers, what is queued and what was received and not
    /// used stay. False when there is no such channel; the handler is then dropped.
    ///
    /// For a protocol that becomes another on the same connection: a login that hands over to a session, an upgrade, a
    /// tunnel. From a callback of the channel's own it takes effect when that returns. Until then the channel
    /// [does not read](Self::is_reading), and [`recv`](Self::recv) and [`recv_from`](Self::recv_from) find nothing,
    /// so that a loop of reads ends.
    ///
    /// The former handler hears nothing more, no `handle_close` either. It is asked for the input that it holds
    /// ([`Channel::take_input`]), which comes first in what the new one reads, and dropped. The new one does not hear again
    /// of what was told already (`handle_connect`, an end of file that was told and has no input behind it); what is still
    /// to come, it hears. If the callback that replaced its handler then fails, the new one's `handle_error` is told.
    ///
    /// [`pause_when_high`](Self::pause_when_high) was the former handler's choice and is undone. Limits, couplings and
    /// other pauses stay.
    ///
    /// ```
    /// use std::io::Write;
    /// use std::os::unix::net::UnixStream;
    ///
    /// use asyncore::{Channel, Context, Map, Received, Result};
    ///
    /// /// Reads one byte, and leaves the rest to another.
    /// struct Version;
    ///
    /// impl Channel<Vec<u8>> for Version {
    ///     fn handle_read(&mut self, cx: &mut Context<'_, Vec<u8>>) -> Result {
    ///         if let Received::Data(_version) = cx.map.recv(cx.id, 1)? {
    ///             cx.map.replace(cx.id, Body);
    ///         }
    ///         Ok(())
    ///     }
    /// }
    ///
    /// struct Body;
    ///
    /// impl Channel<Vec<u8>> for Body {
    ///     fn handle_read(&mut self, cx: &mut Context<'_, Vec<u8>>) -> Result {
    ///         while let Received::Data(data) = cx.map.recv(cx.id, 4096)? {
    ///             cx.app.extend_from_slice(&data);
    ///         }
    ///         Ok(())
    ///     }
    /// }
    ///
    /// let (here, mut there) = UnixStream::pair()?;
    /// there.write_all(b"5body")?;
    /// drop(there);
    /// let mut map = Map::new()?;
    /// map.add(here, Version)?;
    /// let mut body = Vec::new();
    /// map.run(&mut body)?;
    /// assert_eq!(body, b"body");
    /// # Ok::<(), asyncore::Error>(())
    /// ```
    pub fn replace(&mut self, id: ChannelId, handler: impl Channel<A>) -> bool {
        let Some(entry) = self.live_mut(id) else { return false };
        let former = entry.handler.replace(Box::new(handler));
        match former {
            // It comes back when its callback returns, and finds its place taken.
            None => entry.flags.set(Flags::REPLACED),
            // The second one in the same callback: the first has seen nothing.
            Some(unused) if entry.flags.has(Flags::REPLACED) => {
                contain("dropping a replaced handler", || drop(unused));
            }
            Some(former) => self.retire(id, former),
        }
        tracing::debug!(%id, "handler replaced");
        self.pause_when_high(id, false);
        self.touch(id);
        self.update_serving(id);
        true
    }

    /// Whether the handler whose callback runs has been [replaced](Self::replace): it is to leave what it has not used.
    ///
    /// For handlers that deliver to another, as a framing does: no more is to be delivered then.
    #[must_use]
    pub fn is_replaced(&self, id: ChannelId) -> bool {
        self.live(id).is_some_and(|entry| entry.flags.has(Flags::REPLACED))
    }

    /// A channel none of whose callbacks runs: its handler is there, and is the one that it is about to keep.
    pub(crate) fn idle(&self, id: ChannelId) -> Option<&Entry<A>> {
        self.live(id).filter(|entry| entry.handler.is_some() && !entry.flags.has(Flags::REPLACED))
    }

    /// A replaced handler leaves its input to the one that follows.
    #[cold]
    pub(crate) fn retire(&mut self, id: ChannelId, mut former: Box<dyn Channel<A>>) {
        if let Some(entry) = self.entry_mut(id) {
            entry.flags.clear(Flags::REPLACED);
        }
        let mut input = Vec::new();
        contain("taking the input of a replaced handler", || input = former.take_input());
        contain("dropping a replaced handler", || drop(former));
        if !input.is_empty() {
            self.unread(id, &input);
        }
        self.touch(id);
        self.update_serving(id);
    }
}
