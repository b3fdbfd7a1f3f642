//! Formats of pixels that DRM has a name for.

/// What is known and not shown is another mistake than what nobody knows: ENOENT by the driver, EINVAL before it
/// (`__drm_format_info` in `drm_fourcc.c`).
const KNOWN: &[&[u8; 4]] = &[
    // An index, darkness, red alone.
    b"C1  ", b"C2  ", b"C4  ", b"C8  ", b"D1  ", b"D2  ", b"D4  ", b"D8  ", b"R1  ", b"R2  ", b"R4  ",
    b"R8  ", b"R10 ", b"R12 ", //
    // Colours, of 8 to 64 bits.
    b"RGB8", b"BGR8", b"XR12", b"XB12", b"RX12", b"BX12", b"AR12", b"AB12", b"RA12", b"BA12", b"XR15",
    b"XB15", b"RX15", b"BX15", b"AR15", b"AB15", b"RA15", b"BA15", b"RG16", b"BG16", b"RG24", b"BG24",
    b"XR24", b"XB24", b"RX24", b"BX24", b"AR24", b"AB24", b"RA24", b"BA24", b"XR30", b"XB30", b"RX30",
    b"BX30", b"AR30", b"AB30", b"RA30", b"BA30", b"RG48", b"BG48", b"XR48", b"XB48", b"AR48", b"AB48",
    b"XR4H", b"XB4H", b"AR4H", b"AB4H", b"AB10", //
    // Colours with their alpha apart.
    b"R5A8", b"B5A8", b"R8A8", b"B8A8", b"XRA8", b"XBA8", b"RXA8", b"BXA8", //
    // Brightness and chroma, in one plane.
    b"YUYV", b"YVYU", b"UYVY", b"VYUY", b"XYUV", b"AYUV", b"VU24", b"VU30", b"Y210", b"Y212", b"Y216",
    b"Y410", b"Y412", b"Y416", b"XV30", b"XV36", b"XV48", b"Y0L0", b"X0L0", b"Y0L2", b"X0L2", b"YU08",
    b"YU10", //
    // The same in two.
    b"NV12", b"NV21", b"NV16", b"NV61", b"NV24", b"NV42", b"NV15", b"NV20", b"NV30", b"P010", b"P012",
    b"P016", b"P030", b"P210", //
    // And in three.
    b"YUV9", b"YVU9", b"YU11", b"YV11", b"YU12", b"YV12", b"YU16", b"YV16", b"YU24", b"YV24", b"Q410",
    b"Q401", b"S010", b"S210", b"S410", b"S012", b"S212", b"S412", b"S016", b"S216", b"S416",
];

/// Whether DRM knows a format by this code.
pub(crate) fn is_known(format: u32) -> bool {
    KNOWN.iter().any(|name| u32::from_le_bytes(**name) == format)
}
