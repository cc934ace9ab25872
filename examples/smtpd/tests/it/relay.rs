//! Messages that are passed on: a client, the server, and a next server that does what it is told, on a simulated network.

mod faults;
mod pooled;
mod refused;
mod secured;
mod sent;
mod world;
