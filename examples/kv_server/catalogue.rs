//! `COMMAND`: what there is, told to clients that ask.

use super::call::{Call, Result};
use super::command::{COMMANDS, Command, Keys, Subcommand, find};
use super::reply::{Refusal, Reply};

/// `COMMAND [subcommand [argument...]]`
pub(crate) fn command(call: &mut Call<'_>) -> Result {
    if call.arguments.len() > 1 {
        return call.run_subcommand(SUBCOMMANDS);
    }
    tell_all(&mut call.reply);
    Ok(())
}

const SUBCOMMANDS: &[Subcommand] = &[
    Subcommand { name: "count", arity: 2, run: count },
    Subcommand { name: "docs", arity: -2, run: docs },
    Subcommand { name: "help", arity: 2, run: help },
    Subcommand { name: "info", arity: -2, run: info },
    Subcommand { name: "list", arity: -2, run: list },
];

fn count(call: &mut Call<'_>) -> Result {
    call.reply.integer(COMMANDS.len());
    Ok(())
}

fn docs(call: &mut Call<'_>) -> Result {
    let named: Vec<&Command> = call.arguments.from(2).filter_map(find).collect();
    let is_all = call.arguments.len() == 2;
    let told = if is_all { COMMANDS.iter().collect() } else { named };
    call.reply.array(2 * told.len());
    for command in told {
        call.reply.bulk(command.name.as_bytes());
        let lines = [("summary", command.summary), ("since", command.since), ("group", command.group)];
        call.reply.array(2 * lines.len());
        for (key, text) in lines {
            call.reply.bulk(key.as_bytes());
            call.reply.bulk(text.as_bytes());
        }
    }
    Ok(())
}

fn help(call: &mut Call<'_>) -> Result {
    call.reply.help(&[
        "COMMAND <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
        "(no subcommand)",
        "    Return details about all commands.",
        "COUNT",
        "    Return the total number of commands.",
        "DOCS [<command-name> ...]",
        "    Return a summary of each of these commands, or of all.",
        "INFO [<command-name> ...]",
        "    Return details about each of these commands, or about all.",
        "LIST",
        "    Return the names of all commands.",
        "HELP",
        "    Prints this help.",
    ]);
    Ok(())
}

fn info(call: &mut Call<'_>) -> Result {
    if call.arguments.len() == 2 {
        tell_all(&mut call.reply);
        return Ok(());
    }
    call.reply.array(call.arguments.len() - 2);
    for name in call.arguments.from(2) {
        match find(name) {
            Some(command) => tell(&mut call.reply, command),
            None => call.reply.null(),
        }
    }
    Ok(())
}

fn list(call: &mut Call<'_>) -> Result {
    if call.arguments.len() > 2 {
        return Err(Refusal::SYNTAX);
    }
    call.reply.array(COMMANDS.len());
    for command in COMMANDS {
        call.reply.bulk(command.name.as_bytes());
    }
    Ok(())
}

fn tell_all(reply: &mut Reply<'_>) {
    reply.array(COMMANDS.len());
    for command in COMMANDS {
        tell(reply, command);
    }
}

/// The six details that Redis told of a command before there were access lists.
fn tell(reply: &mut Reply<'_>, command: &Command) {
    reply.array(6);
    reply.bulk(command.name.as_bytes());
    reply.integer(command.arity);
    reply.array(command.flags.len());
    for flag in command.flags {
        reply.simple(flag);
    }
    let Keys(first, last, step) = command.keys;
    for number in [first, last, step] {
        reply.integer(number);
    }
}
