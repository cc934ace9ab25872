//! What is measured: a file for each workload.

pub(crate) mod echo;
pub(crate) mod idle;
pub(crate) mod split;
