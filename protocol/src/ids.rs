//! Names of things. A name is a number and confers nothing: authority is a capability, or an entry in the
//! table of one open file.

macro_rules! ids {
    ($($(#[$meta:meta])* $name:ident($inner:ty);)*) => {
        $($(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        pub struct $name(pub $inner);)*
    };
}

ids! {
    /// An open DRM file. Never used twice.
    FileId(u64);
    /// Whose file it is: a user as the operating system numbers them.
    UserId(u32);
    /// A GL context as the device numbers it (virtio 1.2, section 5.7.6.7, `ctx_id`); 0 is none.
    ContextId(u32);
    /// A resource as the device numbers it (`resource_id`); 0 is none. Clients see it as `res_handle`.
    ResourceId(u32);
    /// A GEM handle: an index into the table of one open file, and meaningless in any other; 0 is none.
    Handle(u32);
    /// A fence on the control queue. Monotonic and below 2^32: devices never complete larger ones.
    FenceId(u32);
    /// A ring of a context (`ring_idx`).
    RingIndex(u8);
    /// The place of one asynchronous call in the order of its context.
    Serial(u64);
    /// A call that waits for an answer; chosen by the asker, returned with the answer.
    Token(u64);
    /// A fence that the scheme keeps, whatever signals it.
    FenceKey(u64);
}
