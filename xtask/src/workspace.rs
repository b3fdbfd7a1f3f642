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

    /// Builds what people run, and what runs on it in tests, with optimisation.
    pub(crate) fn build_release(&self) -> Result<()> {
        self.build_optimised(RELEASED)
    }

    /// The same, and what measures it.
    pub(crate) fn build_to_measure(&self) -> Result<()> {
        self.build_optimised(&[RELEASED, &["virgld-bench"]].concat())
    }

    fn build_optimised(&self, packages: &[&str]) -> Result<()> {
        println!("building {} (release)", packages.join(", "));
        let packages = packages.iter().flat_map(|name| ["--package", name]);
        self.cargo(["build", "--release"]).args(packages).show()
    }

    /// Builds the examples, which are small programs for tests, as `cargo test` does: after that there is nothing to do.
    pub(crate) fn build_examples(&self) -> Result<()> {
        self.cargo(["build", "--workspace", "--examples"]).show()
    }

    /// An example that [`Workspace::build_examples`] has built.
    pub(crate) fn example(&self, name: &str) -> PathBuf {
        self.metadata.target_directory.join("debug").join("examples").join(name).into()
    }

    /// A program or library that [`Workspace::build_release`] has built.
    pub(crate) fn release(&self, name: &str) -> PathBuf {
        self.release_folder().join(name)
    }

    /// The folder of all these.
    pub(crate) fn release_folder(&self) -> PathBuf {
        self.metadata.target_directory.join("release").into()
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

/// Each is optimised as one with all that it is made of, which takes a while.
const RELEASED: &[&str] = &["virgld", "virgld-client", "virgld-programs", "virgld-attacks"];
