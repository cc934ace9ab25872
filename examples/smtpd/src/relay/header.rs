//! [`HeaderScan`]: what a relay must know of a message's header, found while it passes by.

use memchr::memchr;

/// Looks at the header of a message, cut anywhere: how many `Received:` lines there are, and whether all is ASCII.
///
/// Each server that a message passes adds a `Received:` line. A message with very many of them goes in a circle (RFC 5321,
/// section 6.3).
#[derive(Clone, Debug, Default)]
pub struct HeaderScan {
    received: u32,
    is_international: bool,
    at: At,
}

/// Where the scan stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    /// In a line of which so many bytes have been seen, all of them as in [`NAME`].
    Name(usize),
    /// Behind the name, where white space may come before the colon (RFC 5322, section 4.5).
    Colon,
    /// In the rest of a line.
    Rest,
    /// Behind a CR in a line; if the line is empty but for it, its LF ends the header.
    Cr { is_empty: bool },
    /// In the body.
    Body,
}

impl Default for At {
    fn default() -> Self {
        Self::Name(0)
    }
}

impl HeaderScan {
    /// Looks at the next piece of the message.
    pub fn scan(&mut self, mut piece: &[u8]) {
        while self.at != At::Body
            && let Some((&byte, rest)) = piece.split_first()
        {
            self.is_international |= !byte.is_ascii();
            self.at = match self.at {
                At::Cr { is_empty: true } if byte == b'\n' => At::Body,
                At::Cr { .. } if byte == b'\n' => At::Name(0),
                at if byte == b'\r' => At::Cr { is_empty: at == At::Name(0) },
                At::Name(seen) if NAME.get(seen) == Some(&byte.to_ascii_lowercase()) => {
                    if seen + 1 == NAME.len() { At::Colon } else { At::Name(seen + 1) }
                }
                At::Colon if byte == b' ' || byte == b'\t' => At::Colon,
                at => {
                    self.received += u32::from(at == At::Colon && byte == b':');
                    At::Rest
                }
            };
            piece = rest;
            if self.at == At::Rest {
                let (line, rest) = piece.split_at(memchr(b'\r', piece).unwrap_or(piece.len()));
                self.is_international |= !line.is_ascii();
                piece = rest;
            }
        }
    }

    /// How many `Received:` lines have come.
    #[must_use]
    pub const fn received(&self) -> u32 {
        self.received
    }

    /// Whether a byte above 127 is in the header, which only SMTPUTF8 allows (RFC 6532).
    #[must_use]
    pub const fn is_international(&self) -> bool {
        self.is_international
    }
}

const NAME: &[u8] = b"received";

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn scanned(pieces: &[&[u8]]) -> (u32, bool) {
        let mut scan = HeaderScan::default();
        pieces.iter().for_each(|piece| scan.scan(piece));
        (scan.received(), scan.is_international())
    }

    /// The same of a whole message, line by line.
    fn by_hand(message: &str) -> (u32, bool) {
        let header: Vec<_> = message.split("\r\n").take_while(|line| !line.is_empty()).collect();
        let is_received = |line: &&&str| {
            let name = line.split_once(':').map(|(name, _)| name.trim_end_matches([' ', '\t']));
            name.is_some_and(|name| name.eq_ignore_ascii_case("received"))
        };
        let received = header.iter().filter(is_received).count();
        (u32::try_from(received).unwrap(), header.iter().any(|line| !line.is_ascii()))
    }

    #[test]
    fn hops_are_counted_in_the_header_alone() {
        for (message, received) in [
            ("", 0),
            ("Received: a\r\n\r\n", 1),
            ("Received: a\r\nReceived: b\r\n\r\nReceived: c\r\n", 2),
            ("RECEIVED:a\r\nrEcEiVeD \t: b\r\n", 2),
            ("Subject: x\r\n Received: folded\r\n", 0),
            ("Receive: x\r\nReceivedx: y\r\nX-Received: z\r\nReceived\r\n", 0),
            ("\r\nReceived: a\r\n", 0),
            ("Received\r\n: a\r\n", 0),
        ] {
            assert_eq!(scanned(&[message.as_bytes()]).0, received, "{message:?}");
        }
    }

    #[test]
    fn bytes_above_127_count_in_the_header_alone() {
        assert_eq!(scanned(&["Subject: é\r\n\r\n".as_bytes()]), (0, true));
        assert_eq!(scanned(&["é: x\r\n\r\n".as_bytes()]), (0, true));
        assert_eq!(scanned(&["Subject: e\r\n\r\né\r\n".as_bytes()]), (0, false));
    }

    proptest! {
        #[test]
        fn every_cut_finds_the_same(
            lines in prop::collection::vec("(Received|received |X-é|)(:| :|x)?[ a-c:é]{0,5}", 0..8),
            cuts in prop::collection::vec(0_usize..200, 0..6),
        ) {
            let message = lines.join("\r\n") + "\r\n";
            let mut pieces = Vec::new();
            let mut rest = message.as_bytes();
            for cut in cuts {
                let (piece, after) = rest.split_at(cut % (rest.len() + 1));
                pieces.push(piece);
                rest = after;
            }
            pieces.push(rest);
            prop_assert_eq!(scanned(&pieces), by_hand(&message));
        }
    }
}
