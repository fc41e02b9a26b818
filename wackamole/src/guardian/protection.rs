//! Keeping the guardian alive when the daemon, or everything else, is not. All of it is best effort: what the system does
//! not allow is left out.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use nix::sys::signal::SigSet;
use rustix::mm::{MlockAllFlags, mlockall};

/// The cgroup beside the daemon's own.
const CGROUP: &str = "wackamole-guardian";

/// Makes the calling process, which has one thread, deaf to all signals that can be blocked, and gives it a session of its
/// own: no terminal and no process group takes it along.
pub(super) fn ignore_signals() {
    // Fails for invalid arguments only.
    let _ = SigSet::all().thread_block();
    // Fails if we lead a process group already, which is as good.
    let _ = rustix::process::setsid();
}

/// Names the process as `ps` shows it, lets the kernel not choose it when memory is short, and moves it out of the daemon's
/// cgroup, because what ends a service or is short of memory kills by cgroup.
pub(super) fn stand_apart() {
    // 15 bytes are kept (PR_SET_NAME).
    let _ = fs::write("/proc/self/comm", "wackamole-guard");
    let _ = fs::write("/proc/self/oom_score_adj", "-1000");
    if let Ok(cgroups) = fs::read_to_string("/proc/self/cgroup") {
        for root in ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"].map(Path::new) {
            if root.join("cgroup.procs").exists()
                && move_beside(root, &cgroups, std::process::id()).is_ok()
            {
                break;
            }
        }
    }
}

/// Moves a process into a cgroup (v2) beside its own. One in the root cgroup stays there: nothing kills that.
fn move_beside(root: &Path, cgroups: &str, pid: u32) -> io::Result<()> {
    let Some(beside) = beside(cgroups) else { return Ok(()) };
    let cgroup = root.join(beside);
    match fs::create_dir(&cgroup) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    fs::write(cgroup.join("cgroup.procs"), pid.to_string())
}

/// The path, below the root, of the cgroup beside that of a process whose `/proc/PID/cgroup` reads `cgroups`.
fn beside(cgroups: &str) -> Option<PathBuf> {
    let own = cgroups.lines().find_map(|line| line.strip_prefix("0::/"))?;
    let own = Path::new(own);
    // The guardian's guardian-to-be is born beside a daemon, but a daemon may have been started by hand from here.
    if own.file_name()? == CGROUP { None } else { Some(own.parent()?.join(CGROUP)) }
}

/// Keeps in memory what is there by now: the rehearsal has touched what the work will need. Not what comes later, because
/// without CAP_IPC_LOCK that could make an allocation fail.
pub(super) fn stay_in_memory() {
    let _ = mlockall(MlockAllFlags::CURRENT | MlockAllFlags::ONFAULT);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_guardian_s_cgroup_is_beside_the_daemon_s() {
        let of = |text| beside(text).map(|path| path.to_string_lossy().into_owned());
        let service = "1:cpu:/x\n0::/system.slice/wackamole.service\n";
        assert_eq!(of(service).as_deref(), Some("system.slice/wackamole-guardian"));
        assert_eq!(of("0::/one\n").as_deref(), Some("wackamole-guardian"));
        assert_eq!(of("0::/\n"), None, "nothing kills the root");
        assert_eq!(of("0::/system.slice/wackamole-guardian\n"), None);
        assert_eq!(of("1:cpu:/x\n"), None, "no cgroup v2");
    }

    #[test]
    fn a_process_is_moved_by_its_number() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("slice")).unwrap();
        let own = "0::/slice/daemon\n";
        move_beside(root.path(), own, 42).unwrap();
        move_beside(root.path(), own, 43).unwrap();

        let moved = root.path().join("slice/wackamole-guardian/cgroup.procs");
        assert_eq!(fs::read_to_string(moved).unwrap(), "43");
    }
}
