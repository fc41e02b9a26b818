//! What the gate is made of in nf_tables: two tables of one name, their sets, chains and rules.
//!
//! An address that is in `open`, while the packet's protocol is in `lease`, passes; any other VIP is dropped. The elements
//! of `lease` have a timeout, and the kernel's lookups honour it to the jiffy (nft_set_elem_expired() in
//! net/netfilter/nft_set_hash.c). So a lease is renewed by two small messages, however many VIPs there are.
//!
//! - `arp`: what this machine sends with a VIP as its sender: replies, and its own requests. What it hears passes, because
//!   other machines' announcements of a VIP must reach the neighbour cache.
//! - `inet`: what arrives for a VIP that is local here, before anything could translate or take it; what leaves from one,
//!   after anything could have translated it. That covers neighbour advertisements, which leave from their target.
//!   Packets that a router passes on, to or from a VIP on another machine, are none of our business (`fib … type local`).

use std::net::IpAddr;

use nix::libc;

use super::message::{Attributes, Batch, Family};

/// Elements in one message: their list is one attribute, of less than 64 KiB, and an IPv6 address takes 28 bytes.
const ELEMENTS_AT_ONCE: usize = 1_000;

/// The name of the sets of all VIPs, of those that are open here, and of the lease.
const VIPS: &str = "vips";
const OPEN: &str = "open";
const VIPS_V6: &str = "vips_v6";
const OPEN_V6: &str = "open_v6";
pub(super) const LEASE: &str = "lease";
/// The name of the set that holds the number of the last renewal, and nothing else.
const RENEWAL: &str = "renewal";

/// Which protocols a lease lets pass, as Ethernet numbers them.
const ETHER_TYPE_IPV4: u16 = libc::ETH_P_IP as u16;
const ETHER_TYPE_IPV6: u16 = libc::ETH_P_IPV6 as u16;
const ETHER_TYPE_ARP: u16 = libc::ETH_P_ARP as u16;
/// Reserved (RFC 1701), so nothing ever passes by it: for trying out how the kernel behaves.
pub(super) const ETHER_TYPE_TRIAL: u16 = 0xffff;

/// How `nft` shows the keys of a set (its `enum datatypes`); the kernel stores it only.
#[derive(Clone, Copy)]
enum KeyType {
    Ipv4Address = 7,
    Ipv6Address = 8,
    EtherType = 10,
    Mark = 19,
}

impl KeyType {
    fn bytes(self) -> u32 {
        match self {
            Self::Ipv4Address | Self::Mark => 4,
            Self::Ipv6Address => 16,
            Self::EtherType => 2,
        }
    }
}

/// enum nft_*_attributes of linux/netfilter/nf_tables.h, as far as they are used.
mod nfta {
    pub(super) const TABLE_NAME: u16 = 1;

    pub(super) const CHAIN_TABLE: u16 = 1;
    pub(super) const CHAIN_NAME: u16 = 3;
    pub(super) const CHAIN_HOOK: u16 = 4;
    pub(super) const CHAIN_POLICY: u16 = 5;
    pub(super) const CHAIN_TYPE: u16 = 7;
    pub(super) const HOOK_HOOKNUM: u16 = 1;
    pub(super) const HOOK_PRIORITY: u16 = 2;

    pub(super) const RULE_TABLE: u16 = 1;
    pub(super) const RULE_CHAIN: u16 = 2;
    pub(super) const RULE_EXPRESSIONS: u16 = 4;

    pub(super) const SET_TABLE: u16 = 1;
    pub(super) const SET_NAME: u16 = 2;
    pub(super) const SET_FLAGS: u16 = 3;
    pub(super) const SET_KEY_TYPE: u16 = 4;
    pub(super) const SET_KEY_LEN: u16 = 5;
    pub(super) const SET_ID: u16 = 10;

    pub(super) const SET_ELEM_LIST_TABLE: u16 = 1;
    pub(super) const SET_ELEM_LIST_SET: u16 = 2;
    pub(super) const SET_ELEM_LIST_ELEMENTS: u16 = 3;
    pub(super) const SET_ELEM_KEY: u16 = 1;
    pub(super) const SET_ELEM_TIMEOUT: u16 = 4;
    pub(super) const SET_ELEM_EXPIRATION: u16 = 5;

    pub(super) const LIST_ELEM: u16 = 1;
    pub(super) const EXPR_NAME: u16 = 1;
    pub(super) const EXPR_DATA: u16 = 2;
    pub(super) const DATA_VALUE: u16 = 1;
    pub(super) const DATA_VERDICT: u16 = 2;
    pub(super) const VERDICT_CODE: u16 = 1;

    pub(super) const META_DREG: u16 = 1;
    pub(super) const META_KEY: u16 = 2;
    pub(super) const PAYLOAD_DREG: u16 = 1;
    pub(super) const PAYLOAD_BASE: u16 = 2;
    pub(super) const PAYLOAD_OFFSET: u16 = 3;
    pub(super) const PAYLOAD_LEN: u16 = 4;
    pub(super) const LOOKUP_SET: u16 = 1;
    pub(super) const LOOKUP_SREG: u16 = 2;
    pub(super) const CMP_SREG: u16 = 1;
    pub(super) const CMP_OP: u16 = 2;
    pub(super) const CMP_DATA: u16 = 3;
    pub(super) const FIB_DREG: u16 = 1;
    pub(super) const FIB_RESULT: u16 = 2;
    pub(super) const FIB_FLAGS: u16 = 3;
    pub(super) const IMMEDIATE_DREG: u16 = 1;
    pub(super) const IMMEDIATE_DATA: u16 = 2;
}

/// enum nft_fib_result and enum nft_fib_flags.
const NFT_FIB_RESULT_ADDRTYPE: u32 = 3;
const NFTA_FIB_F_SADDR: u32 = 1 << 0;
const NFTA_FIB_F_DADDR: u32 = 1 << 1;

/// enum nf_arp_hooks (linux/netfilter_arp.h).
const NF_ARP_OUT: u32 = 1;

/// Before connection tracking and whatever translates addresses, just before `raw` (-300, linux/netfilter_ipv4.h).
const BEFORE_TRANSLATION: i32 = -310;
/// After source translation (100) and mangling.
const AFTER_TRANSLATION: i32 = 300;

/// The tables are made anew, shut: one batch, so there is no moment without them. `renewal` is what the next one is counted from.
pub(super) fn install<'a>(
    batch: &mut Batch,
    table: &str,
    vips: impl Iterator<Item = &'a IpAddr> + Clone,
    renewal: u32,
) {
    for family in [Family::Arp, Family::Inet] {
        // To delete what is not there is an error; so it is made before it is deleted.
        add_table(batch, family, table);
        delete_table(batch, family, table);
        add_table(batch, family, table);
        add_set(batch, family, table, 1, VIPS, KeyType::Ipv4Address, 0);
        add_set(batch, family, table, 2, OPEN, KeyType::Ipv4Address, 0);
        add_set(batch, family, table, 3, LEASE, KeyType::EtherType, libc::NFT_SET_TIMEOUT);
        add_set(batch, family, table, 6, RENEWAL, KeyType::Mark, 0);
        number(batch, libc::NFT_MSG_NEWSETELEM, family, table, renewal);
    }
    add_set(batch, Family::Inet, table, 4, VIPS_V6, KeyType::Ipv6Address, 0);
    add_set(batch, Family::Inet, table, 5, OPEN_V6, KeyType::Ipv6Address, 0);
    arp_rules(batch, table);
    inet_rules(batch, table);
    change_addresses(batch, libc::NFT_MSG_NEWSETELEM, table, [VIPS, VIPS_V6], vips);
}

fn arp_rules(batch: &mut Batch, table: &str) {
    let chain = Chain { family: Family::Arp, table, name: "output" };
    chain.add(batch, NF_ARP_OUT, 0);
    // struct arphdr with Ethernet and IPv4 addresses (RFC 826): the sender's protocol address is behind eight bytes of
    // header and its hardware address.
    let sender = |rule: &mut Attributes<'_>| load_network_header(rule, 14, 4);
    chain.rule(batch, |rule| {
        sender(rule);
        lookup(rule, OPEN);
        under_lease(rule);
        verdict(rule, libc::NF_ACCEPT);
    });
    chain.rule(batch, |rule| {
        sender(rule);
        lookup(rule, VIPS);
        verdict(rule, libc::NF_DROP);
    });
}

fn inet_rules(batch: &mut Batch, table: &str) {
    // Where the addresses are: struct iphdr (RFC 791), struct ipv6hdr (RFC 8200).
    let arriving = Chain { family: Family::Inet, table, name: "arriving" };
    arriving.add(batch, libc::NF_INET_PRE_ROUTING as u32, BEFORE_TRANSLATION);
    address_rules(batch, &arriving, NFTA_FIB_F_DADDR, 16, 24);
    let leaving = Chain { family: Family::Inet, table, name: "leaving" };
    leaving.add(batch, libc::NF_INET_POST_ROUTING as u32, AFTER_TRANSLATION);
    address_rules(batch, &leaving, NFTA_FIB_F_SADDR, 12, 8);
}

fn address_rules(batch: &mut Batch, chain: &Chain<'_>, which: u32, ipv4_at: u32, ipv6_at: u32) {
    for (protocol, offset, bytes, open, vips) in [
        (libc::NFPROTO_IPV4, ipv4_at, 4, OPEN, VIPS),
        (libc::NFPROTO_IPV6, ipv6_at, 16, OPEN_V6, VIPS_V6),
    ] {
        let address = |rule: &mut Attributes<'_>| {
            load_meta(rule, libc::NFT_META_NFPROTO);
            compare(rule, &[protocol as u8]);
            load_network_header(rule, offset, bytes);
        };
        chain.rule(batch, |rule| {
            address(rule);
            lookup(rule, open);
            under_lease(rule);
            verdict(rule, libc::NF_ACCEPT);
        });
        chain.rule(batch, |rule| {
            address(rule);
            lookup(rule, vips);
            is_local(rule, which);
            verdict(rule, libc::NF_DROP);
        });
    }
}

/// Lets `addresses` be answered for as long as there is a lease. Those that are open stay so.
pub(super) fn open<'a>(
    batch: &mut Batch,
    table: &str,
    addresses: impl Iterator<Item = &'a IpAddr> + Clone,
) {
    change_addresses(batch, libc::NFT_MSG_NEWSETELEM, table, [OPEN, OPEN_V6], addresses);
}

/// Shuts `addresses`. An error if one of them is not open.
pub(super) fn shut<'a>(
    batch: &mut Batch,
    table: &str,
    addresses: impl Iterator<Item = &'a IpAddr> + Clone,
) {
    change_addresses(batch, libc::NFT_MSG_DELSETELEM, table, [OPEN, OPEN_V6], addresses);
}

/// Shuts all that the table of one family governs, and ends its lease.
pub(super) fn shut_all(batch: &mut Batch, family: Family, table: &str) {
    flush(batch, family, table, LEASE);
    flush(batch, family, table, OPEN);
    if family == Family::Inet {
        flush(batch, family, table, OPEN_V6);
    }
}

/// Counts a renewal, from `before` to the next number. An error if another one was the last: then these are not the tables that it was
/// made in, but older ones that somebody has saved and restored, with what was open at that time.
pub(super) fn count_renewal(batch: &mut Batch, table: &str, before: u32) {
    for family in [Family::Arp, Family::Inet] {
        number(batch, libc::NFT_MSG_DELSETELEM, family, table, before);
        number(batch, libc::NFT_MSG_NEWSETELEM, family, table, before.wrapping_add(1));
    }
}

fn number(batch: &mut Batch, kind: libc::c_int, family: Family, table: &str, number: u32) {
    elements(batch, kind, family, table, RENEWAL, |list| {
        list.nest(nfta::LIST_ELEM, |element| {
            element
                .nest(nfta::SET_ELEM_KEY, |key| key.bytes(nfta::DATA_VALUE, &number.to_ne_bytes()));
        });
    });
}

/// Makes the lease end `milliseconds` from now. If the kernel updates what is there (Linux 6.12), no packet ever sees a
/// moment without it; else it is replaced.
pub(super) fn lease(batch: &mut Batch, table: &str, milliseconds: u64, in_place: bool) {
    if !in_place {
        end_lease(batch, table);
    }
    lease_element(batch, Family::Arp, table, &[ETHER_TYPE_ARP], milliseconds);
    lease_element(batch, Family::Inet, table, &[ETHER_TYPE_IPV4, ETHER_TYPE_IPV6], milliseconds);
}

/// An element of `lease` in the table of one family.
pub(super) fn lease_element(
    batch: &mut Batch,
    family: Family,
    table: &str,
    protocols: &[u16],
    milliseconds: u64,
) {
    elements(batch, libc::NFT_MSG_NEWSETELEM, family, table, LEASE, |list| {
        for protocol in protocols {
            list.nest(nfta::LIST_ELEM, |element| {
                element.nest(nfta::SET_ELEM_KEY, |key| {
                    key.bytes(nfta::DATA_VALUE, &protocol.to_be_bytes())
                });
                // An element that is there takes a timeout only if it differs, and an expiration always.
                element.u64(nfta::SET_ELEM_TIMEOUT, milliseconds);
                element.u64(nfta::SET_ELEM_EXPIRATION, milliseconds);
            });
        }
    });
}

/// Ends the lease: nothing that is open passes.
pub(super) fn end_lease(batch: &mut Batch, table: &str) {
    for family in [Family::Arp, Family::Inet] {
        flush(batch, family, table, LEASE);
    }
}

/// Removes the table of one family. An error if there is none.
pub(super) fn delete_table(batch: &mut Batch, family: Family, table: &str) {
    batch.message(libc::NFT_MSG_DELTABLE, family, 0, |t| t.string(nfta::TABLE_NAME, table));
}

/// The attributes that ask for one element of `lease`.
pub(super) fn ask_lease_element(question: &mut Attributes<'_>, table: &str, protocol: u16) {
    question.string(nfta::SET_ELEM_LIST_TABLE, table);
    question.string(nfta::SET_ELEM_LIST_SET, LEASE);
    question.nest(nfta::SET_ELEM_LIST_ELEMENTS, |list| {
        list.nest(nfta::LIST_ELEM, |element| {
            element.nest(nfta::SET_ELEM_KEY, |key| {
                key.bytes(nfta::DATA_VALUE, &protocol.to_be_bytes())
            });
        });
    });
}

/// The timeout, in milliseconds, of the first element in an answer's attributes.
pub(super) fn timeout_of_first_element(attributes: &[u8]) -> Option<u64> {
    use super::message::find;
    let list = find(attributes, nfta::SET_ELEM_LIST_ELEMENTS)?;
    let element = find(list, nfta::LIST_ELEM)?;
    find(element, nfta::SET_ELEM_TIMEOUT)?.first_chunk().map(|&bytes| u64::from_be_bytes(bytes))
}

fn add_table(batch: &mut Batch, family: Family, table: &str) {
    let flags = libc::NLM_F_CREATE;
    batch.message(libc::NFT_MSG_NEWTABLE, family, flags, |t| t.string(nfta::TABLE_NAME, table));
}

fn add_set(
    batch: &mut Batch,
    family: Family,
    table: &str,
    id: u32,
    name: &str,
    key: KeyType,
    flags: libc::c_int,
) {
    let create = libc::NLM_F_CREATE | libc::NLM_F_EXCL;
    batch.message(libc::NFT_MSG_NEWSET, family, create, |set| {
        set.string(nfta::SET_TABLE, table);
        set.string(nfta::SET_NAME, name);
        set.u32(nfta::SET_FLAGS, flags as u32);
        set.u32(nfta::SET_KEY_TYPE, key as u32);
        set.u32(nfta::SET_KEY_LEN, key.bytes());
        set.u32(nfta::SET_ID, id);
    });
}

/// Adds or deletes addresses: IPv4 in both tables, IPv6 in its own sets.
fn change_addresses<'a>(
    batch: &mut Batch,
    kind: libc::c_int,
    table: &str,
    [v4, v6]: [&str; 2],
    addresses: impl Iterator<Item = &'a IpAddr> + Clone,
) {
    let ipv4: Vec<_> = addresses.clone().filter(|address| address.is_ipv4()).collect();
    let ipv6: Vec<_> = addresses.filter(|address| address.is_ipv6()).collect();
    for (family, set, members) in
        [(Family::Arp, v4, &ipv4), (Family::Inet, v4, &ipv4), (Family::Inet, v6, &ipv6)]
    {
        for some in members.chunks(ELEMENTS_AT_ONCE) {
            elements(batch, kind, family, table, set, |list| {
                for address in some {
                    list.nest(nfta::LIST_ELEM, |element| {
                        element.nest(nfta::SET_ELEM_KEY, |key| match address {
                            IpAddr::V4(v4) => key.bytes(nfta::DATA_VALUE, &v4.octets()),
                            IpAddr::V6(v6) => key.bytes(nfta::DATA_VALUE, &v6.octets()),
                        });
                    });
                }
            });
        }
    }
}

fn elements(
    batch: &mut Batch,
    kind: libc::c_int,
    family: Family,
    table: &str,
    set: &str,
    list: impl FnOnce(&mut Attributes<'_>),
) {
    let flags = if kind == libc::NFT_MSG_NEWSETELEM { libc::NLM_F_CREATE } else { 0 };
    batch.message(kind, family, flags, |attributes| {
        attributes.string(nfta::SET_ELEM_LIST_TABLE, table);
        attributes.string(nfta::SET_ELEM_LIST_SET, set);
        attributes.nest(nfta::SET_ELEM_LIST_ELEMENTS, list);
    });
}

/// Deletes all elements: a deletion that names none.
fn flush(batch: &mut Batch, family: Family, table: &str, set: &str) {
    batch.message(libc::NFT_MSG_DELSETELEM, family, 0, |attributes| {
        attributes.string(nfta::SET_ELEM_LIST_TABLE, table);
        attributes.string(nfta::SET_ELEM_LIST_SET, set);
    });
}

struct Chain<'a> {
    family: Family,
    table: &'a str,
    name: &'a str,
}

impl Chain<'_> {
    /// Adds the chain to a hook; what no rule decides passes.
    fn add(&self, batch: &mut Batch, hook: u32, priority: i32) {
        let create = libc::NLM_F_CREATE | libc::NLM_F_EXCL;
        batch.message(libc::NFT_MSG_NEWCHAIN, self.family, create, |chain| {
            chain.string(nfta::CHAIN_TABLE, self.table);
            chain.string(nfta::CHAIN_NAME, self.name);
            chain.nest(nfta::CHAIN_HOOK, |attributes| {
                attributes.u32(nfta::HOOK_HOOKNUM, hook);
                attributes.u32(nfta::HOOK_PRIORITY, priority.cast_unsigned());
            });
            chain.u32(nfta::CHAIN_POLICY, libc::NF_ACCEPT as u32);
            chain.string(nfta::CHAIN_TYPE, "filter");
        });
    }

    fn rule(&self, batch: &mut Batch, expressions: impl FnOnce(&mut Attributes<'_>)) {
        let append = libc::NLM_F_CREATE | libc::NLM_F_APPEND;
        batch.message(libc::NFT_MSG_NEWRULE, self.family, append, |rule| {
            rule.string(nfta::RULE_TABLE, self.table);
            rule.string(nfta::RULE_CHAIN, self.name);
            rule.nest(nfta::RULE_EXPRESSIONS, expressions);
        });
    }
}

/// Every expression leaves its result in this register, or reads it from there.
const REGISTER: u32 = libc::NFT_REG_1 as u32;

fn expression(rule: &mut Attributes<'_>, name: &str, data: impl FnOnce(&mut Attributes<'_>)) {
    rule.nest(nfta::LIST_ELEM, |expression| {
        expression.string(nfta::EXPR_NAME, name);
        expression.nest(nfta::EXPR_DATA, data);
    });
}

fn load_meta(rule: &mut Attributes<'_>, key: libc::c_int) {
    expression(rule, "meta", |meta| {
        meta.u32(nfta::META_KEY, key as u32);
        meta.u32(nfta::META_DREG, REGISTER);
    });
}

fn load_network_header(rule: &mut Attributes<'_>, offset: u32, bytes: u32) {
    expression(rule, "payload", |payload| {
        payload.u32(nfta::PAYLOAD_DREG, REGISTER);
        payload.u32(nfta::PAYLOAD_BASE, libc::NFT_PAYLOAD_NETWORK_HEADER as u32);
        payload.u32(nfta::PAYLOAD_OFFSET, offset);
        payload.u32(nfta::PAYLOAD_LEN, bytes);
    });
}

/// Goes on only if the set contains it.
fn lookup(rule: &mut Attributes<'_>, set: &str) {
    expression(rule, "lookup", |lookup| {
        lookup.string(nfta::LOOKUP_SET, set);
        lookup.u32(nfta::LOOKUP_SREG, REGISTER);
    });
}

/// Goes on only while the lease runs.
fn under_lease(rule: &mut Attributes<'_>) {
    load_meta(rule, libc::NFT_META_PROTOCOL);
    lookup(rule, LEASE);
}

/// Goes on only if it is equal.
fn compare(rule: &mut Attributes<'_>, value: &[u8]) {
    expression(rule, "cmp", |cmp| {
        cmp.u32(nfta::CMP_SREG, REGISTER);
        cmp.u32(nfta::CMP_OP, libc::NFT_CMP_EQ as u32);
        cmp.nest(nfta::CMP_DATA, |data| data.bytes(nfta::DATA_VALUE, value));
    });
}

/// Goes on only if the packet's source or destination is an address of this machine.
fn is_local(rule: &mut Attributes<'_>, which: u32) {
    expression(rule, "fib", |fib| {
        fib.u32(nfta::FIB_DREG, REGISTER);
        fib.u32(nfta::FIB_RESULT, NFT_FIB_RESULT_ADDRTYPE);
        fib.u32(nfta::FIB_FLAGS, which);
    });
    // The kernel leaves it in its own byte order.
    compare(rule, &u32::from(libc::RTN_LOCAL).to_ne_bytes());
}

fn verdict(rule: &mut Attributes<'_>, code: libc::c_int) {
    expression(rule, "immediate", |immediate| {
        immediate.u32(nfta::IMMEDIATE_DREG, libc::NFT_REG_VERDICT as u32);
        immediate.nest(nfta::IMMEDIATE_DATA, |data| {
            data.nest(nfta::DATA_VERDICT, |v| v.u32(nfta::VERDICT_CODE, code as u32));
        });
    });
}

#[cfg(test)]
mod tests;
