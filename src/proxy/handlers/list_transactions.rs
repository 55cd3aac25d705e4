//! ListTransactions (66) on a diskless node.

use kafka_protocol::messages::{ListTransactionsRequest, ListTransactionsResponse};

use crate::proxy::request::{Action, Request};
use crate::proxy::response::CloseReason;

/// Returns an empty list: clients query every node and merge the results, and a diskless node
/// coordinates no transaction.
pub(super) fn serve(request: &Request) -> Result<Action, CloseReason> {
    let _checked: ListTransactionsRequest = request.decode()?;
    request.respond(&ListTransactionsResponse::default())
}
