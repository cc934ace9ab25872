//! [`Relay`]: passes each message on to the next server before it is acknowledged (RFC 5321, section 3.6).
//!
//! ```text
//! session ── write ──► Arriving: a spool ── finish ──► Job ──► pool.rs ──► client.rs ──► the next server
//!    ▲                                                                        │
//!    └──────────────────────────── Ticket::answer ◄───────────────────────────┘
//! ```
//!
//! Nothing is kept: what the next server has not taken is refused, and stays with who sent it. A message for several
//! recipients is taken for all or for none, as SMTP has one reply for it; LMTP has one for each, and who is accepted gets
//! it.
//!
//! - `line.rs` is a command that cannot be two, `answer.rs` what comes back, `features.rs` what the server can;
//! - `header.rs` counts the servers that a message has passed, `open.rs` says who may use a relay at all;
//! - `tls.rs` is TLS towards the next server.

mod answer;
mod client;
mod features;
mod header;
mod job;
mod line;
mod open;
mod options;
mod pool;
mod tls;

use std::rc::Rc;
use std::sync::Arc;

use asynchat::{Conversation, DotStuffer};
use asyncore::Result;

pub use answer::{Answer, AnswerReader, NoAnswer};
pub use header::HeaderScan;
pub use line::{BadLine, LINE_LIMIT, Line};
pub use open::{is_open_relay, reaches_others};
pub use options::{BadServer, Login, NextServer, RelayOptions, RelayTls};

use crate::app::App;
use crate::delivery::{Delivery, Incoming, Outcome, Ticket};
use crate::envelope::Envelope;
use crate::reply::Reply;
use crate::spool::Spool;
use job::{Job, Needs};
use pool::Pool;

/// Passes messages on to the next server.
#[derive(Debug)]
pub struct Relay {
    pool: Rc<Pool>,
}

impl Relay {
    /// A relay to one server. Nothing is connected before there is a message.
    ///
    /// # Errors
    ///
    /// If a password would go over the network in clear text, or there are no certificates to trust where one is to be
    /// verified, or none could bear the server's name.
    pub fn new(options: RelayOptions) -> Result<Self> {
        let tls = options.tls_client()?;
        Ok(Self { pool: Rc::new(Pool::new(options, tls)) })
    }
}

impl Delivery for Relay {
    fn begin(
        &self,
        cx: &mut Conversation<'_, App>,
        envelope: &Arc<Envelope>,
    ) -> Result<Box<dyn Incoming>, Reply> {
        let mut arriving = Box::new(Arriving {
            pool: Rc::clone(&self.pool),
            envelope: Arc::clone(envelope),
            stuffer: DotStuffer::new(),
            header: HeaderScan::default(),
            spool: Spool::new(),
            size: 0,
            is_eight_bit: false,
            wire: Vec::new(),
        });
        let received = envelope.received(&cx.app.settings.hostname);
        arriving.keep(received.as_bytes())?;
        Ok(arriving)
    }

    fn name(&self) -> &'static str {
        "relay"
    }
}

/// A message that arrives. It is spooled as it will be sent, dots doubled: what no stuffing can make safe, a bare CR or LF, is
/// found before the next server hears of it.
struct Arriving {
    pool: Rc<Pool>,
    envelope: Arc<Envelope>,
    stuffer: DotStuffer,
    header: HeaderScan,
    spool: Spool,
    /// Bytes before the stuffing.
    size: u64,
    is_eight_bit: bool,
    /// The piece at hand, stuffed.
    wire: Vec<u8>,
}

impl Arriving {
    fn keep(&mut self, piece: &[u8]) -> Result<(), Reply> {
        self.size += piece.len() as u64;
        self.is_eight_bit |= !piece.is_ascii();
        self.stuffer.stuff(piece, &mut self.wire).map_err(|error| Reply::new(554, "5.6.0", error))?;
        self.spool()
    }

    /// Spools what is stuffed.
    fn spool(&mut self) -> Result<(), Reply> {
        let written = self.spool.write(&self.wire);
        self.wire.clear();
        written.map_err(|error| {
            tracing::warn!(id = self.envelope.id, %error, "cannot spool a message");
            NO_ROOM
        })
    }
}

impl Incoming for Arriving {
    fn write(&mut self, _cx: &mut Conversation<'_, App>, piece: &[u8]) -> Result<(), Reply> {
        self.header.scan(piece);
        if self.header.received() > HOPS {
            return Err(LOOP);
        }
        self.keep(piece)
    }

    fn finish(mut self: Box<Self>, cx: &mut Conversation<'_, App>, ticket: Ticket) -> Option<Outcome> {
        let stuffer = std::mem::take(&mut self.stuffer);
        let ended = stuffer.finish(&mut self.wire).map_err(|error| Reply::new(554, "5.6.0", error));
        if let Err(reply) = ended.and_then(|()| self.spool()) {
            return Some(Outcome::All(reply));
        }
        let Self { pool, envelope, header, spool, size, is_eight_bit, .. } = *self;
        let international =
            envelope.from.iter().chain(&envelope.to).any(|mailbox| !mailbox.as_str().is_ascii());
        let needs = Needs {
            eight_bit: is_eight_bit,
            utf8: international || envelope.smtputf8 && header.is_international(),
        };
        let job = Job::new(ticket, envelope, spool.finish(), size, needs, cx.app.settings.lmtp);
        pool.submit(cx.map, job);
        None
    }
}

const NO_ROOM: Reply = Reply::fixed("452 4.3.1 No room to keep the message while it is passed on\r\n");
const LOOP: Reply = Reply::fixed("554 5.4.6 Too many hops: the message goes in a circle\r\n");

/// Most servers that a message may have passed: 100, the least that RFC 5321 (section 6.3) allows.
pub const HOPS: u32 = 100;
