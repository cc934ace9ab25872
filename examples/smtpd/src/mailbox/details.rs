//! [`Details`]: what the list shows of a message, and what is searched; and the file that it is read from.
//!
//! All of it is for other threads than the loop's.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::PoisonError;

use mail_parser::{Address, DateTime};
use serde::Serialize;

use super::Message;
use super::mime::{Mime, Role, contained, cut};
use super::scan::{CUR, FLAGS, NEW};

/// What the list shows of a message.
#[derive(Clone, Debug, Default, Serialize)]
#[non_exhaustive]
pub struct Details {
    /// Whom the message says it is from, or who has sent it.
    pub from: String,
    /// For whom it was sent, or whom it says it is to.
    pub to: Vec<String>,
    /// What it is about.
    pub subject: String,
    /// When it says it was written, as of RFC 3339.
    pub date: Option<String>,
    /// Its length in bytes, the lines on top included.
    pub size: u64,
    /// How many attachments it has, as far as its first 64 KiB show.
    pub attachments: usize,
    /// Its first words.
    pub preview: String,
    /// What is searched, in small letters.
    #[serde(skip)]
    searched: String,
}

impl Message {
    /// What the list shows, read from the file at the first time.
    ///
    /// # Errors
    ///
    /// If the file cannot be read; `NotFound` if there is none any more.
    pub fn details(&self) -> io::Result<&Details> {
        if let Some(details) = self.details.get() {
            return Ok(details);
        }
        let file = self.open()?;
        let size = file.metadata()?.len();
        let mut head = Vec::new();
        file.take(READ).read_to_end(&mut head)?;
        Ok(self.details.get_or_init(|| Details::of(&head, size)))
    }

    /// Whether the words are in its addresses, its subject or the beginning of its text; they are in small letters.
    ///
    /// # Errors
    ///
    /// As of [`details`](Self::details).
    pub fn has(&self, words: &str) -> io::Result<bool> {
        let searched = &self.details()?.searched;
        Ok(words.split_whitespace().all(|word| searched.contains(word)))
    }

    /// Opens its file, wherever a mail reader has moved it.
    ///
    /// # Errors
    ///
    /// If it cannot be opened; `NotFound` if there is none any more.
    pub fn open(&self) -> io::Result<File> {
        let mut error = io::ErrorKind::NotFound.into();
        for path in self.likely_paths() {
            match File::open(path) {
                Err(other) if other.kind() == io::ErrorKind::NotFound => error = other,
                opened => return opened,
            }
        }
        self.moved_path().map_or(Err(error), File::open)
    }

    /// Whether no folder has its file any more.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        !self.likely_paths().any(|path| path.exists()) && self.moved_path().is_none()
    }

    /// Removes its files from all folders.
    ///
    /// # Errors
    ///
    /// If one could not be removed, though it is there.
    pub fn delete(&self) -> io::Result<()> {
        for folder in &self.folders {
            let mut is_found = false;
            for path in self.likely_in(folder) {
                is_found |= remove(path)?;
            }
            if !is_found && let Some(path) = self.moved_in(folder) {
                remove(path)?;
            }
        }
        Ok(())
    }

    /// Where its files may be without a search.
    fn likely_paths(&self) -> impl Iterator<Item = PathBuf> {
        self.folders.iter().flat_map(|folder| self.likely_in(folder))
    }

    /// Where its file in a folder may be without a search.
    fn likely_in(&self, folder: &Path) -> impl Iterator<Item = PathBuf> + use<> {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let usual = [NEW, CUR].map(|part| folder.join(part).join(&self.name));
        seen.map(|seen| folder.join(seen)).into_iter().chain(usual)
    }

    fn moved_path(&self) -> Option<PathBuf> {
        self.folders.iter().find_map(|folder| self.moved_in(folder))
    }

    /// The file of it in a folder that a mail reader has given flags.
    fn moved_in(&self, folder: &Path) -> Option<PathBuf> {
        let is_it = |entry: &fs::DirEntry| {
            let file = entry.file_name();
            file.to_str().and_then(|file| file.strip_prefix(&self.name)?.chars().next()) == Some(FLAGS)
        };
        fs::read_dir(folder.join(CUR)).ok()?.flatten().find(is_it).map(|entry| entry.path())
    }
}

/// Removes a file: whether it was there.
fn remove(path: PathBuf) -> io::Result<bool> {
    match fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

impl Details {
    /// What the head of a message shows, whose whole has `size` bytes.
    fn of(head: &[u8], size: u64) -> Self {
        let details = contained(|| Mime::of(head).map(|mime| Self::shown(&mime, size)));
        details.flatten().unwrap_or_else(|| Self { size, ..Self::default() })
    }

    fn shown(mime: &Mime<'_>, size: u64) -> Self {
        let message = &mime.header;
        let envelope = mime.first("X-Envelope-To");
        let mut to = within_room(recipients(&envelope));
        if to.is_empty() {
            to = within_room(message.all_to().chain(message.all_cc()).flat_map(names));
        }
        let sender = || mime.first("Return-Path").trim().trim_matches(['<', '>']).to_owned();
        let from = message.from().and_then(|from| names(from).next()).unwrap_or_else(sender);
        let (from, subject) = (cut(&from, FIELD), cut(message.subject().unwrap_or_default(), FIELD));
        let text = mime.text();
        let words: Vec<&str> = cut(&text, SEARCHED).split_whitespace().collect();
        let words = words.join(" ");
        let searched = format!("{from}\n{}\n{subject}\n{words}", to.join("\n")).to_lowercase();
        Self {
            to,
            from: from.to_owned(),
            subject: subject.to_owned(),
            date: message.date().filter(|date| date.is_valid()).map(DateTime::to_rfc3339),
            size,
            attachments: mime.parts.iter().filter(|part| part.role == Role::Attached).count(),
            preview: cut(&words, PREVIEW).to_owned(),
            searched,
        }
    }
}

/// The first recipients, as many as there is room for; they take no more memory than they need.
fn within_room<T: AsRef<str>>(recipients: impl Iterator<Item = T>) -> Vec<String> {
    let mut room = RECIPIENTS;
    let kept = recipients.map_while(|one| {
        let one = cut(one.as_ref(), FIELD);
        room = room.checked_sub(one.len() + size_of::<String>())?;
        Some(one.to_owned())
    });
    let mut kept: Vec<_> = kept.collect();
    kept.shrink_to_fit();
    kept
}

/// The recipients in a list with commas, which may be in a quoted local part too.
fn recipients(list: &str) -> impl Iterator<Item = &str> {
    let (mut is_quoted, mut is_escaped) = (false, false);
    let parts = list.split(move |char| {
        let was_escaped = is_escaped;
        is_escaped = is_quoted && char == '\\' && !was_escaped;
        is_quoted ^= char == '"' && !was_escaped;
        char == ',' && !is_quoted
    });
    parts.map(str::trim).filter(|recipient| !recipient.is_empty())
}

/// The addresses of a field, as a reader wants to see them.
fn names<'a>(addresses: &'a Address<'_>) -> impl Iterator<Item = String> + 'a {
    addresses.iter().filter_map(|address| match (address.name(), address.address()) {
        (Some(name), Some(address)) => Some(format!("{name} <{address}>")),
        (None, Some(one)) | (Some(one), None) => Some(one.to_owned()),
        (None, None) => None,
    })
}

/// How much of a message is read for the list: 64 KiB, all of most messages; ten thousand of them are read in a second.
const READ: u64 = 64 << 10;

/// How much of a text is searched: its first 2 KiB, so that ten thousand messages cost 20 MB.
const SEARCHED: usize = 2 << 10;

/// How much of a subject, a sender and a recipient is shown: 998 bytes, a line as long as lines may be (RFC 5322, section
/// 2.1.1).
const FIELD: usize = 998;

/// How much memory the recipients of a message may take: 4 KiB, eighty of them. All are in its source.
const RECIPIENTS: usize = 4 << 10;

/// How much of a text the list shows: 160 bytes, a line of a wide window.
const PREVIEW: usize = 160;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_comma_in_quotes_separates_no_recipients() {
        for (list, parts) in [
            ("a@x, b@x,\r\n\tc@x\r\n", &["a@x", "b@x", "c@x"][..]),
            (r#""a,b"@x, "c\",d"@x"#, &[r#""a,b"@x"#, r#""c\",d"@x"#]),
            (r#""a\\",b@x"#, &[r#""a\\""#, "b@x"]),
            (" \r\n", &[]),
        ] {
            assert_eq!(recipients(list).collect::<Vec<_>>(), parts);
        }
    }

    #[test]
    fn the_envelope_is_what_this_server_has_written_on_top() {
        let head =
            b"Return-Path: <a@x>\r\nX-Envelope-To: b@x\r\nReturn-Path: <c@x>\r\nX-Envelope-To: d@x\r\n\r\n";
        let details = Details::of(head, 1);
        assert_eq!((&*details.from, &*details.to), ("a@x", &["b@x".to_owned()][..]));
    }

    #[test]
    fn any_bytes_have_details() {
        for head in [
            &b""[..],
            b"\r\n\r\n",
            b"\xff\xfe\0",
            b"Subject",
            b"Content-Type: multipart/mixed; boundary=\r\n\r\n--",
        ] {
            assert_eq!(Details::of(head, 7).size, 7);
        }
        let endless = "x ".repeat(30_000);
        for head in [
            format!("Subject: {endless}\r\n\r\n"),
            format!("From: {endless} <a@b.example>\r\n\r\n"),
            format!("To: {}\r\n\r\n", "a@b,".repeat(15_000)),
            format!("X-Envelope-To: {}\r\n\r\n{endless}", "a@b,".repeat(5_000)),
        ] {
            let Details { from, to, subject, searched, .. } = Details::of(head.as_bytes(), 1);
            let cost = size_of::<String>() * to.capacity() + to.iter().map(String::capacity).sum::<usize>();
            let cost = cost + from.capacity() + subject.capacity() + searched.capacity();
            assert!(!from.is_empty() || !to.is_empty() || !subject.is_empty(), "{head:.40}");
            assert!(cost < 16 << 10, "{cost}: {head:.40}");
        }
        let bounce = Details::of(b"Return-Path: <>\r\nSubject: back\r\n\r\n\r\n", 1);
        assert_eq!((&*bounce.from, &*bounce.subject), ("", "back"));
    }
}
