//! Tests of the resource actor's state: memory, numbers, quotas, capability sets.
#![allow(clippy::unwrap_used, reason = "a test, helpers included: clippy knows only the functions marked so")]

mod capsets;
mod lives;
mod setup;
mod table;
