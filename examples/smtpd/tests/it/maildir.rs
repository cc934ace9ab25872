//! What the Maildir promises where nothing fails: whole messages, their lines on top, folders, memory, nothing left over.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use crate::program::{Client, Program, below_the_trace, files, until};

#[test]
fn a_message_is_kept_as_it_was_sent_below_the_lines_that_say_how_it_came() {
    let program = Program::start(&["--hostname=mx.example"]);
    let mut client = program.client();
    client.ask("EHLO laptop.example", "250");
    let text = "Subject: a\r\n\r\n..a dot\r\n\r\nlast\r\n";
    assert!(client.deliver(text).starts_with("250 2.0.0 "));
    let kept = program.kept_in("Maildir/new");
    let [kept] = kept.as_slice() else { panic!("{} messages", kept.len()) };
    let unfolded = str::from_utf8(kept).unwrap().replace("\r\n\t", " ");
    let lines: Vec<_> = unfolded.split("\r\n").collect();
    assert_eq!(lines[0], "Return-Path: <from@example.org>");
    let start = "Received: from laptop.example ([127.0.0.1]) by mx.example with ESMTP id ";
    assert!(lines[1].starts_with(start) && lines[1].contains(" for <to@example.org>; "), "{unfolded}");
    assert_eq!(lines[2..4], ["X-Envelope-To: to@example.org", "Subject: a"]);
    assert_eq!(below_the_trace(kept), b"Subject: a\r\n\r\n.a dot\r\n\r\nlast\r\n");
    assert!(program.kept_in("Maildir/tmp").is_empty());
}

#[test]
fn all_recipients_are_named_on_top_and_none_in_received() {
    let program = Program::start(&[]);
    let mut client = program.client();
    client.ask("HELO laptop.example", "250");
    client.ask("MAIL FROM:<>", "250");
    for to in ["a@x.org", "b@x.org", "c@x.org"] {
        client.ask(&format!("RCPT TO:<{to}>"), "250");
    }
    client.ask("DATA", "354");
    client.ask(".", "250");
    let kept = program.kept_in("Maildir/new").concat();
    let kept = str::from_utf8(&kept).unwrap();
    assert!(kept.starts_with("Return-Path: <>\r\n"), "{kept}");
    assert!(kept.contains("with SMTP") && !kept.contains("for <"), "{kept}");
    assert!(kept.ends_with("X-Envelope-To: a@x.org,\r\n\tb@x.org,\r\n\tc@x.org\r\n"), "{kept}");
}

#[test]
fn a_large_message_takes_little_memory_and_comes_whole() {
    let program = Program::start(&["--message-limit=100MiB", "--text-line-limit=0"]);
    let mut client = program.client();
    client.ask("EHLO laptop.example", "250");
    let line = [&[b'x'; 998][..], b"\r\n"].concat();
    let piece = line.repeat(1 << 10);
    client.ask("MAIL FROM:<from@example.org>", "250");
    client.ask("RCPT TO:<to@example.org>", "250");
    let before = program.peak();
    client.ask("DATA", "354");
    for _ in 0..PIECES {
        client.send(&piece);
    }
    client.send(".\r\n");
    client.expect("250 ");
    let grown = program.peak() - before;
    assert!(grown < 8 << 20, "{grown} bytes for a message of {}", PIECES * piece.len());
    let messages = program.messages();
    let [message] = messages.as_slice() else { panic!("{} messages", messages.len()) };
    assert!(message.len() == PIECES * piece.len() && message.chunks(line.len()).all(|kept| kept == line));
}

#[test]
fn a_message_without_its_end_leaves_nothing() {
    let program = Program::start(&[]);
    let begun = || {
        let mut client = program.client();
        client.ask("EHLO laptop.example", "250");
        client.ask("MAIL FROM:<from@example.org>", "250");
        client.ask("RCPT TO:<to@example.org>", "250");
        client
    };
    let is_written = || (!program.kept_in("Maildir/tmp").is_empty()).then_some(());
    let is_gone = || program.kept_in("Maildir/tmp").is_empty().then_some(());
    let half = "half a message\r\n".repeat(20_000);

    let mut lost = begun();
    lost.ask("DATA", "354");
    lost.send(&half);
    until("a file in tmp", is_written);
    drop(lost);
    until("the file in tmp to be removed", is_gone);

    let mut reset = begun();
    reset.send(format!("BDAT {}\r\n{half}", half.len()));
    reset.expect("250");
    until("a file in tmp", is_written);
    reset.ask("RSET", "250");
    until("the file in tmp to be removed", is_gone);
    // The session is not held up by the message that was given up.
    assert!(reset.deliver("Subject: b\r\n").starts_with("250"));
    assert_eq!(program.messages(), [b"Subject: b\r\n"]);
}

#[test]
fn stale_files_in_tmp_are_removed_and_never_delivered() {
    let folder = tempfile::tempdir().unwrap();
    let tmp = folder.path().join("Maildir/tmp");
    fs::create_dir_all(&tmp).unwrap();
    for (name, hours) in [("stale", 37), ("young", 35)] {
        let file = File::create(tmp.join(name)).unwrap();
        file.set_modified(SystemTime::now() - Duration::from_secs(hours * 3600)).unwrap();
    }
    let program = Program::start_in(folder, &[]);
    assert_eq!(files(&program.folder().join("Maildir/tmp")), [program.folder().join("Maildir/tmp/young")]);
    assert!(program.kept_in("Maildir/new").is_empty());
}

#[test]
fn a_maildir_that_was_removed_comes_back_with_the_next_message() {
    let program = Program::start(&[]);
    let mut client = program.client();
    client.ask("EHLO laptop.example", "250");
    assert!(client.deliver("one\r\n").starts_with("250"));
    fs::remove_dir_all(program.folder().join("Maildir")).unwrap();
    assert!(client.deliver("two\r\n").starts_with("250"));
    assert_eq!(program.messages(), [b"two\r\n"]);
}

#[test]
fn each_recipient_has_a_link_in_a_folder_of_its_own() {
    let program = Program::start(&["--per-recipient"]);
    let mut client = program.client();
    client.ask("EHLO laptop.example", "250");
    client.ask("MAIL FROM:<from@example.org>", "250");
    for to in ["Jane@Example.ORG", "jane@example.org", "jane+lists@example.org", "Postmaster"] {
        client.ask(&format!("RCPT TO:<{to}>"), "250");
    }
    client.ask("DATA", "354");
    client.send("Subject: a\r\n.\r\n");
    client.expect("250");
    let mut inodes = BTreeSet::new();
    for name in ["jane@example.org", "jane+lists@example.org", "postmaster"] {
        let new = files(&program.folder().join("Maildir").join(name).join("new"));
        let [file] = new.as_slice() else { panic!("{name}: {new:?}") };
        let text = fs::read_to_string(file).unwrap();
        assert!(text.ends_with("\r\nSubject: a\r\n") && !text.contains("X-Envelope-To"), "{text}");
        inodes.insert(fs::metadata(file).unwrap().ino());
    }
    assert_eq!(inodes.len(), 1, "one file");
    assert!(program.kept_in("Maildir/tmp").is_empty() && program.kept_in("Maildir/new").is_empty());
}

/// Row 48.
#[test]
fn no_recipient_has_a_way_out_of_the_spool() {
    let program = Program::start(&["--per-recipient"]);
    let before = tree(program.folder());
    let mut client = program.client();
    client.ask("EHLO laptop.example", "250");
    let long = format!("{}@{}", "l".repeat(64), ["d".repeat(60).as_str(); 4].join("."));
    let locals = [
        "\"../../../out\"@x.org",
        "\"/out\"@x.org",
        "\"..\"@x.org",
        "\"\\.\\./\\.\\./out\"@x.org",
        "-rf@x.org",
        "\"a:2,S\"@x.org",
        "a/../../../out@x.org",
        "out@[127.0.0.1]",
        "\"\"@x.org",
        long.as_str(),
        "\"a\0b\"@x.org",
        "a@../../out",
        "..@x.org",
    ];
    for to in locals {
        // Some are no addresses, one is too long for a folder: they are refused, and the rest is encoded.
        client.ask("MAIL FROM:<from@example.org>", "250");
        client.send(format!("RCPT TO:<{to}>\r\n"));
        if client.reply().starts_with("250") {
            client.ask("DATA", "354");
            client.ask(".", "250");
        } else {
            client = again(client, &program);
        }
    }
    for path in tree(program.folder()).difference(&before) {
        let mut parts = path.components().map(|part| part.as_os_str().to_str().unwrap());
        assert_eq!(parts.next(), Some("Maildir"), "{path:?}");
        if let Some(name) = parts.next() {
            assert!(name.contains('@') && !name.starts_with(['.', '-']), "{path:?}");
            assert!(parts.next().is_none_or(|part| ["tmp", "new", "cur"].contains(&part)), "{path:?}");
        }
    }
}

/// A new session, so that errors do not add up.
fn again(mut client: Client, program: &Program) -> Client {
    client.ask("QUIT", "221");
    let mut client = program.client();
    client.ask("EHLO laptop.example", "250");
    client
}

#[test]
fn a_recipient_whose_folder_would_have_too_long_a_name_is_refused_at_once() {
    let program = Program::start(&["--per-recipient"]);
    let mut client = program.client();
    client.ask("EHLO laptop.example", "250");
    client.ask("MAIL FROM:<from@example.org>", "250");
    let domain = ["d".repeat(60).as_str(); 4].join(".");
    client.ask(&format!("RCPT TO:<{}@{domain}>", "/".repeat(10)), "553 5.1.3");
    client.ask(&format!("RCPT TO:<{}@{domain}>", "l".repeat(10)), "250");
}

/// All files and folders below one.
fn tree(root: &Path) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for path in files(&folder) {
            found.insert(path.strip_prefix(root).unwrap().to_owned());
            if path.is_dir() {
                folders.push(path);
            }
        }
    }
    found
}

/// Pieces of about a megabyte of the large message.
const PIECES: usize = 64;
