//! Nodes in virtual time: what depends on the moment at which something happens.

mod cluster;
mod leases;
mod reads;
mod writes;
