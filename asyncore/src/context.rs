//! [`Context`]: what a callback is given.

use std::fmt;

use crate::{Channel, ChannelId, Map};

/// The world as a callback sees it: the map, the application's state, and the channel's own id.
///
/// The fields are public, so that the borrow checker can tell them apart: `cx.map.push(cx.id, &cx.app.greeting)`
/// borrows one of each.
#[non_exhaustive]
pub struct Context<'a, A: 'static = ()> {
    /// Every channel, this one included.
    pub map: &'a mut Map<A>,
    /// The application's own state.
    pub app: &'a mut A,
    /// The channel whose callback runs.
    pub id: ChannelId,
}

impl<'a, A: 'static> Context<'a, A> {
    pub(crate) const fn new(map: &'a mut Map<A>, app: &'a mut A, id: ChannelId) -> Self {
        Self { map, app, id }
    }

    /// Calls `f` with another channel's handler, if that is a `T`: see [`Map::with`].
    pub fn with<T: Channel<A>, R>(
        &mut self,
        id: ChannelId,
        f: impl FnOnce(&mut T, &mut Context<'_, A>) -> R,
    ) -> Option<R> {
        self.map.with(self.app, id, f)
    }
}

impl<A: 'static> fmt::Debug for Context<'_, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context").field("id", &self.id).finish_non_exhaustive()
    }
}
