//! Tests of the control queue's state: commands as bytes, answers of every kind, deadlines, fences.
#![allow(clippy::unwrap_used, reason = "a test, helpers included: clippy knows only the functions marked so")]

mod answers;
mod blame;
mod bytes;
mod fences;
mod order;
mod patience;
mod setup;
