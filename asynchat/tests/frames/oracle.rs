//! What is to be seen of framed messages by somebody who has the whole input at once.

use asynchat::LengthPrefix::{self, U8, U16Be, U16Le, U32Be, U32Le, U64Be, U64Le, Varint};
use asynchat::{BareIn, DotStuffer, Terminator, netstring};

use Framing::{Bytes, Count, Dots, Length, Netstring};

use crate::receiver::{END, MALFORMED, Row, TOO_LONG};

/// What a message may end at.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Framing {
    Bytes(&'static str),
    Count(usize),
    Length(LengthPrefix),
    Netstring,
    Dots(BareIn),
}

pub(crate) const FRAMES: [Framing; 11] = [
    Length(U8),
    Length(U16Be),
    Length(U16Le),
    Length(U32Be),
    Length(U32Le),
    Length(U64Be),
    Length(U64Le),
    Length(Varint),
    Netstring,
    Dots(BareIn::Refuse),
    Dots(BareIn::Keep),
];

pub(crate) fn all() -> Vec<Framing> {
    [&FRAMES[..], &[Bytes("\r\n"), Bytes("\n"), Bytes("abab"), Count(1), Count(3)]].concat()
}

impl Framing {
    pub(crate) fn terminator(self) -> Terminator {
        match self {
            Bytes(pattern) => Terminator::try_from(pattern.as_bytes()).unwrap(),
            Count(count) => Terminator::count(count as u64).unwrap(),
            Length(prefix) => prefix.into(),
            Netstring => Terminator::netstring(),
            Dots(bare) => Terminator::dot_stuffed_with_bare(bare),
        }
    }

    /// How a sender frames `message`, which holds nothing that the framing cannot carry.
    pub(crate) fn encode(self, message: &[u8]) -> Vec<u8> {
        match self {
            Bytes(pattern) => [message, pattern.as_bytes()].concat(),
            Count(_) => message.to_vec(),
            Length(prefix) => {
                let (header, payload) = prefix.frame(message).unwrap();
                [&header[..], payload].concat()
            }
            Netstring => {
                let (header, payload, comma) = netstring(message);
                [&header[..], payload, comma].concat()
            }
            Dots(_) => {
                let mut wire = Vec::new();
                let mut stuffer = DotStuffer::new();
                stuffer.stuff(message, &mut wire).unwrap();
                stuffer.finish(&mut wire).unwrap();
                wire
            }
        }
    }

    /// Of text, what it can carry; in the case of a count, exactly so much.
    pub(crate) fn fit(self, text: &str) -> Vec<u8> {
        match self {
            Count(count) => text.bytes().chain(std::iter::repeat(b'-')).take(count).collect(),
            Bytes(_) => text.replace(['\r', '\n', 'b'], "").into_bytes(),
            Dots(_) if text.is_empty() => Vec::new(),
            Dots(_) => (text.replace('\r', "").replace('\n', "\r\n") + "\r\n").into_bytes(),
            Length(_) | Netstring => text.as_bytes().to_vec(),
        }
    }

    /// The oracle: what is to be seen of the first message of `input`.
    fn first(self, input: &[u8]) -> Seen {
        match self {
            Bytes(pattern) => {
                let pattern = pattern.as_bytes();
                if let Some(at) = input.windows(pattern.len()).position(|window| window == pattern) {
                    return Seen::complete(&input[..at], at + pattern.len());
                }
                let pending =
                    (0..=input.len()).rev().find(|&n| pattern.starts_with(&input[input.len() - n..]));
                Seen::open(&input[..input.len() - pending.unwrap()], pending.unwrap())
            }
            Count(count) if input.len() < count => Seen::open(input, 0),
            Count(count) => Seen::complete(&input[..count], count),
            Length(prefix) => match length(prefix, input) {
                Err(()) => Seen::malformed(b""),
                Ok(None) => Seen::open(b"", input.len()),
                Ok(Some((length, header))) => sized(input, length, header, b""),
            },
            Netstring => {
                let digits = input.iter().take_while(|byte| byte.is_ascii_digit()).count();
                let text = str::from_utf8(&input[..digits]).unwrap();
                match (text.parse::<u64>(), input.get(digits)) {
                    _ if digits > 1 && input[0] == b'0' => Seen::malformed(b""),
                    (Err(_), _) if digits > 0 => Seen::malformed(b""),
                    (_, None) => Seen::open(b"", digits),
                    (Ok(length), Some(b':')) => sized(input, u128::from(length), digits + 1, b","),
                    _ => Seen::malformed(b""),
                }
            }
            Dots(bare) => dots(bare == BareIn::Refuse, input),
        }
    }

    /// The row of `input`, and how many bytes at its end are not handed out and may come under another framing: none of
    /// what is passed over.
    pub(crate) fn row(self, limit: usize, takes: bool, mut input: &[u8], row: &mut Row) -> usize {
        loop {
            let Seen { payload, length, end } = self.first(input);
            let is_long = match self {
                Dots(_) | Bytes(_) | Count(_) => !takes && payload.len() > limit,
                Length(_) | Netstring => length.is_some_and(|length| length > limit as u128),
            };
            if is_long {
                row.push(TOO_LONG);
            } else if end != Ending::Malformed {
                row.extend(marks(&payload));
            }
            match end {
                Ending::Complete(used) => {
                    if !is_long {
                        row.push(END);
                    }
                    input = &input[used..];
                }
                Ending::Open(pending) => return if is_long { 0 } else { pending },
                Ending::Malformed => {
                    row.push(MALFORMED);
                    return 0;
                }
            }
        }
    }
}

/// What of a message is to be seen.
struct Seen {
    payload: Vec<u8>,
    /// As its header says.
    length: Option<u128>,
    end: Ending,
}

#[derive(PartialEq)]
enum Ending {
    /// After so many bytes of the input.
    Complete(usize),
    /// Not yet; so many bytes of the input are not handed out.
    Open(usize),
    Malformed,
}

impl Seen {
    fn complete(payload: &[u8], used: usize) -> Self {
        Self { payload: payload.to_vec(), length: None, end: Ending::Complete(used) }
    }

    fn open(payload: &[u8], pending: usize) -> Self {
        Self { payload: payload.to_vec(), length: None, end: Ending::Open(pending) }
    }

    fn malformed(payload: &[u8]) -> Self {
        Self { payload: payload.to_vec(), length: None, end: Ending::Malformed }
    }
}

/// The length that `input` begins with, and how long that is itself.
fn length(prefix: LengthPrefix, input: &[u8]) -> Result<Option<(u128, usize)>, ()> {
    let (width, is_big_endian) = match prefix {
        U8 => (1, true),
        U16Be => (2, true),
        U16Le => (2, false),
        U32Be => (4, true),
        U32Le => (4, false),
        U64Be => (8, true),
        U64Le => (8, false),
        _ => {
            let mut length = 0;
            for (at, &byte) in input.iter().enumerate() {
                length += u128::from(byte & 0x7f) << (7 * at);
                if length > u128::from(u64::MAX) || at == 9 && byte > 1 {
                    return Err(());
                }
                if byte < 0x80 {
                    return Ok(Some((length, at + 1)));
                }
            }
            return Ok(None);
        }
    };
    let Some(header) = input.get(..width) else { return Ok(None) };
    let mut header = header.to_vec();
    if !is_big_endian {
        header.reverse();
    }
    Ok(Some((header.iter().fold(0, |length, &byte| length << 8 | u128::from(byte)), width)))
}

fn sized(input: &[u8], length: u128, header: usize, trailer: &[u8]) -> Seen {
    let rest = &input[header..];
    let seen = match usize::try_from(length) {
        Ok(length) if length <= rest.len() => {
            let (payload, rest) = rest.split_at(length);
            if rest.starts_with(trailer) {
                Seen::complete(payload, header + length + trailer.len())
            } else if rest.is_empty() {
                Seen::open(payload, if length == 0 { header } else { 0 })
            } else {
                Seen::malformed(payload)
            }
        }
        _ => Seen::open(rest, if rest.is_empty() { header } else { 0 }),
    };
    Seen { length: Some(length), ..seen }
}

/// By lines; what is bare is what is left of CRs and LFs when the input is cut at every CRLF.
fn dots(refuses: bool, input: &[u8]) -> Seen {
    let mut lines: Vec<&[u8]> = Vec::new();
    let mut rest = input;
    while let Some(at) = rest.windows(2).position(|pair| pair == b"\r\n") {
        lines.push(&rest[..at]);
        rest = &rest[at + 2..];
    }
    let end = lines.iter().position(|&line| line == b".");
    let last = if end.is_some() { &b""[..] } else { rest };
    lines.truncate(end.map_or(lines.len(), |end| end + 1));
    let before_last: usize = lines.iter().map(|line| line.len() + 2).sum();
    if refuses {
        let mut from = 0;
        for line in lines.iter().copied().chain([last.strip_suffix(b"\r").unwrap_or(last)]) {
            if let Some(at) = line.iter().position(|byte| b"\r\n".contains(byte)) {
                return Seen::malformed(&dots(false, &input[..from + at]).payload);
            }
            from += line.len() + 2;
        }
    }
    let mut body = Vec::new();
    for line in &lines[..end.unwrap_or(lines.len())] {
        body.extend_from_slice(line.strip_prefix(b".").unwrap_or(line));
        body.extend_from_slice(b"\r\n");
    }
    if end.is_some() {
        return Seen::complete(&body, before_last);
    }
    let pending = match last {
        b"." | b".\r" => last.len(),
        _ => usize::from(last.ends_with(b"\r")),
    };
    if last.len() > pending {
        let last = &last[..last.len() - pending];
        body.extend_from_slice(last.strip_prefix(b".").unwrap_or(last));
    }
    Seen::open(&body, pending)
}

pub(crate) fn marks(bytes: &[u8]) -> impl Iterator<Item = u16> {
    bytes.iter().map(|&byte| u16::from(byte))
}
