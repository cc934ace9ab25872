//! Lines sent back: what a line costs, and how long it takes.

use std::fmt;
use std::io;
use std::str::FromStr;

use crate::bench::Bench;
use crate::counting::Tool;
use crate::load::lines::{Dialogue, Lines};
use crate::load::poll::WARM_UP;
use crate::peers::ECHO;
use crate::report::{BUSY, Better, Metric, Sample, busy};
use crate::rounds::Plan;
use crate::server::{Launch, Peer, Server};
use crate::workloads::numbers;

/// Lines sent back: lines a second, processor time, latency, system calls and instructions.
///
/// Latency is that of a batch: from its first byte sent to its last byte heard, all the lines in flight on a connection
/// together. The next batch begins then, so a server that stalls is asked less meanwhile.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Options {
    /// Connections, lines in flight on each, bytes a line; can be given several times.
    #[arg(long, value_name = "'CONNS DEPTH LEN'", default_values = SETTINGS)]
    setting: Vec<Setting>,
}

pub(crate) fn run(bench: &mut Bench, options: &Options) -> io::Result<()> {
    run_with(bench, "echo", ECHO, "c", &options.setting)
}

/// Runs it with peers of another workload.
pub(crate) fn run_with(
    bench: &mut Bench,
    workload: &'static str,
    known: &[(Peer, Dialogue)],
    reference: &'static str,
    settings: &[Setting],
) -> io::Result<()> {
    let peers: Vec<Peer> = known.iter().map(|(peer, _)| *peer).collect();
    for setting in settings {
        let plan = Plan {
            workload,
            setting: &setting.to_string(),
            metrics: METRICS,
            reference,
            rounds: bench.common.rounds,
        };
        bench.measure_and_count(
            plan,
            &peers,
            |bench, peer, launch| measure(bench, *setting, dialogue(known, peer), launch),
            |bench, peer, launch, tool| count(bench, *setting, dialogue(known, peer), launch, tool),
        )?;
    }
    Ok(())
}

/// How one talks to a peer.
pub(crate) fn dialogue(known: &[(Peer, Dialogue)], peer: &Peer) -> Dialogue {
    known.iter().find(|(known, _)| known.name == peer.name).map_or(Dialogue::CRLF, |(_, dialogue)| *dialogue)
}

fn measure(bench: &Bench, setting: Setting, dialogue: Dialogue, launch: &Launch) -> io::Result<Sample> {
    let server = Server::start(launch, &[], &bench.cores)?;
    let mut load = setting.connect(&server, dialogue)?;
    load.keep_up(WARM_UP)?;
    let before = server.cpu()?;
    let seen = load.keep_up(bench.common.time)?;
    let cpu = server.cpu()? - before;
    let microseconds = |quantile| seen.times.value_at_quantile(quantile) as f64 / 1000.0;
    Ok(Sample::new()
        .with("lines", seen.lines as f64 / seen.elapsed.as_secs_f64())
        .with("cpu", cpu as f64 / seen.lines as f64)
        .with(BUSY.name, busy(cpu, seen.elapsed))
        .with("p50", microseconds(0.5))
        .with("p99", microseconds(0.99))
        .with("p99.9", microseconds(0.999)))
}

/// What one more line costs, in what the tool counts.
fn count(
    bench: &Bench,
    setting: Setting,
    dialogue: Dialogue,
    launch: &Launch,
    tool: Tool,
) -> io::Result<Sample> {
    let batch = (setting.connections * setting.depth) as u64;
    let cost = tool.count(launch, &bench.cores, |server, more| {
        let mut load = setting.connect(server, dialogue)?;
        let batches = if more { FEW_BATCHES + COUNTED_LINES.div_ceil(batch) } else { FEW_BATCHES };
        Ok(load.batches(batches)?.lines)
    })?;
    Ok(Sample::new().with(tool.metric(), cost))
}

/// How many conversations there are, and what each has in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Setting {
    connections: usize,
    depth: usize,
    length: usize,
}

impl Setting {
    fn connect(&self, server: &Server, dialogue: Dialogue) -> io::Result<Lines> {
        let mut load = Lines::new(dialogue, self.depth, self.length)?;
        for _ in 0..self.connections {
            load.connect(server.address)?;
        }
        Ok(load)
    }
}

impl FromStr for Setting {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let [connections, depth, length] =
            numbers(text).ok_or("expected three numbers, such as '64 16 64'")?;
        Ok(Self { connections, depth, length })
    }
}

impl fmt::Display for Setting {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} {} {}", self.connections, self.depth, self.length)
    }
}

/// What shows different costs: latency, a line a read, pipelining, many connections, framing.
const SETTINGS: [&str; 5] = ["1 1 64", "64 1 64", "64 16 64", "1000 4 64", "16 256 16"];

const METRICS: &[Metric] = &[
    Metric { name: "lines", head: "lines/s", better: Better::More },
    Metric { name: "cpu", head: "CPU ns/line", better: Better::Less },
    BUSY,
    Metric { name: "p50", head: "p50 µs", better: Better::Neither },
    Metric { name: "p99", head: "p99 µs", better: Better::Neither },
    Metric { name: "p99.9", head: "p99.9 µs", better: Better::Neither },
    Metric { name: "calls", head: "calls/line", better: Better::Neither },
    Metric { name: "instructions", head: "instr./line", better: Better::Less },
];

/// The batches of each conversation in the shorter of two counted runs: 4, by which all buffers are made.
const FEW_BATCHES: u64 = 4;

/// How many lines more the longer run has, at least: 10,000, a few seconds for a server under a tool.
const COUNTED_LINES: u64 = 10_000;
