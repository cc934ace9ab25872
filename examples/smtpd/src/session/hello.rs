//! The beginning of a session: the greeting, `HELO`, `EHLO` and `LHLO`, and the same again under TLS.

use asynchat::Conversation;
use asyncore::rustls::{ProtocolVersion, SupportedCipherSuite};
use asyncore::{ChannelId, Map};

use super::{Peer, Session, no_argument};
use crate::app::App;
use crate::command::Verb;
use crate::envelope::Protocol;
use crate::reply::Reply;

impl Session {
    /// Says who is here. Nobody has to wait for it.
    pub(crate) fn greet(&mut self, map: &mut Map<App>, app: &mut App, id: ChannelId) {
        if self.is_greeted {
            return;
        }
        self.is_greeted = true;
        app.metrics.sessions_opened += 1;
        if let Peer::Inet(address) = self.peer {
            (self.client.address, self.client.port) = (Some(address.ip().to_canonical()), address.port());
        }
        let settings = &app.settings;
        let protocol = if settings.lmtp { "LMTP" } else { "ESMTP" };
        let greeting = Reply::new(220, "", format_args!("{} {protocol}", settings.hostname));
        map.push(id, greeting.wire());
    }

    /// TLS is there: what was said before, anybody may have said (RFC 3207, section 4.2).
    pub(super) fn secured(&mut self, cx: &mut Conversation<'_, App>) {
        cx.app.metrics.tls_handshakes += 1;
        self.forget_message(cx);
        self.client.helo.clear();
        self.client.user = None;
        let session = cx.map.get(cx.id).and_then(|channel| channel.tls());
        let agreed =
            session.and_then(|session| session.protocol_version().zip(session.negotiated_cipher_suite()));
        // As registered: `TLSv1.3 TLS_AES_128_GCM_SHA256`, for `TLSv1_3` and `TLS13_AES_128_GCM_SHA256`.
        let name = |(version, cipher): (ProtocolVersion, SupportedCipherSuite)| {
            let cipher = cipher.suite().as_str()?.replace("TLS13_", "TLS_");
            Some(format!("{} {cipher}", version.as_str()?.replace('_', ".")))
        };
        self.client.tls = agreed.and_then(name).or_else(|| Some("TLS".to_owned()));
        self.greet(cx.map, cx.app, cx.id);
    }

    /// `HELO`, `EHLO` or `LHLO`, at any time: the session is as new from here, but for who has authenticated (RFC 5321,
    /// section 4.1.4; RFC 4954, section 3).
    pub(super) fn hello(
        &mut self,
        cx: &mut Conversation<'_, App>,
        verb: Verb,
        name: &str,
    ) -> Result<Option<Reply>, Reply> {
        let lmtp = cx.app.settings.lmtp;
        if (verb == Verb::Lhlo) != lmtp {
            return Err(if lmtp { LMTP } else { NOT_LMTP });
        }
        if name.is_empty()
            || !name.bytes().all(|byte| byte.is_ascii_graphic() && !NOT_IN_NAMES.contains(&byte))
        {
            return Err(Reply::new(501, "5.5.4", format_args!("Syntax: {}", verb.syntax())));
        }
        self.forget_message(cx);
        self.client.helo.clear();
        self.client.helo.push_str(name);
        let settings = &cx.app.settings;
        self.client.protocol = match verb {
            Verb::Lhlo => Protocol::Lmtp,
            Verb::Ehlo => Protocol::Esmtp,
            _ => {
                self.client.protocol = Protocol::Smtp;
                return Ok(Some(Reply::new(250, "", &settings.hostname)));
            }
        };
        let size = format!("SIZE {}", settings.message_limit);
        let mut lines = vec![settings.hostname.as_str(), "PIPELINING", &size, "8BITMIME", "SMTPUTF8"];
        lines.extend(["ENHANCEDSTATUSCODES", "CHUNKING"]);
        if settings.tls.is_some() && self.client.tls.is_none() {
            lines.push("STARTTLS");
        }
        if self.offers_auth(cx) {
            lines.push("AUTH PLAIN LOGIN");
        }
        lines.push("HELP");
        Ok(Some(Reply::lines(250, "", lines)))
    }

    /// `STARTTLS`: what the client sends before the handshake is dropped by the channel, and read by nobody (CVE-2011-0411).
    pub(super) fn start_tls(
        &mut self,
        cx: &mut Conversation<'_, App>,
        argument: &str,
    ) -> Result<Option<Reply>, Reply> {
        no_argument(argument)?;
        let Some(tls) = &cx.app.settings.tls else { return Err(NO_TLS) };
        if self.client.tls.is_some() {
            return Err(TLS_ALREADY);
        }
        if !self.announced(cx).extensions {
            return Err(HELLO_FIRST);
        }
        let session = tls.session().map_err(|error| {
            tracing::error!(id = %cx.id, %error, "no TLS session");
            TLS_NOT_NOW
        })?;
        self.forget_message(cx);
        cx.push(READY.wire());
        if let Err(error) = cx.start_tls(session) {
            tracing::error!(id = %cx.id, %error, "TLS does not begin");
            // The client expects it by now.
            cx.close();
        }
        Ok(None)
    }
}

const LMTP: Reply = Reply::fixed("500 5.5.1 This is LMTP: LHLO first\r\n");
const NOT_LMTP: Reply = Reply::fixed("500 5.5.1 This is SMTP: EHLO first\r\n");
pub(super) const HELLO_FIRST: Reply = Reply::fixed("503 5.5.1 Say EHLO or LHLO first\r\n");
const NO_TLS: Reply = Reply::fixed("502 5.5.1 There is no TLS here\r\n");
const TLS_ALREADY: Reply = Reply::fixed("503 5.5.1 There is TLS already\r\n");
const TLS_NOT_NOW: Reply = Reply::fixed("454 4.7.0 There is no TLS now\r\n");
const READY: Reply = Reply::fixed("220 2.0.0 Go ahead\r\n");

/// What would make a comment or an address of a name, in the line of `Received:` where it will stand.
const NOT_IN_NAMES: &[u8] = br#"()<>"\;,@"#;
