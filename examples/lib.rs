//! What the examples share: how they start and stop, and a small HTTP/1.1 server channel.

pub mod http;
pub mod program;
