//! Tests of the scheme through a door, with every actor behind it and a simulated device.
#![allow(clippy::unwrap_used, reason = "a test, helpers included: clippy knows only the functions marked so")]

mod capabilities;
mod copies;
mod derivation;
mod ends;
mod fences;
mod quotas;
mod setup;
mod silence;
mod syncobjs;
mod table;
mod waits;
