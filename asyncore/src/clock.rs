//! The one place where the time is read: once a turn, and handed down from there.

use std::time::Instant;

/// A source of monotonic time.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Clock {
    /// The system's own.
    System,
}

impl Clock {
    pub(crate) fn now(self) -> Instant {
        match self {
            Self::System => Instant::now(),
        }
    }
}
