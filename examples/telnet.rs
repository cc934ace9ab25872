//! A line client for a terminal: standard input, standard output and a server, three channels of one map.
//!
//! It speaks to anything that talks in lines. Of the telnet protocol it knows how to say no: every option that the server
//! proposes is refused (RFC 854). What comes is printed as it is, but on a terminal no byte of the server's controls it.

#[path = "telnet/protocol.rs"]
mod protocol;
#[path = "telnet/screen.rs"]
mod screen;

use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;
use std::time::Duration;

use asyncore::{
    Channel, ChannelId, CloseReason, Context, Dispatcher, Error, Limits, Map, Received, Result, SIGINT,
    SIGTERM, Timeout,
};
use clap::Parser;
use examples::program::{Common, complain};

use protocol::{Lines, Telnet};
use screen::Screen;

/// Talks to a server in lines: what is typed goes out, what comes is printed.
#[derive(Parser)]
#[command(after_help = AFTER_HELP)]
struct Arguments {
    /// The server's name or address.
    #[arg(value_name = "HOST")]
    host: String,
    /// Its port.
    #[arg(value_name = "PORT", default_value_t = 23)]
    port: u16,
    #[command(flatten)]
    common: Common,
}

/// What the channels share.
struct Session {
    /// Whether standard output is a terminal.
    is_terminal: bool,
    keyboard: Option<ChannelId>,
    output: ChannelId,
    /// The first thing that went wrong.
    failure: Option<String>,
    /// What ended it, if a signal did.
    signal: Option<u8>,
    /// What is told once all the text has been printed.
    news: Option<&'static str>,
}

/// The connection.
struct Server {
    telnet: Telnet,
    screen: Screen,
}

impl Channel<Session> for Server {
    fn handle_connect(&mut self, cx: &mut Context<'_, Session>) -> Result {
        let keyboard =
            cx.map.add(Dispatcher::stdin()?, Keyboard { server: cx.id, lines: Lines::default() })?;
        cx.app.keyboard = Some(keyboard);
        // Whoever does not take what it is sent is not sent more.
        cx.map.couple(keyboard, cx.id);
        cx.map.couple(cx.id, cx.app.output);
        if let Some(peer) = cx.map.get(cx.id).and_then(Dispatcher::peer_addr) {
            cx.app.tell(&format!("connected to {peer}; Ctrl-D ends"));
        }
        Ok(())
    }

    fn handle_read(&mut self, cx: &mut Context<'_, Session>) -> Result {
        if let Received::Data(data) = cx.map.recv(cx.id, READ_SIZE)? {
            let (text, answer) = self.telnet.take(&data);
            cx.map.push(cx.id, answer);
            cx.map.push(cx.app.output, self.screen.show(text));
        }
        Ok(())
    }

    fn handle_error(&mut self, cx: &mut Context<'_, Session>, error: &Error) {
        cx.app.fail(error);
        cx.map.close(cx.id);
    }

    fn handle_close(&mut self, cx: &mut Context<'_, Session>, reason: CloseReason) {
        cx.map.push(cx.app.output, self.screen.finish());
        cx.map.close_when_done(cx.app.output);
        if let Some(keyboard) = cx.app.keyboard {
            cx.map.close(keyboard);
        }
        match reason {
            // The text that came before it may wait for the terminal still.
            CloseReason::Eof => cx.app.news = Some("closed by the server"),
            CloseReason::Local => {}
            reason => cx.app.fail(&reason),
        }
    }
}

/// Standard input.
struct Keyboard {
    server: ChannelId,
    lines: Lines,
}

impl Channel<Session> for Keyboard {
    fn handle_read(&mut self, cx: &mut Context<'_, Session>) -> Result {
        if let Received::Data(data) = cx.map.recv(cx.id, READ_SIZE)? {
            cx.map.push(self.server, self.lines.encode(&data));
        }
        Ok(())
    }

    fn handle_eof(&mut self, cx: &mut Context<'_, Session>) -> Result {
        cx.map.push(self.server, self.lines.finish());
        // The server may have an answer still.
        cx.map.shutdown_write(self.server);
        cx.map.close(cx.id);
        Ok(())
    }

    fn handle_error(&mut self, cx: &mut Context<'_, Session>, error: &Error) {
        cx.app.fail(&format_args!("standard input: {error}"));
        cx.map.close(self.server);
    }
}

/// Standard output.
struct Output;

impl Channel<Session> for Output {
    fn handle_close(&mut self, cx: &mut Context<'_, Session>, reason: CloseReason) {
        if reason != CloseReason::Local {
            cx.app.fail(&"standard output takes no more");
            cx.map.close_all();
        }
    }
}

impl Session {
    fn fail(&mut self, failure: &dyn std::fmt::Display) {
        self.failure.get_or_insert_with(|| failure.to_string());
    }

    /// Tells who sits at the terminal how things are.
    fn tell(&self, news: &str) {
        if self.is_terminal {
            drop(writeln!(io::stderr(), "{news}"));
        }
    }
}

/// Talks until one side has had enough.
fn talk(host: &str, port: u16) -> Result<Session> {
    let is_terminal = io::stdout().is_terminal();
    let mut map = Map::new()?;
    let mut output = Dispatcher::stdout()?;
    // Whoever reads it, in a pager for one, may take all the time there is.
    let mut limits = Limits::default();
    limits.drain_time = Duration::MAX;
    output.set_limits(limits);
    let output = map.add(output, Output)?;
    let mut session =
        Session { is_terminal, keyboard: None, output, failure: None, signal: None, news: None };
    for signal in [SIGINT, SIGTERM] {
        map.add_signal(signal, |cx: &mut Context<'_, Session>, signal| {
            cx.app.signal = u8::try_from(signal).ok();
            cx.map.stop();
            Ok(())
        })?;
    }
    let server = Server { telnet: Telnet::default(), screen: Screen::new(is_terminal) };
    let server = map.connect_host(host, port, server)?;
    map.set_timeout(server, Timeout::Connect, Some(CONNECT_TIME));
    map.run(&mut session)?;
    // With the map the terminal is as it was before, and shows all that it was given.
    drop(map);
    if let Some(news) = session.news {
        session.tell(news);
    }
    Ok(session)
}

fn main() -> ExitCode {
    let Arguments { host, port, common } = Arguments::parse();
    common.log();
    match talk(&host, port) {
        Ok(Session { signal: Some(signal), .. }) => ExitCode::from(signal.saturating_add(128)),
        Ok(Session { failure: None, .. }) => ExitCode::SUCCESS,
        Ok(Session { failure: Some(failure), .. }) => {
            complain(&failure);
            ExitCode::FAILURE
        }
        Err(error) => {
            complain(&error);
            ExitCode::FAILURE
        }
    }
}

const AFTER_HELP: &str = "\
The end of the input, Ctrl-D at a terminal, is passed on; the rest of the answer is waited for.

Exit status:
  0    one side ended the connection in good order
  1    there was no connection, it was lost, or standard input or output failed
  2    bad arguments
  130  interrupted (143 if told to terminate)";

/// How long a connect may take, with the look-up of the name: 30 s; who sits at a terminal has given up by then.
const CONNECT_TIME: Duration = Duration::from_secs(30);

/// Most bytes of one read: 16 KiB; a screen holds less.
const READ_SIZE: usize = 16 << 10;
