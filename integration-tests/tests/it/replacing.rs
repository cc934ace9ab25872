//! A raw channel's handler is replaced while the connection goes on, from every callback and from outside, and input is put
//! back for the next.

use std::io::Read;
use std::time::Duration;

use asyncore::{
    Channel, ChannelId, CloseReason, Context, Dispatcher, Error, HIGH_MARK, Limits, Map, Received, Result,
    TimerId,
};
use integration_tests::{Log, Peer, Recorder, map, settle, turn_until};

/// Turns that wait for nothing: what a Unix-domain peer has done is there at once.
pub(crate) fn turn<A: 'static>(map: &mut Map<A>, app: &mut A, turns: usize) {
    for _ in 0..turns {
        map.poll(app, Some(Duration::ZERO)).unwrap();
    }
}

/// A raw channel that hands over to a recorder named `new` in the callback `at`, and logs its own until then.
struct Former {
    at: &'static str,
    log: Log,
    /// What it returns from that callback.
    fails: bool,
    wants_write: bool,
}

impl Former {
    fn new(at: &'static str, log: &Log) -> Self {
        Self { at, log: log.clone(), fails: false, wants_write: at == "write" }
    }

    fn hear(&self, cx: &mut Context<'_>, callback: &str) -> Result {
        self.log.add(format_args!("former {callback}"));
        if callback == self.at {
            assert!(cx.map.replace(cx.id, Recorder::named("new", &self.log)));
            if self.fails {
                return Err("on its way out".into());
            }
        }
        Ok(())
    }
}

impl Drop for Former {
    fn drop(&mut self) {
        self.log.add("former dropped");
    }
}

impl Channel for Former {
    fn writable(&self) -> bool {
        self.wants_write
    }

    fn handle_connect(&mut self, cx: &mut Context<'_>) -> Result {
        self.hear(cx, "connect")
    }

    fn handle_read(&mut self, cx: &mut Context<'_>) -> Result {
        self.hear(cx, "read")?;
        if self.at == "error" {
            return Err("an error".into());
        }
        while let Received::Data(data) = cx.map.recv(cx.id, 100)? {
            self.log.add(format_args!("former got {}", data.escape_ascii()));
        }
        Ok(())
    }

    fn handle_write(&mut self, cx: &mut Context<'_>) -> Result {
        self.hear(cx, "write")
    }

    fn handle_expt(&mut self, cx: &mut Context<'_>) -> Result {
        self.hear(cx, "expt")?;
        cx.map.recv_urgent(cx.id).map(drop)
    }

    fn handle_eof(&mut self, cx: &mut Context<'_>) -> Result {
        self.hear(cx, "eof")
    }

    fn handle_drained(&mut self, cx: &mut Context<'_>) -> Result {
        self.hear(cx, "drained")
    }

    fn handle_timer(&mut self, cx: &mut Context<'_>, _timer: TimerId) -> Result {
        self.hear(cx, "timer")
    }

    fn handle_shutdown(&mut self, cx: &mut Context<'_>) -> Result {
        self.hear(cx, "shutdown")
    }

    fn handle_error(&mut self, cx: &mut Context<'_>, error: &Error) {
        self.log.add(format_args!("former told {error}"));
        drop(self.hear(cx, "error"));
    }

    fn handle_close(&mut self, _cx: &mut Context<'_>, reason: CloseReason) {
        self.log.add(format_args!("former close {reason:?}"));
    }
}

/// The former handler, brought to the callback in which it hands over, and what follows.
fn brought_to(at: &'static str) -> Vec<String> {
    let (mut map, log) = (map(), Log::new());
    // Only TCP has urgent data.
    let (mut peer, id) = if at == "expt" {
        let (peer, here) = Peer::tcp_pair();
        (peer, map.add(here, Former::new(at, &log)).unwrap())
    } else {
        let (peer, here) = Peer::pair();
        (peer, map.add(here, Former::new(at, &log)).unwrap())
    };
    match at {
        "read" | "error" => peer.send(b"x"),
        "expt" => peer.send_urgent(b'!'),
        "eof" => peer.shutdown_write(),
        "drained" => {
            map.push(id, vec![0; HIGH_MARK + 1]);
            turn(&mut map, &mut (), 3);
            assert_eq!(peer.read_bytes(HIGH_MARK + 1).len(), HIGH_MARK + 1);
        }
        "timer" => drop(map.set_timer(id, Duration::ZERO)),
        "shutdown" => map.shutdown(Duration::from_secs(60)),
        _ => {}
    }
    turn_until(&mut map, &mut (), "the former to go", |_, ()| log.has("former dropped"));
    assert!(map.handler::<Recorder>(id).is_some(), "the new one is in its place");
    settle(&mut map, &mut ());
    if !matches!(at, "eof" | "shutdown") {
        peer.send(b"y");
        settle(&mut map, &mut ());
    }
    drop(peer);
    settle(&mut map, &mut ());
    map.close(id);
    turn_until(&mut map, &mut (), "the end", |map, ()| map.is_empty());
    log.take()
}

#[test]
fn a_raw_handler_can_be_replaced_in_every_callback() {
    for (at, before, after) in [
        ("connect", &[][..], &["read y", "eof", "close Eof"][..]),
        ("read", &["connect"], &["read x", "read y", "eof", "close Eof"]),
        ("write", &["connect"], &["read y", "eof", "close Eof"]),
        ("drained", &["connect"], &["read y", "eof", "close Eof"]),
        ("timer", &["connect"], &["read y", "eof", "close Eof"]),
        // The end was told, and is not told again.
        ("eof", &["connect", "read"], &["close Local"]),
        ("shutdown", &["connect"], &["eof", "close Eof"]),
        ("error", &["connect", "read", "told an error"], &["read x", "read y", "eof", "close Eof"]),
    ] {
        let mut expected: Vec<String> = before.iter().map(|line| format!("former {line}")).collect();
        expected.extend([format!("former {at}"), "former dropped".to_owned()]);
        expected.extend(after.iter().map(|line| format!("new {line}")));
        assert_eq!(brought_to(at), expected, "in {at}");
    }
    // The urgent byte is still there for the new one.
    let lines = brought_to("expt");
    assert_eq!(lines[..3], ["former connect", "former expt", "former dropped"]);
    assert_eq!(lines[lines.len() - 3..], ["new read y", "new eof", "new close Eof"]);
}

/// A reset is told to the one that has the channel then.
#[test]
fn a_new_handler_hears_of_a_lost_connection() {
    let (mut map, log) = (map(), Log::new());
    let (peer, here) = Peer::tcp_pair();
    map.add(here, Former::new("connect", &log)).unwrap();
    settle(&mut map, &mut ());
    peer.reset();
    turn_until(&mut map, &mut (), "the end", |map, ()| map.is_empty());
    assert_eq!(log.take(), ["former connect", "former dropped", "new close Reset"]);
}

/// The channel is the new handler's when the callback ends, so the error is too.
#[test]
fn a_callback_that_fails_after_it_replaced_its_handler_tells_the_new_one() {
    let (mut map, log) = (map(), Log::new());
    let (_peer, here) = Peer::pair();
    let mut former = Former::new("connect", &log);
    former.fails = true;
    map.add(here, former).unwrap();
    turn_until(&mut map, &mut (), "the end", |map, ()| map.is_empty());
    let expected = ["former connect", "former dropped", "new error on its way out", "new close HandlerError"];
    assert_eq!(log.take(), expected);
}

/// Acts once in `handle_read`, with a closure.
struct Once<F>(Option<F>);

impl<F: FnOnce(&mut Context<'_>) -> Result + 'static> Channel for Once<F> {
    fn handle_read(&mut self, cx: &mut Context<'_>) -> Result {
        self.0.take().map_or(Ok(()), |act| act(cx))
    }
}

/// A channel that does `act` when it first reads: its peer, which has sent `sent`.
fn once(
    map: &mut Map,
    sent: &[u8],
    act: impl FnOnce(&mut Context<'_>) -> Result + 'static,
) -> (Peer, ChannelId) {
    let (mut peer, here) = Peer::pair();
    let id = map.add(here, Once(Some(act))).unwrap();
    peer.send(sent);
    turn(map, &mut (), 4);
    (peer, id)
}

#[test]
fn a_panic_after_the_replacement_closes_the_channel_with_the_new_handler_told() {
    let (mut map, log) = (map(), Log::new());
    let to = log.clone();
    let (_peer, id) = once(&mut map, b"x", move |cx| {
        cx.map.replace(cx.id, Recorder::new(&to));
        panic!("on its way out");
    });
    assert!(!map.is_open(id));
    assert_eq!(log.take(), ["error panic: on its way out", "close HandlerPanic"]);
}

#[test]
fn a_channel_that_is_replaced_and_closed_tells_the_new_handler_only_of_its_close() {
    let (mut map, log) = (map(), Log::new());
    let to = log.clone();
    let (_peer, _) = once(&mut map, b"x", move |cx| {
        cx.map.replace(cx.id, Recorder::new(&to));
        cx.map.close(cx.id);
        assert!(!cx.map.replace(cx.id, Recorder::named("too late", &to)));
        Ok(())
    });
    assert!(map.is_empty());
    assert_eq!(log.take(), ["close Local"]);
}

#[test]
fn of_two_replacements_in_one_callback_the_second_stays() {
    let (mut map, log) = (map(), Log::new());
    let to = log.clone();
    let (_peer, _) = once(&mut map, b"x", move |cx| {
        cx.map.replace(cx.id, Former::new("never", &to));
        cx.map.replace(cx.id, Recorder::named("new", &to));
        Ok(())
    });
    assert_eq!(log.take(), ["former dropped", "new read x"]);
}

/// The new handler waits until the callback is over: nobody calls into it, takes it, or reads for it meanwhile.
#[test]
fn a_replaced_channel_can_neither_be_entered_nor_taken_while_the_callback_runs() {
    let (mut map, log) = (map(), Log::new());
    let to = log.clone();
    let (_peer, id) = once(&mut map, b"x", move |cx| {
        assert!(!cx.map.is_replaced(cx.id));
        cx.map.replace(cx.id, Recorder::named("new", &to));
        assert!(cx.map.is_replaced(cx.id) && !cx.map.is_reading(cx.id));
        assert!(cx.with(cx.id, |_: &mut Recorder, _| ()).is_none());
        assert!(cx.map.handler::<Recorder>(cx.id).is_none());
        assert!(cx.map.handler_mut::<Recorder>(cx.id).is_none());
        assert!(cx.map.remove(cx.id).is_none());
        assert!(matches!(cx.map.recv(cx.id, 10)?, Received::WouldBlock));
        Ok(())
    });
    assert!(map.is_reading(id) && !map.is_replaced(id));
    assert_eq!(log.take(), ["new read x"]);
}

/// Panics when it is dropped.
struct Trap;

impl Channel for Trap {
    fn take_input(&mut self) -> Vec<u8> {
        panic!("taking the input");
    }
}

impl Drop for Trap {
    fn drop(&mut self) {
        panic!("dropping a handler");
    }
}

#[test]
fn a_replaced_handler_that_panics_on_its_way_out_harms_nobody() {
    let (mut map, log) = (map(), Log::new());
    let (mut peer, here) = Peer::pair();
    let id = map.add(here, Trap).unwrap();
    assert!(map.replace(id, Recorder::new(&log)), "from outside");
    peer.send(b"x");
    settle(&mut map, &mut ());
    assert_eq!(log.take(), ["connect", "read x"]);
}

#[test]
fn a_channel_that_is_gone_cannot_be_replaced() {
    let (mut map, log) = (map(), Log::new());
    let (_peer, here) = Peer::pair();
    let id = map.add(here, Recorder::new(&log)).unwrap();
    map.close(id);
    assert!(!map.replace(id, Former::new("never", &log)));
    assert_eq!(log.take(), ["former dropped"]);
    settle(&mut map, &mut ());
    assert!(!map.replace(id, Recorder::new(&log)));
}

/// Added, connecting or not told yet: the handler that is there when the connect ends hears of it.
#[test]
fn a_handler_that_comes_before_the_connect_is_told_of_it() {
    let (mut map, log) = (map(), Log::new());
    let (_peer, here) = Peer::pair();
    let id = map.add(here, Recorder::named("former", &log)).unwrap();
    assert!(map.replace(id, Recorder::named("new", &log)));
    settle(&mut map, &mut ());
    assert_eq!(log.take(), ["new connect"]);
}

#[test]
fn a_handler_that_is_lent_to_another_can_be_replaced() {
    let (mut map, log) = (map::<()>(), Log::new());
    let (_peer, here) = Peer::pair();
    let id = map.add(here, Former::new("never", &log)).unwrap();
    let former = map.with(&mut (), id, |former: &mut Former, cx| {
        assert!(cx.map.replace(id, Recorder::named("new", &log)));
        former.at
    });
    assert_eq!(former, Some("never"));
    turn(&mut map, &mut (), 2);
    assert_eq!(log.take(), ["former dropped", "new connect"]);
}

#[test]
fn pausing_for_ones_own_output_was_the_former_handlers_choice() {
    let (mut map, log) = (map::<()>(), Log::new());
    let (_peer, here) = Peer::pair();
    let id = map.add(here, Recorder::new(&log)).unwrap();
    map.pause_when_high(id, true);
    map.push(id, vec![0; HIGH_MARK + 1]);
    assert!(!map.is_reading(id));
    map.replace(id, Recorder::new(&log));
    assert!(map.is_reading(id));
    map.pause_reading(id);
    map.replace(id, Recorder::new(&log));
    assert!(!map.is_reading(id), "the program's pause stays");
}

/// A channel whose handler is a recorder from its first read on, with `unread` put back.
fn unread(map: &mut Map, log: &Log, sent: &[u8], unread: &'static [&'static [u8]]) -> (Peer, ChannelId) {
    let to = log.clone();
    once(map, sent, move |cx| {
        for input in unread {
            cx.map.unread(cx.id, input);
        }
        cx.map.replace(cx.id, Recorder::new(&to));
        Ok(())
    })
}

#[test]
fn what_was_put_back_last_comes_first_and_the_socket_after_it() {
    let (mut map, log) = (map(), Log::new());
    let (_peer, id) = unread(&mut map, &log, b"socket", &[b"second", b"first "]);
    assert_eq!(log.take(), ["read first second", "read socket"]);
    assert_eq!(map.get(id).unwrap().bytes_in(), 6, "what is put back is not counted again");
    let events = map.counters().events;
    map.poll(&mut (), Some(Duration::from_millis(20))).unwrap();
    assert_eq!(map.counters().events, events, "nothing is left to do");
}

#[test]
fn an_end_that_was_told_is_told_again_behind_what_was_put_back() {
    let (mut map, log) = (map(), Log::new());
    let (peer, here) = Peer::pair();
    let mut recorder = Recorder::new(&log);
    recorder.closes_at_eof = false;
    let id = map.add(here, recorder).unwrap();
    drop(peer);
    settle(&mut map, &mut ());
    assert_eq!(log.take(), ["connect", "eof"]);
    map.unread(id, b"more");
    settle(&mut map, &mut ());
    assert_eq!(log.take(), ["read more", "eof"]);
    map.unread(id, b"");
    settle(&mut map, &mut ());
    assert_eq!(log.take(), ["eof"]);
}

#[test]
fn a_pause_and_an_unreadable_handler_hold_what_was_put_back() {
    let (mut map, log) = (map(), Log::new());
    let (_peer, here) = Peer::pair();
    let mut recorder = Recorder::new(&log);
    recorder.readable = false;
    let id = map.add(here, recorder).unwrap();
    settle(&mut map, &mut ());
    map.pause_reading(id);
    map.unread(id, b"x");
    turn(&mut map, &mut (), 3);
    map.resume_reading(id);
    turn(&mut map, &mut (), 3);
    assert_eq!(log.take(), ["connect"]);
    let turns = map.counters().turns;
    map.poll(&mut (), Some(Duration::from_millis(20))).unwrap();
    assert_eq!(map.counters().turns, turns + 1);
    map.handler_mut::<Recorder>(id).unwrap().readable = true;
    turn(&mut map, &mut (), 2);
    assert_eq!(log.take(), ["read x"]);
}

/// What is put back is read in turns, as input of the socket is.
#[test]
fn the_turns_share_bounds_what_was_put_back() {
    let (mut map, log) = (map(), Log::new());
    let (_peer, here) = Peer::pair();
    let mut limits = Limits::default();
    limits.read_budget = 4;
    let mut dispatcher = Dispatcher::try_from(here).unwrap();
    dispatcher.set_limits(limits);
    let id = map.add(dispatcher, Recorder::new(&log)).unwrap();
    turn(&mut map, &mut (), 2);
    map.unread(id, b"0123456789");
    turn(&mut map, &mut (), 1);
    assert_eq!(log.take(), ["connect", "read 0123"]);
    turn(&mut map, &mut (), 2);
    assert_eq!(log.take(), ["read 4567", "read 89"]);
}

#[test]
fn a_removed_channel_takes_along_what_was_put_back() {
    let (mut map, log) = (map(), Log::new());
    let (mut peer, here) = Peer::pair();
    let id = map.add(here, Recorder::new(&log)).unwrap();
    turn(&mut map, &mut (), 2);
    peer.send(b" and more");
    map.unread(id, b"some");
    let (dispatcher, handler) = map.remove(id).unwrap();
    map.insert(dispatcher, handler).unwrap();
    turn(&mut map, &mut (), 4);
    assert_eq!(log.take(), ["connect", "connect", "read some", "read  and more"]);
}

/// Nor does it lose them, or send past its queue, when it is used without a map.
#[test]
fn a_removed_channel_by_itself_keeps_the_order_of_its_bytes() {
    let (mut map, log) = (map(), Log::new());
    let (mut peer, here) = Peer::pair();
    let id = map.add(here, Recorder::new(&log)).unwrap();
    turn(&mut map, &mut (), 2);
    peer.send(b"socket");
    map.unread(id, b"back");
    map.push(id, b"queued");
    let (mut dispatcher, handler) = map.remove(id).unwrap();
    assert_eq!(dispatcher.send(b"past it").unwrap(), 0);
    let mut room = [0; 3];
    for expected in [&b"bac"[..], b"k", b"soc"] {
        let received = dispatcher.recv(&mut room).unwrap().unwrap();
        assert_eq!(&room[..received], expected);
    }
    map.insert(dispatcher, handler).unwrap();
    turn(&mut map, &mut (), 4);
    assert_eq!(log.take(), ["connect", "connect", "read ket"]);
    let mut sent = [0; 6];
    peer.read_exact(&mut sent).unwrap();
    assert_eq!(&sent, b"queued");
}

#[test]
fn a_loop_of_datagrams_ends_where_the_handler_is_replaced() {
    struct First(Log);
    impl Channel for First {
        fn handle_read(&mut self, cx: &mut Context<'_>) -> Result {
            while let Some((data, _sender)) = cx.map.recv_from(cx.id, 100)? {
                self.0.add(format_args!("first {}", data.escape_ascii()));
                cx.map.replace(cx.id, Recorder::new(&self.0));
            }
            Ok(())
        }
    }
    let (mut map, log) = (map(), Log::new());
    let (here, there) = std::os::unix::net::UnixDatagram::pair().unwrap();
    map.add(here, First(log.clone())).unwrap();
    there.send(b"one").unwrap();
    there.send(b"two").unwrap();
    turn(&mut map, &mut (), 4);
    assert_eq!(log.take(), ["first one", "read two"]);
}

#[test]
fn a_channel_that_ends_takes_nothing_back() {
    let (mut map, log) = (map(), Log::new());
    let (mut peer, here) = Peer::pair();
    let id = map.add(here, Recorder::new(&log)).unwrap();
    turn(&mut map, &mut (), 2);
    map.unread(id, b"before");
    map.close_when_done(id);
    map.unread(id, b"after");
    turn(&mut map, &mut (), 3);
    assert_eq!(peer.read_to_end(&mut Vec::new()).unwrap(), 0);
    drop(peer);
    settle(&mut map, &mut ());
    assert_eq!(log.take(), ["connect", "close Local"]);
}

/// Both sides are over for the socket, and not for the input that was put back.
#[test]
fn a_channel_that_has_shut_down_reads_what_was_put_back_at_the_end() {
    struct Last(Option<Log>);
    impl Channel for Last {
        fn handle_eof(&mut self, cx: &mut Context<'_>) -> Result {
            if let Some(log) = self.0.take() {
                log.add("eof");
                cx.map.unread(cx.id, b"last words");
                cx.map.replace(cx.id, Recorder::new(&log));
            }
            Ok(())
        }
    }
    let (mut map, log) = (map(), Log::new());
    let (mut peer, here) = Peer::pair();
    let id = map.add(here, Last(Some(log.clone()))).unwrap();
    turn(&mut map, &mut (), 2);
    map.shutdown_write(id);
    turn(&mut map, &mut (), 2);
    peer.shutdown_write();
    turn(&mut map, &mut (), 6);
    assert_eq!(log.take(), ["eof", "read last words", "eof", "close Eof"]);
}
