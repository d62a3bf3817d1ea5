//! The emulator's program.
fn main() {}
