//! A simulated map, for tests: sockets in memory, a clock that runs ahead when nothing happens, and faults by a seed.
//!
//! Handlers run on it unchanged. [`Simulation`] holds a [`Map`](crate::Map) and the application's state; a [`Peer`] is
//! the other end of a connection, played by the test. Nothing here opens a socket or waits for real time, so a test of an
//! hour's timeout takes no longer than any other, and one seed is one run.
//!
//! ```
//! use asyncore::testing::Simulation;
//! use asyncore::{Channel, Context, Received, Result};
//!
//! struct Echo;
//!
//! impl Channel for Echo {
//!     fn handle_read(&mut self, cx: &mut Context<'_>) -> Result {
//!         if let Received::Data(data) = cx.map.recv(cx.id, 4096)? {
//!             cx.map.push(cx.id, &data);
//!         }
//!         Ok(())
//!     }
//! }
//!
//! let mut sim = Simulation::new(())?;
//! sim.map.listen("192.0.2.1:7", |_peer| Echo)?;
//! let mut peer = sim.connect("192.0.2.1:7".parse::<asyncore::Address>()?);
//! peer.send("hello\r\n");
//! assert_eq!(sim.expect_line(&mut peer)?, "hello");
//! peer.shutdown_write();
//! sim.expect_eof(&mut peer)?;
//! # Ok::<(), asyncore::Error>(())
//! ```
//!
//! What is simulated: stream sockets and listeners of every family, with their buffers, half-closes, resets, urgent
//! bytes and errors; the poller; the clock; descriptors and their limit; the resolver. What is not: datagrams, and sockets of
//! the system, which a simulated map refuses.

mod clock;
mod end;
mod faults;
mod network;
mod peer;
mod simulation;
mod traffic;
mod wire;

pub use clock::VirtualClock;
pub(crate) use end::Descriptor;
pub use faults::Faults;
pub(crate) use network::Network;
pub use peer::{Peer, PeerListener};
pub use simulation::{EXPECT_TIME, Simulation, each_seed};
