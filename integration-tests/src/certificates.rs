//! [`Certificates`]: identities for tests of TLS, in a folder of their own, and the blocking side of a session.

use std::fs;
use std::io::{Read, Write};
use std::path::PathBuf;
use std::sync::Arc;

use asyncore::rustls::client::WebPkiServerVerifier;
use asyncore::rustls::pki_types::pem::PemObject;
use asyncore::rustls::pki_types::{CertificateDer, ServerName};
use asyncore::rustls::{
    ALL_VERSIONS, ClientConfig, ClientConnection, RootCertStore, StreamOwned, SupportedProtocolVersion,
};
use asyncore::{Identity, TlsClient, TlsClientOptions, TlsServer};

/// A root of trust that vouches for names, and whom it has vouched for; the files end with it.
#[derive(Debug)]
pub struct Certificates {
    folder: tempfile::TempDir,
    root: rcgen::Issuer<'static, rcgen::KeyPair>,
}

impl Certificates {
    /// A new root.
    #[must_use]
    pub fn new() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut params = rcgen::CertificateParams::new([]).expect("no names");
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        // Of another name than those that it vouches for: a certificate that names itself as its issuer is taken for a root.
        params.distinguished_name.push(rcgen::DnType::CommonName, "Root of trust");
        let key = rcgen::KeyPair::generate().expect("a key");
        let certificate = params.self_signed(&key).expect("a root");
        fs::write(folder.path().join("root.pem"), certificate.pem()).expect("a file");
        Self { folder, root: rcgen::Issuer::new(params, key) }
    }

    /// The root's certificate.
    #[must_use]
    pub fn root(&self) -> PathBuf {
        self.folder.path().join("root.pem")
    }

    /// An identity with a name, in files that bear it; called again, they are others.
    #[must_use]
    pub fn identity(&self, name: &str) -> Identity {
        let params = rcgen::CertificateParams::new([name.to_owned()]).expect("a name");
        let key = rcgen::KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.root).expect("a certificate");
        let file = |what: &str, text: String| {
            let file = self.folder.path().join(format!("{name}.{what}.pem"));
            fs::write(&file, text).expect("a file");
            file
        };
        Identity::new(file("chain", certificate.pem()), file("key", key.serialize_pem()))
    }

    /// A server that is `localhost`.
    #[must_use]
    pub fn server(&self) -> TlsServer {
        TlsServer::new(self.identity("localhost")).expect("a server")
    }

    /// What a client needs that trusts the root.
    #[must_use]
    pub fn client_options(&self) -> TlsClientOptions {
        let mut options = TlsClientOptions::default();
        options.roots = Some(self.root());
        options
    }

    /// A client that trusts the root.
    #[must_use]
    pub fn client(&self) -> TlsClient {
        TlsClient::with(&self.client_options()).expect("a client")
    }

    /// A blocking client's session over a stream, as `rustls` itself has it.
    #[must_use]
    pub fn blocking<S: Read + Write>(&self, stream: S, name: &str) -> StreamOwned<ClientConnection, S> {
        let config = Arc::new(self.blocking_config());
        let name = ServerName::try_from(name.to_owned()).expect("a name");
        StreamOwned::new(ClientConnection::new(config, name).expect("a client"), stream)
    }

    /// The settings of such a session.
    #[must_use]
    pub fn blocking_config(&self) -> ClientConfig {
        self.blocking_config_of(ALL_VERSIONS)
    }

    /// The same with these versions alone.
    #[must_use]
    pub fn blocking_config_of(&self, versions: &[&'static SupportedProtocolVersion]) -> ClientConfig {
        let provider = Arc::new(asyncore::rustls::crypto::ring::default_provider());
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(self.root()).expect("a root")).expect("a root");
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider));
        ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .expect("versions")
            .with_webpki_verifier(verifier.build().expect("a verifier"))
            .with_no_client_auth()
    }
}

impl Default for Certificates {
    fn default() -> Self {
        Self::new()
    }
}
