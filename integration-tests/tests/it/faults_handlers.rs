//! Panics, and producers that fail, wherever the program's own code is called. Row 26 of the list of faults.

use std::panic::resume_unwind;
use std::time::Duration;

use asyncore::{Channel, CloseReason, Context, Error, Map, Producer, Received, Result};
use bytes::Bytes;
use integration_tests::{Log, Net, Peer, Recorder, map, run_to_the_end, settle, turn_until};

use crate::faults::{assert_quiet, each_wait};

/// A panic without the hook's output: there are thousands of them here.
fn throw() -> ! {
    resume_unwind(Box::new("thrown"))
}

/// A payload that panics when it is dropped.
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            throw();
        }
    }
}

/// Where something panics.
type Places = &'static [&'static str];

/// Panics if it is to do so here.
fn pass(at: Places, place: &str) {
    if at.contains(&place) {
        if at.contains(&"payload") {
            resume_unwind(Box::new(Bomb));
        }
        throw();
    }
}

/// A channel that panics in the places that it is told.
struct Thrower {
    at: Places,
    log: Log,
}

impl Thrower {
    fn pass(&self, place: &str) {
        pass(self.at, place);
    }
}

impl Channel for Thrower {
    fn readable(&self) -> bool {
        self.pass("readable");
        true
    }

    fn writable(&self) -> bool {
        self.pass("writable");
        // Asked for only when it matters, as it should be.
        self.at.contains(&"write")
    }

    fn handle_connect(&mut self, cx: &mut Context<'_>) -> Result {
        self.pass("connect");
        if self.at.contains(&"drained") {
            cx.map.push(cx.id, vec![b'x'; 100_000]);
        }
        if self.at.contains(&"more") || self.at.contains(&"producer") {
            cx.map.push_with_producer(cx.id, ThrowingProducer(self.at));
        }
        Ok(())
    }

    fn handle_read(&mut self, cx: &mut Context<'_>) -> Result {
        while let Received::Data(_) = cx.map.recv(cx.id, 4096)? {}
        self.pass("read");
        if self.at.contains(&"error") {
            return Err("an error".into());
        }
        Ok(())
    }

    fn handle_write(&mut self, _cx: &mut Context<'_>) -> Result {
        self.pass("write");
        Ok(())
    }

    fn handle_expt(&mut self, _cx: &mut Context<'_>) -> Result {
        self.pass("expt");
        Ok(())
    }

    fn handle_eof(&mut self, cx: &mut Context<'_>) -> Result {
        self.pass("eof");
        cx.map.close_when_done(cx.id);
        Ok(())
    }

    fn handle_drained(&mut self, _cx: &mut Context<'_>) -> Result {
        self.pass("drained");
        Ok(())
    }

    fn handle_shutdown(&mut self, cx: &mut Context<'_>) -> Result {
        self.pass("shutdown");
        cx.map.close_when_done(cx.id);
        Ok(())
    }

    fn handle_error(&mut self, cx: &mut Context<'_>, _error: &Error) {
        self.log.add("error");
        self.pass("error");
        // Cannot keep it open after a panic.
        if !self.at.contains(&"keeps open") {
            cx.map.close(cx.id);
        }
    }

    fn handle_close(&mut self, _cx: &mut Context<'_>, reason: CloseReason) {
        self.log.add(format_args!("close {reason:?}"));
        self.pass("close");
    }
}

impl Drop for Thrower {
    fn drop(&mut self) {
        self.pass("drop");
    }
}

struct ThrowingProducer(Places);

impl Producer for ThrowingProducer {
    fn more(&mut self, _most: usize) -> Result<Option<Bytes>> {
        pass(self.0, "more");
        Ok(Some(Bytes::from_static(&[b'p'; 1000])))
    }
}

impl Drop for ThrowingProducer {
    fn drop(&mut self) {
        pass(self.0, "producer");
    }
}

/// Drives one channel through everything that may happen to it, beside a bystander; the lines that it logged.
fn drive(map: &mut Map, at: Places) -> Vec<String> {
    let log = Log::new();
    let (mut peer, here) = Peer::tcp_pair();
    let (mut other, bystander) = Peer::pair();
    let mut echo = Recorder::named("bystander", &log);
    echo.echoes = true;
    let bystander = map.add(bystander, echo).unwrap();
    map.add(here, Thrower { at, log: log.clone() }).unwrap();
    if at.contains(&"expt") {
        let Peer::Tcp(socket) = &peer else { unreachable!("a TCP pair") };
        rustix::net::send(socket, b"!", rustix::net::SendFlags::OOB).unwrap();
    } else if at.contains(&"shutdown") {
        map.shutdown(integration_tests::DEADLINE);
    } else if at.contains(&"drained") {
        // Nothing is sent: a reset would take its place.
    } else if at.contains(&"eof") {
        peer.shutdown_write();
    } else {
        peer.send(b"something");
    }
    turn_until(map, &mut (), "the close of what panicked", |_, ()| {
        log.lines().iter().any(|line| line.starts_with("close"))
    });
    if !map.is_shutting_down() {
        other.send(b"untouched");
        turn_until(map, &mut (), "the bystander", |_, ()| log.has("bystander read untouched"));
        assert!(map.is_open(bystander));
        settle(map, &mut ());
        assert_eq!(other.read_bytes(9), b"untouched");
        map.close(bystander);
    }
    drop(other);
    run_to_the_end(map, &mut ());
    assert_eq!(map.queued(), 0, "{at:?}");
    log.lines().into_iter().filter(|line| !line.starts_with("bystander")).collect()
}

/// Row 26. A panic in a callback, a predicate or a producer closes its channel alone, which hears of it: `handle_error`,
/// then `handle_close` with the reason, once each.
#[test]
fn row_26_a_panic_closes_its_channel_alone() {
    let told: &[&str] = &["error", "close HandlerPanic"];
    let cases: [(Places, &[&str]); 21] = [
        (&["connect"], told),
        (&["read"], told),
        (&["write"], told),
        (&["expt"], told),
        (&["eof"], told),
        (&["drained"], told),
        (&["shutdown"], told),
        (&["more"], told),
        (&["read", "keeps open"], told),
        (&["more", "keeps open"], told),
        // A predicate is asked while the map is borrowed: nothing else of the channel runs but its last callback.
        (&["readable"], &["close HandlerPanic"]),
        (&["writable"], &["close HandlerPanic"]),
        // Twice, three times, and once more in the drop.
        (&["error"], told),
        (&["read", "error"], told),
        (&["read", "error", "close"], told),
        (&["read", "error", "close", "drop"], told),
        (&["more", "error", "close", "drop", "producer"], told),
        // What was thrown panics in turn when it is dropped.
        (&["read", "payload"], told),
        (&["readable", "payload"], &["close HandlerPanic"]),
        (&["more", "producer", "payload"], told),
        (&["read", "error", "close", "drop", "payload"], told),
    ];
    for (at, expected) in cases {
        assert_eq!(drive(&mut map(), at), expected, "{at:?}");
    }
}

/// Row 26. A panic in the last callback or in a drop changes nothing: the channel was closed for its own reason.
#[test]
fn row_26_a_panic_after_the_end_is_contained() {
    let cases: [Places; 4] =
        [&["eof close", "close"], &["drop"], &["producer", "drop"], &["close", "drop", "payload"]];
    for at in cases {
        let mut map = map();
        let log = Log::new();
        let (peer, here) = Peer::pair();
        let id = map.add(here, Thrower { at, log: log.clone() }).unwrap();
        settle(&mut map, &mut ());
        map.close(id);
        run_to_the_end(&mut map, &mut ());
        assert_eq!(log.lines(), ["close Local"], "{at:?}");
        assert_eq!(map.queued(), 0);
        drop(peer);
    }
}

/// Row 26. A thousand panics in a row cost a thousand channels and nothing else: no descriptor, no byte, no slot.
#[test]
fn row_26_a_thousand_panics_in_a_row_leave_nothing_behind() {
    let mut map = map();
    for round in 0..1000 {
        let log = Log::new();
        let (mut peer, here) = Peer::pair();
        let at: Places = if round % 2 == 0 {
            &["read"]
        } else {
            &["more", "error", "close", "drop", "producer", "payload"]
        };
        let id = map.add(here, Thrower { at, log: log.clone() }).unwrap();
        peer.send(b"x");
        map.run(&mut ()).unwrap();
        assert_eq!(log.lines(), ["error", "close HandlerPanic"]);
        // The same slot every time.
        assert!(id.to_string().starts_with("0."), "{id}");
        assert_eq!(peer.read_rest(), b"");
    }
    assert_eq!((map.counters().closed, map.queued(), map.len()), (1000, 0, 0));
}

/// Row 26. A panic where a listener makes its channel costs that connection; the next is accepted.
#[test]
fn row_26_a_panic_while_a_connection_is_taken_in_leaves_the_listener_open() {
    let mut map: Map = map();
    let log = Log::new();
    let for_channels = log.clone();
    let (listener, address, _folder) = Net::V4.listener();
    let mut taken = 0;
    let id = map
        .listen_on(listener, move |_| {
            taken += 1;
            if taken < 3 {
                throw();
            }
            Recorder::new(&for_channels)
        })
        .unwrap();
    let mut peers: Vec<Peer> = (0..3).map(|_| Peer::connect(&address)).collect();
    turn_until(&mut map, &mut (), "the third", |_, ()| log.has("connect"));
    for peer in &mut peers[..2] {
        assert_eq!(peer.read_rest(), b"");
    }
    assert!(map.is_open(id));
    assert_eq!(map.len(), 2);
}

/// A producer that fails.
struct Failing;

impl Producer for Failing {
    fn more(&mut self, _most: usize) -> Result<Option<Bytes>> {
        Err("no more".into())
    }
}

/// A producer that fails is asked once, also when `handle_error` keeps the channel open; what was queued with it is dropped.
#[test]
fn a_failing_producer_is_asked_once() {
    each_wait(|mut map| {
        let log = Log::new();
        let (mut peer, here) = Peer::pair();
        let mut recorder = Recorder::new(&log);
        recorder.closes_at_error = false;
        let id = map.add(here, recorder).unwrap();
        map.push(id, b"before ");
        map.push_with_producer(id, Failing);
        map.push(id, b"after");
        settle(&mut map, &mut ());
        assert_quiet(&mut map, &mut ());
        assert_eq!(log.lines(), ["connect", "error no more"]);
        assert_eq!(map.queued(), 0);
        map.push(id, b"later");
        settle(&mut map, &mut ());
        assert_eq!(peer.read_bytes(5), b"later");
    });
}

/// A producer that panics when it is dropped, with output that is discarded: nothing is left queued, nothing spins.
#[test]
fn a_producer_that_panics_in_its_drop_is_discarded_all_the_same() {
    each_wait(|mut map| {
        let log = Log::new();
        let (mut peer, here) = Peer::pair();
        let id = map.add(here, Recorder::new(&log)).unwrap();
        map.push(id, b"discarded");
        // Two: the second must not panic while the first is being cleaned up.
        map.push_with_producer(id, ThrowingProducer(&["producer"]));
        map.push_with_producer(id, ThrowingProducer(&["producer"]));
        assert_eq!(map.discard_output(id), 9);
        assert_eq!(map.queued(), 0);
        map.push(id, b"sent");
        settle(&mut map, &mut ());
        assert_quiet(&mut map, &mut ());
        assert_eq!(peer.read_bytes(4), b"sent");
    });
}

/// A handler, and the owner of bytes, that panics as it is dropped.
struct Fragile(Bomb);

impl Channel for Fragile {}

impl AsRef<[u8]> for Fragile {
    fn as_ref(&self) -> &[u8] {
        &[b'x'; 20_000]
    }
}

#[test]
fn row_26_sent_bytes_whose_owner_panics_harm_nobody() {
    each_wait(|mut map| {
        let log = Log::new();
        let (mut peer, here) = Peer::pair();
        let id = map.add(here, Recorder::new(&log)).unwrap();
        map.push(id, Bytes::from_owner(Fragile(Bomb)));
        map.push(id, b"behind");
        settle(&mut map, &mut ());
        assert_quiet(&mut map, &mut ());
        assert_eq!(peer.read_bytes(20_006)[20_000..], *b"behind");
        assert_eq!((map.queued(), map.is_open(id)), (0, true));
    });
}

/// Were one of them not contained, the next would abort the process.
#[test]
fn row_26_a_map_is_dropped_whole_whatever_panics_in_that() {
    each_wait(|mut map| {
        let mut peers = Vec::new();
        for _ in 0..2 {
            let (peer, here) = Peer::pair();
            let id = map.add(here, Fragile(Bomb)).unwrap();
            map.push_with_producer(id, ThrowingProducer(&["producer"]));
            map.push(id, Bytes::from_owner(Fragile(Bomb)));
            peers.push(peer);
            let bomb = Bomb;
            map.after(Duration::from_secs(3600), move |_, ()| drop(bomb));
        }
        drop(map);
        for mut peer in peers {
            assert_eq!(peer.read_rest(), b"", "its socket is closed");
        }
    });
}
