//! Where things lie in the memory of the device, as we make it up.
//!
//! Region k begins at (k + 1) * 2^36, for guest-physical and for user addresses alike, and no k is used twice:
//! an address that was left behind never hits later memory.

/// The address of region `index`; none where addresses have run out, after 2^27 regions.
pub(super) fn region_base(index: u64) -> Option<u64> {
    (index < MOST_REGIONS).then(|| (index + 1) << REGION_SHIFT)
}

/// The index of the region that begins at `address`, if one does.
pub(super) fn region_index(address: u64) -> Option<u64> {
    let index = (address >> REGION_SHIFT).checked_sub(1)?;
    region_base(index).filter(|base| *base == address).map(|_| index)
}

/// The address of region 0.
pub(super) const FIRST_BASE: u64 = 1 << REGION_SHIFT;

/// The largest region, in bytes: 32 GiB, so that even a wild address past its end hits nothing.
pub(super) const LARGEST_REGION: usize = 1 << (REGION_SHIFT - 1);

const REGION_SHIFT: u32 = 36;
const MOST_REGIONS: u64 = 1 << 27;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn regions_never_touch_and_no_address_is_zero() {
        assert_eq!(region_base(0), Some(FIRST_BASE));
        assert_eq!(region_base(1), Some(2 << 36));
        assert!(region_base(MOST_REGIONS - 1).unwrap().checked_add(1 << 36).is_some());
        assert_eq!(region_base(MOST_REGIONS), None);
        for index in [0, 1, MOST_REGIONS - 1] {
            assert_eq!(region_index(region_base(index).unwrap()), Some(index));
        }
        for address in [0, 4096, FIRST_BASE + 1, u64::MAX] {
            assert_eq!(region_index(address), None);
        }
    }
}
