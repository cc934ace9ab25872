//! A line echo on message-io: a node over its `Tcp` transport, and the callback of `for_each`.
//!
//! The library makes its listener itself, and writes until the socket has taken all, in a loop without a wait.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;

use message_io::network::{Endpoint, NetEvent, Transport};
use message_io::node;

use super::lines::answer;

/// Serves every connection until the process is killed; `listens` is told where.
pub(crate) fn serve(at: SocketAddr, listens: impl FnOnce(SocketAddr) -> io::Result<()>) -> io::Result<()> {
    let (handler, listener) = node::split::<()>();
    let (_, address) = handler.network().listen(Transport::Tcp, at)?;
    listens(address)?;
    let mut rests: HashMap<Endpoint, Vec<u8>> = HashMap::new();
    let mut output = Vec::new();
    listener.for_each(move |event| match event.network() {
        NetEvent::Message(endpoint, data) => {
            let rest = rests.remove(&endpoint);
            let searched = rest.as_ref().map_or(0, Vec::len);
            let joined = rest.map(|rest| [&rest, data].concat());
            let input = joined.as_deref().unwrap_or(data);
            output.clear();
            let Ok(answered) = answer(input, searched, &mut output) else {
                handler.network().remove(endpoint.resource_id());
                return;
            };
            if !output.is_empty() {
                handler.network().send(endpoint, &output);
            }
            if answered < input.len() {
                rests.insert(endpoint, input[answered..].to_vec());
            }
        }
        NetEvent::Disconnected(endpoint) => {
            rests.remove(&endpoint);
        }
        NetEvent::Connected(..) | NetEvent::Accepted(..) => {}
    });
    Ok(())
}
