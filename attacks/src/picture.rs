//! A small texture or buffer, the memory behind it, and the command streams that touch a texture without drawing.

use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::io::{pread, pwrite};
use virgld_protocol::channel::{Mapped, SERVICE_MAP};
use virgld_protocol::client::{
    Execbuffer, Map, PrimeFdToHandle, ResourceCreate, ResourceInfo, TransferFromHost, TransferToHost, Wait,
};
use zerocopy::{FromBytes, IntoBytes};

use crate::wire::{Client, Failed, Outcome};

/// Texels of a side.
pub(crate) const SIDE: u32 = 32;
/// Bytes of a picture.
pub(crate) const BYTES: usize = (SIDE * SIDE * 4) as usize;
/// What is in a picture's memory before the device writes there.
pub(crate) const UNTOUCHED: u8 = 0x5a;
/// `VIRGL_BIND_SHARED`.
pub(crate) const SHARED: u32 = 1 << 20;

/// A texture of 32 by 32 texels, or a buffer of as many bytes.
pub(crate) struct Picture {
    pub(crate) handle: u32,
    /// Texels, or bytes, in a row, and how many rows.
    extent: (u32, u32),
    /// As command streams name it.
    pub(crate) resource: u32,
    /// As MAP gave it.
    pub(crate) offset: u64,
    memory: OwnedFd,
    place: u64,
}

impl Picture {
    /// Makes a texture, empty.
    pub(crate) fn new(client: &mut Client, bind: u32) -> Outcome<Self> {
        const TEXTURE_2D: u32 = 2;
        const BGRA: u32 = 1;
        const RENDER_TARGET_AND_SAMPLER: u32 = 1 << 1 | 1 << 3;
        let asked = ResourceCreate {
            target: TEXTURE_2D,
            format: BGRA,
            bind: bind | RENDER_TARGET_AND_SAMPLER,
            stride: SIDE * 4,
            ..ResourceCreate::default()
        };
        Self::make(client, asked, (SIDE, SIDE))
    }

    /// Makes a buffer for whatever shaders do with buffers.
    pub(crate) fn buffer(client: &mut Client) -> Outcome<Self> {
        const FOR_SHADERS: u32 = 1 << 14;
        Self::bytes(client, FOR_SHADERS)
    }

    /// Makes a buffer for what the device writes of its own accord: the results of queries.
    pub(crate) fn results(client: &mut Client) -> Outcome<Self> {
        const CUSTOM: u32 = 1 << 17;
        Self::bytes(client, CUSTOM)
    }

    fn bytes(client: &mut Client, bind: u32) -> Outcome<Self> {
        const BYTE: u32 = 64;
        let asked = ResourceCreate { format: BYTE, bind, ..ResourceCreate::default() };
        Self::make(client, asked, (SIDE * SIDE * 4, 1))
    }

    /// What another file has passed to this one.
    pub(crate) fn imported(client: &mut Client, descriptor: BorrowedFd<'_>) -> Outcome<Self> {
        let asked = PrimeFdToHandle { handle: 0, flags: 0, fd: 0 };
        let (PrimeFdToHandle { handle, .. }, _) = client.ioctl_with(&asked, &[], &[descriptor])?;
        let info = ResourceInfo { bo_handle: handle, ..ResourceInfo::default() };
        let resource = client.ioctl(&info, &[])?.res_handle;
        let (memory, place, offset) = map(client, handle)?;
        Ok(Self { handle, extent: (SIDE, SIDE), resource, offset, memory, place })
    }

    fn make(client: &mut Client, asked: ResourceCreate, extent: (u32, u32)) -> Outcome<Self> {
        let (width, height) = extent;
        let size = SIDE * SIDE * 4;
        let asked = ResourceCreate { width, height, depth: 1, array_size: 1, size, ..asked };
        let made = client.ioctl(&asked, &[])?;
        let (memory, place, offset) = map(client, made.bo_handle)?;
        Ok(Self { handle: made.bo_handle, extent, resource: made.res_handle, offset, memory, place })
    }

    /// Takes note that its memory is elsewhere.
    pub(crate) fn remap(&mut self, (memory, place, offset): (OwnedFd, u64, u64)) {
        (self.memory, self.place, self.offset) = (memory, place, offset);
    }

    /// Puts texels into its memory.
    pub(crate) fn write(&self, texels: &[u8]) -> Outcome<()> {
        pwrite(&self.memory, texels, self.place)?;
        Ok(())
    }

    /// What is in its memory.
    pub(crate) fn read(&self) -> Outcome<Vec<u8>> {
        let mut texels = vec![0; BYTES];
        pread(&self.memory, &mut texels, self.place)?;
        Ok(texels)
    }

    /// Puts texels into the texture.
    pub(crate) fn upload(&self, client: &mut Client, texels: &[u8]) -> Outcome<()> {
        self.write(texels)?;
        let ((w, h), d) = (self.extent, 1);
        let transfer = TransferToHost { bo_handle: self.handle, w, h, d, ..Default::default() };
        client.ioctl(&transfer, &[])?;
        wait(client, self.handle)
    }

    /// What is in the texture.
    pub(crate) fn download(&self, client: &mut Client) -> Outcome<Vec<u8>> {
        self.write(&[UNTOUCHED; BYTES])?;
        let ((w, h), d) = (self.extent, 1);
        let transfer = TransferFromHost { bo_handle: self.handle, w, h, d, ..Default::default() };
        client.ioctl(&transfer, &[])?;
        wait(client, self.handle)?;
        self.read()
    }
}

/// Asks for the memory behind a handle: descriptor, place in it, and the offset for `mmap`.
pub(crate) fn map(client: &mut Client, handle: u32) -> Outcome<(OwnedFd, u64, u64)> {
    let offset = client.ioctl(&Map { handle, ..Map::default() }, &[])?.offset;
    let (memory, mapped) = map_offset(client, offset, BYTES as u64)?;
    Ok((memory, mapped.offset, offset))
}

/// Asks for the memory at an offset.
pub(crate) fn map_offset(client: &mut Client, offset: u64, length: u64) -> Outcome<(OwnedFd, Mapped)> {
    let reply = client.service(SERVICE_MAP, [offset, length].as_bytes(), &[])?;
    let (mapped, _) = Mapped::read_from_prefix(&reply.bytes)
        .map_err(|_| Failed::Setup("the answer to a map is too short".into()))?;
    let memory = reply.descriptors.into_iter().next();
    Ok((memory.ok_or(Failed::Setup("no descriptor came".into()))?, mapped))
}

/// Waits until a buffer is idle.
pub(crate) fn wait(client: &mut Client, handle: u32) -> Outcome<()> {
    client.ioctl(&Wait { handle, flags: 0 }, &[]).map(drop)
}

/// Submits a stream that uses a buffer of the client's own, and waits for it.
pub(crate) fn submit(client: &mut Client, stream: &[u32], own: u32) -> Outcome<()> {
    let size = u32::try_from(size_of_val(stream)).unwrap_or(u32::MAX);
    let fixed = Execbuffer { size, num_bo_handles: 1, fence_fd: -1, ..Execbuffer::default() };
    // In the order of the table: the stream, then the handles.
    client.ioctl(&fixed, &[stream.as_bytes(), [own].as_bytes()])?;
    wait(client, own)
}

/// RESOURCE_COPY_REGION.
pub(crate) fn copy(from: u32, to: u32) -> Vec<u32> {
    vec![17 | 13 << 16, to, 0, 0, 0, 0, from, 0, 0, 0, 0, SIDE, SIDE, 1]
}

/// RESOURCE_INLINE_WRITE of one row.
pub(crate) fn inline_write(to: u32, texel: u32) -> Vec<u32> {
    let mut stream = vec![9 | (11 + SIDE) << 16, to, 0, 0, SIDE * 4, 0, 0, 0, 0, SIDE, 1, 1];
    stream.extend(std::iter::repeat_n(texel, SIDE as usize));
    stream
}

/// A surface of the texture, made the framebuffer and cleared.
pub(crate) fn clear(target: u32, surface: u32) -> Vec<u32> {
    const COLOUR: u32 = 1 << 2;
    let (red, one) = (1.0_f32.to_bits(), 1.0_f32.to_bits());
    let create = [1 | 8 << 8 | 5 << 16, surface, target, 1, 0, 0];
    let bind = [5 | 3 << 16, 1, 0, surface];
    let clear = [7 | 8 << 16, COLOUR, red, 0, 0, one, 0, 0, 0];
    [&create[..], &bind[..], &clear[..]].concat()
}

/// TRANSFER3D, which the host executes like the ioctl.
pub(crate) fn transfer(resource: u32, to_host: bool) -> Vec<u32> {
    let direction = if to_host { 1 } else { 2 };
    vec![43 | 13 << 16, resource, 0, 0, 0, 0, 0, 0, 0, SIDE, SIDE, 1, 0, direction]
}
