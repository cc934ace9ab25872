//! [`folder`]: the name of a recipient's folder, which is one name, inside the spool, whatever the address is.
//!
//! | address | folder |
//! |---|---|
//! | `Jane@Example.ORG` | `jane@example.org` |
//! | `jane+lists@example.org` | `jane+lists@example.org` |
//! | `"jane"@example.org` | `jane@example.org` |
//! | `"../../etc"@example.org` | `%2E.%2F..%2Fetc@example.org` |
//! | `postmaster` | `postmaster` |

use std::fmt::Write;

use crate::address::Mailbox;

/// The folder of a recipient: letter case does not matter in it, a detail (`+lists`) does.
///
/// Letters and digits of any script and `._+-=~@[]:` stay. All else, a dot or a dash in front, and an `@` that is not the
/// one in front of the domain, are written as `%` and two hexadecimal digits a byte. So the name is never `.` or `..`, has
/// no `/` and no NUL, hides from no listing and is no option of a command; and two mailboxes have the same name only if
/// they differ in letter case or in quotes that mean nothing.
///
/// `None` if the name would have more than 255 bytes, which no usual file system takes.
#[must_use]
pub fn folder(mailbox: &Mailbox) -> Option<String> {
    name(mailbox.local_part(), mailbox.domain())
}

fn name(local: &str, domain: Option<&str>) -> Option<String> {
    let mut name = String::new();
    escape(&unquoted(local).to_lowercase(), &mut name);
    if let Some(domain) = domain {
        name.push('@');
        escape(&domain.to_lowercase(), &mut name);
    } else if FOLDERS.contains(&name.as_str()) {
        // The spool's own folders.
        name.insert(0, '%');
    }
    (name.len() <= NAME_LIMIT).then_some(name)
}

/// A local part without quotes, and without backslashes that keep what follows from having a meaning.
fn unquoted(local: &str) -> String {
    let Some(quoted) = local.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) else {
        return local.to_owned();
    };
    let mut chars = quoted.chars();
    let mut text = String::with_capacity(quoted.len());
    while let Some(char) = chars.next() {
        text.extend(if char == '\\' { chars.next() } else { Some(char) });
    }
    text
}

fn escape(part: &str, name: &mut String) {
    for char in part.chars() {
        let is_kept = match char {
            '.' | '-' => !name.is_empty(),
            '_' | '+' | '=' | '~' | '[' | ']' | ':' => true,
            _ => char.is_alphanumeric(),
        };
        if is_kept {
            name.push(char);
            continue;
        }
        for byte in char.encode_utf8(&mut [0; 4]).bytes() {
            // Writing to a string does not fail.
            let _ = write!(name, "%{byte:02X}");
        }
    }
}

/// The folders of a Maildir.
pub(crate) const FOLDERS: [&str; 3] = ["tmp", "new", "cur"];

/// Most bytes of a name: 255, `NAME_MAX` of the file systems in use.
const NAME_LIMIT: usize = 255;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_no_way_out_of_the_spool() {
        let table = [
            ("jane", "jane@x.org"),
            ("JANE", "jane@x.org"),
            ("jane+lists", "jane+lists@x.org"),
            ("\"jane\"", "jane@x.org"),
            ("\"ja\\ne\"", "jane@x.org"),
            ("\"a b\"", "a%20b@x.org"),
            ("\"a@b\"", "a%40b@x.org"),
            ("..", "%2E.@x.org"),
            (".", "%2E@x.org"),
            (".hidden", "%2Ehidden@x.org"),
            ("-rf", "%2Drf@x.org"),
            ("../../etc/passwd", "%2E.%2F..%2Fetc%2Fpasswd@x.org"),
            ("\"..\\\\..\\\\x\"", "%2E.%5C..%5Cx@x.org"),
            ("/etc", "%2Fetc@x.org"),
            ("a\0b", "a%00b@x.org"),
            ("a\x1b[31m", "a%1B[31m@x.org"),
            ("100%", "100%25@x.org"),
            ("a:2,S", "a:2%2Cs@x.org"),
            ("", "@x.org"),
            ("\"\"", "@x.org"),
            // Letters of other scripts stay; a full-width slash, a zero-width joiner and a mark from right to left do not.
            ("jürgen", "jürgen@x.org"),
            ("a／b", "a%EF%BC%8Fb@x.org"),
            ("a\u{200d}b\u{202e}", "a%E2%80%8Db%E2%80%AE@x.org"),
        ];
        for (local, expected) in table {
            assert_eq!(name(local, Some("x.org")).as_deref(), Some(expected), "{local:?}");
        }
        assert_eq!(name("a", Some("[IPv6:2001:db8::1]")).as_deref(), Some("a@[ipv6:2001:db8::1]"));
        assert_eq!(name("a", Some("../../x")).as_deref(), Some("a@..%2F..%2Fx"));
        assert_eq!(name("Postmaster", None).as_deref(), Some("postmaster"));
        assert_eq!(name("tmp", None).as_deref(), Some("%tmp"));
        assert_eq!(name("..", None).as_deref(), Some("%2E."));
    }

    #[test]
    fn a_name_that_no_file_system_takes_is_refused() {
        let domain = "d".repeat(250);
        assert_eq!(name("abcd", Some(&domain)).map(|name| name.len()), Some(255));
        assert_eq!(name("abcde", Some(&domain)), None);
        assert_eq!(name("ab/", Some(&domain)), None, "the escapes count");
    }

    #[test]
    fn every_character_gives_one_name_below_the_spool() {
        for char in (0..=0x2_ffff).filter_map(char::from_u32) {
            for local in
                [format!("{char}"), format!("a{char}"), format!("\"{char}\""), format!("\"\\{char}\"")]
            {
                let name = name(&local, Some("x")).unwrap();
                let path = std::path::Path::new(&name);
                assert_eq!(path.components().count(), 1, "{char:?}");
                assert_eq!(path.file_name().and_then(|name| name.to_str()), Some(name.as_str()), "{char:?}");
                assert!(
                    !name.starts_with(['.', '-']) && !name.contains(|c: char| c.is_control()),
                    "{char:?}"
                );
            }
        }
    }
}
