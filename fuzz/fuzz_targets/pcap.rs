//! Captures: a byte that says in which pieces the file comes, then the file.
#![no_main]

use catseye_sensors::pcap::PcapReader;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Some((piece, file)) = bytes.split_first() else { return };
    let piece = usize::from(*piece).max(1);
    let mut reader = PcapReader::default();
    let (mut taken, mut end, mut datagrams) = (0, 0, 0);
    'file: while end < file.len() {
        end = (end + piece * 16).min(file.len());
        let mut rest = &file[taken..end];
        loop {
            match reader.next_datagram(&mut rest) {
                Ok(Some(datagram)) => {
                    assert!(datagram.payload.len() < 65_536);
                    datagrams += 1;
                }
                Ok(None) => break,
                Err(_) => break 'file,
            }
        }
        taken = end - rest.len();
    }
    let counts = reader.finish(&file[taken..]);
    let passed_over = counts.other_link + counts.other_protocol + counts.cut_off + counts.malformed;
    assert_eq!(counts.packets, counts.whole + counts.fragments + passed_over);
    assert_eq!(datagrams, counts.whole + counts.reassembled);
});
