package frame

import (
	"fmt"
	"iter"
	"time"
)

// Range is a run of sequence numbers, or of offsets: Start ≤ x < End.
type Range struct{ Start, End uint64 }

// Len returns how many numbers r holds.
func (r Range) Len() uint64 { return r.End - r.Start }

// MaxAckRanges is the most ranges that an ACK may carry. A receiver forgets
// older ranges before it needs more.
const MaxAckRanges = 64

// Ack acknowledges sequence numbers. It aliases the bytes it was parsed from.
type Ack struct {
	Largest uint64
	Delay   time.Duration // between the receipt of Largest and the sending of the ACK
	first   uint64
	count   uint64
	ranges  []byte
}

// AppendAck appends the body of an ACK: the acknowledged sequence numbers in
// ranges, which must be ascending, disjoint, not adjacent and not empty. Of
// more than [MaxAckRanges] only the highest are written. It appends at most
// limit bytes, leaving out the lowest ranges that do not fit, and nothing at
// all if not even the highest does.
func AppendAck(dst []byte, ranges []Range, delay time.Duration, limit int) []byte {
	if len(ranges) == 0 {
		return dst
	}
	if len(ranges) > MaxAckRanges {
		ranges = ranges[len(ranges)-MaxAckRanges:]
	}
	top := ranges[len(ranges)-1]
	micros := uint64(max(delay, 0) / time.Microsecond)
	// The count of ranges is one byte or two; reserve for the longer.
	size := VarintSize(top.End-1) + VarintSize(micros) + 2 + VarintSize(top.Len()-1)
	if size > limit {
		return dst
	}
	n := 0
	for i := len(ranges) - 1; i > 0; i-- {
		more := VarintSize(ranges[i].Start-ranges[i-1].End-1) + VarintSize(ranges[i-1].Len()-1)
		if size+more > limit {
			break
		}
		size += more
		n++
	}
	dst = AppendVarint(dst, top.End-1)
	dst = AppendVarint(dst, micros)
	dst = AppendVarint(dst, uint64(n))
	dst = AppendVarint(dst, top.Len()-1)
	for i := len(ranges) - 1; n > 0; i, n = i-1, n-1 {
		dst = AppendVarint(dst, ranges[i].Start-ranges[i-1].End-1)
		dst = AppendVarint(dst, ranges[i-1].Len()-1)
	}
	return dst
}

// ConsumeAck reads the body of an ACK at the start of b and returns it with
// its length. Every range in it has been checked.
func ConsumeAck(b []byte) (Ack, int, error) {
	var a Ack
	var micros uint64
	n := 0
	for _, v := range []*uint64{&a.Largest, &micros, &a.count, &a.first} {
		x, k, err := ConsumeVarint(b[n:])
		if err != nil {
			return Ack{}, 0, fmt.Errorf("ack: %w", err)
		}
		*v = x
		n += k
	}
	if a.count >= MaxAckRanges {
		return Ack{}, 0, fmt.Errorf("ack of %d ranges: %w", a.count+1, ErrMalformed)
	}
	if a.first > a.Largest {
		return Ack{}, 0, fmt.Errorf("ack below zero: %w", ErrMalformed)
	}
	// A delay that no one can mean is as good as the longest.
	a.Delay = time.Duration(min(micros, uint64(time.Hour/time.Microsecond))) * time.Microsecond
	start := n
	low := a.Largest - a.first
	for range a.count {
		gap, k, err := ConsumeVarint(b[n:])
		if err != nil {
			return Ack{}, 0, fmt.Errorf("ack gap: %w", err)
		}
		n += k
		length, k, err := ConsumeVarint(b[n:])
		if err != nil {
			return Ack{}, 0, fmt.Errorf("ack range: %w", err)
		}
		n += k
		if low < gap+2 || low-gap-2 < length {
			return Ack{}, 0, fmt.Errorf("ack below zero: %w", ErrMalformed)
		}
		low -= gap + 2 + length
	}
	a.ranges = b[start:n]
	return a, n, nil
}

// Ranges yields the acknowledged ranges, from the highest down.
func (a Ack) Ranges() iter.Seq[Range] {
	return func(yield func(Range) bool) {
		low := a.Largest - a.first
		if !yield(Range{low, a.Largest + 1}) {
			return
		}
		b := a.ranges
		for len(b) > 0 {
			gap, k, _ := ConsumeVarint(b)
			b = b[k:]
			length, k, _ := ConsumeVarint(b)
			b = b[k:]
			end := low - gap - 1
			low = end - 1 - length
			if !yield(Range{low, end}) {
				return
			}
		}
	}
}
