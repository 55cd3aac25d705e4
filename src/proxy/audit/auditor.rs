//! Records what the client of one connection does.

use std::net::IpAddr;
use std::sync::Arc;

use super::{AuditEvent, AuditLog, AuditSubject};
use crate::proxy::broker::login_session::LoginSession;

/// Records events of one client.
#[derive(Clone, Debug)]
pub(crate) struct Auditor {
    log: Arc<AuditLog>,
    login: Arc<LoginSession>,
    address: IpAddr,
    /// The API of the request that is being handled.
    api: &'static str,
    client_id: Option<Arc<str>>,
}

impl Auditor {
    pub(crate) fn new(log: Arc<AuditLog>, login: Arc<LoginSession>, address: IpAddr) -> Self {
        Self { log, login, address, api: "", client_id: None }
    }

    /// Notes the request that is handled from here on.
    pub(crate) fn begin_request(&mut self, api: &'static str, client_id: Option<&str>) {
        self.api = api;
        if self.client_id.as_deref() != client_id {
            self.client_id = client_id.map(Arc::from);
        }
    }

    /// Returns the API of the request.
    pub(crate) fn api(&self) -> &'static str {
        self.api
    }

    /// Records an event of this client.
    pub(crate) fn record(&self, event: &AuditEvent<'_>) {
        let subject = AuditSubject {
            principal: self.login.principal(),
            client_id: self.client_id.clone(),
            ..AuditSubject::of_address(self.address)
        };
        self.log.record(&subject, event);
    }
}
