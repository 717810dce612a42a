//! Datagrams of a sensor: lidars, radars and inertial units send them to an address, several of them perhaps to one group.
//!
//! Promised: receiving waits no longer than a moment and allocates nothing. A sensor that falls silent is told of, counted, and
//! comes back by itself; a multicast group is joined anew meanwhile, since a network interface that went away forgets it.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};

use catseye_calibration::rig::Udp;
use rustix::net::{AddressFamily, SocketFlags, SocketType, netdevice, sockopt};

use super::{Outlet, PATIENCE};

/// No datagram is longer.
const LARGEST_PACKET: usize = 65_536;
/// Bytes that may wait in the kernel: about a second of a lidar.
const RECEIVE_BUFFER: usize = 4 << 20;
/// A sensor that sends nothing for so long has gone away. None measures as rarely.
const SILENCE_NS: i64 = 2_000_000_000;

/// Takes a sensor's datagrams until the end of the run; `take` gets each of them and when it arrived.
pub(super) fn listen(
    place: &Udp,
    outlet: &mut Outlet,
    opened: &mut dyn FnMut(Result<(), String>),
    take: &mut dyn FnMut(&mut Outlet, &[u8], i64),
) {
    let mut datagrams = match Datagrams::open(place) {
        Ok(datagrams) => datagrams,
        Err(error) => return opened(Err(error)),
    };
    opened(Ok(()));
    while !outlet.is_over() {
        if let Some((packet, arrival_ns)) = datagrams.receive(outlet) {
            take(outlet, packet, arrival_ns);
        }
    }
}

/// A socket on which one sensor's datagrams arrive.
struct Datagrams {
    place: Udp,
    socket: UdpSocket,
    buffer: Vec<u8>,
    /// When something came last, or silence was told of last.
    heard_ns: Option<i64>,
    is_silent: bool,
}

impl Datagrams {
    /// Opens the socket, and joins the group where the address is one. Errors are in words, with the address.
    fn open(place: &Udp) -> Result<Self, String> {
        let socket = open(place).map_err(|error| format!("{}: {error}", place.address))?;
        let buffer = vec![0; LARGEST_PACKET];
        Ok(Datagrams { place: place.clone(), socket, buffer, heard_ns: None, is_silent: false })
    }

    /// The next datagram and when it arrived, or nothing after a moment.
    fn receive(&mut self, outlet: &mut Outlet) -> Option<(&[u8], i64)> {
        let received = self.socket.recv_from(&mut self.buffer);
        let now_ns = outlet.clock().now_ns();
        let length = match received {
            // another sensor of the group, which counts them itself
            Ok((_, sender)) if self.place.from.is_some_and(|from| from != sender.ip().to_canonical()) => None,
            Ok((length, _)) => Some(length),
            Err(error)
                if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted) =>
            {
                None
            }
            Err(error) => {
                outlet.tell(&error.to_string());
                // one that comes again at once is not told of without end
                std::thread::sleep(PATIENCE);
                None
            }
        };
        let Some(length) = length else {
            self.listen_for_silence(now_ns, outlet);
            return None;
        };
        self.heard_ns = Some(now_ns);
        if std::mem::take(&mut self.is_silent) {
            outlet.tell("sends again");
        }
        self.buffer.get(..length).map(|bytes| (bytes, now_ns))
    }

    fn listen_for_silence(&mut self, now_ns: i64, outlet: &mut Outlet) {
        let heard_ns = *self.heard_ns.get_or_insert(now_ns);
        if now_ns.saturating_sub(heard_ns) < SILENCE_NS {
            return;
        }
        self.heard_ns = Some(now_ns);
        if !std::mem::replace(&mut self.is_silent, true) {
            outlet.counts.lost += 1;
            outlet.tell("sends nothing");
        }
        if self.place.address.ip().is_multicast()
            && let Ok(socket) = open(&self.place)
        {
            self.socket = socket;
        }
    }
}

/// A socket on that address, which waits no longer than a moment.
pub(super) fn open(place: &Udp) -> io::Result<UdpSocket> {
    let socket = match place.address.ip().is_multicast() {
        false => UdpSocket::bind(place.address)?,
        true => join(place)?,
    };
    socket.set_read_timeout(Some(PATIENCE))?;
    // the system's own room is a tenth of a second of a lidar; without the right to more it stays as it is
    if sockopt::set_socket_recv_buffer_size_force(&socket, RECEIVE_BUFFER).is_err() {
        let _ = sockopt::set_socket_recv_buffer_size(&socket, RECEIVE_BUFFER);
    }
    Ok(socket)
}

/// A socket that shares the port with others of the group, and gets what is sent to the group alone.
fn join(place: &Udp) -> io::Result<UdpSocket> {
    let family = match place.address {
        SocketAddr::V4(_) => AddressFamily::INET,
        SocketAddr::V6(_) => AddressFamily::INET6,
    };
    let fd = rustix::net::socket_with(family, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
    sockopt::set_socket_reuseaddr(&fd, true)?;
    rustix::net::bind(&fd, &place.address)?;
    let socket = UdpSocket::from(fd);
    let interface = place.interface.as_deref();
    let index = |name: &str| netdevice::name_to_index(&socket, name);
    match (place.address.ip(), interface) {
        (IpAddr::V4(group), None) => socket.join_multicast_v4(&group, &Ipv4Addr::UNSPECIFIED)?,
        (IpAddr::V4(group), Some(interface)) => match interface.parse() {
            Ok(address) => socket.join_multicast_v4(&group, &address)?,
            Err(_) => {
                let (any, index) = (Ipv4Addr::UNSPECIFIED, index(interface)?);
                sockopt::set_ip_add_membership_with_ifindex(&socket, &group, &any, index)?;
            }
        },
        (IpAddr::V6(group), interface) => {
            socket.join_multicast_v6(&group, interface.map(index).transpose()?.unwrap_or(0))?;
        }
    }
    Ok(socket)
}
