//! Fragments of 8x8 matrices of halves: lane `4 i + j` holds columns `2 j` and `2 j + 1` of row i.

use super::registers::Row;

/// What each lane holds of a matrix with these rows, or of its transpose.
#[inline(always)]
pub(super) fn of_bytes(rows: &[[u8; 16]; 8], transpose: bool) -> Row<u32> {
    if !transpose {
        // a row is what four lanes hold
        let mut words: Row<u32> = pulp::cast(*rows);
        for word in &mut words {
            *word = u32::from_le(*word);
        }
        return words;
    }
    match pulp::Arch::new() {
        #[cfg(target_arch = "x86_64")]
        pulp::Arch::V4(v4) => turned(*v4, rows),
        #[cfg(target_arch = "x86_64")]
        pulp::Arch::V3(v3) => turned(v3, rows),
        _ => fragment(&halves(rows), true),
    }
}

fn halves(rows: &[[u8; 16]; 8]) -> [[u16; 8]; 8] {
    let rows: [[[u8; 2]; 8]; 8] = pulp::cast(*rows);
    rows.map(|row| row.map(u16::from_le_bytes))
}

/// The transpose in vectors: pieces of two, four and eight rows are put together.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn turned(v3: pulp::x86::V3, rows: &[[u8; 16]; 8]) -> Row<u32> {
    let [a, b, c, d, e, f, g, h]: [std::arch::x86_64::__m128i; 8] = pulp::cast(*rows);
    let halves = |x, y| {
        (
            v3.sse2._mm_unpacklo_epi16(x, y),
            v3.sse2._mm_unpackhi_epi16(x, y),
        )
    };
    let words = |x, y| {
        (
            v3.sse2._mm_unpacklo_epi32(x, y),
            v3.sse2._mm_unpackhi_epi32(x, y),
        )
    };
    let doubles = |x, y| {
        (
            v3.sse2._mm_unpacklo_epi64(x, y),
            v3.sse2._mm_unpackhi_epi64(x, y),
        )
    };
    let ((ab, ab_high), (cd, cd_high)) = (halves(a, b), halves(c, d));
    let ((ef, ef_high), (gh, gh_high)) = (halves(e, f), halves(g, h));
    let ((a01, a23), (a45, a67)) = (words(ab, cd), words(ab_high, cd_high));
    let ((e01, e23), (e45, e67)) = (words(ef, gh), words(ef_high, gh_high));
    let columns = [
        doubles(a01, e01),
        doubles(a23, e23),
        doubles(a45, e45),
        doubles(a67, e67),
    ];
    let [(c0, c1), (c2, c3), (c4, c5), (c6, c7)] = columns;
    pulp::cast([c0, c1, c2, c3, c4, c5, c6, c7])
}

/// What each lane holds of an 8x8 matrix of halves.
pub(super) fn fragment(matrix: &[[u16; 8]; 8], transpose: bool) -> Row<u32> {
    std::array::from_fn(|lane| {
        let (i, j) = (lane / 4, lane % 4 * 2);
        let (low, high) = if transpose {
            (matrix[j][i], matrix[j + 1][i])
        } else {
            (matrix[i][j], matrix[i][j + 1])
        };
        u32::from(low) | u32::from(high) << 16
    })
}

/// The matrix that lanes hold.
pub(super) fn gather(words: &Row<u32>, transpose: bool) -> [[u16; 8]; 8] {
    let mut matrix = [[0; 8]; 8];
    for (lane, word) in words.iter().enumerate() {
        let (i, j) = (lane / 4, lane % 4 * 2);
        for e in 0..2 {
            let element = (word >> (16 * e)) as u16;
            if transpose {
                matrix[j + e][i] = element;
            } else {
                matrix[i][j + e] = element;
            }
        }
    }
    matrix
}

#[cfg(test)]
mod tests {
    use super::{fragment, halves, of_bytes};

    #[test]
    fn rows_of_bytes_give_the_fragments_of_their_halves() {
        let rows = std::array::from_fn(|i| std::array::from_fn(|j| (37 * i + 11 * j) as u8));
        for transpose in [false, true] {
            let want = fragment(&halves(&rows), transpose);
            assert_eq!(of_bytes(&rows, transpose), want);
        }
    }
}
