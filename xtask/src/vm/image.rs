//! What the guest starts with: the kernel and a first file system that finds the root and runs one script.

use std::fs;
use std::path::{Path, PathBuf};

use super::archive::Archive;
use super::kernel::Kernel;
use crate::failure::{Context, Result};
use crate::workspace::Workspace;

/// A kernel and a first file system with these modules loaded.
pub(crate) struct Image {
    /// The kernel.
    pub(crate) kernel: PathBuf,
    /// The first file system.
    pub(crate) initial: PathBuf,
}

impl Image {
    /// Puts an image together. `modules` are loaded besides what every guest needs.
    pub(crate) fn build(workspace: &Workspace, name: &str, modules: &[&str]) -> Result<Self> {
        let kernel = Kernel::get(workspace)?;
        let mut archive = Archive::default();
        for folder in ["bin", "dev", "lib", "low", "proc", "root", "sys", "up"] {
            archive.folder(folder);
        }
        archive.program("bin/busybox", &read(Path::new("/bin/busybox"))?);
        archive.program("init", INIT.as_bytes());
        let mut order = String::new();
        for file in kernel.modules(&[BASE, modules].concat())? {
            let stem = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
            archive.program(&format!("lib/{stem}"), &read(&file)?);
            order += &format!("{stem}\n");
        }
        archive.program("order", order.as_bytes());
        let initial = workspace.target_folder("vm")?.join(format!("{name}.cpio"));
        fs::write(&initial, archive.finish()).context(|| format!("cannot write {}", initial.display()))?;
        Ok(Self { kernel: kernel.image, initial })
    }
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).context(|| format!("cannot read {}", path.display()))
}

/// What reaches the host's folders.
const BASE: &[&str] = &["virtio_pci", "9pnet_virtio", "9p", "overlay"];

/// The first program of the guest. The host's root lies below, read-only; what is written goes to memory. The
/// script's exit code and output are left in the folder that the host gave.
const INIT: &str = "#!/bin/busybox sh
B=/bin/busybox
$B mount -t proc proc /proc; $B mount -t sysfs sysfs /sys; $B mount -t devtmpfs dev /dev
for module in $($B cat /order); do $B insmod /lib/$module; done
$B mount -t tmpfs tmpfs /up; $B mkdir /up/upper /up/work
share() { $B mount -t 9p -o trans=virtio,version=9p2000.L,msize=262144,$3 $1 $2; }
share host /low ro,cache=loose
$B mount -t overlay -o lowerdir=/low,upperdir=/up/upper,workdir=/up/work root /root
for folder in proc sys dev; do $B mount --move /$folder /root/$folder; done
$B mkdir -p /root/dev/shm /root/dev/pts /root/vm /root/run /root/machine
for folder in dev/shm run; do $B mount -t tmpfs tmpfs /root/$folder; done
$B mount -t devpts devpts /root/dev/pts
share back /root/vm rw
share machine /root/machine ro
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/tmp LC_ALL=C
$B ip link set lo up
$B cat /root/proc/uptime > /root/vm/booted
$B chroot /root /bin/bash /vm/script > /root/vm/output 2>&1
echo $? > /root/vm/exit
$B sync
echo o > /root/proc/sysrq-trigger
$B sleep 60
";
