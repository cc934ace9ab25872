//! Dot-stuffing, the sender's side: how a body that may hold any line is sent ahead of a line with a single dot.
//!
//! SMTP ends the mail data with a line that holds nothing but a dot, so a sender doubles the dot at the start of
//! every line and a receiver takes one away ([RFC 5321, section 4.5.2][transparency]). POP3 and NNTP send their
//! longer answers the same way. [`DotStuffer`] is the sender's side, [`DotUnstuffer`](crate::DotUnstuffer) the
//! receiver's. Neither reads or writes anything itself: bytes go in, cut anywhere, bytes come out, and a byte or two
//! of state stay behind.
//!
//! Both hold to one rule: *only CRLF ends a line* ([section 2.3.8][lines]). Where a sender and a receiver disagree
//! about a CR or an LF that stands alone, one message can be made to look like two: the sender leaves the dot of
//! `LF . LF` as it is, the receiver takes it for the end, and what follows is obeyed as commands ("SMTP smuggling").
//! So both refuse such a byte unless they are told otherwise, and whatever they are told, it is never a line end.
//!
//! [transparency]: https://www.rfc-editor.org/rfc/rfc5321#section-4.5.2
//! [lines]: https://www.rfc-editor.org/rfc/rfc5321#section-2.3.8

use std::{error, fmt};

use memchr::memchr2;

/// Stuffs a body for the wire: doubles the dot at the start of a line, and writes the end.
///
/// One stuffer serves one body. Give it the pieces in order with [`stuff`](Self::stuff), then
/// [`finish`](Self::finish) it.
///
/// ```
/// use asynchat::DotStuffer;
///
/// let mut wire = Vec::new();
/// let mut stuffer = DotStuffer::new();
/// stuffer.stuff(b"Hello,\r\n.hid", &mut wire)?;
/// stuffer.stuff(b"den\r\nBye", &mut wire)?;
/// stuffer.finish(&mut wire)?;
/// assert_eq!(wire, b"Hello,\r\n..hidden\r\nBye\r\n.\r\n");
/// # Ok::<(), asynchat::BareEnd>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct DotStuffer {
    bare: BareOut,
    at: Outgoing,
    /// Bytes of the body taken so far.
    taken: u64,
}

impl DotStuffer {
    /// A stuffer that refuses a bare CR or LF.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A stuffer that treats a bare CR or LF as `bare` says.
    ///
    /// ```
    /// use asynchat::{BareOut, DotStuffer};
    ///
    /// let mut wire = Vec::new();
    /// let mut stuffer = DotStuffer::with_bare(BareOut::Normalise);
    /// stuffer.stuff(b"from a text file\n.\nwith bare ends\n", &mut wire)?;
    /// stuffer.finish(&mut wire)?;
    /// assert_eq!(wire, b"from a text file\r\n..\r\nwith bare ends\r\n.\r\n");
    /// # Ok::<(), asynchat::BareEnd>(())
    /// ```
    #[must_use]
    pub fn with_bare(bare: BareOut) -> Self {
        Self { bare, ..Self::default() }
    }

    /// Appends the next piece of the body to `wire`, stuffed.
    ///
    /// A CR at the end of a piece waits for the next piece, or for [`finish`](Self::finish), to show whether it is
    /// bare.
    ///
    /// # Errors
    ///
    /// A bare CR or LF, unless it is normalised. `wire` then ends with what stood before it, and whatever comes after
    /// it is refused as well: such a body cannot be ended as though it were whole. When a part of it is on its
    /// way already, close the connection; nothing else tells the peer that the message is void.
    pub fn stuff(&mut self, body: &[u8], wire: &mut Vec<u8>) -> Result<(), BareEnd> {
        // One dot is the common surplus; a body with more of them grows the vector as usual.
        wire.reserve(body.len() + 1);
        let mut rest = body;
        while let Some(&first) = rest.first() {
            let used = match self.at {
                Outgoing::Refused(refusal) => return Err(refusal),
                Outgoing::AfterCr if first == LF => {
                    wire.extend_from_slice(CRLF);
                    self.at = Outgoing::LineStart;
                    1
                }
                Outgoing::AfterCr => {
                    self.bare(CR, self.taken - 1, wire)?;
                    0
                }
                Outgoing::LineStart | Outgoing::Middle => self.line(rest, wire)?,
            };
            self.taken += used as u64;
            rest = &rest[used..];
        }
        Ok(())
    }

    /// Appends the end to `wire`: CRLF unless the body ended with one, then a dot and CRLF.
    ///
    /// An empty body has no line to end, so it becomes the dot and CRLF alone.
    ///
    /// # Errors
    ///
    /// A bare CR as the last byte of the body, unless it is normalised; or an earlier refusal.
    pub fn finish(mut self, wire: &mut Vec<u8>) -> Result<(), BareEnd> {
        match self.at {
            Outgoing::Refused(refusal) => return Err(refusal),
            Outgoing::AfterCr => self.bare(CR, self.taken - 1, wire)?,
            Outgoing::Middle => wire.extend_from_slice(CRLF),
            Outgoing::LineStart => {}
        }
        wire.extend_from_slice(DOT_LINE);
        Ok(())
    }

    /// Stuffs up to the next line end, or to a CR that the next byte must explain; says how much that was.
    fn line(&mut self, rest: &[u8], wire: &mut Vec<u8>) -> Result<usize, BareEnd> {
        if self.at == Outgoing::LineStart && rest.first() == Some(&DOT) {
            wire.push(DOT);
        }
        let Some(end) = memchr2(CR, LF, rest) else {
            wire.extend_from_slice(rest);
            self.at = Outgoing::Middle;
            return Ok(rest.len());
        };
        if rest[end..].starts_with(CRLF) {
            wire.extend_from_slice(&rest[..end + CRLF.len()]);
            self.at = Outgoing::LineStart;
            return Ok(end + CRLF.len());
        }
        wire.extend_from_slice(&rest[..end]);
        if rest[end] == CR {
            self.at = Outgoing::AfterCr;
        } else {
            self.bare(LF, self.taken + end as u64, wire)?;
        }
        Ok(end + 1)
    }

    /// Decides about the bare `byte`. Normalised, it ends the line before the next dot is looked at: stuffing first
    /// and normalising later is how a dot slips through at the start of a line.
    fn bare(&mut self, byte: u8, position: u64, wire: &mut Vec<u8>) -> Result<(), BareEnd> {
        match self.bare {
            BareOut::Refuse => {
                let refusal = BareEnd { byte, position };
                self.at = Outgoing::Refused(refusal);
                Err(refusal)
            }
            BareOut::Normalise => {
                wire.extend_from_slice(CRLF);
                self.at = Outgoing::LineStart;
                Ok(())
            }
        }
    }
}

/// What a [`DotStuffer`] does with a bare CR or LF in the body.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum BareOut {
    /// Refuses it, as mail ought not to hold one.
    #[default]
    Refuse,
    /// Makes it CRLF before the stuffing, so that text with other line ends can be sent.
    Normalise,
}

/// A CR or LF that is not part of a CRLF, where only CRLF is allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct BareEnd {
    /// The byte: CR or LF.
    pub byte: u8,
    /// Where it stands, counted from 0 at the first byte given to the stuffer or the unstuffer.
    pub position: u64,
}

impl fmt::Display for BareEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = if self.byte == CR { "CR" } else { "LF" };
        write!(f, "bare {name} at byte {}: only CRLF ends a line", self.position)
    }
}

impl error::Error for BareEnd {}

/// Where the stuffer stands in the body.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Outgoing {
    #[default]
    LineStart,
    Middle,
    /// A CR was taken and not written yet.
    AfterCr,
    Refused(BareEnd),
}

/// Doubles the dots at line starts of `body` again, whatever bare bytes are in it.
pub(crate) fn stuff_again(body: &[u8], at_line_start: bool) -> Vec<u8> {
    let mut wire = Vec::with_capacity(body.len());
    let mut at_line_start = at_line_start;
    for (at, &byte) in body.iter().enumerate() {
        if at_line_start && byte == DOT {
            wire.push(DOT);
        }
        wire.push(byte);
        at_line_start = body[..=at].ends_with(CRLF);
    }
    wire
}

pub(crate) const CR: u8 = b'\r';
pub(crate) const LF: u8 = b'\n';
pub(crate) const DOT: u8 = b'.';
pub(crate) const CRLF: &[u8] = b"\r\n";
pub(crate) const DOT_LINE: &[u8] = b".\r\n";

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Stuffs `pieces` as one body.
    fn stuff(bare: BareOut, pieces: &[&[u8]]) -> Result<Vec<u8>, BareEnd> {
        let mut wire = Vec::new();
        let mut stuffer = DotStuffer::with_bare(bare);
        for piece in pieces {
            stuffer.stuff(piece, &mut wire)?;
        }
        stuffer.finish(&mut wire)?;
        Ok(wire)
    }

    /// Every string over the bytes that matter, one that does not, and NUL, of up to `longest` bytes.
    pub(crate) fn small_world(longest: usize) -> Vec<Vec<u8>> {
        let mut all = vec![Vec::new()];
        let mut shorter = 0;
        for _ in 0..longest {
            let ends = all.len();
            for index in shorter..ends {
                for &byte in b"\r\n.x\0" {
                    let mut longer = all[index].clone();
                    longer.push(byte);
                    all.push(longer);
                }
            }
            shorter = ends;
        }
        all
    }

    /// The first CR or LF of a line that CRLF does not end, in `lines` cut at every CRLF. The last line may still be
    /// going on: whether a CR at its end is bare is then open, and `ended` says that it is decided.
    pub(crate) fn first_bare(lines: &[&[u8]], ended: bool) -> Option<BareEnd> {
        let mut start = 0;
        for (index, line) in lines.iter().enumerate() {
            let open = index + 1 == lines.len() && !ended && line.ends_with(b"\r");
            let decided = if open { &line[..line.len() - 1] } else { line };
            if let Some(at) = decided.iter().position(|byte| b"\r\n".contains(byte)) {
                return Some(BareEnd { byte: decided[at], position: start + at as u64 });
            }
            start += line.len() as u64 + 2;
        }
        None
    }

    /// `text` cut at every CRLF, the way one would do it by hand.
    pub(crate) fn cut_at_crlf(mut text: &[u8]) -> Vec<&[u8]> {
        let mut lines = Vec::new();
        while let Some(at) = text.windows(2).position(|pair| pair == b"\r\n") {
            lines.push(&text[..at]);
            text = &text[at + 2..];
        }
        lines.push(text);
        lines
    }

    /// Stuffing by lines: nothing is streamed, everything is looked at whole.
    fn stuffed_by_hand(bare: BareOut, body: &[u8]) -> Result<Vec<u8>, BareEnd> {
        let mut text = body.to_vec();
        if let Some(refusal) = first_bare(&cut_at_crlf(body), true) {
            if bare == BareOut::Refuse {
                return Err(refusal);
            }
            let lines = String::from_utf8(text).unwrap().replace("\r\n", "\n").replace('\r', "\n");
            text = lines.replace('\n', "\r\n").into_bytes();
        }
        let mut lines = cut_at_crlf(&text);
        if lines.last().is_some_and(|last| last.is_empty()) {
            lines.pop();
        }
        let mut wire = Vec::new();
        for line in lines {
            if line.starts_with(b".") {
                wire.push(b'.');
            }
            wire.extend_from_slice(line);
            wire.extend_from_slice(b"\r\n");
        }
        wire.extend_from_slice(b".\r\n");
        Ok(wire)
    }

    #[test]
    fn every_short_body_is_stuffed_as_by_hand_at_every_cut() {
        for body in small_world(6) {
            for bare in [BareOut::Refuse, BareOut::Normalise] {
                let expected = stuffed_by_hand(bare, &body);
                for cut in 0..=body.len() {
                    let (head, tail) = body.split_at(cut);
                    assert_eq!(
                        stuff(bare, &[head, tail]),
                        expected,
                        "{} {bare:?} {cut}",
                        body.escape_ascii()
                    );
                }
            }
        }
    }

    #[test]
    fn bodies_become_the_wire_that_the_rfc_asks_for() {
        let table: [(&[u8], &[u8]); 9] = [
            (b"", b".\r\n"),
            (b"x", b"x\r\n.\r\n"),
            (b"x\r\n", b"x\r\n.\r\n"),
            (b"\r\n", b"\r\n.\r\n"),
            (b".", b"..\r\n.\r\n"),
            (b".\r\n", b"..\r\n.\r\n"),
            (b"..\r\n", b"...\r\n.\r\n"),
            (b"x\r\n\r\n.\r\n", b"x\r\n\r\n..\r\n.\r\n"),
            (b"x.\r\nx.x", b"x.\r\nx.x\r\n.\r\n"),
        ];
        for (body, wire) in table {
            assert_eq!(stuff(BareOut::Refuse, &[body]).as_deref(), Ok(wire), "{}", body.escape_ascii());
        }
    }

    #[test]
    fn bare_ends_before_a_dot_are_refused_with_their_position() {
        let table: [(&[u8], u8, u64); 6] = [
            (b"x\n.\r\n", LF, 1),
            (b"x\r.\r\n", CR, 1),
            (b"x\r\n\n.\r\n", LF, 3),
            (b"x\r\r\n.\r\n", CR, 1),
            (b"x\r\n.\r", CR, 4),
            (b"\n", LF, 0),
        ];
        for (body, byte, position) in table {
            let refusal = Err(BareEnd { byte, position });
            assert_eq!(stuff(BareOut::Refuse, &[body]), refusal, "{}", body.escape_ascii());
        }
    }

    #[test]
    fn bare_ends_before_a_dot_are_normalised_before_the_stuffing() {
        let table: [(&[u8], &[u8]); 7] = [
            (b"x\n.\n", b"x\r\n..\r\n.\r\n"),
            (b"x\r.\r", b"x\r\n..\r\n.\r\n"),
            (b"x\r\r\n.", b"x\r\n\r\n..\r\n.\r\n"),
            (b"x\n\r\n.", b"x\r\n\r\n..\r\n.\r\n"),
            (b"x\n\r.", b"x\r\n\r\n..\r\n.\r\n"),
            (b"\n.\r\n", b"\r\n..\r\n.\r\n"),
            (b"x\r", b"x\r\n.\r\n"),
        ];
        for (body, wire) in table {
            assert_eq!(stuff(BareOut::Normalise, &[body]).as_deref(), Ok(wire), "{}", body.escape_ascii());
        }
    }

    #[test]
    fn a_refused_body_cannot_be_finished() {
        let mut wire = Vec::new();
        let mut stuffer = DotStuffer::new();
        let refusal = stuffer.stuff(b"x\r\ny\nz", &mut wire).unwrap_err();
        assert_eq!(refusal.to_string(), "bare LF at byte 4: only CRLF ends a line");
        assert_eq!(stuffer.stuff(b"z\r\n", &mut wire), Err(refusal));
        assert_eq!(stuffer.finish(&mut wire), Err(refusal));
        assert_eq!(wire, b"x\r\ny");
    }
}
