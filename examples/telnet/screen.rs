//! What comes, as it is shown: on a terminal, nothing in it has a meaning to the terminal but line ends and tabs.

/// Makes text fit to be shown.
pub(crate) struct Screen {
    is_terminal: bool,
    /// The beginning of a character or a line end, whose rest is still to come.
    begun: Vec<u8>,
}

impl Screen {
    pub(crate) const fn new(is_terminal: bool) -> Self {
        Self { is_terminal, begun: Vec::new() }
    }

    /// The text to print for what has come.
    pub(crate) fn show(&mut self, text: Vec<u8>) -> Vec<u8> {
        if !self.is_terminal {
            return text;
        }
        let mut bytes = std::mem::take(&mut self.begun);
        bytes.extend(text);
        let mut shown = String::with_capacity(bytes.len());
        let mut left = &bytes[..];
        loop {
            let (valid, invalid, whole) = match std::str::from_utf8(left) {
                Ok(valid) => (valid.len(), 0, true),
                Err(error) => (error.valid_up_to(), error.error_len().unwrap_or(0), false),
            };
            let (valid, rest) = left.split_at(valid);
            let valid = String::from_utf8_lossy(valid);
            let held = whole && valid.ends_with('\r');
            show_text(valid.strip_suffix('\r').filter(|_| held).unwrap_or(&valid), &mut shown);
            if held {
                self.begun.push(b'\r');
            }
            let (invalid_bytes, rest) = rest.split_at(invalid);
            show_bytes(invalid_bytes, &mut shown);
            left = rest;
            if invalid == 0 {
                self.begun.extend(left);
                return shown.into_bytes();
            }
        }
    }

    /// What was held back at the end.
    pub(crate) fn finish(&mut self) -> Vec<u8> {
        let mut shown = String::new();
        match &std::mem::take(&mut self.begun)[..] {
            b"\r" => show_text("\r", &mut shown),
            begun => show_bytes(begun, &mut shown),
        }
        shown.into_bytes()
    }
}

fn show_text(text: &str, shown: &mut String) {
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            '\n' | '\t' => shown.push(character),
            '\r' if characters.peek() == Some(&'\n') => {}
            // As terminals themselves show what is typed: ^[ for escape, ^? for delete.
            '\0'..='\x1f' | '\x7f' => {
                shown.push('^');
                shown.push(char::from(character as u8 ^ 0x40));
            }
            // The second set of control characters, which some terminals obey.
            '\u{80}'..='\u{9f}' => show_bytes(&[character as u8], shown),
            _ => shown.push(character),
        }
    }
}

/// Bytes that are no text.
fn show_bytes(bytes: &[u8], shown: &mut String) {
    for byte in bytes {
        shown.push_str(&format!("\\x{byte:02x}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_comes_controls_a_terminal() {
        let text = "plain\r\n\ttab \x1b[2J\x07\x08\r\x7f grüße \u{9b}1m \u{20ac}";
        let input = [text.as_bytes(), b"\xc3( \x9b31m\xff", "ü\r".as_bytes()].concat();
        let expected = "plain\n\ttab ^[[2J^G^H^M^? grüße \\x9b1m \u{20ac}\\xc3( \\x9b31m\\xffü^M";
        for cut in 0..=input.len() {
            let mut screen = Screen::new(true);
            let mut shown = screen.show(input[..cut].to_vec());
            shown.extend(screen.show(input[cut..].to_vec()));
            shown.extend(screen.finish());
            assert_eq!(String::from_utf8(shown).unwrap(), expected, "cut at {cut}");
        }
    }

    #[test]
    fn what_goes_elsewhere_is_left_as_it_is() {
        let mut screen = Screen::new(false);
        assert_eq!(screen.show(b"\x1b\r\xff".to_vec()), b"\x1b\r\xff");
        assert_eq!(screen.finish(), b"");
    }
}
