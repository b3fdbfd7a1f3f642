//! Faults of the device.

use std::time::Duration;

use virgld_runtime::fault::When;

/// What goes wrong at the device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeviceWrong {
    /// Nothing is answered any more; the connection stays.
    Stall,
    /// An interrupt does not come.
    LostInterrupt,
    /// An interrupt comes for nothing.
    SpuriousInterrupt,
    /// A used element names a chain that the device does not have.
    WrongId,
    /// A used element comes twice.
    UsedTwice,
    /// An answer claims to be longer than its room.
    LongLength,
    /// An answer claims to be shorter than a header.
    ShortLength,
    /// A command is answered with an error and not executed.
    ErrorResponse,
    /// A command is answered with the response of another.
    WrongResponse,
    /// A command is answered so much later.
    LateResponse(Duration),
    /// The device dies.
    Death,
}

impl DeviceWrong {
    /// All of them by name; the time of the late one is to be filled in.
    pub const ALL: [(&'static str, Self); 11] = [
        ("stall", Self::Stall),
        ("lost-interrupt", Self::LostInterrupt),
        ("spurious-interrupt", Self::SpuriousInterrupt),
        ("wrong-id", Self::WrongId),
        ("used-twice", Self::UsedTwice),
        ("long-length", Self::LongLength),
        ("short-length", Self::ShortLength),
        ("error-response", Self::ErrorResponse),
        ("wrong-response", Self::WrongResponse),
        ("late-response", Self::LateResponse(Duration::ZERO)),
        ("death", Self::Death),
    ];

    /// Whether it can be done to the process of a real device.
    pub fn is_real(self) -> bool {
        matches!(self, Self::Stall | Self::Death)
    }
}

/// One fault of the device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeviceRule {
    /// What.
    pub wrong: DeviceWrong,
    /// At which of its commands; at none where it goes by time.
    pub when: Option<When>,
    /// How long after the plan was loaded, and again after as long.
    pub after: Option<Duration>,
    /// How often at most.
    pub times: u64,
}
