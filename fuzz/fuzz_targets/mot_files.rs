//! MOT challenge files: up to the first empty line the truth, then the tracks; without one, both are the same.
#![no_main]

use std::path::Path;

use catseye::eval::mot::{evaluate, parse};
use libfuzzer_sys::fuzz_target;

const MAX_DISTANCE: f64 = 0.5;

fuzz_target!(|bytes: &[u8]| {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let (truth, tracks) = text.split_once("\n\n").unwrap_or((text, text));
    let file = Path::new("fuzz.txt");
    let (Ok(truth), Ok(tracks)) = (parse(truth, file, 1.0), parse(tracks, file, f64::NEG_INFINITY)) else { return };
    let Ok(found) = evaluate(&truth, &tracks, MAX_DISTANCE) else { return };
    assert_eq!(found.objects, found.matches + found.misses);
    assert_eq!(found.predictions, found.matches + found.false_positives);
});
