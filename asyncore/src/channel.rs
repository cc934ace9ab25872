//! [`Channel`]: two predicates and the callbacks of one socket, with their defaults.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::panics::describe;
use crate::{ChannelId, CloseReason, Context, Dispatcher, Error, Received, Result, Timeout, TimerId};

/// The half of a channel that its user writes: what it waits for, and what it does when that comes.
///
/// The other half is its [`Dispatcher`], which stays in the map and is reached by id, `cx.map` and `cx.id`. `A` is
/// the application's own state, handed to every callback as `cx.app`.
///
/// Every callback is called by the loop, never from inside another call, and at most one runs at a time. An `Err`
/// goes to [`handle_error`](Self::handle_error); a panic closes the channel. Neither reaches another channel.
/// After a channel was closed, only [`handle_close`](Self::handle_close) runs.
///
/// ```
/// use asyncore::{Channel, Context, Map, Received, Result, TimerId};
///
/// /// Sends back what it reads.
/// struct Echo;
///
/// impl Channel for Echo {
///     fn handle_read(&mut self, cx: &mut Context<'_>) -> Result {
///         while let Received::Data(data) = cx.map.recv(cx.id, 4096)? {
///             cx.map.push(cx.id, &data[..]);
///         }
///         Ok(())
///     }
/// }
///
/// let mut map = Map::new()?;
/// let ids = map.listen("127.0.0.1:0", |_peer| Echo)?;
/// assert!(map.get(ids[0]).is_some());
/// # Ok::<(), asyncore::Error>(())
/// ```
pub trait Channel<A: 'static = ()>: Any {
    /// Whether the channel wants to read; true unless overridden.
    ///
    /// Asked when the channel was touched in a turn: a callback of it ran, or someone reached it through the map for more
    /// than a push. If the answer changes for another reason, say so with [`Map::touch`](crate::Map::touch).
    fn readable(&self) -> bool {
        true
    }

    /// Whether the channel wants [`handle_write`](Self::handle_write); false unless overridden.
    ///
    /// Queued output needs no yes here: the loop sends it by itself. Only a channel that calls
    /// [`Map::send`](crate::Map::send) has to ask, and only while it has something to send: a socket is nearly always
    /// writable, so a constant yes keeps the loop turning.
    fn writable(&self) -> bool {
        false
    }

    /// Reads what came in, with [`Map::recv`](crate::Map::recv).
    ///
    /// It is called again while there is more, so one read a call is enough. The default drops the input and warns.
    ///
    /// # Errors
    ///
    /// What it returns goes to [`handle_error`](Self::handle_error).
    fn handle_read(&mut self, cx: &mut Context<'_, A>) -> Result {
        unhandled(cx.id, "unhandled read event: input dropped");
        while let Received::Data(_) = cx.map.recv(cx.id, 4096)? {}
        Ok(())
    }

    /// Writes, with [`Map::send`](crate::Map::send), because [`writable`](Self::writable) said yes.
    ///
    /// # Errors
    ///
    /// What it returns goes to [`handle_error`](Self::handle_error).
    fn handle_write(&mut self, cx: &mut Context<'_, A>) -> Result {
        unhandled(cx.id, "unhandled write event");
        Ok(())
    }

    /// Takes urgent (out-of-band) data, with [`Map::recv_urgent`](crate::Map::recv_urgent). The default drops it.
    ///
    /// # Errors
    ///
    /// What it returns goes to [`handle_error`](Self::handle_error).
    fn handle_expt(&mut self, cx: &mut Context<'_, A>) -> Result {
        tracing::debug!(id = %cx.id, "unhandled urgent data dropped");
        cx.map.recv_urgent(cx.id).map(drop)
    }

    /// The channel is connected: its own connect succeeded, or it was added with a socket that had a peer already.
    ///
    /// At most once, before any other callback of a connection; always from the loop, never from inside `connect` or
    /// `add`.
    ///
    /// # Errors
    ///
    /// What it returns goes to [`handle_error`](Self::handle_error).
    fn handle_connect(&mut self, _cx: &mut Context<'_, A>) -> Result {
        Ok(())
    }

    /// TLS is there (feature `tls`): the handshake that [`Map::start_tls`](crate::Map::start_tls) began is done.
    /// [`Dispatcher::tls`](crate::Dispatcher::tls) says what was agreed on, and who the peer is.
    ///
    /// What was known of the peer before, it said in clear text; most protocols have it say so again (RFC 3207 section 4.2).
    ///
    /// # Errors
    ///
    /// What it returns goes to [`handle_error`](Self::handle_error).
    fn handle_tls(&mut self, _cx: &mut Context<'_, A>) -> Result {
        Ok(())
    }

    /// Connections wait on a listening channel. The default accepts them, and hands each to
    /// [`handle_accepted`](Self::handle_accepted); what fails there, fails for that connection alone.
    ///
    /// # Errors
    ///
    /// What it returns goes to [`handle_error`](Self::handle_error), which closes the listener by default.
    fn handle_accept(&mut self, cx: &mut Context<'_, A>) -> Result {
        while let Some(accepted) = cx.map.accept(cx.id)? {
            match catch_unwind(AssertUnwindSafe(|| self.handle_accepted(cx, accepted))) {
                Ok(Ok(())) => {}
                Ok(Err(error)) => dropped(cx.id, &error),
                Err(panic) => dropped_after_panic(cx.id, panic),
            }
        }
        Ok(())
    }

    /// Takes one accepted connection, usually into the map with [`Map::add`](crate::Map::add). The default closes it.
    ///
    /// # Errors
    ///
    /// An error drops this connection; the listener goes on.
    fn handle_accepted(&mut self, cx: &mut Context<'_, A>, accepted: Dispatcher) -> Result {
        unhandled(cx.id, "unhandled accepted event: connection closed");
        drop(accepted);
        Ok(())
    }

    /// The peer has ended its side: there is nothing more to read. At most once, unless input is
    /// [put back](crate::Map::unread) after that.
    ///
    /// The other direction still works. The default closes the channel when its blocking work is answered and what is
    /// queued has been sent; an override that does not may go on writing, and closes later.
    ///
    /// # Errors
    ///
    /// What it returns goes to [`handle_error`](Self::handle_error).
    fn handle_eof(&mut self, cx: &mut Context<'_, A>) -> Result {
        cx.map.close_when_answered(cx.id);
        Ok(())
    }

    /// Output that had gone over the high mark has fallen to the low mark: time to make more.
    ///
    /// # Errors
    ///
    /// What it returns goes to [`handle_error`](Self::handle_error).
    fn handle_drained(&mut self, _cx: &mut Context<'_, A>) -> Result {
        Ok(())
    }

    /// A timer has come that was set with [`Map::set_timer`](crate::Map::set_timer) or
    /// [`Map::set_interval`](crate::Map::set_interval).
    ///
    /// # Errors
    ///
    /// What it returns goes to [`handle_error`](Self::handle_error).
    fn handle_timer(&mut self, cx: &mut Context<'_, A>, timer: TimerId) -> Result {
        unhandled_timer(cx.id, timer);
        Ok(())
    }

    /// Something took longer than the channel's [`Limits`](crate::Limits) or
    /// [`Map::set_timeout`](crate::Map::set_timeout) allow. The default closes the channel at once, with
    /// [`CloseReason::TimedOut`]; what a [connect to a host](crate::Map::connect_host) has come to, it tells `handle_error`
    /// before.
    ///
    /// An override may push a last word and [`close_when_done`](crate::Map::close_when_done); the reason is the same
    /// then, unless the connection is lost before. Or it goes on: the clock that ran out starts again from now. Only a connect is over in any case.
    ///
    /// # Errors
    ///
    /// What it returns goes to [`handle_error`](Self::handle_error).
    fn handle_timeout(&mut self, cx: &mut Context<'_, A>, which: Timeout) -> Result {
        if which == Timeout::Connect
            && let Some(error) = cx.map.host_error(cx.id)
        {
            self.handle_error(cx, &error.into());
        }
        cx.map.close_with(cx.id, CloseReason::TimedOut(which));
        Ok(())
    }

    /// The map shuts down: say goodbye, then close. The default closes when its blocking work is answered and what is
    /// queued has been sent.
    ///
    /// # Errors
    ///
    /// What it returns goes to [`handle_error`](Self::handle_error).
    fn handle_shutdown(&mut self, cx: &mut Context<'_, A>) -> Result {
        cx.map.close_when_answered(cx.id);
        Ok(())
    }

    /// One of the channel's callbacks or producers failed, or its connect did. The default logs and closes.
    ///
    /// An override may keep the channel open, but not after a panic or a failed connect.
    fn handle_error(&mut self, cx: &mut Context<'_, A>, error: &Error) {
        give_up(cx, error);
    }

    /// Gives up the input that the handler has received and not used, because another [replaces](crate::Map::replace) it:
    /// that one reads it first. Asked once, right before the handler is dropped.
    ///
    /// For handlers that keep input: a framing, a parser with half a message. The default has none.
    fn take_input(&mut self) -> Vec<u8> {
        Vec::new()
    }

    /// What the handler is called in a [`Snapshot`](crate::Snapshot) and in a warning about a slow callback: its type's
    /// name, unless overridden.
    fn name(&self) -> &'static str {
        std::any::type_name::<Self>()
    }

    /// The channel is closed; its last callback, and called exactly once, with the reason.
    ///
    /// [`Map::remove`](crate::Map::remove) alone ends a channel without it.
    fn handle_close(&mut self, _cx: &mut Context<'_, A>, _reason: CloseReason) {}
}

// What the defaults log: once, and not for every type of handler.

#[cold]
#[inline(never)]
fn unhandled(id: ChannelId, event: &str) {
    tracing::warn!(%id, "{event}");
}

#[cold]
#[inline(never)]
fn unhandled_timer(id: ChannelId, timer: TimerId) {
    tracing::warn!(%id, ?timer, "unhandled timer event");
}

#[cold]
#[inline(never)]
fn dropped(id: ChannelId, error: &Error) {
    tracing::warn!(%id, %error, "an accepted connection was dropped");
}

#[cold]
#[inline(never)]
fn dropped_after_panic(id: ChannelId, panic: Box<dyn Any + Send>) {
    let panic = describe(panic);
    tracing::error!(%id, panic, "an accepted connection was dropped after a panic");
}

#[cold]
#[inline(never)]
fn give_up<A: 'static>(cx: &mut Context<'_, A>, error: &Error) {
    tracing::warn!(id = %cx.id, peer = %cx.map.peer_name(cx.id), %error, "closing a channel after an error");
    cx.map.close(cx.id);
}
