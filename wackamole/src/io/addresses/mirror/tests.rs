use super::*;

const ETH0: u32 = 2;
const ETH1: u32 = 3;
const LO: u32 = 1;

fn link(name: &str) -> Link {
    Link {
        name: name.into(),
        up: true,
        running: true,
        loopback: name == "lo",
        no_arp: name == "lo",
        mac: Some(MacAddress([2, 0, 0, 0, 0, 1])),
    }
}

fn key(address: &str, prefix: u8, interface: u32) -> KernelAddress {
    KernelAddress { address: address.parse().unwrap(), prefix, interface }
}

/// 10.0.0.5/32 on eth0 and fd00::5/128 on eth1.
fn vip() -> Vip {
    let on = |address: &str, prefix, interface: &str| VipAddress {
        address: address.parse().unwrap(),
        prefix,
        interface: interface.into(),
    };
    Vip::new("v", vec![on("10.0.0.5", 32, "eth0"), on("fd00::5", 128, "eth1")])
}

fn keys() -> Vec<KernelAddress> {
    vec![key("10.0.0.5", 32, ETH0), key("fd00::5", 128, ETH1)]
}

const FOREIGN: AddressState = AddressState { mark: None, ..AddressState::ADDED };

/// A machine with lo, eth0 and eth1, and these addresses.
fn mirror(addresses: &[(KernelAddress, AddressState)]) -> Mirror {
    let mut mirror = Mirror::default();
    let links = [(LO, "lo"), (ETH0, "eth0"), (ETH1, "eth1")];
    for (index, name) in links {
        tell(&mut mirror, Notice::Link(index, link(name)));
    }
    for &(key, state) in addresses {
        tell(&mut mirror, Notice::Address(key, state));
    }
    mirror
}

fn tell(mirror: &mut Mirror, notice: Notice) -> Consequences {
    let mut consequences = Consequences::default();
    mirror.apply(notice, &mut consequences);
    consequences
}

/// A machine that holds [`vip`].
fn holder() -> Mirror {
    let mut mirror = mirror(&[]);
    for key in keys() {
        mirror.hold(key, vip().id());
    }
    mirror
}

fn vanished() -> Consequences {
    Consequences { vanished: [vip().id()].into(), ..Default::default() }
}

#[test]
fn an_absent_vip_is_added_whole() {
    let plan = mirror(&[]).plan_acquire(&vip()).unwrap();
    assert_eq!(plan, AcquirePlan { add: keys(), ..Default::default() });
}

#[test]
fn what_is_there_and_ours_is_kept() {
    let [v4, v6] = keys()[..] else { unreachable!() };
    let mirror = mirror(&[(v4, AddressState::ADDED)]);
    let plan = mirror.plan_acquire(&vip()).unwrap();
    assert_eq!(plan, AcquirePlan { keep: vec![v4], add: vec![v6], ..Default::default() });
}

#[test]
fn what_is_ours_but_fails_the_duplicate_check_is_put_on_anew() {
    let v6 = keys()[1];
    let failed = AddressState { duplicate: true, unusable: true, ..AddressState::ADDED };
    let plan = mirror(&[(v6, failed)]).plan_acquire(&vip()).unwrap();
    assert_eq!(plan.remove, [v6]);
    assert_eq!(plan.add, keys());
}

#[test]
fn somebody_elses_address_is_a_conflict_whatever_its_prefix_or_interface() {
    for foreign in [key("10.0.0.5", 32, ETH0), key("10.0.0.5", 24, ETH0), key("10.0.0.5", 24, ETH1)]
    {
        let error = mirror(&[(foreign, FOREIGN)]).plan_acquire(&vip()).unwrap_err();
        assert!(matches!(error, AddressError::Conflict(_)), "{foreign}: {error}");
    }
}

#[test]
fn a_service_address_on_loopback_is_no_conflict() {
    let mirror = mirror(&[(key("10.0.0.5", 32, LO), FOREIGN)]);
    assert_eq!(mirror.plan_acquire(&vip()).unwrap().add, keys());
    assert_eq!(mirror.plan_release(&vip()), (vec![], Ok(())));
}

#[test]
fn a_missing_interface_is_named() {
    let mut mirror = mirror(&[]);
    tell(&mut mirror, Notice::LinkGone(ETH1));
    let error = mirror.plan_acquire(&vip()).unwrap_err();
    assert_eq!(error, AddressError::NoInterface("eth1".into()));
}

#[test]
fn a_release_removes_ours_wherever_it_is_and_nothing_else() {
    let elsewhere = key("10.0.0.5", 24, ETH1);
    let neighbour = key("10.0.0.6", 32, ETH0);
    let mirror = mirror(&[(elsewhere, AddressState::ADDED), (neighbour, AddressState::ADDED)]);
    assert_eq!(mirror.plan_release(&vip()), (vec![elsewhere], Ok(())));
}

#[test]
fn a_release_says_so_if_the_kernel_still_answers_for_somebody_else() {
    let (remove, result) = mirror(&[(keys()[0], FOREIGN)]).plan_release(&vip());
    assert_eq!(remove, []);
    assert_eq!(result, Err(AddressError::Conflict("10.0.0.5/32 on eth0".into())));
}

#[test]
fn what_goes_without_our_doing_has_vanished_once() {
    let mut mirror = holder();
    assert_eq!(tell(&mut mirror, Notice::AddressGone(keys()[0])), vanished());
    assert_eq!(tell(&mut mirror, Notice::AddressGone(keys()[0])), Consequences::default());
    assert_eq!(mirror.held_of(&vip()), [keys()[1]], "the other address is still announced");
}

#[test]
fn what_we_let_go_has_not_vanished() {
    let mut mirror = holder();
    for key in keys() {
        assert_eq!(mirror.let_go(&key), Some(vip().id()));
        assert_eq!(tell(&mut mirror, Notice::AddressGone(key)), Consequences::default());
    }
}

#[test]
fn an_interface_takes_its_addresses_with_it() {
    let mut mirror = holder();
    let consequences = tell(&mut mirror, Notice::LinkGone(ETH1));
    assert_eq!(consequences, Consequences { interfaces_changed: true, ..vanished() });
    assert_eq!(mirror.held_of(&vip()), [keys()[0]]);
}

#[test]
fn only_a_change_of_an_interface_is_reported() {
    let mut mirror = mirror(&[]);
    let same = tell(&mut mirror, Notice::Link(ETH0, link("eth0")));
    assert!(!same.interfaces_changed);
    let down = tell(&mut mirror, Notice::Link(ETH0, Link { running: false, ..link("eth0") }));
    assert!(down.interfaces_changed);
}

#[test]
fn a_duplicate_found_later_has_vanished_and_is_removed() {
    let mut mirror = holder();
    let v6 = keys()[1];
    let state = AddressState { duplicate: true, unusable: true, ..AddressState::ADDED };
    let consequences = tell(&mut mirror, Notice::Address(v6, state));
    assert_eq!(consequences, Consequences { duplicates: vec![v6], ..vanished() });
}

#[test]
fn a_complete_reading_finds_what_went_while_notifications_were_lost() {
    let mut mirror = holder();
    let reading = vec![
        Notice::Link(LO, link("lo")),
        Notice::Link(ETH0, link("eth0")),
        Notice::Link(ETH1, link("eth1")),
        Notice::Address(keys()[0], AddressState::ADDED),
    ];
    let mut consequences = Consequences::default();
    mirror.replace(reading.clone(), &mut consequences);
    assert_eq!(consequences, vanished());

    let mut again = Consequences::default();
    mirror.replace(reading, &mut again);
    assert_eq!(again, Consequences::default());
}

#[test]
fn a_clean_up_takes_what_is_marked_and_may_be_ours() {
    let marked = key("10.0.0.5", 32, ETH0);
    let unmarked = key("10.0.0.6", 32, ETH0);
    let not_listed = key("10.0.0.7", 32, ETH0);
    let state = AddressState::ADDED;
    let mut mirror = mirror(&[(marked, state), (unmarked, FOREIGN), (not_listed, state)]);
    let may = [marked.address, unmarked.address].into();
    assert_eq!(mirror.leftovers(&may), [marked]);

    mirror.marks_are_lost();
    assert_eq!(mirror.leftovers(&may), [marked, unmarked], "flags have to do without marks");
}
