//! A small texture, the memory behind it, and the command streams that touch one.

use std::os::fd::OwnedFd;

use rustix::io::{pread, pwrite};
use virgld_protocol::channel::{Mapped, SERVICE_MAP};
use virgld_protocol::client::{Execbuffer, Map, ResourceCreate, TransferFromHost, TransferToHost, Wait};
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

/// A texture of 32 by 32 texels.
pub(crate) struct Picture {
    pub(crate) handle: u32,
    /// As command streams name it.
    pub(crate) resource: u32,
    /// As MAP gave it.
    pub(crate) offset: u64,
    memory: OwnedFd,
    place: u64,
}

impl Picture {
    /// Makes one, empty.
    pub(crate) fn new(client: &mut Client, bind: u32) -> Outcome<Self> {
        const TEXTURE_2D: u32 = 2;
        const BGRA: u32 = 1;
        const RENDER_TARGET_AND_SAMPLER: u32 = 1 << 1 | 1 << 3;
        let made = client.ioctl(
            &ResourceCreate {
                target: TEXTURE_2D,
                format: BGRA,
                bind: bind | RENDER_TARGET_AND_SAMPLER,
                width: SIDE,
                height: SIDE,
                depth: 1,
                array_size: 1,
                size: SIDE * SIDE * 4,
                stride: SIDE * 4,
                ..ResourceCreate::default()
            },
            &[],
        )?;
        let (memory, place, offset) = map(client, made.bo_handle)?;
        Ok(Self { handle: made.bo_handle, resource: made.res_handle, offset, memory, place })
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
        let (w, h, d) = (SIDE, SIDE, 1);
        let transfer = TransferToHost { bo_handle: self.handle, w, h, d, ..Default::default() };
        client.ioctl(&transfer, &[])?;
        wait(client, self.handle)
    }

    /// What is in the texture.
    pub(crate) fn download(&self, client: &mut Client) -> Outcome<Vec<u8>> {
        self.write(&[UNTOUCHED; BYTES])?;
        let (w, h, d) = (SIDE, SIDE, 1);
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

/// A shader of this kind and text, made and bound.
pub(crate) fn shader(handle: u32, kind: u32, text: &str) -> Vec<u32> {
    const SHADER: u32 = 4;
    /// How many tokens a shader has at most.
    const TOKENS: u32 = 1 << 16;
    let mut bytes = text.as_bytes().to_vec();
    bytes.push(0);
    let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    let words = bytes.chunks_exact(4).map(|it| u32::from_le_bytes([it[0], it[1], it[2], it[3]]));
    let words: Vec<u32> = words.collect();
    let size = u32::try_from(words.len()).unwrap_or(u32::MAX);
    let create = [1 | SHADER << 8 | (5 + size) << 16, handle, kind, length, TOKENS, 0];
    [&create[..], &words, &[31 | 2 << 16, handle, kind]].concat()
}

/// TRANSFER3D, which the host executes like the ioctl.
pub(crate) fn transfer(resource: u32, to_host: bool) -> Vec<u32> {
    let direction = if to_host { 1 } else { 2 };
    vec![43 | 13 << 16, resource, 0, 0, 0, 0, 0, 0, 0, SIDE, SIDE, 1, 0, direction]
}
