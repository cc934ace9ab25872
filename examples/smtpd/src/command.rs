//! [`Command`]: a line of the client, taken apart (RFC 5321, section 4.1.1).

use crate::reply::Reply;

/// A verb and what follows it; both lie in the line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "a line has these two parts")]
pub struct Command<'a> {
    /// What is to be done; `None` if nobody here knows the word.
    pub verb: Option<Verb>,
    /// The first word, as it came.
    pub word: &'a str,
    /// What stands behind the first word, without the spaces around it.
    pub argument: &'a str,
}

/// What can be asked of this server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "each is the command of that name")]
#[non_exhaustive]
pub enum Verb {
    Auth,
    Bdat,
    Data,
    Ehlo,
    Expn,
    Helo,
    Help,
    Lhlo,
    Mail,
    Noop,
    Quit,
    Rcpt,
    Rset,
    StartTls,
    Vrfy,
}

impl<'a> Command<'a> {
    /// Takes a line apart that came without its CRLF.
    ///
    /// # Errors
    ///
    /// The reply, if it is no text, or has control characters in it.
    pub fn parse(line: &'a [u8]) -> Result<Self, Reply> {
        if line.iter().any(|byte| *byte < b' ' || *byte == DELETE) {
            return Err(CONTROL);
        }
        let line = str::from_utf8(line).map_err(|_| NO_TEXT)?;
        let (word, argument) = line.split_once(' ').unwrap_or((line, ""));
        Ok(Self { verb: Verb::of(word), word, argument: argument.trim_matches(' ') })
    }
}

/// Whether a line, or the start of one, is what another protocol begins with: HTTP, of a browser that a page has sent here.
///
/// Asked of the bytes, however long the line and whatever is in it: to let a request pass as a mere mistake is to obey what
/// its body says.
#[must_use]
pub fn is_foreign(line: &[u8]) -> bool {
    let methods: [&[u8]; 9] =
        [b"CONNECT", b"DELETE", b"GET", b"HEAD", b"OPTIONS", b"PATCH", b"POST", b"PUT", b"TRACE"];
    let word = line.split(|byte| *byte == b' ').next();
    word.is_some_and(|word| methods.contains(&word)) || line.starts_with(b"PRI * HTTP/2.0")
}

impl Verb {
    /// The verb of this name, in letters of either case.
    #[must_use]
    pub fn of(word: &str) -> Option<Self> {
        let word = word.as_bytes();
        if let Ok(four) = <[u8; 4]>::try_from(word) {
            return Some(match &four.map(|byte| byte.to_ascii_uppercase()) {
                b"AUTH" => Self::Auth,
                b"BDAT" => Self::Bdat,
                b"DATA" => Self::Data,
                b"EHLO" => Self::Ehlo,
                b"EXPN" => Self::Expn,
                b"HELO" => Self::Helo,
                b"HELP" => Self::Help,
                b"LHLO" => Self::Lhlo,
                b"MAIL" => Self::Mail,
                b"NOOP" => Self::Noop,
                b"QUIT" => Self::Quit,
                b"RCPT" => Self::Rcpt,
                b"RSET" => Self::Rset,
                b"VRFY" => Self::Vrfy,
                _ => return None,
            });
        }
        word.eq_ignore_ascii_case(b"STARTTLS").then_some(Self::StartTls)
    }

    /// How it is written.
    #[must_use]
    pub const fn syntax(self) -> &'static str {
        match self {
            Self::Auth => "AUTH mechanism [response]",
            Self::Bdat => "BDAT octets [LAST]",
            Self::Data => "DATA",
            Self::Ehlo => "EHLO hostname",
            Self::Expn => "EXPN list",
            Self::Helo => "HELO hostname",
            Self::Help => "HELP [command]",
            Self::Lhlo => "LHLO hostname",
            Self::Mail => "MAIL FROM:<address> [parameters]",
            Self::Noop => "NOOP",
            Self::Quit => "QUIT",
            Self::Rcpt => "RCPT TO:<address>",
            Self::Rset => "RSET",
            Self::StartTls => "STARTTLS",
            Self::Vrfy => "VRFY address",
        }
    }

    /// Most bytes of its line with CRLF, to a client that was told of the extensions (`is_extended`), with AUTH among them or
    /// not.
    #[must_use]
    pub const fn line_limit(self, is_extended: bool, has_auth: bool) -> usize {
        match self {
            Self::Auth => AUTH_LINE_LIMIT,
            Self::Mail if is_extended => {
                LINE_LIMIT
                    + SIZE_ADDS
                    + BODY_ADDS
                    + SMTPUTF8_ADDS
                    + if has_auth { AUTH_PARAMETER_ADDS } else { 0 }
            }
            Self::Rcpt if is_extended => LINE_LIMIT + SMTPUTF8_ADDS,
            _ => LINE_LIMIT,
        }
    }
}

/// What `BDAT` announces: so many octets, and whether they are the last of the message (RFC 3030).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "the command has these two parts")]
pub struct Chunk {
    /// How many octets follow the command.
    pub octets: u64,
    /// Whether the message ends with them.
    pub is_last: bool,
}

impl Chunk {
    /// Takes the argument of `BDAT` apart; `None` if it does not say how many octets follow.
    #[must_use]
    pub fn parse(argument: &str) -> Option<Self> {
        let (octets, rest) = argument.split_once(' ').unwrap_or((argument, ""));
        let is_last = rest.trim_start_matches(' ').eq_ignore_ascii_case("LAST");
        if !is_last && !rest.is_empty() {
            return None;
        }
        Some(Self { octets: number(octets)?, is_last })
    }
}

/// A number of digits alone; `None` if it is none, or greater than 64 bits hold.
fn number(digits: &str) -> Option<u64> {
    digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok())?
}

const CONTROL: Reply = Reply::fixed("500 5.5.2 Control characters in a command\r\n");
const NO_TEXT: Reply = Reply::fixed("500 5.5.2 A command is ASCII or UTF-8\r\n");

const DELETE: u8 = 0x7f;

/// Most bytes of a command line with CRLF: 512 (RFC 5321, section 4.5.3.1.4).
pub const LINE_LIMIT: usize = 512;

/// Most bytes of a line of AUTH, of an answer to a challenge too: 12,288 (RFC 4954, section 4). Nothing longer is kept of
/// any line.
pub const AUTH_LINE_LIMIT: usize = 12_288;

/// What SIZE adds to the line of MAIL (RFC 1870, section 3).
const SIZE_ADDS: usize = 26;

/// What 8BITMIME adds to the line of MAIL (RFC 6152, section 2).
const BODY_ADDS: usize = 17;

/// What SMTPUTF8 adds to the lines of MAIL and RCPT (RFC 6531, section 3.1).
const SMTPUTF8_ADDS: usize = 10;

/// What AUTH adds to the line of MAIL (RFC 4954, section 3).
const AUTH_PARAMETER_ADDS: usize = 500;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_a_verb_and_an_argument() {
        for (line, verb, argument) in [
            ("QUIT", Some(Verb::Quit), ""),
            ("quit  ", Some(Verb::Quit), ""),
            ("Mail FROM:<a b> C=1 ", Some(Verb::Mail), "FROM:<a b> C=1"),
            ("EHLO  host", Some(Verb::Ehlo), "host"),
            ("starttls", Some(Verb::StartTls), ""),
            ("STARTTL", None, ""),
            ("NOOPE", None, ""),
            ("", None, ""),
            (" QUIT", None, "QUIT"),
        ] {
            let command = Command::parse(line.as_bytes()).unwrap();
            assert_eq!((command.verb, command.argument), (verb, argument), "{line:?}");
        }
    }

    #[test]
    fn control_characters_and_what_is_no_text_are_refused() {
        for line in
            [&b"NOOP \0"[..], b"EHLO a\rRSET", b"NOOP\t", b"\x1b", b"NOOP \x7f", b"NOOP \xff", b"\xc3"]
        {
            assert_eq!(Command::parse(line).unwrap_err().code(), 500, "{}", line.escape_ascii());
        }
        assert!(Command::parse("VRFY jörg".as_bytes()).is_ok());
    }

    #[test]
    fn other_protocols_are_recognized_by_their_first_line() {
        for line in ["GET / HTTP/1.1", "POST / HTTP/1.1", "OPTIONS * HTTP/1.1", "PRI * HTTP/2.0"] {
            assert!(is_foreign(line.as_bytes()), "{line}");
        }
        for line in ["get", "HELP", "PRI", "DATA"] {
            assert!(!is_foreign(line.as_bytes()), "{line}");
        }
    }

    #[test]
    fn limits_of_lines_grow_by_what_was_announced() {
        assert_eq!(Verb::Mail.line_limit(false, true), 512);
        assert_eq!(Verb::Mail.line_limit(true, false), 512 + 26 + 17 + 10);
        assert_eq!(Verb::Mail.line_limit(true, true), 512 + 26 + 17 + 10 + 500);
        assert_eq!(Verb::Rcpt.line_limit(true, true), 522);
        assert_eq!(Verb::Ehlo.line_limit(true, true), 512);
        assert_eq!(Verb::Auth.line_limit(true, true), 12_288);
    }

    #[test]
    fn a_chunk_says_how_long_it_is() {
        let chunk = |octets, is_last| Some(Chunk { octets, is_last });
        assert_eq!(Chunk::parse("0"), chunk(0, false));
        assert_eq!(Chunk::parse("86 LAST"), chunk(86, true));
        assert_eq!(Chunk::parse("086  last"), chunk(86, true));
        assert_eq!(Chunk::parse("18446744073709551615"), chunk(u64::MAX, false));
        for argument in ["", "LAST", "-1", "+1", "1 LAST x", "1 LASTX", "18446744073709551616", "0x10", "1.0"]
        {
            assert_eq!(Chunk::parse(argument), None, "{argument:?}");
        }
    }
}
