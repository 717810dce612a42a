//! DBC files. Where one is read, a frame of every message is decoded, all signals at once and one by one; its payload is the
//! end of the file.
#![no_main]

use catseye_sensors::can::CanFrame;
use catseye_sensors::can::dbc::{Dbc, Signal};
use catseye_sensors::radar::ToyotaRadar;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(dbc) = Dbc::parse(bytes, "fuzz.dbc") else { return };
    let mut frames = Vec::new();
    for message in dbc.messages() {
        let Some(frame) = frame(message.id(), message.extended(), bytes) else { continue };
        let mut seen = Vec::new();
        let visited =
            dbc.decode_all(&frame, &mut |signal, value| seen.push((signal.name().to_owned(), value.to_bits())));
        assert_eq!(visited, seen.len());
        let one = |signal: &Signal| {
            let value = dbc.decode(dbc.signal(&format!("{}.{}", message.name(), signal.name()))?, &frame)?;
            Some((signal.name().to_owned(), value.to_bits()))
        };
        assert_eq!(seen, message.signals().iter().filter_map(one).collect::<Vec<_>>());
        frames.push(frame);
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
