//! What the guide says is so: its commands run and print what stands there, its files are good, its links lead somewhere.
//!
//! `tests/common/guide.rs` tells how a block of the guide says what is to be done with it. The blocks of a chapter run one after
//! the other, each in a shell of its own, in a new folder with links to the repository's `models` and `calibration`, and with
//! `catseye` on the path; `CATSEYE` names another program than the one that was built with the tests. Commands that need hardware
//! are read by a unit test of the command line.
//!
//! Where the processor is emulated, `models/road.onnx` is a network that costs nothing, but in chapters that hold a run to a gate:
//! they measure what the network sees.

mod common;
#[allow(dead_code)] // the command line's unit test reads commands
#[path = "common/guide.rs"]
mod guide;

use std::path::{Path, PathBuf};
use std::process::Command;

use common::emulation::is_emulated;
use common::onnx::constant_road;
use guide::{Block, Use, root};

macro_rules! chapters {
    ($($name:ident = $file:literal,)+) => {
        const CHAPTERS: &[&str] = &[$($file),+];
        $(
            #[test]
            fn $name() {
                run_chapter($file);
            }
        )+
    };
}

chapters! {
    introduction = "introduction.md",
    first_replay = "first-replay.md",
    your_camera = "your-camera.md",
    your_model = "your-model.md",
    your_planner = "your-planner.md",
    orin = "orin.md",
    drive_os = "drive-os.md",
    determinism = "determinism.md",
    file_formats = "file-formats.md",
    troubleshooting = "troubleshooting.md",
    what_was_run_where = "what-was-run-where.md",
}

/// The box, in the network's picture, of a car in the lane to the left.
const PASSED_CAR_PX: [f32; 4] = [204.0, 153.0, 27.0, 22.0];

fn run_chapter(file: &str) {
    let folder = tempfile::tempdir().unwrap();
    let blocks = guide::read(file).blocks;
    let link = |name: &str| std::os::unix::fs::symlink(root().join(name), folder.path().join(name)).unwrap();
    link("calibration");
    if is_emulated() && !blocks.iter().any(|block| block.text.contains("--gate")) {
        std::fs::create_dir(folder.path().join("models")).unwrap();
        std::fs::write(folder.path().join("models/road.onnx"), constant_road(PASSED_CAR_PX)).unwrap();
    } else {
        link("models");
    }
    let shell = Shell::new(folder.path());
    let mut printed = None::<String>;
    for block in blocks {
        printed = take(&block, &shell, printed.take());
    }
}

/// Does what a block asks for; gives what it printed, if it is one that is run.
fn take(block: &Block, shell: &Shell, printed: Option<String>) -> Option<String> {
    let Block { place, text, .. } = block;
    match &block.to_do {
        Use::Run { exit } => return Some(shell.run(place, text, *exit)),
        Use::Output => {
            let printed = printed.unwrap_or_else(|| panic!("{place}: expected a block `sh,run` before it"));
            let (wanted, found) = (lines(text), lines(&printed));
            assert!(is_like(&wanted, &found), "{place}: expected\n{text}\nfound\n{printed}");
        }
        Use::Rig { file, is_added } => {
            let path = shell.folder.join(file);
            let before = if *is_added { std::fs::read_to_string(&path).unwrap() } else { String::new() };
            std::fs::write(path, before + text).unwrap();
            shell.run(place, &format!("catseye rig check {file}"), 0);
        }
        Use::File { file } => std::fs::write(shell.folder.join(file), text).unwrap(),
        Use::From { file } => {
            let source = std::fs::read_to_string(root().join(file)).unwrap_or_else(|error| panic!("{place}: {error}"));
            assert!(source.contains(text.as_str()), "{place}: {file} does not hold this");
        }
        Use::Read | Use::Nothing => {}
    }
    None
}

/// Where a chapter's commands run.
struct Shell {
    folder: PathBuf,
    path: String,
}

impl Shell {
    fn new(folder: &Path) -> Self {
        let binary =
            std::env::var_os("CATSEYE").map_or_else(|| PathBuf::from(env!("CARGO_BIN_EXE_catseye")), PathBuf::from);
        let path = std::env::var("PATH").unwrap_or_default();
        Shell { folder: folder.to_owned(), path: format!("{}:{path}", binary.parent().unwrap().display()) }
    }

    fn run(&self, place: &str, script: &str, exit: i32) -> String {
        let mut command = Command::new("bash");
        // both streams into one, in the order of a terminal
        command.args(["-c", &format!("exec 2>&1\nset -eu\n{script}")]).current_dir(&self.folder);
        command.env("PATH", &self.path).env("HOME", &self.folder).env_remove("CATSEYE_ENGINE_DIR").env("LC_ALL", "C");
        let output = command.output().unwrap();
        let printed = String::from_utf8_lossy(&output.stdout).into_owned();
        assert_eq!(output.status.code(), Some(exit), "{place}:\n{script}\n{printed}");
        printed
    }
}

fn lines(text: &str) -> Vec<&str> {
    text.trim_matches('\n').lines().map(str::trim_end).collect()
}

/// Whether lines are those of a pattern, in which a line of `...` is any lines.
fn is_like(pattern: &[&str], found: &[&str]) -> bool {
    match pattern {
        [] => found.is_empty(),
        [any, rest @ ..] if any.trim() == "..." => (0..=found.len()).any(|skipped| is_like(rest, &found[skipped..])),
        [line, rest @ ..] => {
            found.split_first().is_some_and(|(first, found)| is_line(line, first) && is_like(rest, found))
        }
    }
}

/// Whether a line is that of a pattern, in which `...` is anything.
fn is_line(pattern: &str, found: &str) -> bool {
    let Some((head, rest)) = pattern.split_once("...") else { return pattern == found };
    let Some(behind) = found.strip_prefix(head) else { return false };
    behind.char_indices().map(|(at, _)| at).chain([behind.len()]).any(|at| is_line(rest, &behind[at..]))
}

#[test]
fn patterns_are_held_against_what_was_printed() {
    assert!(is_line("ticks ... in ... s", "ticks 30 in 2.7 s") && is_line("...", "") && is_line("a...", "a"));
    assert!(!is_line("ticks ... in", "ticks 30 in 2.7 s") && !is_line("a", "ab"));
    assert!(is_like(&["a", "...", "d"], &["a", "b", "c", "d"]) && is_like(&["...", "a"], &["a"]));
    assert!(!is_like(&["a", "...", "d"], &["a", "b"]) && !is_like(&["a"], &["a", "b"]));
}

#[test]
fn every_chapter_is_tested_and_in_the_summary() {
    assert_eq!(guide::chapters(), CHAPTERS);
    let files = std::fs::read_dir(guide::folder()).unwrap().map(|entry| entry.unwrap().file_name());
    let mut files: Vec<String> =
        files.map(|name| name.into_string().unwrap()).filter(|name| name.ends_with(".md")).collect();
    files.retain(|name| name != "SUMMARY.md" && !CHAPTERS.contains(&name.as_str()));
    assert!(files.is_empty(), "in no summary: {files:?}");
}

#[test]
fn links_lead_somewhere() {
    for file in CHAPTERS {
        for (number, line) in guide::read(file).prose {
            let wrong = |what: &str| format!("{file}:{number}: {what} does not exist");
            for link in guide::links(&line) {
                assert!(is_there(&link), "{}", wrong(&link));
            }
            for code in guide::code(&line).into_iter().filter(|code| guide::is_of_repository(code)) {
                assert!(root().join(code).exists(), "{}", wrong(code));
            }
        }
    }
}

/// A link to a page of `cargo doc`, which lies beside the built guide, to a heading, or to a file of the guide.
fn is_there(link: &str) -> bool {
    if link.starts_with("https://") {
        return true;
    }
    if let Some(page) = link.strip_prefix("../doc/") {
        return is_documented(page);
    }
    let (file, heading) = link.split_once('#').unwrap_or((link, ""));
    if !guide::folder().join(file).is_file() {
        return false;
    }
    let is_heading = |line: &str| line.starts_with('#') && anchor(line) == heading;
    heading.is_empty() || guide::read(file).prose.iter().any(|(_, line)| is_heading(line))
}

/// The name that mdBook and GitHub give a heading.
fn anchor(heading: &str) -> String {
    let text = heading.trim_start_matches('#').trim().to_lowercase().replace(' ', "-");
    text.chars().filter(|c| c.is_alphanumeric() || ['-', '_'].contains(c)).collect()
}

/// Whether the source has what a page as `catseye/stages/plan/trait.Planner.html` documents.
fn is_documented(page: &str) -> bool {
    let mut parts: Vec<&str> = page.split('/').collect();
    let (Some(file), true) = (parts.pop(), parts.len() > 1 || page.ends_with("/index.html")) else { return false };
    let source = match parts[0] {
        "catseye" => "src",
        "catseye_sensors" => "sensors/src",
        "catseye_calibration" => "calibration/src",
        _ => return false,
    };
    let module = parts[1..].iter().fold(root().join(source), |folder, part| folder.join(part));
    let candidates = [module.with_extension("rs"), module.join("mod.rs"), module.join("lib.rs")];
    let Some(text) = candidates.iter().find_map(|path| std::fs::read_to_string(path).ok()) else { return false };
    match file.trim_end_matches(".html").split('.').collect::<Vec<_>>().as_slice() {
        ["index"] => true,
        ["macro", name] => text.contains(&format!("macro_rules! {name}")),
        [kind, name] => text.contains(&format!("pub {kind} {name}")),
        _ => false,
    }
}
