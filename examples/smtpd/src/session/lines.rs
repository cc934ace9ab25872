//! [`Lines`]: how long the lines of a text are, and whether only CRLF ends them, in whatever pieces it comes.

use memchr::{memchr2, memrchr};

/// What is known of a text after the pieces that have come.
#[derive(Debug, Default)]
pub(super) struct Lines {
    /// The bytes of the line that has begun; not counted any further once one was too long.
    length: usize,
    /// Whether the last byte was a CR.
    has_cr: bool,
    /// Whether a line was too long.
    pub(super) is_too_long: bool,
    /// Whether a CR or an LF stood alone.
    pub(super) is_bare: bool,
}

impl Lines {
    /// Takes a piece of a text in which no line, with its CRLF, is to be longer than `limit`.
    pub(super) fn take(&mut self, piece: &[u8], limit: Option<usize>) {
        let (mut rest, mut after_cr) = (piece, self.has_cr);
        self.has_cr = piece.last().map_or(self.has_cr, |last| *last == b'\r');
        let Some(limit) = limit else { return };
        // As many lines at a time as fit into the room of one: most are much shorter.
        while !self.is_too_long && rest.len() > limit - self.length {
            match last_end(&rest[..limit - self.length], after_cr) {
                Some(end) => (rest, after_cr, self.length) = (&rest[end..], false, 0),
                None => self.is_too_long = true,
            }
        }
        if !self.is_too_long {
            let before = self.length;
            self.length = last_end(rest, after_cr).map_or(before + rest.len(), |end| rest.len() - end);
        }
    }

    /// As [`take`](Self::take), of a text in which nobody else looks for a CR or LF that stands alone.
    pub(super) fn take_unchecked(&mut self, piece: &[u8], limit: Option<usize>) {
        self.is_bare = self.is_bare || has_bare(piece, self.has_cr);
        self.take(piece, limit);
    }

    /// The text of [`take_unchecked`](Self::take_unchecked) is whole: a CR at its end stands alone.
    pub(super) fn end_unchecked(&mut self) {
        self.is_bare |= self.has_cr;
    }
}

/// Where the last line ends that ends in `text`, which follows a CR or does not.
fn last_end(text: &[u8], after_cr: bool) -> Option<usize> {
    let mut before = text;
    while let Some(lf) = memrchr(b'\n', before) {
        let is_end = match lf.checked_sub(1) {
            Some(cr) => text[cr] == b'\r',
            None => after_cr,
        };
        if is_end {
            return Some(lf + 1);
        }
        before = &text[..lf];
    }
    None
}

/// Whether a CR without LF, or an LF without CR, stands in `text`; a CR at its end has the next piece for it.
fn has_bare(text: &[u8], after_cr: bool) -> bool {
    let mut rest = text;
    if after_cr && !rest.is_empty() {
        let Some(behind) = rest.strip_prefix(b"\n") else { return true };
        rest = behind;
    }
    while let Some(found) = memchr2(b'\r', b'\n', rest) {
        rest = match &rest[found..] {
            [b'\r'] => &[],
            [b'\r', b'\n', behind @ ..] => behind,
            _ => return true,
        };
    }
    false
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_text_is_judged_as_by_hand_at_every_cut(text in "[\r\na]{0,12}|(\r\n|a|b){0,12}", limit in 1_usize..6) {
            let is_too_long = text.split_inclusive("\r\n").any(|line| line.len() > limit);
            let is_bare = text.replace("\r\n", "").contains(['\r', '\n']);
            for cut in 0..=text.len() {
                let (head, tail) = text.as_bytes().split_at(cut);
                let mut lines = Lines::default();
                lines.take_unchecked(head, Some(limit));
                lines.take_unchecked(tail, Some(limit));
                lines.end_unchecked();
                prop_assert_eq!((lines.is_too_long, lines.is_bare), (is_too_long, is_bare));
            }
        }
    }

    #[test]
    fn a_line_may_be_as_long_as_the_limit_with_its_end() {
        let is_too_long = |text: &str, limit| {
            let mut lines = Lines::default();
            lines.take(text.as_bytes(), limit);
            lines.is_too_long
        };
        assert!(!is_too_long(&format!("{}\r\n", "a".repeat(998)), Some(1000)));
        assert!(is_too_long(&format!("{}\r\n", "a".repeat(999)), Some(1000)));
        assert!(!is_too_long(&"a".repeat(5000), None));
    }
}
