//! The layer over the driver, on a real device: what goes up comes down, graphs repeat, events order, failures are named.
//! Without a device all tests but the last say so and pass.
#![cfg(feature = "cuda")]
#![allow(unsafe_code)] // a mapping of memory, as a camera's library makes one

#[path = "common/exported.rs"]
mod exported;

use std::io::Write;
use std::os::fd::AsRawFd;
use std::process::Command;
use std::ptr::{NonNull, null_mut};
use std::sync::Arc;

use catseye::gpu::abi::CatseyeProbeParams;
use catseye::gpu::copy::PART_BYTES;
use catseye::gpu::transfer::time_both;
use catseye::gpu::{
    Context, DeviceBuffer, Event, GpuError, Graph, HostKind, Kernel, Kernels, Part, PartsCopy, PinnedBuffer, Priority,
    Stream, Transfer, TransferMode, measure_mapped,
};

use catseye_sensors::memory::{ForeignHandle, ForeignMemory, HandleKind};
use exported::Exported;
use rustix::fs::{MemfdFlags, memfd_create};
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

/// Sizes at and around the ends of words, warps, blocks and pages.
const SIZES: [usize; 11] = [1, 3, 31, 32, 33, 255, 256, 257, 4095, 65_537, 1_000_003];

fn device() -> Option<Arc<Context>> {
    match Context::open(0) {
        Ok(context) => Some(context),
        Err(reason @ (GpuError::NoDriver { .. } | GpuError::NoDevice)) => {
            println!("skipped: {reason}");
            None
        }
        Err(error) => panic!("{error}"),
    }
}

fn probe(context: &Arc<Context>) -> Kernel {
    Kernels::load(context).unwrap().get("catseye_probe").unwrap()
}

fn run_probe(
    stream: &Stream,
    probe: &Kernel,
    source: u64,
    target: u64,
    bytes: usize,
    pattern: u32,
) -> Result<(), GpuError> {
    let params = CatseyeProbeParams { source, target, bytes: bytes as u64, pattern, reserved: 0 };
    let blocks = u32::try_from(bytes.div_ceil(128).clamp(1, 500)).unwrap();
    stream.launch(probe, [blocks, 1, 1], [128, 1, 1], 0, &params)
}

fn picture(bytes: usize) -> Vec<u8> {
    (0..bytes).map(|i| (i * 31 + i / 251) as u8).collect()
}

/// What `times` runs of the probe kernel make of a source.
fn expected(source: &[u8], pattern: u8, times: usize) -> Vec<u8> {
    let step = |i: usize| (usize::from(pattern) + i).wrapping_mul(times) as u8;
    source.iter().enumerate().map(|(i, byte)| byte.wrapping_add(step(i))).collect()
}

/// Bytes of a part, and how far its source and target lie from a multiple of 16.
const PARTS: [(usize, usize, usize); 13] = [
    (0, 0, 0),
    (1, 0, 0),
    (15, 0, 0),
    (16, 0, 0),
    (17, 0, 0),
    (3_480_001, 0, 0),
    (1_000_003, 5, 0),
    (33, 0, 3),
    (4096, 16, 32),
    (70_000, 1, 1),
    (255, 15, 8),
    (99_999, 4, 8),
    (70_003, 4, 0),
];

#[test]
fn parts_of_a_table_are_copied_either_way() {
    let Some(context) = device() else { return };
    let stream = Stream::new(&context, Priority::High).unwrap();
    let kernels = Kernels::load(&context).unwrap();
    let room = PARTS.iter().map(|(bytes, ..)| bytes + 128).sum();
    let source = picture(room);
    for is_up in [true, false] {
        let mut host = PinnedBuffer::new(&context, room, HostKind::Mapped).unwrap();
        host.fill(0xA5);
        let mut on_device = source.clone();
        if is_up {
            host.swap_with_slice(&mut on_device);
        }
        let device = DeviceBuffer::from_bytes(&context, &on_device).unwrap();
        let ends = [host.device_address().unwrap(), device.address()];
        let [from, to] = if is_up { ends } else { [ends[1], ends[0]] };

        let (mut expected, mut table, mut place) = (vec![0xA5; room], Vec::new(), 0_usize);
        for (bytes, source_shift, target_shift) in PARTS {
            place = place.next_multiple_of(16);
            let (read, written) = (place + source_shift, place + target_shift);
            expected[written..written + bytes].copy_from_slice(&source[read..read + bytes]);
            table.extend(Part { source: from + read as u64, target: to + written as u64, bytes }.to_bytes());
            place += bytes + 64;
        }
        let table = DeviceBuffer::from_bytes(&context, &table).unwrap();
        PartsCopy::new(&kernels, table.address(), PARTS.len()).unwrap().enqueue(&stream).unwrap();
        PartsCopy::new(&kernels, 0, 0).unwrap().enqueue(&stream).unwrap();
        stream.synchronize().unwrap();
        let found = if is_up { device.to_vec().unwrap() } else { host.to_vec() };
        assert!(found == expected, "up: {is_up}, first at {:?}", (0..room).find(|&at| found[at] != expected[at]));
    }
}

#[test]
fn a_graph_copies_what_the_table_says_when_it_is_launched() {
    const ROOM: usize = 1 << 16;
    let Some(context) = device() else { return };
    let stream = Stream::new(&context, Priority::High).unwrap();
    let kernels = Kernels::load(&context).unwrap();
    let hosts = [3, 5].map(|factor| {
        let mut host = PinnedBuffer::new(&context, ROOM, HostKind::Mapped).unwrap();
        (0..ROOM).for_each(|at| host[at] = (at * factor) as u8);
        host
    });
    let there = DeviceBuffer::from_bytes(&context, &[0; ROOM]).unwrap();
    let mut parts = PinnedBuffer::new(&context, 2 * PART_BYTES, HostKind::Pinned).unwrap();
    let table = DeviceBuffer::new(&context, parts.len()).unwrap();
    let copy = PartsCopy::new(&kernels, table.address(), 2).unwrap();
    let graph = Graph::capture(&stream, |stream| {
        stream.upload(&parts, 0..2 * PART_BYTES, &table, 0)?;
        copy.enqueue(stream)
    })
    .unwrap();

    let mut expected = vec![0; ROOM];
    // which of the host's buffers, from where, to where, bytes; a part of none stands beside it
    for (turn, (from, source, target, bytes)) in
        [(0, 0, 16, 4096), (1, 7, 1, 300), (0, 32, 8192, 50_000)].into_iter().enumerate()
    {
        let part = Part {
            source: hosts[from].device_address().unwrap() + source as u64,
            target: there.address() + target as u64,
            bytes,
        };
        let both = if turn == 1 { [Part::default(), part] } else { [part, Part::default()] };
        parts.copy_from_slice(both.map(Part::to_bytes).as_flattened());
        graph.launch(&stream).unwrap();
        stream.synchronize().unwrap();
        expected[target..target + bytes].copy_from_slice(&hosts[from][source..source + bytes]);
        assert!(there.to_vec().unwrap() == expected, "turn {turn}");
    }
}

#[test]
fn a_device_says_what_it_is() {
    let Some(context) = device() else { return };
    println!("{:?}", context.info());
    assert!(!context.name().is_empty());
    assert!(context.driver_version() >= 11_040);
    assert!(context.capability().0 >= 5);
    assert_ne!(context.uuid(), [0; 16]);
    assert_eq!(context.check(), Ok(()));
    let error = Context::open(10_000).unwrap_err();
    assert!(matches!(error, GpuError::NoSuchDevice { ordinal: 10_000, found } if found > 0), "{error}");
}

#[test]
fn bytes_come_back_as_they_went() {
    let Some(context) = device() else { return };
    let stream = Stream::new(&context, Priority::Normal).unwrap();
    for bytes in SIZES {
        let sent = picture(bytes);
        assert_eq!(DeviceBuffer::from_bytes(&context, &sent).unwrap().to_vec().unwrap(), sent);

        let mut host = PinnedBuffer::new(&context, bytes, HostKind::Pinned).unwrap();
        assert!(host.iter().all(|&byte| byte == 0) && host.as_ptr().addr().is_multiple_of(64));
        host.copy_from_slice(&sent);
        let there = DeviceBuffer::new(&context, bytes + 7).unwrap();
        let mut back = PinnedBuffer::new(&context, bytes + 2, HostKind::Pinned).unwrap();
        stream.fill(&there, 0..bytes + 7, 0xA5).unwrap();
        stream.upload(&host, 0..bytes, &there, 5).unwrap();
        stream.download(&there, 4, &mut back, 0..bytes + 2).unwrap();
        stream.synchronize().unwrap();
        assert_eq!((back[0], back[bytes + 1]), (0xA5, 0xA5));
        assert_eq!(back[1..=bytes], sent[..]);
    }
}

#[test]
fn nothing_leaves_its_buffer() {
    let Some(context) = device() else { return };
    let stream = Stream::new(&context, Priority::Low).unwrap();
    let there = DeviceBuffer::new(&context, 10).unwrap();
    let mut host = PinnedBuffer::new(&context, 20, HostKind::Pinned).unwrap();
    let outside = |start, end, len| Err(GpuError::OutOfBounds { start, end, len });
    assert_eq!(stream.upload(&host, 0..11, &there, 0), outside(0, 11, 10));
    assert_eq!(stream.upload(&host, 15..21, &there, 0), outside(15, 21, 20));
    assert_eq!(stream.download(&there, 8, &mut host, 0..3), outside(8, 11, 10));
    assert_eq!(stream.download(&there, usize::MAX, &mut host, 0..3), outside(usize::MAX, usize::MAX, 10));
    assert_eq!(stream.fill(&there, 9..11, 0), outside(9, 11, 10));
    assert_eq!(there.upload_now(10, &[1]), outside(10, 11, 10));
    assert_eq!(stream.upload(&host, 20..20, &there, 10), Ok(()));
}

#[test]
fn kernels_compute_on_odd_sizes() {
    let Some(context) = device() else { return };
    let kernels = Kernels::load(&context).unwrap();
    println!("kernels of CUDA {:?} for {:?}", kernels.compiler(), kernels.device());
    assert_eq!(kernels.get("catseye_nothing").unwrap_err(), GpuError::NoKernel { name: "catseye_nothing".to_owned() });
    let probe = kernels.get("catseye_probe").unwrap();
    assert!(probe.max_threads() >= 128);
    drop(kernels);
    let stream = Stream::new(&context, Priority::High).unwrap();
    for bytes in SIZES {
        let source = DeviceBuffer::from_bytes(&context, &picture(bytes)).unwrap();
        let target = DeviceBuffer::from_bytes(&context, &vec![0xEE; bytes + 1]).unwrap();
        run_probe(&stream, &probe, source.address(), target.address(), bytes, 77).unwrap();
        let mut found = target.to_vec().unwrap();
        assert_eq!(found.pop(), Some(0xEE), "{bytes} bytes: one too many was written");
        assert_eq!(found, expected(&picture(bytes), 77, 1));
    }
}

#[test]
fn a_graph_runs_a_thousand_times() {
    let Some(context) = device() else { return };
    let probe = probe(&context);
    let stream = Stream::new(&context, Priority::High).unwrap();
    let bytes = 10_007;
    let there = DeviceBuffer::from_bytes(&context, &picture(bytes)).unwrap();
    let mut back = PinnedBuffer::new(&context, bytes, HostKind::Pinned).unwrap();
    let graph = Graph::capture(&stream, |stream| {
        run_probe(stream, &probe, there.address(), there.address(), bytes, 5)?;
        stream.download(&there, 0, &mut back, 0..bytes)
    })
    .unwrap();
    assert_eq!(graph.node_count(), 2);
    assert_eq!(there.to_vec().unwrap(), picture(bytes), "capturing does no work");
    // on another thread: stream and graph may move
    std::thread::spawn(move || {
        for _ in 0..1000 {
            graph.launch(&stream).unwrap();
        }
        stream.synchronize().unwrap();
    })
    .join()
    .unwrap();
    assert_eq!(back[..], expected(&picture(bytes), 5, 1000));
}

#[test]
fn a_capture_that_fails_leaves_the_stream_usable() {
    let Some(context) = device() else { return };
    let stream = Stream::new(&context, Priority::Normal).unwrap();
    let there = DeviceBuffer::new(&context, 64).unwrap();
    let error = Graph::capture(&stream, |_| Err(GpuError::NotMapped)).unwrap_err();
    assert_eq!(error, GpuError::NotMapped);
    let error = Graph::capture(&stream, |stream| stream.synchronize()).unwrap_err();
    assert!(matches!(error, GpuError::Call { call: "cuStreamSynchronize", .. }), "{error}");
    stream.fill(&there, 0..64, 9).unwrap();
    stream.synchronize().unwrap();
    assert_eq!(there.to_vec().unwrap(), [9; 64]);
    assert_eq!(context.check(), Ok(()));
}

#[test]
fn events_order_two_streams() {
    let Some(context) = device() else { return };
    let probe = probe(&context);
    let (first, second) =
        (Stream::new(&context, Priority::Low).unwrap(), Stream::new(&context, Priority::High).unwrap());
    let (start, end) = (Event::new(&context).unwrap(), Event::new(&context).unwrap());
    let (there, back) = (Event::without_time(&context).unwrap(), Event::without_time(&context).unwrap());
    let bytes = 3_000_001;
    let buffer = DeviceBuffer::from_bytes(&context, &picture(bytes)).unwrap();
    first.record(&start).unwrap();
    for _ in 0..50 {
        run_probe(&first, &probe, buffer.address(), buffer.address(), bytes, 3).unwrap();
        first.record(&there).unwrap();
        second.wait(&there).unwrap();
        run_probe(&second, &probe, buffer.address(), buffer.address(), bytes, 3).unwrap();
        second.record(&back).unwrap();
        first.wait(&back).unwrap();
    }
    first.record(&end).unwrap();
    end.synchronize().unwrap();
    assert_eq!(end.is_done(), Ok(true));
    assert!(end.elapsed_ms(&start).unwrap() > 0.0);
    assert_eq!(buffer.to_vec().unwrap(), expected(&picture(bytes), 3, 100));
}

#[test]
fn two_streams_join_in_one_graph() {
    let Some(context) = device() else { return };
    let probe = probe(&context);
    let (main, side) = (Stream::new(&context, Priority::High).unwrap(), Stream::new(&context, Priority::High).unwrap());
    let (fork, join) = (Event::without_time(&context).unwrap(), Event::without_time(&context).unwrap());
    let left = DeviceBuffer::from_bytes(&context, &picture(5001)).unwrap();
    let right = DeviceBuffer::from_bytes(&context, &picture(7001)).unwrap();
    let graph = Graph::capture(&main, |main| {
        main.record(&fork)?;
        side.wait(&fork)?;
        run_probe(main, &probe, left.address(), left.address(), 5001, 1)?;
        run_probe(&side, &probe, right.address(), right.address(), 7001, 2)?;
        side.record(&join)?;
        main.wait(&join)
    })
    .unwrap();
    assert_eq!(graph.node_count(), 2);
    for _ in 0..10 {
        graph.launch(&main).unwrap();
    }
    main.synchronize().unwrap();
    assert_eq!(left.to_vec().unwrap(), expected(&picture(5001), 1, 10));
    assert_eq!(right.to_vec().unwrap(), expected(&picture(7001), 2, 10));
}

#[test]
fn a_graph_waits_for_what_another_has_done_so_far() {
    let Some(context) = device() else { return };
    let probe = probe(&context);
    let streams = [Priority::Low, Priority::High].map(|priority| Stream::new(&context, priority).unwrap());
    let events = [0; 2].map(|_| Event::without_time(&context).unwrap());
    let bytes = 3_000_001;
    let buffer = DeviceBuffer::from_bytes(&context, &picture(bytes)).unwrap();
    let all = buffer.address();
    let graphs = [0, 1].map(|own| {
        Graph::capture(&streams[own], |stream| {
            stream.wait_beyond(&events[1 - own])?;
            run_probe(stream, &probe, all, all, bytes, 3)?;
            stream.record_beyond(&events[own])
        })
        .unwrap()
    });
    assert_eq!(graphs[0].node_count(), 3);
    // each changes the bytes that the other left; who does not wait loses changes
    for _ in 0..50 {
        for (graph, stream) in graphs.iter().zip(&streams) {
            graph.launch(stream).unwrap();
        }
    }
    for stream in &streams {
        stream.synchronize().unwrap();
    }
    assert_eq!(buffer.to_vec().unwrap(), expected(&picture(bytes), 3, 100));
    let error = streams[0].record_beyond(&events[0]).unwrap_err();
    assert!(matches!(error, GpuError::Call { call: "cuEventRecordWithFlags", .. }), "{error}");
}

#[test]
fn mapped_memory_equals_copied() {
    let Some(context) = device() else { return };
    let probe = probe(&context);
    let stream = Stream::new(&context, Priority::Normal).unwrap();
    for bytes in SIZES {
        let mut host = PinnedBuffer::new(&context, bytes, HostKind::Mapped).unwrap();
        host.copy_from_slice(&picture(bytes));
        let result = PinnedBuffer::new(&context, bytes, HostKind::Mapped).unwrap();
        let (copy, target) = (DeviceBuffer::new(&context, bytes).unwrap(), DeviceBuffer::new(&context, bytes).unwrap());
        let (source, mapped) = (host.device_address().unwrap(), result.device_address().unwrap());
        run_probe(&stream, &probe, source, mapped, bytes, 11).unwrap();
        stream.upload(&host, 0..bytes, &copy, 0).unwrap();
        run_probe(&stream, &probe, copy.address(), target.address(), bytes, 11).unwrap();
        stream.synchronize().unwrap();
        assert_eq!(result[..], target.to_vec().unwrap());
        assert_eq!(result[..], expected(&picture(bytes), 11, 1));
    }
    assert_eq!(PinnedBuffer::new(&context, 1, HostKind::Pinned).unwrap().device_address(), None);
}

/// Kernels read a picture where it lies, and a copy of it.
fn assert_is_read(context: &Arc<Context>, stream: &Stream, probe: &Kernel, host: &PinnedBuffer) {
    let bytes = host.len();
    let [mapped, copied, copy] = [(); 3].map(|()| DeviceBuffer::new(context, bytes).unwrap());
    run_probe(stream, probe, host.device_address().unwrap(), mapped.address(), bytes, 11).unwrap();
    stream.upload(host, 0..bytes, &copy, 0).unwrap();
    run_probe(stream, probe, copy.address(), copied.address(), bytes, 11).unwrap();
    stream.synchronize().unwrap();
    assert_eq!(mapped.to_vec().unwrap(), expected(&picture(bytes), 11, 1));
    assert_eq!(copied.to_vec().unwrap(), expected(&picture(bytes), 11, 1));
}

/// As a camera's driver fills them.
#[test]
fn pages_of_the_heap_are_read_where_they_lie_and_copied() {
    let Some(context) = device() else { return };
    let probe = probe(&context);
    let stream = Stream::new(&context, Priority::Normal).unwrap();
    for bytes in SIZES {
        let mut host = PinnedBuffer::of_pages(&context, bytes).unwrap();
        assert_eq!((host.len(), host.as_ptr() as usize % 4096), (bytes, 0));
        host.copy_from_slice(&picture(bytes));
        assert_is_read(&context, &stream, &probe, &host);
    }
}

/// As a library's buffers are, which lie in files of memory.
#[test]
fn memory_of_somebody_else_is_read_where_it_lies() {
    let Some(context) = device() else { return };
    let probe = probe(&context);
    let stream = Stream::new(&context, Priority::Normal).unwrap();
    let bytes = 3 << 16;
    let keeper = Arc::new(Mapped::new(&picture(bytes)));
    let place = keeper.0;
    for _ in 0..2 {
        // SAFETY: the mapping is as long, and its keeper is passed.
        let memory = unsafe { ForeignMemory::new(place, bytes, keeper.clone()) };
        let host = PinnedBuffer::of_foreign(&context, memory).unwrap();
        assert_eq!((host.as_ptr(), host.len()), (place.as_ptr().cast_const(), bytes));
        assert_is_read(&context, &stream, &probe, &host);
    }
    assert_eq!(Arc::strong_count(&keeper), 1);
}

/// As the buffers of a camera are, which a handle stands for: what lies behind it is read, by its own address.
#[test]
fn memory_behind_a_handle_is_imported() {
    let Some(context) = device() else { return };
    let probe = probe(&context);
    let stream = Stream::new(&context, Priority::Normal).unwrap();
    let bytes = 3 << 16;
    let exported = Exported::new(&context, &picture(bytes), 4096);
    // other bytes, so that it shows whose are read
    let keeper = Arc::new(Mapped::new(&vec![0; bytes]));
    for _ in 0..2 {
        let host = PinnedBuffer::of_foreign(&context, foreign(&keeper, exported.handle())).unwrap();
        assert!(host.is_imported() && host.iter().all(|byte| *byte == 0));
        let seen = DeviceBuffer::new(&context, bytes).unwrap();
        run_probe(&stream, &probe, host.device_address().unwrap(), seen.address(), bytes, 11).unwrap();
        stream.synchronize().unwrap();
        assert_eq!(seen.to_vec().unwrap(), expected(&picture(bytes), 11, 1));
    }
    assert_eq!(Arc::strong_count(&keeper), 1);
}

/// A camera of a kind that this driver does not import: its pages are registered, as without a handle.
#[test]
fn a_handle_that_the_driver_does_not_take_leaves_the_pages() {
    let Some(context) = device() else { return };
    let probe = probe(&context);
    let stream = Stream::new(&context, Priority::Normal).unwrap();
    let bytes = 3 << 16;
    let keeper = Arc::new(Mapped::new(&picture(bytes)));
    let file = memfd_create("none", MemfdFlags::CLOEXEC).unwrap();
    let fd = file.as_raw_fd();
    let of = |kind, offset| ForeignHandle { kind, bytes: bytes as u64, offset };
    let refused = [
        of(HandleKind::DmaBuf(fd), 0),
        of(HandleKind::OpaqueFd(fd), 0),
        // not all of it lies behind the handle
        of(HandleKind::OpaqueFd(fd), 1),
        of(HandleKind::OpaqueFd(fd), u64::MAX),
    ];
    for handle in refused {
        let host = PinnedBuffer::of_foreign(&context, foreign(&keeper, handle)).unwrap();
        assert!(!host.is_imported());
        assert_is_read(&context, &stream, &probe, &host);
    }
    assert_eq!(context.check(), Ok(()), "the device goes on");
    assert!(rustix::fs::fstat(&file).is_ok(), "the descriptor is its owner's");
}

fn foreign(keeper: &Arc<Mapped>, handle: ForeignHandle) -> ForeignMemory {
    // SAFETY: the mapping is as long, its keeper is passed, and the handle's descriptor is open. What lies behind it is the device's.
    unsafe { ForeignMemory::new(keeper.0, keeper.1, keeper.clone()).with_handle(handle) }
}

/// Bytes in a file of memory, shared.
struct Mapped(NonNull<u8>, usize);

// SAFETY: a mapping belongs to the process, and nobody writes it.
unsafe impl Send for Mapped {}
// SAFETY: as above.
unsafe impl Sync for Mapped {}

impl Mapped {
    fn new(bytes: &[u8]) -> Self {
        let file = memfd_create("picture", MemfdFlags::CLOEXEC).unwrap();
        let mut file = std::fs::File::from(file);
        file.write_all(bytes).unwrap();
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: the kernel chooses an address where nothing is.
        let address = unsafe { mmap(null_mut(), bytes.len(), protection, MapFlags::SHARED, &file, 0) }.unwrap();
        Mapped(NonNull::new(address.cast()).unwrap(), bytes.len())
    }
}

impl Drop for Mapped {
    fn drop(&mut self) {
        // SAFETY: mapped in `new`, and no slice of it is left.
        let _ = unsafe { munmap(self.0.as_ptr().cast(), self.1) };
    }
}

#[test]
fn the_way_of_pictures_is_measured_or_forced() {
    let Some(context) = device() else { return };
    let times = time_both(&context).unwrap();
    println!("{times:?}");
    assert!(times.mapped_ms > 0.0 && times.copied_ms > 0.0);
    let choice = measure_mapped(&context).unwrap();
    assert!(context.is_integrated() || choice.transfer == Transfer::Copy);
    assert_eq!(TransferMode::Mapped.choose(&context).unwrap().transfer, Transfer::Mapped);
    assert_eq!(TransferMode::Copy.choose(&context).unwrap().transfer, Transfer::Copy);
}

#[test]
fn an_absurd_size_is_out_of_memory() {
    let Some(context) = device() else { return };
    let bytes = 1 << 50;
    assert_eq!(DeviceBuffer::new(&context, bytes).unwrap_err(), GpuError::OutOfMemory { bytes });
    assert_eq!(context.check(), Ok(()), "the device goes on");
    assert_eq!(DeviceBuffer::from_bytes(&context, &[1, 2, 3]).unwrap().to_vec().unwrap(), [1, 2, 3]);
}

#[test]
fn an_illegal_address_ends_the_context_by_name() {
    if device().is_none() {
        return;
    }
    // in a process of its own: its device is lost to it
    let program = std::env::current_exe().unwrap();
    let child = Command::new(program).args(["--exact", "lost", "--ignored", "--nocapture"]).output().unwrap();
    let said = String::from_utf8_lossy(&child.stdout).into_owned() + &String::from_utf8_lossy(&child.stderr);
    assert!(child.status.success() && said.contains("1 passed"), "{said}");
}

#[test]
#[ignore = "the child process of `an_illegal_address_ends_the_context_by_name`"]
fn lost() {
    let Some(context) = device() else { return };
    let probe = probe(&context);
    let stream = Stream::new(&context, Priority::Normal).unwrap();
    let buffer = DeviceBuffer::new(&context, 1000).unwrap();
    run_probe(&stream, &probe, buffer.address(), 16, 1000, 0).unwrap();
    let error = stream.synchronize().unwrap_err();
    let GpuError::Call { call: "cuStreamSynchronize", name, code } = error else { panic!("{error}") };
    assert_eq!((name, code), ("CUDA_ERROR_ILLEGAL_ADDRESS", 700));
    let next = buffer.to_vec().unwrap_err();
    assert!(matches!(next, GpuError::Poisoned { cause } if cause.code == 700), "{next}");
    assert_eq!(
        DeviceBuffer::new(&context, 1).unwrap_err().to_string(),
        "the GPU cannot be used any more since CUDA_ERROR_ILLEGAL_ADDRESS (700) from cuStreamSynchronize"
    );
    assert_eq!(context.check().unwrap_err(), next);
}

#[test]
fn without_a_driver_that_is_the_answer() {
    match Context::open(0) {
        Err(GpuError::NoDriver { reason }) => {
            assert!(!reason.is_empty());
            assert!(matches!(catseye::gpu::probe(), Err(GpuError::NoDriver { .. })));
        }
        other => {
            println!("skipped: there is a driver, which answers {:?}", other.map(|context| context.info().clone()))
        }
    }
}
