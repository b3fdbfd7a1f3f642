//! The documents: rustdoc without a warning, links that lead somewhere, named functions that exist.

use std::fs;
use std::path::{Path, PathBuf};

use pulldown_cmark::{Event, Parser, Tag};

use crate::failure::{Context, Result};
use crate::follow;
use crate::report::Outcome;
use crate::steps::Session;

/// Builds the documentation and checks the documents.
pub(crate) fn run(session: &Session) -> Result<Outcome> {
    let workspace = &session.workspace;
    workspace
        .cargo(["doc", "--workspace", "--no-deps", "--document-private-items"])
        .env("RUSTDOCFLAGS", "-D warnings")
        .show()?;
    let documents = documents(&workspace.root)?;
    let mut offences = Vec::new();
    for document in &documents {
        offences.extend(dead_links(&workspace.root, document)?);
    }
    offences.extend(follow::offences(&workspace.root)?);
    if offences.is_empty() {
        return Ok(Outcome::Passed(format!("rustdoc, and the links of {} documents", documents.len())));
    }
    Ok(Outcome::Failed(offences.join("\n")))
}

/// Every Markdown file of the repository.
fn documents(root: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).context(|| format!("cannot list {}", folder.display()))?.flatten()
        {
            let (path, name) = (entry.path(), entry.file_name());
            let skipped = name == "target" || name.as_encoded_bytes().starts_with(b".");
            if path.is_dir() && !path.is_symlink() && !skipped {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "md") {
                found.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
}

fn dead_links(root: &Path, document: &Path) -> Result<Vec<String>> {
    let text = fs::read_to_string(document).context(|| format!("cannot read {}", document.display()))?;
    let folder = document.parent().unwrap_or(root);
    let dead = relative_links(&text).into_iter().filter(|link| !folder.join(link).exists());
    let name = document.strip_prefix(root).unwrap_or(document).display();
    Ok(dead.map(|link| format!("{name}: the link to {link} leads nowhere")).collect())
}

/// The files that a document links to or shows, without anchors.
fn relative_links(text: &str) -> Vec<String> {
    let targets = Parser::new(text).filter_map(|event| match event {
        Event::Start(Tag::Link { dest_url, .. } | Tag::Image { dest_url, .. }) => {
            Some(dest_url.into_string())
        }
        _ => None,
    });
    let files = targets.filter(|target| !target.contains("://") && !target.starts_with("mailto:"));
    files
        .filter_map(|target| target.split('#').next().filter(|file| !file.is_empty()).map(str::to_owned))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_files_are_links_to_check() {
        let text = "[a](docs/a.md#part) ![p](p.png) [w](https://example.org) [here](#there) `[not](x.md)`";
        assert_eq!(relative_links(text), ["docs/a.md", "p.png"]);
    }
}
