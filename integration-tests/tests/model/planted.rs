//! Bugs planted in the loop are found: so this test can fail.

use asyncore::planted::{Bug, plant};

use crate::run::run;
use crate::script::Script;
use crate::{generate, report, shrink};

/// The first script that finds a planted bug, and what is wrong in it.
fn find(bug: Bug) -> Option<(Script, String)> {
    plant(Some(bug));
    (0..MOST_SCRIPTS).map(generate::script).find_map(|script| {
        let (_, what) = run(&script).failure?;
        Some((script, what))
    })
}

#[test]
fn every_planted_bug_is_found() {
    let mut missed = Vec::new();
    for bug in Bug::ALL {
        match find(bug) {
            Some((script, what)) => {
                let what = what.lines().next().unwrap_or_default().to_owned();
                println!("{bug:?} is found by script {}: {what}", script.seed + 1);
            }
            None => missed.push(bug),
        }
    }
    assert!(missed.is_empty(), "not found within {MOST_SCRIPTS} scripts: {missed:?}");
}

#[test]
fn a_script_that_fails_is_made_short_and_told() {
    for bug in Bug::ALL {
        let (script, what) = find(bug).expect("it is found");
        let short = shrink::shrink(&script);
        let (_, still) = run(&short).failure.expect("the short script fails too");
        assert_eq!(shrink::kind(&still), shrink::kind(&what), "in the same way");
        assert!(short.steps.len() <= MOST_STEPS, "{bug:?}: {} steps are left:\n{short}", short.steps.len());

        let told = report(&script, &what);
        let replay = format!("ASYNCORE_SEED={} cargo test --test model", script.seed);
        assert!(told.contains(&replay) && told.contains(&short.to_string()), "{told}");
        plant(None);
        assert!(run(&short).failure.is_none(), "without the bug it passes");
    }
}

/// A bug must be found within so many scripts.
const MOST_SCRIPTS: u64 = 10_000;

/// No short script has more steps.
const MOST_STEPS: usize = 15;
