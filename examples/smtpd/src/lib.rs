//! A mail server for development and small sites: SMTP conversations, a web page, timers and signals in one loop.
//!
//! `app.rs` is what all channels share, `session.rs` one conversation, `delivery.rs` where messages go. The program is
//! `main.rs`; its manual is `README.md`.

pub mod address;
pub mod app;
pub mod command;
mod commit;
pub mod config;
pub mod debug;
pub mod delivery;
mod draft;
pub mod envelope;
pub mod exec;
mod folders;
pub mod gate;
pub mod log;
pub mod mailbox;
pub mod maildir;
pub mod metrics;
pub mod options;
pub mod parameters;
pub mod password;
pub mod proxy;
mod queue;
pub mod recipient;
pub mod relay;
pub mod reply;
pub mod serial;
pub mod server;
pub mod session;
pub mod settings;
pub mod sink;
pub mod spool;
pub mod trace;
mod upload;
pub mod web;
