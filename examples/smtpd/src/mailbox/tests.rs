//! The index beside real folders, which other programs change too.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use asyncore::{Channel, Map};
use integration_tests::{Peer, turn_until};

use super::{Mailbox, kept, stream, watch};
use crate::app::App;

/// A map, an index and its folder.
struct Server {
    map: Map<App>,
    app: App,
    folder: tempfile::TempDir,
}

impl Server {
    /// An index of what these files make.
    fn of(files: &[&str], per_recipient: bool) -> Self {
        let folder = tempfile::tempdir().unwrap();
        for file in files {
            write(&folder.path().join(file));
        }
        let mut app = App::for_tests();
        app.mailbox = Mailbox::open(folder.path(), per_recipient);
        Self { map: integration_tests::map(), app, folder }
    }

    fn keep(&mut self, name: &str) {
        write(&self.path(&format!("new/{name}")));
        let folder: Arc<Path> = self.folder.path().into();
        kept(&mut self.map, &mut self.app, name, vec![folder]);
    }

    fn path(&self, file: &str) -> PathBuf {
        self.folder.path().join(file)
    }

    fn ids(&self) -> Vec<String> {
        self.app.mailbox.newest(None).map(|message| message.id.clone()).collect()
    }

    /// Waits until these are listed.
    fn until(&mut self, ids: &[&str]) {
        turn_until(&mut self.map, &mut self.app, &format!("{ids:?} to be listed"), |_, app| {
            app.mailbox.newest(None).map(|message| &*message.id).eq(ids.iter().copied())
        });
    }
}

fn write(path: &Path) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, "Subject: kept\r\n\r\nText\r\n").unwrap();
}

/// A page that is open.
struct Page;

impl Channel<App> for Page {}

#[test]
fn what_was_there_before_is_listed_below_what_comes() {
    let files = [
        "new/1700000002.first-of-all.host",
        "new/1700000004.fourth-message.host",
        "cur/1700000003.second-message.host:2,S",
        "new/.hidden",
        "tmp/1700000009.not-yet-there.host",
    ];
    let mut server = Server::of(&files, false);
    watch(&mut server.map, &mut server.app);
    server.keep("1600000000.comes-at-once.host");
    server.until(&["comes-at-once", "fourth-message", "second-message", "first-of-all"]);
    let message = server.app.mailbox.get("second-message").unwrap();
    assert_eq!(message.details().unwrap().subject, "kept");
    assert!(message.has("kept text").unwrap() && !message.has("lost").unwrap());
}

#[test]
fn every_message_has_an_id_of_its_own_whatever_its_file_is_called() {
    let mut server = Server::of(&[], false);
    for name in [
        "1700000000.123.host",
        "1700000000.long-enough.host",
        "1700000001.long-enough.host",
        "a b/é:2,S",
        "",
        "...",
        "\n\u{7}",
    ] {
        let folder: Arc<Path> = server.folder.path().into();
        kept(&mut server.map, &mut server.app, name, vec![folder]);
    }
    let ids = ["__", "_...", "_", "a_b___2_S", "long-enough_2", "long-enough", "1700000000.123.host"];
    assert_eq!(server.ids(), ids.map(str::to_owned));
}

#[test]
fn a_message_for_several_is_listed_once() {
    let files = [
        "ann/new/1700000001.to-both-of-them.host",
        "bob/cur/1700000001.to-both-of-them.host:2,S",
        "bob/new/1700000002.to-bob-alone.host",
    ];
    let mut server = Server::of(&files, true);
    watch(&mut server.map, &mut server.app);
    server.until(&["to-bob-alone", "to-both-of-them"]);
    server.app.mailbox.get("to-both-of-them").unwrap().delete().unwrap();
    assert!(
        !server.path(files[0]).exists() && !server.path(files[1]).exists() && server.path(files[2]).exists()
    );
}

#[test]
fn while_a_page_is_open_it_shows_what_other_programs_do() {
    let mut server =
        Server::of(&["new/1700000001.first-message.host", "new/1700000002.second-message.host"], false);
    watch(&mut server.map, &mut server.app);
    server.until(&["second-message", "first-message"]);
    let (mut page, here) = Peer::pair();
    let id = server.map.add(here, Page).unwrap();
    stream(&mut server.app, id);
    write(&server.path("new/1800000000.from-elsewhere.host"));
    server.until(&["from-elsewhere", "second-message", "first-message"]);
    fs::create_dir(server.path("cur")).unwrap();
    fs::rename(
        server.path("new/1700000001.first-message.host"),
        server.path("cur/1700000001.first-message.host:2,RS"),
    )
    .unwrap();
    fs::remove_file(server.path("new/1700000002.second-message.host")).unwrap();
    server.until(&["from-elsewhere", "first-message"]);
    assert_eq!(server.app.mailbox.get("first-message").unwrap().details().unwrap().size, 23);
    turn_until(&mut server.map, &mut server.app, "the page to be told", |map, _| {
        map.get(id).is_some_and(|page| page.bytes_out() > 150)
    });
    let events = page.read_bytes(150);
    assert!(events.starts_with(b"event: messages\ndata: {\"added\":[\"from-elsewhere\"]"));
}

#[test]
fn the_list_is_bounded_and_keeps_the_newest() {
    let mut server = Server::of(&[], false);
    let folder: Arc<Path> = server.folder.path().into();
    for number in 0..super::LISTED + 10 {
        kept(
            &mut server.map,
            &mut server.app,
            &format!("1.message-{number}.host"),
            vec![Arc::clone(&folder)],
        );
    }
    let ids = server.ids();
    assert_eq!((ids.len(), &*ids[super::LISTED - 1]), (super::LISTED, "message-10"));
    assert!(server.app.mailbox.get("message-9").is_none());
}

#[test]
fn what_has_no_room_in_the_list_comes_back_below_what_is_in_it() {
    let files: Vec<_> =
        (0..super::LISTED + 10).map(|at| format!("new/{}.message-{at}.host", 1_700_000_000 + at)).collect();
    let mut server = Server::of(&files.iter().map(String::as_str).collect::<Vec<_>>(), false);
    watch(&mut server.map, &mut server.app);
    let newest = format!("message-{}", super::LISTED + 9);
    turn_until(&mut server.map, &mut server.app, "a look", |_, app| app.mailbox.is_scanned);
    let first = server.ids();
    assert_eq!((first.len(), &first[0], &*first[super::LISTED - 1]), (super::LISTED, &newest, "message-10"));
    let (_page, here) = Peer::pair();
    let id = server.map.add(here, Page).unwrap();
    stream(&mut server.app, id);
    // There is room for one, and one is new.
    for gone in [20, 30] {
        fs::remove_file(server.path(&files[gone])).unwrap();
    }
    write(&server.path("new/1800000000.from-elsewhere.host"));
    turn_until(&mut server.map, &mut server.app, "the list to be full again", |_, app| {
        app.mailbox.get("message-20").is_none() && app.mailbox.get("message-9").is_some()
    });
    let ids = server.ids();
    assert_eq!((&*ids[0], &ids[1], &*ids[super::LISTED - 1]), ("from-elsewhere", &newest, "message-9"));
    assert_eq!(ids.len(), super::LISTED);
}

#[test]
fn a_message_that_was_seen_in_one_folder_before_it_was_in_all_is_in_all() {
    let file = |folder| format!("{folder}/new/1700000001.to-both-of-them.host");
    let mut server = Server::of(&[&file("ann")], true);
    watch(&mut server.map, &mut server.app);
    server.until(&["to-both-of-them"]);
    write(&server.path(&file("bob")));
    let folders = ["ann", "bob"].map(|folder| server.path(folder).into());
    kept(&mut server.map, &mut server.app, "1700000001.to-both-of-them.host", folders.to_vec());
    server.until(&["to-both-of-them"]);
    // Another server's, for which nobody tells of all.
    let (_page, here) = Peer::pair();
    let id = server.map.add(here, Page).unwrap();
    stream(&mut server.app, id);
    write(&server.path(&file("eve")));
    turn_until(&mut server.map, &mut server.app, "a look", |_, app| {
        app.mailbox.get("to-both-of-them").is_some_and(|message| message.folders.len() == 3)
    });
    server.app.mailbox.get("to-both-of-them").unwrap().delete().unwrap();
    for folder in ["ann", "bob", "eve"] {
        assert!(!server.path(&file(folder)).exists(), "{folder}");
    }
}

#[test]
fn a_folder_that_is_not_there_is_empty_and_none_at_all_keeps_nothing() {
    let mut server = Server::of(&[], true);
    fs::remove_dir(server.folder.path()).unwrap();
    watch(&mut server.map, &mut server.app);
    turn_until(&mut server.map, &mut server.app, "a look", |_, app| app.mailbox.is_scanned);
    assert!(server.app.mailbox.is_empty() && server.app.mailbox.keeps());
    assert!(!Mailbox::default().keeps());
    fs::create_dir(server.folder.path()).unwrap();
}
