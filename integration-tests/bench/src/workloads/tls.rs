//! Lines sent back under TLS.

use std::io;

use crate::bench::Bench;
use crate::load::lines::Dialogue;
use crate::server::Peer;
use crate::workloads::echo::{self, Setting};

/// Lines sent back under TLS 1.3, otherwise as in the echo: lines a second, processor time, latency.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Options {
    /// Connections, lines in flight on each, bytes a line; can be given several times.
    #[arg(long, value_name = "'CONNS DEPTH LEN'", default_values = ["1 1 64", "64 1 64", "64 16 64", "16 256 16"])]
    setting: Vec<Setting>,
}

pub(crate) fn run(bench: &mut Bench, options: &Options) -> io::Result<()> {
    echo::run_with(bench, "tls", PEERS, "tokio-rustls", &options.setting)
}

const PEERS: &[(Peer, Dialogue)] = &[
    (Peer::served("asynchat-tls", "asynchat under TLS"), Dialogue::SECURE),
    (Peer::served("tokio-rustls", "tokio-rustls: read_buf, memchr, one write a read"), Dialogue::SECURE),
];
