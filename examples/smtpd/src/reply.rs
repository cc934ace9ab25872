//! [`Reply`]: one answer of the server, as it goes over the wire (RFC 5321, section 4.2).

use std::borrow::Cow;
use std::fmt::{self, Display, Write};

use bytes::Bytes;

/// A code and one line of text or more, whole and well formed: no text that came from outside can add a line to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    wire: Bytes,
}

impl Reply {
    /// One that is known beforehand, in full: `250 2.0.0 OK` with CRLF. Costs nothing.
    #[must_use]
    pub const fn fixed(wire: &'static str) -> Self {
        Self { wire: Bytes::from_static(wire.as_bytes()) }
    }

    /// A code, an enhanced code (RFC 2034; empty for replies that have none), and a line of text.
    ///
    /// What is not printable ASCII becomes `?` (RFC 5321, section 4.2), and what does not
    /// fit into a reply line is left out.
    #[must_use]
    pub fn new(code: u16, enhanced: &str, text: impl Display) -> Self {
        Self::lines(code, enhanced, [text])
    }

    /// A code and several lines of text.
    #[must_use]
    pub fn lines<T: Display>(code: u16, enhanced: &str, lines: impl IntoIterator<Item = T>) -> Self {
        let mut wire = String::new();
        let mut lines = lines.into_iter().peekable();
        while let Some(line) = lines.next() {
            let begin = wire.len();
            let separator = if lines.peek().is_some() { '-' } else { ' ' };
            // Writing to a string does not fail.
            let _ = write!(wire, "{code}{separator}{enhanced}{}", if enhanced.is_empty() { "" } else { " " });
            let _ = write!(Printable(&mut wire), "{line}");
            wire.truncate(begin + LINE_LIMIT - CRLF.len());
            wire.push_str(CRLF);
        }
        Self { wire: wire.into() }
    }

    /// The three digits.
    #[must_use]
    pub fn code(&self) -> u16 {
        self.wire.iter().take(3).fold(0, |code, digit| code * 10 + u16::from(digit.wrapping_sub(b'0')))
    }

    /// Whether the command was not obeyed: 4xx and 5xx.
    #[must_use]
    pub fn is_error(&self) -> bool {
        self.wire.first().is_some_and(|first| *first >= b'4')
    }

    /// The bytes on the wire, lines with CRLF.
    #[must_use]
    pub fn wire(&self) -> Bytes {
        self.wire.clone()
    }

    /// The text of it in one line without the last CRLF, for the log.
    #[must_use]
    pub fn to_line(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(self.wire.strip_suffix(CRLF.as_bytes()).unwrap_or(&self.wire))
    }
}

/// Writes text with everything that is not printable ASCII as `?`.
struct Printable<'a>(&'a mut String);

impl Write for Printable<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.extend(text.chars().map(|char| if matches!(char, ' '..='~') { char } else { '?' }));
        Ok(())
    }
}

const CRLF: &str = "\r\n";

/// Most bytes of a reply line with its end: 512 (RFC 5321, section 4.5.3.1.5).
const LINE_LIMIT: usize = 512;

/// Most lines of what another server has said that a reply passes on: 10, a refusal with its explanation.
pub(crate) const LINES_PASSED_ON: usize = 10;

/// Most bytes of the reply to a message.
pub(crate) const LIMIT: usize = LINES_PASSED_ON * LINE_LIMIT;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_lines_have_one_code_and_the_last_has_a_space() {
        let reply = Reply::lines(250, "", ["mx.example", "SIZE 10"]);
        assert_eq!(reply.wire(), "250-mx.example\r\n250 SIZE 10\r\n");
        assert_eq!((reply.code(), reply.is_error()), (250, false));
    }

    #[test]
    fn text_from_outside_adds_no_line() {
        let reply = Reply::new(550, "5.1.1", "who is a\r\n250 b\0 jörg\u{202e}?");
        assert_eq!(reply.wire(), "550 5.1.1 who is a??250 b? j?rg??\r\n");
        assert!(reply.is_error());
    }

    #[test]
    fn a_long_line_is_cut() {
        let reply = Reply::lines(550, "5.1.1", ["a".repeat(600), "b".repeat(600)]);
        assert_eq!(reply.wire().len(), 2 * LINE_LIMIT);
        assert!(reply.wire().ends_with(b"b\r\n"));
    }
}
