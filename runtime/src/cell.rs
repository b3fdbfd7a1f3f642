//! An actor in its slot, and its boundary: where faults strike.

use std::collections::VecDeque;
use std::panic::resume_unwind;
use std::time::Duration;

use crate::actor::{Actor, Fault, Restart, Time, Turn};
use crate::fault::{self, Faults, Point, Strikes, Wrong};
use crate::mailbox::{Envelope, Mailbox};
use crate::outbox::{self, Sending};
use crate::words::Words;

/// The payload of a panic that stands for an actor that does not return.
pub(crate) struct Hung;

/// The circumstances under which a cell runs.
#[derive(Clone, Copy)]
pub(crate) struct Round<'a> {
    pub(crate) now: Time,
    pub(crate) name: &'static str,
    pub(crate) faults: &'a Faults,
}

/// What the stage can do with an actor whose message type it does not know.
pub(crate) trait Run: Send {
    fn run(&mut self, round: Round<'_>) -> Result<(), Fault>;
    fn wake(&mut self, round: Round<'_>) -> Result<(), Fault>;
    fn settle(&mut self, now: Time) -> Result<(), Fault>;
    fn glance(&self) -> bool;
    fn doze(&mut self, now: Time) -> Result<(), Fault>;
    fn restart(&mut self, restart: Restart) -> Result<(), Fault>;
    /// Whether it died in the middle of a step of the actor, and not between two. Asked once.
    fn broke_off(&mut self) -> bool;
    fn deadline(&self) -> Option<Time>;
    fn settles(&self) -> bool;
    /// What makes all capabilities to it dead, whoever has it.
    fn revoke(&self) -> Box<dyn Fn() + Send>;
}

/// An actor and where its messages wait.
pub(crate) struct Cell<A: Actor> {
    actor: A,
    mailbox: Mailbox<A::Message>,
    /// Whether it is started anew when it dies: then a step that came to its end is not undone by its death.
    lasting: bool,
    /// Whether a step of the actor has begun and not ended.
    stepping: bool,
    /// What faults have held up.
    held: Option<Box<Held<A::Message>>>,
}

struct Held<M> {
    /// Messages ahead of those in the mailbox. Faults have struck them already.
    messages: VecDeque<Envelope<M>>,
    /// What followed from a message.
    effects: Vec<Sending>,
    /// A message that is to come after the next.
    late: Option<Envelope<M>>,
    /// Nothing happens before this.
    until: Option<Time>,
}

impl<A: Actor> Cell<A> {
    pub(crate) fn new(actor: A, mailbox: Mailbox<A::Message>, lasting: bool) -> Self {
        Self { actor, mailbox, lasting, stepping: false, held: None }
    }

    fn handle(&mut self, now: Time, envelope: Envelope<A::Message>) -> Result<(), Fault> {
        self.step(|actor| actor.handle(Turn { now, badge: envelope.badge }, envelope.message))
    }

    /// A step of the actor. If it does not come to its end, that is known afterwards.
    fn step(&mut self, step: impl FnOnce(&mut A) -> Result<(), Fault>) -> Result<(), Fault> {
        self.stepping = true;
        step(&mut self.actor)?;
        self.stepping = false;
        Ok(())
    }

    fn held(&mut self) -> &mut Held<A::Message> {
        self.held.get_or_insert_with(|| {
            let (messages, effects) = (VecDeque::new(), Vec::new());
            Box::new(Held { messages, effects, late: None, until: None })
        })
    }

    /// The same as without faults, but looks at each message.
    fn run_with_faults(&mut self, round: Round<'_>) -> Result<(), Fault> {
        if let Some(held) = &mut self.held {
            if held.until.is_some_and(|until| round.now < until) && held.late.is_none() {
                return Ok(());
            }
            if held.until.take_if(|until| round.now >= *until).is_some()
                && let Some(late) = held.late.take()
            {
                held.messages.push_back(late);
            }
            outbox::release(std::mem::take(&mut held.effects));
        }
        while self.held.as_ref().is_none_or(|held| held.until.is_none() || held.late.is_some()) {
            if let Some(known) = self.held.as_mut().and_then(|held| held.messages.pop_front()) {
                self.handle(round.now, known)?;
            } else if let Some((envelope, _)) = self.mailbox.take() {
                self.strike(round, envelope)?;
            } else {
                break;
            }
        }
        if self.held.as_ref().is_some_and(|held| held.until.is_none()) {
            self.held = None;
        }
        Ok(())
    }

    fn strike(&mut self, round: Round<'_>, envelope: Envelope<A::Message>) -> Result<(), Fault> {
        let word = envelope.message.word();
        let strikes = round.faults.book().strike(round.name, word);
        // It has waited for a next one: this is it.
        let late = self.held.as_mut().and_then(|held| held.late.take());
        if let Some(late) = late {
            let held = self.held();
            held.until = None;
            held.messages.push_back(late);
        }
        let Some(envelope) = self.before(round, envelope, strikes)? else { return Ok(()) };
        if let Some(rule) = strikes.within {
            fault::break_off(word);
            self.handle(round.now, envelope)?;
            if fault::go_through() {
                round.faults.book().impossible(rule);
            }
            return Ok(());
        }
        let Some(after) = strikes.after else {
            self.handle(round.now, envelope)?;
            return self.effect(round, word, strikes);
        };
        outbox::hold();
        self.handle(round.now, envelope)?;
        self.after(round, word, after, outbox::take());
        self.effect(round, word, strikes)
    }

    /// A fault before the message is handled. Gives the message, if it is to be handled now.
    fn before(
        &mut self,
        round: Round<'_>,
        mut envelope: Envelope<A::Message>,
        strikes: Strikes,
    ) -> Result<Option<Envelope<A::Message>>, Fault> {
        let Some((rule, wrong)) = strikes.before else { return Ok(Some(envelope)) };
        let possible = match wrong {
            Wrong::Panic | Wrong::Hang => {
                let word = envelope.message.word();
                if self.lasting {
                    // Nobody has handled it: it waits still.
                    self.held().messages.push_front(envelope);
                }
                die(round.faults, wrong, Point::Before, word)
            }
            Wrong::Drop => return Ok(None),
            Wrong::Delay(time) => {
                let held = self.held();
                held.messages.push_back(envelope);
                held.until = Some(round.now.after(time));
                return Ok(None);
            }
            Wrong::Reorder => {
                let held = self.held();
                held.late = Some(envelope);
                held.until = Some(round.now.after(NEXT_ONE));
                return Ok(None);
            }
            Wrong::Duplicate => match envelope.message.twin() {
                Some(message) => {
                    self.handle(round.now, Envelope { badge: envelope.badge, message })?;
                    true
                }
                None => false,
            },
            Wrong::Corrupt => envelope.message.corrupt(),
            Wrong::Refuse => envelope.message.refuse(),
        };
        if !possible {
            round.faults.book().impossible(rule);
        }
        Ok(Some(envelope))
    }

    /// A fault between a step and what follows from it.
    fn after(&mut self, round: Round<'_>, word: &str, wrong: Wrong, mut effects: Vec<Sending>) {
        match wrong {
            Wrong::Panic | Wrong::Hang => {
                // The step is over, so its effects are not the actor's any more: only with one that is not started anew
                // do they end, too.
                if self.lasting {
                    outbox::release(effects);
                }
                die(round.faults, wrong, Point::After, word);
            }
            Wrong::Delay(time) => {
                let held = self.held();
                held.effects = effects;
                held.until = Some(round.now.after(time));
            }
            Wrong::Reorder => {
                effects.reverse();
                outbox::release(effects);
            }
            // A plan with the others at this point is refused.
            Wrong::Drop | Wrong::Duplicate | Wrong::Corrupt | Wrong::Refuse => {}
        }
    }

    fn effect(&mut self, round: Round<'_>, word: &str, strikes: Strikes) -> Result<(), Fault> {
        if let Some(wrong) = strikes.effect {
            die(round.faults, wrong, Point::Effect, word);
        }
        Ok(())
    }
}

/// Dies as told.
fn die(faults: &Faults, wrong: Wrong, point: Point, word: &str) -> ! {
    if wrong == Wrong::Hang {
        faults.hang();
        // Past the hook of panics: nothing is wrong with the program.
        resume_unwind(Box::new(Hung));
    }
    let point = match point {
        Point::Before => "before it handled",
        Point::Within => "in the middle of",
        Point::After => "after it handled, before what follows from",
        Point::Effect => "after all that follows from",
    };
    resume_unwind(Box::new(format!("injected, {point} {word}")))
}

impl<A: Actor> Run for Cell<A> {
    fn run(&mut self, round: Round<'_>) -> Result<(), Fault> {
        if self.held.is_some() || round.faults.armed() {
            return self.run_with_faults(round);
        }
        while let Some((envelope, more)) = self.mailbox.take() {
            self.handle(round.now, envelope)?;
            // What has come since the last was taken has scheduled another step.
            if !more {
                break;
            }
        }
        Ok(())
    }

    fn wake(&mut self, round: Round<'_>) -> Result<(), Fault> {
        if self.held.is_some() {
            self.run_with_faults(round)?;
            if self.actor.deadline().is_none_or(|deadline| deadline > round.now) {
                return Ok(());
            }
        }
        self.step(|actor| actor.wake(round.now))
    }

    fn settle(&mut self, now: Time) -> Result<(), Fault> {
        self.step(|actor| actor.settle(now))
    }

    fn glance(&self) -> bool {
        self.actor.glance()
    }

    fn doze(&mut self, now: Time) -> Result<(), Fault> {
        self.step(|actor| actor.doze(now))
    }

    fn restart(&mut self, restart: Restart) -> Result<(), Fault> {
        self.step(|actor| actor.restart(restart))
    }

    fn broke_off(&mut self) -> bool {
        std::mem::take(&mut self.stepping)
    }

    fn deadline(&self) -> Option<Time> {
        let own = self.actor.deadline();
        let Some(until) = self.held.as_ref().and_then(|held| held.until) else { return own };
        Some(own.map_or(until, |own| own.min(until)))
    }

    fn settles(&self) -> bool {
        A::SETTLES
    }

    fn revoke(&self) -> Box<dyn Fn() + Send> {
        self.mailbox.revoke()
    }
}

/// How long a message that is to come after the next one waits for it.
const NEXT_ONE: Duration = Duration::from_millis(10);
