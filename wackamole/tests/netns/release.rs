//! `wackamole release` on a real kernel.

use std::process::{Command, Output};

use nix::sys::signal::Signal;

use crate::daemon::{Place, alone, held, held_by, vips};
use crate::guardian::kill_with_guardian;

pub(crate) fn removes_what_is_left_when_both_were_killed() {
    alone(|kernel, place| {
        assert_eq!(said(release(place, &[])), "nothing of ours is on this machine\n");
        assert!(!place.path("a/state").exists(), "it makes none");

        let mut killed = place.start("a");
        killed.status_when(|status| held_by(status, "a") == 4);
        kill_with_guardian(&mut killed);
        kernel.add_address("eth0", "10.0.9.7/32");
        kernel.add_address("eth0", "10.0.0.9/32");
        assert_eq!(vips(kernel).len(), held().len() + 1, "nobody has removed them");

        let removed = said(release(place, &[]));

        assert!(removed.starts_with("removed 5 addresses:\n  10.0.0.1/32 on eth0\n"), "{removed}");
        assert_eq!(vips(kernel).len(), 1, "only what is not ours");
        assert_eq!(said(release(place, &["--node", "a"])), "nothing of ours is on this machine\n");
        let json = said(release(place, &["--json"]));
        let json: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(json, serde_json::json!({ "removed": [], "waited": false }));
    });
}

pub(crate) fn is_refused_while_a_daemon_runs() {
    alone(|kernel, place| {
        let mut daemon = place.start("a");
        daemon.status_when(|status| held_by(status, "a") == 4);

        let refused = release(place, &[]);

        assert_eq!(refused.status.code(), Some(1));
        let why = String::from_utf8(refused.stderr).unwrap();
        assert!(why.contains("a wackamole daemon runs (state/lock is locked)"), "{why}");
        assert_eq!(vips(kernel), held());
        let unknown = release(place, &["--node", "c"]);
        assert_eq!(unknown.status.code(), Some(2));
        let why = String::from_utf8(unknown.stderr).unwrap();
        assert!(why.contains("there is no node \"c\" in w.toml"), "{why}");

        let forced = said(release(place, &["--force"]));

        assert!(forced.starts_with("removed 5 addresses:\n"), "{forced}");
        daemon.log_when("10.0.0.1");
        daemon.status_when(|status| held_by(status, "a") == 4 && vips(kernel) == held());
        daemon.signal(Signal::SIGTERM);
        assert!(daemon.end().success(), "{}", daemon.log());
        assert_eq!(vips(kernel), []);
    });
}

fn release(place: &Place, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_wackamole"))
        .args(["release", "--config", "w.toml"])
        .args(arguments)
        .current_dir(place.path("a"))
        .output()
        .unwrap()
}

fn said(output: Output) -> String {
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    String::from_utf8(output.stdout).unwrap()
}
