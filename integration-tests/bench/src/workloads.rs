//! What is measured: a file for each workload.

pub(crate) mod echo;
pub(crate) mod split;
