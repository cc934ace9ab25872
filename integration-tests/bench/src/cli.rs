//! The command line.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::builder::RangedU64ValueParser;
use clap::{CommandFactory, Parser, Subcommand};

use crate::bench::Bench;
use crate::servers;
use crate::workloads::{broadcast, echo, idle, kv, large, split, start};

/// Measures what the libraries cost, beside their neighbours. Without a workload it measures all of them.
#[derive(Debug, Parser)]
#[command(name = "bench", disable_help_subcommand = true)]
struct Arguments {
    #[command(subcommand)]
    workload: Option<Workload>,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, Subcommand)]
enum Workload {
    Echo(echo::Options),
    Broadcast(broadcast::Options),
    Idle(idle::Options),
    Kv(kv::Options),
    Large(large::Options),
    Split(split::Options),
    Start(start::Options),
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
    #[arg(long, global = true, default_value_t = 9, value_name = "N", value_parser = RangedU64ValueParser::<usize>::new().range(1..))]
    pub(crate) rounds: usize,
    /// Seconds that a peer is measured in a round.
    #[arg(long = "seconds", global = true, default_value = "1", value_name = "S", value_parser = seconds)]
    pub(crate) time: Duration,
    /// Who is measured, by name; all who are there, if not given.
    #[arg(long, global = true, value_delimiter = ',', value_name = "NAMES")]
    pub(crate) peers: Vec<String>,
    /// Whom the others are compared with, by name; C by hand where there is such, if not given.
    #[arg(long, global = true, value_name = "NAME")]
    pub(crate) against: Option<String>,
    /// The core that servers run on.
    #[arg(long, global = true, default_value_t = 0, value_name = "CORE")]
    pub(crate) server_core: usize,
    /// The core that what drives them runs on.
    #[arg(long, global = true, default_value_t = 1, value_name = "CORE")]
    pub(crate) driver_core: usize,
    /// Counts system calls (strace) and instructions (valgrind) as well, where these tools are installed.
    #[arg(long, global = true)]
    pub(crate) counts: bool,
    /// Writes all figures to a file.
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
    /// Draws the medians into a file, as SVG.
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) chart: Option<PathBuf>,
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.parse().map_err(|error| format!("{error}"))?;
    Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())
}

/// What a workload is run with, and what it has found so far.
#[derive(Debug)]
pub(crate) struct Bench {
    pub(crate) common: Common,
    pub(crate) cores: Cores,
    workshop: Workshop,
    /// The tools that count, if that was asked for and they are there.
    tools: Vec<Tool>,
    tables: Vec<Table>,
    /// What the reader should know of the figures.
    notes: Vec<String>,
    /// Names of `--peers` that no workload has had so far.
    unknown: Vec<String>,
}

impl Bench {
    fn new(common: Common) -> io::Result<Self> {
        let cores = Cores::pin(common.server_core, common.driver_core);
        let mut notes = vec![cores.note.clone(), machine()];
        let mut tools = Vec::new();
        for tool in [Tool::Strace, Tool::Callgrind].into_iter().filter(|_| common.counts) {
            match tool.try_it() {
                Ok(()) => tools.push(tool),
                Err(error) => notes.push(format!("not counted: {error}")),
            }
        }
        let unknown = common.peers.clone();
        Ok(Self { common, cores, workshop: Workshop::new()?, tools, tables: Vec::new(), notes, unknown })
    }

    fn run(&mut self, workload: &Workload) -> io::Result<()> {
        match workload {
            Workload::Echo(options) => echo::run(self, options),
            Workload::Broadcast(options) => broadcast::run(self, options),
            Workload::Idle(options) => idle::run(self, options),
            Workload::Kv(options) => kv::run(self, options),
            Workload::Large(options) => large::run(self, options),
            Workload::Split(options) => split::run(self, options),
            Workload::Start(options) => start::run(self, options),
            Workload::Serve { name, listen } => servers::run(name, *listen),
        }
    }

    /// Measures the chosen ones of `peers`, in rounds, and shows the table.
    pub(crate) fn measure(
        &mut self,
        plan: Plan<'_>,
        peers: &[Peer],
        measure: impl FnMut(&Self, &Peer, &Launch) -> io::Result<Sample>,
    ) -> io::Result<()> {
        self.measure_and_count(plan, peers, measure, |_, _, _, _| Ok(Sample::new()))
    }

    /// As [`measure`](Self::measure); behind the rounds `count` is called for each peer with each tool that counts.
    pub(crate) fn measure_and_count(
        &mut self,
        plan: Plan<'_>,
        peers: &[Peer],
        mut measure: impl FnMut(&Self, &Peer, &Launch) -> io::Result<Sample>,
        mut count: impl FnMut(&Self, &Peer, &Launch, Tool) -> io::Result<Sample>,
    ) -> io::Result<()> {
        let chosen = self.choose(peers, |peer| peer.name);
        let mut launches = Vec::new();
        for peer in &chosen {
            progress(&format!("{} {}: {}", plan.workload, plan.setting, peer.name));
            launches.push(self.workshop.prepare(peer).map_err(|error| error.to_string()));
        }
        let names: Vec<_> = chosen.iter().map(|peer| (peer.name, peer.about)).collect();
        let mut table = interleave(plan, &names, |place| match &launches[place] {
            Ok(launch) => measure(self, chosen[place], launch),
            Err(missing) => Err(io::Error::other(missing.as_str())),
        });
        for (place, launch) in launches.iter().enumerate() {
            let (Ok(launch), row) = (launch, &mut table.rows[place]) else { continue };
            for &tool in self.tools.iter().filter(|_| row.failure.is_none()) {
                progress(&format!("{} {}: {tool:?}: {}", plan.workload, plan.setting, row.peer));
                match count(self, chosen[place], launch, tool) {
                    Ok(sample) => row.samples.push(sample),
                    Err(error) => self.notes.push(format!("{}: {tool:?}: {error}", row.peer)),
                }
            }
        }
        progress("");
        self.show(table)
    }

    /// Those of `peers` that are to be measured: all, or those named by `--peers`.
    pub(crate) fn choose<'a, P>(&mut self, peers: &'a [P], name: impl Fn(&P) -> &str) -> Vec<&'a P> {
        let named = &self.common.peers;
        let is_chosen = |peer: &&P| named.is_empty() || named.iter().any(|known| known == name(peer));
        let chosen: Vec<&P> = peers.iter().filter(is_chosen).collect();
        self.unknown.retain(|unknown| chosen.iter().all(|peer| name(peer) != unknown));
        chosen
    }

    /// Adds what the reader should know of the figures.
    pub(crate) fn note(&mut self, note: String) {
        self.notes.push(note);
    }

    /// Shows a table, and adds it to the files that were asked for: what ends a long run takes little with it.
    pub(crate) fn show(&mut self, mut table: Table) -> io::Result<()> {
        if table.rows.is_empty() {
            return Ok(());
        }
        let against = table.rows.iter().find(|row| Some(row.peer) == self.common.against.as_deref());
        if let Some(row) = against {
            table.reference = row.peer;
        }
        writeln!(io::stdout(), "{table}")?;
        self.tables.push(table);
        self.write()
    }

    fn write(&self) -> io::Result<()> {
        let (rounds, seconds) = (self.common.rounds, self.common.time.as_secs_f64());
        if let Some(path) = &self.common.chart {
            let title =
                format!("Medians of {rounds} rounds of {seconds} s; × is the ratio to the darker bar");
            fs::write(path, chart::draw(&self.tables, &title))?;
        }
        if let Some(path) = &self.common.json {
            let tables: Vec<_> = self.tables.iter().map(Table::json).collect();
            let report =
                json!({ "notes": self.notes, "rounds": rounds, "seconds": seconds, "tables": tables });
            fs::write(path, format!("{report:#}\n"))?;
        }
        Ok(())
    }

    /// Says what is to be known of the tables: what each peer is, and how it was measured.
    fn finish(&self) -> io::Result<()> {
        let mut out = io::stdout();
        let rows = self.tables.iter().flat_map(|table| &table.rows).filter(|row| row.failure.is_none());
        for (peer, about) in rows.map(|row| (row.peer, row.about)).collect::<BTreeSet<_>>() {
            writeln!(out, "{peer:<17}{about}")?;
        }
        for note in &self.notes {
            writeln!(out, "{note}")?;
        }
        self.write()?;
        match self.unknown.as_slice() {
            [] => Ok(()),
            unknown => Err(io::Error::other(format!("no such peer: {}", unknown.join(", ")))),
        }
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
    let mut bench = Bench::new(common)?;
    match workload {
        Some(workload) => measure(&mut bench, &workload)?,
        None => {
            // Each as if it had been named.
            let every = Arguments::command();
            for name in every.get_subcommands().filter(|command| !command.is_hide_set()) {
                let arguments = Arguments::parse_from(["bench", name.get_name()]);
                measure(&mut bench, &arguments.workload.expect("a workload"))?;
            }
        }
    }
    bench.finish()
}

fn measure(bench: &mut Bench, workload: &Workload) -> io::Result<()> {
    match workload {
        Workload::Echo(options) => echo::run(bench, options),
        Workload::Broadcast(options) => broadcast::run(bench, options),
        Workload::Idle(options) => idle::run(bench, options),
        Workload::Kv(options) => kv::run(bench, options),
        Workload::Large(options) => large::run(bench, options),
        Workload::Split(options) => split::run(bench, options),
        Workload::Serve { name, listen } => servers::run(name, *listen),
    }
}
