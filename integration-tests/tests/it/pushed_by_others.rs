//! What a channel is owed when others push to it: no turn in vain, its own writes, and clocks that are right.

use std::cell::{Cell, RefCell};
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::time::{Duration, Instant};

use asyncore::{Channel, ChannelId, Context, Map, Producer, Rate, Received, Result, Timeout};
use bytes::Bytes;

/// Writes by itself whenever it may, and counts that.
struct Writer(Rc<Cell<u32>>);

impl Channel for Writer {
    fn readable(&self) -> bool {
        false
    }

    fn writable(&self) -> bool {
        true
    }

    fn handle_write(&mut self, cx: &mut Context<'_>) -> Result {
        self.0.set(self.0.get() + 1);
        cx.map.send(cx.id, b"mine")?;
        Ok(())
    }
}

/// Has nothing yet.
struct Waits;

impl Producer for Waits {
    fn more(&mut self, _most: usize) -> Result<Option<Bytes>> {
        Ok(Some(Bytes::new()))
    }
}

/// Ends never.
struct Endless;

impl Producer for Endless {
    fn more(&mut self, most: usize) -> Result<Option<Bytes>> {
        Ok(Some(vec![0; most].into()))
    }
}

/// Puts down which timeouts it was told of, and when.
#[derive(Clone, Default)]
struct Told(Rc<RefCell<Vec<(Timeout, Instant)>>>);

impl Channel for Told {
    fn handle_timeout(&mut self, _cx: &mut Context<'_>, which: Timeout) -> Result {
        self.0.borrow_mut().push((which, Instant::now()));
        Ok(())
    }
}

#[test]
fn a_producer_of_another_that_waits_costs_no_turns() {
    let (_peer, here) = UnixStream::pair().unwrap();
    let mut map = Map::new().unwrap();
    let writes = Rc::new(Cell::new(0));
    let id = map.add(here, Writer(Rc::clone(&writes))).unwrap();
    while writes.get() == 0 {
        map.poll(&mut (), Some(Duration::ZERO)).unwrap();
    }
    map.push_with_producer(id, Waits);
    map.poll(&mut (), Some(Duration::ZERO)).unwrap();
    let before = map.counters().events;
    for _ in 0..20 {
        map.poll(&mut (), Some(Duration::from_millis(1))).unwrap();
    }
    assert!(map.counters().events <= before + 1, "the poller tells of room that nobody wants");
}

#[test]
fn a_writer_whose_rate_limit_is_lifted_goes_on_though_another_pushes() {
    let (_peer, here) = UnixStream::pair().unwrap();
    let mut map = Map::new().unwrap();
    let writes = Rc::new(Cell::new(0));
    let id = map.add(here, Writer(Rc::clone(&writes))).unwrap();
    map.set_write_rate(id, Some(Rate::per_second(4)));
    for _ in 0..5 {
        map.poll(&mut (), Some(Duration::ZERO)).unwrap();
    }
    let before = writes.get();
    map.set_write_rate(id, None);
    map.push(id, "hello");
    for _ in 0..5 {
        map.poll(&mut (), Some(Duration::from_millis(10))).unwrap();
    }
    assert!(writes.get() > before, "`handle_write` is called no more");
}

/// Sends a word to another channel, and then takes its time.
struct Slow(ChannelId, Duration);

impl Channel for Slow {
    fn handle_read(&mut self, cx: &mut Context<'_>) -> Result {
        while let Received::Data(_) = cx.map.recv(cx.id, 4096)? {}
        cx.map.push(self.0, "hello");
        std::thread::sleep(self.1);
        Ok(())
    }
}

#[test]
fn an_idle_timeout_is_not_early_for_who_was_sent_something_in_a_slow_turn() {
    const IDLE: Duration = Duration::from_millis(300);
    let (mut there, slow) = UnixStream::pair().unwrap();
    let (mut peer, here) = UnixStream::pair().unwrap();
    peer.set_nonblocking(true).unwrap();
    let mut map = Map::new().unwrap();
    let told = Told::default();
    let id = map.add(here, told.clone()).unwrap();
    map.add(slow, Slow(id, Duration::from_millis(200))).unwrap();
    map.poll(&mut (), Some(Duration::ZERO)).unwrap();
    map.set_timeout(id, Timeout::Idle, Some(IDLE));
    there.write_all(b"x").unwrap();
    let mut sent = None;
    while told.0.borrow().is_empty() {
        let began = Instant::now();
        map.poll(&mut (), Some(Duration::from_millis(10))).unwrap();
        if sent.is_none() && peer.read(&mut [0; 10]).is_ok() {
            // Sent at the end of that turn, so not before the pause in it.
            sent = Some(began + Duration::from_millis(200));
        }
    }
    let idle = told.0.borrow()[0].1 - sent.expect("the word arrives before the timeout");
    assert!(idle >= IDLE, "told after {idle:?} without a byte");
}

#[test]
fn who_is_paused_while_its_output_flows_has_no_read_timeout() {
    let (mut peer, here) = UnixStream::pair().unwrap();
    peer.set_nonblocking(true).unwrap();
    let mut map = Map::new().unwrap();
    let told = Told::default();
    let id = map.add(here, told.clone()).unwrap();
    map.poll(&mut (), Some(Duration::ZERO)).unwrap();
    map.pause_reading(id);
    map.push_with_producer(id, Endless);
    map.set_timeout(id, Timeout::Read, Some(Duration::from_millis(50)));
    let began = Instant::now();
    let mut room = vec![0; 1 << 20];
    while began.elapsed() < Duration::from_millis(200) {
        map.poll(&mut (), Some(Duration::from_millis(1))).unwrap();
        while peer.read(&mut room).is_ok() {}
    }
    assert!(told.0.borrow().is_empty(), "{:?}", told.0.borrow());
}
