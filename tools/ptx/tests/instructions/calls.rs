//! Calls: parameters in memory and in registers, through addresses, among parted lanes; branches by index.

use ptx::{Device, Kind, Launch, Module, Options};

use crate::common::{download, kinds, module, run, upload};

/// Runs the kernel `k` of a module on 32 threads whose words are `x`.
fn run_words(module: &Module, x: &[u32; 32]) -> Vec<u32> {
    let kernel = module.kernel("k").unwrap_or_else(|e| panic!("{e}"));
    let mut device = Device::new();
    let input = upload(&mut device, x, u32::to_le_bytes);
    let output = device.allocate(128);
    run(
        &mut device,
        &kernel,
        &Launch::linear(1, 32),
        &[input.into(), output.into()],
    );
    download(&device, output, 32, u32::from_le_bytes)
}

/// A kernel that reads a word to %r1, does `body`, and writes %r2.
fn entry(body: &str) -> String {
    format!(
        ".visible .entry k(.param .u64 in, .param .u64 out) {{
        .reg .pred %p<4>; .reg .b32 %r<8>; .reg .b64 %d<8>; ld.param.u64 %d0, [in]; ld.param.u64 %d1, [out]; mov.u32 %r0, %tid.x;
        mad.wide.u32 %d2, %r0, 4, %d0; mad.wide.u32 %d3, %r0, 4, %d1; ld.global.u32 %r1, [%d2];
        {body} st.global.u32 [%d3], %r2; ret; }}"
    )
}

fn words() -> [u32; 32] {
    std::array::from_fn(|i| (i * i) as u32)
}

const TRIPLE: &str =
    ".func (.param .b32 result) triple(.param .b32 x) { .reg .b32 %a<3>; ld.param.u32 %a0, [x];
    mul.lo.u32 %a1, %a0, 3; st.param.u32 [result], %a1; ret; }\n";

#[test]
fn a_call_in_one_branch() {
    let call = "{ .param .b32 p; .param .b32 r; st.param.u32 [p], %r1; call.uni (r), triple, (p); ld.param.u32 %r2, [r]; }";
    let body = format!(
        "mov.u32 %r2, 0; and.b32 %r3, %r0, 1; setp.eq.u32 %p0, %r3, 0; @%p0 bra SKIP; {call} SKIP:"
    );
    let got = run_words(&module(&format!("{TRIPLE}{}", entry(&body))), &words());
    for (i, got) in got.into_iter().enumerate() {
        assert_eq!(got, if i % 2 == 1 { 3 * words()[i] } else { 0 });
    }
}

#[test]
fn lanes_return_at_different_places() {
    let function = ".func (.param .b32 result) clip(.param .b32 x) { .reg .pred %q; .reg .b32 %a<3>; ld.param.u32 %a0, [x];
        setp.gt.u32 %q, %a0, 100; st.param.u32 [result], 100; @%q ret; st.param.u32 [result], %a0; ret; }\n";
    let body = "{ .param .b32 p; .param .b32 r; st.param.u32 [p], %r1; call.uni (r), clip, (p); ld.param.u32 %r2, [r]; }";
    let got = run_words(&module(&format!("{function}{}", entry(body))), &words());
    assert_eq!(got, words().map(|x| x.min(100)));
}

#[test]
fn parameters_in_registers() {
    let function =
        ".func (.reg .b32 sum, .reg .pred large) add(.reg .b32 a, .reg .b32 b) { add.u32 sum, a, b;
        setp.gt.u32 large, sum, 500; ret; }\n";
    let body = "call (%r2, %p1), add, (%r1, 7); @%p1 add.u32 %r2, %r2, 10000;";
    let got = run_words(&module(&format!("{function}{}", entry(body))), &words());
    assert_eq!(
        got,
        words().map(|x| if x + 7 > 500 { x + 10007 } else { x + 7 })
    );
}

#[test]
fn calls_through_addresses() {
    let functions = format!(
        "{TRIPLE}.func (.param .b32 result) half(.param .b32 x) {{ .reg .b32 %a<3>; ld.param.u32 %a0, [x]; shr.u32 %a1, %a0, 1;
        st.param.u32 [result], %a1; ret; }}
        .func (.param .b64 result) other(.param .b32 x) {{ ret; }}
        .global .align 8 .u64 table[3] = {{triple, half, other}};\n"
    );
    let body = |index: &str| {
        format!(
            "{index} mov.u64 %d4, table; mad.wide.u32 %d5, %r3, 8, %d4; ld.global.u64 %d6, [%d5];
            {{ .param .b32 p; .param .b32 r; st.param.u32 [p], %r1; call (r), %d6, (p), proto; ld.param.u32 %r2, [r]; }}
            proto: .callprototype (.param .b32 _) _ (.param .b32 _);"
        )
    };
    let text = |index| format!("{functions}{}", entry(&body(index)));
    let got = run_words(&module(&text("and.b32 %r3, %r0, 1;")), &words());
    for (i, got) in got.into_iter().enumerate() {
        let x = words()[i];
        assert_eq!(got, if i % 2 == 0 { 3 * x } else { x / 2 });
    }
    // a function with other parameters must not be called so
    let kernel = module(&text("mov.u32 %r3, 2;"))
        .kernel("k")
        .expect("a kernel");
    let mut device = Device::new();
    let args = [0; 2].map(|_: u32| {
        let address = device.allocate(128);
        device.fill(address, 0, 128).expect("an allocation");
        address.into()
    });
    let report = device.launch(&kernel, &Launch::linear(1, 32), &args, &Options::default());
    assert_eq!(kinds(&report.expect("a launch")), [Kind::OutOfBounds]);
}

#[test]
fn branches_by_index() {
    let body = "and.b32 %r3, %r0, 3; targets: .branchtargets A, B, C, B; brx.idx %r3, targets;
        A: add.u32 %r2, %r1, 1; bra DONE; B: mul.lo.u32 %r2, %r1, 2; bra DONE; C: mov.u32 %r2, 77; DONE:";
    let got = run_words(&module(&entry(body)), &words());
    for (i, got) in got.into_iter().enumerate() {
        let x = words()[i];
        assert_eq!(got, [x + 1, 2 * x, 77, 2 * x][i % 4]);
    }
}

#[test]
fn what_cannot_be_called_is_said_when_it_is_decoded() {
    let error = |functions: &str, body: &str| {
        let module = module(&format!("{functions}{}", entry(body)));
        module.kernel("k").expect_err("an error").to_string()
    };
    let recursive = ".func f() { call f; ret; }\n";
    assert!(error(recursive, "call f;").contains("may call itself"));
    assert!(error(".extern .func f();\n", "call f;").contains("no body"));
    let call = "{ .param .b64 p; .param .b32 r; call (r), triple, (p); }";
    assert!(error(TRIPLE, call).contains("do not fit triple"));
    assert!(error(TRIPLE, "call nobody;").contains("nobody"));
}

#[test]
fn an_assertion_says_what_failed() {
    let text = format!(
        ".global .b8 what[6] = {{120, 32, 62, 32, 48, 0}}; .global .b8 place[5] = {{97, 46, 99, 117, 0}};
        .extern .func __assertfail(.param .b64 a, .param .b64 b, .param .b32 c, .param .b64 d, .param .b64 e);\n{}",
        entry(
            "setp.ne.u32 %p0, %r0, 5; @%p0 bra FINE; {{ .param .b64 a; .param .b64 b; .param .b32 c; .param .b64 d; .param .b64 e;
            mov.u64 %d4, what; st.param.b64 [a], %d4; mov.u64 %d4, place; st.param.b64 [b], %d4; st.param.b32 [c], 12; st.param.b64 [d], 0;
            st.param.b64 [e], 1; call.uni __assertfail, (a, b, c, d, e); }} FINE: mov.u32 %r2, 0;"
        )
        .replace("{{", "{")
        .replace("}}", "}")
    );
    let kernel = module(&text).kernel("k").unwrap_or_else(|e| panic!("{e}"));
    let mut device = Device::new();
    let input = upload(&mut device, &words(), u32::to_le_bytes);
    let output = device.allocate(128);
    let args = [input.into(), output.into()];
    let report = device.launch(&kernel, &Launch::linear(1, 32), &args, &Options::default());
    let report = report.expect("a launch");
    assert_eq!(kinds(&report), [Kind::Trap]);
    assert_eq!(
        report.findings[0].message,
        "the assertion `x > 0` fails, a.cu:12"
    );
    assert_eq!(report.findings[0].lane, Some(5));
}
