//! The commands of the virtio-gpu device and its answers (virtio 1.2, section 5.7.6), one file each.
//!
//! A command is a type that names its code and its answer; adding one touches one file.

mod ctx_attach_resource;
mod ctx_create;
mod ctx_destroy;
mod ctx_detach_resource;
mod get_capset;
mod get_capset_info;
mod get_display_info;
mod get_edid;
mod header;
mod resource_attach_backing;
mod resource_create_2d;
mod resource_create_3d;
mod resource_detach_backing;
mod resource_flush;
mod resource_unref;
mod response;
mod set_scanout;
mod submit_3d;
mod transfer_from_host_3d;
mod transfer_to_host_2d;
mod transfer_to_host_3d;
mod update_cursor;

pub use ctx_attach_resource::ContextAttachResource;
pub use ctx_create::ContextCreate;
pub use ctx_destroy::ContextDestroy;
pub use ctx_detach_resource::ContextDetachResource;
pub use get_capset::GetCapset;
pub use get_capset_info::GetCapsetInfo;
pub use get_display_info::GetDisplayInfo;
pub use get_edid::GetEdid;
pub use header::{
    CONTROL_FLAG_FENCE, CONTROL_FLAG_RING, Code, Command, Configuration, ControlHeader, Feature, MAX_SCANOUTS,
};
pub use resource_attach_backing::ResourceAttachBacking;
pub use resource_create_2d::ResourceCreate2d;
pub use resource_create_3d::ResourceCreate3d;
pub use resource_detach_backing::ResourceDetachBacking;
pub use resource_flush::ResourceFlush;
pub use resource_unref::ResourceUnref;
pub use response::{DisplayOne, OkCapset, OkCapsetInfo, OkDisplayInfo, OkEdid, OkNoData, Response, errno_of};
pub use set_scanout::SetScanout;
pub use submit_3d::Submit3d;
pub use transfer_from_host_3d::TransferFromHost3d;
pub use transfer_to_host_2d::TransferToHost2d;
pub use transfer_to_host_3d::TransferToHost3d;
pub use update_cursor::UpdateCursor;
