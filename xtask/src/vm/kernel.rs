//! Debian's kernel, unpacked.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::failure::{Context, Failure, Result};
use crate::packages::KERNEL;
use crate::process::Task;
use crate::redox_toolchain::{fetch, unpack};
use crate::setup::{apt_get, lists_know};
use crate::workspace::Workspace;

/// A kernel and its modules.
pub(crate) struct Kernel {
    /// What QEMU starts.
    pub(crate) image: PathBuf,
    modules: PathBuf,
    /// Which modules each module needs, as depmod found out.
    needs: String,
}

impl Kernel {
    /// Debian's current kernel; fetched and unpacked on first use.
    pub(crate) fn get(workspace: &Workspace) -> Result<Self> {
        let package = package()?;
        let folder = workspace.kept_folder("vm")?.join(&package);
        let image = folder.join("vmlinux");
        let version = package.trim_start_matches("linux-image-");
        let modules = folder.join("root/lib/modules").join(version);
        if !image.exists() {
            println!("fetching {package} (70 MB, 450 MB unpacked)");
            let _ = fs::remove_dir_all(&folder);
            fetch(&folder.join("packages"), std::slice::from_ref(&package))?;
            unpack(&folder.join("packages"), &folder.join("root"))?;
            let depmod = Task::new("depmod").arg("-b").arg(folder.join("root")).arg(version);
            depmod.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").output()?;
            // Written last: that it is there says that all is complete.
            extract(&folder.join("root/boot").join(format!("vmlinuz-{version}")), &image)?;
        }
        let list = modules.join("modules.dep");
        let needs = fs::read_to_string(&list).context(|| format!("cannot read {}", list.display()))?;
        Ok(Self { image, modules, needs })
    }

    /// The files of these modules and of all that they need, in the order in which they can be loaded.
    pub(crate) fn modules(&self, names: &[&str]) -> Result<Vec<PathBuf>> {
        let mut files: Vec<&str> = Vec::new();
        for name in names {
            for file in in_order(&self.needs, name)? {
                if !files.contains(&file) {
                    files.push(file);
                }
            }
        }
        Ok(files.into_iter().map(|file| self.modules.join(file)).collect())
    }
}

/// The package that holds the current kernel.
fn package() -> Result<String> {
    if !lists_know(&[KERNEL])? {
        apt_get(&["update"]).show()?;
    }
    let listing = Task::new("apt-cache").args(["depends", "--important", KERNEL]).output()?;
    let named = listing.lines().find_map(|line| line.trim().strip_prefix("Depends: "));
    named
        .map(str::to_owned)
        .ok_or_else(|| Failure::new(format!("apt offers no {KERNEL}: is this Debian 12 on x86-64?")))
}

/// A module's file and those it needs, the most needed first. Depmod lists them the other way round.
fn in_order<'a>(needs: &'a str, name: &str) -> Result<Vec<&'a str>> {
    let is_it = |file: &str| {
        let stem = file.rsplit('/').next().unwrap_or(file).trim_end_matches(".ko");
        stem.replace('-', "_") == name.replace('-', "_")
    };
    let line = needs.lines().find_map(|line| line.split_once(':').filter(|(file, _)| is_it(file)));
    let (file, needed) = line.ok_or_else(|| Failure::new(format!("the kernel has no module {name}")))?;
    let mut files: Vec<&str> = needed.split_whitespace().collect();
    files.reverse();
    files.push(file);
    Ok(files)
}

/// Takes the kernel proper out of its compressed wrapping: QEMU starts it in half the time.
fn extract(wrapped: &Path, to: &Path) -> Result<()> {
    let bytes = fs::read(wrapped).context(|| format!("cannot read {}", wrapped.display()))?;
    let Some(payload) = payload(&bytes) else {
        return fs::copy(wrapped, to).map(|_| ()).context(|| format!("cannot write {}", to.display()));
    };
    let packed = to.with_extension("xz");
    fs::write(&packed, payload).context(|| format!("cannot write {}", packed.display()))?;
    let unpacked = Task::new("xz").args(["-d", "--single-stream", "--force"]).arg(&packed);
    // What it makes is the file without the ending: the kernel's.
    unpacked.limit(Duration::from_secs(120)).output()?;
    fs::rename(packed.with_extension(""), to).context(|| format!("cannot make {}", to.display()))
}

/// The compressed kernel in a bzImage (Linux, Documentation/arch/x86/boot.rst), if it is compressed by xz.
fn payload(image: &[u8]) -> Option<&[u8]> {
    let number = |at: usize| Some(u32::from_le_bytes(*image.get(at..)?.first_chunk()?) as usize);
    let setup = (usize::from(*image.get(0x1f1)?) + 1) * 512;
    let start = setup + number(0x248)?;
    // The last four bytes are the unpacked size, and no part of the stream.
    let payload = image.get(start..start + number(0x24c)?.checked_sub(4)?)?;
    payload.starts_with(b"\xfd7zXZ\0").then_some(payload)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modules_come_after_what_they_need() {
        let needs = "kernel/a/virtio-gpu.ko: kernel/b/drm.ko kernel/c/virtio.ko\nkernel/c/virtio.ko:\n";
        let files = in_order(needs, "virtio_gpu").unwrap();
        assert_eq!(files, ["kernel/c/virtio.ko", "kernel/b/drm.ko", "kernel/a/virtio-gpu.ko"]);
        assert!(in_order(needs, "gpu").is_err());
    }

    #[test]
    fn the_payload_is_found_only_where_it_is() {
        let mut image = vec![0; 2048];
        image[0x1f1] = 1;
        image[0x248..0x24c].copy_from_slice(&16_u32.to_le_bytes());
        image[0x24c..0x250].copy_from_slice(&12_u32.to_le_bytes());
        assert_eq!(payload(&image), None);
        image[1040..1046].copy_from_slice(b"\xfd7zXZ\0");
        assert_eq!(payload(&image).map(<[u8]>::len), Some(8));
        assert_eq!(payload(&image[..100]), None);
    }
}
