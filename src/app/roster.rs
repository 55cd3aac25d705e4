//! Who is there, as far as this replica is entitled to say.

use tokio::time::Instant;

use super::zone::LEASE;
use crate::coordinator::{Member, Membership};

/// The members as they are handed on. While the coordinator was away everybody's lease ended, and
/// whoever renews first hears of nobody else: so a replica that could not renew drops nobody until
/// the others had a lease's time to renew as well.
#[derive(Debug, Default)]
pub(super) struct Roster {
    known: Vec<Member>,
    in_doubt: bool,
    keep_until: Option<Instant>,
}

impl Roster {
    /// The coordinator could not be asked.
    pub(super) fn failed(&mut self) {
        self.in_doubt = true;
    }

    /// What is handed on of what the coordinator told.
    pub(super) fn heard(&mut self, told: &Membership) -> Membership {
        let now = Instant::now();
        if std::mem::take(&mut self.in_doubt) {
            self.keep_until = Some(now + LEASE);
        }
        let mut membership = told.clone();
        match self.keep_until {
            Some(until) if now < until => {
                let is_told = |known: &&Member| {
                    told.members.iter().any(|member| member.replica == known.replica)
                };
                let kept = self.known.iter().filter(|known| !is_told(known));
                membership.members.extend(kept.cloned());
                membership.members.sort_unstable_by(|a, b| a.replica.cmp(&b.replica));
            }
            _ => self.keep_until = None,
        }
        self.known.clone_from(&membership.members);
        membership
    }
}
