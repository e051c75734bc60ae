//! Where a record lies, in eight bytes: segment, offset and size class. Source: ours, in the
//! manner of Bitcask's keydir (Sheehy and Smith, 2010).
//!
//! A place names one version of one key: no two records ever have the same place, because segment
//! numbers are not used twice and a record is never overwritten.

/// Bits of the offset, which counts units of eight bytes: segments of up to 2 GiB.
const OFFSET_BITS: u32 = 28;
/// Bits of the size class.
const CLASS_BITS: u32 = 12;
/// Bits of the segment number.
const SEGMENT_BITS: u32 = 24;
/// Mantissa of a size class: a read is less than 1 % longer than its record.
const MANTISSA_BITS: u32 = 7;
/// Segment number of records that are not in the log yet.
const PENDING: u64 = (1 << SEGMENT_BITS) - 1;
/// Segment number of records that are known to be lost and whose place is not known.
const LOST: u64 = PENDING - 1;

/// The largest number that a segment can have.
pub(super) const SEGMENT_MAX: u32 = (1 << SEGMENT_BITS) - 3;
/// The largest file that a place can point into, in bytes.
pub(super) const SEGMENT_BYTES_MAX: u64 = 8 << OFFSET_BITS;

/// Where a record lies.
///
/// | bits | meaning |
/// | --- | --- |
/// | 24 | segment number; the two largest mean "not in the log yet" and "lost" |
/// | 28 | offset in the file, in units of 8 bytes |
/// | 12 | size class: how many bytes to read |
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Place(pub(super) u64);

impl Place {
    /// The record of `length` bytes at `offset` of a segment.
    pub(super) fn new(segment: u32, offset: u64, length: u64) -> Self {
        assert!(segment <= SEGMENT_MAX, "segment numbers are 24 bits long");
        assert!(offset < SEGMENT_BYTES_MAX, "a segment is at most 2 GiB long");
        assert!(offset.is_multiple_of(8), "records begin at multiples of eight");
        let head = (u64::from(segment) << OFFSET_BITS) | (offset / 8);
        Self((head << CLASS_BITS) | size_class(length.div_ceil(8)))
    }

    /// The `number`-th record of a shard that is not in the log yet.
    pub(super) fn pending(number: u64) -> Self {
        Self((PENDING << (OFFSET_BITS + CLASS_BITS)) | (number & NUMBER_MASK))
    }

    /// A record that is known to be lost.
    pub(super) fn lost() -> Self {
        Self(LOST << (OFFSET_BITS + CLASS_BITS))
    }

    /// How many pending records lie before this one, where the oldest has number `first`; `None`
    /// if it is in the log.
    pub(super) fn pending_index(self, first: u64) -> Option<u64> {
        (self.0 >> (OFFSET_BITS + CLASS_BITS) == PENDING)
            .then_some(self.0.wrapping_sub(first) & NUMBER_MASK)
    }

    /// The segment that holds it; `None` if it is in no file.
    pub(super) fn segment(self) -> Option<u32> {
        let segment = self.0 >> (OFFSET_BITS + CLASS_BITS);
        (segment < LOST).then(|| u32::try_from(segment).expect("24 bits fit 32"))
    }

    /// Where it begins in its file.
    pub(super) fn offset(self) -> u64 {
        ((self.0 >> CLASS_BITS) & ((1 << OFFSET_BITS) - 1)) * 8
    }

    /// How many bytes to read: at least as long as the record, by less than 1 % longer.
    pub(super) fn read_bytes(self) -> u64 {
        size_of_class(self.0 & ((1 << CLASS_BITS) - 1)) * 8
    }
}

/// Numbers of pending records live in the bits of offset and size class.
const NUMBER_MASK: u64 = (1 << (OFFSET_BITS + CLASS_BITS)) - 1;

/// The least size class that holds `units`: exact below 128, then seven bits of mantissa.
fn size_class(units: u64) -> u64 {
    let bits = u64::BITS - units.leading_zeros();
    if bits <= MANTISSA_BITS {
        return units;
    }
    let shift = bits - MANTISSA_BITS - 1;
    let mantissa = units.div_ceil(1 << shift);
    // Rounding up may carry into the next power of two; the sum below then lands on its class.
    let class = (u64::from(shift) << MANTISSA_BITS) + mantissa;
    assert!(class < 1 << CLASS_BITS, "a record is shorter than a segment");
    class
}

fn size_of_class(class: u64) -> u64 {
    if class < 1 << MANTISSA_BITS {
        return class;
    }
    let shift = (class >> MANTISSA_BITS) - 1;
    ((class & ((1 << MANTISSA_BITS) - 1)) + (1 << MANTISSA_BITS)) << shift
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_comes_back_and_a_read_is_hardly_longer_than_its_record() {
        let mut length = 8;
        while length < SEGMENT_BYTES_MAX {
            for near in [length - 8, length, length + 8] {
                let place = Place::new(SEGMENT_MAX, SEGMENT_BYTES_MAX - 8, near);
                assert_eq!(place.segment(), Some(SEGMENT_MAX));
                assert_eq!(place.offset(), SEGMENT_BYTES_MAX - 8);
                assert!(place.read_bytes() >= near, "{near}");
                assert!(place.read_bytes() <= near + near / 100, "{near}");
            }
            length = (length + length / 3).next_multiple_of(8);
        }
    }

    #[test]
    fn size_classes_grow_with_the_size() {
        let mut last = 0;
        for units in 0..100_000 {
            let class = size_class(units);
            assert!(class == last || class == last + 1, "{units}");
            last = class;
        }
    }

    #[test]
    fn a_pending_record_and_a_lost_one_are_in_no_file() {
        assert_eq!(Place::pending(7).pending_index(5), Some(2));
        assert_eq!(Place::pending(NUMBER_MASK + 2).pending_index(NUMBER_MASK), Some(2));
        assert_eq!(Place::pending(7).segment(), None);
        assert_eq!(Place::lost().segment(), None);
        assert_eq!(Place::lost().pending_index(0), None);
        assert_eq!(Place::new(1, 64, 80).pending_index(0), None);
    }
}
