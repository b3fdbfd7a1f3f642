//! The DRM ioctls: which of them must ask, and what is learned from the answers.

use std::mem::offset_of;

use virgld_protocol::channel::KIND_IOCTL;
use virgld_protocol::client::kms::{Atomic, CreateDumb, DestroyDumb, GetFb};
use virgld_protocol::client::{
    Execbuffer, GemClose, Ioctl, Map, PrimeFdToHandle, PrimeHandleToFd, ResourceCreate, ResourceCreateBlob,
    TransferFromHost, TransferToHost, Wait, layout_of,
};
use virgld_protocol::errno::Errno;

use crate::channel::Channel;
use crate::errno::Outcome;
use crate::marshal::{Argument, Shape};
use crate::ring::Heading;
use crate::{atomic, create, execbuffer, sys};

/// Makes the ioctl `number` with the structure at `address`.
///
/// # Safety
///
/// As [`Argument::take`] demands.
pub(crate) unsafe fn ioctl(channel: &Channel, number: u8, address: *mut u8, shape: Shape) -> Outcome<()> {
    let layout = layout_of(number).ok_or(Errno::EINVAL)?;
    // SAFETY: the caller's promise.
    let mut argument = unsafe { Argument::take(layout, address, shape)? };
    const CREATE: u8 = ResourceCreate::TABLE.number;
    const MAP: u8 = Map::TABLE.number;
    const EXECBUFFER: u8 = Execbuffer::TABLE.number;
    const TO_HOST: u8 = TransferToHost::TABLE.number;
    const FROM_HOST: u8 = TransferFromHost::TABLE.number;
    const WAIT: u8 = Wait::TABLE.number;
    const CLOSE: u8 = GemClose::TABLE.number;
    const DESTROY: u8 = DestroyDumb::TABLE.number;
    const ATOMIC: u8 = Atomic::TABLE.number;
    // These write nothing, or see to it themselves, and come too often to be looked at in vain.
    if !matches!(number, EXECBUFFER | TO_HOST | FROM_HOST | WAIT) {
        argument.check_return()?;
    }
    match number {
        CREATE => create::create(channel, &mut argument),
        MAP => create::map(channel, &mut argument),
        EXECBUFFER => execbuffer::submit(channel, &mut argument),
        TO_HOST | FROM_HOST => transfer(channel, number, &argument),
        WAIT => wait(channel, &mut argument),
        CLOSE => close(channel, &mut argument),
        DESTROY => destroy(channel, &mut argument),
        ATOMIC => atomic::commit(channel, &mut argument),
        _ => ask(channel, number, &mut argument),
    }
}

/// Asks the daemon and learns from the answer.
pub(crate) fn ask(channel: &Channel, number: u8, argument: &mut Argument) -> Outcome<()> {
    let layout = layout_of(number).ok_or(Errno::EINVAL)?;
    let sent = layout.fd_in.map(|offset| argument.descriptor(offset));
    if number == PrimeHandleToFd::TABLE.number {
        // Before anybody else can have it.
        let handle = argument.wire(offset_of!(PrimeHandleToFd, handle));
        if let Some(known) = channel.writer().ring.handles.find(handle) {
            known.shared = true;
        }
    }
    let mut answer = channel.call(KIND_IOCTL, number, &argument.parts()?, sent.as_slice())?;
    let descriptor = match layout.fd_out {
        Some(_) => Some(hand_out(answer.descriptor()?.release(), closes_on_exec(number, argument))),
        None => None,
    };
    argument.put(&answer, descriptor)?;
    let (created, imported) = match number {
        number if number == ResourceCreateBlob::TABLE.number => {
            (offset_of!(ResourceCreateBlob, bo_handle), false)
        }
        number if number == CreateDumb::TABLE.number => (offset_of!(CreateDumb, handle), false),
        // A second handle of a buffer that somebody else may use.
        number if number == GetFb::TABLE.number => (offset_of!(GetFb, handle), true),
        number if number == PrimeFdToHandle::TABLE.number => (offset_of!(PrimeFdToHandle, handle), true),
        _ => return Ok(()),
    };
    channel.writer().ring.handles.learn(argument.wire(created), imported);
    Ok(())
}

/// A transfer is asynchronous, and on a buffer that this process knows there is nothing to refuse.
fn transfer(channel: &Channel, number: u8, argument: &Argument) -> Outcome<()> {
    let handle = argument.wire(offset_of!(TransferToHost, bo_handle));
    let strides = argument.wire(offset_of!(TransferToHost, stride))
        | argument.wire(offset_of!(TransferToHost, layer_stride));
    let mut writer = channel.writer();
    if strides == 0 && writer.ring.handles.find(handle).is_some() {
        let serial = writer.post(Heading::silent(number, 0), &argument.parts()?, &[])?;
        writer.ring.handles.used(handle, serial);
        return Ok(());
    }
    drop(writer);
    channel.call_using(number, &argument.parts()?, &[], &[handle]).map(drop)
}

/// Whether a buffer is idle can be seen in the channel's memory if nobody but this process can have used it.
fn wait(channel: &Channel, argument: &mut Argument) -> Outcome<()> {
    let handle = argument.wire(offset_of!(Wait, handle));
    let only_ask = argument.wire(offset_of!(Wait, flags)) & NOWAIT != 0;
    if let Some(known) = channel.writer().ring.handles.find(handle) {
        let retired = channel.retired() >= known.last_use;
        if retired && !known.shared && !channel.is_shared() {
            known.found_busy = 0;
            return Ok(());
        }
        // Now and then the daemon is asked, which also finds out whether it is still there.
        if channel.is_gone() {
            return Err(Errno::EIO);
        }
        if only_ask && !retired && known.found_busy < BUSY_IN_A_ROW {
            known.found_busy += 1;
            return Err(Errno::EBUSY);
        }
        known.found_busy = 0;
    }
    ask(channel, Wait::TABLE.number, argument)
}

fn close(channel: &Channel, argument: &mut Argument) -> Outcome<()> {
    let mut writer = channel.writer();
    if writer.ring.handles.forget(argument.wire(offset_of!(GemClose, handle))) {
        return writer.post(Heading::silent(GemClose::TABLE.number, 0), &argument.parts()?, &[]).map(drop);
    }
    drop(writer);
    ask(channel, GemClose::TABLE.number, argument)
}

/// As [`close`], of a dumb buffer. A program may wait for the room that it gives back, so it is asked.
fn destroy(channel: &Channel, argument: &mut Argument) -> Outcome<()> {
    channel.writer().ring.handles.forget(argument.wire(offset_of!(DestroyDumb, handle)));
    ask(channel, DestroyDumb::TABLE.number, argument)
}

fn closes_on_exec(number: u8, argument: &Argument) -> bool {
    // PRIME leaves it to the program; all others set it.
    number != PrimeHandleToFd::TABLE.number
        || argument.wire(offset_of!(PrimeHandleToFd, flags)) & CLOEXEC != 0
}

/// Gives a descriptor to the program under the lowest free number.
fn hand_out(fd: i32, close_on_exec: bool) -> i32 {
    let given = match sys::duplicate_above(fd, 0) {
        Ok(low) => {
            sys::close(fd);
            low
        }
        Err(_) => fd,
    };
    if !close_on_exec {
        sys::set_close_on_exec(given, false);
    }
    given
}

const NOWAIT: u32 = 1;
const CLOEXEC: u32 = libc::O_CLOEXEC.cast_unsigned();
const BUSY_IN_A_ROW: u32 = 256;
