//! What is fed with random input.

mod device;
mod frontend;
mod ioctls;
mod records;
mod states;

/// Something that must stand any input.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// Its name, and that of the folder with its seeds.
    pub name: &'static str,
    /// What it covers.
    pub about: &'static str,
    /// Runs one input. Panics where something is not as it must be.
    pub run: fn(&[u8]),
}

/// All of them.
pub const TARGETS: &[Target] = &[
    target("records", records::run, "a channel's ring as any client wrote it: records and marshalled ioctls"),
    target("ioctls", ioctls::run, "any ioctl with any argument by several files, on the whole of virgld"),
    target("device", device::run, "a device that writes whatever it likes into its queues and answers"),
    target(
        "frontend",
        frontend::run,
        "a device process that says whatever it likes on its vhost-user and display sockets",
    ),
    target("scheme", states::scheme::run, "any messages to the scheme"),
    target("context", states::context::run, "any messages to a context"),
    target("resource", states::resource::run, "any messages to the resource actor"),
    target("display", states::display::run, "any messages to the display"),
    target("ctrlq", states::ctrlq::run, "any messages to the control queue"),
    target("cursorq", states::cursorq::run, "any messages to the cursor queue"),
    target("transport", states::transport::run, "any messages to the transport"),
    target("keeper", states::keeper::run, "any messages to the device keeper"),
];

/// The target of this name.
pub fn find(name: &str) -> Option<&'static Target> {
    TARGETS.iter().find(|target| target.name == name)
}

const fn target(name: &'static str, run: fn(&[u8]), about: &'static str) -> Target {
    Target { name, about, run }
}
