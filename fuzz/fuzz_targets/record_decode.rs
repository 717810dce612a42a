//! Our own messages: a byte that names the type, then CDR. What is decoded is encoded and decoded again, which must give
//! the same.
#![no_main]

use catseye::messages::{
    Account, CameraDetections, CameraTracks, CanMessage, DropDecision, FaultDecision, ImuSample, NoteNames, Plan,
    RadarScan, StageDigest, StageTiming, StateSnapshot, TickDecision, TickDigests, TickTimings, WorldModel,
};
use catseye::record::Record;
use catseye::stages::track::TrackerState;
use libfuzzer_sys::fuzz_target;

const TYPES: [fn(&[u8]); 18] = [
    round_trip::<TickDecision>,
    round_trip::<DropDecision>,
    round_trip::<FaultDecision>,
    round_trip::<StageDigest>,
    round_trip::<StateSnapshot>,
    round_trip::<StageTiming>,
    round_trip::<CameraDetections>,
    round_trip::<CameraTracks>,
    round_trip::<WorldModel>,
    round_trip::<Plan>,
    round_trip::<CanMessage>,
    round_trip::<ImuSample>,
    round_trip::<RadarScan>,
    round_trip::<Account>,
    round_trip::<TrackerState>,
    round_trip::<NoteNames>,
    round_trip::<TickDigests>,
    round_trip::<TickTimings>,
];

fuzz_target!(|bytes: &[u8]| {
    let Some((kind, message)) = bytes.split_first() else { return };
    TYPES[usize::from(*kind) % TYPES.len()](message);
});

fn round_trip<R: Record>(message: &[u8]) {
    let Ok(value) = R::decode(message) else { return };
    let (mut once, mut twice) = (Vec::new(), Vec::new());
    value.encode(&mut once);
    let again = match R::decode(&once) {
        Ok(again) => again,
        Err(error) => panic!("what was encoded does not decode: {error}"),
    };
    again.encode(&mut twice);
    assert_eq!(once, twice);
    assert_eq!(value.digest(), again.digest());
}
