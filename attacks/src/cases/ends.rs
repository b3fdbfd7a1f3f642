//! Leaving in the middle.

use std::process::{Command, Stdio};
use std::time::Duration;

use virgld_protocol::channel::{KIND_IOCTL, NO_SLOT};
use virgld_protocol::client::{Execbuffer, Ioctl};
use zerocopy::IntoBytes;

use super::{Case, Noise};
use crate::picture::{Picture, SHARED, clear, copy, submit};
use crate::victim::Victim;
use crate::wire::{Door, Failed, Outcome};

pub(super) const CASES: &[(&str, Case)] =
    &[("leaving-with-work-under-way", leaving), ("killed-at-any-moment", killed)];

fn leaving(door: &Door, victim: &mut Victim) -> Outcome<String> {
    for round in 0..20 {
        let mut client = door.open()?;
        let own = Picture::new(&mut client, if round % 2 == 0 { 0 } else { SHARED })?;
        let stream = clear(own.resource, 1);
        let fixed = Execbuffer {
            size: u32::try_from(stream.len() * 4).unwrap_or(0),
            num_bo_handles: 1,
            fence_fd: -1,
            ..Execbuffer::default()
        };
        let payload = [fixed.as_bytes(), stream.as_bytes(), [own.handle].as_bytes()].concat();
        for _ in 0..100 {
            client.post(KIND_IOCTL, Execbuffer::TABLE.number, NO_SLOT, &payload, &[])?;
        }
        // With half a record at the end.
        client.write(virgld_protocol::channel::RING_OFFSET + 100, &[1; 40])?;
        drop(client);
    }
    victim.check()?;
    Ok("20 clients left with 100 submits each under way".into())
}

fn killed(door: &Door, victim: &mut Victim) -> Outcome<String> {
    let mut noise = Noise(5);
    let here = std::env::current_exe().map_err(|error| Failed::Setup(error.to_string()))?;
    for _ in 0..20 {
        let mut child = Command::new(&here)
            .arg("--hammer")
            .arg("--runtime-dir")
            .arg(&door.0)
            .stdin(Stdio::null())
            .spawn()
            .map_err(|error| Failed::Setup(error.to_string()))?;
        std::thread::sleep(Duration::from_micros(u64::from(noise.below(120_000))));
        let ended = child.try_wait();
        let _ = child.kill();
        let _ = child.wait();
        if !matches!(ended, Ok(None)) {
            return Err(Failed::Setup(format!("the client to be killed ended before: {ended:?}")));
        }
        victim.check()?;
    }
    Ok("20 clients killed while they did all kinds of calls".into())
}

/// Does all kinds of calls without end.
pub(crate) fn hammer(door: &Door) -> Outcome<()> {
    loop {
        let mut client = door.open()?;
        for bind in [0, SHARED] {
            let own = Picture::new(&mut client, bind)?;
            own.upload(&mut client, &vec![1; crate::picture::BYTES])?;
            submit(&mut client, &copy(own.resource, own.resource), own.handle)?;
            submit(&mut client, &clear(own.resource, 1), own.handle)?;
            own.download(&mut client)?;
        }
    }
}
