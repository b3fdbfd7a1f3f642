//! The life of a context and the order of its work.

use std::collections::VecDeque;

use virgld_protocol::errno::Errno;
use virgld_protocol::ids::{ResourceId, Serial};
use virgld_protocol::message::context::{Request, Submit};
use virgld_protocol::message::ctrlq::{ContextCommand, ContextEvent, Transfer};
use virgld_protocol::message::scheme::ContextNotice;

use crate::timeline::Timeline;

/// Something that the state wants done.
#[derive(Debug)]
pub enum Effect {
    /// Have the device do this.
    Control(ContextCommand),
    /// Tell the scheme.
    Scheme(ContextNotice),
    /// The actor's work is over.
    Finish,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Life {
    New,
    Live,
    /// The device does not know the context any more: its work fails.
    Lost,
    Closing,
}

/// Work that waits behind a held submit.
#[derive(Debug)]
enum Work {
    Submit(Submit),
    Transfer(Transfer),
    Attach(ResourceId),
    Detach(ResourceId),
    Skip(Serial),
}

/// One context.
#[derive(Debug)]
pub struct State {
    life: Life,
    waiting: VecDeque<Work>,
    timeline: Timeline,
}

impl Default for State {
    fn default() -> Self {
        Self { life: Life::New, waiting: VecDeque::new(), timeline: Timeline::default() }
    }
}

impl State {
    /// Takes a request of the scheme.
    pub fn request(&mut self, request: Request, effects: &mut Vec<Effect>) {
        match request {
            Request::Open { name, capset } => {
                self.life = Life::Live;
                effects.push(Effect::Control(ContextCommand::Create { name, capset }));
            }
            Request::Attach { resource } => self.enqueue(Work::Attach(resource), effects),
            Request::Detach { resource } => self.enqueue(Work::Detach(resource), effects),
            Request::Submit(submit) => {
                self.timeline.begin(submit.serial);
                self.enqueue(Work::Submit(submit), effects);
            }
            Request::Transfer(transfer) => {
                self.timeline.begin(transfer.serial);
                self.enqueue(Work::Transfer(transfer), effects);
            }
            Request::Skip { serial } => {
                self.timeline.begin(serial);
                self.enqueue(Work::Skip(serial), effects);
            }
            Request::Release { serial, result } => self.release(serial, result, effects),
            Request::Close => self.close(effects),
        }
    }

    /// Takes an event of the control queue.
    pub fn control(&mut self, event: ContextEvent, effects: &mut Vec<Effect>) {
        match event {
            ContextEvent::Completed { serial, result } => self.complete(serial, result, effects),
            ContextEvent::Lost if self.life == Life::Live => {
                self.life = Life::Lost;
                effects.push(Effect::Scheme(ContextNotice::Lost));
            }
            ContextEvent::Lost => {}
            ContextEvent::Destroyed => effects.push(Effect::Finish),
        }
    }

    /// Work goes on at once unless something before it is held.
    fn enqueue(&mut self, work: Work, effects: &mut Vec<Effect>) {
        self.waiting.push_back(work);
        self.proceed(effects);
    }

    fn proceed(&mut self, effects: &mut Vec<Effect>) {
        while self
            .waiting
            .front()
            .is_some_and(|work| !matches!(work, Work::Submit(Submit { held: true, .. })))
            && let Some(work) = self.waiting.pop_front()
        {
            self.perform(work, effects);
        }
    }

    fn perform(&mut self, work: Work, effects: &mut Vec<Effect>) {
        let live = self.life == Life::Live;
        match work {
            Work::Submit(Submit { serial, .. }) | Work::Transfer(Transfer { serial, .. }) if !live => {
                self.complete(serial, Err(Errno::EIO), effects);
            }
            Work::Submit(Submit { stream, length, ring, serial, .. }) => {
                effects.push(Effect::Control(ContextCommand::Submit { stream, length, ring, serial }));
            }
            Work::Transfer(transfer) => effects.push(Effect::Control(ContextCommand::Transfer(transfer))),
            Work::Attach(resource) if live => {
                effects.push(Effect::Control(ContextCommand::Attach { resource }));
            }
            Work::Attach(_) => {}
            Work::Detach(resource) => {
                if live {
                    effects.push(Effect::Control(ContextCommand::Detach { resource }));
                }
                effects.push(Effect::Scheme(ContextNotice::Detached { resource }));
            }
            Work::Skip(serial) => self.complete(serial, Err(Errno::EINVAL), effects),
        }
    }

    fn release(&mut self, serial: Serial, result: Result<(), Errno>, effects: &mut Vec<Effect>) {
        let held =
            self.waiting.iter().position(|work| matches!(work, Work::Submit(it) if it.serial == serial));
        let Some(index) = held else { return };
        match result {
            Ok(()) => {
                if let Some(Work::Submit(submit)) = self.waiting.get_mut(index) {
                    submit.held = false;
                }
            }
            Err(errno) => {
                self.waiting.remove(index);
                self.complete(serial, Err(errno), effects);
            }
        }
        self.proceed(effects);
    }

    fn complete(&mut self, serial: Serial, result: Result<(), Errno>, effects: &mut Vec<Effect>) {
        // The control queue answers each command once; anything else is not ours to report twice.
        if let Some(through) = self.timeline.complete(serial) {
            effects.push(Effect::Scheme(ContextNotice::Completed { serial, result, through }));
        }
    }

    /// What is held will never run; what the device has, it finishes before it destroys the context, and it is
    /// reported until then.
    fn close(&mut self, effects: &mut Vec<Effect>) {
        for work in std::mem::take(&mut self.waiting) {
            match work {
                Work::Submit(Submit { serial, .. })
                | Work::Transfer(Transfer { serial, .. })
                | Work::Skip(serial) => {
                    self.complete(serial, Err(Errno::ECANCELED), effects);
                }
                Work::Detach(resource) => effects.push(Effect::Scheme(ContextNotice::Detached { resource })),
                Work::Attach(_) => {}
            }
        }
        if self.life == Life::New {
            effects.push(Effect::Finish);
        } else {
            effects.push(Effect::Control(ContextCommand::Destroy));
        }
        self.life = Life::Closing;
        effects.push(Effect::Scheme(ContextNotice::Ended));
    }
}
