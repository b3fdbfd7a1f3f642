//! `docs/follow-execbuffer.md` names files and functions; this finds the names that are gone.

use std::fs;
use std::path::Path;

use pulldown_cmark::{Event, Parser};

use crate::failure::{Context, Failure, Result};

const DOCUMENT: &str = "docs/follow-execbuffer.md";

/// A place in the code that the document names: `path/file.rs : Type::function`.
#[derive(Debug, PartialEq, Eq)]
struct Place {
    file: String,
    owner: Option<String>,
    function: String,
}

/// Fails with a line for each name that is gone.
pub(crate) fn run(root: &Path) -> Result<()> {
    let offences = offences(root)?;
    if offences.is_empty() {
        println!("every file and function that {DOCUMENT} names is there");
        return Ok(());
    }
    Err(Failure::new(offences.join("\n")))
}

/// A sentence for each name that is gone; a document that names nothing is an offence too.
pub(crate) fn offences(root: &Path) -> Result<Vec<String>> {
    let text = fs::read_to_string(root.join(DOCUMENT)).context(|| format!("cannot read {DOCUMENT}"))?;
    let places = places(&text);
    if places.is_empty() {
        return Ok(vec![format!("{DOCUMENT} names no place like `path/file.rs : Type::function`")]);
    }
    Ok(places.iter().filter_map(|place| place.missing_in(root)).collect())
}

fn places(text: &str) -> Vec<Place> {
    let spans =
        Parser::new_ext(text, pulldown_cmark::Options::ENABLE_TABLES).filter_map(|event| match event {
            Event::Code(span) => Some(span),
            _ => None,
        });
    spans.filter_map(|span| Place::parse(&span)).collect()
}

impl Place {
    fn parse(span: &str) -> Option<Self> {
        let (file, path) = span.split_once(" : ")?;
        let (file, path) = (file.trim(), path.trim().trim_end_matches("()"));
        let (owner, function) = match path.rsplit_once("::") {
            Some((owner, function)) => (owner.rsplit("::").next().map(str::to_owned), function),
            None => (None, path),
        };
        file.ends_with(".rs").then(|| Self { file: file.into(), owner, function: function.into() })
    }

    fn missing_in(&self, root: &Path) -> Option<String> {
        let Ok(code) = fs::read_to_string(root.join(&self.file)) else {
            return Some(format!("{DOCUMENT}: the file {} is gone", self.file));
        };
        if !has_word_after(&code, "fn", &self.function) {
            return Some(format!("{DOCUMENT}: {} has no function {}", self.file, self.function));
        }
        let owner = self.owner.as_ref()?;
        let named = code.lines().any(|line| {
            let starts = ["impl", "struct", "enum", "trait"]
                .iter()
                .any(|word| words(line).any(|other| other == *word));
            starts && words(line).any(|word| word == owner)
        });
        (!named).then(|| format!("{DOCUMENT}: {} has no {owner}", self.file))
    }
}

fn has_word_after(code: &str, first: &str, second: &str) -> bool {
    code.lines().any(|line| {
        let words: Vec<_> = words(line).collect();
        words.windows(2).any(|pair| pair == [first, second])
    })
}

fn words(line: &str) -> impl Iterator<Item = &str> {
    line.split(|letter: char| !letter.is_alphanumeric() && letter != '_').filter(|word| !word.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_places_from_a_table() {
        let text = "| # | where |\n|---|---|\n| 1 | `actors/ctrlq/src/send.rs : State::send` |\n| 2 | `a.rs : f()` |\n";
        let places = places(text);
        assert_eq!(places.len(), 2);
        assert_eq!(places[0].owner.as_deref(), Some("State"));
        assert_eq!((places[1].file.as_str(), places[1].function.as_str()), ("a.rs", "f"));
    }

    #[test]
    fn finds_whole_words_only() {
        assert!(has_word_after("    pub(crate) fn send(&mut self)", "fn", "send"));
        assert!(!has_word_after("fn send_all()", "fn", "send"));
    }
}
