//! The size that a display's EDID tells (VESA E-EDID 1.4, section 3.10.2: the first detailed timing).

/// Width and height in pixels and in millimetres; none if it is no EDID.
pub(crate) fn preferred(edid: &[u8]) -> Option<((u32, u32), (u32, u32))> {
    const MAGIC: [u8; 8] = [0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0];
    let block = edid.get(..128)?;
    let sound =
        block.starts_with(&MAGIC) && block.iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte)) == 0;
    let timing = &block[54..72];
    let high = |byte: u8| u32::from(byte >> 4) << 8;
    let width = u32::from(timing[2]) | high(timing[4]);
    let height = u32::from(timing[5]) | high(timing[7]);
    let across = u32::from(timing[12]) | high(timing[14]);
    let down = u32::from(timing[13]) | (u32::from(timing[14]) & 0xf) << 8;
    (sound && timing[..2] != [0, 0] && width > 0 && height > 0).then_some(((width, height), (across, down)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_timing_is_read_and_noise_is_not() {
        let mut edid = [0_u8; 128];
        edid[1..7].fill(0xff);
        edid[54..72]
            .copy_from_slice(&[1, 1, 0x00, 0, 0x50, 0x20, 0, 0x30, 0, 0, 0, 0, 0x45, 0xd8, 0x10, 0, 0, 0]);
        let sum = edid.iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte));
        edid[127] = 0_u8.wrapping_sub(sum);
        assert_eq!(preferred(&edid), Some(((1280, 800), (0x145, 0xd8))));
        edid[60] ^= 1;
        assert_eq!(preferred(&edid), None);
        assert_eq!(preferred(&[0; 200]), None);
        assert_eq!(preferred(&edid[..127]), None);
    }
}
