//! [`Failure`]: why there is no answer, or no good one.

use std::fmt;

/// Why there is no answer, or no good one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// The output takes no more.
    Output(String),
    /// Nobody could be reached.
    Connect(String),
    /// It is not HTTP, or can be read in two ways.
    Protocol(&'static str),
    /// Something of it is too long.
    TooLong(&'static str),
    /// It ended too soon.
    Truncated,
    /// It took too long.
    TooSlow,
    /// A redirect that is not followed.
    Redirect(String),
    /// The server said no.
    Status(u16),
}

impl Failure {
    /// The exit status, as `--help` lists them.
    pub(crate) const fn exit_code(&self) -> u8 {
        match self {
            Self::Output(_) => 1,
            // 2 is that of bad arguments.
            Self::Connect(_) => 3,
            Self::Protocol(_) => 4,
            Self::TooLong(_) => 5,
            Self::Truncated => 6,
            Self::TooSlow => 7,
            Self::Redirect(_) => 8,
            Self::Status(_) => 9,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Output(error) => write!(f, "cannot print: {error}"),
            Self::Connect(error) => write!(f, "cannot connect: {error}"),
            Self::Protocol(what) => write!(f, "not valid HTTP: {what}"),
            Self::TooLong(what) => write!(f, "too long: {what}"),
            Self::Truncated => f.write_str("the answer ended too soon"),
            Self::TooSlow => f.write_str("the answer took too long"),
            Self::Redirect(why) => write!(f, "not redirected: {why}"),
            Self::Status(status) => write!(f, "the server said {status}"),
        }
    }
}

impl std::error::Error for Failure {}
