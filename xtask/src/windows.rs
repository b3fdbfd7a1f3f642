//! What windows a Weston shows and what they are made of, by its own account: the debug stream `scene-graph`.

/// A window of a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Window {
    /// Whose it is.
    pub(crate) pid: i32,
    /// Left, top, right, bottom; the latter two are outside.
    pub(crate) place: [usize; 4],
    /// Whether its pixels are a buffer that was shared, not memory that is copied.
    pub(crate) dmabuf: bool,
}

impl Window {
    /// Whether a pixel is inside.
    pub(crate) fn covers(&self, x: usize, y: usize) -> bool {
        let [left, top, right, bottom] = self.place;
        (left..right).contains(&x) && (top..bottom).contains(&y)
    }
}

/// The windows in a scene graph, the topmost first.
pub(crate) fn windows(graph: &str) -> Vec<Window> {
    let mut windows: Vec<Window> = Vec::new();
    let mut inside = false;
    for line in graph.lines().map(str::trim) {
        if line.starts_with("View ") || line.starts_with("Layer ") {
            inside = line.contains("(role xdg_toplevel,");
            let pid = line.split_once("PID ").and_then(|(_, rest)| rest.split(',').next()?.parse().ok());
            if let Some(pid) = pid.filter(|_| inside) {
                windows.push(Window { pid, place: [0; 4], dmabuf: false });
            }
        } else if let Some(window) = windows.last_mut().filter(|_| inside) {
            if let Some(place) = line.strip_prefix("position: ").and_then(numbers) {
                window.place = place;
            }
            window.dmabuf |= line == "dmabuf buffer";
        }
    }
    windows
}

/// The four numbers of `(1, 2) -> (3, 4)`; what lies outside of the screen counts as its edge.
fn numbers(text: &str) -> Option<[usize; 4]> {
    let is_digit = |letter: char| letter.is_ascii_digit() || letter == '-';
    let words = text.replace("->", " ");
    let mut numbers = words.split(|letter| !is_digit(letter)).filter(|word| !word.is_empty());
    let mut next = || numbers.next()?.parse::<i64>().ok().map(|it| usize::try_from(it).unwrap_or(0));
    Some([next()?, next()?, next()?, next()?])
}

#[cfg(test)]
mod tests {
    use super::*;

    const GRAPH: &str = "Layer 3 (pos 0x80000000):
	View 0 (role (null), PID 18643, surface ID 15, panel for output headless, 0x557bf8e74120):
		position: (0, 0) -> (1280, 32)
		[buffer not available]

Layer 5 (pos 0x50000000):
	View 0 (role xdg_toplevel, PID 18709, surface ID 3, top-level window 'simple-dmabuf-egl' of x, 0x557bf8f14ad0):
		position: (105, 147) -> (361, 403)
		[fully opaque]
		outputs: 0 (headless) (primary)
		dmabuf buffer
			format: 0x34325258 XRGB8888
	View 1 (role xdg_toplevel, PID 18708, surface ID 10, top-level window 'simple-shm' of x, 0x557bf8f26d90):
		position: (-5, 400) -> (523, 650)
		SHM buffer
			format: 0x34325241 ARGB8888

Layer 6 (pos 0x2):
	View 0 (role (null), PID 18643, surface ID 16, background for output headless, 0x557bf8e748a0):
		position: (0, 0) -> (1280, 800)
		dmabuf buffer
";

    #[test]
    fn windows_are_those_of_programs_with_their_places_and_buffers() {
        let shared = Window { pid: 18709, place: [105, 147, 361, 403], dmabuf: true };
        let copied = Window { pid: 18708, place: [0, 400, 523, 650], dmabuf: false };
        assert_eq!(windows(GRAPH), [shared, copied]);
    }
}
