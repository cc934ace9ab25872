//! A room: every line goes to every member.

use std::fmt;
use std::io;
use std::str::FromStr;

use crate::bench::Bench;
use crate::counting::Tool;
use crate::load::poll::WARM_UP;
use crate::load::room::Room;
use crate::report::{BUSY, Better, Metric, Sample, busy};
use crate::rounds::Plan;
use crate::server::{Launch, Peer, Program, Server};
use crate::workloads::numbers;

/// A room, every line to every member: deliveries a second, processor time and system calls for each.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Options {
    /// Members, how many of them talk, lines that each says at once, bytes a line; can be given several times.
    #[arg(long, value_name = "'MEMBERS TALKERS DEPTH LEN'", default_values = SETTINGS)]
    setting: Vec<Setting>,
}

pub(crate) fn run(bench: &mut Bench, options: &Options) -> io::Result<()> {
    for setting in &options.setting {
        let plan = Plan {
            workload: "broadcast",
            setting: &setting.to_string(),
            metrics: METRICS,
            reference: "c",
            rounds: bench.common.rounds,
        };
        bench.measure_and_count(
            plan,
            PEERS,
            |bench, _, launch| measure(bench, *setting, launch),
            |bench, _, launch, tool| count(bench, *setting, launch, tool),
        )?;
    }
    Ok(())
}

fn measure(bench: &Bench, setting: Setting, launch: &Launch) -> io::Result<Sample> {
    let server = Server::start(launch, &[], &bench.cores)?;
    let mut room = setting.open(&server)?;
    room.keep_up(WARM_UP)?;
    let before = server.cpu()?;
    let seen = room.keep_up(bench.common.time)?;
    let cpu = server.cpu()? - before;
    Ok(Sample::new()
        .with("deliveries", seen.deliveries as f64 / seen.elapsed.as_secs_f64())
        .with("cpu", cpu as f64 / seen.deliveries as f64)
        .with(BUSY.name, busy(cpu, seen.elapsed)))
}

/// What one more delivery costs, in what the tool counts.
fn count(bench: &Bench, setting: Setting, launch: &Launch, tool: Tool) -> io::Result<Sample> {
    let cost = tool.count(launch, &bench.cores, |server, more| {
        Ok(setting.open(server)?.speak(if more { MANY_TIMES } else { FEW_TIMES })?.deliveries)
    })?;
    Ok(Sample::new().with(tool.metric(), cost))
}

/// How many are in the room, and how much they say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Setting {
    members: usize,
    talkers: usize,
    depth: usize,
    length: usize,
}

impl Setting {
    fn open(self, server: &Server) -> io::Result<Room> {
        Room::open(server.address, self.members, self.talkers, self.depth, self.length)
    }
}

impl FromStr for Setting {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let [members, talkers, depth, length] =
            numbers(text).ok_or("expected four numbers, such as '1000 50 1 64'")?;
        Ok(Self { members, talkers, depth, length })
    }
}

impl fmt::Display for Setting {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} {} {} {}", self.members, self.talkers, self.depth, self.length)
    }
}

const PEERS: &[Peer] = &[
    Peer {
        name: "asynchat",
        about: "asynchat, the room of the README",
        program: Program::Serve("room-asynchat"),
    },
    Peer {
        name: "c",
        about: "C by hand on epoll: a line into every queue, one write a member and turn",
        program: Program::C(include_str!("../../c/room.c")),
    },
    Peer {
        name: "tokio",
        about: "tokio, of the shape of its chat example: a channel of strings a member, LinesCodec",
        program: Program::Serve("room-tokio"),
    },
];

/// One talker: a write for each delivery. Fifty: a turn has lines of many.
const SETTINGS: [&str; 2] = ["1000 1 1 64", "1000 50 1 64"];

const METRICS: &[Metric] = &[
    Metric { name: "deliveries", head: "deliveries/s", better: Better::More },
    Metric { name: "cpu", head: "CPU ns/delivery", better: Better::Less },
    BUSY,
    Metric { name: "calls", head: "calls/delivery", better: Better::Neither },
    Metric { name: "instructions", head: "instr./delivery", better: Better::Less },
];

/// How often each talker speaks in the shorter of two counted runs: 4 times, by which all queues are made.
const FEW_TIMES: u64 = 4;

/// How often in the longer: 20 times.
const MANY_TIMES: u64 = 20;
