//! Dot-stuffing, the receiver's side: how a body is told from the line with a single dot that ends it.
//!
//! [`DotUnstuffer`] undoes what a [`DotStuffer`](crate::DotStuffer) did, and holds to the same rule: only CRLF ends a
//! line. [`dot_stuffer`](crate::dot_stuffer) tells what both are for, and why the rule matters.

use memchr::memchr2;

use crate::dot_stuffer::{BareEnd, CR, CRLF, DOT, DOT_LINE, LF};

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

/// A part of what [`DotUnstuffer::unstuff`] finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "there is the body and its end, and a match should cover both")]
pub enum Unstuffed<'w> {
    /// The next bytes of the body; never empty.
    Body(&'w [u8]),
    /// The end of the body. What is left of the input is not part of it.
    End,
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dot_stuffer::tests::{cut_at_crlf, first_bare, small_world};

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
