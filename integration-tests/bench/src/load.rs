//! The drivers: what talks to a server, and verifies what it answers.

pub(crate) mod bulk;
pub(crate) mod lines;
pub(crate) mod poll;
pub(crate) mod room;
pub(crate) mod secure;
