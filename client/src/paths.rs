//! Which paths are the daemon's to answer, and what lies behind them.

use virgld_protocol::channel::{CARD, RENDER};
use virgld_protocol::pci::{BUS_PATH, DOMAIN, LINK_PATH};

use crate::nodes::Node;

/// What a path of the program means.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Meaning {
    /// A DRM node. The path is that of its stand-in.
    Node(Node, Vec<u8>),
    /// A file of the daemon's tree, with its path there.
    StandIn(Vec<u8>),
    /// Nothing of ours.
    Other,
}

/// What the absolute path `path` means, where `sysroot` is the daemon's tree.
pub(crate) fn meaning(path: &[u8], sysroot: &[u8]) -> Meaning {
    // Cheap, and true of nearly all paths there are.
    if !(path.starts_with(b"/dev/") || path.starts_with(b"/sys/")) {
        return Meaning::Other;
    }
    let path = tidy(path);
    if !PREFIXES.iter().any(|prefix| prefix.covers(&path)) {
        return Meaning::Other;
    }
    let stand_in = [sysroot, &path].concat();
    match node(&path) {
        Some(node) => Meaning::Node(node, stand_in),
        None => Meaning::StandIn(stand_in),
    }
}

/// The daemon's own list of a directory of which it has a part, for a program that reads it: the real entries are in it
/// as links.
pub(crate) fn listing(path: &[u8], sysroot: &[u8]) -> Option<Vec<u8>> {
    if !path.starts_with(b"/sys/") {
        return None;
    }
    let path = tidy(path);
    LISTED.contains(&path.as_slice()).then(|| [sysroot, &path].concat())
}

/// Whether a path that is relative to some directory may lead to one of ours. libudev walks to a device component by
/// component, each relative to the one before; most relative paths have nothing of it and are not looked into.
pub(crate) fn may_be_ours(path: &[u8]) -> bool {
    TELLING.iter().any(|text| path.windows(text.len()).any(|window| window == *text))
}

/// Which node an absolute path without frills names.
pub(crate) fn node(path: &[u8]) -> Option<Node> {
    let name = path.strip_prefix(b"/dev/dri/")?;
    [(CARD, Node::Card), (RENDER, Node::Render)]
        .into_iter()
        .find(|(known, _)| known.as_bytes() == name)
        .map(|(_, node)| node)
}

/// A path of the daemon's tree as the program is to see it.
pub(crate) fn without_sysroot<'a>(path: &'a [u8], sysroot: &[u8]) -> Option<&'a [u8]> {
    path.strip_prefix(sysroot).filter(|rest| rest.first() == Some(&b'/'))
}

/// Without empty and single-dot components, which programs leave when they put paths together. `..` stays: the
/// kernel resolves it in the daemon's tree, where links may be before it.
fn tidy(path: &[u8]) -> Vec<u8> {
    let mut tidy = Vec::with_capacity(path.len());
    for part in path.split(|byte| *byte == b'/').filter(|part| !part.is_empty() && *part != b".") {
        tidy.push(b'/');
        tidy.extend_from_slice(part);
    }
    tidy
}

struct Prefix {
    text: &'static [u8],
    /// Whether it must end where a component ends.
    whole: bool,
}

impl Prefix {
    fn covers(&self, path: &[u8]) -> bool {
        path.strip_prefix(self.text)
            .is_some_and(|rest| !self.whole || rest.is_empty() || rest.starts_with(b"/"))
    }
}

const PREFIXES: [Prefix; 5] = [
    Prefix { text: b"/dev/dri", whole: true },
    Prefix { text: b"/sys/dev/char/226:", whole: false },
    Prefix { text: b"/sys/class/drm", whole: true },
    Prefix { text: BUS_PATH.as_bytes(), whole: true },
    Prefix { text: LINK_PATH.as_bytes(), whole: true },
];

/// Directories whose real contents and ours are seen together.
const LISTED: [&[u8]; 1] = [b"/sys/class"];

/// What the components have that lead from a real directory to one of ours, in the order of [`PREFIXES`].
const TELLING: [&[u8]; 4] = [b"dri", b"226:", b"drm", DOMAIN.as_bytes()];

#[cfg(test)]
mod tests {
    use super::*;

    fn of(path: &str) -> Meaning {
        meaning(path.as_bytes(), b"/run/v/sysroot")
    }

    #[test]
    fn nodes_are_nodes_however_they_are_spelt() {
        for path in ["/dev/dri/renderD128", "/dev//dri/./renderD128"] {
            assert_eq!(of(path), Meaning::Node(Node::Render, b"/run/v/sysroot/dev/dri/renderD128".into()));
        }
        assert!(matches!(of("/dev/dri/card0"), Meaning::Node(Node::Card, _)));
        assert!(matches!(of("/dev/dri/card1"), Meaning::StandIn(_)));
    }

    #[test]
    fn descriptions_are_rewritten_and_the_rest_is_left_alone() {
        let expected = Meaning::StandIn(b"/run/v/sysroot/sys/dev/char/226:0/device/../subsystem".into());
        assert_eq!(of("/sys/dev/char/226:0/device/../subsystem"), expected);
        for path in ["/sys/dev/char/227:0", "/sys/class/drmx", "/dev/null", "dev/dri", "/", ""] {
            assert_eq!(of(path), Meaning::Other, "{path}");
        }
    }

    #[test]
    fn every_component_that_leads_to_us_is_told() {
        for prefix in &PREFIXES {
            let name = prefix.text.rsplit(|byte| *byte == b'/').next().unwrap();
            assert!(may_be_ours(name), "{}", name.escape_ascii());
        }
        assert!(!may_be_ours(b"sys") && !may_be_ours(b"class") && !may_be_ours(b""));
    }

    #[test]
    fn only_whole_directories_are_listed() {
        assert_eq!(listing(b"/sys//class/", b"/root"), Some(b"/root/sys/class".into()));
        assert_eq!(listing(b"/sys/class/net", b"/root"), None);
    }

    #[test]
    fn results_lose_the_prefix() {
        assert_eq!(without_sysroot(b"/run/v/sysroot/sys/class", b"/run/v/sysroot"), Some(&b"/sys/class"[..]));
        assert_eq!(without_sysroot(b"/run/v/sysroots", b"/run/v/sysroot"), None);
    }
}
