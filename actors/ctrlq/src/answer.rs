//! What comes back from the device.

use virgld_protocol::device::{
    CONTROL_FLAG_FENCE, Code, Configuration, ControlHeader, DisplayOne, OkCapsetInfo, OkDisplayInfo, OkEdid,
    Response, errno_of,
};
use virgld_protocol::errno::Errno;
use virgld_protocol::message::ctrlq::{CapsetInfo, ContextEvent, ResourceEvent};
use virgld_protocol::message::display::ControlEvent;
use virgld_protocol::message::transport::Event;
use virgld_runtime::Time;
use virgld_runtime::dma::DmaSlice;
use zerocopy::FromBytes;

use crate::command::HEADER_BYTES;
use crate::state::{Device, Effect, Meaning, Pending, State, to_u32};

impl State {
    /// Takes what the transport tells.
    pub fn transport(&mut self, now: Time, event: Event, effects: &mut Vec<Effect>) {
        match event {
            Event::Up { features, configuration } => self.come_up(now, features, &configuration, effects),
            Event::Returned { cookie, slice, written } => {
                self.last_sign = now;
                self.returned(cookie, slice, written, effects);
            }
            Event::Lost { cookie } => self.lost(cookie, effects),
            Event::Down { .. } => self.go_down(effects),
            Event::ConfigurationChanged => effects.push(Effect::Display(ControlEvent::Changed)),
        }
        self.forget_answered();
        self.drain(now, effects);
        self.see_off(effects);
    }

    fn come_up(&mut self, now: Time, features: u64, configuration: &[u8], effects: &mut Vec<Effect>) {
        if self.device != Device::Down {
            // The loss of the one before was not heard of.
            self.go_down(effects);
        }
        self.device = Device::Furnishing;
        (self.last_sign, self.complained) = (now, false);
        let read = Configuration::read_from_prefix(configuration).map(|(read, _)| read).unwrap_or_default();
        effects.push(Effect::Resource(ResourceEvent::Up { features, capsets: read.num_capsets }));
        // After the resource actor, which makes all resources anew: the display names some of them.
        effects.push(Effect::Display(ControlEvent::Up { features, scanouts: read.num_scanouts }));
    }

    fn go_down(&mut self, effects: &mut Vec<Effect>) {
        self.device = Device::Down;
        // First, so that the resource actor does not take the loss of a command for the device's refusal of it.
        effects.push(Effect::Resource(ResourceEvent::Down));
        effects.push(Effect::Display(ControlEvent::Down));
        let suspects = self.suspects();
        let blame = |context| suspects.blame(context);
        let lost = std::mem::take(&mut self.made);
        effects.extend(
            lost.iter()
                .map(|context| Effect::Context(*context, ContextEvent::Lost { blame: blame(*context) })),
        );
        for (_, pending) in &mut self.pending {
            // Its context has just been told, and may be about to begin anew.
            if let Meaning::ContextCreated(context) | Meaning::Replayed(context) = pending.meaning {
                pending.meaning = Meaning::Counted(context);
            }
        }
        self.lost.extend(lost);
        self.refuse_void(effects);
    }

    fn returned(&mut self, cookie: u32, slice: DmaSlice, written: u32, effects: &mut Vec<Effect>) {
        let Some(pending) = self.forget(cookie) else { return };
        self.answered = self.answered.max(pending.ticket);
        let outcome = outcome(&pending, &slice, written);
        if outcome.is_err() {
            self.report.errors += 1;
        }
        if pending.expired {
            return;
        }
        match (outcome, pending.meaning) {
            (Ok(()), Meaning::ContextDestroyed(context)) => self.departing.push(context),
            (Ok(()), _) => succeed(&pending, &slice, written, effects),
            (Err(errno), meaning) => self.fail(meaning, errno, effects),
        }
    }

    fn lost(&mut self, cookie: u32, effects: &mut Vec<Effect>) {
        let Some(pending) = self.forget(cookie) else { return };
        self.report.lost += 1;
        // A resource that was on its way out has still to leave the next device, which is told of it.
        if !pending.expired && !matches!(pending.meaning, Meaning::Unreferenced(_)) {
            self.fail(pending.meaning, Errno::EIO, effects);
        }
    }

    fn forget(&mut self, cookie: u32) -> Option<Pending> {
        let pending = self.pending.try_remove(cookie as usize)?;
        self.fences -= usize::from(pending.fenced);
        Some(pending)
    }
}

/// What the answer's header says, every value of it the device's word only.
fn outcome(pending: &Pending, slice: &DmaSlice, written: u32) -> Result<(), Errno> {
    let header =
        read::<ControlHeader, HEADER_BYTES>(slice, pending.response.0 as usize, written).ok_or(Errno::EIO)?;
    let expected = match pending.meaning {
        Meaning::CapsetInfo(_) => Code::OK_CAPSET_INFO,
        Meaning::Capset(..) => Code::OK_CAPSET,
        Meaning::Displays => Code::OK_DISPLAY_INFO,
        Meaning::Edid(_) => Code::OK_EDID,
        _ => Code::OK_NO_DATA,
    };
    if header.code != expected {
        return Err(errno_of(header.code));
    }
    // An answer without the fence's mark came before the command's effects: nobody knows when those come.
    if pending.fenced && header.flags & CONTROL_FLAG_FENCE == 0 {
        return Err(Errno::EIO);
    }
    Ok(())
}

fn succeed(pending: &Pending, slice: &DmaSlice, written: u32, effects: &mut Vec<Effect>) {
    let body = pending.response.0 as usize + HEADER_BYTES;
    // What lies behind the bytes that the device wrote is left from an earlier holder of the slice.
    let written = written.saturating_sub(to_u32(HEADER_BYTES));
    effects.push(match pending.meaning {
        Meaning::Nothing
        | Meaning::Counted(_)
        | Meaning::ContextCreated(_)
        | Meaning::ContextDestroyed(_)
        | Meaning::ResourceMade(_) => return,
        Meaning::Work(context, work) => Effect::Context(context, work.event(Ok(()))),
        Meaning::Replayed(context) => Effect::Context(context, ContextEvent::Replayed { result: Ok(()) }),
        Meaning::Unreferenced(resource) => Effect::Resource(ResourceEvent::Unreferenced { resource }),
        Meaning::CapsetInfo(token) => {
            let info = read::<OkCapsetInfo, { size_of::<OkCapsetInfo>() }>(slice, body, written);
            let result = info.ok_or(Errno::EIO).map(|info| CapsetInfo {
                id: info.capset_id,
                max_version: info.capset_max_version,
                max_size: info.capset_max_size,
            });
            Effect::Resource(ResourceEvent::CapsetInfo { token, result })
        }
        Meaning::Capset(token, size) => {
            let mut bytes = vec![0; size.min(written) as usize];
            let result = slice.read(body, &mut bytes).map_err(|_| Errno::EIO).map(|()| bytes);
            Effect::Resource(ResourceEvent::Capset { token, result })
        }
        Meaning::Fetched(token) => Effect::Resource(ResourceEvent::Fetched { token, result: Ok(()) }),
        Meaning::Transferred(token) => Effect::Display(ControlEvent::Transferred { token, result: Ok(()) }),
        Meaning::Flushed(token) => Effect::Display(ControlEvent::Flushed { token, result: Ok(()) }),
        Meaning::Displays => {
            let info = read::<OkDisplayInfo, { size_of::<OkDisplayInfo>() }>(slice, body, written);
            let extent =
                |it: DisplayOne| (it.enabled != 0).then_some((it.rectangle.width, it.rectangle.height));
            let displays = info.ok_or(Errno::EIO).map(|info| info.displays.map(extent).to_vec());
            Effect::Display(ControlEvent::Displays(displays))
        }
        Meaning::Edid(scanout) => {
            let edid = read::<OkEdid, { size_of::<OkEdid>() }>(slice, body, written);
            let result = edid.ok_or(Errno::EIO).map(|it| {
                let length = (it.size as usize).min(it.edid.len());
                it.edid[..length].to_vec()
            });
            Effect::Display(ControlEvent::Edid { scanout, result })
        }
    });
}

/// Copies a structure out, if as much was written.
fn read<T: FromBytes, const BYTES: usize>(slice: &DmaSlice, offset: usize, written: u32) -> Option<T> {
    let mut bytes = [0; BYTES];
    if (written as usize) < BYTES {
        return None;
    }
    slice.read(offset, &mut bytes).ok()?;
    T::read_from_bytes(&bytes).ok()
}

const _: () = {
    // The codes that `outcome` expects are those of the commands' own types.
    assert!(<OkCapsetInfo as Response>::CODE.0 == Code::OK_CAPSET_INFO.0);
};
