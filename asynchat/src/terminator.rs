//! What ends a message.
//!
//! A [`Terminator`] is small and cheap to clone: its byte strings and everything that the search needs are
//! built once, in a [`Needles`] that equal terminators of a thread share.

use std::error::Error;
use std::fmt;
use std::num::NonZeroU64;
use std::rc::Rc;

use crate::frame::Layout;
use crate::needles::Needles;
use crate::{BareIn, LengthPrefix};

/// What ends a message: byte strings, a number of bytes, the message's own frame, or nothing.
///
/// It is chosen when a conversation starts and may change with every message: a header ends with an empty
/// line, its body after as many bytes as the header said.
///
/// | built from | a message ends |
/// |---|---|
/// | `b"\r\n"`, or a `&[u8]` by `try_from` | at this byte string |
/// | [`Terminator::any`] | at whichever of several byte strings ends first |
/// | [`Terminator::count`], or a [`NonZeroU64`] | after so many bytes: fixed records |
/// | [`Terminator::length_prefixed`], or a [`LengthPrefix`] | after as many bytes as the number before it says |
/// | [`Terminator::netstring`] | as a netstring, `5:hello,` |
/// | [`Terminator::dot_stuffed`] | at a line with a single dot, as in mail and news |
/// | [`Terminator::none`] | never: everything is collected |
///
/// The message of a frame is what the frame carries, without lengths, colons and stuffing. A frame of no bytes is a
/// message too. Input that is no such frame is [malformed](crate::Split::Malformed), and nothing after it is
/// delivered.
///
/// An empty byte string or a count of zero, which would end a message before it began, cannot be built.
///
/// ```
/// use asynchat::Terminator;
///
/// let line = Terminator::from(b"\r\n");
/// assert_eq!(line, Terminator::crlf());
/// assert_eq!(format!("{line:?}"), r#"Terminator(b"\r\n")"#);
/// assert_eq!(Terminator::count(512)?.as_count(), Some(512));
/// # Ok::<(), asynchat::EmptyTerminator>(())
/// ```
///
/// A literal is checked when the program is built:
///
/// ```compile_fail
/// let nothing = asynchat::Terminator::from(b"");
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Terminator {
    kind: Kind,
}

#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Kind {
    Bytes(Rc<Needles>),
    Count(NonZeroU64),
    Frame(Layout),
    Never,
}

impl Terminator {
    /// Ends a message at whichever of several byte strings ends first.
    ///
    /// When two of them end at the same byte, the longer is the terminator. So `"\r\n"` and `"\n"` together
    /// mean "a line, with or without a carriage return". A byte string that another one always forestalls is
    /// allowed and never found: of `"\r"` and `"\r\n"`, the first ends a message before the second can.
    ///
    /// Byte strings of up to 32 bytes in all are the fast case. No input costs more than looking at each
    /// byte as often as the byte strings are long together.
    ///
    /// ```
    /// use asynchat::Terminator;
    ///
    /// let line = Terminator::any(["\n", "\r\n"])?;
    /// assert_eq!(line, Terminator::line());
    /// assert_eq!(line.patterns().collect::<Vec<_>>(), [b"\r\n".as_slice(), b"\n"]);
    /// # Ok::<(), asynchat::EmptyTerminator>(())
    /// ```
    ///
    /// # Errors
    ///
    /// There is no byte string, or one of them is empty.
    pub fn any<P: AsRef<[u8]>>(patterns: impl IntoIterator<Item = P>) -> Result<Self, EmptyTerminator> {
        let patterns: Vec<P> = patterns.into_iter().collect();
        let mut patterns: Vec<&[u8]> = patterns.iter().map(AsRef::as_ref).collect();
        if patterns.is_empty() || patterns.iter().any(|pattern| pattern.is_empty()) {
            return Err(EmptyTerminator);
        }
        // One order for equal sets, so that they compare equal, and the longest first, for the search.
        patterns.sort_unstable_by(|a, b| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));
        patterns.dedup();
        Ok(Self::of(&patterns))
    }

    /// Ends a message after `bytes` bytes, and the next after as many again: fixed records.
    ///
    /// ```
    /// use asynchat::Terminator;
    ///
    /// assert_eq!(Terminator::count(80)?.as_count(), Some(80));
    /// assert!(Terminator::count(0).is_err());
    /// # Ok::<(), asynchat::EmptyTerminator>(())
    /// ```
    ///
    /// # Errors
    ///
    /// `bytes` is zero.
    pub fn count(bytes: u64) -> Result<Self, EmptyTerminator> {
        NonZeroU64::new(bytes).map(Self::from).ok_or(EmptyTerminator)
    }

    /// Ends a message after as many bytes as the number before it says.
    ///
    /// A number above the message limit is too long before any of the message has come, also for a chat that takes
    /// pieces: such a chat sets the limit to the longest message that it wants.
    ///
    /// ```
    /// use asynchat::{LengthPrefix, Split, Splitter, Terminator};
    ///
    /// let mut splitter = Splitter::new(Terminator::length_prefixed(LengthPrefix::U16Be));
    /// let mut input = &b"\0\x05hello\0\x03"[..];
    /// let Some(Split::Data { piece, end: true }) = splitter.split(&mut input) else { panic!() };
    /// assert_eq!(&piece[..], b"hello");
    /// assert_eq!(splitter.split(&mut input), None); // the next is on its way
    /// assert_eq!(splitter.remaining(), Some(3));
    /// ```
    #[must_use]
    pub const fn length_prefixed(prefix: LengthPrefix) -> Self {
        Self { kind: Kind::Frame(Layout::Length(prefix)) }
    }

    /// Ends a message as a [netstring](https://cr.yp.to/proto/netstrings.txt): `5:hello,` carries `hello`.
    ///
    /// A length with a leading zero, one that is no number, or another byte than the comma is malformed. The limit
    /// applies as to [`length_prefixed`](Self::length_prefixed). [`netstring`](crate::netstring) makes them.
    #[must_use]
    pub const fn netstring() -> Self {
        Self { kind: Kind::Frame(Layout::Netstring) }
    }

    /// Ends a message at a line that holds nothing but a dot, and takes one dot from every other line that begins
    /// with one: the data of SMTP, the longer answers of POP3 and NNTP.
    ///
    /// The message is the text as it was before it was [stuffed](crate::DotStuffer), with the CRLF of its last line. A
    /// bare CR or LF is malformed; see [`DotUnstuffer`](crate::DotUnstuffer) for why.
    #[must_use]
    pub const fn dot_stuffed() -> Self {
        Self::dot_stuffed_with_bare(BareIn::Refuse)
    }

    /// As [`dot_stuffed`](Self::dot_stuffed), with a bare CR or LF treated as `bare` says.
    #[must_use]
    pub const fn dot_stuffed_with_bare(bare: BareIn) -> Self {
        Self { kind: Kind::Frame(Layout::Dots(bare)) }
    }

    /// Ends no message: everything that arrives is collected.
    #[must_use]
    pub const fn none() -> Self {
        Self { kind: Kind::Never }
    }

    /// Ends a message at `"\r\n"`, as most Internet protocols ask.
    #[must_use]
    pub fn crlf() -> Self {
        Self::from(b"\r\n")
    }

    /// Ends a message at `"\n"`; a carriage return before it is part of the message.
    #[must_use]
    pub fn lf() -> Self {
        Self::from(b"\n")
    }

    /// Ends a message at `"\r\n"` or `"\n"`, for peers of either habit.
    #[must_use]
    pub fn line() -> Self {
        Self::of(&[b"\r\n", b"\n"])
    }

    /// How many bytes this thread has looked at so far to find these byte strings; one that was looked at again in a
    /// later read counts again.
    ///
    /// Clones count together, and so do equal terminators unless many others are made between them. It shows that the
    /// work is linear in the input. A count, a frame, and none look at no bytes.
    #[must_use]
    pub fn searched(&self) -> u64 {
        match &self.kind {
            Kind::Bytes(needles) => needles.searched(),
            _ => 0,
        }
    }

    /// The byte strings, longest first; none unless they are what ends a message.
    #[must_use]
    pub fn patterns(&self) -> impl ExactSizeIterator<Item = &[u8]> {
        let patterns = match &self.kind {
            Kind::Bytes(needles) => needles.patterns(),
            Kind::Count(_) | Kind::Frame(_) | Kind::Never => &[],
        };
        patterns.iter().map(|pattern| &pattern[..])
    }

    /// The number of bytes after which a message ends, when that is what ends it.
    #[must_use]
    pub const fn as_count(&self) -> Option<u64> {
        match &self.kind {
            Kind::Count(count) => Some(count.get()),
            Kind::Bytes(_) | Kind::Frame(_) | Kind::Never => None,
        }
    }

    /// Whether nothing ends a message.
    #[must_use]
    pub const fn is_none(&self) -> bool {
        matches!(self.kind, Kind::Never)
    }

    pub(crate) const fn kind(&self) -> &Kind {
        &self.kind
    }

    /// `patterns` are distinct, not empty, and the longest comes first.
    fn of(patterns: &[&[u8]]) -> Self {
        Self { kind: Kind::Bytes(Needles::shared(patterns)) }
    }
}

impl fmt::Debug for Terminator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            Kind::Bytes(needles) => match needles.patterns() {
                [pattern] => write!(f, "Terminator({pattern:?})"),
                patterns => write!(f, "Terminator::any({patterns:?})"),
            },
            Kind::Count(count) => write!(f, "Terminator::count({count})"),
            Kind::Frame(Layout::Length(prefix)) => write!(f, "Terminator::length_prefixed({prefix:?})"),
            Kind::Frame(Layout::Netstring) => write!(f, "Terminator::netstring()"),
            Kind::Frame(Layout::Dots(BareIn::Refuse)) => write!(f, "Terminator::dot_stuffed()"),
            Kind::Frame(Layout::Dots(bare)) => write!(f, "Terminator::dot_stuffed_with_bare({bare:?})"),
            Kind::Never => write!(f, "Terminator::none()"),
        }
    }
}

impl<const N: usize> From<&[u8; N]> for Terminator {
    fn from(pattern: &[u8; N]) -> Self {
        const { assert!(N > 0, "a terminator needs at least one byte") };
        Self::of(&[pattern])
    }
}

impl From<NonZeroU64> for Terminator {
    fn from(count: NonZeroU64) -> Self {
        Self { kind: Kind::Count(count) }
    }
}

impl From<LengthPrefix> for Terminator {
    fn from(prefix: LengthPrefix) -> Self {
        Self::length_prefixed(prefix)
    }
}

impl TryFrom<&[u8]> for Terminator {
    type Error = EmptyTerminator;

    fn try_from(pattern: &[u8]) -> Result<Self, EmptyTerminator> {
        if pattern.is_empty() { Err(EmptyTerminator) } else { Ok(Self::of(&[pattern])) }
    }
}

/// The refusal of a terminator without a byte: an empty byte string, an empty set, or a count of zero.
///
/// ```
/// use asynchat::{EmptyTerminator, Terminator};
///
/// let from_a_file: &[u8] = b"";
/// assert_eq!(Terminator::try_from(from_a_file), Err(EmptyTerminator));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "it has nothing more to say, and tests like to name it")]
pub struct EmptyTerminator;

impl fmt::Display for EmptyTerminator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a terminator needs at least one byte")
    }
}

impl Error for EmptyTerminator {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminator_is_two_words() {
        assert!(size_of::<Terminator>() <= 16);
    }

    #[test]
    fn a_terminator_without_a_byte_is_refused() {
        assert_eq!(Terminator::any::<&str>([]), Err(EmptyTerminator));
        assert_eq!(Terminator::any(["\n", ""]), Err(EmptyTerminator));
        assert_eq!(Terminator::try_from(&b""[..]), Err(EmptyTerminator));
        assert_eq!(Terminator::count(0), Err(EmptyTerminator));
    }

    #[test]
    fn a_terminator_shows_what_it_is() {
        assert_eq!(format!("{:?}", Terminator::lf()), r#"Terminator(b"\n")"#);
        assert_eq!(format!("{:?}", Terminator::line()), r#"Terminator::any([b"\r\n", b"\n"])"#);
        assert_eq!(format!("{:?}", Terminator::count(7).unwrap()), "Terminator::count(7)");
        assert_eq!(format!("{:?}", Terminator::none()), "Terminator::none()");
        let length = Terminator::from(LengthPrefix::U32Le);
        assert_eq!(format!("{length:?}"), "Terminator::length_prefixed(U32Le)");
        assert_eq!(format!("{:?}", Terminator::netstring()), "Terminator::netstring()");
        assert_eq!(format!("{:?}", Terminator::dot_stuffed()), "Terminator::dot_stuffed()");
        let keeping = Terminator::dot_stuffed_with_bare(BareIn::Keep);
        assert_eq!(format!("{keeping:?}"), "Terminator::dot_stuffed_with_bare(Keep)");
    }

    #[test]
    fn a_terminator_tells_its_kind_apart() {
        assert_eq!(Terminator::crlf().patterns().collect::<Vec<_>>(), [b"\r\n"]);
        assert_eq!(Terminator::crlf().as_count(), None);
        assert_eq!(Terminator::count(7).unwrap().patterns().len(), 0);
        assert_eq!(Terminator::count(7).unwrap().as_count(), Some(7));
        assert!(Terminator::none().is_none() && !Terminator::crlf().is_none());
    }
}
