//! A program below Mesa: what Mesa's winsys asks of the DRM node, and nothing else.

mod node;
mod screen;

use std::collections::VecDeque;
use std::os::fd::OwnedFd;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use virgld_programs::bench::{Figures, Sampler};
use virgld_programs::stop::{Stop, Verdict, ensure};
use virgld_protocol::client::{
    Box3d, GemClose, GetCap, ResourceCreate, TransferFromHost, TransferToHost, Wait, cap,
};

use crate::case::{self, DEPTH, DEVICE_CASES, MAPPED_CASES, Shape};
use crate::player::Player;
use node::{Mapping, Node};
pub(crate) use screen::Screen;

/// An open render node, with resources for transfers.
pub(crate) struct Ioctls {
    node: Node,
    small: u32,
    large: u32,
    /// The memory of both, from the first case on that maps them. Who maps nothing has nothing copied.
    mapped: Option<[Mapping; 2]>,
    /// What is written next.
    value: u8,
}

impl Ioctls {
    /// Opens the node and creates the resources.
    pub(crate) fn open() -> Verdict<Self> {
        let node = Node::open(NODE).map_err(|error| Stop::failed(format!("cannot open {NODE}: {error}")))?;
        let (small, large) = (create(&node, Shape::SMALL)?, create(&node, Shape::LARGE)?);
        Ok(Self { node, small, large, mapped: None, value: 0 })
    }

    /// Submits, and waits for the fence.
    fn fenced(&self) -> Verdict {
        signalled(&self.node.submit_fenced()?)
    }

    /// Submits with the small buffer, and waits for that.
    fn submit_wait(&self) -> Verdict {
        self.node.submit(&[self.small])?;
        self.wait(self.small)
    }

    /// One batch on a pipeline that stays full.
    fn stream(&self, fences: &mut VecDeque<OwnedFd>) -> Verdict {
        for _ in 0..DEPTH {
            if fences.len() == DEPTH
                && let Some(oldest) = fences.pop_front()
            {
                signalled(&oldest)?;
            }
            fences.push_back(self.node.submit_fenced()?);
        }
        Ok(())
    }

    fn churn(&self) -> Verdict {
        for _ in 0..CHURN {
            let handle = create(&self.node, Shape::BUFFER)?;
            self.node.call(&mut GemClose { handle, pad: 0 })?;
        }
        Ok(())
    }

    fn download(&self) -> Verdict {
        let Box3d { w, h, d, .. } = Shape::SMALL.whole();
        let bo_handle = self.small;
        self.node.call(&mut TransferFromHost { bo_handle, w, h, d, ..Default::default() })?;
        self.wait(bo_handle)
    }

    fn upload(&self) -> Verdict {
        let Box3d { w, h, d, .. } = Shape::LARGE.whole();
        let bo_handle = self.large;
        self.node.call(&mut TransferToHost { bo_handle, w, h, d, ..Default::default() })?;
        self.wait(bo_handle)
    }

    fn map(&mut self) -> Verdict<&mut [Mapping; 2]> {
        if self.mapped.is_none() {
            let map = |handle, shape: Shape| self.node.map(handle, shape.bytes as usize);
            self.mapped = Some([map(self.small, Shape::SMALL)?, map(self.large, Shape::LARGE)?]);
        }
        self.value = self.value.wrapping_add(1);
        self.mapped.as_mut().ok_or_else(|| Stop::failed("nothing is mapped"))
    }

    fn mapped_wait(&mut self) -> Verdict {
        self.map()?;
        self.node.submit(&[self.large])?;
        self.wait(self.large)
    }

    fn mapped_upload(&mut self) -> Verdict {
        let value = self.value;
        let [_, large] = self.map()?;
        large.fill(value);
        self.upload()
    }

    fn mapped_download(&mut self, into: &mut [u8]) -> Verdict {
        let value = self.value;
        let [small, _] = self.map()?;
        small.fill(value);
        self.download()?;
        let [small, _] = self.map()?;
        small.read(into);
        // Nothing was drawn there.
        ensure(into.iter().all(|byte| *byte == 0), || "the texture is not what it was".into())
    }

    fn wait(&self, handle: u32) -> Verdict {
        Ok(self.node.call(&mut Wait { handle, flags: 0 })?)
    }
}

impl Player for Ioctls {
    fn about(&self) -> String {
        NODE.into()
    }

    fn measure(&mut self, case: &str, seconds: f64) -> Verdict<Figures> {
        let known = DEVICE_CASES.into_iter().chain(MAPPED_CASES).find(|known| known.name == case);
        let unit = known.ok_or_else(|| Stop::failed(format!("no case {case}")))?.unit;
        let mut sampler = Sampler::new(seconds);
        match case {
            case::FENCED_SUBMIT => sampler.latency(|| self.fenced())?,
            case::FENCED_PIPELINE => {
                let mut fences = VecDeque::with_capacity(DEPTH);
                // The pipeline is as full after a slice as before it, so that there is nothing to settle.
                sampler.rate(DEPTH as f64, || self.stream(&mut fences), || ())?;
                fences.iter().try_for_each(signalled)?;
            }
            case::SUBMIT_WAIT => sampler.latency(|| self.submit_wait())?,
            case::GET_CAP => {
                let mut question = GetCap { capability: cap::PRIME, value: 0 };
                sampler.latency(|| Ok(self.node.call(&mut question)?))?;
            }
            case::RESOURCE_CHURN => {
                sampler.rate(f64::from(CHURN), || self.churn(), || ())?;
                self.fenced()?;
            }
            case::FROM_HOST => sampler.latency(|| self.download())?,
            case::TO_HOST => sampler.latency(|| self.upload())?,
            case::MAPPED_WAIT => sampler.latency(|| self.mapped_wait())?,
            case::MAPPED_TO_HOST => sampler.latency(|| self.mapped_upload())?,
            case::MAPPED_FROM_HOST => {
                let mut texels = vec![0; Shape::SMALL.bytes as usize];
                sampler.latency(|| self.mapped_download(&mut texels))?;
            }
            _ => return Err(Stop::skipped("no ioctl does that")),
        }
        sampler.figures(unit)
    }
}

fn create(node: &Node, shape: Shape) -> Verdict<u32> {
    let Shape { target, format, bind, width, height, bytes } = shape;
    let (depth, array_size, size) = (1, 1, bytes);
    let mut call =
        ResourceCreate { target, format, bind, width, height, depth, array_size, size, ..Default::default() };
    node.call(&mut call)?;
    Ok(call.bo_handle)
}

/// Waits for a fence as Mesa does.
fn signalled(fence: &OwnedFd) -> Verdict {
    let mut fds = [PollFd::new(fence, PollFlags::IN)];
    poll(&mut fds, Some(&PATIENCE))?;
    let seen = fds[0].revents();
    ensure(seen.contains(PollFlags::IN), || format!("the fence did not signal: {seen:?}"))
}

const NODE: &str = "/dev/dri/renderD128";
const PATIENCE: Timespec = Timespec { tv_sec: 10, tv_nsec: 0 };
/// Buffers in one batch.
const CHURN: u32 = 20;
