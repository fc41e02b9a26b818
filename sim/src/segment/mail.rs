//! Datagrams that no daemon's socket sent: those of a guardian, and what a test makes up.

use std::rc::Rc;

use wackamole_protocol::time::Duration;

use super::{Daemon, Segment};
use crate::bell::Bell;

/// A datagram that no daemon of ours sent.
#[derive(Debug)]
pub struct Mail {
    /// In whose name.
    pub from: usize,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

impl Segment {
    /// A datagram is sent that does not come through a daemon's socket.
    pub fn post(&mut self, now: Duration, to: usize, mail: Mail) {
        let arrives = now + self.hop;
        let behind = self.posted.partition_point(|(earlier, ..)| *earlier <= arrives);
        self.posted.insert(behind, (arrives, to, mail));
    }

    pub(super) fn deliver_mail(&mut self, now: Duration) {
        while self.posted.front().is_some_and(|(arrives, ..)| *arrives <= now) {
            let Some((_, to, mail)) = self.posted.pop_front() else { return };
            let listens = matches!(
                self.daemons[to],
                Daemon::Running(_) | Daemon::Paused(_) | Daemon::Frozen(_)
            );
            if listens && self.links.reaches(mail.from, to) {
                let machine = &mut self.machines[to];
                machine.mail.push_back(mail);
                machine.mail_bell.ring();
            }
        }
    }

    /// Takes such a datagram.
    pub fn next_mail(&mut self, node: usize) -> Option<Mail> {
        self.machines[node].mail.pop_front()
    }

    /// Rings when there is one.
    pub fn mail_bell(&self, node: usize) -> Rc<Bell> {
        Rc::clone(&self.machines[node].mail_bell)
    }
}
