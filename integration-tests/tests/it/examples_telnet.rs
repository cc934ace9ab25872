//! `telnet` as the program that it is: over pipes, files, and a terminal of its own.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use integration_tests::{DEADLINE, Terminal, in_time};
use rustix::fs::{OFlags, fcntl_getfl};

use crate::examples::command;

/// The server that a test plays.
struct Server {
    listener: TcpListener,
    port: String,
}

impl Server {
    fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a listener");
        let port = listener.local_addr().expect("an address").port().to_string();
        Self { listener, port }
    }

    fn telnet(&self) -> Command {
        let mut command = command("telnet", &["127.0.0.1", &self.port]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// The next visitor, whose silence fails the test at the deadline.
    fn accept(&self) -> TcpStream {
        let listener = self.listener.try_clone().expect("a descriptor");
        let (visitor, _) = in_time(move || listener.accept()).expect("a visitor");
        visitor.set_read_timeout(Some(DEADLINE)).expect("an option");
        visitor
    }
}

fn output_of(telnet: Child) -> Output {
    in_time(move || telnet.wait_with_output()).expect("the program's output")
}

fn read(visitor: &mut TcpStream, count: usize) -> String {
    let mut bytes = vec![0; count];
    visitor.read_exact(&mut bytes).expect("as many bytes");
    bytes.escape_ascii().to_string()
}

/// What comes up to the end. With a deadline on it a single read fails when another test's child exits: signal(7).
fn read_rest(visitor: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    visitor.read_to_end(&mut bytes).expect("an end");
    bytes.escape_ascii().to_string()
}

#[test]
fn lines_go_out_with_both_their_ends_and_the_answer_is_printed_as_it_is() {
    let server = Server::new();
    let mut telnet = server.telnet().spawn().expect("the program to run");
    let mut visitor = server.accept();
    let mut keyboard = telnet.stdin.take().expect("a pipe");
    keyboard.write_all(b"one\ntwo\r\nthree").expect("a write");
    assert_eq!(read(&mut visitor, 15), r"one\r\ntwo\r\nthree");
    visitor.write_all(b"an\x1b[1mswer\r\n\xfe").expect("a write");
    drop(keyboard);
    assert_eq!(read_rest(&mut visitor), "", "the end of the input is passed on");
    visitor.write_all(b"the rest").expect("a write");
    drop(visitor);
    let output = output_of(telnet);
    assert_eq!(output.stdout.escape_ascii().to_string(), r"an\x1b[1mswer\r\n\xfethe rest");
    assert_eq!((output.status.code(), &output.stderr[..]), (Some(0), &b""[..]));
}

#[test]
fn every_option_is_refused_and_no_command_is_printed() {
    let server = Server::new();
    let mut telnet = server.telnet().spawn().expect("the program to run");
    let mut visitor = server.accept();
    // WILL ECHO, DO NAWS, parameters, a doubled 255.
    visitor.write_all(b"\xff\xfb\x01lo\xff\xfd\x1fgin\xff\xfa\x18\x01\xff\xf0: \xff\xff").expect("a write");
    assert_eq!(read(&mut visitor, 6), r"\xff\xfe\x01\xff\xfc\x1f");
    telnet.stdin.take().expect("a pipe").write_all(b"\xff\n").expect("a write");
    assert_eq!(read(&mut visitor, 4), r"\xff\xff\r\n");
    drop(visitor);
    assert_eq!(output_of(telnet).stdout, b"login: \xff");
}

#[test]
fn files_do_for_both_the_keyboard_and_the_screen_and_nothing_is_lost() {
    let folder = tempfile::tempdir().expect("a folder");
    let (typed, shown) = (folder.path().join("typed"), folder.path().join("shown"));
    let text: String = (0..100_000).map(|number| format!("line {number}\r\n")).collect();
    std::fs::write(&typed, &text).expect("a file");
    let server = Server::new();
    let mut telnet = server.telnet();
    telnet.stdin(File::open(&typed).expect("the file")).stdout(File::create(&shown).expect("a file"));
    let telnet = telnet.spawn().expect("the program to run");
    let mut visitor = server.accept();
    let mut writer = visitor.try_clone().expect("a descriptor");
    let echo = std::thread::spawn(move || {
        std::io::copy(&mut visitor, &mut writer).and_then(|_| writer.shutdown(Shutdown::Write))
    });
    let output = output_of(telnet);
    assert!(output.status.success(), "{output:?}");
    echo.join().expect("the echo").expect("an echo");
    assert!(std::fs::read_to_string(&shown).expect("the file") == text);
}

#[test]
fn a_server_that_goes_ends_the_program_though_nobody_has_typed() {
    let server = Server::new();
    let mut telnet = server.telnet().spawn().expect("the program to run");
    let keyboard = telnet.stdin.take();
    drop(server.accept());
    let output = output_of(telnet);
    assert_eq!(output.status.code(), Some(0));
    drop(keyboard);
}

#[test]
fn what_goes_wrong_has_a_status_and_a_text() {
    let server = Server::new();
    let mut telnet = server.telnet().spawn().expect("the program to run");
    let mut visitor = server.accept();
    // With a line across, it knows that it is connected.
    telnet.stdin.as_mut().expect("a pipe").write_all(b"x\n").expect("a write");
    assert_eq!(read(&mut visitor, 3), r"x\r\n");
    socket2::SockRef::from(&visitor).set_linger(Some(Duration::ZERO)).expect("an option");
    drop(visitor);
    let output = output_of(telnet);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(output.stderr.escape_ascii().to_string(), r"error: connection lost\n");

    let mut telnet = server.telnet();
    drop(server);
    let output = telnet.output().expect("the program to run");
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8(output.stderr).expect("text");
    assert!(text.starts_with("error: cannot connect to 127.0.0.1:"), "{text}");
    assert!(text.ends_with(": connection refused\n"), "{text}");

    let output = command("telnet", &["127.0.0.1", "port"]).output().expect("the program to run");
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn a_reader_that_has_seen_enough_ends_the_program() {
    let server = Server::new();
    let mut telnet = server.telnet().spawn().expect("the program to run");
    let mut visitor = server.accept();
    drop(telnet.stdout.take());
    // It may be gone before all is written.
    drop(visitor.write_all(b"to nobody"));
    let output = output_of(telnet);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(output.stderr.escape_ascii().to_string(), r"error: standard output takes no more\n");
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_ends_the_program() {
    // The failure is told also when it comes with the very last bytes.
    for leaves_at_once in [false, true] {
        let server = Server::new();
        let mut telnet = server.telnet();
        telnet.stdout(File::options().write(true).open("/dev/full").expect("a full device"));
        let telnet = telnet.spawn().expect("the program to run");
        let mut visitor = server.accept();
        visitor.write_all(b"too much").expect("a write");
        if leaves_at_once {
            drop(visitor);
        }
        let output = output_of(telnet);
        assert_eq!(output.status.code(), Some(1), "{leaves_at_once}");
        let text = String::from_utf8(output.stderr).expect("text");
        assert!(text.ends_with("error: standard output takes no more\n"), "{text}");
    }
}

#[test]
fn a_standard_input_that_cannot_be_read_ends_the_program() {
    let server = Server::new();
    let mut telnet = server.telnet();
    let telnet = telnet.stdin(File::open("/").expect("a directory")).spawn().expect("the program to run");
    let mut visitor = server.accept();
    let output = output_of(telnet);
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8(output.stderr).expect("text");
    assert!(text.contains("error: standard input: "), "{text}");
    assert_eq!(visitor.read_to_end(&mut Vec::new()).expect("the end"), 0);
}

#[test]
fn a_pipe_that_others_share_blocks_again_afterwards() {
    let server = Server::new();
    let (reader, mut writer) = std::io::pipe().expect("a pipe");
    let shared = reader.try_clone().expect("a descriptor");
    let before = fcntl_getfl(&shared).expect("flags");
    let telnet = server.telnet().stdin(reader).spawn().expect("the program to run");
    let mut visitor = server.accept();
    writer.write_all(b"x\n").expect("a write");
    assert_eq!(read(&mut visitor, 3), r"x\r\n");
    assert!(fcntl_getfl(&shared).expect("flags").contains(OFlags::NONBLOCK));
    drop(visitor);
    assert!(output_of(telnet).status.success());
    assert_eq!(fcntl_getfl(&shared).expect("flags"), before);
}

#[test]
fn at_a_terminal_lines_are_sent_and_nothing_that_comes_controls_it() {
    let server = Server::new();
    let Some(mut terminal) = Terminal::start(&server.telnet()) else { return };
    let mut visitor = server.accept();
    terminal.await_text("connected to 127.0.0.1:");
    terminal.type_in(b"hello\n");
    assert_eq!(read(&mut visitor, 7), r"hello\r\n");
    visitor.write_all("grüße \x1b[2J\u{9b}31m\r\n".as_bytes()).expect("a write");
    terminal.await_text(r"gr\xc3\xbc\xc3\x9fe ^[[2J\\x9b31m\r\n");
    // Others at the terminal, the shell for one, do not notice.
    assert!(!fcntl_getfl(terminal.inside()).expect("flags").contains(OFlags::NONBLOCK));
    terminal.type_in(b"\x04");
    assert_eq!(read_rest(&mut visitor), "", "Ctrl-D ends the input");
    visitor.write_all(b"goodbye\r\n").expect("a write");
    drop(visitor);
    terminal.await_text("goodbye");
    terminal.await_text("closed by the server");
    assert_eq!(terminal.wait().code(), Some(0));
}

#[test]
fn the_news_of_the_end_comes_behind_all_of_the_text() {
    let server = Server::new();
    let Some(mut terminal) = Terminal::start(&server.telnet()) else { return };
    let mut visitor = server.accept();
    terminal.await_text(r"Ctrl-D ends\r\n");
    let before = terminal.seen().len();
    // More than a terminal holds, and less than the output queue holds before the server is no longer read.
    let text: String = (0..4000).map(|number| format!("line {number}\r\n")).collect();
    visitor.write_all(text.as_bytes()).expect("a write");
    visitor.shutdown(Shutdown::Write).expect("an end");
    // It knows of the end while nobody looks at the screen.
    assert_eq!(read_rest(&mut visitor), "");
    terminal.await_text(r"closed by the server\r\n");
    let seen = String::from_utf8_lossy(&terminal.seen()[before..]).into_owned();
    assert!(seen == text + "closed by the server\r\n", "{seen}");
    assert_eq!(terminal.wait().code(), Some(0));
}

#[test]
fn an_interrupt_ends_the_program_at_once() {
    let server = Server::new();
    let Some(mut terminal) = Terminal::start(&server.telnet()) else { return };
    let mut visitor = server.accept();
    terminal.await_text("connected to");
    terminal.type_in(b"\x03");
    assert_eq!(read_rest(&mut visitor), "");
    assert_eq!(terminal.wait().code(), Some(130));
}
