//! What the Maildir promises where the disk fails (rows 32 to 36): strace has the calls of the server's threads fail, or
//! kills it in them, and shows in which order they are made.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use integration_tests::is_installed;

use crate::program::{Client, Program, below_the_trace, files, until, wait};

/// strace, attached to the threads of a server that have this name; detached when it goes out of scope.
struct Fault {
    strace: Child,
    log: tempfile::NamedTempFile,
}

impl Fault {
    /// `None` where that cannot be done; in CI it must.
    fn inject(program: &Program, thread: &str, arguments: &[&str]) -> Option<Self> {
        if !is_installed("strace", "-V") {
            return None;
        }
        let tasks = format!("/proc/{}/task", program.pid());
        let mut command = Command::new("strace");
        let log = tempfile::NamedTempFile::new().unwrap();
        command.args(["-qq", "-y", "-o"]).arg(log.path()).args(arguments);
        // A thread that has ended meanwhile has none.
        let name =
            |task: &PathBuf| fs::read_to_string(task.join("comm")).unwrap_or_default().trim().to_owned();
        let threads = until("the threads to have their names", || {
            // A thread is called as its program until it says otherwise itself.
            let (unnamed, mut threads): (Vec<_>, Vec<_>) =
                files(Path::new(&tasks)).into_iter().partition(|task| name(task) == "smtpd");
            threads.retain(|task| name(task) == thread);
            (unnamed.len() == 1).then_some(threads)
        });
        for task in &threads {
            command.arg("-p").arg(task.file_name().unwrap());
        }
        assert!(!threads.is_empty(), "no thread {thread}");
        let strace = command.stdin(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let mut fault = Self { strace, log };
        let is_traced = |task: &PathBuf| {
            let status = fs::read_to_string(task.join("status")).unwrap();
            status.lines().any(|line| line.starts_with("TracerPid:") && !line.ends_with("\t0"))
        };
        let attached = until("strace to attach or to give up", || {
            if fault.strace.try_wait().unwrap().is_some() {
                return Some(false);
            }
            threads.iter().all(is_traced).then_some(true)
        });
        if !attached {
            assert!(std::env::var_os("CI").is_none(), "strace may not attach to a process here");
            eprintln!("skipped: strace may not attach to a process here");
            return None;
        }
        Some(fault)
    }

    fn log(&self) -> String {
        fs::read_to_string(self.log.path()).unwrap()
    }
}

impl Drop for Fault {
    fn drop(&mut self) {
        // Asked to end, it lets go of the threads; killed, it would leave them stopped.
        let pid = rustix::process::Pid::from_child(&self.strace);
        if matches!(self.strace.try_wait(), Ok(None)) {
            rustix::process::kill_process(pid, rustix::process::Signal::TERM).ok();
            wait(&mut self.strace);
        }
    }
}

fn greeted(program: &Program) -> Client {
    let mut client = program.client();
    client.ask("EHLO laptop.example", "250");
    client
}

/// Row 33 and 36.
#[test]
fn whatever_fails_the_message_is_refused_nothing_stays_and_the_next_one_is_kept() {
    let program = Program::start(&[]);
    let mut client = greeted(&program);
    let table = [
        (WRITER, "openat:error=EMFILE", "451 4.3.2"),
        (WRITER, "openat:error=ENFILE", "451 4.3.2"),
        (WRITER, "openat:error=ENOSPC", "452 4.3.1"),
        (WRITER, "openat:error=EACCES", "451 4.3.0"),
        (WRITER, "write:error=ENOSPC", "452 4.3.1"),
        (WRITER, "write:error=EDQUOT", "452 4.3.1"),
        (WRITER, "write:error=EFBIG", "452 4.3.1"),
        (WRITER, "write:error=EIO", "451 4.3.0"),
        (WRITER, "fsync:error=EIO", "451 4.3.0"),
        (WRITER, "fsync:error=ENOSPC", "452 4.3.1"),
        (COMMITTER, "openat:error=EMFILE", "451 4.3.2"),
        (COMMITTER, "linkat:error=EIO", "451 4.3.0"),
        (COMMITTER, "linkat:error=ENOSPC", "452 4.3.1"),
        (COMMITTER, "linkat:error=EXDEV", "451 4.3.0"),
        (COMMITTER, "fsync:error=EIO", "451 4.3.0"),
        (COMMITTER, "fsync:error=EDQUOT", "452 4.3.1"),
    ];
    let mut kept = Vec::new();
    for (number, (thread, inject, expected)) in table.into_iter().enumerate() {
        let call = inject.split(':').next().unwrap();
        let arguments = ["-e", &format!("trace={call}"), "-e", &format!("inject={inject}")];
        let Some(fault) = Fault::inject(&program, thread, &arguments) else { return };
        let reply = client.deliver("Subject: lost\r\n");
        assert!(reply.starts_with(expected), "{thread} {inject}: {reply}");
        assert!(fault.log().contains("(INJECTED)"), "{thread} {inject}");
        drop(fault);
        assert!(program.kept_in("Maildir/tmp").is_empty(), "{thread} {inject}");
        kept.push(format!("Subject: {number:02}\r\n").into_bytes());
        let reply = client.deliver(&format!("Subject: {number:02}\r\n"));
        assert!(reply.starts_with("250"), "after {thread} {inject}: {reply}");
        let mut messages = program.messages();
        messages.sort();
        assert_eq!(messages, kept, "after {thread} {inject}");
    }
}

/// Row 36, for folders: one that may not be on the disk is not taken for one that is, only because the next try finds it.
#[test]
fn a_folder_that_could_not_be_synchronized_is_made_anew() {
    let program = Program::start(&["--per-recipient"]);
    let folder = program.folder().join("Maildir/to@example.org");
    let mut client = greeted(&program);
    for when in 1..=2 {
        let inject = format!("inject=fsync:error=EIO:when={when}");
        let Some(fault) = Fault::inject(&program, COMMITTER, &["-e", "trace=fsync", "-e", &inject]) else {
            return;
        };
        assert!(client.deliver("Subject: lost\r\n").starts_with("451 4.3.0"));
        assert!(fault.log().contains("(INJECTED)"));
        assert!(!folder.exists(), "after fsync {when}: {}", fault.log());
    }
    assert!(client.deliver("Subject: a\r\n").starts_with("250"));
    assert_eq!(files(&folder.join("new")).len(), 1);
}

/// A failure in the middle of a large message is told at its end.
#[test]
fn a_disk_that_fills_up_in_a_large_message_is_told_at_its_end() {
    let program = Program::start(&[]);
    let mut client = greeted(&program);
    let arguments = ["-e", "trace=write", "-e", "inject=write:error=ENOSPC:when=3+"];
    let Some(fault) = Fault::inject(&program, WRITER, &arguments) else { return };
    let text = "a line of text\r\n".repeat(200_000);
    assert!(client.deliver(&text).starts_with("452 4.3.1"));
    drop(fault);
    assert!(program.kept_in("Maildir/tmp").is_empty() && program.messages().is_empty());
    assert!(client.deliver(&text).starts_with("250"));
    assert_eq!(program.messages(), [text.as_bytes()]);
}

/// What the disk has not taken yet is bounded: the session is paused, and goes on.
#[test]
fn a_slow_disk_holds_the_session_up_and_not_its_message_in_memory() {
    let program = Program::start(&[]);
    let mut client = greeted(&program);
    client.ask("MAIL FROM:<from@example.org>", "250");
    client.ask("RCPT TO:<to@example.org>", "250");
    client.ask("DATA", "354");
    let before = program.peak();
    let arguments = ["-e", "trace=write", "-e", "inject=write:delay_enter=10000"];
    let Some(fault) = Fault::inject(&program, WRITER, &arguments) else { return };
    let text = "a line of text\r\n".repeat(1 << 20);
    client.send(&text);
    client.send(".\r\n");
    client.expect("250");
    let grown = program.peak() - before;
    assert!(grown < 4 << 20, "{grown} bytes for a message of {}", text.len());
    let writes = fault.log().matches("write(").count();
    assert!(writes > text.len() / (256 << 10), "{writes} writes");
    assert_eq!(program.messages(), [text.as_bytes()]);
}

/// The limit of a file's size is told, and ends nobody.
#[test]
fn a_file_that_would_be_larger_than_files_may_be_is_refused() {
    if !is_installed("prlimit", "-V") {
        return;
    }
    let mut command = Command::new("prlimit");
    command.args(["--fsize=1000000", env!("CARGO_BIN_EXE_smtpd"), "--listen=127.0.0.1:0", "--no-http"]);
    let program = Program::spawn(tempfile::tempdir().unwrap(), command);
    let mut client = greeted(&program);
    assert!(client.deliver(&"a line of text\r\n".repeat(100_000)).starts_with("452 4.3.1"));
    assert!(client.deliver("Subject: a\r\n").starts_with("250"));
    assert_eq!(program.messages(), [b"Subject: a\r\n"]);
}

/// All recipients or none.
#[test]
fn where_one_recipient_cannot_be_served_none_is() {
    let program = Program::start(&["--per-recipient"]);
    let spool = program.folder().join("Maildir");
    fs::write(spool.join("b@x.org"), "no folder").unwrap();
    let mut client = greeted(&program);
    let mut deliver = |expected| {
        client.ask("MAIL FROM:<from@example.org>", "250");
        for to in ["a@x.org", "b@x.org", "c@x.org"] {
            client.ask(&format!("RCPT TO:<{to}>"), "250");
        }
        client.ask("DATA", "354");
        client.ask(".", expected);
    };
    let counts =
        || ["a@x.org/new", "b@x.org/new", "c@x.org/new", "tmp"].map(|new| files(&spool.join(new)).len());
    deliver("451 4.3.0");
    assert_eq!(counts(), [0; 4]);
    fs::remove_file(spool.join("b@x.org")).unwrap();
    deliver("250");
    assert_eq!(counts(), [1, 1, 1, 0]);
}

/// Row 35: what a power cut leaves cannot be tried, but the order of the calls can be seen.
#[test]
fn a_message_is_on_the_disk_before_it_has_its_name_and_its_name_before_the_reply() {
    if !is_installed("strace", "-V") {
        return;
    }
    for per_recipient in [false, true] {
        let log = tempfile::NamedTempFile::new().unwrap();
        let mut command = Command::new("strace");
        command.args(["-D", "-f", "-qq", "-y", "-s", "400", "-e", "signal=none"]);
        command
            .args(["-e", "trace=write,fsync,fdatasync,linkat,unlink,sendto,sendmsg", "-o"])
            .arg(log.path());
        command.arg(env!("CARGO_BIN_EXE_smtpd")).args(["--listen=127.0.0.1:0", "--no-http"]);
        if per_recipient {
            command.arg("--per-recipient");
        }
        let mut program = Program::spawn(tempfile::tempdir().unwrap(), command);
        let mut client = greeted(&program);
        assert!(client.deliver("Subject: a\r\n").starts_with("250"));
        client.ask("QUIT", "221");
        program.stop();
        let log = until("the end of the log", || {
            let log = fs::read_to_string(log.path()).unwrap();
            log.contains("221 ").then_some(log)
        });
        let calls = calls(&log);
        let folder = if per_recipient { "Maildir/to@example.org" } else { "Maildir" };
        let steps: &[&[&str]] = &[
            &["write(", "/Maildir/tmp/", "Return-Path"],
            &["fsync(", "/Maildir/tmp/"],
            &["linkat(", "/Maildir/tmp/", &format!("{folder}/new/")],
            &["fsync(", &format!("{folder}/new>")],
            &["unlink(", "/Maildir/tmp/"],
            &["send", "250 2.0.0 Kept"],
        ];
        let mut after = calls.iter().find(|call| call.text.contains("Return-Path")).unwrap().start;
        for step in steps {
            let call = calls
                .iter()
                .find(|call| call.start >= after && step.iter().all(|part| call.text.contains(part)));
            after = call.unwrap_or_else(|| panic!("{step:?} is missing, or too early, in {calls:#?}")).end;
        }
        if per_recipient {
            // The new folder's own name is there to be found, too.
            let linked = calls.iter().find(|call| call.text.contains("linkat(")).unwrap().start;
            for folder in ["Maildir/to@example.org>", "Maildir>"] {
                let is_synchronized = |call: &Call| {
                    call.end <= linked && call.text.contains("fsync(") && call.text.contains(folder)
                };
                assert!(calls.iter().any(is_synchronized), "{folder}: {calls:#?}");
            }
        }
    }
}

/// A system call: its text, and the lines of the log between which it ran.
#[derive(Debug)]
struct Call {
    text: String,
    start: usize,
    end: usize,
}

/// The calls in a log of several threads, in the order of their starts; one that others interrupt has two lines there.
fn calls(log: &str) -> Vec<Call> {
    let mut calls: Vec<Call> = Vec::new();
    let mut unfinished = std::collections::HashMap::new();
    for (at, line) in log.lines().enumerate() {
        let (thread, text) = line.split_once(' ').unwrap();
        if text.contains(" resumed>") {
            let call: usize = unfinished.remove(thread).unwrap();
            calls[call].end = at;
            continue;
        }
        if text.ends_with("<unfinished ...>") {
            unfinished.insert(thread, calls.len());
        }
        calls.push(Call { text: text.to_owned(), start: at, end: at });
    }
    calls
}

/// What ends at about the same time shares a round: one look at the folder for several messages.
#[test]
fn messages_that_end_together_share_the_synchronizing_of_their_folder() {
    let program = Program::start(&[]);
    let mut clients: Vec<_> = (0..MESSAGES).map(|_| greeted(&program)).collect();
    for client in &mut clients {
        client.ask("MAIL FROM:<from@example.org>", "250");
        client.ask("RCPT TO:<to@example.org>", "250");
        client.ask("DATA", "354");
    }
    // The first round takes a while; who ends meanwhile waits for the second.
    let arguments = ["-e", "trace=fsync", "-e", "inject=fsync:delay_enter=500000:when=1"];
    let Some(fault) = Fault::inject(&program, COMMITTER, &arguments) else { return };
    clients.iter_mut().for_each(|client| client.send("Subject: a\r\n.\r\n"));
    for client in &mut clients {
        client.expect("250");
    }
    let rounds = until("the log", || Some(fault.log().matches("fsync(").count()).filter(|count| *count > 0));
    assert!(rounds < MESSAGES, "{rounds} rounds for {MESSAGES} messages");
    assert_eq!(program.messages().len(), MESSAGES);
}

/// The folders of many recipients are synchronized together, not one after the other.
#[test]
fn the_folders_of_many_recipients_share_the_wait_for_the_disk() {
    let program = Program::start(&["--per-recipient"]);
    let mut client = greeted(&program);
    let mut deliver = || {
        client.ask("MAIL FROM:<from@example.org>", "250");
        for number in 0..16 {
            client.ask(&format!("RCPT TO:<to{number}@example.org>"), "250");
        }
        client.ask("DATA", "354");
        client.ask(".", "250");
    };
    deliver();
    let arguments = ["-f", "-e", "trace=fsync", "-e", "inject=fsync:delay_enter=200000"];
    let Some(fault) = Fault::inject(&program, COMMITTER, &arguments) else { return };
    deliver();
    // It follows all threads: the one that synchronizes the message, too.
    let log = until("the log", || Some(fault.log()).filter(|log| log.matches("fsync(").count() == 17));
    let (mut waiting, mut most) = (0, 0);
    for line in log.lines() {
        waiting += usize::from(line.contains("fsync("));
        most = most.max(waiting);
        waiting -= usize::from(line.contains(" = 0"));
    }
    assert!(most > 1, "one after the other:\n{log}");
}

/// Row 32, at every call that makes a message: what was acknowledged is there, and nothing is there in part.
#[test]
fn killed_in_any_call_it_has_kept_what_it_acknowledged_and_nothing_in_part() {
    let text = |number: usize| format!("Subject: {number}\r\n{}", "a line of text\r\n".repeat(10_000));
    let mut folder = tempfile::tempdir().unwrap();
    let (mut sent, mut killed, mut acknowledged) = (0, 0, Vec::new());
    for (thread, call) in [
        (WRITER, "openat"),
        (WRITER, "write"),
        (WRITER, "fsync"),
        (COMMITTER, "openat"),
        (COMMITTER, "linkat"),
        (COMMITTER, "fsync"),
        (COMMITTER, "unlink"),
        (COMMITTER, "write"),
    ] {
        for when in 1..=2 {
            let program = Program::start_in(folder, &[]);
            let mut client = greeted(&program);
            let inject = format!("inject={call}:signal=KILL:when={when}");
            let arguments = ["-e", &format!("trace={call}"), "-e", &inject];
            let Some(fault) = Fault::inject(&program, thread, &arguments) else { return };
            let numbers = sent..sent + 3;
            sent = numbers.end;
            let first_lost = numbers.clone().find(|number| !delivered(&mut client, &text(*number)));
            acknowledged.extend(numbers.take_while(|number| Some(*number) != first_lost));
            killed += usize::from(first_lost.is_some());
            drop(fault);
            folder = program.kill();
            let kept: Vec<_> = files(&folder.path().join("Maildir/new"))
                .iter()
                .map(|file| below_the_trace(&fs::read(file).unwrap()).to_vec())
                .collect();
            for message in &kept {
                assert!(
                    (0..sent).any(|number| *message == text(number).as_bytes()),
                    "{call} {when}: in part"
                );
            }
            for number in &acknowledged {
                assert!(kept.contains(&text(*number).into_bytes()), "{call} {when}: {number} is lost");
            }
        }
    }
    // The loop may be awake, and need no write to be woken; and the second call of a kind may be another thread's.
    assert!(killed >= 10, "killed {killed} times only");
}

/// Whether a message was acknowledged by a server that may be killed meanwhile.
fn delivered(client: &mut Client, text: &str) -> bool {
    let script = format!("MAIL FROM:<from@example.org>\r\nRCPT TO:<to@example.org>\r\nDATA\r\n{text}.\r\n");
    client.try_send(&script)
        && (0..4).map(|_| client.try_reply()).last().flatten().is_some_and(|reply| reply.starts_with("250"))
}

/// Row 34.
#[test]
fn a_full_disk_is_told_and_once_there_is_room_mail_is_kept_again() {
    let Some(disk) = Disk::mount("size=1m,nr_inodes=64") else { return };
    let maildir = format!("--maildir={}", disk.0.path().join("Maildir").display());
    let program = Program::start(&[&maildir]);
    let mut client = greeted(&program);
    let new = disk.0.path().join("Maildir/new");
    for text in ["a line of text\r\n".repeat(12_000), "Subject: small\r\n".to_owned()] {
        // First there is no room, then there are no inodes.
        let mut count = 0;
        let refusal = loop {
            let reply = client.deliver(&text);
            if !reply.starts_with("250") {
                break reply;
            }
            count += 1;
            assert!(count < 100, "the disk does not fill up");
        };
        assert!(refusal.starts_with("452 4.3.1"), "{refusal}");
        assert!(count > 0 && files(&new).len() == count);
        assert!(files(&new).iter().all(|file| below_the_trace(&fs::read(file).unwrap()) == text.as_bytes()));
        assert!(files(&disk.0.path().join("Maildir/tmp")).is_empty());
        client.ask("NOOP", "250");
        files(&new).iter().for_each(|file| fs::remove_file(file).unwrap());
        assert!(client.deliver(&text).starts_with("250"), "there is room again");
        files(&new).iter().for_each(|file| fs::remove_file(file).unwrap());
    }
}

/// A small file system of its own.
struct Disk(tempfile::TempDir);

impl Disk {
    /// `None` where this user may not mount one; root in CI may.
    fn mount(options: &str) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let mut mount = Command::new("mount");
        let mount = mount.args(["-t", "tmpfs", "-o", options, "smtpd-test"]).arg(folder.path()).output();
        if mount.as_ref().is_ok_and(|output| output.status.success()) {
            return Some(Self(folder));
        }
        let is_root = rustix::process::geteuid().is_root();
        assert!(!(is_root && std::env::var_os("CI").is_some()), "no file system can be mounted: {mount:?}");
        eprintln!("skipped: no file system can be mounted: {mount:?}");
        None
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // The server may be on its way out.
        for _ in 0..100 {
            let umount = Command::new("umount").arg(self.0.path()).output();
            if umount.is_ok_and(|output| output.status.success()) {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        drop(writeln!(std::io::stderr(), "{} is still mounted", self.0.path().display()));
    }
}

const WRITER: &str = "smtpd-writer";
const COMMITTER: &str = "smtpd-committer";

/// Sessions that end a message at the same time.
const MESSAGES: usize = 10;
