//! Nodes in virtual time: what depends on the moment at which something happens.

mod cluster;
mod leaders;
mod leases;
mod members;
mod reads;
mod writes;
