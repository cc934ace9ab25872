//! [`Features`]: what the next server says it can, in its answer to `EHLO` (RFC 5321, section 4.1.1.1).

use super::answer::Answer;

/// The extensions that matter to a relay.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Features {
    /// Commands may be sent before their answers (RFC 2920).
    pub(crate) pipelining: bool,
    /// Bytes above 127 are taken (RFC 6152).
    pub(crate) eight_bit: bool,
    /// Addresses and headers may be UTF-8 (RFC 6531).
    pub(crate) utf8: bool,
    /// `STARTTLS` (RFC 3207).
    pub(crate) starttls: bool,
    /// A size may be declared (RFC 1870); the number is the most bytes of a message, 0 if that is not said.
    pub(crate) size: Option<u64>,
    /// `AUTH PLAIN` (RFC 4954).
    pub(crate) plain: bool,
    /// `AUTH LOGIN`, which some servers have alone.
    pub(crate) login: bool,
}

impl Features {
    /// What an answer to `EHLO` says: behind the greeting, a line for each extension.
    pub(crate) fn of(answer: &Answer) -> Self {
        let mut features = Self::default();
        for line in answer.lines().skip(1) {
            // `AUTH=` is how it was written before there was a standard.
            let mut words = line.split([' ', '=']).filter(|word| !word.is_empty());
            let Some(keyword) = words.next() else { continue };
            match &*keyword.to_ascii_uppercase() {
                "PIPELINING" => features.pipelining = true,
                "8BITMIME" => features.eight_bit = true,
                "SMTPUTF8" => features.utf8 = true,
                "STARTTLS" => features.starttls = true,
                // A number that cannot be read is none.
                "SIZE" => features.size = Some(words.next().and_then(|size| size.parse().ok()).unwrap_or(0)),
                "AUTH" => words.for_each(|mechanism| {
                    features.plain |= mechanism.eq_ignore_ascii_case("PLAIN");
                    features.login |= mechanism.eq_ignore_ascii_case("LOGIN");
                }),
                _ => {}
            }
        }
        features
    }
}

#[cfg(test)]
mod tests {
    use super::super::answer::AnswerReader;
    use super::*;

    fn features(lines: &[&str]) -> Features {
        let mut reader = AnswerReader::default();
        for (at, line) in lines.iter().enumerate() {
            let separator = if at + 1 == lines.len() { ' ' } else { '-' };
            if let Some(answer) = reader.take(format!("250{separator}{line}").as_bytes()).unwrap() {
                return Features::of(&answer);
            }
        }
        panic!("the last line ends the answer")
    }

    #[test]
    fn extensions_are_known_however_they_are_written() {
        let all = Features {
            pipelining: true,
            eight_bit: true,
            utf8: true,
            starttls: true,
            size: Some(1000),
            plain: true,
            login: true,
        };
        let lines = ["mx", "Pipelining", "8BITMIME", "SMTPUTF8", "starttls", "SIZE 1000", "AUTH LOGIN plain"];
        assert_eq!(features(&lines), all);
        assert_eq!(features(&["mx", "AUTH=LOGIN"]), Features { login: true, ..Features::default() });
    }

    #[test]
    fn the_greeting_is_no_extension() {
        assert_eq!(features(&["STARTTLS"]), Features::default());
        assert_eq!(features(&["PIPELINING", "HELP", "", "X-STARTTLS"]), Features::default());
    }

    #[test]
    fn a_size_without_a_number_is_no_bound() {
        for line in ["SIZE", "SIZE 0", "SIZE x", "SIZE 99999999999999999999999"] {
            assert_eq!(features(&["mx", line]).size, Some(0), "{line}");
        }
    }
}
