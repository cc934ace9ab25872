//! [`Program`]: the server as its users start it, in a folder of its own; and the programs that it is tested with.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use integration_tests::DEADLINE;
use rustix::process::{Pid, Signal, kill_process};

/// A server that runs, on ports of its own; killed when it goes out of scope.
#[derive(Debug)]
pub(crate) struct Program {
    child: Child,
    stdout: BufReader<ChildStdout>,
    folder: tempfile::TempDir,
    addresses: Vec<String>,
    page: String,
}

impl Program {
    /// The server with a web page and these arguments, in a new folder.
    pub(crate) fn start(arguments: &[&str]) -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), arguments)
    }

    /// In a folder that has been there.
    pub(crate) fn start_in(folder: tempfile::TempDir, arguments: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_smtpd"));
        command.args(["--listen=127.0.0.1:0", "--http=127.0.0.1:0"]).args(arguments);
        Self::spawn(folder, command)
    }

    /// A command line that ends up as the server; its standard error is kept in a file, see [`log`](Self::log).
    pub(crate) fn spawn(folder: tempfile::TempDir, mut command: Command) -> Self {
        let log = fs::File::create(folder.path().join(LOG)).unwrap();
        command.current_dir(folder.path()).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log);
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let mut program = Self { child, stdout, folder, addresses: Vec::new(), page: String::new() };
        // The page is told of last; without one the listeners are all there is to read.
        let has_page = !command.get_args().any(|argument| argument == "--no-http");
        loop {
            let line = program.line();
            match line.strip_prefix("listening on ") {
                Some(address) => program.addresses.push(address.to_owned()),
                None => {
                    assert!(line.contains(" shown at http://"), "{line:?}\n{}", program.log());
                    program.page = line;
                }
            }
            if !has_page || !program.page.is_empty() {
                return program;
            }
        }
    }

    /// The next line of its standard output, without its end; empty at the end.
    pub(crate) fn line(&mut self) -> String {
        let mut line = String::new();
        self.stdout.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    /// What it has said of its page.
    pub(crate) fn page(&self) -> &str {
        &self.page
    }

    /// Where it listens for mail first.
    pub(crate) fn smtp(&self) -> SocketAddr {
        self.addresses[0].parse().unwrap()
    }

    /// Where it listens, in the order in which it said so; the page is last.
    pub(crate) fn address(&self, index: usize) -> &str {
        &self.addresses[index]
    }

    /// Where the page is.
    pub(crate) fn web(&self) -> SocketAddr {
        self.addresses.last().unwrap().parse().unwrap()
    }

    /// The folder that it runs in.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// What it has logged.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join(LOG)).unwrap()
    }

    /// The id of its process.
    pub(crate) fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// The memory that it occupies, in kB.
    pub(crate) fn resident(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }

    /// Most memory that it has had, in bytes.
    pub(crate) fn peak(&self) -> usize {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        peak.trim().strip_suffix(" kB").unwrap().parse::<usize>().unwrap() << 10
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).unwrap();
    }

    /// Whole messages in a folder below its own, `Maildir/new` for one, in the order of their names.
    pub(crate) fn kept_in(&self, folder: &str) -> Vec<Vec<u8>> {
        files(&self.folder.path().join(folder)).iter().map(|file| fs::read(file).unwrap()).collect()
    }

    /// The messages it has kept, each without the lines that it put on top.
    pub(crate) fn messages(&self) -> Vec<Vec<u8>> {
        self.kept_in("Maildir/new").iter().map(|message| below_the_trace(message).to_vec()).collect()
    }

    /// Asks it to stop, and waits until it has: how it ended.
    pub(crate) fn stop(&mut self) -> ExitStatus {
        self.signal(Signal::TERM);
        self.wait()
    }

    /// Waits until it has ended.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        wait(&mut self.child)
    }

    /// Kills it, and gives its folder to the next.
    pub(crate) fn kill(mut self) -> tempfile::TempDir {
        self.signal(Signal::KILL);
        self.wait();
        std::mem::replace(&mut self.folder, tempfile::tempdir().unwrap())
    }

    /// A connection for mail, with its greeting read.
    pub(crate) fn client(&self) -> Client {
        let mut client = Client::connect(self.smtp());
        client.expect("220 ");
        client
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// A client that says what it is told to, with a deadline.
#[derive(Debug)]
pub(crate) struct Client {
    stream: BufReader<TcpStream>,
}

impl Client {
    pub(crate) fn connect(at: SocketAddr) -> Self {
        let stream = TcpStream::connect(at).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        stream.set_write_timeout(Some(DEADLINE)).unwrap();
        Self { stream: BufReader::new(stream) }
    }

    /// Sends bytes as they are.
    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.get_mut().write_all(bytes.as_ref()).unwrap();
    }

    /// Sends what the server takes, which may be killed meanwhile: whether that was all.
    pub(crate) fn try_send(&mut self, bytes: &str) -> bool {
        self.stream.get_mut().write_all(bytes.as_bytes()).is_ok()
    }

    /// The next reply of one line, if the server still gives one.
    pub(crate) fn try_reply(&mut self) -> Option<String> {
        let mut reply = String::new();
        self.stream.read_line(&mut reply).ok().filter(|read| *read > 0).map(|_| reply)
    }

    /// The next reply, all its lines; empty at the end of the connection.
    pub(crate) fn reply(&mut self) -> String {
        let mut reply = String::new();
        loop {
            let begin = reply.len();
            self.stream.read_line(&mut reply).unwrap();
            if reply.as_bytes().get(begin + 3) != Some(&b'-') {
                return reply;
            }
        }
    }

    /// Reads a reply, which must begin with this.
    #[track_caller]
    pub(crate) fn expect(&mut self, start: &str) -> String {
        let reply = self.reply();
        assert!(reply.starts_with(start), "{reply:?} instead of {start:?}");
        reply
    }

    /// Sends a command, and reads its reply, which must begin with this.
    #[track_caller]
    pub(crate) fn ask(&mut self, command: &str, start: &str) -> String {
        self.send(format!("{command}\r\n"));
        self.expect(start)
    }

    /// Sends a whole message to `to@example.org`, text with its final dot, and reads the reply to it.
    pub(crate) fn deliver(&mut self, text: &str) -> String {
        self.ask("MAIL FROM:<from@example.org>", "250 ");
        self.ask("RCPT TO:<to@example.org>", "250 ");
        self.ask("DATA", "354 ");
        self.send(format!("{text}.\r\n"));
        self.reply()
    }

    /// All that comes up to the end of the connection.
    pub(crate) fn rest(&mut self) -> String {
        let mut rest = String::new();
        self.stream.read_to_string(&mut rest).unwrap();
        rest
    }
}

/// What was sent of a message that was kept.
pub(crate) fn below_the_trace(message: &[u8]) -> &[u8] {
    let mut rest = message;
    for name in ["Return-Path: ", "Received: ", "X-Envelope-To: "] {
        if !rest.starts_with(name.as_bytes()) {
            continue;
        }
        loop {
            let end = rest.windows(2).position(|end| end == b"\r\n").map_or(rest.len(), |end| end + 2);
            rest = &rest[end..];
            if !rest.starts_with(b"\t") && !rest.starts_with(b" ") {
                break;
            }
        }
    }
    rest
}

/// The files in a folder, in the order of their names; none if it is not there.
pub(crate) fn files(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

/// Waits for what must come; fails at the deadline.
#[track_caller]
pub(crate) fn until<T>(what: &str, mut get: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + DEADLINE;
    loop {
        if let Some(got) = get() {
            return got;
        }
        assert!(Instant::now() < deadline, "timed out waiting for {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Waits for a process to end.
pub(crate) fn wait(child: &mut Child) -> ExitStatus {
    until("a process to end", || child.try_wait().unwrap())
}

/// Runs a program to its end with this on its standard input; it must succeed.
#[track_caller]
pub(crate) fn run(command: &mut Command, input: &[u8]) -> Output {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    // It may not want all of it.
    drop(child.stdin.take().unwrap().write_all(input));
    let output = child.wait_with_output().unwrap();
    assert!(
        output.status.success(),
        "{command:?}: {}\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    output
}

/// Where the log goes.
const LOG: &str = "log.txt";
