//! An initial file system as Linux unpacks it: a cpio archive of the "newc" kind.
//!
//! Source: Linux, Documentation/driver-api/early-userspace/buffer-format.rst.

/// An archive being put together.
#[derive(Default)]
pub(crate) struct Archive {
    bytes: Vec<u8>,
    entries: usize,
}

impl Archive {
    /// Adds a folder.
    pub(crate) fn folder(&mut self, path: &str) {
        self.entry(path, 0o040_755, &[]);
    }

    /// Adds a program.
    pub(crate) fn program(&mut self, path: &str, contents: &[u8]) {
        self.entry(path, 0o100_755, contents);
    }

    /// The finished archive.
    pub(crate) fn finish(mut self) -> Vec<u8> {
        self.entry("TRAILER!!!", 0, &[]);
        self.bytes
    }

    fn entry(&mut self, path: &str, mode: u32, contents: &[u8]) {
        self.entries += 1;
        let header = [self.entries, mode as usize, 0, 0, 1, 0, contents.len(), 0, 0, 0, 0, path.len() + 1, 0];
        self.bytes.extend(b"070701");
        for field in header {
            self.bytes.extend(format!("{field:08x}").bytes());
        }
        self.bytes.extend(path.bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend(contents);
        self.pad();
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::Archive;

    #[test]
    fn entries_begin_at_multiples_of_four_and_the_trailer_is_last() {
        let mut archive = Archive::default();
        archive.folder("bin");
        archive.program("init", b"hello");
        let bytes = archive.finish();
        let starts: Vec<usize> = (0..bytes.len()).filter(|at| bytes[*at..].starts_with(b"070701")).collect();
        assert_eq!(starts, [0, 116, 240]);
        assert!(bytes[240 + 110..].starts_with(b"TRAILER!!!\0"));
        assert_eq!(&bytes[116 + 54..116 + 62], b"00000005", "the size of what init holds");
    }
}
