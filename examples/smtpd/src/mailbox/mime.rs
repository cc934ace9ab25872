//! [`Mime`]: a message taken apart, for the list and for the page.
//!
//! Messages are made by anybody. `mail-parser` reads a header and decodes a text well, but given a whole message it follows
//! messages within messages until the stack ends, looks to the end once for each boundary that never comes, and needs a
//! hundred bytes of memory for each field of three. So the parts are found here, within limits, and it is given one header
//! or one body at a time. A message within a message is a part like another, and is not looked into.

use std::borrow::Cow;
use std::panic::{AssertUnwindSafe, catch_unwind};

use mail_parser::decoders::base64::base64_decode;
use mail_parser::decoders::charsets::map::charset_decoder;
use mail_parser::decoders::html::html_to_text;
use mail_parser::decoders::quoted_printable::quoted_printable_decode;
use mail_parser::{Header, Message, MessageParser, MimeHeaders};
use memchr::{memchr, memchr_iter, memmem};

/// A message taken apart.
#[derive(Debug)]
#[non_exhaustive]
pub struct Mime<'a> {
    /// Its header: a message without a body.
    pub header: Message<'a>,
    /// Its parts other than those that hold parts, in their order.
    pub parts: Vec<Part<'a>>,
    /// Whether there is more of it than is taken apart.
    pub is_cut: bool,
}

/// A part of a message.
#[derive(Debug)]
#[non_exhaustive]
pub struct Part<'a> {
    /// Its content type, in small letters and without parameters.
    pub kind: String,
    /// The name of its file.
    pub name: Option<String>,
    /// Its `Content-ID`.
    pub id: Option<String>,
    /// What it is of the message.
    pub role: Role,
    /// Whether it may stand beside the same in another form.
    is_alternative: bool,
    charset: Option<String>,
    encoding: Encoding,
    body: &'a [u8],
}

/// What a part is of its message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "there is no other way to show a part")]
pub enum Role {
    /// Text to be read at once.
    Text,
    /// The same as HTML, or other text.
    Html,
    /// All else.
    Attached,
}

#[derive(Clone, Copy, Debug)]
enum Encoding {
    None,
    Base64,
    QuotedPrintable,
}

/// A message or part of one that is still to be looked at.
#[derive(Clone, Copy)]
struct Entity<'a> {
    raw: &'a [u8],
    depth: usize,
    /// Whether it is the first of its siblings.
    is_first: bool,
    /// Whether it is a message unless it says otherwise (RFC 2046, section 5.1.5).
    is_in_digest: bool,
    /// Whether it is one of several forms of the same, or in one (RFC 2046, section 5.1.4).
    is_alternative: bool,
}

impl<'a> Mime<'a> {
    /// Takes a message apart; `None` if it has no header.
    #[must_use]
    pub fn of(raw: &'a [u8]) -> Option<Self> {
        let (head, _) = split(raw);
        let header = parsed(head, HEAD_LIMIT)?;
        let mut mime = Self { header, parts: Vec::new(), is_cut: head.len() > HEAD_LIMIT };
        let mut room = HEADS_LIMIT;
        // The next one is the last.
        let all = Entity { raw, depth: 0, is_first: true, is_in_digest: false, is_alternative: false };
        let mut waiting = vec![all];
        while let Some(entity) = waiting.pop() {
            let (head, body) = split(entity.raw);
            let limit = if entity.depth == 0 { HEAD_LIMIT } else { PART_HEAD_LIMIT };
            let is_listed = mime.parts.len() < PARTS_LIMIT;
            let Some(left) = room.checked_sub(head.len().min(limit)).filter(|_| is_listed) else {
                mime.is_cut = true;
                break;
            };
            room = left;
            let header = parsed(head, limit);
            let inner = header.as_ref().map(|header| entity.parts(header, body)).unwrap_or_default();
            if inner.is_empty() {
                mime.parts.push(entity.part(header.as_ref(), body));
            } else {
                waiting.extend(inner.into_iter().rev());
            }
        }
        Some(mime)
    }

    /// The fields of its header.
    pub fn fields(&self) -> impl Iterator<Item = &Header<'a>> {
        self.header.parts.first().into_iter().flat_map(|root| root.headers.iter())
    }

    /// The value of a field as it was sent.
    #[must_use]
    pub fn value(&self, field: &Header<'_>) -> &[u8] {
        let place = field.offset_start as usize..field.offset_end as usize;
        self.header.raw_message.get(place).unwrap_or_default()
    }

    /// The value of the first field of a name: this server's, where a sender has put one of his own below it.
    #[must_use]
    pub fn first(&self, name: &str) -> Cow<'_, str> {
        let field = self.fields().find(|field| field.name().eq_ignore_ascii_case(name));
        field.map(|field| String::from_utf8_lossy(self.value(field))).unwrap_or_default()
    }

    /// All text to be read at once, that of the HTML included, unless it is there as text too.
    #[must_use]
    pub fn text(&self) -> String {
        let is_twice = self.all(Role::Text).any(|part| part.is_alternative);
        let texts = self.parts.iter().filter_map(|part| match part.role {
            Role::Text => Some(part.text()),
            Role::Html if is_twice && part.is_alternative => None,
            Role::Html => Some(html_to_text(&part.text())),
            Role::Attached => None,
        });
        texts.collect::<Vec<_>>().join("\n")
    }

    /// All HTML that is not attached; `None` if there is none.
    #[must_use]
    pub fn html(&self) -> Option<String> {
        let texts: Vec<_> = self.all(Role::Html).map(Part::text).collect();
        (!texts.is_empty()).then(|| texts.concat())
    }

    fn all(&self, role: Role) -> impl Iterator<Item = &Part<'a>> {
        self.parts.iter().filter(move |part| part.role == role)
    }
}

impl<'a> Entity<'a> {
    /// The parts in it; none if it is one itself.
    fn parts(self, header: &Message<'_>, body: &'a [u8]) -> Vec<Self> {
        let kind = header.content_type().filter(|kind| kind.ctype().eq_ignore_ascii_case("multipart"));
        let Some((kind, boundary)) = kind.and_then(|kind| Some((kind, kind.attribute("boundary")?))) else {
            return Vec::new();
        };
        if self.depth == DEPTH_LIMIT || boundary.is_empty() {
            return Vec::new();
        }
        let is = |name| kind.subtype().is_some_and(|kind| kind.eq_ignore_ascii_case(name));
        let (is_in_digest, is_alternative) = (is("digest"), self.is_alternative || is("alternative"));
        let parts = between(body, boundary.as_bytes()).into_iter().enumerate();
        let depth = self.depth + 1;
        let part = |(at, raw)| Self { raw, depth, is_first: at == 0, is_in_digest, is_alternative };
        parts.map(part).collect()
    }

    fn part(self, header: Option<&Message<'_>>, body: &'a [u8]) -> Part<'a> {
        let kind = header.and_then(|header| header.content_type());
        let attribute = |name| kind.and_then(|kind| kind.attribute(name)).map(str::to_owned);
        let usual = if self.is_in_digest { "message/rfc822" } else { "text/plain" };
        let kind = kind.map_or_else(
            || usual.to_owned(),
            |kind| format!("{}/{}", kind.ctype(), kind.subtype().unwrap_or("*")).to_ascii_lowercase(),
        );
        let disposition = header.and_then(|header| header.content_disposition());
        let is_attached = disposition.is_some_and(|disposition| disposition.is_attachment())
            || !self.is_first && attribute("name").is_some();
        let role = match &*kind {
            "text/plain" if !is_attached => Role::Text,
            "text/html" if !is_attached => Role::Html,
            _ => Role::Attached,
        };
        let encoding =
            header.and_then(|header| header.content_transfer_encoding()).unwrap_or_default().trim();
        Part {
            role,
            is_alternative: self.is_alternative,
            name: header.and_then(|header| header.attachment_name()).map(str::to_owned),
            id: header.and_then(|header| header.content_id()).map(str::to_owned),
            charset: attribute("charset"),
            encoding: if encoding.eq_ignore_ascii_case("base64") {
                Encoding::Base64
            } else if encoding.eq_ignore_ascii_case("quoted-printable") {
                Encoding::QuotedPrintable
            } else {
                Encoding::None
            },
            kind,
            body,
        }
    }
}

impl Part<'_> {
    /// Its content, decoded; as it was sent, if that fails.
    #[must_use]
    pub fn bytes(&self) -> Cow<'_, [u8]> {
        let decoded = match self.encoding {
            Encoding::None => None,
            Encoding::Base64 => base64_decode(self.body),
            Encoding::QuotedPrintable => quoted_printable_decode(self.body),
        };
        decoded.map_or(Cow::Borrowed(self.body), Cow::Owned)
    }

    /// Its content as text.
    fn text(&self) -> String {
        let bytes = self.bytes();
        match self.charset.as_ref().and_then(|charset| charset_decoder(charset.as_bytes())) {
            Some(decode) => decode(&bytes),
            None => String::from_utf8_lossy(&bytes).into_owned(),
        }
    }
}

/// A header, as far as it is read; `None` if there is no field in it.
fn parsed(head: &[u8], limit: usize) -> Option<Message<'_>> {
    MessageParser::default().parse_headers(&head[..head.len().min(limit)])
}

/// Head and body: the empty line between them belongs to the head.
fn split(raw: &[u8]) -> (&[u8], &[u8]) {
    let after = |at: usize| match &raw[at..] {
        [b'\n', ..] => Some(at + 1),
        [b'\r', b'\n', ..] => Some(at + 2),
        _ => None,
    };
    let end = after(0).or_else(|| memchr_iter(b'\n', raw).find_map(|at| after(at + 1)));
    raw.split_at(end.unwrap_or(raw.len()))
}

/// What stands between lines of a boundary (RFC 2046, section 5.1.1).
fn between<'a>(body: &'a [u8], boundary: &[u8]) -> Vec<&'a [u8]> {
    let delimiter = [b"--", boundary].concat();
    let mut parts = Vec::new();
    let mut begin = None;
    for at in memmem::find_iter(body, &delimiter) {
        if at > 0 && body[at - 1] != b'\n' {
            continue;
        }
        let after = &body[at + delimiter.len()..];
        let line = memchr(b'\n', after).map_or(after.len(), |end| end + 1);
        let rest = after[..line].trim_ascii();
        if !rest.is_empty() && rest != b"--" {
            continue; // a longer boundary
        }
        if let Some(begin) = begin.take() {
            let part = body.get(begin..at).unwrap_or_default();
            let part = part.strip_suffix(b"\n").unwrap_or(part);
            parts.push(part.strip_suffix(b"\r").unwrap_or(part));
        }
        if !rest.is_empty() || parts.len() > PARTS_LIMIT {
            return parts;
        }
        begin = Some(at + delimiter.len() + line);
    }
    // The end may be missing.
    parts.extend(begin.and_then(|begin| body.get(begin..)));
    parts
}

/// What `work` comes to; `None` if it panics.
///
/// Messages are made by anybody, and what decodes them is not of this project: what it fails at is shown as it came.
pub fn contained<R>(work: impl FnOnce() -> R) -> Option<R> {
    catch_unwind(AssertUnwindSafe(work)).ok()
}

/// The beginning of a text, `most` bytes of it or a little less.
#[must_use]
pub fn cut(text: &str, most: usize) -> &str {
    let mut end = most.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

/// Most bytes of a message's header that are read: 64 KiB. Postfix takes no more than 100 KiB.
const HEAD_LIMIT: usize = 64 << 10;

/// Most bytes of a part's header that are read: 16 KiB. The time to read one may grow with the square of its length.
const PART_HEAD_LIMIT: usize = 16 << 10;

/// Most bytes of all headers of a message that are read: 1 MiB, a kilobyte for each part; it takes a second at the worst.
const HEADS_LIMIT: usize = 1 << 20;

/// Most parts of a message: 1000; the whole is in the source.
const PARTS_LIMIT: usize = 1000;

/// How deep parts may be in parts: 16, thrice what mail programs make. All of a message is searched once for each level.
const DEPTH_LIMIT: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(raw: &str) -> Vec<(String, Role, String)> {
        let mime = Mime::of(raw.as_bytes()).unwrap();
        mime.parts.iter().map(|part| (part.kind.clone(), part.role, part.text())).collect()
    }

    fn multipart(kind: &str, body: &str) -> String {
        format!("Content-Type: multipart/{kind}; boundary=\"x\"\r\n\r\n{body}")
    }

    #[test]
    fn parts_stand_between_lines_of_the_boundary_alone() {
        let text = |text: &str| ("text/plain".to_owned(), Role::Text, text.to_owned());
        for (body, found) in [
            ("--x\r\n\r\na\r\n--x--\r\n", vec![text("a")]),
            (
                "before\r\n--x \r\n\r\na\r\n\r\n--x\r\n\r\nb\r\n--x--\r\n--x\r\n\r\nafter",
                vec![text("a\r\n"), text("b")],
            ),
            ("--x\n\na--x\n--xy\n--x", vec![text("a--x\n--xy"), text("")]),
            ("--x\r\n\r\nno end", vec![text("no end")]),
            ("--x\r\n--x\r\n--x--", vec![text(""), text("")]),
        ] {
            assert_eq!(texts(&multipart("mixed", body)), found, "{body:?}");
        }
        let none = texts(&multipart("mixed", "no boundary"));
        assert_eq!(none, [("multipart/mixed".to_owned(), Role::Attached, "no boundary".to_owned())]);
        assert!(Mime::of(b"").is_none() && Mime::of(b"\r\nno header").is_none());
    }

    #[test]
    fn a_part_is_decoded_and_has_its_role() {
        for (part, kind, role, content) in [
            ("\r\na", "text/plain", Role::Text, "a"),
            (
                "Content-Type: TEXT/HTML; charset=iso-8859-1\r\nContent-Transfer-Encoding: Quoted-Printable\r\n\r\n=E9=\r\n!",
                "text/html",
                Role::Html,
                "é!",
            ),
            ("Content-Transfer-Encoding: base64\r\n\r\nw6kh\r\n", "text/plain", Role::Text, "é!"),
            ("Content-Transfer-Encoding: base64\r\n\r\n***", "text/plain", Role::Text, "***"),
            ("Content-Disposition: attachment\r\n\r\na", "text/plain", Role::Attached, "a"),
            ("Content-Type: image/png\r\n\r\na", "image/png", Role::Attached, "a"),
            (
                "Content-Type: message/rfc822\r\n\r\nSubject: b\r\n\r\nc",
                "message/rfc822",
                Role::Attached,
                "Subject: b\r\n\r\nc",
            ),
        ] {
            let found = texts(&multipart("mixed", &format!("--x\r\n{part}\r\n--x--")));
            assert_eq!(found, [(kind.to_owned(), role, content.to_owned())], "{part}");
        }
        let digest = texts(&multipart("digest", "--x\r\n\r\nSubject: b\r\n--x--"));
        assert_eq!(digest, [("message/rfc822".to_owned(), Role::Attached, "Subject: b".to_owned())]);
    }

    #[test]
    fn text_is_that_of_all_parts_that_are_not_the_same_in_another_form() {
        let html = "--x\r\nContent-Type: text/html\r\n\r\n<b>html</b>\r\n";
        let text = "--x\r\n\r\ntext\r\n";
        let both = "--x\r\nContent-Type: multipart/alternative; boundary=y\r\n\r\n\
            --y\r\n\r\ntext\r\n--y\r\nContent-Type: text/html\r\n\r\n<b>html</b>\r\n--y--\r\n";
        let footer = "--x\r\n\r\nfooter\r\n--x--";
        for (kind, body, shown) in [
            ("alternative", format!("{text}{html}"), "text"),
            ("alternative", html.to_owned(), "html"),
            ("mixed", format!("{html}{footer}"), "html footer"),
            ("mixed", format!("{text}{html}{footer}"), "text html footer"),
            ("mixed", format!("{both}{footer}"), "text footer"),
        ] {
            let raw = multipart(kind, &body);
            let text = Mime::of(raw.as_bytes()).unwrap().text();
            assert_eq!(text.split_whitespace().collect::<Vec<_>>().join(" "), shown, "{raw}");
        }
    }

    /// Each of these took minutes, gigabytes, or the whole server.
    #[test]
    fn no_message_costs_much() {
        let nested = "Content-Type:message/rfc822\r\n\r\n".repeat(500_000);
        let coded = base64::Engine::encode(&base64::prelude::BASE64_STANDARD, &nested);
        let attributes: String = (0..500_000).map(|at| format!(";a{at}*1=x")).collect();
        let deep: String = (0..100_000)
            .map(|at| format!("Content-Type:multipart/x;boundary={at}\r\n\r\n--{at}\r\n"))
            .collect();
        for raw in [
            nested,
            format!("Content-Type:message/rfc822\r\nContent-Transfer-Encoding:base64\r\n\r\n{coded}"),
            multipart("mixed", &"--x\r\nContent-Type:multipart/y;boundary=z\r\n\r\n".repeat(300_000)),
            multipart("mixed", &"--x\r\n\r\n".repeat(2_000_000)),
            multipart("mixed", &format!("--x\r\nContent-Type:text/plain{attributes}\r\n\r\n").repeat(3)),
            deep,
            "a:\r\n".repeat(4_000_000),
            format!("Content-Type: text/plain{attributes}\r\n\r\n"),
            format!("To: {}\r\n\r\n", "a@b,".repeat(4_000_000)),
        ] {
            let mime = Mime::of(raw.as_bytes()).unwrap();
            assert!(mime.parts.len() <= PARTS_LIMIT && mime.fields().count() <= HEAD_LIMIT / 3, "{raw:.40}");
            assert!(mime.text().len() <= raw.len());
        }
    }
}
