//! Leaving in the middle.

use virgld_protocol::channel::{KIND_IOCTL, NO_SLOT};
use virgld_protocol::client::{Execbuffer, Ioctl};
use zerocopy::IntoBytes;

use super::Case;
use crate::picture::{Picture, SHARED, clear};
use crate::victim::Victim;
use crate::wire::{Door, Outcome};

pub(super) const CASES: &[(&str, Case)] = &[("leaving-with-work-under-way", leaving)];

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
