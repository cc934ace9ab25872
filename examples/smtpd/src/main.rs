//! The program `smtpd`.

use std::env;
use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;

use asyncore::Result;
use smtpd::options::Command;
use smtpd::{config, log, password, server};

fn main() -> ExitCode {
    let program = match config::parse(env::args_os().collect()) {
        Ok(program) => program,
        // Help and versions come this way too, with a status of their own.
        Err(error) => error.exit(),
    };
    let done = match program.command {
        None => {
            log::start(program.options.log_format, program.options.verbose);
            server::run(&program.options)
        }
        Some(Command::CheckConfig(options)) => server::check(&options),
        Some(Command::HashPassword { user }) => hash_password(&user),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            drop(writeln!(io::stderr(), "error: {error}"));
            ExitCode::FAILURE
        }
    }
}

/// Asks for a password at the terminal, or reads a line if there is none, and prints the line of the password file.
fn hash_password(user: &str) -> Result {
    let password = if io::stdin().is_terminal() {
        rpassword::prompt_password(format!("Password of {user}: "))?
    } else {
        let mut line = String::new();
        io::stdin().read_line(&mut line)?;
        line
    };
    // The line's end is not part of it.
    let password = password.strip_suffix('\n').unwrap_or(&password);
    let line = password::line(user, password.strip_suffix('\r').unwrap_or(password).as_bytes())?;
    writeln!(io::stdout(), "{line}")?;
    Ok(())
}
