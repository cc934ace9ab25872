//! Makes a script that fails as short as it can be and still fail.

use crate::run::run;
use crate::script::{Act, End, Kind, Plan, Script, Step};

/// The shortest script found that fails in the same way; the one given, if it does not fail.
pub(crate) fn shrink(script: &Script) -> Script {
    let Some((at, what)) = run(script).failure else { return script.clone() };
    let mut script = script.clone();
    script.steps.truncate(at + 1);
    let mut shrinking = Shrinking { best: script, kind: kind(&what), tries: MOST_TRIES };
    loop {
        let before = size(&shrinking.best);
        shrinking.drop_steps();
        shrinking.simplify();
        if size(&shrinking.best) >= before || shrinking.tries == 0 {
            return shrinking.best;
        }
    }
}

/// What is wrong, without the numbers in it.
pub(crate) fn kind(what: &str) -> String {
    let first = what.lines().next().unwrap_or_default();
    first
        .split_whitespace()
        .filter(|word| !word.contains(|c: char| c.is_ascii_digit()))
        .collect::<Vec<_>>()
        .join(" ")
}

struct Shrinking {
    best: Script,
    kind: String,
    tries: usize,
}

impl Shrinking {
    /// Drops runs of steps, long ones first, then single ones.
    fn drop_steps(&mut self) {
        let mut chunk = self.best.steps.len() / 2;
        while chunk > 0 {
            let mut at = 0;
            while at < self.best.steps.len() {
                let mut shorter = self.best.clone();
                shorter.steps.drain(at..(at + chunk).min(self.best.steps.len()));
                if !self.adopt(shorter) {
                    at += chunk;
                }
            }
            chunk /= 2;
        }
    }

    /// Makes each step simpler: fewer reactions, fewer calls, nothing special.
    fn simplify(&mut self) {
        let mut at = 0;
        while at < self.best.steps.len() {
            for simpler in simpler_steps(&self.best.steps[at]) {
                let mut script = self.best.clone();
                script.steps[at] = simpler;
                if self.adopt(script) {
                    break;
                }
            }
            at += 1;
        }
    }

    /// Takes a script if it still fails.
    fn adopt(&mut self, mut script: Script) -> bool {
        if self.tries == 0 {
            return false;
        }
        self.tries -= 1;
        match run(&script).failure {
            Some((at, what)) if kind(&what) == self.kind => {
                script.steps.truncate(at + 1);
                self.best = script;
                true
            }
            _ => false,
        }
    }
}

/// How much there is to read.
pub(crate) fn size(script: &Script) -> usize {
    format!("{:?}", script.steps).len()
}

fn simpler_steps(step: &Step) -> Vec<Step> {
    let with = |make: &dyn Fn(Plan) -> Step, plan: &Plan| simpler_plans(plan).into_iter().map(make).collect();
    match step {
        Step::Listen(plan) => with(&Step::Listen, plan),
        Step::Dial(at, plan) => with(&|plan| Step::Dial(*at, plan), plan),
        Step::Pair(plan) => with(&Step::Pair, plan),
        Step::Do(act) => simpler_acts(act).into_iter().map(Step::Do).collect(),
        Step::Advance(_) => vec![Step::Turn, Step::Settle],
        Step::Run(_) | Step::Settle => vec![Step::Turn],
        Step::Faults(unkind) => {
            let mut simpler = *unkind;
            (simpler.harmless, simpler.resets) = (false, false);
            let mut wide = *unkind;
            wide.buffer = 1 << 16;
            let is_new = |other: &Step| format!("{other:?}") != format!("{step:?}");
            [Step::Faults(simpler), Step::Faults(wide)].into_iter().filter(is_new).collect()
        }
        _ => Vec::new(),
    }
}

fn simpler_plans(plan: &Plan) -> Vec<Plan> {
    let mut simpler = Vec::new();
    let mut change = |changes: bool, change: &dyn Fn(&mut Plan)| {
        if changes {
            let mut plan = plan.clone();
            change(&mut plan);
            simpler.push(plan);
        }
    };
    let quiet = Plan::quiet();
    change(!plan.reactions.is_empty(), &|plan| plan.reactions.clear());
    change(plan.bounds.is_some(), &|plan| plan.bounds = None);
    change(plan.echoes, &|plan| plan.echoes = false);
    change(plan.outlives_eof, &|plan| plan.outlives_eof = false);
    change(plan.outlives_errors, &|plan| plan.outlives_errors = false);
    change(plan.outlives_timeouts, &|plan| plan.outlives_timeouts = false);
    change(plan.kind != quiet.kind && plan.kind != Kind::Listener, &|plan| plan.kind = quiet.kind);
    for at in 0..plan.reactions.len() {
        change(true, &|plan| drop(plan.reactions.remove(at)));
        change(plan.reactions[at].end != End::Well, &|plan| plan.reactions[at].end = End::Well);
        for acts in fewer(&plan.reactions[at].acts) {
            change(true, &|plan| plan.reactions[at].acts.clone_from(&acts));
        }
    }
    simpler
}

fn simpler_acts(act: &Act) -> Vec<Act> {
    match act {
        Act::AddSpare(plan) => simpler_plans(plan).into_iter().map(Act::AddSpare).collect(),
        Act::Connect(place, plan) => {
            simpler_plans(plan).into_iter().map(|plan| Act::Connect(*place, plan)).collect()
        }
        Act::Replace(who, plan) => {
            simpler_plans(plan).into_iter().map(|plan| Act::Replace(*who, plan)).collect()
        }
        Act::Spawn(who, panics, acts, end) => {
            fewer(acts).into_iter().map(|acts| Act::Spawn(*who, *panics, acts, *end)).collect()
        }
        Act::With(who, right, acts, end) => {
            let mut simpler: Vec<_> =
                fewer(acts).into_iter().map(|acts| Act::With(*who, *right, acts, *end)).collect();
            simpler.extend(acts.iter().cloned());
            simpler
        }
        Act::After(time, acts, end) => {
            fewer(acts).into_iter().map(|acts| Act::After(*time, acts, *end)).collect()
        }
        Act::Every(time, lives, acts, end) => {
            fewer(acts).into_iter().map(|acts| Act::Every(*time, *lives, acts, *end)).collect()
        }
        Act::Post(acts, end) => fewer(acts).into_iter().map(|acts| Act::Post(acts, *end)).collect(),
        _ => Vec::new(),
    }
}

/// These calls without one, or with a simpler one.
fn fewer(acts: &[Act]) -> Vec<Vec<Act>> {
    let mut fewer = Vec::new();
    for (at, act) in acts.iter().enumerate() {
        let mut without = acts.to_vec();
        without.remove(at);
        fewer.push(without);
        for simpler in simpler_acts(act) {
            let mut with = acts.to_vec();
            with[at] = simpler;
            fewer.push(with);
        }
    }
    fewer
}

/// Scripts tried before the shortest so far is good enough: 3000, a second or two.
const MOST_TRIES: usize = 3000;
