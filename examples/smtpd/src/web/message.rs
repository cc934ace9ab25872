//! A message taken apart for the page. All of it is for other threads than the loop's.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use mail_parser::MessageParser;
use serde::Serialize;

use super::sanitize::{PICTURES, sanitized};
use crate::mailbox::mime::{Mime, Role, contained, cut};

/// A message as the page shows it.
#[derive(Debug, Default, Serialize)]
pub(super) struct View {
    /// Names and values, in their order, words decoded.
    headers: Vec<(String, String)>,
    text: String,
    /// The HTML without whatever could do harm or load something; `None` if the message has none.
    html: Option<String>,
    parts: Vec<Part>,
    /// Whether something was too long to be shown in full.
    cut: bool,
}

/// A part of a message, other than those that hold parts.
#[derive(Debug, Serialize)]
struct Part {
    index: usize,
    #[serde(rename = "type")]
    kind: String,
    name: Option<String>,
    size: usize,
    /// Whether it is neither the text nor the HTML.
    attachment: bool,
}

/// A part of a message, decoded.
#[derive(Debug)]
pub(super) struct Content {
    pub(super) name: String,
    pub(super) bytes: Vec<u8>,
}

/// Reads a message, as much of it as is taken apart.
fn read(file: File) -> io::Result<Vec<u8>> {
    let mut raw = Vec::new();
    file.take(READ_LIMIT).read_to_end(&mut raw)?;
    Ok(raw)
}

/// What the page shows.
///
/// # Errors
///
/// If the file cannot be read.
pub(super) fn view(file: File) -> io::Result<View> {
    let raw = read(file)?;
    let is_whole = (raw.len() as u64) < READ_LIMIT;
    let view = contained(|| Mime::of(&raw).map(|mime| View::of(&mime))).flatten();
    let mut view = view.unwrap_or_else(|| {
        // It is no message, or one that defeats the parser: shown as it came.
        let text = String::from_utf8_lossy(&raw);
        View { text: cut(&text, TEXT_LIMIT).to_owned(), cut: text.len() > TEXT_LIMIT, ..View::default() }
    });
    view.cut |= !is_whole;
    Ok(view)
}

/// The HTML for the frame, with the images that are in the message; `None` if it has none.
///
/// # Errors
///
/// If the file cannot be read.
pub(super) fn html(file: File) -> io::Result<Option<String>> {
    let raw = read(file)?;
    let html = contained(|| {
        let mime = Mime::of(&raw)?;
        let html = mime.html()?;
        Some(sanitized(shown(&html), pictures(&mime)).0)
    });
    Ok(html.flatten())
}

/// A part by its index; `None` if there is no such part.
///
/// # Errors
///
/// If the file cannot be read.
pub(super) fn part(file: File, index: usize) -> io::Result<Option<Content>> {
    let raw = read(file)?;
    let found = contained(|| {
        let mime = Mime::of(&raw)?;
        let part = mime.parts.get(index)?;
        let name = part.name.clone().unwrap_or_else(|| format!("part-{index}"));
        Some(Content { name, bytes: part.bytes().into_owned() })
    });
    Ok(found.flatten())
}

impl View {
    fn of(mime: &Mime<'_>) -> Self {
        let headers = mime.fields().take(HEADERS_LIMIT);
        let headers = headers.map(|field| (field.name().to_owned(), decoded(mime.value(field))));
        let parts = mime.parts.iter().enumerate().map(|(index, part)| Part {
            index,
            kind: part.kind.clone(),
            name: part.name.clone(),
            size: part.bytes().len(),
            attachment: part.role == Role::Attached,
        });
        let (text, html) = (mime.text(), mime.html());
        let (clean, is_whole) = html.as_deref().map_or((None, true), |html| {
            let (clean, is_whole) = sanitized(shown(html), HashMap::new());
            (Some(clean), is_whole && shown(html).len() == html.len())
        });
        Self {
            headers: headers.collect(),
            parts: parts.collect(),
            cut: mime.is_cut || text.len() > TEXT_LIMIT || !is_whole,
            text: cut(&text, TEXT_LIMIT).to_owned(),
            html: clean,
        }
    }
}

/// As much of HTML as is shown.
fn shown(html: &str) -> &str {
    let end = memchr::memchr_iter(b'<', html.as_bytes()).nth(TAGS_LIMIT).unwrap_or(html.len());
    cut(html, end.min(HTML_LIMIT))
}

/// The images of the message by their `Content-ID`, as `data:` addresses: the frame may load nothing, not even from here.
fn pictures(mime: &Mime<'_>) -> HashMap<String, String> {
    let mut pictures = HashMap::new();
    let mut room = PICTURES_LIMIT;
    for part in mime.parts.iter().filter(|part| PICTURES.contains(&&*part.kind)) {
        let (Some(id), bytes) = (&part.id, part.bytes()) else { continue };
        if let Some(left) = room.checked_sub(bytes.len()) {
            room = left;
            let address = format!("data:{};base64,{}", part.kind, BASE64_STANDARD.encode(bytes));
            pictures.insert(id.trim_matches(['<', '>']).to_owned(), address);
        }
    }
    pictures
}

/// The value of a header field, in one line, words decoded.
fn decoded(value: &[u8]) -> String {
    let mut field = b"Subject: ".to_vec();
    field.extend(value.trim_ascii().iter().copied());
    field.extend(b"\r\n\r\n");
    let parsed = MessageParser::default().parse(&field);
    let decoded = parsed.as_ref().and_then(|parsed| parsed.subject());
    decoded.map_or_else(|| String::from_utf8_lossy(value).trim().to_owned(), str::to_owned)
}

/// How much of a message is taken apart: 64 MiB, the largest that the server takes unless told otherwise.
const READ_LIMIT: u64 = 64 << 20;

/// Most bytes of a text that is shown: 1 MiB, a long book; the whole is in the source.
const TEXT_LIMIT: usize = 1 << 20;

/// Most bytes of HTML that are shown: 1 MiB, ten times what mail programs cut off.
const HTML_LIMIT: usize = 1 << 20;

/// Most tags of HTML that is shown: 5000, twice what newsletters have. Where they are nested, the time to clean them grows
/// with their square: it is under a second this far.
const TAGS_LIMIT: usize = 5000;

/// Most bytes of images that are shown in the HTML: 8 MiB, some photographs; they are among the attachments in any case.
const PICTURES_LIMIT: usize = 8 << 20;

/// Most header fields that are shown: 500, far beyond what mail gathers on its way.
const HEADERS_LIMIT: usize = 500;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn html_is_shown_up_to_where_it_would_take_long() {
        assert_eq!(shown("<b>é</b>"), "<b>é</b>");
        assert_eq!(shown(&"<div>".repeat(1 << 20)).len(), TAGS_LIMIT * "<div>".len());
        assert!((HTML_LIMIT - 1..=HTML_LIMIT).contains(&shown(&"é".repeat(HTML_LIMIT)).len()));
    }

    #[test]
    fn html_that_takes_long_is_said_to_be_cut() {
        let view = |html: &str| {
            let raw = format!("Content-Type: text/html\r\n\r\n{html}");
            View::of(&Mime::of(raw.as_bytes()).unwrap())
        };
        let attributes: String = (0..120_000).map(|at| format!(" a{at}")).collect();
        assert!(view(&format!("<b>all</b><b{attributes}>")).cut);
        assert!(!view("<b>all</b>").cut);
    }

    #[test]
    fn a_field_is_shown_in_one_line_with_its_words_decoded() {
        for (field, value) in [
            (&b" plain \r\n"[..], "plain"),
            (b" =?utf-8?q?caf=C3=A9?=\r\n", "café"),
            (b" a\r\n\tb\r\n", "a b"),
            (b"\r\n", ""),
            (b" caf\xc3\xa9\r\n", "café"),
        ] {
            assert_eq!(decoded(field), value);
        }
    }
}
