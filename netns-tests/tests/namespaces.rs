//! Every case runs in namespaces of its own; see `netns_tests::suite`.

use std::process::ExitCode;

use netns_tests::cases;

#[path = "cases/harness.rs"]
mod harness;

fn main() -> ExitCode {
    netns_tests::suite::main(cases! {
        harness: an_address_that_moves_is_seen_to_move, a_partition_parts_and_heals,
            two_holders_are_noticed, a_power_cut_is_silent;
    })
}
