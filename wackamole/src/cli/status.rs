//! `wackamole status`: asks the daemon and shows the answer.

use std::io::{self, IsTerminal as _};
use std::path::Path;
use std::thread;
use std::time::Duration;

use anyhow::Context as _;
use wackamole_protocol::status::Status;

use super::arguments::StatusArguments;
use super::{Failure, colour_wanted, print, render};
use crate::config::Config;
use crate::control::{Client, ClientError};

/// Pause between two looks.
const WATCH_INTERVAL: Duration = Duration::from_secs(1);
/// Moves the cursor home and clears the screen (ECMA-48 CUP and ED).
const CLEAR: &str = "\x1b[H\x1b[2J";

pub(super) fn run(arguments: &StatusArguments) -> Result<(), Failure> {
    let socket = match &arguments.config {
        Some(file) => Config::load(file)?.control_socket().to_owned(),
        None => arguments.socket.clone(),
    };
    let terminal = io::stdout().is_terminal();
    let colour = terminal && colour_wanted();
    if arguments.watch {
        return watch(&socket, arguments.json, terminal, colour);
    }
    let status = ask(&socket).map_err(anyhow::Error::from)?;
    if !arguments.json {
        return print(&render::status(&status, colour));
    }
    let json = serde_json::to_string_pretty(&status).context("cannot show the status as JSON")?;
    print(&format!("{json}\n"))
}

fn watch(socket: &Path, json: bool, terminal: bool, colour: bool) -> Result<(), Failure> {
    loop {
        // Connected anew each time, so that it goes on when the daemon has been restarted.
        let shown = match (ask(socket), json) {
            (Ok(status), true) => {
                let json =
                    serde_json::to_string(&status).context("cannot show the status as JSON")?;
                format!("{json}\n")
            }
            (Ok(status), false) => render::status(&status, colour),
            (Err(error), true) => return Err(anyhow::Error::from(error).into()),
            (Err(error), false) => format!("{:#}\n", anyhow::Error::from(error)),
        };
        let before = if json {
            ""
        } else if terminal {
            CLEAR
        } else {
            "\n"
        };
        print(&format!("{before}{shown}"))?;
        thread::sleep(WATCH_INTERVAL);
    }
}

fn ask(socket: &Path) -> Result<Status, ClientError> {
    Client::connect(socket)?.status()
}
