//! [`Metrics`]: what the server has done so far, counted, and as Prometheus reads it.
//!
//! The loop is one thread, so that counters are plain numbers: who does something adds to its field. What the map itself
//! counts is added when all of it is written out.

use std::fmt::{Display, Write};
use std::time::Duration;

use asyncore::Map;

use crate::delivery::Outcome;

/// Counters of the mail service. All but [`deliveries`](Self::deliveries) are for who sees the event to add to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "nobody but the server makes one")]
pub struct Metrics {
    /// Sessions that were begun: connections that were taken.
    pub sessions_opened: u64,
    /// Sessions that are over.
    pub sessions_closed: u64,
    /// Sessions that were ended before their first command, or at it: no PROXY header, another protocol.
    pub sessions_refused: u64,
    /// Recipients that were accepted.
    pub recipients: u64,
    /// Passwords that were wrong.
    pub auth_failures: u64,
    /// TLS handshakes that are done.
    pub tls_handshakes: u64,
    /// Commands that were answered with 4xx or 5xx.
    pub errors: u64,
    /// What became of messages.
    pub deliveries: Deliveries,
}

/// What became of messages, and how long that took; [`Metrics::delivered`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Deliveries {
    accepted: u64,
    refused: u64,
    failed: u64,
    /// Bytes of those accepted.
    bytes: u64,
    /// How many took longer than the bound before, and no longer than that of the same place in [`BOUNDS`]; the last, longer
    /// than all.
    times: [u64; BOUNDS.len() + 1],
    /// All times together.
    time: Duration,
}

impl Metrics {
    /// Counts a message of so many bytes whose outcome the client is told, and how long it took from the end of the message.
    ///
    /// It is accepted if one recipient at least was.
    pub fn delivered(&mut self, outcome: &Outcome, bytes: u64, time: Duration) {
        let deliveries = &mut self.deliveries;
        let replies = match outcome {
            Outcome::All(reply) => std::slice::from_ref(reply),
            Outcome::Each(replies) => replies,
        };
        if replies.iter().any(|reply| !reply.is_error()) {
            deliveries.accepted += 1;
            deliveries.bytes += bytes;
        } else if replies.iter().any(|reply| reply.code() < 500) {
            deliveries.failed += 1;
        } else {
            deliveries.refused += 1;
        }
        let bound = BOUNDS.iter().position(|(most, _)| time <= *most).unwrap_or(BOUNDS.len());
        deliveries.times[bound] += 1;
        deliveries.time += time;
    }

    /// Sessions that are under way.
    #[must_use]
    pub const fn sessions(&self) -> u64 {
        self.sessions_opened.saturating_sub(self.sessions_closed)
    }

    /// Messages that were accepted.
    #[must_use]
    pub const fn accepted(&self) -> u64 {
        self.deliveries.accepted
    }

    /// All of it and the counters of the map, in the text format of Prometheus, version 0.0.4.
    #[must_use]
    pub fn to_text<A: 'static>(&self, map: &Map<A>) -> String {
        let (own, loops, done) = (self, map.counters(), &self.deliveries);
        let mut page = Page::default();
        page.gauge("smtpd_sessions", "Sessions under way.", own.sessions());
        page.counter("smtpd_sessions_total", "Sessions begun.", own.sessions_opened);
        page.counter(
            "smtpd_sessions_refused_total",
            "Sessions ended at their first command.",
            own.sessions_refused,
        );
        page.head("smtpd_messages_total", "counter", "Messages, by what became of them.");
        for (outcome, count) in
            [("accepted", done.accepted), ("refused", done.refused), ("failed", done.failed)]
        {
            page.sample("smtpd_messages_total", &format!("{{outcome=\"{outcome}\"}}"), count);
        }
        page.counter("smtpd_message_bytes_total", "Bytes of accepted messages.", done.bytes);
        page.counter("smtpd_recipients_total", "Recipients accepted.", own.recipients);
        page.counter("smtpd_auth_failures_total", "Wrong passwords.", own.auth_failures);
        page.counter("smtpd_tls_handshakes_total", "TLS handshakes done.", own.tls_handshakes);
        page.counter("smtpd_errors_total", "Commands answered with 4xx or 5xx.", own.errors);
        page.deliveries(done);
        page.counter("asyncore_turns_total", "Turns of the loop.", loops.turns);
        page.counter("asyncore_events_total", "Events that the poller reported.", loops.events);
        page.counter("asyncore_deadlines_total", "Timers and timeouts that passed.", loops.deadlines);
        page.counter("asyncore_posts_total", "Posts of other threads.", loops.posts);
        page.counter("asyncore_received_bytes_total", "Bytes received.", loops.bytes_in);
        page.counter("asyncore_sent_bytes_total", "Bytes that sockets took.", loops.bytes_out);
        page.counter("asyncore_messages_total", "Messages cut from input.", loops.messages);
        page.counter("asyncore_pushes_total", "Pushes taken.", loops.pushes);
        page.counter(
            "asyncore_partial_writes_total",
            "Writes that the socket did not take whole.",
            loops.partial_writes,
        );
        page.counter("asyncore_accepted_total", "Connections accepted.", loops.accepted);
        page.counter("asyncore_accept_errors_total", "Accepts that failed.", loops.accept_errors);
        page.counter("asyncore_refused_total", "Connections turned away.", loops.refused);
        page.counter(
            "asyncore_registrations_total",
            "Changes of what the poller waits for.",
            loops.registrations,
        );
        page.counter("asyncore_closed_total", "Channels closed.", loops.closed);
        page.gauge("asyncore_queued_bytes", "Output queued in all channels.", map.queued());
        page.gauge("asyncore_channels", "Channels in the map.", map.iter().count());
        page.0
    }
}

/// Lines of metrics.
#[derive(Default)]
struct Page(String);

impl Page {
    fn counter(&mut self, name: &str, help: &str, value: u64) {
        self.head(name, "counter", help);
        self.sample(name, "", value);
    }

    fn gauge(&mut self, name: &str, help: &str, value: impl Display) {
        self.head(name, "gauge", help);
        self.sample(name, "", value);
    }

    fn deliveries(&mut self, done: &Deliveries) {
        self.head("smtpd_delivery_seconds", "histogram", "Time from the end of a message to its reply.");
        let mut sum = 0;
        let bounds = BOUNDS.iter().map(|(_, bound)| *bound).chain(["+Inf"]);
        for (bound, count) in bounds.zip(done.times) {
            sum += count;
            self.sample("smtpd_delivery_seconds_bucket", &format!("{{le=\"{bound}\"}}"), sum);
        }
        self.sample("smtpd_delivery_seconds_sum", "", done.time.as_secs_f64());
        self.sample("smtpd_delivery_seconds_count", "", sum);
    }

    fn head(&mut self, name: &str, kind: &str, help: &str) {
        // Writing to a string does not fail.
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn sample(&mut self, name: &str, labels: &str, value: impl Display) {
        let _ = writeln!(self.0, "{name}{labels} {value}");
    }
}

/// The bounds of the histogram, as times and as they are written: from a message that nobody stores, through an fsync of a
/// good and of a bad disk, to a relay that has the message scanned.
const BOUNDS: [(Duration, &str); 9] = [
    (Duration::from_micros(100), "0.0001"),
    (Duration::from_millis(1), "0.001"),
    (Duration::from_millis(5), "0.005"),
    (Duration::from_millis(20), "0.02"),
    (Duration::from_millis(100), "0.1"),
    (Duration::from_millis(500), "0.5"),
    (Duration::from_secs(2), "2"),
    (Duration::from_secs(10), "10"),
    (Duration::from_secs(60), "60"),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reply::Reply;

    #[test]
    fn a_message_counts_once_by_the_best_that_became_of_it() {
        let [good, later, never] = [250, 451, 550].map(|code| Reply::new(code, "", "so"));
        let mut metrics = Metrics::default();
        metrics.delivered(&Outcome::Each(vec![never.clone(), later.clone(), good]), 100, Duration::ZERO);
        metrics.delivered(&Outcome::Each(vec![never.clone(), later]), 100, Duration::from_millis(1));
        metrics.delivered(&Outcome::All(never), 100, Duration::from_secs(61));
        let text = metrics.to_text(&Map::<()>::new().unwrap());
        for line in [
            "smtpd_messages_total{outcome=\"accepted\"} 1",
            "smtpd_messages_total{outcome=\"failed\"} 1",
            "smtpd_messages_total{outcome=\"refused\"} 1",
            "smtpd_message_bytes_total 100",
            "smtpd_delivery_seconds_bucket{le=\"0.0001\"} 1",
            "smtpd_delivery_seconds_bucket{le=\"0.001\"} 2",
            "smtpd_delivery_seconds_bucket{le=\"60\"} 2",
            "smtpd_delivery_seconds_bucket{le=\"+Inf\"} 3",
            "smtpd_delivery_seconds_sum 61.001",
            "smtpd_delivery_seconds_count 3",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is missing in {text}");
        }
    }

    #[test]
    fn every_sample_has_its_help_and_type_in_front_of_it() {
        let text = Metrics::default().to_text(&Map::<()>::new().unwrap());
        let mut family = "";
        for line in text.lines() {
            if let Some(help) = line.strip_prefix("# HELP ") {
                family = help.split(' ').next().unwrap();
            } else if let Some(kind) = line.strip_prefix("# TYPE ") {
                assert_eq!(kind.split(' ').next(), Some(family));
            } else {
                let (name, value) = line.split_once(' ').unwrap();
                assert!(name.starts_with(family), "{line} under {family}");
                assert!(value.parse::<f64>().is_ok(), "{line}");
            }
        }
    }
}
