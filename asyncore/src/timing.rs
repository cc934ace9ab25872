//! How long turns and callbacks take, in a map that was asked to measure it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use crate::panics::describe;
use crate::{ChannelId, Histogram, Map};

/// How long turns and callbacks took so far; [`Map::timings`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Timings {
    /// Of each turn, what came after its wait: how long an event that arrives meanwhile has to wait.
    pub turns: Histogram,
    /// Of each callback: those of channels, timers of the map, what was posted, and what follows blocking work. Of a chat
    /// channel, `handle_read` is all that one read brought. The predicates are not among them.
    pub callbacks: Histogram,
}

/// What is called: a channel, if it is one's, and the name by which its writer knows it.
#[derive(Clone, Copy, Debug)]
struct Called {
    id: Option<ChannelId>,
    name: &'static str,
    /// Whether it is one of the callbacks that are recorded.
    recorded: bool,
}

/// # Timings
///
/// With [`Options::timings`](crate::Options::timings) a map measures how long its turns and callbacks take, and warns
/// through `tracing` of a callback that takes longer than [`Options::slow_callback`](crate::Options::slow_callback):
/// while it runs, nothing else does.
impl<A: 'static> Map<A> {
    /// How long turns and callbacks took so far; `None` unless the map [measures](crate::Options::timings) it.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use asyncore::{Map, Options};
    ///
    /// let mut options = Options::default();
    /// options.timings = true;
    /// let mut map: Map = Map::with_options(options)?;
    /// map.after(Duration::ZERO, |_map, ()| std::thread::sleep(Duration::from_millis(5)));
    /// map.poll(&mut (), None)?;
    /// let timings = map.timings().ok_or("not measured")?;
    /// assert_eq!(timings.callbacks.count(), 1);
    /// assert!(timings.callbacks.max() >= Duration::from_millis(5));
    /// assert!(timings.turns.max() >= timings.callbacks.max());
    /// # Ok::<(), asyncore::Error>(())
    /// ```
    #[must_use]
    pub fn timings(&self) -> Option<&Timings> {
        self.timings.as_deref()
    }

    /// Runs one callback of a channel, or of the map itself, and measures it if that is asked for.
    #[inline]
    pub(crate) fn timed<R>(
        &mut self,
        id: Option<ChannelId>,
        name: &'static str,
        f: impl FnOnce(&mut Self) -> R,
    ) -> R {
        let began = self.begin_measure();
        let result = f(self);
        if let Some(began) = began {
            self.measured(Called { id, name, recorded: true }, began);
        }
        result
    }

    /// [`timed`](Self::timed) for predicates, which are too many and too short to be recorded.
    #[inline]
    pub(crate) fn watched<R>(&mut self, id: ChannelId, f: impl FnOnce(&mut Self) -> R) -> R {
        let began = self.begin_measure();
        let result = f(self);
        if let Some(began) = began {
            self.measured(Called { id: Some(id), name: "readable or writable", recorded: false }, began);
        }
        result
    }

    /// The time and the messages so far, if it is measured.
    #[inline]
    fn begin_measure(&self) -> Option<(Instant, u64)> {
        if self.timings.is_none() { None } else { Some((self.time(), self.counters.messages)) }
    }

    #[cold]
    #[inline(never)]
    fn measured(&mut self, called: Called, (began, messages): (Instant, u64)) {
        let took = self.time().saturating_duration_since(began);
        if called.recorded
            && let Some(timings) = &mut self.timings
        {
            timings.callbacks.record(took);
        }
        if took > self.options.slow_callback {
            self.warn_of(called, took, self.counters.messages - messages);
        }
    }

    /// The turn is over: how long it took after its wait.
    #[inline]
    pub(crate) fn note_turn(&mut self) {
        if self.timings.is_some() {
            let took = self.time().saturating_duration_since(self.now);
            if let Some(timings) = &mut self.timings {
                timings.turns.record(took);
            }
        }
    }

    fn warn_of(&self, called: Called, took: Duration, messages: u64) {
        let entry = called.id.and_then(|id| self.entry(id));
        let handler = entry.and_then(|entry| entry.handler.as_deref()).map(|handler| {
            // It is the user's code as well.
            catch_unwind(AssertUnwindSafe(|| handler.name())).unwrap_or_else(|panic| {
                drop(describe(panic));
                "unknown"
            })
        });
        tracing::warn!(
            id = called.id.map(tracing::field::display),
            peer = entry.map(|entry| tracing::field::display(entry.dispatcher.peer())),
            handler,
            callback = called.name,
            ?took,
            messages = (messages > 0).then_some(messages),
            "a callback took long: nothing else ran meanwhile"
        );
    }
}
