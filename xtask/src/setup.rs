//! Finds the packages that are missing and installs them, or says how to.

use std::time::Duration;

use crate::failure::{Failure, Result};
use crate::packages::Group;
use crate::process::Task;

/// Makes sure that every package of `groups` is installed.
pub(crate) fn ensure(groups: &[&Group]) -> Result<()> {
    let missing = missing(groups)?;
    if missing.is_empty() {
        return Ok(());
    }
    for group in groups {
        let names: Vec<_> = group.packages.iter().filter(|name| missing.contains(name)).copied().collect();
        if !names.is_empty() {
            println!("missing for {}: {}", group.purpose, names.join(" "));
        }
    }
    if !rustix::process::geteuid().is_root() {
        let names = missing.join(" ");
        return Err(Failure::new(format!(
            "packages are missing; install them with\n\n    sudo apt-get update && \
             sudo apt-get install -y --no-install-recommends {names}\n\nand run this again"
        )));
    }
    install(&missing)
}

/// The packages of `groups` that are not installed, each once.
fn missing(groups: &[&Group]) -> Result<Vec<&'static str>> {
    let wanted: Vec<&str> = groups.iter().flat_map(|group| group.packages.iter().copied()).collect();
    let query = Task::new("dpkg-query")
        .args(["-W", "-f=${binary:Package} ${db:Status-Status}\n"])
        .args(&wanted)
        .capture()
        .map_err(|_| {
            Failure::new(format!(
                "there is no dpkg-query here: virgld sets itself up on Debian 12 only.\n\
                 Install what these packages hold, by your system's own means: {}",
                wanted.join(" ")
            ))
        })?;
    Ok(not_installed(&wanted, &query.text))
}

/// Those of `wanted` that dpkg-query's answer does not call installed. Packages that it does not know appear
/// there as error lines only, and those of several architectures with `:amd64` at the end.
fn not_installed(wanted: &[&'static str], answer: &str) -> Vec<&'static str> {
    let installed = |name: &str| {
        answer.lines().any(|line| {
            line.split_once(' ').is_some_and(|(package, status)| {
                package.split(':').next() == Some(name) && status == "installed"
            })
        })
    };
    let mut missing: Vec<_> = wanted.iter().copied().filter(|name| !installed(name)).collect();
    missing.sort_unstable();
    missing.dedup();
    missing
}

/// Installs packages, as root; asks for fresh package lists where a package is not in them.
fn install(packages: &[&str]) -> Result<()> {
    if !lists_know(packages)? {
        apt_get(&["update"]).show()?;
    }
    apt_get(&["install", "-y", "--no-install-recommends"]).args(packages).show()
}

/// Whether the package lists offer a version of every package.
pub(crate) fn lists_know(packages: &[&str]) -> Result<bool> {
    Ok(candidates(packages)?.len() == packages.len())
}

/// The versions that the package lists offer, of those packages that they know.
pub(crate) fn candidates(packages: &[&str]) -> Result<Vec<String>> {
    let policy = Task::new("apt-cache").arg("policy").args(packages).env("LC_ALL", "C").output()?;
    let offered = policy.lines().filter_map(|line| line.trim().strip_prefix("Candidate: "));
    Ok(offered.filter(|version| *version != "(none)").map(str::to_owned).collect())
}

/// `apt-get` that asks nothing and waits for another apt to end.
pub(crate) fn apt_get(arguments: &[&str]) -> Task {
    Task::new("apt-get")
        .args(["-o", "DPkg::Lock::Timeout=300"])
        .args(arguments)
        .env("DEBIAN_FRONTEND", "noninteractive")
        .limit(Duration::from_secs(1200))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_what_is_installed() {
        let answer =
            "libgbm1:amd64 installed\nweston not-installed\ndpkg-query: no packages found matching piglit\n";
        assert_eq!(not_installed(&["libgbm1", "weston", "piglit", "weston"], answer), ["piglit", "weston"]);
    }
}
