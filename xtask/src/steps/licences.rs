//! The check of `deny.toml` that runs where cargo-deny is not installed: licences, sources, duplicates, wildcards.

use std::collections::BTreeMap;
use std::fs;

use cargo_metadata::{Metadata, MetadataCommand, Package};
use serde::Deserialize;
use spdx::{Expression, ParseMode};

use crate::failure::{Context, Result};
use crate::workspace::Workspace;

/// The part of `deny.toml` that is checked here.
#[derive(Deserialize)]
struct Policy {
    graph: Graph,
    licenses: Licenses,
    bans: Bans,
}

#[derive(Deserialize)]
struct Graph {
    targets: Vec<String>,
}

#[derive(Deserialize)]
struct Licenses {
    allow: Vec<String>,
}

#[derive(Deserialize)]
struct Bans {
    skip: Vec<Skip>,
}

/// A version that may stand beside another of the same crate.
#[derive(Deserialize)]
struct Skip {
    #[serde(rename = "crate")]
    name_and_version: String,
}

/// A sentence for each crate that `deny.toml` does not admit.
pub(crate) fn offences(workspace: &Workspace) -> Result<Vec<String>> {
    let path = workspace.root.join("deny.toml");
    let text = fs::read_to_string(&path).context(|| format!("cannot read {}", path.display()))?;
    let policy: Policy = toml::from_str(&text).context(|| "deny.toml".into())?;
    let metadata = metadata_for(workspace, &policy.graph.targets)?;
    let mut offences: Vec<_> =
        metadata.packages.iter().filter_map(|package| licence_offence(package, &policy)).collect();
    offences.extend(metadata.packages.iter().filter_map(source_offence));
    offences.extend(metadata.workspace_packages().into_iter().flat_map(wildcards));
    offences.extend(duplicates(&metadata, &policy.bans.skip));
    Ok(offences)
}

/// The packages that are built for any of `targets`.
fn metadata_for(workspace: &Workspace, targets: &[String]) -> Result<Metadata> {
    let filters = targets.iter().flat_map(|target| ["--filter-platform".to_owned(), target.clone()]);
    MetadataCommand::new()
        .manifest_path(workspace.root.join("Cargo.toml"))
        .other_options(filters.collect::<Vec<_>>())
        .exec()
        .context(|| "cargo metadata failed".into())
}

fn licence_offence(package: &Package, policy: &Policy) -> Option<String> {
    let Some(text) = &package.license else { return Some(format!("{} names no licence", package.name)) };
    let allowed = |requirement: &spdx::LicenseReq| policy.licenses.allow.contains(&requirement.to_string());
    match Expression::parse_mode(text, ParseMode::LAX) {
        Ok(expression) if expression.evaluate(allowed) => None,
        Ok(_) => {
            Some(format!("{} {}: the licence {text} is not in deny.toml", package.name, package.version))
        }
        Err(_) => Some(format!("{} {}: the licence {text} cannot be read", package.name, package.version)),
    }
}

fn source_offence(package: &Package) -> Option<String> {
    let source = package.source.as_ref()?;
    (!source.is_crates_io()).then(|| format!("{} comes from elsewhere than crates.io", package.name))
}

fn wildcards(package: &Package) -> Vec<String> {
    let any = package
        .dependencies
        .iter()
        .filter(|dependency| dependency.path.is_none() && dependency.req.comparators.is_empty());
    any.map(|dependency| format!("{} asks for any version of {}", package.name, dependency.name)).collect()
}

/// Crates that are there in more than one version, less those that `deny.toml` skips.
fn duplicates(metadata: &Metadata, skips: &[Skip]) -> Vec<String> {
    let mut versions: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for package in &metadata.packages {
        let skipped = skips.iter().any(|skip| skip.covers(&package.name, &package.version.to_string()));
        if !skipped {
            versions.entry(&package.name).or_default().push(package.version.to_string());
        }
    }
    let several = versions.into_iter().filter(|(_, versions)| versions.len() > 1);
    several
        .map(|(name, versions)| format!("{name} is there in several versions: {}", versions.join(", ")))
        .collect()
}

impl Skip {
    /// Whether `name` in `version` is meant: `name@1` covers every 1.x.
    fn covers(&self, name: &str, version: &str) -> bool {
        let (skipped, prefix) = self.name_and_version.split_once('@').unwrap_or((&self.name_and_version, ""));
        let rest = version.strip_prefix(prefix);
        skipped == name
            && rest.is_some_and(|rest| prefix.is_empty() || rest.is_empty() || rest.starts_with('.'))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_skip_covers_the_versions_below_its_prefix() {
        let skip = Skip { name_and_version: "syn@2".into() };
        assert!(skip.covers("syn", "2.0.119"));
        assert!(!skip.covers("syn", "20.0.1"));
        assert!(!skip.covers("syn", "3.0.10"));
        assert!(!skip.covers("synstructure", "2.0.0"));
    }
}
