//! Which frames wake the watcher: programs for the kernel's packet filter (socket(7), `SO_ATTACH_FILTER`). Pure.
//!
//! A filter may let through too much, because whatever comes is looked at again, but never too little. So it looks only at
//! the last four bytes of an address, and addresses that lie close together make one range.

use std::net::IpAddr;

use nix::libc;
use socket2::SockFilter;

/// The kernel goes through them one after the other.
const RANGES_MAX: usize = 64;

/// How much the filters let through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scope {
    /// Claims on the VIPs, and answers to this machine.
    Claims,
    /// All ARP and neighbour discovery: every frame is a sign of life, and its sender somebody to ask.
    Everything,
}

/// The program for a packet socket that gets ARP.
pub(super) fn arp(scope: Scope, vips: impl Iterator<Item = IpAddr>) -> Vec<SockFilter> {
    if scope == Scope::Everything {
        return vec![ret(ACCEPT)];
    }
    let mut program = vec![
        load_half(20), // operation
        jump_equal(2, 0, 3),
        load_byte(0), // a reply: to whom?
        jump_bits(1, 1, 0),
        ret(ACCEPT),
        load_word(28), // sender
        jump_equal(0, 0, 1),
        load_word(38), // a probe: target
    ];
    accept_ranges(&mut program, vips.filter(IpAddr::is_ipv4));
    program
}

/// The program for a packet socket that gets IPv6.
pub(super) fn ndp(scope: Scope, vips: impl Iterator<Item = IpAddr>) -> Vec<SockFilter> {
    let mut program = vec![
        load_byte(20), // next header
        jump_equal(58, 1, 0),
        ret(REJECT),
        load_byte(54), // ICMPv6 type
    ];
    if scope == Scope::Everything {
        program.extend([jump_equal(135, 2, 0), jump_equal(136, 1, 0), ret(REJECT), ret(ACCEPT)]);
        return program;
    }
    program.extend([
        jump_equal(136, 1, 0),
        jump_equal(135, 6, 5),
        load_byte(0), // an advertisement: to whom?
        jump_bits(1, 1, 0),
        ret(ACCEPT),
        load_word(74), // end of the target
        jump(12),
        ret(REJECT),
        load_word(22), // a solicitation: is the source unspecified?
        jump_equal(0, 0, 6),
        load_word(26),
        jump_equal(0, 0, 4),
        load_word(30),
        jump_equal(0, 0, 2),
        load_word(34),
        jump_equal(0, 2, 3),
        load_word(34), // end of the source
        jump(1),
        load_word(74),
    ]);
    accept_ranges(&mut program, vips.filter(IpAddr::is_ipv6));
    program
}

/// Ends a program: accepts if what was loaded last is the end of one of these.
fn accept_ranges(program: &mut Vec<SockFilter>, addresses: impl Iterator<Item = IpAddr>) {
    for (first, last) in ranges(addresses.map(end_of).collect()) {
        program.extend([jump_at_least(first, 0, 2), jump_above(last, 1, 0), ret(ACCEPT)]);
    }
    program.push(ret(REJECT));
}

fn end_of(address: IpAddr) -> u32 {
    match address {
        IpAddr::V4(v4) => v4.to_bits(),
        IpAddr::V6(v6) => v6.to_bits() as u32,
    }
}

/// At most [`RANGES_MAX`] ranges, first and last included, that contain all of `values`: they leave out the widest gaps.
fn ranges(mut values: Vec<u32>) -> Vec<(u32, u32)> {
    values.sort_unstable();
    values.dedup();
    let mut gaps: Vec<_> = values
        .windows(2)
        .map(|pair| (pair[1] - pair[0], pair[0]))
        .filter(|&(width, _)| width > 1)
        .collect();
    gaps.sort_unstable_by(|a, b| b.cmp(a));
    gaps.truncate(RANGES_MAX - 1);
    let mut last_before_gap: Vec<_> = gaps.into_iter().map(|(_, before)| before).collect();
    last_before_gap.sort_unstable();
    let mut ranges = Vec::new();
    let mut rest = &values[..];
    for last in last_before_gap {
        let (range, behind) = rest.split_at(rest.partition_point(|&value| value <= last));
        ranges.push((range[0], last));
        rest = behind;
    }
    if let (Some(&first), Some(&last)) = (rest.first(), rest.last()) {
        ranges.push((first, last));
    }
    ranges
}

const ACCEPT: u32 = u32::MAX;
const REJECT: u32 = 0;

fn ret(verdict: u32) -> SockFilter {
    instruction(libc::BPF_RET | libc::BPF_K, 0, 0, verdict)
}

fn load_byte(offset: u32) -> SockFilter {
    instruction(libc::BPF_LD | libc::BPF_B | libc::BPF_ABS, 0, 0, offset)
}

fn load_half(offset: u32) -> SockFilter {
    instruction(libc::BPF_LD | libc::BPF_H | libc::BPF_ABS, 0, 0, offset)
}

fn load_word(offset: u32) -> SockFilter {
    instruction(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, offset)
}

fn jump(over: u32) -> SockFilter {
    instruction(libc::BPF_JMP | libc::BPF_JA, 0, 0, over)
}

/// The jumps skip so many instructions if it is so, and so many if not.
fn jump_equal(value: u32, then: u8, otherwise: u8) -> SockFilter {
    instruction(libc::BPF_JMP | libc::BPF_JEQ, then, otherwise, value)
}

fn jump_at_least(value: u32, then: u8, otherwise: u8) -> SockFilter {
    instruction(libc::BPF_JMP | libc::BPF_JGE, then, otherwise, value)
}

fn jump_above(value: u32, then: u8, otherwise: u8) -> SockFilter {
    instruction(libc::BPF_JMP | libc::BPF_JGT, then, otherwise, value)
}

fn jump_bits(bits: u32, then: u8, otherwise: u8) -> SockFilter {
    instruction(libc::BPF_JMP | libc::BPF_JSET, then, otherwise, bits)
}

fn instruction(code: u32, then: u8, otherwise: u8, k: u32) -> SockFilter {
    SockFilter::new(code as u16, then, otherwise, k)
}

#[cfg(test)]
mod tests;
