//! [`Answer`]: a reply of the next server (RFC 5321, section 4.2), and what of it is passed on.

use std::fmt;

use crate::reply::{LINES_PASSED_ON, Reply};

/// A code and its lines of text, printable ASCII all of it: what is not came as `?`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    code: u16,
    lines: Vec<String>,
}

/// An answer that comes line by line.
#[derive(Debug, Default)]
pub struct AnswerReader {
    begun: Option<Answer>,
}

impl AnswerReader {
    /// Takes a line without its end: the answer, if that was its last.
    ///
    /// # Errors
    ///
    /// If no answer goes on, or begins, like this, or it has too many lines.
    pub fn take(&mut self, line: &[u8]) -> Result<Option<Answer>, NoAnswer> {
        let (code, is_last, text) = split(line).ok_or_else(|| NoAnswer::Line(printable(line)))?;
        let mut answer = self.begun.take().unwrap_or(Answer { code, lines: Vec::new() });
        if answer.code != code {
            return Err(NoAnswer::Line(printable(line)));
        }
        answer.lines.push(printable(text));
        if is_last {
            return Ok(Some(answer));
        }
        if answer.lines.len() >= ANSWER_LINES {
            return Err(NoAnswer::TooManyLines);
        }
        self.begun = Some(answer);
        Ok(None)
    }
}

impl Answer {
    /// The three digits.
    #[must_use]
    pub const fn code(&self) -> u16 {
        self.code
    }

    /// Whether the command was obeyed.
    #[must_use]
    pub const fn is_ok(&self) -> bool {
        self.code / 100 == 2
    }

    /// The lines, without the code.
    pub fn lines(&self) -> impl Iterator<Item = &str> {
        self.lines.iter().map(String::as_str)
    }

    /// What `host` has answered, as the reply to this server's client: the same code, enhanced code and text. `about` says
    /// what was answered, a recipient for one.
    ///
    /// What the client cannot mend, or would take for this server's own state, is a temporary error: 421, which would have
    /// it hang up, and the demand for another login.
    #[must_use]
    pub fn pass_on(&self, host: &str, about: &str) -> Reply {
        let (code, default) = match self.code {
            421 => (451, "4.3.2"),
            530 | 534 | 535 | 538 => (451, "4.7.0"),
            200..=299 => (self.code, "2.0.0"),
            400..=499 => (self.code, "4.0.0"),
            500..=599 => (self.code, "5.0.0"),
            _ => (451, "4.5.0"),
        };
        let enhanced = self.lines.first().and_then(|line| enhanced_code(line));
        let enhanced = enhanced.filter(|found| found.as_bytes().first() == default.as_bytes().first());
        let said = self.lines.iter().take(LINES_PASSED_ON).map(|line| {
            let rest = enhanced_code(line).map_or(line.as_str(), |found| &line[found.len()..]);
            rest.trim()
        });
        let lines = said.enumerate().map(|(at, line)| match at {
            0 => format!("{about}{}{host} said: {line}", if about.is_empty() { "" } else { ": " }),
            _ => line.to_owned(),
        });
        Reply::lines(code, enhanced.unwrap_or(default), lines)
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.code)?;
        self.lines.iter().filter(|line| !line.is_empty()).try_for_each(|line| write!(f, " {line}"))
    }
}

/// Why what came is no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "these are all")]
pub enum NoAnswer {
    /// It has no code, or another one than the lines before.
    Line(String),
    /// It does not end.
    TooManyLines,
}

impl fmt::Display for NoAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Line(line) => write!(f, "{:?} is no answer", line.chars().take(80).collect::<String>()),
            Self::TooManyLines => write!(f, "an answer of more than {ANSWER_LINES} lines"),
        }
    }
}

impl std::error::Error for NoAnswer {}

/// The code of a line, whether it is an answer's last, and its text.
fn split(line: &[u8]) -> Option<(u16, bool, &[u8])> {
    let (code, rest) = line.split_first_chunk::<3>()?;
    let is_code = matches!(code[0], b'2'..=b'5') && code.iter().all(u8::is_ascii_digit);
    let code = code.iter().fold(0, |code, digit| code * 10 + u16::from(digit.wrapping_sub(b'0')));
    let (is_last, text) = match rest.split_first() {
        None => (true, rest),
        Some((b' ', text)) => (true, text),
        Some((b'-', text)) => (false, text),
        Some(_) => return None,
    };
    is_code.then_some((code, is_last, text))
}

/// The enhanced code (RFC 3463) that a line begins with: `5.1.1`.
fn enhanced_code(line: &str) -> Option<&str> {
    let word = line.split(' ').next()?;
    let mut parts = word.split('.');
    let class = parts.next().is_some_and(|class| matches!(class, "2" | "4" | "5"));
    let mut number = || {
        parts.next().is_some_and(|part| {
            (1..=3).contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_digit())
        })
    };
    let is_code = class && number() && number() && parts.next().is_none();
    is_code.then_some(word)
}

/// Text that goes into a log and a reply: a client that has not asked for SMTPUTF8 is told ASCII alone.
fn printable(text: &[u8]) -> String {
    text.iter().map(|byte| if matches!(byte, b' '..=b'~') { char::from(*byte) } else { '?' }).collect()
}

/// Longest line of an answer without its end: 4,096 bytes. RFC 5321 (section 4.5.3.1.5) has 512 with the end, and some
/// servers explain a refusal at more length than that.
pub(crate) const ANSWER_LINE: usize = 4_096;

/// Most lines of an answer: 100. An `EHLO` of the richest servers has 20.
const ANSWER_LINES: usize = 100;

#[cfg(test)]
mod tests {
    use asynchat::{Split, Splitter, Terminator};
    use proptest::prelude::*;

    use super::*;

    fn read(lines: &[&str]) -> Result<Option<Answer>, NoAnswer> {
        let mut reader = AnswerReader::default();
        let mut last = None;
        for line in lines {
            assert_eq!(last, None, "{lines:?}");
            last = reader.take(line.as_bytes())?;
        }
        Ok(last)
    }

    fn answer(lines: &[&str]) -> Answer {
        read(lines).unwrap().unwrap()
    }

    #[test]
    fn an_answer_has_one_line_or_several() {
        for (lines, code, text) in [
            (&["250 OK"][..], 250, &["OK"][..]),
            (&["250"], 250, &[""]),
            (&["354 "], 354, &[""]),
            (
                &["250-mx.example", "250-SIZE 10", "250 PIPELINING"],
                250,
                &["mx.example", "SIZE 10", "PIPELINING"],
            ),
            (&["550-", "550"], 550, &["", ""]),
        ] {
            let answer = answer(lines);
            assert_eq!(
                (answer.code(), answer.lines().collect::<Vec<_>>()),
                (code, text.to_vec()),
                "{lines:?}"
            );
        }
        assert_eq!(read(&["250-mx.example"]), Ok(None));
    }

    #[test]
    fn what_is_no_answer_is_refused() {
        for lines in [
            &[""][..],
            &["25"],
            &["25x OK"],
            &["150 OK"],
            &["650 OK"],
            &["2500 OK"],
            &["250_OK"],
            &["250-a", "251 b"],
            &["250-a", "b"],
            &["HTTP/1.1 200 OK"],
        ] {
            assert!(read(lines).is_err(), "{lines:?}");
        }
        let mut reader = AnswerReader::default();
        for _ in 1..ANSWER_LINES {
            assert_eq!(reader.take(b"250-x"), Ok(None));
        }
        assert_eq!(reader.take(b"250-x"), Err(NoAnswer::TooManyLines));
    }

    #[test]
    fn a_refusal_is_passed_on_with_its_codes_and_what_it_is_about() {
        for (lines, wire) in [
            (&["550 5.1.1 no such user"][..], "550 5.1.1 <a@b>: mx said: no such user\r\n"),
            (&["550 no such user"], "550 5.0.0 <a@b>: mx said: no such user\r\n"),
            (&["450 4.2.1 busy"], "450 4.2.1 <a@b>: mx said: busy\r\n"),
            (
                &["554-5.7.1 spam", "554 5.7.1 see http://x"],
                "554-5.7.1 <a@b>: mx said: spam\r\n554 5.7.1 see http://x\r\n",
            ),
            (&["550 4.1.1 which?"], "550 5.0.0 <a@b>: mx said: which?\r\n"),
            (&["550 5.1.1234 x"], "550 5.0.0 <a@b>: mx said: 5.1.1234 x\r\n"),
            (&["421 4.7.0 go away"], "451 4.7.0 <a@b>: mx said: go away\r\n"),
            (&["421 bye"], "451 4.3.2 <a@b>: mx said: bye\r\n"),
            (&["530 5.7.0 who are you"], "451 4.7.0 <a@b>: mx said: who are you\r\n"),
            (&["354 go on"], "451 4.5.0 <a@b>: mx said: go on\r\n"),
        ] {
            assert_eq!(answer(lines).pass_on("mx", "<a@b>").wire(), wire, "{lines:?}");
        }
    }

    #[test]
    fn no_text_of_the_next_server_adds_a_line() {
        let mut reader = AnswerReader::default();
        let answer = reader.take(b"550 5.1.1 x\n250 2.0.0 y\rz\0\xff").unwrap().unwrap();
        assert_eq!(answer.pass_on("mx", "").wire(), "550 5.1.1 mx said: x?250 2.0.0 y?z??\r\n");
    }

    /// The answers in what came in these pieces, up to the first that is none.
    fn answers(pieces: &[&[u8]]) -> Vec<Result<Answer, NoAnswer>> {
        let mut splitter = Splitter::new(Terminator::crlf());
        let mut reader = AnswerReader::default();
        let (mut line, mut all) = (Vec::new(), Vec::new());
        for mut piece in pieces.iter().copied() {
            while let Some(split) = splitter.split(&mut piece) {
                let Split::Data { piece, end } = split else { panic!("a line has no limit here") };
                line.extend_from_slice(&piece);
                if end {
                    match reader.take(&std::mem::take(&mut line)) {
                        Ok(answer) => all.extend(answer.map(Ok)),
                        Err(error) => {
                            all.push(Err(error));
                            return all;
                        }
                    }
                }
            }
        }
        all
    }

    proptest! {
        #[test]
        fn every_cut_reads_the_same_answers(
            lines in prop::collection::vec("(250|550|25)[- ]?[a-z]{0,3}", 0..8),
            cuts in prop::collection::vec(0_usize..60, 0..8),
        ) {
            let wire = lines.iter().map(|line| format!("{line}\r\n")).collect::<String>();
            let mut pieces = Vec::new();
            let mut rest = wire.as_bytes();
            for cut in cuts {
                let (piece, after) = rest.split_at(cut % (rest.len() + 1));
                pieces.push(piece);
                rest = after;
            }
            pieces.push(rest);
            prop_assert_eq!(answers(&pieces), answers(&[wire.as_bytes()]));
        }

        #[test]
        fn whatever_comes_is_an_answer_or_none_and_its_reply_is_well_formed(line in prop::collection::vec(any::<u8>(), 0..700)) {
            let mut reader = AnswerReader::default();
            if let Ok(Some(answer)) = reader.take(&line) {
                let wire = answer.pass_on("mx", "").wire();
                prop_assert!(wire.ends_with(b"\r\n") && wire.len() <= 512);
                prop_assert_eq!(wire.iter().filter(|byte| byte.is_ascii_control()).count(), 2);
            }
        }
    }
}
