//! What is measured: a file for each workload.

pub(crate) mod broadcast;
pub(crate) mod echo;
pub(crate) mod idle;
pub(crate) mod kv;
pub(crate) mod large;
pub(crate) mod split;
pub(crate) mod start;
