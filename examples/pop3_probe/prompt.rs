//! [`ask`]: a question at the terminal that is standard input, which does not show the answer.

use std::io::{self, ErrorKind, Read, StdinLock, Write};

use rustix::process::{Signal, getpid, kill_process};
use rustix::termios::{LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcsetattr};

/// Asks on standard error, and returns the line that is typed.
///
/// # Errors
///
/// If standard input is no terminal or ends, or the line is not UTF-8; after Ctrl-C, if interrupts are ignored.
pub(crate) fn ask(question: &str) -> io::Result<String> {
    let mut hidden = Hidden::new()?;
    // Not before the terminal hides the answer, for some begin to type at once.
    drop(write!(io::stderr(), "{question}"));
    let Some(line) = hidden.line()? else {
        drop(hidden);
        drop(writeln!(io::stderr()));
        // The end that the terminal would have made of it, with the echo back.
        kill_process(getpid(), Signal::INT)?;
        return Err(ErrorKind::Interrupted.into());
    };
    String::from_utf8(line).map_err(|error| io::Error::new(ErrorKind::InvalidData, error))
}

/// The terminal, while it shows nothing of what is typed but the end of the line; it is put back with the value.
struct Hidden {
    terminal: StdinLock<'static>,
    before: Termios,
    /// What Ctrl-C types.
    interrupt: u8,
}

impl Hidden {
    fn new() -> io::Result<Self> {
        let terminal = io::stdin().lock();
        let before = tcgetattr(&terminal)?;
        let mut now = before.clone();
        now.local_modes.insert(LocalModes::ECHONL);
        now.local_modes.remove(LocalModes::ECHO);
        // Ctrl-C ends a line instead: a signal would end the program before the echo is back.
        now.local_modes.remove(LocalModes::ISIG);
        let interrupt = before.special_codes[SpecialCodeIndex::VINTR];
        now.special_codes[SpecialCodeIndex::VEOL] = interrupt;
        tcsetattr(&terminal, OptionalActions::Now, &now)?;
        Ok(Self { terminal, before, interrupt })
    }

    /// A line without its end, or `None` at Ctrl-C.
    fn line(&mut self) -> io::Result<Option<Vec<u8>>> {
        let mut line = Vec::new();
        for byte in self.terminal.by_ref().bytes() {
            match byte? {
                b'\n' => return Ok(Some(line)),
                byte if byte == self.interrupt => return Ok(None),
                byte => line.push(byte),
            }
        }
        if line.is_empty() { Err(ErrorKind::UnexpectedEof.into()) } else { Ok(Some(line)) }
    }
}

impl Drop for Hidden {
    fn drop(&mut self) {
        let _ = tcsetattr(&self.terminal, OptionalActions::Now, &self.before);
    }
}
