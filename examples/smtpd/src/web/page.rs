//! The page and its parts, as they are compiled into the program, and what each answer allows a browser.

use super::response::Response;

/// The page, its style or its script.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asset {
    Page,
    Style,
    Script,
}

impl Asset {
    pub(super) fn response(self) -> Response {
        match self {
            Self::Page => {
                Response::ok("text/html; charset=utf-8", PAGE).with("Content-Security-Policy", PAGE_POLICY)
            }
            Self::Style => Response::ok("text/css; charset=utf-8", STYLE),
            Self::Script => Response::ok("text/javascript; charset=utf-8", SCRIPT),
        }
    }
}

/// The HTML of a message, in a page of its own for the frame.
pub(super) fn frame(html: &str) -> Response {
    let page = format!("{FRAME_HEAD}{html}\n");
    Response::ok("text/html; charset=utf-8", page).with("Content-Security-Policy", FRAME_POLICY)
}

/// A value for `Content-Disposition` that has the browser save a file by a name (RFC 6266): that name in UTF-8 (RFC 8187),
/// and for old browsers what ASCII has of it. No part of it is a path, or ends the value.
pub(super) fn saved_as(name: &str) -> String {
    let name: String = name.rsplit(['/', '\\']).next().unwrap_or_default().chars().take(NAME_LIMIT).collect();
    let name = name.trim_start_matches('.');
    let plain = |letter: char| {
        let harmless =
            letter.is_ascii_graphic() && !matches!(letter, '"' | '\\' | '%' | ';') || letter == ' ';
        if harmless { letter } else { '_' }
    };
    let ascii: String = name.chars().map(plain).collect();
    let mut coded = String::new();
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_') {
            coded.push(char::from(byte));
        } else {
            coded.push_str(&format!("%{byte:02X}"));
        }
    }
    format!("attachment; filename=\"{ascii}\"; filename*=UTF-8''{coded}")
}

const PAGE: &str = include_str!("page.html");
const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

/// The page uses its own parts only, frames its own answers only, and nobody frames it.
const PAGE_POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; \
                           img-src data:; frame-src 'self'; base-uri 'none'; form-action 'none'; \
                           frame-ancestors 'none'";

/// The HTML of a message loads nothing and runs nothing. A link opens in a window of its own, as that of a stranger.
const FRAME_POLICY: &str = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'; \
                            form-action 'none'; frame-ancestors 'self'; \
                            sandbox allow-popups allow-popups-to-escape-sandbox";

/// Mail is written for a white page.
const FRAME_HEAD: &str = "<!doctype html>\n<meta charset=\"utf-8\">\n<meta name=\"color-scheme\" content=\"only light\">\n\
                          <style>body { margin: 1rem; color: #1c2024; background: #fff; font: 15px/1.5 system-ui, \
                          sans-serif; overflow-wrap: anywhere } img { max-width: 100% }</style>\n";

/// Most letters of a file's name: 150, of which no letter makes more than twelve in the value.
const NAME_LIMIT: usize = 150;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_saved_by_its_name_and_nowhere_else() {
        for (name, value) in [
            ("a.txt", "attachment; filename=\"a.txt\"; filename*=UTF-8''a.txt"),
            ("é.txt", "attachment; filename=\"_.txt\"; filename*=UTF-8''%C3%A9.txt"),
            ("../../etc/passwd", "attachment; filename=\"passwd\"; filename*=UTF-8''passwd"),
            ("C:\\a.exe", "attachment; filename=\"a.exe\"; filename*=UTF-8''a.exe"),
            ("..", "attachment; filename=\"\"; filename*=UTF-8''"),
            ("a\"; b=\"c", "attachment; filename=\"a__ b=_c\"; filename*=UTF-8''a%22%3B%20b%3D%22c"),
            (
                "a\r\nSet-Cookie: b",
                "attachment; filename=\"a__Set-Cookie: b\"; filename*=UTF-8''a%0D%0ASet-Cookie%3A%20b",
            ),
        ] {
            assert_eq!(saved_as(name), value);
        }
        assert!(saved_as(&"\u{1f600}".repeat(10_000)).len() < 4096);
    }
}
