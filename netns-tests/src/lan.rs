//! The simulated cabling: switches, the machines plugged into them, and what can go wrong with either.
//!
//! Each segment is two bridges joined by a trunk, a near and a far one. Cutting the trunk parts the segment at one
//! instant, and so does healing it; which machines end up where is decided before, by plugging them over while the
//! trunk still joins the halves.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use anyhow::{Context, Result};

use crate::host::Host;
use crate::mac::Mac;

/// The switches of a simulated LAN.
pub struct Lan {
    switch: Host,
    segments: u8,
}

/// Which of the two bridges of each segment a machine is plugged into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The bridge where everybody starts.
    Near,
    /// The other one.
    Far,
}

/// A machine with its cables.
pub struct Machine {
    host: Host,
    interfaces: Vec<Interface>,
    /// The other ends of its cables are in there, and would go with it.
    _switch: Host,
}

/// A machine's end of a cable. `eth0` is on segment 0, and so on.
#[derive(Clone, Debug)]
pub struct Interface {
    /// Its name on the machine.
    pub name: String,
    /// Its hardware address.
    pub mac: Mac,
    /// The machine's own addresses on it, with prefix lengths.
    pub addresses: Vec<(IpAddr, u8)>,
    segment: u8,
    port: String,
}

impl Lan {
    /// Makes the switches of `segments` segments.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn new(segments: u8) -> Result<Self> {
        let switch = Host::new("switch")?;
        // Its ports have a kernel behind them that would send frames of its own (router solicitations, MLD reports), which
        // machines behind a dead port would hear. A switch says nothing.
        for key in ["all", "default"] {
            switch
                .sysctl(&format!("net/ipv6/conf/{key}/disable_ipv6"), "1")
                .context("switching IPv6 off on a switch")?;
        }
        for segment in 0..segments {
            let (near, far) = (bridge(segment, Side::Near), bridge(segment, Side::Far));
            let (near_end, far_end) = (trunk(segment, Side::Near), trunk(segment, Side::Far));
            switch.netlink(|netlink| {
                netlink.create_bridge(&near)?;
                netlink.create_bridge(&far)?;
                netlink.create_cable(&near_end, &far_end, None, None)?;
                for (end, bridge) in [(&near_end, &near), (&far_end, &far)] {
                    netlink.plug(end, bridge)?;
                    netlink.set_up(end)?;
                }
                Ok(())
            })?;
        }
        Ok(Self { switch, segments })
    }

    /// Plugs a new machine into every segment. Its addresses on segment *s* are `10.(77+s).0.number/16` and
    /// `fd00:(77+s)::number/64`.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn machine(&self, name: &str, number: u8, side: Side) -> Result<Machine> {
        let interfaces = (0..self.segments)
            .map(|segment| Interface {
                name: format!("eth{segment}"),
                mac: Mac([0x02, 0x77, 0, 0, segment, number]),
                addresses: vec![(own_ipv4(segment, number), 16), (own_ipv6(segment, number), 64)],
                segment,
                port: format!("{name}-{segment}"),
            })
            .collect();
        let host = Host::new(name)?;
        let machine = Machine { host, interfaces, _switch: self.switch.clone() };
        self.connect(&machine, side)?;
        Ok(machine)
    }

    /// Clears away what is left of a machine without power: its interfaces vanish with all their addresses.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn clear_away(&self, machine: &Machine) -> Result<()> {
        for interface in &machine.interfaces {
            self.switch.netlink(|netlink| netlink.delete_link(&interface.port))?;
        }
        Ok(())
    }

    /// Connects a machine that has no cables, as if it had just booted.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn connect(&self, machine: &Machine, side: Side) -> Result<()> {
        let network = machine.host.network()?;
        for interface in &machine.interfaces {
            let Interface { name, mac, addresses, segment, port } = interface;
            self.switch.netlink(|netlink| {
                netlink.create_cable(port, name, Some(*mac), Some(&network))?;
                netlink.plug(port, &bridge(*segment, side))?;
                netlink.set_up(port)
            })?;
            machine.host.netlink(|netlink| {
                netlink.set_up(name)?;
                addresses
                    .iter()
                    .try_for_each(|&(address, prefix)| netlink.add_address(name, address, prefix))
            })?;
        }
        Ok(())
    }

    /// The switch stops forwarding from and to a machine between two frames, without a word: the machine's carrier stays
    /// on. A power cut begins like this, too.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn kill_ports(&self, machine: &Machine) -> Result<()> {
        self.set_ports(machine, false)
    }

    /// Undoes [`Lan::kill_ports`].
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn revive_ports(&self, machine: &Machine) -> Result<()> {
        self.set_ports(machine, true)
    }

    /// As [`Lan::kill_ports`], on one segment alone.
    ///
    /// # Errors
    /// There is no such segment, or the kernel refuses.
    pub fn kill_port(&self, machine: &Machine, segment: u8) -> Result<()> {
        self.set_port(machine, segment, false)
    }

    /// Undoes [`Lan::kill_port`].
    ///
    /// # Errors
    /// There is no such segment, or the kernel refuses.
    pub fn revive_port(&self, machine: &Machine, segment: u8) -> Result<()> {
        self.set_port(machine, segment, true)
    }

    /// Plugs a machine over. Frames are lost while it happens, for about a millisecond.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn move_to(&self, machine: &Machine, side: Side) -> Result<()> {
        for interface in &machine.interfaces {
            self.switch.netlink(|netlink| {
                netlink.plug(&interface.port, &bridge(interface.segment, side))
            })?;
        }
        Ok(())
    }

    /// Parts the near from the far side on all segments.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn part(&self) -> Result<()> {
        self.set_trunks(false).context("parting the LAN")
    }

    /// Joins the sides again.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn heal(&self) -> Result<()> {
        self.set_trunks(true).context("healing the LAN")
    }

    fn set_ports(&self, machine: &Machine, forwards: bool) -> Result<()> {
        for interface in &machine.interfaces {
            self.switch.netlink(|netlink| netlink.set_forwarding(&interface.port, forwards))?;
        }
        Ok(())
    }

    fn set_port(&self, machine: &Machine, segment: u8, forwards: bool) -> Result<()> {
        let mut interfaces = machine.interfaces.iter();
        let interface = interfaces.find(|interface| interface.segment == segment);
        let port = &interface.with_context(|| format!("there is no segment {segment}"))?.port;
        self.switch.netlink(|netlink| netlink.set_forwarding(port, forwards))
    }

    fn set_trunks(&self, forwards: bool) -> Result<()> {
        for segment in 0..self.segments {
            let port = trunk(segment, Side::Near);
            self.switch.netlink(|netlink| netlink.set_forwarding(&port, forwards))?;
        }
        Ok(())
    }
}

impl Machine {
    /// Its name.
    pub fn name(&self) -> &str {
        self.host.name()
    }

    /// Its place in the kernel.
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// Its ends of the cables, `eth0` first.
    pub fn interfaces(&self) -> &[Interface] {
        &self.interfaces
    }

    /// One of its interfaces is the one with this hardware address.
    pub fn has(&self, mac: Mac) -> bool {
        self.interfaces.iter().any(|interface| interface.mac == mac)
    }

    /// The addresses that its kernel answers for at this moment.
    ///
    /// # Errors
    /// The kernel refuses to tell.
    pub fn held(&self) -> Result<BTreeSet<IpAddr>> {
        self.host.netlink(|netlink| netlink.addresses())
    }

    /// Switches an interface off, as an operator's `ip link set down` does. IPv6 addresses go with it, IPv4 ones stay.
    ///
    /// # Errors
    /// There is no such interface.
    pub fn link_down(&self, interface: &str) -> Result<()> {
        self.host.netlink(|netlink| netlink.set_down(interface))
    }

    /// Switches an interface on and gives it back the machine's own IPv6 addresses, as the network configuration of a
    /// real machine does.
    ///
    /// # Errors
    /// There is no such interface.
    pub fn link_up(&self, interface: &str) -> Result<()> {
        self.host.netlink(|netlink| {
            netlink.set_up(interface)?;
            let present = netlink.addresses()?;
            let own = self.interfaces.iter().filter(|i| i.name == interface);
            for &(address, prefix) in own.flat_map(|i| &i.addresses) {
                if !present.contains(&address) {
                    netlink.add_address(interface, address, prefix)?;
                }
            }
            Ok(())
        })
    }
}

/// A machine's own IPv4 address on a segment.
pub fn own_ipv4(segment: u8, number: u8) -> IpAddr {
    Ipv4Addr::new(10, 77 + segment, 0, number).into()
}

/// A machine's own IPv6 address on a segment.
pub fn own_ipv6(segment: u8, number: u8) -> IpAddr {
    Ipv6Addr::new(0xfd00, 0x77 + u16::from(segment), 0, 0, 0, 0, 0, u16::from(number)).into()
}

fn bridge(segment: u8, side: Side) -> String {
    match side {
        Side::Near => format!("near{segment}"),
        Side::Far => format!("far{segment}"),
    }
}

fn trunk(segment: u8, side: Side) -> String {
    match side {
        Side::Near => format!("trunk{segment}"),
        Side::Far => format!("trunk{segment}far"),
    }
}
