//! Access to a device's registers, and the fields of the common configuration by their sizes.

use virgld_protocol::virtio_pci::Window;

/// The memory behind a device's base address registers. A device that is gone reads as ones.
pub(super) trait Registers {
    /// Reads bytes of a window; widths of 1, 2 and 4 are one access if they are aligned.
    fn read(&self, window: Window, offset: u64, into: &mut [u8]);

    /// Writes bytes of a window, likewise.
    fn write(&self, window: Window, offset: u64, from: &[u8]);
}

/// One window.
#[derive(Clone, Copy)]
pub(super) struct Fields<'a> {
    pub(super) registers: &'a dyn Registers,
    pub(super) window: Window,
}

impl Fields<'_> {
    pub(super) fn byte(self, offset: u64) -> u8 {
        let [byte] = self.bytes(offset);
        byte
    }

    pub(super) fn word(self, offset: u64) -> u16 {
        u16::from_le_bytes(self.bytes(offset))
    }

    pub(super) fn double(self, offset: u64) -> u32 {
        u32::from_le_bytes(self.bytes(offset))
    }

    pub(super) fn set_byte(self, offset: u64, value: u8) {
        self.registers.write(self.window, offset, &[value]);
    }

    pub(super) fn set_word(self, offset: u64, value: u16) {
        self.registers.write(self.window, offset, &value.to_le_bytes());
    }

    pub(super) fn set_double(self, offset: u64, value: u32) {
        self.registers.write(self.window, offset, &value.to_le_bytes());
    }

    /// A field of 64 bits: two accesses of 32 (virtio 1.2, section 4.1.3.1).
    #[expect(clippy::cast_possible_truncation, reason = "the two halves of the number, on purpose")]
    pub(super) fn set_address(self, offset: u64, value: u64) {
        self.set_double(offset, value as u32);
        self.set_double(offset + 4, (value >> 32) as u32);
    }

    fn bytes<const N: usize>(self, offset: u64) -> [u8; N] {
        let mut bytes = [0xff; N];
        self.registers.read(self.window, offset, &mut bytes);
        bytes
    }
}
