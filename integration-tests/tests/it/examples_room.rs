//! The chat room example, as a program: what its members hear of one another, and what the status page shows.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use integration_tests::{DEADLINE, Peer};
use rustix::process::Signal;

use crate::examples::{Program, command};

#[test]
fn three_members_talk_and_hear_who_comes_goes_and_is_renamed() {
    let (_room, at, _) = room();
    let mut ann = Member::join(at, "ann");
    let mut bob = Member::join(at, "bob");
    ann.hears(&["*** guest2 joined", "*** guest2 is now bob"]);
    let mut eve = Member::join(at, "eve");
    for member in [&mut ann, &mut bob] {
        member.hears(&["*** guest3 joined", "*** guest3 is now eve"]);
    }

    ann.says("hello");
    bob.says("/me waves");
    for member in [&mut ann, &mut bob, &mut eve] {
        member.hears_all(&["ann: hello", "* bob waves"]);
    }
    eve.says("/who");
    eve.hears(&["*** 3 here: ann, bob, eve"]);
    eve.says("/quit");
    eve.hears(&["*** bye"]);
    eve.is_at_the_end();
    // An end without a word is a goodbye as well, and what came before it is still said.
    bob.writer.write_all(b"so long").expect("a write");
    bob.writer.shutdown(std::net::Shutdown::Write).expect("a shutdown");
    ann.hears(&["*** eve left", "bob: so long", "*** bob left"]);
    ann.says("/who");
    ann.hears(&["*** 1 here: ann"]);
}

#[test]
fn a_name_belongs_to_one_member_whatever_its_case_and_is_plain() {
    let (_room, at, _) = room();
    let mut ann = Member::join(at, "Ann");
    let mut bob = Member::join(at, "guest3");
    bob.says("/nick aNN");
    bob.hears(&["!!! aNN is somebody else"]);
    for name in ["", "a b", "<b>", "x\u{7f}y z", &"n".repeat(21)] {
        bob.says(&format!("/nick {name}"));
        bob.hears(&["!!! a name is 1 to 20 letters, digits, - and _"]);
    }
    ann.hears(&["*** guest2 joined", "*** guest2 is now guest3"]);
    ann.says("/nick ANN");
    ann.hears(&["*** Ann is now ANN"]);
    // The name that a new member would be given is taken.
    let mut eve = Member::connect(at);
    eve.hears(&["*** welcome, guest4; /help lists what you can do"]);
}

#[test]
fn what_cannot_be_passed_on_is_answered_with_an_error_and_the_talk_goes_on() {
    let (_room, at, _) = room();
    let mut ann = Member::join(at, "ann");
    ann.says(&"x".repeat(1025));
    ann.hears(&["!!! more than 1024 bytes: that line was not passed on"]);
    ann.writer.write_all(b"caf\xe9\r\n").expect("a write");
    ann.hears(&["!!! not UTF-8: that line was not passed on"]);
    ann.says("/dance");
    ann.hears(&["!!! no such command, or not so: /dance; /help lists them"]);
    ann.says("   ");
    let longest = "x".repeat(1024);
    ann.says(&longest);
    ann.hears(&[&format!("ann: {longest}")]);
}

#[test]
fn what_could_steer_a_terminal_is_not_passed_on() {
    let (_room, at, _) = room();
    let mut ann = Member::join(at, "ann");
    ann.says("a\u{1b}[2Jb\u{7}\tc\u{9b}d\u{202e}e\u{2066}f");
    ann.hears(&["ann: a[2Jb cdef"]);
    ann.says("\u{1b}/who\u{0}");
    ann.hears(&["*** 1 here: ann"]);
}

#[test]
fn a_member_that_does_not_read_is_dropped_and_the_others_talk_on() {
    let (_room, at, _) = room();
    let mut ann = Member::join(at, "ann");
    let _slow = Member::connect(at);
    ann.hears(&["*** guest2 joined"]);
    let line = "x".repeat(1000);
    for said in 0.. {
        assert!(said < 64 << 10, "64 MiB were said, and nobody was dropped");
        ann.says(&line);
        let heard = ann.line();
        if heard != format!("ann: {line}") {
            assert_eq!(heard, "*** guest2 is gone: peer does not read");
            return;
        }
    }
}

#[test]
fn a_member_that_pours_in_lines_costs_no_reader_its_place() {
    const LINES: usize = 100_000;
    let (_room, at, _) = room();
    let mut ann = Member::join(at, "ann");
    let mut pourer = Member::join(at, "bob");
    ann.hears(&["*** guest2 joined", "*** guest2 is now bob"]);
    let mut writer = pourer.writer.try_clone().expect("a second handle");
    let poured = thread::spawn(move || writer.write_all("!\n".repeat(LINES).as_bytes()));
    let own = thread::spawn(move || {
        for _ in 0..LINES {
            assert_eq!(pourer.line(), "bob: !");
        }
    });
    for _ in 0..LINES {
        assert_eq!(ann.line(), "bob: !");
    }
    poured.join().expect("no panic").expect("all to be taken");
    own.join().expect("no panic");
}

#[test]
fn an_interrupted_room_passes_on_every_line_that_it_took_before_it_closes() {
    const LINES: usize = 1000;
    let (mut room, at, _) = room();
    let mut ann = Member::join(at, "ann");
    let mut bob = Member::join(at, "bob");
    ann.hears(&["*** guest2 joined", "*** guest2 is now bob"]);
    let lines: Vec<_> = (0..LINES).map(|number| format!("ann: line {number}")).collect();
    for number in 0..LINES {
        ann.says(&format!("line {number}"));
    }
    // The room has taken every line, and bob has read none.
    for line in &lines {
        ann.hears(&[line]);
    }
    room.signal(Signal::INT);
    for line in &lines {
        bob.hears(&[line]);
    }
    for member in [&mut ann, &mut bob] {
        member.hears(&["*** the room closes"]);
        member.is_at_the_end();
    }
    drop((ann, bob));
    assert_eq!(room.wait().code(), Some(0));
}

#[test]
fn the_status_page_is_whole_and_uses_nothing_from_elsewhere() {
    let (_room, _, pages) = room();
    let page = get(pages, "/");
    assert!(page.starts_with("HTTP/1.1 200 OK\r\n"), "{page}");
    assert!(page.contains("\r\nContent-Security-Policy: default-src 'none'; "), "{page}");
    for part in ["status.css", "status.js"] {
        assert!(page.contains(&format!("=\"{part}\"")), "{page}");
        assert!(get(pages, &format!("/{part}")).starts_with("HTTP/1.1 200 OK\r\n"), "{part}");
    }
    assert!(!page.contains("http://") && !page.contains("https://"), "{page}");
    assert!(get(pages, "/nothing").starts_with("HTTP/1.1 404 Not Found\r\n"));
}

#[test]
fn the_figures_list_every_channel_as_it_is() {
    let (_room, at, pages) = room();
    let mut ann = Member::join(at, "zo\u{eb}");
    ann.says("hi");
    ann.hears(&["zo\u{eb}: hi"]);
    let figures = get(pages, "/status.json");
    let (head, figures) = figures.split_once("\r\n\r\n").expect("a body");
    assert!(head.contains("\r\nContent-Type: application/json\r\n"), "{head}");
    // Two signals, two listeners, one member, one browser.
    assert!(figures.contains(r#""members":1,"queued":0,"open":6,"#), "{figures}");
    let here = ann.writer.local_addr().expect("an address");
    // What came in: the new name and one line; what went out: the four lines that the member has heard.
    let said = "/nick zo\u{eb}\r\nhi\r\n".len();
    let heard = "*** welcome, guest1; /help lists what you can do\r\n*** guest1 joined\r\n\
                 *** guest1 is now zo\u{eb}\r\nzo\u{eb}: hi\r\n"
        .len();
    let member = format!(
        "\"kind\":\"chat\",\"name\":\"zo\u{eb}\",\"address\":\"{here}\",\"state\":\"open\",\
         \"messages\":2,\"in\":{said},\"out\":{heard},\"queued\":0}}"
    );
    assert!(figures.contains(&member), "{figures}\nlacks\n{member}");
    for (kind, address, state) in [("listener", at, "listening"), ("listener", pages, "listening")] {
        let listener = format!(r#""kind":"{kind}","name":"","address":"{address}","state":"{state}""#);
        assert!(figures.contains(&listener), "{figures}\nlacks\n{listener}");
    }
    assert_eq!(figures.matches(r#""kind":"signals""#).count(), 2, "{figures}");
    assert_eq!(figures.matches(r#""kind":"browser""#).count(), 1, "{figures}");
}

#[test]
fn members_of_different_threads_talk_as_those_of_one() {
    let (_room, at, _) = room_with_threads("3");
    let mut members: Vec<Member> = Vec::new();
    for number in 0..12 {
        let newcomer = Member::join(at, &format!("m{number}"));
        for member in &mut members {
            let guest = number + 1;
            member
                .hears(&[&format!("*** guest{guest} joined"), &format!("*** guest{guest} is now m{number}")]);
        }
        members.push(newcomer);
    }
    members[0].says("hello");
    for member in &mut members {
        member.hears(&["m0: hello"]);
    }
    members[1].says("/nick M7");
    members[1].hears(&["!!! M7 is somebody else"]);
    members[7].says("/nick M7");
    for member in &mut members {
        member.hears(&["*** m7 is now M7"]);
    }
    members[2].says("/who");
    members[2].hears(&["*** 12 here: m0, m1, m2, m3, m4, m5, m6, M7, m8, m9, m10, m11"]);
    members[7].says("/quit");
    members[7].hears(&["*** bye"]);
    drop(members.remove(7));
    for member in &mut members {
        member.hears(&["*** M7 left"]);
    }
    // The name is free again, for members of any thread.
    members[0].says("/nick m7");
    for member in &mut members {
        member.hears(&["*** m0 is now m7"]);
    }
}

#[test]
fn members_that_pour_in_lines_are_held_up_until_the_other_threads_have_passed_them_on() {
    const LINES: usize = 400_000;
    let (_room, at, _) = room_with_threads("3");
    let mut members: Vec<Member> = (0..5).map(|_| Member::connect(at)).collect();
    for member in &mut members {
        // Whoever has been welcomed misses nothing from here on.
        assert!(member.line().starts_with("*** welcome, "));
    }
    let mut others = Vec::new();
    for (place, mut member) in members.into_iter().enumerate() {
        let mut writer = member.writer.try_clone().expect("a second handle");
        others.push(thread::spawn(move || {
            // By the mark in each, and not by lines: who reads slowly is dropped.
            let mut heard = 0;
            while heard < 2 * LINES {
                let some = member.reader.fill_buf().expect("more before the deadline");
                assert!(!some.is_empty(), "dropped after {heard} lines");
                heard += some.iter().filter(|byte| **byte == b'!').count();
                let read = some.len();
                member.reader.consume(read);
            }
        }));
        if place < 2 {
            others.push(thread::spawn(move || {
                writer.write_all("!\n".repeat(LINES).as_bytes()).expect("a write");
            }));
        }
    }
    for other in others {
        other.join().expect("every line");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn the_figures_show_every_loop_with_its_members() {
    let (_room, at, pages) = room_with_threads("3");
    let names: Vec<String> = (0..40).map(|number| format!("m{number}")).collect();
    let _members: Vec<Member> = names.iter().map(|name| Member::join(at, name)).collect();
    let began = Instant::now();
    loop {
        let figures = get(pages, "/status.json");
        // Three talk listeners with two signals each, one listener for pages, one browser.
        let is_whole = figures.contains(r#""loops":3,"#)
            && figures.contains(r#""members":40,"queued":0,"open":51,"#)
            && (0..3).all(|index| figures.matches(&format!(r#""loop":{index},"#)).count() > 3)
            && names.iter().all(|name| figures.contains(&format!(r#""kind":"chat","name":"{name}","#)));
        if is_whole {
            break;
        }
        assert!(began.elapsed() < DEADLINE, "{figures}");
        thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn a_room_of_several_threads_ends_when_told() {
    let (mut room, at, _) = room_with_threads("4");
    let mut members: Vec<Member> = (0..8).map(|number| Member::join(at, &format!("m{number}"))).collect();
    room.signal(Signal::INT);
    for member in &mut members {
        while member.line() != "*** the room closes" {}
    }
    drop(members);
    assert_eq!(room.wait().code(), Some(0));
}

#[test]
fn an_address_in_use_ends_a_room_of_several_threads_too() {
    let (_room, at, pages) = room_with_threads("2");
    let both = [("--listen", at, "--status"), ("--status", pages, "--listen")];
    for (taken, address, free) in both {
        let arguments = [taken, &address.to_string(), free, "127.0.0.1:0", "--threads", "2"];
        let second = command("chat_room", &arguments).output().expect("the program to run");
        let text = String::from_utf8(second.stderr).expect("text");
        assert_eq!(second.status.code(), Some(1), "{text}");
        assert!(text.starts_with(&format!("error: cannot listen on {address}: ")), "{text}");
    }
}

fn room_with_threads(count: &str) -> (Program, SocketAddr, SocketAddr) {
    let arguments = ["--listen", "127.0.0.1:0", "--status", "127.0.0.1:0", "--threads", count];
    let room = Program::start(&mut command("chat_room", &arguments));
    let (talk, pages) = (room.address(), room.address());
    // Behind each page's address.
    let line = room.lines.recv_timeout(DEADLINE).expect("a line for the browser");
    assert_eq!(line, format!("for browsers: http://{pages}/"));
    (room, talk, pages)
}

/// A room, where to talk, and where its status page is.
fn room() -> (Program, SocketAddr, SocketAddr) {
    let room = Program::serve("chat_room");
    let (talk, pages) = (room.address(), room.address());
    (room, talk, pages)
}

fn get(at: SocketAddr, path: &str) -> String {
    let mut browser = Peer::connect(&at.into());
    browser.send(format!("GET {path} HTTP/1.1\r\nHost: {at}\r\nConnection: close\r\n\r\n").as_bytes());
    let mut answer = String::new();
    browser.read_to_string(&mut answer).expect("an answer");
    answer
}

struct Member {
    reader: BufReader<TcpStream>,
    writer: TcpStream,
}

impl Member {
    fn connect(at: SocketAddr) -> Self {
        let writer = TcpStream::connect(at).expect("a connection");
        writer.set_read_timeout(Some(DEADLINE)).expect("an option");
        writer.set_write_timeout(Some(DEADLINE)).expect("an option");
        writer.set_nodelay(true).expect("an option");
        Self { reader: BufReader::new(writer.try_clone().expect("a second handle")), writer }
    }

    /// Connects, takes a name, and reads what a new member is told.
    fn join(at: SocketAddr, name: &str) -> Self {
        let mut member = Self::connect(at);
        member.says(&format!("/nick {name}"));
        while !member.line().ends_with(&format!(" is now {name}")) {}
        member
    }

    fn says(&mut self, line: &str) {
        self.writer.write_all(format!("{line}\r\n").as_bytes()).expect("a write");
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.reader.read_line(&mut line).expect("a line before the deadline");
        line.strip_suffix("\r\n").unwrap_or_else(|| panic!("no whole line: {line:?}")).to_owned()
    }

    fn hears(&mut self, lines: &[&str]) {
        for line in lines {
            assert_eq!(self.line(), *line);
        }
    }

    /// Hears these lines, in any order.
    fn hears_all(&mut self, lines: &[&str]) {
        let mut heard: Vec<_> = lines.iter().map(|_| self.line()).collect();
        let mut lines = lines.to_vec();
        heard.sort();
        lines.sort_unstable();
        assert_eq!(heard, lines);
    }

    fn is_at_the_end(&mut self) {
        let mut rest = String::new();
        self.reader.read_to_string(&mut rest).expect("an end before the deadline");
        assert_eq!(rest, "");
    }
}
