//! Lidars as they speak on the network: datagrams in, points with their times out.

pub mod ouster;
