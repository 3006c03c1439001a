//! How far places are from the order of arrival: each is a moment, and they stand in the order of the places.

/// Pairs of places of which the later one arrived first.
pub fn inversions(arrivals: &[u64]) -> u64 {
    // By merging halves: what is taken from the second one passes all that is left of the first.
    fn sorted(arrivals: &[u64]) -> (Vec<u64>, u64) {
        if arrivals.len() < 2 {
            return (arrivals.to_vec(), 0);
        }
        let (one, two) = arrivals.split_at(arrivals.len() / 2);
        let ((one, before), (two, after)) = (sorted(one), sorted(two));
        let (mut merged, mut passed) = (Vec::with_capacity(arrivals.len()), before + after);
        let (mut one, mut two) = (one.as_slice(), two.as_slice());
        while let ([first, one_rest @ ..], [second, two_rest @ ..]) = (one, two) {
            if first <= second {
                merged.push(*first);
                one = one_rest;
            } else {
                passed += one.len() as u64;
                merged.push(*second);
                two = two_rest;
            }
        }
        merged.extend_from_slice(one);
        merged.extend_from_slice(two);
        (merged, passed)
    }
    sorted(arrivals).1
}

/// The most places that somebody stands away from where his arrival belongs.
pub fn displacement(arrivals: &[u64]) -> u64 {
    let mut order: Vec<usize> = (0..arrivals.len()).collect();
    order.sort_by_key(|place| arrivals.get(*place));
    let away = order.iter().enumerate().map(|(due, place)| due.abs_diff(*place) as u64);
    away.max().unwrap_or_default()
}

/// People who stand behind somebody that came after them.
pub fn late(arrivals: &[u64]) -> u64 {
    let mut latest = 0;
    let behind = arrivals.iter().filter(|arrival| {
        latest = latest.max(**arrival);
        **arrival < latest
    });
    behind.count() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_is_measured_by_pairs_by_places_and_by_people() {
        let measured = |arrivals: &[u64]| (inversions(arrivals), displacement(arrivals), late(arrivals));
        assert_eq!(measured(&[]), (0, 0, 0));
        assert_eq!(measured(&[1, 2, 2, 3]), (0, 0, 0), "the same moment has no order");
        assert_eq!(measured(&[2, 3, 4, 1]), (3, 3, 1), "one stands three places behind");
        assert_eq!(measured(&[4, 3, 2, 1]), (6, 3, 3));
        assert_eq!(measured(&[1, 3, 2, 5, 4, 6]), (2, 1, 2));
    }
}
