//! Bytes flipped in every file that workloads leave behind.

use keplordb_sim::damage::flip_each;
use keplordb_sim::workload::for_damage;

#[test]
fn a_flipped_byte_is_said_or_does_no_harm() {
    let mut flips = 0;
    for workload in for_damage() {
        match flip_each(&workload, 400) {
            Ok(more) => flips += more,
            Err(failure) => failure.report("--test damage"),
        }
    }
    println!("{flips} bytes flipped");
    assert!(flips > 2_500, "{flips} bytes flipped");
}
