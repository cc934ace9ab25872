//! The command line, and what all workloads are run with.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{CommandFactory, Parser, Subcommand};
use serde_json::json;

use crate::cores::Cores;
use crate::report::{Sample, Table};
use crate::rounds::{Plan, interleave, progress};
use crate::server::{Launch, Peer, Workshop};
use crate::servers;
use crate::workloads::{echo, split};

/// Measures what the libraries cost, beside their neighbours. Without a workload it measures all of them.
#[derive(Debug, Parser)]
#[command(name = "bench")]
struct Arguments {
    #[command(subcommand)]
    workload: Option<Workload>,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Workload {
    Echo(echo::Options),
    Split(split::Options),
    /// Serves, for the measurement: a server of this program.
    #[command(hide = true)]
    Serve {
        name: String,
        #[arg(long, default_value = "127.0.0.1:0")]
        listen: SocketAddr,
    },
}

/// What every workload takes.
#[derive(Debug, clap::Args)]
pub(crate) struct Common {
    /// Rounds; each peer is measured once in each, and the medians are shown.
    #[arg(long, global = true, default_value_t = 9, value_name = "N")]
    pub(crate) rounds: usize,
    /// Seconds that a peer is measured in a round.
    #[arg(long, global = true, default_value_t = 1.0, value_name = "S")]
    seconds: f64,
    /// Who is measured, by name; all who are there, if not given.
    #[arg(long, global = true, value_delimiter = ',', value_name = "NAMES")]
    peers: Vec<String>,
    /// The core that servers run on.
    #[arg(long, global = true, default_value_t = 0, value_name = "CORE")]
    server_core: usize,
    /// The core that what drives them runs on.
    #[arg(long, global = true, default_value_t = 1, value_name = "CORE")]
    driver_core: usize,
    /// Writes all figures to a file.
    #[arg(long, global = true, value_name = "FILE")]
    json: Option<PathBuf>,
}

impl Common {
    /// How long a peer is measured in a round.
    pub(crate) fn time(&self) -> Duration {
        Duration::try_from_secs_f64(self.seconds).unwrap_or_default()
    }
}

/// What a workload is run with, and what it has found so far.
#[derive(Debug)]
pub(crate) struct Bench {
    pub(crate) common: Common,
    pub(crate) cores: Cores,
    workshop: Workshop,
    tables: Vec<Table>,
}

impl Bench {
    fn run(&mut self, workload: &Workload) -> io::Result<()> {
        match workload {
            Workload::Echo(options) => echo::run(self, options),
            Workload::Split(options) => split::run(self, options),
            Workload::Serve { name, listen } => servers::run(name, *listen),
        }
    }

    /// Whether a peer is to be measured.
    pub(crate) fn is_chosen(&self, peer: &str) -> bool {
        self.common.peers.is_empty() || self.common.peers.iter().any(|name| name == peer)
    }

    /// Measures the chosen ones of `peers`, in rounds, and shows the table.
    pub(crate) fn measure(
        &mut self,
        plan: Plan<'_>,
        peers: &[Peer],
        mut measure: impl FnMut(&Self, &Peer, &Launch) -> io::Result<Sample>,
    ) -> io::Result<()> {
        let chosen: Vec<&Peer> = peers.iter().filter(|peer| self.is_chosen(peer.name)).collect();
        let mut launches = Vec::new();
        for peer in &chosen {
            progress(&format!("{} {}: {}", plan.workload, plan.setting, peer.name));
            launches.push(self.workshop.prepare(peer).map_err(|error| error.to_string()));
        }
        let names: Vec<_> = chosen.iter().map(|peer| (peer.name, peer.about)).collect();
        let table = interleave(plan, &names, |place| match &launches[place] {
            Ok(launch) => measure(self, chosen[place], launch),
            Err(missing) => Err(io::Error::other(missing.as_str())),
        });
        self.show(table)
    }

    /// Shows a table, and keeps it for the report.
    pub(crate) fn show(&mut self, table: Table) -> io::Result<()> {
        writeln!(io::stdout(), "{table}")?;
        self.tables.push(table);
        Ok(())
    }

    /// Writes what was asked for besides the tables.
    fn finish(&self) -> io::Result<()> {
        if let Some(path) = &self.common.json {
            let tables: Vec<_> = self.tables.iter().map(Table::json).collect();
            let report = json!({
                "cores": self.cores.note,
                "rounds": self.common.rounds,
                "seconds": self.common.seconds,
                "tables": tables,
            });
            std::fs::write(path, format!("{report:#}\n"))?;
        }
        Ok(())
    }
}

/// Runs the program; an error goes to standard error.
#[must_use]
pub fn main() -> ExitCode {
    let Arguments { workload, common } = Arguments::parse();
    match run(workload, common) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            drop(writeln!(io::stderr(), "error: {error}"));
            ExitCode::FAILURE
        }
    }
}

fn run(workload: Option<Workload>, common: Common) -> io::Result<()> {
    if let Some(Workload::Serve { name, listen }) = workload {
        return servers::run(&name, listen);
    }
    let cores = Cores::pin(common.server_core, common.driver_core);
    writeln!(io::stdout(), "{}\n", cores.note)?;
    let mut bench = Bench { common, cores, workshop: Workshop::new()?, tables: Vec::new() };
    match workload {
        Some(workload) => bench.run(&workload)?,
        None => {
            // Each as if it had been named.
            let every = Arguments::command();
            for name in every.get_subcommands().filter(|command| !command.is_hide_set()) {
                let arguments = Arguments::parse_from(["bench", name.get_name()]);
                bench.run(&arguments.workload.expect("a workload"))?;
            }
        }
    }
    bench.finish()
}
