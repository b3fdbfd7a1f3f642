//! The arrows between virgld's crates, and where unsafe code may be.

use std::fs;
use std::path::Path;

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
    /// Fault plans.
    Faults,
    Bench,
    /// The GL programs: for checks, pictures and measurements. They know nothing of virgld.
    Programs,
    /// The hostile client: it speaks the channel and knows nothing of who hears it.
    Attacks,
    /// Random input for what hears strangers.
    Fuzz,
    /// This crate, which runs all the others and depends on none.
    Xtask,
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
            "faults" => Self::Faults,
            "bench" => Self::Bench,
            "programs" => Self::Programs,
            "attacks" => Self::Attacks,
            "fuzz" => Self::Fuzz,
            "xtask" => Self::Xtask,
            actor if actor.starts_with("actors/") => Self::Actor,
            _ => return None,
        })
    }

    /// Whether this part may depend on `other`. In tests everyone may use the testkit, and the client the platform,
    /// whose door it is tested against.
    fn may_use(self, other: Self, in_tests: bool) -> bool {
        let allowed: &[Self] = match self {
            Self::Runtime | Self::Programs | Self::Xtask => &[],
            Self::Protocol => &[Self::Runtime],
            Self::Platform | Self::Actor | Self::Faults => &[Self::Protocol, Self::Runtime],
            Self::Client | Self::Attacks => &[Self::Protocol],
            Self::Testkit => &[Self::Actor, Self::Faults, Self::Protocol, Self::Runtime],
            Self::Fuzz => &[Self::Actor, Self::Protocol, Self::Runtime, Self::Platform, Self::Testkit],
            Self::Driver => &[Self::Actor, Self::Faults, Self::Protocol, Self::Runtime, Self::Platform],
            Self::Bench => &[Self::Actor, Self::Protocol, Self::Runtime, Self::Platform, Self::Programs],
        };
        let in_tests_too: &[Self] = match self {
            Self::Client => &[Self::Testkit, Self::Platform, Self::Runtime],
            _ => &[Self::Testkit],
        };
        allowed.contains(&other) || in_tests && in_tests_too.contains(&other)
    }

    /// What the crate's root must say of unsafe code. The benchmark and the attacks make DRM ioctls as a C program does:
    /// they keep that in one file, which alone is allowed what the root denies, and each block there has its `// SAFETY:`
    /// as everywhere (`undocumented_unsafe_blocks`).
    fn vow(self) -> Option<&'static str> {
        match self {
            Self::Platform | Self::Client | Self::Programs => None,
            Self::Bench | Self::Attacks => Some("#![deny(unsafe_code)]"),
            _ => Some("#![forbid(unsafe_code)]"),
        }
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

/// A sentence for each crate root that should forbid or deny unsafe code and does not, and for each file too many that
/// takes the liberty that a denial leaves.
pub(crate) fn crates_that_allow_unsafe(metadata: &Metadata) -> Result<Vec<String>> {
    let mut offences = Vec::new();
    for package in metadata.workspace_packages() {
        let folder = folder(metadata, package);
        let Some(vow) = Part::of(&folder).and_then(Part::vow) else { continue };
        for target in package.targets.iter().filter(|target| target.is_lib() || target.is_bin()) {
            let text = fs::read_to_string(&target.src_path)
                .context(|| format!("cannot read {}", target.src_path))?;
            if !text.lines().any(|line| line.trim() == vow) {
                offences.push(format!("{} lacks {vow}", target.src_path));
            }
        }
        let sources = metadata.workspace_root.join(&folder).join("src");
        let liberties = files_that_allow_unsafe(sources.as_std_path())?;
        if liberties.len() > 1 {
            offences
                .push(format!("{folder} has unsafe code in more than one file: {}", liberties.join(", ")));
        }
    }
    Ok(offences)
}

/// The files below `folder` that allow themselves unsafe code.
fn files_that_allow_unsafe(folder: &Path) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).context(|| format!("cannot list {}", folder.display()))?.flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(files_that_allow_unsafe(&path)?);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).context(|| format!("cannot read {}", path.display()))?;
            let allows = |line: &str| {
                let line = line.trim_start_matches(['#', '!', '[']);
                line.starts_with("allow(unsafe_code") || line.starts_with("expect(unsafe_code")
            };
            if text.lines().any(|line| line.starts_with('#') && allows(line)) {
                found.push(path.display().to_string());
            }
        }
    }
    Ok(found)
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
        for part in [
            Part::Runtime,
            Part::Protocol,
            Part::Actor,
            Part::Client,
            Part::Testkit,
            Part::Programs,
            Part::Xtask,
        ] {
            assert!(!part.may_use(Part::Platform, false), "{part:?}");
        }
        assert!(Part::Client.may_use(Part::Platform, true));
    }
}
