//! The chunked coding (RFC 9112 section 7.1): each step says what comes next.

use super::Failure;

/// A chunked body that is being read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Chunks {
    next: Part,
    /// Bytes of chunk extensions and trailers so far, which are of no use.
    overhead: usize,
}

/// A part of a chunked body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// The line that says how many bytes the chunk has.
    Size,
    /// As many bytes of the body.
    Data(u64),
    /// The line end behind them.
    End,
    /// A line of the trailer.
    Trailer,
}

impl Chunks {
    pub(crate) const fn new() -> Self {
        Self { next: Part::Size, overhead: 0 }
    }

    /// The part that is being read.
    pub(crate) const fn part(&self) -> Part {
        self.next
    }

    /// Takes a whole part, a line without its end: what follows it, nothing when the body is complete.
    pub(crate) fn step(&mut self, part: &[u8]) -> Result<Option<Part>, Failure> {
        self.next = match self.next {
            Part::Size => {
                let digits = part.iter().position(|byte| !byte.is_ascii_hexdigit()).unwrap_or(part.len());
                let (digits, extension) = part.split_at(digits);
                self.count(extension)?;
                match chunk_size(digits, extension)? {
                    0 => Part::Trailer,
                    size => Part::Data(size),
                }
            }
            Part::Data(_) => Part::End,
            Part::End if part == b"\r\n" => Part::Size,
            Part::End => return Err(Failure::Protocol("a chunk is longer than it said")),
            Part::Trailer if part.is_empty() => return Ok(None),
            Part::Trailer => {
                self.count(part)?;
                Part::Trailer
            }
        };
        Ok(Some(self.next))
    }

    fn count(&mut self, useless: &[u8]) -> Result<(), Failure> {
        self.overhead += useless.len();
        if self.overhead > OVERHEAD_LIMIT {
            return Err(Failure::TooLong("the chunk extensions and trailers"));
        }
        Ok(())
    }
}

fn chunk_size(digits: &[u8], extension: &[u8]) -> Result<u64, Failure> {
    let is_extension = matches!(extension.trim_ascii_start(), [] | [b';', ..]);
    // A lone carriage return or line feed could be a line end to somebody else.
    if digits.is_empty() || !is_extension || extension.iter().any(|byte| matches!(byte, b'\r' | b'\n')) {
        return Err(Failure::Protocol("a chunk's size is no number"));
    }
    let digits = std::str::from_utf8(digits).unwrap_or_default();
    u64::from_str_radix(digits, 16).map_err(|_| Failure::TooLong("a chunk"))
}

/// Most bytes of chunk extensions and trailers: 16 KiB, as of hyper.
const OVERHEAD_LIMIT: usize = 16 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunk_sizes_are_plain_hexadecimal_numbers() {
        for (line, size) in [("5", 5), ("00fF", 255), ("5;name=value", 5), ("5 ; x", 5), ("5 ", 5)] {
            assert_eq!(Chunks::new().step(line.as_bytes()), Ok(Some(Part::Data(size))), "{line}");
        }
        for line in ["", "-5", "+5", "0x5", " 5", "5 5", "5g", ";x", "5;x\ry", "5\n"] {
            let protocol = matches!(Chunks::new().step(line.as_bytes()), Err(Failure::Protocol(_)));
            assert!(protocol, "{line:?}");
        }
        assert_eq!(Chunks::new().step(b"10000000000000000"), Err(Failure::TooLong("a chunk")));
    }
}
