//! Hazards that stay hazards: what the library does not do for a program, shown so that the documents stay true.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use asyncore::{Channel, Context, Map, Received, Result};
use integration_tests::{Log, Peer, Recorder, map, settle, turn_until};

/// Is told of input and leaves it where it is.
struct Idler;

impl Channel<usize> for Idler {
    fn handle_read(&mut self, cx: &mut Context<'_, usize>) -> Result {
        *cx.app += 1;
        Ok(())
    }
}

#[test]
fn a_handle_read_that_does_not_read_is_called_in_every_turn() {
    let mut map = map();
    let (mut peer, here) = Peer::pair();
    map.add(here, Idler).unwrap();
    peer.send(b"x");
    let mut calls = 0;
    turn_until(&mut map, &mut calls, "the first call", |_, calls| *calls == 1);
    map.run_for(&mut calls, 10).unwrap();
    assert_eq!(calls, 11);
}

#[test]
fn a_constant_writable_is_called_in_every_turn() {
    let mut map: Map = map();
    let log = Log::new();
    let (_peer, here) = Peer::pair();
    let mut recorder = Recorder::new(&log);
    recorder.writable = true;
    map.add(here, recorder).unwrap();
    turn_until(&mut map, &mut (), "the first call", |_, ()| log.count("write") == 1);
    map.run_for(&mut (), 10).unwrap();
    assert_eq!(log.count("write"), 11);
}

/// Reads only while a switch is on that others hold too.
struct Switched {
    is_on: Rc<Cell<bool>>,
    log: Log,
}

impl Channel for Switched {
    fn readable(&self) -> bool {
        self.is_on.get()
    }

    fn handle_read(&mut self, cx: &mut Context<'_>) -> Result {
        if let Received::Data(data) = cx.map.recv(cx.id, 100)? {
            self.log.add(data.escape_ascii());
        }
        Ok(())
    }
}

#[test]
fn a_predicate_that_changes_on_its_own_is_heard_after_a_touch() {
    let mut map: Map = map();
    let log = Log::new();
    let is_on = Rc::new(Cell::new(false));
    let (mut peer, here) = Peer::pair();
    let id = map.add(here, Switched { is_on: Rc::clone(&is_on), log: log.clone() }).unwrap();
    peer.send(b"x");
    settle(&mut map, &mut ());
    is_on.set(true);
    settle(&mut map, &mut ());
    assert!(log.lines().is_empty(), "nobody has asked again");
    map.touch(id);
    turn_until(&mut map, &mut (), "the read", |_, ()| log.has("x"));
}

#[test]
fn dropping_a_map_closes_every_socket_and_calls_nobody() {
    let mut map: Map = map();
    let log = Log::new();
    let (mut peer, here) = Peer::pair();
    let id = map.add(here, Recorder::new(&log)).unwrap();
    map.poll(&mut (), Some(Duration::ZERO)).unwrap();
    assert!(map.push(id, b"never sent").is_queued());
    drop(map);
    assert_eq!(peer.read_rest(), b"");
    assert_eq!(log.lines(), ["connect"]);
}

#[test]
fn bytes_from_another_thread_end_the_wait() {
    let mut map: Map = map();
    let log = Log::new();
    let (mut peer, here) = Peer::pair();
    map.add(here, Recorder::new(&log)).unwrap();
    map.poll(&mut (), Some(Duration::ZERO)).unwrap();
    let thread = std::thread::spawn(move || peer.send(b"done"));
    // Nothing else could end this wait.
    map.run(&mut ()).unwrap();
    thread.join().unwrap();
    assert_eq!(log.lines(), ["connect", "read done", "eof", "close Eof"]);
}

/// Answers input with two pushes.
struct Answerer;

impl Channel for Answerer {
    fn handle_read(&mut self, cx: &mut Context<'_>) -> Result {
        if let Received::Data(_) = cx.map.recv(cx.id, 100)? {
            let before = cx.map.get(cx.id).map(|channel| channel.bytes_out());
            cx.map.push(cx.id, &[b'x'; 100]);
            cx.map.push(cx.id, b"y");
            let after = cx.map.get(cx.id).map(|channel| channel.bytes_out());
            assert_eq!(before, after, "a push writes nothing by itself");
        }
        Ok(())
    }
}

#[test]
fn what_a_callback_pushes_leaves_in_the_same_turn() {
    let mut map: Map = map();
    let (mut peer, here) = Peer::pair();
    let id = map.add(here, Answerer).unwrap();
    map.poll(&mut (), Some(Duration::ZERO)).unwrap();
    peer.send(b"go");
    map.poll(&mut (), None).unwrap();
    assert_eq!(map.get(id).unwrap().bytes_out(), 101);
    assert_eq!(peer.read_bytes(101).last(), Some(&b'y'));
}
