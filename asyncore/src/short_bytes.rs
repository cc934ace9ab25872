//! [`ShortBytes`]: a few bytes held in place.

use std::fmt;
use std::ops::Deref;

use crate::PushData;
use crate::push::copy;
use crate::push::sealed::Sealed;

/// A few bytes held in place: the header of a message, to be pushed with its payload.
///
/// It allocates nothing and derefs to its bytes. With [`write!`](std::fmt::Write) it takes text.
///
/// ```
/// use std::fmt::Write;
///
/// use asyncore::{Map, ShortBytes};
///
/// let payload = "hello";
/// let mut header = ShortBytes::new();
/// write!(header, "{:x}\r\n", payload.len())?; // a chunk of HTTP
/// assert_eq!(header[..], *b"5\r\n");
///
/// # struct Quiet;
/// # impl asyncore::Channel for Quiet {}
/// # let mut map = Map::new()?;
/// # let (here, _there) = std::os::unix::net::UnixStream::pair()?;
/// # let id = map.add(here, Quiet)?;
/// map.push(id, (header, payload, "\r\n"));
/// # assert_eq!(map.get(id).unwrap().queued(), 10);
/// # Ok::<(), asyncore::Error>(())
/// ```
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct ShortBytes {
    /// Zeros from `length` on.
    bytes: [u8; Self::CAPACITY],
    length: u8,
}

impl ShortBytes {
    /// The most bytes it holds: 23, three words with the length, and enough for a 64-bit number in decimal and what goes
    /// around it.
    pub const CAPACITY: usize = 23;

    /// None yet.
    #[must_use]
    pub const fn new() -> Self {
        Self { bytes: [0; Self::CAPACITY], length: 0 }
    }

    /// Adds a byte: whether there was room.
    pub fn push(&mut self, byte: u8) -> bool {
        let room = self.bytes.get_mut(usize::from(self.length));
        let has_room = room.is_some();
        if let Some(room) = room {
            *room = byte;
            self.length += 1;
        }
        has_room
    }
}

impl Deref for ShortBytes {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        &self.bytes[..usize::from(self.length)]
    }
}

impl AsRef<[u8]> for ShortBytes {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl fmt::Write for ShortBytes {
    /// Fails when there is not room for all of it, and then takes none.
    fn write_str(&mut self, text: &str) -> fmt::Result {
        if text.len() > Self::CAPACITY - self.len() {
            return Err(fmt::Error);
        }
        for byte in text.bytes() {
            self.push(byte);
        }
        Ok(())
    }
}

impl fmt::Debug for ShortBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "b\"{}\"", self.escape_ascii())
    }
}

impl PushData for ShortBytes {}

impl Sealed for ShortBytes {
    #[inline]
    fn length(&self) -> usize {
        self.len()
    }

    #[inline]
    fn is_large(&self) -> bool {
        false
    }

    #[inline]
    fn copy_to(&self, room: &mut [u8]) -> usize {
        copy(self, room)
    }

    fn into_bytes(self) -> bytes::Bytes {
        bytes::Bytes::copy_from_slice(&self)
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write;

    use super::*;

    #[test]
    fn short_bytes_take_as_many_as_they_have_room_for() {
        let mut bytes = ShortBytes::new();
        for byte in 0..23 {
            assert!(bytes.push(byte));
        }
        assert!(!bytes.push(23));
        assert_eq!(bytes[..], (0..23).collect::<Vec<u8>>());
        assert_eq!(size_of::<ShortBytes>(), 24);
    }

    #[test]
    fn text_without_room_is_refused_whole() {
        let mut bytes = ShortBytes::new();
        bytes.write_str("12345678901234567890").unwrap();
        assert!(bytes.write_str("1234").is_err());
        bytes.write_str("123").unwrap();
        assert_eq!(format!("{bytes:?}"), r#"b"12345678901234567890123""#);
    }
}
