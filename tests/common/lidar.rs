//! A lidar whose packets come over a real socket.

use std::net::UdpSocket;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use catseye_calibration::rig::{Lidar, Mounting, MountingPose, Rig, Source, Udp};

/// Between two packets of a VLP-16 in single return mode: 24 firings of 55.296 us.
const PACKET_US: f64 = 1327.104;

/// A VLP-16 packet of a turn at 10 Hz, in a room whose walls are 5 to 9 m away.
pub fn packet(number: u32) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(1206);
    for block in 0..12 {
        let firing = f64::from(number) * 24.0 + 2.0 * f64::from(block);
        let azimuth = (firing * 55.296e-6 * 360_000.0) as u32 % 36_000;
        bytes.extend([0xFF, 0xEE]);
        bytes.extend((azimuth as u16).to_le_bytes());
        for shot in 0..32_u32 {
            let distance = 2500 + (azimuth / 18 + shot * 7) % 2000;
            bytes.extend((distance as u16).to_le_bytes());
            bytes.push((shot * 8) as u8);
        }
    }
    bytes.extend(((f64::from(number) * PACKET_US) as u32 + 100_000_000).to_le_bytes());
    bytes.extend([0x37, 0x22]);
    bytes
}

/// A rig with one lidar, and a socket that sends to it.
pub fn rig_with_lidar(model: &str) -> (Rig, UdpSocket) {
    let free = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut rig = Rig::default_camera(64, 48);
    rig.cameras.clear();
    rig.tick.trigger = None;
    rig.lidars.push(Lidar {
        name: "roof".to_owned(),
        topic: "/roof".to_owned(),
        model: model.to_owned(),
        calibration: None,
        rate_hz: 10.0,
        mounting: Mounting { nominal: MountingPose::default(), corrected: None },
    });
    let source = Source::Udp(Udp { address: free, interface: None, from: None });
    rig.sources.insert("roof".to_owned(), source);
    let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
    sender.connect(free).unwrap();
    (rig, sender)
}

/// Sends packets as fast as a lidar does, for a while.
pub fn send(sender: UdpSocket, seconds: f64) -> JoinHandle<u32> {
    std::thread::spawn(move || {
        let start = Instant::now();
        let mut number = 0;
        while start.elapsed().as_secs_f64() < seconds {
            let due = f64::from(number) * PACKET_US * 1e-6;
            if start.elapsed().as_secs_f64() < due {
                std::thread::sleep(Duration::from_micros(500));
                continue;
            }
            // nobody may listen yet or any more
            let _ = sender.send(&packet(number));
            number += 1;
        }
        number
    })
}
