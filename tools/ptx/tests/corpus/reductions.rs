//! Sums, histograms and stencils of NVRTC.

use ptx::Launch;

use crate::{Corpus, EPSILON, close, doubles, random, whole};

#[test]
fn reduce() {
    let count = 5000;
    let x = random(1, count, |x| x);
    let mut c = Corpus::new("reduce");
    let [input, sum, most] = [c.put(&x), c.put(&[0f32]), c.put(&[i32::MIN])];
    let args = [input.into(), sum.into(), most.into(), (count as i32).into()];
    c.launch("reduce", Launch::linear(3, 256), &args);
    let size: f64 = doubles(&x).iter().map(|v| v.abs()).sum();
    let want: f64 = doubles(&x).iter().sum();
    // 7 sums in a thread, 5 and 3 in the trees, 3 blocks
    close("sum", &c.get_f64::<f32>(sum, 1), &[want], |_| {
        18.0 * EPSILON * size
    });
    let largest = x.iter().map(|v| (v * 1000.0).floor() as i32).max();
    assert_eq!(c.get::<i32>(most, 1)[0], largest.expect("a value"));
    // __launch_bounds__(256)
    let kernel = c.module.kernel("reduce").expect("a kernel");
    let args = [input.into(), sum.into(), most.into(), 0i32.into()];
    let result = c.device.launch(
        &kernel,
        &Launch::linear(1, 288),
        &args,
        &ptx::Options::default(),
    );
    assert!(result.is_err_and(|e| e.to_string().contains("256 at most")));
}

#[test]
fn groups() {
    let keys: Vec<i32> = whole(3, 96, 7).iter().map(|v| *v as i32).collect();
    let mut c = Corpus::new("reduce");
    let (input, leader, size) = (c.put(&keys), c.room::<i32>(96), c.room::<i32>(96));
    c.launch(
        "groups",
        Launch::linear(1, 96),
        &[input.into(), leader.into(), size.into()],
    );
    let warp = |i: usize| &keys[i / 32 * 32..][..32];
    let first = |i: usize| {
        warp(i)
            .iter()
            .position(|key| *key == keys[i])
            .expect("itself") as i32
    };
    let many = |i: usize| warp(i).iter().filter(|key| **key == keys[i]).count() as i32;
    assert_eq!(
        c.get::<i32>(leader, 96),
        (0..96).map(first).collect::<Vec<_>>()
    );
    assert_eq!(
        c.get::<i32>(size, 96),
        (0..96).map(many).collect::<Vec<_>>()
    );
}

#[test]
fn histogram() {
    let x: Vec<u8> = whole(5, 4000, 256)
        .iter()
        .map(|v| (*v * *v / 256) as u8)
        .collect();
    let mut c = Corpus::new("histogram");
    let (input, counts) = (c.put(&x), c.put(&vec![0u32; 256]));
    let args = [input.into(), counts.into(), (x.len() as i32 / 4).into()];
    c.launch("histogram", Launch::linear(4, 96), &args);
    let mut want = vec![0; 256];
    x.iter().for_each(|v| want[usize::from(*v)] += 1);
    assert_eq!(c.get::<u32>(counts, 256), want);
}

#[test]
fn stencil() {
    let [width, height, depth] = [21, 10, 5];
    let x = random(1, width * height * depth, |x| x);
    let weights = random(2, 7, |x| x);
    let mut c = Corpus::new("stencil");
    let (input, out) = (c.put(&x), c.room::<f32>(x.len()));
    let bytes: Vec<u8> = weights.iter().flat_map(|w| w.to_le_bytes()).collect();
    let symbol = c.device.variable(&c.module, "weights").expect("a variable");
    c.device.write(symbol, &bytes).expect("the variable");
    let launch = Launch {
        grid: [3, 3, 3],
        block: [8, 4, 2],
        dynamic_shared: 0,
        cluster: [1; 3],
    };
    let mut args = [input, out].map(|p| p.into()).to_vec();
    args.extend([width, height, depth].map(|n| (n as i32).into()));
    c.launch("stencil", launch, &args);
    let steps = [
        [0, 0, 0],
        [-1, 0, 0],
        [1, 0, 0],
        [0, -1, 0],
        [0, 1, 0],
        [0, 0, -1],
        [0, 0, 1],
    ];
    let inside = |at: i32, size: usize| (0..size as i32).contains(&at).then_some(at as usize);
    let want: Vec<f64> = (0..x.len())
        .map(|at| {
            let place = [at % width, at / width % height, at / (width * height)].map(|c| c as i32);
            let term = |n: usize| {
                let [i, j, k] = [0, 1, 2].map(|axis| place[axis] + steps[n][axis]);
                let (i, j, k) = (inside(i, width)?, inside(j, height)?, inside(k, depth)?);
                Some(f64::from(weights[n]) * f64::from(x[(k * height + j) * width + i]))
            };
            (0..7).filter_map(term).sum()
        })
        .collect();
    // seven terms below 1
    close("stencil", &c.get_f64::<f32>(out, x.len()), &want, |_| {
        7.0 * 7.0 * EPSILON
    });
}
