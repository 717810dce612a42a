//! What the test and the bench of ticks on a GPU share: a network out of its engine, and ticks that follow each other.

use catseye::gpu::load::{RigEngines, WantedEngine};
use catseye::gpu::node::GpuNode;
use catseye::runtime::graph::{Device, Finished, Slot, Ticket};
use catseye::runtime::pool::Pool;
use catseye::stages::Tick;
use catseye::stages::decode::Head;
use catseye::stages::infer::picture_size;
use catseye::stages::network::Network;
use heapless::Deque;

/// The most ticks that a node has in flight.
const MOST: usize = 4;

/// Loads an engine for the first cameras of a rig, one for each picture of its batch; the head is recognised where it is not said.
pub fn network(
    engines: &mut RigEngines,
    wanted: &WantedEngine<'_>,
    head: Option<Head>,
) -> Result<Network, Box<dyn std::error::Error>> {
    let (inputs, outputs, _) = engines.load(wanted)?;
    let (width, height) = picture_size(wanted.model.file(), &inputs, None)?;
    let head = match head {
        Some(head) => head,
        None => Head::recognise(&inputs, &outputs, &wanted.model.class_names().unwrap_or_default())?,
    };
    Ok(Network {
        name: wanted.model.file().to_owned(),
        head,
        layout: head.layout(width, height),
        cameras: (0..wanted.batch).collect(),
        outputs,
        class_names: Vec::new(),
        class_offset: 0,
        score_threshold: 0.3,
        nms_iou: 0.45,
        is_on_device: true,
    })
}

/// Sends so many ticks through a node, as many in flight as it takes, and shows each, with its number, when it is done. Spins, and
/// allocates nothing.
pub fn in_flight(
    node: &mut GpuNode,
    pool: &Pool<Slot<Tick>>,
    ticks: usize,
    mut show: impl FnMut(usize, &Finished<Tick>),
) {
    let mut flying = Deque::<Ticket, MOST>::new();
    let (depth, mut submitted, mut done) = (node.depth().min(MOST), 0, 0);
    while done < ticks {
        if submitted < ticks
            && flying.len() < depth
            && let Some(lease) = pool.acquire()
        {
            // there is room, as was just asked
            let _ = flying.push_back(node.submit(lease));
            submitted += 1;
            continue;
        }
        let Some(ticket) = flying.pop_front() else { continue };
        match node.complete(ticket) {
            Err(again) => {
                let _ = flying.push_front(again);
            }
            Ok(finished) => {
                show(done, &finished);
                done += 1;
            }
        }
    }
}
