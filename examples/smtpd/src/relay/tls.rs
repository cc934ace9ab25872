//! [`NextTls`]: TLS towards the next server, with one that shows who it is, or with whoever answers.

use std::fmt;
use std::sync::Arc;

use asyncore::rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use asyncore::rustls::client::{ClientConfig, ClientConnection};
use asyncore::rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use asyncore::rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use asyncore::rustls::{DigitallySignedStruct, Error, SignatureScheme};
use asyncore::{Result, TlsClient, TlsSession};

/// What sessions with the next server are begun with.
#[derive(Clone)]
pub(crate) enum NextTls {
    /// Its certificate has to be valid, and to bear its name.
    Verified(TlsClient),
    /// Any certificate will do.
    Anybody(Arc<ClientConfig>),
}

impl NextTls {
    /// TLS with whoever answers: it keeps those out who only listen (RFC 7435). Who changes what passes could hide the offer
    /// of `STARTTLS`, so that a certificate would prove nothing.
    pub(crate) fn anybody() -> Result<Self> {
        let provider = Arc::new(ring::default_provider());
        let config = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(AnyCertificate(provider)))
            .with_no_client_auth();
        Ok(Self::Anybody(Arc::new(config)))
    }

    /// A session with the server of that name.
    ///
    /// # Errors
    ///
    /// If no certificate could bear it.
    pub(crate) fn session(&self, server: &str) -> Result<TlsSession> {
        match self {
            Self::Verified(client) => client.session(server),
            Self::Anybody(config) => {
                let name = ServerName::try_from(server.to_owned());
                let name = name.map_err(|error| format!("TLS with {server:?}: {error}"))?;
                Ok(ClientConnection::new(Arc::clone(config), name)?.into())
            }
        }
    }
}

impl fmt::Debug for NextTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Verified(_) => "Verified",
            Self::Anybody(_) => "Anybody",
        })
    }
}

/// Takes every certificate. That the server has its key is verified all the same.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _certificate: &CertificateDer<'_>,
        _others: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
