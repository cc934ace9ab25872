//! The lines on top of a message that say how it came: `Return-Path:` and `Received:` (RFC 5321, section 4.4).

use std::fmt::Write;
use std::net::IpAddr;
use std::time::SystemTime;

use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};

use crate::envelope::{Client, Envelope, Protocol};

impl Envelope {
    /// `Return-Path:` and `Received:`, with CRLF at the end of each line. The time is in the zone of this machine.
    ///
    /// ```text
    /// Return-Path: <jane@example.org>
    /// Received: from laptop.example.org ([192.0.2.7])
    /// <TAB>by mx.example.net with ESMTPSA (TLSv1.3) id 6f2c
    /// <TAB>for <joe@example.net>; Mon, 23 Nov 2026 08:51:44 +0000
    /// ```
    ///
    /// The recipient is named if there is only one: it is nobody's business who else a message is for.
    #[must_use]
    pub fn trace(&self, hostname: &str) -> String {
        self.trace_in(hostname, TimeZone::system())
    }

    /// `Received:` alone, for a server that passes the message on: `Return-Path:` is for the last one to add (RFC 5321,
    /// section 4.4).
    #[must_use]
    pub fn received(&self, hostname: &str) -> String {
        self.received_in(hostname, TimeZone::system())
    }

    fn trace_in(&self, hostname: &str, zone: TimeZone) -> String {
        let mut text = Folded::new();
        text.word("Return-Path:");
        match &self.from {
            Some(from) => text.word(&format!("<{from}>")),
            None => text.word("<>"),
        }
        text.end();
        text.0 + &self.received_in(hostname, zone)
    }

    fn received_in(&self, hostname: &str, zone: TimeZone) -> String {
        let mut text = Folded::new();
        text.word("Received:");
        text.word(&format!("from {}", clean(&self.client.helo)));
        match self.client.address {
            Some(IpAddr::V4(address)) => text.word(&format!("([{address}])")),
            Some(IpAddr::V6(address)) => text.word(&format!("([IPv6:{address}])")),
            None => {}
        }
        text.word(&format!("by {}", clean(hostname)));
        text.word(&format!("with {}", protocol(&self.client, self.smtputf8)));
        if let Some(tls) = &self.client.tls {
            text.word(&format!("({})", tls.split(' ').map(clean).collect::<Vec<_>>().join(" ")));
        }
        text.word(&format!("id {}", clean(&self.id)));
        if let [to] = self.to.as_slice() {
            text.word(&format!("for <{to}>"));
        }
        text.join(';');
        text.word(&date(self.at, zone));
        text.end();
        text.0
    }
}

/// A header field whose lines are folded between words.
struct Folded(String);

impl Folded {
    const fn new() -> Self {
        Self(String::new())
    }

    /// Adds what stands on one line: behind a space, or on the next line if it does not fit on this one.
    fn word(&mut self, word: &str) {
        let line = self.0.rfind('\n').map_or(0, |end| end + 1);
        let used = self.0.len() - line;
        if used > 0 {
            let fits = used + " ".len() + word.len() + ";".len() <= LINE_LENGTH;
            self.0.push_str(if fits { " " } else { "\r\n\t" });
        }
        self.0.push_str(word);
    }

    /// Adds to the word before.
    fn join(&mut self, mark: char) {
        self.0.push(mark);
    }

    fn end(&mut self) {
        self.0.push_str("\r\n");
    }
}

/// A word from outside, as one word: what could end a line, a comment or the clause is `?`.
fn clean(word: &str) -> String {
    if word.is_empty() {
        return "unknown".to_owned();
    }
    let is_plain = |char: char| char.is_alphanumeric() || "-._~[]:+/=_".contains(char);
    word.chars().take(WORD_LIMIT).map(|char| if is_plain(char) { char } else { '?' }).collect()
}

/// How the message came, as registered: RFC 3848 for TLS and authentication, RFC 6531 for UTF-8. `HELO` has one name.
fn protocol(client: &Client, utf8: bool) -> String {
    let mut name = match (client.protocol, utf8) {
        (Protocol::Smtp, false) => return "SMTP".to_owned(),
        (Protocol::Smtp | Protocol::Esmtp, true) => "UTF8SMTP",
        (Protocol::Esmtp, false) => "ESMTP",
        (Protocol::Lmtp, false) => "LMTP",
        (Protocol::Lmtp, true) => "UTF8LMTP",
    }
    .to_owned();
    if client.tls.is_some() {
        name.push('S');
    }
    if client.user.is_some() {
        name.push('A');
    }
    name
}

/// A date as mail has it: `Mon, 23 Nov 2026 08:51:44 +0000`.
fn date(at: SystemTime, zone: TimeZone) -> String {
    let zoned = Zoned::new(Timestamp::try_from(at).unwrap_or(Timestamp::UNIX_EPOCH), zone);
    let mut text = String::new();
    // A year above 9999 has no form in mail; there is no such time in jiff.
    if let Err(error) = write!(text, "{}", zoned.strftime("%a, %d %b %Y %H:%M:%S %z")) {
        tracing::debug!(%error, "a date without a form");
    }
    text
}

/// Most bytes of a line, where its words allow it: 78 with CRLF left out, as RFC 5322 recommends.
const LINE_LENGTH: usize = 77;

/// Most characters of a word from outside: 255, as many as a domain has bytes.
const WORD_LIMIT: usize = 255;

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;
    use crate::envelope::Body;

    fn envelope(client: Client) -> Envelope {
        Envelope {
            id: "6f2c-1".to_owned(),
            client,
            from: None,
            to: Vec::new(),
            at: UNIX_EPOCH + Duration::from_secs(1_795_423_904),
            size: None,
            body: Body::SevenBit,
            smtputf8: false,
        }
    }

    fn trace(client: Client) -> String {
        envelope(client).trace_in("mx.example.net", TimeZone::UTC)
    }

    #[test]
    fn a_message_says_from_whom_and_how_it_came() {
        let client = Client {
            address: Some("192.0.2.7".parse().unwrap()),
            helo: "laptop.example.org".to_owned(),
            protocol: Protocol::Esmtp,
            tls: Some("TLSv1.3 TLS_AES_128_GCM_SHA256".to_owned()),
            user: Some("jane".to_owned()),
            ..Client::default()
        };
        assert_eq!(
            trace(client),
            "Return-Path: <>\r\n\
             Received: from laptop.example.org ([192.0.2.7]) by mx.example.net\r\n\
             \twith ESMTPSA (TLSv1.3 TLS_AES_128_GCM_SHA256) id 6f2c-1;\r\n\
             \tMon, 23 Nov 2026 08:51:44 +0000\r\n"
        );
    }

    #[test]
    fn an_address_has_its_family_and_a_unix_socket_has_none() {
        let address = Some("2001:db8::1".parse().unwrap());
        let text = trace(Client { address, helo: "a".to_owned(), ..Client::default() });
        assert!(text.contains("from a ([IPv6:2001:db8::1]) by mx"), "{text}");
        let text = trace(Client::default());
        assert!(text.contains("Received: from unknown by mx.example.net with SMTP id 6f2c-1;\r\n"), "{text}");
    }

    #[test]
    fn protocols_have_their_registered_names() {
        let name = |protocol, utf8, tls: bool, user: bool| {
            let (tls, user) = (tls.then(String::new), user.then(String::new));
            super::protocol(&Client { protocol, tls, user, ..Client::default() }, utf8)
        };
        let table = [
            (Protocol::Smtp, false, false, false, "SMTP"),
            (Protocol::Smtp, false, true, false, "SMTP"),
            (Protocol::Esmtp, false, false, false, "ESMTP"),
            (Protocol::Esmtp, false, true, false, "ESMTPS"),
            (Protocol::Esmtp, false, false, true, "ESMTPA"),
            (Protocol::Esmtp, false, true, true, "ESMTPSA"),
            (Protocol::Lmtp, false, false, false, "LMTP"),
            (Protocol::Lmtp, false, true, true, "LMTPSA"),
            (Protocol::Esmtp, true, false, false, "UTF8SMTP"),
            (Protocol::Esmtp, true, true, true, "UTF8SMTPSA"),
            (Protocol::Lmtp, true, true, false, "UTF8LMTPS"),
        ];
        for (protocol, utf8, tls, user, expected) in table {
            assert_eq!(name(protocol, utf8, tls, user), expected);
        }
    }

    #[test]
    fn no_greeting_adds_a_line_or_leaves_its_clause() {
        for char in (0..=0xffff).filter_map(char::from_u32) {
            let helo = format!("a{char}b");
            let text = trace(Client { helo, tls: Some(format!("T{char}")), ..Client::default() });
            assert_eq!(text.matches('\n').count(), 3, "{text:?}");
            assert_eq!(text.split("\r\n").count(), 4, "{text:?}");
            assert!(!text.replace("\r\n\t", " ").replace("\r\n", "").contains(char::is_control), "{text:?}");
            assert_eq!(text.matches(['(', ')', ';']).count(), 3, "{text:?}");
        }
    }

    #[test]
    fn lines_are_short_where_words_are() {
        let helo = "h".repeat(300);
        let text = trace(Client { helo, address: Some("192.0.2.7".parse().unwrap()), ..Client::default() });
        for line in text.lines() {
            assert!(line.len() <= 78 || line.contains("hhh"), "{line}");
        }
        assert!(text.lines().all(|line| line.len() < 300), "{text}");
    }
}
