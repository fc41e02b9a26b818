//! Another view beside ours, and who hears of it.

use super::*;

/// The third does not hear the first, which hears it; and the second, through which both are linked, was away and has just been
/// started again.
fn one_way_and_restarted(partition: Partition) -> Lan {
    let mut lan = Lan::agreed_under(partition, 3);
    lan.cut.insert((0, 2));
    lan.cut_both_ways(&[(0, 1), (1, 2)]);
    lan.run(ms(3_000));
    assert!(is_in_view_of(&lan, 2, 1) && lan.groups[0].view().is_none(), "the third serves");
    lan.cut.retain(|pair| *pair == (0, 2));
    let now = lan.now;
    let mut anew = config(3, 1);
    anew.safety = Safety::new(partition, &anew.timing);
    lan.groups[1] = Group::new(&anew, 0, Incarnation::new(3, 1), now);
    lan
}

fn is_in_view_of(lan: &Lan, i: usize, members: usize) -> bool {
    lan.groups[i].view().is_some_and(|view| view.members.len() == members)
}

#[test]
fn the_other_view_is_known_before_ours_stands_and_until_it_has_yielded() {
    for partition in [Partition::Component, Partition::Lan] {
        let mut lan = one_way_and_restarted(partition);
        let mark = lan.views.len();
        lan.run_until(|lan| is_in_view_of(lan, 0, 2) && is_in_view_of(lan, 1, 2));
        assert!(is_in_view_of(&lan, 2, 1), "{partition:?}: it serves alone");
        let told: Vec<bool> = lan.besides[mark..].to_vec();
        assert_eq!(told, [true, true], "{partition:?}: {:?}", &lan.views[mark..]);

        lan.run_until(|lan| !lan.beside[0]);
        assert!(lan.groups[2].view().is_none(), "{partition:?}: not before it has yielded");
        lan.run(ms(20));
        assert_eq!(lan.beside, [false; 3], "{partition:?}");
    }
}

#[test]
fn whoever_has_become_one_with_the_other_view_is_not_beside_it() {
    let mut lan = Lan::agreed(4);
    let apart = [(0, 2), (0, 3), (1, 2), (1, 3)];
    lan.cut_both_ways(&apart);
    lan.run(ms(1_500));
    assert_eq!(lan.beside, [false; 4], "nobody hears of the other one");
    lan.cut.clear();
    lan.run_until(|lan| (0..4).all(|i| is_in_view_of(lan, i, 4)));

    lan.run(ms(1));
    assert_eq!(lan.beside, [false; 4]);
}

#[test]
fn a_member_says_what_it_alone_sees_and_is_minded_no_longer_than_it_takes_the_other_to_yield() {
    let mut lan = Lan::agreed(4);
    // The first two and the third are one part, the fourth is heard by the third alone.
    lan.cut_both_ways(&[(0, 2), (0, 3), (1, 2), (1, 3), (2, 3)]);
    lan.run(ms(1_500));
    lan.cut.retain(|pair| ![(1, 2), (2, 1)].contains(pair));
    lan.run_until(|lan| lan.beside[1]);
    let since = lan.now;
    assert!(!lan.beside[0] || lan.groups[0].peer(name(1)).is_some_and(|peer| peer.beside));
    lan.run_until(|lan| lan.beside[0]);
    assert!(lan.now.since(since) < ms(100), "it does not wait for a heartbeat");

    // The third may go on saying that it is in a view: it is gone, or something is wrong with it.
    lan.run(ms(150));
    let view = lan.groups[2].view().cloned();
    assert!(view.is_some());
    lan.run_until(|lan| !lan.beside[0] && !lan.beside[1]);
    assert!(lan.now.since(since) <= ms(2 * 400 + 100 + 100), "{:?}", lan.now.since(since));
}

#[test]
fn under_quorum_no_view_is_minded_but_ones_own() {
    let mut lan = Lan::agreed_under(Partition::Quorum, 4);
    lan.cut_both_ways(&[(0, 3), (1, 3), (2, 3)]);
    lan.run(ms(1_500));
    lan.cut.clear();
    for _ in 0..300 {
        lan.run(ms(1));
        assert_eq!(lan.beside, [false; 4]);
    }
}
