//! [`Debug`](struct@Debug): prints each message to standard output, as `smtpd.DebuggingServer` of Python does, and keeps none.

use std::fmt::{self, Write as _};
use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Read, Write};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::thread;

use asynchat::Conversation;
use asyncore::Remote;

use crate::app::App;
use crate::commit::refusal;
use crate::delivery::{Delivery, Incoming, Outcome, Ticket};
use crate::envelope::Envelope;
use crate::queue::{Queue, tell};
use crate::reply::Reply;
use crate::spool::{Spool, Spooled};

/// Prints messages. A thread does it: standard output may be a pipe that nobody reads, or a terminal that is held.
///
/// A message is acknowledged when it has been printed.
pub struct Debug {
    queue: Arc<Queue<Job>>,
}

struct Job {
    envelope: Arc<Envelope>,
    text: Spooled,
    ticket: Ticket,
}

impl Debug {
    /// Starts the thread.
    ///
    /// # Errors
    ///
    /// If there is no standard output, or no thread.
    pub fn new(remote: Remote<App>) -> io::Result<Self> {
        // Not by `io::stdout`, whose lock the loop may want while this one waits.
        let stdout = File::from(io::stdout().as_fd().try_clone_to_owned()?);
        let queue = Arc::new(Queue::new());
        let jobs = Arc::clone(&queue);
        thread::Builder::new().name("smtpd-debug".to_owned()).spawn(move || {
            while let Some(job) = jobs.pop() {
                serve(&job, &stdout, &remote);
            }
        })?;
        Ok(Self { queue })
    }
}

/// The thread is not waited for: it may wait for whoever reads standard output.
impl Drop for Debug {
    fn drop(&mut self) {
        self.queue.close();
    }
}

impl fmt::Debug for Debug {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Debug").finish_non_exhaustive()
    }
}

impl Delivery for Debug {
    fn begin(
        &self,
        _cx: &mut Conversation<'_, App>,
        envelope: &Arc<Envelope>,
    ) -> Result<Box<dyn Incoming>, Reply> {
        let (envelope, queue) = (Arc::clone(envelope), Arc::clone(&self.queue));
        Ok(Box::new(Arriving { envelope, spool: Spool::new(), queue }))
    }

    fn name(&self) -> &'static str {
        "debug"
    }
}

struct Arriving {
    envelope: Arc<Envelope>,
    spool: Spool,
    queue: Arc<Queue<Job>>,
}

impl Incoming for Arriving {
    fn write(&mut self, _cx: &mut Conversation<'_, App>, piece: &[u8]) -> Result<(), Reply> {
        self.spool.write(piece).map_err(|error| refusal(&error))
    }

    fn finish(self: Box<Self>, _cx: &mut Conversation<'_, App>, ticket: Ticket) -> Option<Outcome> {
        let Self { envelope, spool, queue } = *self;
        queue.push(Job { envelope, text: spool.finish(), ticket });
        None
    }
}

fn serve(job: &Job, stdout: &File, remote: &Remote<App>) {
    let peer = job.envelope.client.address.map_or_else(|| "local".to_owned(), |address| address.to_string());
    let reply = match print_out(job.text.reader(), &peer, stdout) {
        Ok(()) => Reply::fixed("250 2.0.0 Printed\r\n"),
        Err(error) => {
            tracing::warn!(id = job.envelope.id, %error, "a message could not be printed");
            refusal(&error)
        }
    };
    let ticket = job.ticket;
    tell(remote, || {
        let outcome = Outcome::All(reply.clone());
        move |map, app| ticket.answer(map, app, outcome)
    });
}

/// Prints a message. What could not be printed of one that is refused is not printed in front of the next.
fn print_out(text: impl Read, peer: &str, out: impl Write) -> io::Result<()> {
    let mut out = BufWriter::new(out);
    let printed = print(text, peer, &mut out);
    drop(out.into_parts());
    printed
}

/// Prints a message line by line, with the client's address as the last line of its header.
fn print(text: impl Read, peer: &str, out: &mut impl Write) -> io::Result<()> {
    writeln!(out, "---------- MESSAGE FOLLOWS ----------")?;
    let mut text = BufReader::new(text);
    let (mut line, mut is_header, mut is_whole) = (Vec::new(), true, true);
    loop {
        line.clear();
        let was_whole = is_whole;
        if text.by_ref().take(PIECE).read_until(b'\n', &mut line)? == 0 {
            break;
        }
        is_whole = line.ends_with(b"\n");
        if is_whole {
            line.pop();
            line.pop_if(|last| *last == b'\r');
        }
        if is_header && was_whole && is_whole && line.is_empty() {
            writeln!(out, "X-Peer: {peer}")?;
            is_header = false;
        }
        write!(out, "{}{}", Safe(&line), if is_whole { "\n" } else { "" })?;
    }
    if !is_whole {
        writeln!(out)?;
    }
    if is_header {
        writeln!(out, "X-Peer: {peer}")?;
    }
    writeln!(out, "------------ END MESSAGE ------------")?;
    out.flush()
}

/// Text that a terminal can be given: what is no printable text, or would turn the rest of the line round, is escaped.
struct Safe<'a>(&'a [u8]);

impl fmt::Display for Safe<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for chunk in self.0.utf8_chunks() {
            for char in chunk.valid().chars() {
                match char {
                    '\t' => f.write_char(char)?,
                    '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {
                        write!(f, "{}", char.escape_unicode())?;
                    }
                    _ if char.is_control() => write!(f, "\\x{:02x}", u32::from(char))?,
                    _ => f.write_char(char)?,
                }
            }
            for byte in chunk.invalid() {
                write!(f, "\\x{byte:02x}")?;
            }
        }
        Ok(())
    }
}

/// Most bytes of a line that are printed at a time: 64 KiB; a longer line, which options allow, comes in several pieces.
const PIECE: u64 = 64 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    /// A disk that is full for so many writes.
    struct Disk<'a>(&'a mut Vec<u8>, usize);

    impl Write for Disk<'_> {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            match self.1.checked_sub(1) {
                Some(left) => self.1 = left,
                None => return self.0.write(bytes),
            }
            Err(io::ErrorKind::StorageFull.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn what_is_refused_is_not_printed_later() {
        let mut printed = Vec::new();
        print_out(&b"one\r\n"[..], "", Disk(&mut printed, 1)).unwrap_err();
        print_out(&b"two\r\n"[..], "", Disk(&mut printed, 0)).unwrap();
        let printed = String::from_utf8(printed).unwrap();
        assert!(printed.contains("two") && !printed.contains("one"), "{printed}");
    }

    fn printed(text: &[u8]) -> String {
        let mut out = Vec::new();
        print(text, "192.0.2.7", &mut out).unwrap();
        let out = String::from_utf8(out).unwrap();
        let begin = "---------- MESSAGE FOLLOWS ----------\n";
        let end = "------------ END MESSAGE ------------\n";
        out.strip_prefix(begin).unwrap().strip_suffix(end).unwrap().to_owned()
    }

    #[test]
    fn the_peer_stands_between_header_and_body() {
        assert_eq!(
            printed(b"Subject: a\r\nTo: b\r\n\r\none\r\n\r\n.two\r\n"),
            "Subject: a\nTo: b\nX-Peer: 192.0.2.7\n\none\n\n.two\n"
        );
    }

    #[test]
    fn a_message_without_a_body_or_without_anything_is_printed() {
        assert_eq!(printed(b""), "X-Peer: 192.0.2.7\n");
        assert_eq!(printed(b"Subject: a\r\n"), "Subject: a\nX-Peer: 192.0.2.7\n");
        assert_eq!(printed(b"\r\nbody, no end"), "X-Peer: 192.0.2.7\n\nbody, no end\n");
    }

    #[test]
    fn a_terminal_is_given_no_commands() {
        assert_eq!(
            printed(b"\r\n\x1b]0;x\x07 \x00\x7f\t\xc2\x9b \xff \xe2\x80\xae \r. \xc3\xa9\r\n"),
            "X-Peer: 192.0.2.7\n\n\\x1b]0;x\\x07 \\x00\\x7f\t\\x9b \\xff \\u{202e} \\x0d. é\n"
        );
    }

    #[test]
    fn a_line_of_any_length_is_one_line() {
        let long = "x".repeat(3 * usize::try_from(PIECE).unwrap());
        for end in ["", "\r\n"] {
            assert_eq!(
                printed(format!("\r\n{long}{end}").as_bytes()),
                format!("X-Peer: 192.0.2.7\n\n{long}\n")
            );
        }
        let exact = "y".repeat(usize::try_from(PIECE).unwrap());
        assert_eq!(
            printed(format!("{exact}\r\n\r\nz\r\n").as_bytes()),
            format!("{exact}\nX-Peer: 192.0.2.7\n\nz\n")
        );
    }
}
