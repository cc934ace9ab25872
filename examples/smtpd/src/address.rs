//! [`Mailbox`]: whom a message is from, and for (RFC 5321, section 4.1.2; RFC 6531).

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};

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
    /// A mailbox as it stands between `<` and `>`, or `None` if it is none.
    ///
    /// Letters beyond ASCII are allowed; whether they may be there is said by [`is_ascii`](Self::is_ascii). Dots may stand
    /// anywhere in the local part: there are providers whose addresses have two in a row.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        if text.len() > PATH_LIMIT - "<>".len() {
            return None;
        }
        let at = local_part(text)?;
        match text.get(at..)?.strip_prefix('@') {
            Some(domain) if is_domain(domain) => {}
            None if text.eq_ignore_ascii_case("postmaster") => {}
            _ => return None,
        }
        Some(Self { text: text.to_owned(), at })
    }

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

    /// Whether it needs no SMTPUTF8.
    #[must_use]
    pub fn is_ascii(&self) -> bool {
        self.text.is_ascii()
    }
}

impl fmt::Display for Mailbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Takes a path off the front of an argument: what stands in `<` and `>`, or, from clients that leave these out, the first
/// word. What follows is left in `argument`; `None` if there is no path.
///
/// ```
/// let mut argument = r#"<"a> b"@example.org> SIZE=10"#;
/// assert_eq!(smtpd::address::take_path(&mut argument), Some(r#""a> b"@example.org"#));
/// assert_eq!(argument, " SIZE=10");
/// ```
pub fn take_path<'a>(argument: &mut &'a str) -> Option<&'a str> {
    let text = argument.trim_start_matches(' ');
    let (text, end) = match text.strip_prefix('<') {
        Some(text) => (text, Some(b'>')),
        None => (text, None),
    };
    let (mut is_quoted, mut is_escaped) = (false, false);
    let length = text.bytes().position(|byte| {
        let ends = !is_quoted && end.map_or(byte == b' ', |end| byte == end);
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' => is_escaped = is_quoted,
            b'"' => is_quoted = !is_quoted,
            _ => {}
        }
        ends
    });
    let length = match (length, end) {
        (Some(length), _) => length,
        (None, None) if !text.is_empty() => text.len(),
        (None, _) => return None,
    };
    let (path, rest) = text.split_at(length);
    *argument = if end.is_some() { &rest[1..] } else { rest };
    Some(without_route(path))
}

/// Drops a source route, which is to be accepted and ignored (RFC 5321, appendix C): `@one,@two:user@example.org`.
fn without_route(path: &str) -> &str {
    match path.strip_prefix('@').and_then(|route| route.split_once(':')) {
        Some((route, mailbox)) if route.split(",@").all(is_domain) => mailbox,
        _ => path,
    }
}

/// The length of the local part at the front of `text`, a dot-string or a quoted string.
fn local_part(text: &str) -> Option<usize> {
    let Some(quoted) = text.strip_prefix('"') else {
        let length = text.find(|char| !is_atom(char) && char != '.').unwrap_or(text.len());
        return (length > 0).then_some(length);
    };
    let mut is_escaped = false;
    for (at, char) in quoted.char_indices() {
        match char {
            _ if char.is_control() => return None,
            _ if is_escaped => is_escaped = false,
            '\\' => is_escaped = true,
            // Both quotes.
            '"' => return Some(at + 2),
            _ => {}
        }
    }
    None
}

/// Whether it is a domain, or an address in brackets (RFC 5321, section 4.1.3).
///
/// An underscore is a letter here, as in the names of many machines.
#[must_use]
pub fn is_domain(text: &str) -> bool {
    if let Some(literal) = text.strip_prefix('[') {
        let Some(literal) = literal.strip_suffix(']') else { return false };
        return match literal.get(..IPV6.len()) {
            Some(tag) if tag.eq_ignore_ascii_case(IPV6) => literal[IPV6.len()..].parse::<Ipv6Addr>().is_ok(),
            _ => literal.parse::<Ipv4Addr>().is_ok(),
        };
    }
    text.len() <= DOMAIN_LIMIT && text.split('.').all(is_label)
}

fn is_label(label: &str) -> bool {
    let is_letter = |char: char| match char {
        '-' | '_' => true,
        _ => char.is_ascii_alphanumeric() || is_beyond_ascii(char),
    };
    (1..=LABEL_LIMIT).contains(&label.chars().count())
        && !label.starts_with('-')
        && !label.ends_with('-')
        && label.chars().all(is_letter)
}

fn is_atom(char: char) -> bool {
    char.is_ascii_alphanumeric() || "!#$%&'*+-/=?^_`{|}~".contains(char) || is_beyond_ascii(char)
}

fn is_beyond_ascii(char: char) -> bool {
    !char.is_ascii() && !char.is_control() && !char.is_whitespace()
}

/// Most bytes of a path with its `<` and `>`: 256 (RFC 5321, section 4.5.3.1.3). The local part has no limit of its own:
/// those that encode another address run over 64 bytes.
const PATH_LIMIT: usize = 256;

/// Most bytes of a domain: 255 (RFC 5321, section 4.5.3.1.2).
const DOMAIN_LIMIT: usize = 255;

/// Most characters of a label: 63, as the DNS has it. One beyond ASCII has no fewer characters there, but often fewer bytes
/// than here.
const LABEL_LIMIT: usize = 63;

/// In front of an IPv6 address in brackets.
const IPV6: &str = "IPv6:";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_a_mailbox_is_one_and_stays_as_it_came() {
        for (text, local, domain) in [
            ("user@example.org", "user", Some("example.org")),
            ("Postmaster", "Postmaster", None),
            ("postmaster@example.org", "postmaster", Some("example.org")),
            (r#""a b"@example.org"#, r#""a b""#, Some("example.org")),
            (r#""a\"@b"@example.org"#, r#""a\"@b""#, Some("example.org")),
            ("a..b.@example.org", "a..b.", Some("example.org")),
            ("!#$%&'*+-/=?^_`{|}~@a", "!#$%&'*+-/=?^_`{|}~", Some("a")),
            ("user@[192.0.2.1]", "user", Some("[192.0.2.1]")),
            ("user@[IPv6:2001:db8::1]", "user", Some("[IPv6:2001:db8::1]")),
            ("jörg@exämple.org", "jörg", Some("exämple.org")),
            ("user@my_host", "user", Some("my_host")),
        ] {
            let mailbox = Mailbox::parse(text).unwrap_or_else(|| panic!("{text}"));
            assert_eq!((mailbox.as_str(), mailbox.local_part(), mailbox.domain()), (text, local, domain));
        }
    }

    #[test]
    fn what_is_no_mailbox_is_refused() {
        for text in [
            "",
            "user",
            "@example.org",
            "user@",
            "user@-a.org",
            "user@a-.org",
            "user@a..org",
            "user@a.org.",
            "user@[192.0.2]",
            "user@[192.0.2.1",
            "user@[IPv6:192.0.2.1]",
            "user@[é]",
            "us er@example.org",
            "user@exam ple.org",
            "user@example.org>",
            "user@a@b",
            "us<er@a",
            r#""user@example.org"#,
            r#""user"x@example.org"#,
            "\"a\nb\"@example.org",
            "\"a\0b\"@example.org",
            "a\u{85}b@example.org",
            "a\u{2028}b@example.org",
            "user@a/../b",
        ] {
            assert_eq!(Mailbox::parse(text), None, "{text:?}");
        }
        for letter in ["a", "д"] {
            assert!(Mailbox::parse(&format!("user@{}", letter.repeat(63))).is_some());
            assert_eq!(Mailbox::parse(&format!("user@{}", letter.repeat(64))), None);
        }
        let domain = ["a".repeat(63), "b".repeat(63), "c".repeat(63)].join(".");
        assert!(Mailbox::parse(&format!("{}@{domain}", "u".repeat(62))).is_some(), "254 bytes");
        assert_eq!(Mailbox::parse(&format!("{}@{domain}", "u".repeat(63))), None, "255 bytes");
    }

    #[test]
    fn a_path_ends_at_its_chevron_or_with_the_word() {
        for (argument, path, rest) in [
            ("<a@b>", Some("a@b"), ""),
            ("  <a@b> SIZE=1", Some("a@b"), " SIZE=1"),
            ("<>", Some(""), ""),
            ("<> BODY=7BIT", Some(""), " BODY=7BIT"),
            ("a@b SIZE=1", Some("a@b"), " SIZE=1"),
            (r#""a b"@c SIZE=1"#, Some(r#""a b"@c"#), " SIZE=1"),
            (r#"<"a>\" b"@c>x"#, Some(r#""a>\" b"@c"#), "x"),
            ("<@one,@two:a@b>", Some("a@b"), ""),
            ("<@one,two:a@b>", Some("@one,two:a@b"), ""),
            ("", None, ""),
            ("  ", None, "  "),
            ("<a@b", None, "<a@b"),
            (r#"<"a@b>"#, None, r#"<"a@b>"#),
        ] {
            let mut argument = argument;
            assert_eq!(take_path(&mut argument), path);
            assert_eq!(argument, rest);
        }
    }
}
