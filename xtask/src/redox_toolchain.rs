//! The compiler that can check for Redox: Debian's packages, unpacked into a folder of their own.
//!
//! rustup ships no library source here, and Debian's compiler must not replace the machine's. So the packages
//! are downloaded and unpacked, never installed, and a wrapper script stands for the compiler.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::failure::{Context, Failure, Result};
use crate::packages::{REDOX_COMPILER, REDOX_PREFIXES, REDOX_SOURCE};
use crate::process::Task;
use crate::setup::{apt_get, candidates};
use crate::workspace::Workspace;

/// What the crates ask of a compiler, `rust-version` in Cargo.toml.
const ASKED: &str = env!("CARGO_PKG_RUST_VERSION");

/// The wrapper that stands for the compiler; fetched and unpacked on first use, and when the crates ask for more
/// than the one that is kept.
pub(crate) fn compiler(workspace: &Workspace) -> Result<PathBuf> {
    let folder = workspace.kept_folder("redox-toolchain")?;
    let wrapper = folder.join("rustc");
    if !wrapper.exists()
        || !suffices(Task::new(&wrapper).arg("--version").output()?.trim_start_matches("rustc "))
    {
        let packages = packages()?;
        println!("fetching the compiler for Redox (140 MB, 850 MB unpacked): {}", packages.join(" "));
        fs::remove_dir_all(&folder).context(|| format!("cannot empty {}", folder.display()))?;
        fetch(&folder.join("packages"), &packages)?;
        unpack(&folder.join("packages"), &folder.join("root"))?;
        write_wrapper(&wrapper)?;
    }
    Ok(wrapper)
}

/// Whether a version, as the compiler or its package writes it, is at least what the crates ask for.
fn suffices(version: &str) -> bool {
    let minor = |version: &str| {
        let mut parts = version.split('.').map_while(|part| part.parse::<u32>().ok());
        parts.next().zip(parts.next())
    };
    minor(version) >= minor(ASKED)
}

/// The compiler's package, those of its dependencies that belong to it, and the library's source.
///
/// Debian 12 began with an older compiler than the crates ask for; the newer one is a security update, which lists
/// as old as the machine's image do not know.
fn packages() -> Result<Vec<String>> {
    let known = || {
        Ok(candidates(&[REDOX_COMPILER, REDOX_SOURCE])?.iter().filter(|version| suffices(version)).count())
    };
    if known()? < 2 {
        apt_get(&["update"]).show()?;
        if known()? < 2 {
            return Err(Failure::new(format!(
                "apt offers no {REDOX_COMPILER} of {ASKED} or newer: are bookworm-security and its updates among \
                 the sources of apt?"
            )));
        }
    }
    let kinds = ["recommends", "suggests", "conflicts", "breaks", "replaces", "enhances"];
    let listing = Task::new("apt-cache")
        .args(["depends", "--recurse"])
        .args(kinds.map(|kind| format!("--no-{kind}")))
        .arg(REDOX_COMPILER)
        .output()?;
    let mut packages: Vec<String> = own_packages(&listing).map(str::to_owned).collect();
    if packages.len() < 3 {
        return Err(Failure::new(format!(
            "apt offers no {REDOX_COMPILER} with its library: is this Debian 12?"
        )));
    }
    packages.push(REDOX_SOURCE.into());
    Ok(packages)
}

/// The names in apt-cache's listing that start a paragraph and belong to the compiler.
fn own_packages(listing: &str) -> impl Iterator<Item = &str> {
    listing.lines().filter(|line| REDOX_PREFIXES.iter().any(|prefix| line.starts_with(prefix)))
}

/// Downloads packages into a folder.
pub(crate) fn fetch(folder: &Path, packages: &[String]) -> Result<()> {
    fs::create_dir_all(folder).context(|| format!("cannot make {}", folder.display()))?;
    let mut task = apt_get(&["download"]);
    if rustix::process::geteuid().is_root() {
        task = task.args(["-o", "APT::Sandbox::User=root"]);
    }
    task.args(packages).folder(folder).show()
}

/// Unpacks every package of a folder, and removes the folder.
pub(crate) fn unpack(packages: &Path, root: &Path) -> Result<()> {
    for entry in fs::read_dir(packages).context(|| format!("cannot list {}", packages.display()))?.flatten() {
        println!("unpacking {}", entry.file_name().display());
        Task::new("dpkg-deb").arg("-x").arg(entry.path()).arg(root).limit(Duration::from_secs(300)).show()?;
    }
    fs::remove_dir_all(packages).context(|| format!("cannot remove {}", packages.display()))
}

/// The wrapper finds the toolchain beside itself, so the repository may be moved.
const WRAPPER: &str = "#!/bin/sh
usr=$(dirname \"$0\")/root/usr
LD_LIBRARY_PATH=$usr/lib/x86_64-linux-gnu exec \"$usr/bin/rustc\" \"$@\"
";

/// Written last: that it is there says that the toolchain is complete.
fn write_wrapper(wrapper: &Path) -> Result<()> {
    fs::write(wrapper, WRAPPER)
        .and_then(|()| fs::set_permissions(wrapper, fs::Permissions::from_mode(0o755)))
        .context(|| format!("cannot write {}", wrapper.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_a_compiler_that_is_too_old() {
        for (version, expected) in [
            ("1.85.0+dfsg3-1~deb12u3", false),
            ("1.96.0+dfsg1-1~deb12u2", true),
            ("2.0.0", true),
            ("(none)", false),
        ] {
            assert_eq!(suffices(version), expected, "{version}");
        }
        assert!(suffices(ASKED));
    }

    #[test]
    fn takes_what_belongs_to_the_compiler() {
        let listing = "rustc-web\n  Depends: libstd-rust-web-dev\nlibc6\nlibstd-rust-web-dev\n\
                       libstd-rust-web-1.96\nlibllvm22\ngcc-12\n";
        let expected = ["rustc-web", "libstd-rust-web-dev", "libstd-rust-web-1.96", "libllvm22"];
        assert!(own_packages(listing).eq(expected));
    }
}
