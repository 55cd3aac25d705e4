//! The order of the rows of a response.

use std::collections::HashMap;
use std::hash::Hash;

/// The places of names in a request. One that is repeated has its first place.
#[derive(Debug)]
pub(super) struct Places<K>(HashMap<K, usize>);

impl<K: Eq + Hash> Places<K> {
    /// Numbers names in their order.
    pub(super) fn of(names: impl Iterator<Item = K>) -> Self {
        let mut places = HashMap::new();
        for (place, name) in names.enumerate() {
            places.entry(name).or_insert(place);
        }
        Self(places)
    }

    /// Returns the place of a name; `None`, which comes first, if the request does not have it.
    pub(super) fn get(&self, name: &K) -> Option<usize> {
        self.0.get(name).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repeated_name_has_its_first_place() {
        let places = Places::of(["b", "a", "b"].into_iter());
        assert_eq!(["a", "b", "c"].map(|name| places.get(&name)), [Some(1), Some(0), None]);
    }
}
