//! Clients that work without end in one way, until they are killed.

use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::pipe::pipe;
use virgld_protocol::channel::{Attachment, Hello, KIND_IOCTL, MAGIC, NO_SLOT, RING_OFFSET, Record, VERSION};
use virgld_protocol::client::kms::{
    AddFb2, CreateDumb, CreatePropBlob, Cursor2, CursorFlags, DirtyFb, PageFlip, RmFb, WaitVblank,
};
use virgld_protocol::client::{
    Execbuffer, GemClose, Ioctl, PrimeFdToHandle, PrimeHandleToFd, ResourceCreate, SyncobjCreate,
    SyncobjFdToHandle, SyncobjHandleToFd, SyncobjTimelineWait, SyncobjTransfer, SyncobjWait,
    TransferFromHost, TransferToHost, Wait, is_asynchronous, layout_of,
};
use zerocopy::IntoBytes;

use super::Noise;
use super::screens::{self, Screen};
use super::sharing::export;
use crate::picture::{BYTES, Picture, SHARED, clear, copy, submit};
use crate::wire::{Door, Failed, Outcome, send};

pub(super) const HALF_A_RECORD: &str = "half a record";
pub(super) const DESCRIPTORS: &str = "descriptors on the way";
pub(super) const ALL_SLOTS: &str = "all slots waiting";
pub(super) const BEHIND_A_FENCE: &str = "a fence that others hold";
pub(super) const OWN_SOCKETS: &str = "its own sockets on the way";
pub(super) const ONE_RUDE_WORD: &str = "one rude word";
pub(super) const GREETING: &str = "half a greeting";

/// Plays a role: the number of an ioctl, or one of the above, or everything. It says a line when it has begun, and is killed;
/// whatever ends it before is seen by who waits for that.
pub(crate) fn play(door: &Door, role: &str, seed: u64) -> Outcome<()> {
    let mut noise = Noise(seed);
    match role {
        HALF_A_RECORD => half_a_record(door, &mut noise),
        DESCRIPTORS => descriptors(door),
        ALL_SLOTS => all_slots(door, None),
        BEHIND_A_FENCE => all_slots(door, Some(std::io::stdin().as_fd())),
        OWN_SOCKETS => own_sockets(door),
        GREETING => greeting(door),
        // This one ends by itself.
        ONE_RUDE_WORD => super::exhaustion::rude(door),
        "everything" => everything(door),
        number => match number.parse() {
            Ok(number) => one_ioctl(door, number, &mut noise),
            Err(_) => Err(Failed::Setup(format!("there is no role {role}"))),
        },
    }
}

fn begin() {
    println!("begun");
    let _ = std::io::stdout().flush();
}

fn everything(door: &Door) -> Outcome<()> {
    begin();
    loop {
        let mut client = door.open()?;
        for bind in [0, SHARED] {
            let own = Picture::new(&mut client, bind)?;
            own.upload(&mut client, &vec![1; BYTES])?;
            submit(&mut client, &copy(own.resource, own.resource), own.handle)?;
            submit(&mut client, &clear(own.resource, 1), own.handle)?;
            own.download(&mut client)?;
        }
    }
}

/// What calls can be made with.
struct Tools {
    screen: Screen,
    texture: Picture,
    /// Nobody ever signals it.
    syncobj: u32,
    dmabuf: OwnedFd,
    object: OwnedFd,
    /// A fence that never signals, and what would signal it.
    fence: (OwnedFd, OwnedFd),
}

impl Tools {
    fn new(door: &Door) -> Outcome<Self> {
        let mut screen = Screen::new(door, 0x70)?;
        screen.show()?;
        let client = &mut screen.client;
        let texture = Picture::new(client, SHARED)?;
        let dmabuf = export(client, texture.handle)?;
        let syncobj = client.ioctl(&SyncobjCreate::default(), &[])?.handle;
        let asked = SyncobjHandleToFd { handle: syncobj, fd: -1, ..Default::default() };
        let (_, given) = client.ioctl_with(&asked, &[], &[])?;
        let object = given.into_iter().next().ok_or(Failed::CutOff)?;
        Ok(Self { screen, texture, syncobj, dmabuf, object, fence: pipe()? })
    }

    /// A call that makes sense, for those that do much or wait.
    fn sound(&self, number: u8, noise: &mut Noise) -> Option<Vec<u8>> {
        let (crtc_id, fb_id, connector) = (self.screen.crtc, self.screen.framebuffer, self.screen.connector);
        let (texture, syncobj) = (self.texture.handle, self.syncobj);
        let (w, h, d) = (32, 32, 1);
        const FOR_SUBMIT: u32 = 2;
        Some(match number {
            0x09 => bytes(&GemClose { handle: texture + noise.below(3), pad: 0 }, &[]),
            0x2d => bytes(&PrimeHandleToFd { handle: texture, flags: 2, fd: -1 }, &[]),
            0x2e => bytes(&PrimeFdToHandle { handle: 0, flags: 0, fd: -1 }, &[]),
            0x3a => bytes(&WaitVblank { flags: 1, sequence: noise.below(90), ..WaitVblank::default() }, &[]),
            0x42 => self.submit(noise.below(2) == 0),
            0x44 => {
                let bind = 1 << 1 | 1 << 3 | if noise.below(2) == 0 { SHARED } else { 0 };
                let (width, height) = (1 + noise.below(64), 1 + noise.below(64));
                let size = 64 * 64 * 4;
                let made =
                    ResourceCreate { target: 2, format: 1, bind, width, height, size, ..Default::default() };
                bytes(&ResourceCreate { depth: 1, array_size: 1, ..made }, &[])
            }
            0x46 => bytes(&TransferFromHost { bo_handle: texture, w, h, d, ..Default::default() }, &[]),
            0x47 => bytes(&TransferToHost { bo_handle: texture, w, h, d, ..Default::default() }, &[]),
            0x48 => bytes(&Wait { handle: texture, flags: 0 }, &[]),
            0xa2 => bytes(&self.screen.mode_set(fb_id), &[connector.as_bytes()]),
            0xaf => bytes(&RmFb { fb_id }, &[]),
            0xb0 => bytes(&PageFlip { crtc_id, fb_id, flags: 1, ..PageFlip::default() }, &[]),
            0xb1 => bytes(&DirtyFb { fb_id, ..DirtyFb::default() }, &[]),
            0xb2 => bytes(&CreateDumb { width: 64, height: 64, bpp: 32, ..CreateDumb::default() }, &[]),
            0xb8 => bytes::<AddFb2>(&screens::of(self.screen.handle), &[]),
            0xbb => {
                let (flags, handle) = (CursorFlags::BO.bits(), self.screen.handle);
                bytes(&Cursor2 { flags, crtc_id, width: 64, height: 64, handle, ..Cursor2::default() }, &[])
            }
            0xbd => bytes(&CreatePropBlob { length: 64, ..Default::default() }, &[&[1; 64]]),
            0xc1 => bytes(&SyncobjHandleToFd { handle: syncobj, fd: -1, ..Default::default() }, &[]),
            0xc2 => bytes(&SyncobjFdToHandle { fd: -1, ..Default::default() }, &[]),
            0xc3 => {
                let count_handles = 1;
                let wait = SyncobjWait {
                    timeout_nsec: i64::MAX,
                    count_handles,
                    flags: FOR_SUBMIT,
                    ..Default::default()
                };
                bytes(&wait, &[syncobj.as_bytes()])
            }
            0xca => {
                let (timeout_nsec, count_handles, flags) = (i64::MAX, 1, FOR_SUBMIT);
                let wait = SyncobjTimelineWait { timeout_nsec, count_handles, flags, ..Default::default() };
                bytes(&wait, &[syncobj.as_bytes(), 7_u64.as_bytes()])
            }
            0xcc => {
                let (src_handle, dst_handle, flags) = (syncobj, syncobj, FOR_SUBMIT);
                bytes(
                    &SyncobjTransfer { src_handle, dst_handle, flags, dst_point: 1, ..Default::default() },
                    &[],
                )
            }
            _ => return None,
        })
    }

    /// A stream, which may wait for a fence that never signals.
    fn submit(&self, waits: bool) -> Vec<u8> {
        let stream = clear(self.texture.resource, 1);
        let size = u32::try_from(stream.len() * 4).unwrap_or(0);
        let asked = Execbuffer {
            flags: waits.into(),
            size,
            num_bo_handles: 1,
            fence_fd: -1,
            ..Execbuffer::default()
        };
        bytes(&asked, &[stream.as_bytes(), self.texture.handle.as_bytes()])
    }

    /// A call of numbers that mean something, if not here.
    fn any(&self, number: u8, noise: &mut Noise) -> Vec<u8> {
        let Some(layout) = layout_of(number) else { return Vec::new() };
        let mut call = self.words(layout.wire, noise);
        for array in layout.arrays {
            let count = u64::from(noise.below(4)).to_le_bytes();
            call[array.wire_count..array.wire_count + array.count_size]
                .copy_from_slice(&count[..array.count_size]);
        }
        for size in layout.array_sizes(&call).unwrap_or_default().into_iter().take(layout.arrays.len()) {
            call.extend(self.words(size, noise));
        }
        call
    }

    fn words(&self, length: usize, noise: &mut Noise) -> Vec<u8> {
        let Screen { handle, framebuffer, crtc, connector, .. } = self.screen;
        let known = [0, 1, 2, 64, 4096, u32::MAX, self.texture.handle, self.syncobj];
        let known = [&known[..], &[handle, framebuffer, crtc, connector]].concat();
        let mut pick = || known[noise.below(12) as usize].to_le_bytes();
        let mut words: Vec<u8> = (0..length.div_ceil(4)).flat_map(|_| pick()).collect();
        words.truncate(length);
        words
    }
}

fn bytes<T: Ioctl>(fixed: &T, arrays: &[&[u8]]) -> Vec<u8> {
    [&[fixed.as_bytes()], arrays].concat().concat()
}

/// One ioctl over and over: with an answer that is waited for, with one that is not, and with none.
fn one_ioctl(door: &Door, number: u8, noise: &mut Noise) -> Outcome<()> {
    let mut tools = Tools::new(door)?;
    begin();
    let mut first = true;
    loop {
        let sound = (first || noise.below(2) == 0).then(|| tools.sound(number, noise)).flatten();
        first = false;
        let payload = sound.unwrap_or_else(|| tools.any(number, noise));
        let with = tools.descriptors(number, &payload, noise)?;
        let with: Vec<BorrowedFd<'_>> = with.iter().map(AsFd::as_fd).collect();
        let client = &mut tools.screen.client;
        let made = match noise.below(4) {
            0 | 1 => client.ask(KIND_IOCTL, number, &payload, &with).map(drop),
            2 if is_asynchronous(number) => client.post(KIND_IOCTL, number, NO_SLOT, &payload, &with),
            // An answer that nobody looks at.
            _ => client.post(KIND_IOCTL, number, 1 + (noise.below(60).to_le_bytes()[0]), &payload, &with),
        };
        if matches!(made, Err(Failed::CutOff)) || tools.screen.client.is_cut_off() {
            tools = Tools::new(door)?;
        }
    }
}

impl Tools {
    /// What goes with the call: what it asks for, or another thing.
    fn descriptors(&self, number: u8, payload: &[u8], noise: &mut Noise) -> Outcome<Vec<OwnedFd>> {
        let takes = layout_of(number).is_some_and(|layout| layout.fd_in.is_some());
        // EXECBUFFER takes one only with the flag for it.
        let wants =
            takes && (number != Execbuffer::TABLE.number || payload.first().is_some_and(|it| it & 1 == 1));
        if !wants {
            return Ok(Vec::new());
        }
        let right = match number {
            0x2e => &self.dmabuf,
            0xc2 => &self.object,
            _ => &self.fence.0,
        };
        let other = [&self.dmabuf, &self.object, &self.fence.0][noise.below(3) as usize];
        Ok(vec![rustix::io::dup(if noise.below(4) > 0 { right } else { other })?])
    }
}

/// The head of a record without its payload, with the tail before it, in the middle of it or behind it.
fn half_a_record(door: &Door, noise: &mut Noise) -> Outcome<()> {
    let mut begun = false;
    loop {
        let mut client = door.open()?;
        let own = Picture::new(&mut client, 0)?;
        own.upload(&mut client, &vec![1; BYTES])?;
        if !begun {
            begin();
            begun = true;
        }
        let serial = client.serial + 1;
        let number = Execbuffer::TABLE.number;
        let head = Record {
            length: 1 << 16,
            kind: KIND_IOCTL,
            number,
            slot: 0,
            serial,
            payload: 60_000,
            ..Record::default()
        };
        let place = RING_OFFSET + usize::try_from(client.tail).unwrap_or(0);
        client.write(place, head.as_bytes())?;
        client.write(place + size_of::<Record>(), &[7; 1000])?;
        client.tail += [0, 32, 1 << 15, 1 << 16][noise.below(4) as usize];
        client.show_tail()?;
        std::thread::sleep(Duration::from_micros(u64::from(noise.below(3000))));
    }
}

/// Descriptors of a buffer, an object and a fence that no record names, and no handle of them any more: what is on the way is
/// all that keeps them.
fn descriptors(door: &Door) -> Outcome<()> {
    let mut tools = Tools::new(door)?;
    begin();
    loop {
        let client = &mut tools.screen.client;
        let made = Picture::new(client, SHARED)?;
        let dmabuf = export(client, made.handle)?;
        let fence = pipe()?;
        // Never the serial of a record.
        let nowhere = Attachment { serial: client.serial + 1000 };
        send(client.line.as_fd(), nowhere.as_bytes(), &[dmabuf.as_fd(), fence.0.as_fd()])?;
        drop((dmabuf, fence));
        client.post(
            KIND_IOCTL,
            GemClose::TABLE.number,
            NO_SLOT,
            GemClose { handle: made.handle, pad: 0 }.as_bytes(),
            &[],
        )?;
        if client.is_cut_off_soon() {
            tools = Tools::new(door)?;
        }
    }
}

/// A wait without end in each slot, and behind them a ring full of submits that wait for a fence.
fn all_slots(door: &Door, fence: Option<BorrowedFd<'_>>) -> Outcome<()> {
    let mut tools = Tools::new(door)?;
    let mut noise = Noise(3);
    let waits = [0xc3, 0xca, 0x3a, 0x48];
    for slot in 0..64 {
        let number = waits[usize::from(slot) % waits.len()];
        let payload = tools.sound(number, &mut noise).unwrap_or_default();
        tools.screen.client.post(KIND_IOCTL, number, slot, &payload, &[])?;
    }
    let waits = [fence.unwrap_or(tools.fence.0.as_fd())];
    let number = Execbuffer::TABLE.number;
    tools.screen.client.post(KIND_IOCTL, number, NO_SLOT, &tools.submit(true), &waits)?;
    begin();
    loop {
        let behind = tools.submit(false);
        tools.screen.client.post(KIND_IOCTL, number, NO_SLOT, &behind, &[])?;
    }
}

/// Both its sockets are on the way through one of them, so that neither is closed by the client's end.
fn own_sockets(door: &Door) -> Outcome<()> {
    let tools = Tools::new(door)?;
    let client = &tools.screen.client;
    // Of a record that is never written.
    let nowhere = Attachment { serial: client.serial + 2 };
    let sockets = [client.connection.as_fd(), client.line.as_fd()];
    send(client.line.as_fd(), nowhere.as_bytes(), &sockets)?;
    begin();
    loop {
        std::thread::sleep(Duration::from_secs(1));
    }
}

/// Greets again and again, and hears no answer.
fn greeting(door: &Door) -> Outcome<()> {
    let mut begun = false;
    loop {
        let connection = door.connect()?;
        let (_ours, theirs) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        send(connection.as_fd(), Hello { magic: MAGIC, version: VERSION }.as_bytes(), &[theirs.as_fd()])?;
        if !begun {
            begin();
            begun = true;
        }
    }
}
