//! A channel whose callbacks are one closure, for tests that act inside them.

use std::fmt;

use asyncore::{Channel, CloseReason, Context, Error, Received, Result};

use crate::Log;

/// A callback of a [`Script`]. It prints as a [`Recorder`](crate::Recorder) writes it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "tests match on it")]
pub enum Call {
    /// `handle_connect`.
    Connect,
    /// `handle_read`.
    Read,
    /// `handle_write`.
    Write,
    /// `handle_expt`.
    Expt,
    /// `handle_eof`.
    Eof,
    /// `handle_drained`.
    Drained,
    /// `handle_shutdown`.
    Shutdown,
    /// `handle_error`, with the error's text.
    Error(String),
    /// `handle_close`.
    Close(CloseReason),
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Connect => "connect",
            Self::Read => "read",
            Self::Write => "write",
            Self::Expt => "expt",
            Self::Eof => "eof",
            Self::Drained => "drained",
            Self::Shutdown => "shutdown",
            Self::Error(text) => return write!(f, "error {text}"),
            Self::Close(reason) => return write!(f, "close {reason:?}"),
        })
    }
}

impl Call {
    /// Does what the callback does by default, silently: input is dropped, an end or an error closes.
    ///
    /// # Errors
    ///
    /// As the callback.
    pub fn default<A: 'static>(&self, cx: &mut Context<'_, A>) -> Result {
        match self {
            Self::Read => while let Received::Data(_) = cx.map.recv(cx.id, 65536)? {},
            Self::Expt => cx.map.recv_urgent(cx.id).map(drop)?,
            Self::Eof | Self::Shutdown => cx.map.close_when_done(cx.id),
            Self::Error(_) => cx.map.close(cx.id),
            Self::Connect | Self::Write | Self::Drained | Self::Close(_) => {}
        }
        Ok(())
    }
}

/// A raw channel that logs each callback and hands it to a closure, which does all the rest.
///
/// What the closure returns for `Error` and `Close` is dropped: these two callbacks cannot fail.
pub struct Script<F> {
    name: String,
    log: Log,
    act: F,
    /// What `readable` answers.
    pub readable: bool,
    /// What `writable` answers.
    pub writable: bool,
}

impl<F> Script<F> {
    /// A channel that does what `act` does; with a name, each line of the log begins with it.
    pub fn new<A>(name: &str, log: &Log, act: F) -> Self
    where
        F: FnMut(&mut Context<'_, A>, &Call) -> Result + 'static,
    {
        let name = if name.is_empty() { String::new() } else { format!("{name} ") };
        Self { name, log: log.clone(), act, readable: true, writable: false }
    }
}

impl<F> fmt::Debug for Script<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Script").field("name", &self.name).finish_non_exhaustive()
    }
}

impl<F> Script<F> {
    fn call<A>(&mut self, cx: &mut Context<'_, A>, call: &Call) -> Result
    where
        A: 'static,
        F: FnMut(&mut Context<'_, A>, &Call) -> Result + 'static,
    {
        self.log.add(format_args!("{}{call}", self.name));
        (self.act)(cx, call)
    }
}

impl<A, F> Channel<A> for Script<F>
where
    A: 'static,
    F: FnMut(&mut Context<'_, A>, &Call) -> Result + 'static,
{
    fn readable(&self) -> bool {
        self.readable
    }

    fn writable(&self) -> bool {
        self.writable
    }

    fn handle_connect(&mut self, cx: &mut Context<'_, A>) -> Result {
        self.call(cx, &Call::Connect)
    }

    fn handle_read(&mut self, cx: &mut Context<'_, A>) -> Result {
        self.call(cx, &Call::Read)
    }

    fn handle_write(&mut self, cx: &mut Context<'_, A>) -> Result {
        self.call(cx, &Call::Write)
    }

    fn handle_expt(&mut self, cx: &mut Context<'_, A>) -> Result {
        self.call(cx, &Call::Expt)
    }

    fn handle_eof(&mut self, cx: &mut Context<'_, A>) -> Result {
        self.call(cx, &Call::Eof)
    }

    fn handle_drained(&mut self, cx: &mut Context<'_, A>) -> Result {
        self.call(cx, &Call::Drained)
    }

    fn handle_shutdown(&mut self, cx: &mut Context<'_, A>) -> Result {
        self.call(cx, &Call::Shutdown)
    }

    fn handle_error(&mut self, cx: &mut Context<'_, A>, error: &Error) {
        drop(self.call(cx, &Call::Error(error.to_string())));
    }

    fn handle_close(&mut self, cx: &mut Context<'_, A>, reason: CloseReason) {
        drop(self.call(cx, &Call::Close(reason)));
    }
}
