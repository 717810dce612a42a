//! DBC files. Where one is read, a frame of every message is decoded; its payload is the end of the file.
#![no_main]

use catseye_sensors::can::CanFrame;
use catseye_sensors::can::dbc::Dbc;
use catseye_sensors::radar::ToyotaRadar;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(dbc) = Dbc::parse(bytes, "fuzz.dbc") else { return };
    let frames: Vec<CanFrame> =
        dbc.messages().iter().filter_map(|message| frame(message.id(), message.extended(), bytes)).collect();
    for frame in &frames {
        let mut seen = 0;
        let visited = dbc.decode_all(frame, &mut |_, _| seen += 1);
        assert_eq!(visited, seen);
    }
    let Ok(radar) = ToyotaRadar::new(dbc) else { return };
    for frame in &frames {
        let _ = (radar.track(frame), radar.quality(frame));
    }
});

fn frame(id: u32, extended: bool, bytes: &[u8]) -> Option<CanFrame> {
    let length = if bytes.len() >= 64 { 64 } else { bytes.len().min(8) };
    let payload = bytes.get(bytes.len() - length..)?;
    CanFrame::new(id, extended, length > 8, 0, payload).ok()
}
