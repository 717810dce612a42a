//! Tries the live sources on the machine it runs on: captures from every camera in every format that it offers, into the
//! kernel's memory and into its own, and sends CAN frames to itself. Meant for the kernel's test drivers (vivid, vcan), and
//! for a first look at a new camera.
//!
//! Words on the command line, in any order:
//! `frames=30` per format; `size=1280x720`; `can=vcan0`; `formats=NV12,YUYV` only these; `ID=VALUE` sets a camera's control
//! before each capture and `during:ID=VALUE` a third of the way into it, both numbers as 0x.. or decimal; `link` takes the
//! CAN interface down and up, and away, for which it needs the right to do so.

#[cfg(not(all(target_os = "linux", target_pointer_width = "64", target_endian = "little")))]
fn main() {
    eprintln!("live sources are read on 64-bit Linux only");
}

#[cfg(all(target_os = "linux", target_pointer_width = "64", target_endian = "little"))]
fn main() {
    let options = probe::Options::from_words(std::env::args().skip(1));
    probe::cameras(&options);
    if let Err(error) = probe::can(&options) {
        println!("can: {error}");
    }
}

#[cfg(all(target_os = "linux", target_pointer_width = "64", target_endian = "little"))]
mod probe {
    use catseye_sensors::can::CanFrame;
    use catseye_sensors::can::socket::{CanEvent, CanSocket, CanSocketError};
    use catseye_sensors::memory::{HostMemory, Pages};
    use catseye_sensors::v4l2::{
        Camera, CameraError, CameraFrame, CameraInfo, CameraState, CameraWatch, Capture, FormatInfo, FrameLayout,
        Memory, SequenceCounter, list_cameras,
    };
    use socketcan::{Frame, Socket};
    use std::error::Error;
    use std::process::Command;
    use std::time::{Duration, Instant};

    const BUFFERS: u32 = 6;
    const WAIT: Duration = Duration::from_millis(500);
    /// Periods of 33 ms without a frame after which a camera counts as stuck.
    const PATIENCE: u32 = 60;

    pub struct Options {
        frames: u64,
        size_px: Option<[u32; 2]>,
        can: String,
        formats: Vec<String>,
        before: Vec<(u32, i64)>,
        during: Vec<(u32, i64)>,
        link: bool,
    }

    impl Options {
        pub fn from_words(words: impl Iterator<Item = String>) -> Self {
            let can = "vcan0".to_string();
            let (formats, before, during) = (Vec::new(), Vec::new(), Vec::new());
            let mut options = Options { frames: 30, size_px: None, can, formats, before, during, link: false };
            for word in words {
                if options.take(&word).is_none() {
                    println!("not understood: {word}");
                }
            }
            options
        }

        fn take(&mut self, word: &str) -> Option<()> {
            if word == "link" {
                self.link = true;
                return Some(());
            }
            let (key, value) = word.split_once('=')?;
            match key {
                "frames" => self.frames = value.parse().ok()?,
                "can" => self.can = value.to_string(),
                "formats" => self.formats = value.split(',').map(str::to_string).collect(),
                "size" => {
                    let (width, height) = value.split_once('x')?;
                    self.size_px = Some([width.parse().ok()?, height.parse().ok()?]);
                }
                _ => {
                    let (list, id) = match key.strip_prefix("during:") {
                        Some(id) => (&mut self.during, id),
                        None => (&mut self.before, key),
                    };
                    list.push((number(id)?.try_into().ok()?, number(value)?));
                }
            }
            Some(())
        }
    }

    fn number(word: &str) -> Option<i64> {
        match word.strip_prefix("0x") {
            Some(digits) => i64::from_str_radix(digits, 16).ok(),
            None => word.parse().ok(),
        }
    }

    pub fn cameras(options: &Options) {
        let cameras = list_cameras();
        println!("{} camera(s)", cameras.len());
        for info in &cameras {
            if let Err(error) = camera(info, options) {
                println!("{}: {error}", info.path.display());
            }
        }
    }

    fn camera(info: &CameraInfo, options: &Options) -> Result<(), Box<dyn Error>> {
        let camera = Camera::open(&info.path)?;
        let CameraInfo { path, driver, card, bus, multiplanar } = info;
        println!("{}: {card} ({driver}) on {bus}, several planes {multiplanar}", path.display());
        println!("  {} controls", camera.controls()?.len());
        let formats = camera.formats()?;
        drop(camera);
        for format in formats {
            // Closed before each capture: a camera that was unplugged comes back when nobody holds it.
            let camera = Camera::open_bus(bus, 0)?;
            let sizes = camera.frame_sizes(format.fourcc)?;
            let size_px = options.size_px.or(sizes.first().map(|size| {
                let [width, height] = size.max_px;
                [width.min(1280), height.min(720)]
            }));
            let Some(size_px) = size_px else {
                println!("  {}: no frame size", format.fourcc);
                continue;
            };
            let intervals = camera.frame_intervals(format.fourcc, size_px[0], size_px[1])?.len();
            let wanted = options.formats.is_empty() || options.formats.contains(&format.fourcc.to_string());
            if format.format.is_none() || !wanted {
                continue;
            }
            println!("  {}: {} sizes, {intervals} intervals; {}", format.fourcc, sizes.len(), format.description);
            drop(camera);
            for lent in [false, true] {
                if let Err(error) = capture(info, &format, size_px, lent, options) {
                    println!("    {}: {error}", memory_name(lent));
                }
            }
        }
        Ok(())
    }

    fn memory_name(lent: bool) -> &'static str {
        if lent { "USERPTR" } else { "MMAP   " }
    }

    /// What a capture showed.
    #[derive(Default)]
    struct Seen {
        sequence: SequenceCounter,
        first_stamp_ns: Option<i64>,
        last_stamp_ns: i64,
        backward_stamps: u64,
        bytes: [usize; 2],
        not_in_place: u64,
        digest: u64,
        stamp: String,
    }

    impl Seen {
        fn frame(&mut self, frame: &CameraFrame<'_>, lent: bool) {
            self.sequence.count(frame.sequence());
            if self.first_stamp_ns.is_some() && frame.stamp_ns() <= self.last_stamp_ns {
                self.backward_stamps += 1;
            }
            self.first_stamp_ns.get_or_insert(frame.stamp_ns());
            self.last_stamp_ns = frame.stamp_ns();
            self.bytes = [frame.piece(0).len(), frame.piece(1).len()];
            let memory = frame.lent().map(HostMemory::bytes);
            let in_place =
                memory.map(<[u8]>::as_ptr_range).is_some_and(|range| range.contains(&frame.piece(0).as_ptr()));
            self.not_in_place += u64::from(in_place != lent);
            self.digest = fnv(fnv(0xCBF2_9CE4_8422_2325, frame.piece(0)), frame.piece(1));
            self.stamp = format!("{} {}", frame.clock().name(), frame.kind().name());
        }

        fn rate_hz(&self) -> f64 {
            let span_ns = self.last_stamp_ns - self.first_stamp_ns.unwrap_or_default();
            (self.sequence.frames.saturating_sub(1)) as f64 * 1e9 / span_ns as f64
        }
    }

    /// FNV-1a, of every 61st byte: to tell whether two frames are the same.
    fn fnv(start: u64, bytes: &[u8]) -> u64 {
        bytes.iter().step_by(61).fold(start, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01B3))
    }

    fn start(info: &CameraInfo, format: &FormatInfo, size: [u32; 2], lent: bool) -> Result<Capture, Box<dyn Error>> {
        let camera = Camera::open_bus(&info.bus, 0)?;
        let known = format.format.ok_or("format is not known")?;
        let layout = camera.set_format(known, size[0], size[1])?;
        let intervals = camera.frame_intervals(format.fourcc, size[0], size[1])?;
        let shortest = intervals.iter().map(|range| range.min_s).min_by_key(|interval| interval.nanoseconds());
        if let Some(shortest) = shortest
            && let Err(error) = camera.set_interval(shortest)
        {
            println!("    {error}");
        }
        let memory = if lent {
            if !camera.takes_lent_memory()? {
                return Err("the driver takes no lent memory".into());
            }
            let page = |_| Box::new(Pages::new(layout.lent_bytes())) as Box<dyn HostMemory>;
            Memory::Lent((0..BUFFERS).map(page).collect())
        } else {
            Memory::Mapped(BUFFERS)
        };
        Ok(Capture::start(camera, layout, memory)?)
    }

    fn capture(
        info: &CameraInfo,
        format: &FormatInfo,
        size_px: [u32; 2],
        lent: bool,
        options: &Options,
    ) -> Result<(), Box<dyn Error>> {
        let mut capture = start(info, format, size_px, lent)?;
        set_all(capture.camera(), &options.before)?;
        let mut seen = Seen::default();
        let started = Instant::now();
        let now_ns = || i64::try_from(started.elapsed().as_nanos()).unwrap_or(i64::MAX);
        let mut watch = CameraWatch::new(33_000_000, PATIENCE, 0);
        let mut restarts = 0;
        while seen.sequence.frames < options.frames {
            let came = capture.next_frame(WAIT).map(|frame| frame.map(|frame| seen.frame(&frame, lent)).is_some());
            match came {
                Ok(true) => {
                    watch.frame(now_ns());
                    if seen.sequence.frames == options.frames / 3 && restarts == 0 {
                        set_all(capture.camera(), &options.during)?;
                    }
                }
                Ok(false) => {}
                Err(error) if restarts < 3 => {
                    println!("    {}: {error}, after {} frames", memory_name(lent), seen.sequence.frames);
                    drop(capture);
                    capture = start(info, format, size_px, lent)?;
                    seen.sequence.restart();
                    watch.frame(now_ns());
                    restarts += 1;
                }
                Err(error) => return Err(error.into()),
            }
            if let CameraState::Stuck { silent_ns } = watch.state(now_ns()) {
                println!("    {}: stuck for {} ms", memory_name(lent), silent_ns / 1_000_000);
                break;
            }
        }
        report(&capture, &seen, lent, restarts);
        Ok(())
    }

    fn report(capture: &Capture, seen: &Seen, lent: bool, restarts: u32) {
        let FrameLayout { width_px, height_px, .. } = *capture.layout();
        let strides: Vec<u32> = capture.layout().pieces().iter().map(|piece| piece.stride_bytes).collect();
        let SequenceCounter { frames, lost, gaps, repeats, backward, .. } = seen.sequence;
        let held: Vec<_> = (0..3).filter_map(|_| capture.next_frame(WAIT).ok().flatten()).collect();
        let monotone = if seen.backward_stamps == 0 { "yes" } else { "no" };
        println!(
            "    {}: {width_px}x{height_px} stride {strides:?} bytes {:?}, {} buffers, {frames} frames, {:.2} Hz, gaps {gaps} \
             lost {lost} repeats {repeats} backward {backward}, torn {}, stamps {} monotone {monotone}, out of place {}, \
             restarts {restarts}, held at once {}, digest {:016x}",
            memory_name(lent),
            seen.bytes,
            capture.buffer_count(),
            seen.rate_hz(),
            capture.counts().torn,
            seen.stamp,
            seen.not_in_place,
            held.len(),
            seen.digest,
        );
    }

    fn set_all(camera: &Camera, controls: &[(u32, i64)]) -> Result<(), CameraError> {
        for (id, value) in controls {
            camera.set_control(*id, *value)?;
            // A button has no value to be read.
            if let Ok(found) = camera.control(*id)
                && found != *value
            {
                println!("    control {id:#x}: set {value}, found {found}");
            }
        }
        Ok(())
    }

    /// What a receiver saw of the frames that were sent in order.
    #[derive(Default)]
    struct Received {
        frames: u64,
        out_of_order: u64,
        backward_stamps: u64,
        last: Option<u64>,
        last_stamp_ns: i64,
    }

    impl Received {
        fn event(&mut self, event: &CanEvent, stamp_ns: Option<i64>) {
            let CanEvent::Frame(frame) = event else {
                return;
            };
            let number = frame.payload().first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
            self.frames += 1;
            self.out_of_order += u64::from(self.last.is_some_and(|last| number <= last));
            self.last = Some(number);
            let stamp_ns = stamp_ns.unwrap_or(i64::MIN);
            self.backward_stamps += u64::from(stamp_ns < self.last_stamp_ns);
            self.last_stamp_ns = stamp_ns;
        }

        fn drain(&mut self, socket: &mut CanSocket, wait: Duration) -> Result<(), CanSocketError> {
            while let Some((event, stamps)) = socket.receive(wait)? {
                self.event(&event, stamps.kernel_ns);
            }
            Ok(())
        }
    }

    fn send(interface: &str, count: u64) -> Result<(), CanSocketError> {
        let mut socket = CanSocket::open(interface, 0)?;
        for number in 0..count {
            let fd = number % 2 == 1;
            let mut payload = [0xA5; 64];
            payload[..8].copy_from_slice(&number.to_le_bytes());
            let len = if fd { 64 } else { 8 };
            let Ok(frame) = CanFrame::new(0x100 + fd as u32, fd, fd, 0, &payload[..len]) else {
                continue;
            };
            while let Err(error) = socket.send(&frame) {
                let CanSocketError::QueueFull { .. } = error else {
                    return Err(error);
                };
                std::thread::yield_now();
            }
        }
        Ok(())
    }

    pub fn can(options: &Options) -> Result<(), Box<dyn Error>> {
        const COUNT: u64 = 20_000;
        let interface = options.can.as_str();
        let mut socket = CanSocket::open(interface, 1)?;
        let mut received = Received::default();
        let started = Instant::now();
        let sent = std::thread::scope(|scope| {
            let sender = scope.spawn(|| send(interface, COUNT));
            received.drain(&mut socket, WAIT)?;
            sender.join().map_err(|_| "the sender failed")?.map_err(Box::<dyn Error>::from)
        });
        let seconds = (started.elapsed() - WAIT).as_secs_f64();
        sent?;
        let Received { frames, out_of_order, backward_stamps, .. } = received;
        println!(
            "{interface}: {COUNT} sent, {frames} received, {:.0} frames/s, out of order {out_of_order}, backward stamps \
             {backward_stamps}; {:?}",
            frames as f64 / seconds,
            socket.counts()
        );

        let mut late = CanSocket::open(interface, 1)?;
        send(interface, COUNT)?;
        let mut received = Received::default();
        received.drain(&mut late, WAIT)?;
        // The count of dropped frames comes with the next frame that is received.
        send(interface, 1)?;
        received.drain(&mut late, WAIT)?;
        let counts = late.counts();
        println!("{interface}: {} sent unread, {} received + {} dropped", COUNT + 1, counts.frames, counts.dropped);

        oddities(interface)?;
        if options.link {
            link(interface)?;
        }
        Ok(())
    }

    /// Frames that carry no data, as a controller in trouble and a node that asks for a frame send them.
    fn oddities(interface: &str) -> Result<(), Box<dyn Error>> {
        let mut socket = CanSocket::open(interface, 1)?;
        let sender = socketcan::CanSocket::open(interface)?;
        let [bus_off, overflow, restarted] = [0x40, 0x04, 0x100];
        for class in [bus_off, overflow, restarted] {
            let report = socketcan::CanErrorFrame::new_error(class, &[0, 1, 0, 0, 0, 0, 0, 0])?;
            sender.write_frame(&socketcan::CanFrame::Error(report))?;
        }
        let remote = socketcan::CanRemoteFrame::remote_from_raw_id(0x123, 4).ok_or("no remote frame")?;
        sender.write_frame(&socketcan::CanFrame::Remote(remote))?;
        Received::default().drain(&mut socket, WAIT)?;
        println!("{interface}: 3 error frames and a remote one: {:?}", socket.counts());
        Ok(())
    }

    fn link(interface: &str) -> Result<(), Box<dyn Error>> {
        let ip = |words: &[&str]| Command::new("ip").args(["link"]).args(words).status();
        let mut socket = CanSocket::open(interface, 1)?;
        ip(&["set", interface, "down"])?;
        println!("{interface}: taken down: {:?}", socket.receive(WAIT).err());
        println!("{interface}: sent while down: {:?}", send(interface, 1).err());
        ip(&["set", interface, "up"])?;
        send(interface, 3)?;
        let mut received = Received::default();
        received.drain(&mut socket, WAIT)?;
        println!("{interface}: up again: {} of 3 received by the same socket", received.frames);
        ip(&["del", interface])?;
        println!("{interface}: taken away: {:?}", socket.receive(WAIT).err());
        println!("{interface}: opened while away: {:?}", socket.reopen().err());
        ip(&["add", "dev", interface, "type", "vcan"])?;
        ip(&["set", interface, "mtu", "72", "up"])?;
        socket.reopen()?;
        send(interface, 3)?;
        let mut received = Received::default();
        received.drain(&mut socket, WAIT)?;
        println!("{interface}: back: {} of 3 received after it was opened again", received.frames);
        Ok(())
    }
}
