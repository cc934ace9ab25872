//! [`Producer`]: output that is made while it is sent.

use bytes::Bytes;

use crate::Result;

/// A source of output that is asked for more whenever the channel has room.
///
/// A producer stands in the output queue between what was pushed before it and what was pushed after it. It is
/// asked again only when its last piece is nearly gone, so however much it makes in all, the queue holds about one
/// write of it. Ready-made producers are in the `asynchat` crate.
///
/// ```
/// use asyncore::{Producer, Result};
/// use bytes::Bytes;
///
/// /// Counts down, a line a piece.
/// struct Countdown(u32);
///
/// impl Producer for Countdown {
///     fn more(&mut self, _most: usize) -> Result<Option<Bytes>> {
///         if self.0 == 0 {
///             return Ok(None);
///         }
///         self.0 -= 1;
///         Ok(Some(Bytes::from(format!("{}\r\n", self.0))))
///     }
/// }
///
/// let mut countdown = Countdown(2);
/// assert_eq!(countdown.more(65536)?.as_deref(), Some(&b"1\r\n"[..]));
/// assert_eq!(countdown.more(65536)?.as_deref(), Some(&b"0\r\n"[..]));
/// assert_eq!(countdown.more(65536)?, None);
/// # Ok::<(), asyncore::Error>(())
/// ```
pub trait Producer {
    /// Makes the next piece, of about `most` bytes or fewer; `None` when there is no more.
    ///
    /// A longer piece is taken all the same and sent over several writes. An empty piece says "nothing yet": the
    /// channel sends nothing more until it is touched ([`Map::touch`](crate::Map::touch), or any push to it), and then asks again.
    ///
    /// # Errors
    ///
    /// An error ends the channel's output: all that is queued is dropped, and the error goes to
    /// [`Channel::handle_error`](crate::Channel::handle_error), which closes the channel by default, because the peer
    /// could not tell the cut from the end.
    fn more(&mut self, most: usize) -> Result<Option<Bytes>>;
}
