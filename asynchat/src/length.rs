//! [`LengthPrefix`]: how a message's length is written before it.

use std::error::Error;
use std::fmt::{self, Write};

use asyncore::{PushData, ShortBytes};

/// How the length of a message is written before it.
///
/// The receiver's side is [`Terminator::length_prefixed`](crate::Terminator::length_prefixed), the sender's is here.
///
/// ```
/// use asynchat::LengthPrefix;
/// use asyncore::ShortBytes;
///
/// let (header, payload) = LengthPrefix::U32Be.frame(b"hello")?;
/// assert_eq!([&header[..], payload].concat(), b"\0\0\0\x05hello");
/// assert_eq!(LengthPrefix::Varint.header(300)?[..], [0xac, 0x02]);
/// assert!(LengthPrefix::U8.header(256).is_err());
/// # Ok::<(), asynchat::LengthError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum LengthPrefix {
    /// One byte: messages of up to 255 bytes.
    U8,
    /// Two bytes, the high one first: messages of up to 64 KiB less one byte.
    U16Be,
    /// Two bytes, the low one first.
    U16Le,
    /// Four bytes, the highest first: messages of up to 4 GiB less one byte.
    U32Be,
    /// Four bytes, the lowest first.
    U32Le,
    /// Eight bytes, the highest first.
    U64Be,
    /// Eight bytes, the lowest first.
    U64Le,
    /// Seven bits a byte, the lowest first, and the top bit says that more follow: LEB128, as protobuf writes it. Ten
    /// bytes at most; a receiver takes one that is longer than it must be.
    Varint,
}

impl LengthPrefix {
    /// The bytes that go before a message of `length` bytes.
    ///
    /// ```
    /// use asynchat::LengthPrefix;
    ///
    /// let header = LengthPrefix::U16Be.header(2)?;
    /// assert_eq!(header[..], [0, 2]);
    /// # Ok::<(), asynchat::LengthError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// The length does not fit.
    pub fn header(self, length: usize) -> Result<ShortBytes, LengthError> {
        let value = length as u64;
        let width = match self.width() {
            Some(8) => 8,
            Some(width) if value >> (8 * width) == 0 => width,
            Some(_) => return Err(LengthError { length, prefix: self }),
            None => (64 - (value | 1).leading_zeros()).div_ceil(7),
        };
        let mut header = ShortBytes::new();
        for at in 0..width {
            header.push(self.byte(value, at, width, true));
        }
        Ok(header)
    }

    /// A message behind its header, to be [pushed](crate::Conversation::push) in one go.
    ///
    /// # Errors
    ///
    /// The message's length does not fit.
    pub fn frame<P: PushData + AsRef<[u8]>>(self, payload: P) -> Result<(ShortBytes, P), LengthError> {
        Ok((self.header(payload.as_ref().len())?, payload))
    }

    /// How many bytes the number has, if that is settled.
    const fn width(self) -> Option<u32> {
        match self {
            Self::U8 => Some(1),
            Self::U16Be | Self::U16Le => Some(2),
            Self::U32Be | Self::U32Le => Some(4),
            Self::U64Be | Self::U64Le => Some(8),
            Self::Varint => None,
        }
    }

    const fn is_big_endian(self) -> bool {
        matches!(self, Self::U16Be | Self::U32Be | Self::U64Be)
    }

    /// Takes the byte at `at` into `value`: whether it was the last; `None` when no number of 64 bits begins so.
    pub(crate) const fn take(self, value: &mut u64, at: u32, byte: u8) -> Option<bool> {
        let Some(width) = self.width() else {
            // The tenth has room for one bit.
            if at >= VARINT_MOST - 1 && byte > 1 {
                return None;
            }
            *value |= ((byte & 0x7f) as u64) << (7 * at);
            return Some(byte < 0x80);
        };
        if self.is_big_endian() {
            *value = *value << 8 | byte as u64;
        } else {
            *value |= (byte as u64) << (8 * at);
        }
        Some(at + 1 == width)
    }

    /// The byte at `at` of the `taken` that [`take`](Self::take) made `value` of; with `is_all` there are no more.
    #[expect(clippy::cast_possible_truncation, reason = "a byte is wanted")]
    pub(crate) const fn byte(self, value: u64, at: u32, taken: u32, is_all: bool) -> u8 {
        if self.width().is_none() {
            let more = if is_all && at + 1 == taken { 0 } else { 0x80 };
            return (value >> (7 * at)) as u8 & 0x7f | more;
        }
        let place = if self.is_big_endian() { taken - 1 - at } else { at };
        (value >> (8 * place)) as u8
    }
}

/// A message is too long for its length to be written before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LengthError {
    /// The message's length.
    pub length: usize,
    /// How it was to be written.
    pub prefix: LengthPrefix,
}

impl fmt::Display for LengthError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a length of {} bytes does not fit {:?}", self.length, self.prefix)
    }
}

impl Error for LengthError {}

/// A netstring around `payload`, to be [pushed](crate::Conversation::push) in one go.
///
/// ```
/// let (header, payload, comma) = asynchat::netstring(b"hello");
/// assert_eq!([&header[..], payload, comma].concat(), b"5:hello,");
/// ```
pub fn netstring<P: PushData + AsRef<[u8]>>(payload: P) -> (ShortBytes, P, &'static [u8; 1]) {
    let mut header = ShortBytes::new();
    // It has room for any length.
    let written = write!(header, "{}:", payload.as_ref().len());
    debug_assert!(written.is_ok());
    (header, payload, b",")
}

/// Most bytes of a varint: ten, which hold 64 bits.
const VARINT_MOST: u32 = 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_what_the_receiver_takes() {
        for prefix in ALL {
            for length in [0, 1, 127, 128, 255, 256, 65_535, 65_536, 0x0102_0304, u64::MAX] {
                let Ok(header) = prefix.header(usize::try_from(length).unwrap()) else {
                    assert!(length >> (8 * prefix.width().unwrap()) > 0);
                    continue;
                };
                let mut value = 0;
                let last = header.len() - 1;
                for (at, &byte) in header.iter().enumerate() {
                    assert_eq!(prefix.take(&mut value, u32::try_from(at).unwrap(), byte), Some(at == last));
                }
                assert_eq!(value, length, "{prefix:?}");
            }
        }
    }

    #[test]
    fn a_length_that_does_not_fit_is_refused() {
        for (prefix, least) in
            [(LengthPrefix::U8, 1 << 8), (LengthPrefix::U16Le, 1 << 16), (LengthPrefix::U32Be, 1_usize << 32)]
        {
            assert!(prefix.header(least - 1).is_ok());
            assert_eq!(prefix.header(least), Err(LengthError { length: least, prefix }));
        }
        let error = LengthPrefix::U8.header(300).unwrap_err();
        assert_eq!(error.to_string(), "a length of 300 bytes does not fit U8");
    }

    const ALL: [LengthPrefix; 8] = [
        LengthPrefix::U8,
        LengthPrefix::U16Be,
        LengthPrefix::U16Le,
        LengthPrefix::U32Be,
        LengthPrefix::U32Le,
        LengthPrefix::U64Be,
        LengthPrefix::U64Le,
        LengthPrefix::Varint,
    ];
}
