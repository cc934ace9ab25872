//! Signals as an ordinary channel: each arrives as a byte on a socket pair.

use std::os::raw::c_int;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use signal_hook::SigId;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::low_level::{pipe, unregister};

use crate::{Channel, ChannelId, Context, Dispatcher, Limits, Map, Received, Result};

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
        mut handle: impl FnMut(&mut Context<'_, A>, c_int) -> Result + 'static,
    ) -> Result<ChannelId> {
        self.count_signals(signal, move |cx, _count| handle(cx, signal))
    }

    /// Ends what is served in good order when the process is asked to stop, by `SIGINT` or `SIGTERM`; at once when it is
    /// asked again.
    ///
    /// The first signal is a [`shutdown`](Self::shutdown) with this `deadline`. One more while the map shuts down,
    /// whoever began that, closes every channel with [`CloseReason::ShutDown`](crate::CloseReason::ShutDown) in the next
    /// turn, whatever it has queued or is waiting for. For callbacks that never return it can do nothing.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use asyncore::Map;
    ///
    /// let mut map = Map::new()?;
    /// map.shutdown_on_signals(Duration::from_secs(5))?;
    /// map.run(&mut ())?; // nothing else is in the map, so it ends at once
    /// # Ok::<(), asyncore::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// If a signal cannot be caught, or no descriptor is left.
    pub fn shutdown_on_signals(&mut self, deadline: Duration) -> Result {
        for signal in [SIGINT, SIGTERM] {
            self.count_signals(signal, move |cx, count| {
                let is_repeated = cx.map.is_shutting_down() || count > 1;
                cx.map.shutdown(if is_repeated { Duration::ZERO } else { deadline });
                Ok(())
            })?;
        }
        Ok(())
    }

    /// Calls `handle` with how often the signal has come since it was last told.
    pub(crate) fn count_signals(
        &mut self,
        signal: c_int,
        handle: impl FnMut(&mut Context<'_, A>, usize) -> Result + 'static,
    ) -> Result<ChannelId> {
        let (here, there) = UnixStream::pair()?;
        let registration = Registration(pipe::register(signal, there)?);
        let mut signals = Dispatcher::try_from(here)?;
        // Not the map's: a program that has heard of no signal for a while is to hear of the next all the same.
        signals.set_limits(Limits::default());
        let id = self.add(signals, Signal { _registration: registration, handle })?;
        self.set_background(id);
        Ok(id)
    }
}

struct Signal<F> {
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
    F: FnMut(&mut Context<'_, A>, usize) -> Result + 'static,
{
    fn handle_read(&mut self, cx: &mut Context<'_, A>) -> Result {
        let mut count = 0;
        while let Received::Data(bytes) = cx.map.recv(cx.id, 64)? {
            count += bytes.len();
        }
        if count > 0 { (self.handle)(cx, count) } else { Ok(()) }
    }

    fn name(&self) -> &'static str {
        "signals"
    }

    fn handle_shutdown(&mut self, _cx: &mut Context<'_, A>) -> Result {
        // It goes on until the rest is gone, so that a second signal is heard too.
        Ok(())
    }
}
