//! One test for each test of CPython's `test_asyncore`, named in the doc comment of its counterpart; those of
//! `BaseTestAPI` are in `test_asyncore_api`.
//!
//! The counterparts of `FileWrapperTest` are in `descriptors`.

use asyncore::{Channel, Context, Dispatcher, Family, Kind, Map, Result, State};
use integration_tests::{
    Call, Log, Net, Peer, Recorder, Script, captured, each_net, map, run_to_the_end, turn_until,
};
use tracing::Level;

/// `HelperFunctionTests.test_readwriteexc`: what a callback fails with goes to `handle_error`, and no further.
#[test]
fn an_error_of_any_callback_reaches_handle_error() {
    for failing in [Call::Connect, Call::Read, Call::Write, Call::Expt, Call::Eof] {
        let mut map: Map = map();
        let log = Log::new();
        let (mut peer, here) = Peer::tcp_pair();
        let fails = failing.clone();
        let mut script = Script::new("", &log, move |cx: &mut Context<'_>, call| {
            call.default(cx)?;
            if *call == fails { Err(format!("no {fails}").into()) } else { Ok(()) }
        });
        script.writable = failing == Call::Write;
        map.add(here, script).unwrap();
        peer.send(b"input");
        if failing == Call::Expt {
            peer.send_urgent(b'!');
        }
        if failing == Call::Eof {
            peer.shutdown_write();
        }
        run_to_the_end(&mut map, &mut ());
        let lines = log.lines();
        let [.., error, close] = &lines[..] else { panic!("{lines:?}") };
        assert_eq!(*error, format!("error no {failing}"));
        assert_eq!(close, "close HandlerError", "after {lines:?}");
        assert_eq!(log.count("error"), 1);
    }
}

/// `HelperFunctionTests.test_readwriteexc`: where `ExitNow` ended the loop, `stop` does.
#[test]
fn stop_in_a_callback_ends_the_run_and_keeps_the_channels() {
    let mut map: Map = map();
    let log = Log::new();
    let (peer, here) = Peer::pair();
    let script = Script::new("", &log, |cx: &mut Context<'_>, call| {
        if *call == Call::Connect {
            cx.map.stop();
        }
        call.default(cx)
    });
    let id = map.add(here, script).unwrap();
    map.run(&mut ()).unwrap();
    assert!(map.is_open(id));
    assert_eq!(log.take(), ["connect"]);
    drop(peer);
    map.run(&mut ()).unwrap();
    assert_eq!(log.lines(), ["read", "eof", "close Eof"]);
}

/// `HelperFunctionTests.test_readwrite`: each kind of readiness calls its own callback.
#[test]
fn each_readiness_calls_its_own_callback() {
    let cases = [
        (Call::Read, vec!["connect", "read x"]),
        (Call::Write, vec!["connect", "write"]),
        (Call::Expt, vec!["connect", "expt"]),
        (Call::Eof, vec!["connect", "eof", "close Eof"]),
    ];
    for (call, expected) in cases {
        let mut map: Map = map();
        let log = Log::new();
        let (mut peer, here) = Peer::tcp_pair();
        let mut recorder = Recorder::new(&log);
        recorder.writable = call == Call::Write;
        map.add(here, recorder).unwrap();
        match call {
            Call::Read => peer.send(b"x"),
            Call::Expt => peer.send_urgent(b'!'),
            Call::Eof => peer.shutdown_write(),
            _ => {}
        }
        let last = expected[expected.len() - 1];
        turn_until(&mut map, &mut (), last, |_, ()| log.has(last));
        let mut lines = log.lines();
        lines.dedup();
        assert_eq!(lines, expected);
    }
}

/// `HelperFunctionTests.test_closeall`: every channel is closed, hears so, and the map is empty.
#[test]
fn close_all_closes_every_channel_and_empties_the_map() {
    let mut map: Map = map();
    let log = Log::new();
    let peers: Vec<Peer> = (0..10)
        .map(|_| {
            let (peer, here) = Peer::pair();
            map.add(here, Recorder::new(&log)).unwrap();
            peer
        })
        .collect();
    map.close_all();
    assert_eq!(map.iter().count(), 0, "closed channels are no longer seen");
    map.run(&mut ()).unwrap();
    assert!(map.is_empty());
    assert_eq!(log.lines(), ["close Local"; 10]);
    drop(peers);
}

/// `HelperFunctionTests.test_closeall_default`: the same for the thread's own map.
#[test]
fn close_all_empties_the_default_map() {
    let log = Log::new();
    let (_peer, here) = Peer::pair();
    asyncore::default_map(|map| map.add(here, Recorder::new(&log))).unwrap().unwrap();
    asyncore::default_map(Map::close_all).unwrap();
    asyncore::run().unwrap();
    assert!(asyncore::default_map(|map| map.is_empty()).unwrap());
    assert_eq!(log.lines(), ["close Local"]);
}

/// `HelperFunctionTests.test_compact_traceback`: instead of a traceback, the log tells the channel, its peer and the
/// error.
#[test]
fn the_default_handle_error_logs_channel_peer_and_error() {
    struct Fails;
    impl Channel for Fails {
        fn handle_connect(&mut self, _cx: &mut Context<'_>) -> Result {
            Err("the greeting is missing".into())
        }
    }
    let (peer, here) = Peer::tcp_pair();
    let address = here.peer_addr().unwrap();
    let mut id = None;
    let text = captured(Level::WARN, || {
        let mut map: Map = map();
        id = Some(map.add(here, Fails).unwrap());
        run_to_the_end(&mut map, &mut ());
    });
    let lines: Vec<&str> = text.lines().collect();
    let [line] = lines[..] else { panic!("{text}") };
    for part in [
        "WARN",
        "closing a channel after an error",
        &format!("id={}", id.unwrap()),
        &format!("peer={address}"),
        "error=the greeting is missing",
    ] {
        assert!(line.contains(part), "{part:?} is not in {line:?}");
    }
    drop(peer);
}

/// `DispatcherTests.test_basic`: a channel that overrides nothing is readable; not writable, which would spin.
#[test]
fn a_bare_channel_is_readable_and_not_writable() {
    struct Bare;
    impl Channel for Bare {}
    assert!(Bare.readable());
    assert!(!Bare.writable());
}

/// `DispatcherTests.test_repr`: a dispatcher shows its state and its peer, an id its slot and generation.
#[test]
fn dispatchers_ids_and_reasons_show_what_they_are() {
    let bare = Dispatcher::create_socket(Family::V4, Kind::Stream).unwrap();
    assert_eq!(format!("{bare:?}"), r#"Dispatcher { state: Created, peer: unknown, queued: 0, .. }"#);
    let (_peer, here) = Peer::tcp_pair();
    let address = here.peer_addr().unwrap();
    let connected = Dispatcher::try_from(here).unwrap();
    assert_eq!(
        format!("{connected:?}"),
        format!("Dispatcher {{ state: Open, peer: {address}, queued: 0, .. }}")
    );
    let mut map: Map = map();
    let id = map.add(connected, Recorder::new(&Log::new())).unwrap();
    assert_eq!(format!("{id} {id:?}"), "0.1 ChannelId(0.1)");
    assert_eq!(format!("{map:?}"), "Map { channels: 1, queued: 0, turns: 0, .. }");
    assert_eq!(asyncore::CloseReason::Refused.to_string(), "connection refused");
    assert_eq!(State::PeerClosed.to_string(), "peer closed");
}

/// `DispatcherTests.test_log`: what the original writes to standard error is a `tracing` event at debug.
#[test]
fn a_channel_s_life_is_told_at_debug_and_not_at_warn() {
    let life = |level| {
        captured(level, || {
            let mut map: Map = map();
            let (mut peer, here) = Peer::tcp_pair();
            let mut recorder = Recorder::new(&Log::new());
            recorder.echoes = true;
            map.add(here, recorder).unwrap();
            peer.send(b"quiet");
            peer.shutdown_write();
            run_to_the_end(&mut map, &mut ());
            assert_eq!(peer.read_rest(), b"quiet");
        })
    };
    let text = life(Level::DEBUG);
    assert!(text.contains("channel added id=0.1"), "{text}");
    assert!(text.contains("channel closed id=0.1"), "{text}");
    assert!(text.contains("reason=closed by the peer"), "{text}");
    assert_eq!(life(Level::WARN), "");
}

/// `DispatcherTests.test_log_info`: a listener's coming and going is told at info, with its address.
#[test]
fn listeners_are_told_at_info() {
    let mut address = None;
    let text = captured(Level::INFO, || {
        let mut map: Map = map();
        let ids = map.listen("127.0.0.1:0", |_| Recorder::new(&Log::new())).unwrap();
        address = map.get(ids[0]).unwrap().local_addr().unwrap();
        map.close(ids[0]);
        run_to_the_end(&mut map, &mut ());
    });
    let address = address.unwrap();
    assert!(text.contains(&format!("listening id=0.1 address={address}")), "{text}");
    assert!(text.contains("no longer listening id=0.1 reason=closed here"), "{text}");
    assert_eq!(text.lines().count(), 2, "{text}");
}

/// `DispatcherTests.test_unhandled`: events that nobody handles are told; connecting is none of them.
#[test]
fn default_callbacks_tell_what_was_not_handled() {
    struct Bare;
    impl Channel for Bare {
        fn writable(&self) -> bool {
            true
        }
    }
    let text = captured(Level::DEBUG, || {
        let mut map: Map = map();
        let (mut peer, here) = Peer::tcp_pair();
        let id = map.add(here, Bare).unwrap();
        peer.send_urgent(b'!');
        turn_until(&mut map, &mut (), "the urgent byte", |map, ()| map.counters().events > 0);
        peer.send(b"input");
        turn_until(&mut map, &mut (), "the input", |map, ()| map.get(id).unwrap().bytes_in() == 5);
    });
    for part in [
        "WARN asyncore::channel: unhandled read event: input dropped id=0.1",
        "WARN asyncore::channel: unhandled write event id=0.1",
        "DEBUG asyncore::channel: unhandled urgent data dropped id=0.1",
    ] {
        assert!(text.contains(part), "{part:?} is not in {text}");
    }
    assert!(!text.contains("unhandled connect"), "{text}");
}

/// `DispatcherTests.test_unhandled`: a connection that a listener does not take is closed, and the log says so.
#[test]
fn a_bare_listener_closes_what_it_accepts_and_tells() {
    struct Bare;
    impl Channel for Bare {}
    let text = captured(Level::WARN, || {
        let mut map: Map = map();
        let (listener, address, _folder) = Net::V4.listener();
        map.add(listener, Bare).unwrap();
        let mut peer = Peer::connect(&address);
        turn_until(&mut map, &mut (), "the connection", |map, ()| map.counters().accepted == 1);
        assert_eq!(peer.read_rest(), b"");
        assert_eq!(map.len(), 1, "the listener goes on");
    });
    assert!(text.contains("unhandled accepted event: connection closed"), "{text}");
}

/// `DispatcherTests.test_strerror`: `handle_error` is given the system's error, also of a number the system lacks.
#[test]
fn handle_error_is_given_the_system_s_error() {
    for number in [rustix::io::Errno::PERM.raw_os_error(), 9999] {
        let mut map: Map = map();
        let log = Log::new();
        let (_peer, here) = Peer::pair();
        let script = Script::new("", &log, move |cx: &mut Context<'_>, call| {
            call.default(cx)?;
            match call {
                Call::Connect => Err(std::io::Error::from_raw_os_error(number).into()),
                _ => Ok(()),
            }
        });
        map.add(here, script).unwrap();
        run_to_the_end(&mut map, &mut ());
        let text = std::io::Error::from_raw_os_error(number);
        assert_eq!(log.lines(), ["connect", &format!("error {text}"), "close HandlerError"]);
    }
}

/// `DispatcherWithSendTests.test_send`: what a connecting client pushes arrives complete and in order.
#[test]
fn pushes_of_a_connecting_client_arrive_in_order() {
    each_net(|net| {
        let mut map: Map = map();
        let log = Log::new();
        let (listener, address, _folder) = net.listener();
        let server = map.listen_on(listener, {
            let log = log.clone();
            move |_| Recorder::named("server", &log)
        });
        let server = server.unwrap();
        let client = map.connect(&address, Recorder::named("client", &log)).unwrap();
        for part in ["one ", "two ", "three"] {
            assert!(map.push(client, part).is_queued());
        }
        assert_eq!(map.get(client).unwrap().queued(), 13);
        turn_until(&mut map, &mut (), "the queue to drain", |map, ()| map.get(client).unwrap().queued() == 0);
        map.close_when_done(client);
        turn_until(&mut map, &mut (), "the end", |_, ()| log.has("server eof"));
        assert!(log.has("server read one two three"), "{:?}", log.lines());
        map.close(server);
        run_to_the_end(&mut map, &mut ());
    });
}
