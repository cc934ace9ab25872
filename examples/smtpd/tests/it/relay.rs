//! Messages that are passed on: a client, the server, and a next server that does what it is told, on a simulated network;
//! then the program in front of others.

mod faults;
mod pooled;
mod programs;
mod refused;
mod secured;
mod sent;
mod world;
