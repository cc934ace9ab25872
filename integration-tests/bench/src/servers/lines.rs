//! What the servers written by hand have in common: an answer to every whole line, and a connection that is read once
//! and written once when its socket is ready.

use std::io::{self, ErrorKind, Read, Write};

use memchr::memchr_iter;

/// Appends an answer to every whole line: how many bytes of the input those lines are. The first `searched` bytes are
/// known to end none.
///
/// # Errors
///
/// If a line is longer than the limit.
pub(crate) fn answer(input: &[u8], searched: usize, output: &mut Vec<u8>) -> io::Result<usize> {
    let mut answered = 0;
    for end in memchr_iter(b'\n', &input[searched..]) {
        let end = searched + end;
        let line = &input[answered..end];
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        check(line.len())?;
        output.extend_from_slice(line);
        output.extend_from_slice(b"\r\n");
        answered = end + 1;
    }
    check(input.len() - answered)?;
    Ok(answered)
}

fn check(length: usize) -> io::Result<()> {
    if length > LINE_LIMIT { Err(ErrorKind::InvalidData.into()) } else { Ok(()) }
}

/// The buffers of a loop; one connection at a time uses them.
pub(crate) struct Buffers {
    input: Box<[u8]>,
    output: Vec<u8>,
}

impl Default for Buffers {
    fn default() -> Self {
        Self { input: vec![0; LINE_LIMIT + READ_SIZE].into(), output: Vec::with_capacity(READ_SIZE) }
    }
}

/// What waits on either side of a connection.
#[derive(Default)]
pub(crate) struct Echo {
    /// The start of a line whose end has not come.
    input: Vec<u8>,
    /// What the socket has not taken; while there is any, nothing is read.
    output: Vec<u8>,
}

/// What a connection waits for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Next {
    /// Input. Whether the last read took all there was.
    Read { is_drained: bool },
    /// Room for output.
    Write,
    /// Nothing: it has ended.
    End,
}

impl Echo {
    /// Writes what waits, or reads once and writes the answers.
    ///
    /// # Errors
    ///
    /// If the socket fails, or a line is longer than the limit.
    pub(crate) fn serve<S>(&mut self, socket: &S, buffers: &mut Buffers) -> io::Result<Next>
    where
        for<'a> &'a S: Read + Write,
    {
        if !self.output.is_empty() {
            let written = write(socket, &self.output)?;
            self.output.drain(..written);
            return Ok(if self.output.is_empty() { Next::Read { is_drained: false } } else { Next::Write });
        }
        let kept = self.input.len();
        let (start, room) = buffers.input.split_at_mut(kept);
        start.copy_from_slice(&self.input);
        let read = match { socket }.read(&mut room[..READ_SIZE]) {
            Ok(0) => return Ok(Next::End),
            Ok(read) => read,
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                return Ok(Next::Read { is_drained: true });
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {
                return Ok(Next::Read { is_drained: false });
            }
            Err(error) => return Err(error),
        };
        let input = &buffers.input[..kept + read];
        buffers.output.clear();
        let answered = answer(input, kept, &mut buffers.output)?;
        self.input.clear();
        self.input.extend_from_slice(&input[answered..]);
        let written = if buffers.output.is_empty() { 0 } else { write(socket, &buffers.output)? };
        if written < buffers.output.len() {
            self.output.extend_from_slice(&buffers.output[written..]);
            return Ok(Next::Write);
        }
        Ok(Next::Read { is_drained: read < READ_SIZE })
    }
}

/// Writes what the socket takes: how many bytes.
fn write(mut socket: impl Write, output: &[u8]) -> io::Result<usize> {
    loop {
        match socket.write(output) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(0),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            written => return written,
        }
    }
}

/// The longest line: 64 KiB, as in every server here.
pub(crate) const LINE_LIMIT: usize = 65_536;

/// The most one read takes: 64 KiB, as the libraries' own buffers.
const READ_SIZE: usize = 65_536;
