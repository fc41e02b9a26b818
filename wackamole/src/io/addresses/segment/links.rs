//! The machine's interfaces, by index and by name.

use std::collections::BTreeMap;

use super::super::mirror::{Link, Notice};
use crate::io::ethernet::MacAddress;

/// All interfaces.
#[derive(Debug, Default)]
pub(super) struct Links {
    by_index: BTreeMap<u32, Link>,
    names: BTreeMap<String, u32>,
}

impl Links {
    /// Takes a notification; those about addresses do not matter. Returns whether anything changed.
    pub(super) fn apply(&mut self, notice: Notice) -> bool {
        match notice {
            Notice::Link(index, link) => {
                if self.by_index.get(&index) == Some(&link) {
                    return false;
                }
                self.forget_name(index);
                self.names.insert(link.name.clone(), index);
                self.by_index.insert(index, link);
                true
            }
            Notice::LinkGone(index) => {
                self.forget_name(index);
                self.by_index.remove(&index).is_some()
            }
            Notice::Address(..) | Notice::AddressGone(..) => false,
        }
    }

    /// Forgets the name of `index`, unless another interface has it meanwhile.
    fn forget_name(&mut self, index: u32) {
        if let Some(link) = self.by_index.get(&index)
            && self.names.get(&link.name) == Some(&index)
        {
            self.names.remove(&link.name);
        }
    }

    pub(super) fn get(&self, index: u32) -> Option<&Link> {
        self.by_index.get(&index)
    }

    pub(super) fn called(&self, name: &str) -> Option<(u32, &Link)> {
        let &index = self.names.get(name)?;
        Some((index, self.by_index.get(&index)?))
    }

    /// Whether this machine has a hardware address: on another interface of the same segment it is no stranger's.
    pub(super) fn is_own(&self, mac: MacAddress) -> bool {
        self.by_index.values().any(|link| link.mac == Some(mac))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(name: &str, mac: u8) -> Link {
        Link {
            name: name.into(),
            up: true,
            running: true,
            loopback: false,
            no_arp: false,
            mac: Some(MacAddress([2, 0, 0, 0, 0, mac])),
        }
    }

    #[test]
    fn names_follow_interfaces_that_swap_them() {
        let mut links = Links::default();
        assert!(links.apply(Notice::Link(1, link("eth0", 1))));
        assert!(!links.apply(Notice::Link(1, link("eth0", 1))));
        assert!(links.apply(Notice::Link(2, link("eth1", 2))));

        assert!(links.apply(Notice::Link(1, link("old", 1))));
        assert!(links.apply(Notice::Link(2, link("eth0", 2))));
        assert!(links.apply(Notice::LinkGone(1)));

        assert_eq!(links.called("eth0"), Some((2, &link("eth0", 2))));
        assert_eq!((links.called("eth1"), links.called("old")), (None, None));
        assert!(links.is_own(MacAddress([2, 0, 0, 0, 0, 2])));
        assert!(!links.is_own(MacAddress([2, 0, 0, 0, 0, 1])));
    }
}
