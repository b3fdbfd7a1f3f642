//! Screens: what is another's framebuffer, what does not fit, and who may change the picture.

use std::os::fd::{AsFd, OwnedFd};
use std::thread::sleep;
use std::time::Duration;

use rustix::io::Errno;
use virgld_protocol::channel::{SERVICE_RESTRICT, SERVICE_REVOKE};
use virgld_protocol::client::kms::{
    AddFb, AddFb2, Atomic, CloseFb, CreateDumb, CreatePropBlob, Cursor, Cursor2, CursorFlags, DestroyDumb,
    DestroyPropBlob, DropMaster, GetConnector, GetCrtc, GetFb2, MapDumb, ModeInfo, NO_FENCE, PageFlip,
    PageFlipFlags, RmFb, SetCrtc, SetMaster,
};
use virgld_protocol::client::{GemClose, PrimeHandleToFd, SetClientCap};
use virgld_protocol::rights::Rights;
use zerocopy::IntoBytes;

use super::sharing::{export, import};
use super::{Case, must, must_refuse};
use crate::picture::map_offset;
use crate::victim::Victim;
use crate::wire::{Client, Door, Failed, Outcome};

pub(super) const CASES: &[(&str, Case)] = &[
    ("screens-of-another-master", another_master),
    ("screens-framebuffers-of-others", of_others),
    ("screens-framebuffers-too-large", too_large),
    ("screens-cursor-images", cursor_images),
    ("screens-blobs-and-objects", blobs),
    ("screens-without-the-right", without_the_right),
    ("screens-revoked", revoked),
    ("screens-closed-in-haste", closed_in_haste),
    ("screens-flood", flood),
];

const SIDE: u32 = 64;
const BYTES: usize = (SIDE * SIDE * 4) as usize;
const XRGB: u32 = u32::from_le_bytes(*b"XR24");
/// No object has a number as large.
const LAST_OBJECT: u32 = 200;

/// A file of `card0` with a picture of one colour, and what it found out about the screen.
pub(super) struct Screen {
    pub(super) client: Client,
    pub(super) handle: u32,
    pub(super) framebuffer: u32,
    offset: u64,
    memory: OwnedFd,
    place: u64,
    pub(super) crtc: u32,
    pub(super) connector: u32,
}

impl Screen {
    pub(super) fn new(door: &Door, colour: u8) -> Outcome<Self> {
        let mut client = door.open_card()?;
        // Who comes first is master unasked.
        let _ = client.ioctl(&DropMaster, &[]);
        let handle = dumb(&mut client)?;
        let offset = client.ioctl(&MapDumb { handle, ..MapDumb::default() }, &[])?.offset;
        let (memory, mapped) = map_offset(&mut client, offset, BYTES as u64)?;
        let framebuffer = client.ioctl(&of(handle), &[])?.fb_id;
        let crtc = (1..LAST_OBJECT)
            .find(|id| client.ioctl(&GetCrtc { crtc_id: *id, ..GetCrtc::default() }, &[]).is_ok());
        let connector = (1..LAST_OBJECT).find(|id| {
            client.ioctl(&GetConnector { connector_id: *id, ..GetConnector::default() }, &[]).is_ok()
        });
        let none = || Failed::Setup("the device has no screen".into());
        let (crtc, connector) = (crtc.ok_or_else(none)?, connector.ok_or_else(none)?);
        let place = mapped.offset;
        let screen = Self { client, handle, framebuffer, offset, memory, place, crtc, connector };
        screen.paint(colour)?;
        Ok(screen)
    }

    /// Becomes master, as a compositor does, and shows its picture.
    pub(super) fn show(&mut self) -> Outcome<()> {
        become_master(&mut self.client)?;
        let framebuffer = self.framebuffer;
        self.set(framebuffer)
    }

    fn set(&mut self, fb_id: u32) -> Outcome<()> {
        let asked = self.mode_set(fb_id);
        self.client.ioctl(&asked, &[self.connector.as_bytes()]).map(drop)
    }

    /// The call that shows a framebuffer on its connector.
    pub(super) fn mode_set(&self, fb_id: u32) -> SetCrtc {
        let (count_connectors, crtc_id, mode_valid, mode) = (1, self.crtc, 1, mode());
        SetCrtc { count_connectors, crtc_id, fb_id, mode_valid, mode, ..SetCrtc::default() }
    }

    fn paint(&self, colour: u8) -> Outcome<()> {
        rustix::io::pwrite(&self.memory, &[colour; BYTES], self.place)?;
        Ok(())
    }

    fn crtc(&mut self) -> Outcome<GetCrtc> {
        let crtc_id = self.crtc;
        self.client.ioctl(&GetCrtc { crtc_id, ..GetCrtc::default() }, &[])
    }

    /// Fails unless the screen shows the picture as it was painted, and the next flip works.
    fn check(&mut self, colour: u8) -> Outcome<()> {
        let now = self.crtc()?;
        must("the screen shows another's picture", (now.fb_id, now.mode_valid) == (self.framebuffer, 1))?;
        let mut pixels = vec![0; BYTES];
        rustix::io::pread(&self.memory, &mut pixels, self.place)?;
        must("the pixels on the screen changed", pixels == [colour; BYTES])?;
        let (crtc_id, fb_id) = (self.crtc, self.framebuffer);
        // The flip of the check before may still wait for its refresh.
        let flip = PageFlip { crtc_id, fb_id, ..PageFlip::default() };
        unless_busy(|| self.client.ioctl(&flip, &[]).map(drop))
    }
}

/// Who opens the card while nobody is master becomes it, as on Linux, and some program beside this one may.
fn become_master(client: &mut Client) -> Outcome<()> {
    unless_busy(|| client.ioctl(&SetMaster, &[]).map(drop))
}

/// Tries again for ten seconds where the answer is EBUSY: as long as a program beside this one may live.
fn unless_busy(mut call: impl FnMut() -> Outcome<()>) -> Outcome<()> {
    for _ in 0..500 {
        match call() {
            Err(Failed::Errno(errno)) if errno == Errno::BUSY.raw_os_error() => {
                sleep(Duration::from_millis(20))
            }
            ended => return ended,
        }
    }
    call()
}

fn dumb(client: &mut Client) -> Outcome<u32> {
    let asked = CreateDumb { width: SIDE, height: SIDE, bpp: 32, ..CreateDumb::default() };
    client.ioctl(&asked, &[]).map(|made| made.handle)
}

/// The call that makes a framebuffer of it.
pub(super) fn of(handle: u32) -> AddFb2 {
    AddFb2 {
        width: SIDE,
        height: SIDE,
        pixel_format: XRGB,
        handles: [handle, 0, 0, 0],
        pitches: [SIDE * 4, 0, 0, 0],
        ..AddFb2::default()
    }
}

/// 64 by 64 pixels at 100 Hz: what a mode's numbers say counts, not whether a monitor would like it.
fn mode() -> ModeInfo {
    ModeInfo {
        clock: 1000,
        hdisplay: 64,
        hsync_start: 70,
        hsync_end: 80,
        htotal: 100,
        vdisplay: 64,
        vsync_start: 70,
        vsync_end: 80,
        vtotal: 100,
        vrefresh: 100,
        ..ModeInfo::default()
    }
}

fn another_master(door: &Door, _: &mut Victim) -> Outcome<String> {
    let mut victim = Screen::new(door, 0x17)?;
    victim.show()?;
    let mut own = Screen::new(door, 0x66)?;
    let (crtc_id, fb_id) = (own.crtc, own.framebuffer);
    // Root may, once nobody is; others may only if they were before.
    let becoming = own.client.ioctl(&SetMaster, &[]);
    must("it became master", matches!(becoming, Err(Failed::Errno(_))))?;
    let leaving = own.client.ioctl(&DropMaster, &[]);
    must("it left what it was not", matches!(leaving, Err(Failed::Errno(_))))?;
    for shown in [fb_id, victim.framebuffer, 0] {
        must_refuse("SETCRTC", own.set(shown), Errno::ACCESS)?;
        let flip = PageFlip { crtc_id, fb_id: shown, ..PageFlip::default() };
        must_refuse("PAGE_FLIP", own.client.ioctl(&flip, &[]), Errno::ACCESS)?;
    }
    let off = SetCrtc { crtc_id, ..SetCrtc::default() };
    must_refuse("switching off", own.client.ioctl(&off, &[]), Errno::ACCESS)?;
    let cursor = Cursor { flags: CursorFlags::MOVE.bits(), crtc_id, ..Cursor::default() };
    must_refuse("moving the pointer", own.client.ioctl(&cursor, &[]), Errno::ACCESS)?;
    own.client.ioctl(&SetClientCap { capability: 3, value: 1 }, &[])?;
    must_refuse("an atomic commit", commit(&mut own.client, crtc_id, 0x400), Errno::ACCESS)?;
    for number in [victim.framebuffer, victim.framebuffer + 100] {
        must_refuse("RMFB", own.client.ioctl(&RmFb { fb_id: number }, &[]), Errno::NOENT)?;
        must_refuse("CLOSEFB", own.client.ioctl(&CloseFb { fb_id: number, pad: 0 }, &[]), Errno::NOENT)?;
    }
    victim.check(0x17)?;
    for _ in 0..20 {
        victim.client.ioctl(&DropMaster, &[])?;
        if own.client.ioctl(&SetMaster, &[]).is_ok() {
            own.client.ioctl(&DropMaster, &[])?;
        }
        become_master(&mut victim.client)?;
    }
    drop(own);
    victim.check(0x17)?;
    Ok("no flip, no switch, no pointer, nobody's framebuffer; another's is as one that is not there".into())
}

/// One object that is switched off.
fn commit(client: &mut Client, object: u32, flags: u32) -> Outcome<()> {
    let asked = Atomic { flags, count_objs: 1, count_changes: 1, fence_out: NO_FENCE, ..Atomic::default() };
    let (count, property, value) = (1_u32, 15_u32, 0_u64);
    let arrays = [object.as_bytes(), count.as_bytes(), property.as_bytes(), value.as_bytes()];
    client.ioctl(&asked, &arrays).map(drop)
}

fn of_others(door: &Door, _: &mut Victim) -> Outcome<String> {
    let mut victim = Screen::new(door, 0x18)?;
    victim.show()?;
    let mut client = door.open_card()?;
    for handle in [victim.handle, victim.handle + 50, u32::MAX] {
        must_refuse("ADDFB2", client.ioctl(&of(handle), &[]), Errno::INVAL)?;
        let old = AddFb {
            width: SIDE,
            height: SIDE,
            pitch: SIDE * 4,
            bpp: 32,
            depth: 24,
            handle,
            ..AddFb::default()
        };
        must_refuse("ADDFB", client.ioctl(&old, &[]), Errno::INVAL)?;
        must_refuse("MAP_DUMB", client.ioctl(&MapDumb { handle, ..MapDumb::default() }, &[]), Errno::NOENT)?;
        must_refuse("DESTROY_DUMB", client.ioctl(&DestroyDumb { handle }, &[]), Errno::INVAL)?;
    }
    let length = BYTES as u64;
    must_refuse("mmap of its offset", map_offset(&mut client, victim.offset, length), Errno::INVAL)?;
    // Who is master, or root, may look, as on Linux. More than that it must not be.
    let seen = client.ioctl(&GetFb2 { fb_id: victim.framebuffer, ..GetFb2::default() }, &[])?.handles[0];
    if seen != 0 {
        must_refuse("taking it back", client.service(SERVICE_REVOKE, seen.as_bytes(), &[]), Errno::ACCESS)?;
        let share = PrimeHandleToFd { handle: seen, flags: 2, fd: -1 };
        must_refuse("passing it on", client.ioctl(&share, &[]), Errno::ACCESS)?;
        client.ioctl(&GemClose { handle: seen, pad: 0 }, &[])?;
    }
    victim.check(0x18)?;
    Ok("another's dumb buffer, its offset and its framebuffer are as those that are not there".into())
}

fn too_large(door: &Door, victim: &mut Victim) -> Outcome<String> {
    let mut client = door.open_card()?;
    let handle = dumb(&mut client)?;
    type Spoil = fn(&mut AddFb2);
    let spoils: [(Spoil, Errno); 12] = [
        (|it| it.height = SIDE + 1, Errno::INVAL),
        (|it| it.width = SIDE + 1, Errno::INVAL),
        (|it| it.height = u32::MAX, Errno::INVAL),
        (|it| it.pitches[0] += 4, Errno::INVAL),
        (|it| it.pitches[0] = 0, Errno::INVAL),
        (|it| it.pitches[0] = u32::MAX, Errno::RANGE),
        // 64 rows of this many bytes are none, in 32 bits.
        (|it| it.pitches[0] = 1 << 26, Errno::RANGE),
        (|it| it.offsets[0] = 4, Errno::INVAL),
        (|it| it.offsets[0] = u32::MAX - 3, Errno::RANGE),
        // Of a plane that the format lacks; its handle, pitch and offset are not looked at without the flag, as on Linux.
        (|it| it.modifier[1] = 1, Errno::INVAL),
        (|it| it.modifier[0] = u64::MAX, Errno::INVAL),
        (|it| it.pixel_format = u32::MAX, Errno::INVAL),
    ];
    for (index, (spoil, errno)) in spoils.into_iter().enumerate() {
        let mut asked = of(handle);
        spoil(&mut asked);
        must_refuse(&format!("framebuffer {index}"), client.ioctl(&asked, &[]), errno)?;
    }
    for (width, height) in [(u32::MAX, u32::MAX), (1 << 16, 1 << 16), (1 << 30, 1), (0, 1)] {
        let asked = CreateDumb { width, height, bpp: 32, ..CreateDumb::default() };
        must_refuse("a dumb buffer", client.ioctl(&asked, &[]), Errno::INVAL)?;
    }
    victim.check()?;
    Ok("no framebuffer reaches behind its buffer, however its numbers wrap".into())
}

fn cursor_images(door: &Door, _: &mut Victim) -> Outcome<String> {
    let bystander = Screen::new(door, 0x19)?;
    let mut own = Screen::new(door, 0x61)?;
    own.show()?;
    let image = Cursor2 {
        flags: CursorFlags::BO.bits(),
        crtc_id: own.crtc,
        width: SIDE,
        height: SIDE,
        handle: own.handle,
        ..Cursor2::default()
    };
    // Both tables count from 1; a number beyond the attacker's own is the other's or nobody's.
    for handle in [bystander.handle + 1, 900, u32::MAX] {
        must_refuse("another's image", own.client.ioctl(&Cursor2 { handle, ..image }, &[]), Errno::INVAL)?;
    }
    for (width, height) in [(SIDE + 1, SIDE), (u32::MAX, u32::MAX), (0, 0), (1 << 31, 2)] {
        let attempt = own.client.ioctl(&Cursor2 { width, height, ..image }, &[]);
        must_refuse("an image of another size", attempt, Errno::INVAL)?;
    }
    let far = Cursor2 { x: i32::MIN, y: i32::MAX, hot_x: i32::MIN, hot_y: i32::MAX, flags: 3, ..image };
    must_refuse("a place beyond all numbers", own.client.ioctl(&far, &[]), Errno::RANGE)?;
    let near = Cursor2 { x: -1000, y: 1 << 20, ..far };
    own.client.ioctl(&Cursor2 { hot_x: 0, hot_y: 0, ..near }, &[])?;
    own.check(0x61)?;
    Ok("an image is one's own, whole and no larger than the device's; a place may be off the screen".into())
}

fn blobs(door: &Door, _: &mut Victim) -> Outcome<String> {
    let mut victim = Screen::new(door, 0x1a)?;
    let mode = mode();
    let length = u32::try_from(size_of::<ModeInfo>()).unwrap_or(0);
    let blob =
        victim.client.ioctl(&CreatePropBlob { length, ..Default::default() }, &[mode.as_bytes()])?.blob_id;
    let mut own = Screen::new(door, 0x62)?;
    must_refuse(
        "destroying another's blob",
        own.client.ioctl(&DestroyPropBlob { blob_id: blob }, &[]),
        Errno::PERM,
    )?;
    become_master(&mut own.client)?;
    own.client.ioctl(&SetClientCap { capability: 3, value: 1 }, &[])?;
    for object in [0, own.connector + 50, own.framebuffer, blob, u32::MAX] {
        must_refuse("an object that is none", commit(&mut own.client, object, 0x400), Errno::NOENT)?;
    }
    for flags in [u32::MAX, 1 << 11, 1 << 2] {
        let (client, crtc) = (&mut own.client, own.crtc);
        must_refuse("flags that are none", commit(client, crtc, flags), Errno::INVAL)?;
    }
    victim.client.ioctl(&DestroyPropBlob { blob_id: blob }, &[])?;
    Ok("another's blob stays, and a commit names screens alone".into())
}

/// A maker that gives its picture to be seen in memory and not on a screen.
fn without_the_right(door: &Door, _: &mut Victim) -> Outcome<String> {
    let mut maker = Screen::new(door, 0x1b)?;
    let given = Rights::all() - Rights::SCAN_OUT;
    maker.client.service(SERVICE_RESTRICT, [maker.handle, given.bits()].as_bytes(), &[])?;
    let descriptor = export(&mut maker.client, maker.handle)?;
    let mut own = Screen::new(door, 0x63)?;
    let handle = import(&mut own.client, descriptor.as_fd())?;
    must_refuse("ADDFB2", own.client.ioctl(&of(handle), &[]), Errno::ACCESS)?;
    own.show()?;
    let image =
        Cursor { flags: 1, crtc_id: own.crtc, width: SIDE, height: SIDE, handle, ..Cursor::default() };
    let attempt = own.client.ioctl(&image, &[]);
    must("it became the pointer", matches!(attempt, Err(Failed::Errno(_))))?;
    Ok("without the right to scan out there is no framebuffer and no pointer of it".into())
}

fn revoked(door: &Door, _: &mut Victim) -> Outcome<String> {
    let mut maker = Screen::new(door, 0x1c)?;
    let descriptor = export(&mut maker.client, maker.handle)?;
    let mut own = Screen::new(door, 0x64)?;
    let handle = import(&mut own.client, descriptor.as_fd())?;
    let shown = own.client.ioctl(&of(handle), &[])?.fb_id;
    own.show()?;
    own.set(shown)?;
    must("it is not shown", own.crtc()?.fb_id == shown)?;
    maker.client.service(SERVICE_REVOKE, maker.handle.as_bytes(), &[])?;
    let after = own.crtc()?;
    must("the screen shows what was taken back", (after.fb_id, after.mode_valid) == (0, 0))?;
    let again = GetFb2 { fb_id: shown, ..GetFb2::default() };
    must_refuse("asking for its handle", own.client.ioctl(&again, &[]), Errno::NOENT)?;
    must_refuse("showing it", own.set(shown), Errno::NOENT)?;
    must_refuse("its handle", own.client.ioctl(&of(handle), &[]), Errno::INVAL)?;
    own.show()?;
    own.check(0x64)?;
    Ok("the screen goes dark, and framebuffer, handle and descriptor are worth nothing any more".into())
}

/// ADDFB2 and the end of its handle, with no answer waited for; then somebody else's buffer takes the number.
fn closed_in_haste(door: &Door, _: &mut Victim) -> Outcome<String> {
    let mut own = Screen::new(door, 0x65)?;
    own.show()?;
    for _ in 0..30 {
        let mut hasty = door.open_card()?;
        let handle = dumb(&mut hasty)?;
        let slot = virgld_protocol::channel::NO_SLOT;
        let kind = virgld_protocol::channel::KIND_IOCTL;
        hasty.post(kind, 0xb8, slot, of(handle).as_bytes(), &[])?;
        hasty.post(kind, 0x09, slot, GemClose { handle, pad: 0 }.as_bytes(), &[])?;
        let mut victim = Screen::new(door, 0x1d)?;
        // Whatever the hasty one made is the last that was made before the victim's.
        for fb_id in victim.framebuffer.saturating_sub(3)..victim.framebuffer {
            let asked = GetFb2 { fb_id, ..GetFb2::default() };
            let Ok(seen) = own.client.ioctl(&asked, &[]) else { continue };
            let handle = seen.handles[0];
            let Ok(map) = own.client.ioctl(&MapDumb { handle, ..MapDumb::default() }, &[]) else { continue };
            must("a framebuffer leads to another's buffer", map.offset != victim.offset)?;
            own.client.ioctl(&GemClose { handle, pad: 0 }, &[])?;
        }
        victim.crtc()?;
    }
    own.check(0x65)?;
    Ok("a buffer's number is nobody else's while the display is about to hold it".into())
}

fn flood(door: &Door, victim: &mut Victim) -> Outcome<String> {
    let mut own = Screen::new(door, 0x67)?;
    own.show()?;
    let (crtc_id, fb_id) = (own.crtc, own.framebuffer);
    let (mut flips, mut busy) = (0, 0);
    for round in 0..3000_i32 {
        // Every other one without waiting for a refresh.
        let flags = if round % 2 == 0 { PageFlipFlags::empty() } else { PageFlipFlags::ASYNC }.bits();
        match own.client.ioctl(&PageFlip { crtc_id, fb_id, flags, ..PageFlip::default() }, &[]) {
            Ok(_) => flips += 1,
            Err(Failed::Errno(errno)) if errno == Errno::BUSY.raw_os_error() => busy += 1,
            Err(other) => return Err(other),
        }
        for step in 0..4 {
            let flags = CursorFlags::MOVE.bits();
            own.client.ioctl(&Cursor { flags, crtc_id, x: round, y: step, ..Cursor::default() }, &[])?;
        }
        if round % 300 == 0 {
            victim.check()?;
        }
    }
    must("nothing was ever shown, or nothing refused", flips > 0 && busy > 0)?;
    Ok(format!(
        "{flips} flips, {busy} more were refused as too early; 12000 moves cost the device its newest"
    ))
}
