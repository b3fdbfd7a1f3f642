//! Changes of what is shown: checked as a whole, shown as a whole, at a refresh.

use virgld_protocol::errno::{Errno, Refusal};
use virgld_protocol::ids::{FenceKey, FileId, Token};
use virgld_protocol::message::display::{Answer, Event, Moment, Notice, Pixels};
use virgld_runtime::Time;

use crate::cursor;
use crate::framebuffer::{CURSOR_FORMATS, PRIMARY_FORMATS};
use crate::mode;
use crate::object::Object;
use crate::output::{Config, Plane};
use crate::state::{Caller, DONE, Effect, Outcome, State};

/// Changes that are to be made together.
#[derive(Debug, Default)]
pub(crate) struct Commit {
    /// Outputs and what they are to show.
    pub(crate) changes: Vec<(usize, Config)>,
    /// Whether an event is wanted for each CRTC, and what comes back with it.
    pub(crate) event: Option<u64>,
    /// Whether the call is answered when all is shown, rather than at once.
    pub(crate) blocking: bool,
    /// Whether all is shown as soon as it is ready, without waiting for a refresh.
    pub(crate) at_once: bool,
    pub(crate) fences: Fences,
}

/// The fences of a commit.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Fences {
    /// Nothing is shown before it has signalled.
    pub(crate) within: Option<FenceKey>,
    /// Signals when all is shown.
    pub(crate) out: Option<FenceKey>,
}

/// A change that waits for its refresh.
#[derive(Debug)]
pub(crate) struct Flip {
    /// Work on what is to be shown that is not complete.
    gates: Vec<Token>,
    /// The refresh; none before the gates are open.
    target: Option<u64>,
    /// Whether the refresh is not waited for.
    at_once: bool,
    event: Option<(FileId, u64)>,
    blocked: Option<Token>,
    fence: Option<FenceKey>,
}

/// A call that is answered when so many outputs show what it wants seen.
#[derive(Debug)]
pub(crate) struct Blocked {
    pub(crate) file: FileId,
    left: usize,
}

/// Calls of a file that wait for screens at a time.
const MOST_CALLS: usize = 64;

impl Commit {
    /// One output, waited for.
    pub(crate) fn blocking(index: usize, config: Config) -> Self {
        Self { changes: vec![(index, config)], blocking: true, ..Self::default() }
    }
}

impl Flip {
    /// The refresh at which it is shown, once nothing else holds it up.
    pub(crate) fn due(&self) -> Option<u64> {
        self.target
    }

    /// A file is closed: it hears nothing any more.
    pub(crate) fn forget(&mut self, file: FileId) {
        self.event = self.event.filter(|(it, _)| *it != file);
    }
}

impl State {
    /// Makes changes, or refuses all of them.
    pub(crate) fn commit(
        &mut self,
        caller: Caller,
        commit: Commit,
        effects: &mut Vec<Effect>,
    ) -> Result<Outcome, Refusal> {
        const BUSY: Refusal = Refusal::new(Errno::EBUSY, "an earlier flip is not shown yet");
        const OFF: Refusal =
            Refusal::new(Errno::EINVAL, "an event or a fence is wanted of a CRTC that is off");
        for (index, config) in &commit.changes {
            self.check(config)?;
            let heard = commit.event.is_some() || commit.fences.out.is_some();
            if heard && config.lit().is_none() && self.outputs[*index].config.lit().is_none() {
                return Err(OFF);
            }
        }
        if commit.changes.iter().any(|(index, _)| self.flips[*index].is_some()) {
            return if commit.blocking { Ok(Outcome::Again) } else { Err(BUSY) };
        }
        let blocked = commit.blocking.then_some(caller.token);
        let nothing = commit.changes.is_empty();
        if commit.blocking && !nothing {
            self.block(caller, commit.changes.len())?;
        }
        for (index, config) in commit.changes {
            let mut gates = self.gates(index, &config, effects);
            if let Some(fence) = commit.fences.within {
                let gate = self.fresh_token();
                effects.push(Effect::Scheme(Notice::AwaitFence { gate, fence }));
                gates.push(gate);
            }
            let event = commit.event.map(|data| (caller.file, data));
            self.outputs[index].config = config;
            self.outputs[index].keep_pace(caller.now);
            let at_once = commit.at_once;
            let clock = self.outputs[index].clock;
            let target = gates.is_empty().then(|| clock.refresh_for(caller.now, at_once));
            let fence = commit.fences.out;
            self.flips[index] = Some(Flip { gates, target, at_once, event, blocked, fence });
        }
        if commit.blocking && !nothing { Ok(Outcome::Later) } else { DONE }
    }

    /// Refuses what cannot be shown (`drm_atomic_check_only` and the helpers).
    pub(crate) fn check(&self, config: &Config) -> Result<(), Refusal> {
        const fn bad(why: &'static str) -> Refusal {
            Refusal::new(Errno::EINVAL, why)
        }
        if config.active && config.mode.is_none() {
            return Err(bad("a CRTC is active without a mode"));
        }
        if config.mode.is_some() != config.joined {
            return Err(bad("a CRTC has a mode and no connector, or a connector and no mode"));
        }
        if let Some((_, mode)) = &config.mode {
            mode::check(mode)?;
        }
        self.check_plane(&config.primary, &PRIMARY_FORMATS)?;
        self.check_plane(&config.cursor, &CURSOR_FORMATS)?;
        let image = config.cursor.framebuffer.and_then(|id| self.framebuffers.get(&id));
        if image.is_some_and(|it| it.width > cursor::LARGEST || it.height > cursor::LARGEST) {
            return Err(bad("the pointer's image is larger than 64 by 64"));
        }
        let primary = &config.primary;
        if let (Some(_), Some((_, mode))) = (primary.framebuffer, &config.mode) {
            let extent = (u32::from(mode.hdisplay), u32::from(mode.vdisplay));
            if primary.position != (0, 0) || primary.size != extent {
                return Err(bad("the primary plane does not cover the screen"));
            }
        }
        Ok(())
    }

    fn check_plane(&self, plane: &Plane, formats: &[u32]) -> Result<(), Refusal> {
        const HALF: Refusal = Refusal::new(Errno::EINVAL, "a plane has a CRTC or a framebuffer, not both");
        const FORMAT: Refusal = Refusal::new(Errno::EINVAL, "the plane does not show this format");
        const SPACE: Refusal = Refusal::new(Errno::ENOSPC, "the source leaves the framebuffer");
        const SCALED: Refusal = Refusal::new(Errno::ERANGE, "planes do not scale");
        const LARGE: Refusal = Refusal::new(Errno::ERANGE, "the plane is too large");
        if plane.framebuffer.is_some() != plane.joined {
            return Err(HALF);
        }
        let Some(id) = plane.framebuffer else { return Ok(()) };
        let framebuffer = self.framebuffers.get(&id).ok_or(HALF)?;
        if !formats.contains(&framebuffer.format) {
            return Err(FORMAT);
        }
        let ends = |position: i32, size: u32| {
            i32::try_from(size).ok().and_then(|size| position.checked_add(size)).is_some()
        };
        if !ends(plane.position.0, plane.size.0) || !ends(plane.position.1, plane.size.1) {
            return Err(LARGE);
        }
        let [x, y, width, height] = plane.source.map(u64::from);
        let inside = |start: u64, size: u64, whole: u32| start + size <= u64::from(whole) << 16;
        if !inside(x, width, framebuffer.width) || !inside(y, height, framebuffer.height) {
            return Err(SPACE);
        }
        if (width, height) != (u64::from(plane.size.0) << 16, u64::from(plane.size.1) << 16) {
            return Err(SCALED);
        }
        Ok(())
    }

    /// Asks for the end of work on what is to be shown. Memory needs none: whoever wrote it has done so.
    fn gates(&mut self, index: usize, config: &Config, effects: &mut Vec<Effect>) -> Vec<Token> {
        let mut gates = Vec::new();
        let before = &self.outputs[index].config;
        let same = before.lit() == config.lit() && before.primary == config.primary;
        if same || config.lit().is_none() {
            return gates;
        }
        let Some(framebuffer) = config.primary.framebuffer.and_then(|id| self.framebuffers.get(&id)) else {
            return gates;
        };
        let resource = framebuffer.image.resource;
        if matches!(framebuffer.image.pixels, Pixels::Host) {
            let gate = self.fresh_token();
            effects.push(Effect::Scheme(Notice::Await { gate, resource }));
            gates.push(gate);
        }
        gates
    }

    /// Work on what is to be shown is complete.
    pub(crate) fn gate_opens(&mut self, now: Time, gate: Token) {
        for (flip, output) in self.flips.iter_mut().zip(&self.outputs) {
            if let Some(flip) = flip
                && let Some(place) = flip.gates.iter().position(|it| *it == gate)
            {
                flip.gates.swap_remove(place);
                if flip.gates.is_empty() {
                    flip.target = Some(output.clock.refresh_for(now, flip.at_once));
                }
            }
        }
    }

    /// Shows what has come to its refresh, and lets those go on who waited for that.
    pub(crate) fn complete_flips(&mut self, now: Time, effects: &mut Vec<Effect>) {
        loop {
            let mut any = false;
            for index in 0..self.outputs.len() {
                let clock = self.outputs[index].clock;
                // What is on its way to the screen arrives first.
                let due = self.due(index);
                if due.is_some_and(|due| !clock.runs() || due <= clock.sequence(now)) {
                    self.complete(now, index, effects);
                    any = true;
                }
            }
            if !any {
                return;
            }
            for (file, token, call) in std::mem::take(&mut self.deferred) {
                self.call(now, file, token, call, effects);
            }
        }
    }

    /// The refresh at which the flip of an output is shown, if nothing holds it up.
    pub(crate) fn due(&self, index: usize) -> Option<u64> {
        self.flips[index].as_ref().and_then(Flip::due).filter(|_| !self.told[index].is_busy())
    }

    /// Shows what is set on an output.
    fn complete(&mut self, now: Time, index: usize, effects: &mut Vec<Effect>) {
        let output = &mut self.outputs[index];
        output.shown = output.config.clone();
        let sequence = output.clock.sequence(now);
        let time = if output.clock.runs() { output.clock.time(sequence) } else { now };
        if let Some(flip) = self.flips[index].take() {
            self.outputs[index].flips += 1;
            if let Some((file, user_data)) = flip.event {
                let crtc = Object::Crtc(index).number();
                let event = Event::Flip(Moment { user_data, crtc, sequence, time: time.0 });
                effects.push(Effect::Scheme(Notice::Event { file, event }));
            }
            if let Some(fence) = flip.fence {
                self.signal_when_last(fence, effects);
            }
            if let Some(token) = flip.blocked {
                self.unblock(token, effects);
            }
        }
        self.present(index, effects);
    }

    /// A fence stands for all outputs of its commit.
    fn signal_when_last(&self, fence: FenceKey, effects: &mut Vec<Effect>) {
        if !self.flips.iter().flatten().any(|flip| flip.fence == Some(fence)) {
            effects.push(Effect::Scheme(Notice::Signal { fence, result: Ok(()) }));
        }
    }

    /// A call is answered when so many screens show what it wants seen.
    pub(crate) fn block(&mut self, caller: Caller, left: usize) -> Result<(), Refusal> {
        self.may_wait(caller.file)?;
        self.blocked.insert(caller.token, Blocked { file: caller.file, left });
        Ok(())
    }

    /// Refuses to have a file wait with more calls than it could need.
    pub(crate) fn may_wait(&self, file: FileId) -> Result<(), Refusal> {
        const MANY: Refusal = Refusal::new(Errno::EBUSY, "too many calls of this file wait for screens");
        let deferred = self.deferred.iter().filter(|(it, ..)| *it == file).count();
        let blocked = self.blocked.values().filter(|it| it.file == file).count();
        if deferred + blocked < MOST_CALLS { Ok(()) } else { Err(MANY) }
    }

    pub(crate) fn unblock_all(&mut self, tokens: Vec<Token>, effects: &mut Vec<Effect>) {
        for token in tokens {
            self.unblock(token, effects);
        }
    }

    fn unblock(&mut self, token: Token, effects: &mut Vec<Effect>) {
        let Some(blocked) = self.blocked.get_mut(&token) else { return };
        blocked.left -= 1;
        if blocked.left == 0 {
            self.blocked.remove(&token);
            effects.push(Effect::Scheme(Notice::Answered { token, result: Ok(Answer::Done) }));
        }
    }

    /// Shows something at once: what was there is not to be seen any longer.
    pub(crate) fn force(&mut self, now: Time, index: usize, config: Config, effects: &mut Vec<Effect>) {
        self.outputs[index].config = config;
        self.outputs[index].keep_pace(now);
        self.complete(now, index, effects);
    }
}
