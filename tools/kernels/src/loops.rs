//! How much of a kernel's busiest loop is matrix instructions, from its PTX.

/// Matrix instructions and all instructions of the loop that is most made of them, or of the whole kernel if no loop has any; None
/// for a kernel without.
pub fn matrix_share(ptx: &str, entry: &str) -> Option<(usize, usize)> {
    let lines = body(ptx, entry)?;
    let label = |line: &str| line.strip_suffix(':').map(str::to_string);
    let mut best: Option<(usize, usize)> = None;
    let mut consider = |lines: &[&str]| {
        let all = lines.iter().filter(|line| is_instruction(line)).count();
        let matrix = lines.iter().filter(|line| is_matrix(line)).count();
        let better = |(m, a): (usize, usize)| matrix * a > m * all;
        if matrix > 0 && best.is_none_or(better) {
            best = Some((matrix, all));
        }
    };
    for (end, line) in lines.iter().enumerate() {
        let Some(target) = branch(line) else { continue };
        // a jump back closes a loop
        let start = lines[..end]
            .iter()
            .position(|line| label(line).is_some_and(|l| l == target));
        if let Some(start) = start {
            consider(&lines[start..=end]);
        }
    }
    if best.is_none() {
        let all = lines.iter().filter(|line| is_instruction(line)).count();
        let matrix = lines.iter().filter(|line| is_matrix(line)).count();
        best = (matrix > 0).then_some((matrix, all));
    }
    best
}

/// The lines between a kernel's braces, without blanks around them.
fn body<'p>(ptx: &'p str, entry: &str) -> Option<Vec<&'p str>> {
    let start = ptx.find(&format!(".entry {entry}("))?;
    let rest = &ptx[start..];
    let rest = &rest[rest.find("\n{")? + 2..];
    let body = &rest[..rest.find("\n}")?];
    Some(body.lines().map(str::trim).collect())
}

fn is_instruction(line: &str) -> bool {
    line.ends_with(';') && !line.starts_with('.')
}

fn is_matrix(line: &str) -> bool {
    line.contains("mma.sync") || line.contains("wgmma.mma_async")
}

/// Where a line jumps.
fn branch(line: &str) -> Option<&str> {
    let (_, target) = line.strip_suffix(';')?.split_once("bra")?;
    target.split_whitespace().last()
}

#[cfg(test)]
mod tests {
    use super::matrix_share;

    #[test]
    fn the_loop_and_not_what_surrounds_it() {
        let ptx = ".visible .entry k(\n.param .u64 a\n)\n{\n.reg .b32 %r<3>;\nadd.s32 %r1, %r1, 1;\n$L1:\nmma.sync.x {%r1};\nadd.s32 %r1, %r1, 1;\n\
                   @%p1 bra $L1;\nret;\n\n}\n.visible .entry none(\n)\n{\nret;\n}\n";
        assert_eq!(matrix_share(ptx, "k"), Some((1, 3)));
        assert_eq!(matrix_share(ptx, "none"), None);
        assert_eq!(matrix_share(ptx, "absent"), None);
    }
}
