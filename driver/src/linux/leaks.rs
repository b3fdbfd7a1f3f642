//! The leak report: every object that is kept for somebody, with its owner. Empty when the last client has gone.

use std::collections::HashMap;
use std::fmt;
use std::process::ExitCode;

use serde::{Deserialize, Serialize};
use virgld_protocol::ids::{ContextId, FileId, ResourceId};
use virgld_protocol::message::live::{Inventory, Live, Owner};
use virgld_protocol::message::scheme::Credentials;

use super::command_line::Leaks as Options;
use super::report::Accounts;
use super::status::ask;
use super::{Error, show};

/// What is kept.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Leaks {
    /// How many things.
    pub(crate) total: usize,
    /// The first of them.
    pub(crate) objects: Vec<Object>,
}

/// A thing that is kept for somebody.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Object {
    pub(crate) what: String,
    pub(crate) number: u64,
    pub(crate) bytes: u64,
    pub(crate) owner: String,
    /// What keeps it, where that is not its owner.
    pub(crate) kept: String,
}

impl Leaks {
    /// Puts the actors' parts together.
    pub(crate) fn of(accounts: &Accounts, contexts: &HashMap<ContextId, FileId>) -> Option<Self> {
        let (control, resource) = (accounts.control.as_ref()?, accounts.resource.as_ref()?);
        let (scheme, display) = (accounts.scheme.as_ref()?, accounts.display.as_ref()?);
        let open = scheme.files.iter().map(|file| (file.file, (file.credentials, true)));
        let closed = scheme.departed.iter().map(|(file, who)| (*file, (*who, false)));
        let owners = Owners {
            files: closed.chain(open).collect(),
            contexts,
            resources: resource.resources.iter().map(|it| (it.resource, it.owner)).collect(),
        };
        let parts = [&scheme.live, &control.live, &resource.live, &display.live];
        let named = parts.iter().flat_map(|part| &part.named).take(Inventory::MOST);
        Some(Self {
            total: parts.iter().map(|part| part.total).sum(),
            objects: named.map(|live| owners.object(live)).collect(),
        })
    }
}

/// Who has what.
struct Owners<'a> {
    files: HashMap<FileId, (Credentials, bool)>,
    contexts: &'a HashMap<ContextId, FileId>,
    resources: HashMap<ResourceId, FileId>,
}

impl Owners<'_> {
    fn object(&self, live: &Live) -> Object {
        Object {
            what: live.what.into(),
            number: live.number,
            bytes: live.bytes,
            owner: self.owner(live.owner),
            kept: live.kept.into(),
        }
    }

    fn owner(&self, owner: Owner) -> String {
        match owner {
            Owner::File(file) => self.file(file),
            Owner::User(user) => format!("user {}", user.0),
            Owner::Context(context) => match self.contexts.get(&context) {
                Some(file) => self.file(*file),
                None => format!("context {}, whose actor is gone", context.0),
            },
            Owner::Resource(resource) => match self.resources.get(&resource) {
                Some(file) => self.file(*file),
                None => format!("resource {}, which is gone", resource.0),
            },
            Owner::Nobody => "nobody".into(),
        }
    }

    fn file(&self, file: FileId) -> String {
        match self.files.get(&file) {
            Some((Credentials { pid, uid, .. }, open)) => {
                let state = if *open { "" } else { ", closed" };
                format!("pid {pid} uid {uid} file {}{state}", file.0)
            }
            None => format!("file {}, closed long ago", file.0),
        }
    }
}

impl fmt::Display for Object {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(to, "{} {}", self.what, self.number)?;
        if self.bytes > 0 {
            write!(to, ", {} bytes", self.bytes)?;
        }
        write!(to, ": {}", self.owner)?;
        if self.kept.is_empty() { Ok(()) } else { write!(to, " ({})", self.kept) }
    }
}

impl fmt::Display for Leaks {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.total == 0 {
            return writeln!(to, "nothing is kept for anybody");
        }
        for object in &self.objects {
            writeln!(to, "{object}")?;
        }
        match self.total - self.objects.len() {
            0 => writeln!(to, "{} objects are alive", self.total),
            more => writeln!(to, "and {more} more; {} objects are alive", self.total),
        }
    }
}

/// Shows what a running daemon keeps for whom. Fails if there is anything, so that scripts can ask.
pub(crate) fn leaks(options: &Options) -> Result<ExitCode, Error> {
    let Leaks { total, objects } = ask(&options.meeting)?.leaks;
    let leaks = Leaks { total, objects };
    if options.json {
        show(&format!("{}\n", serde_json::to_string_pretty(&leaks)?))?;
    } else {
        show(&leaks.to_string())?;
    }
    Ok(if total == 0 { ExitCode::SUCCESS } else { ExitCode::from(EXIT_ALIVE) })
}

/// The exit code where something is alive; 1 is for failures.
const EXIT_ALIVE: u8 = 3;

#[cfg(test)]
mod tests {
    use virgld_protocol::message::{ctrlq, display, keeper, resource, scheme, transport};

    use super::*;

    fn accounts(live: Live) -> Accounts {
        Accounts {
            transport: Some(transport::Report::default()),
            control: Some(ctrlq::Report { live: [live].into_iter().collect(), ..ctrlq::Report::default() }),
            resource: Some(resource::Report::default()),
            scheme: Some(scheme::Report {
                departed: vec![(FileId(4), Credentials { pid: 77, uid: 1000, gid: 1000 })],
                ..scheme::Report::default()
            }),
            keeper: Some(keeper::Report::default()),
            display: Some(display::Report::default()),
        }
    }

    #[test]
    fn names_the_owner_of_what_a_closed_file_left() {
        let live = Live::new("GL context", 9, Owner::Context(ContextId(9)));
        let contexts = [(ContextId(9), FileId(4))].into();
        let leaks = Leaks::of(&accounts(live), &contexts).unwrap();
        assert_eq!(leaks.to_string(), "GL context 9: pid 77 uid 1000 file 4, closed\n1 objects are alive\n");
    }

    #[test]
    fn says_when_nothing_is_alive() {
        assert_eq!(Leaks::default().to_string(), "nothing is kept for anybody\n");
    }
}
