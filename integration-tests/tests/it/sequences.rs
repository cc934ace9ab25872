//! The sequences of callbacks in a channel's life that were observed with the original's two loops, and what happens
//! here instead. Those around input and output are in `sequences_data`.

use std::cell::{Cell, RefCell};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::time::Duration;

use asyncore::{Address, Channel, ChannelId, Context, Map, State};
use integration_tests::{
    Call, Log, Net, Peer, Recorder, Script, each_net, map, run_to_the_end, settle, turn_until,
};

/// Default channel, idle peer: the original writes 190,000 times a second.
#[test]
fn an_idle_default_channel_costs_no_events_and_no_callbacks() {
    struct Bare(Rc<Cell<u32>>);
    impl Channel for Bare {
        fn readable(&self) -> bool {
            self.0.set(self.0.get() + 1);
            true
        }
    }
    let mut map: Map = map();
    let asked = Rc::new(Cell::new(0));
    let (_peer, here) = Peer::tcp_pair();
    map.add(here, Bare(asked.clone())).unwrap();
    settle(&mut map, &mut ());
    let (before, asked_before) = (map.counters(), asked.get());
    for _ in 0..20 {
        map.poll(&mut (), Some(Duration::from_millis(1))).unwrap();
    }
    assert_eq!(map.counters().turns - before.turns, 20);
    assert_eq!(map.counters().events, before.events);
    assert_eq!(asked.get(), asked_before, "nothing touched it, so nothing asks");
}

/// Peer FIN, channel readable and writable: the original's `poll` loop closes twice.
#[test]
fn the_end_of_the_peer_is_told_once() {
    each_net(|net| {
        let (mut map, log, _folder) = accepting(net, |log| {
            let mut recorder = Recorder::new(log);
            recorder.writable = true;
            recorder
        });
        drop(Peer::connect(&address_of(&map)));
        turn_until(&mut map, &mut (), "the close", |_, ()| log.count("close") > 0);
        settle(&mut map, &mut ());
        let lines: Vec<String> = log.lines().into_iter().filter(|line| line != "write").collect();
        assert_eq!(lines, ["connect", "eof", "close Eof"]);
        assert_eq!(log.lines().last().unwrap(), "close Eof", "nothing follows");
    });
}

/// Peer RST: the original closes up to three times.
#[test]
fn a_reset_closes_once() {
    for writable in [true, false] {
        let mut map: Map = map();
        let log = Log::new();
        let (peer, here) = Peer::tcp_pair();
        let mut recorder = Recorder::new(&log);
        recorder.writable = writable;
        map.add(here, recorder).unwrap();
        turn_until(&mut map, &mut (), "the connect", |_, ()| log.has("connect"));
        peer.reset();
        run_to_the_end(&mut map, &mut ());
        let lines: Vec<String> = log.lines().into_iter().filter(|line| line != "write").collect();
        assert_eq!(lines, ["connect", "close Reset"], "writable: {writable}");
    }
}

/// `close()` inside `readable()`: predicates see only their own channel, so they cannot. What they can do is panic.
#[test]
fn a_predicate_that_panics_closes_its_channel_alone() {
    struct Panics;
    impl Channel for Panics {
        fn readable(&self) -> bool {
            panic!("no answer")
        }
    }
    let mut map: Map = map();
    let log = Log::new();
    let (_other, here) = Peer::pair();
    let panics = map.add(here, Panics).unwrap();
    let (mut peer, here) = Peer::pair();
    map.add(here, Recorder::new(&log)).unwrap();
    peer.send(b"hello");
    turn_until(&mut map, &mut (), "the input", |_, ()| log.has("read hello"));
    assert!(!map.is_open(panics));
    assert_eq!(map.len(), 1);
}

/// Connect refused: no connect, one error, one close with the reason.
#[test]
fn a_refused_connect_is_an_error_and_a_close() {
    each_net(|net| {
        let mut map: Map = map();
        let log = Log::new();
        let (address, _folder) = net.dead_address();
        map.connect(&address, Recorder::new(&log)).unwrap();
        assert!(log.lines().is_empty(), "told by the loop");
        run_to_the_end(&mut map, &mut ());
        let lines = log.lines();
        assert_eq!(lines.len(), 2, "{lines:?}");
        assert!(lines[0].starts_with("error "), "{lines:?}");
        assert_eq!(lines[1], "close Refused");
    });
}

/// A connect that fails at once, on a missing Unix-domain path: the original leaves a channel behind that is told
/// of a connection.
#[test]
fn a_connect_that_fails_at_once_is_told_by_the_loop() {
    let mut map: Map = map();
    let log = Log::new();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("missing");
    let id = map.connect(path.as_path(), Recorder::new(&log)).unwrap();
    assert_eq!(map.get(id).unwrap().state(), State::Connecting);
    map.poll(&mut (), Some(Duration::ZERO)).unwrap();
    assert!(map.is_empty(), "one turn is enough");
    let text = std::io::Error::from_raw_os_error(rustix::io::Errno::NOENT.raw_os_error());
    assert_eq!(log.lines(), [format!("error {text}"), "close Refused".into()]);
}

/// `close()` inside `handle_connect`: nothing of the channel runs afterwards, although input and room were there.
#[test]
fn nothing_follows_a_close_in_handle_connect() {
    each_net(|net| {
        let mut map: Map = map();
        let log = Log::new();
        let (listener, address, _folder) = net.listener();
        let mut script = Script::new("", &log, |cx: &mut Context<'_>, call| {
            if *call == Call::Connect {
                cx.map.close(cx.id);
                assert!(!cx.map.is_open(cx.id));
            }
            Ok(())
        });
        script.writable = true;
        map.connect(&address, script).unwrap();
        let greeter = map.listen_on(listener, |_| {
            Script::new("", &Log::new(), |cx: &mut Context<'_>, call| {
                if *call == Call::Connect {
                    cx.map.push(cx.id, b"welcome");
                }
                call.default(cx)
            })
        });
        turn_until(&mut map, &mut (), "the close", |_, ()| log.count("close") > 0);
        map.close(greeter.unwrap());
        run_to_the_end(&mut map, &mut ());
        assert_eq!(log.lines(), ["connect", "close Local"]);
    });
}

/// `handle_connect` fails and `handle_error` keeps the channel: the original repeats both on every pass.
#[test]
fn a_handle_connect_that_fails_is_not_repeated() {
    each_net(|net| {
        let mut map: Map = map();
        let log = Log::new();
        let (_listener, address, _folder) = net.listener();
        let script = Script::new("", &log, |_: &mut Context<'_>, call| match call {
            Call::Connect => Err("not ready".into()),
            _ => Ok(()),
        });
        let id = map.connect(&address, script).unwrap();
        turn_until(&mut map, &mut (), "the error", |_, ()| log.count("error") > 0);
        settle(&mut map, &mut ());
        assert_eq!(log.lines(), ["connect", "error not ready"]);
        assert_eq!(map.get(id).unwrap().state(), State::Open);
    });
}

/// An exception in `handle_accepted`: the original closes the listener. Panics, too, stay with their connection.
#[test]
fn a_listener_outlives_the_failure_of_what_it_accepts() {
    each_net(|net| {
        let mut map: Map = map();
        let log = Log::new();
        let (listener, address, _folder) = net.listener();
        let server = map.listen_on(listener, {
            let log = log.clone();
            let mut count = 0;
            move |_| {
                count += 1;
                assert_ne!(count, 1, "the first is not wanted");
                let fails = count == 2;
                Script::new("", &log, move |cx: &mut Context<'_>, call| match call {
                    Call::Connect if fails => Err("the second fails later".into()),
                    _ => call.default(cx),
                })
            }
        });
        let server = server.unwrap();
        let mut peers = [Peer::connect(&address), Peer::connect(&address), Peer::connect(&address)];
        turn_until(&mut map, &mut (), "three accepts", |map, ()| map.counters().accepted == 3);
        settle(&mut map, &mut ());
        let [first, second, _third] = &mut peers;
        assert_eq!(first.read_rest(), b"", "dropped");
        assert_eq!(second.read_rest(), b"", "closed");
        assert!(map.is_open(server));
        assert_eq!(map.len(), 2, "the listener and the third");
        let mut lines = log.lines();
        lines.sort();
        assert_eq!(lines, ["close HandlerError", "connect", "connect", "error the second fails later"]);
    });
}

/// An exception in `handle_close` or `handle_error`: it ends the original's loop, and with it every channel.
#[test]
fn a_panic_in_handle_close_or_handle_error_stays_with_its_channel() {
    let mut map: Map = map();
    let log = Log::new();
    let (_first, here) = Peer::pair();
    let in_error = Script::new("in error", &log, |_: &mut Context<'_>, call| match call {
        Call::Connect => Err("first".into()),
        Call::Error(_) => panic!("in handle_error"),
        _ => Ok(()),
    });
    map.add(here, in_error).unwrap();
    let (_second, here) = Peer::pair();
    let in_close = Script::new("in close", &log, |cx: &mut Context<'_>, call| {
        match call {
            Call::Connect => cx.map.close(cx.id),
            Call::Close(_) => panic!("in handle_close"),
            _ => {}
        }
        Ok(())
    });
    map.add(here, in_close).unwrap();
    let (mut peer, here) = Peer::pair();
    map.add(here, Recorder::named("other", &log)).unwrap();
    peer.send(b"hello");
    turn_until(&mut map, &mut (), "the other channel", |_, ()| log.has("other read hello"));
    assert_eq!(map.len(), 1);
    let lines = log.lines();
    let of = |name: &str| -> Vec<&str> { lines.iter().filter_map(|line| line.strip_prefix(name)).collect() };
    assert_eq!(of("in error "), ["connect", "error first", "close HandlerPanic"]);
    assert_eq!(of("in close "), ["connect", "close Local"]);
}

/// A descriptor closed behind the loop: here the map owns it, and lends it only borrowed. What others can do to the
/// socket, through a copy of the descriptor, ends that channel alone.
#[test]
fn a_socket_shut_down_behind_the_loop_ends_its_channel_alone() {
    let mut map: Map = map();
    let log = Log::new();
    let (_first, here) = Peer::pair();
    let copy = here.try_clone().unwrap();
    map.add(here, Recorder::named("first", &log)).unwrap();
    let (mut second, here) = Peer::pair();
    map.add(here, Recorder::named("second", &log)).unwrap();
    settle(&mut map, &mut ());
    copy.shutdown(std::net::Shutdown::Both).unwrap();
    second.send(b"hello");
    turn_until(&mut map, &mut (), "both", |map, ()| map.len() == 1 && log.has("second read hello"));
    assert!(log.has("first close Eof"), "{:?}", log.lines());
}

/// A descriptor of 1024 or more: `select` cannot take it.
#[test]
fn descriptors_above_1023_are_served() {
    let mut limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    if limit.current.is_some_and(|most| most < 4096) {
        limit.current = limit.maximum.map_or(Some(4096), |most| Some(most.min(4096)));
        rustix::process::setrlimit(rustix::process::Resource::Nofile, limit).unwrap();
    }
    let mut map: Map = map();
    let log = Log::new();
    let (mut peer, low) = Peer::pair();
    let high = rustix::io::fcntl_dupfd_cloexec(&low, 1024).unwrap();
    assert!(high.as_raw_fd() >= 1024);
    drop(low);
    let mut recorder = Recorder::new(&log);
    recorder.echoes = true;
    map.add(UnixStream::from(high), recorder).unwrap();
    peer.send(b"high");
    turn_until(&mut map, &mut (), "the echo", |map, ()| {
        map.iter().all(|(_, channel)| channel.bytes_out() == 4)
    });
    assert_eq!(peer.read_bytes(4), b"high");
}

/// Ten pending connections: the original accepts one a pass.
#[test]
fn ten_pending_connections_are_accepted_in_one_turn() {
    each_net(|net| {
        let (mut map, log, _folder) = accepting(net, Recorder::new);
        let address = address_of(&map);
        let _peers: Vec<Peer> = (0..10).map(|_| Peer::connect(&address)).collect();
        turn_until(&mut map, &mut (), "an accept", |map, ()| map.counters().accepted > 0);
        assert_eq!(map.counters().accepted, 10);
        assert_eq!(log.lines(), ["connect"; 10], "in the same turn");
    });
}

/// A closes B while both are ready, and a new channel C gets B's place and descriptor: in the original C gets B's
/// event.
#[test]
fn a_new_channel_never_gets_the_event_of_the_one_before_it() {
    let mut map: Map<Vec<ChannelId>> = map();
    let mut ids = Vec::new();
    let log = Log::new();
    let (_peer_of_c, c) = Peer::pair();
    let c = Rc::new(RefCell::new(Some(OwnedFd::from(c))));
    let mut peers = Vec::new();
    // A and B do the same, because either may be served first.
    for index in [0, 1] {
        let log = log.clone();
        let c = c.clone();
        let (peer, here) = Peer::pair();
        let fd = here.as_raw_fd();
        let script = Script::new("", &log.clone(), move |cx: &mut Context<'_, Vec<ChannelId>>, call| {
            call.default(cx)?;
            if *call == Call::Read
                && let Some(c) = c.borrow_mut().take()
            {
                let other = cx.app[1 - index];
                let slot = other.to_string().split('.').next().unwrap().to_owned();
                let (dispatcher, handler) = cx.map.remove(other).unwrap();
                let lowest = dispatcher.as_fd().as_raw_fd().min(fd);
                drop((dispatcher, handler));
                let c = rustix::io::fcntl_dupfd_cloexec(&c, lowest)?;
                let id = cx.map.add(UnixStream::from(c), Recorder::named("C", &log))?;
                assert_eq!(id.to_string().split('.').next().unwrap(), slot, "C is in B's slot");
                assert_ne!(id, other);
            }
            Ok(())
        });
        ids.push(map.add(here, script).unwrap());
        peers.push(peer);
    }
    settle(&mut map, &mut ids);
    assert_eq!(log.take(), ["connect"; 2]);
    for peer in &mut peers {
        peer.send(b"x");
    }
    map.poll(&mut ids, Some(Duration::ZERO)).unwrap();
    settle(&mut map, &mut ids);
    assert_eq!(log.lines(), ["read", "C connect"]);
}

/// A map with a listener on a kind of network, a log, and the folder to keep.
fn accepting<C: Channel>(
    net: Net,
    mut make: impl FnMut(&Log) -> C + 'static,
) -> (Map, Log, Option<tempfile::TempDir>) {
    let mut map: Map = map();
    let log = Log::new();
    let (listener, _address, folder) = net.listener();
    let shared = log.clone();
    map.listen_on(listener, move |_| make(&shared)).unwrap();
    (map, log, folder)
}

/// Where the map's listener is reached.
fn address_of(map: &Map) -> Address {
    map.iter().find_map(|(_, channel)| channel.local_addr().unwrap()).unwrap()
}
