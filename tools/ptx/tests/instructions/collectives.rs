//! Shuffles, votes, matches, reductions over the lanes of a warp.

use ptx::{Kind, Launch, Options};

use crate::common::{Random, kernel, kinds};
use crate::threads;

/// Runs a body with lane number in %r0 and a word in %r1; returns %r3 of each lane.
fn lanes(body: &str, values: &[u32; 32]) -> [u32; 32] {
    let body = format!("mov.u32 %r0, %laneid; cvt.u32.u64 %r1, %d0; {body} cvt.u64.u32 %d3, %r3;");
    let inputs: Vec<[u64; 3]> = values.iter().map(|v| [u64::from(*v), 0, 0]).collect();
    let results = threads(&body, &inputs);
    std::array::from_fn(|lane| results[lane] as u32)
}

fn values() -> [u32; 32] {
    let mut random = Random(11);
    std::array::from_fn(|_| random.bits() as u32)
}

#[test]
fn shuffles() {
    let x = values();
    let all = "0xffffffff";
    // by 5, in segments of 8: lanes that would read outside keep their own
    let segments = 0x1800 | 7;
    let up = lanes(
        &format!("shfl.sync.up.b32 %r3|%p0, %r1, 5, 0x1800, {all}; @!%p0 add.u32 %r3, %r3, 1;"),
        &x,
    );
    let down = lanes(
        &format!("shfl.sync.down.b32 %r3, %r1, 5, {segments}, {all};"),
        &x,
    );
    let butterfly = lanes(&format!("shfl.sync.bfly.b32 %r3, %r1, 5, 31, {all};"), &x);
    let index = lanes(
        &format!("mul.lo.u32 %r2, %r0, 3; shfl.sync.idx.b32 %r3, %r1, %r2, {segments}, {all};"),
        &x,
    );
    for lane in 0..32 {
        let (first, within) = (lane / 8 * 8, lane % 8);
        assert_eq!(
            up[lane],
            if within >= 5 {
                x[lane - 5]
            } else {
                x[lane].wrapping_add(1)
            }
        );
        assert_eq!(
            down[lane],
            if within + 5 < 8 { x[lane + 5] } else { x[lane] }
        );
        assert_eq!(butterfly[lane], x[lane ^ 5]);
        assert_eq!(index[lane], x[first + lane * 3 % 8]);
    }
}

#[test]
fn votes() {
    let x = values();
    let odd: u32 = x
        .iter()
        .enumerate()
        .fold(0, |all, (lane, v)| all | (v & 1) << lane);
    let set = "and.b32 %r2, %r1, 1; setp.eq.u32 %p0, %r2, 1;";
    assert_eq!(
        lanes(
            &format!("{set} vote.sync.ballot.b32 %r3, %p0, 0xffffffff;"),
            &x
        ),
        [odd; 32]
    );
    assert_eq!(
        lanes(
            &format!("{set} vote.sync.ballot.b32 %r3, !%p0, 0xffffffff;"),
            &x
        ),
        [!odd; 32]
    );
    // among lanes below 8 only
    let body = |mode: &str, from: &str| {
        format!(
            "mov.u32 %r3, 9; setp.lt.u32 %p1, %r0, 8; {from} @!%p1 bra DONE; vote.sync.{mode}.pred %p2, %p0, 0xff;
            selp.u32 %r3, 1, 0, %p2; DONE:"
        )
    };
    let expect = |mode: &str, from: &str, want: u32| {
        let got = lanes(&body(mode, from), &x);
        assert_eq!(got[..8], [want; 8], "{mode} {from}");
        assert_eq!(got[8..], [9; 24]);
    };
    let some = "setp.lt.u32 %p0, %r0, 5;";
    let every = "setp.lt.u32 %p0, %r0, 8;";
    let none = "setp.gt.u32 %p0, %r0, 7;";
    for (mode, wants) in [("all", [0, 1, 0]), ("any", [1, 1, 0]), ("uni", [0, 1, 1])] {
        for (from, want) in [some, every, none].into_iter().zip(wants) {
            expect(mode, from, want);
        }
    }
    assert_eq!(lanes("activemask.b32 %r3;", &x), [u32::MAX; 32]);
}

#[test]
fn matches() {
    let x = values().map(|v| v % 5);
    let same = |lane: usize| {
        (0..32).fold(0u32, |all, other| {
            all | u32::from(x[other] == x[lane]) << other
        })
    };
    let any = lanes("match.any.sync.b32 %r3, %r1, 0xffffffff;", &x);
    assert_eq!(any, std::array::from_fn(same));
    let wide = lanes(
        "mov.b64 %d4, {%r1, %r1}; match.any.sync.b64 %r3, %d4, 0xffffffff;",
        &x,
    );
    assert_eq!(wide, any);
    let all = "match.all.sync.b32 %r3|%p0, %r1, 0xffffffff; @%p0 xor.b32 %r3, %r3, 0xff;";
    assert_eq!(lanes(all, &x), [0; 32]);
    assert_eq!(lanes(all, &[3; 32]), [0xffff_ff00; 32]);
}

#[test]
fn reductions() {
    let x = values();
    let check = |op: &str, f: fn(u32, u32) -> u32| {
        let got = lanes(&format!("redux.sync.{op} %r3, %r1, 0xffffffff;"), &x);
        assert_eq!(
            got,
            [x.into_iter().reduce(f).expect("32 values"); 32],
            "{op}"
        );
    };
    check("add.u32", u32::wrapping_add);
    check("add.s32", u32::wrapping_add);
    check("min.u32", u32::min);
    check("max.u32", u32::max);
    check("min.s32", |a, b| (a as i32).min(b as i32) as u32);
    check("max.s32", |a, b| (a as i32).max(b as i32) as u32);
    check("and.b32", |a, b| a & b);
    check("or.b32", |a, b| a | b);
    check("xor.b32", |a, b| a ^ b);
}

#[test]
fn lanes_that_are_missing() {
    let found = |body: &str| {
        let kernel = kernel(&format!(
            ".reg .pred %p<4>; .reg .b32 %r<8>; mov.u32 %r0, %laneid; setp.lt.u32 %p0, %r0, 16; {body}"
        ));
        let mut device = ptx::Device::new();
        let args = [0u64.into(), 0u64.into()];
        let report = device.launch(&kernel, &Launch::linear(1, 32), &args, &Options::default());
        kinds(&report.expect("a launch"))
    };
    let parted = |collective: &str| format!("@!%p0 bra DONE; {collective} DONE:");
    for collective in [
        "vote.sync.ballot.b32 %r1, %p0, MASK;",
        "redux.sync.add.u32 %r1, %r0, MASK;",
        "match.any.sync.b32 %r1, %r0, MASK;",
        "shfl.sync.bfly.b32 %r1, %r0, 1, 31, MASK;",
        "bar.warp.sync MASK;",
    ] {
        let body = |mask: &str| parted(&collective.replace("MASK", mask));
        assert_eq!(
            found(&body("0xffffffff")),
            [Kind::MissingLanes],
            "{collective}"
        );
        assert_eq!(found(&body("0xffff")), [], "{collective}");
    }
    // a lane that reads another that is not there
    let shuffle = "shfl.sync.bfly.b32 %r1, %r0, 16, 31, 0xffff;";
    assert_eq!(found(&parted(shuffle)), [Kind::MissingLanes]);
    // lanes that have left are forgiven
    assert_eq!(
        found("@!%p0 exit; vote.sync.ballot.b32 %r1, %p0, 0xffffffff;"),
        []
    );
}
