//! Where a device is on PCI.

use std::fmt;
use std::str::FromStr;

/// Domain, bus, device and function, as sysfs writes them: `0000:00:02.0`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Address {
    domain: u32,
    bus: u8,
    device: u8,
    function: u8,
}

impl fmt::Display for Address {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { domain, bus, device, function } = self;
        write!(formatter, "{domain:04x}:{bus:02x}:{device:02x}.{function}")
    }
}

impl FromStr for Address {
    type Err = BadAddress;

    /// Reads `0000:00:02.0`, or `00:02.0` for domain 0.
    fn from_str(text: &str) -> Result<Self, BadAddress> {
        let parse = || {
            let (place, function) = text.rsplit_once('.')?;
            let mut parts = place.rsplit(':');
            let (device, bus, domain) = (parts.next()?, parts.next()?, parts.next().unwrap_or("0"));
            let hexadecimal = |text: &str| {
                let digits = text.bytes().all(|byte| byte.is_ascii_hexdigit());
                u32::from_str_radix(text, 16).ok().filter(|_| digits)
            };
            let small = |text: &str, limit: u8| {
                u8::try_from(hexadecimal(text)?).ok().filter(|number| *number < limit)
            };
            let address = Self {
                domain: hexadecimal(domain)?,
                bus: u8::try_from(hexadecimal(bus)?).ok()?,
                device: small(device, 32)?,
                function: small(function, 8)?,
            };
            parts.next().is_none().then_some(address)
        };
        parse().ok_or_else(|| BadAddress(text.to_owned()))
    }
}

/// A text that names no place on PCI.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no PCI address; one looks like 0000:00:02.0")]
pub struct BadAddress(String);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_as_they_are_written() {
        for text in ["0000:00:02.0", "10000:ff:1f.7"] {
            assert_eq!(text.parse::<Address>().unwrap().to_string(), text);
        }
        assert_eq!("0:2.1".parse::<Address>().unwrap().to_string(), "0000:00:02.1");
        for bad in ["", "2.0", "00:02", "00:20.0", "00:02.8", "0:0:0:02.0", "+0:02.0", "00:02.0 ", "100:02.0"]
        {
            assert!(bad.parse::<Address>().is_err(), "{bad}");
        }
    }
}
