//! Where things lie: the repository, its target folder, and what cargo says about its crates.

use std::path::{Path, PathBuf};
use std::time::Duration;

use cargo_metadata::{Metadata, MetadataCommand};

use crate::failure::{Context, Result};
use crate::process::Task;

/// The repository and cargo's view of it.
pub(crate) struct Workspace {
    /// The repository's root.
    pub(crate) root: PathBuf,
    /// Crates and their resolved dependencies.
    pub(crate) metadata: Metadata,
}

impl Workspace {
    /// Asks cargo about the workspace that this crate belongs to.
    pub(crate) fn load() -> Result<Self> {
        let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("../Cargo.toml");
        let metadata = MetadataCommand::new()
            .manifest_path(manifest)
            .exec()
            .context(|| "cargo metadata failed".into())?;
        Ok(Self { root: metadata.workspace_root.clone().into(), metadata })
    }

    /// A cargo command in the root of the workspace, with twenty minutes to run.
    pub(crate) fn cargo<A: AsRef<std::ffi::OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> Task {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        Task::new(cargo).args(arguments).folder(&self.root).limit(Duration::from_secs(1200))
    }

    /// Builds every program and library with optimisation that is tested or measured so.
    pub(crate) fn build_release(&self) -> Result<()> {
        println!("building the workspace (release)");
        self.cargo(["build", "--workspace", "--exclude", "xtask", "--exclude", "virgld-fuzz", "--release"])
            .show()
    }

    /// A program or library that [`Workspace::build_release`] has built.
    pub(crate) fn release(&self, name: &str) -> PathBuf {
        self.metadata.target_directory.join("release").join(name).into()
    }

    /// A folder under the target folder, made where it is missing.
    pub(crate) fn target_folder(&self, name: &str) -> Result<PathBuf> {
        let folder = PathBuf::from(self.metadata.target_directory.join(name));
        std::fs::create_dir_all(&folder).context(|| format!("cannot make {}", folder.display()))?;
        Ok(folder)
    }

    /// A folder for what is fetched or generated once and kept: `.virgld/NAME`.
    pub(crate) fn kept_folder(&self, name: &str) -> Result<PathBuf> {
        let folder = self.root.join(".virgld").join(name);
        std::fs::create_dir_all(&folder).context(|| format!("cannot make {}", folder.display()))?;
        Ok(folder)
    }
}
