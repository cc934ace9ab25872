//! A line echo on tokio, as its documentation has it: a task a connection, `LinesCodec`, one `send` a line.
//!
//! Its answers end in LF alone, for that is what the codec writes.

use std::io;
use std::net::TcpListener;

use futures_util::{SinkExt, StreamExt};
use tokio::net::TcpStream;
use tokio_util::codec::{Framed, LinesCodec, LinesCodecError};

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

async fn echo(stream: TcpStream) -> Result<(), LinesCodecError> {
    let mut lines = Framed::new(stream, LinesCodec::new_with_max_length(LINE_LIMIT));
    while let Some(line) = lines.next().await {
        lines.send(line?).await?;
    }
    Ok(())
}

/// The longest line: 64 KiB, as in every server here.
const LINE_LIMIT: usize = 65_536;
