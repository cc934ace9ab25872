//! Signals as an ordinary channel: each arrives as a byte on a socket pair.

use std::os::raw::c_int;
use std::os::unix::net::UnixStream;

use signal_hook::SigId;
use signal_hook::low_level::{pipe, unregister};

use crate::{Channel, ChannelId, Context, Map, Received, Result};

impl<A: 'static> Map<A> {
    /// Calls `handle` from the loop whenever the process gets `signal`, instead of what the signal did before.
    ///
    /// The channel is a background one: it does not keep the loop running. Signals that come in quick succession may be
    /// told as one. When the channel closes, the signal is ignored.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use asyncore::Map;
    ///
    /// let mut map = Map::new()?;
    /// map.add_signal(asyncore::SIGINT, |cx, _signal| {
    ///     cx.map.shutdown(Duration::from_secs(5));
    ///     Ok(())
    /// })?;
    /// map.run(&mut ())?; // nothing else is in the map, so it ends at once
    /// # Ok::<(), asyncore::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// If the signal cannot be caught, or no descriptor is left.
    pub fn add_signal(
        &mut self,
        signal: c_int,
        handle: impl FnMut(&mut Context<'_, A>, c_int) -> Result + 'static,
    ) -> Result<ChannelId> {
        let (here, there) = UnixStream::pair()?;
        let registration = Registration(pipe::register(signal, there)?);
        let id = self.add(here, Signal { signal, _registration: registration, handle })?;
        self.set_background(id);
        Ok(id)
    }
}

struct Signal<F> {
    signal: c_int,
    _registration: Registration,
    handle: F,
}

/// Ends with its channel, however that goes: by a close, a removal, or with the whole map.
struct Registration(SigId);

impl Drop for Registration {
    fn drop(&mut self) {
        unregister(self.0);
    }
}

impl<A, F> Channel<A> for Signal<F>
where
    A: 'static,
    F: FnMut(&mut Context<'_, A>, c_int) -> Result + 'static,
{
    fn handle_read(&mut self, cx: &mut Context<'_, A>) -> Result {
        let mut came = false;
        while let Received::Data(_) = cx.map.recv(cx.id, 64)? {
            came = true;
        }
        if came { (self.handle)(cx, self.signal) } else { Ok(()) }
    }

    fn handle_shutdown(&mut self, _cx: &mut Context<'_, A>) -> Result {
        // It goes on until the rest is gone, so that a second signal is heard too.
        Ok(())
    }
}
