//! The guide as its tests read it: the chapters of `docs/guide/src`, their fenced blocks and their links.
//!
//! The first word of a block's info string is its language, the others say what a test does with it:
//!
//! | info string | what a test does |
//! |---|---|
//! | `sh,run`, `sh,run,exit=3` | runs it in the chapter's folder and wants this exit code, 0 if not said otherwise |
//! | `sh,build`, `sh,hardware`, `sh,orin` | reads its commands: subcommand and options exist, as do recipes, examples and scripts |
//! | `text,output` | what the `sh,run` block before it printed; `...` stands for anything, alone in a line for any lines |
//! | `toml,rig=FILE`, `toml,rig+=FILE` | writes or extends FILE in the chapter's folder, and wants `catseye rig check` to find it good |
//! | `toml,file=FILE` | writes FILE |
//! | `rust,from=FILE` | stands word for word in FILE of the repository, which is compiled by other tests |
//! | `text,diagram`, `LANGUAGE,sample` | nothing: it is no command, or needs what the text says |
//!
//! Anything else fails. A block below `<!-- pending -->` is of something that is not there yet: its commands are not read.

use std::path::{Path, PathBuf};

/// Folder of the repository.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Folder of the chapters.
pub fn folder() -> PathBuf {
    root().join("docs/guide/src")
}

/// What a test does with a block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Use {
    /// Runs it, and wants this exit code.
    Run { exit: i32 },
    /// Reads its commands.
    Read,
    /// Holds it against what the block before printed.
    Output,
    /// Writes a rig, or adds to one, and checks it.
    Rig { file: String, is_added: bool },
    /// Writes a file.
    File { file: String },
    /// Looks for it in a file of the repository.
    From { file: String },
    /// Nothing.
    Nothing,
}

/// A fenced block.
#[derive(Clone, Debug)]
pub struct Block {
    /// What to do with it.
    pub to_do: Use,
    /// Its chapter's file and its first line, for messages.
    pub place: String,
    /// What stands in it.
    pub text: String,
    /// Whether it is of something that is not there yet.
    pub is_pending: bool,
}

/// A chapter without its blocks, and its blocks.
pub struct Chapter {
    /// Prose, with the number of each line.
    pub prose: Vec<(usize, String)>,
    /// In order.
    pub blocks: Vec<Block>,
}

/// Reads a chapter's file.
pub fn read(file: &str) -> Chapter {
    let text = std::fs::read_to_string(folder().join(file)).unwrap_or_else(|error| panic!("{file}: {error}"));
    let (mut chapter, mut open) = (Chapter { prose: Vec::new(), blocks: Vec::new() }, None::<Block>);
    for (number, line) in (1..).zip(text.lines()) {
        match (line.strip_prefix("```"), &mut open) {
            (Some(_), Some(_)) => chapter.blocks.extend(open.take()),
            (Some(info), None) => {
                let place = format!("{file}:{number}");
                let before = chapter.prose.iter().rev().map(|(_, line)| line.trim()).find(|line| !line.is_empty());
                let is_pending = before == Some("<!-- pending -->");
                let to_do = use_of(info).unwrap_or_else(|| panic!("{place}: a block {info:?} is not tested"));
                open = Some(Block { to_do, place, text: String::new(), is_pending });
            }
            (None, Some(block)) => block.text += &format!("{line}\n"),
            (None, None) => chapter.prose.push((number, line.to_owned())),
        }
    }
    assert!(open.is_none(), "{file}: a block does not end");
    chapter
}

fn use_of(info: &str) -> Option<Use> {
    let words: Vec<&str> = info.split(',').collect();
    Some(match words.as_slice() {
        ["sh", "run"] => Use::Run { exit: 0 },
        ["sh", "run", exit] => Use::Run { exit: exit.strip_prefix("exit=")?.parse().ok()? },
        ["sh", "build" | "hardware" | "orin"] => Use::Read,
        ["text", "output"] => Use::Output,
        ["text", "diagram"] | [_, "sample"] => Use::Nothing,
        ["rust", from] => Use::From { file: from.strip_prefix("from=")?.to_owned() },
        ["toml", file] => match file.split_once('=')? {
            ("rig", file) => Use::Rig { file: file.to_owned(), is_added: false },
            ("rig+", file) => Use::Rig { file: file.to_owned(), is_added: true },
            ("file", file) => Use::File { file: file.to_owned() },
            _ => return None,
        },
        _ => return None,
    })
}

/// The chapters' files that `SUMMARY.md` names, in order.
pub fn chapters() -> Vec<String> {
    let text = std::fs::read_to_string(folder().join("SUMMARY.md")).unwrap();
    text.lines().flat_map(links).collect()
}

/// The targets of Markdown links and pictures in a line, those in code aside.
pub fn links(line: &str) -> Vec<String> {
    let outside_code: String = line.split('`').step_by(2).collect::<Vec<_>>().join("`");
    outside_code.split("](").skip(1).filter_map(|rest| Some(rest.split_once(')')?.0.to_owned())).collect()
}

/// Code in a line of prose.
pub fn code(line: &str) -> Vec<&str> {
    line.split('`').skip(1).step_by(2).collect()
}

/// The simple commands of a shell block, as words: continued lines are joined, comments left out, pipes and lists cut.
pub fn commands(text: &str) -> Vec<Vec<String>> {
    let joined = text.replace("\\\n", " ");
    let (mut commands, mut words, mut word) = (Vec::new(), Vec::new(), None::<String>);
    let mut quote = None;
    let mut characters = joined.chars().peekable();
    while let Some(c) = characters.next() {
        match (quote, c) {
            (Some(mark), _) if c == mark => quote = None,
            (Some(_), _) => word.get_or_insert_default().push(c),
            (None, '\'' | '"') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None, '#') if word.is_none() => while characters.next_if(|c| *c != '\n').is_some() {},
            (None, '\n' | '|' | '&' | ';' | '(' | ')') => {
                words.extend(word.take());
                commands.push(std::mem::take(&mut words));
            }
            (None, _) if c.is_whitespace() => words.extend(word.take()),
            (None, _) => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    commands.push(words);
    commands.retain(|words| !words.is_empty());
    commands
}

/// The arguments that a command gives to `catseye`, if it runs it: itself, through `cargo run`, `sudo` or `ssh`.
pub fn arguments(words: &[String]) -> Option<&[String]> {
    let redirection = words.iter().position(|word| word.starts_with('>') || word.starts_with("2>"));
    let words = &words[..redirection.unwrap_or(words.len())];
    if words.starts_with(&["cargo".to_owned(), "run".to_owned()]) && !words.contains(&"--example".to_owned()) {
        return Some(&words[words.iter().position(|word| word == "--")? + 1..]);
    }
    let at = words.iter().position(|word| word == "catseye" || word.ends_with("/catseye"))?;
    let is_name =
        at > 0 && !words[..at].iter().all(|word| word.contains('=') || ["sudo", "-n", "--"].contains(&word.as_str()));
    let is_remote = words[0] == "ssh" && at == 2;
    (!is_name || is_remote).then(|| &words[at + 1..])
}

/// Whether code in the text, or a word of a command, is the path of something in the repository.
pub fn is_of_repository(code: &str) -> bool {
    let is_path = code.contains('/') && !code.contains(|c: char| c.is_whitespace() || "*<>{}$,@".contains(c));
    let folders = "benches build calibration cross cuda docs examples fuzz models sensors src tests training";
    is_path && code.split('/').next().is_some_and(|first| folders.split(' ').any(|folder| folder == first))
}
