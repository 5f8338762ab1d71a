//! Handles, layouts, products and preferences: all are attributes by number, kept as the bytes that were given.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// What an object is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Handle,
    Layout,
    Product,
    Preference,
}

/// An object.
#[derive(Debug, Clone)]
pub struct Object {
    pub kind: Kind,
    attributes: BTreeMap<i32, Vec<u8>>,
}

/// All objects by what the program holds instead of them.
pub struct Objects {
    all: BTreeMap<usize, Object>,
    next: usize,
}

static OBJECTS: Mutex<Objects> = Mutex::new(Objects {
    all: BTreeMap::new(),
    next: FIRST,
});

/// What programs hold starts here, and is never used twice.
const FIRST: usize = 0x1_0000;

impl Objects {
    pub fn lock() -> MutexGuard<'static, Objects> {
        OBJECTS.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn add(&mut self, object: Object) -> usize {
        self.next += 16;
        self.all.insert(self.next, object);
        self.next
    }

    pub fn get(&mut self, handle: usize, kind: Kind) -> Option<&mut Object> {
        self.all.get_mut(&handle).filter(|o| o.kind == kind)
    }

    pub fn remove(&mut self, handle: usize, kind: Kind) -> bool {
        self.get(handle, kind).is_some() && self.all.remove(&handle).is_some()
    }
}

impl Object {
    pub fn new(kind: Kind) -> Object {
        Object {
            kind,
            attributes: BTreeMap::new(),
        }
    }

    pub fn with(mut self, attribute: i32, bytes: &[u8]) -> Object {
        self.set(attribute, bytes.to_vec());
        self
    }

    pub fn set(&mut self, attribute: i32, bytes: Vec<u8>) {
        self.attributes.insert(attribute, bytes);
    }

    pub fn get(&self, attribute: i32) -> Option<&[u8]> {
        self.attributes.get(&attribute).map(Vec::as_slice)
    }

    /// The number an attribute has; signed, as many bytes as were given.
    pub fn number(&self, attribute: i32, usual: i64) -> i64 {
        match self.get(attribute) {
            None => usual,
            Some(bytes) => {
                let negative = bytes.last().is_some_and(|b| *b >= 0x80);
                let mut all = [if negative { 0xff } else { 0 }; 8];
                for (to, from) in all.iter_mut().zip(bytes) {
                    *to = *from;
                }
                i64::from_le_bytes(all)
            }
        }
    }

    /// Numbers of the attributes that were set.
    pub fn attributes(&self) -> impl Iterator<Item = i32> {
        self.attributes.keys().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::{Kind, Object};

    #[test]
    fn an_attribute_is_a_number_of_any_width() {
        let object = Object::new(Kind::Layout)
            .with(0, &(-2i32).to_le_bytes())
            .with(1, &70_000u64.to_le_bytes());
        assert_eq!(object.number(0, 0), -2);
        assert_eq!(object.number(1, 0), 70_000);
        assert_eq!(object.number(2, 7), 7);
    }
}
