//! A conversation at every cut, on an unkind network, of any bytes; the ends of data that others have fallen for; and replies,
//! which are not cut.

use std::io::{Read, Write};
use std::net::TcpStream;

use asyncore::testing::Faults;
use integration_tests::DEADLINE;
use proptest::prelude::*;
use smtpd::settings::Settings;

use crate::program::Program;
use crate::sessions::{Talk, settings};

/// What comes of input in these pieces: the replies, whether the server hung up, and the texts that were kept.
fn outcome(settings: Settings, pieces: impl IntoIterator<Item: AsRef<[u8]>>) -> (String, bool, Vec<String>) {
    let mut talk = Talk::with(settings);
    let mut replies = String::new();
    for piece in pieces {
        replies += &talk.say(piece);
    }
    (replies, talk.is_over(), talk.texts())
}

/// Settings small enough for limits to be met.
fn small() -> Settings {
    Settings { message_limit: 200, text_line_limit: Some(40), recipients: 2, errors: 4, ..settings() }
}

const CONVERSATION: &[u8] =
    b"EHLO client\r\nMAIL FROM:<a@b> SIZE=9\r\nRCPT TO:<c@d>\r\nRCPT TO:<bad>\r\nDATA\r\n\
    ..x\r\n.y\r\n\r\n.\r\nMAIL FROM:<>\r\nRCPT TO:<c@d>\r\nDATA\r\n.\r\nMAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\n\
    BDAT 7\r\n.\r\nQUITBDAT 0 LAST\r\nRSET\r\n\r\nVRFY a\r\nQUIT\r\nNOOP\r\n";

#[test]
fn a_conversation_is_the_same_at_every_cut() {
    let expected = outcome(settings(), [CONVERSATION]);
    assert_eq!(expected.2, [".x\r\ny\r\n\r\n", "", ".\r\nQUIT"]);
    assert!(expected.0.ends_with("221 2.0.0 Bye\r\n") && expected.1);
    for cut in 0..=CONVERSATION.len() {
        let (head, tail) = CONVERSATION.split_at(cut);
        assert_eq!(outcome(settings(), [head, tail]), expected, "{cut}");
    }
    assert_eq!(outcome(settings(), CONVERSATION.chunks(1)), expected, "byte by byte");
}

#[test]
fn a_conversation_is_the_same_on_an_unkind_network() {
    let expected = outcome(settings(), [CONVERSATION]);
    asyncore::testing::each_seed(100, |seed| {
        let mut talk = Talk::with_seed(seed, settings());
        talk.sim.set_faults(Faults::harmless());
        talk.peer.send(CONVERSATION);
        let mut replies = talk.hear();
        talk.sim.advance(std::time::Duration::from_secs(5))?;
        replies += &talk.hear();
        assert_eq!(replies, format!("220 mx.example ESMTP\r\n{}", expected.0), "{seed}");
        assert_eq!(talk.texts(), expected.2);
        Ok(())
    })
    .unwrap();
}

/// Pieces of a conversation, in good and in bad order.
fn word() -> impl Strategy<Value = Vec<u8>> {
    let words: Vec<&[u8]> = vec![
        b"EHLO a\r\n",
        b"HELO a\r\n",
        b"MAIL FROM:<a@b>\r\n",
        b"MAIL FROM:<> SIZE=300\r\n",
        b"RCPT TO:<c@d>\r\n",
        b"DATA\r\n",
        b"text\r\n",
        b"a line of text that is longer than forty bytes\r\n",
        b".\r\n",
        b"..\r\n",
        b"\n",
        b"\r",
        b"BDAT 4\r\n",
        b"BDAT 3 LAST\r\n",
        b"BDAT 0 LAST\r\n",
        b"RSET\r\n",
        b"NOOP\r\n",
        b"QUIT\r\n",
        b"AUTH PLAIN\r\n",
        b"STARTTLS\r\n",
        b"GET / HTTP/1.1\r\n",
        b"\xff\0",
    ];
    prop_oneof![
        8 => proptest::sample::select(words).prop_map(<[u8]>::to_vec),
        1 => proptest::collection::vec(any::<u8>(), 0..20),
        1 => (0_usize..14_000).prop_map(|length| vec![b'a'; length]),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn any_input_is_answered_the_same_at_any_cut(
        words in proptest::collection::vec(word(), 0..30),
        cuts in proptest::collection::vec(1_usize..60, 1..40),
    ) {
        let input = words.concat();
        let whole = outcome(small(), [&input[..]]);
        let mut pieces = Vec::new();
        let mut rest = &input[..];
        for cut in cuts {
            let (piece, behind) = rest.split_at(cut.min(rest.len()));
            pieces.push(piece);
            rest = behind;
        }
        pieces.push(rest);
        prop_assert_eq!(outcome(small(), pieces), whole);
    }
}

/// Every end of data that some server took for one, and is none (SMTP smuggling: CVE-2023-51764, 51765, 51766).
const ENDS: [&[u8]; 13] = [
    b"\n.\n",
    b"\n.\r",
    b"\n.\r\n",
    b"\r.\n",
    b"\r.\r",
    b"\r.\r\n",
    b"\r\n.\n",
    b"\r\n.\r",
    b"\r\n\0.\r\n",
    b"\r\n.\0\r\n",
    b"\r\n.\r\r\n",
    b"\r\r\n.\r\r\n",
    b"\r\n.\r\n\n",
];

#[test]
fn no_other_end_of_data_makes_two_messages_of_one() {
    for end in ENDS {
        let smuggled = b"MAIL FROM:<evil@b>\r\nRCPT TO:<evil@d>\r\nDATA\r\nsmuggled\r\n.\r\n";
        let input =
            [&b"EHLO a\r\nMAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\ntext"[..], end, smuggled].concat();
        for bare in [asynchat::BareIn::Refuse, asynchat::BareIn::Keep] {
            let kept = |pieces: [&[u8]; 2]| outcome(Settings { bare, ..settings() }, pieces);
            let whole = kept([&input, b""]);
            let is_clean_end = end.starts_with(b"\r\n.\r\n");
            assert!(whole.2.len() <= 1, "{} {bare:?} makes {:?}", end.escape_ascii(), whole.2);
            assert!(
                is_clean_end || whole.2.iter().all(|text| text.contains("MAIL FROM:<evil@b>")),
                "{whole:?}"
            );
            assert!(whole.1 || !whole.2.is_empty(), "refused and closed, or one message: {whole:?}");
            for cut in input.len() - smuggled.len() - end.len()..=input.len() {
                let (head, tail) = input.split_at(cut);
                assert_eq!(kept([head, tail]), whole, "{} {bare:?} cut at {cut}", end.escape_ascii());
            }
        }
    }
}

/// Read at once, it is all there: it was written at once.
#[test]
fn a_reply_of_several_lines_comes_in_one_segment() {
    let program = Program::start(&["--sink", "--no-http"]);
    let mut stream = TcpStream::connect(program.smtp()).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    let mut read = |command: &str| {
        stream.write_all(command.as_bytes()).unwrap();
        let mut reply = [0; 4096];
        let length = stream.read(&mut reply).unwrap();
        String::from_utf8_lossy(&reply[..length]).into_owned()
    };
    assert!(read("").starts_with("220 "));
    for (command, first, last) in [
        ("EHLO client.example\r\n", "250-", "\r\n250 HELP\r\n"),
        ("HELP\r\n", "214-", "\r\n214 2.0.0 STARTTLS VRFY; HELP and one of them for more\r\n"),
    ] {
        let reply = read(command);
        assert!(reply.starts_with(first) && reply.ends_with(last), "{reply:?}");
    }
}
