//! The mail server as a whole: on sockets, with the clients that people use, and through faults.
//!
//! `program.rs` starts it, and is what tests share.

mod relay;
