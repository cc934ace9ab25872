//! What scripts have reached: a check that is never reached checks nothing.

use std::collections::BTreeMap;

use crate::script::Act;

/// How often each thing was seen.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    counts: BTreeMap<&'static str, u64>,
    acts: BTreeMap<String, u64>,
    pub(crate) scripts: u64,
    pub(crate) steps: u64,
    pub(crate) callbacks: u64,
}

impl Seen {
    pub(crate) fn saw(&mut self, what: &'static str) {
        *self.counts.entry(what).or_default() += 1;
    }

    pub(crate) fn did(&mut self, act: &Act) {
        let name = format!("{act:?}");
        let end = name.find(|c: char| !c.is_alphanumeric()).unwrap_or(name.len());
        *self.acts.entry(name[..end].to_owned()).or_default() += 1;
    }

    pub(crate) fn add(&mut self, other: &Self) {
        for (what, count) in &other.counts {
            *self.counts.entry(what).or_default() += count;
        }
        for (act, count) in &other.acts {
            *self.acts.entry(act.clone()).or_default() += count;
        }
        self.scripts += other.scripts;
        self.steps += other.steps;
        self.callbacks += other.callbacks;
    }

    /// Those of `wanted` that were never seen.
    pub(crate) fn missing<'a>(&self, wanted: &[&'a str]) -> Vec<&'a str> {
        wanted
            .iter()
            .copied()
            .filter(|what| !self.counts.contains_key(what) && !self.acts.contains_key(*what))
            .collect()
    }

    /// Everything with its count, a line each.
    pub(crate) fn table(&self) -> String {
        let counts = self.counts.iter().map(|(what, count)| format!("{count:>9}  {what}\n"));
        let acts = self.acts.iter().map(|(act, count)| format!("{count:>9}  call {act}\n"));
        let totals = [(self.scripts, "scripts"), (self.steps, "steps"), (self.callbacks, "callbacks")];
        let totals = totals.iter().map(|(count, what)| format!("{count:>9}  {what}\n"));
        totals.chain(counts).chain(acts).collect()
    }
}
