//! Bugs that tests can plant in the loop, to show that they find them (feature `planted-bugs`).
//!
//! Each is one condition at the place where such a bug would live. None is planted unless a test says so, and without the
//! feature none is there.

use std::cell::Cell;

/// A bug to plant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "for the project's own tests")]
pub enum Bug {
    /// The id of a channel that is gone stands for the next one in its slot.
    StaleId,
    /// A channel that closes after a panic hears of it twice.
    DoubleClose,
    /// What is posted while posts are served waits for the next one.
    LostWakeUp,
    /// A channel that closes itself in a callback goes on reading until that returns.
    CallbackAfterClose,
    /// What does not fit into one write waits for the next push.
    ForgottenFlush,
    /// A pause that ended leaves the poller as it was.
    InterestNotRestored,
    /// The timers of a channel that closes are not cancelled.
    TimerKeptAfterClose,
    /// What a channel receives does not count in its turn's share.
    BudgetIgnored,
    /// Output that falls below the low mark and runs out in the same write has not drained.
    MarkNotReported,
    /// The reserve that was given up to refuse a connection is not taken back.
    ReserveLost,
}

impl Bug {
    /// Every one.
    pub const ALL: [Self; 10] = [
        Self::StaleId,
        Self::DoubleClose,
        Self::LostWakeUp,
        Self::CallbackAfterClose,
        Self::ForgottenFlush,
        Self::InterestNotRestored,
        Self::TimerKeptAfterClose,
        Self::BudgetIgnored,
        Self::MarkNotReported,
        Self::ReserveLost,
    ];
}

thread_local! {
    static PLANTED: Cell<Option<Bug>> = const { Cell::new(None) };
}

/// Plants a bug in every map of this thread, in the place of the one that was planted before.
pub fn plant(bug: Option<Bug>) {
    PLANTED.set(bug);
}

pub(crate) fn is_planted(bug: Bug) -> bool {
    PLANTED.get() == Some(bug)
}
