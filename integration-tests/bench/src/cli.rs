//! The command line.

use std::ffi::OsString;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::builder::RangedU64ValueParser;
use clap::{CommandFactory, Parser, Subcommand};

use crate::bench::Bench;
use crate::server::tethered;
use crate::servers;
use crate::workloads::{broadcast, echo, idle, kv, large, smtp, split, start, tls};

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
    Smtp(smtp::Options),
    Split(split::Options),
    Start(start::Options),
    Tls(tls::Options),
    /// Serves, for the measurement: a server of this program.
    #[command(hide = true)]
    Serve {
        name: String,
        #[arg(long, default_value = "127.0.0.1:0")]
        listen: SocketAddr,
    },
    /// Becomes a program that ends with this program's parent.
    #[command(hide = true, disable_help_flag = true)]
    Tethered {
        #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
        words: Vec<OsString>,
    },
}

/// What every workload takes.
#[derive(Debug, clap::Args)]
pub(crate) struct Common {
    /// Rounds; each peer is measured once in each, and the medians are shown.
    #[arg(long, global = true, default_value_t = 9, value_name = "N", value_parser = RangedU64ValueParser::<usize>::new().range(1..))]
    pub(crate) rounds: usize,
    /// Seconds that a peer is measured in a round; some workloads make less or more of them, and say so.
    #[arg(long = "seconds", global = true, default_value = "1", value_name = "S", value_parser = seconds)]
    pub(crate) time: Duration,
    /// Who is measured, by name; all who are there, if not given.
    #[arg(long, global = true, value_delimiter = ',', value_name = "NAMES")]
    pub(crate) peers: Vec<String>,
    /// Whom the others are compared with, by name; C by hand where there is such, if not given.
    #[arg(long, global = true, value_name = "NAME")]
    pub(crate) against: Option<String>,
    /// The core that servers run on; the first that this process may use, if not given.
    #[arg(long, global = true, value_name = "CORE")]
    pub(crate) server_core: Option<usize>,
    /// The core that what drives them runs on; the second, if not given.
    #[arg(long, global = true, value_name = "CORE")]
    pub(crate) driver_core: Option<usize>,
    /// Counts system calls (strace) and instructions (valgrind) as well, where these tools are installed.
    #[arg(long, global = true)]
    pub(crate) counts: bool,
    /// Writes all figures to a file.
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
    /// Draws the medians into a file, as SVG.
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) chart: Option<PathBuf>,
    /// Runs although it is a debug build, which shows whether it works.
    #[arg(long, global = true, hide = true)]
    pub(crate) debug: bool,
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.parse().map_err(|error| format!("{error}"))?;
    if !(0.001..=3600.0).contains(&seconds) {
        return Err("expected a number from 0.001 to 3600".to_owned());
    }
    Ok(Duration::from_secs_f64(seconds))
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
    match workload {
        Some(Workload::Serve { name, listen }) => return servers::run(&name, listen),
        Some(Workload::Tethered { words }) => return Err(tethered(&words)),
        _ => {}
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
        Workload::Smtp(options) => smtp::run(bench, options),
        Workload::Split(options) => split::run(bench, options),
        Workload::Start(options) => start::run(bench, options),
        Workload::Tls(options) => tls::run(bench, options),
        Workload::Serve { .. } | Workload::Tethered { .. } => Ok(()),
    }
}
