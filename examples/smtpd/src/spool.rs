//! [`Spool`]: a message while it arrives, in memory if it is small, else in a temporary file that has no name.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use bytes::Bytes;
use tempfile::{SpooledData, SpooledTempFile};

/// Bytes that are written once, and read as often as one likes. Nothing of it stays when the last reader is gone, however
/// the program ends.
#[derive(Debug)]
pub struct Spool {
    kept: SpooledTempFile,
    length: u64,
}

impl Spool {
    /// An empty one.
    #[must_use]
    pub fn new() -> Self {
        Self { kept: tempfile::spooled_tempfile(IN_MEMORY), length: 0 }
    }

    /// Takes the next bytes.
    ///
    /// # Errors
    ///
    /// If the temporary file cannot be made or written: the disk is full.
    pub fn write(&mut self, piece: &[u8]) -> io::Result<()> {
        self.kept.write_all(piece)?;
        self.length += piece.len() as u64;
        Ok(())
    }

    /// It is whole.
    #[must_use]
    pub fn finish(self) -> Spooled {
        let data = match self.kept.into_inner() {
            SpooledData::InMemory(bytes) => Data::Memory(bytes.into_inner().into()),
            SpooledData::OnDisk(file) => Data::File(Arc::new(file)),
        };
        Spooled { data, length: self.length }
    }
}

impl Default for Spool {
    fn default() -> Self {
        Self::new()
    }
}

/// What was written to a [`Spool`]. A clone is the same, and costs nothing.
#[derive(Clone, Debug)]
pub struct Spooled {
    data: Data,
    length: u64,
}

#[derive(Clone, Debug)]
enum Data {
    Memory(Bytes),
    File(Arc<File>),
}

impl Spooled {
    /// How many bytes there are.
    #[must_use]
    pub const fn length(&self) -> u64 {
        self.length
    }

    /// Reads from the first byte on.
    #[must_use]
    pub fn reader(&self) -> SpoolReader {
        SpoolReader { spooled: self.clone(), at: 0 }
    }
}

/// Reads a [`Spooled`]; readers do not disturb each other.
#[derive(Clone, Debug)]
pub struct SpoolReader {
    spooled: Spooled,
    at: u64,
}

impl Read for SpoolReader {
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        let read = match &self.spooled.data {
            Data::Memory(bytes) => {
                let at = usize::try_from(self.at).map_or(bytes.len(), |at| at.min(bytes.len()));
                (&bytes[at..]).read(room)?
            }
            Data::File(file) => file.read_at(room, self.at)?,
        };
        self.at += read as u64;
        Ok(read)
    }
}

/// Most bytes that are held in memory: 64 KiB, more than most mail has. Thousands of sessions that each send a message cost
/// no more than as many sockets' buffers.
pub const IN_MEMORY: usize = 64 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read_again_and_again_in_memory_and_on_disk() {
        for length in [0, 1, IN_MEMORY, IN_MEMORY + 1, 3 * IN_MEMORY] {
            let bytes: Vec<u8> = (0..length).map(|at| at.to_le_bytes()[0]).collect();
            let mut spool = Spool::new();
            bytes.chunks(1000).for_each(|piece| spool.write(piece).unwrap());
            let spooled = spool.finish();
            assert_eq!(spooled.length(), length as u64);
            assert_eq!(matches!(spooled.data, Data::File(_)), length > IN_MEMORY);
            let (mut one, mut other) = (spooled.reader(), spooled.reader());
            let mut read = Vec::new();
            one.read_to_end(&mut read).unwrap();
            assert_eq!(read, bytes);
            read.clear();
            other.read_to_end(&mut read).unwrap();
            assert_eq!(read, bytes);
        }
    }
}
