//! What is not as it should be in the matrix, each with the reason why it is left so. Whatever is in no line here fails the
//! test, and so does a line that nothing needs.

use std::fmt::{self, Write};

/// In what way a run is not good.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Flaw {
    /// The other client was told something.
    Told,
    /// The client at work was told nothing at all, for ever.
    Silent,
    /// Something was left behind.
    Left,
    /// The device was told of something that it did not know, and refused it.
    Refused,
}

/// A flaw, and where it was seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The message that the fault struck.
    pub word: &'static str,
    /// What was not good.
    pub flaw: Flaw,
    /// More about it.
    pub what: String,
}

/// A flaw that is left so.
#[derive(Debug)]
pub struct Exception {
    /// The actors.
    pub actors: &'static [&'static str],
    /// The faults.
    pub faults: &'static [&'static str],
    /// The messages that they strike, whole or up to a dot; any, if there are none.
    pub words: &'static [&'static str],
    /// What is not good then.
    pub flaw: Flaw,
    /// Why it is left so.
    pub reason: &'static str,
}

impl Exception {
    /// Whether it is about this.
    pub fn covers(&self, actor: &str, fault: &str, finding: &Finding) -> bool {
        let begins = |name: &&str| {
            finding.word.strip_prefix(*name).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        };
        self.actors.contains(&actor)
            && self.faults.contains(&fault)
            && self.flaw == finding.flaw
            && (self.words.is_empty() || self.words.iter().any(begins))
    }
}

const DROP: &[&str] = &["drop", "drop effects"];
/// All that strikes the keeper, but what has no message.
const WHILE_IT_IS_LOST: &[&str] = &[
    "panic before",
    "panic within",
    "panic after",
    "panic, effects sent",
    "hang",
    "delay",
    "drop",
    "drop effects",
    "duplicate",
    "reorder",
];

/// All of them.
pub const EXCEPTIONS: [Exception; 10] = [
    Exception {
        actors: &["device keeper"],
        faults: WHILE_IT_IS_LOST,
        words: &["Transport.Lost"],
        flaw: Flaw::Told,
        reason: "the keeper hears this when the device is lost, and that is what the other is told of: it is everybody's",
    },
    Exception {
        actors: &["control queue", "transport"],
        faults: &["panic within"],
        words: &[],
        flaw: Flaw::Told,
        reason: "rest for one: nobody knows any more what the device has, so all that is on it begins anew; `--survive` and \
                 `--isolated` are against that",
    },
    Exception {
        actors: &["door"],
        faults: &["drop"],
        words: &["Scheme.Answer", "Scheme.Signal", "Scheme.Event"],
        flaw: Flaw::Silent,
        reason: "the answer itself is lost on its last step; whoever waits for it is the client, and that has no deadline: calls \
                 may wait for as long as it says, and the daemon lives",
    },
    Exception {
        actors: &["scheme"],
        faults: &["drop"],
        words: &["Door.Call", "Display.Event"],
        flaw: Flaw::Silent,
        reason: "as for the door: only the client waits for what comes of it",
    },
    Exception {
        actors: &["scheme"],
        faults: &["drop effects"],
        words: &["Door.Call", "Context.Completed", "Resource.Created", "Display.Answered", "Display.Event"],
        flaw: Flaw::Silent,
        reason: "as for the door: what follows is the answer to the client",
    },
    Exception {
        actors: &["scheme"],
        faults: DROP,
        words: &["Display.Let", "Context.Detached"],
        flaw: Flaw::Left,
        reason: "a word that something is not needed any more: nobody waits for it, so nobody misses it. It is in the leak report",
    },
    Exception {
        actors: &["resource", "control queue"],
        faults: DROP,
        words: &["Scheme.Release", "Control.Unreferenced", "Resource.Unreference"],
        flaw: Flaw::Left,
        reason: "the same; what the device was told of is let go of when the next takes its place",
    },
    Exception {
        actors: &["display"],
        faults: &["drop effects"],
        words: &["Control.Transferred"],
        flaw: Flaw::Left,
        reason: "the same: the image of a pointer that another has taken the place of is let go when that one has arrived",
    },
    Exception {
        actors: &["context", "control queue", "transport"],
        faults: &["drop", "drop effects", "reorder"],
        words: &["Scheme.Attach", "Context.Attach", "Context.Detach", "Resource", "Publish"],
        flaw: Flaw::Refused,
        reason: "a command for the device is lost or late on its way there: those behind it name what the device does not know, \
                 and it refuses them. Only the client whose command it was is concerned",
    },
    Exception {
        actors: &["resource"],
        faults: &["drop effects"],
        words: &["Scheme.Create"],
        flaw: Flaw::Refused,
        reason: "the same: the device is not told of a resource, and then that it goes",
    },
];

impl fmt::Display for Flaw {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(match self {
            Self::Told => "the other client is told",
            Self::Silent => "no answer, for ever",
            Self::Left => "something is left",
            Self::Refused => "the device refuses what follows",
        })
    }
}

/// The exceptions as a table in Markdown.
pub(super) fn markdown() -> String {
    let mut text = String::from(
        "| where | fault | message | what is not good | why it is left so |\n|---|---|---|---|---|\n",
    );
    for Exception { actors, faults, words, flaw, reason } in &EXCEPTIONS {
        let words = if words.is_empty() { "any".into() } else { words.join(", ") };
        let _ =
            writeln!(text, "| {} | {} | {words} | {flaw} | {reason} |", actors.join(", "), faults.join(", "));
    }
    text
}
