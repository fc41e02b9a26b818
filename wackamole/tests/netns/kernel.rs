//! What the kernel really has, seen and changed through the `rtnetlink` crate, which the program does not use.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use futures::{StreamExt, TryStreamExt};
use nix::errno::Errno;
use rtnetlink::packet_core::{
    DefaultNla, NLM_F_ACK, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload,
};
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::address::{
    AddressAttribute, AddressFlags, AddressMessage, AddressProtocol,
};
use rtnetlink::packet_route::link::{LinkAttribute, LinkFlags};
use rtnetlink::packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState,
};
use rtnetlink::packet_route::route::RouteType;
use rtnetlink::packet_route::tc::{TcAttribute, TcHandle, TcMessage, TcOption};
use rtnetlink::{Handle, LinkBridge, LinkUnspec, LinkVeth, RouteMessageBuilder, new_connection};
use tokio::runtime::Runtime;

use crate::namespace::Namespace;

/// The mark as ip-address(8) shows it; deliberately not the program's own constant.
pub(crate) const MARK: u8 = 119;

/// An rtnetlink connection in the namespace of the thread that made it.
pub(crate) struct Kernel {
    runtime: Runtime,
    handle: Handle,
}

/// An address as a dump shows it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Seen {
    /// `10.0.0.1/32`
    pub(crate) address: String,
    pub(crate) mark: Option<u8>,
    pub(crate) no_prefix_route: bool,
    pub(crate) tentative: bool,
}

/// One of ours, as it should look.
pub(crate) fn ours(address: &str) -> Seen {
    Seen { address: address.into(), mark: Some(MARK), no_prefix_route: true, tentative: false }
}

/// As somebody adds it by hand.
pub(crate) fn foreign(address: &str) -> Seen {
    Seen { mark: None, no_prefix_route: false, ..ours(address) }
}

impl Kernel {
    pub(crate) fn here() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let handle = runtime.block_on(async {
            let (connection, handle, _) = new_connection().unwrap();
            runtime.spawn(connection);
            handle
        });
        Self { runtime, handle }
    }

    /// Adds an interface that is up and has carrier: its other end is here as well.
    pub(crate) fn add_interface(&self, name: &str) {
        let other_end = self.add_pair(name);
        self.set_up(name, true);
        self.set_up(&other_end, true);
        self.wait_until_running(name);
    }

    fn add_pair(&self, name: &str) -> String {
        let other_end = format!("{name}-end");
        let pair = LinkVeth::new(name, &other_end).build();
        self.runtime.block_on(self.handle.link().add(pair).execute()).unwrap();
        other_end
    }

    /// Adds an interface on which there are no neighbours (`IFF_NOARP`), and sets it up.
    pub(crate) fn add_alone(&self, name: &str) {
        let other_end = self.add_pair(name);
        let message = LinkUnspec::new_with_index(self.index(name)).arp(false).build();
        self.runtime.block_on(self.handle.link().set(message).execute()).unwrap();
        self.set_up(name, true);
        self.set_up(&other_end, true);
        self.wait_until_running(name);
    }

    /// Gives an interface another hardware address.
    pub(crate) fn set_mac(&self, name: &str, mac: [u8; 6]) {
        let message = LinkUnspec::new_with_index(self.index(name)).address(mac.to_vec()).build();
        self.runtime.block_on(self.handle.link().set(message).execute()).unwrap();
    }

    /// Plugs a port into the bridge of [`switch`], or takes it out; its carrier stays.
    pub(crate) fn set_plugged(&self, port: &str, plugged: bool) {
        let message = LinkUnspec::new_with_index(self.index(port));
        let message =
            if plugged { message.controller(self.index("br0")) } else { message.nocontroller() };
        self.runtime.block_on(self.handle.link().set(message.build()).execute()).unwrap();
    }

    /// Carrier comes with a delay of up to a second, and frames sent before are lost.
    pub(crate) fn wait_until_running(&self, name: &str) {
        while !self.link(name).header.flags.contains(LinkFlags::Running) {
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    pub(crate) fn delete_link(&self, name: &str) {
        let index = self.index(name);
        self.runtime.block_on(self.handle.link().del(index).execute()).unwrap();
    }

    pub(crate) fn set_up(&self, name: &str, up: bool) {
        let message = LinkUnspec::new_with_index(self.index(name));
        let message = if up { message.up() } else { message.down() };
        self.runtime.block_on(self.handle.link().set(message.build()).execute()).unwrap();
    }

    pub(crate) fn index(&self, name: &str) -> u32 {
        self.link(name).header.index
    }

    pub(crate) fn mac(&self, name: &str) -> [u8; 6] {
        let address =
            self.link(name).attributes.into_iter().find_map(|attribute| match attribute {
                LinkAttribute::Address(bytes) => bytes.try_into().ok(),
                _ => None,
            });
        address.unwrap()
    }

    fn link(&self, name: &str) -> rtnetlink::packet_route::link::LinkMessage {
        let mut links = Box::pin(self.handle.link().get().match_name(name).execute());
        self.runtime.block_on(links.try_next()).unwrap().unwrap()
    }

    /// Puts a token bucket before an interface (tc-tbf(8)): so many bytes a second, in bursts and with a queue of a few
    /// hundred bytes. False if the kernel has none.
    pub(crate) fn slow_down(&self, name: &str, bytes_per_second: u32, queue_bytes: u32) -> bool {
        const TCA_TBF_PARMS: u16 = 1;
        const TCA_TBF_BURST: u16 = 6;
        // struct tc_tbf_qopt: rate and peak rate (struct tc_ratespec), limit, buffer, mtu.
        let mut parameters = vec![0, /* Ethernet */ 1, 0, 0, 0, 0, 0, 0];
        parameters.extend(bytes_per_second.to_ne_bytes());
        parameters.extend([0; 12]);
        parameters.extend(queue_bytes.to_ne_bytes());
        parameters.extend([0; 8]);
        let burst = queue_bytes.to_ne_bytes().to_vec();
        let mut message = TcMessage::with_index(self.index(name).cast_signed());
        message.header.parent = TcHandle::ROOT;
        message.attributes = vec![
            TcAttribute::Kind("tbf".into()),
            TcAttribute::Options(vec![
                TcOption::Other(DefaultNla::new(TCA_TBF_PARMS, parameters)),
                TcOption::Other(DefaultNla::new(TCA_TBF_BURST, burst)),
            ]),
        ];
        let mut request = NetlinkMessage::from(RouteNetlinkMessage::NewQueueDiscipline(message));
        request.header.flags = NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL;
        let mut answers = self.handle.clone().request(request).unwrap();
        match self.runtime.block_on(answers.next()).map(|answer| answer.payload) {
            None => true,
            Some(NetlinkPayload::Error(error)) => {
                assert_eq!(error.raw_code(), -(Errno::ENOENT as i32), "{error:?}");
                false
            }
            Some(other) => panic!("expected an acknowledgement, got {other:?}"),
        }
    }

    /// Adds an address as `edit` changes it; by default as a person would, but without IPv6's duplicate check.
    pub(crate) fn add_address_with(
        &self,
        interface: &str,
        address: &str,
        edit: impl FnOnce(&mut AddressMessage),
    ) {
        let (address, prefix) = parse(address);
        let mut request = self.handle.address().add(self.index(interface), address, prefix);
        let flags = AddressAttribute::Flags(AddressFlags::Nodad);
        request.message_mut().attributes.push(flags);
        edit(request.message_mut());
        self.runtime.block_on(request.execute()).unwrap();
    }

    pub(crate) fn add_address(&self, interface: &str, address: &str) {
        self.add_address_with(interface, address, |_| {});
    }

    /// As an earlier daemon of ours would have left it.
    pub(crate) fn add_marked_address(&self, interface: &str, address: &str) {
        self.add_address_with(interface, address, |message| {
            message.attributes.push(AddressAttribute::Protocol(MARK.into()));
        });
    }

    pub(crate) fn delete_addresses(&self, interface: &str, unwanted: impl Fn(IpAddr) -> bool) {
        for message in self.address_messages(interface) {
            if unwanted(ip(&message)) {
                self.runtime.block_on(self.handle.address().del(message).execute()).unwrap();
            }
        }
    }

    pub(crate) fn delete_address(&self, interface: &str, address: &str) {
        let (address, _) = parse(address);
        self.delete_addresses(interface, |other| other == address);
    }

    /// All addresses of an interface but IPv6's own link-local ones.
    pub(crate) fn addresses(&self, interface: &str) -> Vec<Seen> {
        let mut seen: Vec<_> = self.address_messages(interface).iter().map(look_at).collect();
        seen.retain(|seen| !seen.address.starts_with("fe80"));
        seen.sort();
        seen
    }

    /// For how many seconds the kernel prefers an address, and for how many it keeps it at all.
    pub(crate) fn lifetime(&self, interface: &str, address: &str) -> (u32, u32) {
        let address: IpAddr = address.parse().unwrap();
        let messages = self.address_messages(interface);
        let message = messages.iter().find(|message| ip(message) == address).unwrap();
        let lifetime = message.attributes.iter().find_map(|attribute| match attribute {
            AddressAttribute::CacheInfo(cache) => Some((cache.ifa_preferred, cache.ifa_valid)),
            _ => None,
        });
        lifetime.unwrap()
    }

    fn address_messages(&self, interface: &str) -> Vec<AddressMessage> {
        let index = self.index(interface);
        let dump = self.handle.address().get().set_link_index_filter(index).execute();
        self.runtime.block_on(dump.try_collect()).unwrap()
    }

    /// Puts an entry into the neighbour cache as if learned a while ago.
    pub(crate) fn add_stale_neighbour(&self, interface: &str, address: &str, mac: [u8; 6]) {
        let request = self
            .handle
            .neighbours()
            .add(self.index(interface), address.parse().unwrap())
            .link_layer_address(&mac)
            .state(NeighbourState::Stale)
            .kind(RouteType::Unicast);
        self.runtime.block_on(request.execute()).unwrap();
    }

    pub(crate) fn add_default_routes(&self, interface: &str, ipv4: &str, ipv6: &str) {
        let index = self.index(interface);
        let routes = [
            RouteMessageBuilder::<Ipv4Addr>::new()
                .gateway(ipv4.parse().unwrap())
                .output_interface(index)
                .build(),
            RouteMessageBuilder::<Ipv6Addr>::new()
                .gateway(ipv6.parse().unwrap())
                .output_interface(index)
                .build(),
        ];
        for route in routes {
            self.runtime.block_on(self.handle.route().add(route).execute()).unwrap();
        }
    }

    /// Puts an entry into the neighbour cache that stays as it is.
    pub(crate) fn set_permanent_neighbour(&self, interface: &str, address: &str, mac: [u8; 6]) {
        let request = self
            .handle
            .neighbours()
            .add(self.index(interface), address.parse().unwrap())
            .link_layer_address(&mac)
            .state(NeighbourState::Permanent)
            .kind(RouteType::Unicast)
            .replace();
        self.runtime.block_on(request.execute()).unwrap();
    }

    /// Where the kernel would send frames for `address`.
    pub(crate) fn neighbour(&self, interface: &str, address: &str) -> Option<[u8; 6]> {
        let wanted: IpAddr = address.parse().unwrap();
        let index = self.index(interface);
        let entries = self.handle.neighbours().get().execute();
        let entries: Vec<NeighbourMessage> = self.runtime.block_on(entries.try_collect()).unwrap();
        let here = entries.into_iter().filter(|entry| entry.header.ifindex == index);
        here.filter(|entry| is_about(entry, wanted)).find_map(|entry| {
            entry.attributes.into_iter().find_map(|attribute| match attribute {
                NeighbourAttribute::LinkLayerAddress(bytes) => bytes.to_vec().try_into().ok(),
                _ => None,
            })
        })
    }
}

/// Two machines on one cable: `eth0` in each, up, with carrier.
pub(crate) fn cable() -> (Namespace, Namespace) {
    let (left, right) = (Namespace::new(), Namespace::new());
    left.enter(|| {
        let kernel = Kernel::here();
        kernel.set_up("lo", true);
        let pair = LinkVeth::new("eth0", "other").build();
        kernel.runtime.block_on(kernel.handle.link().add(pair).execute()).unwrap();
        let other = LinkUnspec::new_with_index(kernel.index("other"));
        let other = other.name("eth0").setns_by_fd(right.descriptor()).build();
        kernel.runtime.block_on(kernel.handle.link().set(other).execute()).unwrap();
        kernel.set_up("eth0", true);
    });
    right.enter(|| {
        let kernel = Kernel::here();
        kernel.set_up("lo", true);
        kernel.set_up("eth0", true);
        kernel.wait_until_running("eth0");
    });
    left.enter(|| Kernel::here().wait_until_running("eth0"));
    (left, right)
}

/// Another machine on a cable of its own: its `eth0`, and `eth1` of the machine of this thread, up, with carrier.
pub(crate) fn second_cable() -> Namespace {
    let far = Namespace::new();
    let kernel = Kernel::here();
    let pair = LinkVeth::new("eth1", "other").build();
    kernel.runtime.block_on(kernel.handle.link().add(pair).execute()).unwrap();
    let other = LinkUnspec::new_with_index(kernel.index("other"));
    let other = other.name("eth0").setns_by_fd(far.descriptor()).build();
    kernel.runtime.block_on(kernel.handle.link().set(other).execute()).unwrap();
    kernel.set_up("eth1", true);
    far.enter(|| Kernel::here().set_up("eth0", true));
    kernel.wait_until_running("eth1");
    far
}

/// A switch that says nothing by itself, and machines on its ports `port0`, `port1`, …: `eth0` in each, up, with carrier.
pub(crate) fn switch<const MACHINES: usize>() -> (Namespace, [Namespace; MACHINES]) {
    let switch = Namespace::new();
    let machines = std::array::from_fn(|_| Namespace::new());
    switch.enter(|| {
        sysctl("ipv6/conf/all/disable_ipv6", "1");
        sysctl("ipv6/conf/default/disable_ipv6", "1");
        let kernel = Kernel::here();
        // One that snoops joins a group of its own, and says so twice within two seconds: a sign of life where nobody lives.
        let bridge = LinkBridge::new("br0").mcast_snooping(false).build();
        kernel.runtime.block_on(kernel.handle.link().add(bridge).execute()).unwrap();
        kernel.set_up("br0", true);
        for (number, machine) in machines.iter().enumerate() {
            let port = format!("port{number}");
            let pair = LinkVeth::new(&port, "other").build();
            kernel.runtime.block_on(kernel.handle.link().add(pair).execute()).unwrap();
            let other = LinkUnspec::new_with_index(kernel.index("other"));
            let other = other.name("eth0").setns_by_fd(machine.descriptor()).build();
            kernel.runtime.block_on(kernel.handle.link().set(other).execute()).unwrap();
            kernel.set_up(&port, true);
            kernel.set_plugged(&port, true);
        }
    });
    for machine in &machines {
        machine.enter(|| {
            let kernel = Kernel::here();
            kernel.set_up("lo", true);
            kernel.set_up("eth0", true);
            kernel.wait_until_running("eth0");
        });
    }
    (switch, machines)
}

pub(crate) fn sysctl(path: &str, value: &str) {
    std::fs::write(format!("/proc/sys/net/{path}"), value).unwrap();
}

fn parse(address: &str) -> (IpAddr, u8) {
    let (address, prefix) = address.split_once('/').unwrap();
    (address.parse().unwrap(), prefix.parse().unwrap())
}

fn ip(message: &AddressMessage) -> IpAddr {
    let attributes = message.attributes.iter();
    let address = attributes.clone().find_map(|attribute| match attribute {
        AddressAttribute::Local(address) => Some(*address),
        _ => None,
    });
    let fallback = || {
        attributes.clone().find_map(|attribute| match attribute {
            AddressAttribute::Address(address) => Some(*address),
            _ => None,
        })
    };
    address.or_else(fallback).unwrap()
}

fn look_at(message: &AddressMessage) -> Seen {
    let mut seen = foreign(&format!("{}/{}", ip(message), message.header.prefix_len));
    for attribute in &message.attributes {
        match attribute {
            AddressAttribute::Flags(flags) => {
                seen.no_prefix_route = flags.contains(AddressFlags::Noprefixroute);
                seen.tentative = flags.contains(AddressFlags::Tentative);
            }
            AddressAttribute::Protocol(AddressProtocol::Other(mark)) => seen.mark = Some(*mark),
            _ => {}
        }
    }
    seen
}

fn is_about(entry: &NeighbourMessage, wanted: IpAddr) -> bool {
    entry.attributes.iter().any(|attribute| match attribute {
        NeighbourAttribute::Destination(NeighbourAddress::Inet(v4)) => wanted == IpAddr::V4(*v4),
        NeighbourAttribute::Destination(NeighbourAddress::Inet6(v6)) => wanted == IpAddr::V6(*v6),
        _ => false,
    })
}
