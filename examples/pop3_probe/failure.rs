//! [`Failure`]: why a mailbox could not be read.

use std::fmt;

/// Why a mailbox could not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// The output takes no more.
    Output(String),
    /// There is no password, or what cannot be sent.
    Account(&'static str),
    /// Nobody could be reached.
    Connect(String),
    /// It is not POP3.
    Protocol(String),
    /// The answer to this is too long.
    TooLong(String),
    /// It ended before the answer to this.
    Truncated(String),
    /// The answer to this took too long.
    TooSlow(String),
    /// The server said no to this, and why.
    Refused(String, String),
}

impl Failure {
    /// The exit status, as `--help` lists them.
    pub(crate) const fn exit_code(&self) -> u8 {
        match self {
            Self::Output(_) => 1,
            Self::Account(_) => 2,
            Self::Connect(_) => 3,
            Self::Protocol(_) => 4,
            Self::TooLong(_) => 5,
            Self::Truncated(_) => 6,
            Self::TooSlow(_) => 7,
            Self::Refused(..) => 8,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Output(error) => write!(f, "cannot print: {error}"),
            Self::Account(what) => f.write_str(what),
            Self::Connect(error) => f.write_str(error),
            Self::Protocol(what) => write!(f, "not valid POP3: {what}"),
            Self::TooLong(command) => write!(f, "too long an answer to {command}"),
            Self::Truncated(command) => write!(f, "the server went away before it had answered {command}"),
            Self::TooSlow(command) => write!(f, "the server took too long to answer {command}"),
            Self::Refused(command, text) => write!(f, "the server refused {command}: {text}"),
        }
    }
}

impl std::error::Error for Failure {}
