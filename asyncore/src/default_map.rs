//! The thread's own map, for programs that need no more than one.

use std::cell::RefCell;

use crate::{Map, Result};

thread_local! {
    static MAP: RefCell<Option<Map>> = const { RefCell::new(None) };
}

/// Calls `f` with the thread's own map, which is made when it is first used.
///
/// ```
/// use asyncore::Channel;
///
/// struct Quiet;
/// impl Channel for Quiet {}
///
/// let (here, there) = std::os::unix::net::UnixStream::pair()?;
/// asyncore::default_map(|map| map.add(here, Quiet))??;
/// drop(there);
/// asyncore::run()?; // the peer is gone: the only channel closes, and the run ends
/// # Ok::<(), asyncore::Error>(())
/// ```
///
/// # Errors
///
/// If the map is lent out already, by [`run`] or by another call of this function: a callback has it as `cx.map`. Or
/// if it cannot be made.
pub fn default_map<R>(f: impl FnOnce(&mut Map) -> R) -> Result<R> {
    MAP.with(|cell| {
        let mut map =
            cell.try_borrow_mut().map_err(|_| "the default map is lent out: use `cx.map` in a callback")?;
        if map.is_none() {
            *map = Some(Map::new()?);
        }
        let map = map.as_mut().ok_or("the default map was not made")?;
        Ok(f(map))
    })
}

/// Runs the thread's own map until its last channel is gone.
///
/// # Errors
///
/// As [`default_map`] and [`Map::run`].
// Instantiated where it is used: a program would otherwise hold the loop of a map of `()` twice.
#[inline]
pub fn run() -> Result {
    default_map(|map| map.run(&mut ()))?
}
