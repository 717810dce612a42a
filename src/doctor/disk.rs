//! The disk that recordings go to: room, and how fast a file grows there when it has to be on the disk.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::facts::DiskFacts;
use super::wait::within;
use super::{Finding, Machine, Scale, bytes_text};

/// The most that is written to measure.
const MEASURED_BYTES: usize = 192 << 20;
const CHUNK_BYTES: usize = 4 << 20;
/// Chunks between two waits for the disk, so that a slow one is seen before all is written.
const CHUNKS_PER_SYNC: usize = 4;
/// A measurement that has gone on for so long has seen enough.
const ENOUGH: Duration = Duration::from_secs(3);
/// A disk that takes longer does not answer.
const LIMIT: Duration = Duration::from_secs(30);

/// The recorder ends by itself below 1 GiB (`--min-free-mib`); 20 GiB are a quarter of an hour of a dozen compressed cameras.
const FREE: Scale = Scale { red_below: 1 << 30, yellow_below: 20 << 30 };
/// One uncompressed camera of 1920x1208 in NV12 at 30 Hz has 104 MB/s; below half of that nothing but compressed pictures fits.
const SLOW_BYTES_PER_S: u64 = 50_000_000;

/// Room, and speed where that is asked for. The file is removed again.
pub fn measure(folder: &Path, writes: bool) -> Result<DiskFacts, String> {
    let folder = folder.to_path_buf();
    within(LIMIT, move || measure_here(folder, writes)).unwrap_or_else(|| Err("the disk does not answer".to_owned()))
}

fn measure_here(folder: PathBuf, writes: bool) -> Result<DiskFacts, String> {
    let disk = rustix::fs::statvfs(&folder).map_err(|error| error.to_string())?;
    let free_bytes = disk.f_bavail.saturating_mul(disk.f_frsize);
    let total_bytes = disk.f_blocks.saturating_mul(disk.f_frsize);
    // what would fill the disk is not written
    let has_room = free_bytes > 4 * MEASURED_BYTES as u64;
    let write_bytes_per_s =
        if writes && has_room { Some(write(&folder).map_err(|error| error.to_string())?) } else { None };
    Ok(DiskFacts { free_bytes, total_bytes, write_bytes_per_s })
}

/// A file that is gone when it is dropped.
struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        // it may never have been made
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Bytes per second that have reached the disk.
fn write(folder: &Path) -> std::io::Result<u64> {
    let path = folder.join(format!(".catseye-doctor-{}", std::process::id()));
    let mut file = std::fs::File::options().write(true).create_new(true).open(&path)?;
    let _scratch = Scratch(path);
    let chunk = noise();
    let start = Instant::now();
    let mut written = 0_u64;
    while written < MEASURED_BYTES as u64 && start.elapsed() < ENOUGH {
        for _ in 0..CHUNKS_PER_SYNC {
            file.write_all(&chunk)?;
            written += chunk.len() as u64;
        }
        file.sync_data()?;
    }
    let microseconds = start.elapsed().as_micros().max(1);
    Ok(u64::try_from(u128::from(written) * 1_000_000 / microseconds).unwrap_or(u64::MAX))
}

/// Bytes that no file system makes smaller.
fn noise() -> Vec<u8> {
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let word = |_| {
        // xorshift64 (Marsaglia, "Xorshift RNGs", 2003)
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    (0..CHUNK_BYTES / 8).flat_map(word).collect()
}

pub fn check(machine: &Machine) -> Vec<Finding> {
    let facts = &machine.facts;
    let folder = facts
        .disk_folder
        .as_ref()
        .map_or_else(|| "the recordings' folder".to_owned(), |folder| folder.display().to_string());
    if let Some(cause) = &facts.disk_failed {
        let mend = "make the folder, or name another one with `--folder DIR` that this user may write to";
        return vec![Finding::red("room", format!("{folder}: {cause}"), mend)];
    }
    let Some(disk) = facts.disk else {
        return vec![Finding::yellow("room", "unknown", "`df -h` tells it")];
    };
    let mut findings = vec![room(&folder, disk)];
    findings.extend(disk.write_bytes_per_s.map(speed));
    findings
}

fn room(folder: &str, disk: DiskFacts) -> Finding {
    let found = format!("{} of {} free in {folder}", bytes_text(disk.free_bytes), bytes_text(disk.total_bytes));
    let mend = "remove old recordings, or name a folder on another disk with `--folder DIR`";
    FREE.judge(disk.free_bytes.try_into().unwrap_or(i64::MAX), "room", found, mend)
}

fn speed(bytes_per_s: u64) -> Finding {
    let found = format!("{} MB/s written and synced", bytes_per_s / 1_000_000);
    if bytes_per_s < SLOW_BYTES_PER_S {
        let found = format!("{found}: enough for compressed pictures only");
        return Finding::yellow(
            "speed",
            found,
            "record to an NVMe disk, or record compressed pictures (`format = \"jpeg\"`)",
        );
    }
    Finding::green("speed", found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_measured_and_left_as_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let disk = measure(folder.path(), true).unwrap();
        assert!(disk.free_bytes <= disk.total_bytes);
        assert!(disk.write_bytes_per_s.is_none_or(|speed| speed > 0));
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
        assert!(measure(&folder.path().join("none"), true).is_err());
    }

    #[test]
    fn what_is_written_cannot_be_compressed() {
        let packed = zstd::encode_all(noise().as_slice(), 1).unwrap();
        assert!(packed.len() > CHUNK_BYTES);
    }
}
