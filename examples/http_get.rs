//! An HTTP client on a chat channel: its terminator switches from the head's empty line to what ends the body.
//!
//! It is a careful client: each length, count and time that a server could stretch has a limit, and an answer that can be
//! read in two ways is refused. The exit status says what happened; `--help` lists them.
//!
//! Names are looked up with the standard library, which blocks: fine for a program that does one thing.

#[path = "http_get/chunks.rs"]
mod chunks;
#[path = "http_get/client.rs"]
mod client;
#[path = "http_get/failure.rs"]
mod failure;
#[path = "http_get/fetch.rs"]
mod fetch;
#[path = "http_get/head.rs"]
mod head;
#[path = "http_get/url.rs"]
mod url;

use std::io;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use examples::program::{Common, complain};

use client::Client;
use failure::Failure;
pub(crate) use url::Url;

/// Prints what an http:// address holds.
#[derive(Parser)]
#[command(after_help = EXIT_STATUS)]
struct Arguments {
    #[arg(value_name = "URL", help = "What to get, such as http://127.0.0.1:8142/status.json")]
    url: Url,
    /// Most bytes of body to take.
    #[arg(long, value_name = "N", default_value_t = 1 << 30)]
    max_bytes: u64,
    /// Most seconds to wait for all of it.
    #[arg(long, value_name = "SECONDS", default_value_t = 300)]
    max_time: u32,
    /// Follow up to five redirects, though never to another scheme or from a public address to a private one.
    #[arg(long)]
    follow: bool,
    #[command(flatten)]
    common: Common,
}

fn main() -> ExitCode {
    let Arguments { url, max_bytes, max_time, follow, common } = Arguments::parse();
    common.log();
    let redirects = if follow { REDIRECT_LIMIT } else { 0 };
    let mut client = Client::new(io::stdout(), max_bytes, Duration::from_secs(max_time.into()));
    match client.get(url, redirects) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            complain(&failure);
            ExitCode::from(failure.exit_code())
        }
    }
}

const EXIT_STATUS: &str = "\
Exit status:
  0  the server said 2xx, and all of its answer was printed
  1  standard output took no more
  2  bad arguments, or an address that is not plain http://
  3  the name is unknown, or nobody answers there
  4  the answer is not valid HTTP
  5  the answer is too long
  6  the answer ended too soon
  7  the answer took too long
  8  a redirect: not asked to follow it, or not safe to
  9  the server said no (4xx, 5xx); its answer was printed";

/// Most redirects to follow: 5.
const REDIRECT_LIMIT: u32 = 5;
