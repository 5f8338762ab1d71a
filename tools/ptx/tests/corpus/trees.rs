//! Divergent lanes, compiled by clang.

use ptx::Launch;

use crate::{Corpus, whole};

#[test]
fn look_ups() {
    // a balanced tree of the even numbers: node i of `nodes` has children 2 i + 1 and 2 i + 2
    let count = 127;
    let mut nodes = vec![[0i32; 4]; count];
    fn fill(nodes: &mut [[i32; 4]], at: usize, next: &mut i32) {
        let child = |c: usize, nodes: &[[i32; 4]]| if c < nodes.len() { c as i32 } else { -1 };
        let (left, right) = (2 * at + 1, 2 * at + 2);
        if left < nodes.len() {
            fill(nodes, left, next);
        }
        nodes[at] = [*next, *next * 10, child(left, nodes), child(right, nodes)];
        *next += 2;
        if right < nodes.len() {
            fill(nodes, right, next);
        }
    }
    fill(&mut nodes, 0, &mut 0);
    let keys: Vec<i32> = whole(1, 150, 260).iter().map(|v| *v as i32).collect();
    let mut c = Corpus::new("trees");
    let (tree, pk, values) = (
        c.put(&nodes.concat()),
        c.put(&keys),
        c.room::<i32>(keys.len()),
    );
    let args = [
        tree.into(),
        0i32.into(),
        pk.into(),
        values.into(),
        (keys.len() as i32).into(),
    ];
    c.launch("look_up", Launch::linear(2, 64), &args);
    // a key that is not there is missed at the bottom, after seven steps
    let want = |key: &i32| {
        if key % 2 == 0 && *key < 254 {
            key * 10
        } else {
            -8
        }
    };
    assert_eq!(
        c.get::<i32>(values, keys.len()),
        keys.iter().map(want).collect::<Vec<_>>()
    );
}

#[test]
fn bitonic_sort() {
    let x: Vec<u64> = whole(1, 3 * 128, u64::MAX);
    let mut c = Corpus::new("trees");
    let data = c.put(&x);
    c.launch("bitonic", Launch::linear(3, 64), &[data.into()]);
    let mut want = x;
    want.chunks_mut(128).for_each(|piece| piece.sort());
    assert_eq!(c.get::<u64>(data, want.len()), want);
}
