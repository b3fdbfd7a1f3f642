//! A compositor with clients that draw by GL: Weston on the card and Weston without a screen.

use std::fs::File;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::compositor::{BACKGROUND, Compositor};
use crate::daemon::{self, Daemon};
use crate::failure::{Context, Failure, Result};
use crate::process::{Running, tail};
use crate::report::Outcome;
use crate::sheet::Picture;
use crate::steps::Session;
use crate::steps::showing::nothing_left;
use crate::windows::Window;
use crate::workspace::Workspace;

/// How long anything may take to be seen.
const PATIENCE: Duration = Duration::from_secs(60);
/// Clients that draw by GL.
const CLIENTS: [&[&str]; 4] = [
    &["weston-simple-egl"],
    &["weston-simple-dmabuf-egl"],
    &["es2gears_wayland"],
    &["glmark2-es2-wayland", "-b", "shading:duration=600", "-s", "300x200"],
];
/// Pixels of a window that must be seen before anything is said of what it shows.
const ENOUGH: usize = 500;

/// All clients are on the screen, each in its window and by shared buffers; each that ends leaves nothing; and a
/// compositor that is killed leaves nothing either. On the card a second one shows nothing.
pub(crate) fn run(session: &Session) -> Result<Outcome> {
    let workspace = session.released()?;
    daemon::with(workspace, |daemon| {
        let compositor = Compositor::on_card(workspace, daemon, "first")?;
        Desktop { daemon, compositor }.live(|| refused(workspace, daemon))
    })?;
    daemon::with(workspace, |daemon| {
        let compositor = Compositor::start(daemon, 1280, 800)?;
        Desktop { daemon, compositor }.live(|| Ok(()))
    })?;
    Ok(Outcome::Passed(format!("{} clients on Weston, on the card and without a screen", CLIENTS.len())))
}

/// A second compositor may look, and not set anything.
fn refused(workspace: &Workspace, daemon: &Daemon) -> Result<()> {
    let second = Compositor::on_card(workspace, daemon, "second")?;
    until(&second, "that a second may not", || Ok(second.log().contains("Permission denied")))
}

/// A compositor, and the daemon that it draws by.
struct Desktop<'a> {
    daemon: &'a Daemon,
    compositor: Compositor<'a>,
}

/// What the daemon has, in numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Counts {
    resources: u64,
    buffers: u64,
    contexts: u64,
    files: usize,
}

impl Counts {
    fn is_within(self, other: Self) -> bool {
        let fewer = self.resources <= other.resources && self.buffers <= other.buffers;
        fewer && self.contexts <= other.contexts && self.files <= other.files
    }
}

impl Desktop<'_> {
    fn live(self, meanwhile: impl FnOnce() -> Result<()>) -> Result<()> {
        self.until("the background", |desktop| {
            let drawn = desktop.compositor.log().contains("GL renderer: virgl");
            Ok(drawn && all_background(&desktop.compositor.picture()?))
        })?;
        let mut clients = Vec::new();
        for command in CLIENTS {
            let before = self.settled()?;
            let client = self.client(command)?;
            self.until(command[0], |desktop| desktop.shows(&[client.pid()]))?;
            clients.push((client, before, command[0]));
        }
        let pids: Vec<_> = clients.iter().map(|(client, ..)| client.pid()).collect();
        meanwhile()?;
        self.until("all of them at once", |desktop| desktop.shows(&pids))?;
        while let Some((mut client, before, name)) = clients.pop() {
            let owner = format!("pid {} ", client.pid());
            client.end()?;
            self.until(&format!("nothing of {name} any more"), |desktop| {
                let gone = !desktop.leaks()?.contains(&owner);
                Ok(gone && desktop.counts()?.is_within(before))
            })?;
        }
        self.until("the background alone", |desktop| Ok(all_background(&desktop.compositor.picture()?)))?;
        self.die()
    }

    /// It is killed while clients draw: they lose it, and nothing stays of any of them.
    fn die(mut self) -> Result<()> {
        let clients = [self.client(CLIENTS[0])?, self.client(CLIENTS[1])?];
        let pids = clients.each_ref().map(Running::pid);
        self.until("two clients again", |desktop| desktop.shows(&pids))?;
        self.compositor.kill()?;
        let begin = Instant::now();
        while !clients.iter().all(Running::has_ended) {
            if begin.elapsed() > PATIENCE {
                return Err(Failure::new("clients do not end without their compositor"));
            }
            thread::sleep(Duration::from_millis(100));
        }
        nothing_left(self.daemon)?;
        println!("seen: nothing, as the compositor was killed");
        Ok(())
    }

    fn client(&self, command: &[&str]) -> Result<Running> {
        let name = format!("{}.log", command[0]);
        let log = File::create(self.compositor.session().join(name));
        let log = log.context(|| "cannot make a client's log".into())?;
        self.compositor.run(command[0]).args(&command[1..]).limit(Duration::from_secs(600)).start(log)
    }

    /// Whether these clients have a window each, whose buffer is shared, and in which something moves, as far as it is
    /// not under another.
    fn shows(&self, pids: &[i32]) -> Result<bool> {
        let windows = self.compositor.windows()?;
        let (first, second) = (self.compositor.picture()?, {
            thread::sleep(Duration::from_millis(150));
            self.compositor.picture()?
        });
        let moves = |pid: &i32| {
            let place = windows.iter().position(|window| window.pid == *pid)?;
            let (above, window) = (windows.get(..place)?, windows.get(place)?);
            Some(window.dmabuf && is_alive(window, above, &first, &second))
        };
        Ok(pids.iter().all(|pid| moves(pid) == Some(true)))
    }

    /// What the daemon has, once that stays as it is.
    fn settled(&self) -> Result<Counts> {
        let (begin, mut last) = (Instant::now(), self.counts()?);
        while begin.elapsed() < PATIENCE {
            thread::sleep(Duration::from_secs(1));
            let now = self.counts()?;
            if now == last {
                return Ok(now);
            }
            last = now;
        }
        Err(Failure::new(format!("what the daemon has never stays as it is: {last:?}")))
    }

    fn counts(&self) -> Result<Counts> {
        let status = self.daemon.status()?;
        let number = |name: &str| {
            let none = || Failure::new(format!("`virgld status` counts no {name}"));
            status[name].as_u64().ok_or_else(none)
        };
        let files = status["clients"].as_array().map_or(0, Vec::len);
        let [resources, buffers, contexts] = [number("resources")?, number("buffers")?, number("contexts")?];
        Ok(Counts { resources, buffers, contexts, files })
    }

    /// The owners of all that the daemon keeps.
    fn leaks(&self) -> Result<String> {
        let text = self.daemon.tool("leaks").arg("--json").capture()?.text;
        let leaks: Value =
            serde_json::from_str(&text).context(|| "`virgld leaks` did not print JSON".into())?;
        let objects =
            leaks["objects"].as_array().ok_or_else(|| Failure::new("`virgld leaks` lists nothing"))?;
        let owners = objects.iter().filter_map(|object| object["owner"].as_str());
        Ok(owners.collect::<Vec<_>>().join("\n"))
    }

    fn until(&self, what: &str, is_so: impl Fn(&Self) -> Result<bool>) -> Result<()> {
        until(&self.compositor, what, || is_so(self))
    }
}

fn until(compositor: &Compositor<'_>, what: &str, is_so: impl Fn() -> Result<bool>) -> Result<()> {
    let begin = Instant::now();
    let mut last = Ok(false);
    while begin.elapsed() < PATIENCE && !compositor.has_ended() {
        // It may be a moment until there is a screen to look at.
        last = is_so();
        if matches!(last, Ok(true)) {
            println!("seen: {what}");
            return Ok(());
        }
        thread::sleep(Duration::from_millis(200));
    }
    let why = last.err().map_or(String::new(), |failure| format!(" ({failure})"));
    Err(Failure::new(format!("not seen: {what}{why}; Weston says\n{}", tail(&compositor.log(), 20))))
}

/// Whether a window is to be seen and shows one thing after another; one that others cover is let pass.
fn is_alive(window: &Window, above: &[Window], first: &Picture, second: &Picture) -> bool {
    let [left, top, right, bottom] = window.place;
    let places = (top..bottom).flat_map(|y| (left..right).map(move |x| (x, y)));
    let seen = places.filter(|(x, y)| !above.iter().any(|other| other.covers(*x, *y)));
    let (mut visible, mut drawn, mut changed) = (0, false, false);
    for (x, y) in seen {
        let (Some(before), Some(after)) = (first.pixel(x, y), second.pixel(x, y)) else { continue };
        visible += 1;
        drawn |= after != BACKGROUND;
        changed |= after != before;
    }
    visible < ENOUGH && !above.is_empty() || drawn && changed
}

fn all_background(picture: &Picture) -> bool {
    picture.bytes().as_chunks::<3>().0.iter().all(|pixel| *pixel == BACKGROUND)
}

#[cfg(test)]
mod tests {
    use super::*;

    const EDGE: usize = 40;

    /// A picture of the background with one rectangle of a colour.
    fn picture(place: [usize; 4], colour: [u8; 3]) -> Picture {
        let window = window(place);
        let pixels = (0..EDGE).flat_map(|y| (0..EDGE).map(move |x| (x, y)));
        let bytes = pixels.flat_map(|(x, y)| if window.covers(x, y) { colour } else { BACKGROUND }).collect();
        Picture::of(EDGE, EDGE, bytes)
    }

    fn window(place: [usize; 4]) -> Window {
        Window { pid: 1, place, dmabuf: true }
    }

    #[test]
    fn a_window_is_alive_by_its_own_pixels_and_not_by_those_of_others() {
        let (still, other) = (window([0, 0, 30, 30]), window([30, 0, 40, 40]));
        let (first, second) = (picture(other.place, [1; 3]), picture(other.place, [2; 3]));
        assert!(!is_alive(&still, &[], &first, &second), "what moves is beside it");
        assert!(is_alive(&other, &[], &first, &second));
        let covering = window([0, 0, 40, 40]);
        assert!(is_alive(&other, &[covering], &first, &first), "nothing is known of what is covered");
        assert!(!is_alive(&other, &[], &second, &second), "it stands still");
    }
}
