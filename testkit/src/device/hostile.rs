//! A device that writes what somebody else tells it to.

use virgld_runtime::link::LinkEvent;

use super::{FakeDevice, Held};
use crate::link::locked;
use crate::queue::DeviceQueue;

impl FakeDevice {
    /// A queue as the device sees it, to lie in.
    pub fn queue(&mut self, index: u16) -> Option<&mut DeviceQueue> {
        self.queues.get_mut(usize::from(index)).map(|queue| &mut queue.ring)
    }

    /// Answers the held command of this index with these bytes, and says that it wrote so many. Says whether there is
    /// such a command.
    pub fn answer_with(&mut self, index: usize, bytes: &[u8], written: u32) -> bool {
        if index >= self.held.len() {
            return false;
        }
        let mut held = self.held.remove(index);
        let kept = held.bytes.len().min(bytes.len());
        held.bytes[..kept].copy_from_slice(&bytes[..kept]);
        self.give_back(Held { lie: Some(written), ..held });
        true
    }

    /// Has the connection tell the driver anything.
    pub fn tell(&mut self, event: LinkEvent) {
        locked(&self.wire).tell(event);
    }
}
