//! Connections that are used again, or were closed meanwhile, and messages that wait for one.

use std::time::Duration;

use super::world::World;

#[test]
fn the_next_message_goes_over_the_same_connection() {
    let mut world = World::new();
    let (mut client, mut next) = world.relayed();
    for _ in 0..3 {
        world.sim.advance(Duration::from_secs(59)).unwrap();
        world.send(&mut client, &["two@b.test"], b"2\r\n");
        assert_eq!(world.take_message(&mut next, "two@b.test"), b"2\r\n.\r\n");
        world.expect_reply(&mut client, "250 ");
        world.expect_quiet(&next);
    }
}

#[test]
fn a_connection_that_is_not_used_is_ended_with_a_word() {
    let mut world = World::new();
    let (mut client, mut next) = world.relayed();
    world.sim.advance(Duration::from_secs(61)).unwrap();
    world.sim.expect(&mut next, "QUIT\r\n").unwrap();
    next.send("221 bye\r\n");
    next.close();
    // Another message finds another connection.
    world.send(&mut client, &["to@b.test"], b"x\r\n");
    let mut next = world.next_with(&[]);
    world.take_message(&mut next, "to@b.test");
    world.expect_reply(&mut client, "250 ");
}

#[test]
fn a_connection_that_says_goodbye_gets_no_other_message() {
    let mut world = World::new();
    let (mut client, mut old) = world.relayed();
    world.sim.advance(Duration::from_secs(61)).unwrap();
    world.sim.expect(&mut old, "QUIT\r\n").unwrap();
    // It has not been answered yet.
    world.send(&mut client, &["to@b.test"], b"y\r\n");
    let mut next = world.next_with(&[]);
    assert_eq!(world.take_message(&mut next, "to@b.test"), b"y\r\n.\r\n");
    world.expect_reply(&mut client, "250 ");
    world.expect_quiet(&old);
}

#[test]
fn a_server_that_hangs_up_with_its_answer_to_a_message_gets_no_other_there() {
    let mut world = World::new();
    let mut client = world.client_with(&["to@b.test"], b"x\r\n");
    let mut old = world.next_with(&[]);
    world.expect_each(
        &mut old,
        &[("MAIL FROM:<from@a.test>", "250 ok"), ("RCPT TO:<to@b.test>", "250 ok"), ("DATA", "354 go")],
    );
    world.take_text(&mut old);
    // It is slow to close.
    old.send("421 4.3.2 going down\r\n");
    assert_eq!(
        world.expect_reply(&mut client, "451 "),
        "451 4.3.2 192.0.2.9 said: going down",
        "a 421 would have the client hang up"
    );
    world.send(&mut client, &["to@b.test"], b"y\r\n");
    let mut next = world.next_with(&[]);
    assert_eq!(world.take_message(&mut next, "to@b.test"), b"y\r\n.\r\n");
    world.expect_reply(&mut client, "250 ");
    world.expect_quiet(&old);
}

#[test]
fn a_kept_connection_that_the_server_has_closed_is_replaced() {
    for goodbye in ["", "421 4.4.2 idle for too long\r\n"] {
        let mut world = World::new();
        let (mut client, mut next) = world.relayed();
        next.send(goodbye);
        next.close();
        world.sim.settle().unwrap();
        world.send(&mut client, &["to@b.test"], b"y\r\n");
        let mut next = world.next_with(&[]);
        assert_eq!(world.take_message(&mut next, "to@b.test"), b"y\r\n.\r\n");
        world.expect_reply(&mut client, "250 ");
    }
}

#[test]
fn a_kept_connection_that_is_lost_before_the_final_dot_is_tried_again_once() {
    for (asked, answer) in [
        (&[][..], "421 4.4.2 idle for too long\r\n"),
        (&[], ""),
        (&[("MAIL FROM:<from@a.test>", "250 ok")], ""),
        (&[("MAIL FROM:<from@a.test>", "250 ok"), ("RCPT TO:<to@b.test>", "250 ok")], ""),
    ] {
        let mut world = World::new();
        let (mut client, mut next) = world.relayed();
        world.send(&mut client, &["to@b.test"], b"y\r\n");
        world.expect_each(&mut next, asked);
        world.sim.expect_line(&mut next).unwrap();
        next.send(answer);
        next.close();
        // All of it again, on another connection.
        let mut next = world.next_with(&[]);
        world.expect_each(
            &mut next,
            &[("MAIL FROM:<from@a.test>", "250 ok"), ("RCPT TO:<to@b.test>", "250 ok")],
        );
        world.sim.expect(&mut next, "DATA\r\n").unwrap();
        next.close();
        // And not a third time.
        world.expect_reply(&mut client, "451 4.4.2 ");
        world.sim.settle().unwrap();
        assert!(world.sim.accept(&world.next).is_none());
    }
}

#[test]
fn a_second_try_asks_for_every_recipient_anew() {
    let mut world = World::new();
    let (mut client, mut next) = world.relayed();
    world.send(&mut client, &["a@b.test", "c@d.test"], b"y\r\n");
    let recipients = [
        ("MAIL FROM:<from@a.test>", "250 ok"),
        ("RCPT TO:<a@b.test>", "250 ok"),
        ("RCPT TO:<c@d.test>", "250 ok"),
    ];
    world.expect_each(&mut next, &recipients);
    world.sim.expect(&mut next, "DATA\r\n").unwrap();
    next.close();
    let mut next = world.next_with(&[]);
    world.expect_each(&mut next, &recipients);
    world.expect_each(&mut next, &[("DATA", "354 go")]);
    assert_eq!(world.take_text(&mut next), b"y\r\n.\r\n");
    next.send("250 ok\r\n");
    world.expect_reply(&mut client, "250 ");
    // And DATA was asked for once.
    world.send(&mut client, &["to@b.test"], b"z\r\n");
    assert_eq!(world.take_message(&mut next, "to@b.test"), b"z\r\n.\r\n");
    world.expect_reply(&mut client, "250 ");
}

#[test]
fn a_message_that_may_have_been_taken_is_not_sent_again() {
    let mut world = World::new();
    let (mut client, mut next) = world.relayed();
    world.send(&mut client, &["to@b.test"], b"y\r\n");
    world.expect_each(
        &mut next,
        &[("MAIL FROM:<from@a.test>", "250 ok"), ("RCPT TO:<to@b.test>", "250 ok"), ("DATA", "354 go")],
    );
    world.take_text(&mut next);
    next.close();
    assert!(world.expect_reply(&mut client, "451 4.4.2 ").contains("may have"));
    world.sim.settle().unwrap();
    assert!(world.sim.accept(&world.next).is_none());
}

#[test]
fn a_server_that_was_started_anew_is_not_asked_over_any_old_connection() {
    let mut world = World::new();
    let mut clients: Vec<_> = (0..3).map(|_| world.client_with(&["to@b.test"], b"x\r\n")).collect();
    let mut nexts: Vec<_> = (0..3).map(|_| world.next_with(&[])).collect();
    for (client, next) in clients.iter_mut().zip(&mut nexts) {
        world.take_message(next, "to@b.test");
        world.expect_reply(client, "250 ");
    }
    // Nobody has told this side that two of them are gone.
    world.send(&mut clients[0], &["to@b.test"], b"y\r\n");
    world.sim.settle().unwrap();
    nexts.iter_mut().find(|next| !next.received().is_empty()).unwrap().reset();
    let mut next = world.next_with(&[]);
    assert_eq!(world.take_message(&mut next, "to@b.test"), b"y\r\n.\r\n");
    world.expect_reply(&mut clients[0], "250 ");
}

#[test]
fn messages_wait_for_a_connection_where_there_are_as_many_as_may_be() {
    let mut world = World::new();
    let mut clients: Vec<_> = (0..25).map(|_| world.client_with(&["to@b.test"], b"x\r\n")).collect();
    let mut nexts: Vec<_> = (0..20).map(|_| world.next_with(&[])).collect();
    world.sim.settle().unwrap();
    assert!(world.sim.accept(&world.next).is_none(), "20 are enough");
    // One connection that goes away makes room for another; the others serve one message after the other.
    nexts.pop().unwrap().close();
    nexts.push(world.next_with(&[]));
    let mut taken = 0;
    while taken < 24 {
        for next in &mut nexts {
            world.sim.settle().unwrap();
            if !next.received().is_empty() {
                world.take_message(next, "to@b.test");
                taken += 1;
            }
        }
    }
    let replies: Vec<_> = clients.iter_mut().map(|client| world.expect_reply(client, "")).collect();
    assert_eq!(replies.iter().filter(|reply| reply.starts_with("250 ")).count(), 24);
    assert_eq!(replies.iter().filter(|reply| reply.starts_with("451 4.4.2 ")).count(), 1);
}

#[test]
fn a_message_does_not_wait_longer_than_its_client() {
    let mut world = World::new();
    let mut clients: Vec<_> = (0..20).map(|_| world.client_with(&["to@b.test"], b"x\r\n")).collect();
    let mut nexts: Vec<_> = (0..20).map(|_| world.next_with(&[])).collect();
    for next in &mut nexts {
        world.expect_each(
            next,
            &[("MAIL FROM:<from@a.test>", "250 ok"), ("RCPT TO:<to@b.test>", "250 ok"), ("DATA", "354 go")],
        );
        world.take_text(next);
    }
    // All are busy for as long as they may.
    world.sim.advance(Duration::from_secs(55)).unwrap();
    let mut last = world.client_with(&["to@b.test"], b"x\r\n");
    world.sim.advance(Duration::from_secs(9 * 60 - 1)).unwrap();
    assert_eq!(last.received(), b"");
    world.sim.advance(Duration::from_secs(2)).unwrap();
    world.expect_reply(&mut last, "451 4.4.5 ");
    for client in &mut clients {
        world.expect_reply(client, "451 4.4.1 ");
    }
}
