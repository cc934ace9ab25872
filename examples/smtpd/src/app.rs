//! [`App`]: what all channels of the server share.

use std::rc::Rc;

use crate::delivery::Delivery;
use crate::mailbox::Mailbox;
use crate::metrics::Metrics;
use crate::settings::Settings;

/// The application state of the map.
#[expect(missing_debug_implementations, reason = "a delivery is anything")]
pub struct App {
    /// What the server was told to be. While it runs, only the passwords change: all of it is replaced then.
    pub settings: Rc<Settings>,
    /// Where messages go.
    pub delivery: Rc<dyn Delivery>,
    /// The messages that are kept, for the page.
    pub mailbox: Mailbox,
    /// What the server has done so far.
    pub metrics: Metrics,
}

impl App {
    /// The state of a server that has just started; it keeps no messages, unless [`mailbox`](Self::mailbox) is set.
    #[must_use]
    pub fn new(settings: Rc<Settings>, delivery: Rc<dyn Delivery>) -> Self {
        Self { settings, delivery, mailbox: Mailbox::default(), metrics: Metrics::default() }
    }
}

#[cfg(test)]
impl App {
    /// A server that keeps nothing.
    pub(crate) fn for_tests() -> Self {
        use std::time::Duration;

        let settings = Settings {
            hostname: "mail.example".to_owned(),
            lmtp: false,
            message_limit: 1 << 20,
            text_line_limit: None,
            recipients: 10,
            errors: 10,
            idle_time: Duration::from_secs(300),
            total_time: Duration::from_secs(3600),
            min_rate: None,
            bare: asynchat::BareIn::Refuse,
            tls: None,
            passwords: None,
            auth_in_clear: false,
            require_auth: false,
            allow_from: Vec::new(),
            proxies: None,
        };
        Self::new(Rc::new(settings), Rc::new(crate::sink::Sink))
    }
}
