//! One-shot timers of a channel.

use std::time::Duration;

use crate::deadline::{DeadlineKey, Due};
use crate::{ChannelId, Map};

/// The name of one timer that was set, to cancel it by and to tell it from others in
/// [`Channel::handle_timer`](crate::Channel::handle_timer).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TimerId(DeadlineKey);

impl<A: 'static> Map<A> {
    /// Has [`handle_timer`](crate::Channel::handle_timer) of a channel called once, from the loop, when `after` has
    /// passed; `None` when there is no such channel.
    ///
    /// Never earlier; as much later as the turn takes that is under way then. A timer ends with its channel.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use asyncore::{Channel, Context, Map, Result, TimerId};
    ///
    /// struct Patient;
    ///
    /// impl Channel for Patient {
    ///     fn handle_connect(&mut self, cx: &mut Context<'_>) -> Result {
    ///         cx.map.set_timer(cx.id, Duration::from_millis(10));
    ///         Ok(())
    ///     }
    ///
    ///     fn handle_timer(&mut self, cx: &mut Context<'_>, _timer: TimerId) -> Result {
    ///         cx.map.close(cx.id);
    ///         Ok(())
    ///     }
    /// }
    ///
    /// let (here, _there) = std::os::unix::net::UnixStream::pair()?;
    /// let mut map = Map::new()?;
    /// map.add(here, Patient)?;
    /// map.run(&mut ())?;
    /// assert!(map.is_empty());
    /// # Ok::<(), asyncore::Error>(())
    /// ```
    pub fn set_timer(&mut self, id: ChannelId, after: Duration) -> Option<TimerId> {
        self.live(id)?;
        let slots = &self.slots;
        self.deadlines.sweep(|id| {
            slots
                .get(id.slot())
                .is_some_and(|place| place.generation.get() == id.generation() && place.entry.is_some())
        });
        Some(TimerId(self.deadlines.set(self.time(), after, Due::Timer(id))))
    }

    /// Cancels a timer: whether it was still waiting.
    pub fn cancel_timer(&mut self, timer: TimerId) -> bool {
        self.deadlines.cancel(timer.0)
    }

    /// A timer is due.
    pub(crate) fn serve_timer(&mut self, app: &mut A, id: ChannelId, key: DeadlineKey) {
        self.serve_connected(app, id);
        self.call(app, id, |handler, cx| handler.handle_timer(cx, TimerId(key)));
    }
}
