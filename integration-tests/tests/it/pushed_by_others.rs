//! What a channel is owed when others push to it, and while output flows: no turn in vain, its own writes, and clocks that
//! are right.

use std::cell::{Cell, RefCell};
use std::io::{Read, Write};
use std::net::{SocketAddr, UdpSocket};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::rc::Rc;
use std::time::{Duration, Instant};

use asyncore::{
    AC_OUT_BUFFER_SIZE, Channel, ChannelId, Context, Dispatcher, Map, Producer, Rate, Received, Result,
    Timeout,
};
use bytes::Bytes;
use integration_tests::{map, turn_until};

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
struct Told {
    timeouts: Rc<RefCell<Vec<(Timeout, Instant)>>>,
    /// It reads nothing by itself.
    is_deaf: bool,
}

impl Channel for Told {
    fn readable(&self) -> bool {
        !self.is_deaf
    }

    fn handle_timeout(&mut self, _cx: &mut Context<'_>, which: Timeout) -> Result {
        self.timeouts.borrow_mut().push((which, Instant::now()));
        Ok(())
    }
}

#[test]
fn a_producer_of_another_that_waits_costs_no_turns() {
    let (_peer, here) = UnixStream::pair().unwrap();
    let mut map = map();
    let writes = Rc::new(Cell::new(0));
    let id = map.add(here, Writer(Rc::clone(&writes))).unwrap();
    turn_until(&mut map, &mut (), "its first write", |_, ()| writes.get() > 0);
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
    let mut map = map();
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

/// Takes its time in a callback, and does something with another channel before or behind that.
struct Slow {
    other: ChannelId,
    act: Act,
    /// When that was.
    at: Rc<Cell<Option<Instant>>>,
}

/// What a [`Slow`] does with the other channel.
#[derive(Clone, Copy, Debug)]
enum Act {
    Push,
    Send,
    SendTo(SocketAddr),
    RecvFrom,
}

/// How long a [`Slow`] takes.
const SLOW: Duration = Duration::from_millis(200);

impl Slow {
    fn act(&self, cx: &mut Context<'_>) -> Result {
        match self.act {
            // It is sent at the end of the turn, so not before the pause in it.
            Act::Push => {
                cx.map.push(self.other, "hello");
                self.at.set(Some(Instant::now() + SLOW));
                std::thread::sleep(SLOW);
                return Ok(());
            }
            act => {
                std::thread::sleep(SLOW);
                match act {
                    Act::SendTo(to) => assert!(cx.map.send_to(self.other, b"hello", &to.into())?),
                    Act::RecvFrom => assert!(cx.map.recv_from(self.other, 100)?.is_some()),
                    _ => assert_eq!(cx.map.send(self.other, b"hello")?, 5),
                }
            }
        }
        self.at.set(Some(Instant::now()));
        Ok(())
    }
}

impl Channel for Slow {
    fn handle_read(&mut self, cx: &mut Context<'_>) -> Result {
        while let Received::Data(_) = cx.map.recv(cx.id, 4096)? {}
        self.act(cx)
    }

    fn handle_timeout(&mut self, cx: &mut Context<'_>, _which: Timeout) -> Result {
        self.act(cx)?;
        cx.map.close(cx.id);
        Ok(())
    }
}

/// What a [`Slow`] does with a channel, in a callback of its own for input or for a timeout, counts as what moved when it did.
fn idles_from_then_on<S>(other: S, act: Act, in_a_timeout: bool)
where
    S: TryInto<Dispatcher>,
    S::Error: Into<asyncore::Error>,
{
    const IDLE: Duration = Duration::from_millis(300);
    let (mut there, slow) = UnixStream::pair().unwrap();
    let mut map = map();
    let told = Told { is_deaf: true, ..Told::default() };
    let other = map.add(other, told.clone()).unwrap();
    let at = Rc::new(Cell::new(None));
    let slow = map.add(slow, Slow { other, act, at: Rc::clone(&at) }).unwrap();
    map.poll(&mut (), Some(Duration::ZERO)).unwrap();
    map.set_timeout(other, Timeout::Idle, Some(IDLE));
    if in_a_timeout {
        map.set_timeout(slow, Timeout::Idle, Some(Duration::from_millis(50)));
    } else {
        there.write_all(b"x").unwrap();
    }
    turn_until(&mut map, &mut (), "the idle timeout", |_, ()| !told.timeouts.borrow().is_empty());
    let idle = told.timeouts.borrow()[0].1 - at.get().expect("something moved before the timeout");
    assert!(idle >= IDLE, "{act:?}: told after {idle:?} without a byte");
}

#[test]
fn an_idle_timeout_is_not_early_for_a_channel_that_others_used_in_a_slow_turn() {
    for in_a_timeout in [false, true] {
        for act in [Act::Push, Act::Send] {
            let (_peer, here) = UnixStream::pair().unwrap();
            idles_from_then_on(here, act, in_a_timeout);
        }
        let here = || UdpSocket::bind("127.0.0.1:0").unwrap();
        let peer = here();
        let to = peer.local_addr().unwrap();
        idles_from_then_on(here(), Act::SendTo(to), in_a_timeout);
        let deaf = here();
        peer.send_to(b"hi", deaf.local_addr().unwrap()).unwrap();
        idles_from_then_on(deaf, Act::RecvFrom, in_a_timeout);
    }
}

/// Says another length each time that it is asked.
struct Fickle {
    lengths: [usize; 3],
    asked: Cell<usize>,
    bytes: Vec<u8>,
}

impl AsRef<[u8]> for Fickle {
    fn as_ref(&self) -> &[u8] {
        let asked = self.asked.replace(self.asked.get() + 1);
        &self.bytes[..self.lengths[asked.min(2)]]
    }
}

#[test]
fn bytes_that_change_their_length_pass_no_limit_and_cost_no_turns() {
    const MIB: usize = 1 << 20;
    for lengths in [[70_000, 0, 0], [70_000, 4 * MIB, 0], [70_000, 70_000, 4 * MIB], [10, 70_000, 0]] {
        let (mut peer, here) = UnixStream::pair().unwrap();
        let mut map: Map = map();
        let id = map.add(here, Told::default()).unwrap();
        map.poll(&mut (), Some(Duration::ZERO)).unwrap();
        map.push(id, &Fickle { lengths, asked: Cell::new(0), bytes: vec![1; 4 * MIB] });
        assert!(map.queued() <= lengths[0], "{lengths:?}: {} bytes are queued", map.queued());
        let reader = std::thread::spawn(move || {
            peer.set_read_timeout(Some(integration_tests::DEADLINE)).unwrap();
            std::io::copy(&mut peer, &mut std::io::sink()).unwrap()
        });
        turn_until(&mut map, &mut (), "the queue to be empty", |map, ()| map.queued() == 0);
        map.poll(&mut (), Some(Duration::ZERO)).unwrap();
        assert_eq!(map.next_deadline(), None, "{lengths:?}: nothing is left to do");
        map.close(id);
        map.poll(&mut (), Some(Duration::ZERO)).unwrap();
        assert!(reader.join().unwrap() <= lengths[0] as u64);
    }
}

#[test]
fn a_datagram_that_changes_its_length_passes_no_limit() {
    let (peer, here) = UnixDatagram::pair().unwrap();
    let mut map: Map = map();
    let id = map.add(here, Told::default()).unwrap();
    map.push(id, &Fickle { lengths: [10, 4 << 20, 4 << 20], asked: Cell::new(0), bytes: vec![1; 4 << 20] });
    assert_eq!(map.queued(), 10);
    map.poll(&mut (), Some(Duration::ZERO)).unwrap();
    peer.set_read_timeout(Some(integration_tests::DEADLINE)).unwrap();
    assert_eq!(peer.recv(&mut [0; 100]).unwrap(), 10);
}

#[test]
fn who_is_paused_while_its_output_flows_has_no_read_timeout() {
    let (mut peer, here) = UnixStream::pair().unwrap();
    peer.set_nonblocking(true).unwrap();
    let mut map = map();
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
    assert!(told.timeouts.borrow().is_empty(), "{:?}", told.timeouts.borrow());
}

/// Turns the loop for a fifth of a second, beside a peer that reads all there is.
fn turn_beside_a_reader<A: 'static>(map: &mut Map<A>, app: &mut A, peer: &mut UnixStream) {
    let (began, mut room) = (Instant::now(), vec![0; 1 << 20]);
    while began.elapsed() < Duration::from_millis(200) {
        map.poll(app, Some(Duration::from_millis(1))).unwrap();
        while peer.read(&mut room).is_ok() {}
    }
}

#[test]
fn who_is_paused_by_its_own_producers_is_told_of_no_input() {
    // Together they count for less than a write takes, or for more.
    for producers in [40, 100] {
        let (mut peer, here) = UnixStream::pair().unwrap();
        peer.set_nonblocking(true).unwrap();
        let mut map = map();
        let id = map.add(here, Told::default()).unwrap();
        map.pause_when_high(id, true);
        map.poll(&mut (), Some(Duration::ZERO)).unwrap();
        for _ in 0..producers {
            map.push_with_producer(id, Endless);
        }
        peer.write_all(b"a question").unwrap();
        let before = map.counters();
        turn_beside_a_reader(&mut map, &mut (), &mut peer);
        let events = map.counters().events - before.events;
        let turns = map.counters().turns - before.turns;
        // The socket may have had no room for a write now and then.
        assert!(events < 10 + turns / 4, "{events} events in {turns} turns");
    }
}

#[test]
fn who_is_paused_by_its_own_output_has_no_read_timeout_in_a_slow_turn() {
    const SILENCE: Duration = Duration::from_millis(150);
    let deadline = Instant::now() + integration_tests::DEADLINE;
    loop {
        let (_peer, here) = UnixStream::pair().unwrap();
        let (mut there, slow) = UnixStream::pair().unwrap();
        let mut map = map();
        let told = Told::default();
        let id = map.add(here, told.clone()).unwrap();
        map.pause_when_high(id, true);
        let (other, _other) = UnixStream::pair().unwrap();
        let other = map.add(other, Told::default()).unwrap();
        map.add(slow, Slow { other, act: Act::Send, at: Rc::default() }).unwrap();
        map.poll(&mut (), Some(Duration::ZERO)).unwrap();
        let began = Instant::now();
        map.set_timeout(id, Timeout::Read, Some(SILENCE));
        // In a turn, whose write takes half of it and leaves it high.
        map.after(Duration::ZERO, move |map, ()| {
            map.push(id, vec![0; 2 * AC_OUT_BUFFER_SIZE - 1]);
        });
        map.poll(&mut (), Some(Duration::ZERO)).unwrap();
        let before = began.elapsed();
        assert!((1..=AC_OUT_BUFFER_SIZE).contains(&map.queued()), "{} bytes are queued", map.queued());
        there.write_all(b"x").unwrap();
        map.poll(&mut (), Some(Duration::ZERO)).unwrap();
        assert_eq!(map.queued(), 0);
        let resumed = Instant::now();
        map.poll(&mut (), Some(Duration::ZERO)).unwrap();
        // On a slow machine the time may have run out while it did read.
        if before + resumed.elapsed() < SILENCE {
            assert!(told.timeouts.borrow().is_empty(), "{:?}", told.timeouts.borrow());
            return;
        }
        assert!(Instant::now() < deadline, "two turns take longer than the timeout each time");
    }
}
