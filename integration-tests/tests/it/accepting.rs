//! What listeners take and whom they turn away: totals, addresses, refusals, budgets, and listeners of another's making.

use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use asyncore::testing::{Faults, Peer as SimulatedPeer, Simulation, each_seed};
use asyncore::{
    Address, Channel, ChannelId, Context, Dispatcher, Family, Kind, LINGER_TIME, Limits, ListenOptions, Map,
    Options, Pause, REFUSALS, Rate, Received, Result, WhenFull,
};
use integration_tests::{Net, Peer, map, run_to_the_end, turn_until};
use socket2::{Domain, Socket, Type};

const HERE: &str = "192.0.2.1:25";
const SORRY: &str = "421 too many connections\r\n";

/// Greets, and sends back what it reads.
struct Echo;

impl<A: 'static> Channel<A> for Echo {
    fn handle_connect(&mut self, cx: &mut Context<'_, A>) -> Result {
        cx.map.push(cx.id, "220 here\r\n");
        Ok(())
    }

    fn handle_read(&mut self, cx: &mut Context<'_, A>) -> Result {
        if let Received::Data(data) = cx.map.recv(cx.id, 4096)? {
            cx.map.push(cx.id, &data);
        }
        Ok(())
    }
}

fn options(change: impl FnOnce(&mut ListenOptions)) -> ListenOptions {
    let mut options = ListenOptions::default();
    change(&mut options);
    options
}

/// At most so many, and a last line to the others.
fn refusing(total: usize) -> ListenOptions {
    options(|options| {
        options.total = total;
        options.when_full = WhenFull::Refuse;
        options.refusal = SORRY.into();
    })
}

/// A simulated map that listens at `HERE`.
fn listening(options: ListenOptions) -> Result<(Simulation, ChannelId)> {
    let mut sim = Simulation::new(())?;
    let listeners = sim.map.listen_with(HERE, options, |_| Echo)?;
    Ok((sim, listeners[0]))
}

fn here() -> Address {
    HERE.parse().expect("an address")
}

fn is_greeted(peer: &mut SimulatedPeer) -> bool {
    peer.take_received() == b"220 here\r\n"
}

#[test]
fn by_default_nothing_is_bounded() -> Result {
    let (mut sim, _) = listening(ListenOptions::default())?;
    let mut peers: Vec<_> = (0..500).map(|_| sim.connect(here())).collect();
    sim.settle()?;
    assert!(peers.iter_mut().all(is_greeted));
    assert_eq!((sim.map.counters().accepted, sim.map.counters().refused), (500, 0));
    Ok(())
}

#[test]
fn at_the_total_a_listener_waits_and_goes_on_when_a_connection_closes() -> Result {
    let (mut sim, listener) = listening(options(|options| options.total = 2))?;
    let mut peers: Vec<_> = (0..4).map(|_| sim.connect(here())).collect();
    sim.settle()?;
    let greeted =
        |peers: &mut Vec<SimulatedPeer>| peers.iter_mut().filter_map(|p| is_greeted(p).then_some(())).count();
    assert_eq!(greeted(&mut peers), 2);
    assert!(peers.iter().all(|peer| !peer.is_eof() && !peer.is_reset()), "the others wait");

    let pauses = sim.map.channel_snapshot(listener).map(|listener| listener.pauses);
    assert_eq!(pauses, Some(vec![Pause::Full]));

    // Waiting costs nothing.
    let before = sim.map.counters();
    sim.advance(Duration::from_secs(60))?;
    assert!(sim.map.counters().turns - before.turns <= 2);

    peers[0].close();
    sim.settle()?;
    assert_eq!((greeted(&mut peers), sim.map.counters().accepted), (1, 3));
    peers[1].reset();
    sim.settle()?;
    assert_eq!((greeted(&mut peers), sim.map.counters().accepted), (1, 4));
    assert_eq!(sim.map.counters().refused, 0);
    Ok(())
}

#[test]
fn above_the_total_a_connection_hears_why_it_is_refused() -> Result {
    let (mut sim, _) = listening(refusing(1))?;
    let mut first = sim.connect(here());
    sim.settle()?;
    assert!(is_greeted(&mut first));
    let mut second = sim.connect(here());
    sim.expect_line(&mut second).map(|line| assert_eq!(format!("{line}\r\n"), SORRY))?;
    sim.expect_eof(&mut second)?;
    second.close();
    sim.settle()?;
    assert_eq!((sim.map.counters().accepted, sim.map.counters().refused, sim.map.len()), (1, 1, 2));
    first.close();
    sim.settle()?;
    let mut third = sim.connect(here());
    sim.settle()?;
    assert!(is_greeted(&mut third));
    Ok(())
}

#[test]
fn without_a_last_line_a_refused_connection_is_closed_without_a_word() -> Result {
    let (mut sim, _) = listening(options(|options| {
        options.total = 0;
        options.when_full = WhenFull::Refuse;
    }))?;
    let mut peer = sim.connect(here());
    sim.expect_eof(&mut peer)?;
    assert_eq!((sim.map.counters().refused, sim.map.len()), (1, 1));
    Ok(())
}

#[test]
fn the_refusal_reaches_a_peer_that_has_sent_something() -> Result {
    each_seed(50, |seed| {
        let mut sim = Simulation::with_seed(seed, ())?;
        sim.set_faults(Faults::harmless());
        sim.map.listen_with(HERE, refusing(0), |_| Echo)?;
        let mut peer = sim.connect(here());
        peer.send("EHLO there\r\n");
        sim.expect(&mut peer, SORRY)?;
        peer.send("QUIT\r\n");
        sim.expect_eof(&mut peer)?;
        assert!(!peer.is_reset());
        peer.close();
        sim.settle()?;
        assert_eq!(sim.map.len(), 1);
        Ok(())
    })
}

#[test]
fn refused_peers_that_do_not_go_cost_bounded_memory_for_a_bounded_time() -> Result {
    let (mut sim, _) = listening(refusing(0))?;
    let mut peers: Vec<_> = (0..300).map(|_| sim.connect(here())).collect();
    sim.run_until(Duration::from_secs(1), |sim| sim.map.counters().refused == 300)?;
    sim.settle()?;
    assert_eq!(sim.map.len(), 1 + REFUSALS, "the listener, and as many as linger at a time");
    assert!(peers.iter_mut().all(|peer| peer.take_received() == SORRY.as_bytes()), "each hears it");
    sim.advance(LINGER_TIME)?;
    assert_eq!(sim.map.len(), 1);
    let mut late = sim.connect(here());
    sim.expect(&mut late, SORRY)?;
    sim.settle()?;
    assert_eq!(sim.map.len(), 2, "there is room to linger again");
    Ok(())
}

#[test]
fn more_connections_than_one_address_may_have_are_refused() -> Result {
    let (mut sim, _) = listening(options(|options| {
        options.per_address = 2;
        options.refusal = SORRY.into();
    }))?;
    let from = |sim: &mut Simulation, ip: &str| {
        let from: SocketAddr = format!("{ip}:40000").parse().expect("an address");
        sim.connect_from(from, here())
    };
    let mut first: Vec<_> = (0..3).map(|_| from(&mut sim, "198.51.100.7")).collect();
    let mut other = from(&mut sim, "198.51.100.8");
    sim.settle()?;
    assert!(is_greeted(&mut first[0]) && is_greeted(&mut first[1]) && is_greeted(&mut other));
    assert_eq!(first[2].take_received(), SORRY.as_bytes());
    first[0].close();
    sim.settle()?;
    let mut next = from(&mut sim, "198.51.100.7");
    sim.settle()?;
    assert!(is_greeted(&mut next));
    Ok(())
}

#[test]
fn an_address_counts_by_its_prefix_and_a_mapped_one_as_what_it_is() -> Result {
    let (mut sim, _) = listening(options(|options| {
        options.per_address = 1;
        options.prefix_v4 = 24;
        options.refusal = SORRY.into();
    }))?;
    let cases = [
        ("198.51.100.7:1", true),
        ("198.51.100.200:1", false),
        ("198.51.101.7:1", true),
        ("[::ffff:198.51.100.9]:1", false),
        ("[2001:db8:0:1::1]:1", true),
        ("[2001:db8:0:1:ffff::2]:1", false),
        ("[2001:db8:0:2::1]:1", true),
    ];
    let mut peers = Vec::new();
    for (from, is_taken) in cases {
        let mut peer = sim.connect_from(from.parse::<Address>()?, here());
        sim.settle()?;
        assert_eq!(is_greeted(&mut peer), is_taken, "{from}");
        peers.push(peer);
    }
    Ok(())
}

#[test]
fn the_listeners_of_one_call_count_together_and_those_of_another_apart() -> Result {
    let mut sim = Simulation::new(())?;
    let addresses: Vec<SocketAddr> = vec!["192.0.2.1:25".parse()?, "192.0.2.1:587".parse()?];
    sim.map.listen_with(&addresses[..], refusing(2), |_| Echo)?;
    sim.map.listen_with("192.0.2.1:110", refusing(1), |_| Echo)?;
    let mut peers = Vec::new();
    for (port, is_taken) in [(25, true), (587, true), (25, false), (587, false), (110, true), (110, false)] {
        let mut peer = sim.connect(format!("192.0.2.1:{port}").parse::<Address>()?);
        sim.settle()?;
        assert_eq!(is_greeted(&mut peer), is_taken, "{port}");
        peers.push(peer);
    }
    Ok(())
}

#[test]
fn a_connection_counts_until_its_socket_is_closed_also_outside_of_the_map() -> Result {
    let (mut sim, listener) = listening(options(|options| options.total = 1))?;
    let mut peers = [sim.connect(here()), sim.connect(here())];
    sim.settle()?;
    let id = sim.map.iter().map(|(id, _)| id).find(|id| *id != listener).expect("the first");
    let (dispatcher, _handler) = sim.map.remove(id).expect("an idle channel");
    sim.advance(Duration::from_secs(1))?;
    assert_eq!(sim.map.counters().accepted, 1, "it is open still");
    drop(dispatcher);
    sim.settle()?;
    assert_eq!(sim.map.counters().accepted, 2);
    assert!(is_greeted(&mut peers[0]) && is_greeted(&mut peers[1]));
    Ok(())
}

#[test]
fn a_connection_that_was_accepted_and_dropped_counts_no_more() -> Result {
    struct Dropping;
    impl Channel for Dropping {
        fn handle_accepted(&mut self, _cx: &mut Context<'_>, accepted: Dispatcher) -> Result {
            drop(accepted);
            Ok(())
        }
    }
    let mut sim = Simulation::new(())?;
    let mut listener = sim.map.create_socket(Family::V4, Kind::Stream)?;
    listener.bind(here())?;
    listener.listen(16)?;
    let id = sim.map.add(listener, Dropping)?;
    sim.map.set_listen_options(&[id], options(|options| options.total = 1));
    let _peers: Vec<_> = (0..5).map(|_| sim.connect(here())).collect();
    sim.settle()?;
    assert_eq!(sim.map.counters().accepted, 5);
    Ok(())
}

/// Keeps what it accepts, as a listener of one's own may.
#[derive(Default)]
struct Keeping(Vec<Dispatcher>);

impl Channel for Keeping {
    fn handle_accepted(&mut self, _cx: &mut Context<'_>, accepted: Dispatcher) -> Result {
        self.0.push(accepted);
        Ok(())
    }
}

#[test]
fn a_listener_of_ones_own_is_bounded_too() -> Result {
    let mut sim = Simulation::new(())?;
    let mut listener = sim.map.create_socket(Family::V4, Kind::Stream)?;
    listener.bind(here())?;
    listener.listen(16)?;
    let id = sim.map.add(listener, Keeping::default())?;
    sim.map.set_listen_options(&[id], refusing(2));
    let mut peers: Vec<_> = (0..3).map(|_| sim.connect(here())).collect();
    sim.settle()?;
    let kept = |sim: &mut Simulation| sim.map.handler::<Keeping>(id).expect("the listener").0.len();
    assert_eq!(kept(&mut sim), 2);
    assert_eq!(peers[2].take_received(), SORRY.as_bytes());
    sim.map.handler_mut::<Keeping>(id).expect("the listener").0.pop();
    peers.push(sim.connect(here()));
    sim.settle()?;
    assert_eq!(kept(&mut sim), 2);
    assert_eq!(sim.map.counters().refused, 1);
    Ok(())
}

#[test]
fn other_options_free_a_listener_that_waits() -> Result {
    let (mut sim, listener) = listening(options(|options| options.total = 0))?;
    let mut peer = sim.connect(here());
    sim.settle()?;
    assert_eq!(peer.take_received(), b"");
    sim.map.set_listen_options(&[listener], ListenOptions::default());
    sim.settle()?;
    assert!(is_greeted(&mut peer));
    Ok(())
}

#[test]
fn a_listener_that_waits_for_its_total_and_for_descriptors_goes_on_when_it_has_both() -> Result {
    let (mut sim, _) = listening(options(|options| options.total = 1))?;
    let mut first = sim.connect(here());
    sim.settle()?;
    // The listener and the first have two; the reserve has the third.
    sim.set_descriptors(3);
    let mut second = sim.connect(here());
    sim.settle()?;
    assert!(is_greeted(&mut first) && !is_greeted(&mut second));
    sim.set_descriptors(0);
    first.close();
    sim.advance(Duration::from_secs(1))?;
    assert_eq!(sim.map.counters().accepted, 1);
    sim.set_descriptors(usize::MAX);
    let mut third = sim.connect(here());
    sim.advance(Duration::from_secs(1))?;
    assert_eq!(sim.map.counters().accepted, 2, "one more than have gone");
    assert!(is_greeted(&mut second) || is_greeted(&mut third));
    Ok(())
}

#[test]
fn a_listener_accepts_as_many_in_a_turn_as_its_options_say() -> Result {
    for (budget, accepted) in [(Some(3), 3), (Some(0), 1), (None, 64)] {
        let (mut sim, _) = listening(options(|options| options.accept_budget = budget))?;
        let _peers: Vec<_> = (0..100).map(|_| sim.connect(here())).collect();
        let mut most = 0;
        while sim.map.counters().accepted < 100 {
            let before = sim.map.counters().accepted;
            sim.turn()?;
            most = most.max(sim.map.counters().accepted - before);
        }
        assert_eq!(most, accepted, "{budget:?}");
    }
    Ok(())
}

#[test]
fn what_is_accepted_has_the_limits_of_the_options() -> Result {
    let mut limits = Limits::default();
    limits.output = 12345;
    let (mut sim, listener) = listening(options(|options| options.limits = Some(limits.clone())))?;
    let _peer = sim.connect(here());
    sim.settle()?;
    let id = sim.map.iter().map(|(id, _)| id).find(|id| *id != listener).expect("the connection");
    assert_eq!(sim.map.limits(id), Some(&limits));
    Ok(())
}

#[test]
fn times_and_rates_of_the_options_bind_what_is_accepted_and_not_the_listener() -> Result {
    let mut limits = Limits::default();
    limits.idle_time = Some(Duration::from_secs(1));
    limits.read_time = Some(Duration::from_secs(1));
    limits.total_time = Some(Duration::from_secs(2));
    limits.min_rate = Some(Rate::per_second(1));
    limits.read_rate = Some(Rate::per_second(0));
    let (mut sim, listener) = listening(options(|options| options.limits = Some(limits)))?;
    sim.advance(Duration::from_secs(60))?;
    let mut peer = sim.connect(here());
    sim.settle()?;
    assert!(is_greeted(&mut peer));
    sim.advance(Duration::from_secs(60))?;
    assert!(peer.is_eof());
    assert_eq!(sim.map.iter().map(|(id, _)| id).collect::<Vec<_>>(), [listener]);
    Ok(())
}

#[test]
fn a_shutdown_closes_a_listener_that_waits_and_lets_the_refused_hear_their_line() -> Result {
    let (mut sim, _) = listening(options(|options| {
        options.per_address = 1;
        options.refusal = SORRY.into();
        options.total = 1;
        options.when_full = WhenFull::Refuse;
    }))?;
    let _first = sim.connect(here());
    let mut refused = sim.connect(here());
    sim.run_until(Duration::from_secs(1), |sim| sim.map.counters().refused == 1)?;
    sim.map.shutdown(Duration::from_secs(5));
    sim.run()?;
    assert_eq!(refused.take_received(), SORRY.as_bytes());
    Ok(())
}

/// Whatever becomes of connections, and in whichever order: in the end every place is free.
#[test]
fn no_place_is_lost() -> Result {
    each_seed(200, |seed| {
        let mut sim = Simulation::with_seed(seed, ())?;
        let when_full = if seed % 2 == 0 { WhenFull::Wait } else { WhenFull::Refuse };
        let bounds = options(|options| {
            options.total = 4;
            options.per_address = 3;
            options.when_full = when_full;
            options.refusal = SORRY.into();
        });
        let listener = sim.map.listen_with(HERE, bounds, |_| Echo)?[0];
        let mut faults = Faults::harmless();
        faults.resets = 0.05;
        sim.set_faults(faults);
        let from = |number: u8| -> Address { SocketAddr::from(([198, 51, 100, number % 3], 1)).into() };
        let mut peers: Vec<_> = (0..12).map(|number| sim.connect_from(from(number), here())).collect();
        let mut removed = Vec::new();
        for (number, peer) in peers.iter_mut().enumerate() {
            sim.turn()?;
            peer.send("hello\r\n");
            let other = sim.map.iter().map(|(id, _)| id).find(|id| *id != listener);
            match (number % 4, other) {
                (0, _) => peer.close(),
                (1, _) => peer.reset(),
                (2, Some(other)) => removed.extend(sim.map.remove(other)),
                (_, Some(other)) => sim.map.close_when_done(other),
                _ => {}
            }
        }
        sim.set_faults(Faults::none());
        for peer in &mut peers {
            peer.close();
        }
        drop(removed);
        sim.advance(Duration::from_secs(60))?;
        assert_eq!(sim.map.len(), 1, "the listener");
        let mut peers: Vec<_> = (0..4).map(|number| sim.connect_from(from(number), here())).collect();
        sim.settle()?;
        assert!(peers.iter_mut().all(is_greeted), "{peers:?}");
        Ok(())
    })
}

/// Over real sockets: what was sent before the refusal does not turn it into a reset.
#[test]
fn over_tcp_and_a_path_the_refusal_reaches_a_peer_that_has_sent_something() {
    for net in [Net::V4, Net::Unix] {
        let mut map: Map = map();
        let (listener, address, _folder) = net.listener();
        let id = map.listen_on(listener, |_| Echo).unwrap();
        map.set_listen_options(&[id], refusing(1));
        let mut first = Peer::connect(&address);
        turn_until(&mut map, &mut (), "the first", |map, ()| map.counters().accepted == 1);
        let mut second = Peer::connect(&address);
        second.send(b"EHLO there\r\n");
        turn_until(&mut map, &mut (), "the refusal", |map, ()| map.counters().refused == 1);
        turn_until(&mut map, &mut (), "its last line", |map, ()| {
            map.iter().all(|(_, dispatcher)| dispatcher.queued() == 0)
        });
        assert_eq!(second.read_rest(), SORRY.as_bytes(), "over {net:?}");
        drop(second);
        assert_eq!(first.read_bytes(10), b"220 here\r\n");
        map.shutdown(Duration::from_secs(5));
        drop(first);
        run_to_the_end(&mut map, &mut ());
    }
}

/// Each address of the loopback network is another peer.
#[cfg(target_os = "linux")]
#[test]
fn over_tcp_each_address_has_its_own_count() {
    let mut map: Map = map();
    let mut options = refusing(usize::MAX);
    options.per_address = 1;
    let listeners = map.listen_with("127.0.0.1:0", options, |_| Echo).unwrap();
    let at = map.get(listeners[0]).unwrap().local_addr().unwrap().unwrap();
    let Address::Inet(at) = at else { panic!("{at}") };
    let connect = |last: u8| {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::from((Ipv4Addr::new(127, 0, 0, last), 0)).into()).unwrap();
        socket.connect(&at.into()).unwrap();
        socket.set_read_timeout(Some(integration_tests::DEADLINE)).unwrap();
        TcpStream::from(socket)
    };
    let mut peers = [connect(2), connect(3), connect(2)].map(Peer::Tcp);
    turn_until(&mut map, &mut (), "all three", |map, ()| {
        map.counters().accepted == 2 && map.counters().refused == 1
    });
    turn_until(&mut map, &mut (), "all that is said", |map, ()| map.queued() == 0);
    assert_eq!(peers[2].read_bytes(SORRY.len()), SORRY.as_bytes());
    for peer in &mut peers[..2] {
        assert_eq!(peer.read_bytes(10), b"220 here\r\n");
    }
}

/// Linux spreads the connections by a hash of their addresses: with forty, each of two listeners gets some.
#[cfg(target_os = "linux")]
#[test]
fn listeners_that_share_a_port_share_what_comes() {
    let mut map: Map = map();
    let shared = || options(|options| options.reuse_port = true);
    let first = map.listen_with("127.0.0.1:0", shared(), |_| Echo).unwrap()[0];
    let at = map.get(first).unwrap().local_addr().unwrap().unwrap();
    let port = at.port().unwrap();
    assert!(map.listen(("127.0.0.1", port), |_| Echo).is_err(), "only with one that says so too");
    let mut others: Map = integration_tests::map();
    others.listen_with(("127.0.0.1", port), shared(), |_| Echo).unwrap();
    let _peers: Vec<Peer> = (0..40).map(|_| Peer::connect(&at)).collect();
    turn_until(&mut map, &mut (), "all connections", |map, ()| {
        others.poll(&mut (), Some(Duration::ZERO)).unwrap();
        map.counters().accepted + others.counters().accepted == 40
    });
    assert!(map.counters().accepted > 0 && others.counters().accepted > 0, "{map:?} {others:?}");
}

#[test]
fn a_map_with_its_own_connection_bound_still_minds_it() -> Result {
    let mut of_map = Options::default();
    of_map.connections = 3;
    let mut sim = Simulation::with_options(0, of_map, ())?;
    sim.map.listen_with(HERE, refusing(10), |_| Echo)?;
    let mut peers: Vec<_> = (0..4).map(|_| sim.connect(here())).collect();
    sim.settle()?;
    assert_eq!(peers.iter_mut().filter_map(|peer| is_greeted(peer).then_some(())).count(), 2);
    peers[0].close();
    sim.settle()?;
    assert_eq!(sim.map.counters().accepted, 3);
    Ok(())
}
