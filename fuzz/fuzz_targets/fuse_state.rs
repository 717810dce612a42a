//! The fuse stage's state as a log keeps it, behind its length in two bytes; the stage goes on from it with what a camera
//! is said to follow next, and a speed.
#![no_main]

use catseye::log::packet::{Content, GnssFix, SensorPacket};
use catseye::messages::CameraTracks;
use catseye::record::Record;
use catseye::runtime::graph::{Stage, State};
use catseye::stages::Tick;
use catseye::stages::fuse::{Fuse, STATE_VERSION};
use catseye_calibration::rig::Rig;
use catseye_sensors::packet::{PacketHeader, SensorId, Stamp};
use libfuzzer_sys::fuzz_target;

const PERIOD_NS: i64 = 100_000_000;

fuzz_target!(|bytes: &[u8]| {
    let Some((length, rest)) = bytes.split_first_chunk::<2>() else { return };
    let (state, seen) = rest.split_at(usize::from(u16::from_le_bytes(*length)).min(rest.len()));
    let mut fuse = Fuse::new(&Rig::default_camera(64, 48), &["car".to_owned()], Vec::new());
    if fuse.restore(STATE_VERSION, state).is_err() {
        return;
    }
    let tracks = CameraTracks::decode(seen).unwrap_or_default();
    let mut tick = Tick::new(1, 0, &[]);
    for number in 1..=3u32 {
        let stamp_ns = tracks.stamp_ns.saturating_add(i64::from(number) * PERIOD_NS);
        tick.reference_ns = stamp_ns;
        tick.packets = vec![speed(number, stamp_ns)];
        let camera = &mut tick.cameras[0];
        (camera.present, camera.stamp_ns, camera.sequence) = (true, stamp_ns, number);
        camera.tracks.clone_from(&tracks);
        fuse.run(&mut tick).expect("fuse has no faults");
    }
    let mut state = Vec::new();
    fuse.save(&mut state);
    fuse.restore(STATE_VERSION, &state).expect("a state that was saved can be restored");
});

/// What the camera's sensor says of the vehicle: fuse takes a position from anybody.
fn speed(sequence: u32, stamp_ns: i64) -> SensorPacket {
    let stamp = Stamp::of_arrival(stamp_ns);
    let fix = GnssFix { speed_mps: Some(10.0), ..GnssFix::default() };
    SensorPacket { header: PacketHeader { sensor: SensorId(0), sequence, stamp }, content: Content::Gnss(fix) }
}
