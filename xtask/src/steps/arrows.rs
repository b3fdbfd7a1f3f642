//! The arrows between virgld's crates, and where unsafe code may be.

use std::fs;

use cargo_metadata::{DependencyKind, Metadata, Package};

use crate::failure::{Context, Result};

/// The part that a crate plays; arrows are allowed between parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Runtime,
    Protocol,
    Platform,
    Actor,
    Driver,
    Client,
    Testkit,
    Bench,
    /// The GL programs: they know nothing of virgld.
    Programs,
    /// This crate.
    Apart,
}

impl Part {
    /// The part of the crate in `folder`, below the workspace's root.
    fn of(folder: &str) -> Option<Self> {
        Some(match folder {
            "runtime" => Self::Runtime,
            "protocol" => Self::Protocol,
            "platform" => Self::Platform,
            "driver" => Self::Driver,
            "client" => Self::Client,
            "testkit" => Self::Testkit,
            "bench" => Self::Bench,
            "programs" => Self::Programs,
            "xtask" => Self::Apart,
            actor if actor.starts_with("actors/") => Self::Actor,
            _ => return None,
        })
    }

    /// Whether this part may depend on `other`. In tests, anyone may use the testkit, and the client library the
    /// door that it knocks at.
    fn may_use(self, other: Self, in_tests: bool) -> bool {
        let allowed: &[Self] = match self {
            Self::Runtime | Self::Programs | Self::Apart => &[],
            Self::Protocol => &[Self::Runtime],
            Self::Platform | Self::Actor => &[Self::Protocol, Self::Runtime],
            Self::Client if in_tests => &[Self::Protocol, Self::Runtime, Self::Platform],
            Self::Client => &[Self::Protocol],
            Self::Testkit => &[Self::Actor, Self::Protocol, Self::Runtime],
            Self::Driver => &[Self::Actor, Self::Protocol, Self::Runtime, Self::Platform],
            Self::Bench => &[Self::Actor, Self::Protocol, Self::Runtime, Self::Platform, Self::Programs],
        };
        allowed.contains(&other) || in_tests && other == Self::Testkit
    }

    /// Whether the crate must forbid unsafe code. The programs call GL; the bench calls ioctls, from one file, and
    /// denies it elsewhere.
    fn is_safe(self) -> bool {
        !matches!(self, Self::Platform | Self::Client | Self::Programs | Self::Bench)
    }
}

/// A sentence for each arrow between virgld's crates that the design does not have.
pub(crate) fn offences(metadata: &Metadata) -> Vec<String> {
    let packages = metadata.workspace_packages();
    let mut offences = Vec::new();
    for package in &packages {
        let Some(part) = Part::of(&folder(metadata, package)) else {
            offences.push(format!("{} lies in a folder that has no part in the design", package.name));
            continue;
        };
        for dependency in &package.dependencies {
            let Some(target) = packages.iter().find(|other| *other.name == dependency.name) else { continue };
            let in_tests = dependency.kind == DependencyKind::Development;
            if !Part::of(&folder(metadata, target)).is_some_and(|other| part.may_use(other, in_tests)) {
                offences.push(format!("{} must not depend on {}", package.name, target.name));
            }
        }
    }
    offences
}

/// A sentence for each crate root that should forbid unsafe code and does not.
pub(crate) fn crates_that_allow_unsafe(metadata: &Metadata) -> Result<Vec<String>> {
    let mut offences = Vec::new();
    for package in metadata.workspace_packages() {
        let folder = folder(metadata, package);
        if !Part::of(&folder).is_some_and(Part::is_safe) {
            continue;
        }
        for target in package.targets.iter().filter(|target| target.is_lib() || target.is_bin()) {
            let text = fs::read_to_string(&target.src_path)
                .context(|| format!("cannot read {}", target.src_path))?;
            if !text.lines().any(|line| line.trim() == "#![forbid(unsafe_code)]") {
                offences.push(format!("{} lacks #![forbid(unsafe_code)]", target.src_path));
            }
        }
    }
    Ok(offences)
}

fn folder(metadata: &Metadata, package: &Package) -> String {
    let folder =
        package.manifest_path.parent().and_then(|path| path.strip_prefix(&metadata.workspace_root).ok());
    folder.map(ToString::to_string).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn actors_use_words_and_runtime_only() {
        assert!(Part::Actor.may_use(Part::Protocol, false));
        assert!(Part::Actor.may_use(Part::Testkit, true));
        for other in [Part::Actor, Part::Platform, Part::Driver, Part::Testkit] {
            assert!(!Part::Actor.may_use(other, false), "{other:?}");
        }
    }

    #[test]
    fn nothing_below_the_driver_uses_the_platform() {
        for part in [Part::Runtime, Part::Protocol, Part::Actor, Part::Testkit, Part::Client, Part::Apart] {
            assert!(!part.may_use(Part::Platform, false), "{part:?}");
        }
    }
}
