//! The catseye command.
fn main() {}
