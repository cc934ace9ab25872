//! A server that is measured: how it is made, started, looked at and stopped.

use std::ffi::OsString;
use std::fs;
use std::io::{self, ErrorKind, Read};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Signal, set_parent_process_death_signal};
use rustix::time::Timespec;
use serde_json::Value;

use crate::cores::Cores;
use crate::work;

/// One of those that are compared.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Peer {
    /// Its name on the command line and in tables.
    pub(crate) name: &'static str,
    /// What it is, in a line below the table.
    pub(crate) about: &'static str,
    pub(crate) program: Program,
}

impl Peer {
    /// A server of this program.
    pub(crate) const fn served(name: &'static str, about: &'static str) -> Self {
        Self { name, about, program: Program::Serve(name) }
    }
}

/// What a peer is made of.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Program {
    /// A server of this program, by its name in [`servers::run`](crate::servers::run).
    Serve(&'static str),
    /// The text of a C program; it takes `ADDR PORT`, and prints `listening on ADDR`.
    C(&'static str),
    /// The text of a Python program, and the modules that it needs; it takes `ADDR PORT`, and prints `listening on ADDR`.
    Python(&'static str, &'static [&'static str]),
    /// An example of the workspace; it takes `--listen ADDR`, and prints `listening on ADDR`.
    Example(&'static str),
    /// A program of the workspace that is a package of its own, and its further arguments; otherwise as an example. It runs in
    /// the folder of the run.
    Package(&'static str, &'static [&'static str]),
    /// A program that is installed, and its arguments for a port of 127.0.0.1. It serves once a connection is taken.
    Installed(&'static str, fn(u16) -> Vec<String>),
}

/// How a peer is started.
#[derive(Clone, Debug)]
pub(crate) struct Launch {
    program: OsString,
    arguments: Arguments,
    folder: Option<PathBuf>,
}

#[derive(Clone, Debug)]
enum Arguments {
    Fixed(Vec<OsString>),
    ByPort(fn(u16) -> Vec<String>),
}

/// Where programs are built.
#[derive(Debug)]
pub(crate) struct Workshop {
    folder: tempfile::TempDir,
}

impl Workshop {
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self { folder: work::folder()? })
    }

    /// Builds what has to be built; an error that is [`ErrorKind::Unsupported`] says what is missing.
    pub(crate) fn prepare(&self, peer: &Peer) -> io::Result<Launch> {
        let listen = |words: &[&str]| Arguments::Fixed(words.iter().map(OsString::from).collect());
        match peer.program {
            Program::Serve(name) => {
                let arguments = listen(&["serve", name, "--listen", "127.0.0.1:0"]);
                Ok(Launch { program: std::env::current_exe()?.into(), arguments, folder: None })
            }
            Program::C(text) => {
                let program = self.folder.path().join(peer.name);
                let source = program.with_extension("c");
                fs::write(&source, text)?;
                fs::write(self.folder.path().join("epoll.h"), include_str!("../c/epoll.h"))?;
                succeed(Command::new("cc").args(["-O2", "-Wall", "-o"]).arg(&program).arg(&source))?;
                Ok(Launch { program: program.into(), arguments: listen(&["127.0.0.1", "0"]), folder: None })
            }
            Program::Python(text, modules) => {
                let imports: String = modules.iter().map(|module| format!("import {module}\n")).collect();
                let import = succeed(Command::new("python3").args(["-W", "ignore", "-c", &imports]));
                import.map_err(|error| io::Error::new(ErrorKind::Unsupported, error.to_string()))?;
                // A module of the peer's own name would be taken for this file.
                let source = self.folder.path().join(format!("{}_server.py", peer.name));
                fs::write(&source, text)?;
                let words = ["-W".into(), "ignore".into(), source.into(), "127.0.0.1".into(), "0".into()];
                Ok(Launch {
                    program: "python3".into(),
                    arguments: Arguments::Fixed(words.into()),
                    folder: None,
                })
            }
            Program::Example(name) => {
                let mut cargo = cargo();
                cargo.args(["build", "--locked", "--release", "-p", "examples", "--example", name]);
                let program = build(cargo.current_dir(env!("CARGO_MANIFEST_DIR")))?;
                Ok(Launch {
                    program: program.into(),
                    arguments: listen(&["--listen", "127.0.0.1:0"]),
                    folder: None,
                })
            }
            Program::Package(name, arguments) => {
                let mut cargo = cargo();
                cargo.args(["build", "--locked", "--release", "-p", name]);
                let program = build(cargo.current_dir(env!("CARGO_MANIFEST_DIR")))?;
                let folder = Some(self.folder.path().to_owned());
                let arguments = listen(&[&["--listen", "127.0.0.1:0"], arguments].concat());
                Ok(Launch { program: program.into(), arguments, folder })
            }
            Program::Installed(program, arguments) => {
                // It need not know the word, only be there.
                let mut known = Command::new(program);
                known.arg("--version").output().map_err(|error| missing(&known, &error))?;
                Ok(Launch { program: program.into(), arguments: Arguments::ByPort(arguments), folder: None })
            }
        }
    }
}

/// A server in a process of its own; it ends with this value.
#[derive(Debug)]
pub(crate) struct Server {
    process: Child,
    /// Where it listens.
    pub(crate) address: SocketAddr,
}

impl Server {
    /// Starts it, run by `wrapper` (a tool and its arguments, or nothing), and waits until it listens.
    pub(crate) fn start(launch: &Launch, wrapper: &[OsString], cores: &Cores) -> io::Result<Self> {
        let bench = std::env::current_exe()?;
        let mut command = Command::new(&bench);
        command.arg("tethered");
        if !wrapper.is_empty() {
            // A tool that is killed lets go of what runs under it: that has a tether of its own, to the tool.
            command.args(wrapper).arg(&bench).arg("tethered");
        }
        command.arg(&launch.program).stdin(Stdio::null()).stdout(Stdio::piped());
        // A log of every session would hide the report.
        command.env("RUST_LOG", "warn");
        if let Some(folder) = &launch.folder {
            command.current_dir(folder);
        }
        match &launch.arguments {
            Arguments::Fixed(words) => {
                let process = cores.spawn(command.args(words))?;
                // Made before it is listened to: it ends the process also when that says something else.
                let mut server = Self { process, address: (Ipv4Addr::UNSPECIFIED, 0).into() };
                let line = server.process.stdout.take().map_or_else(|| Ok(String::new()), first_line)?;
                let address = line.trim_end().strip_prefix("listening on ").and_then(|at| at.parse().ok());
                server.address = address.ok_or_else(|| other(format!("it said {line:?}")))?;
                Ok(server)
            }
            Arguments::ByPort(words) => {
                let address = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
                let process = cores.spawn(command.args(words(address.port())).stdout(Stdio::null()))?;
                let mut server = Self { process, address };
                server.wait_until_it_accepts()?;
                Ok(server)
            }
        }
    }

    fn wait_until_it_accepts(&mut self) -> io::Result<()> {
        let deadline = Instant::now() + START_TIME;
        while let Err(error) = TcpStream::connect(self.address) {
            if let Some(status) = self.process.try_wait()? {
                return Err(other(format!("it has ended: {status}")));
            }
            if Instant::now() > deadline {
                return Err(error);
            }
            thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    /// The processor time that its threads have taken, in nanoseconds.
    pub(crate) fn cpu(&self) -> io::Result<u64> {
        let mut sum = 0;
        for thread in fs::read_dir(self.file("task"))? {
            let text = fs::read_to_string(thread?.path().join("schedstat"))?;
            let first = text.split_ascii_whitespace().next().and_then(|word| word.parse::<u64>().ok());
            sum += first.ok_or_else(|| other(format!("schedstat holds {text:?}")))?;
        }
        Ok(sum)
    }

    /// Its bytes that are resident in memory.
    pub(crate) fn resident(&self) -> io::Result<u64> {
        // The kernel counts the pages for the first; the second comes from counters of each core that it adds up seldom.
        [("smaps_rollup", "Rss:"), ("status", "VmRSS:")]
            .into_iter()
            .find_map(|(file, name)| {
                let text = fs::read_to_string(self.file(file)).ok()?;
                let line = text.lines().find_map(|line| line.strip_prefix(name))?;
                Some(line.trim().strip_suffix(" kB")?.parse::<u64>().ok()? << 10)
            })
            .ok_or_else(|| other("neither Rss nor VmRSS".to_owned()))
    }

    /// Asks it to end, and waits until it has: a tool that it runs under writes its figures then.
    pub(crate) fn terminate(mut self) -> io::Result<()> {
        let pid = rustix::process::Pid::from_child(&self.process);
        rustix::process::kill_process(pid, Signal::TERM)?;
        let deadline = Instant::now() + STOP_TIME;
        while self.process.try_wait()?.is_none() {
            if Instant::now() > deadline {
                return Err(other("it does not end".to_owned()));
            }
            thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    fn file(&self, name: &str) -> PathBuf {
        ["/proc", &self.process.id().to_string(), name].iter().collect()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself.
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

/// Becomes a program that ends with the process that has started this one, whatever ends that: returns if it cannot.
///
/// One that changes its user, as `smtp-sink` does if root starts it, loses the tether.
pub(crate) fn tethered(words: &[OsString]) -> io::Error {
    let [program, arguments @ ..] = words else { return other("no program to run".to_owned()) };
    match set_parent_process_death_signal(Some(Signal::KILL)) {
        Ok(()) => Command::new(program).args(arguments).exec(),
        Err(error) => error.into(),
    }
}

/// The first line that a server says.
fn first_line(mut output: ChildStdout) -> io::Result<String> {
    let deadline = Instant::now() + START_TIME;
    let (mut line, mut room) = (Vec::new(), [0; 256]);
    while !line.ends_with(b"\n") {
        let left = deadline.saturating_duration_since(Instant::now());
        let left = Timespec::try_from(left).map_err(io::Error::other)?;
        match poll(&mut [PollFd::new(&output, PollFlags::IN)], Some(&left)) {
            Ok(0) => return Err(other(format!("it does not say where it listens, in {START_TIME:?}"))),
            Err(rustix::io::Errno::INTR) => continue,
            ready => ready?,
        };
        match output.read(&mut room)? {
            0 => break,
            count => line.extend_from_slice(&room[..count]),
        }
    }
    Ok(String::from_utf8_lossy(&line).into_owned())
}

/// Runs a command to its end: what it has said. An error says what it complained of.
pub(crate) fn succeed(command: &mut Command) -> io::Result<Vec<u8>> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.output().map_err(|error| missing(command, &error))?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let last = said.lines().rfind(|line| !line.trim().is_empty()).unwrap_or_default();
    Err(other(format!("{name}: {last} ({})", output.status)))
}

/// Runs a command to its end, but no longer than a time; an error says so, or what it complained of.
pub(crate) fn in_time(command: &mut Command, time: Duration) -> io::Result<()> {
    let name = command.get_program().to_string_lossy().into_owned();
    let mut process = spawn(command.stdin(Stdio::null()).stdout(Stdio::null()))?;
    let deadline = Instant::now() + time;
    loop {
        match process.try_wait()? {
            Some(status) if status.success() => return Ok(()),
            Some(status) => return Err(other(format!("{name}: {status}"))),
            None if Instant::now() > deadline => {
                process.kill()?;
                process.wait()?;
                return Err(other(format!("{name} does not end, in {time:?}")));
            }
            None => thread::sleep(Duration::from_millis(5)),
        }
    }
}

/// Starts a command; what is not there is said to be missing.
pub(crate) fn spawn(command: &mut Command) -> io::Result<Child> {
    command.spawn().map_err(|error| missing(command, &error))
}

/// Says which program could not be started, and that it is missing if it is.
fn missing(command: &Command, error: &io::Error) -> io::Error {
    let kind = if error.kind() == ErrorKind::NotFound { ErrorKind::Unsupported } else { error.kind() };
    io::Error::new(kind, format!("{}: {error}", command.get_program().to_string_lossy()))
}

/// Cargo itself, as it has run this program.
pub(crate) fn cargo() -> Command {
    Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}

/// Builds a program with Cargo, which says where it lies.
pub(crate) fn build(cargo: &mut Command) -> io::Result<PathBuf> {
    let said = succeed(cargo.args(["--quiet", "--message-format", "json"]))?;
    let messages = said.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok());
    let program =
        messages.filter_map(|message: Value| message["executable"].as_str().map(PathBuf::from)).next_back();
    program.ok_or_else(|| other("cargo has built no program".to_owned()))
}

fn other(text: String) -> io::Error {
    io::Error::other(text)
}

/// How long a server may take until it accepts: 60 s, several times what Python takes under a tool.
const START_TIME: Duration = Duration::from_secs(60);

/// How long a server may take to end when asked to: 20 s, for a tool that has much to write.
const STOP_TIME: Duration = Duration::from_secs(20);
