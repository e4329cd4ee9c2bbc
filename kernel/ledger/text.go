package ledger

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode"

	"google.golang.org/protobuf/proto"

	mesos "github.com/gantry-project/gantry/sdk/proto/mesos/v1"
)

// Parse reads what an operator types: "cpus:2;mem:4096;ports:[31000-32000];zones:{a,b}".
// "cpus(role):2" is reserved to the role, statically. Scalars are rounded to thousandths.
func Parse(text string) (Resources, error) {
	var read []Resource
	for part := range strings.SplitSeq(text, ";") {
		part = strings.TrimSpace(part)
		if part == "" {
			continue
		}
		r, err := parse(part)
		if err != nil {
			return Resources{}, fmt.Errorf("resource %q: %w", part, err)
		}
		read = append(read, r)
	}
	return bounded(read)
}

func parse(part string) (Resource, error) {
	left, right, ok := strings.Cut(part, ":")
	if !ok {
		return Resource{}, errors.New("no ':' between name and amount; write for instance cpus:2")
	}
	var r Resource
	name, role, reserved := strings.Cut(left, "(")
	r.Name = strings.TrimSpace(name)
	if err := checkWord(r.Name); err != nil {
		return Resource{}, fmt.Errorf("name %w", err)
	}
	if reserved {
		role, ok = strings.CutSuffix(strings.TrimSpace(role), ")")
		if !ok {
			return Resource{}, errors.New("no ')' after the role; write for instance cpus(role):2")
		}
		if err := CheckRole(role); err != nil {
			return Resource{}, err
		}
		if err := checkWord(role); err != nil {
			return Resource{}, fmt.Errorf("role %w", err)
		}
		if role != "*" {
			r.Reservation = staticReservation(role)
		}
	}
	return r, parseAmount(strings.TrimSpace(right), &r)
}

func staticReservation(role string) string {
	return reservationText([]*mesos.Resource_ReservationInfo{{
		Type: mesos.Resource_ReservationInfo_STATIC.Enum(),
		Role: proto.String(role),
	}})
}

func parseAmount(text string, r *Resource) error {
	if list, ok := between(text, "[", "]"); ok {
		return parseRanges(list, r)
	}
	if list, ok := between(text, "{", "}"); ok {
		for _, item := range list {
			if err := checkWord(item); err != nil {
				return fmt.Errorf("item %w", err)
			}
		}
		r.Items = normalItems(list)
		if len(r.Items) != len(list) {
			return errors.New("an item is given twice")
		}
		return nil
	}
	value, err := strconv.ParseFloat(text, 64)
	if err != nil {
		return fmt.Errorf("amount %q is no number, no [first-last] and no {item,item}", text)
	}
	if r.Milli, err = milliOf(value); err != nil {
		return fmt.Errorf("amount %q: %w", text, err)
	}
	return nil
}

func parseRanges(list []string, r *Resource) error {
	for _, text := range list {
		first, last, ok := strings.Cut(text, "-")
		begin, err := strconv.ParseUint(strings.TrimSpace(first), 10, 64)
		end, err2 := strconv.ParseUint(strings.TrimSpace(last), 10, 64)
		if !ok || err != nil || err2 != nil {
			return fmt.Errorf("range %q is not of the form first-last, as in 31000-32000", text)
		}
		if begin > end {
			return fmt.Errorf("range %q ends before it begins", text)
		}
		r.Ranges = append(r.Ranges, Range{begin, end})
	}
	if overlapping(r.Ranges) {
		return errors.New("ranges overlap")
	}
	return nil
}

// between splits a bracketed list at its commas.
func between(text, open, shut string) ([]string, bool) {
	inner, ok := strings.CutPrefix(text, open)
	if !ok {
		return nil, false
	}
	inner, ok = strings.CutSuffix(inner, shut)
	if !ok {
		return nil, false
	}
	var list []string
	for word := range strings.SplitSeq(inner, ",") {
		if word = strings.TrimSpace(word); word != "" {
			list = append(list, word)
		}
	}
	return list, true
}

// checkWord refuses what would not be read back from String.
func checkWord(word string) error {
	if word == "" {
		return errors.New("is empty")
	}
	odd := func(c rune) bool {
		return unicode.IsSpace(c) || !unicode.IsPrint(c) || c == unicode.ReplacementChar || strings.ContainsRune("()[]{}<>,;:", c)
	}
	if at := strings.IndexFunc(word, odd); at >= 0 {
		return fmt.Errorf("%q has a character that has no place there", word)
	}
	return nil
}

// String returns the resources as a person reads them; if no more than static
// reservations are involved, Parse reads it back.
func (r Resources) String() string {
	parts := make([]string, len(r.list))
	for i, have := range r.list {
		parts[i] = have.String()
	}
	return strings.Join(parts, "; ")
}

// String returns the resource as a person reads it.
func (r Resource) String() string {
	var b strings.Builder
	b.WriteString(r.Name)
	if r.Reservation != "" {
		b.WriteString("(" + describeReservation(r.Reservation) + ")")
	}
	if r.Disk != "" {
		b.WriteString("[" + r.Disk + "]")
	}
	if r.Revocable {
		b.WriteString("{REV}")
	}
	if r.Shared {
		b.WriteString("<SHARED>")
	}
	b.WriteByte(':')
	switch r.kind() {
	case ranges:
		words := make([]string, len(r.Ranges))
		for i, g := range r.Ranges {
			words[i] = fmt.Sprintf("%d-%d", g.Begin, g.End)
		}
		b.WriteString("[" + strings.Join(words, ", ") + "]")
	case items:
		b.WriteString("{" + strings.Join(r.Items, ", ") + "}")
	default:
		b.WriteString(strconv.FormatFloat(float64(r.Milli)/1000, 'f', -1, 64))
	}
	return b.String()
}

// describeReservation is the role alone where that says it all.
func describeReservation(text string) string {
	path := mustDecode[[]reservation](text)
	if text == staticReservation(path[0].Role) {
		return path[0].Role
	}
	words := make([]string, len(path))
	for i, info := range path {
		words[i] = info.Type + " " + info.Role
		if info.Principal != nil {
			words[i] += " by " + *info.Principal
		}
		if info.Labels != nil {
			words[i] += " " + encode(info.Labels)
		}
	}
	return strings.Join(words, ", ")
}
