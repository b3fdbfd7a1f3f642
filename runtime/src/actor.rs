//! What an actor is.

use std::time::Duration;

use crate::fault;
use crate::words::Words;

/// Monotonic time in nanoseconds, from the same origin as the clients' (CLOCK_MONOTONIC). Actors are told it; they never ask a clock, so a
/// simulation can make it up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Time(pub u64);

impl Time {
    /// The moment `duration` later; the end of time if that cannot be expressed.
    pub fn after(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)))
    }

    /// How long it is from `earlier` until this moment; zero if that lies ahead.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

/// Who sent a message: a number that whoever minted the capability chose and that its holder can neither
/// read nor change. A receiver that serves many senders keys their state by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Badge(pub u64);

/// An actor's own invariant broke, or the device broke its word in a way that the actor cannot mend. The actor
/// stops; the supervisor decides what follows.
#[derive(Debug, thiserror::Error)]
#[error("{what}")]
pub struct Fault {
    /// What happened, to whom.
    pub what: String,
}

impl Fault {
    /// A fault described by `what`.
    pub fn new(what: impl Into<String>) -> Self {
        Self { what: what.into() }
    }
}

/// The circumstances of one step.
#[derive(Debug, Clone, Copy)]
pub struct Turn {
    /// Now.
    pub now: Time,
    /// The badge of the capability that the message came through.
    pub badge: Badge,
}

/// The circumstances of a start anew.
#[derive(Debug, Clone, Copy)]
pub struct Restart {
    /// Now.
    pub now: Time,
    /// A step broke off in the middle: one of this actor, or of one that it builds on; or a supervisor above it begins anew.
    /// What they do together is in doubt.
    pub doubt: bool,
}

/// Carries out all that a step has led to, also what comes after something that could not be: others wait for it. Gives the
/// first failure.
pub fn carry_out<E, F>(effects: &mut Vec<E>, mut one: impl FnMut(E) -> Result<(), F>) -> Result<(), F> {
    fault::midst();
    let mut outcome = Ok(());
    for effect in effects.drain(..) {
        let done = one(effect);
        outcome = outcome.and(done);
    }
    outcome
}

/// A state machine with a mailbox. It never blocks and holds no authority but the capabilities in its fields.
pub trait Actor: Send {
    /// What it hears.
    type Message: Words;

    /// Takes one message.
    fn handle(&mut self, turn: Turn, message: Self::Message) -> Result<(), Fault>;

    /// When it wants [`Actor::wake`] called, if nothing else happens first.
    fn deadline(&self) -> Option<Time> {
        None
    }

    /// Its deadline has come.
    fn wake(&mut self, now: Time) -> Result<(), Fault> {
        let _ = now;
        Ok(())
    }

    /// It, or one that it builds on, panicked or faulted, and its supervisor starts it anew. It keeps what others rely on it
    /// to own, forgets what a step may have left half done, fails whom that was for, and asks for what it needs to know again.
    /// An actor that cannot do that dies, and its address with it.
    fn restart(&mut self, restart: Restart) -> Result<(), Fault> {
        let _ = restart;
        Err(Fault::new("it owns nothing that outlives it"))
    }

    /// Whether it shares memory with somebody outside of the stage: then what follows is called.
    const SETTLES: bool = false;

    /// All messages that are waiting now have been handled, here and in every actor of the stage: the moment
    /// to ring a doorbell once for many, and to take what [`Actor::glance`] has seen.
    fn settle(&mut self, now: Time) -> Result<(), Fault> {
        let _ = now;
        Ok(())
    }

    /// Whether there is something in shared memory of which nobody tells, since the actor has not asked to be told. It is
    /// asked over and over while the stage's thread looks for more to do, so it should read a word or two.
    fn glance(&self) -> bool {
        false
    }

    /// The thread is about to sleep: from now on the actor wants to be told of what comes. It says so, then looks once more,
    /// and takes what came before it had said so.
    fn doze(&mut self, now: Time) -> Result<(), Fault> {
        let _ = now;
        Ok(())
    }
}
