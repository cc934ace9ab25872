//! TLS settings, [`TlsServer`] and [`TlsClient`], and the [`TlsSession`] that they begin.

use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use rustls::client::{ClientConfig, ClientConnection};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::{ClientHello, ResolvesServerCert, ServerConfig, ServerConnection, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{Connection, RootCertStore};
use rustls_platform_verifier::BuilderVerifierExt;

use crate::Result;

/// A certificate with those that vouch for it, and its key: two files in PEM format.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[expect(clippy::exhaustive_structs, reason = "a certificate and its key are all there is to it")]
pub struct Identity {
    /// The certificate, then those of the authorities between it and a root.
    pub chain: PathBuf,
    /// Its private key: PKCS #8, PKCS #1 (RSA) or SEC1 (EC), not encrypted.
    pub key: PathBuf,
}

impl Identity {
    /// The identity in these two files; they may be one.
    pub fn new(chain: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Self {
        Self { chain: chain.into(), key: key.into() }
    }

    fn load(&self) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)> {
        let key = PrivateKeyDer::from_pem_file(&self.key);
        Ok((certificates(&self.chain)?, key.map_err(|error| in_file(&self.key, &error))?))
    }

    fn certify(&self) -> Result<Arc<CertifiedKey>> {
        let (chain, key) = self.load()?;
        let certified = CertifiedKey::from_der(chain, key, &ring::default_provider());
        Ok(Arc::new(certified.map_err(|error| in_file(&self.key, &error))?))
    }
}

/// The server's side of TLS: its certificates, and what it asks of clients. TLS 1.2 and 1.3.
///
/// A clone is the same server: one [`reload`](Self::reload) is for all. Sessions are resumed by tickets, for half
/// a day at most; their keys are in memory alone, and made anew every six hours.
///
/// ```no_run
/// use asyncore::{Channel, Identity, ListenOptions, Map, TlsServer};
///
/// struct Session;
/// impl Channel for Session {}
///
/// let mut options = ListenOptions::default();
/// options.tls = Some(TlsServer::new(Identity::new("chain.pem", "key.pem"))?);
/// let mut map: Map = Map::new()?;
/// map.listen_with("127.0.0.1:6697", options, |_peer| Session)?;
/// # Ok::<(), asyncore::Error>(())
/// ```
#[derive(Clone)]
pub struct TlsServer {
    config: Arc<ServerConfig>,
    certificates: Arc<Certificates>,
}

/// What a [`TlsServer`] asks and offers beside its certificate.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct TlsServerOptions {
    /// Identities for other names than that of the first: who asks for such a name is shown it (SNI, RFC 6066 section 3).
    pub names: HashMap<String, Identity>,
    /// Protocols that may be agreed on, the best first (ALPN, RFC 7301). With none, the default, nothing is agreed on; with
    /// some, a client that offers others is refused.
    pub alpn: Vec<Vec<u8>>,
    /// Who vouches for clients: a file of root certificates in PEM format. `None`, the default, asks no client for a
    /// certificate.
    pub client_roots: Option<PathBuf>,
    /// Whether a client may come without a certificate, where one is asked for. False by default.
    pub client_may_be_unknown: bool,
}

impl TlsServer {
    /// A server with one certificate, which asks nothing of its clients.
    ///
    /// # Errors
    ///
    /// If a file cannot be read, holds no certificate or no key, or the two do not belong together.
    pub fn new(identity: Identity) -> Result<Self> {
        Self::with(identity, &TlsServerOptions::default())
    }

    /// A server with certificates for several names, protocols to agree on, or clients that have certificates.
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new).
    pub fn with(identity: Identity, options: &TlsServerOptions) -> Result<Self> {
        let certificates = Arc::new(Certificates::load(identity, options.names.clone())?);
        let provider = provider();
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()?;
        let builder = match &options.client_roots {
            None => builder.with_no_client_auth(),
            Some(roots) => {
                let verifier =
                    WebPkiClientVerifier::builder_with_provider(Arc::new(read_roots(roots)?), provider);
                let verifier =
                    if options.client_may_be_unknown { verifier.allow_unauthenticated() } else { verifier };
                builder.with_client_cert_verifier(verifier.build().map_err(|error| in_file(roots, &error))?)
            }
        };
        let mut config = builder.with_cert_resolver(Arc::clone(&certificates) as Arc<dyn ResolvesServerCert>);
        config.alpn_protocols.clone_from(&options.alpn);
        config.ticketer = ring::Ticketer::new()?;
        Ok(Self { config: Arc::new(config), certificates })
    }

    /// Reads the certificates and keys again; handshakes from now on have the new ones.
    ///
    /// # Errors
    ///
    /// If one cannot be used: as [`new`](Self::new). Those from before stay, all of them.
    pub fn reload(&self) -> Result {
        self.certificates.reload()
    }

    /// A session for one connection that was accepted: for [`Map::start_tls`](crate::Map::start_tls).
    ///
    /// # Errors
    ///
    /// If the system has no randomness.
    pub fn session(&self) -> Result<TlsSession> {
        Ok(ServerConnection::new(Arc::clone(&self.config))?.into())
    }
}

impl fmt::Debug for TlsServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsServer").field("identity", &self.certificates.first.files).finish_non_exhaustive()
    }
}

/// Whether they are the same server, clones of one.
impl PartialEq for TlsServer {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.config, &other.config)
    }
}

impl Eq for TlsServer {}

/// The certificates of a server, by name, as they were last read.
#[derive(Debug)]
struct Certificates {
    first: Certificate,
    by_name: HashMap<String, Certificate>,
}

#[derive(Debug)]
struct Certificate {
    files: Identity,
    loaded: RwLock<Arc<CertifiedKey>>,
}

impl Certificates {
    fn load(first: Identity, names: HashMap<String, Identity>) -> Result<Self> {
        let by_name =
            names.into_iter().map(|(name, files)| Ok((name.to_ascii_lowercase(), Certificate::load(files)?)));
        Ok(Self { first: Certificate::load(first)?, by_name: by_name.collect::<Result<_>>()? })
    }

    fn all(&self) -> impl Iterator<Item = &Certificate> {
        std::iter::once(&self.first).chain(self.by_name.values())
    }

    fn reload(&self) -> Result {
        let loaded = self.all().map(|certificate| certificate.files.certify()).collect::<Result<Vec<_>>>()?;
        for (certificate, loaded) in self.all().zip(loaded) {
            *certificate.loaded.write().unwrap_or_else(PoisonError::into_inner) = loaded;
        }
        Ok(())
    }
}

impl Certificate {
    fn load(files: Identity) -> Result<Self> {
        Ok(Self { loaded: RwLock::new(files.certify()?), files })
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        // What comes is in lower case already.
        let named = hello.server_name().and_then(|name| self.by_name.get(name));
        let certificate = named.unwrap_or(&self.first);
        Some(Arc::clone(&certificate.loaded.read().unwrap_or_else(PoisonError::into_inner)))
    }
}

/// The client's side of TLS: whom it trusts, and who it is. TLS 1.2 and 1.3.
///
/// A clone is the same client: they share the sessions that may be resumed.
#[derive(Clone)]
pub struct TlsClient {
    config: Arc<ClientConfig>,
}

/// What a [`TlsClient`] trusts, offers and shows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct TlsClientOptions {
    /// Who vouches for servers: a file of root certificates in PEM format. `None`, the default, is whom the system
    /// trusts.
    pub roots: Option<PathBuf>,
    /// Protocols that may be agreed on, the best first (ALPN, RFC 7301); none by default.
    pub alpn: Vec<Vec<u8>>,
    /// Who it says it is, to a server that asks. `None` by default.
    pub identity: Option<Identity>,
}

impl TlsClient {
    /// A client that trusts whom the system trusts.
    ///
    /// The system's own store and verifier decide, so that what an administrator adds or withdraws there counts here too. A list of
    /// roots in the program, such as that of `webpki-roots`, would be as old as the program, and know no root of a company's own.
    ///
    /// # Errors
    ///
    /// If the system has no certificates to trust.
    pub fn new() -> Result<Self> {
        Self::with(&TlsClientOptions::default())
    }

    /// A client that trusts others, offers protocols, or has a certificate of its own.
    ///
    /// # Errors
    ///
    /// If a file cannot be read or holds nothing of use, or the system has no certificates to trust.
    pub fn with(options: &TlsClientOptions) -> Result<Self> {
        let builder =
            ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions()?;
        let builder = match &options.roots {
            None => builder.with_platform_verifier()?,
            Some(roots) => builder.with_root_certificates(read_roots(roots)?),
        };
        let mut config = match &options.identity {
            None => builder.with_no_client_auth(),
            Some(identity) => {
                let (chain, key) = identity.load()?;
                builder.with_client_auth_cert(chain, key).map_err(|error| in_file(&identity.key, &error))?
            }
        };
        config.alpn_protocols.clone_from(&options.alpn);
        Ok(Self { config: Arc::new(config) })
    }

    /// A session with the server of that name, or IP address, which its certificate must bear: for
    /// [`Map::start_tls`](crate::Map::start_tls).
    ///
    /// # Errors
    ///
    /// If it is neither a name nor an address.
    pub fn session(&self, server: &str) -> Result<TlsSession> {
        let name = ServerName::try_from(server.to_owned());
        let name = name.map_err(|error| format!("TLS with {server:?}: {error}"))?;
        Ok(ClientConnection::new(Arc::clone(&self.config), name)?.into())
    }
}

impl fmt::Debug for TlsClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsClient").finish_non_exhaustive()
    }
}

/// TLS for one connection, not begun: from a [`TlsServer`], a [`TlsClient`], or a connection of `rustls` that was made with settings
/// of its own.
pub struct TlsSession(Box<Connection>);

impl TlsSession {
    pub(crate) fn into_connection(self) -> Box<Connection> {
        self.0
    }
}

impl From<ServerConnection> for TlsSession {
    fn from(connection: ServerConnection) -> Self {
        Self(Box::new(connection.into()))
    }
}

impl From<ClientConnection> for TlsSession {
    fn from(connection: ClientConnection) -> Self {
        Self(Box::new(connection.into()))
    }
}

impl fmt::Debug for TlsSession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsSession").finish_non_exhaustive()
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

fn read_roots(file: &Path) -> Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(file)? {
        roots.add(certificate).map_err(|error| in_file(file, &error))?;
    }
    Ok(roots)
}

/// The certificates in a file; there is one at least.
fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let certificates = CertificateDer::pem_file_iter(file).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let certificates = certificates.map_err(|error| in_file(file, &error))?;
    if certificates.is_empty() {
        return Err(in_file(file, &"no certificate in it"));
    }
    Ok(certificates)
}

fn in_file(file: &Path, error: &dyn fmt::Display) -> crate::Error {
    format!("{}: {error}", file.display()).into()
}
