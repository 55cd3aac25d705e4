//! The configuration file: read once, checked as a whole, and immutable from then on.
//!
//! [`model`] declares every key once; `docs/configuration.md` and the JSON schemas are generated
//! from it. [`Settings::load`] reports all problems of a file at once, each with its key, its value
//! and the valid values.

mod check;
mod coordinator;
mod derived;
mod formats;
mod interpolate;
mod keys;
mod load;
mod model;
mod problems;
mod reference;
mod schema;
mod secret;
mod text;
mod tree;
mod units;
mod validate;
mod written;

pub use coordinator::CoordinatorSettings;
pub use load::Environment;
pub use model::*;
pub use problems::{Problem, Problems};
pub use reference::reference;
pub use schema::{helm_schema, schema};
pub use secret::{RedisUrl, SecretFile};
pub use units::{ByteSize, HostPort, Interval};
pub use written::Written;

#[cfg(test)]
mod tests;
