//! HTML from a message without what could do harm, load something, or tell the sender that it was read.
//!
//! It is the first of three walls: the frame in which it is shown is a sandbox without scripts, and its content security
//! policy lets it load nothing.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::io::Read;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use ammonia::{Builder, UrlRelative};

/// Cleans HTML. `images` are the pictures of the message, by `Content-ID`, each as a `data:` address.
///
/// What takes longer than [`TIME_LIMIT`] to read is cleaned in part: with the HTML comes whether it is whole.
pub(super) fn sanitized(html: &str, images: HashMap<String, String>) -> (String, bool) {
    sanitized_until(Instant::now() + TIME_LIMIT, html, images)
}

fn sanitized_until(end: Instant, html: &str, images: HashMap<String, String>) -> (String, bool) {
    let mut builder = Builder::new();
    let room = AtomicUsize::new(IMAGES_ROOM);
    builder
        .add_tags(["font", "tfoot"])
        .add_clean_content_tags([
            "title", "template", "noscript", "noembed", "noframes", "iframe", "object", "svg", "math",
        ])
        .add_generic_attributes(["align", "bgcolor", "dir", "height", "style", "valign", "width"])
        .add_tag_attributes("font", ["color", "face", "size"])
        .add_tag_attributes("table", ["border", "cellpadding", "cellspacing"])
        .set_tag_attribute_value("a", "target", "_blank")
        .url_schemes(HashSet::from(["cid", "data", "http", "https", "mailto", "tel"]))
        // A path would lead to this server.
        .url_relative(UrlRelative::Deny)
        .filter_style_properties(STYLES.into())
        .attribute_filter(move |element, attribute, value| match attribute {
            "src" if element == "img" => image(value, &images, &room),
            "src" | "href" | "cite" => is_link(value).then_some(Cow::Borrowed(value)),
            "style" => Some(plain_style(value)),
            _ => Some(Cow::Borrowed(value)),
        });
    let mut html = InTime { rest: html.as_bytes(), end };
    // Reading it does not fail.
    let clean = builder.clean_from_reader(&mut html).map(|clean| clean.to_string()).unwrap_or_default();
    (clean, html.rest.is_empty())
}

/// HTML that ends when the time to read it is over. The parser compares each attribute of a tag with all before it, and a
/// tag of a megabyte has room for a hundred thousand.
struct InTime<'a> {
    rest: &'a [u8],
    end: Instant,
}

impl Read for InTime<'_> {
    fn read(&mut self, room: &mut [u8]) -> std::io::Result<usize> {
        if Instant::now() >= self.end {
            return Ok(0);
        }
        self.rest.read(room)
    }
}

/// What an image may show: a picture that is in the message, for as long as there is room.
fn image<'a>(address: &'a str, images: &HashMap<String, String>, room: &AtomicUsize) -> Option<Cow<'a, str>> {
    let shown = match address.split_once(':')? {
        (scheme, id) if scheme.eq_ignore_ascii_case("cid") => Cow::Owned(images.get(id)?.clone()),
        (scheme, data) if scheme.eq_ignore_ascii_case("data") => {
            let kind = data.split([';', ',']).next()?.to_ascii_lowercase();
            PICTURES.contains(&&*kind).then_some(Cow::Borrowed(address))?
        }
        _ => return None,
    };
    let takes = |room: usize| room.checked_sub(shown.len());
    room.fetch_update(Ordering::Relaxed, Ordering::Relaxed, takes).is_ok().then_some(shown)
}

/// Whether an address is for a person to follow.
fn is_link(address: &str) -> bool {
    let scheme = address.trim_start().split_once(':').map(|(scheme, _)| scheme.to_ascii_lowercase());
    scheme.is_some_and(|scheme| ["http", "https", "mailto", "tel"].contains(&&*scheme))
}

/// A style without the declarations that could name an address.
fn plain_style(style: &str) -> Cow<'_, str> {
    let is_plain = |declaration: &&str| {
        let small = declaration.to_ascii_lowercase();
        !["\\", "url", "image", "src", "expression", "/*", "@"].iter().any(|word| small.contains(word))
    };
    if is_plain(&style) {
        return Cow::Borrowed(style);
    }
    Cow::Owned(style.split(';').filter(is_plain).collect::<Vec<_>>().join(";"))
}

/// For how long HTML is read: 1 s, a hundred times what a megabyte of a newsletter takes; the rest is left out.
const TIME_LIMIT: Duration = Duration::from_secs(1);

/// The pictures that every browser shows, and that cannot hold a program.
pub(super) const PICTURES: [&str; 4] = ["image/gif", "image/jpeg", "image/png", "image/webp"];

/// Most bytes of pictures in the HTML of a message: 16 MiB; one that is used a thousand times would be a thousand times in
/// it. They are among the attachments in any case.
const IMAGES_ROOM: usize = 16 << 20;

/// How text may look. Nothing of it moves an element out of its place, or loads something.
const STYLES: [&str; 49] = [
    "background-color",
    "border",
    "border-bottom",
    "border-bottom-color",
    "border-bottom-style",
    "border-bottom-width",
    "border-collapse",
    "border-color",
    "border-left",
    "border-radius",
    "border-right",
    "border-spacing",
    "border-style",
    "border-top",
    "border-width",
    "box-sizing",
    "clear",
    "color",
    "direction",
    "display",
    "float",
    "font",
    "font-family",
    "font-size",
    "font-style",
    "font-variant",
    "font-weight",
    "height",
    "letter-spacing",
    "line-height",
    "margin",
    "margin-bottom",
    "margin-left",
    "margin-right",
    "margin-top",
    "max-height",
    "max-width",
    "min-height",
    "min-width",
    "padding",
    "padding-bottom",
    "padding-left",
    "padding-right",
    "padding-top",
    "text-align",
    "text-decoration",
    "text-transform",
    "vertical-align",
    "width",
];

#[cfg(test)]
mod tests {
    use super::*;

    fn clean(html: &str) -> String {
        let images = HashMap::from([("logo@here".to_owned(), "data:image/png;base64,AAAA".to_owned())]);
        in_an_hour(html, images)
    }

    /// As [`sanitized`], however slow the machine is.
    fn in_an_hour(html: &str, images: HashMap<String, String>) -> String {
        let (clean, is_whole) = sanitized_until(Instant::now() + Duration::from_secs(3600), html, images);
        assert!(is_whole);
        clean
    }

    #[test]
    fn what_could_do_harm_is_gone_and_the_text_stays() {
        for (html, clean_html) in [
            ("a<script>alert(1)</script>b", "ab"),
            ("<b onclick=alert(1) onerror='x'>b</b>", "<b>b</b>"),
            ("<img src=x onerror=alert(1)>", "<img>"),
            ("<img src=https://track.example/1.gif alt=hi>", "<img alt=\"hi\">"),
            ("<img src=//track.example/1.gif>", "<img>"),
            ("<img src=/api/messages srcset='/a 2x'>", "<img>"),
            ("<img src='data:image/svg+xml,<svg onload=alert(1)>'>", "<img>"),
            ("<img src=data:image/gif;base64,AA==>", "<img src=\"data:image/gif;base64,AA==\">"),
            ("<img src=cid:logo@here>", "<img src=\"data:image/png;base64,AAAA\">"),
            ("<img src=cid:other@here>", "<img>"),
            ("<svg><script>alert(1)</script><circle onload=x></svg>t", "t"),
            ("<svg/onload=alert(1)>", ""),
            ("<math><mtext><img src=x onerror=alert(1)></math>", ""),
            ("<style>@import url(//x)</style>t", "t"),
            ("<link rel=stylesheet href=//x>t", "t"),
            ("<meta http-equiv=refresh content='0;url=//x'>t", "t"),
            ("<base href=//x>t", "t"),
            ("<form action=//x><input name=a><button>go</button></form>", "go"),
            ("<iframe src=//x>f</iframe>t", "t"),
            ("<iframe srcdoc='<script>1</script>'></iframe>t", "t"),
            ("<object data=//x>o</object>t", "t"),
            ("<embed src=//x>t", "t"),
            ("<video src=//x poster=//y></video><audio src=//x></audio>t", "t"),
            (
                "<table background=//x><tr><td background=//y>t",
                "<table><tbody><tr><td>t</td></tr></tbody></table>",
            ),
            ("<p style='background:url(//x)'>t</p>", "<p style=\"\">t</p>"),
            ("<p style='color:red;background-image:url(//x)'>t</p>", "<p style=\"color:red\">t</p>"),
            ("<p style='color:url(//x);width:1px'>t</p>", "<p style=\"width:1px\">t</p>"),
            ("<p style='color:u\\72l(//x)'>t</p>", "<p style=\"\">t</p>"),
            ("<p style='position:fixed;top:0'>t</p>", "<p style=\"\">t</p>"),
            ("<p id=a class=b name=c>t</p>", "<p>t</p>"),
            ("<template><script>1</script></template>t", "t"),
            ("<noscript><p title='</noscript><img src=x onerror=alert(1)>'></noscript>", "\"&gt;"),
        ] {
            let found = clean(html);
            // A stray end of what was taken out may stay as text.
            let is_as_told = found == clean_html || (clean_html == "\"&gt;" && !found.contains("<img src"));
            assert!(is_as_told, "{html}\n  became {found}\n  and not {clean_html}");
            assert!(!found.contains("onerror=") || !found.contains('<'), "{found}");
        }
    }

    #[test]
    fn a_link_opens_elsewhere_and_is_one_that_a_person_follows() {
        let link = |href: &str| clean(&format!("<a href=\"{href}\">t</a>"));
        for href in ["https://example.org/?a=1", "http://example.org", "mailto:a@b.example", "tel:+44"] {
            let html = link(href);
            assert!(html.contains(&format!("href=\"{href}\"")), "{html}");
            assert!(
                html.contains("target=\"_blank\"") && html.contains("rel=\"noopener noreferrer\""),
                "{html}"
            );
        }
        for href in [
            "javascript:alert(1)",
            "JaVaScRiPt:alert(1)",
            "java\tscript:alert(1)",
            " javascript:alert(1)",
            "data:text/html,x",
            "/api/messages",
            "x",
            "cid:a",
            "vbscript:x",
            "file:///etc/passwd",
            "",
        ] {
            assert!(!link(href).contains("href"), "{href}: {}", link(href));
        }
    }

    #[test]
    fn a_picture_that_is_used_too_often_is_left_out() {
        let images =
            HashMap::from([("a".to_owned(), format!("data:image/png;base64,{}", "A".repeat(1 << 20)))]);
        let html = in_an_hour(&"<img src=cid:a>".repeat(1000), images);
        assert!(html.len() < IMAGES_ROOM + (1 << 20), "{}", html.len());
        assert_eq!(html.matches("<img").count(), 1000);
    }

    #[test]
    fn deep_html_costs_no_stack() {
        for tag in [
            "<div>",
            "<b>",
            "<a href=x>",
            "<table>",
            "<p><b>",
            "<font color=red><p>",
            "<svg>",
            "<!--",
            "</p>",
        ] {
            assert!(clean(&tag.repeat(5_000)).len() < 1 << 20, "{tag}");
        }
    }

    #[test]
    fn html_is_read_until_its_time_is_over() {
        // In pieces that cut letters.
        let text = "téxt ".repeat(150_000);
        let now = Instant::now();
        assert_eq!(in_an_hour(&text, HashMap::new()), text);
        assert_eq!(sanitized_until(now, &text, HashMap::new()), (String::new(), false));
        let mut html = InTime { rest: b"<b>before</b><b and-more>", end: now + Duration::from_secs(3600) };
        let mut read = [0; 13];
        html.read_exact(&mut read).unwrap();
        html.end = now;
        assert_eq!((&read, html.read(&mut [0; 13]).unwrap()), (b"<b>before</b>", 0));
    }

    /// What attacks are made of.
    const PIECES: [&str; 30] = [
        "<script>",
        "</script>",
        "<svg>",
        "</svg>",
        "<math>",
        "<mtext>",
        "<style>",
        "</style>",
        "<!--",
        "-->",
        "<![CDATA[",
        "]]>",
        "<table>",
        "<td>",
        "<a href='",
        "<img src=\"",
        "<p title='",
        "' ",
        "\" ",
        ">",
        "<form>",
        "<template>",
        "<noscript>",
        "<textarea>",
        "<select>",
        "<plaintext>",
        "javascript:alert(1)",
        " onerror=alert(1) ",
        "<img src=x onerror=alert(1)>",
        "&lt;",
    ];

    proptest::proptest! {
        #[test]
        fn no_mixture_of_pieces_gets_through(pieces in proptest::collection::vec(0..PIECES.len(), 0..20)) {
            let html: String = pieces.into_iter().map(|piece| PIECES[piece]).collect();
            let clean = clean(&html);
            // A text has no `<` in it, an attribute of another element's may.
            for tag in tags(&clean) {
                let name = tag.split([' ', '>']).next().unwrap_or_default().trim_start_matches('/');
                let known = ["a", "img", "p", "table", "tbody", "tr", "td"];
                proptest::prop_assert!(known.contains(&name), "{} became {}", html, clean);
                proptest::prop_assert!(!outside_quotes(tag).contains("onerror"), "{} became {}", html, clean);
                proptest::prop_assert!(!tag.contains("href=\"javascript"), "{} became {}", html, clean);
            }
        }
    }

    /// Every tag, from behind its `<` to before its `>`.
    fn tags(html: &str) -> Vec<&str> {
        let mut tags = Vec::new();
        let mut rest = html;
        while let Some((_, tag)) = rest.split_once('<') {
            let mut is_quoted = false;
            let end = tag.find(|letter| {
                is_quoted ^= letter == '"';
                letter == '>' && !is_quoted
            });
            let (tag, after) = tag.split_at(end.unwrap_or(tag.len()));
            tags.push(tag);
            rest = after;
        }
        tags
    }

    fn outside_quotes(tag: &str) -> String {
        tag.split('"').step_by(2).collect()
    }
}
