//! Messages through a session: their limits, what becomes of them, chunks, LMTP, and what a session owes when it is to end.

use std::fmt::Write;
use std::time::Duration;

use asynchat::BareIn;
use asyncore::CloseReason;
use smtpd::delivery::{Outcome, Ticket};
use smtpd::envelope::{Body, Protocol};
use smtpd::relay::AnswerReader;
use smtpd::reply::Reply;

use crate::sessions::{ACCEPTED, Talk, settings};

const REFUSED: Reply = Reply::fixed("550 5.1.1 Nobody here\r\n");
const LATER: Reply = Reply::fixed("452 4.3.1 No room now\r\n");

/// Codes of replies, one each.
fn codes(replies: &str) -> Vec<&str> {
    replies.lines().filter(|line| line.as_bytes().get(3) == Some(&b' ')).map(|line| &line[..3]).collect()
}

#[test]
fn a_pipelined_mail_is_answered_in_order() {
    let mut talk = Talk::new();
    let replies = talk.say(
        "EHLO client\r\nMAIL FROM:<a@b> SIZE=6 BODY=8BITMIME\r\nRCPT TO:<c@d>\r\nRCPT TO:<bad>\r\nDATA\r\n\
         text\r\n.\r\nMAIL FROM:<>\r\nRCPT TO:<postmaster>\r\nDATA\r\n.\r\nQUIT\r\n",
    );
    assert_eq!(
        codes(&replies),
        ["250", "250", "250", "501", "354", "250", "250", "250", "354", "250", "221"]
    );
    assert_eq!(talk.texts(), ["text\r\n", ""]);
    let desk = talk.office.desk();
    let envelope = &desk.kept[0].envelope;
    assert_eq!((envelope.size, envelope.body), (Some(6), Body::EightBitMime));
    assert_eq!(envelope.client.protocol, Protocol::Esmtp);
    assert_ne!(envelope.id, desk.kept[1].envelope.id);
}

#[test]
fn a_recipient_too_many_is_asked_to_come_again() {
    let mut settings = settings();
    settings.recipients = 2;
    let mut talk = Talk::with(settings).hello();
    talk.expect(&[
        ("MAIL FROM:<a@b>", "250 "),
        ("RCPT TO:<1@b>", "250 "),
        ("RCPT TO:<2@b>", "250 "),
        ("RCPT TO:<3@b>", "452 4.5.3 "),
        ("RCPT TO:<1@b>", "250 "),
    ]);
    let more: String = (0..50).fold(String::new(), |mut more, _| {
        write!(more, "RCPT TO:<3@b>\r\n").unwrap();
        more
    });
    assert_eq!(codes(&talk.say(more)).len(), 50, "no error of the client's that would end the session");
    talk.expect(&[("DATA", "354 "), (".", "250 ")]);
    assert_eq!(talk.office.desk().kept[0].envelope.to.len(), 2);
}

#[test]
fn a_line_of_text_may_have_1000_bytes_and_its_stuffing() {
    let line = |length: usize| "a".repeat(length - "\r\n".len());
    let mut talk = Talk::new().hello().at_data();
    talk.expect(&[(&format!("{}\r\n.", line(1000)), "250 ")]);
    let mut talk = talk.at_data();
    talk.expect(&[(&format!("..{}\r\n.", line(999)), "250 ")]);
    let mut talk = talk.at_data();
    talk.expect(&[(&format!("{}\r\n.", line(1001)), "554 5.6.0 ")]);
    assert_eq!(talk.texts().len(), 2);
    let mut settings = settings();
    settings.text_line_limit = None;
    let mut talk = Talk::with(settings).hello().at_data();
    talk.expect(&[(&format!("{}\r\n.", line(100_000)), "250 ")]);
}

#[test]
fn a_bare_end_refuses_the_message_and_ends_the_session() {
    let mut talk = Talk::new().hello().at_data();
    assert_eq!(
        talk.say("text\nmore\r\n.\r\nNOOP\r\n"),
        "550 5.5.2 A CR or LF stands alone in the message\r\n"
    );
    assert!(talk.is_over() && talk.texts().is_empty());
    assert_eq!(talk.office.desk().under_way, 0);
}

#[test]
fn a_bare_end_is_data_by_option() {
    let mut settings = settings();
    settings.bare = BareIn::Keep;
    let mut talk = Talk::with(settings).hello().at_data();
    talk.expect(&[("a\n.\nb\rc\n.\r\nd\r\n.", "250 ")]);
    assert_eq!(talk.texts(), ["a\n.\nb\rc\n.\r\nd\r\n"]);
}

#[test]
fn a_message_that_cannot_begin_is_refused_at_data() {
    let mut talk = Talk::new().hello();
    talk.office.desk().refusal = Some(LATER);
    talk.expect(&[
        ("MAIL FROM:<a@b>", "250 "),
        ("RCPT TO:<a@b>", "250 "),
        ("DATA", "452 "),
        ("MAIL FROM:<a@b>", "250 "),
        ("RCPT TO:<a@b>", "250 "),
        ("BDAT 5 LAST\r\nabc", "452 "),
    ]);
}

#[test]
fn a_message_that_cannot_go_on_is_read_to_its_end() {
    let mut talk = Talk::new().hello().at_data();
    talk.office.desk().fault = Some(LATER);
    assert_eq!(talk.say("text\r\n"), "");
    assert_eq!(talk.office.desk().under_way, 0, "nothing of it stays");
    talk.expect(&[("more\r\n.", "452 4.3.1 No room now\r\n"), ("NOOP", "250 ")]);
    assert!(talk.texts().is_empty());
}

#[test]
fn the_first_error_is_the_reply_for_all() {
    let mut talk = Talk::new().hello().at_data();
    talk.office.desk().outcome = Some(Outcome::Each(vec![ACCEPTED, LATER, REFUSED]));
    talk.expect(&[(".", "452 ")]);
}

#[test]
fn commands_wait_for_the_outcome_of_the_message_before_them() {
    let mut talk = Talk::new().hello().at_data();
    talk.office.desk().is_late = true;
    assert_eq!(talk.say("text\r\n.\r\nRSET\r\nNOOP\r\nQUIT\r\n"), "");
    let ticket = talk.office.desk().tickets[0];
    // Nobody else's outcome, and none of another message.
    for wrong in [Ticket { message: ticket.message + 1, ..ticket }, Ticket { message: 0, ..ticket }] {
        wrong.answer(&mut talk.sim.map, &mut talk.sim.app, Outcome::All(REFUSED));
    }
    assert_eq!(talk.hear(), "");
    // However long it takes: it is not the client that is silent.
    talk.sim.advance(Duration::from_secs(1000)).unwrap();
    assert_eq!(talk.hear(), "");
    ticket.answer(&mut talk.sim.map, &mut talk.sim.app, Outcome::All(ACCEPTED));
    ticket.answer(&mut talk.sim.map, &mut talk.sim.app, Outcome::All(REFUSED));
    assert_eq!(codes(&talk.hear()), ["250", "250", "250", "221"]);
    ticket.answer(&mut talk.sim.map, &mut talk.sim.app, Outcome::All(REFUSED));
}

#[test]
fn a_client_that_has_ended_its_side_hears_the_outcome() {
    let mut talk = Talk::new().hello().at_data();
    talk.office.desk().is_late = true;
    talk.peer.send("text\r\n.\r\n");
    talk.peer.shutdown_write();
    assert_eq!(talk.hear(), "");
    let ticket = talk.office.desk().tickets[0];
    ticket.answer(&mut talk.sim.map, &mut talk.sim.app, Outcome::All(ACCEPTED));
    assert_eq!(talk.hear(), "250 2.0.0 Taken\r\n");
    assert!(talk.is_over());
}

#[test]
fn nothing_stays_of_a_message_whose_client_is_lost() {
    for is_reset in [false, true] {
        let mut talk = Talk::new().hello().at_data();
        talk.say("half a mess");
        assert_eq!(talk.office.desk().under_way, 1);
        if is_reset {
            talk.peer.reset();
        } else {
            talk.peer.shutdown_write();
        }
        talk.sim.settle().unwrap();
        assert!(talk.office.desk().under_way == 0 && talk.texts().is_empty());
    }
}

#[test]
fn chunks_are_counted_and_nothing_in_them_is_a_command() {
    let mut talk = Talk::new().hello();
    talk.expect(&[("MAIL FROM:<a@b>", "250 "), ("RCPT TO:<c@d>", "250 ")]);
    let replies = talk.say("BDAT 9\r\nQUIT\r\n.\r\nBDAT 3\r\n\r\n.BDAT 0\r\nbdat 2 last\r\n\r\nNOOP\r\n");
    assert_eq!(
        replies,
        "250 2.0.0 9 octets\r\n250 2.0.0 3 octets\r\n250 2.0.0 0 octets\r\n250 2.0.0 Taken\r\n250 2.0.0 OK\r\n"
    );
    assert_eq!(talk.texts(), ["QUIT\r\n.\r\n\r\n.\r\n"]);
}

#[test]
fn a_chunk_of_nothing_may_be_the_last_or_the_only() {
    let mut talk = Talk::new().hello();
    let mail = "MAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\n";
    assert_eq!(codes(&talk.say(format!("{mail}BDAT 3\r\na\r\nBDAT 0 LAST\r\n"))), ["250"; 4]);
    assert_eq!(codes(&talk.say(format!("{mail}BDAT 0 LAST\r\n"))), ["250"; 3]);
    assert_eq!(talk.texts(), ["a\r\n", ""]);
}

#[test]
fn chunks_without_a_recipient_are_read_and_dropped() {
    let mut talk = Talk::new().hello();
    let replies =
        talk.say("BDAT 6\r\nQUIT\r\nMAIL FROM:<a@b>\r\nRCPT TO:<bad>\r\nBDAT 6 LAST\r\nQUIT\r\nNOOP\r\n");
    assert_eq!(codes(&replies), ["503", "250", "501", "503", "250"]);
}

#[test]
fn chunks_of_a_refused_message_are_read_and_dropped() {
    let mut settings = settings();
    settings.message_limit = 10;
    let mut talk = Talk::with(settings).hello();
    let mail = "MAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\n";
    let replies =
        talk.say(format!("{mail}BDAT 8\r\n123456\r\nBDAT 6\r\nQUIT\r\nBDAT 6 LAST\r\nQUIT\r\nNOOP\r\n"));
    assert_eq!(codes(&replies), ["250", "250", "250", "552", "552", "250"]);
    assert!(talk.texts().is_empty() && talk.office.desk().under_way == 0);
    // Exactly as much as is taken.
    assert_eq!(codes(&talk.say(format!("{mail}BDAT 8\r\n123456\r\nBDAT 2 LAST\r\n\r\n"))), ["250"; 4]);
}

#[test]
fn chunks_of_text_have_lines_as_other_texts_have() {
    let mail = "MAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\n";
    for text in ["a\nb\r\n", "a\rb\r\n", "a\r\n.\n", "a\r"] {
        let mut talk = Talk::new().hello();
        let replies = talk.say(format!("{mail}BDAT {} LAST\r\n{text}NOOP\r\n", text.len()));
        assert_eq!(codes(&replies), ["250", "250", "550", "250"], "{text:?}");
        assert!(talk.texts().is_empty());
    }
    // A line end may be cut in two.
    let mut talk = Talk::new().hello();
    assert_eq!(codes(&talk.say(format!("{mail}BDAT 2\r\na\rBDAT 1 LAST\r\n\n"))), ["250"; 4]);
}

#[test]
fn in_a_message_of_chunks_nothing_else_is_allowed() {
    let mut talk = Talk::new().hello();
    talk.expect(&[
        ("MAIL FROM:<a@b>", "250 "),
        ("RCPT TO:<c@d>", "250 "),
        ("BDAT 3\r\na", "250 "),
        ("MAIL FROM:<a@b>", "503 "),
        ("RCPT TO:<c@d>", "503 "),
        ("DATA", "503 "),
        ("RSET", "250 "),
        ("BDAT 0 LAST", "503 "),
    ]);
    assert_eq!(talk.office.desk().under_way, 0);
}

#[test]
fn a_chunk_of_unknown_length_ends_the_session() {
    for argument in ["", "x", "-1", "1 FIRST", "18446744073709551616"] {
        let mut talk = Talk::new().hello();
        let replies = talk.say(format!("BDAT {argument}\r\nNOOP\r\n"));
        assert_eq!(codes(&replies), ["501"], "{argument}");
        assert!(talk.is_over());
    }
}

/// A session in LMTP, greeted.
fn lmtp() -> Talk {
    let mut settings = settings();
    settings.lmtp = true;
    Talk::with(settings)
}

#[test]
fn in_lmtp_each_recipient_has_its_reply() {
    let mut talk = lmtp().hello();
    let each = Outcome::Each(vec![ACCEPTED, REFUSED]);
    talk.office.desk().outcome = Some(each.clone());
    talk.expect(&[
        ("MAIL FROM:<a@b>", "250 "),
        ("RCPT TO:<c@d>", "250 "),
        ("RCPT TO:<bad>", "501 "),
        ("RCPT TO:<e@f>", "250 "),
        // RFC 2033 section 4.2: a reply for each RCPT, the same one twice too.
        ("RCPT TO:<c@d>", "250 "),
        ("DATA", "354 "),
    ]);
    assert_eq!(codes(&talk.say("text\r\n.\r\n")), ["250", "550", "250"]);
    let desk = talk.office.desk();
    assert_eq!((desk.kept[0].envelope.to.len(), desk.kept[0].envelope.client.protocol), (2, Protocol::Lmtp));
    drop(desk);
    // Told later, and in chunks.
    talk.office.desk().is_late = true;
    let replies = talk
        .say("MAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nRCPT TO:<e@f>\r\nBDAT 2\r\n\r\nBDAT 0 LAST\r\nNOOP\r\n");
    assert_eq!(codes(&replies), ["250"; 4]);
    let ticket = talk.office.desk().tickets[0];
    ticket.answer(&mut talk.sim.map, &mut talk.sim.app, each);
    assert_eq!(codes(&talk.hear()), ["250", "550", "250"]);
}

#[test]
fn in_lmtp_a_refused_message_is_refused_for_each() {
    let mut talk = lmtp().hello();
    let mail = "MAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nRCPT TO:<e@f>\r\n";
    let long = "a".repeat(2000);
    assert_eq!(
        codes(&talk.say(format!("{mail}DATA\r\n{long}\r\n.\r\n"))),
        ["250", "250", "250", "354", "554", "554"]
    );
    assert_eq!(
        codes(&talk.say(format!("{mail}DATA\r\na\nb\r\n.\r\n"))),
        ["250", "250", "250", "354", "550", "550"]
    );
    assert!(talk.is_over());
}

#[test]
fn in_lmtp_a_recipient_that_is_named_again_counts_again() {
    let mut settings = settings();
    (settings.lmtp, settings.recipients) = (true, 2);
    let mut talk = Talk::with(settings).hello();
    talk.expect(&[("MAIL FROM:<>", "250 "), ("RCPT TO:<a@b>", "250 "), ("RCPT TO:<a@b>", "250 ")]);
    talk.expect(&[("RCPT TO:<a@b>", "452 4.5.3 "), ("DATA", "354 ")]);
    assert_eq!(codes(&talk.say(".\r\n")), ["250", "250"]);
}

#[test]
fn in_lmtp_any_number_of_recipients_hears_of_the_message() {
    let mut settings = settings();
    (settings.lmtp, settings.recipients) = (true, 50_000);
    let mut talk = Talk::with(settings).hello();
    talk.say("MAIL FROM:<a@example>\r\n");
    for _ in 0..50 {
        talk.say("RCPT TO:<b@example>\r\n".repeat(1000));
    }
    talk.office.desk().outcome = Some(Outcome::All(Reply::new(250, "2.0.0", "x".repeat(400))));
    let replies = talk.say("DATA\r\ntext\r\n.\r\nNOOP\r\n");
    assert_eq!(codes(&replies), [&["354"][..], &["250"; 50_001]].concat());
}

#[test]
fn in_lmtp_each_of_many_recipients_hears_all_that_the_next_server_has_said() {
    let mut settings = settings();
    settings.lmtp = true;
    let mut talk = Talk::with(settings).hello();
    talk.say("MAIL FROM:<a@example>\r\n");
    talk.say("RCPT TO:<b@example>\r\n".repeat(1000));
    let line = "x".repeat(1000);
    let said = [&*format!("250-2.0.0 {line}\n"), &*format!("250-{line}\n").repeat(20), "250 ok"].concat();
    let mut reader = AnswerReader::default();
    let answer = said.lines().find_map(|line| reader.take(line.as_bytes()).unwrap()).unwrap();
    talk.office.desk().outcome = Some(Outcome::All(answer.pass_on("mx.example", "")));
    let replies = talk.say("DATA\r\ntext\r\n.\r\nNOOP\r\n");
    let last = replies.lines().filter(|line| line.starts_with("250 ")).count();
    assert_eq!(last, 1001, "{} bytes", replies.len());
}

#[test]
fn lmtp_and_smtp_have_their_own_greetings() {
    lmtp().expect(&[("HELO a", "500 "), ("EHLO a", "500 "), ("LHLO", "501 "), ("LHLO a", "250-")]);
    Talk::new().expect(&[("LHLO a", "500 "), ("HELO a", "250 ")]);
}

#[test]
fn so_many_errors_and_no_more() {
    let mut talk = Talk::new().hello();
    let replies = talk.say("BAD\r\n".repeat(9) + "NOOP\r\nBAD\r\nNOOP\r\n");
    assert_eq!(codes(&replies), [&["500"; 9][..], &["250", "500", "421"]].concat());
    assert!(replies.ends_with("421 4.7.0 Too many errors\r\n") && talk.is_over());
}

#[test]
fn other_protocols_hear_nothing() {
    for first in [
        "GET / HTTP/1.1\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\n\r\nEHLO a\r\n",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        "GET /\u{e9} HTTP/1.1\r\n",
        "GET /\t HTTP/1.1\r\n",
    ] {
        let mut talk = Talk::new();
        assert_eq!(talk.say(first), "", "{first}");
        assert!(talk.is_over());
        assert_eq!(talk.sim.app.metrics.sessions_refused, 1);
    }
    // A page chooses how long the line is, and what the body says.
    for length in [600, 13_000] {
        let mut talk = Talk::new();
        assert_eq!(talk.say(format!("POST /{} HTTP/1.1\r\n\r\nEHLO a\r\n", "a".repeat(length))), "");
        assert!(talk.is_over());
    }
    // A TLS hello, of which only the first byte has come.
    let mut talk = Talk::new();
    assert_eq!(talk.say("\x16"), "");
    assert!(talk.is_over());
}

#[test]
fn a_session_between_messages_goes_when_the_server_does() {
    for mut talk in [Talk::new(), Talk::new().hello()] {
        talk.sim.map.shutdown(Duration::from_secs(30));
        assert_eq!(talk.hear(), "421 4.3.2 The server shuts down\r\n");
        assert!(talk.is_over());
    }
}

#[test]
fn a_message_under_way_is_finished_before_the_server_goes() {
    let goodbye = "250 2.0.0 Taken\r\n421 4.3.2 The server shuts down\r\n";
    let mut talk = Talk::new().hello().at_data();
    talk.say("te");
    talk.sim.map.shutdown(Duration::from_secs(30));
    assert_eq!(talk.hear(), "");
    assert_eq!(talk.say("xt\r\n.\r\nNOOP\r\n"), goodbye);

    let mut talk = Talk::new().hello().at_data();
    talk.office.desk().is_late = true;
    talk.say(".\r\n");
    talk.sim.map.shutdown(Duration::from_secs(30));
    assert_eq!(talk.hear(), "");
    let ticket = talk.office.desk().tickets[0];
    ticket.answer(&mut talk.sim.map, &mut talk.sim.app, Outcome::All(ACCEPTED));
    assert_eq!(talk.hear(), goodbye);

    let mut talk = Talk::new().hello();
    talk.expect(&[("MAIL FROM:<a@b>", "250 "), ("RCPT TO:<c@d>", "250 "), ("BDAT 3\r\na", "250 ")]);
    talk.sim.map.shutdown(Duration::from_secs(30));
    assert_eq!(talk.hear(), "");
    assert_eq!(talk.say("BDAT 2\r\n\r\nBDAT 0 LAST\r\n"), format!("250 2.0.0 2 octets\r\n{goodbye}"));

    // But not for ever.
    let mut talk = Talk::new().hello().at_data();
    talk.sim.map.shutdown(Duration::from_secs(30));
    talk.sim.advance(Duration::from_secs(31)).unwrap();
    assert!(talk.is_over() && talk.office.desk().under_way == 0);
}

#[test]
fn each_clock_has_its_last_word() {
    let mut talk = Talk::new().hello();
    for _ in 0..9 {
        talk.sim.advance(Duration::from_secs(200)).unwrap();
        if talk.say("NOOP\r\n") != "250 2.0.0 OK\r\n" {
            break;
        }
    }
    assert_eq!(talk.hear(), "");
    assert!(talk.is_over(), "1800 s are over");

    let mut talk = Talk::new().hello().at_data();
    let replies = (0..120).fold(String::new(), |replies, _| {
        talk.sim.advance(Duration::from_secs(1)).unwrap();
        replies + &talk.say("slow\r\n")
    });
    assert_eq!(replies, "421 4.4.2 The message comes too slowly\r\n");
    assert_eq!(talk.office.desk().under_way, 0);

    // The rate is that of messages: commands may be slow.
    let mut talk = Talk::new().hello().at_data();
    for piece in ["a", "b", "c\r\n.\r\n"] {
        talk.say(piece);
    }
    talk.sim.advance(Duration::from_secs(200)).unwrap();
    talk.expect(&[("NOOP", "250 ")]);

    // Also the next command of a message that comes in chunks.
    let mut talk = Talk::new().hello();
    talk.expect(&[("MAIL FROM:<a@example>", "250 "), ("RCPT TO:<b@example>", "250 ")]);
    for piece in ["BDAT 4\r\n", "a", "b", "\r\n"] {
        talk.say(piece);
    }
    talk.sim.advance(Duration::from_secs(200)).unwrap();
    talk.expect(&[("BDAT 0 LAST", "250 ")]);
}

#[test]
fn a_client_is_not_idle_while_its_message_is_not_taken() {
    let mut talk = Talk::new().hello().at_data();
    talk.office.desk().is_full = true;
    talk.say("text\r\n");
    talk.office.desk().is_full = false;
    talk.peer.send(".\r\n");
    talk.sim.advance(Duration::from_secs(1000)).unwrap();
    assert_eq!(talk.hear(), "");
    talk.sim.map.resume_reading(talk.id);
    assert_eq!(talk.hear(), "250 2.0.0 Taken\r\n");
}

#[test]
fn a_session_leaves_one_line_in_the_log_and_so_does_a_message() {
    let log = integration_tests::captured(tracing::Level::DEBUG, || {
        let mut talk = Talk::new().hello().at_data();
        talk.expect(&[("text\r\n.", "250 "), ("QUIT", "221 ")]);
        talk.peer.close();
        talk.sim.settle().unwrap();
        assert!(talk.sim.map.get(talk.id).is_none());
    });
    let lines: Vec<&str> = log.lines().filter(|line| line.contains("smtpd::")).collect();
    let [message, session] = lines[..] else { panic!("{log}") };
    assert!(message.contains("DEBUG") && session.contains("INFO"), "{log}");
    for part in ["from=\"a@example\"", "to=1", "size=6", "outcome=250 2.0.0 Taken"] {
        assert!(message.contains(part), "{part} in {log}");
    }
    for part in ["peer=192.0.2.1:1", "helo=\"client\"", "messages=1", "bytes=6", "reason=\"quit\""] {
        assert!(session.contains(part), "{part} in {log}");
    }
}

#[test]
fn what_a_server_counts_is_counted() {
    let mut talk = Talk::new().hello().at_data();
    talk.expect(&[("text\r\n.", "250 "), ("BAD", "500 ")]);
    let metrics = &talk.sim.app.metrics;
    assert_eq!((metrics.sessions(), metrics.accepted(), metrics.recipients, metrics.errors), (1, 1, 1, 1));
    talk.sim.map.close_with(talk.id, CloseReason::Local);
    talk.sim.settle().unwrap();
    assert_eq!(talk.sim.app.metrics.sessions(), 0);
}

#[test]
fn a_batch_of_commands_is_answered_in_one_write() {
    let mut talk = Talk::new();
    talk.peer.send("EHLO a\r\nMAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\n");
    while talk.peer.received().is_empty() {
        talk.sim.turn().unwrap();
    }
    let heard = String::from_utf8(talk.peer.received()).unwrap();
    assert_eq!(codes(&heard), ["250", "250", "250", "354"], "all that is heard at first");
}
