//! Commands about the connection itself.

use super::call::{Call, Result};
use super::command::Subcommand;
use super::number;
use super::reply::Refusal;
use super::server::DATABASES;

/// `PING [message]`
pub(crate) fn ping(call: &mut Call<'_>) -> Result {
    match call.arguments.len() {
        1 => call.reply.simple("PONG"),
        2 => call.reply.bulk(call.arguments.at(1)),
        _ => return Err(Refusal::wrong_arity("ping")),
    }
    Ok(())
}

/// `ECHO message`
pub(crate) fn echo(call: &mut Call<'_>) -> Result {
    call.reply.bulk(call.arguments.at(1));
    Ok(())
}

/// `SELECT index`
pub(crate) fn select(call: &mut Call<'_>) -> Result {
    let index = number::parse(call.arguments.at(1)).ok_or(Refusal::NOT_AN_INTEGER)?;
    if i32::try_from(index).is_err() {
        return Err(Refusal::new("ERR value is out of range, value must between -2147483648 and 2147483647"));
    }
    let index = usize::try_from(index).ok().filter(|index| *index < DATABASES);
    call.session.database = index.ok_or(Refusal::new("ERR DB index is out of range"))?;
    call.reply.ok();
    Ok(())
}

/// `QUIT`
pub(crate) fn quit(call: &mut Call<'_>) -> Result {
    call.reply.ok();
    call.reply.map.close_when_done(call.reply.id);
    Ok(())
}

/// `CLIENT subcommand [argument]`
pub(crate) fn client(call: &mut Call<'_>) -> Result {
    call.run_subcommand(CLIENT)
}

const CLIENT: &[Subcommand] = &[
    Subcommand { name: "getname", arity: 2, run: client_getname },
    Subcommand { name: "help", arity: 2, run: client_help },
    Subcommand { name: "id", arity: 2, run: client_id },
    Subcommand { name: "setname", arity: 3, run: client_setname },
];

fn client_getname(call: &mut Call<'_>) -> Result {
    let name = &call.session.name;
    call.reply.bulk_or_null((!name.is_empty()).then_some(name));
    Ok(())
}

fn client_help(call: &mut Call<'_>) -> Result {
    call.reply.help(&[
        "CLIENT <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
        "GETNAME",
        "    Return the name of the current connection.",
        "ID",
        "    Return the ID of the current connection.",
        "SETNAME <name>",
        "    Assign the name <name> to the current connection.",
        "HELP",
        "    Prints this help.",
    ]);
    Ok(())
}

fn client_id(call: &mut Call<'_>) -> Result {
    call.reply.integer(call.session.number);
    Ok(())
}

fn client_setname(call: &mut Call<'_>) -> Result {
    let name = call.arguments.at(2);
    if !name.iter().all(u8::is_ascii_graphic) {
        return Err(Refusal::new("ERR Client names cannot contain spaces, newlines or special characters."));
    }
    call.session.name = name.into();
    call.reply.ok();
    Ok(())
}
