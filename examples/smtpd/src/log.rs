//! The log: on standard error, as text or as JSON, one line a session unless more is asked for.

use std::env;
use std::io::{self, IsTerminal, Write};

use tracing::level_filters::LevelFilter;
use tracing_subscriber::Layer;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::options::LogFormat;

/// Begins to log: sessions and what is wrong; with `verbose`, messages and what each of them does. `RUST_LOG` overrides both.
pub fn start(format: LogFormat, verbose: u8) {
    let (own, loops) = match verbose {
        0 => (LevelFilter::INFO, LevelFilter::WARN),
        1 => (LevelFilter::DEBUG, LevelFilter::INFO),
        2 => (LevelFilter::TRACE, LevelFilter::DEBUG),
        _ => (LevelFilter::TRACE, LevelFilter::TRACE),
    };
    let asked = env::var("RUST_LOG").ok().and_then(|targets| targets.parse().ok());
    let filter = asked.unwrap_or_else(|| {
        Targets::new()
            .with_default(LevelFilter::WARN)
            .with_target("smtpd", own)
            .with_targets(["asyncore", "asynchat"].map(|name| (name, loops)))
    });
    // They would report a full or closed standard error with `eprintln!`, which panics there.
    let log = match format {
        LogFormat::Text => {
            let log = fmt::layer().log_internal_errors(false).with_ansi(io::stderr().is_terminal());
            log.with_writer(io::stderr).boxed()
        }
        LogFormat::Json => {
            fmt::layer().log_internal_errors(false).json().flatten_event(true).with_writer(io::stderr).boxed()
        }
    };
    if let Err(error) = tracing_subscriber::registry().with(log.with_filter(filter)).try_init() {
        drop(writeln!(io::stderr(), "error: {error}"));
    }
}
