//! What a run must reach: a gate file and measures in, what falls short out.
//!
//! A gate file is TOML with one line per measure: `"detection.car.ap50" = { min = 0.85 }`, with `min`, `max` or both. A
//! measure without a value falls short; a name that no measure has is an error, since it would guard nothing.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use thiserror::Error;
use toml::de::{DeTable, DeValue};

/// Names that an error suggests at most.
const MOST_NAMES: usize = 3;

/// Why a gate file cannot be used.
#[derive(Debug, Error)]
pub enum GateError {
    /// The file does not read.
    #[error("{}: cannot be read: {source}", .file.display())]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Something in it is wrong.
    #[error("{}, line {line}: {key}: expected {expected}, found {found}", .file.display())]
    Wrong {
        /// The file.
        file: PathBuf,
        /// The line, from 1.
        line: usize,
        /// The key.
        key: String,
        /// What belongs there.
        expected: String,
        /// What is there.
        found: String,
    },
}

/// What one measure must reach.
#[derive(Clone, Debug, PartialEq)]
pub struct Limits {
    /// The measure.
    pub metric: String,
    /// Where the file says so, from 1.
    pub line: usize,
    /// It must not be less.
    pub min: Option<f64>,
    /// It must not be more.
    pub max: Option<f64>,
}

/// A gate file.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Gate {
    file: PathBuf,
    /// The limits, in the order of the file.
    pub limits: Vec<Limits>,
}

/// A measure that falls short.
#[derive(Clone, Debug, PartialEq)]
pub struct Shortfall {
    /// The measure.
    pub metric: String,
    /// What it must reach, as `>= 0.85`.
    pub expected: String,
    /// What it is; `None` when it has no value.
    pub found: Option<f64>,
}

impl Gate {
    /// Reads a gate file.
    pub fn read(file: &Path) -> Result<Gate, GateError> {
        let text = std::fs::read_to_string(file);
        Gate::parse(&text.map_err(|source| GateError::Unreadable { file: file.to_owned(), source })?, file)
    }

    /// Reads the text of a gate file, as [`Gate::read`] does; `file` is named in errors.
    pub fn parse(text: &str, file: &Path) -> Result<Gate, GateError> {
        let reader = Reader { text, file };
        let document = DeTable::parse(text).map_err(|error| {
            let at = error.span().map_or(0, |span| span.start);
            reader.wrong(at, "the file", "TOML", error.message().to_owned())
        })?;
        let mut limits = Vec::new();
        reader.walk(document.get_ref(), "", &mut limits)?;
        limits.sort_by_key(|limits| limits.line);
        Ok(Gate { file: file.to_owned(), limits })
    }

    /// What falls short, in the order of the file.
    pub fn check(&self, metrics: &BTreeMap<String, Option<f64>>) -> Result<Vec<Shortfall>, GateError> {
        let mut short = Vec::new();
        for limits in &self.limits {
            let Some(&found) = metrics.get(&limits.metric) else {
                return Err(GateError::Wrong {
                    file: self.file.clone(),
                    line: limits.line,
                    key: limits.metric.clone(),
                    expected: format!("a measure, as {}", like(&limits.metric, metrics).join(", ")),
                    found: "no such measure".to_owned(),
                });
            };
            let is_met = found.is_some_and(|found| {
                limits.min.is_none_or(|min| found >= min) && limits.max.is_none_or(|max| found <= max)
            });
            if !is_met {
                short.push(Shortfall { metric: limits.metric.clone(), expected: limits.words(), found });
            }
        }
        Ok(short)
    }
}

impl Limits {
    fn words(&self) -> String {
        let min = self.min.map(|min| format!(">= {min}"));
        let max = self.max.map(|max| format!("<= {max}"));
        min.into_iter().chain(max).collect::<Vec<_>>().join(" and ")
    }
}

struct Reader<'a> {
    text: &'a str,
    file: &'a Path,
}

impl Reader<'_> {
    fn line(&self, at: usize) -> usize {
        self.text.bytes().take(at).filter(|byte| *byte == b'\n').count() + 1
    }

    fn wrong(&self, at: usize, key: &str, expected: &str, found: String) -> GateError {
        let (file, line) = (self.file.to_owned(), self.line(at));
        GateError::Wrong { file, line, key: key.to_owned(), expected: expected.to_owned(), found }
    }

    /// Takes the limits in a table; names may also be written without quotes, as tables in tables.
    fn walk(&self, table: &DeTable, prefix: &str, limits: &mut Vec<Limits>) -> Result<(), GateError> {
        for (key, value) in table {
            let name = key.get_ref().as_ref();
            let metric = if prefix.is_empty() { name.to_owned() } else { format!("{prefix}.{name}") };
            let at = key.span().start;
            let DeValue::Table(inner) = value.get_ref() else {
                let expected = "a table with min, max or both";
                return Err(self.wrong(at, &metric, expected, value.get_ref().type_str().to_owned()));
            };
            let is_deeper = !inner.is_empty() && inner.values().all(|value| value.get_ref().is_table());
            if is_deeper {
                self.walk(inner, &metric, limits)?;
            } else {
                limits.push(self.limits(inner, metric, at)?);
            }
        }
        Ok(())
    }

    fn limits(&self, table: &DeTable, metric: String, at: usize) -> Result<Limits, GateError> {
        let (mut min, mut max) = (None, None);
        for (key, value) in table {
            let (name, at) = (key.get_ref().as_ref(), key.span().start);
            let limit = match name {
                "min" => &mut min,
                "max" => &mut max,
                _ => return Err(self.wrong(at, &metric, "min or max", format!("`{name}`"))),
            };
            let number = number(value.get_ref());
            let expected = || self.wrong(at, &format!("{metric}.{name}"), "a finite number", words(value.get_ref()));
            *limit = Some(number.ok_or_else(expected)?);
        }
        if min.is_none() && max.is_none() {
            return Err(self.wrong(at, &metric, "a table with min, max or both", "an empty table".to_owned()));
        }
        Ok(Limits { metric, line: self.line(at), min, max })
    }
}

fn number(value: &DeValue) -> Option<f64> {
    let number: Option<f64> = match value {
        DeValue::Integer(number) if number.radix() == 10 => number.as_str().parse().ok(),
        DeValue::Float(number) => number.as_str().parse().ok(),
        _ => None,
    };
    number.filter(|number| number.is_finite())
}

fn words(value: &DeValue) -> String {
    match value {
        DeValue::Float(number) => format!("`{}`", number.as_str()),
        other => other.type_str().to_owned(),
    }
}

/// The names most like one that is not there.
fn like<'a>(name: &str, metrics: &'a BTreeMap<String, Option<f64>>) -> Vec<&'a str> {
    let mut names: Vec<(usize, &str)> = metrics.keys().map(|known| (edits(name, known), known.as_str())).collect();
    names.sort_unstable();
    names.into_iter().take(MOST_NAMES).map(|(_, name)| name).collect()
}

/// Edits that turn one word into another (Levenshtein, "Binary codes capable of correcting deletions, insertions, and
/// reversals", 1966).
fn edits(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (index, letter) in one.chars().enumerate() {
        let mut left = index + 1;
        let mut next = vec![left];
        for (two, found) in row.windows(2).zip(&other) {
            let &[diagonal, above] = two else { continue };
            left = (diagonal + usize::from(letter != *found)).min(above + 1).min(left + 1);
            next.push(left);
        }
        row = next;
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Gate, String> {
        Gate::parse(text, Path::new("gates.toml")).map_err(|error| error.to_string())
    }

    fn metrics() -> BTreeMap<String, Option<f64>> {
        let all = [("detection.car.ap50", Some(0.8)), ("free_space.iou", None), ("ttc.error_s.median", Some(0.2))];
        all.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
    }

    #[test]
    fn what_falls_short_is_told() {
        let text = "# nightly\n\"detection.car.ap50\" = { min = 0.85 }\n\"ttc.error_s.median\" = { min = 0, max = 0.2 }\nfree_space.iou = { min = 0.5, max = 1 }\n";
        let short = parse(text).unwrap().check(&metrics()).unwrap();
        let of = |metric: &str, expected: &str, found| Shortfall {
            metric: metric.to_owned(),
            expected: expected.to_owned(),
            found,
        };
        let expected = [of("detection.car.ap50", ">= 0.85", Some(0.8)), of("free_space.iou", ">= 0.5 and <= 1", None)];
        assert_eq!(short, expected);
    }

    #[test]
    fn an_unknown_measure_guards_nothing() {
        let gate = parse("\n\"detection.cat.ap50\" = { min = 0.85 }").unwrap();
        let words = gate.check(&metrics()).unwrap_err().to_string();
        let start = "gates.toml, line 2: detection.cat.ap50: expected a measure, as detection.car.ap50, ";
        assert!(words.starts_with(start) && words.ends_with("found no such measure"), "{words}");
    }

    #[test]
    fn mistakes_name_their_line() {
        let told = |text: &str| parse(text).unwrap_err();
        assert_eq!(told("\na = 1"), "gates.toml, line 2: a: expected a table with min, max or both, found integer");
        assert_eq!(told("a = { least = 1 }"), "gates.toml, line 1: a: expected min or max, found `least`");
        assert_eq!(told("a = { min = nan }"), "gates.toml, line 1: a.min: expected a finite number, found `nan`");
        assert_eq!(
            told("a = {}"),
            "gates.toml, line 1: a: expected a table with min, max or both, found an empty table"
        );
        assert!(told("\n\na = ").starts_with("gates.toml, line 3: the file: expected TOML"), "{}", told("\n\na = "));
    }

    #[test]
    fn edits_are_counted() {
        assert_eq!((edits("kitten", "sitting"), edits("", "abc"), edits("abc", "abc")), (3, 3, 0));
    }
}
