//! The Debian packages that virgld's commands need, by purpose.

/// Packages that serve one purpose.
pub(crate) struct Group {
    /// What they are for.
    pub(crate) purpose: &'static str,
    /// Their names in Debian 12.
    pub(crate) packages: &'static [&'static str],
}

/// The device process, `vhost-user-gpu`, with the renderer behind it.
pub(crate) const DEVICE: Group = Group {
    purpose: "the virtio-gpu device process",
    packages: &[
        "qemu-system-common",
        "qemu-system-gui",
        "libvirglrenderer1",
        "libgl1-mesa-dri",
        "libegl1",
        "libgbm1",
    ],
};

/// Unmodified programs that render through virgld, and the compositor that some of them need.
pub(crate) const PROGRAMS: Group = Group {
    purpose: "unmodified GL programs",
    packages: &[
        "libgles2",
        "libegl-mesa0",
        "libglx-mesa0",
        "mesa-utils",
        "mesa-utils-bin",
        "glmark2-es2-wayland",
        "glmark2-es2-drm",
        "glmark2-data",
        "kmscube",
        "libdrm-tests",
        "weston",
        "xwayland",
    ],
};

/// The GL conformance tests: 34 MB to download, 2 GB on disk.
pub(crate) const PIGLIT: Group =
    Group { purpose: "GL tests (2 GB on disk)", packages: &["piglit", "libwaffle-1-0"] };

/// A machine with a virtio-gpu device on its PCI bus, and what its first file system is made of.
pub(crate) const VM: Group = Group {
    purpose: "the virtual machine",
    packages: &["qemu-system-x86", "qemu-system-gui", "busybox-static", "kmod", "xz-utils"],
};

/// The package that names, by its dependencies, the kernel that the virtual machine runs.
pub(crate) const KERNEL: &str = "linux-image-amd64";

/// The server that the benchmark compares with.
pub(crate) const BENCH: Group =
    Group { purpose: "what the benchmark compares with", packages: &["virgl-server"] };

/// The package that names, by its dependencies, the compiler that can check for Redox.
pub(crate) const REDOX_COMPILER: &str = "rustc-web";

/// The library source that this compiler builds for Redox.
pub(crate) const REDOX_SOURCE: &str = "rust-web-src";

/// Of the compiler's dependencies, those that belong to it and not to the system.
pub(crate) const REDOX_PREFIXES: [&str; 3] = ["rustc-web", "libstd-rust-web", "libllvm"];
