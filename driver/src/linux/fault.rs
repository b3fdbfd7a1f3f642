//! `virgld fault` and `virgld resize`: what is asked on the daemon's socket for its owner.

use std::fmt::Write as _;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use virgld_faults::Plan;

use super::command_line::{Fault, FaultAction, Inject, Meeting, Resize};
use super::directory::FAULTS;
use super::faults::{Answer, Listing, Question};
use super::{Error, show};

/// Makes things go wrong in a running daemon.
pub(crate) fn fault(options: &Fault) -> Result<(), Error> {
    let question = match &options.action {
        FaultAction::List => Question::List,
        FaultAction::Inject(inject) => Question::Inject(plan(inject)?),
        FaultAction::Clear => Question::Clear,
    };
    let all = matches!(question, Question::List);
    let listing = ask(&options.meeting, &question)?;
    show(&describe(&listing, all)?)
}

/// Gives the screen of a running daemon another size.
pub(crate) fn resize(options: &Resize) -> Result<(), Error> {
    let (width, height) = options.extent;
    ask(&options.meeting, &Question::Resize(width, height)).map(drop)
}

/// The text of a plan: that of a file, or one with the fault that the options name.
fn plan(inject: &Inject) -> Result<String, Error> {
    if let Some(path) = &inject.plan {
        let failed = |what: String| format!("the plan {}: {what}", path.display());
        let text = std::fs::read_to_string(path).map_err(|error| failed(error.to_string()))?;
        Plan::parse_for_process(&text).map_err(|error| failed(error.to_string()))?;
        return Ok(text);
    }
    let (Some(actor), Some(wrong)) = (&inject.actor, &inject.r#do) else {
        return Err("name a plan, or say --actor and --do".into());
    };
    let seed = inject.seed.map(|seed| format!("seed = {seed}\n")).unwrap_or_default();
    let mut text = if actor == "device" {
        format!("{seed}[[device]]\ndo = {wrong:?}\nafter_ms = 0\n")
    } else {
        format!("{seed}[[fault]]\nactor = {actor:?}\ndo = {wrong:?}\n")
    };
    if let Some(message) = &inject.message {
        writeln!(text, "message = {message:?}")?;
    }
    if let Some(point) = &inject.point {
        writeln!(text, "point = {point:?}")?;
    }
    if let Some(probability) = inject.probability {
        writeln!(text, "probability = {probability:?}")?;
    }
    for (name, value) in
        [("delay_ms", inject.delay_ms), ("nth", inject.nth), ("every", inject.every), ("times", inject.times)]
    {
        if let Some(value) = value {
            writeln!(text, "{name} = {value}")?;
        }
    }
    Plan::parse_for_process(&text).map_err(|error| error.what)?;
    Ok(text)
}

fn ask(meeting: &Meeting, question: &Question) -> Result<Listing, Error> {
    let path = meeting.directory().join(FAULTS);
    let mut stream = UnixStream::connect(&path).map_err(|error| {
        format!("no daemon listens on {}: {error}; start one with `virgld serve`", path.display())
    })?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    stream.write_all(&serde_json::to_vec(question)?)?;
    stream.shutdown(Shutdown::Write)?;
    let mut text = Vec::new();
    stream.read_to_end(&mut text).map_err(|error| format!("the daemon does not answer: {error}"))?;
    match serde_json::from_slice(&text)? {
        Answer::Is(listing) => Ok(listing),
        Answer::Refused(why) => Err(format!("the daemon refuses: {why}").into()),
    }
}

fn describe(listing: &Listing, all: bool) -> Result<String, Error> {
    let mut text = String::new();
    if all {
        for (actor, words) in &listing.actors {
            writeln!(text, "{actor}\n    {}", words.join("\n    "))?;
        }
        text.push_str("device\n    death\n    stall\n\n");
    }
    if listing.rules.is_empty() {
        text.push_str("no fault is in force\n");
    }
    for rule in &listing.rules {
        let (seen, struck) = (rule.seen, rule.struck);
        write!(text, "{}: struck {struck} of {seen}", rule.rule)?;
        if rule.impossible > 0 {
            write!(text, "; {} did not allow it", rule.impossible)?;
        }
        text.push('\n');
    }
    Ok(text)
}
