//! The setup that Copper's macros ask for.

fn main() {
    cu29_build::setup();
}
