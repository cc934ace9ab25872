//! What the next server does not take, or does not answer: the client hears of it, and nothing is half delivered.

use std::net::SocketAddr;
use std::time::Duration;

use asyncore::testing::Peer;

use super::world::{NEXT, World, hello, options, settings};

/// What the next server is asked for a message to two recipients, in its order.
const STEPS: [&str; 7] = [
    "",
    "EHLO relay.test",
    "MAIL FROM:<from@a.test>",
    "RCPT TO:<a@b.test>",
    "RCPT TO:<c@d.test>",
    "DATA",
    // The text.
    "",
];

/// A next server that was asked so far, and has not answered the last step.
fn world_at(step: usize) -> (World, Peer, Peer) {
    let mut world = World::new();
    let client = world.client_with(&["a@b.test", "c@d.test"], b"x\r\n");
    let mut next = world.accept().unwrap();
    world.sim.settle().unwrap();
    let answers = ["220 hi\r\n", &hello(&[]), "250 ok\r\n", "250 ok\r\n", "250 ok\r\n", "354 go\r\n"];
    for at in 0..=step {
        if at == STEPS.len() - 1 {
            assert_eq!(world.take_text(&mut next), b"x\r\n.\r\n");
        } else if !STEPS[at].is_empty() {
            world.sim.expect(&mut next, format!("{}\r\n", STEPS[at])).unwrap();
        }
        if at < step {
            next.send(answers[at]);
        }
    }
    (world, client, next)
}

#[test]
fn a_refusal_is_passed_on_and_the_transaction_undone() {
    for (step, answer, reply) in [
        (2, "550 5.7.1 not you", "550 5.7.1 192.0.2.9 said: not you"),
        (2, "451 4.7.1 greylisted", "451 4.7.1 192.0.2.9 said: greylisted"),
        (3, "550 5.1.1 no such user", "550 5.1.1 <a@b.test>: 192.0.2.9 said: no such user"),
        (4, "452 too many", "452 4.0.0 <c@d.test>: 192.0.2.9 said: too many"),
        (5, "554 5.5.1 no", "554 5.5.1 192.0.2.9 said: no"),
        (6, "554 5.7.1 spam", "554 5.7.1 192.0.2.9 said: spam"),
        (6, "452 4.3.1 full", "452 4.3.1 192.0.2.9 said: full"),
    ] {
        let (mut world, mut client, mut next) = world_at(step);
        next.send(format!("{answer}\r\n"));
        assert_eq!(world.expect_reply(&mut client, &reply[..3]), reply);
        if step < 6 {
            world.expect_each(&mut next, &[("RSET", "250 ok")]);
        }
        // The connection is as good as new.
        world.expect_quiet(&next);
        world.send(&mut client, &["to@b.test"], b"y\r\n");
        assert_eq!(world.take_message(&mut next, "to@b.test"), b"y\r\n.\r\n");
        world.expect_reply(&mut client, "250 ");
    }
}

#[test]
fn a_refusal_among_pipelined_answers_is_told_once_and_nothing_is_sent() {
    for (answers, reply) in [
        ("550 5.7.1 no\r\n503 5.5.1 first\r\n503 5.5.1 first\r\n", "550 5.7.1 192.0.2.9 said: no"),
        ("250 ok\r\n550 5.1.1 who\r\n250 ok\r\n", "550 5.1.1 <a@b.test>: 192.0.2.9 said: who"),
        ("250 ok\r\n250 ok\r\n450 4.2.1 busy\r\n", "450 4.2.1 <c@d.test>: 192.0.2.9 said: busy"),
        ("250 ok\r\n550 5.1.1 who\r\n450 4.2.1 busy\r\n", "550 5.1.1 <a@b.test>: 192.0.2.9 said: who"),
    ] {
        let mut world = World::new();
        let mut client = world.client_with(&["a@b.test", "c@d.test"], b"x\r\n");
        let mut next = world.next_with(&["PIPELINING"]);
        STEPS[2..5].iter().for_each(|line| world.sim.expect(&mut next, format!("{line}\r\n")).unwrap());
        next.send(answers);
        assert_eq!(world.expect_reply(&mut client, &reply[..3]), reply);
        world.expect_each(&mut next, &[("RSET", "250 ok")]);
        world.expect_quiet(&next);
        world.send(&mut client, &["to@b.test"], b"y\r\n");
        world.expect_all(
            &mut next,
            &[("MAIL FROM:<from@a.test>", "250 ok"), ("RCPT TO:<to@b.test>", "250 ok")],
        );
        world.expect_each(&mut next, &[("DATA", "354 go")]);
    }
}

#[test]
fn a_server_that_answers_before_it_reads_is_heard() {
    let mut settings = settings();
    settings.recipients = 1000;
    let mut world = World::with(options(), settings);
    // Far more than what counts as high, once the answers let them go.
    let domain = ["d".repeat(60), "e".repeat(60), "f".repeat(60)].join(".");
    let to: Vec<_> = (0..1000).map(|number| format!("{}{number}@{domain}.test", "u".repeat(50))).collect();
    let mut client = world.client_with(&to.iter().map(String::as_str).collect::<Vec<_>>(), b"x\r\n");
    let mut next = world.next_with(&["PIPELINING"]);
    world.sim.settle().unwrap();
    next.stop_reading();
    next.send("250 ok\r\n".repeat(1000));
    next.send("550 5.7.1 no\r\n");
    world.expect_reply(&mut client, "550 5.7.1 ");
}

#[test]
fn in_lmtp_each_recipient_has_its_own_reply_and_who_is_accepted_gets_the_message() {
    let mut settings = settings();
    settings.lmtp = true;
    let mut world = World::with(options(), settings);
    let mut client = world.client_with(&["a@b.test", "c@d.test", "e@f.test"], b"x\r\n");
    let mut next = world.next_with(&["PIPELINING"]);
    world.expect_all(
        &mut next,
        &[
            ("MAIL FROM:<from@a.test>", "250 ok"),
            ("RCPT TO:<a@b.test>", "250 ok"),
            ("RCPT TO:<c@d.test>", "550 5.1.1 who"),
            ("RCPT TO:<e@f.test>", "450 4.2.1 busy"),
        ],
    );
    world.expect_each(&mut next, &[("DATA", "354 go")]);
    assert_eq!(world.take_text(&mut next), b"x\r\n.\r\n");
    next.send("250 2.6.0 taken\r\n");
    world.expect_reply(&mut client, "250 2.6.0 192.0.2.9 said: taken");
    world.expect_reply(&mut client, "550 5.1.1 <c@d.test>: 192.0.2.9 said: who");
    world.expect_reply(&mut client, "450 4.2.1 <e@f.test>: 192.0.2.9 said: busy");

    // None is accepted: there is no text then.
    world.send(&mut client, &["a@b.test", "c@d.test"], b"x\r\n");
    world.expect_all(
        &mut next,
        &[
            ("MAIL FROM:<from@a.test>", "250 ok"),
            ("RCPT TO:<a@b.test>", "550 5.1.1 who"),
            ("RCPT TO:<c@d.test>", "450 4.2.1 busy"),
        ],
    );
    world.expect_each(&mut next, &[("RSET", "250 ok")]);
    world.expect_reply(&mut client, "550 ");
    world.expect_reply(&mut client, "450 ");
    world.expect_quiet(&next);
}

#[test]
fn a_server_that_goes_away_at_any_step_leaves_the_message_with_the_client() {
    for step in 0..STEPS.len() {
        for resets in [false, true] {
            let (mut world, mut client, mut next) = world_at(step);
            if resets {
                next.reset();
            } else {
                next.close();
            }
            let reply = world.expect_reply(&mut client, "451 4.4.2 ");
            // Only behind the final dot may it have been taken.
            assert_eq!(reply.contains("may have"), step == STEPS.len() - 1, "{step}: {reply}");
            world.sim.settle().unwrap();
            assert!(world.sim.accept(&world.next).is_none(), "a fresh connection is not tried twice");
        }
    }
}

#[test]
fn a_server_that_goes_away_in_the_midst_of_a_text_has_not_seen_its_end() {
    let mut world = World::new();
    let text = b"x\r\n".repeat(1_000_000);
    let mut client = world.client_with(&["to@b.test"], &text);
    let mut next = world.next_with(&[]);
    world.expect_each(&mut next, &[("MAIL FROM:<from@a.test>", "250 ok"), ("RCPT TO:<to@b.test>", "250 ok")]);
    world.sim.expect(&mut next, "DATA\r\n").unwrap();
    next.stop_reading();
    next.send("354 go\r\n");
    world.sim.settle().unwrap();
    next.reset();
    let reply = world.expect_reply(&mut client, "451 4.4.2 ");
    assert!(!reply.contains("may have"), "{reply}");
}

#[test]
fn a_text_that_is_refused_before_its_end_is_not_sent_to_its_end() {
    for (answer, reply) in
        [("552 5.3.4 too large", "552 5.3.4 "), ("250 fine", "451 4.5.0 "), ("421 bye", "451 4.3.2 ")]
    {
        let mut world = World::new();
        let text = b"x\r\n".repeat(1_000_000);
        let mut client = world.client_with(&["to@b.test"], &text);
        let mut next = world.next_with(&[]);
        world.expect_each(
            &mut next,
            &[("MAIL FROM:<from@a.test>", "250 ok"), ("RCPT TO:<to@b.test>", "250 ok")],
        );
        world.sim.expect(&mut next, "DATA\r\n").unwrap();
        next.stop_reading();
        next.send("354 go\r\n");
        world.sim.settle().unwrap();
        next.send(format!("{answer}\r\n"));
        world.expect_reply(&mut client, reply);
        next.start_reading();
        world.sim.settle().unwrap();
        assert!(next.is_eof() || next.is_reset());
        assert!(!next.received().ends_with(b"\r\n.\r\n"), "an end would make a whole of it");
    }
}

#[test]
fn a_server_that_says_nothing_is_given_up_in_the_time_of_the_standard() {
    for (step, minutes) in [(0, 5), (1, 5), (2, 5), (3, 5), (4, 5), (5, 2)] {
        let (mut world, mut client, next) = world_at(step);
        let asked = world.sim.elapsed();
        world.sim.advance(Duration::from_secs(minutes * 60 - 1)).unwrap();
        assert_eq!(client.received(), b"", "{step}");
        world.sim.advance(Duration::from_secs(2)).unwrap();
        world.expect_reply(&mut client, "451 4.4.1 ");
        assert!(world.sim.elapsed() - asked < Duration::from_secs(minutes * 60 + 2));
        assert!(next.is_eof() || next.is_reset());
    }
}

#[test]
fn the_answer_to_a_message_has_ten_minutes_and_is_never_asked_for_twice() {
    let (mut world, mut client, next) = world_at(6);
    world.sim.advance(Duration::from_secs(599)).unwrap();
    assert_eq!(client.received(), b"");
    let reply = {
        world.sim.advance(Duration::from_secs(2)).unwrap();
        world.expect_reply(&mut client, "451 4.4.1 ")
    };
    assert!(reply.contains("may have"), "{reply}");
    world.expect_quiet(&next);
}

#[test]
fn a_server_that_drips_is_given_up_before_the_client_is_gone() {
    let (mut world, mut client, mut next) = world_at(1);
    for _ in 0..9 {
        next.send("250-x\r\n");
        world.sim.advance(Duration::from_secs(60)).unwrap();
    }
    world.expect_reply(&mut client, "451 4.4.1 ");
    assert!(next.is_eof() || next.is_reset());
}

#[test]
fn nobody_there_is_a_temporary_error() {
    let next: SocketAddr = NEXT.parse().unwrap();
    let mut world = World::new();
    world.sim.refuse(next);
    let mut client = world.client_with(&["to@b.test"], b"x\r\n");
    world.expect_reply(&mut client, "451 4.4.1 ");

    world.sim.black_hole(next);
    world.send(&mut client, &["to@b.test"], b"x\r\n");
    let asked = world.sim.elapsed();
    world.expect_reply(&mut client, "451 4.4.1 ");
    assert_eq!((world.sim.elapsed() - asked).as_secs(), 30);

    let mut options = options();
    options.next = "nobody.test:25".parse().unwrap();
    let mut world = World::with(options, settings());
    let mut client = world.client_with(&["to@b.test"], b"x\r\n");
    world.expect_reply(&mut client, "451 4.4.1 ");
}

#[test]
fn a_server_that_does_not_want_this_one_has_nothing_against_the_message() {
    for (step, answer) in
        [(0, "554 5.7.1 not you"), (0, "421 busy"), (1, "421 busy"), (1, "450 later"), (2, "421 busy")]
    {
        let (mut world, mut client, mut next) = world_at(step);
        next.send(format!("{answer}\r\n"));
        world.expect_reply(&mut client, "451 4.3.2 ");
        assert!(next.is_eof() || next.is_reset(), "{answer}");
    }
}

#[test]
fn what_is_no_answer_ends_the_conversation() {
    for (step, answer) in [
        (0, "SSH-2.0-OpenSSH\r\n"),
        (0, "HTTP/1.1 400 Bad Request\r\n"),
        (1, "250-a\r\n550 b\r\n"),
        (2, "2500 ok\r\n"),
        (5, "250 accepted before it was sent\r\n"),
    ] {
        let (mut world, mut client, mut next) = world_at(step);
        next.send(answer);
        world.expect_reply(&mut client, "451 4.5.0 ");
        assert!(next.is_eof() || next.is_reset(), "{answer:?}");
    }
    for answer in [vec![b'2'; 5000], b"250-x\r\n".repeat(101)] {
        let (mut world, mut client, mut next) = world_at(1);
        next.send(answer);
        world.expect_reply(&mut client, "451 4.5.0 ");
    }
}
