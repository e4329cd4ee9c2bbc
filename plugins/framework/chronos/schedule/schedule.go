package schedule

import (
	"fmt"
	"strings"
	"time"
)

// Forever is the number of runs of a schedule without an end.
const Forever = -1

// Schedule is the rule by which a job becomes due. Use Parse; it does not change.
type Schedule struct {
	rule rule
	runs int // Forever, or 0 and more
}

// rule is one of the two forms.
type rule interface {
	// next is the first due time after t; false when there is none.
	next(t time.Time) (time.Time, bool)
	// text is the schedule from due on, with so many runs.
	text(due time.Time, runs int) string
}

// cronPrefix tells a cron expression from a repeating interval, which begins with R.
const cronPrefix = "cron "

// Parse reads a schedule of either form. The zone is a name such as Europe/Berlin; it
// overrides the offset of a start and keeps its time of day. Empty, it is the offset that the start
// has, otherwise UTC. An interval without a start begins now. Errors are sentences for the
// one who wrote the schedule.
func Parse(text, zone string, now time.Time) (Schedule, error) {
	location, err := parseZone(zone)
	if err != nil {
		return Schedule{}, err
	}
	if expression, ok := strings.CutPrefix(text, cronPrefix); ok {
		return parseCron(expression, location, now)
	}
	return parseInterval(text, location, now)
}

// parseZone is nil for no zone.
func parseZone(name string) (*time.Location, error) {
	if name == "" {
		return nil, nil
	}
	location, err := time.LoadLocation(name)
	if err != nil || name == "Local" {
		return nil, fmt.Errorf("there is no time zone %q: use a name such as Europe/Berlin, America/New_York or UTC", name)
	}
	return location, nil
}

// First is the first due time. That of an interval is its start, in the past too; that of a cron
// expression is the first after t.
func (s Schedule) First(t time.Time) (time.Time, bool) {
	if i, ok := s.rule.(*interval); ok {
		return i.start.UTC(), true
	}
	return s.Next(t)
}

// Next is the first due time after t; false when there is none, which is so after the
// year 9999. How many runs are left is the caller's to count.
func (s Schedule) Next(t time.Time) (time.Time, bool) {
	due, ok := s.rule.next(t)
	return due.UTC(), ok && due.Year() <= maxYear
}

// Runs is how often the schedule runs as it was given, or Forever.
func (s Schedule) Runs() int { return s.runs }

// RunsAfter is how many of its runs have due times after t, or Forever.
func (s Schedule) RunsAfter(t time.Time) int {
	i, ok := s.rule.(*interval)
	if !ok || s.runs == Forever {
		return s.runs
	}
	return max(0, s.runs-i.passed(t))
}

// Text is the schedule from due on with so many runs left, in the form in which it was
// given; Parse reads it. A zone is not part of it.
func (s Schedule) Text(due time.Time, runs int) string { return s.rule.text(due, runs) }

// maxYear is the last that texts can show.
const maxYear = 9999

// clock is a time of day on a date, as a clock on the wall shows it.
type clock struct {
	year               int
	month              time.Month
	day                int
	hour, minute, secs int
	nanos              int
}

func clockOf(t time.Time) clock {
	year, month, day := t.Date()
	hour, minute, secs := t.Clock()
	return clock{year, month, day, hour, minute, secs, t.Nanosecond()}
}

// in is when clocks of the zone show c. A time that they show twice is the first of both;
// one that they skip is as much after the gap as it would have been after its beginning.
func (c clock) in(zone *time.Location) time.Time {
	naive := time.Date(c.year, c.month, c.day, c.hour, c.minute, c.secs, c.nanos, time.UTC)
	_, before := naive.AddDate(0, 0, -1).In(zone).Zone()
	_, after := naive.AddDate(0, 0, 1).In(zone).Zone()
	shown := clockOf(naive)
	for _, offset := range []int{before, after} {
		if t := naive.Add(-time.Duration(offset) * time.Second).In(zone); clockOf(t) == shown {
			return t
		}
	}
	return naive.Add(-time.Duration(before) * time.Second).In(zone)
}
