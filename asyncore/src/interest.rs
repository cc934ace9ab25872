//! What a channel waits for, and why it may not read for now.

/// The readiness a channel asks the poller for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Interest {
    pub(crate) read: bool,
    pub(crate) write: bool,
}

impl Interest {
    pub(crate) const NONE: Self = Self { read: false, write: false };
    pub(crate) const WRITE: Self = Self { read: false, write: true };
}

/// The reasons for which a channel does not read: a set, so that one resume does not undo another's pause.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Pauses(u8);

impl Pauses {
    /// The program asked for it: `pause_reading`.
    pub(crate) const USER: Self = Self(1);
    /// A listener has no descriptor to accept with, or the map is full.
    pub(crate) const ACCEPT: Self = Self(2);
    /// Its own output is above the high mark: `pause_when_high`.
    pub(crate) const OUTPUT: Self = Self(4);
    /// The output of a channel that it is coupled to is high: `couple`.
    pub(crate) const COUPLING: Self = Self(8);
    /// It has received all that its rate limit allows for now.
    pub(crate) const RATE: Self = Self(16);

    /// It is to close when the results of its blocking work have been told: `close_when_answered`.
    pub(crate) const ENDING: Self = Self(32);
    /// A listener has as many connections open as it may.
    pub(crate) const FULL: Self = Self(64);

    /// Those of a listener that waits for others to close.
    pub(crate) const LISTENERS: Self = Self(Self::ACCEPT.0 | Self::FULL.0);

    pub(crate) const fn is_empty(self) -> bool {
        self.0 == 0
    }

    pub(crate) const fn contains(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    pub(crate) const fn insert(&mut self, other: Self) {
        self.0 |= other.0;
    }

    pub(crate) const fn remove(&mut self, other: Self) {
        self.0 &= !other.0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_resume_does_not_undo_another_pause() {
        let mut pauses = Pauses::default();
        pauses.insert(Pauses::USER);
        pauses.insert(Pauses::ACCEPT);
        pauses.remove(Pauses::USER);
        assert!(!pauses.is_empty() && pauses.contains(Pauses::ACCEPT) && !pauses.contains(Pauses::USER));
        pauses.remove(Pauses::ACCEPT);
        assert!(pauses.is_empty());
    }
}
