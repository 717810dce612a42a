//! What of a release is on the target already: held by digests, so that a file that moved is not sent again.

use std::collections::BTreeMap;

use super::release::{Entry, Release, check_path};
use super::ssh::Reply;

/// Digests by path of a folder on the target.
type Listing = BTreeMap<String, String>;

/// What is on the target.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Present {
    current: Listing,
    part: Listing,
    whole: Listing,
}

impl Present {
    /// The answer of `have.sh`.
    #[must_use]
    pub fn parse(reply: &Reply) -> Present {
        Present { current: listing(reply, "current"), part: listing(reply, "part"), whole: listing(reply, "whole") }
    }

    /// The same, with what another answer says of a lost connection's leavings.
    #[must_use]
    pub fn with_part(self, reply: &Reply) -> Present {
        Present { part: listing(reply, "part"), ..self }
    }

    /// Whether the folder of the release has all of its files, and no others.
    #[must_use]
    pub fn is_whole(&self, release: &Release) -> bool {
        let has = |entry: &Entry| self.whole.get(&entry.path) == Some(&entry.sha256);
        self.whole.len() == release.entries.len() && release.entries.values().all(has)
    }
}

/// A file with an odd name has a backslash before its digest. Such a name is none of a release's, and is kept as it is.
fn listing(reply: &Reply, key: &str) -> Listing {
    let pair = |line: &str| {
        let (sha256, path) = line.split_once(' ').unwrap_or((line, ""));
        (path.to_owned(), sha256.to_owned())
    };
    reply.all(key).map(pair).collect()
}

/// What has to be done to a release's folder.
#[derive(Debug, PartialEq, Eq)]
pub struct Diff<'a> {
    /// Whether nothing has to be done.
    pub is_whole: bool,
    /// Files that a lost connection left there whole.
    pub keep: Vec<&'a Entry>,
    /// Files that are taken from the release in use, with their paths there.
    pub link: Vec<(String, &'a Entry)>,
    /// Files that are sent.
    pub send: Vec<&'a Entry>,
    /// What a lost connection left there cut, or of another release. `None` where all of it has to go.
    drop: Option<Vec<String>>,
}

impl<'a> Diff<'a> {
    /// Between a release and what is there.
    #[must_use]
    pub fn new(release: &'a Release, present: &Present) -> Diff<'a> {
        let mut diff = Diff {
            is_whole: present.is_whole(release),
            keep: Vec::new(),
            link: Vec::new(),
            send: Vec::new(),
            drop: Some(Vec::new()),
        };
        if diff.is_whole {
            return diff;
        }
        let mut known: BTreeMap<&str, &str> = BTreeMap::new();
        for (path, sha256) in present.current.iter().filter(|(path, _)| check_path(path).is_ok()) {
            known.entry(sha256).or_insert(path);
        }
        let is_odd = present.part.keys().any(|path| check_path(path).is_err());
        for entry in release.entries.values() {
            let in_place = present.current.get(&entry.path) == Some(&entry.sha256);
            let from = if in_place { Some(entry.path.as_str()) } else { known.get(entry.sha256.as_str()).copied() };
            if !is_odd && present.part.get(&entry.path) == Some(&entry.sha256) {
                diff.keep.push(entry);
            } else if let Some(from) = from {
                diff.link.push((from.to_owned(), entry));
            } else {
                diff.send.push(entry);
            }
        }
        let is_kept = |path: &str| diff.keep.iter().any(|entry| entry.path == path);
        diff.drop = (!is_odd).then(|| present.part.keys().filter(|path| !is_kept(path)).cloned().collect());
        diff
    }

    /// The lines that `stage.sh` reads.
    #[must_use]
    pub fn orders(&self) -> String {
        let dropped = match &self.drop {
            None => "clear\n".to_owned(),
            Some(paths) => paths.iter().map(|path| format!("drop {path}\n")).collect(),
        };
        let link = |(from, entry): &(String, &Entry)| format!("link {:o} {from} {}\n", entry.mode(), entry.path);
        dropped + &self.link.iter().map(link).collect::<String>()
    }

    /// Bytes that are sent, before compression.
    #[must_use]
    pub fn send_bytes(&self) -> u64 {
        self.send.iter().map(|entry| entry.bytes).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::super::release::tests::tree;
    use super::*;

    fn present(release: &Release, lines: &[(&str, &str, &str)]) -> Present {
        let line = |&(key, of, path): &(&str, &str, &str)| {
            let sum = release.entries.get(of).map_or("0".repeat(64), |entry| entry.sha256.clone());
            format!("{key} {sum} {path}")
        };
        Present::parse(&Reply::of(lines.iter().map(line)))
    }

    const PROGRAM: &str = "usr/bin/catseye";
    const RIG: &str = "usr/share/catseye/rigs/sim-car.toml";
    const ENV: &str = "etc/catseye/catseye.env";

    #[test]
    fn what_is_there_is_not_sent() {
        let folder = tree();
        let release = Release::from_tree(folder.path()).unwrap();
        let paths = |entries: &[&Entry]| entries.iter().map(|entry| entry.path.clone()).collect::<Vec<_>>();

        let nothing = Diff::new(&release, &Present::default());
        assert_eq!(paths(&nothing.send), [ENV, PROGRAM, RIG]);
        assert_eq!((nothing.orders().as_str(), nothing.send_bytes()), ("", release.bytes()));

        // one is there, one under another name, one has another content
        let some =
            present(&release, &[("current", PROGRAM, PROGRAM), ("current", RIG, "old/rig.toml"), ("current", "", ENV)]);
        let diff = Diff::new(&release, &some);
        assert_eq!(paths(&diff.send), [ENV]);
        assert_eq!(diff.orders(), format!("link 755 {PROGRAM} {PROGRAM}\nlink 644 old/rig.toml {RIG}\n"));

        let all = [("whole", PROGRAM, PROGRAM), ("whole", RIG, RIG), ("whole", ENV, ENV)];
        assert!(Diff::new(&release, &present(&release, &all)).is_whole);
        assert!(!Diff::new(&release, &present(&release, &all[1..])).is_whole);
        let one_more = [all[0], all[1], all[2], ("whole", ENV, "core")];
        assert!(!Diff::new(&release, &present(&release, &one_more)).is_whole);
    }

    #[test]
    fn a_lost_connection_is_continued_with_what_is_whole() {
        let folder = tree();
        let release = Release::from_tree(folder.path()).unwrap();
        let part = [("part", RIG, RIG), ("part", "", PROGRAM), ("part", ENV, "of/another"), ("current", RIG, RIG)];
        let there = present(&release, &part);
        let diff = Diff::new(&release, &there);
        assert_eq!(diff.keep.iter().map(|entry| entry.path.as_str()).collect::<Vec<_>>(), [RIG]);
        assert_eq!(diff.orders(), format!("drop of/another\ndrop {PROGRAM}\n"));
        assert_eq!(diff.send.len(), 2);

        // names that no order can hold: all of it goes
        let odd = Present::parse(&Reply::of(["part \\0123 a\\nb".to_owned()]));
        let diff = Diff::new(&release, &odd);
        assert_eq!((diff.orders().as_str(), diff.send.len()), ("clear\n", 3));
    }
}
