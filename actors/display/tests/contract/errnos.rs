//! Calls with each mistake that there is, and what Linux says to it: tables.

use virgld_protocol::client::kms::ModeInfo as Mode;
use virgld_protocol::errno::Errno;
use virgld_protocol::message::display::{Answer, Call, NewFramebuffer, SetCrtc};

use super::desk::{CONNECTOR, CRTC, Desk, FIRST, SECOND, mode, written};

/// What a call is answered with: nothing, or an errno. All of these are answered at once.
fn errno(desk: &mut Desk, call: Call) -> Option<Errno> {
    desk.call(FIRST, call).1.unwrap().err()
}

/// 64 by 64 pixels at the beginning of a buffer of 128 by 64.
fn good() -> NewFramebuffer {
    NewFramebuffer {
        width: 64,
        height: 64,
        format: u32::from_le_bytes(*b"XR24"),
        flags: 0,
        pitch: 256,
        offset: 0,
        modifiers: [0; 4],
        image: Some(written(11)),
    }
}

/// A change of what is asked for.
type Spoil<T> = fn(&mut T);

#[test]
fn framebuffers_are_accepted_or_refused_as_by_linux() {
    const BEYOND: u32 = 128 * 64 * 4 - 64 * 256;
    let table: [(&str, Spoil<NewFramebuffer>, Option<Errno>); 32] = [
        ("as it is", |_| {}, None),
        ("with alpha", |it| it.format = u32::from_le_bytes(*b"AR24"), None),
        ("interlaced", |it| it.flags = 1, None),
        ("wide rows", |it| it.pitch = 512, None),
        ("as far on as can be", |it| it.offset = BEYOND, None),
        ("small", |it| (it.width, it.height) = (32, 32), None),
        ("unknown flag", |it| it.flags = 4, Some(Errno::EINVAL)),
        ("all flags", |it| it.flags = u32::MAX, Some(Errno::EINVAL)),
        ("the flag for modifiers", |it| it.flags = 2, Some(Errno::EINVAL)),
        ("a modifier without the flag", |it| it.modifiers[0] = 1, Some(Errno::EINVAL)),
        ("a modifier of a plane that there is not", |it| it.modifiers[1] = 1, Some(Errno::EINVAL)),
        ("and of the last", |it| it.modifiers[3] = u64::MAX, Some(Errno::EINVAL)),
        ("no width", |it| it.width = 0, Some(Errno::EINVAL)),
        ("no height", |it| it.height = 0, Some(Errno::EINVAL)),
        ("too narrow", |it| it.width = 31, Some(Errno::EINVAL)),
        ("too low", |it| it.height = 31, Some(Errno::EINVAL)),
        ("too wide", |it| it.width = 8193, Some(Errno::EINVAL)),
        ("too high", |it| it.height = 8193, Some(Errno::EINVAL)),
        ("endless", |it| (it.width, it.height) = (u32::MAX, u32::MAX), Some(Errno::EINVAL)),
        ("no format", |it| it.format = 0, Some(Errno::EINVAL)),
        ("letters that name no format", |it| it.format = u32::from_le_bytes(*b"ZZ99"), Some(Errno::EINVAL)),
        ("big-endian pixels", |it| it.format |= 1 << 31, Some(Errno::EINVAL)),
        ("a format that is not shown", |it| it.format = u32::from_le_bytes(*b"RG16"), Some(Errno::ENOENT)),
        ("one of two planes", |it| it.format = u32::from_le_bytes(*b"NV12"), Some(Errno::ENOENT)),
        ("no rows", |it| it.pitch = 0, Some(Errno::EINVAL)),
        ("rows that overlap", |it| it.pitch = 255, Some(Errno::EINVAL)),
        ("rows of 4 GiB", |it| it.pitch = u32::MAX, Some(Errno::ERANGE)),
        ("an end beyond 4 GiB", |it| it.offset = u32::MAX, Some(Errno::ERANGE)),
        ("no such handle", |it| it.image = None, Some(Errno::EINVAL)),
        ("a handle, but of too little", |it| it.offset = BEYOND + 1, Some(Errno::EINVAL)),
        ("more rows than the buffer", |it| (it.height, it.pitch) = (65, 512), Some(Errno::EINVAL)),
        (
            "no handle, and a format that is not shown",
            |it| {
                it.image = None;
                it.format = u32::from_le_bytes(*b"RG16");
            },
            Some(Errno::ENOENT),
        ),
    ];
    let mut desk = Desk::new();
    for (what, spoil, expected) in table {
        let mut asked = good();
        spoil(&mut asked);
        assert_eq!(errno(&mut desk, Call::AddFramebuffer(asked)), expected, "{what}");
    }
    let made = desk.state.report().framebuffers;
    assert_eq!(made, 6, "a framebuffer is left of a call that was refused");
}

#[test]
fn framebuffers_that_are_not_there_are_missed_and_those_of_others_are_not_removed() {
    let mut desk = Desk::new();
    let (own, theirs) = (desk.dumb(FIRST, 11), desk.dumb(SECOND, 12));
    let clip = [0, 0, 8, 8];
    let dirty =
        |framebuffer, flags, clips: &[[u16; 4]]| Call::Dirty { framebuffer, flags, clips: clips.to_vec() };
    let table: [(&str, Call, Option<Errno>); 16] = [
        ("remove none", Call::RemoveFramebuffer(0), Some(Errno::ENOENT)),
        ("remove an unknown one", Call::RemoveFramebuffer(9999), Some(Errno::ENOENT)),
        ("remove another object", Call::RemoveFramebuffer(CRTC), Some(Errno::ENOENT)),
        ("remove another's", Call::RemoveFramebuffer(theirs), Some(Errno::ENOENT)),
        ("close an unknown one", Call::CloseFramebuffer(9999), Some(Errno::ENOENT)),
        ("close another's", Call::CloseFramebuffer(theirs), Some(Errno::ENOENT)),
        ("look at an unknown one", Call::Framebuffer(9999), Some(Errno::ENOENT)),
        ("look at another's", Call::Framebuffer(theirs), None),
        ("dirty an unknown one", dirty(9999, 0, &[]), Some(Errno::ENOENT)),
        ("dirty an unknown one with bad clips", dirty(9999, 1, &[clip]), Some(Errno::ENOENT)),
        ("dirty all", dirty(own, 0, &[]), None),
        ("dirty a copy without its source", dirty(own, 1, &[clip]), Some(Errno::EINVAL)),
        ("dirty a copy", dirty(own, 1, &[clip, clip]), None),
        ("dirty with flags that nobody knows", dirty(own, !1, &[clip]), None),
        ("remove it", Call::RemoveFramebuffer(own), None),
        ("remove it twice", Call::RemoveFramebuffer(own), Some(Errno::ENOENT)),
    ];
    for (what, call, expected) in table {
        assert_eq!(errno(&mut desk, call), expected, "{what}");
    }
    // Who is not master sees what a framebuffer is, and gets no handle.
    let seen = desk.call(SECOND, Call::Framebuffer(theirs)).1;
    assert!(matches!(seen, Some(Ok(Answer::Framebuffer { resource: None, .. }))), "{seen:?}");
}

#[test]
fn modes_are_set_or_refused_as_by_linux() {
    let mut desk = Desk::new();
    let own = desk.dumb(FIRST, 11);
    let table: [(&str, Spoil<SetCrtc>, Errno); 14] = [
        ("no such CRTC", |it| it.crtc = 9999, Errno::ENOENT),
        ("a connector for a CRTC", |it| it.crtc = CONNECTOR, Errno::ENOENT),
        ("no framebuffer", |it| it.framebuffer = 0, Errno::ENOENT),
        ("no such framebuffer", |it| it.framebuffer = 9999, Errno::ENOENT),
        ("what is shown, and nothing is", |it| it.framebuffer = u32::MAX, Errno::EINVAL),
        ("beside the framebuffer", |it| it.position = (1, 0), Errno::ENOSPC),
        ("below it", |it| it.position = (0, 0xffff), Errno::ENOSPC),
        ("farther than 16.16 goes", |it| it.position = (0x1_0000, 0), Errno::ERANGE),
        ("the same, and no such CRTC", |it| (it.position, it.crtc) = ((0, u32::MAX), 9999), Errno::ERANGE),
        ("no connector", |it| it.connectors.clear(), Errno::EINVAL),
        ("no such connector", |it| it.connectors = vec![9999], Errno::ENOENT),
        ("more connectors than there are", |it| it.connectors.push(9999), Errno::EINVAL),
        ("a connector without a mode", |it| it.mode = None, Errno::EINVAL),
        ("a mode without pixels", |it| it.mode = it.mode.map(|it| Mode { hdisplay: 0, ..it }), Errno::EINVAL),
    ];
    for (what, spoil, expected) in table {
        let mut asked = SetCrtc {
            crtc: CRTC,
            framebuffer: own,
            position: (0, 0),
            connectors: vec![CONNECTOR],
            mode: Some(mode()),
        };
        spoil(&mut asked);
        assert_eq!(errno(&mut desk, Call::SetCrtc(asked)), Some(expected), "{what}");
    }
    assert_eq!(desk.state.report().outputs[0].mode, None);
}
