//! The two commands of virgld and the checks behind them.
#![forbid(unsafe_code)]
#![allow(dead_code)]
mod failure;
mod packages;
mod process;
mod report;
mod setup;
mod workspace;
fn main(){}
