//! The mail server as a whole: on sockets, with the clients that people use, and through faults.
//!
//! `program.rs` starts it, and is what tests share.

mod browser;
mod clients;
mod commands;
mod crash;
mod idle;
mod limits;
mod maildir;
mod maildir_faults;
mod options;
mod program;
mod relay;
mod sessions;
mod sessions_auth;
mod sessions_cuts;
mod sessions_messages;
mod sessions_proxied;
mod sessions_rows;
mod sessions_tls;
mod stopping;
mod web;
