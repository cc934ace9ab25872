//! How the example servers start and stop.

use std::env;
use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Duration;

use asyncore::{ChannelId, Dispatcher, Map, Result, Thread};
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// How long a server that was told to stop waits for its peers to take what is queued: 5 s, more than a healthy
/// connection needs and less than anybody waits at a terminal.
pub const STOP_TIME: Duration = Duration::from_secs(5);

/// The options that every example has.
#[derive(Debug, clap::Args)]
#[non_exhaustive]
pub struct Common {
    /// How much more than warnings to log.
    #[arg(short, long, action = clap::ArgAction::Count, help = "Log more to standard error; RUST_LOG overrides it")]
    pub verbose: u8,
}

impl Common {
    /// For a program that reads its arguments by itself; the others flatten this into theirs.
    #[must_use]
    pub const fn new(verbose: u8) -> Self {
        Self { verbose }
    }

    /// Runs a server until its last channel is gone: `start` puts its listeners into the map.
    ///
    /// An interrupt or a request to terminate ends it in good order, a second one at once.
    pub fn serve<A: 'static>(&self, app: &mut A, start: impl FnOnce(&mut Map<A>) -> Result) -> ExitCode {
        self.run(|| {
            let mut map = Map::new()?;
            map.shutdown_on_signals(STOP_TIME)?;
            start(&mut map)?;
            map.run(app)
        })
    }

    /// As [`serve`](Self::serve), with a map in each of several threads; `start` returns the state of each.
    pub fn serve_threads<A: 'static>(
        &self,
        count: usize,
        start: impl Fn(&mut Thread<A>) -> Result<A> + Sync,
    ) -> ExitCode {
        self.run(|| {
            asyncore::serve_threads(count, |thread| {
                thread.shutdown_on_signals(STOP_TIME)?;
                start(thread)
            })
        })
    }

    /// Runs a program, and prints what it failed with.
    pub fn run(&self, run: impl FnOnce() -> Result) -> ExitCode {
        self.log();
        match run() {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                complain(&error);
                ExitCode::FAILURE
            }
        }
    }

    /// Sends the log to standard error: warnings and errors, unless more is asked for.
    pub fn log(&self) {
        let level = match self.verbose {
            0 => LevelFilter::WARN,
            1 => LevelFilter::INFO,
            2 => LevelFilter::DEBUG,
            _ => LevelFilter::TRACE,
        };
        // `EnvFilter` would bring regular expressions along, a third of the program.
        let asked = env::var("RUST_LOG").ok().and_then(|targets| targets.parse().ok());
        let filter = asked.unwrap_or_else(|| Targets::new().with_default(level));
        // It would report a full or closed standard error with `eprintln!`, which panics there.
        let log = fmt::layer().log_internal_errors(false).with_writer(io::stderr);
        if let Err(error) = tracing_subscriber::registry().with(log).with(filter).try_init() {
            complain(&error);
        }
    }
}

/// Prints `listening on ADDR`, a line for each listener.
///
/// Standard output may be closed or full; a server serves all the same.
pub fn announce<A: 'static>(map: &Map<A>, listeners: &[ChannelId]) {
    for address in listeners.iter().filter_map(|id| address_of(map.get(*id)?)) {
        say(&format!("listening on {address}"));
    }
}

/// As [`announce`], with a line for the browser behind each.
pub fn announce_page<A: 'static>(map: &Map<A>, listeners: &[ChannelId]) {
    for address in listeners.iter().filter_map(|id| address_of(map.get(*id)?)) {
        say(&format!("listening on {address}"));
        say(&format!("for browsers: http://{address}/"));
    }
}

/// Prints an error to standard error, which may be closed or full.
pub fn complain(error: &dyn std::fmt::Display) {
    drop(writeln!(io::stderr(), "error: {error}"));
}

fn say(line: &str) {
    let mut out = io::stdout();
    if let Err(error) = writeln!(out, "{line}").and_then(|()| out.flush()) {
        tracing::warn!(%error, line, "standard output takes nothing");
    }
}

fn address_of(dispatcher: &Dispatcher) -> Option<asyncore::Address> {
    dispatcher.local_addr().ok().flatten()
}
