//! A line that arrives whole in one read is handed on where it lies: an echoed line costs no allocation.
//!
//! A binary of its own, without the test harness: the allocator that counts is the whole process's, and the harness's
//! thread allocates too.

use std::alloc::System;
use std::io::Read;

use asynchat::{AsyncChat, Chat, Conversation};
use asyncore::{ChannelId, Map, Result};
use integration_tests::{Peer, map, turn_until};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

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
