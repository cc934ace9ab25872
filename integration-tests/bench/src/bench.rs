//! What all workloads are run with, and what becomes of their tables.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Write};

use serde_json::json;

use crate::chart;
use crate::cli::Common;
use crate::cores::{Cores, machine};
use crate::counting::Tool;
use crate::report::{Absence, Row, Sample, Table};
use crate::rounds::{Plan, interleave, progress};
use crate::server::{Launch, Peer, Workshop};
use crate::work;

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
    /// Names on the command line that no workload has had so far.
    unknown: Vec<String>,
}

impl Bench {
    /// Takes this process to its core, and tries the tools that are asked for.
    pub(crate) fn new(common: Common) -> io::Result<Self> {
        work::clear()?;
        let cores = Cores::pin(common.server_core, common.driver_core);
        let mut notes = vec![cores.note.clone(), machine()];
        if cfg!(debug_assertions) {
            if !common.debug {
                return Err(io::Error::other(
                    "a debug build measures nothing of worth: cargo run --release -p bench",
                ));
            }
            notes.push("a debug build: what is said of Rust programs means nothing".to_owned());
        }
        let mut tools = Vec::new();
        for tool in [Tool::Strace, Tool::Callgrind].into_iter().filter(|_| common.counts) {
            match tool.try_it() {
                Ok(()) => tools.push(tool),
                Err(error) => notes.push(format!("not counted: {error}")),
            }
        }
        let unknown = common.peers.iter().chain(&common.against).cloned().collect();
        Ok(Self { common, cores, workshop: Workshop::new()?, tools, tables: Vec::new(), notes, unknown })
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
            launches.push(self.workshop.prepare(peer));
        }
        let names: Vec<_> = chosen.iter().map(|peer| (peer.name, peer.about)).collect();
        let mut table = interleave(plan, &names, |place| match &launches[place] {
            Ok(launch) => measure(self, chosen[place], launch),
            Err(error) => Err(io::Error::new(error.kind(), error.to_string())),
        });
        for (place, launch) in launches.iter().enumerate() {
            let (Ok(launch), row) = (launch, &mut table.rows[place]) else { continue };
            for &tool in self.tools.iter().filter(|_| row.absence.is_none()) {
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
            fs::write(path, chart::draw(&self.tables, TITLE))?;
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
    pub(crate) fn finish(&self) -> io::Result<()> {
        let mut out = io::stdout();
        let rows = self.tables.iter().flat_map(|table| &table.rows).filter(|row| row.absence.is_none());
        for (peer, about) in rows.map(|row| (row.peer, row.about)).collect::<BTreeSet<_>>() {
            writeln!(out, "{peer:<17}{about}")?;
        }
        for note in &self.notes {
            writeln!(out, "{note}")?;
        }
        self.write()?;
        let mut wrong = Vec::new();
        if !self.unknown.is_empty() {
            wrong.push(format!("not among those measured: {}", self.unknown.join(", ")));
        }
        for table in &self.tables {
            let failed = |row: &&Row| matches!(row.absence, Some(Absence::Failed(_)));
            let failed: Vec<&str> = table.rows.iter().filter(failed).map(|row| row.peer).collect();
            if !failed.is_empty() {
                let name = format!("{} {}", table.workload, table.setting);
                wrong.push(format!("{}: failed: {}", name.trim_end(), failed.join(", ")));
            }
        }
        if wrong.is_empty() { Ok(()) } else { Err(io::Error::other(wrong.join("; "))) }
    }
}

/// What stands above a chart. How long a round is depends on the workload.
const TITLE: &str = "Medians of interleaved rounds; × is the ratio to the peer that has 1 ×";
