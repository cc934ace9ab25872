//! What both crates promise, tested on real sockets; one binary, so that it links once and runs in parallel.

mod chat;
mod chat_ends;
mod chat_output;
mod connecting;
mod datagrams;
mod event_loop;
mod faults;
mod faults_accept;
mod faults_callbacks;
mod faults_calls;
mod faults_handlers;
mod faults_peers;
mod hazards;
mod limits;
mod mixed;
mod scripted;
mod sequences;
mod sequences_data;
mod test_asynchat;
mod test_asyncore;
mod test_asyncore_api;
mod tidy;
mod timers;
mod transcripts;
mod traps;
