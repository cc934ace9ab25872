//! [`PushData`]: what can be pushed, and [`Pushed`]: what became of it.

use bytes::{Bytes, BytesMut};

/// Bytes that can be pushed: borrowed ones are copied, owned ones are kept when they are large.
///
/// Implemented for every reference to bytes (`&[u8]`, `b"…"`, `&str`, `&Vec<u8>`…) and for [`Bytes`], [`BytesMut`],
/// `Vec<u8>`, `Box<[u8]>` and `String`; a pair or a triple of these is one push of all, gathered: `(line, b"\r\n")`. Owned pieces
/// below [`KEEP_FROM`] bytes are copied too: gathering them in one buffer costs less than a slice each.
///
/// What is not bytes does not compile:
///
/// ```compile_fail
/// # let mut map = asyncore::Map::new()?;
/// # let (here, _there) = std::os::unix::net::UnixStream::pair()?;
/// # struct Quiet;
/// # impl asyncore::Channel for Quiet {}
/// # let id = map.add(here, Quiet)?;
/// map.push(id, 10);
/// # Ok::<(), asyncore::Error>(())
/// ```
pub trait PushData: sealed::Sealed {}

/// Owned output of at least this many bytes is kept as it is: 1 KiB, about where one more slice in a write costs less
/// than the copy.
pub const KEEP_FROM: usize = 1 << 10;

/// What became of a push. It may be ignored: a channel that is closing or gone needs no help from its writer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Pushed {
    /// It is queued, and goes out at the end of the turn or as soon as the socket takes it.
    Queued,
    /// It was refused: the queue is at its limit. With [`OnFull::Close`](crate::OnFull::Close), the default, the
    /// channel is now closed.
    Full,
    /// It was refused: the channel is to close when done, has shut down its writing side, or never had one.
    Closing,
    /// There is no such channel any more.
    Gone,
}

impl Pushed {
    /// Whether the bytes are queued.
    #[must_use]
    pub const fn is_queued(self) -> bool {
        matches!(self, Self::Queued)
    }
}

/// Data as it is kept, at most of a length that was checked.
pub(crate) fn kept(length: usize, data: impl sealed::Sealed) -> Bytes {
    let mut kept = data.into_bytes();
    // `AsRef` may say something else each time.
    kept.truncate(length);
    kept
}

/// Copies bytes to where there is room for them.
#[inline]
pub(crate) fn copy(bytes: &[u8], room: &mut [u8]) -> usize {
    // `AsRef` may say something else each time: what is too much has no room.
    let length = bytes.len().min(room.len());
    let (bytes, room) = (&bytes[..length], &mut room[..length]);
    if !(copy_ends::<16>(bytes, room) || copy_ends::<32>(bytes, room)) {
        room.copy_from_slice(bytes);
    }
    length
}

/// Copies `N` to `2 * N` bytes, the first and the last `N` of them, which meet or overlap: for a short line that takes less
/// than to call what copies any number. Whether there are so many.
#[inline(always)]
fn copy_ends<const N: usize>(bytes: &[u8], room: &mut [u8]) -> bool {
    if bytes.len() > 2 * N {
        return false;
    }
    let (Some(first), Some(last)) = (bytes.first_chunk::<N>(), bytes.last_chunk::<N>()) else { return false };
    let (first, last) = (*first, *last);
    if let Some(room) = room.first_chunk_mut() {
        *room = first;
    }
    if let Some(room) = room.last_chunk_mut() {
        *room = last;
    }
    true
}

pub(crate) mod sealed {
    use super::Bytes;

    /// How data goes into an outbox.
    #[expect(unnameable_types, reason = "sealed: nobody else is to name it")]
    pub trait Sealed {
        fn length(&self) -> usize;
        /// Whether it is worth keeping as it is.
        fn is_large(&self) -> bool;
        /// Copies itself to where there is room for its length: how many bytes that were.
        fn copy_to(&self, room: &mut [u8]) -> usize;
        fn into_bytes(self) -> Bytes;
    }
}

impl<T: AsRef<[u8]> + ?Sized> PushData for &T {}

impl<T: AsRef<[u8]> + ?Sized> sealed::Sealed for &T {
    #[inline]
    fn length(&self) -> usize {
        (**self).as_ref().len()
    }

    #[inline]
    fn is_large(&self) -> bool {
        false
    }

    #[inline]
    fn copy_to(&self, room: &mut [u8]) -> usize {
        copy((**self).as_ref(), room)
    }

    fn into_bytes(self) -> Bytes {
        Bytes::copy_from_slice(self.as_ref())
    }
}

macro_rules! owned {
    ($($type:ty),+ $(,)?) => {$(
        impl PushData for $type {}

        impl sealed::Sealed for $type {
            #[inline]
            fn length(&self) -> usize {
                self.len()
            }

            #[inline]
            fn is_large(&self) -> bool {
                self.len() >= KEEP_FROM
            }

            #[inline]
            fn copy_to(&self, room: &mut [u8]) -> usize {
                copy(self.as_ref(), room)
            }

            fn into_bytes(self) -> Bytes {
                self.into()
            }
        }
    )+};
}

owned!(Bytes, BytesMut, Vec<u8>, Box<[u8]>, String);

macro_rules! several {
    ($($name:ident $field:tt),+) => {
        impl<$($name: PushData),+> PushData for ($($name,)+) {}

        impl<$($name: PushData),+> sealed::Sealed for ($($name,)+) {
            #[inline]
            fn length(&self) -> usize {
                0 $(+ self.$field.length())+
            }

            #[inline]
            fn is_large(&self) -> bool {
                false $(|| self.$field.is_large())+
            }

            #[inline]
            fn copy_to(&self, room: &mut [u8]) -> usize {
                let mut copied = 0;
                $(copied += self.$field.copy_to(&mut room[copied..]);)+
                copied
            }

            fn into_bytes(self) -> Bytes {
                let mut all = vec![0; self.length()];
                let copied = self.copy_to(&mut all);
                all.truncate(copied);
                all.into()
            }
        }
    };
}

several!(T 0, U 1);
several!(T 0, U 1, V 2);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_length_is_copied_to_the_last_byte_and_no_further() {
        let bytes: Vec<u8> = (1..=200).collect();
        for length in 0..=130 {
            let mut room = [0; 140];
            assert_eq!(copy(&bytes[..length], &mut room[..length + 3]), length);
            assert_eq!(room[..length], bytes[..length]);
            assert!(room[length..].iter().all(|byte| *byte == 0), "{length}");
            // What has no room is left out.
            assert_eq!(copy(&bytes, &mut room[..length]), length);
            assert_eq!(room[..length], bytes[..length]);
        }
    }
}
