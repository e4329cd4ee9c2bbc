package mesosjson

import (
	"math"
	"strconv"
)

func startsNumber(c byte) bool {
	return c == '-' || '0' <= c && c <= '9'
}

// numberLen returns the length of the JSON number that in starts with, 0 when none does.
func numberLen(in []byte) int {
	n := 0
	if n < len(in) && in[n] == '-' {
		n++
	}
	whole := digits(in[n:])
	if whole == 0 || whole > 1 && in[n] == '0' {
		return 0
	}
	n += whole
	if n < len(in) && in[n] == '.' {
		fraction := digits(in[n+1:])
		if fraction == 0 {
			return 0
		}
		n += 1 + fraction
	}
	if n == len(in) || in[n]|0x20 != 'e' {
		return n
	}
	n++
	if n < len(in) && (in[n] == '+' || in[n] == '-') {
		n++
	}
	exponent := digits(in[n:])
	if exponent == 0 {
		return 0
	}
	return n + exponent
}

// digits counts the decimal digits that in starts with.
func digits(in []byte) int {
	n := 0
	for n < len(in) && '0' <= in[n] && in[n] <= '9' {
		n++
	}
	return n
}

// integer cuts the fraction off the JSON number in raw. It is false when the rest does
// not fit into 64 bits.
func integer(raw []byte) (negative bool, magnitude uint64, ok bool) {
	if raw[0] == '-' {
		negative, raw = true, raw[1:]
	}
	whole := raw[:digits(raw)]
	if rest := raw[len(whole):]; len(rest) > 0 {
		return scaled(negative, whole, rest)
	}
	magnitude, ok = accumulate(0, whole)
	return negative, magnitude, ok
}

// scaled is integer for numbers with a fraction or an exponent, which are in rest.
func scaled(negative bool, whole, rest []byte) (bool, uint64, bool) {
	var fraction []byte
	if rest[0] == '.' {
		fraction = rest[1 : 1+digits(rest[1:])]
		rest = rest[1+len(fraction):]
	}
	point := len(whole) // of the digits taken together
	if len(rest) > 0 {
		// Out of range, Atoi returns the nearest int, which is as good.
		exponent, _ := strconv.Atoi(string(rest[1:]))
		point += min(max(exponent, math.MinInt32), math.MaxInt32)
	}
	magnitude, ok := accumulate(0, whole[:min(max(point, 0), len(whole))])
	if ok && point > len(whole) {
		magnitude, ok = accumulate(magnitude, fraction[:min(point-len(whole), len(fraction))])
	}
	for zeros := point - len(whole) - len(fraction); ok && magnitude != 0 && zeros > 0; zeros-- {
		magnitude, ok = accumulate(magnitude, []byte{'0'})
	}
	return negative, magnitude, ok
}

// accumulate appends decimal digits to v. It is false when the result exceeds 64 bits.
func accumulate(v uint64, digits []byte) (uint64, bool) {
	for _, c := range digits {
		digit := uint64(c - '0')
		if v > (math.MaxUint64-digit)/10 {
			return 0, false
		}
		v = v*10 + digit
	}
	return v, true
}
