//! Libraries with GPU code: an ELF file, and the containers in its `.nv_fatbin` section. The bytes are read as a library, and as the
//! section of one that is sound.
#![no_main]

use catseye::doctor::fatbin::architectures;
use libfuzzer_sys::fuzz_target;

/// Where the section of the seeds begins, and what stands before and behind it.
const SECTION_AT: usize = 64;
const SECTION_NAMES: &[u8] = b"\0.nv_fatbin\0.shstrtab\0";

fuzz_target!(|bytes: &[u8]| {
    let _ = architectures(bytes);
    if let Ok(found) = architectures(library(bytes).as_slice()) {
        // every architecture takes the header of an entry
        assert!(found.len() <= bytes.len() / 64);
    }
});

fn library(section: &[u8]) -> Vec<u8> {
    let names_at = SECTION_AT + section.len();
    let headers_at = (names_at + SECTION_NAMES.len()).next_multiple_of(8);
    let mut file = b"\x7FELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x03\0\xB7\0\x01\0\0\0".to_vec();
    file.extend([0; 16]);
    file.extend((headers_at as u64).to_le_bytes());
    file.extend([0, 0, 0, 0, 64, 0, 0, 0, 0, 0, 64, 0, 3, 0, 2, 0]);
    file.extend(section);
    file.extend(SECTION_NAMES);
    file.resize(headers_at + 64, 0);
    for (name, kind, at, length) in [(1, 1, SECTION_AT, section.len()), (12, 3, names_at, SECTION_NAMES.len())] {
        let header: [u64; 8] = [name | kind << 32, 0, 0, at as u64, length as u64, 0, 0, 0];
        file.extend(header.iter().flat_map(|word| word.to_le_bytes()));
    }
    file
}
