//! TLS with peers that send what is no data without end, or take little at a time.

use std::io::Write;
use std::iter;
use std::net::TcpStream;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use asyncore::rustls::crypto::cipher::{OutboundChunks, OutboundPlainMessage};
use asyncore::rustls::crypto::ring;
use asyncore::rustls::pki_types::pem::PemObject;
use asyncore::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use asyncore::rustls::{
    ConnectionTrafficSecrets, ContentType, ProtocolVersion, ServerConfig, ServerConnection,
    SupportedCipherSuite,
};
use asyncore::testing::Simulation;
use asyncore::{
    Address, Channel, CloseReason, Context, DRAIN_TIME, ListenOptions, Map, READ_BUDGET, Rate, Received,
    Result,
};
use integration_tests::{Certificates, Log, Peer, map, run_to_the_end, turn_until};
use rustix::io::ioctl_fionread;

/// Writes down what it reads.
struct Reader;

impl Channel<Log> for Reader {
    fn handle_tls(&mut self, cx: &mut Context<'_, Log>) -> Result {
        cx.app.add("tls");
        Ok(())
    }

    fn handle_read(&mut self, cx: &mut Context<'_, Log>) -> Result {
        while let Received::Data(data) = cx.map.recv(cx.id, 4096)? {
            cx.app.add(data.escape_ascii());
        }
        Ok(())
    }

    fn handle_close(&mut self, cx: &mut Context<'_, Log>, reason: CloseReason) {
        cx.app.add(format_args!("close {reason:?}"));
    }
}

/// A session that a test plays the server of, behind its handshake.
struct Played {
    session: ServerConnection,
    peer: Peer,
    /// The client's socket.
    socket: TcpStream,
}

/// A client in the map that has done its handshake with a server, which will send so many tickets.
fn played(map: &mut Map<Log>, log: &mut Log, tickets: usize) -> Played {
    let certificates = Certificates::new();
    let identity = certificates.identity("localhost");
    let chain = CertificateDer::pem_file_iter(identity.chain).unwrap().collect::<Result<_, _>>().unwrap();
    let key = PrivateKeyDer::from_pem_file(identity.key).unwrap();
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    config.send_tls13_tickets = tickets;
    config.enable_secret_extraction = true;
    let mut session = ServerConnection::new(Arc::new(config)).unwrap();

    let (mut peer, here) = Peer::tcp_pair();
    let socket = here.try_clone().unwrap();
    let id = map.add(here, Reader).unwrap();
    map.start_tls(id, certificates.client().session("localhost").unwrap()).unwrap();
    let handshake = thread::spawn(move || {
        while session.is_handshaking() {
            while session.wants_write() {
                session.write_tls(&mut peer).unwrap();
            }
            session.read_tls(&mut peer).unwrap();
            session.process_new_packets().unwrap();
        }
        (session, peer)
    });
    turn_until(map, log, "the handshake", |_, log| log.has("tls"));
    let (session, peer) = handshake.join().unwrap();
    Played { session, peer, socket }
}

/// Records of TLS 1.3 with these contents, one each, as a server may send them now; no library sends as many tickets.
fn records(
    session: ServerConnection,
    contents: impl IntoIterator<Item = (ContentType, &'static [u8])>,
) -> Vec<u8> {
    let Some(SupportedCipherSuite::Tls13(suite)) = session.negotiated_cipher_suite() else {
        panic!("TLS 1.3 is the first choice")
    };
    let (mut number, secrets) = session.dangerous_extract_secrets().unwrap().tx;
    let ConnectionTrafficSecrets::Aes256Gcm { key, iv } = secrets else { panic!("{suite:?}") };
    let mut encrypter = suite.aead_alg.encrypter(key, iv);
    let mut records = Vec::new();
    for (typ, content) in contents {
        let payload = OutboundChunks::Single(content);
        let message = OutboundPlainMessage { typ, version: ProtocolVersion::TLSv1_3, payload };
        records.extend(encrypter.encrypt(message, number).unwrap().encode());
        number += 1;
    }
    records
}

/// A message that offers a session to be resumed (RFC 8446, section 4.6.1): for an hour, by a ticket of one byte.
const TICKET: &[u8] = &[4, 0, 0, 15, 0, 0, 14, 16, 0, 0, 0, 0, 1, 0, 0, 1, b'T', 0, 0];

#[test]
fn records_without_data_have_their_share_of_a_turn_and_no_more() {
    let (mut map, mut log) = (map(), Log::new());
    let Played { session, mut peer, socket } = played(&mut map, &mut log, 0);
    let tickets = iter::repeat_n((ContentType::Handshake, TICKET), 50_000);
    let flood = records(session, tickets.chain([(ContentType::ApplicationData, &b"hello"[..])]));
    // As much of it as the system holds, on both sides.
    peer.set_nonblocking();
    let mut sent = 0;
    let mut send = || {
        while sent < flood.len()
            && let Ok(more) = peer.write(&flood[sent..])
        {
            sent += more;
        }
        sent
    };
    let sent = send();
    assert!(sent > READ_BUDGET, "{sent} bytes");
    map.poll(&mut log, Some(Duration::ZERO)).unwrap();
    assert!(ioctl_fionread(&socket).unwrap() > 0, "all of {sent} bytes were read in one turn");
    // Nothing is lost by it.
    turn_until(&mut map, &mut log, "the data behind it", |map, log| {
        send();
        log.has("hello") || map.is_empty()
    });
    assert_eq!(log.take(), ["tls", "hello"]);
}

#[test]
fn more_tickets_in_one_go_than_there_is_room_for_are_a_failure_of_tls() {
    let (mut map, mut log) = (map(), Log::new());
    let Played { mut session, mut peer, .. } = played(&mut map, &mut log, 10_000);
    let sender = thread::spawn(move || {
        // Until the client hangs up.
        while session.wants_write() && session.write_tls(&mut peer).is_ok() {}
    });
    run_to_the_end(&mut map, &mut log);
    sender.join().unwrap();
    assert_eq!(log.take(), ["tls", "close Tls"]);
}

/// Answers whoever comes with [`ANSWER`] bytes, and closes when done.
struct Pour;

impl Channel<Log> for Pour {
    fn handle_connect(&mut self, cx: &mut Context<'_, Log>) -> Result {
        cx.map.push(cx.id, vec![b'x'; ANSWER]);
        cx.map.close_when_done(cx.id);
        Ok(())
    }

    fn handle_close(&mut self, cx: &mut Context<'_, Log>, reason: CloseReason) {
        cx.app.add(format_args!("server {reason:?}"));
    }
}

const ANSWER: usize = 500_000;

/// Counts what it reads.
#[derive(Default)]
struct Count(usize);

impl Channel<Log> for Count {
    fn handle_read(&mut self, cx: &mut Context<'_, Log>) -> Result {
        while let Received::Data(data) = cx.map.recv(cx.id, 4096)? {
            self.0 += data.len();
        }
        Ok(())
    }

    fn handle_close(&mut self, cx: &mut Context<'_, Log>, reason: CloseReason) {
        cx.app.add(format_args!("client {} {reason:?}", self.0));
    }
}

#[test]
fn output_that_moves_slowly_moves_under_tls_as_well() -> Result {
    let certificates = Certificates::new();
    for is_secured in [false, true] {
        let mut sim = Simulation::new(Log::new())?;
        let mut options = ListenOptions::default();
        options.tls = is_secured.then(|| certificates.server());
        let listeners = sim.map.listen_with("192.0.2.1:7", options, |_| Pour)?;
        let id = sim.map.connect("192.0.2.1:7".parse::<Address>()?, Count::default())?;
        if is_secured {
            sim.map.start_tls(id, certificates.client().session("localhost")?)?;
        }
        // A full write takes longer than output may stand still.
        let rate = u64::try_from(64 << 10).unwrap() / DRAIN_TIME.as_secs() / 2;
        sim.map.set_read_rate(id, Some(Rate { bytes: rate, per: Duration::from_secs(1) }));
        sim.run_until(Duration::from_secs(3600), |sim| sim.map.len() == listeners.len())?;
        let mut lines = sim.app.take();
        lines.sort_unstable();
        assert_eq!(lines, [&*format!("client {ANSWER} Eof"), "server Local"], "under TLS: {is_secured}");
    }
    Ok(())
}
