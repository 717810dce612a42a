//! Recordings on slow, full and broken disks, and of processes that are killed, held against their own accounts.

use std::fs::File;
use std::io::{Read, Write};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use super::volume::Store;
use super::*;
use crate::log::completeness::checksums::checksums;
use crate::log::completeness::sequences::Range;
use crate::log::completeness::{Problem, Recording, Verdict, check, subjects};
use crate::log::reader::{Ending as LogEnding, Event, LogReader, ReadError};
use crate::log::{RIG_ATTACHMENT, SOURCE_HEADER};
use crate::messages::ImuSample;

/// Three sensors of rising priority.
fn preamble() -> (Preamble, [Slot; 3]) {
    let mut preamble = Preamble::default();
    preamble.metadata(SOURCE_HEADER, BTreeMap::from([("kind".to_owned(), "test".to_owned())]));
    preamble.attach(RIG_ATTACHMENT, "application/toml", b"schema = 1".to_vec());
    let slots = [("/a", 0), ("/b", 1), ("/c", 2)]
        .map(|(topic, priority)| preamble.channel(Channel::of_record::<ImuSample>(topic), Priority(priority)));
    (preamble, slots)
}

fn options() -> Options {
    Options {
        max_file_bytes: 64 << 10,
        chunk_bytes: 8 << 10,
        flush_interval: Duration::from_millis(20),
        budget_bytes: 64 << 20,
        min_free_bytes: 0,
        ..Options::default()
    }
}

fn message(slot: Slot, sequence: u32, bytes: usize) -> SensorMessage {
    let log_ns = 1_000_000 * i64::from(sequence);
    // noise, which no compression makes smaller
    let mut state = u64::from(sequence) + 1;
    let noise = std::iter::repeat_with(|| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    });
    let data = noise.take(bytes).collect::<Vec<_>>().into();
    SensorMessage { slot, sequence, log_ns, publish_ns: log_ns - 5, data }
}

/// Checks all that is in a folder.
fn checked(folder: &Path) -> Recording {
    let subjects = subjects(&[folder.to_owned()]).unwrap();
    assert_eq!(subjects.len(), 1, "{subjects:?}");
    check(&subjects[0], &mut |_, _| {})
}

/// Records so many messages of each sensor.
fn record(folder: &Path, messages: u32, options: Options) -> Summary {
    let (preamble, slots) = preamble();
    let recorder = Recorder::start(folder, "drive", preamble, options).unwrap();
    for sequence in 0..messages {
        for slot in slots {
            assert_eq!(recorder.offer(message(slot, 40 + sequence, 500)), Offer::Taken);
        }
    }
    recorder.stop().unwrap()
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

#[test]
fn sequences_join_up_over_files_that_each_stand_alone() {
    for compression in [Compression::None, Compression::Lz4, Compression::Zstd] {
        for fsync in [Fsync::Never, Fsync::PerChunk, Fsync::PerFile] {
            let folder = tempfile::tempdir().unwrap();
            let summary = record(folder.path(), 400, Options { compression, fsync, ..options() });
            assert_eq!(summary.manifest.ending, Ending::Stopped);
            assert_eq!(summary.manifest_file.unwrap(), folder.path().join("drive.manifest.json"));
            let found = checked(folder.path());
            assert_eq!(found.verdict(), Verdict::Complete, "{:?}", found.problems);
            assert!(found.files.len() > 2 && found.files.len() == summary.manifest.files.len());
            for channel in found.channels.values() {
                let sequences = &channel.sequences;
                assert_eq!((sequences.count, sequences.first, sequences.last), (400, Some(40), Some(439)));
            }
            for file in files(folder.path()).iter().filter(|file| file.extension().is_some_and(|end| end == "mcap")) {
                stands_alone(file);
            }
        }
    }
}

fn stands_alone(file: &Path) {
    let mut reader = LogReader::open_file(file).unwrap();
    let (mut names, mut messages) = (Vec::new(), 0);
    while let Some(event) = reader.next().unwrap() {
        match event {
            Event::Metadata { name, .. } | Event::Attachment { name, .. } => names.push(name),
            Event::Message(message) => {
                assert_eq!(message.log_ns, message.publish_ns + 5);
                messages += 1;
            }
        }
    }
    let expected = ["catseye:recording", SOURCE_HEADER, RIG_ATTACHMENT, "catseye:recording-end"];
    assert_eq!(names, expected, "{}", file.display());
    assert!(messages > 0 && reader.channels().count() == 4);
    let sums = checksums(file).unwrap();
    for sum in [sums.data.unwrap(), sums.summary.unwrap()] {
        assert!(sum.holds() && sum.expected != 0, "{sum:?}");
    }
    assert!(file.metadata().unwrap().len() <= options().max_file_bytes + (16 << 10));
}

/// Channel, number and arrival of every message of a log, the names of all else in it, and how it ends.
type WholeLog = (Vec<(String, u32, i64)>, Vec<String>, LogEnding);

fn read(path: &Path) -> Result<WholeLog, ReadError> {
    let mut reader = LogReader::open(path)?;
    let (mut messages, mut names) = (Vec::new(), Vec::new());
    while let Some(event) = reader.next()? {
        match event {
            Event::Message(message) => {
                messages.push((message.channel.topic.clone(), message.sequence, message.log_ns));
            }
            Event::Metadata { name, .. } | Event::Attachment { name, .. } => names.push(name),
        }
    }
    let (done, all) = reader.progress();
    assert!(done <= all && done > 0, "{done} of {all}");
    Ok((messages, names, reader.ending().unwrap().clone()))
}

#[test]
fn a_recording_of_several_files_is_read_as_one_log() {
    let [one, several] = [(); 2].map(|()| tempfile::tempdir().unwrap());
    record(one.path(), 400, Options { max_file_bytes: 1 << 30, ..options() });
    let last = record(several.path(), 400, options()).manifest.files.len() - 1;
    assert!(last > 2);
    let expected = read(&one.path().join("drive_0000.mcap")).unwrap();
    assert_eq!((expected.0.len(), &expected.2), (1200, &LogEnding::Complete));
    let folder = several.path();
    for path in [folder.to_owned(), folder.join("drive.manifest.json"), folder.join("drive_0000.mcap")] {
        assert_eq!(read(&path).unwrap(), expected, "{}", path.display());
    }
    let second = read(&folder.join("drive_0001.mcap")).unwrap().0;
    assert!(second.len() < 400 && second[0].1 > 40, "another file than the first stands for itself");

    let [first, middle, end] = [0, 1, last].map(|number| folder.join(rotate::file_name("drive", number as u32)));
    let bytes = std::fs::read(&middle).unwrap();
    std::fs::write(&middle, &bytes[..bytes.len() / 2]).unwrap();
    let error = read(folder).unwrap_err();
    assert!(matches!(&error, ReadError::CutInside { path, .. } if *path == middle), "{error}");
    std::fs::copy(&first, &middle).unwrap();
    let error = read(folder).unwrap_err();
    assert!(matches!(&error, ReadError::Stranger { path, number: 1 } if *path == middle), "{error}");
    std::fs::remove_file(&middle).unwrap();
    let error = read(folder).unwrap_err();
    assert!(matches!(&error, ReadError::Missing { path } if *path == middle) && error.is_of_recording(), "{error}");
    std::fs::write(&middle, bytes).unwrap();
    std::fs::remove_file(&end).unwrap();
    let (messages, _, ending) = read(folder).unwrap();
    assert!(messages.len() < 1200 && expected.0.starts_with(&messages));
    assert!(ending.lacks_messages() && ending.missing().unwrap().contains("that should follow"), "{ending:?}");

    record(&folder.join("empty"), 0, options());
    std::fs::rename(folder.join("empty/drive_0000.mcap"), folder.join("other_0000.mcap")).unwrap();
    let error = read(folder).unwrap_err().to_string();
    assert!(error.contains("found drive, other: name one of them"), "{error}");
    let nothing = tempfile::tempdir().unwrap();
    assert!(!read(nothing.path()).unwrap_err().is_of_recording(), "no recording at all may be something else");
}

#[test]
fn files_end_by_time_as_well() {
    let folder = tempfile::tempdir().unwrap();
    let max_file_duration = Some(Duration::from_millis(50));
    let summary = record(folder.path(), 200, Options { max_file_bytes: 1 << 30, max_file_duration, ..options() });
    let messages: Vec<u64> = summary.manifest.files.iter().map(|file| file.messages).collect();
    assert_eq!(messages, [150; 4]);
    assert_eq!(checked(folder.path()).verdict(), Verdict::Complete);
}

#[test]
fn whatever_is_taken_from_a_recording_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let summary = record(folder.path(), 400, options());
    let path = |index: usize| folder.path().join(&summary.manifest.files[index].name);
    let (manifest, last) = (folder.path().join("drive.manifest.json"), summary.manifest.files.len() - 1);
    let bytes = [0, 1, last].map(|index| std::fs::read(path(index)).unwrap());
    let text = std::fs::read(&manifest).unwrap();
    let missing = |index: usize| Problem::FileMissing(summary.manifest.files[index].name.clone());
    let restore = || {
        [0, 1, last].into_iter().zip(&bytes).for_each(|(index, bytes)| std::fs::write(path(index), bytes).unwrap());
        std::fs::write(&manifest, &text).unwrap();
        assert_eq!(checked(folder.path()).verdict(), Verdict::Complete);
    };

    // a file in the middle: exactly its messages
    std::fs::remove_file(path(1)).unwrap();
    let found = checked(folder.path());
    assert!(found.problems.contains(&missing(1)));
    let lost: u64 = found.channels.values().map(|channel| channel.undeclared).sum();
    assert_eq!(lost, summary.manifest.files[1].messages);
    restore();

    // the first and the last: their numbers are at an end, and the manifest knows of them
    for index in [0, last] {
        std::fs::remove_file(path(index)).unwrap();
        let found = checked(folder.path());
        assert!(found.problems.contains(&missing(index)), "{:?}", found.problems);
        assert!(found.problems.iter().any(|problem| matches!(problem, Problem::Account { what: "messages", .. })));
        // without a manifest the files tell by themselves
        std::fs::remove_file(&manifest).unwrap();
        let found = checked(folder.path());
        let told = if index == 0 {
            missing(0)
        } else {
            Problem::NotEnded { newest_log_ns: found_newest(&found), flush_interval_ns: Some(20_000_000) }
        };
        assert!(found.problems.contains(&told), "{:?}", found.problems);
        restore();
    }

    // bytes: none can be changed unnoticed
    for at in (0..bytes[1].len()).step_by(997) {
        let mut bad = bytes[1].clone();
        bad[at] ^= 16;
        std::fs::write(path(1), &bad).unwrap();
        let digest = Problem::Digest(summary.manifest.files[1].name.clone());
        assert!(checked(folder.path()).problems.contains(&digest), "byte {at}");
    }
    // a file that is cut
    std::fs::write(path(1), &bytes[1][..bytes[1].len() / 2]).unwrap();
    assert!(checked(folder.path()).problems.iter().any(|problem| matches!(problem, Problem::Cut(..))));
    restore();

    // a file of another recording of the same name
    let other = tempfile::tempdir().unwrap();
    record(other.path(), 400, options());
    std::fs::copy(other.path().join("drive_0001.mcap"), path(1)).unwrap();
    let found = checked(folder.path());
    assert!(found.problems.contains(&Problem::Stranger("drive_0001.mcap".to_owned())), "{:?}", found.problems);
    restore();

    // files that are named one by one are no less for those that are not
    let subjects = subjects(&[path(0), path(1)]).unwrap();
    assert_eq!(check(&subjects[0], &mut |_, _| {}).verdict(), Verdict::Complete);
}

fn found_newest(found: &Recording) -> Option<i64> {
    found.channels.values().map(|channel| channel.last_log_ns).max()
}

#[test]
fn what_a_sensor_lost_before_the_recorder_is_undeclared() {
    let folder = tempfile::tempdir().unwrap();
    let (preamble, slots) = preamble();
    let recorder = Recorder::start(folder.path(), "drive", preamble, options()).unwrap();
    for sequence in [3, 4, 9, 10, 10] {
        assert_eq!(recorder.offer(message(slots[1], sequence, 10)), Offer::Taken);
    }
    let summary = recorder.stop().unwrap();
    assert_eq!(summary.manifest.channels[1].gaps, [[5, 8]]);
    let found = checked(folder.path());
    assert_eq!(found.verdict(), Verdict::Incomplete);
    assert_eq!(found.channels["/b"].undeclared_ranges, [Range { first: 5, last: 8 }]);
    assert_eq!(found.channels["/b"].sequences.repeats, 1);
}

#[test]
fn names_and_topics_are_not_taken_twice() {
    let folder = tempfile::tempdir().unwrap();
    record(folder.path(), 1, options());
    let start = |name: &str, preamble| Recorder::start(folder.path(), name, preamble, options()).err().unwrap();
    assert!(matches!(start("drive", preamble().0), RecordError::Exists { .. }));
    assert!(matches!(start("a/b", preamble().0), RecordError::Name(_)));
    let mut twice = preamble().0;
    twice.channel(Channel::of_record::<ImuSample>("/a"), Priority(0));
    assert!(matches!(start("other", twice), RecordError::Topic(topic) if topic == "/a"));
}

/// A disk that is slow, and ends.
struct Disk {
    folder: Folder,
    gate: Arc<AtomicBool>,
    left: Arc<AtomicU64>,
    free: Arc<AtomicU64>,
}

impl Disk {
    fn new(folder: &Path, left: u64) -> Self {
        Disk {
            folder: Folder(folder.to_owned()),
            gate: Arc::default(),
            left: Arc::new(AtomicU64::new(left)),
            free: Arc::new(AtomicU64::new(u64::MAX)),
        }
    }
}

impl Volume for Disk {
    fn create(&self, path: &Path) -> io::Result<Box<dyn Store>> {
        let file = self.folder.create(path)?;
        Ok(Box::new(DiskFile { file, gate: Arc::clone(&self.gate), left: Arc::clone(&self.left) }))
    }
    fn free_bytes(&self) -> io::Result<u64> {
        Ok(self.free.load(Ordering::SeqCst))
    }
}

struct DiskFile {
    file: Box<dyn Store>,
    gate: Arc<AtomicBool>,
    left: Arc<AtomicU64>,
}

impl Write for DiskFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        while self.gate.load(Ordering::SeqCst) {
            std::thread::sleep(Duration::from_millis(1));
        }
        let left = self.left.load(Ordering::SeqCst);
        if left == 0 {
            return Err(io::Error::from_raw_os_error(28));
        }
        let written = self.file.write(&bytes[..bytes.len().min(left as usize)])?;
        self.left.fetch_sub(written as u64, Ordering::SeqCst);
        Ok(written)
    }
    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Store for DiskFile {
    fn reserve(&mut self, bytes: u64) -> io::Result<()> {
        self.file.reserve(bytes)
    }
    fn truncate(&mut self, bytes: u64) -> io::Result<()> {
        self.file.truncate(bytes)
    }
    fn sync(&mut self) -> io::Result<()> {
        self.file.sync()
    }
}

/// Every number from 0 up to before `offered` is in the recording or declared, and none twice.
fn is_accounted(found: &Recording, offered: [u32; 3]) {
    for (topic, offered) in ["/a", "/b", "/c"].iter().zip(offered) {
        let channel = &found.channels[*topic];
        assert_eq!(channel.sequences.count + channel.declared(), u64::from(offered), "{topic}: {channel:?}");
        assert_eq!((channel.undeclared, channel.sequences.repeats), (0, 0), "{topic}");
        let declared: u64 = channel.declared_ranges.iter().map(|range| range.len()).sum();
        assert_eq!(declared, channel.declared(), "{topic}");
    }
}

#[test]
fn a_slow_disk_costs_the_least_important_and_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let disk = Disk::new(folder.path(), u64::MAX);
    let gate = Arc::clone(&disk.gate);
    let (preamble, slots) = preamble();
    let options = Options { budget_bytes: 200 << 10, ..options() };
    let recorder = Recorder::start_on(Box::new(disk), folder.path(), "drive", preamble, options).unwrap();
    let (mut dropped, mut longest) = (0, Duration::ZERO);
    for sequence in 0..300u32 {
        // the disk stands still for a third of the time
        gate.store((100..200).contains(&sequence), Ordering::SeqCst);
        for slot in slots {
            let began = Instant::now();
            dropped += u64::from(recorder.offer(message(slot, sequence, 1000)) == Offer::Dropped);
            longest = longest.max(began.elapsed());
        }
        std::thread::sleep(Duration::from_millis(1));
        // on a busy machine the writer may stand still too, which would cost more than the disk does
        let turns = recorder.turns();
        while !gate.load(Ordering::SeqCst) && recorder.turns() == turns {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
    let summary = recorder.stop().unwrap();
    assert!(dropped > 0 && longest < Duration::from_millis(500), "{dropped} dropped, one offer took {longest:?}");
    let found = checked(folder.path());
    assert_eq!(found.verdict(), Verdict::Declared, "{:?}", found.problems);
    is_accounted(&found, [300; 3]);
    assert_eq!(found.channels["/c"].declared(), 0);
    assert!(found.channels["/a"].declared() >= found.channels["/b"].declared());
    assert_eq!(summary.manifest.channels[0].drops["overload"], found.channels["/a"].declared());
    // the files alone tell the same
    std::fs::remove_file(summary.manifest_file.unwrap()).unwrap();
    let without = checked(folder.path());
    assert_eq!(without.problems, [Problem::NoManifest("drive.manifest.json".to_owned())]);
    is_accounted(&without, [300; 3]);
}

#[test]
fn a_disk_that_ends_keeps_what_was_written_whole() {
    // in a chunk, at the ends of files, in their heads: wherever the disk is full, the rest is declared
    for left in (3000..150_000).step_by(4567) {
        let folder = tempfile::tempdir().unwrap();
        let disk = Disk::new(folder.path(), left);
        let (preamble, slots) = preamble();
        let recorder = Recorder::start_on(Box::new(disk), folder.path(), "drive", preamble, options()).unwrap();
        let mut offered = 0;
        while recorder.ending().is_none() {
            // all three or none: the recording may end between them
            if slots.map(|slot| recorder.offer(message(slot, offered, 900))).contains(&Offer::Ended) {
                break;
            }
            offered += 1;
        }
        let summary = recorder.stop().unwrap();
        assert!(matches!(&summary.manifest.ending, Ending::WriteFailed { error } if error.contains("os error 28")));
        let found = checked(folder.path());
        assert_eq!((found.verdict(), found.problems.as_slice()), (Verdict::Declared, [].as_slice()));
        for channel in found.channels.values() {
            let all = channel.sequences.count + channel.declared();
            assert!((u64::from(offered)..=u64::from(offered) + 1).contains(&all), "{all} of {offered}");
            assert_eq!(channel.undeclared, 0);
        }
    }
}

#[test]
fn too_little_space_ends_a_recording_while_it_can_be_ended_well() {
    let folder = tempfile::tempdir().unwrap();
    let disk = Disk::new(folder.path(), u64::MAX);
    let free = Arc::clone(&disk.free);
    let (preamble, slots) = preamble();
    let options = Options { min_free_bytes: 1 << 20, ..options() };
    let recorder = Recorder::start_on(Box::new(disk), folder.path(), "drive", preamble, options).unwrap();
    let mut offered = 0;
    loop {
        let taken = slots.map(|slot| recorder.offer(message(slot, offered, 900)));
        if taken == [Offer::Ended; 3] {
            break;
        }
        offered += 1;
        if offered == 100 {
            free.store(5000, Ordering::SeqCst);
        }
        std::thread::sleep(Duration::from_micros(200));
    }
    let summary = recorder.stop().unwrap();
    assert_eq!(summary.manifest.ending, Ending::NoSpace { free_bytes: 5000, limit_bytes: 1 << 20 });
    assert!(summary.manifest.files.iter().all(|file| file.whole));
    let found = checked(folder.path());
    assert_eq!((found.verdict(), found.problems.as_slice()), (Verdict::Declared, [].as_slice()));
    assert!(found.channels.values().all(|channel| channel.undeclared == 0));
}

/// A process of this very program that records until it is killed, or its recording ends.
fn recorder_process(folder: &Path, ulimit: &str) -> std::process::Child {
    let exe = std::env::current_exe().unwrap();
    let test = "log::recorder::tests::process_that_records";
    let script = format!("trap '' XFSZ; {ulimit} exec \"$0\" {test} --exact --ignored --test-threads 1");
    Command::new("bash")
        .args(["-c", &script])
        .arg(exe)
        .env(FOLDER_VARIABLE, folder)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

const FOLDER_VARIABLE: &str = "CATSEYE_TEST_RECORDER_FOLDER";
/// Time from message to message of each sensor.
const PERIOD: Duration = Duration::from_millis(1);

#[test]
#[ignore = "what the other tests run as a process of its own"]
fn process_that_records() {
    let Some(folder) = std::env::var_os(FOLDER_VARIABLE).map(PathBuf::from) else { return };
    let (preamble, slots) = preamble();
    let recordings = folder.join("recordings");
    // chunks end by time alone, some of them several to a file
    let options = Options { max_file_bytes: 400 << 10, chunk_bytes: 1 << 20, ..options() };
    let recorder = Recorder::start(&recordings, "drive", preamble, options).unwrap();
    let mut offered = File::create(folder.join("offered")).unwrap();
    let began = Instant::now();
    for sequence in 0.. {
        let log_ns = began.elapsed().as_nanos() as i64;
        for slot in slots {
            let message = SensorMessage { log_ns, ..message(slot, sequence, 700 + sequence as usize % 600) };
            if recorder.offer(message) == Offer::Ended {
                assert!(recorder.stop().unwrap().manifest_file.is_ok());
                return;
            }
        }
        // straight into the file, so that it outlives the process
        offered.write_all(&log_ns.to_le_bytes()).unwrap();
        std::thread::sleep(PERIOD);
    }
}

/// Times of arrival of what a process offered, by sequence number.
fn offered(folder: &Path) -> Vec<i64> {
    let mut bytes = Vec::new();
    if let Ok(mut file) = File::open(folder.join("offered")) {
        file.read_to_end(&mut bytes).unwrap();
    }
    bytes.chunks_exact(8).map(|bytes| i64::from_le_bytes(bytes.try_into().unwrap())).collect()
}

/// Waits until a process has offered something.
fn wait_for_offers(folder: &Path) {
    let began = Instant::now();
    while offered(folder).is_empty() {
        assert!(began.elapsed() < Duration::from_secs(30), "the process offers nothing");
        std::thread::sleep(Duration::from_millis(2));
    }
}

static ONE_PROCESS: Mutex<()> = Mutex::new(());

#[test]
fn a_killed_recorder_loses_at_most_what_came_since_its_last_flush() {
    let _alone = ONE_PROCESS.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    let mut losses_ms = Vec::new();
    for _ in 0..20 {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let folder = tempfile::tempdir().unwrap();
        let mut process = recorder_process(folder.path(), "");
        wait_for_offers(folder.path());
        std::thread::sleep(Duration::from_micros((random >> 32) % 400_000));
        process.kill().unwrap();
        process.wait().unwrap();
        losses_ms.push(check_killed(folder.path()));
    }
    losses_ms.sort_unstable();
    eprintln!("lost, in ms of arrival: {losses_ms:?}");
}

/// Holds what is left of a killed process against what it offered; how many milliseconds are lost.
fn check_killed(folder: &Path) -> i64 {
    let times = offered(folder);
    let found = checked(&folder.join("recordings"));
    assert_eq!(found.verdict(), Verdict::Incomplete);
    let newest_log_ns = found.channels.values().map(|channel| channel.last_log_ns).max();
    let not_ended = Problem::NotEnded { newest_log_ns, flush_interval_ns: Some(20_000_000) };
    assert!(found.problems.contains(&not_ended), "{:?}", found.problems);
    for problem in &found.problems {
        let is_of_crash = matches!(problem, Problem::NotEnded { .. } | Problem::NoManifest(_) | Problem::Cut(..));
        assert!(is_of_crash, "{problem}");
    }
    let mut lost_ms = 0;
    for (topic, channel) in &found.channels {
        // from the first on, without a gap, and the check says up to where
        let last = channel.sequences.last.unwrap();
        assert_eq!((channel.sequences.first, channel.undeclared, channel.declared()), (Some(0), 0, 0), "{topic}");
        assert_eq!(channel.sequences.count, u64::from(last) + 1, "{topic}");
        let Some(log_ns) = times.get(last as usize) else { continue };
        assert_eq!(channel.last_log_ns, *log_ns, "{topic}");
        lost_ms = lost_ms.max((times.last().unwrap() - log_ns) / 1_000_000);
    }
    // the flush interval, and what a busy machine lets a thread wait for a processor
    assert!(lost_ms <= 20 + 400, "{lost_ms} ms are lost");
    lost_ms
}

#[test]
fn a_limit_of_the_system_ends_a_recording_as_a_full_disk_does() {
    let _alone = ONE_PROCESS.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let folder = tempfile::tempdir().unwrap();
    // files of 64 KiB and not a byte more, where the recorder would make larger ones
    let mut process = recorder_process(folder.path(), "ulimit -f 64;");
    assert!(process.wait().unwrap().success());
    let found = checked(&folder.path().join("recordings"));
    assert_eq!((found.verdict(), found.problems.as_slice()), (Verdict::Declared, [].as_slice()));
    assert!(matches!(&found.ending, Some(Ending::WriteFailed { error }) if error.contains("File too large")));
    assert!(found.files.iter().all(|file| file.bytes <= 64 << 10 && !file.is_whole));
    let count = offered(folder.path()).len() as u64;
    for channel in found.channels.values() {
        let all = channel.sequences.count + channel.declared();
        assert!(channel.undeclared == 0 && (count..=count + 1).contains(&all), "{all} of {count}");
    }
}
