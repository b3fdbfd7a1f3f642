//! The program that libFuzzer drives: it has libFuzzer's arguments, and the target's name in VIRGLD_FUZZ_TARGET.
//! `cargo xtask fuzz` builds and runs it.
#![no_main]
#![forbid(unsafe_code)]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use virgld_fuzz::Target;

static TARGET: LazyLock<&'static Target> = LazyLock::new(|| {
    let name = std::env::var("VIRGLD_FUZZ_TARGET").unwrap_or_default();
    virgld_fuzz::find(&name).unwrap_or_else(|| panic!("VIRGLD_FUZZ_TARGET={name:?} is no target"))
});

fuzz_target!(|bytes: &[u8]| (TARGET.run)(bytes));
