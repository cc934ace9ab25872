//! [`is_installed`]: whether a program is there that a test looks at the outside with.

use std::process::{Command, Stdio};

/// Whether a program can be run, tried with this argument. Where it cannot, the test is to be skipped, and it says so; in CI
/// (`CI` is set) the test fails.
#[must_use]
pub fn is_installed(program: &str, argument: &str) -> bool {
    let outcome = Command::new(program).arg(argument).stdin(Stdio::null()).output();
    if outcome.as_ref().is_ok_and(|output| output.status.success()) {
        return true;
    }
    assert!(std::env::var_os("CI").is_none(), "{program} does not work here: {outcome:?}");
    eprintln!("skipped: {program} does not work here: {outcome:?}");
    false
}
