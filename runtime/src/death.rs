//! What becomes of actors that die, and of those that hang.

use crate::actor::{Fault, Time};
use crate::stage::{Act, SlotId, Stage};
use crate::tree::Verdict;

/// An actor that died, and why.
#[derive(Debug)]
pub struct Casualty {
    /// Which slot it ran in.
    pub slot: SlotId,
    /// Its name.
    pub name: &'static str,
    /// What it said, or what its panic said.
    pub fault: Fault,
    /// What became of it.
    pub death: Death,
    /// Who was started anew with it, because that builds on it.
    pub with: Vec<&'static str>,
}

/// What becomes of an actor that died.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Death {
    /// It was started anew.
    Restarted,
    /// It is gone, and was to be.
    Ended,
    /// It was to be started anew, but its supervisors have given up, or it could not be: whoever is above must decide.
    Escalated,
}

/// A start anew.
pub(crate) struct Revival {
    /// What it died of, if it is the one that died.
    fault: Option<Fault>,
    /// Who is started anew with it then.
    with: Vec<&'static str>,
    /// Whether what it does together with others is in doubt.
    pub(crate) doubt: bool,
}

impl Stage {
    /// Somebody has found out that an actor hangs: what it has is lost, as it is in the hands of a thread that does not come
    /// back. One that was to be started anew cannot be, unless it can be made from nothing.
    pub fn end_hung(&mut self) {
        if let Some(slot) = self.hung.take() {
            self.lose(slot, "injected: it did not return from a step");
        }
    }

    /// The actor whose step is under way is given up with the thread that runs it. Says whether there is one.
    pub(crate) fn abandon(&mut self) -> bool {
        let Some(slot) = self.running.take() else { return false };
        self.lose(slot, "it did not return from a step");
        true
    }

    /// An actor is in the hands of a thread that does not come back.
    fn lose(&mut self, id: SlotId, why: &str) {
        let Some(slot) = self.slots.get_mut(&id) else { return };
        if let Some(another) = &mut slot.another {
            slot.cell = Some(another());
            return self.died(self.now, id, Fault::new(why), Act::Run, true);
        }
        (slot.revoke)();
        let death = if self.shared.tree().is_permanent(id) { Death::Escalated } else { Death::Ended };
        self.bury(id, Fault::new(why), death);
    }

    /// An actor died of a fault, perhaps when it was started anew.
    pub(crate) fn died(&mut self, now: Time, id: SlotId, fault: Fault, act: Act, broke_off: bool) {
        let verdict = self.shared.tree().died(now, id);
        let first = if let Act::Restart(Revival { fault, .. }) = act { fault } else { None };
        match verdict {
            Verdict::Gone => self.bury(id, fault, Death::Ended),
            Verdict::Restart { stop, start, escalated } => {
                for slot in stop.iter().filter(|slot| !start.contains(slot)) {
                    self.bury(*slot, Fault::new("its supervisor begins anew"), Death::Ended);
                }
                let doubt = broke_off || escalated;
                let others = start.iter().filter(|slot| **slot != id).filter_map(|slot| self.slots.get(slot));
                let mut cause = Some((first.unwrap_or(fault), others.map(|it| it.name).collect()));
                // Those that are to be started anew already, and not with this one, come after it.
                let rest = std::mem::take(&mut self.restarts);
                self.restarts.extend(start.iter().map(|slot| {
                    let (fault, with) = cause.take_if(|_| *slot == id).unzip();
                    (*slot, Revival { fault, with: with.unwrap_or_default(), doubt })
                }));
                self.restarts.extend(rest.into_iter().filter(|(slot, _)| !start.contains(slot)));
            }
            Verdict::End { stop, limits } => {
                let last = match first {
                    Some(first) => failed_restart(first, &fault),
                    None => fault,
                };
                self.bury(id, Fault::new(format!("{limits}; at last: {last}")), Death::Escalated);
                self.restarts.clear();
                stop.into_iter().for_each(|slot| self.stop(slot));
            }
        }
    }

    /// An actor was started anew. It is a casualty if it is the one that died.
    pub(crate) fn revived(&mut self, id: SlotId, revival: Revival) {
        let Some(name) = self.slots.get(&id).map(|slot| slot.name) else { return };
        let Revival { fault, with, .. } = revival;
        self.casualties.extend(fault.map(|fault| Casualty {
            slot: id,
            name,
            fault,
            death: Death::Restarted,
            with,
        }));
    }

    fn bury(&mut self, id: SlotId, fault: Fault, death: Death) {
        let Some(name) = self.slots.get(&id).map(|slot| slot.name) else { return };
        self.stop(id);
        self.casualties.push(Casualty { slot: id, name, fault, death, with: Vec::new() });
    }
}

/// An actor died, and its restart failed.
fn failed_restart(mut first: Fault, then: &Fault) -> Fault {
    let how = if then.what.starts_with(PANICKED) {
        "when it was started anew it"
    } else {
        "it cannot be started anew:"
    };
    first.what = format!("{}; {how} {}", first.what, then.what);
    first
}

/// What the faults of panics begin with.
const PANICKED: &str = "panicked: ";

/// What a panic said.
pub(crate) fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied().or(panic.downcast_ref::<String>().map(String::as_str));
    format!("{PANICKED}{}", text.unwrap_or("no message"))
}
