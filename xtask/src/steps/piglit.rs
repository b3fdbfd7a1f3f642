//! Debian's piglit: what passes on llvmpipe passes on virgld, or an entry says why it cannot.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use crate::daemon::{self, Daemon};
use crate::failure::{Context, Failure, Result};
use crate::process::{Task, interrupted};
use crate::report::Outcome;
use crate::steps::Session;

/// How many tests run at a time.
const LANES: usize = 2;

/// How long one test may take. Each takes less than a second where it passes.
const LIMIT: Duration = Duration::from_secs(20);

/// How one test ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Pass,
    Skip,
    /// It failed, crashed or hung; the text says which.
    Bad(String),
}

/// Runs the list on llvmpipe and on virgld, and compares.
pub(crate) fn run(session: &Session) -> Result<Outcome> {
    let workspace = session.released()?;
    let folder = installed_folder()?;
    let tests = lines(&workspace.root.join("xtask/piglit.txt"))?;
    let excuses = lines(&workspace.root.join("xtask/piglit-known.txt"))?;
    let known = known(&excuses)?;
    let on_llvmpipe = run_all("llvmpipe", &tests, |program| {
        on_platform(daemon::clean(Task::new(folder.join("bin").join(program))), &folder)
            .env("LIBGL_ALWAYS_SOFTWARE", "1")
    })?;
    let on_virgld = daemon::with(workspace, |daemon| {
        check_renderer(daemon)?;
        run_all("virgld", &tests, |program| {
            on_platform(daemon.run(folder.join("bin").join(program)), &folder)
        })
    })?;
    Ok(compare(&tests, &on_llvmpipe, &on_virgld, &known))
}

/// A fall-back to llvmpipe would pass everything, so the renderer is asked for first.
fn check_renderer(daemon: &Daemon) -> Result<()> {
    let text = daemon.run("eglinfo").arg("-B").capture()?.text;
    let surfaceless = text.split("Surfaceless platform:").nth(1).unwrap_or_default();
    if surfaceless.contains("EGL driver name: virtio_gpu") {
        return Ok(());
    }
    Err(Failure::new("Mesa does not render through virgld: eglinfo does not name virtio_gpu"))
}

/// Where Debian puts piglit: below the folder of the machine's architecture.
pub(super) fn installed_folder() -> Result<PathBuf> {
    let folders = fs::read_dir("/usr/lib").context(|| "cannot list /usr/lib".into())?;
    let mut candidates = folders.flatten().map(|entry| entry.path().join("piglit"));
    candidates
        .find(|folder| folder.join("bin").is_dir())
        .ok_or_else(|| Failure::new("piglit is not installed"))
}

fn on_platform(task: Task, folder: &Path) -> Task {
    task.folder(folder)
        .env("PIGLIT_PLATFORM", "surfaceless_egl")
        .env("EGL_PLATFORM", "surfaceless")
        .env("PIGLIT_SOURCE_DIR", folder)
        .env("MESA_DEBUG", "silent")
        .limit(LIMIT)
}

/// The lines of a list, without comments and empty ones.
pub(super) fn lines(path: &Path) -> Result<Vec<String>> {
    let text = fs::read_to_string(path).context(|| format!("cannot read {}", path.display()))?;
    Ok(text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).map(str::to_owned).collect())
}

/// The reasons by command.
fn known(lines: &[String]) -> Result<HashMap<&str, &str>> {
    let pairs = lines.iter().map(|line| {
        line.split_once(": ").ok_or_else(|| Failure::new(format!("piglit-known.txt: no reason in `{line}`")))
    });
    pairs.collect()
}

/// Runs every test, `LANES` at a time, and gives the verdicts in order.
fn run_all(place: &str, tests: &[String], command: impl Fn(&str) -> Task + Sync) -> Result<Vec<Verdict>> {
    let next = AtomicUsize::new(0);
    let work = || {
        let mut verdicts = Vec::new();
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some(test) = tests.get(index).filter(|_| !interrupted()) else { return verdicts };
            if index.is_multiple_of(50) {
                println!("{place}: {index} of {} tests", tests.len());
            }
            verdicts.push((index, run_one(test, &command)));
        }
    };
    let mut verdicts: Vec<_> = thread::scope(|scope| {
        let lanes: Vec<_> = (0..LANES).map(|_| scope.spawn(work)).collect();
        lanes.into_iter().flat_map(|lane| lane.join().unwrap_or_default()).collect()
    });
    if verdicts.len() < tests.len() {
        return Err(Failure::new("interrupted"));
    }
    verdicts.sort_by_key(|(index, _)| *index);
    Ok(verdicts.into_iter().map(|(_, verdict)| verdict).collect())
}

fn run_one(test: &str, command: &impl Fn(&str) -> Task) -> Verdict {
    let mut words = test.split_whitespace();
    let program = words.next().unwrap_or_default();
    match command(program).args(words).args(["-auto", "-fbo"]).capture() {
        Ok(finished) if finished.status.is_none() => Verdict::Bad("hung".into()),
        Ok(finished) => verdict(&finished.text),
        Err(failure) => Verdict::Bad(failure.to_string()),
    }
}

/// What the last result line of a test says.
pub(super) fn verdict(text: &str) -> Verdict {
    let mut results = text.lines().filter_map(|line| line.split_once("PIGLIT: {\"result\": \""));
    match results.next_back().and_then(|(_, rest)| rest.split('"').next()) {
        Some("pass" | "warn") => Verdict::Pass,
        Some("skip") => Verdict::Skip,
        Some(other) => Verdict::Bad(other.into()),
        None => Verdict::Bad("ended without a result".into()),
    }
}

fn compare(tests: &[String], expected: &[Verdict], seen: &[Verdict], known: &HashMap<&str, &str>) -> Outcome {
    let mut worse = Vec::new();
    let mut excused = 0;
    for (test, (expected, seen)) in tests.iter().zip(expected.iter().zip(seen)) {
        let excuse = known.get(test.as_str());
        match (expected == &Verdict::Pass && seen != &Verdict::Pass, excuse) {
            (true, Some(_)) => excused += 1,
            (true, None) => worse.push(format!("{test}: {}", seen.text())),
            (false, Some(reason)) => println!("{test} is excused but did as well as on llvmpipe ({reason})"),
            (false, None) => {}
        }
    }
    let passed = seen.iter().filter(|seen| **seen == Verdict::Pass).count();
    let sum = format!("{passed} of {} pass, {excused} excused by piglit-known.txt", tests.len());
    if worse.is_empty() {
        return Outcome::Passed(sum);
    }
    Outcome::Failed(format!("{sum}; {} pass on llvmpipe but not here\n{}", worse.len(), worse.join("\n")))
}

impl Verdict {
    /// In words.
    pub(super) fn text(&self) -> &str {
        match self {
            Self::Pass => "pass",
            Self::Skip => "skipped",
            Self::Bad(text) => text,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_last_result() {
        let text = "PIGLIT: {\"subtest\": {\"a\" : \"fail\"}}\nPIGLIT: {\"result\": \"pass\" }\n";
        assert_eq!(verdict(text), Verdict::Pass);
        assert_eq!(verdict("PIGLIT: {\"result\": \"skip\" }"), Verdict::Skip);
        assert_eq!(verdict("Segmentation fault"), Verdict::Bad("ended without a result".into()));
    }

    #[test]
    fn a_loss_needs_an_excuse() {
        let tests = ["a".to_owned(), "b".to_owned()];
        let passes = [Verdict::Pass, Verdict::Pass];
        let loses = [Verdict::Pass, Verdict::Skip];
        assert!(matches!(compare(&tests, &passes, &loses, &HashMap::new()), Outcome::Failed(_)));
        assert!(matches!(
            compare(&tests, &passes, &loses, &HashMap::from([("b", "why")])),
            Outcome::Passed(_)
        ));
    }
}
