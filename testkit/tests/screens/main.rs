//! What clients draw is what the device shows, when it is to be shown, and for as long as it may be.
#![allow(clippy::unwrap_used, reason = "a test, helpers included: clippy knows only the functions marked so")]

mod fences;

use std::sync::mpsc;
use std::time::Duration;

use virgld_protocol::channel::Mapped;
use virgld_protocol::client::kms::{
    AddFb2, Atomic, CreateDumb, CreatePropBlob, Cursor, CursorFlags, DropMaster, EventVblank, GetConnector,
    GetFb2, MapDumb, ModeInfo, NO_FENCE, PageFlip, RmFb, SetCrtc, SetMaster,
};
use virgld_protocol::client::{
    GemClose, Ioctl, Map, PrimeFdToHandle, PrimeHandleToFd, ResourceCreate, SetClientCap,
};
use virgld_protocol::errno::Errno;
use virgld_protocol::ids::FileId;
use virgld_protocol::message::display::{Look, Picture};
use virgld_protocol::message::door::Attach;
use virgld_protocol::message::scheme::{Attached, Node};
use virgld_runtime::Respond;
use virgld_testkit::common::mode;
use virgld_testkit::system::{System, SystemConfig};
use zerocopy::{FromBytes, IntoBytes};

const CRTC: u32 = 40;
const CONNECTOR: u32 = 44;
const SIDE: u32 = 64;
/// A refresh of the mode takes 10 ms.
const REFRESH: Duration = Duration::from_millis(10);

struct Desk {
    system: System,
}

impl Desk {
    fn new() -> Self {
        let mut config = SystemConfig::default();
        config.resources.file.isolated_bytes = 1 << 20;
        config.resources.file.bytes = 1 << 20;
        config.resources.user.bytes = 1 << 20;
        config.resources.user.isolated_bytes = 1 << 20;
        config.link.places = 16;
        Self { system: System::new(&config, 7) }
    }

    fn ask<T: Ioctl>(&mut self, file: FileId, fixed: &T, arrays: &[&[u8]]) -> Result<T, Errno> {
        let token = self.system.door.call(file, fixed, arrays);
        self.system.settle();
        let answer = match self.system.door.answer(token) {
            Some(answer) => answer,
            // A call that ends with a refresh.
            None => {
                self.system.advance(REFRESH * 2);
                self.system.settle();
                self.system.door.answer(token).unwrap_or_else(|| panic!("{} has no answer", T::TABLE.name))
            }
        };
        // An answer in which nothing changed repeats nothing.
        let same = T::read_from_bytes(fixed.as_bytes()).unwrap();
        answer.result.map(|reply| T::read_from_bytes(&reply.fixed).unwrap_or(same))
    }

    /// A dumb buffer full of one colour: its handle.
    fn dumb(&mut self, file: FileId, colour: u32) -> u32 {
        let asked = CreateDumb { width: SIDE, height: SIDE, bpp: 32, ..CreateDumb::default() };
        let made = self.ask(file, &asked, &[]).unwrap();
        assert_eq!((made.pitch, made.size), (256, 16384));
        self.paint(file, made.handle, colour);
        made.handle
    }

    fn paint(&mut self, file: FileId, handle: u32, colour: u32) {
        let offset = self.ask(file, &MapDumb { handle, ..MapDumb::default() }, &[]).unwrap().offset;
        let token = self.system.door.map(file, offset, 16384);
        self.system.settle();
        let Some(Attach::Memory { memory, mapped: Mapped { offset, .. } }) =
            self.system.door.answer(token).unwrap().attach
        else {
            panic!("no memory to map")
        };
        let pixels = colour.to_le_bytes().repeat(64 * 64);
        memory.write(usize::try_from(offset).unwrap(), &pixels).unwrap();
    }

    fn framebuffer(&mut self, file: FileId, handle: u32) -> Result<u32, Errno> {
        let asked = self.of(handle);
        self.ask(file, &asked, &[]).map(|made| made.fb_id)
    }

    /// A framebuffer of all of a dumb buffer.
    fn of(&self, handle: u32) -> AddFb2 {
        AddFb2 {
            width: SIDE,
            height: SIDE,
            pixel_format: u32::from_le_bytes(*b"XR24"),
            handles: [handle, 0, 0, 0],
            pitches: [256, 0, 0, 0],
            ..AddFb2::default()
        }
    }

    /// Passes a buffer on by descriptor: the other's handle.
    fn share(&mut self, from: FileId, handle: u32, to: FileId) -> u32 {
        let token = self.system.door.call(from, &PrimeHandleToFd { handle, flags: 0, fd: -1 }, &[]);
        self.system.settle();
        let Some(Attach::Buffer { export, .. }) = self.system.door.answer(token).unwrap().attach else {
            panic!("no descriptor")
        };
        let fixed = PrimeFdToHandle { handle: 0, flags: 0, fd: -1 };
        let token = self.system.door.call_with(to, &fixed, &[], Some(Attached::Buffer(export)));
        self.system.settle();
        self.system.door.drop_export(export);
        self.system.door.answer(token).unwrap().fixed::<PrimeFdToHandle>().unwrap().handle
    }

    fn revoke(&mut self, file: FileId, handle: u32) -> Result<(), Errno> {
        let token = self.system.door.revoke(file, handle);
        self.system.settle();
        self.system.door.answer(token).unwrap().result.map(drop)
    }

    fn set_crtc(&mut self, file: FileId, fb_id: u32) -> Result<(), Errno> {
        let asked = SetCrtc {
            count_connectors: 1,
            crtc_id: CRTC,
            fb_id,
            mode_valid: 1,
            mode: mode(),
            ..SetCrtc::default()
        };
        self.ask(file, &asked, &[&CONNECTOR.to_le_bytes()]).map(drop)
    }

    fn flip(&mut self, file: FileId, fb_id: u32, user_data: u64) -> Result<(), Errno> {
        let asked = PageFlip { crtc_id: CRTC, fb_id, flags: 1, user_data, ..PageFlip::default() };
        self.ask(file, &asked, &[]).map(drop)
    }

    /// The colour that the device shows everywhere, if it shows one.
    fn shown(&self) -> Option<u32> {
        let pixels = &self.system.device.host().scanout(0)?.pixels;
        let first = *pixels.first_chunk::<4>().unwrap();
        assert!(pixels.chunks_exact(4).all(|pixel| pixel == first), "a picture of several colours");
        Some(u32::from_le_bytes(first))
    }

    /// What a person sees.
    fn look(&mut self) -> Picture {
        let (sender, seen) = mpsc::channel();
        let respond = Respond::new(move |picture| sender.send(picture).unwrap());
        self.system.screens.send(Look { scanout: 0, respond }).unwrap();
        self.system.settle();
        seen.try_recv().unwrap().unwrap()
    }

    fn end(mut self, files: &[FileId]) {
        for file in files {
            self.system.door.close(*file);
        }
        self.system.outlast();
        assert_eq!(self.system.offences(), Vec::<String>::new());
        assert!(self.system.report().unwrap().is_empty(), "{:?}", self.system.report());
        assert!(self.system.device.host().scanout(0).is_none(), "a picture outlived who drew it");
    }
}

#[test]
fn what_is_drawn_is_shown_at_the_refresh_and_the_event_says_so() {
    let mut desk = Desk::new();
    let file = desk.system.door.open(Node::Card);
    let (red, green) = (desk.dumb(file, 0xffff_0000), desk.dumb(file, 0xff00_ff00));
    let (first, second) = (desk.framebuffer(file, red).unwrap(), desk.framebuffer(file, green).unwrap());
    desk.set_crtc(file, first).unwrap();
    assert_eq!(desk.shown(), Some(0xffff_0000));
    let mut last = None;
    for (round, framebuffer) in (0..6_u64).zip([second, first].into_iter().cycle()) {
        let before = desk.shown();
        desk.flip(file, framebuffer, 100 + round).unwrap();
        assert_eq!(desk.flip(file, framebuffer, 0), Err(Errno::EBUSY), "a flip is under way");
        assert_eq!(desk.shown(), before, "shown before its refresh");
        assert!(desk.system.door.events(file).is_empty());
        desk.system.advance(REFRESH);
        desk.system.settle();
        assert_ne!(desk.shown(), before);
        let events = desk.system.door.events(file);
        let [bytes] = &events[..] else { panic!("{} events", events.len()) };
        let event = EventVblank::read_from_bytes(bytes).unwrap();
        assert_eq!((event.head.kind, event.user_data, event.crtc_id), (2, 100 + round, CRTC));
        let time = u64::from(event.tv_sec) * 1_000_000 + u64::from(event.tv_usec);
        if let Some((sequence, before)) = last {
            assert_eq!((event.sequence, time - before), (sequence + 1, 10_000), "not at the refresh");
        }
        last = Some((event.sequence, time));
    }
    desk.end(&[file]);
}

#[test]
fn a_person_sees_what_the_device_shows_with_the_pointer_over_it() {
    let mut desk = Desk::new();
    let file = desk.system.door.open(Node::Card);
    let (blue, image) = (desk.dumb(file, 0xff00_00ff), desk.dumb(file, 0x8080_0000));
    let framebuffer = desk.framebuffer(file, blue).unwrap();
    desk.set_crtc(file, framebuffer).unwrap();
    let flags = (CursorFlags::BO | CursorFlags::MOVE).bits();
    let cursor = Cursor { flags, crtc_id: CRTC, x: 40, y: -32, width: SIDE, height: SIDE, handle: image };
    desk.ask(file, &cursor, &[]).unwrap();
    let picture = desk.look();
    assert_eq!((picture.width, picture.height), (SIDE, SIDE));
    let pixel = |x: usize, y: usize| &picture.pixels[(y * 64 + x) * 4..][..3];
    assert_eq!(pixel(0, 0), [255, 0, 0], "beside the pointer");
    assert_eq!(pixel(40, 33), [255, 0, 0], "below the pointer");
    assert_eq!(pixel(40, 31), [127, 0, 128], "under the pointer, which lets half through");
    assert_eq!(desk.shown(), Some(0xff00_00ff), "the device has the pointer apart");
    let large = Cursor { width: 65, ..cursor };
    assert_eq!(desk.ask(file, &large, &[]).err(), Some(Errno::EINVAL));
    desk.end(&[file]);
}

#[test]
fn who_is_not_master_changes_nothing_and_a_master_that_dies_leaves_a_blank_screen() {
    let mut desk = Desk::new();
    let first = desk.system.door.open(Node::Card);
    let second = desk.system.door.open(Node::Card);
    let (mine, theirs) = (desk.dumb(first, 1), desk.dumb(second, 2));
    let (shown, other) = (desk.framebuffer(first, mine).unwrap(), desk.framebuffer(second, theirs).unwrap());
    desk.set_crtc(first, shown).unwrap();
    assert_eq!(desk.set_crtc(second, other), Err(Errno::EACCES));
    assert_eq!(desk.flip(second, other, 0), Err(Errno::EACCES));
    let wrong = PageFlip { fb_id: other, sequence: 9, ..PageFlip::default() };
    assert_eq!(desk.ask(second, &wrong, &[]).err(), Some(Errno::EACCES), "whatever else is wrong");
    assert_eq!(desk.ask(first, &wrong, &[]).err(), Some(Errno::EINVAL));
    let wrong = Atomic { reserved: 1, ..Atomic::default() };
    assert_eq!(desk.ask(second, &wrong, &[]).err(), Some(Errno::EACCES), "whatever else is wrong");
    assert_eq!(desk.ask(first, &wrong, &[]).err(), Some(Errno::EINVAL));
    assert_eq!(desk.ask(second, &SetMaster, &[]).err(), Some(Errno::EBUSY));
    assert_eq!(desk.ask(second, &RmFb { fb_id: shown }, &[]).err(), Some(Errno::ENOENT), "not its own");
    assert_eq!(desk.framebuffer(second, 77), Err(Errno::EINVAL), "a handle that it does not have");
    assert_eq!(desk.shown(), Some(1));
    desk.system.door.close(first);
    desk.system.outlast();
    assert_eq!(desk.shown(), None, "the dead master's picture");
    desk.ask(second, &SetMaster, &[]).unwrap();
    desk.set_crtc(second, other).unwrap();
    assert_eq!(desk.shown(), Some(2));
    desk.end(&[second]);
}

#[test]
fn a_buffer_that_is_shown_outlives_its_handle_and_not_its_framebuffer() {
    let mut desk = Desk::new();
    let file = desk.system.door.open(Node::Card);
    let handle = desk.dumb(file, 5);
    let framebuffer = desk.framebuffer(file, handle).unwrap();
    desk.set_crtc(file, framebuffer).unwrap();
    let destroy = virgld_protocol::client::kms::DestroyDumb { handle };
    desk.ask(file, &destroy, &[]).unwrap();
    desk.system.outlast();
    assert_eq!(desk.system.device.host().resources(), 1);
    assert_eq!(desk.shown(), Some(5));
    desk.ask(file, &RmFb { fb_id: framebuffer }, &[]).unwrap();
    desk.system.outlast();
    assert_eq!((desk.shown(), desk.system.device.host().resources()), (None, 0));
    desk.end(&[file]);
}

/// Everybody with a descriptor of it could put it on the screen; its maker takes that back.
#[test]
fn a_buffer_that_is_revoked_goes_from_the_screens_of_others() {
    let mut desk = Desk::new();
    let (maker, other) = (desk.system.door.open(Node::Card), desk.system.door.open(Node::Card));
    desk.ask(maker, &DropMaster, &[]).unwrap();
    desk.ask(other, &SetMaster, &[]).unwrap();
    let handle = desk.dumb(maker, 3);
    let imported = desk.share(maker, handle, other);
    let theirs = desk.framebuffer(other, imported).unwrap();
    let own = desk.framebuffer(maker, handle).unwrap();
    desk.set_crtc(other, theirs).unwrap();
    assert_eq!(desk.shown(), Some(3));
    desk.revoke(maker, handle).unwrap();
    desk.system.outlast();
    assert_eq!(desk.shown(), None, "as after RMFB");
    assert_eq!(
        desk.ask(other, &GetFb2 { fb_id: theirs, ..GetFb2::default() }, &[]).err(),
        Some(Errno::ENOENT)
    );
    assert_eq!(desk.set_crtc(other, theirs), Err(Errno::ENOENT));
    // The maker's own stays, and shows what the maker writes from now on, where it is now.
    desk.paint(maker, handle, 4);
    desk.set_crtc(other, own).unwrap();
    assert_eq!(desk.shown(), Some(4));
    assert!(
        desk.look().pixels.chunks_exact(4).take(64).all(|pixel| pixel[0] == 4),
        "a person sees old memory"
    );
    desk.end(&[maker, other]);
}

/// A master may look at what others show, as on Linux; that does not make it the maker.
#[test]
fn who_looks_at_a_framebuffer_gets_no_more_than_its_maker_gives_and_cannot_take_it_back() {
    let mut desk = Desk::new();
    let (master, maker) = (desk.system.door.open(Node::Card), desk.system.door.open(Node::Card));
    let handle = desk.dumb(maker, 3);
    let framebuffer = desk.framebuffer(maker, handle).unwrap();
    let seen = desk.ask(master, &GetFb2 { fb_id: framebuffer, ..GetFb2::default() }, &[]).unwrap().handles[0];
    assert_ne!(seen, 0);
    assert_eq!(desk.revoke(master, seen), Err(Errno::EACCES), "it is not the maker");
    let share = PrimeHandleToFd { handle: seen, flags: 0, fd: -1 };
    assert_eq!(desk.ask(master, &share, &[]).err(), Some(Errno::EACCES), "it may look, and not pass on");
    // What the maker takes back goes also where no descriptor ever was.
    desk.revoke(maker, handle).unwrap();
    let map = MapDumb { handle: seen, ..MapDumb::default() };
    assert_eq!(desk.ask(master, &map, &[]).err(), Some(Errno::ENOENT));
    desk.end(&[master, maker]);
}

/// Its buffer may lie in its maker's arena, beside all else that is the maker's alone.
#[test]
fn who_looks_at_a_framebuffer_maps_nothing_of_its_makers_arena() {
    let mut desk = Desk::new();
    let (master, maker) = (desk.system.door.open(Node::Card), desk.system.door.open(Node::Card));
    let (texture, bgrx, render_target) = (2, 2, 2);
    let asked = ResourceCreate {
        target: texture,
        format: bgrx,
        bind: render_target,
        width: SIDE,
        height: SIDE,
        depth: 1,
        array_size: 1,
        size: 16384,
        stride: 256,
        ..ResourceCreate::default()
    };
    let handle = desk.ask(maker, &asked, &[]).unwrap().bo_handle;
    let framebuffer = desk.framebuffer(maker, handle).unwrap();
    let seen = desk.ask(master, &GetFb2 { fb_id: framebuffer, ..GetFb2::default() }, &[]).unwrap().handles[0];
    assert_ne!(seen, 0);
    let offset = desk.ask(maker, &Map { handle, ..Map::default() }, &[]).unwrap().offset;
    for (file, expected) in [(maker, None), (master, Some(Errno::EINVAL))] {
        let token = desk.system.door.map(file, offset, 4096);
        desk.system.settle();
        assert_eq!(desk.system.door.answer(token).unwrap().result.err(), expected);
    }
    desk.end(&[master, maker]);
}

#[test]
fn a_pointer_goes_with_who_put_it_there_master_or_not() {
    let mut desk = Desk::new();
    let file = desk.system.door.open(Node::Card);
    let handle = desk.dumb(file, 7);
    let shown = desk.framebuffer(file, handle).unwrap();
    desk.set_crtc(file, shown).unwrap();
    let flags = CursorFlags::BO.bits();
    let image = Cursor { flags, crtc_id: CRTC, width: 64, height: 64, handle, ..Cursor::default() };
    desk.ask(file, &image, &[]).unwrap();
    desk.ask(file, &DropMaster, &[]).unwrap();
    desk.end(&[file]);
}

/// The number of a buffer that its client has closed must not come again while the display is about to hold it.
#[test]
fn a_handle_that_is_closed_before_its_framebuffer_is_made_leaves_no_number_of_anothers() {
    for closes_file in [false, true] {
        let mut desk = Desk::new();
        let (hasty, victim) = (desk.system.door.open(Node::Card), desk.system.door.open(Node::Card));
        let handle = desk.dumb(hasty, 1);
        let asked = desk.of(handle);
        // Both are under way before either is answered.
        let made = desk.system.door.call(hasty, &asked, &[]);
        if closes_file {
            desk.system.door.close(hasty);
        } else {
            desk.system.door.call(hasty, &GemClose { handle, pad: 0 }, &[]);
        }
        let theirs = desk.dumb(victim, 9);
        if !closes_file {
            let fb_id = desk.system.door.answer(made).unwrap().fixed::<AddFb2>().unwrap().fb_id;
            desk.set_crtc(hasty, fb_id).unwrap();
            assert_eq!(desk.shown(), Some(1), "its own picture and nobody else's");
        }
        desk.framebuffer(victim, theirs).unwrap();
        let files = if closes_file { vec![victim] } else { vec![hasty, victim] };
        desk.end(&files);
    }
}

#[test]
fn framebuffers_that_cannot_be_are_refused_as_linux_refuses_them() {
    let mut desk = Desk::new();
    let file = desk.system.door.open(Node::Card);
    let handle = desk.dumb(file, 0);
    let good = AddFb2 {
        width: SIDE,
        height: SIDE,
        pixel_format: u32::from_le_bytes(*b"XR24"),
        handles: [handle, 0, 0, 0],
        pitches: [256, 0, 0, 0],
        ..AddFb2::default()
    };
    type Spoil = fn(&mut AddFb2);
    let bad: [(Spoil, Errno); 10] = [
        (|it| it.height = 65, Errno::EINVAL),
        (|it| it.width = 65, Errno::EINVAL),
        (|it| it.width = 8193, Errno::EINVAL),
        (|it| it.pitches[0] = 255, Errno::EINVAL),
        (|it| it.offsets[0] = 4, Errno::EINVAL),
        (|it| it.pitches[0] = u32::MAX, Errno::ERANGE),
        (|it| it.pixel_format = u32::from_le_bytes(*b"NV12"), Errno::ENOENT),
        (|it| it.pixel_format = 1, Errno::EINVAL),
        (|it| it.modifier[0] = 1, Errno::EINVAL),
        (|it| it.modifier[3] = 1, Errno::EINVAL),
    ];
    for (index, (spoil, errno)) in bad.into_iter().enumerate() {
        let mut asked = good;
        spoil(&mut asked);
        assert_eq!(desk.ask(file, &asked, &[]).err(), Some(errno), "case {index}");
    }
    assert!(desk.ask(file, &good, &[]).is_ok());
    // Clients from before modifiers do not clear what is said of planes that a format has not.
    let unclear =
        AddFb2 { handles: [handle, 7, 7, 7], pitches: [256, 7, 7, 7], offsets: [0, 7, 7, 7], ..good };
    assert!(desk.ask(file, &unclear, &[]).is_ok());
    desk.end(&[file]);
}

#[test]
fn a_display_that_changes_is_seen_by_who_asks() {
    let mut desk = Desk::new();
    let file = desk.system.door.open(Node::Card);
    let asked = GetConnector { connector_id: CONNECTOR, ..GetConnector::default() };
    for (extent, connection) in [(Some((800, 600)), 1), (Some((1920, 1080)), 1)] {
        desk.system.device.connect_displays(vec![extent]);
        desk.system.settle();
        let room = [0; 68];
        let wide = GetConnector { count_modes: 1, ..asked };
        let told = desk.ask(file, &wide, &[&[], &room, &[], &[]]).unwrap();
        assert_eq!(told.connection, connection);
        let token = desk.system.door.call(
            file,
            &GetConnector { count_modes: told.count_modes, ..asked },
            &[&[], &room.repeat(told.count_modes as usize), &[], &[]],
        );
        desk.system.settle();
        let modes = desk.system.door.answer(token).unwrap().result.unwrap().arrays[1].clone();
        let first = ModeInfo::read_from_prefix(&modes).unwrap().0;
        assert_eq!(Some((first.hdisplay.into(), first.vdisplay.into())), extent);
    }
    desk.end(&[file]);
}

/// Properties by number, as GETPROPERTY tells them.
mod property {
    pub(crate) const FB_ID: u32 = 2;
    pub(crate) const CRTC_ID: u32 = 3;
    pub(crate) const CRTC_W: u32 = 6;
    pub(crate) const CRTC_H: u32 = 7;
    pub(crate) const SRC_W: u32 = 10;
    pub(crate) const SRC_H: u32 = 11;
    pub(crate) const ACTIVE: u32 = 15;
    pub(crate) const MODE_ID: u32 = 16;
}

const PLANE: u32 = 41;
const TEST_ONLY: u32 = 0x100;
const NONBLOCK: u32 = 0x200;
const ALLOW_MODESET: u32 = 0x400;

impl Desk {
    fn atomic(&mut self, file: FileId, flags: u32, sets: &[(u32, u32, u64)]) -> Result<(), Errno> {
        let (fixed, arrays) = commit(flags, sets);
        let [objects, each, properties, values] = &arrays;
        self.ask(file, &fixed, &[objects, each, properties, values]).map(drop)
    }
}

/// What an ATOMIC says: objects, properties per object, properties, values.
fn commit(flags: u32, sets: &[(u32, u32, u64)]) -> (Atomic, [Vec<u8>; 4]) {
    let words = |of: fn(&(u32, u32, u64)) -> u32| {
        sets.iter().flat_map(|set| of(set).to_le_bytes()).collect::<Vec<u8>>()
    };
    let count = u32::try_from(sets.len()).unwrap();
    let fixed =
        Atomic { flags, count_objs: count, count_changes: count, fence_out: NO_FENCE, ..Atomic::default() };
    let each = 1_u32.to_le_bytes().repeat(sets.len());
    let values = sets.iter().flat_map(|set| set.2.to_le_bytes()).collect();
    (fixed, [words(|set| set.0), each, words(|set| set.1), values])
}

#[test]
fn an_atomic_commit_is_made_as_a_whole_or_not_at_all() {
    let mut desk = Desk::new();
    let file = desk.system.door.open(Node::Card);
    let (red, green) = (desk.dumb(file, 0xffff_0000), desk.dumb(file, 0xff00_ff00));
    let (first, second) = (desk.framebuffer(file, red).unwrap(), desk.framebuffer(file, green).unwrap());
    let blob = CreatePropBlob { length: 68, blob_id: 0 };
    let mode = desk.ask(file, &blob, &[mode().as_bytes()]).unwrap().blob_id;
    let whole = 64 << 16;
    let all = [
        (CONNECTOR, property::CRTC_ID, u64::from(CRTC)),
        (CRTC, property::MODE_ID, mode.into()),
        (CRTC, property::ACTIVE, 1),
        (PLANE, property::FB_ID, first.into()),
        (PLANE, property::CRTC_ID, CRTC.into()),
        (PLANE, property::CRTC_W, 64),
        (PLANE, property::CRTC_H, 64),
        (PLANE, property::SRC_W, whole),
        (PLANE, property::SRC_H, whole),
    ];
    assert_eq!(
        desk.atomic(file, ALLOW_MODESET, &all),
        Err(Errno::EINVAL),
        "it did not say that it knows how"
    );
    desk.ask(file, &SetClientCap { capability: 3, value: 1 }, &[]).unwrap();
    assert_eq!(desk.atomic(file, 0, &all), Err(Errno::EINVAL), "setting a mode is not allowed");
    assert_eq!(desk.atomic(file, ALLOW_MODESET | TEST_ONLY, &all), Ok(()));
    assert_eq!(desk.shown(), None, "only a test");
    assert_eq!(desk.atomic(file, ALLOW_MODESET, &all), Ok(()));
    assert_eq!(desk.shown(), Some(0xffff_0000));
    let flip = (PLANE, property::FB_ID, u64::from(second));
    for (bad, errno) in [
        ((PLANE, property::SRC_W, whole + 1), Errno::ENOSPC),
        ((PLANE, property::CRTC_W, 63), Errno::ERANGE),
        ((PLANE, property::CRTC_ID, 0), Errno::EINVAL),
        ((PLANE, 999, 0), Errno::ENOENT),
        ((999, property::FB_ID, 0), Errno::ENOENT),
        ((CRTC, property::MODE_ID, u64::from(first)), Errno::EINVAL),
    ] {
        assert_eq!(desk.atomic(file, ALLOW_MODESET, &[flip, bad]), Err(errno), "{bad:?}");
    }
    desk.system.outlast();
    assert_eq!(desk.shown(), Some(0xffff_0000), "half of a refused commit");
    assert_eq!(desk.atomic(file, NONBLOCK, &[flip]), Ok(()));
    assert_eq!(desk.atomic(file, NONBLOCK, &[flip]), Err(Errno::EBUSY));
    desk.system.outlast();
    assert_eq!(desk.shown(), Some(0xff00_ff00));
    desk.end(&[file]);
}
