//! "Did you mean …?": the nearest of the words that would have been right.

/// The candidate nearest to `found`, if it is near enough to be what was meant: within a third of its length in
/// single-character edits (swapped neighbours count one), or the one candidate that contains it or is contained in it.
pub fn nearest<'c>(found: &str, candidates: impl IntoIterator<Item = &'c str>) -> Option<&'c str> {
    let found = fold(found);
    let candidates: Vec<&str> = candidates.into_iter().collect();
    let scored = candidates
        .iter()
        .map(|candidate| (distance(&found, &fold(candidate)), *candidate));
    if let Some((edits, best)) = scored.min_by_key(|(edits, _)| *edits)
        && edits <= found.chars().count().max(3) / 3
    {
        return Some(best);
    }
    let mut related = candidates.iter().filter(|candidate| {
        let candidate = fold(candidate);
        found.len() >= 4 && candidate.len() >= 4 && (candidate.contains(&found) || found.contains(&candidate))
    });
    match (related.next(), related.next()) {
        (Some(only), None) => Some(only),
        _ => None,
    }
}

/// `best-of-two`, `Best_Of_Two` and `bestoftwo` differ only in taste.
fn fold(word: &str) -> String {
    word.chars()
        .filter(|c| !matches!(c, '-' | '_' | ' '))
        .flat_map(char::to_lowercase)
        .take(64)
        .collect()
}

/// Optimal string alignment distance.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut before_last: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    let mut previous_a = None;
    for (row, x) in a.chars().enumerate() {
        let mut current = vec![row + 1];
        let mut previous_b = None;
        for (column, &y) in b.iter().enumerate() {
            let at = |line: &[usize], index: usize| line.get(index).copied().unwrap_or(usize::MAX - 1);
            let mut best = (at(&last, column + 1) + 1).min(at(&current, column) + 1);
            best = best.min(at(&last, column) + usize::from(x != y));
            if column > 0 && previous_a == Some(y) && previous_b == Some(x) {
                best = best.min(at(&before_last, column - 1) + 1);
            }
            current.push(best);
            previous_b = Some(y);
        }
        before_last = std::mem::replace(&mut last, current);
        previous_a = Some(x);
    }
    last.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn typing_slips_are_recognised() {
        let policies = ["round-robin", "weighted", "best-of-two", "least-busy", "by-hash"];
        assert_eq!(nearest("least_busy", policies), Some("least-busy"));
        assert_eq!(nearest("roundrobin", policies), Some("round-robin"));
        assert_eq!(nearest("wieghted", policies), Some("weighted"));
        assert_eq!(nearest("wrokers", ["workers", "control"]), Some("workers"));
        assert_eq!(nearest("hash", policies), Some("by-hash"));
        assert_eq!(nearest("zzzz", policies), None);
        assert_eq!(nearest("", policies), None);
    }

    #[test]
    fn distance_is_the_usual_one() {
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(distance("ab", "ba"), 1);
        assert_eq!(distance("", "abc"), 3);
    }
}
