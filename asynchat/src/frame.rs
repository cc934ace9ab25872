//! Frames: messages whose own bytes say how long they are, or where they end.
//!
//! A [`Frame`] is what a [`Splitter`](crate::Splitter) remembers of one that is on its way. It holds none of its bytes,
//! for what was taken in front of the payload can be told again from the number that it stands for.

use std::error::Error;
use std::fmt;

use bytes::Bytes;

use crate::dot_stuffer::{DOT_LINE, stuff_again};
use crate::{BareEnd, BareIn, DotUnstuffer, LengthPrefix, Piece, Unstuffed};

/// The ways to frame a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Layout {
    Length(LengthPrefix),
    Netstring,
    Dots(BareIn),
}

/// A frame on its way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    progress: Progress,
    /// Something of its payload was used at once.
    taken: bool,
    /// How many bytes of its payload were handed out, less those.
    kept: usize,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Progress {
    Counted(Counted),
    Dots(DotUnstuffer),
}

/// A frame that begins with its length.
///
/// ```text
///   |- header -|------------- length --------------|- , -|
///              |- handed out -|------- left -------|          the comma of a netstring
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
struct Counted {
    /// `None` for a netstring.
    prefix: Option<LengthPrefix>,
    /// How many bytes of the header were taken; what they say is `length`.
    header: u32,
    /// Whether that is all of the header.
    is_known: bool,
    is_ended: bool,
    length: u64,
    left: u64,
}

/// What a frame makes of some input.
pub(crate) enum Part<'a> {
    /// It is used up.
    None,
    /// The frame carries more than there is room for.
    TooLong,
    /// A piece of the payload, and whether it is the last.
    Piece(Piece<'a>, bool),
}

impl Frame {
    pub(crate) fn new(layout: Layout) -> Self {
        let sized = |prefix| {
            Progress::Counted(Counted {
                prefix,
                header: 0,
                is_known: false,
                is_ended: false,
                length: 0,
                left: 0,
            })
        };
        let progress = match layout {
            Layout::Length(prefix) => sized(Some(prefix)),
            Layout::Netstring => sized(None),
            Layout::Dots(bare) => Progress::Dots(DotUnstuffer::with_bare(bare)),
        };
        Self { progress, taken: false, kept: 0 }
    }

    /// Takes the next part off the front of `input`: at most `room` bytes of the payload.
    pub(crate) fn step<'a>(&mut self, input: &mut &'a [u8], room: usize) -> Result<Part<'a>, FrameError> {
        let part = match &mut self.progress {
            Progress::Counted(sized) => sized.step(input, room)?,
            Progress::Dots(dots) => step_dots(dots, input, room).map_err(FrameError::BareEnd)?,
        };
        if let Part::Piece(piece, _) = &part {
            // Saturating: what is passed over is counted too.
            self.kept = self.kept.saturating_add(piece.len());
        }
        Ok(part)
    }

    /// Goes on to the end of the frame, which is in `input`.
    pub(crate) fn finish(&mut self, mut input: &[u8]) {
        while !input.is_empty() && matches!(self.step(&mut input, usize::MAX), Ok(Part::Piece(_, false))) {}
    }

    /// Whether anything of it has come.
    pub(crate) const fn has_begun(&self) -> bool {
        match &self.progress {
            Progress::Counted(sized) => sized.header > 0,
            Progress::Dots(dots) => dots.has_begun(),
        }
    }

    /// So many bytes of its payload were used at once.
    pub(crate) const fn set_taken(&mut self, bytes: usize) {
        self.taken = true;
        self.kept = self.kept.saturating_sub(bytes);
    }

    /// How many bytes of the payload are missing, if that is known.
    pub(crate) fn remaining(&self) -> Option<u64> {
        match &self.progress {
            Progress::Counted(sized) => sized.is_known.then_some(sized.left),
            Progress::Dots(_) => None,
        }
    }

    /// The bytes that were taken before any that was handed out, or since.
    pub(crate) fn pending(&self) -> Bytes {
        match &self.progress {
            Progress::Counted(sized) if sized.handed_out() > 0 => Bytes::new(),
            Progress::Counted(sized) => sized.header().into(),
            Progress::Dots(dots) => Bytes::from_static(dots.pending()),
        }
    }

    /// Makes what was kept of a message, this frame's payload at its end, what had come of it again.
    ///
    /// Without its first bytes a payload fits into no frame, and stays as it is.
    pub(crate) fn put_back_into(&self, kept: &mut Vec<u8>) {
        match &self.progress {
            Progress::Counted(_) if self.taken => {}
            Progress::Counted(sized) => {
                let handed_out = usize::try_from(sized.handed_out()).unwrap_or(usize::MAX);
                let start = kept.len().saturating_sub(handed_out);
                // An unfinished frame without a byte of payload is among what is pending.
                if handed_out > 0 || sized.is_ended {
                    kept.splice(start..start, sized.header());
                }
                if sized.is_ended && sized.prefix.is_none() {
                    kept.push(COMMA);
                }
            }
            Progress::Dots(dots) => {
                let text = kept.split_off(kept.len().saturating_sub(self.kept));
                kept.extend(stuff_again(&text, !self.taken));
                if dots.is_ended() {
                    kept.extend_from_slice(DOT_LINE);
                }
            }
        }
    }
}

impl Counted {
    fn step<'a>(&mut self, input: &mut &'a [u8], room: usize) -> Result<Part<'a>, FrameError> {
        while !self.is_known {
            let Some((&byte, rest)) = input.split_first() else { return Ok(Part::None) };
            self.is_known = self.take(byte)?;
            self.header += 1;
            *input = rest;
            if self.is_known {
                self.left = self.length;
                if self.length > room as u64 {
                    return Ok(Part::TooLong);
                }
            }
        }
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(input.len());
        if most > room && room == 0 {
            return Ok(Part::TooLong);
        }
        let (piece, rest) = input.split_at(most.min(room));
        self.left -= piece.len() as u64;
        *input = rest;
        if self.left == 0 {
            self.is_ended = match (self.prefix, rest) {
                (Some(_), _) => true,
                (None, [COMMA, rest @ ..]) => {
                    *input = rest;
                    true
                }
                // The payload first, so that it comes out the same wherever the input is cut.
                (None, [found, ..]) if piece.is_empty() => return Err(FrameError::NoComma(*found)),
                (None, _) => false,
            };
        }
        Ok(Part::Piece(Piece::Borrowed(piece), self.is_ended))
    }

    /// Takes a byte of the header: whether it was the last.
    fn take(&mut self, byte: u8) -> Result<bool, FrameError> {
        if let Some(prefix) = self.prefix {
            return prefix.take(&mut self.length, self.header, byte).ok_or(FrameError::Varint);
        }
        match byte {
            b':' if self.header > 0 => Ok(true),
            b'0'..=b'9' if self.header > 0 && self.length == 0 => Err(FrameError::LeadingZero),
            b'0'..=b'9' => {
                let longer = self.length.checked_mul(10);
                let longer = longer.and_then(|length| length.checked_add(u64::from(byte - b'0')));
                self.length = longer.ok_or(FrameError::Length)?;
                Ok(false)
            }
            _ => Err(FrameError::NoLength(byte)),
        }
    }

    const fn handed_out(&self) -> u64 {
        if self.is_known { self.length - self.left } else { 0 }
    }

    /// The bytes of the header that were taken.
    fn header(&self) -> Vec<u8> {
        let Some(prefix) = self.prefix else {
            let colon = if self.is_known { ":" } else { "" };
            let digits = if self.header == 0 { String::new() } else { self.length.to_string() };
            return (digits + colon).into_bytes();
        };
        (0..self.header).map(|at| prefix.byte(self.length, at, self.header, self.is_known)).collect()
    }
}

fn step_dots<'a>(dots: &mut DotUnstuffer, input: &mut &'a [u8], room: usize) -> Result<Part<'a>, BareEnd> {
    let mut ahead = dots.clone();
    let mut rest = *input;
    let part = match ahead.unstuff_most(room.max(1), &mut rest)? {
        None => Part::None,
        Some(Unstuffed::Body(_)) if room == 0 => return Ok(Part::TooLong),
        Some(Unstuffed::Body(piece)) => {
            let is_end = ahead.ends_with(rest);
            if is_end {
                ahead.unstuff(&mut rest)?;
            }
            Part::Piece(piece_of(piece, input), is_end)
        }
        Some(Unstuffed::End) => Part::Piece(Piece::Borrowed(&[]), true),
    };
    (*dots, *input) = (ahead, rest);
    Ok(part)
}

/// A piece of the input, unless it is a CR that had to wait for the next byte.
fn piece_of<'a>(piece: &'a [u8], input: &[u8]) -> Piece<'a> {
    if input.as_ptr_range().contains(&piece.as_ptr()) {
        Piece::Borrowed(piece)
    } else {
        Piece::Released(Bytes::copy_from_slice(piece))
    }
}

/// Why input is not the frame that was expected. Where the next message begins is then anybody's guess.
///
/// [`Split::Malformed`](crate::Split::Malformed) says so, and a chat hears of it in
/// [`handle_error`](crate::Chat::handle_error).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FrameError {
    /// A varint of more than 64 bits.
    Varint,
    /// A netstring's length of more than 64 bits.
    Length,
    /// A netstring's length that begins with a zero and goes on.
    LeadingZero,
    /// This byte where a digit of a netstring's length belongs, or its colon.
    NoLength(u8),
    /// This byte where the comma of a netstring belongs.
    NoComma(u8),
    /// A bare CR or LF in a dot-stuffed text.
    BareEnd(BareEnd),
}

impl fmt::Display for FrameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Varint => f.write_str("varint: more than 64 bits"),
            Self::Length => f.write_str("netstring: a length of more than 64 bits"),
            Self::LeadingZero => f.write_str("netstring: a length with a leading zero"),
            Self::NoLength(found) => {
                write!(f, "netstring: '{}' where the length belongs", found.escape_ascii())
            }
            Self::NoComma(found) => {
                write!(f, "netstring: '{}' where the comma belongs", found.escape_ascii())
            }
            Self::BareEnd(error) => write!(f, "dot-stuffed text: {error}"),
        }
    }
}

impl Error for FrameError {}

const COMMA: u8 = b',';
