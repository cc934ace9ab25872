//! Keys and values: the example that speaks the Redis protocol beside Redis itself, driven by Redis's own benchmark.

use std::fmt::Write as _;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::bench::Bench;
use crate::load::poll::PATIENCE;
use crate::peers::redis;
use crate::report::{BUSY, Better, Metric, Sample, busy};
use crate::rounds::Plan;
use crate::server::{Launch, Peer, Program, Server, in_time};
use crate::workloads::one_or_more;

/// Keys and values: operations for each second of processor time, driven by `redis-benchmark -c 50`.
///
/// Each of its tests makes a fixed number of requests: about what half the seconds of a round are enough for.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Options {
    /// Requests in flight on each connection; can be given several times.
    #[arg(short = 'P', long, value_name = "REQUESTS", default_values_t = [1, 16], value_parser = clap::value_parser!(u32).range(1..=MOST_IN_FLIGHT))]
    pipeline: Vec<u32>,
    /// Bytes of a value; can be given several times.
    #[arg(short = 'd', long, value_name = "BYTES", default_values_t = [3, 512], value_parser = one_or_more())]
    data: Vec<usize>,
}

pub(crate) fn run(bench: &mut Bench, options: &Options) -> io::Result<()> {
    for &pipeline in &options.pipeline {
        for &data in &options.data {
            let plan = Plan {
                workload: "kv",
                setting: &format!("-P {pipeline} -d {data}"),
                metrics: METRICS,
                reference: "redis-server",
                rounds: bench.common.rounds,
            };
            bench.measure(plan, PEERS, |bench, _, launch| measure(bench, pipeline, data, launch))?;
        }
    }
    Ok(())
}

fn measure(bench: &Bench, pipeline: u32, data: usize, launch: &Launch) -> io::Result<Sample> {
    let server = Server::start(launch, &[], &bench.cores)?;
    let requests = requests(bench.common.time, pipeline);
    let mut sample = Sample::new();
    let (mut cpu_of_all, mut time_of_all) = (0, Duration::ZERO);
    for test in METRICS.iter().filter(|metric| metric.is_compared()) {
        let before = server.cpu()?;
        let settings = [
            ("-p", server.address.port().to_string()),
            ("-t", test.name.to_owned()),
            ("-c", "50".to_owned()),
            ("-n", requests.to_string()),
            ("-P", pipeline.to_string()),
            ("-d", data.to_string()),
        ];
        let words = settings.iter().flat_map(|(option, value)| [*option, value.as_str()]);
        // It ends with an error at the first answer that is one.
        let start = Instant::now();
        // Several times as long as it is meant to take.
        in_time(Command::new("redis-benchmark").args(words).arg("-q"), PATIENCE + 10 * bench.common.time)?;
        time_of_all += start.elapsed();
        let cpu = server.cpu()? - before;
        cpu_of_all += cpu;
        sample = sample.with(test.name, f64::from(requests) / (cpu as f64 / 1e9));
    }
    verify(server.address, requests, data)?;
    Ok(sample.with(BUSY.name, busy(cpu_of_all, time_of_all)))
}

/// How many requests a test has: what takes about half the time of a round.
fn requests(time: Duration, pipeline: u32) -> u32 {
    let rate = if pipeline == 1 { SINGLE } else { PIPELINED };
    // So that all connections have as many, and all pipelines are full.
    let at_once = CONNECTIONS * pipeline;
    let turns = time.as_millis() / 2 * rate / u128::from(at_once);
    at_once * u32::try_from(turns).unwrap_or(u32::MAX / at_once).max(1)
}

/// What the tests have left: a value of so many bytes, and a list of as many values as were pushed.
fn verify(server: SocketAddr, requests: u32, data: usize) -> io::Result<()> {
    let last = (requests - 1).to_string();
    let commands: [&[&str]; 3] =
        [&["GET", "key:__rand_int__"], &["LRANGE", "mylist", &last, "-1"], &["DBSIZE"]];
    let mut asked = String::new();
    for words in commands {
        write!(asked, "*{}\r\n", words.len()).map_err(io::Error::other)?;
        for word in words {
            write!(asked, "${}\r\n{word}\r\n", word.len()).map_err(io::Error::other)?;
        }
    }
    let mut socket = TcpStream::connect(server)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.write_all(asked.as_bytes())?;
    socket.shutdown(Shutdown::Write)?;
    let mut answer = Vec::new();
    socket.read_to_end(&mut answer)?;

    let value = format!("${data}\r\n");
    let text = String::from_utf8_lossy(&answer);
    let is_right = text.starts_with(&value)
        && text.contains(&format!("\r\n*1\r\n{value}"))
        && text.ends_with("\r\n:2\r\n");
    if is_right { Ok(()) } else { Err(io::Error::other(format!("the tests have left {text:?}"))) }
}

const PEERS: &[Peer] = &[
    Peer {
        name: "kv_server",
        about: "examples/kv_server, on asynchat",
        program: Program::Example("kv_server"),
    },
    Peer {
        name: "redis-server",
        about: "Redis itself, which keeps nothing on disk",
        program: Program::Installed("redis-server", redis),
    },
];

/// The tests of `redis-benchmark`, in an order in which each finds what it needs; and how busy the server is in them.
/// Most requests in flight on a connection: 10,000; more at once show nothing new.
const MOST_IN_FLIGHT: i64 = 10_000;

const METRICS: &[Metric] = &[
    Metric { name: "ping_inline", head: "PING inline/CPU s", better: Better::More },
    Metric { name: "ping_mbulk", head: "PING/CPU s", better: Better::More },
    Metric { name: "set", head: "SET/CPU s", better: Better::More },
    Metric { name: "get", head: "GET/CPU s", better: Better::More },
    Metric { name: "lpush", head: "LPUSH/CPU s", better: Better::More },
    BUSY,
];

const CONNECTIONS: u32 = 50;

/// About how many requests a millisecond `redis-benchmark` makes of one in flight, and of several, on a small machine.
const SINGLE: u128 = 100;
const PIPELINED: u128 = 500;
