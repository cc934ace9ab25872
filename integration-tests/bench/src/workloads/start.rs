//! Before the first line: what a program takes in, how long it is built, how large it is.

use std::fs;
use std::io;
use std::path::Path;
use std::time::Instant;

use crate::bench::Bench;
use crate::report::{Better, Metric, Sample};
use crate::rounds::{Plan, interleave, progress};
use crate::server::{build, cargo};
use crate::work;
use crate::workloads::one_or_more;

/// The start: crates in the tree, time of a cold release build, size of the stripped program.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Options {
    /// Builds of each program; each is from nothing, and takes a while.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = one_or_more())]
    builds: usize,
}

pub(crate) fn run(bench: &mut Bench, options: &Options) -> io::Result<()> {
    let programs = bench.choose(PROGRAMS, |program| program.name);
    let names: Vec<_> = programs.iter().map(|program| (program.name, program.about)).collect();
    let plan = Plan {
        workload: "start",
        setting: "",
        metrics: METRICS,
        reference: "tokio",
        rounds: options.builds.min(bench.common.rounds),
    };
    let table = interleave(plan, &names, |place| {
        let folder = work::folder()?;
        programs[place].build(folder.path())
    });
    progress("");
    bench.show(table)
}

/// An echo server as a program of its own.
struct Program {
    name: &'static str,
    about: &'static str,
    source: Source,
}

enum Source {
    /// A server of this program, and its dependencies as a manifest has them; those of the workspace stand in `{}`.
    Server { text: &'static str, dependencies: &'static str },
    /// An example of the workspace.
    Example(&'static str),
}

impl Program {
    /// Builds it in an empty folder.
    fn build(&self, folder: &Path) -> io::Result<Sample> {
        let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize()?;
        let crates = match self.source {
            Source::Server { text, dependencies } => {
                write_package(folder, &workspace, text, dependencies)?;
                Some(crates(folder)?)
            }
            // The package of the examples has what all of them need.
            Source::Example(_) => None,
        };
        let mut command = cargo();
        command.args(["build", "--release", "--offline", "--target-dir"]).arg(folder.join("target"));
        match self.source {
            Source::Server { .. } => command.current_dir(folder),
            Source::Example(name) => {
                command.args(["--package", "examples", "--example", name]).current_dir(&workspace)
            }
        };
        // As the packages above are built, whatever the workspace has for itself.
        command.env("CARGO_PROFILE_RELEASE_STRIP", "true").env("CARGO_PROFILE_RELEASE_DEBUG", "false");
        let start = Instant::now();
        let program = build(&mut command)?;
        let elapsed = start.elapsed();
        let size = fs::metadata(program)?.len();
        let sample = Sample::new().with("build", elapsed.as_secs_f64()).with("size", size as f64 / 1000.0);
        Ok(match crates {
            Some(crates) => sample.with("crates", crates as f64),
            None => sample,
        })
    }
}

/// A package around a server, with the workspace's profile and the versions that it has locked.
fn write_package(folder: &Path, workspace: &Path, server: &str, dependencies: &str) -> io::Result<()> {
    let dependencies = dependencies.replace("{}", &workspace.display().to_string());
    fs::create_dir(folder.join("src"))?;
    fs::write(folder.join("Cargo.toml"), format!("{MANIFEST}{dependencies}"))?;
    fs::write(folder.join("src/main.rs"), MAIN)?;
    fs::write(folder.join("src/server.rs"), server)?;
    fs::copy(workspace.join("Cargo.lock"), folder.join("Cargo.lock"))?;
    Ok(())
}

/// How many crates a package is made of, itself not counted.
fn crates(folder: &Path) -> io::Result<usize> {
    let words = ["tree", "--offline", "--prefix", "none", "--format", "{p}", "--edges", "normal,build"];
    let output = cargo().args(words).arg("--no-dedupe").current_dir(folder).output()?;
    if !output.status.success() {
        return Err(io::Error::other(String::from_utf8_lossy(&output.stderr).into_owned()));
    }
    let text = String::from_utf8_lossy(&output.stdout);
    let mut crates: Vec<&str> = text.lines().skip(1).filter(|line| !line.is_empty()).collect();
    crates.sort_unstable();
    crates.dedup();
    Ok(crates.len())
}

const PROGRAMS: &[Program] = &[
    Program {
        name: "asynchat",
        about: "asynchat, as the README shows it",
        source: Source::Server {
            text: include_str!("../servers/asynchat.rs"),
            dependencies: r#"asynchat = { path = "{}/asynchat" }
asyncore = { path = "{}/asyncore" }
"#,
        },
    },
    Program {
        name: "echo_server",
        about: "examples/echo_server: with a command line, signals and inherited listeners",
        source: Source::Example("echo_server"),
    },
    Program {
        name: "tokio",
        about: "tokio: LinesCodec, one send a line",
        source: Source::Server {
            text: include_str!("../servers/tokio_lines.rs"),
            dependencies: r#"futures-util = { version = "0.3", default-features = false, features = ["sink"] }
tokio = { version = "1", default-features = false, features = ["net", "rt"] }
tokio-util = { version = "0.7", default-features = false, features = ["codec"] }
"#,
        },
    },
];

const METRICS: &[Metric] = &[
    Metric { name: "crates", head: "crates", better: Better::Neither },
    Metric { name: "build", head: "build s", better: Better::Less },
    Metric { name: "size", head: "stripped kB", better: Better::Less },
];

const MANIFEST: &str = r#"[package]
name = "echo"
edition = "2024"

[workspace]

[profile.release]
codegen-units = 1
lto = "fat"

[dependencies]
"#;

const MAIN: &str = r#"mod server;

fn main() -> std::io::Result<()> {
    server::serve(std::net::TcpListener::bind("127.0.0.1:7000")?)
}
"#;
