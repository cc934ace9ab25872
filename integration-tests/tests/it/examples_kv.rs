//! `kv_server`: it answers as Redis does, wherever its input is cut, and to Redis's own programs.
//!
//! What Redis answers is recorded in `fixtures/redis`; where `redis-server` is installed, it is asked anew.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use asyncore::{ChannelId, Map};
use integration_tests::{DEADLINE, Peer, in_time, map, run_to_the_end, settle, turn_until};
use rustix::process::Signal;

use crate::examples::Program;

use kv_server::Server;

#[expect(dead_code, reason = "its main is the program's")]
#[path = "../../../examples/kv_server.rs"]
mod kv_server;

#[test]
fn every_answer_is_that_of_redis() {
    for conversation in conversations() {
        assert_eq!(Kv::answer_to(&[&conversation.request]), conversation.answer, "{}", conversation.title);
    }
}

#[test]
fn where_the_input_is_cut_makes_no_difference() {
    for conversation in conversations() {
        if conversation.drops_answers() {
            continue;
        }
        for cut in 1..conversation.request.len() {
            let (start, rest) = conversation.request.split_at(cut);
            assert_eq!(
                Kv::answer_to(&[start, rest]),
                conversation.answer,
                "{}, cut behind {}",
                conversation.title,
                start.escape_ascii()
            );
        }
        let bytes: Vec<&[u8]> = conversation.request.chunks(1).collect();
        assert_eq!(Kv::answer_to(&bytes), conversation.answer, "{}, byte by byte", conversation.title);
    }
}

#[test]
fn redis_itself_answers_so() {
    let Some(redis) = Redis::start() else { return };
    let server = Program::serve("kv_server");
    let address = server.address().into();
    for conversation in conversations() {
        let ask = |connect: &dyn Fn() -> Peer| {
            in_good_time(|| {
                let mut peer = connect();
                peer.send(b"FLUSHALL\r\nQUIT\r\n");
                assert_eq!(peer.read_rest(), b"+OK\r\n+OK\r\n");
                let mut peer = connect();
                peer.send(&conversation.request);
                peer.shutdown_write();
                peer.read_rest().escape_ascii().to_string()
            })
        };
        let answer = ask(&|| redis.connect());
        assert_eq!(answer, conversation.answer, "recorded: {}", conversation.title);
        assert_eq!(ask(&|| Peer::connect(&address)), answer, "{}", conversation.title);
    }
}

#[test]
fn what_it_tells_of_its_commands_redis_tells_of_them_too() {
    if version("redis-cli").is_none() {
        return;
    }
    let Some(redis) = Redis::start() else { return };
    let server = Program::serve("kv_server");
    let port = server.address().port().to_string();
    let ours = |command: &[&str]| cli(&[&["-p", &port], command].concat());
    let socket = redis.socket.to_str().expect("text");
    let theirs = |command: &[&str]| cli(&[&["-s", socket], command].concat());
    let names = ours(&["COMMAND", "LIST"]);
    assert_eq!(names.lines().count(), 19, "{names}");
    for name in names.lines() {
        let (info, full) = (ours(&["COMMAND", "INFO", name]), theirs(&["COMMAND", "INFO", name]));
        assert!(full.starts_with(&info) && info.starts_with(name), "{info} is not the start of {full}");
        let (docs, full) = (ours(&["COMMAND", "DOCS", name]), theirs(&["COMMAND", "DOCS", name]));
        for line in docs.lines() {
            assert!(full.lines().any(|other| other == line), "{line:?} is not in {full}");
        }
    }
    assert_eq!(ours(&["COMMAND", "COUNT"]), "19\n");
    assert_eq!(ours(&["COMMAND"]).lines().count(), ours(&["COMMAND", "INFO"]).lines().count());
    assert!(ours(&["COMMAND", "DOCS"]).contains("Get the value of a key"));
    for container in ["CLIENT", "COMMAND"] {
        assert!(ours(&[container, "HELP"]).contains("Prints this help."), "{container}");
    }
}

#[test]
fn the_tools_of_redis_take_it_for_one() {
    if version("redis-benchmark").is_none() || version("redis-cli").is_none() {
        return;
    }
    let server = Program::serve("kv_server");
    let port = server.address().port().to_string();
    for pipeline in ["1", "16"] {
        let mut benchmark = Command::new("redis-benchmark");
        benchmark.args(["-p", &port, "-q", "-c", "7", "-n", "2000", "-d", "512", "-P", pipeline]);
        benchmark.args(["-t", "ping_inline,ping_mbulk,set,get,incr,lpush,lrange_100,mset"]);
        let output = in_time(move || benchmark.output()).expect("the program to run");
        let text = String::from_utf8_lossy(&output.stdout).replace('\r', "\n");
        assert!(output.status.success(), "{output:?}");
        let results = text.lines().filter(|line| line.contains("requests per second")).count();
        assert!(results >= 8, "{text}");
    }
    assert_eq!(cli(&["-p", &port, "GET", "counter:__rand_int__"]), "4000\n");
    assert_eq!(cli(&["-p", &port, "GET", "key:__rand_int__"]).len(), 513);
    let names = ["SET", "name", "a b", "EX", "100"];
    assert_eq!(cli(&[&["-p", &port][..], &names].concat()), "OK\n");
    assert_eq!(cli(&["-p", &port, "GET", "name"]), "a b\n");
}

#[test]
fn a_key_goes_when_its_time_has_come_and_not_before() {
    let mut kv = Kv::new();
    let mut peer = kv.connect();
    kv.exchange(&mut peer, "SET lasting 1 EX 100\r\nSET brief 2 PX 30\r\n", "+OK\r\n+OK\r\n");
    kv.wait_for_keys(1);
    kv.exchange(&mut peer, "GET brief\r\nTTL brief\r\nGET lasting\r\n", "$-1\r\n:-2\r\n$1\r\n1\r\n");
}

#[test]
fn a_key_may_be_told_when_to_go() {
    let mut kv = Kv::new();
    let mut peer = kv.connect();
    let later = kv.server.now() / 1000 + 100;
    for (option, milliseconds) in
        [(format!("EXAT {later}"), later * 1000), (format!("PXAT {later}001"), later * 1000 + 1)]
    {
        kv.exchange(&mut peer, &format!("SET key 1 {option}\r\n"), "+OK\r\n");
        assert_eq!(kv.server.databases[0].expiry(b"key"), Some(Some(milliseconds)), "{option}");
    }
    let soon = kv.server.now() + 30;
    kv.exchange(&mut peer, &format!("SET key 1 PXAT {soon}\r\n"), "+OK\r\n");
    kv.wait_for_keys(0);
    assert!(kv.server.now() >= soon);
}

#[test]
fn what_would_have_expired_already_is_not_kept() {
    let mut kv = Kv::new();
    let mut peer = kv.connect();
    // All in one turn.
    let commands = "SET key 1 EX 100\r\nSET key 2 EXAT 1\r\nDBSIZE\r\nGET key\r\nSET key 3\r\n";
    kv.exchange(&mut peer, commands, "+OK\r\n+OK\r\n:0\r\n$-1\r\n+OK\r\n");
    kv.exchange(&mut peer, "TTL key\r\n", ":-1\r\n");
}

#[test]
fn no_two_clients_have_the_same_number() {
    let mut kv = Kv::new();
    let mut peer = kv.connect();
    kv.exchange(&mut peer, "CLIENT ID\r\n", ":1\r\n");
    // Four billion clients later.
    kv.server.last_client = u32::MAX.into();
    let mut other = kv.connect();
    kv.exchange(&mut other, "CLIENT ID\r\n", ":4294967296\r\n");
    kv.exchange(&mut peer, "CLIENT ID\r\n", ":1\r\n");
}

#[test]
fn a_key_that_is_set_anew_does_not_go_at_its_former_time() {
    let mut kv = Kv::new();
    let mut peer = kv.connect();
    // When the last key has gone, the times of the others have passed.
    let set = "MSET a 1 b 1 c 1 d 1\r\nEXPIRE a 1\r\nEXPIRE b 1\r\nEXPIRE c 1\r\nEXPIRE d 1\r\n";
    let change = "SET a 2\r\nDEL b\r\nSET b 2\r\nEXPIRE c 100\r\nINCR b\r\n";
    let answers = "+OK\r\n:1\r\n:1\r\n:1\r\n:1\r\n+OK\r\n:1\r\n+OK\r\n:1\r\n:3\r\n";
    // In one go, so that no time passes between.
    kv.exchange(&mut peer, &[set, change].concat(), answers);
    kv.wait_for_keys(3);
    let answers = "*3\r\n$1\r\n2\r\n$1\r\n3\r\n$1\r\n1\r\n:-1\r\n";
    kv.exchange(&mut peer, "MGET a b c\r\nTTL a\r\n", answers);
}

#[test]
fn headers_and_lines_are_bounded() {
    let long = "1".repeat(70_000);
    for (input, error) in [
        (long.clone(), "too big inline request"),
        (format!("*{long}"), "too big mbulk count string"),
        (format!("*1\r\n${long}"), "too big bulk count string"),
        ("*1048577\r\n".to_owned(), "invalid multibulk length"),
        ("*1\r\n$536870913\r\n".to_owned(), "invalid bulk length"),
    ] {
        let answer = Kv::answer_to(&[input.as_bytes()]);
        assert_eq!(answer, format!("-ERR Protocol error: {error}\\r\\n"));
    }
}

#[test]
fn a_text_may_be_long_and_come_in_many_pieces() {
    let server = Program::serve("kv_server");
    let mut peer = TcpStream::connect(server.address()).expect("a connection");
    peer.set_read_timeout(Some(DEADLINE)).expect("an option");
    let text: Vec<u8> = (0..3_000_000_u32).map(|number| (number % 251) as u8).collect();
    let head = format!("*3\r\n$3\r\nSET\r\n$3\r\nkey\r\n${}\r\n", text.len());
    let sent = [head.as_bytes(), &text, b"\r\nGET key\r\n"].concat();
    let mut writer = peer.try_clone().expect("a descriptor");
    let writing = thread::spawn(move || writer.write_all(&sent));
    let expected = [format!("+OK\r\n${}\r\n", text.len()).as_bytes(), &text, b"\r\n"].concat();
    let mut received = vec![0; expected.len()];
    peer.read_exact(&mut received).expect("the answer");
    assert!(received == expected, "another text came back");
    writing.join().expect("a writer").expect("a write");
}

#[test]
fn a_client_that_goes_amid_a_command_gives_back_what_was_held_for_it() {
    let mut kv = Kv::new();
    let mut peer = kv.connect();
    peer.write_all(b"*3\r\n$3\r\nSET\r\n$3\r\nkey\r\n$1000\r\nhalf of it").expect("a write");
    settle(&mut kv.map, &mut kv.server);
    assert!(kv.server.held > 10);
    drop(peer);
    run_to_the_end(&mut kv.map, &mut kv.server);
    assert_eq!((kv.server.held, kv.server.databases[0].len()), (0, 0));
}

#[test]
fn a_server_that_holds_its_fill_closes_who_sends_more_of_a_command() {
    let mut kv = Kv::new();
    // What others have begun.
    let others = 1 << 30;
    kv.server.held = others;
    let mut peer = kv.connect();
    peer.write_all(b"PING\r\n*2\r\n$4\r\nECHO\r\n$10\r\nhel").expect("a write");
    run_to_the_end(&mut kv.map, &mut kv.server);
    assert_eq!(kv.server.held, others);
}

#[test]
fn a_client_that_does_not_read_is_not_listened_to() {
    let server = Program::serve("kv_server");
    let mut peer = Peer::connect(&server.address().into());
    peer.send(format!("*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1000\r\n{}\r\n", "x".repeat(1000)).as_bytes());
    assert_eq!(peer.read_bytes(5), b"+OK\r\n");
    peer.set_nonblocking();
    let (mut sent, mut stuck_since) = (0, Instant::now());
    while stuck_since.elapsed() < Duration::from_millis(300) && sent < 16 << 20 {
        match peer.write(b"GET k\r\n") {
            Ok(written) => (sent, stuck_since) = (sent + written, Instant::now()),
            Err(_) => thread::yield_now(),
        }
    }
    // It would be 2 GiB of answers.
    assert!(sent < 16 << 20, "it takes everything in");
    server.signal(Signal::TERM);
}

/// A conversation of the fixture.
struct Conversation {
    title: String,
    request: Vec<u8>,
    /// Escaped.
    answer: String,
}

impl Conversation {
    /// Whether it ends at once, and with it what was not sent yet.
    fn drops_answers(&self) -> bool {
        self.title.contains("browser")
    }
}

/// The conversations of the fixture.
fn conversations() -> Vec<Conversation> {
    let text = include_str!("../../fixtures/redis/conversations.txt");
    let conversations: Vec<_> = text.split("\n\n").map(conversation).collect();
    assert!(conversations.len() > 25);
    conversations
}

fn conversation(text: &str) -> Conversation {
    let mut lines = text.lines();
    let title = lines.next().and_then(|line| line.strip_prefix("# ")).expect("a title");
    let mut request = Vec::new();
    let mut answer = Vec::new();
    for line in lines {
        match line.split_at(2) {
            ("$ ", command) => {
                let words: Vec<_> = command
                    .split(' ')
                    .map(|word| if word == "''" { Vec::new() } else { unescape(word) })
                    .collect();
                request.extend(format!("*{}\r\n", words.len()).as_bytes());
                for word in words {
                    request.extend(format!("${}\r\n", word.len()).as_bytes());
                    request.extend(word);
                    request.extend(b"\r\n");
                }
            }
            ("> ", bytes) => request.extend(unescape(bytes)),
            ("< ", bytes) => {
                answer.extend(unescape(bytes));
                answer.extend(b"\r\n");
            }
            _ => panic!("{line:?}"),
        }
    }
    Conversation { title: title.to_owned(), request, answer: answer.escape_ascii().to_string() }
}

/// Reads escapes as Python does.
fn unescape(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let [byte, after @ ..] = rest {
        let (byte, after) = match (byte, after) {
            (b'\\', [b'x', high, low, after @ ..]) => {
                let digits = [*high, *low];
                let digits = std::str::from_utf8(&digits).expect("digits");
                (u8::from_str_radix(digits, 16).expect("digits"), after)
            }
            (b'\\', [b'n', after @ ..]) => (b'\n', after),
            (b'\\', [b'r', after @ ..]) => (b'\r', after),
            (b'\\', [b't', after @ ..]) => (b'\t', after),
            (b'\\', [byte @ (b'\\' | b'\'' | b'"'), after @ ..]) => (*byte, after),
            (b'\\', _) => panic!("{text:?}"),
            (byte, after) => (*byte, after),
        };
        bytes.push(byte);
        rest = after;
    }
    bytes
}

/// Asks again if it took so long that a time to live may read as a second less.
fn in_good_time(ask: impl Fn() -> String) -> String {
    let (began, mut asked) = (Instant::now(), Instant::now());
    let mut answer = ask();
    while asked.elapsed() > Duration::from_millis(400) && began.elapsed() < DEADLINE {
        asked = Instant::now();
        answer = ask();
    }
    answer
}

/// The server in a map of the test.
struct Kv {
    map: Map<Server>,
    server: Server,
}

impl Kv {
    fn new() -> Self {
        Self { map: map(), server: Server::default() }
    }

    /// What a new server answers, escaped; between the pieces it has the time to read.
    fn answer_to(pieces: &[&[u8]]) -> String {
        in_good_time(|| Self::answer_once(pieces))
    }

    fn answer_once(pieces: &[&[u8]]) -> String {
        let mut kv = Self::new();
        let mut peer = kv.connect();
        for piece in pieces {
            // It may have closed.
            if peer.write_all(piece).is_err() {
                break;
            }
            kv.map.poll(&mut kv.server, Some(Duration::ZERO)).expect("a turn");
        }
        drop(peer.shutdown(std::net::Shutdown::Write));
        run_to_the_end(&mut kv.map, &mut kv.server);
        let mut answer = Vec::new();
        peer.read_to_end(&mut answer).expect("an end");
        answer.escape_ascii().to_string()
    }

    fn connect(&mut self) -> UnixStream {
        let (peer, here) = UnixStream::pair().expect("a pair");
        peer.set_read_timeout(Some(DEADLINE)).expect("an option");
        let _id: ChannelId = self.map.add(here, kv_server::conversation()).expect("a channel");
        peer
    }

    /// Sends, and reads the answers.
    fn exchange(&mut self, peer: &mut UnixStream, request: &str, answers: &str) {
        peer.write_all(request.as_bytes()).expect("a write");
        settle(&mut self.map, &mut self.server);
        let mut received = vec![0; answers.len()];
        peer.read_exact(&mut received).expect("as many bytes");
        assert_eq!(received.escape_ascii().to_string(), answers.escape_default().to_string());
    }

    fn wait_for_keys(&mut self, count: usize) {
        turn_until(&mut self.map, &mut self.server, "keys to expire", |_, server| {
            server.databases[0].len() == count
        });
    }
}

/// The original, on a socket of its own.
struct Redis {
    child: Child,
    socket: PathBuf,
    _folder: tempfile::TempDir,
}

impl Redis {
    /// Starts it, if it is installed in a version that answers as was recorded. In CI it has to be.
    fn start() -> Option<Self> {
        let version = version("redis-server")?;
        if !version.contains("v=7.") {
            assert!(std::env::var_os("CI").is_none(), "version 7 was recorded, record anew: {version}");
            eprintln!("skipped: version 7 was recorded, not {version}");
            return None;
        }
        let folder = tempfile::tempdir().expect("a folder");
        let socket = folder.path().join("socket");
        let mut command = Command::new("redis-server");
        command.args(["--port", "0", "--save", "", "--appendonly", "no", "--unixsocket"]).arg(&socket);
        let child = command.current_dir(&folder).stdout(Stdio::null()).spawn().expect("the program to run");
        let redis = Self { child, socket, _folder: folder };
        let began = Instant::now();
        while UnixStream::connect(&redis.socket).is_err() {
            assert!(began.elapsed() < DEADLINE, "redis-server does not serve");
            thread::sleep(Duration::from_millis(5));
        }
        Some(redis)
    }

    fn connect(&self) -> Peer {
        Peer::connect(&self.socket.as_path().into())
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// The version of a program of Redis, if it is installed; says so if not, and fails in CI.
fn version(program: &str) -> Option<String> {
    let outcome = Command::new(program).arg("--version").output();
    if let Ok(output) = &outcome
        && output.status.success()
    {
        return Some(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    assert!(std::env::var_os("CI").is_none(), "{program} does not work here: {outcome:?}");
    eprintln!("skipped: {program} does not work here: {outcome:?}");
    None
}

/// What `redis-cli` prints.
fn cli(arguments: &[&str]) -> String {
    let mut command = Command::new("redis-cli");
    command.args(arguments).stdin(Stdio::null());
    let output = in_time(move || command.output()).expect("the program to run");
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).expect("text")
}
