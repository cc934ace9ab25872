//! One end of a tunnel: a raw channel that passes all that it reads on to another.

use std::time::Duration;

use asyncore::{Channel, ChannelId, CloseReason, Context, Received, Result};

/// One end of a tunnel. The two ends are to be [coupled](asyncore::Map::pipe), so that neither is read while the other has
/// much to take: a tunnel then holds a bounded amount whatever its peers do.
///
/// An end in good order goes on as an end, a lost connection as a reset: nobody takes a part for the whole. A shutdown
/// of the program does not wait for ends, and cuts both sides off behind what was read.
#[derive(Debug)]
pub struct Tunnel {
    other: ChannelId,
}

impl Tunnel {
    /// An end that passes on to `other`.
    #[must_use]
    pub const fn to(other: ChannelId) -> Self {
        Self { other }
    }
}

impl<A: 'static> Channel<A> for Tunnel {
    fn handle_read(&mut self, cx: &mut Context<'_, A>) -> Result {
        if let Received::Data(data) = cx.map.recv(cx.id, READ_SIZE)? {
            cx.map.push(self.other, &data);
        }
        Ok(())
    }

    fn handle_eof(&mut self, cx: &mut Context<'_, A>) -> Result {
        cx.map.shutdown_write(self.other);
        Ok(())
    }

    fn handle_close(&mut self, cx: &mut Context<'_, A>, reason: CloseReason) {
        if matches!(reason, CloseReason::Eof | CloseReason::Local | CloseReason::ShutDown) {
            cx.map.close_when_done(self.other);
            return;
        }
        tracing::info!(id = %cx.id, other = %self.other, %reason, "connection lost");
        if let Some(other) = cx.map.get(self.other) {
            // Closed now, it is reset.
            if let Err(error) = other.set_linger(Some(Duration::ZERO)) {
                tracing::debug!(%error, "no reset");
            }
        }
        cx.map.close(self.other);
    }
}

/// Most bytes that one read takes: 64 KiB, so that a queue never exceeds the high mark by more than that.
const READ_SIZE: usize = 64 << 10;
