//! The header of the PROXY protocol, versions 1 and 2: for whom a proxy has connected.
//!
//! It stands in front of everything else, in clear text, and what follows may be a TLS handshake; so nothing behind it is to
//! be read with it. [`read`] tells of the bytes that have come how many more are the header's for certain.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// What the bytes that have come are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "a header goes on, is whole, or is none")]
pub enum Header {
    /// The beginning of a header, of which so many bytes more follow at least.
    More(usize),
    /// A header.
    Whole(Source),
    /// None.
    Malformed,
}

/// For whom the proxy speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "the protocol has no others")]
pub enum Source {
    /// For itself, to see whether somebody is here.
    Proxy,
    /// For a client of which it does not say where it is.
    Unknown,
    /// For the client at this address.
    Client(SocketAddr),
}

/// Reads a header, or what has come of it.
#[must_use]
pub fn read(bytes: &[u8]) -> Header {
    if bytes.is_empty() {
        // Of either version there are as many.
        return Header::More(SHORTEST_LINE);
    }
    let seen = bytes.len().min(SIGNATURE.len());
    if bytes[..seen] == SIGNATURE[..seen] {
        return read_binary(bytes);
    }
    let seen = bytes.len().min(WORD.len());
    if bytes[..seen] == WORD[..seen] { read_line(bytes) } else { Header::Malformed }
}

/// Version 1: `PROXY TCP4 192.0.2.1 198.51.100.1 40000 25` and CRLF.
fn read_line(bytes: &[u8]) -> Header {
    if bytes.len() < SHORTEST_LINE {
        return Header::More(SHORTEST_LINE - bytes.len());
    }
    let Some(end) = bytes.iter().position(|byte| *byte == b'\n') else {
        let missing = if bytes.ends_with(b"\r") { 1 } else { 2 };
        return if bytes.len() + missing > LINE_LIMIT { Header::Malformed } else { Header::More(missing) };
    };
    let line = bytes.strip_suffix(b"\r\n").filter(|line| line.len() + 1 == end);
    match line.and_then(|line| str::from_utf8(line).ok()).and_then(source_of_line) {
        Some(source) => Header::Whole(source),
        None => Header::Malformed,
    }
}

fn source_of_line(line: &str) -> Option<Source> {
    let mut words = line.split(' ').skip(1);
    let family = words.next()?;
    if family == "UNKNOWN" {
        // Whatever else stands there is to be ignored.
        return Some(Source::Unknown);
    }
    let mut address = || -> Option<IpAddr> {
        let word = words.next()?;
        match family {
            "TCP4" => word.parse::<Ipv4Addr>().ok().map(IpAddr::V4),
            "TCP6" => word.parse::<Ipv6Addr>().ok().map(IpAddr::V6),
            _ => None,
        }
    };
    let (from, _to) = (address()?, address()?);
    let mut port = || -> Option<u16> {
        let word = words.next()?;
        word.bytes().all(|byte| byte.is_ascii_digit()).then(|| word.parse().ok())?
    };
    let (from_port, _to_port) = (port()?, port()?);
    words.next().is_none().then_some(Source::Client(SocketAddr::new(from, from_port)))
}

/// Version 2.
///
/// ```text
///   |- signature, 12 -|- version, command -|- family -|- length, 2 -|-- addresses, then values of other kinds --|
/// ```
fn read_binary(bytes: &[u8]) -> Header {
    let Some((head, rest)) = bytes.split_first_chunk::<HEAD>() else {
        return Header::More(HEAD - bytes.len());
    };
    let [.., command, family, high, low] = *head;
    let length = usize::from(u16::from_be_bytes([high, low]));
    if length > LENGTH_LIMIT {
        return Header::Malformed;
    }
    if rest.len() < length {
        return Header::More(length - rest.len());
    }
    let source = match (command, family) {
        (LOCAL, _) => Some(Source::Proxy),
        (FOR_CLIENT, UNSPECIFIED | UNIX_STREAM) => Some(Source::Unknown),
        (FOR_CLIENT, TCP4) => client::<4>(rest),
        (FOR_CLIENT, TCP6) => client::<16>(rest),
        _ => None,
    };
    match source {
        Some(source) if rest.len() == length => Header::Whole(source),
        _ => Header::Malformed,
    }
}

/// Two addresses of `N` bytes, then two ports.
fn client<const N: usize>(addresses: &[u8]) -> Option<Source>
where
    IpAddr: From<[u8; N]>,
{
    let (from, rest) = addresses.split_first_chunk::<N>()?;
    let (_to, rest) = rest.split_first_chunk::<N>()?;
    let (port, rest) = rest.split_first_chunk::<2>()?;
    let _to_port = rest.first_chunk::<2>()?;
    Some(Source::Client(SocketAddr::new(IpAddr::from(*from), u16::from_be_bytes(*port))))
}

const WORD: &[u8] = b"PROXY ";
const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// The fixed part of a header of version 2.
const HEAD: usize = 16;

const LOCAL: u8 = 0x20;
const FOR_CLIENT: u8 = 0x21;

const UNSPECIFIED: u8 = 0x00;
const TCP4: u8 = 0x11;
const TCP6: u8 = 0x21;
const UNIX_STREAM: u8 = 0x31;

/// The shortest line of version 1 that there can be: `PROXY UNKNOWN` and CRLF.
const SHORTEST_LINE: usize = 15;

/// Most bytes of a line with CRLF: 107, which the longest addresses need (section 2.1 of the protocol).
const LINE_LIMIT: usize = 107;

/// Most bytes behind the fixed part: 4,080. Addresses need 216, and what else proxies send is a certificate's name or two;
/// nginx takes as many in all.
const LENGTH_LIMIT: usize = 4096 - HEAD;

#[cfg(test)]
mod tests {
    use super::*;

    fn binary(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let length = u16::try_from(rest.len()).unwrap().to_be_bytes();
        [SIGNATURE, &[command, family], &length, rest].concat()
    }

    fn v4() -> Vec<u8> {
        [&[192, 0, 2, 1, 198, 51, 100, 1][..], &40_000_u16.to_be_bytes(), &25_u16.to_be_bytes()].concat()
    }

    fn v6() -> Vec<u8> {
        let from: Ipv6Addr = "2001:db8::1".parse().unwrap();
        [&from.octets()[..], &[0; 16], &40_000_u16.to_be_bytes(), &25_u16.to_be_bytes()].concat()
    }

    /// Reads as the server does: what it is told that there is, or what has come of that, and no more.
    fn read_all(mut input: &[u8]) -> (Header, usize) {
        let (mut bytes, all) = (Vec::new(), input.len());
        loop {
            match read(&bytes) {
                Header::More(more) if !input.is_empty() => {
                    let (piece, rest) = input.split_at(more.min(input.len()));
                    bytes.extend_from_slice(piece);
                    input = rest;
                }
                header => return (header, all - input.len()),
            }
        }
    }

    #[test]
    fn a_header_is_read_to_its_end_and_no_byte_further() {
        let client = |text: &str| Source::Client(text.parse().unwrap());
        for (header, source) in [
            (b"PROXY TCP4 192.0.2.1 198.51.100.1 40000 25\r\n".to_vec(), client("192.0.2.1:40000")),
            (b"PROXY TCP6 2001:db8::1 ::1 40000 25\r\n".to_vec(), client("[2001:db8::1]:40000")),
            (b"PROXY UNKNOWN\r\n".to_vec(), Source::Unknown),
            (b"PROXY UNKNOWN ffff::1 ffff::2 65535 65535\r\n".to_vec(), Source::Unknown),
            (binary(FOR_CLIENT, TCP4, &v4()), client("192.0.2.1:40000")),
            (binary(FOR_CLIENT, TCP6, &v6()), client("[2001:db8::1]:40000")),
            (binary(FOR_CLIENT, TCP4, &[v4(), vec![4, 0, 1, 0]].concat()), client("192.0.2.1:40000")),
            (binary(FOR_CLIENT, UNIX_STREAM, &[0; 216]), Source::Unknown),
            (binary(FOR_CLIENT, UNSPECIFIED, &[]), Source::Unknown),
            (binary(LOCAL, UNSPECIFIED, &[]), Source::Proxy),
            (binary(LOCAL, 0xff, &[0; 4080]), Source::Proxy),
        ] {
            let behind = [&header[..], b"\x16\x03\x01\r\n"].concat();
            assert_eq!(read_all(&behind), (Header::Whole(source), header.len()), "{}", header.escape_ascii());
            for cut in 0..header.len() {
                assert!(
                    matches!(read(&header[..cut]), Header::More(1..)),
                    "{cut} of {}",
                    header.escape_ascii()
                );
            }
        }
    }

    #[test]
    fn what_is_no_header_is_malformed() {
        let long = format!("PROXY UNKNOWN {}\r\n", "x".repeat(92));
        for bytes in [
            b"EHLO".to_vec(),
            b"PROXX".to_vec(),
            b"\r\n\r\nx".to_vec(),
            b"PROXY TCP4 192.0.2.1 198.51.100.1 40000\r\n".to_vec(),
            b"PROXY TCP4 192.0.2.1 198.51.100.1 40000 25 1\r\n".to_vec(),
            b"PROXY TCP4 192.0.2.1 198.51.100.1 40000 65536\r\n".to_vec(),
            b"PROXY TCP4 192.0.2.1 198.51.100.1 +4000 25\r\n".to_vec(),
            b"PROXY TCP4  192.0.2.1 198.51.100.1 40000 25\r\n".to_vec(),
            b"PROXY TCP4 ::1 ::1 40000 25\r\n".to_vec(),
            b"PROXY TCP6 192.0.2.1 198.51.100.1 40000 25\r\n".to_vec(),
            b"PROXY UDP4 192.0.2.1 198.51.100.1 40000 25\r\n".to_vec(),
            b"PROXY TCP4 192.0.2.1 198.51.100.1 40000 25\n".to_vec(),
            b"PROXY UNKNOWN\n\r".to_vec(),
            b"PROXY UNKNOWN \xff\r\n".to_vec(),
            long.into_bytes(),
            binary(0x11, TCP4, &v4()),
            binary(0x22, TCP4, &v4()),
            binary(FOR_CLIENT, TCP4, &v4()[1..]),
            binary(FOR_CLIENT, TCP6, &v4()),
            binary(FOR_CLIENT, 0x12, &v4()),
            binary(FOR_CLIENT, TCP4, &[0; 65_535]),
        ] {
            assert_eq!(read_all(&bytes).0, Header::Malformed, "{}", bytes.escape_ascii());
        }
        let longest = format!("PROXY UNKNOWN {}\r\n", "x".repeat(91));
        assert_eq!(read_all(longest.as_bytes()), (Header::Whole(Source::Unknown), 107));
    }
}
