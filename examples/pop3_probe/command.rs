//! [`Command`]: what a client asks, and [`Reply`], how an answer begins.

use std::fmt;

use super::Failure;

/// What a client asks. The password is with the session, and no part of what is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Command {
    /// Nothing was asked; the server speaks first.
    Greeting,
    Capabilities,
    Apop,
    User,
    Pass,
    Stat,
    List,
    Uidl,
    /// The head of a message.
    Top(u32),
    Retr(u32),
    Quit,
}

impl Command {
    /// Whether a good answer goes on with a text, up to a dot alone on its line.
    pub(crate) const fn has_text(self) -> bool {
        matches!(self, Self::Capabilities | Self::List | Self::Uidl | Self::Top(_) | Self::Retr(_))
    }

    /// Whether a server may do without it.
    pub(crate) const fn is_optional(self) -> bool {
        matches!(self, Self::Capabilities | Self::Uidl | Self::Top(_))
    }
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Greeting => f.write_str("the connection"),
            Self::Capabilities => f.write_str("CAPA"),
            Self::Apop => f.write_str("APOP"),
            Self::User => f.write_str("USER"),
            Self::Pass => f.write_str("PASS"),
            Self::Stat => f.write_str("STAT"),
            Self::List => f.write_str("LIST"),
            Self::Uidl => f.write_str("UIDL"),
            Self::Top(number) => write!(f, "TOP {number} 0"),
            Self::Retr(number) => write!(f, "RETR {number}"),
            Self::Quit => f.write_str("QUIT"),
        }
    }
}

/// How an answer begins, with the text behind it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Reply {
    Ok(String),
    Err(String),
}

impl Reply {
    pub(crate) fn parse(line: &[u8]) -> Result<Self, Failure> {
        let line = plain(line);
        let (status, text) = line.split_once(' ').unwrap_or((&line, ""));
        match status {
            "+OK" => Ok(Self::Ok(text.to_owned())),
            "-ERR" => Ok(Self::Err(text.to_owned())),
            _ => Err(Failure::Protocol(format!("an answer of {line:?}"))),
        }
    }
}

/// Bytes as text that cannot steer a terminal.
pub(crate) fn plain(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    text.chars().map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c }).collect()
}
