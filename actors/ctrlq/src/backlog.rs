//! Commands that wait to be sent.

use std::collections::VecDeque;

use virgld_runtime::Time;

use crate::state::Command;

/// Commands in the order in which they came, each with the moment since which it waits.
///
/// There can be thousands, when a device is slow and programs make and drop buffers; so what is asked at each answer of
/// the device, since when work waits, is kept and not looked for.
#[derive(Default)]
pub(crate) struct Backlog {
    commands: VecDeque<(Time, Command)>,
    /// Since when each piece of work among them waits.
    work: VecDeque<Time>,
}

impl Backlog {
    pub(crate) fn push(&mut self, since: Time, command: Command) {
        if command.is_work() {
            self.work.push_back(since);
        }
        self.commands.push_back((since, command));
    }

    pub(crate) fn pop(&mut self) -> Option<(Time, Command)> {
        let (since, command) = self.commands.pop_front()?;
        if command.is_work() {
            self.work.pop_front();
        }
        Some((since, command))
    }

    /// The first has to wait on.
    pub(crate) fn put_back(&mut self, since: Time, command: Command) {
        if command.is_work() {
            self.work.push_front(since);
        }
        self.commands.push_front((since, command));
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.commands.is_empty()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Command> {
        self.commands.iter().map(|(_, command)| command)
    }

    /// Since when the first piece of work waits.
    pub(crate) fn work_since(&self) -> Option<Time> {
        self.work.front().copied()
    }

    /// Takes the first piece of work out.
    pub(crate) fn take_work(&mut self) -> Option<Command> {
        let first = self.commands.iter().position(|(_, command)| command.is_work())?;
        self.work.pop_front();
        self.commands.remove(first).map(|(_, command)| command)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use virgld_protocol::ids::{ContextId, ResourceId, Serial};
    use virgld_protocol::message::ctrlq::{ContextCommand, ResourceCommand};

    use super::*;

    fn command(work: bool) -> Command {
        if work {
            Command::Context(ContextId(1), ContextCommand::Fence { serial: Serial(1) })
        } else {
            Command::Resource(ResourceCommand::Unreference { resource: ResourceId(1) })
        }
    }

    proptest! {
        /// What is kept is what looking for it would find.
        #[test]
        fn since_when_work_waits_is_known(steps in proptest::collection::vec((0..4_u8, any::<bool>()), 1..80)) {
            let mut backlog = Backlog::default();
            for (now, (step, work)) in steps.into_iter().enumerate() {
                match step {
                    0 | 1 => backlog.push(Time(now as u64), command(work)),
                    2 => if let Some((since, command)) = backlog.pop() && work {
                        backlog.put_back(since, command);
                    },
                    _ => {
                        let there = backlog.iter().any(Command::is_work);
                        prop_assert_eq!(backlog.take_work().is_some(), there);
                    }
                }
                let found = backlog.commands.iter().find(|(_, command)| command.is_work()).map(|(since, _)| *since);
                prop_assert_eq!(backlog.work_since(), found);
                prop_assert_eq!(backlog.is_empty(), backlog.iter().count() == 0);
            }
        }
    }
}
