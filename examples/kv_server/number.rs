//! Numbers as the protocol writes them.

/// Reads an integer, strictly: digits after at most a minus, no space, no plus, no leading zero.
pub(crate) fn parse(text: &[u8]) -> Option<i64> {
    let (digits, is_negative) = match text {
        b"0" => return Some(0),
        [b'-', digits @ ..] => (digits, true),
        digits => (digits, false),
    };
    if !matches!(digits.first(), Some(b'1'..=b'9')) {
        return None;
    }
    // Below zero, for there is one number more than above.
    let negative = digits.iter().try_fold(0_i64, |number, digit| {
        let digit = digit.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        number.checked_mul(10)?.checked_sub(digit.into())
    })?;
    if is_negative { Some(negative) } else { negative.checked_neg() }
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn a_number_is_read_as_it_would_be_written() {
        for number in [0, 1, -1, 10, 512, i64::MAX, i64::MIN, i64::MAX - 1, i64::MIN + 1] {
            assert_eq!(parse(number.to_string().as_bytes()), Some(number));
        }
    }

    #[test]
    fn what_would_be_written_otherwise_is_no_number() {
        for text in [
            "",
            "-",
            "+1",
            "01",
            "-0",
            "00",
            " 1",
            "1 ",
            "1a",
            "0x1",
            "1.0",
            "-01",
            "--1",
            "\u{661}",
            "9223372036854775808",
            "-9223372036854775809",
            "99999999999999999999",
        ] {
            assert_eq!(parse(text.as_bytes()), None, "{text:?}");
        }
    }
}
