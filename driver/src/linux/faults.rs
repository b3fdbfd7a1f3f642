//! The fault socket: its owner makes things go wrong on purpose. `docs/faults.md` tells how.
//!
//! It has a thread of its own, since it is to work on a daemon whose actors do not.

use std::fs::Permissions;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use rustix::process::Signal;
use serde::{Deserialize, Serialize};
use virgld_faults::{DeviceRule, DeviceWrong, Plan, actors};
use virgld_platform::host::vhost_user::Monitor;
use virgld_runtime::fault::{Account, Injector};

use super::Error;
use super::starter::{Glimpse, Slot};
use super::timed::{Entry, Timed};

/// What may be asked.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Question {
    /// What can go wrong, and what is to.
    List,
    /// Put this plan in force, beside what is.
    Inject(String),
    /// Let nothing go wrong any more.
    Clear,
    /// Nothing goes wrong: the screen gets another size.
    Resize(u32, u32),
}

/// What is answered.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Answer {
    Refused(String),
    Is(Listing),
}

/// What can go wrong, and what is to.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Listing {
    /// Each actor, and the messages that it hears.
    pub(crate) actors: Vec<(String, Vec<String>)>,
    /// What is to go wrong, and how often it did.
    pub(crate) rules: Vec<RuleAccount>,
}

/// A rule in words, and what came of it.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct RuleAccount {
    pub(crate) rule: String,
    pub(crate) seen: u64,
    pub(crate) struck: u64,
    pub(crate) impossible: u64,
}

/// What the thread behind the socket can do.
#[derive(Clone)]
pub(crate) struct Saboteur {
    injector: Injector,
    process: Glimpse,
    timed: Arc<Timed>,
    monitor: Monitor,
}

impl Saboteur {
    /// Makes things go wrong at actors by `injector`, and at the device in `process`; gives `monitor` another size.
    pub(crate) fn new(injector: Injector, process: &Slot, monitor: Monitor) -> Self {
        // An actor that hangs does what one does: the watchdog finds it.
        injector.hang_by(Box::new(|| {
            loop {
                thread::park();
            }
        }));
        Self { injector, process: process.glimpse(), timed: Arc::default(), monitor }
    }

    /// Puts a plan for a device process in force.
    pub(crate) fn inject(&self, plan: Plan) -> Result<(), Error> {
        for rule in plan.device {
            let (own, number) = (self.clone(), self.timed.add(in_words(&rule), rule.times));
            thread::Builder::new().name("device-fault".into()).spawn(move || own.sabotage(rule, number))?;
        }
        self.injector.inject(plan.seed, plan.faults);
        Ok(())
    }

    fn sabotage(&self, rule: DeviceRule, number: u64) {
        let signal = if rule.wrong == DeviceWrong::Death { Signal::KILL } else { Signal::STOP };
        for _ in 0..rule.times {
            if !self.timed.wait(number, rule.after.unwrap_or_default()) {
                return;
            }
            match self.process.signal(signal) {
                Ok(()) => tracing::warn!(?signal, "a fault: the device process is sent a signal"),
                Err(error) => tracing::warn!(%error, "a fault that cannot be: the device process"),
            }
        }
    }

    /// Listens in the directory from now on.
    pub(crate) fn listen(self, path: &Path) -> Result<(), Error> {
        // The door holds the directory by now, so a socket that is there is a dead daemon's.
        let _ = std::fs::remove_file(path);
        let listener = UnixListener::bind(path)?;
        // For the daemon's owner, also where others may enter the directory.
        std::fs::set_permissions(path, Permissions::from_mode(0o600))?;
        let body = move || {
            for stream in listener.incoming() {
                match stream {
                    Ok(stream) => self.serve(stream),
                    // Out of descriptors, say.
                    Err(_) => thread::sleep(PAUSE),
                }
            }
        };
        thread::Builder::new().name("faults".into()).spawn(body).map(drop)?;
        Ok(())
    }

    fn serve(&self, mut stream: UnixStream) {
        let answer = match hear(&mut stream).and_then(|question| self.answer(question)) {
            Ok(listing) => Answer::Is(listing),
            Err(error) => Answer::Refused(error.to_string()),
        };
        if let Ok(text) = serde_json::to_vec(&answer) {
            // Whoever asked may have left.
            let _ = stream.write_all(&text);
        }
    }

    fn answer(&self, question: Question) -> Result<Listing, Error> {
        match question {
            Question::List => {}
            Question::Inject(text) => self.inject(Plan::parse_for_process(&text)?)?,
            Question::Clear => {
                self.injector.clear();
                self.timed.clear();
            }
            Question::Resize(width, height) => self.monitor.resize(width, height)?,
        }
        let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
        let actors = actors().iter().map(|actor| (actor.name.to_owned(), words(actor.words))).collect();
        let timed = self.timed.list();
        let rules =
            self.injector.accounts().iter().map(account).chain(timed.iter().map(timed_account)).collect();
        Ok(Listing { actors, rules })
    }
}

fn hear(stream: &mut UnixStream) -> Result<Question, Error> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut text = Vec::new();
    stream.take(MOST).read_to_end(&mut text)?;
    Ok(serde_json::from_slice(&text)?)
}

fn account(account: &Account) -> RuleAccount {
    let rule = &account.rule;
    let word = rule.word.as_deref().unwrap_or("any message");
    let text = format!("{}: {word}: {:?} {:?}, {:?}", rule.actor, rule.wrong, rule.point, rule.when);
    RuleAccount { rule: text, seen: account.seen, struck: account.struck, impossible: account.impossible }
}

/// One that goes by time: of its times, how often it struck.
fn timed_account(entry: &Entry) -> RuleAccount {
    RuleAccount { rule: entry.what.clone(), seen: entry.times, struck: entry.struck, impossible: 0 }
}

fn in_words(rule: &DeviceRule) -> String {
    format!("device: {:?}, each {:?}", rule.wrong, rule.after.unwrap_or_default())
}

const PATIENCE: Duration = Duration::from_secs(2);
const PAUSE: Duration = Duration::from_millis(100);
/// Bytes of the longest question.
const MOST: u64 = 1 << 20;
