//! How much a function gives, and how long it computes, as its arguments say.

use std::collections::HashSet;
use std::rc::Rc;
use std::sync::Arc;

use arrow::array::{Array as _, ArrayRef, AsArray as _, OffsetSizeTrait};
use arrow::compute::kernels::length::length;
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, Int64Type, IntervalMonthDayNanoType, IntervalUnit, TimeUnit};
use datafusion::common::{Result, exec_err};
use datafusion::logical_expr::ColumnarValue;

/// What an element of a list takes, or of a struct, whatever it is.
const ELEMENT_BYTES: u64 = 16;
/// Bytes of a character.
const CHARACTER_BYTES: u64 = 4;
/// How many times as long a whole number is as a text.
const TEXT_OF_NUMBER: u64 = 4;
/// Bytes of a broken number as a text, which may be 5 behind 323 zeros, a point and a sign.
const TEXT_OF_FLOAT: u64 = 330;
/// Bytes of a time for each byte of its format, of which `%+` gives most: `+262142-12-31T23:59:59.999999999+00:00`, with room to spare; and
/// of one without a format.
const TEXT_OF_TIME: (u64, u64) = (24, 64);
/// Nanoseconds of a day, and days of the shortest month.
const DAY_NS: i128 = 86_400_000_000_000;
const MONTH_DAYS: i128 = 28;
/// Patterns of a batch that differ: each is compiled, to some megabytes at the most, and kept until its end.
const PATTERNS_MAX: usize = 64;

/// The right side of an operator that looks for a pattern.
pub(super) const PATTERN: &str = "a pattern";
/// What a subquery gives in the place of a value.
pub(super) const SUBQUERY: &str = "a subquery";

/// What a call costs at most.
pub(super) struct Bounds {
    /// The bytes that a row gives.
    pub(super) of_row: OfRow,
    /// The steps that all rows take besides.
    pub(super) steps: u64,
}

/// Whether a function is bounded whatever it gives.
pub(super) fn is_long(name: &str) -> bool {
    matches!(
        name,
        "levenshtein" | "array_has_any" | "array_has_all" | "regexp_like" | "regexp_count" | "regexp_instr"
    )
}

/// What a row gives at most.
type OfRow = Box<dyn Fn(usize) -> u64>;

/// What a function costs. Most give what they are put to, or parts of it, once. `granted` are the bytes that all rows may give.
pub(super) fn bounds(name: &str, args: &[ColumnarValue], rows: usize, granted: u64) -> Result<Bounds> {
    let sizes = Rc::new(Sizes::of(args, rows)?);
    let args = Args(args);
    let steps = match name {
        // With a set of letters, or with another text or list.
        "btrim" | "ltrim" | "rtrim" | "levenshtein" | "array_has_any" | "array_has_all" => {
            args.products(0, 1, rows)?
        }
        _ => 0,
    };
    let of_row = match of_texts(name, args, (rows, granted), &sizes)? {
        Some(of_row) => of_row,
        None => match of_lists(name, args, rows, &sizes)? {
            Some(of_row) => of_row,
            // Letters in upper case, bytes as digits, letters for others: four times as much at the most.
            None => Box::new(move |row| sizes.at(row)),
        },
    };
    Ok(Bounds { of_row, steps })
}

fn product(one: u64, other: u64) -> u64 {
    one.saturating_mul(other)
}

/// Of functions that give texts, or look for patterns in them.
fn of_texts(
    name: &str,
    args: Args<'_>,
    (rows, granted): (usize, u64),
    sizes: &Rc<Sizes>,
) -> Result<Option<OfRow>> {
    let sizes = Rc::clone(sizes);
    let all = move |row: usize| sizes.at(row);
    Ok(Some(match name {
        "repeat" => {
            let (text, times) = (args.lengths(0)?, args.numbers(1)?);
            Box::new(move |row| product(text.at(row), times.at(row)))
        }
        "lpad" | "rpad" => {
            if args.array(1)?.is_some_and(|wide| is_below_zero(&wide)) {
                // It panics.
                return exec_err!("{name} to a length below zero");
            }
            let wide = args.numbers(1)?;
            Box::new(move |row| all(row).saturating_add(product(CHARACTER_BYTES, wide.at(row))))
        }
        "to_char" => {
            let (each, plain) = TEXT_OF_TIME;
            let format = args.lengths(1)?;
            Box::new(move |row| product(each, format.at(row)).saturating_add(plain))
        }
        "string_to_array" => {
            let text = args.lengths(0)?;
            Box::new(move |row| all(row).saturating_add(product(text.at(row) + 1, ELEMENT_BYTES)))
        }
        "replace" => {
            let (text, from, to) = (args.lengths(0)?, args.lengths(1)?, args.lengths(2)?);
            let most = |row: usize| text.at(row) / from.at(row).max(1) + 1;
            let given = |row: usize, places: u64| text.at(row).saturating_add(product(places, to.at(row)));
            let all = (0..rows).fold(0_u64, |all, row| all.saturating_add(given(row, most(row))));
            // What is looked for may be rare, or not there.
            let found = if all > granted { Some(args.places_found(rows)?) } else { None };
            Box::new(move |row| {
                let most = || text.at(row) / from.at(row).max(1) + 1;
                let places = found.as_ref().map_or_else(most, |found| found.get(row).copied().unwrap_or(0));
                text.at(row).saturating_add(product(places, to.at(row)))
            })
        }
        "regexp_replace" => {
            args.few_patterns(1, Some(3))?;
            // It may be found anywhere, and be all of the text; what is put in its place refers to it as often as it likes.
            let (text, to, copies) = (args.lengths(0)?, args.lengths(2)?, args.marks(2, &['\\', '$'])?);
            let everywhere = args.marks(3, &['g'])?;
            Box::new(move |row| {
                let text = text.at(row);
                let places = if everywhere.at(row) > 0 { text + 1 } else { 1 };
                product(text, 1 + copies.at(row)).saturating_add(product(places, to.at(row)))
            })
        }
        "regexp_match" => {
            args.few_patterns(1, Some(2))?;
            let (text, groups) = (args.lengths(0)?, args.marks(1, &['('])?);
            Box::new(move |row| product(text.at(row) + ELEMENT_BYTES, 1 + groups.at(row)))
        }
        "regexp_like" | "regexp_count" | "regexp_instr" => {
            let flags = match name {
                "regexp_like" => 2,
                "regexp_count" => 3,
                _ => 4,
            };
            args.few_patterns(1, Some(flags))?;
            Box::new(|_| 0)
        }
        PATTERN => {
            args.few_patterns(0, None)?;
            Box::new(all)
        }
        "concat_ws" => {
            let (between, values) = (args.lengths(0)?, args.0.len() as u64);
            Box::new(move |row| all(row).saturating_add(product(values, between.at(row))))
        }
        "levenshtein" => Box::new(|_| 0),
        _ => return Ok(None),
    }))
}

/// Of functions that give lists, or take them.
fn of_lists(name: &str, args: Args<'_>, rows: usize, sizes: &Rc<Sizes>) -> Result<Option<OfRow>> {
    let sizes = Rc::clone(sizes);
    let all = move |row: usize| sizes.at(row);
    Ok(Some(match name {
        "array_repeat" => {
            let (element, times) = (args.sizes(0)?, args.numbers(1)?);
            Box::new(move |row| product(element.at(row) + ELEMENT_BYTES, times.at(row)))
        }
        "array_resize" => {
            let (wide, value) = (args.numbers(1)?, args.sizes(2)?);
            Box::new(move |row| all(row).saturating_add(product(value.at(row) + ELEMENT_BYTES, wide.at(row))))
        }
        "array_replace" | "array_replace_n" | "array_replace_all" => {
            let (found, to) = (args.lengths(0)?, args.sizes(2)?);
            let once = name == "array_replace";
            Box::new(move |row| {
                let found = if once { 1 } else { found.at(row) };
                all(row).saturating_add(product(found, to.at(row)))
            })
        }
        "arrays_zip" => {
            let lists = (0..args.0.len()).map(|place| args.lengths(place)).collect::<Result<Vec<_>>>()?;
            Box::new(move |row| {
                let longest = lists.iter().map(|list| list.at(row)).max().unwrap_or(0);
                all(row).saturating_add(product(longest, product(lists.len() as u64, ELEMENT_BYTES)))
            })
        }
        "array_to_string" => {
            // Between any two values, and in the place of each that is none; also of lists within the list.
            let (values, between, instead) = (args.leaves(0)?, args.lengths(1)?, args.lengths(2)?);
            let own = if args.has_floats(0) { TEXT_OF_FLOAT } else { ELEMENT_BYTES };
            Box::new(move |row| {
                let each = between.at(row).saturating_add(instead.at(row)).saturating_add(own);
                product(TEXT_OF_NUMBER, all(row)).saturating_add(product(values.at(row), each))
            })
        }
        "range" | "generate_series" => {
            let steps = args.steps(rows)?;
            Box::new(move |row| product(ELEMENT_BYTES, steps.at(row)))
        }
        "array_has_any" | "array_has_all" => Box::new(|_| 0),
        _ => return Ok(None),
    }))
}

/// The bytes of an array's own rows.
pub(super) fn bytes(array: &ArrayRef) -> Result<u64> {
    // Texts of views are not counted by the first.
    Ok((array.to_data().get_slice_memory_size()? + viewed(array)) as u64)
}

/// The bytes that views lead to.
fn viewed(array: &ArrayRef) -> usize {
    match array.data_type() {
        DataType::Utf8View => array.as_string_view().total_buffer_bytes_used(),
        DataType::BinaryView => array.as_binary_view().total_buffer_bytes_used(),
        DataType::Struct(_) => array.as_struct().columns().iter().map(viewed).sum(),
        _ => within(array).map_or(0, |elements| viewed(&elements)),
    }
}

/// The elements of all lists of an array; `None` where it has no lists.
fn within(array: &ArrayRef) -> Option<ArrayRef> {
    fn between<O: OffsetSizeTrait>(values: &ArrayRef, offsets: &[O]) -> Option<ArrayRef> {
        let (begin, end) = (offsets.first()?.as_usize(), offsets.last()?.as_usize());
        Some(values.slice(begin, end.saturating_sub(begin)))
    }
    match array.data_type() {
        DataType::List(_) => between(array.as_list::<i32>().values(), array.as_list::<i32>().value_offsets()),
        DataType::LargeList(_) => {
            between(array.as_list::<i64>().values(), array.as_list::<i64>().value_offsets())
        }
        DataType::FixedSizeList(..) => Some(ArrayRef::clone(array.as_fixed_size_list().values())),
        DataType::Map(..) => {
            let entries: ArrayRef = Arc::new(array.as_map().entries().clone());
            between(&entries, array.as_map().value_offsets())
        }
        _ => None,
    }
}

/// A number of each row.
#[derive(Debug)]
enum Each {
    Same(u64),
    Rows(Vec<u64>),
}

impl Each {
    fn at(&self, row: usize) -> u64 {
        match self {
            Self::Same(number) => *number,
            Self::Rows(numbers) => numbers.get(row).copied().unwrap_or(0),
        }
    }
}

/// The bytes of all arguments in each row: of texts as they are, of all else as they are on average, which is enough for their sum.
struct Sizes {
    texts: Vec<Each>,
    others: u64,
}

impl Sizes {
    fn of(args: &[ColumnarValue], rows: usize) -> Result<Self> {
        let mut sizes = Self { texts: Vec::new(), others: 0 };
        for (place, arg) in args.iter().enumerate() {
            match arg {
                ColumnarValue::Scalar(value) => sizes.others += value.size() as u64,
                ColumnarValue::Array(array) if is_text(array.data_type()) => {
                    sizes.texts.push(Args(args).lengths(place)?);
                }
                ColumnarValue::Array(array) => sizes.others += bytes(array)? / rows.max(1) as u64 + 1,
            }
        }
        Ok(sizes)
    }

    fn at(&self, row: usize) -> u64 {
        self.texts.iter().fold(self.others, |all, text| all.saturating_add(text.at(row)))
    }
}

fn is_text(kind: &DataType) -> bool {
    use DataType::{Binary, BinaryView, LargeBinary, LargeUtf8, Utf8, Utf8View};
    matches!(kind, Utf8 | LargeUtf8 | Utf8View | Binary | LargeBinary | BinaryView)
}

#[derive(Clone, Copy)]
struct Args<'a>(&'a [ColumnarValue]);

impl Args<'_> {
    /// What something makes of an argument, once for all rows where it is a constant.
    fn each(self, place: usize, make: impl Fn(&ArrayRef) -> Result<Vec<u64>>) -> Result<Each> {
        Ok(match self.0.get(place) {
            None => Each::Same(0),
            Some(ColumnarValue::Scalar(value)) => {
                Each::Same(make(&value.to_array()?)?.first().copied().unwrap_or(0))
            }
            Some(ColumnarValue::Array(array)) => Each::Rows(make(array)?),
        })
    }

    /// Bytes of texts, elements of lists; nothing of all else.
    fn lengths(self, place: usize) -> Result<Each> {
        self.each(place, |array| match length(array) {
            Ok(lengths) => integers(&lengths),
            Err(_) => Ok(vec![0; array.len()]),
        })
    }

    /// Bytes of whatever it is.
    fn sizes(self, place: usize) -> Result<Each> {
        if self.0.get(place).is_some_and(|arg| is_text(&arg.data_type())) {
            return self.lengths(place);
        }
        self.each(place, |array| (0..array.len()).map(|row| bytes(&array.slice(row, 1))).collect())
    }

    /// Values that are no lists, within lists and lists of lists.
    fn leaves(self, place: usize) -> Result<Each> {
        fn of(array: &ArrayRef) -> u64 {
            within(array).map_or(array.len() as u64, |elements| of(&elements))
        }
        self.each(place, |array| Ok((0..array.len()).map(|row| of(&array.slice(row, 1))).collect()))
    }

    /// Whether the values of lists within lists have digits behind a point.
    fn has_floats(self, place: usize) -> bool {
        fn of(kind: &DataType) -> bool {
            match kind {
                DataType::List(field) | DataType::LargeList(field) | DataType::FixedSizeList(field, _) => {
                    of(field.data_type())
                }
                DataType::Dictionary(_, kind) => of(kind),
                kind => kind.is_floating(),
            }
        }
        self.0.get(place).is_some_and(|arg| of(&arg.data_type()))
    }

    /// How often something is done.
    fn numbers(self, place: usize) -> Result<Each> {
        self.each(place, integers)
    }

    /// How many of some characters a text has, such as those that refer to a group of a pattern: `\1`, `$1`, `${1}`.
    fn marks(self, place: usize, of: &[char]) -> Result<Each> {
        self.each(place, |array| {
            let texts = cast(array, &DataType::LargeUtf8)?;
            let texts = texts.as_string::<i64>().iter();
            Ok(texts.map(|text| text.map_or(0, |text| text.matches(of).count() as u64)).collect())
        })
    }

    /// At how many places of the first argument the second one is.
    fn places_found(self, rows: usize) -> Result<Vec<u64>> {
        let texts = |place: usize| {
            let array = self.array(place)?;
            array.map(|array| cast(&array, &DataType::LargeUtf8)).transpose()
        };
        let (Some(texts), Some(sought)) = (texts(0)?, texts(1)?) else { return Ok(Vec::new()) };
        let (texts, sought) = (texts.as_string::<i64>(), sought.as_string::<i64>());
        // A constant is there once.
        let at = |array: &arrow::array::LargeStringArray, row: usize| {
            let row = if array.len() == 1 { 0 } else { row };
            array.is_valid(row).then_some(row)
        };
        let found = |row: usize| match (at(texts, row), at(sought, row)) {
            (Some(text), Some(other)) => texts.value(text).matches(sought.value(other)).count() as u64,
            _ => 0,
        };
        Ok((0..rows).map(found).collect())
    }

    /// That patterns do not differ from row to row, with their flags.
    fn few_patterns(self, pattern: usize, flags: Option<usize>) -> Result<()> {
        let texts = |place: usize| {
            let array = self.array(place)?;
            array.map(|array| cast(&array, &DataType::LargeUtf8)).transpose()
        };
        let parts = [Some(pattern), flags].into_iter().flatten().map(texts);
        let parts: Vec<ArrayRef> = parts.filter_map(Result::transpose).collect::<Result<_>>()?;
        let mut found = HashSet::new();
        for row in 0..parts.iter().map(arrow::array::Array::len).max().unwrap_or(0) {
            let of_row = parts.iter().map(|part| {
                let texts = part.as_string::<i64>();
                // A constant is there once.
                let row = if texts.len() == 1 { 0 } else { row };
                texts.is_valid(row).then(|| texts.value(row))
            });
            found.insert(of_row.collect::<Vec<_>>());
            if found.len() > PATTERNS_MAX {
                return exec_err!(
                    "more than {PATTERNS_MAX} patterns are looked for in a batch of rows, and as many are granted: ask for shorter values, or \
                     write the pattern as a constant"
                );
            }
        }
        Ok(())
    }

    /// The lengths of two arguments multiplied, of all rows.
    fn products(self, one: usize, other: usize, rows: usize) -> Result<u64> {
        let (one, other) = (self.lengths(one)?, self.lengths(other)?);
        Ok((0..rows).fold(0, |all: u64, row| all.saturating_add(one.at(row).saturating_mul(other.at(row)))))
    }

    /// How many values are from the first argument to the second, by the third; of one argument, from zero to it.
    fn steps(self, rows: usize) -> Result<Each> {
        let (from, to) = if self.0.len() < 2 { (None, 0) } else { (Some(0), 1) };
        let from = from.map(|place| self.places(place)).transpose()?;
        let (to, wide) = (self.places(to)?, self.widths(2)?);
        let at = |values: &[Option<i128>], row: usize, other| match values {
            [] => other,
            [same] => *same,
            values => values.get(row).copied().flatten(),
        };
        // Where one of them is not there, neither is a list.
        let steps = |row: usize| {
            let from = from.as_ref().map_or(Some(0), |from| at(from, row, Some(0)))?;
            let apart = (at(&to, row, None)? - from).unsigned_abs();
            let wide = at(&wide, row, Some(1))?.unsigned_abs().max(1);
            Some(u64::try_from(apart / wide).unwrap_or(u64::MAX).saturating_add(1))
        };
        Ok(Each::Rows((0..rows).map(|row| steps(row).unwrap_or(0)).collect()))
    }

    fn array(self, place: usize) -> Result<Option<ArrayRef>> {
        Ok(match self.0.get(place) {
            None => None,
            Some(ColumnarValue::Scalar(value)) => Some(value.to_array()?),
            Some(ColumnarValue::Array(array)) => Some(ArrayRef::clone(array)),
        })
    }

    /// Numbers, or times in nanoseconds; one, where it is the same in all rows.
    fn places(self, place: usize) -> Result<Vec<Option<i128>>> {
        let Some(array) = self.array(place)? else { return Ok(Vec::new()) };
        let (array, unit) = match array.data_type() {
            DataType::Date32 => (cast(&array, &DataType::Int32)?, DAY_NS),
            DataType::Date64 => (array, 1_000_000),
            DataType::Timestamp(unit, _) => {
                let unit = match unit {
                    TimeUnit::Second => 1_000_000_000,
                    TimeUnit::Millisecond => 1_000_000,
                    TimeUnit::Microsecond => 1000,
                    TimeUnit::Nanosecond => 1,
                };
                (array, unit)
            }
            _ => (array, 1),
        };
        let array = cast(&array, &DataType::Int64)?;
        let numbers = array.as_primitive::<Int64Type>().iter();
        Ok(numbers.map(|number| Some(i128::from(number?) * unit)).collect())
    }

    /// Numbers, or spans of time in nanoseconds, at least.
    fn widths(self, place: usize) -> Result<Vec<Option<i128>>> {
        let Some(array) = self.array(place)? else { return Ok(Vec::new()) };
        if !matches!(array.data_type(), DataType::Interval(_)) {
            return self.places(place);
        }
        let array = cast(&array, &DataType::Interval(IntervalUnit::MonthDayNano))?;
        let spans = array.as_primitive::<IntervalMonthDayNanoType>();
        let mut widths = Vec::with_capacity(spans.len());
        for span in spans {
            let Some(span) = span else {
                widths.push(None);
                continue;
            };
            let parts = [i64::from(span.months), i64::from(span.days), span.nanoseconds];
            if parts.iter().any(|part| *part > 0) && parts.iter().any(|part| *part < 0) {
                // A month and minus 31 days lead from January nowhere, for ever.
                return exec_err!(
                    "a step that goes forth and back: write an interval whose parts are all above zero, or all below"
                );
            }
            let days = i128::from(span.months) * MONTH_DAYS + i128::from(span.days);
            widths.push(Some(days * DAY_NS + i128::from(span.nanoseconds)));
        }
        Ok(widths)
    }
}

/// What does not fit is not there.
fn cast(array: &ArrayRef, kind: &DataType) -> Result<ArrayRef> {
    Ok(cast_with_options(array, kind, &CastOptions::default())?)
}

/// Those above zero.
fn integers(array: &ArrayRef) -> Result<Vec<u64>> {
    let array = cast(array, &DataType::Int64)?;
    let numbers = array.as_primitive::<Int64Type>().iter();
    Ok(numbers.map(|number| number.and_then(|number| u64::try_from(number).ok()).unwrap_or(0)).collect())
}

fn is_below_zero(array: &ArrayRef) -> bool {
    let Ok(array) = cast(array, &DataType::Int64) else { return false };
    array.as_primitive::<Int64Type>().iter().flatten().any(|number| number < 0)
}
