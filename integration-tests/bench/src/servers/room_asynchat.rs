//! A chat room on asynchat, the one of the README: every line to every member.

use std::io;
use std::net::TcpListener;

use asynchat::{AsyncChat, Chat, Conversation, Terminator};
use asyncore::{ChannelId, CloseReason, Map, Result};

struct Room {
    members: Vec<ChannelId>,
}

struct Member;

impl Chat<Room> for Member {
    fn handle_connect(&mut self, cx: &mut Conversation<'_, Room>) -> Result {
        cx.app.members.push(cx.id);
        Ok(())
    }

    fn found_terminator(&mut self, cx: &mut Conversation<'_, Room>, line: &[u8]) -> Result {
        cx.map.broadcast(&cx.app.members, [line, b"\r\n"].concat());
        Ok(())
    }

    fn handle_close(&mut self, cx: &mut Conversation<'_, Room>, _reason: CloseReason) {
        cx.app.members.retain(|member| *member != cx.id);
    }
}

/// Serves every member until the process is killed.
pub(crate) fn serve(listener: TcpListener) -> io::Result<()> {
    room(listener).map_err(io::Error::other)
}

fn room(listener: TcpListener) -> Result {
    let mut map = Map::new()?;
    map.listen_on(listener, |_peer| AsyncChat::new(Member).terminator(Terminator::line()))?;
    map.run(&mut Room { members: Vec::new() })
}
