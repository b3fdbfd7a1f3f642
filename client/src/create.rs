//! RESOURCE_CREATE, and MAP of what it made.

use std::mem::offset_of;

use virgld_protocol::channel::{Answer, KIND_IOCTL};
use virgld_protocol::client::{GemClose, Ioctl, Map, ResourceCreate};
use virgld_protocol::errno::Errno;
use zerocopy::{FromBytes, FromZeros, IntoBytes};

use crate::channel::{Answered, Channel, Writer};
use crate::drm;
use crate::errno::Outcome;
use crate::marshal::Argument;
use crate::ring::{Heading, Part};

/// Makes a buffer: one that was called for in advance, or else the daemon is asked.
pub(crate) fn create(channel: &Channel, argument: &mut Argument) -> Outcome<()> {
    // Nobody reads them, and they would make many kinds of what is one.
    argument.set_wire(offset_of!(ResourceCreate, bo_handle), 0);
    argument.set_wire(offset_of!(ResourceCreate, res_handle), 0);
    let what = ResourceCreate::read_from_bytes(argument.fixed()).map_err(|_| Errno::EINVAL)?;
    if what.bind & SHAREABLE != 0 {
        // Memory of its own for each is too dear to be made in vain.
        return ask(channel, argument);
    }
    let mut writer = channel.writer();
    tidy(channel, &mut writer);
    let in_stock = writer.ring.stock.take(&what);
    // Whether more could be called for is of no concern to this call: it has its buffer, or one in stock. Should the daemon
    // be gone, the next that asks it hears of that.
    let refill = |writer: &mut Writer<'_>| {
        for _ in 0..writer.ring.stock.lacking(&what) {
            let begun = channel.begin(writer, KIND_IOCTL, NUMBER, &[Part::own(what.as_bytes())]);
            let Ok(Some(pledge)) = begun else { break };
            writer.ring.stock.add(&what, pledge);
        }
    };
    let Some(pledge) = in_stock else {
        drop(writer);
        ask(channel, argument)?;
        refill(&mut channel.writer());
        return Ok(());
    };
    refill(&mut writer);
    drop(writer);
    match channel.finish(&pledge) {
        Ok(answer) => settle(channel, argument, &answer),
        Err(_) => {
            // It was refused a while ago: perhaps it would not be now.
            channel.writer().ring.stock.give_up(&what);
            ask(channel, argument)
        }
    }
}

fn ask(channel: &Channel, argument: &mut Argument) -> Outcome<()> {
    let answer = channel.call(KIND_IOCTL, NUMBER, &argument.parts()?, &[])?;
    settle(channel, argument, &answer)
}

/// The program has a buffer.
fn settle(channel: &Channel, argument: &mut Argument, answer: &Answered<'_>) -> Outcome<()> {
    argument.put(answer, None)?;
    let made = ResourceCreate::read_from_bytes(argument.fixed()).map_err(|_| Errno::EIO)?;
    let mut writer = channel.writer();
    writer.ring.handles.learn(made.bo_handle, false);
    if let Some(known) = writer.ring.handles.find(made.bo_handle) {
        known.offset = made.offset;
    }
    Ok(())
}

/// Closes buffers that were called for in vain. One of which the daemon cannot be told goes with the file.
fn tidy(channel: &Channel, writer: &mut Writer<'_>) {
    for pledge in writer.ring.stock.discard(|pledge| channel.is_answered(pledge)) {
        let Ok(answer) = channel.finish(&pledge) else { continue };
        let mut made = ResourceCreate::new_zeroed();
        if answer.read(size_of::<Answer>(), made.as_mut_bytes()).is_err() {
            continue;
        }
        let close = GemClose { handle: made.bo_handle, pad: 0 };
        let _ = writer.post(Heading::silent(GemClose::TABLE.number, 0), &[Part::own(close.as_bytes())], &[]);
    }
}

/// Says where to map a buffer. Where that is known, the daemon is told and not asked.
pub(crate) fn map(channel: &Channel, argument: &mut Argument) -> Outcome<()> {
    let mut writer = channel.writer();
    let known = writer.ring.handles.find(argument.wire(offset_of!(Map, handle)));
    let place = known.filter(|known| !known.shared && known.offset != 0).map(|known| known.offset);
    let Some(offset) = place.filter(|_| !channel.is_shared()) else {
        drop(writer);
        return drm::ask(channel, Map::TABLE.number, argument);
    };
    writer.post(Heading::silent(Map::TABLE.number, 0), &argument.parts()?, &[])?;
    argument.set_wire_64(offset_of!(Map, offset), offset);
    argument.put_fixed()
}

const NUMBER: u8 = ResourceCreate::TABLE.number;
/// `VIRGL_BIND_SCANOUT` and `VIRGL_BIND_SHARED`.
const SHAREABLE: u32 = 1 << 18 | 1 << 20;
