//! Conversations that are there and silent: what each keeps in memory, and what they cost one that talks.

use std::io;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::bench::Bench;
use crate::load::lines::{Dialogue, Lines};
use crate::load::poll::WARM_UP;
use crate::peers::ECHO;
use crate::report::{Better, Metric, Sample};
use crate::rounds::Plan;
use crate::server::{Launch, Peer, Program, Server};
use crate::workloads::{echo, one_or_more};

/// Silent conversations: memory of each, what they cost one that talks, and connections accepted a second.
///
/// They connect from one thread, 64 under way at a time: how many a second is as much the driver's doing as the server's.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Options {
    /// How many conversations are silent; fewer where a process may have fewer descriptors.
    #[arg(long, value_name = "N", default_value_t = 19_000, value_parser = one_or_more())]
    conversations: usize,
}

pub(crate) fn run(bench: &mut Bench, options: &Options) -> io::Result<()> {
    let most = descriptors()?.saturating_sub(SPARE);
    let count = options.conversations.min(most.max(1));
    if count < options.conversations {
        bench.note(format!("idle: {count} conversations, for want of descriptors (ulimit -n)"));
    }
    if count < FEW {
        bench.note(format!("idle: memory grows by pages, which {count} conversations do not fill"));
    }
    let peers = ECHO.iter().map(|(peer, _)| *peer).filter(|peer| !UNFIT.contains(&peer.name));
    let peers: Vec<Peer> = peers.map(with_state).collect();
    let plan = Plan {
        workload: "idle",
        setting: &count.to_string(),
        metrics: METRICS,
        reference: "c",
        rounds: bench.common.rounds,
    };
    bench.measure(plan, &peers, |bench, peer, launch| {
        measure(bench, count, echo::dialogue(ECHO, peer), launch)
    })
}

/// Ours has a handler of 64 bytes here, as a program that does something has; the others keep nothing of their own.
fn with_state(peer: Peer) -> Peer {
    match peer.name {
        "asynchat" => {
            Peer { about: "asynchat, with a handler of 64 bytes", program: Program::Serve("idle"), ..peer }
        }
        _ => peer,
    }
}

fn measure(bench: &Bench, count: usize, dialogue: Dialogue, launch: &Launch) -> io::Result<Sample> {
    let server = Server::start(launch, &[], &bench.cores)?;
    let mut active = Lines::new(dialogue, 1, LENGTH)?;
    active.connect(server.address)?;
    active.keep_up(WARM_UP)?;
    let alone = cpu_per_line(bench, &server, &mut active)?;

    // Each says a line, so that it is a conversation, and what that leaves behind counts.
    let mut idle = Lines::new(dialogue, 1, LENGTH)?;
    let (resident, cpu) = (server.resident()?, server.cpu()?);
    let opened = idle.open(server.address, count)?;
    let (resident, cpu) = (server.resident()?.saturating_sub(resident), server.cpu()? - cpu);

    let beside = cpu_per_line(bench, &server, &mut active)?;
    Ok(Sample::new()
        .with("bytes", resident as f64 / count as f64)
        .with("alone", alone)
        .with("beside", beside)
        .with("beside/alone", beside / alone)
        .with("accepted", count as f64 / opened.elapsed.as_secs_f64())
        .with("accept cpu", cpu as f64 / count as f64))
}

fn cpu_per_line(bench: &Bench, server: &Server, load: &mut Lines) -> io::Result<f64> {
    let before = server.cpu()?;
    let seen = load.keep_up(bench.common.time)?;
    Ok((server.cpu()? - before) as f64 / seen.lines as f64)
}

/// How many descriptors this process may have, and those that it starts; the limit is raised as far as it goes.
fn descriptors() -> io::Result<usize> {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit })?;
    Ok(limit.maximum.map_or(usize::MAX, |most| most.try_into().unwrap_or(usize::MAX)))
}

/// Peers of the echo that are left out: a `poll` over all of them for each line takes minutes, other servers have limits of
/// their own.
const UNFIT: &[&str] = &["python-asynchat", "redis-server", "smtp-sink"];

/// Fewer conversations than these, 1000, say little: a page of 4 KiB more or less is over four bytes of each then.
const FEW: usize = 1000;

/// Descriptors that are not for silent conversations: 256, what servers keep in reserve and open for themselves.
const SPARE: usize = 256;

/// The bytes of every line: 64.
const LENGTH: usize = 64;

const METRICS: &[Metric] = &[
    Metric { name: "bytes", head: "bytes each", better: Better::Less },
    Metric { name: "alone", head: "CPU ns/line, none idle", better: Better::Neither },
    Metric { name: "beside", head: "all idle", better: Better::Neither },
    Metric { name: "beside/alone", head: "all/none", better: Better::Neither },
    Metric { name: "accepted", head: "accepted/s", better: Better::Neither },
    Metric { name: "accept cpu", head: "CPU ns each", better: Better::Less },
];
