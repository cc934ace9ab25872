//! The tests of Python's `test_smtpd`, one for each of its rows that is about the protocol, and the defects of the module
//! that it tests. Where RFC 5321 says otherwise, the RFC counts here, and the test says so.
//!
//! Rows about the class itself have no counterpart: `process_message_unimplemented` (a delivery that does not compile),
//! `decode_data_and_enable_SMTPUTF8_raises`, `with_decode_data_true` and `_false` (texts are bytes), `broken_connect` and
//! `server_accept` (a mock's `listen` and `accept`), `bad_state` (a state that is none does not compile),
//! `attribute_deprecations` and `__all__` (names of Python's). `DebuggingServer` is the delivery of `--debug`. The
//! families of sockets and `SMTPDChannelIPv6Test` are in the tests of listeners.

use crate::sessions::{Talk, settings};

const HELLO_BOTH: [&str; 2] = ["HELO client", "EHLO client"];

/// A session that was greeted with this line.
fn greeted(line: &str) -> Talk {
    let mut talk = Talk::new();
    assert!(talk.say(format!("{line}\r\n")).starts_with("250"));
    talk
}

#[test]
fn params_rejected_and_nothing_accepted() {
    let mut talk = Talk::new().hello();
    talk.expect(&[
        ("MAIL FROM:<foo@example.com>", "250 "),
        ("RCPT TO:<foo@example.com> foo=bar", "555 "),
        ("RCPT TO:<foo@example.com> NOTIFY=NEVER", "555 "),
        ("RCPT TO:<foo@example.com>", "250 "),
    ]);
}

#[test]
fn mail_options() {
    let mut talk = Talk::new().hello();
    talk.expect(&[
        ("MAIL FROM:<foo@example.com> size=20 body=7BIT", "250 "),
        ("RSET", "250 "),
        ("MAIL FROM:<foo@example.com> size=20 body=FOOBAR", "501 "),
        ("MAIL FROM:<foo@example.com> size=20 body=8BITMIME", "250 "),
        ("RSET", "250 "),
        // Announced here, and not to be turned off.
        ("MAIL FROM:<foo@example.com> size=20 body=8bitmime smtputf8", "250 "),
    ]);
}

#[test]
fn missing_data() {
    Talk::new().expect(&[("", "500 ")]);
}

#[test]
fn ehlo() {
    let reply = Talk::new().say("EHLO example\r\n");
    assert_eq!(
        reply,
        "250-mx.example\r\n250-PIPELINING\r\n250-SIZE 33554432\r\n250-8BITMIME\r\n250-SMTPUTF8\r\n\
         250-ENHANCEDSTATUSCODES\r\n250-CHUNKING\r\n250 HELP\r\n"
    );
}

#[test]
fn ehlo_and_helo_bad_syntax() {
    Talk::new().expect(&[
        ("EHLO", "501 "),
        ("EHLO ", "501 "),
        ("HELO", "501 "),
        ("EHLO two words", "501 "),
        ("EHLO ex(am)ple", "501 "),
        ("MAIL FROM:<a@b>", "503 "),
    ]);
}

/// 503 in the row. RFC 5321 section 4.1.4 allows it, and has the session be as new.
#[test]
fn a_second_greeting_begins_anew() {
    for first in HELLO_BOTH {
        for second in HELLO_BOTH {
            let mut talk = greeted(first);
            talk.expect(&[
                ("MAIL FROM:<a@b>", "250 "),
                ("RCPT TO:<a@b>", "250 "),
                (second, "250"),
                ("DATA", "503 "),
                ("MAIL FROM:<a@b>", "250 "),
            ]);
        }
    }
}

#[test]
fn helo() {
    assert_eq!(Talk::new().say("HELO example\r\n"), "250 mx.example\r\n");
}

/// 250 in the row. RFC 5321 section 4.2.2 has 214 for help; and 504 for a parameter that is not implemented, where the row
/// has 501.
#[test]
fn help_and_help_with_a_command() {
    let mut talk = Talk::new();
    talk.expect(&[
        ("HELP", "214-2.0.0 "),
        ("HELP mail", "214 2.0.0 MAIL FROM:<address>"),
        ("HELP SPAM", "504 "),
    ]);
}

/// 501 in the row; 555 is what RFC 5321 section 4.1.1.11 has for parameters.
#[test]
fn helo_parameter_rejected_when_extensions_not_enabled() {
    greeted("HELO example").expect(&[("MAIL FROM:<foo@example.com> SIZE=1234", "555 ")]);
}

#[test]
fn mail_allows_space_after_colon() {
    greeted("HELO example").expect(&[("MAIL from:   <foo@example.com>", "250 ")]);
    greeted("EHLO example").expect(&[("MAIL from: <foo@example.com> size=20", "250 ")]);
}

/// With an argument 501 in the row; RFC 5321 section 4.1.1.9 has the argument ignored.
#[test]
fn noop_with_and_without_an_argument() {
    Talk::new().expect(&[("NOOP", "250 "), ("HELO example", "250 "), ("NOOP", "250 "), ("NOOP hi", "250 ")]);
}

#[test]
fn quit() {
    for line in ["QUIT", "QUIT bye bye"] {
        let mut talk = Talk::new();
        assert_eq!(talk.say(format!("{line}\r\n")), "221 2.0.0 Bye\r\n");
        assert!(talk.is_over());
        let mut talk = greeted("HELO example");
        talk.expect(&[(line, "221 ")]);
        assert!(talk.is_over());
    }
}

#[test]
fn command_too_long() {
    let line = |length: usize| format!("HELP {}", "a".repeat(length - "HELP \r\n".len()));
    Talk::new().expect(&[
        (&line(512), "504 "),
        (&line(513), "500 5.5.2 The line is too long"),
        ("NOOP", "250 "),
    ]);
    // Longer than anything that is kept; told once.
    Talk::new().expect(&[(&line(100_000), "500 5.5.2 The line is too long"), ("NOOP", "250 ")]);
}

/// `MAIL` of so many bytes with CRLF, of which `SIZE` and spaces fill what is missing.
fn mail_of(length: usize, with: &str) -> String {
    let start = format!("MAIL FROM:<a@example>{with}");
    format!("{start}{}SIZE=1", " ".repeat(length - start.len() - "SIZE=1\r\n".len()))
}

#[test]
fn mail_command_limit_extended_with_what_was_announced() {
    // SIZE 26, BODY 17 and SMTPUTF8 10; in the row it is what there was in Python, 26 and 10.
    let limit = 512 + 26 + 17 + 10;
    let mut talk = Talk::new().hello();
    talk.expect(&[
        (&mail_of(limit, ""), "250 "),
        ("RSET", "250 "),
        (&mail_of(limit + 1, ""), "500 "),
        (&mail_of(limit, " SMTPUTF8 "), "250 "),
    ]);
    let plain =
        |length: usize| format!("MAIL FROM:{}<a@b>", " ".repeat(length - "MAIL FROM:<a@b>\r\n".len()));
    greeted("HELO example").expect(&[(&plain(513), "500 "), (&plain(512), "250 ")]);
}

#[test]
fn multiple_emails_with_extended_command_length() {
    let mut talk = Talk::new().hello();
    for _ in 0..3 {
        talk.expect(&[
            (&mail_of(566, ""), "500 "),
            (&mail_of(565, ""), "250 "),
            (&format!("RCPT TO:{}<a@b>", " ".repeat(523 - 15)), "500 "),
            (&format!("RCPT TO:{}<a@b>", " ".repeat(522 - 15)), "250 "),
            ("DATA", "354 "),
            ("test\r\n.", "250 "),
        ]);
    }
}

/// The row has any refusal where SMTPUTF8 was not enabled; here an address needs the parameter (RFC 6531 section 3.4).
#[test]
fn mail_command_rejects_an_address_that_needs_smtputf8() {
    let mut talk = Talk::new().hello();
    talk.expect(&[
        ("MAIL FROM:<naïve@example.com>", "553 5.6.7 "),
        ("MAIL FROM:<a@b>", "250 "),
        ("RCPT TO:<naïve@example.com>", "553 5.6.7 "),
    ]);
    greeted("HELO example").expect(&[("MAIL FROM:<naïve@example.com> SMTPUTF8", "555 ")]);
}

#[test]
fn data_longer_than_the_limit() {
    let mut settings = settings();
    settings.message_limit = 1000;
    let mut talk = Talk::with(settings).hello().at_data();
    talk.expect(&[(&format!("{}.", "12345678\r\n".repeat(101)), "552 5.3.4 ")]);
    assert_eq!(talk.texts().len(), 0);
    // The second defect of the module: the next commands are commands.
    let mut talk = talk.at_data();
    talk.expect(&[(&format!("{}.", "12345678\r\n".repeat(100)), "250 ")]);
    assert_eq!(talk.texts(), ["12345678\r\n".repeat(100)]);
}

#[test]
fn mail_size_parameter() {
    Talk::new().hello().expect(&[
        ("MAIL FROM:<eggs@example> SIZE=33554433", "552 5.3.4 "),
        ("MAIL FROM:<eggs@example> SIZE=invalid", "501 "),
        ("MAIL FROM:<eggs@example> SIZE=33554432", "250 "),
    ]);
}

#[test]
fn mail_and_rcpt_unknown_parameters() {
    Talk::new().hello().expect(&[
        ("MAIL FROM:<eggs@example> ham=green", "555 "),
        ("MAIL FROM:<eggs@example>", "250 "),
        ("RCPT TO:<eggs@example> ham=green", "555 "),
    ]);
}

#[test]
fn need_mail_and_need_rcpt() {
    let mut talk = greeted("HELO example");
    talk.expect(&[
        ("RCPT to:spam@example", "503 "),
        ("DATA", "503 "),
        ("MAIL From:eggs@example", "250 "),
        ("DATA", "503 "),
    ]);
}

#[test]
fn mail_and_rcpt_syntax() {
    greeted("HELO example").expect(&[
        ("MAIL from eggs@example", "501 5.5.4 Syntax: MAIL FROM:<address>\r\n"),
        ("MAIL FROM:<a@b>", "250 "),
        ("RCPT to eggs@example", "501 5.5.4 Syntax: RCPT TO:<address>\r\n"),
    ]);
    greeted("EHLO example").expect(&[
        ("MAIL from eggs@example", "501 5.5.4 Syntax: MAIL FROM:<address> [parameters]\r\n"),
        ("MAIL from:", "501 5.5.4 Syntax: MAIL FROM:<address> [parameters]\r\n"),
        ("MAIL FROM:<a@b>", "250 "),
        ("RCPT to eggs@example", "501 5.5.4 Syntax: RCPT TO:<address> [parameters]\r\n"),
        ("RCPT to: <eggs@example>", "250 "),
    ]);
}

/// A text with this sender, as it was kept.
fn sender(line: &str) -> Option<String> {
    let mut talk = Talk::new().hello();
    talk.expect(&[(line, "250 "), ("RCPT TO:<b@c>", "250 "), ("DATA", "354 "), (".", "250 ")]);
    let desk = talk.office.desk();
    desk.kept[0].envelope.from.as_ref().map(ToString::to_string)
}

#[test]
fn mail_chevrons() {
    assert_eq!(sender("MAIL from:<eggs@example>").unwrap(), "eggs@example");
    assert_eq!(sender("MAIL from:eggs@example").unwrap(), "eggs@example");
    assert_eq!(sender("MAIL from:<>"), None);
}

#[test]
fn mail_quoted_localpart() {
    for line in [
        r#"MAIL from: <"Fred Blogs"@example.com>"#,
        r#"MAIL from: "Fred Blogs"@example.com"#,
        r#"MAIL from: <"Fred Blogs"@example.com> SIZE=1000"#,
        r#"MAIL from: "Fred Blogs"@example.com SIZE=1000"#,
    ] {
        assert_eq!(sender(line).unwrap(), r#""Fred Blogs"@example.com"#, "{line}");
    }
}

#[test]
fn nested_mail() {
    greeted("HELO example").expect(&[("MAIL from:eggs@example", "250 "), ("MAIL from:spam@example", "503 ")]);
}

#[test]
fn vrfy_and_expn() {
    greeted("HELO example").expect(&[
        ("VRFY eggs@example", "252 "),
        ("VRFY", "501 "),
        ("EXPN", "502 "),
        ("EXPN a", "502 "),
    ]);
}

#[test]
fn no_helo() {
    Talk::new().expect(&[
        ("MAIL from:<foo@example.com>", "503 "),
        ("RCPT to:<foo@example.com>", "503 "),
        ("DATA", "503 "),
    ]);
}

#[test]
fn data_dialog() {
    let mut talk = greeted("HELO example");
    talk.expect(&[
        ("MAIL From:eggs@example", "250 "),
        ("RCPT To:spam@example", "250 "),
        ("DATA", "354 "),
        ("data\r\nmore\r\n.", "250 2.0.0 Taken\r\n"),
    ]);
    let desk = talk.office.desk();
    let envelope = &desk.kept[0].envelope;
    assert_eq!(desk.kept[0].text, b"data\r\nmore\r\n");
    assert_eq!((envelope.from.as_ref().unwrap().as_str(), envelope.to.len()), ("eggs@example", 1));
    assert_eq!((envelope.to[0].as_str(), envelope.client.helo.as_str()), ("spam@example", "example"));
    assert_eq!(envelope.client.address, Some("192.0.2.1".parse().unwrap()));
}

#[test]
fn data_syntax() {
    greeted("HELO example").expect(&[
        ("MAIL From:eggs@example", "250 "),
        ("RCPT To:spam@example", "250 "),
        ("DATA spam", "501 "),
        ("DATA", "354 "),
    ]);
}

#[test]
fn data_transparency_section_4_5_2() {
    let mut talk = Talk::new().hello().at_data();
    talk.expect(&[("..\r\n.a\r\na.\r\n..b\r\n.", "250 ")]);
    assert_eq!(talk.texts(), [".\r\na\r\na.\r\n.b\r\n"]);
}

#[test]
fn multiple_rcpt() {
    let mut talk = greeted("HELO example");
    talk.expect(&[
        ("MAIL From:eggs@example", "250 "),
        ("RCPT To:spam@example", "250 "),
        ("RCPT To:ham@example", "250 "),
        ("RCPT To:spam@example", "250 "),
        ("DATA", "354 "),
        ("data\r\n.", "250 "),
    ]);
    let desk = talk.office.desk();
    let to: Vec<&str> = desk.kept[0].envelope.to.iter().map(|to| to.as_str()).collect();
    assert_eq!(to, ["spam@example", "ham@example"], "each once");
}

#[test]
fn manual_status() {
    let mut talk = Talk::new().hello().at_data();
    let reply = smtpd::reply::Reply::new(250, "2.0.0", "All good");
    talk.office.desk().outcome = Some(smtpd::delivery::Outcome::All(reply));
    talk.expect(&[("data\r\n.", "250 2.0.0 All good\r\n")]);
}

#[test]
fn rset() {
    let mut talk = greeted("HELO example");
    talk.expect(&[
        ("MAIL From:eggs@example", "250 "),
        ("RCPT To:spam@example", "250 "),
        ("RSET", "250 "),
        ("MAIL From:foo@example", "250 "),
        ("RCPT To:eggs@example", "250 "),
        ("DATA", "354 "),
        ("data\r\n.", "250 "),
        ("RSET hi", "501 "),
    ]);
    let desk = talk.office.desk();
    let envelope = &desk.kept[0].envelope;
    assert_eq!(
        (envelope.from.as_ref().unwrap().as_str(), envelope.to[0].as_str()),
        ("foo@example", "eggs@example")
    );
    assert_eq!(envelope.to.len(), 1);
}

#[test]
fn unknown_command() {
    Talk::new().expect(&[("UNKNOWN_CMD", "500 5.5.1 Unknown command: UNKNOWN_CMD\r\n")]);
}

#[test]
fn data_limit_dialog() {
    let mut settings = settings();
    settings.message_limit = 32;
    let mut talk = Talk::with(settings).hello().at_data();
    talk.expect(&[("data\r\nmore\r\n.", "250 ")]);
    let mut talk = talk.at_data();
    talk.expect(&[("data\r\nmore\r\nand still more\r\nand more\r\n.", "552 ")]);
}

#[test]
fn ascii_and_utf8_data_stay_as_they_are() {
    let mut talk = Talk::new().hello().at_data();
    let text = "plain ascii text\r\nutf8 enriched text: żźć\r\nand some plain ascii\r\n";
    talk.expect(&[(&format!("{text}."), "250 ")]);
    assert_eq!(talk.texts(), [text]);
    let mut talk = talk.at_data();
    assert!(talk.say(b"\xff\0\x80\r\n.\r\n").starts_with("250 "));
    assert_eq!(talk.office.desk().kept[1].text, b"\xff\0\x80\r\n");
}

#[test]
fn smtputf8_is_of_one_message() {
    let mut talk = Talk::new().hello();
    talk.expect(&[
        ("MAIL from: <naïve@example.com> BODY=8BITMIME SMTPUTF8", "250 "),
        ("RCPT to:<späm@examplé>", "250 "),
        ("DATA", "354 "),
        ("żźć\r\n.", "250 "),
    ]);
    let mut talk = talk.at_data();
    talk.expect(&[("a\r\n.", "250 ")]);
    let desk = talk.office.desk();
    let envelopes: Vec<_> = desk.kept.iter().map(|kept| &kept.envelope).collect();
    assert_eq!((envelopes[0].smtputf8, envelopes[1].smtputf8), (true, false));
    assert_eq!(envelopes[0].to[0].as_str(), "späm@examplé");
}

// The defects of the module.

#[test]
fn defect_1_an_empty_message_has_an_end() {
    let mut talk = Talk::new().hello().at_data();
    talk.expect(&[(".", "250 "), ("NOOP", "250 ")]);
    assert_eq!(talk.texts(), [""]);
}

#[test]
fn defect_2_commands_behind_a_refused_message_are_commands() {
    let mut settings = settings();
    settings.message_limit = 10;
    let mut talk = Talk::with(settings).hello().at_data();
    let replies = talk.say("0123456789\r\n.\r\nNOOP\r\nMAIL FROM:<a@b>\r\nDATA\r\n");
    let codes: Vec<&str> = replies.lines().map(|line| &line[..3]).collect();
    assert_eq!(codes, ["552", "250", "250", "503"], "and nobody is a recipient any more");
}

#[test]
fn defect_3_nothing_behind_quit_is_obeyed() {
    let mut talk = Talk::new().hello();
    let mail = "MAIL FROM:<a@b>\r\nRCPT TO:<a@b>\r\nDATA\r\n";
    assert_eq!(talk.say(format!("QUIT\r\nNOOP\r\n{mail}text\r\n.\r\n")), "221 2.0.0 Bye\r\n");
    assert!(talk.texts().is_empty() && talk.is_over());
}

#[test]
fn defect_4_a_command_that_is_no_text_is_answered() {
    let mut talk = Talk::new().hello();
    assert!(talk.say(b"MAIL FROM:<\xff@b>\r\n").starts_with("500 5.5.2 "));
    talk.expect(&[("NOOP", "250 ")]);
}

#[test]
fn defect_5_a_silent_client_is_told_to_go() {
    let mut talk = Talk::new().hello();
    talk.sim.advance(std::time::Duration::from_secs(301)).unwrap();
    assert_eq!(talk.hear(), "421 4.4.2 Idle for too long\r\n");
    assert!(talk.is_over());
}

#[test]
fn property_6_a_bare_lf_ends_no_line_and_the_session() {
    let mut talk = Talk::new().hello();
    assert!(talk.say("NOOP\nNOOP\r\n").starts_with("500 5.5.2 "));
    assert!(talk.is_over());
    let mut talk = Talk::new().hello();
    assert!(talk.say("NOOP\rNOOP\r\n").starts_with("500 5.5.2 "));
    assert!(talk.is_over());
}
