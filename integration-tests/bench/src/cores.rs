//! The machine, and which of its cores does what: the server has one, what drives it another.

use std::fs;
use std::io;
use std::process::{Child, Command};

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// The cores of the two sides; without a second core, or leave to choose, the system places them.
#[derive(Debug)]
pub(crate) struct Cores {
    pinned: Option<(CpuSet, CpuSet)>,
    /// How the two sides lie, for the report.
    pub(crate) note: String,
}

impl Cores {
    /// Pins this process to `driver`, and what [`spawn`](Self::spawn) starts to `server`: if not given, to the first cores that
    /// it may use.
    pub(crate) fn pin(server: Option<usize>, driver: Option<usize>) -> Self {
        let mut allowed = allowed().into_iter().filter(|core| ![server, driver].contains(&Some(*core)));
        let server = server.or_else(|| allowed.next()).unwrap_or(0);
        let driver = driver.or_else(|| allowed.next()).unwrap_or(server);
        let pinned = one(server, driver);
        let note = match &pinned {
            Ok(_) if server == driver => format!("server and driver share core {server}: rates mean little"),
            Ok(_) => format!("server on core {server}, driver on core {driver}"),
            Err(error) => format!("not pinned to cores {server} and {driver} ({error}): figures are noisier"),
        };
        Self { pinned: pinned.ok(), note }
    }

    /// Starts a process on the server's core.
    pub(crate) fn spawn(&self, command: &mut Command) -> io::Result<Child> {
        // A process begins with the affinity of the thread that starts it: so none of its threads ever runs elsewhere.
        let Some((server, driver)) = &self.pinned else { return command.spawn() };
        sched_setaffinity(None, server)?;
        let child = command.spawn();
        sched_setaffinity(None, driver)?;
        child
    }
}

/// The cores that this process may use.
fn allowed() -> Vec<usize> {
    sched_getaffinity(None)
        .map_or_else(|_| Vec::new(), |set| (0..CpuSet::MAX_CPU).filter(|core| set.is_set(*core)).collect())
}

/// The sets of the two cores, this thread being on the driver's.
fn one(server: usize, driver: usize) -> io::Result<(CpuSet, CpuSet)> {
    let allowed = sched_getaffinity(None)?;
    let set = |core: usize| {
        if core >= CpuSet::MAX_CPU || !allowed.is_set(core) {
            return Err(io::Error::other(format!("core {core} is not there")));
        }
        let mut set = CpuSet::new();
        set.set(core);
        Ok(set)
    };
    let sets = (set(server)?, set(driver)?);
    sched_setaffinity(None, &sets.1)?;
    Ok(sets)
}

/// What the figures come from: the kernel and the processor.
pub(crate) fn machine() -> String {
    let read = |path| fs::read_to_string(path).unwrap_or_default();
    let processor = read("/proc/cpuinfo");
    let model = processor.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let model = model.map_or("an unnamed processor", |(_, model)| model);
    format!("Linux {}, {model}", read("/proc/sys/kernel/osrelease").trim())
}
