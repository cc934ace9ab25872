//! What is passed on, and how it looks.

use std::time::Duration;

use asynchat::BareIn;

use super::world::{World, options, settings};

#[test]
fn a_message_is_acknowledged_when_the_next_server_has_taken_it() {
    let mut world = World::new();
    let mut client = world.client_with(&["to@b.test"], b"Subject: x\r\n\r\nhello\r\n");
    let mut next = world.next_with(&[]);
    world.expect_each(
        &mut next,
        &[("MAIL FROM:<from@a.test>", "250 ok"), ("RCPT TO:<to@b.test>", "250 ok"), ("DATA", "354 go")],
    );
    assert_eq!(world.take_text(&mut next), b"Subject: x\r\n\r\nhello\r\n.\r\n");
    world.sim.settle().unwrap();
    assert_eq!(client.received(), b"", "it is not the relay's to promise");
    next.send("250 2.6.0 queued as 17\r\n");
    assert_eq!(world.expect_reply(&mut client, "250 "), "250 2.6.0 192.0.2.9 said: queued as 17");
}

#[test]
fn commands_are_pipelined_where_that_is_allowed_but_not_the_data() {
    let mut world = World::new();
    let mut client = world.client_with(&["a@b.test", "c@d.test"], b"x\r\n");
    let mut next = world.next_with(&["PIPELINING"]);
    world.expect_all(
        &mut next,
        &[
            ("MAIL FROM:<from@a.test>", "250 ok"),
            ("RCPT TO:<a@b.test>", "250 ok"),
            ("RCPT TO:<c@d.test>", "250 ok"),
        ],
    );
    world.expect_each(&mut next, &[("DATA", "354 go")]);
    assert_eq!(world.take_text(&mut next), b"x\r\n.\r\n");
    next.send("250 ok\r\n");
    world.expect_reply(&mut client, "250 2.0.0 ");
}

#[test]
fn more_recipients_than_the_pipeline_holds_all_get_the_message() {
    let mut settings = settings();
    settings.recipients = 1000;
    let mut world = World::with(options(), settings);
    let to: Vec<_> = (0..250).map(|number| format!("u{number}@b.test")).collect();
    let mut client = world.client_with(&to.iter().map(String::as_str).collect::<Vec<_>>(), b"x\r\n");
    let mut next = world.next_with(&["PIPELINING"]);
    world.expect_all(&mut next, &[("MAIL FROM:<from@a.test>", "250 ok")]);
    for to in &to {
        world.expect_all(&mut next, &[(&format!("RCPT TO:<{to}>"), "250 ok")]);
    }
    world.expect_each(&mut next, &[("DATA", "354 go")]);
    world.take_text(&mut next);
    next.send("250 ok\r\n");
    world.expect_reply(&mut client, "250 ");
}

#[test]
fn answers_may_have_many_lines_and_come_byte_by_byte() {
    let mut world = World::new();
    let mut client = world.client_with(&["to@b.test"], b"x\r\n");
    let mut next = world.accept().unwrap();
    next.set_chunk(1);
    next.send("220-mx.test\r\n220-wait for it\r\n220 now\r\n");
    world.greet(&mut next, &["PIPELINING"]);
    world.expect_all(
        &mut next,
        &[("MAIL FROM:<from@a.test>", "250-2.1.0 fine\r\n250 2.1.0 ok"), ("RCPT TO:<to@b.test>", "250 ok")],
    );
    world.expect_each(&mut next, &[("DATA", "354-go\r\n354 on")]);
    world.take_text(&mut next);
    next.send("250-2.6.0 one\r\n250 2.6.0 two\r\n");
    assert_eq!(world.sim.expect_line(&mut client).unwrap(), "250-2.6.0 192.0.2.9 said: one");
    assert_eq!(world.sim.expect_line(&mut client).unwrap(), "250 2.6.0 two");
}

#[test]
fn a_server_without_ehlo_is_greeted_as_in_1982() {
    let mut world = World::new();
    let mut client = world.client_with(&["to@b.test"], b"x\r\n");
    let mut next = world.accept().unwrap();
    next.send("220 old\r\n");
    world.expect_each(&mut next, &[("EHLO relay.test", "500 what?"), ("HELO relay.test", "250 hello")]);
    assert_eq!(world.take_message(&mut next, "to@b.test"), b"x\r\n.\r\n");
    world.expect_reply(&mut client, "250 ");
}

#[test]
fn a_bounce_has_no_sender() {
    let mut world = World::new();
    let mut client = world.client();
    world.send_with(&mut client, "MAIL FROM:<>", &["to@b.test"], b"x\r\n");
    let mut next = world.next_with(&[]);
    world.expect_each(&mut next, &[("MAIL FROM:<>", "250 ok")]);
}

#[test]
fn a_text_of_dots_arrives_as_it_was() {
    let mut world = World::new();
    // As the client sends it: `.`, `..`, `...`, `. x`, and a dot in the midst.
    let text = b"..\r\n...\r\n....\r\n.. x\r\nx.\r\n..\r\n\r\n..\r\n";
    let mut client = world.client_with(&["to@b.test"], text);
    let mut next = world.next_with(&[]);
    let sent = world.take_message(&mut next, "to@b.test");
    assert_eq!(sent, [&text[..], b".\r\n"].concat());
    world.expect_reply(&mut client, "250 ");
}

#[test]
fn the_empty_message_is_passed_on() {
    let mut world = World::new();
    let mut client = world.client_with(&["to@b.test"], b"");
    let mut next = world.next_with(&[]);
    assert_eq!(world.take_message(&mut next, "to@b.test"), b".\r\n");
    world.expect_reply(&mut client, "250 ");
}

#[test]
fn a_large_message_waits_for_a_slow_reader_in_bounded_memory() {
    let mut world = World::new();
    let line = [&[b'x'; 98][..], b"\r\n"].concat();
    let text = line.repeat((5 << 20) / 100);
    let mut client = world.client_with(&["to@b.test"], &text);
    let mut next = world.next_with(&[]);
    world.expect_each(
        &mut next,
        &[("MAIL FROM:<from@a.test>", "250 ok"), ("RCPT TO:<to@b.test>", "250 ok"), ("DATA", "354 go")],
    );
    next.stop_reading();
    let (mut sent, mut most) = (Vec::new(), 0);
    while !sent.ends_with(b"\r\n.\r\n") {
        world.sim.settle().unwrap();
        most = most.max(world.sim.map.queued());
        // Slowly, but within what is allowed to a block.
        world.sim.advance(Duration::from_secs(1)).unwrap();
        next.read_some(100_000);
        sent.extend(next.take_received());
    }
    assert!(most <= 256 << 10, "{most} bytes are queued");
    assert_eq!(super::world::below_received(&sent).len(), text.len() + 3);
    next.start_reading();
    next.send("250 ok\r\n");
    world.expect_reply(&mut client, "250 ");
}

#[test]
fn what_a_message_needs_is_asked_of_a_server_that_has_it() {
    let mut world = World::new();
    let mut client = world.client();
    let mail = "MAIL FROM:<fröm@a.test> BODY=8BITMIME SMTPUTF8 SIZE=100";
    world.send_with(&mut client, mail, &["tö@b.test"], "Subject: é\r\n\r\né\r\n".as_bytes());
    let mut next = world.next_with(&["8BITMIME", "SMTPUTF8", "PIPELINING"]);
    world.expect_all(
        &mut next,
        &[("MAIL FROM:<fröm@a.test> BODY=8BITMIME SMTPUTF8", "250 ok"), ("RCPT TO:<tö@b.test>", "250 ok")],
    );
    world.expect_each(&mut next, &[("DATA", "354 go")]);
    assert_eq!(world.take_text(&mut next), "Subject: é\r\n\r\né\r\n.\r\n".as_bytes());
}

#[test]
fn the_size_that_is_declared_is_that_of_the_text_before_the_stuffing() {
    let mut world = World::new();
    let mut client = world.client_with(&["to@b.test"], b"..\r\n..\r\nx\r\n");
    let mut next = world.next_with(&["SIZE 1000"]);
    let mail = world.sim.expect_line(&mut next).unwrap();
    let size: usize = mail.strip_prefix("MAIL FROM:<from@a.test> SIZE=").unwrap().parse().unwrap();
    next.send("250 ok\r\n");
    world.expect_each(&mut next, &[("RCPT TO:<to@b.test>", "250 ok"), ("DATA", "354 go")]);
    world.sim.run_until(Duration::from_secs(60), |_| next.received().ends_with(b"\r\n.\r\n")).unwrap();
    assert_eq!(next.received().len(), size + "....\r\n".len() - 1);
    next.send("250 ok\r\n");
    world.expect_reply(&mut client, "250 ");
}

#[test]
fn what_was_declared_and_is_not_needed_is_no_obstacle() {
    let mut world = World::new();
    let mut client = world.client();
    let mail = "MAIL FROM:<from@a.test> BODY=8BITMIME SMTPUTF8";
    world.send_with(&mut client, mail, &["to@b.test"], b"Subject: e\r\n\r\ne\r\n");
    let mut next = world.next_with(&[]);
    world.take_message(&mut next, "to@b.test");
    world.expect_reply(&mut client, "250 ");
}

#[test]
fn a_server_that_lacks_what_a_message_needs_is_not_asked() {
    for (mail, to, text, extensions, reply) in [
        ("MAIL FROM:<from@a.test> BODY=8BITMIME", "to@b.test", "\r\né\r\n", &["SMTPUTF8"][..], "554 5.6.3 "),
        ("MAIL FROM:<from@a.test>", "to@b.test", "\r\né\r\n", &[], "554 5.6.3 "),
        ("MAIL FROM:<from@a.test> SMTPUTF8", "tö@b.test", "x\r\n", &["8BITMIME"], "554 5.6.7 "),
        ("MAIL FROM:<from@a.test> SMTPUTF8", "to@b.test", "S: é\r\n\r\nx\r\n", &["8BITMIME"], "554 5.6.7 "),
        ("MAIL FROM:<from@a.test>", "to@b.test", "0123456789\r\n", &["SIZE 20"], "552 5.3.4 "),
    ] {
        let mut world = World::new();
        let mut client = world.client();
        world.send_with(&mut client, mail, &[to], text.as_bytes());
        let next = world.next_with(extensions);
        world.expect_reply(&mut client, reply);
        world.expect_quiet(&next);
    }
}

#[test]
fn a_message_that_has_passed_too_many_servers_is_refused() {
    let mut world = World::new();
    let hops = "Received: from somewhere\r\n".repeat(101);
    let mut client = world.client_with(&["to@b.test"], hops.as_bytes());
    world.expect_reply(&mut client, "554 5.4.6 ");
    world.sim.settle().unwrap();
    assert!(world.sim.accept(&world.next).is_none(), "nobody is asked");
    // One less may have come a long way.
    world.send(&mut client, &["to@b.test"], &hops.as_bytes()["Received: from somewhere\r\n".len()..]);
    let mut next = world.next_with(&[]);
    world.take_message(&mut next, "to@b.test");
    world.expect_reply(&mut client, "250 ");
}

#[test]
fn a_bare_end_that_was_kept_on_arrival_goes_no_further() {
    for text in ["x\ny\r\n", "x\ry\r\n", "x\n.\r\nMAIL FROM:<evil@a.test>\r\n", "\r\n\n.\n"] {
        let mut settings = settings();
        settings.bare = BareIn::Keep;
        let mut world = World::with(options(), settings);
        let mut client = world.client_with(&["to@b.test"], format!("{text}\r\n").as_bytes());
        world.expect_reply(&mut client, "554 5.6.0 ");
        world.sim.settle().unwrap();
        assert!(world.sim.accept(&world.next).is_none(), "{text:?}");
    }
}

#[test]
fn a_client_that_has_gone_does_not_stop_its_message() {
    let mut world = World::new();
    let mut client = world.client_with(&["to@b.test"], b"x\r\n");
    let mut next = world.next_with(&[]);
    client.reset();
    assert_eq!(world.take_message(&mut next, "to@b.test"), b"x\r\n.\r\n");
    world.sim.settle().unwrap();
    let mut other = world.client_with(&["other@b.test"], b"y\r\n");
    world.take_message(&mut next, "other@b.test");
    world.expect_reply(&mut other, "250 ");
}

#[test]
fn a_shutdown_finishes_the_message_in_flight() {
    let mut world = World::new();
    let mut client = world.client_with(&["to@b.test"], b"x\r\n");
    let mut next = world.accept().unwrap();
    world.sim.map.shutdown(Duration::from_secs(30));
    next.send("220 mx.test\r\n");
    world.greet(&mut next, &[]);
    world.take_message(&mut next, "to@b.test");
    world.expect_reply(&mut client, "250 ");
    world.sim.expect(&mut next, "QUIT\r\n").unwrap();
    next.send("221 bye\r\n");
    next.close();
    world.sim.run().unwrap();
    assert!(world.sim.elapsed() < Duration::from_secs(30), "it did not wait for the deadline");
}

#[test]
fn a_shutdown_ends_with_its_deadline() {
    let mut world = World::new();
    // More than there are connections: some wait.
    let mut clients: Vec<_> = (0..25).map(|_| world.client_with(&["to@b.test"], b"x\r\n")).collect();
    let nexts: Vec<_> = (0..20).map(|_| world.next_with(&[])).collect();
    let asked = world.sim.elapsed();
    world.sim.map.shutdown(Duration::from_secs(30));
    world.sim.run().unwrap();
    assert_eq!((world.sim.elapsed() - asked).as_secs(), 30);
    assert!(clients.iter_mut().all(|client| !client.take_received().starts_with(b"250")));
    assert!(nexts.iter().all(|next| next.is_eof() || next.is_reset()));
}
