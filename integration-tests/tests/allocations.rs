//! A line that arrives whole in one read is handed on where it lies: an echoed line costs no allocation. Nor does a
//! command of the key-value example, however often the terminator is switched in it.
//!
//! A binary of its own, without the test harness: the allocator that counts is the whole process's, and the harness's
//! thread allocates too.

use std::alloc::System;
use std::io::Read;

use asynchat::{AsyncChat, Chat, Conversation};
use asyncore::{ChannelId, Map, Result};
use integration_tests::{Peer, map, turn_until};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

use kv_server::Server;

#[expect(dead_code, unused_imports, reason = "its main and its tests run elsewhere")]
#[path = "../../examples/kv_server.rs"]
mod kv_server;

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

struct Echo;

impl Chat for Echo {
    fn found_terminator(&mut self, cx: &mut Conversation<'_>, line: &[u8]) -> Result {
        cx.push(line);
        cx.push(b"\r\n");
        Ok(())
    }
}

/// Sends the pieces, each to be read by itself, and takes the echo: how often memory was asked for meanwhile.
fn allocations(map: &mut Map, id: ChannelId, peer: &mut Peer, pieces: &[&[u8]], echo: &mut [u8]) -> usize {
    let before = Region::new(ALLOCATOR);
    let mut sent = map.get(id).unwrap().bytes_in();
    for piece in pieces {
        peer.send(piece);
        sent += piece.len() as u64;
        turn_until(map, &mut (), "the piece", |map, ()| map.get(id).unwrap().bytes_in() == sent);
    }
    turn_until(map, &mut (), "the echo", |map, ()| map.get(id).unwrap().bytes_out() == sent);
    peer.read_exact(echo).unwrap();
    let change = before.change();
    change.allocations + change.reallocations
}

fn main() {
    an_echoed_line_that_was_read_whole_costs_no_allocation();
    println!("an echoed line that was read whole costs no allocation: ok");
    a_command_on_keys_that_are_there_costs_no_allocation();
    println!("a command on keys that are there costs no allocation: ok");
}

fn a_command_on_keys_that_are_there_costs_no_allocation() {
    let mut map = map();
    let mut server = Server::default();
    let (mut peer, here) = Peer::tcp_pair();
    let id = map.add(here, kv_server::conversation()).unwrap();
    let commands = b"*3\r\n$3\r\nSET\r\n$3\r\nkey\r\n$5\r\nvalue\r\n*2\r\n$3\r\nGET\r\n$3\r\nkey\r\n\
        *3\r\n$4\r\nMGET\r\n$3\r\nkey\r\n$4\r\nnone\r\n*1\r\n$4\r\nPING\r\nPING\r\n\
        *5\r\n$4\r\nMSET\r\n$3\r\nkey\r\n$5\r\nother\r\n$1\r\nn\r\n$1\r\n7\r\n*2\r\n$4\r\nINCR\r\n$1\r\nn\r\n";
    let expected = b"+OK\r\n$5\r\nvalue\r\n*2\r\n$5\r\nvalue\r\n$-1\r\n+PONG\r\n+PONG\r\n+OK\r\n:8\r\n";
    let mut answers = vec![0; expected.len()];
    let mut round = || {
        let before = Region::new(ALLOCATOR);
        let sent = map.get(id).unwrap().bytes_out() + expected.len() as u64;
        peer.send(commands);
        turn_until(&mut map, &mut server, "the answers", |map, _| map.get(id).unwrap().bytes_out() == sent);
        peer.read_exact(&mut answers).unwrap();
        assert!(answers == expected);
        let change = before.change();
        change.allocations + change.reallocations
    };
    // The first round makes the keys and the pools.
    assert!(round() > 0);
    for _ in 0..100 {
        assert_eq!(round(), 0);
    }
}

fn an_echoed_line_that_was_read_whole_costs_no_allocation() {
    let mut map = map();
    let (mut peer, here) = Peer::tcp_pair();
    let id = map.add(here, AsyncChat::new(Echo).terminator(b"\r\n")).unwrap();
    let line = &b"a line as they come\r\n"[..];
    let many = line.repeat(64);
    let mut echo = vec![0; many.len()];

    for data in [line, &many] {
        let echo = &mut echo[..data.len()];
        // The first round makes the pools.
        allocations(&mut map, id, &mut peer, &[data], echo);
        for _ in 0..100 {
            assert_eq!(allocations(&mut map, id, &mut peer, &[data], echo), 0, "for {} bytes", data.len());
            assert!(echo == data);
        }
    }
    // The count counts: a line in two pieces has to be held in between.
    let (start, end) = line.split_at(7);
    assert!(allocations(&mut map, id, &mut peer, &[start, end], &mut echo[..line.len()]) > 0);
}
