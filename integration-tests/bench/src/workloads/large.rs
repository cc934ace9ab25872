//! Large messages: what a mebibyte costs, there and back, and poured out of a producer.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use crate::bench::Bench;
use crate::load::bulk::Bulk;
use crate::load::poll::{PATIENCE, WARM_UP};
use crate::report::{BUSY, Better, Metric, Sample, busy};
use crate::rounds::Plan;
use crate::server::{Launch, Peer, Program, Server};
use crate::workloads::one_or_more;

/// Large messages: 1 MiB sent back, framed by count, and a long answer from a producer.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Options {
    /// Connections that have a message in flight; can be given several times.
    #[arg(long, value_name = "CONNS", default_values_t = [1, 16], value_parser = one_or_more())]
    connections: Vec<usize>,
    /// The length of the long answer, in MiB.
    #[arg(long, value_name = "MIB", default_value_t = 1024, value_parser = one_or_more())]
    pour: usize,
}

pub(crate) fn run(bench: &mut Bench, options: &Options) -> io::Result<()> {
    for &connections in &options.connections {
        bench.measure(plan(bench, &format!("echo {connections}")), ECHO, |bench, _, launch| {
            echo(bench, connections, launch)
        })?;
    }
    let length = options.pour.saturating_mul(MIB);
    bench.measure(plan(bench, &format!("pour {} MiB", options.pour)), POUR, |bench, _, launch| {
        pour(bench, length, launch)
    })
}

fn plan<'a>(bench: &Bench, setting: &'a str) -> Plan<'a> {
    Plan { workload: "large", setting, metrics: METRICS, reference: "c", rounds: bench.common.rounds }
}

fn echo(bench: &Bench, connections: usize, launch: &Launch) -> io::Result<Sample> {
    let server = Server::start(launch, &[], &bench.cores)?;
    let mut load = Bulk::connect(server.address, connections, MIB)?;
    load.keep_up(WARM_UP)?;
    let before = server.cpu()?;
    let (bytes, elapsed) = load.keep_up(bench.common.time)?;
    Ok(sample(bytes, elapsed, server.cpu()? - before))
}

/// One reader takes all of an answer.
fn pour(bench: &Bench, length: usize, launch: &Launch) -> io::Result<Sample> {
    let server = Server::start(launch, &[], &bench.cores)?;
    let mut socket = TcpStream::connect(server.address)?;
    socket.set_nodelay(true)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    // What it is made of, twice, so that it lies in one piece from wherever a read begins.
    let block: Vec<u8> =
        (0..2 * BLOCK).map(|at| at % BLOCK).map(|at| (at * 7 + at / 256).to_le_bytes()[0]).collect();
    let mut room = vec![0; BLOCK];
    let (mut seen, mut before, mut start) = (0, 0, Instant::now());
    for answer in [WARM_UP_BYTES, length] {
        (seen, before, start) = (0, server.cpu()?, Instant::now());
        socket.write_all(format!("{answer}\r\n").as_bytes())?;
        while seen < answer {
            let count = socket.read(&mut room)?;
            if count == 0 {
                return Err(io::Error::other("the server has closed the connection"));
            }
            if block[seen % BLOCK..][..count] != room[..count] {
                return Err(io::Error::other(format!("wrong bytes, {seen} into the answer")));
            }
            seen += count;
        }
    }
    Ok(sample(seen as u64, start.elapsed(), server.cpu()? - before))
}

fn sample(bytes: u64, elapsed: Duration, cpu: u64) -> Sample {
    Sample::new()
        .with("rate", bytes as f64 / elapsed.as_secs_f64() / 1e9)
        .with("cpu", cpu as f64 / 1e3 / (bytes as f64 / MIB as f64))
        .with(BUSY.name, busy(cpu, elapsed))
}

const ECHO: &[Peer] = &[
    Peer {
        name: "asynchat",
        about: "echo: asynchat, each piece pushed as it comes",
        program: Program::Serve("large-asynchat"),
    },
    Peer {
        name: "asynchat-whole",
        about: "echo: asynchat, each message pushed when it is whole",
        program: Program::Serve("large-whole"),
    },
    Peer {
        name: "c",
        about: "echo: C by hand on epoll, one read, one copy, one write",
        program: Program::C(include_str!("../../c/large.c")),
    },
];

const POUR: &[Peer] = &[
    Peer { name: "asynchat", about: "pour: asynchat, from a ReadProducer", program: Program::Serve("pour") },
    Peer {
        name: "c",
        about: "pour: C by hand on epoll, one copy, one write",
        program: Program::C(include_str!("../../c/pour.c")),
    },
];

const METRICS: &[Metric] = &[
    Metric { name: "rate", head: "GB/s", better: Better::More },
    Metric { name: "cpu", head: "CPU µs/MiB", better: Better::Less },
    BUSY,
];

/// A message.
const MIB: usize = 1 << 20;

/// What the long answer repeats, and how much a read takes: 64 KiB.
const BLOCK: usize = 64 << 10;

/// As much of a long answer: 64 MiB.
const WARM_UP_BYTES: usize = 64 << 20;
