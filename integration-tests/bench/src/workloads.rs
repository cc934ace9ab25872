//! What is measured: a file for each workload.

use clap::builder::RangedU64ValueParser;

pub(crate) mod broadcast;
pub(crate) mod echo;
pub(crate) mod idle;
pub(crate) mod kv;
pub(crate) mod large;
pub(crate) mod smtp;
pub(crate) mod split;
pub(crate) mod start;
pub(crate) mod tls;

/// Any number but 0.
fn one_or_more() -> RangedU64ValueParser<usize> {
    RangedU64ValueParser::new().range(1..)
}

/// The numbers of a setting: so many, and none of them 0.
fn numbers<const N: usize>(text: &str) -> Option<[usize; N]> {
    let numbers: Vec<usize> = text.split_whitespace().map(str::parse).collect::<Result<_, _>>().ok()?;
    numbers.try_into().ok().filter(|numbers: &[usize; N]| !numbers.contains(&0))
}
