//! A chat room on tokio, of the shape that tokio's own chat example has: a task and a channel of strings a member, the
//! senders' ends in a map behind a lock, `LinesCodec`, and `select!` between the two sides.
//!
//! Its lines end in LF alone, for that is what the codec writes.

use std::collections::HashMap;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

use futures_util::{SinkExt, StreamExt};
use tokio::net::TcpStream;
use tokio::sync::{Mutex, mpsc};
use tokio_util::codec::{Framed, LinesCodec, LinesCodecError};

#[derive(Default)]
struct Room {
    members: HashMap<SocketAddr, mpsc::UnboundedSender<String>>,
}

impl Room {
    fn broadcast(&self, line: &str) {
        for member in self.members.values() {
            // A member that is gone takes itself off the list.
            drop(member.send(line.to_owned()));
        }
    }
}

/// Serves every member until the process is killed. One thread, for the server has one core.
pub(crate) fn serve(listener: TcpListener) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    runtime.block_on(async {
        listener.set_nonblocking(true)?;
        let listener = tokio::net::TcpListener::from_std(listener)?;
        let room = Arc::new(Mutex::new(Room::default()));
        loop {
            let (stream, peer) = listener.accept().await?;
            stream.set_nodelay(true)?;
            let room = Arc::clone(&room);
            tokio::spawn(async move {
                let (sender, lines) = mpsc::unbounded_channel();
                room.lock().await.members.insert(peer, sender);
                // However it ended, the member has left.
                drop(talk(&room, stream, lines).await);
                room.lock().await.members.remove(&peer);
            });
        }
    })
}

async fn talk(
    room: &Mutex<Room>,
    stream: TcpStream,
    mut said: mpsc::UnboundedReceiver<String>,
) -> Result<(), LinesCodecError> {
    let mut lines = Framed::new(stream, LinesCodec::new_with_max_length(LINE_LIMIT));
    loop {
        tokio::select! {
            Some(line) = said.recv() => lines.send(line).await?,
            line = lines.next() => match line {
                Some(line) => room.lock().await.broadcast(&line?),
                None => return Ok(()),
            },
        }
    }
}

/// The longest line: 64 KiB, as in every server here.
const LINE_LIMIT: usize = 65_536;
