//! The telnet protocol, as far as a client has to know it that wants none of it (RFC 854).

/// What the server sends, read: text, and commands among it.
#[derive(Default)]
pub(crate) struct Telnet {
    state: State,
}

/// What the next byte belongs to.
#[derive(Clone, Copy, Default)]
enum State {
    #[default]
    Text,
    /// To a carriage return, whose zero is no text.
    Return,
    Command,
    /// To the command that proposes, demands or refuses an option.
    Option(u8),
    /// To the parameters of an option, which are passed over.
    Parameters,
    /// To a command within those.
    End,
}

impl Telnet {
    /// The text in what has come, and what to answer: no, to every option.
    pub(crate) fn take(&mut self, input: &[u8]) -> (Vec<u8>, Vec<u8>) {
        let mut text = Vec::with_capacity(input.len());
        let mut answer = Vec::new();
        for &byte in input {
            self.state = match (self.state, byte) {
                (State::Text | State::Return, IAC) => State::Command,
                (State::Return, 0) | (State::End, SE) => State::Text,
                (State::Text | State::Return, _) => {
                    text.push(byte);
                    if byte == b'\r' { State::Return } else { State::Text }
                }
                (State::Command, IAC) => {
                    text.push(IAC);
                    State::Text
                }
                (State::Command, WILL..=DONT) => State::Option(byte),
                (State::Command, SB) => State::Parameters,
                (State::Command, _) => State::Text,
                (State::Option(command), option) => {
                    // What is not done already needs no answer, or two programs would refuse for ever.
                    match command {
                        WILL => answer.extend([IAC, DONT, option]),
                        DO => answer.extend([IAC, WONT, option]),
                        _ => {}
                    }
                    State::Text
                }
                (State::Parameters, IAC) => State::End,
                (State::Parameters | State::End, _) => State::Parameters,
            };
        }
        (text, answer)
    }
}

/// What is typed, written: each line ends with CR LF, whichever of the two it had.
#[derive(Default)]
pub(crate) struct Lines {
    after_return: bool,
}

impl Lines {
    pub(crate) fn encode(&mut self, typed: &[u8]) -> Vec<u8> {
        let mut sent = Vec::with_capacity(typed.len() + 16);
        for &byte in typed {
            let after_return = std::mem::replace(&mut self.after_return, byte == b'\r');
            match byte {
                b'\n' if after_return => sent.push(b'\n'),
                _ => {
                    if after_return {
                        // A return that ends no line: RFC 854, "The NVT printer and keyboard".
                        sent.push(0);
                    }
                    match byte {
                        b'\n' => sent.extend(b"\r\n"),
                        IAC => sent.extend([IAC, IAC]),
                        _ => sent.push(byte),
                    }
                }
            }
        }
        sent
    }

    /// What is missing at the end of the input.
    pub(crate) fn finish(&mut self) -> &'static [u8] {
        if std::mem::take(&mut self.after_return) { &[0] } else { &[] }
    }
}

const SE: u8 = 240;
const SB: u8 = 250;
const WILL: u8 = 251;
const WONT: u8 = 252;
const DO: u8 = 253;
const DONT: u8 = 254;
const IAC: u8 = 255;

#[cfg(test)]
mod tests {
    use super::*;

    fn at_every_cut(input: &[u8], expected: &[u8], answered: &[u8]) {
        for cut in 0..=input.len() {
            let mut telnet = Telnet::default();
            let (mut text, mut answer) = telnet.take(&input[..cut]);
            let (more, other) = telnet.take(&input[cut..]);
            text.extend(more);
            answer.extend(other);
            assert_eq!(text.escape_ascii().to_string(), expected.escape_ascii().to_string(), "cut at {cut}");
            assert_eq!(answer, answered, "cut at {cut}");
        }
    }

    #[test]
    fn every_option_is_refused_and_no_refusal_is_answered() {
        let input = [b"a".as_slice(), &[IAC, DO, 1, IAC, WILL, 3, IAC, DONT, 5, IAC, WONT, 6], b"b"].concat();
        at_every_cut(&input, b"ab", &[IAC, WONT, 1, IAC, DONT, 3]);
    }

    #[test]
    fn commands_are_no_text() {
        let parameters = [IAC, SB, 24, 1, IAC, IAC, 7, IAC, SE];
        let input = [b"a".as_slice(), &parameters, b"b\r\0c\r\n", &[IAC, 241, IAC, IAC], b"d"].concat();
        at_every_cut(&input, b"ab\rc\r\n\xffd", b"");
    }

    #[test]
    fn each_line_is_sent_with_both_its_ends() {
        let typed = b"a\nb\r\nc\rd\xff\r";
        for cut in 0..=typed.len() {
            let mut lines = Lines::default();
            let mut sent = lines.encode(&typed[..cut]);
            sent.extend(lines.encode(&typed[cut..]));
            sent.extend(lines.finish());
            assert_eq!(sent, b"a\r\nb\r\nc\r\0d\xff\xff\r\0", "cut at {cut}");
        }
    }
}
