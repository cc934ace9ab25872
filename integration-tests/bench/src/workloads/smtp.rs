//! Mail: the example server beside Postfix's sink and aiosmtpd, driven by Postfix's `smtp-source`.

use std::io;
use std::net::SocketAddr;
use std::process::Command;
use std::time::Instant;

use crate::bench::Bench;
use crate::load::poll::PATIENCE;
use crate::peers::smtp_sink;
use crate::report::{BUSY, Better, Metric, Sample, busy};
use crate::rounds::Plan;
use crate::server::{Launch, Peer, Program, Server, in_time};
use crate::workloads::one_or_more;

/// Mail: messages a second, and the processor time of each, driven by `smtp-source -d`.
///
/// Once into nothing, and once into a Maildir: then a message is acknowledged when it is on the disk.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Options {
    /// Messages of a round into nothing; into a Maildir there are a tenth as many.
    #[arg(short, long, default_value_t = 20_000, value_parser = one_or_more())]
    messages: usize,
    /// Sessions at a time.
    #[arg(short, long, default_value_t = 20, value_parser = one_or_more())]
    sessions: usize,
    /// Bytes of a message.
    #[arg(short, long, default_value_t = 1024, value_parser = one_or_more())]
    length: usize,
}

pub(crate) fn run(bench: &mut Bench, options: &Options) -> io::Result<()> {
    let Options { sessions, length, .. } = options;
    let kept = (options.messages / 10).max(1);
    for (what, messages, reference, peers) in
        [("nothing", options.messages, "smtp-sink", SINKS), ("a Maildir", kept, "aiosmtpd", KEEPERS)]
    {
        let plan = Plan {
            workload: "smtp",
            setting: &format!("into {what}, -s {sessions} -l {length} -m {messages}"),
            metrics: METRICS,
            reference,
            rounds: bench.common.rounds,
        };
        bench.measure(plan, peers, |bench, _, launch| measure(bench, options, messages, launch))?;
    }
    Ok(())
}

fn measure(bench: &Bench, options: &Options, messages: usize, launch: &Launch) -> io::Result<Sample> {
    let server = Server::start(launch, &[], &bench.cores)?;
    // What a first session costs is not what is measured.
    deliver(server.address, options, options.sessions)?;
    let (before, start) = (server.cpu()?, Instant::now());
    deliver(server.address, options, messages)?;
    let (cpu, time) = (server.cpu()? - before, start.elapsed());
    let sample = Sample::new().with("rate", messages as f64 / time.as_secs_f64());
    Ok(sample.with("cpu", cpu as f64 / 1e3 / messages as f64).with(BUSY.name, busy(cpu, time)))
}

/// Sends messages; it ends with an error at the first one that is refused.
fn deliver(to: SocketAddr, options: &Options, messages: usize) -> io::Result<()> {
    let settings = [("-s", options.sessions), ("-l", options.length), ("-m", messages)];
    let mut source = Command::new("smtp-source");
    source
        .arg("-d")
        .args(settings.iter().flat_map(|(option, value)| [(*option).to_owned(), value.to_string()]));
    in_time(source.arg(to.to_string()), PATIENCE * 6)
}

const SINKS: &[Peer] = &[
    Peer {
        name: "smtpd-sink",
        about: "examples/smtpd, on asynchat, with --sink",
        program: Program::Package("smtpd", &["--no-http", "--sink"]),
    },
    Peer {
        name: "smtp-sink",
        about: "Postfix's server for tests, in C",
        program: Program::Installed("smtp-sink", smtp_sink),
    },
];

const KEEPERS: &[Peer] = &[
    Peer {
        name: "smtpd",
        about: "examples/smtpd: file and folder synchronized",
        program: Program::Package("smtpd", &["--no-http"]),
    },
    Peer {
        name: "aiosmtpd",
        about: "aiosmtpd of Python with its Mailbox: file synchronized",
        program: Program::Python(include_str!("../../python/aiosmtpd_maildir.py"), &["aiosmtpd"]),
    },
];

const METRICS: &[Metric] = &[
    Metric { name: "cpu", head: "CPU µs/message", better: Better::Less },
    Metric { name: "rate", head: "messages/s", better: Better::More },
    BUSY,
];
