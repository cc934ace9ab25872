//! A server for tests that need a process of their own: a line echo over chat channels, a raw echo, and its counters.
//!
//! It prints `lines on ADDR` and `raw on ADDR`, and ends when its standard input does. The line `stats` is answered with
//! one line of `name=value`, the line `long N` with a line of N bytes, the line `print` with what comes of printing, the
//! line `post` by another thread, in parts. Arguments: `connections=N` lifts the map's maximum, `skip` passes over-long
//! lines over with the answer `too long`, `sndbuf=N` sets the socket's send buffer.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{Read, Write};
use std::time::{Duration, Instant};

use asynchat::{AsyncChat, Chat, Conversation, OnTooLong, Terminator};
use asyncore::{Channel, CloseReason, Context, Dispatcher, Map, PostError, Received, Result};
use integration_tests::{descriptors, peak, resident};

/// How often a channel closed for each reason, and since when.
struct Tally {
    reasons: BTreeMap<String, u32>,
    started: Instant,
    send_buffer: Option<usize>,
}

impl Tally {
    fn count(&mut self, reason: CloseReason) {
        *self.reasons.entry(format!("{reason:?}")).or_default() += 1;
    }
}

struct Lines;

impl Chat<Tally> for Lines {
    fn handle_connect(&mut self, cx: &mut Conversation<'_, Tally>) -> Result {
        if let (Some(bytes), Some(dispatcher)) = (cx.app.send_buffer, cx.map.get(cx.id)) {
            dispatcher.set_send_buffer_size(bytes)?;
        }
        Ok(())
    }

    fn found_terminator(&mut self, cx: &mut Conversation<'_, Tally>, line: &[u8]) -> Result {
        if line == b"stats" {
            let stats = stats(cx.map, cx.app);
            cx.push(&stats);
        } else if let Some(length) = line.strip_prefix(b"long ") {
            let length = std::str::from_utf8(length)?.parse()?;
            cx.push(vec![b'x'; length]);
        } else if line == b"print" {
            let outcome = writeln!(std::io::stdout(), "printed").map_err(|error| error.to_string());
            cx.push(format!("print: {}", outcome.err().unwrap_or_else(|| "done".to_owned())));
        } else if line == b"post" {
            let (remote, id) = (cx.map.remote(), cx.id);
            std::thread::spawn(move || {
                for part in ["po", "st", "ed\r\n"] {
                    // By then the loop waits again, as a rule, also after a wait that failed: each part has to wake it.
                    std::thread::sleep(Duration::from_millis(20));
                    remote.push(id, part.as_bytes())?;
                }
                Ok::<_, PostError>(())
            });
            return Ok(());
        } else {
            cx.push(line);
        }
        cx.push(b"\r\n");
        Ok(())
    }

    fn handle_too_long(&mut self, cx: &mut Conversation<'_, Tally>, _start: &[u8]) -> Result {
        cx.push(b"too long\r\n");
        Ok(())
    }

    fn handle_close(&mut self, cx: &mut Conversation<'_, Tally>, reason: CloseReason) {
        cx.app.count(reason);
    }
}

struct Raw;

impl Channel<Tally> for Raw {
    fn handle_read(&mut self, cx: &mut Context<'_, Tally>) -> Result {
        while let Received::Data(data) = cx.map.recv(cx.id, 65536)? {
            cx.map.push(cx.id, &data);
        }
        Ok(())
    }

    fn handle_close(&mut self, cx: &mut Context<'_, Tally>, reason: CloseReason) {
        cx.app.count(reason);
    }
}

fn stats(map: &Map<Tally>, tally: &Tally) -> String {
    let counters = map.counters();
    let mut text = format!(
        "millis={} turns={} events={} accepted={} accept_errors={} refused={} closed={} channels={} queued={}",
        tally.started.elapsed().as_millis(),
        counters.turns,
        counters.events,
        counters.accepted,
        counters.accept_errors,
        counters.refused,
        counters.closed,
        map.len(),
        map.queued(),
    );
    // Left out when no descriptor is free to look with.
    for (name, value) in [("descriptors", descriptors()), ("resident", resident()), ("peak", peak())] {
        if let Some(value) = value {
            let _ = write!(text, " {name}={value}");
        }
    }
    for (reason, count) in &tally.reasons {
        let _ = write!(text, " {reason}={count}");
    }
    text
}

fn main() -> Result {
    // Whoever started this holds the other end: no test leaves a server behind, however it ends.
    std::thread::spawn(|| {
        let mut input = std::io::stdin().lock();
        while matches!(input.read(&mut [0; 64]), Ok(1..)) {}
        std::process::exit(0);
    });

    let mut options = integration_tests::options();
    let mut tally = Tally { reasons: BTreeMap::new(), started: Instant::now(), send_buffer: None };
    let mut on_too_long = OnTooLong::Close;
    for argument in std::env::args().skip(1) {
        match argument.split_once('=') {
            Some(("connections", count)) => options.connections = count.parse()?,
            Some(("sndbuf", bytes)) => tally.send_buffer = Some(bytes.parse()?),
            None if argument == "skip" => on_too_long = OnTooLong::Skip,
            _ => return Err(format!("unknown argument {argument:?}").into()),
        }
    }
    let mut map = Map::with_options(options)?;
    let lines = map.listen("127.0.0.1:0", move |_peer| {
        AsyncChat::new(Lines).terminator(Terminator::line()).on_too_long(on_too_long)
    })?;
    let raw = map.listen("127.0.0.1:0", |_peer| Raw)?;
    for (name, id) in [("lines", lines[0]), ("raw", raw[0])] {
        let address = map.get(id).map(Dispatcher::local_addr).transpose()?.flatten().ok_or("no address")?;
        println!("{name} on {address}");
    }
    map.run(&mut tally)
}
