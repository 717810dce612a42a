//! What can be wrong with a rig file, told so that a person can put it right without asking.

use std::fmt;

use thiserror::Error;

/// One thing wrong in a rig file, shown as
/// `rig.toml:12: camera.front.width_px: expected a positive integer, found "wide"`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RigProblem {
    /// The file as it was named when it was loaded.
    pub file: String,
    /// Line in the file, counted from one; for a missing key the line its table starts at.
    pub line: usize,
    /// Where in the file, with the sensor's name in place of its number if it has one.
    pub key: String,
    /// What would be right.
    pub expected: String,
    /// What is there.
    pub found: String,
}

impl fmt::Display for RigProblem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, line, key, expected, found } = self;
        write!(formatter, "{file}:{line}: {key}: expected {expected}, found {found}")
    }
}

/// Why a rig could not be loaded: every problem found, in the order of their lines, one a line when shown.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("{}", one_a_line(.problems))]
pub struct RigError {
    /// The problems; never empty.
    pub problems: Vec<RigProblem>,
}

fn one_a_line(problems: &[RigProblem]) -> String {
    let lines: Vec<String> = problems.iter().map(RigProblem::to_string).collect();
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn problems_are_shown_one_a_line() {
        let problem = |line: usize| RigProblem {
            file: "rig.toml".into(),
            line,
            key: "camera.front.width_px".into(),
            expected: "a positive integer".into(),
            found: "\"wide\"".into(),
        };
        let error = RigError { problems: vec![problem(12), problem(30)] };
        assert_eq!(
            error.to_string(),
            "rig.toml:12: camera.front.width_px: expected a positive integer, found \"wide\"\n\
             rig.toml:30: camera.front.width_px: expected a positive integer, found \"wide\""
        );
    }
}
