//! What the examples share: how they start and stop, a small HTTP/1.1 server channel, and a tunnel's end; and the mail
//! server that `docs/testing.md` tests.

pub mod http;
pub mod later;
pub mod mail;
pub mod program;
pub mod tunnel;
