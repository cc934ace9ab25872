//! [`SecurePeer`]: the other end of a channel under TLS.

use std::io::{self, Read, Write};

use asyncore::rustls::{ClientConnection, StreamOwned};

use crate::{Certificates, Peer};

/// A blocking client under TLS. When it goes, it says so first (`close_notify`), as a client does that ends in good order.
#[derive(Debug)]
pub struct SecurePeer(StreamOwned<ClientConnection, Peer>);

impl SecurePeer {
    /// Does the handshake with a server that is `localhost`.
    pub(crate) fn begin(stream: Peer, certificates: &Certificates) -> Self {
        let mut session = certificates.blocking(stream, "localhost");
        while session.conn.is_handshaking() {
            session.conn.complete_io(&mut session.sock).expect("a handshake");
        }
        Self(session)
    }

    /// Ends the writing side of TLS, and of the socket.
    ///
    /// # Errors
    ///
    /// If the other end is gone.
    pub fn shutdown_write(&mut self) -> io::Result<()> {
        self.0.conn.send_close_notify();
        self.0.flush()?;
        self.0.sock.shutdown_write();
        Ok(())
    }
}

impl Read for SecurePeer {
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        self.0.read(room)
    }
}

impl Write for SecurePeer {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        self.0.write(data)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

impl Drop for SecurePeer {
    fn drop(&mut self) {
        self.0.conn.send_close_notify();
        // Whoever is gone already need not hear it.
        drop(self.0.flush());
    }
}
