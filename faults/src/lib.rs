//! Fault plans: what is to go wrong, where and when. `docs/faults.md` explains them.
//!
//! A plan is a file, and a file can be wrong: whatever is wrong with one is told with its line and column.
#![forbid(unsafe_code)]

mod device;
mod parse;
mod vocabulary;

pub use device::{DeviceRule, DeviceWrong};
pub use parse::PlanError;
pub use vocabulary::{Actor, actors};

use virgld_runtime::fault::Rule;

/// What is to go wrong.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Plan {
    /// Decides all that is left to chance.
    pub seed: u64,
    /// At the boundaries of actors.
    pub faults: Vec<Rule>,
    /// At the device.
    pub device: Vec<DeviceRule>,
}
