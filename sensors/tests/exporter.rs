//! What an exporter library must do, and what becomes of one that does not.
//!
//! The tests in `any_library` hold for every library and are how a real one is tried, on the machine with the camera:
//!
//!     CATSEYE_EXPORTER_LIB=/path/libcatseye_argus.so \
//!     CATSEYE_EXPORTER_CONFIG='camera=0;width_px=1920;height_px=1080;rate_hz=30;fourcc=NV12' \
//!     cargo test --release -p catseye-sensors --test exporter any_library -- --test-threads 1
//!
//! Without these variables they run on a library without a camera, `exporter/fake.c`, which is built by the C compiler, draws a
//! pattern, overwrites what was given back, and ends the process where it is called against the contract. The other tests have it
//! break the contract itself.
#![cfg(all(target_os = "linux", target_pointer_width = "64", target_endian = "little"))]
// a file descriptor is mapped, and a symbol of the library is called
#![allow(unsafe_code)]

#[path = "exporter/fake.rs"]
mod fake;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::mpsc::sync_channel;
use std::time::{Duration, Instant};

use catseye_sensors::exporter::{ExportedClock, ExportedFrame, ExportedMemory, Exporter, ExporterError, FrameFault};
use catseye_sensors::packet::ClockId;
use catseye_sensors::picture::{Frame, Limits, PixelFormat, RawLayout, copy_raw};
use catseye_sensors::v4l2::{CameraFormat, FourCc};
use fake::Fake;

/// Long enough for any camera.
const PATIENCE: Duration = Duration::from_secs(5);

/// The byte that the fake draws.
fn pattern(sequence: u64, plane: usize, row: usize, column: usize) -> u8 {
    (sequence as usize).wrapping_mul(7).wrapping_add(plane * 31 + row * 3 + column) as u8
}

/// Whether every pixel is the fake's.
fn is_drawn(frame: &ExportedFrame) -> bool {
    (0..3).all(|number| {
        let Some(plane) = frame.layout(number) else { return true };
        let rows = frame.plane(number).chunks_exact(plane.layout.stride).enumerate();
        rows.clone().count() == plane.layout.rows
            && rows.into_iter().all(|(row, bytes)| {
                let pixels = bytes.iter().take(plane.layout.row_bytes).enumerate();
                pixels.into_iter().all(|(column, byte)| *byte == pattern(frame.sequence(), number, row, column))
            })
    })
}

fn next(exporter: &mut Exporter) -> ExportedFrame {
    exporter.next_frame(PATIENCE).unwrap_or_else(|error| panic!("{error}")).expect("a picture in time")
}

/// Opens the fake, with its keys.
fn open(fake: &Fake, config: &str) -> Exporter {
    Exporter::open(&fake.library, config).unwrap_or_else(|error| panic!("{error}"))
}

/// How many exporters of a fake are not closed.
fn open_exporters(fake: &Fake) -> i32 {
    // SAFETY: the library is one that is built here, and is open already; the symbol has this type in `fake.c`.
    unsafe {
        let library = libloading::Library::new(&fake.library).unwrap();
        let count: libloading::Symbol<unsafe extern "C" fn() -> i32> = library.get("fake_open_exporters").unwrap();
        count()
    }
}

mod any_library {
    use super::*;

    /// What is tried.
    struct Subject {
        library: PathBuf,
        config: String,
        fake: Option<Fake>,
    }

    impl Subject {
        /// The user's library, or the fake with some keys more.
        fn new(keys: &str) -> Option<Self> {
            let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
            if let Some(library) = variable("CATSEYE_EXPORTER_LIB") {
                let config = variable("CATSEYE_EXPORTER_CONFIG").unwrap_or_default();
                return Some(Subject { library: library.into(), config, fake: None });
            }
            let fake = fake::build(&[])?;
            let config = format!("camera=0;width_px=64;height_px=48;rate_hz=0;fourcc=NV12;{keys}");
            Some(Subject { library: fake.library.clone(), config, fake: Some(fake) })
        }

        fn open(&self) -> Exporter {
            Exporter::open(&self.library, &self.config).unwrap_or_else(|error| panic!("{error}"))
        }

        /// Fewer pictures of a camera that takes its time.
        fn some(&self, of_fake: u64) -> u64 {
            if self.fake.is_some() { of_fake } else { 60 }
        }

        /// Whether a picture is right, as far as can be known.
        fn is_right(&self, frame: &ExportedFrame) -> bool {
            self.fake.is_none() || is_drawn(frame)
        }
    }

    #[test]
    fn pictures_come_in_order_and_are_right() {
        let Some(subject) = Subject::new("padding=8") else { return };
        let mut exporter = subject.open();
        let first = next(&mut exporter);
        let of_all = |frame: &ExportedFrame| (frame.format(), frame.size_px(), frame.clock(), frame.kind());
        let (same, mut last) = (of_all(&first), (first.sequence(), first.stamp_ns()));
        drop(first);
        for _ in 0..subject.some(500) {
            let frame = next(&mut exporter);
            assert_eq!(of_all(&frame), same);
            assert!(frame.sequence() > last.0 && frame.stamp_ns() > last.1, "{frame:?} after {last:?}");
            assert!(frame.buffer() < exporter.buffer_count());
            assert!(subject.is_right(&frame), "{frame:?}");
            last = (frame.sequence(), frame.stamp_ns());
        }
        let counts = exporter.counts();
        assert_eq!((counts.frames, counts.refused), (subject.some(500) + 1, 0));
    }

    #[test]
    fn nothing_is_copied() {
        let Some(subject) = Subject::new("") else { return };
        let mut exporter = subject.open();
        let mut addresses = BTreeSet::new();
        for _ in 0..exporter.buffer_count() * 4 {
            let frame = next(&mut exporter);
            let (address, whole) = (frame.plane(0).as_ptr(), frame.whole().map(<[u8]>::len));
            addresses.insert(address.addr());
            let bytes = frame.into_bytes();
            match whole {
                Some(len) => assert_eq!((bytes.as_ptr(), bytes.len()), (address, len)),
                None => assert!(subject.fake.is_none(), "the fake's planes follow one another"),
            }
        }
        assert!(addresses.len() <= exporter.buffer_count() as usize, "{addresses:?}");
    }

    #[test]
    fn a_device_finds_the_picture_behind_the_handle() {
        let Some(subject) = Subject::new("padding=4") else { return };
        let mut exporter = subject.open();
        let frame = next(&mut exporter);
        let ExportedMemory::DmaBuf(fd) = frame.memory() else {
            assert!(subject.fake.is_none());
            return eprintln!("skipped: {:?} cannot be mapped here", frame.memory());
        };
        for number in 0..3 {
            let Some(plane) = frame.layout(number) else { break };
            let (offset, bytes) = (plane.offset_bytes as usize, frame.plane(number));
            let len = offset + bytes.len();
            let (read, shared) = (rustix::mm::ProtFlags::READ, rustix::mm::MapFlags::SHARED);
            // SAFETY: the kernel chooses an address where nothing is.
            let mapped = unsafe { rustix::mm::mmap(std::ptr::null_mut(), len, read, shared, fd, 0) };
            let mapped = match mapped {
                Ok(mapped) => mapped,
                Err(error) if subject.fake.is_none() => return eprintln!("skipped: this DMA-BUF: {error}"),
                Err(error) => panic!("{error}"),
            };
            // SAFETY: so many bytes were mapped, and nobody writes to a picture that is lent.
            let found = unsafe { std::slice::from_raw_parts(mapped.cast::<u8>(), len) };
            assert!(found[offset..] == *bytes, "plane {number} is another one behind the handle");
            // SAFETY: mapped above, and the slice is not used any more.
            unsafe { rustix::mm::munmap(mapped, len) }.unwrap();
        }
    }

    #[test]
    fn buffers_that_were_given_back_are_used_again() {
        let Some(subject) = Subject::new("buffers=2") else { return };
        let mut exporter = subject.open();
        for _ in 0..subject.some(200) {
            let frame = next(&mut exporter);
            assert_eq!(exporter.lent_count(), 1);
            drop(frame.into_bytes());
            assert_eq!(exporter.lent_count(), 0);
        }
    }

    #[test]
    fn a_picture_that_is_held_is_never_overwritten() {
        let Some(subject) = Subject::new("") else { return };
        let mut exporter = subject.open();
        let mut held = Vec::new();
        // a camera may keep some buffers to itself, never more than it has
        while let Some(frame) = exporter.next_frame(Duration::from_millis(300)).unwrap() {
            let planes: Vec<Vec<u8>> = (0..3).map(|plane| frame.plane(plane).to_vec()).collect();
            held.push((frame, planes));
            assert!(held.len() <= exporter.buffer_count() as usize);
        }
        assert!(!held.is_empty());
        assert!(subject.fake.is_none() || held.len() == 4);
        assert_eq!(exporter.lent_count() as usize, held.len());
        for _ in 0..3 {
            assert!(exporter.next_frame(Duration::from_millis(50)).unwrap().is_none(), "all buffers were held");
        }
        for (frame, planes) in &held {
            assert!(subject.is_right(frame));
            assert!((0..3).all(|plane| frame.plane(plane) == planes[plane]), "a held picture was overwritten");
        }
        let newest = held.last().map(|(frame, _)| frame.sequence());
        held.remove(0);
        assert!(Some(next(&mut exporter).sequence()) > newest, "a buffer that came back gives the next picture");
    }

    #[test]
    fn pictures_go_back_from_other_threads() {
        let Some(subject) = Subject::new("buffers=5") else { return };
        let mut exporter = subject.open();
        let pictures = subject.some(6000);
        std::thread::scope(|scope| {
            let (to_frames, frames) = sync_channel::<ExportedFrame>(1);
            let (to_bytes, shared) = sync_channel(1);
            let subject = &subject;
            scope.spawn(move || frames.into_iter().for_each(|frame| assert!(subject.is_right(&frame), "{frame:?}")));
            scope.spawn(move || {
                for (sequence, bytes) in shared {
                    let bytes: bytes::Bytes = bytes;
                    // the first byte of a picture, of a copy of the handle that outlives the other
                    let again = bytes.slice(..1);
                    drop(bytes);
                    assert!(subject.fake.is_none() || again[0] == pattern(sequence, 0, 0, 0));
                }
            });
            for number in 0..pictures {
                let frame = next(&mut exporter);
                match number % 2 {
                    0 => to_frames.send(frame).unwrap(),
                    _ => to_bytes.send((frame.sequence(), frame.into_bytes())).unwrap(),
                }
            }
        });
        assert_eq!((exporter.counts().frames, exporter.lent_count()), (pictures, 0));
    }

    #[test]
    fn a_camera_is_let_go_while_its_pictures_are_still_read() {
        let Some(subject) = Subject::new("") else { return };
        let mut exporter = subject.open();
        let (frame, other) = (next(&mut exporter), next(&mut exporter));
        let sequence = frame.sequence();
        let before = frame.plane(0).to_vec();
        let bytes = frame.into_bytes();
        drop(exporter);
        // nobody could open it otherwise
        let mut again = subject.open();
        assert!(subject.is_right(&next(&mut again)));
        assert!(subject.is_right(&other));
        assert_eq!(bytes[..before.len()], before);
        if let Some(fake) = &subject.fake {
            assert_eq!(bytes[0], pattern(sequence, 0, 0, 0));
            assert_eq!(open_exporters(fake), 2);
            drop(other);
            assert_eq!(open_exporters(fake), 2);
            std::thread::spawn(move || drop(bytes)).join().unwrap();
            assert_eq!(open_exporters(fake), 1);
        }
    }

    #[test]
    fn it_opens_again_and_again() {
        let Some(subject) = Subject::new("") else { return };
        for _ in 0..5 {
            let mut exporter = subject.open();
            assert!(subject.is_right(&next(&mut exporter)));
        }
        assert_eq!(subject.fake.as_ref().map_or(0, open_exporters), 0);
    }

    #[test]
    fn it_waits_no_longer_than_it_is_asked_to() {
        let Some(subject) = Subject::new("rate_hz=5") else { return };
        let mut exporter = subject.open();
        drop(next(&mut exporter));
        let start = Instant::now();
        for _ in 0..20 {
            let _ = exporter.next_frame(Duration::ZERO).unwrap();
        }
        for _ in 0..5 {
            let _ = exporter.next_frame(Duration::from_millis(10)).unwrap();
        }
        // a machine that is busy needs longer; one call that waits for ever, or for a picture each time, needs more
        assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
    }
}

/// The fault that a picture has, after some good ones; it is given back, so that more come than there are buffers.
fn fault_of(fake: &Fake, word: &str) -> FrameFault {
    let mut exporter = open(fake, &format!("fault={word};at=3"));
    for _ in 0..3 {
        assert!(is_drawn(&next(&mut exporter)));
    }
    let mut faults = Vec::new();
    for sequence in 3..13 {
        match exporter.next_frame(PATIENCE) {
            Err(error @ ExporterError::Frame { sequence: found, fault, .. }) => {
                assert!(!error.is_final() && found == sequence, "{error}");
                assert!(error.to_string().starts_with(&format!("exporter fake 1: picture {found}: ")), "{error}");
                faults.push(fault);
            }
            other => panic!("{word}: {other:?}"),
        }
    }
    assert_eq!((exporter.counts().refused, exporter.lent_count()), (10, 0));
    faults[0]
}

#[test]
fn a_picture_that_breaks_the_contract_is_refused_by_name_and_the_next_is_asked_for() {
    let Some(fake) = fake::build(&[]) else { return };
    let half = FrameFault::Bytes { plane: 1, expected: 64 * 24, found: 32 * 24 };
    assert_eq!(fault_of(&fake, "small_plane"), half);
    assert_eq!(fault_of(&fake, "null_plane"), FrameFault::Address { plane: 1, bytes: 64 * 24, address: 0 });
    assert_eq!(fault_of(&fake, "short_stride"), FrameFault::Stride { plane: 0, expected: 64, found: 3 });
    assert_eq!(fault_of(&fake, "planes"), FrameFault::Planes { expected: 2, found: 77 });
    assert_eq!(fault_of(&fake, "format"), FrameFault::Format { found: FourCc(*b"????") });
    assert_eq!(fault_of(&fake, "size"), FrameFault::Size { expected: 16384, found: [0, 48] });
    assert_eq!(fault_of(&fake, "clock"), FrameFault::Clock { found: 99 });
    assert_eq!(fault_of(&fake, "stamp_kind"), FrameFault::StampKind { found: 99 });
    assert_eq!(fault_of(&fake, "memory"), FrameFault::Memory { found: 99 });
    assert_eq!(fault_of(&fake, "handle"), FrameFault::Handle { memory: 1, found: u64::MAX });
    assert_eq!(fault_of(&fake, "flags"), FrameFault::Flags { found: 1 << 31 });
}

#[test]
fn a_number_that_does_not_grow_is_refused_once() {
    let Some(fake) = fake::build(&[]) else { return };
    for (word, found) in [("backward", 0), ("repeat", 4)] {
        let mut exporter = open(&fake, &format!("fault={word};at=5"));
        for _ in 0..5 {
            next(&mut exporter);
        }
        match exporter.next_frame(PATIENCE) {
            Err(ExporterError::Frame { fault, .. }) => assert_eq!(fault, FrameFault::Backward { last: 4, found }),
            other => panic!("{word}: {other:?}"),
        }
        assert_eq!(next(&mut exporter).sequence(), 6);
    }
}

#[test]
fn gaps_and_torn_pictures_are_told() {
    let Some(fake) = fake::build(&[]) else { return };
    let mut exporter = open(&fake, "fault=gap;at=2");
    let numbers: Vec<u64> = (0..4).map(|_| next(&mut exporter).sequence()).collect();
    assert_eq!(numbers, [0, 1, 5, 6]);
    let mut exporter = open(&fake, "camera=1;fault=torn");
    let torn: Vec<bool> = (0..6).map(|_| next(&mut exporter).torn()).collect();
    assert_eq!(torn, [true, false, false, true, false, false]);
    assert_eq!((exporter.counts().frames, exporter.counts().torn), (6, 2));
}

/// The error that ends an exporter, which the same exporter stays with.
fn end_of(exporter: &mut Exporter) -> ExporterError {
    let mut held = Vec::new();
    let error = loop {
        match exporter.next_frame(Duration::from_millis(200)) {
            Ok(frame) => held.extend(frame),
            Err(error) => break error,
        }
    };
    assert!(error.is_final(), "{error}");
    assert!(matches!(exporter.next_frame(PATIENCE), Err(ExporterError::Failed { .. })));
    error
}

#[test]
fn what_ends_an_exporter_is_told_by_name() {
    let Some(fake) = fake::build(&[]) else { return };
    let exporter = || "fake 1".to_owned();
    let end = |fault: &str| end_of(&mut open(&fake, fault));
    assert_eq!(end("fault=token;at=2"), ExporterError::Buffer { exporter: exporter(), expected: 4, found: 4 });
    assert_eq!(end("fault=lent_again;at=2"), ExporterError::LentTwice { exporter: exporter(), buffer: 0 });
    assert_eq!(end("fault=status;at=2"), ExporterError::Status { exporter: exporter(), found: -42 });
    let reason = "the fake was told to fail at picture 2".to_owned();
    assert_eq!(end("fault=error;at=2"), ExporterError::Failed { exporter: exporter(), reason });
    let reason = "camera 0 was unplugged".to_owned();
    assert_eq!(end("fault=gone;at=2"), ExporterError::Gone { exporter: exporter(), reason });
    assert_eq!(open_exporters(&fake), 0);
}

#[test]
fn a_camera_that_went_away_is_opened_again_when_it_is_back() {
    let Some(fake) = fake::build(&[]) else { return };
    let config = "fault=gone;at=3;away_ms=300";
    let mut exporter = open(&fake, config);
    let held = next(&mut exporter);
    let error = end_of(&mut exporter);
    assert!(matches!(error, ExporterError::Gone { .. }), "{error}");
    drop(exporter);
    let open = || Exporter::open(&fake.library, config);
    match open() {
        Err(ExporterError::Open { reason, .. }) => assert_eq!(reason, "camera 0 is not there"),
        other => panic!("{other:?}"),
    }
    let start = Instant::now();
    let mut again = loop {
        match open() {
            Ok(exporter) => break exporter,
            Err(error) => assert!(start.elapsed() < PATIENCE, "{error}"),
        }
        std::thread::sleep(Duration::from_millis(10));
    };
    assert!(is_drawn(&next(&mut again)));
    assert!(is_drawn(&held), "a picture outlives its camera");
}

#[test]
fn a_camera_that_gives_nothing_is_waited_for_no_longer_than_asked() {
    let Some(fake) = fake::build(&[]) else { return };
    let mut exporter = open(&fake, "fault=stuck;at=1");
    let held = next(&mut exporter);
    for wait_ms in [0, 1, 30] {
        let start = Instant::now();
        assert!(exporter.next_frame(Duration::from_millis(wait_ms)).unwrap().is_none());
        assert!(start.elapsed() >= Duration::from_millis(wait_ms));
    }
    drop(held);
    assert!(exporter.next_frame(Duration::from_millis(1)).unwrap().is_none());
}

#[test]
fn planes_that_lie_apart_are_put_together() {
    let Some(fake) = fake::build(&[]) else { return };
    for (config, stride) in [("apart=256;padding=8", 72), ("apart=4096;width_px=63;height_px=47", 64)] {
        let mut exporter = open(&fake, config);
        let frame = next(&mut exporter);
        assert!(frame.whole().is_none());
        let (sequence, [width_px, height_px]) = (frame.sequence(), frame.size_px());
        let bytes = frame.into_bytes();
        assert_eq!(exporter.lent_count(), 0);
        let format = PixelFormat::Nv12;
        let layout = RawLayout { width_px, height_px, format, full_range: false, stride_bytes: Some(stride) };
        let mut picture = Frame::default();
        copy_raw(&layout, &bytes, &mut picture, &Limits::default()).unwrap();
        let (width, luma) = (width_px as usize, (width_px * height_px) as usize);
        let chroma_width = width.next_multiple_of(2);
        for (at, byte) in picture.data().iter().enumerate() {
            let expected = match at.checked_sub(luma) {
                None => pattern(sequence, 0, at / width, at % width),
                Some(at) => pattern(sequence, 1, at / chroma_width, at % chroma_width),
            };
            assert_eq!(*byte, expected, "{at}");
        }
    }
}

#[test]
fn other_formats_come_as_they_are() {
    let Some(fake) = fake::build(&[]) else { return };
    for code in [b"UYVY", b"BG12"] {
        let mut exporter = open(&fake, &format!("fourcc={};padding=2", String::from_utf8_lossy(code)));
        let frame = next(&mut exporter);
        assert_eq!(Some(frame.format()), CameraFormat::from_fourcc(FourCc(*code)));
        assert!(is_drawn(&frame) && frame.whole().is_some_and(|whole| whole.len() == 130 * 48));
    }
}

#[test]
fn what_is_no_library_of_this_version_is_refused_before_it_is_used() {
    let refused = |defines: &[&str], config: &str| {
        let fake = fake::build(defines)?;
        let error = Exporter::open(&fake.library, config).unwrap_err();
        Some(error.to_string().replace(&fake.library.display().to_string(), "LIB"))
    };
    let Some(other_version) = refused(&["-DFAKE_ABI=1"], "") else { return };
    let expected = "exporter LIB: expected version 2 of catseye_exporter.h with structs of 72 and 168 bytes, found version 1 with 72 and 168: build it anew with this catseye's header";
    assert_eq!(other_version, expected);
    assert!(refused(&["-DFAKE_FRAME_BYTES=160"], "").unwrap().contains("found version 2 with 72 and 160"));
    let no_symbol = "exporter LIB: expected the symbol `catseye_exporter_api`, found none";
    assert_eq!(refused(&["-DFAKE_NO_SYMBOL"], "").unwrap(), no_symbol);
    let no_table = "exporter LIB: expected a function `catseye_exporter_api`, found null";
    assert_eq!(refused(&["-DFAKE_NO_TABLE"], "").unwrap(), no_table);
    let no_close = "exporter LIB: expected a function `close`, found null";
    assert_eq!(refused(&["-DFAKE_CLOSE=NULL"], "").unwrap(), no_close);
    assert_eq!(refused(&[], "fault=buffers").unwrap(), "exporter fake 1: expected 1 to 64 buffers, found 65");
    assert_eq!(refused(&[], "fault=no_handle").unwrap(), "exporter fake 1: fault=no_handle: it gives no exporter");
    assert_eq!(refused(&[], "a=\0").unwrap(), "exporter fake 1: expected a text without a zero byte, found \"a=\\0\"");
    let unknown = "exporter fake 1: tint=3: key tint: expected one of camera, width_px, ..., found it";
    assert_eq!(refused(&[], "tint=3").unwrap(), unknown);
    let missing = Exporter::open(Path::new("libno-such-exporter.so"), "").unwrap_err();
    assert!(matches!(&missing, ExporterError::NoLibrary { reason, .. } if reason.contains("no-such")), "{missing}");
}

#[test]
fn a_shell_in_cpp_keeps_the_contract() {
    let Some(shell) = fake::compile("CXX", "c++", "-std=c++17", "shell.cpp", &["-Wall", "-Wextra", "-Werror"]) else {
        return;
    };
    let config = |more: &str| format!("camera=3;width_px=16;height_px=8;rate_hz=30;fourcc=NV12;buffers=5{more}");
    let mut exporter = open(&shell, &config(""));
    assert_eq!((exporter.name(), exporter.buffer_count()), ("blank 1", 5));
    let mut held: Vec<ExportedFrame> = (0..5).map(|_| next(&mut exporter)).collect();
    assert!(exporter.next_frame(Duration::from_millis(20)).unwrap().is_none());
    for frame in &held {
        let whole = frame.whole().expect("one piece");
        assert!(whole.len() == 192 && whole.iter().all(|byte| u64::from(*byte) == frame.sequence()));
        assert_eq!(frame.clock(), ExportedClock::Known(ClockId::HostMonotonic));
    }
    let last = held.pop().map(ExportedFrame::into_bytes);
    drop(exporter);
    assert!(last.is_some_and(|bytes| bytes.iter().all(|byte| *byte == 4)));

    let end = |mode: &str| end_of(&mut open(&shell, &config(&format!(";mode={mode}")))).to_string();
    assert_eq!(end("gone"), "exporter blank 1: the camera is gone: camera 3 is gone");
    assert_eq!(end("fail"), "exporter blank 1: failed: it broke");
    assert_eq!(end("odd"), "exporter blank 1: failed: an exception without words");
    let refused = |config: &str| match Exporter::open(&shell.library, config) {
        Err(ExporterError::Open { reason, .. }) => reason,
        other => panic!("{config}: {other:?}"),
    };
    assert_eq!(refused(&config(";mode=throw")), "an exception without words");
    assert_eq!(refused(&config(";tint=3")), "tint: no such key");
    assert_eq!(refused(&config(";tint")), "expected key=value, found tint");
    assert_eq!(refused(&config(";fourcc=UYVY")), "fourcc: expected NV12, found UYVY");
    assert_eq!(refused(&config(";width_px=-4")), "width_px: expected a whole number, found -4");
    assert_eq!(refused("width_px=16;height_px=8"), "expected rate_hz above 0, found none");
    assert_eq!(refused(""), "expected width_px and height_px, found none");
}
