//! What can be counted, and so repeats: the system calls and the instructions of a server.
//!
//! A server runs twice under a tool, for little work and for more. What lies between the two counts is the cost of the
//! work between: the start of the process, and whatever happens once, are in both.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::Path;
use std::process::Command;

use crate::cores::Cores;
use crate::server::{Launch, Server, succeed};
use crate::work;

/// A program that counts what another does.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Tool {
    /// System calls, by `strace`.
    Strace,
    /// Instructions in user space, by `valgrind`.
    Callgrind,
}

impl Tool {
    /// Whether it can be used here; an error says why not.
    pub(crate) fn try_it(self) -> io::Result<()> {
        let folder = work::folder()?;
        let words = self.words(folder.path());
        succeed(Command::new(&words[0]).args(&words[1..]).arg("true")).map(drop)
    }

    /// The name of the metric that it counts.
    pub(crate) const fn metric(self) -> &'static str {
        match self {
            Self::Strace => "calls",
            Self::Callgrind => "instructions",
        }
    }

    /// What one more unit of work costs.
    ///
    /// `work` is given a server, and `false` for little work and `true` for more. It answers how many units that were, when
    /// the last of them has been answered.
    pub(crate) fn count(
        self,
        launch: &Launch,
        cores: &Cores,
        work: impl Fn(&Server, bool) -> io::Result<u64>,
    ) -> io::Result<f64> {
        let (few, little) = self.total(launch, cores, |server| work(server, false))?;
        let (many, more) = self.total(launch, cores, |server| work(server, true))?;
        Ok((more as f64 - little as f64) / (many as f64 - few as f64))
    }

    fn total(
        self,
        launch: &Launch,
        cores: &Cores,
        work: impl FnOnce(&Server) -> io::Result<u64>,
    ) -> io::Result<(u64, u64)> {
        let folder = work::folder()?;
        let words = self.words(folder.path());
        let server = Server::start(launch, &words, cores)?;
        let units = work(&server)?;
        server.terminate()?;
        Ok((units, self.read(folder.path())?))
    }

    /// What stands before the command that is counted; what it finds it writes into a folder.
    fn words(self, folder: &Path) -> Vec<OsString> {
        let (words, paths): (&str, Vec<OsString>) = match self {
            // With a file to write, it would let no signal end it unless told so.
            Self::Strace => ("strace -I waiting -f -c -U calls,name -o", vec![folder.join("calls").into()]),
            // It follows a program that another runs: a shell script that starts the real one.
            Self::Callgrind => {
                let folder = folder.display().to_string().replace('%', "%%");
                let out = format!("--callgrind-out-file={folder}/%p");
                let log = format!("--log-file={folder}/log");
                ("valgrind -q --tool=callgrind --trace-children=yes", vec![out.into(), log.into()])
            }
        };
        words.split(' ').map(OsString::from).chain(paths).collect()
    }

    fn read(self, folder: &Path) -> io::Result<u64> {
        let mut sum = 0;
        for file in fs::read_dir(folder)? {
            let text = fs::read_to_string(file?.path())?;
            let total = text.lines().find_map(|line| match self {
                Self::Strace => line.trim().strip_suffix("total"),
                Self::Callgrind => line.strip_prefix("totals:").or_else(|| line.strip_prefix("summary:")),
            });
            sum += total.and_then(|total| total.trim().parse::<u64>().ok()).unwrap_or(0);
        }
        if sum == 0 { Err(io::Error::other(format!("{self:?} has counted nothing"))) } else { Ok(sum) }
    }
}
