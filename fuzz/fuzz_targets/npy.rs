//! NumPy arrays.
#![no_main]

use catseye_sensors::npy::NpyArray;
use libfuzzer_sys::fuzz_target;

const MOST: usize = 16;

fuzz_target!(|bytes: &[u8]| {
    let Ok(array) = NpyArray::parse(bytes) else { return };
    for row in 0..array.rows().min(MOST) {
        for column in 0..array.columns().min(MOST) {
            let _ = (array.f64_at(row, column), array.i64_at(row, column));
        }
        let _ = array.bytes_at(row);
    }
    assert_eq!(array.f64_at(array.rows(), 0), None);
    assert_eq!(array.f64_at(0, array.columns()), None);
});
