//! Every kernel compiles for sm_80 and sm_90a within its budget: registers, no spills, no stack.

use kernels_cu::list;
use tests::interpreted::compiler;

#[test]
fn kernels_stay_within_their_budgets() {
    let Some(compiler) = compiler() else { return };
    let mut wrong = vec![];
    for entry in list::all() {
        for capability in ["80", "90a"] {
            let all = compiler.resources(&entry.program, capability);
            let all = all.unwrap_or_else(|error| panic!("{error}"));
            let found = all.iter().find(|r| r.entry == entry.entry);
            let name = format!("{} {} {}", entry.program.name, entry.entry, entry.variant);
            let found = found.unwrap_or_else(|| panic!("no {name} in what ptxas says: {all:?}"));
            let fits =
                found.registers <= entry.registers && found.registers * entry.threads <= 65536;
            if !fits || found.stack > 0 || found.spills != [0, 0] {
                wrong.push(format!(
                    "{name} on sm_{capability}: {found:?}, at most {} registers",
                    entry.registers
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
