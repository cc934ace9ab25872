//! A line echo on tokio by hand: what one read brings is searched with `memchr` and answered with one write.

use std::io;
use std::net::TcpListener;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::lines::answer;

/// Serves every connection until the process is killed. One thread, for the server has one core.
pub(crate) fn serve(listener: TcpListener) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    runtime.block_on(async {
        listener.set_nonblocking(true)?;
        let listener = tokio::net::TcpListener::from_std(listener)?;
        loop {
            let (stream, _peer) = listener.accept().await?;
            stream.set_nodelay(true)?;
            tokio::spawn(echo(stream));
        }
    })
}

async fn echo(mut stream: TcpStream) -> io::Result<()> {
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
        output.clear();
    }
}

/// The least room of a read: 16 KiB, each connection having a buffer of its own.
const READ_SIZE: usize = 16_384;
