package schedule

import (
	"fmt"
	"math/bits"
	"strings"
	"time"

	"github.com/netresearch/go-cron"
)

// expression is a cron expression of five fields.
type expression struct {
	rule  *cron.SpecSchedule
	given string
	zone  *time.Location
	// hourly says that the hour does not matter: such a job runs through an hour that comes twice.
	hourly bool
}

// searchYears is how far ahead a date is looked for: leap days are up to 8 years apart,
// and some weekdays of theirs 40.
const searchYears = 48

const maxExpression = 200

func parseCron(text string, zone *time.Location, now time.Time) (Schedule, error) {
	bad := func(why string) (Schedule, error) {
		return Schedule{}, fmt.Errorf("the cron expression %q %s; it has five fields, as in \"cron 0 3 * * 1-5\": minute, hour, day of the month, month, day of the week", clip(text), why)
	}
	if zone == nil {
		zone = time.UTC
	}
	fields := strings.Fields(text)
	switch {
	case strings.Contains(text, "TZ="):
		return bad("names a time zone; that is the field scheduleTimeZone")
	case len(fields) != 5 || len(text) > maxExpression:
		return bad(fmt.Sprintf("has %d fields", len(fields)))
	}
	parser, err := cron.TryNewParser(cron.Minute | cron.Hour | cron.Dom | cron.Month | cron.Dow | cron.DowOrDom)
	if err != nil {
		return bad(err.Error())
	}
	parsed, err := parser.WithMaxSearchYears(searchYears).Parse(strings.Join(fields, " "))
	if err != nil {
		return bad("can't be read: " + err.Error())
	}
	spec, ok := parsed.(*cron.SpecSchedule)
	if !ok {
		return bad("is of a form that is not supported")
	}
	spec.Location = zone
	const hours = 1<<24 - 1
	e := &expression{rule: spec, given: strings.Join(fields, " "), zone: zone, hourly: bits.OnesCount64(spec.Hour&hours) == 24}
	if _, ok := e.next(now); !ok {
		return bad("never comes: there is no such date")
	}
	return Schedule{rule: e, runs: Forever}, nil
}

// next passes over times that clocks show again after they were set back.
func (e *expression) next(t time.Time) (time.Time, bool) {
	for {
		t = e.rule.Next(t.In(e.zone))
		if t.IsZero() {
			return t, false
		}
		if e.hourly || !clockOf(t).in(e.zone).Before(t) {
			return t, true
		}
	}
}

func (e *expression) text(time.Time, int) string { return cronPrefix + e.given }
