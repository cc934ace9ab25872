//! The commands: what each is called, what it takes, and what carries it out.

use super::call::{Call, Result};
use super::{catalogue, connection, keys, lists, strings};

/// A command, as it is looked up and as it is told of.
#[derive(Debug)]
pub(crate) struct Command {
    /// In small letters, as it is named in refusals.
    pub(crate) name: &'static str,
    /// How many arguments it takes, its name among them; at least so many if below zero.
    pub(crate) arity: i64,
    pub(crate) run: fn(&mut Call<'_>) -> Result,
    pub(crate) keys: Keys,
    pub(crate) flags: &'static [&'static str],
    pub(crate) group: &'static str,
    pub(crate) since: &'static str,
    pub(crate) summary: &'static str,
}

/// Which arguments are keys: the first, the last (from the end if below zero), and how far apart they are.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Keys(pub(crate) i64, pub(crate) i64, pub(crate) i64);

/// What the second word of a command may be.
#[derive(Debug)]
pub(crate) struct Subcommand {
    pub(crate) name: &'static str,
    /// As of a [`Command`].
    pub(crate) arity: i64,
    pub(crate) run: fn(&mut Call<'_>) -> Result,
}

impl Command {
    /// Whether it takes so many arguments, with its name.
    pub(crate) fn takes(&self, arguments: usize) -> bool {
        fits(self.arity, arguments)
    }
}

/// Whether so many arguments are what an arity asks for.
pub(crate) fn fits(arity: i64, arguments: usize) -> bool {
    i64::try_from(arguments).is_ok_and(|count| if arity < 0 { count >= -arity } else { count == arity })
}

/// The command of a name, in letters of either case.
pub(crate) fn find(name: &[u8]) -> Option<&'static Command> {
    COMMANDS.iter().find(|command| name.eq_ignore_ascii_case(command.name.as_bytes()))
}

/// Those that are asked for most come first.
pub(crate) const COMMANDS: &[Command] = &[
    Command {
        name: "get",
        arity: 2,
        run: strings::get,
        keys: Keys(1, 1, 1),
        flags: &["readonly", "fast"],
        group: "string",
        since: "1.0.0",
        summary: "Get the value of a key",
    },
    Command {
        name: "set",
        arity: -3,
        run: strings::set,
        keys: Keys(1, 1, 1),
        flags: &["write", "denyoom"],
        group: "string",
        since: "1.0.0",
        summary: "Set the string value of a key",
    },
    Command {
        name: "incr",
        arity: 2,
        run: strings::incr,
        keys: Keys(1, 1, 1),
        flags: &["write", "denyoom", "fast"],
        group: "string",
        since: "1.0.0",
        summary: "Increment the integer value of a key by one",
    },
    Command {
        name: "ping",
        arity: -1,
        run: connection::ping,
        keys: Keys(0, 0, 0),
        flags: &["fast"],
        group: "connection",
        since: "1.0.0",
        summary: "Ping the server",
    },
    Command {
        name: "lpush",
        arity: -3,
        run: lists::lpush,
        keys: Keys(1, 1, 1),
        flags: &["write", "denyoom", "fast"],
        group: "list",
        since: "1.0.0",
        summary: "Prepend one or multiple elements to a list",
    },
    Command {
        name: "lrange",
        arity: 4,
        run: lists::lrange,
        keys: Keys(1, 1, 1),
        flags: &["readonly"],
        group: "list",
        since: "1.0.0",
        summary: "Get a range of elements from a list",
    },
    Command {
        name: "mget",
        arity: -2,
        run: strings::mget,
        keys: Keys(1, -1, 1),
        flags: &["readonly", "fast"],
        group: "string",
        since: "1.0.0",
        summary: "Get the values of all the given keys",
    },
    Command {
        name: "mset",
        arity: -3,
        run: strings::mset,
        keys: Keys(1, -1, 2),
        flags: &["write", "denyoom"],
        group: "string",
        since: "1.0.1",
        summary: "Set multiple keys to multiple values",
    },
    Command {
        name: "del",
        arity: -2,
        run: keys::del,
        keys: Keys(1, -1, 1),
        flags: &["write"],
        group: "generic",
        since: "1.0.0",
        summary: "Delete a key",
    },
    Command {
        name: "exists",
        arity: -2,
        run: keys::exists,
        keys: Keys(1, -1, 1),
        flags: &["readonly", "fast"],
        group: "generic",
        since: "1.0.0",
        summary: "Determine if a key exists",
    },
    Command {
        name: "expire",
        arity: -3,
        run: keys::expire,
        keys: Keys(1, 1, 1),
        flags: &["write", "fast"],
        group: "generic",
        since: "1.0.0",
        summary: "Set a key's time to live in seconds",
    },
    Command {
        name: "ttl",
        arity: 2,
        run: keys::ttl,
        keys: Keys(1, 1, 1),
        flags: &["readonly", "fast"],
        group: "generic",
        since: "1.0.0",
        summary: "Get the time to live for a key in seconds",
    },
    Command {
        name: "echo",
        arity: 2,
        run: connection::echo,
        keys: Keys(0, 0, 0),
        flags: &["loading", "stale", "fast"],
        group: "connection",
        since: "1.0.0",
        summary: "Echo the given string",
    },
    Command {
        name: "select",
        arity: 2,
        run: connection::select,
        keys: Keys(0, 0, 0),
        flags: &["loading", "stale", "fast"],
        group: "connection",
        since: "1.0.0",
        summary: "Change the selected database for the current connection",
    },
    Command {
        name: "dbsize",
        arity: 1,
        run: keys::dbsize,
        keys: Keys(0, 0, 0),
        flags: &["readonly", "fast"],
        group: "server",
        since: "1.0.0",
        summary: "Return the number of keys in the selected database",
    },
    Command {
        name: "flushall",
        arity: -1,
        run: keys::flushall,
        keys: Keys(0, 0, 0),
        flags: &["write"],
        group: "server",
        since: "1.0.0",
        summary: "Remove all keys from all databases",
    },
    Command {
        name: "client",
        arity: -2,
        run: connection::client,
        keys: Keys(0, 0, 0),
        flags: &[],
        group: "connection",
        since: "2.4.0",
        summary: "A container for client connection commands",
    },
    Command {
        name: "command",
        arity: -1,
        run: catalogue::command,
        keys: Keys(0, 0, 0),
        flags: &["loading", "stale"],
        group: "server",
        since: "2.8.13",
        summary: "Get array of Redis command details",
    },
    Command {
        name: "quit",
        arity: -1,
        run: connection::quit,
        keys: Keys(0, 0, 0),
        flags: &["noscript", "loading", "stale", "fast", "no_auth", "allow_busy"],
        group: "connection",
        since: "1.0.0",
        summary: "Close the connection",
    },
];
