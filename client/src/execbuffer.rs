//! EXECBUFFER: without waiting wherever nobody could tell the difference.

use virgld_protocol::client::{Execbuffer, ExecbufferFlags, ExecbufferSyncobj, Ioctl};
use virgld_protocol::errno::Errno;
use zerocopy::IntoBytes;

use crate::channel::Channel;
use crate::errno::Outcome;
use crate::fences::{restock, writer_with_fence};
use crate::marshal::{Argument, MAX_PARTS};
use crate::ring::{Heading, Part};

/// Submits. A stream on buffers that this process knows needs no answer: nothing that could be refused would
/// help the program (Mesa drops the commands), and a fence that it wants is there in advance.
pub(crate) fn submit(channel: &Channel, argument: &mut Argument) -> Outcome<()> {
    let flags = ExecbufferFlags::from_bits(argument.field(FLAGS)).ok_or(Errno::EINVAL)?;
    if argument.field(SIZE) as usize > channel.largest_bulk {
        return Err(Errno::ENOMEM);
    }
    let fence_in = flags.contains(ExecbufferFlags::FENCE_FD_IN).then(|| argument.descriptor(FENCE_FD));
    let descriptors = fence_in.as_slice();
    let mut syncobjs = [repack(argument, 2)?, repack(argument, 3)?];
    let silent = syncobjs.iter().all(Vec::is_empty);
    if !silent {
        let stride = u32::try_from(size_of::<ExecbufferSyncobj>()).unwrap_or(0);
        argument.set_wire(WIRE_STRIDE, stride);
        let [waits, signals] = &mut syncobjs;
        argument.set_array(2, waits);
        argument.set_array(3, signals);
    }
    let (mut writer, fence_out) = match flags.contains(ExecbufferFlags::FENCE_FD_OUT) {
        true => {
            argument.check_return()?;
            let (writer, token, fence) = writer_with_fence(channel)?;
            argument.set_wire(WIRE_FENCE_FD, token);
            (writer, Some((token, fence)))
        }
        false => {
            argument.set_wire(WIRE_FENCE_FD, u32::MAX);
            (channel.writer(), None)
        }
    };
    let mut handles = std::mem::take(&mut writer.ring.named);
    let parts = match name(argument, &mut handles) {
        Ok(parts) => parts,
        Err(errno) => {
            // Nobody has seen the fence.
            if let Some((token, fence)) = fence_out {
                writer.ring.fences.put_back(token, fence);
            }
            return Err(errno);
        }
    };
    let number = Execbuffer::TABLE.number;
    let known = handles.iter().all(|handle| writer.ring.handles.find(*handle).is_some());
    if silent && known {
        let heading = Heading::silent(number, descriptors.len());
        let serial = writer.post(heading, &parts, descriptors)?;
        handles.iter().for_each(|handle| writer.ring.handles.used(*handle, serial));
        writer.ring.named = handles;
        if fence_out.is_some() {
            restock(channel, &mut writer);
        }
    } else {
        drop(writer);
        channel.call_using(number, &parts, descriptors, &handles)?;
    }
    if let Some((_, fence)) = fence_out {
        argument.put_field(FENCE_FD, fence.release().cast_unsigned());
    }
    Ok(())
}

/// Copies the handles that the call names, and makes the call's payload of these copies.
fn name(argument: &mut Argument, handles: &mut Vec<u32>) -> Outcome<[Part; MAX_PARTS]> {
    handles.clear();
    handles.resize(argument.length(1) / size_of::<u32>(), 0);
    argument.copy_array(1, 0, handles.as_mut_bytes())?;
    argument.set_array(1, handles.as_mut_bytes());
    argument.parts()
}

/// A list of synchronisation objects with the stride that the wire has. The C structure says how far apart the
/// program's are; what is missing of one is zero.
fn repack(argument: &Argument, index: usize) -> Outcome<Vec<u8>> {
    const ELEMENT: usize = size_of::<ExecbufferSyncobj>();
    let stride = argument.field(SYNCOBJ_STRIDE) as usize;
    let mut packed = vec![0; argument.length(index)];
    for (number, element) in packed.chunks_exact_mut(ELEMENT).enumerate() {
        argument.copy_array(index, number * stride, &mut element[..stride.min(ELEMENT)])?;
    }
    Ok(packed)
}

// Offsets in the C structure.
const FLAGS: usize = 0;
const SIZE: usize = 4;
const FENCE_FD: usize = 28;
const SYNCOBJ_STRIDE: usize = 36;
// Offsets on the wire.
const WIRE_FENCE_FD: usize = std::mem::offset_of!(Execbuffer, fence_fd);
const WIRE_STRIDE: usize = std::mem::offset_of!(Execbuffer, syncobj_stride);
