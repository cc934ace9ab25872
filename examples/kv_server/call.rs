//! One call of a command: who calls, with what, and how it is answered.

use super::arguments::Arguments;
use super::client::Session;
use super::command::{self, Command, Subcommand};
use super::reply::{Refusal, Reply, quotable};
use super::server::Server;

/// What a command is given.
pub(crate) struct Call<'a> {
    pub(crate) reply: Reply<'a>,
    pub(crate) server: &'a mut Server,
    pub(crate) session: &'a mut Session,
    pub(crate) arguments: Arguments<'a>,
}

/// Whether the command was answered as it ran; if not, why not is the answer.
pub(crate) type Result = std::result::Result<(), Refusal>;

impl Call<'_> {
    /// Carries the command out.
    pub(crate) fn run(&mut self) {
        let outcome = self.find().and_then(|command| (command.run)(self));
        if let Err(refusal) = outcome {
            self.reply.refuse(&refusal);
        }
    }

    fn find(&mut self) -> std::result::Result<&'static Command, Refusal> {
        let Some(command) = command::find(self.arguments.at(0)) else { return Err(self.unknown()) };
        if command.takes(self.arguments.len()) {
            Ok(command)
        } else {
            Err(Refusal::wrong_arity(command.name))
        }
    }

    /// Carries out what the second word of a command names.
    pub(crate) fn run_subcommand(&mut self, subcommands: &'static [Subcommand]) -> Result {
        let (container, name) = (self.arguments.at(0), self.arguments.at(1));
        let Some(subcommand) = subcommands.iter().find(|one| name.eq_ignore_ascii_case(one.name.as_bytes()))
        else {
            let name = beginning(name, QUOTED);
            let container = container.to_ascii_uppercase();
            return Err([b"ERR unknown subcommand '", name, b"'. Try ", &container, b" HELP."]
                .concat()
                .into());
        };
        if command::fits(subcommand.arity, self.arguments.len()) {
            (subcommand.run)(self)
        } else {
            let container = container.to_ascii_lowercase().escape_ascii().to_string();
            Err(Refusal::wrong_arity(&format!("{container}|{}", subcommand.name)))
        }
    }

    /// The refusal of a command that is not there, which quotes the beginning of it.
    #[cold]
    fn unknown(&mut self) -> Refusal {
        let name = self.arguments.at(0);
        if name.eq_ignore_ascii_case(b"POST") || name.eq_ignore_ascii_case(b"Host:") {
            // A web page must not have a browser send commands in the body of a request.
            tracing::warn!(id = %self.reply.id, "closing: that is HTTP");
            self.reply.map.close(self.reply.id);
        }
        let name = beginning(name, QUOTED);
        let mut text = [b"ERR unknown command '", name, b"', with args beginning with: "].concat();
        let mut quoted = 0;
        for argument in self.arguments.from(1) {
            if quoted >= QUOTED {
                break;
            }
            let argument = beginning(argument, QUOTED - quoted);
            text.extend([b"'", argument, b"' "].concat());
            quoted += argument.len() + 3;
        }
        text.into()
    }
}

/// What is quoted of a text, at most so many bytes.
fn beginning(text: &[u8], most: usize) -> &[u8] {
    quotable(&text[..text.len().min(most)])
}

/// How much of an unknown command is quoted: 128 bytes of its name, and of its arguments, as Redis does.
const QUOTED: usize = 128;
