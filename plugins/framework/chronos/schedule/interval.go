package schedule

import (
	"fmt"
	"math"
	"regexp"
	"sort"
	"strconv"
	"strings"
	"time"

	"github.com/sosodev/duration"
)

// interval is a repeating interval of ISO 8601.
type interval struct {
	start  time.Time // in the zone whose calendar counts
	period period
	given  string // the period's text
}

// period has a part that is counted on the calendar and one that passes.
type period struct {
	years, months, days int
	millis              int64
}

const (
	maxRuns = 1_000_000_000
	// minPeriod and maxPeriod are what a period may be, a year taken for 366 days.
	minPeriod = time.Second
	maxPeriod = 100 * 366 * 24 * time.Hour
)

// earliest is the first start that clients may name.
var earliest = time.Date(1970, 1, 1, 0, 0, 1, 0, time.UTC)

// layouts of a start, with and without an offset.
var (
	offsetLayouts = []string{"2006-01-02T15:04:05.999999999Z07:00", "2006-01-02T15:04:05.999999999Z0700", "2006-01-02T15:04:05.999999999Z07", "2006-01-02T15:04Z07:00"}
	plainLayouts  = []string{"2006-01-02T15:04:05.999999999", "2006-01-02T15:04", "2006-01-02"}
)

func parseInterval(text string, zone *time.Location, now time.Time) (Schedule, error) {
	parts := strings.Split(text, "/")
	if len(parts) != 3 || !strings.HasPrefix(parts[0], "R") {
		return Schedule{}, fmt.Errorf("the schedule %q is not of the form R[n]/START/PERIOD, such as R/2026-03-01T03:00:00Z/P1D, nor \"cron MINUTE HOUR DAY MONTH WEEKDAY\"", clip(text))
	}
	runs, err := parseRuns(parts[0][1:])
	if err != nil {
		return Schedule{}, err
	}
	start, err := parseStart(parts[1], zone, now)
	if err != nil {
		return Schedule{}, err
	}
	p, err := parsePeriod(parts[2])
	if err != nil {
		return Schedule{}, err
	}
	return Schedule{rule: &interval{start: start, period: p, given: parts[2]}, runs: runs}, nil
}

func parseRuns(text string) (int, error) {
	if text == "" {
		return Forever, nil
	}
	n, err := strconv.ParseUint(text, 10, 32)
	if err != nil || n > maxRuns {
		return 0, fmt.Errorf("%q is no number of runs: write R5 for five runs, or R for no end", clip("R"+text))
	}
	return int(n), nil
}

func parseStart(text string, zone *time.Location, now time.Time) (time.Time, error) {
	if text == "" {
		if zone == nil {
			zone = time.UTC
		}
		return now.Truncate(time.Millisecond).In(zone), nil
	}
	t, err := readStart(text, zone)
	if err != nil {
		return t, fmt.Errorf("the start %q of the schedule is not a date and time such as 2026-03-01T03:00:00Z", clip(text))
	}
	if t.Before(earliest) || t.Year() > maxYear {
		return t, fmt.Errorf("the start %q of the schedule is before 1970-01-01T00:00:01Z or after the year %d", clip(text), maxYear)
	}
	return t, nil
}

func readStart(text string, zone *time.Location) (t time.Time, err error) {
	for _, layout := range offsetLayouts {
		if t, err = time.Parse(layout, text); err == nil {
			_, offset := t.Zone()
			if zone == nil {
				zone = time.FixedZone("", offset)
			}
			return clockOf(t.Truncate(time.Millisecond)).in(zone), nil
		}
	}
	for _, layout := range plainLayouts {
		if t, err = time.Parse(layout, text); err == nil {
			if zone == nil {
				zone = time.UTC
			}
			return clockOf(t.Truncate(time.Millisecond)).in(zone), nil
		}
	}
	return t, err
}

// periodForm is what the library takes too generously: no part twice, none out of order,
// whole numbers but for seconds, no sign, and few digits.
var periodForm = regexp.MustCompile(`^P(\d{1,6}Y)?(\d{1,6}M)?(\d{1,6}W)?(\d{1,6}D)?(T(\d{1,9}H)?(\d{1,9}M)?(\d{1,9}(\.\d{1,3})?S)?)?$`)

func parsePeriod(text string) (period, error) {
	bad := func(why string) (period, error) {
		return period{}, fmt.Errorf("the period %q of the schedule %s; write one such as PT30S, PT6H, P1D, P1W or P1M", clip(text), why)
	}
	if !periodForm.MatchString(text) {
		return bad("can't be read")
	}
	d, err := duration.Parse(text)
	if err != nil {
		return bad("can't be read")
	}
	// Each at most 10 digits, so all below is exact.
	p := period{years: int(d.Years), months: int(d.Months), days: 7*int(d.Weeks) + int(d.Days)}
	p.millis = int64(d.Hours)*3_600_000 + int64(d.Minutes)*60_000 + int64(math.Round(d.Seconds*1000))
	length := 366*float64(p.years) + 31*float64(p.months) + float64(p.days)
	switch {
	case length*24+float64(p.millis)/3_600_000 > maxPeriod.Hours():
		return bad("is longer than 100 years")
	case length == 0 && p.millis < minPeriod.Milliseconds():
		return bad("is shorter than a second")
	}
	return p, nil
}

// at is the due time number n, from 0, counted from the start.
func (i *interval) at(n int) time.Time {
	p := i.period
	t := i.start
	if p.years != 0 || p.months != 0 || p.days != 0 {
		c := clockOf(t)
		months := n * (12*p.years + p.months)
		first := time.Date(c.year, c.month+time.Month(months), 1, 0, 0, 0, 0, time.UTC)
		day := time.Date(first.Year(), first.Month(), min(c.day, daysIn(first))+n*p.days, 0, 0, 0, 0, time.UTC)
		c.year, c.month, c.day = day.Date()
		t = c.in(t.Location())
	}
	return time.UnixMilli(t.UnixMilli() + int64(n)*p.millis).In(t.Location())
}

func daysIn(first time.Time) int { return first.AddDate(0, 1, -1).Day() }

// passed is how many due times are not after t.
func (i *interval) passed(t time.Time) int {
	if t.Before(i.start) {
		return 0
	}
	last := 1
	for i.at(last).Year() <= maxYear && !i.at(last).After(t) {
		last *= 2
	}
	return sort.Search(last, func(n int) bool { return i.at(n).After(t) })
}

func (i *interval) next(t time.Time) (time.Time, bool) {
	if t.Year() > maxYear {
		return t, false
	}
	return i.at(i.passed(t)), true
}

func (i *interval) text(due time.Time, runs int) string {
	count := ""
	if runs != Forever {
		count = strconv.Itoa(runs)
	}
	return "R" + count + "/" + due.In(i.start.Location()).Format("2006-01-02T15:04:05.000Z07:00") + "/" + i.given
}

// clip keeps what others wrote short in a message.
func clip(text string) string {
	if len(text) > 80 {
		return strings.ToValidUTF8(text[:80], "") + "..."
	}
	return text
}
