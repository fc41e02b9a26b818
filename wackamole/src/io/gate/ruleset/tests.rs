use super::super::message::find;
use super::*;

/// Type, family and attributes of every request in a batch, its two ends left out.
fn requests(batch: Batch) -> Vec<(u16, u8, Vec<u8>)> {
    let (bytes, ..) = batch.finish();
    let mut rest = &bytes[..];
    let mut requests = Vec::new();
    while let Some(length) = rest.first_chunk::<4>() {
        let (message, later) = rest.split_at(u32::from_ne_bytes(*length) as usize);
        let kind = u16::from_ne_bytes([message[4], message[5]]);
        requests.push((kind & 0xff, message[16], message[20..].to_vec()));
        rest = later;
    }
    requests.pop();
    requests.remove(0);
    requests
}

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn text(attributes: &[u8], kind: u16) -> &str {
    std::str::from_utf8(find(attributes, kind).unwrap()).unwrap().trim_end_matches('\0')
}

#[test]
fn an_ipv4_address_is_opened_for_arp_and_traffic_and_an_ipv6_address_for_traffic() {
    let mut batch = Batch::new(1);
    open(&mut batch, "t", [address("10.0.0.1"), address("fd00::1")].iter());

    let seen: Vec<_> = requests(batch)
        .into_iter()
        .map(|(kind, family, attributes)| {
            assert_eq!(i32::from(kind), libc::NFT_MSG_NEWSETELEM);
            assert_eq!(text(&attributes, nfta::SET_ELEM_LIST_TABLE), "t");
            let list = find(&attributes, nfta::SET_ELEM_LIST_ELEMENTS).unwrap();
            let element = find(list, nfta::LIST_ELEM).unwrap();
            let key = find(find(element, nfta::SET_ELEM_KEY).unwrap(), nfta::DATA_VALUE).unwrap();
            (family, text(&attributes, nfta::SET_ELEM_LIST_SET).to_owned(), key.to_vec())
        })
        .collect();

    let ipv6 = [0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1].to_vec();
    let expected = [
        (3, "open".to_owned(), vec![10, 0, 0, 1]),
        (1, "open".to_owned(), vec![10, 0, 0, 1]),
        (1, "open_v6".to_owned(), ipv6),
    ];
    assert_eq!(seen, expected);
}

#[test]
fn long_lists_are_cut_into_attributes_that_fit() {
    let many: Vec<IpAddr> =
        (0..2_500u16).map(|n| IpAddr::from([0xfd00, 0, 0, 0, 0, 0, 0, n])).collect();
    let mut batch = Batch::new(1);

    open(&mut batch, "t", many.iter());

    let sizes: Vec<_> = requests(batch)
        .iter()
        .map(|(.., attributes)| find(attributes, nfta::SET_ELEM_LIST_ELEMENTS).unwrap().len() / 28)
        .collect();
    assert_eq!(sizes, [1_000, 1_000, 500]);
}

/// Without addresses of a family there is no message about it: the kernel takes one without elements for "all of them".
#[test]
fn to_shut_nothing_does_not_flush() {
    let mut batch = Batch::new(1);
    shut(&mut batch, "t", [address("fd00::1")].iter());

    let kinds: Vec<_> = requests(batch).iter().map(|&(kind, family, _)| (kind, family)).collect();

    assert_eq!(kinds, [(libc::NFT_MSG_DELSETELEM as u16, 1)]);
}

#[test]
fn a_lease_is_renewed_by_two_messages_or_replaced_by_four() {
    for (in_place, expected) in [(true, 2), (false, 4)] {
        let mut batch = Batch::new(1);
        lease(&mut batch, "t", 400, in_place);
        let requests = requests(batch);
        assert_eq!(requests.len(), expected);

        let (.., attributes) = requests.last().unwrap();
        assert_eq!(timeout_of_first_element(attributes), Some(400));
    }
}

/// Tables that were saved earlier in the same start, or in another one, have a number that is not the last one.
#[test]
fn each_renewal_names_the_one_before_it_and_leaves_its_own_number() {
    let numbers = |batch: Batch| -> Vec<(u16, u8, u32)> {
        let renewal = |(kind, family, attributes): (u16, u8, Vec<u8>)| {
            let set = find(&attributes, nfta::SET_ELEM_LIST_SET)?;
            let list = find(&attributes, nfta::SET_ELEM_LIST_ELEMENTS)?;
            let element = find(list, nfta::LIST_ELEM)?;
            let key = find(find(element, nfta::SET_ELEM_KEY)?, nfta::DATA_VALUE)?;
            let number = u32::from_ne_bytes(*key.first_chunk()?);
            (set == b"renewal\0").then_some((kind, family, number))
        };
        requests(batch).into_iter().filter_map(renewal).collect()
    };
    let (new, delete) = (libc::NFT_MSG_NEWSETELEM as u16, libc::NFT_MSG_DELSETELEM as u16);
    let [arp, inet] = [3, 1];

    let mut batch = Batch::new(1);
    install(&mut batch, "t", [].iter(), u32::MAX);
    assert_eq!(numbers(batch), [(new, arp, u32::MAX), (new, inet, u32::MAX)]);

    let mut batch = Batch::new(1);
    count_renewal(&mut batch, "t", u32::MAX);
    let expected =
        [(delete, arp, u32::MAX), (new, arp, 0), (delete, inet, u32::MAX), (new, inet, 0)];
    assert_eq!(numbers(batch), expected);
}
