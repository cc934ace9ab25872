//! [`Mailbox`]: whom a message is from, and for (RFC 5321, section 4.1.2).

use std::fmt;

/// A local part and a domain, as they came: `user@example.org`, `"a b"@[192.0.2.1]`, or `postmaster` alone.
///
/// There is no CR, LF, NUL or other control character in it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Mailbox {
    text: String,
    /// Where the `@` stands in front of the domain; its length if there is none.
    at: usize,
}

impl Mailbox {
    /// The part in front of the `@`, as it came, with quotes if it had some.
    #[must_use]
    pub fn local_part(&self) -> &str {
        &self.text[..self.at]
    }

    /// The part behind the `@`; `None` for `postmaster` alone.
    #[must_use]
    pub fn domain(&self) -> Option<&str> {
        self.text.get(self.at + 1..)
    }

    /// All of it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl fmt::Display for Mailbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}
