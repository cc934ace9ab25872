//! What the libraries cost, beside their neighbours: servers in processes of their own, driven from another core.
//!
//! # The shape
//!
//! - A **server** is a function `serve(TcpListener) -> io::Result<()>` in a file of its own below `servers/`, which uses
//!   nothing else of this crate, but for what those by hand have in common (`lines.rs`). It has a name in
//!   `servers::run`; `bench serve NAME` runs it.
//! - A **peer** (`server::Peer`) is a name in a table and a `server::Program`: such a server, a C file (`c/`), a Python
//!   file (`python/`), an example of the workspace, or something installed. `server::Workshop::prepare` says how to start
//!   it, or what is missing.
//! - A **workload** is a file below `workloads/`: its peers, its settings, its `report::Metric`s, the clap type of its
//!   options, and `run(&mut Bench, &Options)`. It hands a closure to `bench::Bench::measure`, which measures a peer once
//!   and answers a `report::Sample`; what comes of it is a `report::Table`, with a column for each metric. What has no
//!   peers of that kind calls `rounds::interleave` itself, and `bench::Bench::show`.
//! - A **load** is a file below `load/`: the driver of a workload. It lives in this process, and verifies what comes back.
//!
//! To add a workload: its file, its variant in `cli::Workload`, and a line in `cli::measure`.

#![cfg(target_os = "linux")]

mod bench;
mod chart;
mod cli;
mod cores;
mod counting;
mod load;
mod peers;
mod report;
mod rounds;
mod server;
mod servers;
mod work;
mod workloads;

pub use cli::main;
