//! The readiness of a replica, as `/readyz` reports it.

use parking_lot::{Mutex, MutexGuard};

/// Records whether a replica accepts clients, and the reason if it does not.
#[derive(Debug, Default)]
pub struct Readiness(Mutex<ReadinessState>);

#[derive(Debug, Default)]
struct ReadinessState {
    ready: bool,
    /// Set when the replica becomes ready for the first time.
    started: bool,
    /// Which metadata is missing, and the remedy.
    metadata_loss: Option<String>,
    /// The reason why the object store refuses objects.
    store_refusal: Option<String>,
    /// Set while no diskless topic is served, because earlier processes are not recovered.
    is_recovering: bool,
}

impl Readiness {
    /// Marks the replica as ready, or as draining.
    pub fn set_ready(&self, ready: bool) {
        let mut state = self.lock();
        state.ready = ready;
        state.started |= ready;
    }

    /// Returns `starting`, `ready`, `draining` or `metadata_lost`, and a detail for operators.
    pub fn state(&self) -> (&'static str, Option<String>) {
        let state = self.lock();
        match (&state.metadata_loss, state.ready, state.started) {
            (Some(reason), _, _) => ("metadata_lost", Some(reason.clone())),
            (None, true, _) => ("ready", None),
            (None, false, false) => ("starting", None),
            (None, false, true) => ("draining", None),
        }
    }

    /// Sets the reason of a metadata loss, or clears it with `None`.
    ///
    /// Returns whether the loss began or ended by this call.
    pub fn set_metadata_loss(&self, metadata_loss: Option<String>) -> bool {
        let mut state = self.lock();
        let is_change = state.metadata_loss.is_some() != metadata_loss.is_some();
        state.metadata_loss = metadata_loss;
        is_change
    }

    /// Returns whether the metadata is lost.
    pub fn is_metadata_lost(&self) -> bool {
        self.lock().metadata_loss.is_some()
    }

    /// Sets the reason why the object store refuses objects, or clears it with `None`.
    pub fn set_store_refusal(&self, store_refusal: Option<String>) {
        self.lock().store_refusal = store_refusal;
    }

    /// Sets whether no diskless topic is served, because earlier processes are not recovered.
    pub fn set_recovering(&self, is_recovering: bool) {
        self.lock().is_recovering = is_recovering;
    }

    /// Returns the body of `/readyz`: `Ok` if the replica is ready, else the reason.
    pub(super) fn check(&self) -> Result<String, String> {
        let state = self.lock();
        match (&state.metadata_loss, &state.store_refusal, state.ready) {
            (Some(reason), _, _) => Err(format!("{reason}\n")),
            (None, Some(reason), true) => {
                Err(format!("the object store refuses objects: {reason}\n"))
            }
            (None, None, true) if state.is_recovering => {
                Err("an earlier process is not recovered; the log has the reason\n".to_owned())
            }
            (None, None, true) => Ok("ok\n".to_owned()),
            (None, _, false) => Err("not ready\n".to_owned()),
        }
    }

    fn lock(&self) -> MutexGuard<'_, ReadinessState> {
        self.0.lock()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusal_of_the_store_is_a_reason_until_it_ends() {
        let readiness = Readiness::default();
        readiness.set_ready(true);
        assert_eq!(readiness.check(), Ok("ok\n".to_owned()));
        readiness.set_store_refusal(Some("put k: AccessDenied (HTTP 403)".to_owned()));
        let reason = readiness.check().unwrap_err();
        assert!(reason.contains("AccessDenied"), "{reason}");
        readiness.set_store_refusal(None);
        assert_eq!(readiness.check(), Ok("ok\n".to_owned()));
        readiness.set_recovering(true);
        assert!(readiness.check().unwrap_err().contains("not recovered"));
        readiness.set_recovering(false);
        assert_eq!(readiness.check(), Ok("ok\n".to_owned()));
    }
}
