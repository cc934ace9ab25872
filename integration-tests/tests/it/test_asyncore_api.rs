//! The tests of CPython's `test_asyncore.BaseTestAPI`, each over IPv4, IPv6 and Unix-domain sockets.

use std::cell::RefCell;
use std::os::fd::AsFd;
use std::rc::Rc;

use asyncore::{Address, Channel, ChannelId, Context, Dispatcher, Kind, Map, Result, State};
use integration_tests::{
    Call, DEADLINE, Log, Net, Peer, Recorder, Script, each_net, map, run_to_the_end, settle, turn_until,
};
use socket2::SockRef;

/// `BaseTestAPI.test_handle_connect`
#[test]
fn a_client_hears_handle_connect() {
    each_net(|net| {
        let mut map: Map = map();
        let log = Log::new();
        let (_listener, address, _folder) = net.listener();
        let client = map.connect(&address, Recorder::new(&log)).unwrap();
        turn_until(&mut map, &mut (), "the connect", |map, ()| {
            map.get(client).unwrap().state() == State::Open
        });
        settle(&mut map, &mut ());
        assert_eq!(log.lines(), ["connect"]);
    });
}

/// `BaseTestAPI.test_handle_accept`
#[test]
fn a_listener_hears_handle_accept() {
    struct Listener(Log);
    impl Channel for Listener {
        fn handle_accept(&mut self, cx: &mut Context<'_>) -> Result {
            self.0.add("accept");
            cx.map.close(cx.id);
            Ok(())
        }
    }
    each_net(|net| {
        let mut map: Map = map();
        let log = Log::new();
        let (listener, address, _folder) = net.listener();
        map.add(listener, Listener(log.clone())).unwrap();
        settle(&mut map, &mut ());
        assert!(log.lines().is_empty(), "nobody has connected");
        let _peer = Peer::connect(&address);
        run_to_the_end(&mut map, &mut ());
        assert_eq!(log.lines(), ["accept"]);
    });
}

/// `BaseTestAPI.test_handle_accepted`
#[test]
fn the_default_handle_accept_forwards_each_connection() {
    struct Listener(Rc<RefCell<Vec<Dispatcher>>>);
    impl Channel for Listener {
        fn handle_accepted(&mut self, _cx: &mut Context<'_>, accepted: Dispatcher) -> Result {
            self.0.borrow_mut().push(accepted);
            Ok(())
        }
    }
    each_net(|net| {
        let mut map: Map = map();
        let accepted = Rc::new(RefCell::new(Vec::new()));
        let (listener, address, _folder) = net.listener();
        map.add(listener, Listener(accepted.clone())).unwrap();
        let peers = [Peer::connect(&address), Peer::connect(&address)];
        turn_until(&mut map, &mut (), "two connections", |_, ()| accepted.borrow().len() == 2);
        for (peer, accepted) in peers.iter().zip(&*accepted.borrow()) {
            assert_eq!(accepted.state(), State::Open);
            assert_eq!(accepted.family(), net.family());
            assert_eq!(accepted.local_addr().unwrap().as_ref(), Some(&address));
            assert_eq!(accepted.peer_addr(), Some(own_address(peer)));
        }
    });
}

/// `BaseTestAPI.test_handle_read`
#[test]
fn input_is_read_by_handle_read() {
    each_net(|net| {
        with_client(net, |map, log, _client, mut server| {
            server.send(&[b'x'; 1024]);
            let line = format!("read {}", "x".repeat(1024));
            turn_until(map, &mut (), "the input", |_, ()| log.has(&line));
        });
    });
}

/// `BaseTestAPI.test_handle_write`
#[test]
fn a_writable_client_hears_handle_write_once_it_is_connected() {
    each_net(|net| {
        let mut map: Map = map();
        let log = Log::new();
        let (_listener, address, _folder) = net.listener();
        let mut recorder = Recorder::new(&log);
        recorder.writable = true;
        map.connect(&address, recorder).unwrap();
        turn_until(&mut map, &mut (), "room to write", |_, ()| log.has("write"));
        assert_eq!(log.lines()[..2], ["connect", "write"]);
    });
}

/// `BaseTestAPI.test_handle_close`
#[test]
fn the_end_of_a_peer_leads_to_handle_close() {
    each_net(|net| {
        with_client(net, |map, log, _client, server| {
            drop(server);
            run_to_the_end(map, &mut ());
            assert_eq!(log.lines(), ["connect", "eof", "close Eof"]);
        });
    });
}

/// `BaseTestAPI.test_handle_close_after_conn_broken`
#[test]
fn writing_to_a_broken_connection_closes_without_an_error() {
    each_net(|net| {
        with_client(net, |map, log, client, server| {
            map.push(client, &[b'a'; 1024]);
            turn_until(map, &mut (), "the first push", |map, ()| map.queued() == 0);
            // It closes with the input unread: over TCP the client is reset.
            drop(server);
            map.push(client, &[b'b'; 1024]);
            run_to_the_end(map, &mut ());
            assert_eq!(log.count("error"), 0, "{:?}", log.lines());
            assert_eq!(log.count("close"), 1, "{:?}", log.lines());
        });
    });
}

/// `BaseTestAPI.test_handle_expt`: out-of-band data, which Unix-domain sockets do not have.
#[test]
fn an_urgent_byte_reaches_handle_expt() {
    for net in [Net::V4, Net::V6] {
        with_client(net, |map, log, client, mut server| {
            server.send_urgent(b'!');
            turn_until(map, &mut (), "the urgent byte", |_, ()| log.has("expt"));
            server.send(b"and on");
            turn_until(map, &mut (), "the rest", |_, ()| log.has("read and on"));
            assert!(map.is_open(client));
            assert_eq!(log.lines(), ["connect", "expt", "read and on"]);
        });
    }
}

/// `BaseTestAPI.test_handle_error`
#[test]
fn an_error_in_handle_write_reaches_handle_error() {
    each_net(|net| {
        let mut map: Map = map();
        let log = Log::new();
        let (_listener, address, _folder) = net.listener();
        let mut script = Script::new("", &log, |cx: &mut Context<'_>, call| match call {
            Call::Write => Err("nothing to write".into()),
            _ => call.default(cx),
        });
        script.writable = true;
        map.connect(&address, script).unwrap();
        run_to_the_end(&mut map, &mut ());
        assert_eq!(log.lines(), ["connect", "write", "error nothing to write", "close HandlerError"]);
    });
}

/// `BaseTestAPI.test_connection_attributes`: one state instead of two booleans.
#[test]
fn the_state_follows_the_connection() {
    each_net(|net| {
        let (listener, address, _folder) = net.listener();
        assert_eq!(listener.state(), State::Listening);
        assert_eq!(listener.peer_addr(), None);

        let mut map: Map = map();
        let log = Log::new();
        let accepted: Rc<RefCell<Option<ChannelId>>> = Rc::default();
        let server = map.listen_on(listener, {
            let log = log.clone();
            move |_| Recorder::named("server", &log)
        });
        let server = server.unwrap();
        let unconnected = Dispatcher::create_socket(net.family(), Kind::Stream).unwrap();
        assert_eq!(unconnected.state(), State::Created);
        let client = map.connect(&address, Recorder::named("client", &log)).unwrap();
        assert_eq!(map.get(client).unwrap().state(), State::Connecting);
        assert_eq!(map.get(client).unwrap().peer_addr(), Some(address));

        turn_until(&mut map, &mut (), "both sides", |_, ()| log.count("") == 2);
        *accepted.borrow_mut() = map.iter().map(|(id, _)| id).find(|id| *id != client && *id != server);
        for id in [client, accepted.borrow().unwrap()] {
            assert_eq!(map.get(id).unwrap().state(), State::Open);
        }
        assert_eq!(map.get(server).unwrap().state(), State::Listening, "accepting changes nothing");

        map.close(client);
        assert!(map.get(client).is_none(), "a closed channel is no longer seen");
        map.close(server);
        assert!(map.get(server).is_none());
        run_to_the_end(&mut map, &mut ());
    });
}

/// `BaseTestAPI.test_create_socket`
#[test]
fn a_new_socket_is_a_non_blocking_stream_that_children_do_not_inherit() {
    each_net(|net| {
        let socket = Dispatcher::create_socket(net.family(), Kind::Stream).unwrap();
        assert_eq!(socket.family(), net.family());
        assert_eq!(socket.kind(), Kind::Stream);
        assert_eq!(SockRef::from(&socket).r#type().unwrap(), socket2::Type::STREAM);
        let status = rustix::fs::fcntl_getfl(socket.as_fd()).unwrap();
        assert!(status.contains(rustix::fs::OFlags::NONBLOCK));
        let flags = rustix::io::fcntl_getfd(socket.as_fd()).unwrap();
        assert!(flags.contains(rustix::io::FdFlags::CLOEXEC));
    });
}

/// `BaseTestAPI.test_bind`
#[test]
fn an_address_is_bound_once() {
    each_net(|net| {
        let (address, _folder) = net.free_address();
        let mut first = Dispatcher::create_socket(net.family(), Kind::Stream).unwrap();
        first.bind(address).unwrap();
        let address = first.local_addr().unwrap().unwrap();
        let mut second = Dispatcher::create_socket(net.family(), Kind::Stream).unwrap();
        assert_eq!(second.bind(address).unwrap_err().kind(), std::io::ErrorKind::AddrInUse);
    });
}

/// `BaseTestAPI.test_set_reuse_addr`
#[test]
fn an_address_is_reusable_when_asked_for() {
    each_net(|net| {
        let socket = Dispatcher::create_socket(net.family(), Kind::Stream).unwrap();
        assert!(!SockRef::from(&socket).reuse_address().unwrap());
        socket.set_reuse_addr().unwrap();
        assert!(SockRef::from(&socket).reuse_address().unwrap());
    });
}

/// `BaseTestAPI.test_quick_connect`: a client that connects and resets at once does not disturb the server.
#[test]
fn a_connection_that_is_reset_at_once_does_not_disturb_the_server() {
    each_net(|net| {
        let mut map: Map = map();
        let log = Log::new();
        let (listener, address, _folder) = net.listener();
        let server = map.listen_on(listener, {
            let log = log.clone();
            move |_| Recorder::new(&log)
        });
        let server = server.unwrap();
        for _ in 0..20 {
            Peer::connect(&address).reset();
        }
        let mut peer = Peer::connect(&address);
        peer.send(b"hello");
        turn_until(&mut map, &mut (), "the one that stays", |_, ()| log.has("read hello"));
        settle(&mut map, &mut ());
        assert_eq!(map.len(), 2, "the listener and the last client: {map:?}");
        assert!(map.is_open(server));
        assert_eq!(log.count("error"), 0, "{:?}", log.lines());
    });
}

/// Hands a connected client channel and the server's end of it to a test.
fn with_client(net: Net, test: impl FnOnce(&mut Map, &Log, ChannelId, Peer)) {
    let mut map: Map = map();
    let log = Log::new();
    let (mut listener, address, _folder) = net.listener();
    let client = map.connect(&address, Recorder::new(&log)).unwrap();
    turn_until(&mut map, &mut (), "the connect", |_, ()| log.has("connect"));
    let accepted = listener.accept().unwrap().unwrap();
    let socket = socket2::Socket::from(accepted.as_fd().try_clone_to_owned().unwrap());
    drop(accepted);
    socket.set_nonblocking(false).unwrap();
    socket.set_read_timeout(Some(DEADLINE)).unwrap();
    let server = match net {
        Net::V4 | Net::V6 => Peer::Tcp(socket.into()),
        Net::Unix => Peer::Unix(std::os::fd::OwnedFd::from(socket).into()),
    };
    test(&mut map, &log, client, server);
}

fn own_address(peer: &Peer) -> Address {
    match peer {
        Peer::Tcp(socket) => socket.local_addr().unwrap().into(),
        Peer::Unix(_) | Peer::Tls(_) => Address::Unnamed,
    }
}
