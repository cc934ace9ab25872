//! The splitter alone, without a socket: how fast bytes become messages.

use std::hint::black_box;
use std::io::{self, Write};
use std::process::{Command, Stdio};
use std::time::Duration;

use asynchat::{Split, Splitter, Terminator};
use bytes::BytesMut;
use clap::ValueEnum;
use memchr::memchr;
use memchr::memmem::Finder;
use rustix::time::{ClockId, Timespec, clock_gettime};
use tokio_util::codec::{AnyDelimiterCodec, Decoder, LinesCodec};

use crate::bench::Bench;
use crate::report::{Better, Metric, Sample};
use crate::rounds::{Plan, interleave};
use crate::server::spawn;

/// The splitter alone, without a socket: bytes a second, beside a bare search and other splitters.
///
/// Nothing waits here, and so each is measured for a tenth of the seconds of a round.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Options {
    /// What is split; can be given several times.
    #[arg(long, value_enum, value_name = "MESSAGES", default_values = ["1", "16", "80", "1000", "heads"])]
    messages: Vec<Messages>,
    /// How it comes; can be given several times.
    #[arg(long, value_enum, value_name = "CUT", default_values = ["whole", "bytes"])]
    cut: Vec<Cut>,
}

/// What is split.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Messages {
    /// Lines of one byte, ended by CRLF, as are the next.
    #[value(name = "1")]
    Lines1,
    /// Lines of 16 bytes.
    #[value(name = "16")]
    Lines16,
    /// Lines of 80 bytes.
    #[value(name = "80")]
    Lines80,
    /// Lines of 1000 bytes.
    #[value(name = "1000")]
    Lines1000,
    /// Heads of four lines of 18 bytes, ended by an empty line: a terminator of four bytes, and its start on the way.
    Heads,
}

/// How the input comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Cut {
    /// As much at a time as a read takes.
    Whole,
    /// A byte at a time, the worst that a network can do.
    Bytes,
}

/// Text that ends with a terminator.
struct Text {
    bytes: Vec<u8>,
    terminator: &'static [u8],
}

pub(crate) fn run(bench: &mut Bench, options: &Options) -> io::Result<()> {
    let time = bench.common.time / 10;
    let ways: Vec<&Way> = bench.choose(WAYS, |way| way.0);
    let names: Vec<_> = ways.iter().map(|way| (way.0, way.1)).collect();
    for &cut in &options.cut {
        for &messages in &options.messages {
            let text = messages.text();
            let plan = Plan {
                workload: "split",
                setting: &format!("{} {}", messages.name(), cut.name()),
                metrics: METRICS,
                reference: match (cut, messages) {
                    (Cut::Bytes, _) => "asynchat",
                    (Cut::Whole, Messages::Heads) => "memmem",
                    (Cut::Whole, _) => "memchr",
                },
                rounds: bench.common.rounds,
            };
            bench.show(interleave(plan, &names, |place| ways[place].2(&text, cut, time)))?;
        }
    }
    Ok(())
}

impl Messages {
    fn text(self) -> Text {
        let (lines, length, terminator): (usize, usize, &[u8]) = match self {
            Self::Lines1 => (1, 1, b"\r\n"),
            Self::Lines16 => (1, 16, b"\r\n"),
            Self::Lines80 => (1, 80, b"\r\n"),
            Self::Lines1000 => (1, 1000, b"\r\n"),
            Self::Heads => (4, 18, b"\r\n\r\n"),
        };
        let mut letters = (b'a'..=b'z').cycle();
        let mut bytes = Vec::new();
        loop {
            let mut message: Vec<u8> = letters.by_ref().take(length).collect();
            for _ in 1..lines {
                message.extend_from_slice(b"\r\n");
                message.extend(letters.by_ref().take(length));
            }
            message.extend_from_slice(terminator);
            if bytes.len() + message.len() > BUFFER {
                return Text { bytes, terminator };
            }
            bytes.extend(message);
        }
    }

    fn name(self) -> String {
        self.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
    }
}

impl Cut {
    fn name(self) -> String {
        self.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
    }

    const fn piece(self) -> usize {
        match self {
            Self::Whole => BUFFER,
            Self::Bytes => 1,
        }
    }
}

/// One that splits: its name, what it is, and how to measure it.
type Way = (&'static str, &'static str, fn(&Text, Cut, Duration) -> io::Result<Sample>);

const WAYS: &[Way] = &[
    ("asynchat", "asynchat's Splitter, ended by the very terminator", measure::<One>),
    ("asynchat-line", "asynchat's Splitter, ended by CRLF or LF", measure::<Either>),
    ("memchr", "a bare loop of memchr for the LF, and a look for the CR before it", measure::<Bare>),
    ("memmem", "a bare loop of memchr::memmem", measure::<Substring>),
    ("tokio-lines", "tokio-util's LinesCodec, which makes a String of each line", measure::<Lines>),
    ("tokio-any", "tokio-util's AnyDelimiterCodec, ended by LF", measure::<AnyDelimiter>),
    ("python", "CPython's asynchat", measure_python),
];

/// Splitting what it is shown.
trait Splitting: Sized {
    /// Whether [`receive`](Self::receive) does anything.
    const RECEIVES: bool = false;

    /// The error says why it cannot.
    fn new(text: &Text, cut: Cut) -> Result<Self, &'static str>;

    /// Takes in what a read would have put into its own buffer, if it has one. That is not its doing, and counts only
    /// where it cannot be told apart: in pieces.
    fn receive(&mut self, _piece: &[u8]) {}

    /// Hands on the messages of `piece`, in pieces, and whether each ends the message.
    fn split(&mut self, piece: &[u8], hand_on: impl FnMut(&[u8], bool)) -> io::Result<()>;
}

fn measure<S: Splitting>(text: &Text, cut: Cut, time: Duration) -> io::Result<Sample> {
    let mut splits = S::new(text, cut).map_err(|why| io::Error::new(io::ErrorKind::Unsupported, why))?;
    let messages = verify(&mut splits, text, cut)?;
    let (mut ended, mut bytes) = (0_usize, 0_usize);
    let mut hand_on = |piece: &[u8], end| {
        bytes += black_box(piece).len();
        ended += usize::from(end);
    };
    let cost = clock_cost();
    let (mut passes, mut spent) = (0_usize, Duration::ZERO);
    while passes == 0 || spent < time {
        let at_once = if S::RECEIVES { 1 } else { PASSES };
        if cut == Cut::Whole {
            splits.receive(&text.bytes);
        }
        let start = cpu_time();
        for _ in 0..at_once {
            for piece in black_box(&text.bytes).chunks(cut.piece()) {
                if cut != Cut::Whole {
                    splits.receive(piece);
                }
                splits.split(piece, &mut hand_on)?;
            }
        }
        spent += cpu_time().saturating_sub(start).saturating_sub(cost);
        passes += at_once;
    }
    if ended != messages * passes || bytes >= text.bytes.len() * passes {
        return Err(io::Error::other("messages are missing"));
    }
    let total = (text.bytes.len() * passes) as f64;
    Ok(Sample::new().with("rate", total / spent.as_secs_f64() / 1e9))
}

/// One pass, in which every message is compared with what it should be: how many there are.
fn verify(splits: &mut impl Splitting, text: &Text, cut: Cut) -> io::Result<usize> {
    let (mut rest, mut messages) = (&text.bytes[..], 0);
    let (mut message, mut is_right) = (Vec::new(), true);
    let mut hand_on = |piece: &[u8], end| {
        message.extend_from_slice(piece);
        if end {
            let expected = [&message[..], text.terminator].concat();
            is_right &= rest.starts_with(&expected);
            rest = &rest[expected.len().min(rest.len())..];
            message.clear();
            messages += 1;
        }
    };
    for piece in text.bytes.chunks(cut.piece()) {
        splits.receive(piece);
        splits.split(piece, &mut hand_on)?;
    }
    if is_right && rest.is_empty() && message.is_empty() {
        return Ok(messages);
    }
    Err(io::Error::other("the messages are wrong"))
}

/// [`Splitter`] with the terminator of the text.
struct One(Splitter);

impl Splitting for One {
    fn new(text: &Text, _cut: Cut) -> Result<Self, &'static str> {
        let terminator = Terminator::try_from(text.terminator).map_err(|_| "an empty terminator")?;
        Ok(Self(Splitter::new(terminator)))
    }

    fn split(&mut self, mut piece: &[u8], mut hand_on: impl FnMut(&[u8], bool)) -> io::Result<()> {
        while let Some(split) = self.0.split(&mut piece) {
            match split {
                Split::Data { piece, end } => hand_on(&piece, end),
                Split::TooLong => return Err(io::Error::other("too long")),
                Split::Malformed(error) => return Err(io::Error::other(error)),
            }
        }
        Ok(())
    }
}

/// [`Splitter`] at CRLF or LF.
struct Either(One);

impl Splitting for Either {
    fn new(text: &Text, _cut: Cut) -> Result<Self, &'static str> {
        lines_only(text)?;
        Ok(Self(One(Splitter::new(Terminator::line()))))
    }

    fn split(&mut self, piece: &[u8], hand_on: impl FnMut(&[u8], bool)) -> io::Result<()> {
        self.0.split(piece, hand_on)
    }
}

struct Bare;

impl Splitting for Bare {
    fn new(text: &Text, cut: Cut) -> Result<Self, &'static str> {
        lines_only(text)?;
        whole_only(cut)?;
        Ok(Self)
    }

    fn split(&mut self, mut piece: &[u8], mut hand_on: impl FnMut(&[u8], bool)) -> io::Result<()> {
        while let Some(at) = memchr(b'\n', piece) {
            hand_on(without_cr(&piece[..at]), true);
            piece = &piece[at + 1..];
        }
        Ok(())
    }
}

struct Substring(Finder<'static>);

impl Splitting for Substring {
    fn new(text: &Text, cut: Cut) -> Result<Self, &'static str> {
        whole_only(cut)?;
        Ok(Self(Finder::new(text.terminator)))
    }

    fn split(&mut self, mut piece: &[u8], mut hand_on: impl FnMut(&[u8], bool)) -> io::Result<()> {
        while let Some(at) = self.0.find(piece) {
            hand_on(&piece[..at], true);
            piece = &piece[at + self.0.needle().len()..];
        }
        Ok(())
    }
}

/// tokio-util's codecs split a buffer of their own kind, into which `tokio::io` reads.
#[derive(Default)]
struct Lines(BytesMut, LinesCodec);

impl Splitting for Lines {
    const RECEIVES: bool = true;

    fn new(text: &Text, _cut: Cut) -> Result<Self, &'static str> {
        lines_only(text)?;
        Ok(Self(BytesMut::new(), LinesCodec::new_with_max_length(asynchat::MESSAGE_LIMIT)))
    }

    fn receive(&mut self, piece: &[u8]) {
        self.0.extend_from_slice(piece);
    }

    fn split(&mut self, _piece: &[u8], mut hand_on: impl FnMut(&[u8], bool)) -> io::Result<()> {
        while let Some(line) = self.1.decode(&mut self.0).map_err(io::Error::other)? {
            hand_on(line.as_bytes(), true);
        }
        Ok(())
    }
}

struct AnyDelimiter(BytesMut, AnyDelimiterCodec);

impl Splitting for AnyDelimiter {
    const RECEIVES: bool = true;

    fn new(text: &Text, _cut: Cut) -> Result<Self, &'static str> {
        lines_only(text)?;
        let codec =
            AnyDelimiterCodec::new_with_max_length(b"\n".to_vec(), Vec::new(), asynchat::MESSAGE_LIMIT);
        Ok(Self(BytesMut::new(), codec))
    }

    fn receive(&mut self, piece: &[u8]) {
        self.0.extend_from_slice(piece);
    }

    fn split(&mut self, _piece: &[u8], mut hand_on: impl FnMut(&[u8], bool)) -> io::Result<()> {
        while let Some(line) = self.1.decode(&mut self.0).map_err(io::Error::other)? {
            hand_on(without_cr(&line), true);
        }
        Ok(())
    }
}

/// CPython's, in a process of its own, which measures itself and verifies its messages.
fn measure_python(text: &Text, cut: Cut, time: Duration) -> io::Result<Sample> {
    let terminator: String = text.terminator.iter().map(|byte| format!("{byte:02x}")).collect();
    let mut python = spawn(
        Command::new("python3")
            .args(["-W", "ignore", "-c", include_str!("../../python/split.py")])
            .args([terminator, cut.piece().to_string(), time.as_secs_f64().to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped()),
    )?;
    // One that ends before it has read all says why.
    let fed = python.stdin.take().map_or(Ok(()), |mut input| input.write_all(&text.bytes));
    let output = python.wait_with_output()?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        let kind = match said.contains("ModuleNotFoundError") {
            true => io::ErrorKind::Unsupported,
            false => io::ErrorKind::Other,
        };
        return Err(io::Error::new(kind, said.lines().last().unwrap_or("it failed")));
    }
    fed?;
    let said = String::from_utf8_lossy(&output.stdout);
    let figures: Vec<f64> = said.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    let [bytes, seconds] = figures[..] else { return Err(io::Error::other(format!("it said {said:?}"))) };
    Ok(Sample::new().with("rate", bytes / seconds / 1e9))
}

/// The processor time of this thread: what others do beside it matters little then.
fn cpu_time() -> Duration {
    let Timespec { tv_sec, tv_nsec } = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(tv_sec.unsigned_abs(), u32::try_from(tv_nsec).unwrap_or_default())
}

/// What a stretch of nothing takes: the looks at the clock are in every stretch.
fn clock_cost() -> Duration {
    let mut costs: [Duration; 101] = std::array::from_fn(|_| {
        let start = cpu_time();
        cpu_time().saturating_sub(start)
    });
    costs.sort_unstable();
    costs[costs.len() / 2]
}

fn without_cr(line: &[u8]) -> &[u8] {
    line.strip_suffix(b"\r").unwrap_or(line)
}

fn lines_only(text: &Text) -> Result<(), &'static str> {
    if text.terminator == b"\r\n" { Ok(()) } else { Err("it knows lines alone") }
}

fn whole_only(cut: Cut) -> Result<(), &'static str> {
    if cut == Cut::Whole { Ok(()) } else { Err("it remembers nothing between pieces") }
}

const METRICS: &[Metric] = &[Metric { name: "rate", head: "GB/s", better: Better::More }];

/// How much text there is: 64 KiB, what a read of a chat channel takes at most.
const BUFFER: usize = asynchat::AC_IN_BUFFER_SIZE as usize;

/// How many passes lie between two looks at the clock: 64, so that a look, which is a system call, disturbs few of them.
const PASSES: usize = 64;
