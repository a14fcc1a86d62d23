//! Percentiles by looking at every value: what an engine's quantiles must be.

/// The smallest of the values that `percent` of a hundred of all are at most; `None` of no values.
///
/// `sorted` is in ascending order.
///
/// ```
/// use keplordb_examples::nearest_rank;
///
/// let sorted: Vec<u32> = (1..=200).collect();
/// assert_eq!([0, 50, 99, 100].map(|percent| nearest_rank(&sorted, percent)), [1, 100, 198, 200].map(Some));
/// assert_eq!(nearest_rank::<u32>(&[], 50), None);
/// ```
pub fn nearest_rank<T: Copy>(sorted: &[T], percent: usize) -> Option<T> {
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted.get(rank - 1).copied()
}
