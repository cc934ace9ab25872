//! A POP3 client (RFC 1939) on a chat channel: it logs in, lists a mailbox and fetches every message, and deletes none.
//!
//! It is the model of a client that asks many things: what it will ask is a queue, what it has asked another, and each
//! answer is the front one's. With PIPELINING (RFC 2449) the second queue is longer than one; nothing else differs. Longer
//! answers are dot-stuffed texts, for which the terminator switches.
//!
//! It speaks clear text, so a password goes in clear text unless the server offers APOP, which hides it poorly.

#[path = "pop3_probe/command.rs"]
mod command;
#[path = "pop3_probe/failure.rs"]
mod failure;
#[path = "pop3_probe/md5.rs"]
mod md5;
#[path = "pop3_probe/prompt.rs"]
mod prompt;
#[path = "pop3_probe/session.rs"]
mod session;

use std::io::{self, BufRead, IsTerminal, Write};
use std::process::ExitCode;
use std::time::Duration;

use asynchat::AsyncChat;
use asyncore::{Map, Result, Timeout};
use clap::Parser;
use examples::program::{Common, complain};

pub(crate) use failure::Failure;
pub(crate) use session::{Account, Report};
use session::{LINE_LIMIT, Session};

/// Logs in to a POP3 server, lists the mailbox and fetches every message; the messages stay there.
#[derive(Parser)]
#[command(after_help = EXIT_STATUS)]
struct Arguments {
    /// Name or address of the server.
    #[arg(value_name = "HOST")]
    host: String,
    /// Its port, most often 110.
    #[arg(value_name = "PORT")]
    port: u16,
    #[arg(value_name = "USER", help = PASSWORD)]
    user: String,
    /// Log in with USER and PASS also where the server offers APOP.
    #[arg(long)]
    plain: bool,
    /// Most seconds to wait for the connection, and for each answer to begin or go on.
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    answer_time: u32,
    /// Most seconds for all of it.
    #[arg(long, value_name = "SECONDS", default_value_t = 600)]
    max_time: u32,
    #[command(flatten)]
    common: Common,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    arguments.common.log();
    match probe(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            complain(&failure);
            ExitCode::from(failure.exit_code())
        }
    }
}

fn probe(arguments: Arguments) -> Result<(), Failure> {
    let Arguments { host, port, user, plain, answer_time, max_time, common: _ } = arguments;
    let account = Account::new(user, password()?, plain)?;
    let broken = |error: asyncore::Error| Failure::Connect(error.to_string());
    let [answer_time, max_time] = [answer_time, max_time].map(|seconds| Duration::from_secs(seconds.into()));
    let mut map = Map::new().map_err(broken)?;
    visit(&mut map, &host, port, account, [answer_time, max_time]).map_err(broken)?;
    let mut report = Report::default();
    map.run(&mut report).map_err(broken)?;
    if let Some(Err(failure)) = report.outcome {
        return Err(failure);
    }
    let mut out = io::stdout();
    report.write(&mut out).and_then(|()| out.flush()).map_err(|error| Failure::Output(error.to_string()))
}

/// Calls on a mailbox; what is found there goes to the map's state.
pub(crate) fn visit(
    map: &mut Map<Report>,
    host: &str,
    port: u16,
    account: Account,
    [answer_time, max_time]: [Duration; 2],
) -> Result {
    let session = AsyncChat::new(Session::new(account)).terminator(b"\r\n").message_limit(LINE_LIMIT);
    let id = map.connect_host(host, port, session)?;
    map.set_timeout(id, Timeout::Connect, Some(answer_time));
    map.set_timeout(id, Timeout::Read, Some(answer_time));
    map.set_timeout(id, Timeout::Total, Some(max_time));
    Ok(())
}

/// The password, which is no argument: arguments are there for everybody to see.
fn password() -> Result<String, Failure> {
    if let Ok(password) = std::env::var("POP3_PASSWORD") {
        return Ok(password);
    }
    let asked = if io::stdin().is_terminal() { prompt::ask("password: ") } else { first_line() };
    asked.map_err(|_| Failure::Account("no password: neither POP3_PASSWORD nor standard input has one"))
}

fn first_line() -> io::Result<String> {
    let mut line = String::new();
    match io::stdin().lock().read_line(&mut line)? {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        _ => Ok(line.trim_end_matches(['\r', '\n']).to_owned()),
    }
}

const PASSWORD: &str = "Whose mailbox it is; the password is in POP3_PASSWORD, or the first line of standard input; \
                        a terminal is asked for it and does not show it";

const EXIT_STATUS: &str = "\
Exit status:
  0  every message was listed and fetched
  1  standard output took no more
  2  bad arguments, or a name or password that cannot be sent
  3  the name is unknown, or nobody answers there
  4  the answer is not valid POP3
  5  an answer is too long
  6  the server went away too soon
  7  an answer took too long
  8  the server said no (-ERR), to the login for one";
