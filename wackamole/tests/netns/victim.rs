//! A process that has a guardian behind it, as the daemon has, and misbehaves as it is told. This test program is it, when it is
//! started with [`ROLE`] in its environment: a guardian kills its parent, which must not be the test.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::Arc;
use std::time::Duration;

use wackamole::env::{Action, AddressEvent, Addresses as _, Lease, Work};
use wackamole::guardian::{Farewell, Guarded, Orders, Patience, Program};
use wackamole::io::addresses::{AddressesConfig, NetlinkAddresses};
use wackamole::io::clock;
use wackamole_protocol::vip::{Vip, VipAddress};

const ROLE: &str = "NETNS_VICTIM";
/// The state directory is named by this.
const DIRECTORY: &str = "NETNS_VICTIM_DIRECTORY";

pub(crate) const ADDRESS: &str = "10.0.0.1";
pub(crate) const LEASE: Duration = Duration::from_millis(100);
pub(crate) const PATIENCE: Patience =
    Patience { silence: Duration::from_millis(20), release: Duration::from_millis(300) };

/// What it does once it holds its address.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Role {
    /// Renews its lease for ever.
    Renews,
    /// Shows life past its lease, and does nothing else.
    DoesNotRelease,
    /// Shows life past its lease for two thirds of the patience, and then has released.
    ReleasesLate,
}

const ROLES: [(&str, Role); 3] = [
    ("renews", Role::Renews),
    ("does not release", Role::DoesNotRelease),
    ("releases late", Role::ReleasesLate),
];

pub(crate) fn is_wanted() -> bool {
    std::env::var_os(ROLE).is_some()
}

/// Starts one in the network namespace of the calling thread.
pub(crate) fn start(role: Role, directory: &Path) -> Child {
    let name = ROLES.iter().find(|(_, other)| *other as u8 == role as u8).unwrap().0;
    Command::new("/proc/self/exe")
        .env(ROLE, name)
        .env(DIRECTORY, directory)
        .stderr(std::fs::File::create(directory.join("log")).unwrap())
        .stdout(Stdio::null())
        .spawn()
        .unwrap()
}

pub(crate) fn run() -> ExitCode {
    let name = std::env::var(ROLE).unwrap();
    let role = ROLES.iter().find(|(other, _)| *other == name).unwrap().1;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(play(role));
    ExitCode::SUCCESS
}

async fn play(role: Role) {
    let address: IpAddr = ADDRESS.parse().unwrap();
    let own = BTreeSet::from([address]);
    let orders = Orders {
        daemon: std::process::id(),
        node: "victim".into(),
        state_dir: std::env::var_os(DIRECTORY).unwrap().into(),
        gate: None,
        may_clean_up: own.clone(),
        patience: PATIENCE,
        pulse: Duration::from_millis(50),
        farewell: Farewell::default(),
    };
    let program = Program { path: env!("CARGO_BIN_EXE_wackamole").into(), ..Program::this([]) };
    let guarded = Guarded::start(program, &orders).unwrap();
    let netlink = NetlinkAddresses::start(AddressesConfig::new(own)).unwrap();
    guarded.renew(Lease::Until(clock::boot_time() + LEASE));
    let place = VipAddress { interface: "eth0".into(), address, prefix: 32 };
    let vip = Arc::new(Vip::new(ADDRESS, vec![place]));
    netlink.submit(Work { ticket: 1, action: Action::Acquire(vip) });
    while !matches!(netlink.next().await, AddressEvent::Done { ticket: 1, result: Ok(()) }) {}
    let end = clock::boot_time() + LEASE;
    guarded.renew(Lease::Until(end));
    loop {
        std::thread::sleep(PATIENCE.silence / 8);
        let now = clock::boot_time();
        match role {
            Role::Renews => guarded.renew(Lease::Until(now + LEASE)),
            Role::ReleasesLate if now >= end + PATIENCE.release * 2 / 3 => {
                guarded.renew(Lease::None);
            }
            Role::ReleasesLate | Role::DoesNotRelease if now >= end => guarded.show_life(now),
            Role::ReleasesLate | Role::DoesNotRelease => {}
        }
    }
}
