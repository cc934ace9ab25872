//! Commands as a person types them: words between spaces, quoted where they hold any.

use super::arguments::Request;

/// A quote that is not closed, or closed in the middle of a word.
#[derive(Debug, PartialEq)]
pub(crate) struct Unbalanced;

/// Splits a line into the arguments of a request, the last of which is left open: whether there is any.
///
/// Between double quotes `\n`, `\r`, `\t`, `\b`, `\a` and `\xHH` are what C makes of them, and a backslash before
/// another byte is that byte. Between single quotes only `\'` is special. A zero byte ends the line.
pub(crate) fn split(line: &[u8], request: &mut Request) -> Result<bool, Unbalanced> {
    let length = line.iter().position(|byte| *byte == 0).unwrap_or(line.len());
    let mut rest = skip_spaces(&line[..length]);
    let is_empty = rest.is_empty();
    while !rest.is_empty() {
        rest = skip_spaces(take_word(rest, request)?);
        if !rest.is_empty() {
            request.end();
        }
    }
    Ok(!is_empty)
}

/// Takes a word off: what is behind it. A quote may begin within a word, and ends it.
fn take_word<'a>(rest: &'a [u8], request: &mut Request) -> Result<&'a [u8], Unbalanced> {
    let ends_plain = |byte: &u8| matches!(byte, b' ' | b'\t' | b'\n' | b'\r' | b'"' | b'\'');
    let (plain, rest) = rest.split_at(rest.iter().position(ends_plain).unwrap_or(rest.len()));
    request.extend(plain);
    let [quote @ (b'"' | b'\''), rest @ ..] = rest else { return Ok(rest) };
    let rest = take_quoted(*quote, rest, request)?;
    if rest.first().is_none_or(|byte| is_space(*byte)) { Ok(rest) } else { Err(Unbalanced) }
}

/// Takes off what is left of a quotation: what is behind it.
fn take_quoted<'a>(quote: u8, mut rest: &'a [u8], request: &mut Request) -> Result<&'a [u8], Unbalanced> {
    loop {
        let (byte, after) = match (quote, rest) {
            (b'"', [b'\\', b'x', high, low, after @ ..])
                if let (Some(high), Some(low)) = (hex(*high), hex(*low)) =>
            {
                (high << 4 | low, after)
            }
            (b'"', [b'\\', byte, after @ ..]) => (escaped(*byte), after),
            (b'\'', [b'\\', b'\'', after @ ..]) => (b'\'', after),
            (_, [byte, after @ ..]) if *byte == quote => return Ok(after),
            (_, [byte, after @ ..]) => (*byte, after),
            (_, []) => return Err(Unbalanced),
        };
        request.extend(&[byte]);
        rest = after;
    }
}

const fn escaped(byte: u8) -> u8 {
    match byte {
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        b'b' => 8,
        b'a' => 7,
        byte => byte,
    }
}

fn hex(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

fn skip_spaces(text: &[u8]) -> &[u8] {
    &text[text.iter().take_while(|byte| is_space(**byte)).count()..]
}

/// As C's `isspace`.
const fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t'..=b'\r')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Result<Vec<String>, Unbalanced> {
        let mut request = Request::default();
        let has_words = split(line.as_bytes(), &mut request)?;
        let words = request.complete().from(0).map(|word| word.escape_ascii().to_string());
        Ok(if has_words { words.collect() } else { Vec::new() })
    }

    #[test]
    fn words_stand_between_spaces() {
        for (line, expected) in [
            ("", &[][..]),
            (" \t ", &[]),
            ("PING", &["PING"]),
            ("  set  key\tvalue ", &["set", "key", "value"]),
            ("a\u{b}b \u{b}c", &["a\\x0bb", "c"]),
            ("a b\0c d", &["a", "b"]),
        ] {
            assert_eq!(words(line).unwrap(), expected, "{line:?}");
        }
    }

    #[test]
    fn quotes_hold_what_would_end_a_word() {
        for (line, expected) in [
            (r#"set k "a b""#, &["set", "k", "a b"][..]),
            (r#""" '' x"#, &["", "", "x"]),
            (r#"pre"a b""#, &["prea b"]),
            (r#""\x41\x6a\xFf\x4""#, &["Aj\\xffx4"]),
            (r#""\n\r\t\b\a\\\"\q""#, &["\\n\\r\\t\\x08\\x07\\\\\\\"q"]),
            (r"'a\'b\n'", &["a\\'b\\\\n"]),
        ] {
            assert_eq!(words(line).unwrap(), expected, "{line:?}");
        }
    }

    #[test]
    fn a_quote_is_closed_at_the_end_of_a_word() {
        for line in [r#"""#, r#"a "b"#, r#""a"b"#, "'a", "'a'b", r#""a\""#, r"'a\'", r#""a"'b'"#] {
            assert_eq!(words(line), Err(Unbalanced), "{line:?}");
        }
    }
}
