//! Those that are compared in the echo: what each is, and how one talks to it.

use std::io::{self, BufRead, BufReader};
use std::net::TcpStream;

use crate::load::lines::{Batch, Dialogue, letters};
use crate::server::{Peer, Program};

/// Servers that send lines back, or have a request whose answer repeats it.
pub(crate) const ECHO: &[(Peer, Dialogue)] = &[
    (Peer::served("asynchat", "asynchat, as the README shows it"), Dialogue::CRLF),
    (
        Peer {
            name: "c",
            about: "C by hand on epoll: one read, memchr, one write",
            program: Program::C(include_str!("../c/echo.c")),
        },
        Dialogue::CRLF,
    ),
    (Peer::served("tokio", "tokio with LinesCodec, one send a line; answers in LF"), Dialogue::LF),
    (Peer::served("tokio-tuned", "tokio by hand: read_buf, memchr, one write a read"), Dialogue::CRLF),
    (Peer::served("mio", "mio by hand: edge-triggered, one read, memchr, one write"), Dialogue::CRLF),
    (
        Peer::served("polling", "polling by hand: level-triggered, one read, memchr, one write"),
        Dialogue::CRLF,
    ),
    #[cfg(not(polling_test_poll_backend))]
    (Peer::served("calloop", "calloop, a source a connection: one read, memchr, one write"), Dialogue::CRLF),
    (Peer::served("message-io", "message-io, a node over Tcp: memchr, one send a message"), Dialogue::CRLF),
    (
        Peer {
            name: "python-asynchat",
            about: "asynchat of CPython, over poll",
            program: Program::Python(include_str!("../python/asynchat_echo.py"), &["asynchat", "asyncore"]),
        },
        Dialogue::CRLF,
    ),
    (
        Peer {
            name: "python-asyncio",
            about: "asyncio of CPython: a Protocol, one write a read",
            program: Program::Python(include_str!("../python/asyncio_echo.py"), &["asyncio"]),
        },
        Dialogue::CRLF,
    ),
    (
        Peer {
            name: "redis-server",
            about: "another protocol: ECHO as an inline command, its answer as long",
            program: Program::Installed("redis-server", redis),
        },
        Dialogue { batch: redis_batch, ..Dialogue::CRLF },
    ),
    (
        Peer {
            name: "smtp-sink",
            about: "another protocol: HELO, its answer 64 bytes long whatever is asked",
            program: Program::Installed("smtp-sink", smtp_sink),
        },
        Dialogue { greet: smtp_greet, batch: smtp_batch, ..Dialogue::CRLF },
    ),
];

/// The arguments of a `redis-server` that keeps nothing on disk.
pub(crate) fn redis(port: u16) -> Vec<String> {
    let port = port.to_string();
    ["--port", &port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"].map(str::to_owned).into()
}

/// `ECHO text`, which Redis answers with `$LENGTH`, a line end and the text: as long, where the text has two digits of
/// length.
fn redis_batch(variant: usize, depth: usize, length: usize) -> Batch {
    let (mut request, mut answer) = (Vec::new(), Vec::new());
    for line in 0..depth {
        let text = letters(variant, line, length.saturating_sub("ECHO ".len()).max(1));
        request.extend([b"ECHO ", &*text, b"\r\n"].concat());
        answer.extend([format!("${}\r\n", text.len()).as_bytes(), &text, b"\r\n"].concat());
    }
    Batch { request, answer }
}

pub(crate) fn smtp_sink(port: u16) -> Vec<String> {
    let mut words = ["-m", "65536", "-h", SMTP_HOST].map(str::to_owned).to_vec();
    if rustix::process::geteuid().is_root() {
        // It insists on being somebody else then.
        words.extend(["-u", "nobody"].map(str::to_owned));
    }
    words.extend([format!("127.0.0.1:{port}"), "4096".to_owned()]);
    words
}

fn smtp_greet(socket: &mut TcpStream) -> io::Result<()> {
    BufReader::with_capacity(1, socket).read_until(b'\n', &mut Vec::new()).map(drop)
}

/// `HELO text`, which is answered with the server's name.
fn smtp_batch(variant: usize, depth: usize, length: usize) -> Batch {
    let (mut request, mut answer) = (Vec::new(), Vec::new());
    for line in 0..depth {
        let text = letters(variant, line, length.saturating_sub("HELO ".len()).max(1));
        request.extend([b"HELO ", &*text, b"\r\n"].concat());
        answer.extend(format!("250 {SMTP_HOST}\r\n").into_bytes());
    }
    Batch { request, answer }
}

/// The name that makes an answer of 64 bytes.
const SMTP_HOST: &str = "a-host-whose-name-makes-the-answer-as-long-as-the-lines-are.";
