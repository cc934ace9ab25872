//! [`Extra`]: what a conversation has beside its terminator, in one word.

use crate::MESSAGE_LIMIT;
use crate::begun::Begun;
use crate::framing::Rare;

/// What few conversations have beside a terminator, or all of them for a while.
///
/// An idle conversation is to cost little, and there are many: one word stands for all this, and is empty while there is
/// nothing unusual. A splitter by itself has no use for what a conversation adds, and never has any of it.
#[derive(Debug, Default)]
pub(crate) struct Extra(Option<Box<Parts>>);

#[derive(Debug, PartialEq)]
struct Parts {
    limit: usize,
    begun: Option<Box<Begun>>,
    rare: Option<Box<Rare>>,
}

impl Default for Parts {
    fn default() -> Self {
        Self { limit: MESSAGE_LIMIT, begun: None, rare: None }
    }
}

impl Extra {
    /// The most bytes of a message, if none has begun.
    #[inline]
    pub(crate) fn limit_between_messages(&self) -> Option<usize> {
        match self.0.as_deref() {
            None => Some(MESSAGE_LIMIT),
            Some(Parts { limit, begun: None, .. }) => Some(*limit),
            Some(_) => None,
        }
    }

    pub(crate) fn limit(&self) -> usize {
        self.0.as_ref().map_or(MESSAGE_LIMIT, |parts| parts.limit)
    }

    pub(crate) fn set_limit(&mut self, limit: usize) {
        self.parts().limit = limit;
        self.forget_nothing();
    }

    /// The message that has begun.
    #[inline]
    pub(crate) fn begun(&self) -> Option<&Begun> {
        self.0.as_ref()?.begun.as_deref()
    }

    pub(crate) fn begun_mut(&mut self) -> Option<&mut Begun> {
        self.0.as_mut()?.begun.as_deref_mut()
    }

    /// The message that has begun, or begins with this.
    pub(crate) fn begin(&mut self) -> &mut Begun {
        self.parts().begun.get_or_insert_default()
    }

    /// What a conversation seldom has.
    #[inline]
    pub(crate) fn rare(&self) -> Option<&Rare> {
        self.0.as_ref()?.rare.as_deref()
    }

    pub(crate) fn rare_mut(&mut self) -> Option<&mut Rare> {
        self.0.as_mut()?.rare.as_deref_mut()
    }

    /// What a conversation seldom has, and has from now on.
    pub(crate) fn make_rare(&mut self) -> &mut Rare {
        self.parts().rare.get_or_insert_default()
    }

    pub(crate) fn forget_begun(&mut self) {
        if let Some(parts) = &mut self.0 {
            parts.begun = None;
            self.forget_nothing();
        }
    }

    /// What says nothing takes no room.
    pub(crate) fn forget_nothing(&mut self) {
        if let Some(parts) = &mut self.0 {
            parts.begun.take_if(|begun| **begun == Begun::default());
            parts.rare.take_if(|rare| **rare == Rare::default());
            self.0.take_if(|parts| **parts == Parts::default());
        }
    }

    fn parts(&mut self) -> &mut Parts {
        self.0.get_or_insert_default()
    }
}
