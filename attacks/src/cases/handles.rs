//! Numbers that name nothing of the attacker's.

use rustix::io::Errno;
use virgld_protocol::client::{
    ContextInit, Execbuffer, GemClose, Map, PrimeHandleToFd, ResourceInfo, SyncobjDestroy, TransferFromHost,
    TransferToHost, Wait,
};
use zerocopy::IntoBytes;

use super::{Case, must, must_refuse};
use crate::picture::Picture;
use crate::victim::Victim;
use crate::wire::{Client, Door, Failed, Outcome};

pub(super) const CASES: &[(&str, Case)] = &[
    ("handles-guessed", guessed),
    ("handles-of-others", of_others),
    ("handles-closed-and-closed-again", closed),
    ("handles-global-names", global_names),
    ("context-twice", context_twice),
];

/// Tries a handle in every call that takes one.
fn refused_everywhere(client: &mut Client, handle: u32) -> Outcome<()> {
    let what = |call: &str| format!("{call} of handle {handle:#x}");
    must_refuse(&what("MAP"), client.ioctl(&Map { handle, ..Map::default() }, &[]), Errno::NOENT)?;
    let info = ResourceInfo { bo_handle: handle, ..Default::default() };
    must_refuse(&what("RESOURCE_INFO"), client.ioctl(&info, &[]), Errno::NOENT)?;
    let transfer = TransferToHost { bo_handle: handle, w: 1, h: 1, d: 1, ..Default::default() };
    must_refuse(&what("TRANSFER_TO_HOST"), client.ioctl(&transfer, &[]), Errno::NOENT)?;
    let transfer = TransferFromHost { bo_handle: handle, w: 1, h: 1, d: 1, ..Default::default() };
    must_refuse(&what("TRANSFER_FROM_HOST"), client.ioctl(&transfer, &[]), Errno::NOENT)?;
    let submit = Execbuffer { num_bo_handles: 1, fence_fd: -1, ..Execbuffer::default() };
    must_refuse(&what("EXECBUFFER"), client.ioctl(&submit, &[[handle].as_bytes()]), Errno::NOENT)?;
    must_refuse(&what("WAIT"), client.ioctl(&Wait { handle, flags: 1 }, &[]), Errno::NOENT)?;
    let export = PrimeHandleToFd { handle, flags: 0, fd: -1 };
    must_refuse(&what("PRIME_HANDLE_TO_FD"), client.ioctl(&export, &[]), Errno::NOENT)?;
    must_refuse(&what("GEM_CLOSE"), client.ioctl(&GemClose { handle, pad: 0 }, &[]), Errno::INVAL)?;
    must_refuse(&what("SYNCOBJ_DESTROY"), client.ioctl(&SyncobjDestroy { handle, pad: 0 }, &[]), Errno::INVAL)
}

fn guessed(door: &Door, _: &mut Victim) -> Outcome<String> {
    let mut client = door.open()?;
    let mut tried = 0;
    for handle in (0..64).chain((0..32).map(|bit| 1 << bit)).chain([u32::MAX, u32::MAX - 1, 0x7fff_ffff]) {
        refused_everywhere(&mut client, handle)?;
        tried += 1;
    }
    Ok(format!("{tried} numbers in 9 calls, each refused like a number that names nothing"))
}

fn of_others(door: &Door, victim: &mut Victim) -> Outcome<String> {
    let mut client = door.open()?;
    refused_everywhere(&mut client, victim.picture.handle)?;
    refused_everywhere(&mut client, victim.picture.resource)?;
    // With a table of its own the attacker has the victim's number, and by it its own buffer.
    let own = Picture::new(&mut client, 0)?;
    must("the numbers begin alike", own.handle == victim.picture.handle)?;
    must("they name different buffers", own.resource != victim.picture.resource)?;
    victim.is_unseen_in(&own.read()?)?;
    Ok("the victim's numbers name nothing here, or the attacker's own".into())
}

fn closed(door: &Door, _: &mut Victim) -> Outcome<String> {
    let mut client = door.open()?;
    for _ in 0..20 {
        let picture = Picture::new(&mut client, 0)?;
        client.ioctl(&GemClose { handle: picture.handle, pad: 0 }, &[])?;
        refused_everywhere(&mut client, picture.handle)?;
    }
    Ok("a closed handle is refused, also when closed again".into())
}

fn global_names(door: &Door, _: &mut Victim) -> Outcome<String> {
    let mut client = door.open()?;
    for number in [0x0a, 0x0b] {
        for name in 1..4_u32 {
            let payload = [name.as_bytes(), &[0; 12]].concat();
            let attempt =
                client.ask(virgld_protocol::channel::KIND_IOCTL, number, &payload[..16], &[]).map(drop);
            must("a global name was taken", attempt.is_err())?;
            if client.is_cut_off() {
                client = door.open()?;
            }
        }
    }
    Ok("GEM_FLINK and GEM_OPEN are refused".into())
}

fn context_twice(door: &Door, _: &mut Victim) -> Outcome<String> {
    let mut client = door.open()?;
    let _own = Picture::new(&mut client, 0)?;
    let again = client.ioctl(&ContextInit::default(), &[]);
    // EINVAL from a device that lets nobody choose a context's kind.
    let (there, not_offered) = (Errno::EXIST.raw_os_error(), Errno::INVAL.raw_os_error());
    must(
        "a second context was made",
        matches!(again, Err(Failed::Errno(it)) if it == there || it == not_offered),
    )?;
    Ok("the file keeps the context that it has, and no call names one".into())
}
