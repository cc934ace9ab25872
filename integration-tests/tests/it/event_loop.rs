//! The loop: turns, order, adding and removing inside callbacks, and its end.

use asyncore::{Address, Map};
use integration_tests::{Log, Net, Peer, Recorder, each_net, map, run_to_the_end, turn_until};

#[test]
fn the_run_ends_when_the_map_is_empty() {
    let mut map: Map = map();
    map.run(&mut ()).unwrap();
    let log = Log::new();
    let (peer, here) = Peer::pair();
    map.add(here, Recorder::new(&log)).unwrap();
    drop(peer);
    map.run(&mut ()).unwrap();
    assert_eq!(log.lines(), ["connect", "eof", "close Eof"]);
}

#[test]
fn what_a_channel_pushes_reaches_its_peer() {
    let mut map: Map = map();
    let log = Log::new();
    let (mut peer, here) = Peer::tcp_pair();
    let mut recorder = Recorder::new(&log);
    recorder.echoes = true;
    map.add(here, recorder).unwrap();
    peer.send(b"hello");
    turn_until(&mut map, &mut (), "the echo", |map, ()| {
        map.iter().all(|(_, channel)| channel.bytes_out() == 5)
    });
    assert_eq!(peer.read_bytes(5), b"hello");
    peer.shutdown_write();
    run_to_the_end(&mut map, &mut ());
    assert_eq!(log.lines(), ["connect", "read hello", "eof", "close Eof"]);
    assert_eq!(peer.read_rest(), b"");
}

#[test]
fn every_address_of_a_name_is_listened_on() {
    each_net(|net| {
        if net == Net::Unix {
            return;
        }
        let mut map: Map = map();
        let log = Log::new();
        let (address, _) = net.free_address();
        let Address::Inet(address) = address else { panic!("{address} is no IP address") };
        let seen = log.clone();
        // The same address twice stands for a name with two.
        let listeners = map.listen(&[address, address][..], move |_| Recorder::new(&seen)).unwrap();
        assert_eq!(listeners.len(), 2);
        for id in listeners {
            drop(Peer::connect(&map.get(id).unwrap().local_addr().unwrap().unwrap()));
        }
        turn_until(&mut map, &mut (), "both visits", |_, ()| log.count("close") == 2);
    });
}
