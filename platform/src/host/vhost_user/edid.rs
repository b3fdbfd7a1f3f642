//! An EDID for a display that exists only here (VESA E-EDID, release A, revision 2).

/// The 128 bytes that describe a display of `width` times `height` pixels at 60 Hz. Both are cut to 4095, the
/// most that a detailed timing can say.
pub(super) fn describe(width: u32, height: u32) -> [u8; 128] {
    let mut edid = [0; 128];
    edid[..8].copy_from_slice(&[0, 255, 255, 255, 255, 255, 255, 0]);
    // Manufacturer "VGL", five bits a letter; product 1; made in 2026; EDID 1.4.
    let [high, low] = letters(b"VGL").to_be_bytes();
    edid[8..20].copy_from_slice(&[high, low, 1, 0, 1, 0, 0, 0, 1, 36, 1, 4]);
    // Digital, 8 bits a colour; size in centimetres at about 96 dots per inch; gamma 2.2; sRGB; preferred
    // timing first.
    let (width, height) = (width.clamp(1, 4095), height.clamp(1, 4095));
    let centimetres = |pixels: u32| u8::try_from(pixels * 254 / 9600).unwrap_or(u8::MAX);
    edid[20..25].copy_from_slice(&[0xa0, centimetres(width), centimetres(height), 120, 0x06]);
    // The chromaticity of sRGB.
    edid[25..35].copy_from_slice(&[0xee, 0x91, 0xa3, 0x54, 0x4c, 0x99, 0x26, 0x0f, 0x50, 0x54]);
    // No established and no standard timings.
    edid[38..54].fill(1);
    edid[54..72].copy_from_slice(&timing(width, height));
    edid[72..90].copy_from_slice(&text(0xfc, b"virgld"));
    // Two unused descriptors.
    edid[93] = 0x10;
    edid[111] = 0x10;
    let sum = edid.iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte));
    edid[127] = sum.wrapping_neg();
    edid
}

fn letters(name: &[u8; 3]) -> u16 {
    name.iter().fold(0, |packed, letter| packed << 5 | u16::from(letter - b'A' + 1))
}

/// A detailed timing with reduced blanking: 160 pixels, and lines enough for 460 microseconds.
fn timing(width: u32, height: u32) -> [u8; 18] {
    let (blank_x, front_x, sync_x) = (160, 48, 32);
    let blank_y = (height * 3 / 100).max(14);
    let (front_y, sync_y) = (3, 6);
    // In units of 10 kHz; 16 bits of it, so a very large display claims fewer than 60 Hz.
    let clock = ((width + blank_x) * (height + blank_y) * 60 / 10_000).min(65_535);
    let [low, high, ..] = clock.to_le_bytes();
    let byte = |value: u32| value.to_le_bytes()[0];
    let halves = |first: u32, second: u32| byte((first >> 8) << 4 | second >> 8);
    let (millimetres_x, millimetres_y) = (width * 254 / 960, height * 254 / 960);
    let mut timing = [0; 18];
    timing[..2].copy_from_slice(&[low, high]);
    timing[2..5].copy_from_slice(&[byte(width), byte(blank_x), halves(width, blank_x)]);
    timing[5..8].copy_from_slice(&[byte(height), byte(blank_y), halves(height, blank_y)]);
    timing[8..12].copy_from_slice(&[byte(front_x), byte(sync_x), byte(front_y << 4 | sync_y), 0]);
    timing[12..15].copy_from_slice(&[
        byte(millimetres_x),
        byte(millimetres_y),
        halves(millimetres_x, millimetres_y),
    ]);
    // Digital separate sync, horizontal positive, vertical negative, as reduced blanking has it.
    timing[17] = 0x1a;
    timing
}

fn text(kind: u8, name: &[u8]) -> [u8; 18] {
    let mut descriptor = [b' '; 18];
    descriptor[..5].copy_from_slice(&[0, 0, 0, kind, 0]);
    descriptor[5..5 + name.len()].copy_from_slice(name);
    descriptor[5 + name.len()] = b'\n';
    descriptor
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_sums_to_zero_and_says_its_size() {
        for (width, height) in [(1280, 800), (1, 1), (4095, 4095), (u32::MAX, 3)] {
            let edid = describe(width, height);
            assert_eq!(edid.iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte)), 0);
        }
        let edid = describe(1280, 800);
        assert_eq!(u32::from(edid[56]) | u32::from(edid[58] >> 4) << 8, 1280);
        assert_eq!(u32::from(edid[59]) | u32::from(edid[61] >> 4) << 8, 800);
        assert_eq!(&edid[8..10], &[0x58, 0xec]);
    }
}
