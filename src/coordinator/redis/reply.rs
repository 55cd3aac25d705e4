//! Decodes the replies of scripts without panics.

use std::str::FromStr;

use redis::Value;

use crate::coordinator::CoordinatorError;

/// One value of a reply, or what is left of an array.
///
/// Every method fails with [`CoordinatorError::Corrupt`] when the value has another type.
#[derive(Debug)]
pub(super) struct ScriptReply {
    value: Value,
    /// The number of items that were taken from the array.
    taken: usize,
}

impl ScriptReply {
    pub(super) fn new(value: Value) -> Self {
        Self { value, taken: 0 }
    }

    /// Takes the next item of an array.
    pub(super) fn next(&mut self) -> Result<Self, CoordinatorError> {
        let Value::Array(items) = &mut self.value else { return Err(unexpected()) };
        let item = items.get_mut(self.taken).ok_or_else(unexpected)?;
        self.taken += 1;
        Ok(Self::new(std::mem::replace(item, Value::Nil)))
    }

    /// Returns the remaining items of an array; none if the value is not an array.
    pub(super) fn rest(self) -> impl Iterator<Item = Self> {
        let items = if let Value::Array(items) = self.value { items } else { Vec::new() };
        items.into_iter().skip(self.taken).map(Self::new)
    }

    /// Returns the remaining items of an array that must have `count` of them.
    pub(super) fn items(self, count: usize) -> Result<Vec<Self>, CoordinatorError> {
        let items: Vec<_> = self.rest().collect();
        if items.len() == count { Ok(items) } else { Err(unexpected()) }
    }

    pub(super) fn is_empty(&self) -> bool {
        match &self.value {
            Value::Array(items) => items.len() <= self.taken,
            _ => true,
        }
    }

    pub(super) fn bytes(self) -> Result<Vec<u8>, CoordinatorError> {
        match self.value {
            Value::BulkString(bytes) => Ok(bytes),
            Value::SimpleString(text) => Ok(text.into_bytes()),
            _ => Err(unexpected()),
        }
    }

    pub(super) fn text(self) -> Result<String, CoordinatorError> {
        String::from_utf8(self.bytes()?).map_err(|_| unexpected())
    }

    /// Parses a number in decimal.
    pub(super) fn number<T: FromStr>(self) -> Result<T, CoordinatorError> {
        Self::parse(&self.text()?)
    }

    pub(super) fn parse<T: FromStr>(text: &str) -> Result<T, CoordinatorError> {
        text.parse().map_err(|_| unexpected())
    }
}

/// Returns the text of a reply to INFO; empty if it has another type.
pub(super) fn info_text(reply: Value) -> String {
    match reply {
        Value::BulkString(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        Value::VerbatimString { text, .. } => text,
        _ => String::new(),
    }
}

fn unexpected() -> CoordinatorError {
    CoordinatorError::Corrupt("the reply of a script has an unexpected shape".to_owned())
}
