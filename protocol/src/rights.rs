//! What the holder of a buffer may do with it.

bitflags::bitflags! {
    /// The rights that a handle gives. A capability that is derived from another has equal or fewer.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct Rights: u32 {
        /// See its memory. Whoever has a descriptor has this: the kernel maps what one has a descriptor of.
        const MAP = 1;
        /// Move its memory into the resource.
        const TO_HOST = 1 << 1;
        /// Move the resource into its memory.
        const FROM_HOST = 1 << 2;
        /// Name it in a command stream. Only then does the device let the file's context use it at all, so transfers
        /// need this too.
        const EXECUTE = 1 << 3;
        /// Put it on a screen.
        const SCAN_OUT = 1 << 4;
        /// Make descriptors of it.
        const SHARE = 1 << 5;
    }
}
