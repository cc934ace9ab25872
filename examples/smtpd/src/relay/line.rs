//! [`Line`]: a command as it is sent to the next server.

use std::fmt;

/// A line without its end, in which nothing ends it: no CR, LF or NUL, and not too long.
///
/// Commands are pushed as this type alone. So a mailbox or a password that came from outside can be part of a command, and
/// never make two of it.
#[derive(Clone, PartialEq, Eq)]
pub struct Line(String);

impl Line {
    /// A line of this text.
    ///
    /// # Errors
    ///
    /// If a CR, LF or NUL is in it, or it is longer than [`LINE_LIMIT`].
    pub fn new(text: impl Into<String>) -> Result<Self, BadLine> {
        let text = text.into();
        if let Some(at) = text.bytes().position(|byte| matches!(byte, b'\r' | b'\n' | 0)) {
            return Err(BadLine::Broken(at));
        }
        if text.len() + CRLF.len() > LINE_LIMIT {
            return Err(BadLine::TooLong(text.len()));
        }
        Ok(Self(text))
    }

    /// As it goes over the wire, with its end.
    #[must_use]
    pub fn into_wire(self) -> String {
        self.0 + CRLF
    }
}

/// The first word alone: behind it may be a password.
impl fmt::Debug for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Line").field(&self.0.split(' ').next()).finish()
    }
}

/// Why a text is no line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "these are all")]
pub enum BadLine {
    /// A CR, LF or NUL stands at this byte, counted from 0.
    Broken(usize),
    /// It has so many bytes.
    TooLong(usize),
}

impl fmt::Display for BadLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Broken(at) => write!(f, "a CR, LF or NUL at byte {at} of a command"),
            Self::TooLong(length) => write!(f, "a command of {length} bytes"),
        }
    }
}

impl std::error::Error for BadLine {}

/// Longest line with its end: 12,288 bytes, what RFC 4954 (section 4) allows to `AUTH`. Other commands stay far below: a
/// mailbox is bounded where it is read.
pub const LINE_LIMIT: usize = 12_288;

const CRLF: &str = "\r\n";

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_would_end_a_line_is_refused_wherever_it_stands() {
        for (text, at) in
            [("RCPT TO:<a@b>\r\nDATA", 13), ("a\nb", 1), ("a\rb", 1), ("a\0b", 1), ("\r\n", 0), ("a\n", 1)]
        {
            assert_eq!(Line::new(text), Err(BadLine::Broken(at)), "{text:?}");
        }
    }

    #[test]
    fn a_line_is_as_long_as_its_limit_with_its_end_and_no_longer() {
        let longest = "x".repeat(LINE_LIMIT - CRLF.len());
        assert_eq!(Line::new(longest.clone()).map(|line| line.into_wire().len()), Ok(LINE_LIMIT));
        assert_eq!(Line::new(longest + "x"), Err(BadLine::TooLong(LINE_LIMIT - 1)));
    }

    #[test]
    fn a_password_is_not_shown() {
        let line = Line::new("AUTH PLAIN AGEAc2VjcmV0").unwrap();
        assert_eq!(format!("{line:?}"), "Line(Some(\"AUTH\"))");
    }

    proptest! {
        #[test]
        fn what_goes_over_the_wire_is_one_line_with_the_text_in_it(text in any::<String>()) {
            if let Ok(line) = Line::new(text.clone()) {
                let wire = line.into_wire();
                prop_assert_eq!(wire.strip_suffix("\r\n"), Some(&*text));
                prop_assert_eq!(wire.bytes().filter(|byte| b"\r\n\0".contains(byte)).count(), 2);
            } else {
                prop_assert!(text.contains(['\r', '\n', '\0']) || text.len() + 2 > LINE_LIMIT);
            }
        }
    }
}
