//! The sections with one value for each key: `[cluster]`, `[timing]`, `[balance]`, `[network]`, `[daemon]`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use wackamole_protocol::config::{Balance, Timing};

use super::defaults;
use super::document::{Located, Section, Value};
use super::report::{Problem, Span};
use super::units;

/// Bytes of a cluster's, a node's or a VIP's name.
const NAME_BYTES_MAX: usize = 64;

pub(super) struct Cluster {
    pub(super) name: Option<String>,
    pub(super) key_file: PathBuf,
    pub(super) key_file_span: Option<Span>,
}

pub(super) fn cluster(root: &Section<'_>, problems: &mut Vec<Problem>) -> Cluster {
    let section = root.table("cluster", problems);
    section.only(&["name", "key_file"], problems);
    let named = section.required("name", "name = \"web\"", problems, |v| name(v, "name = \"web\""));
    let key_file = section.optional("key_file", problems, path);
    Cluster {
        name: named.map(|name| name.value.to_owned()),
        key_file_span: key_file.as_ref().map(|file| file.span.clone()).or(section.span()),
        key_file: key_file.map_or(defaults::KEY_FILE.into(), |file| file.value),
    }
}

pub(super) fn timing(root: &Section<'_>, problems: &mut Vec<Problem>) -> Timing {
    let section = root.table("timing", problems);
    section.only(&["heartbeat", "failure_timeout", "mature"], problems);
    let ms = Duration::from_millis;
    let heartbeat = section
        .optional("heartbeat", problems, |v| duration(v, ms(1), Duration::from_secs(10)))
        .map_or(defaults::TIMING.heartbeat, |heartbeat| heartbeat.value);
    let failure_timeout = section
        .optional("failure_timeout", problems, |v| duration(v, ms(3), Duration::from_secs(600)));
    let mature =
        section.optional("mature", problems, |v| duration(v, ms(0), Duration::from_secs(3600)));
    let timing = Timing {
        heartbeat,
        failure_timeout: failure_timeout
            .as_ref()
            .map_or(defaults::TIMING.failure_timeout, |timeout| timeout.value),
        mature: mature.map_or(defaults::TIMING.mature, |mature| mature.value),
    };
    if timing.failure_timeout < 3 * timing.heartbeat {
        let set = failure_timeout.map(|timeout| timeout.span);
        let message = format!(
            "`failure_timeout` is {}{}, less than three heartbeats of {}",
            units::show(timing.failure_timeout),
            if set.is_some() { "" } else { " (the default)" },
            units::show(timing.heartbeat)
        );
        let problem = match set.or(section.key_span("heartbeat")) {
            Some(span) => Problem::at(span, message),
            None => section.problem(message),
        };
        problems.push(problem.help(format!(
            "write failure_timeout = \"{}\" or more: with less, one lost datagram is a failover",
            units::show(3 * timing.heartbeat)
        )));
    }
    timing
}

pub(super) fn balance(root: &Section<'_>, problems: &mut Vec<Problem>) -> Balance {
    let section = root.table("balance", problems);
    section.only(&["moves_per_round", "interval"], problems);
    let moves = section.optional("moves_per_round", problems, |value| {
        const LIKE: &str = "moves_per_round = 2, or \"all\": as many as it takes";
        if !value.is_text() {
            return value.integer(1, 65_536, LIKE).map(|number| usize::try_from(number).ok());
        }
        match value.text(LIKE)? {
            "all" => Ok(None),
            other => Err(Problem::at(value.span(), format!("`moves_per_round` is \"{other}\""))
                .help(format!("write it like {LIKE}"))),
        }
    });
    let interval = section.optional("interval", problems, |v| {
        duration(v, Duration::from_millis(10), Duration::from_secs(3600))
    });
    Balance {
        moves_per_round: moves.map_or(defaults::BALANCE.moves_per_round, |moves| moves.value),
        interval: interval.map_or(defaults::BALANCE.interval, |interval| interval.value),
    }
}

pub(super) struct Network {
    pub(super) port: u16,
    pub(super) multicast: Option<Located<SocketAddr>>,
}

pub(super) fn network(root: &Section<'_>, problems: &mut Vec<Problem>) -> Network {
    let section = root.table("network", problems);
    section.only(&["port", "multicast"], problems);
    let port = section.optional("port", problems, |v| v.integer(1, 65_535, "port = 4815"));
    let multicast = section.optional("multicast", problems, |value| {
        const LIKE: &str = "multicast = \"239.255.77.1:4816\"";
        let text = value.text(LIKE)?;
        let group = text.parse::<SocketAddr>().map_err(|_| {
            Problem::at(value.span(), format!("\"{text}\" is not an address and a port"))
                .help(format!("write it like {LIKE} or \"[ff15::77]:4816\""))
        })?;
        if !group.ip().is_multicast() || group.port() == 0 {
            return Err(Problem::at(value.span(), format!("{group} is not a multicast group"))
                .help("IPv4 groups are 224.0.0.0/4, for private use 239.0.0.0/8; IPv6 ff00::/8"));
        }
        Ok(group)
    });
    Network {
        port: port.and_then(|p| u16::try_from(p.value).ok()).unwrap_or(defaults::PORT),
        multicast,
    }
}

pub(super) struct Daemon {
    pub(super) state_dir: PathBuf,
    pub(super) control_socket: PathBuf,
}

pub(super) fn daemon(root: &Section<'_>, problems: &mut Vec<Problem>) -> Daemon {
    let section = root.table("daemon", problems);
    section.only(&["state_dir", "control_socket"], problems);
    let state_dir = section.optional("state_dir", problems, path);
    let control_socket = section.optional("control_socket", problems, |value| {
        // unix(7): sun_path has room for 107 bytes and a terminating zero.
        const BYTES_MAX: usize = 107;
        let socket = path(value)?;
        let bytes = socket.as_os_str().len();
        if bytes > BYTES_MAX {
            return Err(Problem::at(value.span(), format!("the path has {bytes} bytes"))
                .help(format!("the path of a unix socket has at most {BYTES_MAX}")));
        }
        Ok(socket)
    });
    Daemon {
        state_dir: state_dir.map_or(defaults::STATE_DIR.into(), |dir| dir.value),
        control_socket: control_socket.map_or(defaults::CONTROL_SOCKET.into(), |path| path.value),
    }
}

/// A name that can stand in a log line, in a table, and behind a command-line option.
pub(super) fn name<'d>(value: Value<'d>, like: &str) -> Result<&'d str, Problem> {
    let name = value.text(like)?;
    let problem = |message: String| {
        Problem::at(value.span(), message).help(
            "a name has 1 to 64 bytes: letters, digits and any of - _ . : / +, a letter or digit first",
        )
    };
    if name.is_empty() {
        return Err(problem("an empty name".into()));
    }
    if name.len() > NAME_BYTES_MAX {
        return Err(problem(format!("a name of {} bytes", name.len())));
    }
    if let Some(odd) = name.chars().find(|c| !c.is_alphanumeric() && !"-_.:/+".contains(*c)) {
        return Err(problem(format!("the name \"{name}\" contains {odd:?}")));
    }
    if !name.starts_with(char::is_alphanumeric) {
        return Err(problem(format!("the name \"{name}\" starts with a sign")));
    }
    Ok(name)
}

fn path(value: Value<'_>) -> Result<PathBuf, Problem> {
    let text = value.text(&format!("{} = \"/path/to/it\"", value.key))?;
    if text.is_empty() {
        return Err(Problem::at(value.span(), format!("`{}` is empty", value.key))
            .help("write a path; a relative one starts from the directory of this file"));
    }
    Ok(text.into())
}

pub(super) fn duration(
    value: Value<'_>,
    min: Duration,
    max: Duration,
) -> Result<Duration, Problem> {
    let key = value.key;
    let text = value.text(&format!("{key} = \"100ms\""))?;
    let Some(duration) = units::duration(text) else {
        return Err(Problem::at(value.span(), format!("`{key}` is \"{text}\", not a duration"))
            .help(units::ACCEPTED));
    };
    if duration < min || duration > max {
        return Err(Problem::at(value.span(), format!("`{key}` is {}", units::show(duration)))
            .help(format!("from {} to {} is accepted", units::show(min), units::show(max))));
    }
    Ok(duration)
}
