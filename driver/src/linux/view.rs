//! `virgld view`: a screen in a browser. A page on the loopback interface, whose address nobody guesses, asks for a picture
//! ten times a second.
//!
//! Who may read the picture socket may see the screens: its owner. The loopback interface is open to all users of the
//! machine, so the address holds 128 random bits, and without them there is nothing to see.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use png::Compression;

use super::command_line::View;
use super::screenshot::{encode, take};
use super::{Error, show};

/// Serves the page until the process is ended.
pub(crate) fn view(options: &View) -> Result<(), Error> {
    // Whoever asks for a screen that there is not, or has no daemon, is told here and not in the browser.
    take(&options.meeting, options.output, false)?;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, options.port))
        .map_err(|error| format!("cannot listen on port {}: {error}", options.port))?;
    let (output, meeting) = (options.output, options.meeting.clone());
    let look = move || {
        let (shape, pixels) = take(&meeting, output, false)?.ok_or("the screen is off")?;
        let mut picture = Vec::new();
        encode(&mut picture, &shape, &pixels, Compression::Fast)?;
        Ok(picture)
    };
    let site = Site { token: token()?, look: Box::new(look), last: Mutex::default() };
    show(&format!("http://{}/{}/\n", listener.local_addr()?, site.token))?;
    serve(&listener, &Arc::new(site))
}

/// What there is to see, and where.
struct Site {
    token: String,
    /// Takes a picture, as PNG.
    look: Box<dyn Fn() -> Result<Vec<u8>, Error> + Send + Sync>,
    /// The last, and when it was taken: many who look cost the daemon no more than one.
    last: Mutex<Option<(Instant, Arc<[u8]>)>>,
}

/// What is sent back.
struct Answer {
    status: &'static str,
    kind: &'static str,
    body: Arc<[u8]>,
}

impl Answer {
    fn new(status: &'static str, kind: &'static str, body: &[u8]) -> Self {
        Self { status, kind, body: body.into() }
    }

    fn refusal(status: &'static str) -> Self {
        Self::new(status, "text/plain; charset=utf-8", status.as_bytes())
    }

    fn send(&self, to: &mut TcpStream) -> std::io::Result<()> {
        let Self { status, kind, body } = self;
        write!(
            to,
            "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n{HEADERS}\r\n",
            body.len()
        )?;
        to.write_all(body)
    }
}

impl Site {
    /// What a request gets; nothing while it is not whole.
    fn answer(&self, request: &[u8]) -> Option<Answer> {
        let mut headers = [httparse::EMPTY_HEADER; MOST_HEADERS];
        let mut parsed = httparse::Request::new(&mut headers);
        match parsed.parse(request) {
            Ok(httparse::Status::Complete(_)) => {}
            Ok(httparse::Status::Partial) => return None,
            Err(_) => return Some(Answer::refusal("400 Bad Request")),
        }
        let path = parsed.path.and_then(|path| path.split('?').next()).unwrap_or_default();
        let page = path.strip_prefix('/').and_then(|path| path.split_once('/'));
        let Some((_, page)) = page.filter(|(token, _)| *token == self.token) else {
            return Some(Answer::refusal("404 Not Found"));
        };
        Some(match (parsed.method, page) {
            (Some("GET"), "") => Answer::new("200 OK", "text/html; charset=utf-8", PAGE.as_bytes()),
            (Some("GET"), "screen.png") => self.picture(),
            (Some("GET"), _) => Answer::refusal("404 Not Found"),
            _ => Answer::refusal("405 Method Not Allowed"),
        })
    }

    fn picture(&self) -> Answer {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let fresh = last.take().filter(|(taken, _)| taken.elapsed() < PERIOD);
        let (taken, picture) = match fresh {
            Some(fresh) => fresh,
            None => match (self.look)() {
                Ok(picture) => (Instant::now(), picture.into()),
                Err(error) => {
                    let why = error.to_string();
                    let kind = "text/plain; charset=utf-8";
                    return Answer::new("503 Service Unavailable", kind, why.as_bytes());
                }
            },
        };
        *last = Some((taken, Arc::clone(&picture)));
        Answer { status: "200 OK", kind: "image/png", body: picture }
    }
}

/// Answers who connects, so many at a time and each for a short time.
fn serve(listener: &TcpListener, site: &Arc<Site>) -> Result<(), Error> {
    let guests = Arc::new(AtomicUsize::new(0));
    loop {
        let Ok((stream, _)) = listener.accept() else {
            // Out of descriptors or memory, or whoever came has gone again.
            std::thread::sleep(PERIOD);
            continue;
        };
        if guests.fetch_add(1, Ordering::Relaxed) >= MOST_GUESTS {
            guests.fetch_sub(1, Ordering::Relaxed);
            continue;
        }
        let (site, inside) = (Arc::clone(site), Arc::clone(&guests));
        let attended = std::thread::Builder::new().name("view".into()).spawn(move || {
            // Whoever has gone needs no answer.
            let _ = attend(stream, &site);
            inside.fetch_sub(1, Ordering::Relaxed);
        });
        if attended.is_err() {
            guests.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// Hears one request and answers it.
fn attend(mut stream: TcpStream, site: &Site) -> std::io::Result<()> {
    let end = Instant::now() + PATIENCE;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut request = Vec::new();
    let answer = loop {
        let left = end.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
        stream.set_read_timeout(Some(left))?;
        let mut part = [0; 1024];
        let length = stream.read(&mut part)?;
        if length == 0 || Instant::now() > end {
            return Ok(());
        }
        request.extend_from_slice(&part[..length]);
        if let Some(answer) = site.answer(&request) {
            break answer;
        }
        if request.len() > LONGEST_REQUEST {
            break Answer::refusal("431 Request Header Fields Too Large");
        }
    };
    answer.send(&mut stream)?;
    stream.shutdown(Shutdown::Write)
}

/// 128 random bits, in hexadecimal digits.
fn token() -> Result<String, Error> {
    let mut bytes = [0; 16];
    File::open("/dev/urandom").and_then(|mut source| source.read_exact(&mut bytes))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Nothing is kept, nothing is told to other sites, and nothing is loaded from them.
const HEADERS: &str = "Connection: close\r\nCache-Control: no-store\r\nReferrer-Policy: no-referrer\r\n\
    X-Content-Type-Options: nosniff\r\nX-Frame-Options: DENY\r\n\
    Content-Security-Policy: default-src 'none'; img-src 'self'; script-src 'unsafe-inline'; style-src 'unsafe-inline'\r\n";

/// Shows one picture after another; asks again after a tenth of a second, or after a second where there was none.
const PAGE: &str = r#"<!DOCTYPE html>
<html lang="en">
<title>virgld</title>
<style>
  html { background: #181a20; color: #c8ccd4; font-family: system-ui, sans-serif; }
  body { margin: 0; min-height: 100vh; display: grid; place-items: center; }
  img { max-width: 100vw; max-height: 100vh; }
</style>
<body>
<p id="off">The screen is off.</p>
<img id="screen" alt="The screen" hidden>
<script>
  const screen = document.getElementById("screen"), off = document.getElementById("off");
  let number = 0;
  function look() {
    const next = new Image();
    next.onload = () => { screen.src = next.src; screen.hidden = false; off.hidden = true; setTimeout(look, 100); };
    next.onerror = () => { screen.hidden = true; off.hidden = false; setTimeout(look, 1000); };
    next.src = "screen.png?" + number++;
  }
  look();
</script>
"#;

const PERIOD: Duration = Duration::from_millis(100);
/// How long a request may take to come, and an answer to be read.
const PATIENCE: Duration = Duration::from_secs(5);
const MOST_GUESTS: usize = 8;
const MOST_HEADERS: usize = 64;
const LONGEST_REQUEST: usize = 16 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    fn site() -> (std::net::SocketAddr, Arc<AtomicUsize>) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let looks = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&looks);
        let look = move || {
            counted.fetch_add(1, Ordering::Relaxed);
            Ok(b"a picture".to_vec())
        };
        let site = Site { token: "secret".into(), look: Box::new(look), last: Mutex::default() };
        std::thread::spawn(move || serve(&listener, &Arc::new(site)).unwrap());
        (address, looks)
    }

    fn ask(address: std::net::SocketAddr, request: &str) -> String {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        text
    }

    #[test]
    fn only_who_knows_the_address_sees_anything() {
        let (address, looks) = site();
        for path in ["/", "/screen.png", "/wrong/", "/wrong/screen.png", "/secre/", "//screen.png", "/secret"]
        {
            let said = ask(address, &format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n"));
            assert!(said.starts_with("HTTP/1.1 404 "), "{path}: {said}");
        }
        assert_eq!(looks.load(Ordering::Relaxed), 0);
        let said = ask(address, "GET /secret/ HTTP/1.1\r\n\r\n");
        assert!(said.starts_with("HTTP/1.1 200 ") && said.contains("screen.png"), "{said}");
        let said = ask(address, "GET /secret/screen.png?7 HTTP/1.1\r\n\r\n");
        assert!(said.contains("image/png") && said.ends_with("\r\n\r\na picture"), "{said}");
        assert!(said.contains("no-store"), "{said}");
    }

    #[test]
    fn what_is_no_request_is_refused() {
        let (address, _) = site();
        for (request, status) in [
            ("POST /secret/ HTTP/1.1\r\n\r\n", "405"),
            ("GET /secret/other HTTP/1.1\r\n\r\n", "404"),
            ("\0\0\0\0", "400"),
            ("nonsense\r\n\r\n", "400"),
        ] {
            assert!(ask(address, request).starts_with(&format!("HTTP/1.1 {status} ")), "{request:?}");
        }
        let endless = format!("GET /secret/ HTTP/1.1\r\nA: {}", "a".repeat(LONGEST_REQUEST));
        assert!(ask(address, &endless).starts_with("HTTP/1.1 431 "));
    }

    #[test]
    fn a_screen_that_is_off_says_so() {
        let look = Box::new(|| Err("screen 0 is off".into()));
        let site = Site { token: "secret".into(), look, last: Mutex::default() };
        let answer = site.answer(b"GET /secret/screen.png HTTP/1.1\r\n\r\n").unwrap();
        assert_eq!((answer.status, &*answer.body), ("503 Service Unavailable", &b"screen 0 is off"[..]));
    }

    #[test]
    fn addresses_are_not_the_same_twice() {
        let (one, other) = (token().unwrap(), token().unwrap());
        assert!(one != other && one.len() == 32, "{one} {other}");
    }
}
