//! GETPARAM and GET_CAPS: what the device and the renderer behind it can do.

use virgld_protocol::client::{Call, GetCaps, Getparam, Parameter, Reply, ResourceCreateBlob};
use virgld_protocol::device::Feature;
use virgld_protocol::errno::{Errno, Refusal};

use crate::state::{Device, Outcome, State};

const NO_DEVICE: Refusal = Refusal::new(Errno::ENODEV, "there is no device at the moment");

impl State {
    pub(crate) fn device(&self) -> Result<&Device, Refusal> {
        self.device.as_ref().ok_or(NO_DEVICE)
    }

    pub(crate) fn parameter(&mut self, call: &Call) -> Result<Outcome, Refusal> {
        const UNKNOWN: Refusal = Refusal::new(Errno::EINVAL, "no such parameter");
        let mut fixed = call.parse::<Getparam>()?.fixed;
        let device = self.device()?;
        let has = |feature: u64| u64::from(device.features & feature != 0);
        fixed.value = match Parameter(fixed.param) {
            Parameter::FEATURES_3D => has(Feature::VIRGL),
            Parameter::CAPSET_QUERY_FIX => 1,
            Parameter::RESOURCE_BLOB => has(Feature::RESOURCE_BLOB),
            Parameter::HOST_VISIBLE => 0,
            Parameter::CROSS_DEVICE => has(Feature::RESOURCE_UUID),
            Parameter::CONTEXT_INIT => has(Feature::CONTEXT_INIT),
            Parameter::SUPPORTED_CAPSETS => {
                let bits = device.capsets.iter().filter_map(|capset| 1_u64.checked_shl(capset.info.id));
                bits.fold(0, |all, bit| all | bit)
            }
            Parameter::EXPLICIT_DEBUG_NAME => has(Feature::CONTEXT_INIT),
            _ => return Err(UNKNOWN),
        };
        Ok(Outcome::Answer(Reply::fixed(&fixed)))
    }

    /// Writes what the host has and no more: the client put defaults behind it, and a longer structure of a newer
    /// client must keep them.
    pub(crate) fn capset(&mut self, call: &Call) -> Result<Outcome, Refusal> {
        const NONE: Refusal = Refusal::new(Errno::EINVAL, "the host has no such capability set");
        const NO_3D: Refusal = Refusal::new(Errno::ENOSYS, "the device has no 3D");
        let wire = call.parse::<GetCaps>()?;
        if self.device()?.capsets.is_empty() {
            return Err(NO_3D);
        }
        let asked = wire.fixed;
        let matches = |id: u32, version: u32| id == asked.cap_set_id && version >= asked.cap_set_ver;
        let mut capsets = self.device()?.capsets.iter();
        let found = capsets.find(|capset| matches(capset.info.id, capset.info.max_version)).ok_or(NONE)?;
        if asked.size == 0 {
            return Err(NONE);
        }
        let length = found.bytes.len().min(wire.arrays[0].len());
        Ok(Outcome::Answer(Reply::empty().with(&found.bytes[..length])))
    }

    /// No device that is served here has blobs that work: the feature is never negotiated, and the answer is the
    /// one that Linux gives then.
    pub(crate) fn create_blob(&mut self, call: &Call) -> Result<Outcome, Refusal> {
        call.parse::<ResourceCreateBlob>()?;
        Err(Refusal::new(Errno::EINVAL, "the device has no blob resources"))
    }
}
