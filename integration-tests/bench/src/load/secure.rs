//! [`Stream`]: a socket of a load, in clear text or under TLS.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::sync::{Arc, OnceLock};

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

/// A socket, and what is over it.
pub(crate) enum Stream {
    Clear(TcpStream),
    Secure(Box<StreamOwned<ClientConnection, TcpStream>>),
}

impl Stream {
    /// Shakes hands over a socket that blocks.
    pub(crate) fn secure(socket: TcpStream) -> io::Result<Self> {
        let config = match CONFIG.get() {
            Some(config) => config,
            None => {
                let config = config().map_err(io::Error::other)?;
                CONFIG.get_or_init(|| config)
            }
        };
        let name = ServerName::try_from("localhost").map_err(io::Error::other)?;
        let session = ClientConnection::new(Arc::clone(config), name).map_err(io::Error::other)?;
        let mut stream = StreamOwned::new(session, socket);
        while stream.conn.is_handshaking() {
            stream.conn.complete_io(&mut stream.sock)?;
        }
        Ok(Self::Secure(Box::new(stream)))
    }

    pub(crate) const fn socket(&self) -> &TcpStream {
        match self {
            Self::Clear(socket) => socket,
            Self::Secure(stream) => &stream.sock,
        }
    }

    /// Whether there are records that the socket has not taken.
    pub(crate) fn holds_output(&self) -> bool {
        match self {
            Self::Clear(_) => false,
            Self::Secure(stream) => stream.conn.wants_write(),
        }
    }
}

impl Read for Stream {
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Clear(socket) => socket.read(room),
            Self::Secure(stream) => stream.read(room),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        match self {
            Self::Clear(socket) => socket.write(data),
            Self::Secure(stream) => stream.write(data),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Clear(socket) => socket.flush(),
            Self::Secure(stream) => stream.flush(),
        }
    }
}

/// Trusts the certificate of the servers here and no other.
fn config() -> Result<Arc<ClientConfig>, Box<dyn std::error::Error + Send + Sync>> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(CERTIFICATE)?)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    Ok(Arc::new(builder.with_root_certificates(roots).with_no_client_auth()))
}

static CONFIG: OnceLock<Arc<ClientConfig>> = OnceLock::new();

/// Whom the servers say they are, `localhost`; for the benchmark alone, and known to everybody.
pub(crate) const CERTIFICATE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tls/certificate.pem");

/// The key to it.
pub(crate) const KEY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tls/key.pem");
