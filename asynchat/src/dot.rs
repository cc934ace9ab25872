//! Dot-stuffing both ways: how a body that may hold any line is sent ahead of a line with a single dot.
//!
//! SMTP ends the mail data with a line that holds nothing but a dot, so a sender doubles the dot at the start of
//! every line and a receiver takes one away ([RFC 5321, section 4.5.2][transparency]). POP3 and NNTP send their
//! longer answers the same way. [`DotStuffer`] is the sender's side, [`DotUnstuffer`] the receiver's. Neither reads or
//! writes anything itself: bytes go in, cut anywhere, bytes come out, and a byte or two of state stay behind.
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

/// Takes the stuffing out again and finds the end of the body.
///
/// One unstuffer serves one body. It hands over the body in pieces borrowed from the input and stops behind the end,
/// so that what follows, such as a pipelined command, stays with the caller. The body keeps the CRLF in front of the
/// final dot, which ends its last line ([RFC 5321, section 4.1.1.4][data]); a message without any line is the dot
/// and CRLF alone, right at the start.
///
/// It looks for nothing but CR, LF and dots. A NUL, for instance, is a byte of the body as any other.
///
/// ```
/// use asynchat::{DotUnstuffer, Unstuffed};
///
/// let mut wire = &b"Hello,\r\n..hidden\r\n.\r\nQUIT\r\n"[..];
/// let mut body = Vec::new();
/// let mut unstuffer = DotUnstuffer::new();
/// while let Some(part) = unstuffer.unstuff(&mut wire)? {
///     match part {
///         Unstuffed::Body(piece) => body.extend_from_slice(piece),
///         Unstuffed::End => break,
///     }
/// }
/// assert!(unstuffer.is_ended());
/// assert_eq!(body, b"Hello,\r\n.hidden\r\n");
/// assert_eq!(wire, b"QUIT\r\n");
/// # Ok::<(), asynchat::BareEnd>(())
/// ```
///
/// [data]: https://www.rfc-editor.org/rfc/rfc5321#section-4.1.1.4
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DotUnstuffer {
    bare: BareIn,
    at: Incoming,
    /// Bytes of the wire taken so far.
    taken: u64,
}

impl DotUnstuffer {
    /// An unstuffer that refuses a bare CR or LF.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// An unstuffer that treats a bare CR or LF as `bare` says.
    ///
    /// ```
    /// use asynchat::{BareIn, DotUnstuffer, Unstuffed};
    ///
    /// let mut wire = &b"one\n.\nline\r\n.\r\n"[..];
    /// let mut unstuffer = DotUnstuffer::with_bare(BareIn::Keep);
    /// assert_eq!(unstuffer.unstuff(&mut wire)?, Some(Unstuffed::Body(b"one\n.\nline\r\n")));
    /// assert_eq!(unstuffer.unstuff(&mut wire)?, Some(Unstuffed::End));
    /// # Ok::<(), asynchat::BareEnd>(())
    /// ```
    #[must_use]
    pub fn with_bare(bare: BareIn) -> Self {
        Self { bare, ..Self::default() }
    }

    /// Takes the next part off the front of `wire`; `None` when it needs more of it.
    ///
    /// Call it until it answers `None` or [`Unstuffed::End`]. After `None` the whole of `wire` is used up; go on with
    /// the next bytes that arrive. After the end it takes nothing more and answers `None`. When the peer closes
    /// before the end, the body was cut short and must not be used.
    ///
    /// # Errors
    ///
    /// A bare CR or LF, unless it is kept, after all of the body before it has been handed over. Whatever comes after
    /// it is refused as well. Where the end of the message would be is then anybody's guess, so answer with an
    /// error, close the connection, and obey nothing that follows.
    pub fn unstuff<'w>(&mut self, wire: &mut &'w [u8]) -> Result<Option<Unstuffed<'w>>, BareEnd> {
        self.unstuff_most(usize::MAX, wire)
    }

    /// [`unstuff`](Self::unstuff), with at most `most` bytes of body; at least 1.
    pub(crate) fn unstuff_most<'w>(
        &mut self,
        most: usize,
        wire: &mut &'w [u8],
    ) -> Result<Option<Unstuffed<'w>>, BareEnd> {
        while let Some(&first) = wire.first() {
            match self.at {
                Incoming::LineStart if first == DOT => self.skip(wire, Incoming::AfterDot),
                Incoming::LineStart | Incoming::Middle => {
                    let piece = self.run(most, wire)?;
                    if !piece.is_empty() {
                        return Ok(Some(Unstuffed::Body(piece)));
                    }
                }
                Incoming::AfterDot if first == CR => self.skip(wire, Incoming::AfterDotCr),
                // The dot was stuffing; it is gone, and the line goes on. A second dot is data here.
                Incoming::AfterDot => self.at = Incoming::Middle,
                Incoming::AfterDotCr if first == LF => {
                    self.skip(wire, Incoming::Ended);
                    return Ok(Some(Unstuffed::End));
                }
                Incoming::AfterCr if first == LF && most == 1 => {
                    self.at = Incoming::BeforeLf;
                    return Ok(Some(Unstuffed::Body(b"\r")));
                }
                Incoming::AfterCr if first == LF => {
                    self.skip(wire, Incoming::LineStart);
                    return Ok(Some(Unstuffed::Body(CRLF)));
                }
                Incoming::BeforeLf => {
                    let lf = &wire[..1];
                    self.skip(wire, Incoming::LineStart);
                    return Ok(Some(Unstuffed::Body(lf)));
                }
                Incoming::AfterDotCr | Incoming::AfterCr => {
                    if self.bare == BareIn::Refuse {
                        return Err(self.refuse(CR, self.taken - 1));
                    }
                    self.at = Incoming::Middle;
                    return Ok(Some(Unstuffed::Body(b"\r")));
                }
                Incoming::Ended => break,
                Incoming::Refused(refusal) => return Err(refusal),
            }
        }
        Ok(None)
    }

    /// Whether the end was found.
    #[must_use]
    pub fn is_ended(&self) -> bool {
        self.at == Incoming::Ended
    }

    /// Whether any byte was taken.
    pub(crate) const fn has_begun(&self) -> bool {
        self.taken > 0
    }

    /// Whether `wire`, which comes next, is the end of the body.
    pub(crate) fn ends_with(&self, wire: &[u8]) -> bool {
        self.at == Incoming::LineStart && wire.starts_with(DOT_LINE)
    }

    /// The bytes that were taken and neither handed over nor dropped.
    pub(crate) const fn pending(&self) -> &'static [u8] {
        match self.at {
            Incoming::AfterDot => b".",
            Incoming::AfterDotCr => b".\r",
            Incoming::AfterCr => b"\r",
            _ => b"",
        }
    }

    /// Takes the longest piece of body that reads the same unstuffed, over as many lines as that holds.
    ///
    /// ```text
    /// first line CR LF second line CR LF . . third
    /// '------------- piece --------------' ^ next   (a dot at a line start, or the input's end, ends the piece)
    /// ```
    ///
    /// The piece is empty when all there was is a CR that the next byte must explain.
    fn run<'w>(&mut self, most: usize, wire: &mut &'w [u8]) -> Result<&'w [u8], BareEnd> {
        let input = &wire[..most.min(wire.len())];
        let mut searched = 0;
        let (piece, used, at) = loop {
            let Some(found) = memchr2(CR, LF, &input[searched..]) else {
                break (input.len(), input.len(), Incoming::Middle);
            };
            let end = searched + found;
            match (input[end], input.get(end + 1)) {
                (CR, None) => break (end, end + 1, Incoming::AfterCr),
                (CR, Some(&LF)) => {
                    searched = end + CRLF.len();
                    if matches!(input.get(searched), None | Some(&DOT)) {
                        break (searched, searched, Incoming::LineStart);
                    }
                }
                _ if self.bare == BareIn::Keep => searched = end + 1,
                // What stands before the bare byte first, so that it comes out the same wherever the input is cut.
                _ if end > 0 => break (end, end, Incoming::Middle),
                (byte, _) => return Err(self.refuse(byte, self.taken)),
            }
        };
        *wire = &wire[used..];
        self.taken += used as u64;
        self.at = at;
        Ok(&input[..piece])
    }

    fn skip(&mut self, wire: &mut &[u8], at: Incoming) {
        *wire = &wire[1..];
        self.taken += 1;
        self.at = at;
    }

    fn refuse(&mut self, byte: u8, position: u64) -> BareEnd {
        let refusal = BareEnd { byte, position };
        self.at = Incoming::Refused(refusal);
        refusal
    }
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

/// A part of what [`DotUnstuffer::unstuff`] finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "there is the body and its end, and a match should cover both")]
pub enum Unstuffed<'w> {
    /// The next bytes of the body; never empty.
    Body(&'w [u8]),
    /// The end of the body. What is left of the input is not part of it.
    End,
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

/// What a [`DotUnstuffer`] does with a bare CR or LF on the wire.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum BareIn {
    /// Refuses it: a sender that lets one through may see other lines, and another end, than we do.
    #[default]
    Refuse,
    /// Keeps it as data, which neither ends a line nor begins one.
    Keep,
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

/// Where the unstuffer stands on the wire. The bytes that a state names are taken and not handed over yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Incoming {
    #[default]
    LineStart,
    AfterDot,
    AfterDotCr,
    Middle,
    AfterCr,
    /// A CR was handed over, and the LF that belongs to it is the next byte.
    BeforeLf,
    Ended,
    Refused(BareEnd),
}

const CR: u8 = b'\r';
const LF: u8 = b'\n';
const DOT: u8 = b'.';
const CRLF: &[u8] = b"\r\n";
pub(crate) const DOT_LINE: &[u8] = b".\r\n";

#[cfg(test)]
mod tests {
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

    /// What came of unstuffing: the body, and where the end left off, if it was found, or the refusal.
    #[derive(Debug, PartialEq, Eq)]
    struct Outcome {
        body: Vec<u8>,
        end: Result<Option<usize>, BareEnd>,
    }

    /// Unstuffs `pieces` as they would arrive.
    fn unstuff(bare: BareIn, pieces: &[&[u8]]) -> Outcome {
        let mut unstuffer = DotUnstuffer::with_bare(bare);
        let mut body = Vec::new();
        let mut before = 0;
        for piece in pieces {
            let mut rest = *piece;
            loop {
                match unstuffer.unstuff(&mut rest) {
                    Ok(None) => break,
                    Ok(Some(Unstuffed::Body(part))) => {
                        assert!(!part.is_empty());
                        body.extend_from_slice(part);
                    }
                    Ok(Some(Unstuffed::End)) => {
                        assert!(unstuffer.is_ended());
                        return Outcome { body, end: Ok(Some(before + piece.len() - rest.len())) };
                    }
                    Err(refusal) => {
                        assert_eq!(unstuffer.unstuff(&mut rest), Err(refusal));
                        return Outcome { body, end: Err(refusal) };
                    }
                }
            }
            assert!(rest.is_empty());
            before += piece.len();
        }
        Outcome { body, end: Ok(None) }
    }

    /// Every string over the bytes that matter, one that does not, and NUL, of up to `longest` bytes.
    fn small_world(longest: usize) -> Vec<Vec<u8>> {
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
    fn first_bare(lines: &[&[u8]], ended: bool) -> Option<BareEnd> {
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
    fn cut_at_crlf(mut text: &[u8]) -> Vec<&[u8]> {
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

    /// Unstuffing by lines. The last one has no CRLF yet, and its last bytes may still turn out to be a line end or
    /// the end of all.
    fn unstuffed_by_hand(bare: BareIn, wire: &[u8]) -> Outcome {
        let mut lines = cut_at_crlf(wire);
        let dot = lines[..lines.len() - 1].iter().position(|line| line == b".");
        lines.truncate(dot.map_or(lines.len(), |dot| dot + 1));
        let refusal = first_bare(&lines, dot.is_some()).filter(|_| bare == BareIn::Refuse);
        if let Some(BareEnd { position, .. }) = refusal {
            // Up to the bare byte nothing is wrong with the wire.
            let before = unstuffed_by_hand(bare, &wire[..usize::try_from(position).unwrap()]);
            return Outcome { body: before.body, end: Err(refusal.unwrap()) };
        }
        let used = lines.iter().map(|line| line.len() + 2).sum();
        let last = lines.pop().unwrap();
        let mut body = Vec::new();
        for line in lines {
            body.extend_from_slice(line.strip_prefix(b".").unwrap_or(line));
            body.extend_from_slice(b"\r\n");
        }
        if dot.is_some() {
            return Outcome { body, end: Ok(Some(used)) };
        }
        if last != b".\r" {
            let last = last.strip_prefix(b".").unwrap_or(last);
            body.extend_from_slice(last.strip_suffix(b"\r").unwrap_or(last));
        }
        Outcome { body, end: Ok(None) }
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
    fn every_short_wire_is_unstuffed_as_by_hand_at_every_cut() {
        for wire in small_world(6) {
            for bare in [BareIn::Refuse, BareIn::Keep] {
                let expected = unstuffed_by_hand(bare, &wire);
                for cut in 0..=wire.len() {
                    let (head, tail) = wire.split_at(cut);
                    assert_eq!(
                        unstuff(bare, &[head, tail]),
                        expected,
                        "{} {bare:?} {cut}",
                        wire.escape_ascii()
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

    #[test]
    fn a_dot_and_crlf_right_at_the_start_end_an_empty_body() {
        assert_eq!(
            unstuff(BareIn::Refuse, &[b".\r\nRSET\r\n"]),
            Outcome { body: Vec::new(), end: Ok(Some(3)) }
        );
    }

    #[test]
    fn a_leading_dot_goes_unless_it_stands_alone() {
        let table: [(&[u8], &[u8]); 5] = [
            (b"..\r\n.\r\n", b".\r\n"),
            (b"...\r\n.\r\n", b"..\r\n"),
            (b".x\r\n.\r\n", b"x\r\n"),
            (b"x..\r\n.\r\n", b"x..\r\n"),
            (b"\r\n..\r\n\r\n.\r\n", b"\r\n.\r\n\r\n"),
        ];
        for (wire, body) in table {
            let expected = Outcome { body: body.to_vec(), end: Ok(Some(wire.len())) };
            assert_eq!(unstuff(BareIn::Refuse, &[wire]), expected, "{}", wire.escape_ascii());
        }
    }

    /// Sequences that one server or another has taken for the end of the data, by name, and whether refusing bare
    /// ends refuses them. Those it does not refuse are sound lines with a NUL in them.
    const SMUGGLED: [(&str, &[u8], bool); 13] = [
        ("LF . LF", b"\n.\n", true),
        ("LF . CR", b"\n.\r", true),
        ("LF . CRLF", b"\n.\r\n", true),
        ("CR . LF", b"\r.\n", true),
        ("CR . CR", b"\r.\r", true),
        ("CR . CRLF", b"\r.\r\n", true),
        ("CRLF . LF", b"\r\n.\n", true),
        ("CRLF . CR", b"\r\n.\r", true),
        ("CRLF NUL . CRLF", b"\r\n\0.\r\n", false),
        ("CRLF . NUL CRLF", b"\r\n.\0\r\n", false),
        ("CRLF . CR CRLF", b"\r\n.\r\r\n", true),
        ("CR CRLF . CR CRLF", b"\r\r\n.\r\r\n", true),
        ("LF CR . LF CR", b"\n\r.\n\r", true),
    ];

    #[test]
    fn no_smuggled_end_ends_the_data() {
        const SECOND: &[u8] = b"MAIL FROM:<a@example.org>\r\nDATA\r\nsecond";
        for (name, sequence, is_refused) in SMUGGLED {
            let wire = [b"first", sequence, SECOND, b"\r\n.\r\nQUIT\r\n"].concat();
            let end = wire.len() - b"QUIT\r\n".len();
            for cut in 0..=wire.len() {
                let (head, tail) = wire.split_at(cut);
                let kept = unstuff(BareIn::Keep, &[head, tail]);
                assert_eq!(kept.end, Ok(Some(end)), "{name}, kept, cut at {cut}");
                let refused = unstuff(BareIn::Refuse, &[head, tail]);
                let expected = if is_refused { None } else { Some(Some(end)) };
                assert_eq!(refused.end.ok(), expected, "{name}, refused, cut at {cut}");
            }
        }
    }

    #[test]
    fn a_bare_cr_in_front_of_the_real_end_is_refused_or_kept() {
        let wire = b"x\r\r\n.\r\nQUIT\r\n";
        let refusal = BareEnd { byte: CR, position: 1 };
        assert_eq!(unstuff(BareIn::Refuse, &[wire]), Outcome { body: b"x".to_vec(), end: Err(refusal) });
        assert_eq!(unstuff(BareIn::Keep, &[wire]), Outcome { body: b"x\r\r\n".to_vec(), end: Ok(Some(7)) });
    }

    #[test]
    fn a_body_without_stuffing_is_one_borrowed_piece() {
        let wire = b"first\r\nsecond.\r\n\r\nthird\r\n.\r\n";
        let mut rest = &wire[..];
        let part = DotUnstuffer::new().unstuff(&mut rest).unwrap();
        assert_eq!(part, Some(Unstuffed::Body(&wire[..wire.len() - 3])));
    }

    #[test]
    fn nothing_is_taken_after_the_end() {
        let mut unstuffer = DotUnstuffer::new();
        let mut wire = &b".\r\nNOOP\r\n"[..];
        assert_eq!(unstuffer.unstuff(&mut wire), Ok(Some(Unstuffed::End)));
        assert_eq!(unstuffer.unstuff(&mut wire), Ok(None));
        assert_eq!(wire, b"NOOP\r\n");
    }
}
