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
    let row = |&(peer, about)| Row { peer, about, samples: Vec::new(), absence: None };
    let mut rows: Vec<Row> = peers.iter().map(row).collect();
    for round in 0..rounds {
        for step in 0..rows.len() {
            let place = place(round, step, rows.len());
            let row = &mut rows[place];
            if row.absence.is_some() {
                continue;
            }
            progress(&format!("{workload} {setting}: round {} of {rounds}: {}", round + 1, row.peer));
            match measure(place) {
                Ok(sample) => row.samples.push(sample),
                Err(error) => row.absence = Some(error.into()),
            }
        }
    }
    progress("");
    Table { workload, setting: setting.to_owned(), metrics, reference, rows }
}

/// Who is measured in a step of a round. Each round begins with another peer, and every second one goes backwards: none is
/// always behind the same neighbour's heat.
fn place(round: usize, step: usize, peers: usize) -> usize {
    let step = if round.is_multiple_of(2) { step } else { peers - 1 - step };
    (step + round) % peers
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_peer_comes_once_a_round_and_follows_several_others() {
        for peers in 3..12 {
            let rounds: Vec<Vec<usize>> =
                (0..4).map(|round| (0..peers).map(|step| place(round, step, peers)).collect()).collect();
            for round in &rounds {
                let mut sorted = round.clone();
                sorted.sort_unstable();
                assert_eq!(sorted, (0..peers).collect::<Vec<_>>());
            }
            for peer in 0..peers {
                let before =
                    |round: &Vec<usize>| round.windows(2).find(|pair| pair[1] == peer).map(|pair| pair[0]);
                let mut neighbours: Vec<usize> = rounds.iter().filter_map(before).collect();
                neighbours.sort_unstable();
                neighbours.dedup();
                assert!(neighbours.len() > 1, "{peer} of {peers} follows {neighbours:?} alone");
            }
        }
    }
}
