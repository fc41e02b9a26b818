//! The real daemon on real kernels. Every case runs in namespaces of its own, see `netns_tests::suite`.

use std::process::ExitCode;

use netns_tests::cases;

#[path = "cases/addresses.rs"]
mod addresses;
#[path = "cases/announcements.rs"]
mod announcements;
#[path = "cases/dead_port.rs"]
mod dead_port;
#[path = "cases/distribution.rs"]
mod distribution;
#[path = "cases/failover.rs"]
mod failover;
#[path = "cases/handover.rs"]
mod handover;
#[path = "cases/harness.rs"]
mod harness;
#[path = "cases/partition.rs"]
mod partition;
#[path = "cases/recording.rs"]
mod recording;
#[path = "cases/safety.rs"]
mod safety;
#[path = "cases/segment.rs"]
mod segment;
#[path = "cases/signals.rs"]
mod signals;
#[path = "cases/two_networks.rs"]
mod two_networks;

fn main() -> ExitCode {
    netns_tests::suite::main(cases! {
        beside_others {
            harness: an_address_that_moves_is_seen_to_move, a_partition_parts_and_heals,
                two_holders_are_noticed, a_power_cut_is_silent;
            distribution: vips_are_spread_evenly_and_answer, ipv6_vips_over_an_ipv6_cluster,
                heartbeats_by_multicast, a_preferred_machine_has_its_vip;
            failover: leftovers_of_a_daemon_killed_with_its_guardian_go_at_its_next_start,
                vips_move_off_a_dead_link, vips_move_off_a_dead_switch_port,
                a_set_over_two_interfaces_moves_whole;
            announcements: caches_of_a_third_machine_point_to_the_new_holder;
            addresses: an_address_deleted_by_hand_is_put_back, foreign_addresses_are_left_alone;
            recording: what_daemons_recorded_is_done_again_and_shows_the_failover,
                a_full_disk_ends_a_record_and_nothing_else;
            segment: a_wrong_key_is_counted_and_kept_out,
                another_cluster_is_counted_and_undisturbed,
                a_stranger_that_claims_a_vip_is_named_and_the_holder_defends_it;
            signals: a_frozen_daemon_is_killed_at_the_end_of_its_lease,
                a_daemon_that_is_frozen_for_less_than_its_lease_goes_on, a_hangup_is_survived;
        }
        alone {
            failover: vips_of_a_lost_machine_move, vips_of_a_lost_coordinator_move,
                vips_of_a_killed_daemon_move_at_once;
            partition: both_halves_serve_and_merge_to_one_holder;
            handover: a_graceful_stop_hands_over_without_a_gap,
                a_machine_that_returns_gets_its_share;
            safety: a_killed_daemon_is_followed_at_once,
                a_stopped_daemon_is_silent_at_the_end_of_its_lease,
                without_daemon_and_guardian_the_gate_shuts,
                without_daemon_guardian_and_gate_lifetimes_end,
                a_lost_machine_costs_no_more_with_leases_and_probes;
            dead_port: two_holders_meet_for_a_moment_with_component,
                two_holders_never_meet_with_lan, two_holders_never_meet_with_quorum;
            two_networks: with_lan_nobody_takes_over_what_is_answered,
                with_quorum_the_minority_releases, with_component_both_serve_until_they_meet;
        }
    })
}
