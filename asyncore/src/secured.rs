//! [`Secured`]: a stream under TLS, as any other socket.
//!
//! Readiness is that of the socket below. Two things are no event of it: input that came in the same record as what was read
//! ([`Carrier::holds_input`]), and records that it has not taken ([`Carrier::holds_output`]).

use std::fmt;
use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::net::Shutdown;
use std::os::fd::BorrowedFd;
use std::time::Duration;

use rustls::Connection;
use socket2::SockRef;

use crate::Address;
use crate::carrier::Carrier;
use crate::interest::Interest;
use crate::socket::{Moved, Socket};
use crate::world::World;

/// A socket, and the TLS session over it.
pub(crate) struct Secured {
    socket: Socket,
    session: Box<Connection>,
    /// Output from before TLS, which goes before its first record.
    clear: Vec<u8>,
    /// Bytes at the beginning of what is offered next that are in records already, which the socket has not all taken.
    ///
    /// They are said to be written as it takes them: until then they stay in the channel's queue, so that an empty queue is
    /// what it is for other sockets.
    in_records: usize,
    /// The end of this side was put into a record.
    has_ended: bool,
}

impl Secured {
    pub(crate) fn new(socket: Socket, session: Box<Connection>, clear: Vec<u8>) -> Self {
        Self { socket, session, clear, in_records: 0, has_ended: false }
    }

    /// Has the socket take what there is for it: whether it took all.
    fn flush(&mut self) -> io::Result<bool> {
        let mut wire = Wire(&mut self.socket);
        while !self.clear.is_empty() {
            match wire.write(&self.clear) {
                Ok(written) => drop(self.clear.drain(..written)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        self.clear = Vec::new();
        while self.session.wants_write() {
            match self.session.write_tls(&mut wire) {
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    /// Reads once from the socket, and takes the records apart.
    fn fill(&mut self) -> io::Result<Moved> {
        let received = match self.session.read_tls(&mut Wire(&mut self.socket)) {
            Ok(received) => received,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(Moved::WouldBlock),
            // What TLS itself has no room for.
            Err(error) if error.kind() == ErrorKind::InvalidData => {
                return Err(io::Error::new(
                    ErrorKind::InvalidData,
                    rustls::Error::General(error.to_string()),
                ));
            }
            Err(error) => return Err(error),
        };
        match self.session.process_new_packets() {
            Ok(_) => Ok(Moved::Bytes(received)),
            Err(error) => {
                // An alert says why, to a peer that takes it at once.
                drop(self.flush());
                Err(io::Error::new(ErrorKind::InvalidData, error))
            }
        }
    }

    /// How much of what is offered has left when the socket takes no more: all but what may be in the records that wait, which
    /// are no shorter than what they bear. So output is seen to move while it does, however long a full write takes.
    fn moved_of(&mut self, offered: usize) -> Moved {
        // Nothing is new: this only tells what there is.
        let waiting =
            self.session.process_new_packets().map_or(usize::MAX, |state| state.tls_bytes_to_write());
        match self.in_records.saturating_sub(waiting).min(offered) {
            0 => Moved::WouldBlock,
            moved => {
                self.in_records -= moved;
                Moved::Bytes(moved)
            }
        }
    }

    /// Puts bytes into records, as many as a session holds at a time: how many.
    fn encrypt(&mut self, slices: &[IoSlice<'_>], passed: usize) -> io::Result<usize> {
        let mut rest = passed;
        for slice in slices {
            let skipped = rest.min(slice.len());
            rest -= skipped;
            let data = &slice[skipped..];
            if !data.is_empty() {
                return self.session.writer().write(data);
            }
        }
        Ok(0)
    }
}

impl Carrier for Secured {
    fn descriptor(&self) -> BorrowedFd<'_> {
        self.socket.descriptor()
    }

    fn belongs_to(&self, world: &World) -> io::Result<()> {
        self.socket.belongs_to(world)
    }

    fn is_registered(&self) -> bool {
        self.socket.is_registered()
    }

    fn register(&mut self, world: &World, key: usize, interest: Interest) -> io::Result<()> {
        self.socket.register(world, key, interest)
    }

    fn deregister(&mut self) {
        self.socket.deregister();
    }

    fn recv(&mut self, room: &mut [u8]) -> io::Result<Moved> {
        let mut taken = 0;
        loop {
            match self.session.reader().read(room) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                read => return read.map(Moved::Bytes),
            }
            // A peer may send records without data in them for ever; the poller tells of what waits.
            if taken >= MOST_WITHOUT_DATA {
                return Ok(Moved::WouldBlock);
            }
            match self.fill()? {
                Moved::WouldBlock => return Ok(Moved::WouldBlock),
                Moved::Bytes(received) => taken += received,
            }
            if self.session.wants_write() {
                // An answer of TLS itself. What the socket does not take goes with the next output, and why not is told there.
                drop(self.flush());
            }
        }
    }

    fn send_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<Moved> {
        let offered = slices.iter().map(|slice| slice.len()).sum::<usize>();
        loop {
            if !self.flush()? {
                return Ok(self.moved_of(offered));
            }
            if self.in_records >= offered {
                self.in_records -= offered;
                return Ok(Moved::Bytes(offered));
            }
            self.in_records += self.encrypt(slices, self.in_records)?;
        }
    }

    /// Ends this side: the peer is told (`close_notify`), so that it knows that nothing was cut off.
    fn shutdown(&mut self, how: Shutdown) -> io::Result<()> {
        if how != Shutdown::Read {
            if !self.has_ended {
                self.session.send_close_notify();
                self.has_ended = true;
            }
            if !self.flush()? {
                return Err(ErrorKind::WouldBlock.into());
            }
        }
        self.socket.shutdown(how)
    }

    fn half_closes(&self) -> bool {
        self.socket.half_closes()
    }

    fn reads(&self) -> bool {
        self.socket.reads()
    }

    fn take_error(&self) -> Option<io::Error> {
        self.socket.take_error()
    }

    fn options(&self) -> Option<SockRef<'_>> {
        self.socket.options()
    }

    fn set_linger(&self, linger: Option<Duration>) -> io::Result<()> {
        self.socket.set_linger(linger)
    }

    /// What is urgent is not in any record: anybody on the way could have said it.
    fn recv_urgent(&self) -> io::Result<Option<u8>> {
        self.socket.recv_urgent().map(|_| None)
    }

    fn local_address(&self) -> io::Result<Option<Address>> {
        self.socket.local_address()
    }

    fn peer_address(&self) -> io::Result<Option<Address>> {
        self.socket.peer_address()
    }

    fn handshake(&mut self) -> io::Result<bool> {
        loop {
            if !self.flush()? {
                return Ok(false);
            }
            if !self.session.is_handshaking() {
                return Ok(true);
            }
            match self.fill()? {
                Moved::WouldBlock => return Ok(false),
                Moved::Bytes(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Moved::Bytes(_) => {}
            }
        }
    }

    fn holds_input(&mut self) -> bool {
        // Nothing is new: this only tells what there is.
        self.session
            .process_new_packets()
            .is_ok_and(|state| state.plaintext_bytes_to_read() > 0 || state.peer_has_closed())
    }

    fn holds_output(&self) -> bool {
        !self.clear.is_empty() || self.session.wants_write()
    }

    fn forget_offered(&mut self) {
        self.in_records = 0;
    }

    fn say_end(&mut self) {
        let is_whole = self.in_records == 0 && self.clear.is_empty() && !self.session.is_handshaking();
        if is_whole && !self.has_ended {
            self.session.send_close_notify();
            self.has_ended = true;
            drop(self.flush());
        }
    }

    fn session(&self) -> Option<&Connection> {
        Some(&self.session)
    }
}

impl fmt::Debug for Secured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Secured").field("socket", &self.socket).finish_non_exhaustive()
    }
}

/// The socket as TLS reads and writes it.
struct Wire<'a>(&'a mut Socket);

impl Read for Wire<'_> {
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        moved(self.0.recv(room))
    }
}

impl Write for Wire<'_> {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        moved(self.0.send(data))
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        moved(self.0.send_vectored(slices))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn moved(moved: io::Result<Moved>) -> io::Result<usize> {
    match moved? {
        Moved::Bytes(count) => Ok(count),
        Moved::WouldBlock => Err(ErrorKind::WouldBlock.into()),
    }
}

/// Most bytes of records without data that one read takes: 64 KiB, far more than the tickets and new keys of any peer that means
/// to talk, and more than the largest record, which comes in pieces.
const MOST_WITHOUT_DATA: usize = 64 << 10;
