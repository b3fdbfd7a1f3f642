//! What a device must not do, and what a driver has to survive.

use super::{DeviceQueue, INDEX_OFFSET, Offence, RING_HEADER_SIZE, USED_ELEMENT_SIZE};

impl DeviceQueue {
    /// Appends a used element with any id and length: an id that does not exist, one twice, too long a length.
    /// Which chains the device holds does not change.
    pub fn forge_used(&mut self, id: u32, length: u32) -> Result<(), Offence> {
        self.append(id, length)
    }

    /// Writes a used element without moving the index.
    pub fn forge_element(&mut self, position: u16, id: u32, length: u32) -> Result<(), Offence> {
        let slot = usize::from(position % self.area.size);
        let at = self.area.used + RING_HEADER_SIZE + slot * USED_ELEMENT_SIZE;
        self.area.memory.write(at, &id.to_le_bytes())?;
        self.area.memory.write(at + 4, &length.to_le_bytes())?;
        Ok(())
    }

    /// Shows the driver any used index. The device's own does not move, so the next push puts it right again.
    pub fn forge_index(&mut self, index: u16) -> Result<(), Offence> {
        Ok(self.area.memory.store_u16(self.area.used + INDEX_OFFSET, index)?)
    }

    /// Shows the driver any flags.
    pub fn forge_flags(&mut self, flags: u16) -> Result<(), Offence> {
        Ok(self.area.memory.store_u16(self.area.used, flags)?)
    }

    /// Shows the driver any index at which a kick is wanted.
    pub fn forge_available_event(&mut self, index: u16) -> Result<(), Offence> {
        let ring = RING_HEADER_SIZE + usize::from(self.area.size) * USED_ELEMENT_SIZE;
        Ok(self.area.memory.store_u16(self.area.used + ring, index)?)
    }

    /// The device's own used index: one past its last element.
    pub fn used_index(&self) -> u16 {
        self.used
    }

    /// Writes any bytes anywhere into the memory that holds the queue, the driver's parts included.
    pub fn scribble(&mut self, offset: usize, bytes: &[u8]) -> Result<(), Offence> {
        Ok(self.area.memory.write(offset, bytes)?)
    }
}
