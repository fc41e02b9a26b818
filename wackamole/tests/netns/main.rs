//! The real kernel: addresses, announcements and datagrams in network namespaces of our own.
//!
//! No root is needed where the kernel lets users have namespaces; elsewhere one line says so and nothing is run. Each
//! test gets fresh namespaces, entered by threads, so this program makes its user namespace before it has any.

#![allow(clippy::unwrap_used)] // a panic is how a test fails

mod acquire;
mod announce;
mod capture;
mod claims;
mod clean_up;
mod client;
mod daemon;
mod gate;
mod guardian;
mod kernel;
mod life;
mod lifetime;
mod namespace;
mod network;
mod probe;
mod reach;
mod release;
mod speed;
mod standstill;
mod victim;
mod watch;
mod worker;

use std::process::ExitCode;

use libtest_mimic::{Arguments, Trial};

/// Names test functions of modules as trials.
macro_rules! trials {
    ($($module:ident: $($test:ident),+ $(,)?;)+) => {
        vec![$($(
            Trial::test(concat!(stringify!($module), "::", stringify!($test)), || {
                $module::$test();
                Ok(())
            }),
        )+)+]
    };
}

fn main() -> ExitCode {
    if victim::is_wanted() {
        return victim::run();
    }
    let mut arguments = Arguments::from_args();
    // Their timing is measured, and two cores are enough for one test and its threads.
    arguments.test_threads.get_or_insert(1);
    let trials = trials! {
        acquire:
            puts_marked_addresses_on,
            adds_nothing_past_the_lease,
            that_hangs_past_the_lease_is_undone_under_the_next_one,
            is_idempotent,
            leaves_a_foreign_address_alone,
            is_all_or_nothing,
            leaves_nothing_of_a_vip_half_of_which_meets_a_foreign_address,
            of_a_wide_prefix_does_not_take_others_with_it,
            names_a_missing_interface,
            replaces_an_address_that_failed_the_duplicate_check,
            never_waits_behind_acquires_to_release;
        clean_up:
            removes_marked_listed_addresses_and_nothing_else;
        watch:
            reports_an_address_deleted_by_hand,
            reports_what_an_interface_takes_with_it,
            reports_interfaces_that_change,
            survives_lost_notifications;
        announce:
            in_both_arp_forms_and_caches_follow,
            by_neighbour_advertisement_and_caches_follow,
            as_a_router_if_the_machine_forwards,
            only_what_is_held,
            not_on_a_dead_interface,
            at_the_pace_of_a_slow_device;
        gate:
            lets_only_what_is_open_under_a_lease_be_answered,
            shuts_when_the_lease_ends_though_nobody_is_left,
            never_blinks_while_the_lease_is_renewed,
            shut_and_removed_by_anybody_at_any_time,
            comes_back_when_somebody_removes_it,
            comes_back_when_somebody_restores_an_old_one,
            lets_the_machine_learn_who_holds_a_vip_now,
            opened_by_an_acquire_and_shut_by_a_release,
            keeps_a_foreign_copy_of_a_released_vip_silent,
            shuts_a_thousand_vips_before_it_deletes_them,
            is_renewed_at_a_price_that_does_not_grow,
            passes_on_what_a_router_forwards;
        lifetime:
            ends_when_the_lease_does,
            ends_when_nobody_is_left_to_renew_it,
            is_renewed_and_nothing_else_changes,
            does_not_hide_an_address_deleted_by_hand,
            is_given_to_an_address_that_was_there_before,
            of_many_addresses_is_renewed_at_a_price;
        probe:
            finds_whoever_has_the_address,
            finds_nobody_where_nobody_is,
            has_nobody_to_ask_without_neighbours,
            names_an_interface_that_cannot_be_asked,
            follows_an_interface_that_is_made_again,
            never_waits_for_address_work,
            answers_within;
        claims:
            of_others_on_what_is_held_are_reported,
            of_nobody_are_reported_for_what_is_not_held,
            that_are_our_own_are_not_reported,
            of_others_who_probe_are_heard_while_we_do,
            in_a_flood_become_a_few_reports;
        life:
            is_waited_for_before_an_unanswered_probe_counts,
            is_gone_when_a_port_goes_silent_and_comes_back,
            comes_back_with_the_first_client,
            is_kept_by_answers_on_a_quiet_segment,
            is_gone_at_once_without_carrier,
            needs_no_neighbours_where_there_are_none,
            of_a_vip_needs_all_its_interfaces,
            is_shown_by_heartbeats,
            costs_little_to_watch;
        daemon:
            holds_its_vips_until_it_is_asked_to_leave,
            refuses_to_reload_and_goes_on,
            asks_what_must_be_reached_and_keeps_its_vips_when_that_is_silent,
            does_not_do_late_what_an_operator_was_told_has_failed,
            removes_what_a_killed_one_left_even_if_its_vips_have_changed,
            keeps_a_second_one_out,
            removes_its_addresses_at_once_at_a_second_signal,
            leaves_the_rest_to_its_guardian_when_it_cannot_release,
            falls_silent_when_it_is_stopped,
            is_not_silenced_by_the_gate_of_an_earlier_one;
        guardian:
            cleans_up_after_a_killed_daemon_and_tells_the_peers,
            cleans_up_a_thousand_vips_in_time,
            goes_with_a_daemon_that_leaves,
            lets_no_signal_stop_it,
            kills_a_stopped_daemon_at_the_end_of_its_lease,
            kills_a_stopped_process_at_the_end_of_its_own_lease,
            kills_a_daemon_that_does_not_release,
            leaves_a_daemon_alone_that_renews,
            leaves_a_daemon_alone_that_releases_late,
            is_replaced_when_it_is_killed,
            is_replaced_when_it_is_stopped,
            is_missed_when_it_cannot_be_replaced,
            is_waited_for_by_the_next_daemon,
            is_killed_by_the_next_one_if_it_does_not_end,
            is_not_started_by_hand;
        release:
            removes_what_is_left_when_both_were_killed,
            is_refused_while_a_daemon_runs;
        network:
            survives_the_absence_of_its_address,
            hears_its_multicast_group_over_ipv4,
            hears_its_multicast_group_over_ipv6;
        reach:
            is_seen_to_end_and_to_come_back,
            of_one_address_is_enough_and_each_is_told,
            needs_a_route_and_finds_a_new_one,
            is_not_given_up_for_a_late_look,
            is_not_shown_by_what_came_before_a_stop;
        speed:
            takeover_of_a_thousand_vips,
            takeover_of_a_thousand_ipv6_vips;
    };
    if arguments.list {
        return libtest_mimic::run(&arguments, trials).exit_code();
    }
    if let Err(reason) = namespace::leave_the_machine() {
        eprintln!("skipped: no private network namespace can be made here: {reason}");
        return ExitCode::SUCCESS;
    }
    libtest_mimic::run(&arguments, trials).exit_code()
}
