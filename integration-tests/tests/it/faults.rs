//! What the tests of faults share: a server in a process of its own, its clients, and the tools that inject faults.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use asyncore::{Address, Map, Options, Wait};
use integration_tests::{DEADLINE, Peer};

/// `fault_server` as a process of its own; it ends with this value.
pub(crate) struct Server {
    process: Child,
    /// Where it echoes lines.
    pub(crate) lines: SocketAddr,
    /// Where it echoes bytes.
    pub(crate) raw: SocketAddr,
}

impl Server {
    /// Starts it with `arguments`, run by `wrapper` (a tool and its arguments, or nothing).
    ///
    /// `None` when the tool is missing: the test ends, having said so. In CI that fails.
    pub(crate) fn start(wrapper: &[&str], arguments: &[&str]) -> Option<Self> {
        Self::try_start(wrapper, arguments).map(|server| server.expect("the server to serve"))
    }

    /// As [`start`](Self::start), with `Some(None)` for a server that ends before it serves.
    pub(crate) fn try_start(wrapper: &[&str], arguments: &[&str]) -> Option<Option<Self>> {
        let program = env!("CARGO_BIN_EXE_fault_server");
        let mut command = match wrapper {
            [] => Command::new(program),
            [tool, options @ ..] => {
                if !works(tool, options) {
                    return None;
                }
                let mut command = Command::new(tool);
                command.args(options).arg(program);
                command
            }
        };
        let mut process = command
            .args(arguments)
            // glibc gives large buffers back at once, and moves none: resident memory shows what the server holds.
            .env("MALLOC_MMAP_THRESHOLD_", "65536")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the server to start");
        let mut output = BufReader::new(process.stdout.take().expect("a pipe"));
        let mut address = |name| -> Option<SocketAddr> {
            let mut line = String::new();
            output.read_line(&mut line).expect("a line of the server");
            line.trim_end().strip_prefix(name)?.parse().ok()
        };
        // Its standard output is closed from here on: nothing in it may mind (row 21).
        let addresses = (address("lines on "), address("raw on "));
        let (Some(lines), Some(raw)) = addresses else {
            drop(process.stdin.take());
            process.wait().expect("the end of the server");
            return Some(None);
        };
        Some(Some(Self { process, lines, raw }))
    }

    pub(crate) fn client(&self) -> Client {
        Client::connect(self.lines)
    }

    /// The verdict common to all faults: alive, and a second client is answered.
    pub(crate) fn answers(&mut self) {
        assert_eq!(self.client().ask("still there?"), "still there?");
        assert!(self.process.try_wait().expect("a status").is_none(), "the server has ended");
    }

    /// Stops the process until it is sent a signal to continue: the server, or the tool that it waits for at each call.
    pub(crate) fn pause(&self) {
        self.signal(rustix::process::Signal::STOP);
        let pid = rustix::process::Pid::from_child(&self.process);
        let status = rustix::process::waitpid(Some(pid), rustix::process::WaitOptions::UNTRACED);
        assert!(
            status.is_ok_and(|status| status.is_some_and(|(_, status)| status.stopped())),
            "{pid} to stop"
        );
    }

    pub(crate) fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(&self.process);
        rustix::process::kill_process(pid, signal).expect("a signal sent");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // A test that failed may have left it stopped.
        let pid = rustix::process::Pid::from_child(&self.process);
        rustix::process::kill_process(pid, rustix::process::Signal::CONT).ok();
        // The end of its input ends it, under a tool as well; then there is something to wait for.
        drop(self.process.stdin.take());
        self.process.wait().expect("the end of the server");
    }
}

/// Whether a tool can be used, tried with the options that it is to have; without it, CI fails.
fn works(tool: &str, options: &[&str]) -> bool {
    let outcome = Command::new(tool).args(options).arg("true").output();
    if outcome.as_ref().is_ok_and(|output| output.status.success()) {
        return true;
    }
    assert!(std::env::var_os("CI").is_none(), "{tool} does not work here: {outcome:?}");
    eprintln!("skipped: {tool} does not work here: {outcome:?}");
    false
}

/// A client of the line echo.
pub(crate) struct Client {
    reader: BufReader<TcpStream>,
}

impl Client {
    pub(crate) fn connect(to: SocketAddr) -> Self {
        let Peer::Tcp(socket) = Peer::connect(&Address::from(to)) else { unreachable!("a TCP address") };
        Self { reader: BufReader::new(socket) }
    }

    pub(crate) fn socket(&self) -> &TcpStream {
        self.reader.get_ref()
    }

    pub(crate) fn say(&mut self, line: &str) {
        self.send(format!("{line}\r\n").as_bytes());
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.reader.get_mut().write_all(bytes).expect("the server to take the bytes");
    }

    pub(crate) fn hear(&mut self) -> String {
        self.try_hear().expect("a line")
    }

    /// The next line; `None` when the connection has ended or is lost. What is neither in time fails.
    pub(crate) fn try_hear(&mut self) -> Option<String> {
        let mut line = String::new();
        match self.reader.read_line(&mut line) {
            Ok(_) => line.strip_suffix("\r\n").map(str::to_owned),
            Err(error) if error.kind() == ErrorKind::ConnectionReset => None,
            Err(error) => panic!("no line in time: {error}"),
        }
    }

    pub(crate) fn ask(&mut self, line: &str) -> String {
        self.say(line);
        self.hear()
    }

    pub(crate) fn stats(&mut self) -> Stats {
        let line = self.ask("stats");
        let pair = |pair: &str| {
            let (name, value) = pair.split_once('=').expect("name=value");
            (name.to_owned(), value.parse().expect("a number"))
        };
        Stats(line.split(' ').map(pair).collect())
    }

    /// Asks for the counters until they are as wanted.
    pub(crate) fn stats_until(&mut self, what: &str, done: impl Fn(&Stats) -> bool) -> Stats {
        let deadline = Instant::now() + DEADLINE;
        loop {
            let stats = self.stats();
            if done(&stats) {
                return stats;
            }
            assert!(Instant::now() < deadline, "timed out waiting for {what}: {stats:?}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// The counters after nothing was asked for `millis`: what the server did on its own.
    pub(crate) fn stats_after(&mut self, millis: u64) -> (Stats, Stats) {
        let before = self.stats();
        std::thread::sleep(Duration::from_millis(millis));
        (before, self.stats())
    }
}

/// The counters of the server by name; a name that is not there counts 0.
#[derive(Debug)]
pub(crate) struct Stats(BTreeMap<String, u64>);

impl std::ops::Index<&str> for Stats {
    type Output = u64;

    fn index(&self, name: &str) -> &u64 {
        self.0.get(name).unwrap_or(&0)
    }
}

/// The options of `strace` that make system calls fail: `inject` as its `-e inject=` takes it, without `error=`.
pub(crate) fn strace<'a>(log: &'a str, trace: &'a str, inject: &'a str) -> Vec<&'a str> {
    vec!["strace", "-f", "-qq", "-o", log, "-e", trace, "-e", inject]
}

/// A map for each way to wait.
pub(crate) fn each_wait(test: impl Fn(Map)) {
    for wait in [Wait::Direct, Wait::Portable] {
        println!("with {wait:?}");
        let mut options = Options::default();
        options.wait = wait;
        test(Map::with_options(options).expect("a map"));
    }
}

/// The map waits as it should: nothing happens in three waits, and each takes its time.
pub(crate) fn assert_quiet<A: 'static>(map: &mut Map<A>, app: &mut A) {
    let before = map.counters();
    let start = Instant::now();
    for _ in 0..3 {
        map.poll(app, Some(Duration::from_millis(20))).expect("a turn");
    }
    assert_eq!(map.counters().events, before.events, "the loop spins");
    // At least: on a busy machine it may be any time longer.
    assert!(start.elapsed() >= Duration::from_millis(59), "the loop does not wait");
}
