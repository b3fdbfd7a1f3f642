//! The numbers by which the reactor, and the scheme, give back what they were given.

use virgld_protocol::ids::Token;

/// What became ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Source {
    /// The listener with this index.
    Listener(u64),
    /// The connection of this file.
    File(u64),
    /// The socket of this channel.
    Channel(u64),
    /// The doorbell of this channel.
    Doorbell(u64),
    /// The process of this channel.
    Process(u64),
    /// This foreign fence.
    Fence(u64),
    /// The synchronisation object with this key.
    Syncobj(u64),
    /// The door itself: there is more to do.
    Again,
}

impl Source {
    /// As the reactor's token.
    pub(super) fn pack(self) -> u64 {
        let (kind, number) = match self {
            Self::Again => (0, 0),
            Self::Listener(number) => (1, number),
            Self::File(number) => (2, number),
            Self::Channel(number) => (3, number),
            Self::Doorbell(number) => (4, number),
            Self::Fence(number) => (5, number),
            Self::Syncobj(number) => (6, number),
            Self::Process(number) => (7, number),
        };
        number << 3 | kind
    }

    /// Back from the reactor's token.
    pub(super) fn unpack(token: u64) -> Self {
        let number = token >> 3;
        match token & 7 {
            1 => Self::Listener(number),
            2 => Self::File(number),
            3 => Self::Channel(number),
            4 => Self::Doorbell(number),
            5 => Self::Fence(number),
            6 => Self::Syncobj(number),
            7 => Self::Process(number),
            _ => Self::Again,
        }
    }
}

/// The slot of a channel, as the scheme's token. Channels are never numbered alike, and a slot has one call at a
/// time: so an answer to a client that is gone finds nothing.
pub(super) fn of_slot(channel: u64, slot: u8) -> Token {
    Token(channel << 8 | u64::from(slot))
}

/// Back from the scheme's token.
pub(super) fn slot_of(token: Token) -> (u64, u8) {
    (token.0 >> 8, token.0.to_le_bytes()[0])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_come_back_as_they_went() {
        for source in [
            Source::Again,
            Source::Listener(1),
            Source::File(7),
            Source::Channel(1 << 40),
            Source::Doorbell(3),
            Source::Fence(u64::MAX >> 3),
            Source::Syncobj(0),
            Source::Process(8),
        ] {
            assert_eq!(Source::unpack(source.pack()), source);
        }
        assert_eq!(slot_of(of_slot(77, 63)), (77, 63));
    }
}
