//! A line echo on tokio under TLS: `tokio-rustls`, and what one read brings is searched with `memchr` and answered with one write.

use std::io;
use std::net::TcpListener;
use std::sync::Arc;

use bytes::{Buf, BytesMut};
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;

use super::lines::answer;
use crate::load::secure::{CERTIFICATE, KEY};

/// Serves every connection until the process is killed. One thread, for the server has one core.
pub(crate) fn serve(listener: TcpListener) -> io::Result<()> {
    let acceptor = TlsAcceptor::from(Arc::new(config().map_err(io::Error::other)?));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    runtime.block_on(async {
        listener.set_nonblocking(true)?;
        let listener = tokio::net::TcpListener::from_std(listener)?;
        loop {
            let (stream, _peer) = listener.accept().await?;
            stream.set_nodelay(true)?;
            tokio::spawn(echo(acceptor.clone(), stream));
        }
    })
}

fn config() -> Result<ServerConfig, Box<dyn std::error::Error + Send + Sync>> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let chain = vec![CertificateDer::from_pem_file(CERTIFICATE)?];
    let key = PrivateKeyDer::from_pem_file(KEY)?;
    let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    Ok(builder.with_no_client_auth().with_single_cert(chain, key)?)
}

async fn echo(acceptor: TlsAcceptor, stream: TcpStream) -> io::Result<()> {
    let mut stream = acceptor.accept(stream).await?;
    let mut input = BytesMut::new();
    let mut output = Vec::new();
    loop {
        let searched = input.len();
        input.reserve(READ_SIZE);
        if stream.read_buf(&mut input).await? == 0 {
            return Ok(());
        }
        let answered = answer(&input, searched, &mut output)?;
        input.advance(answered);
        stream.write_all(&output).await?;
        stream.flush().await?;
        output.clear();
    }
}

/// The least room of a read: 16 KiB, as much as a record has.
const READ_SIZE: usize = 16_384;
