//! Rounds: every peer once in each, in turn, so that what drifts with time drifts for all.

use std::io::{self, IsTerminal, Write};

use crate::report::{Metric, Row, Sample, Table};

/// What is to be measured, and for how long.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan<'a> {
    pub(crate) workload: &'static str,
    pub(crate) setting: &'a str,
    pub(crate) metrics: &'static [Metric],
    /// The name of the peer that the others are compared with.
    pub(crate) reference: &'static str,
    pub(crate) rounds: usize,
}

/// Measures every peer once a round. One that fails is left out from then on, and the table says why.
///
/// `peers` are names and what each is; `measure` is given the place in that list.
pub(crate) fn interleave(
    plan: Plan<'_>,
    peers: &[(&'static str, &'static str)],
    mut measure: impl FnMut(usize) -> io::Result<Sample>,
) -> Table {
    let Plan { workload, setting, metrics, reference, rounds } = plan;
    let row = |&(peer, about)| Row { peer, about, samples: Vec::new(), failure: None };
    let mut rows: Vec<Row> = peers.iter().map(row).collect();
    for round in 0..rounds {
        for step in 0..rows.len() {
            // Each round begins with another peer: none is always the one behind the same neighbour's heat.
            let place = (step + round) % rows.len();
            let row = &mut rows[place];
            if row.failure.is_some() {
                continue;
            }
            progress(&format!("{workload} {setting}: round {} of {rounds}: {}", round + 1, row.peer));
            match measure(place) {
                Ok(sample) => row.samples.push(sample),
                Err(error) => row.failure = Some(error.to_string()),
            }
        }
    }
    progress("");
    Table { workload, setting: setting.to_owned(), metrics, reference, rows }
}

/// Says what is being done: on a terminal in one line that changes, elsewhere line by line.
pub(crate) fn progress(what: &str) {
    let mut out = io::stderr();
    // Nobody may be there to read it.
    drop(if out.is_terminal() {
        write!(out, "\r\x1b[K{what}").and_then(|()| out.flush())
    } else if what.is_empty() {
        Ok(())
    } else {
        writeln!(out, "{what}")
    });
}
