//! What the clients share: the databases, and what bounds them all together.

use std::time::{Instant, SystemTime};

use asynchat::Terminator;

use super::client::Session;
use super::database::Database;

/// The server's state.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) databases: [Database; DATABASES],
    /// The bytes of all commands that have begun.
    pub(crate) held: usize,
    /// What ends a header, and a command that was typed. Cloning it costs less than making it anew.
    pub(crate) line: Terminator,
    clock: Clock,
    pub(crate) last_client: u64,
}

/// The time in milliseconds since 1970, which setting the system's date does not change.
#[derive(Debug)]
struct Clock {
    started: Instant,
    started_at: i64,
}

impl Server {
    /// A number for a client that no other has had.
    pub(crate) fn next_client(&mut self) -> u64 {
        self.last_client += 1;
        self.last_client
    }

    /// The database that a client has selected.
    pub(crate) fn database(&mut self, session: &Session) -> &mut Database {
        &mut self.databases[session.database]
    }

    /// The time in milliseconds since 1970.
    pub(crate) fn now(&self) -> i64 {
        let passed = self.clock.started.elapsed().as_millis();
        self.clock.started_at.saturating_add(passed.try_into().unwrap_or(i64::MAX))
    }
}

impl Default for Server {
    fn default() -> Self {
        let since_1970 = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let started_at = since_1970.as_millis().try_into().unwrap_or_default();
        Self {
            databases: std::array::from_fn(Database::new),
            held: 0,
            line: Terminator::lf(),
            clock: Clock { started: Instant::now(), started_at },
            last_client: 0,
        }
    }
}

/// How many databases there are: 16, as of Redis.
pub(crate) const DATABASES: usize = 16;

/// Most arguments of a command: 1,048,576, as of Redis up to its version 6.
pub(crate) const ARGUMENTS_LIMIT: i64 = 1 << 20;

/// Most bytes of an argument: 512 MiB, as of Redis.
pub(crate) const ARGUMENT_LIMIT: usize = 512 << 20;

/// Most bytes of commands that have begun and are not complete, of all clients together: 1 GiB, which Redis allows each
/// client. Whose command would go over it is closed.
pub(crate) const HELD_LIMIT: usize = 1 << 30;
