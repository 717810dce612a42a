//! What one item costs on its way through a queue: ours against rtrb and crossbeam's `ArrayQueue`.
//!
//! Items are 16 bytes, as a lease is. Two cases at two capacities: from one thread to another (each bound to a processor
//! of its own, whoever finds the queue full or empty yields), and in one thread (a push and the pop behind it). Rounds go
//! round the queues (A B C A B C ...), so that a change of the machine's clock meets all of them; the medians are
//! printed. `cargo bench --bench queue_hop -- [--rounds N] [--items N] [--json FILE]`.

use std::hint::black_box;
use std::path::PathBuf;
use std::sync::Barrier;
use std::time::Instant;

use catseye::runtime::affinity::pin_to;
use catseye::runtime::queue::{self, queue};
use clap::Parser;
use crossbeam_queue::ArrayQueue;
use serde_json::json;

/// As large as a lease: a pointer and an index, padded.
#[derive(Clone, Copy)]
struct Item {
    slots: u64,
    index: u32,
    padding: u32,
}

impl Item {
    fn new(number: u64) -> Self {
        Item { slots: number, index: number as u32, padding: 1 }
    }
}

const _: () = assert!(size_of::<Item>() == 16);

trait Push: Send {
    fn push(&mut self, item: Item) -> Result<(), Item>;
}

trait Pop: Send {
    fn pop(&mut self) -> Option<Item>;
}

impl Push for queue::Producer<Item> {
    #[inline]
    fn push(&mut self, item: Item) -> Result<(), Item> {
        queue::Producer::push(self, item)
    }
}

impl Pop for queue::Consumer<Item> {
    #[inline]
    fn pop(&mut self) -> Option<Item> {
        queue::Consumer::pop(self)
    }
}

impl Push for rtrb::Producer<Item> {
    #[inline]
    fn push(&mut self, item: Item) -> Result<(), Item> {
        rtrb::Producer::push(self, item).map_err(|rtrb::PushError::Full(item)| item)
    }
}

impl Pop for rtrb::Consumer<Item> {
    #[inline]
    fn pop(&mut self) -> Option<Item> {
        rtrb::Consumer::pop(self).ok()
    }
}

impl Push for &ArrayQueue<Item> {
    #[inline]
    fn push(&mut self, item: Item) -> Result<(), Item> {
        ArrayQueue::push(self, item)
    }
}

impl Pop for &ArrayQueue<Item> {
    #[inline]
    fn pop(&mut self) -> Option<Item> {
        ArrayQueue::pop(self)
    }
}

#[derive(Clone, Copy)]
enum Contender {
    Ours,
    Rtrb,
    Crossbeam,
}

/// Ours comes first: the table and the ratio rely on it.
const CONTENDERS: [Contender; 3] = [Contender::Ours, Contender::Rtrb, Contender::Crossbeam];

impl Contender {
    fn name(self) -> &'static str {
        match self {
            Contender::Ours => "catseye",
            Contender::Rtrb => "rtrb",
            Contender::Crossbeam => "ArrayQueue",
        }
    }

    /// Nanoseconds per item of one run with a fresh queue.
    fn measure(self, case: Case, items: u64) -> f64 {
        match self {
            Contender::Ours => {
                let (producer, consumer) = queue::<Item>(case.capacity);
                case.run(producer, consumer, items)
            }
            Contender::Rtrb => {
                let (producer, consumer) = rtrb::RingBuffer::<Item>::new(case.capacity);
                case.run(producer, consumer, items)
            }
            Contender::Crossbeam => {
                let shared = ArrayQueue::<Item>::new(case.capacity);
                case.run(&shared, &shared, items)
            }
        }
    }
}

#[derive(Clone, Copy)]
struct Case {
    threads: usize,
    capacity: usize,
}

const CASES: [Case; 4] = [
    Case { threads: 2, capacity: 64 },
    Case { threads: 2, capacity: 1024 },
    Case { threads: 1, capacity: 64 },
    Case { threads: 1, capacity: 1024 },
];

impl Case {
    fn run(self, producer: impl Push, consumer: impl Pop, items: u64) -> f64 {
        let elapsed_ns = if self.threads == 2 {
            across_threads(producer, consumer, items)
        } else {
            within_one_thread(producer, consumer, items)
        };
        elapsed_ns / items as f64
    }
}

fn across_threads(mut producer: impl Push, mut consumer: impl Pop, items: u64) -> f64 {
    let ready = Barrier::new(2);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            pin_to(0);
            ready.wait();
            for number in 0..items {
                let mut item = Item::new(number);
                while let Err(back) = producer.push(item) {
                    item = back;
                    std::thread::yield_now();
                }
            }
        });
        ready.wait();
        let start = Instant::now();
        for number in 0..items {
            let item = loop {
                match consumer.pop() {
                    Some(item) => break item,
                    None => std::thread::yield_now(),
                }
            };
            check(item, number);
        }
        start.elapsed().as_nanos() as f64
    })
}

fn within_one_thread(mut producer: impl Push, mut consumer: impl Pop, items: u64) -> f64 {
    let start = Instant::now();
    for number in 0..items {
        let pushed = producer.push(black_box(Item::new(number)));
        assert!(pushed.is_ok(), "the queue is full before item {number}");
        let item = consumer.pop();
        assert!(item.is_some(), "the queue lost item {number}");
        if let Some(item) = item {
            check(item, number);
        }
    }
    start.elapsed().as_nanos() as f64
}

/// A queue that loses or reorders items is no contender, however fast.
fn check(item: Item, number: u64) {
    let item = black_box(item);
    let whole = item.slots == number && item.index == number as u32 && item.padding == 1;
    assert!(whole, "expected item {number}, found {}", item.slots);
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    if values.len().is_multiple_of(2) { 0.5 * (values[middle - 1] + values[middle]) } else { values[middle] }
}

/// Measures a case round by round; the medians in the order of [`CONTENDERS`].
fn medians(case: Case, rounds: usize, items: u64) -> [f64; 3] {
    let mut times: [Vec<f64>; 3] = Default::default();
    for _ in 0..rounds {
        for (contender, times) in CONTENDERS.iter().zip(&mut times) {
            times.push(contender.measure(case, items));
        }
    }
    times.map(median)
}

/// What the program is told.
#[derive(Parser)]
struct Arguments {
    /// Rounds per case
    #[arg(long, default_value_t = 15, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Items per measurement
    #[arg(long, default_value_t = 2_000_000, value_parser = clap::value_parser!(u64).range(1..))]
    items: u64,
    /// Where the results go as JSON
    #[arg(long)]
    json: Option<PathBuf>,
    /// Given by `cargo bench`; without it (`cargo test`) there is one short round
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> std::io::Result<()> {
    let arguments = Arguments::parse();
    let (rounds, items) = if arguments.bench { (arguments.rounds, arguments.items) } else { (1, 10_000) };
    pin_to(1);

    println!("nanoseconds per item, medians of {rounds} rounds of {items} items");
    let (first, last) = ("case", "ours / fastest peer");
    print!("{first:<26}");
    CONTENDERS.iter().for_each(|contender| print!("{:>12}", contender.name()));
    println!("{last:>22}");
    let mut results = Vec::new();
    for case in CASES {
        let times = medians(case, rounds as usize, items);
        let [ours, peers @ ..] = times;
        let fastest_peer = peers.into_iter().fold(f64::INFINITY, f64::min);
        let ratio = ours / fastest_peer;
        let name = format!("{} thread(s), capacity {}", case.threads, case.capacity);
        print!("{name:<26}");
        times.iter().for_each(|time| print!("{time:>12.2}"));
        println!("{ratio:>22.3}");
        let named: Vec<_> = CONTENDERS
            .iter()
            .zip(times)
            .map(|(contender, time)| json!({ "queue": contender.name(), "ns_per_item": time }))
            .collect();
        results.push(json!({
            "threads": case.threads,
            "capacity": case.capacity,
            "medians": named,
            "ours_by_fastest_peer": ratio,
        }));
    }
    let Some(file) = arguments.json else { return Ok(()) };
    let report = json!({ "bench": "queue_hop", "rounds": rounds, "items": items, "cases": results });
    std::fs::write(file, format!("{report:#}\n"))
}
