//! virgld: a virtio-gpu 3D driver in user space.
//!
//! This crate is the only one that names every actor: `linux/wiring.rs` says who may speak to whom and who shares a
//! thread.
#![forbid(unsafe_code)]

#[cfg(target_os = "linux")]
mod linux;

#[cfg(target_os = "linux")]
fn main() -> std::process::ExitCode {
    linux::main()
}

/// The actors compile for other systems; their wiring to one does not exist here yet.
#[cfg(not(target_os = "linux"))]
fn main() -> std::process::ExitCode {
    eprintln!("virgld: this build has no ground to stand on: only Linux is wired up");
    std::process::ExitCode::FAILURE
}
