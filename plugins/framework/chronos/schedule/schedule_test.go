package schedule

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

var now = time.Date(2026, 2, 10, 12, 0, 0, 0, time.UTC)

func parse(t *testing.T, text, zone string) Schedule {
	t.Helper()
	s, err := Parse(text, zone, now)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func at(t *testing.T, text string) time.Time {
	t.Helper()
	due, err := time.Parse(time.RFC3339, text)
	if err != nil {
		t.Fatal(err)
	}
	return due
}

// TestDueTimes: what comes after a moment, one after the other.
func TestDueTimes(t *testing.T) {
	for _, c := range []struct{ name, text, zone, after, want string }{
		{"its start first", "R/2026-03-01T03:00:00Z/PT1H", "", "2026-01-01T00:00:00Z", "2026-03-01T03:00:00Z 2026-03-01T04:00:00Z"},
		{"a start that is past", "R/2014-03-08T20:00:00.000Z/PT2S", "", "2026-02-10T12:00:01Z", "2026-02-10T12:00:02Z 2026-02-10T12:00:04Z"},
		{"days in UTC", "R/2026-03-28T01:30:00Z/P1D", "", "2026-03-28T01:30:00Z", "2026-03-29T01:30:00Z 2026-03-30T01:30:00Z"},
		{"an offset is not a zone", "R/2026-03-28T02:30:00+01:00/P1D", "", "2026-03-28T12:00:00Z", "2026-03-29T01:30:00Z 2026-03-30T01:30:00Z"},
		{"days over a spring", "R/2026-03-27T03:30:00/P1D", "Europe/Berlin", "2026-03-28T00:00:00Z", "2026-03-28T02:30:00Z 2026-03-29T01:30:00Z 2026-03-30T01:30:00Z"},
		{"a time that clocks skip", "R/2026-03-27T02:30:00/P1D", "Europe/Berlin", "2026-03-28T00:00:00Z", "2026-03-28T01:30:00Z 2026-03-29T01:30:00Z 2026-03-30T00:30:00Z"},
		{"a time that clocks show twice", "R/2026-10-24T02:30:00/P1D", "Europe/Berlin", "2026-10-24T12:00:00Z", "2026-10-25T00:30:00Z 2026-10-26T01:30:00Z"},
		{"hours pass whatever clocks show", "R/2026-03-28T02:30:00/PT24H", "Europe/Berlin", "2026-03-28T12:00:00Z", "2026-03-29T01:30:00Z 2026-03-30T01:30:00Z"},
		{"the zone keeps the time of day", "R/2026-03-01T03:00:00Z/P1D", "America/New_York", "2026-03-07T12:00:00Z", "2026-03-08T07:00:00Z 2026-03-09T07:00:00Z"},
		{"the end of each month", "R/2026-01-31T00:00:00Z/P1M", "", "2026-01-31T00:00:00Z", "2026-02-28T00:00:00Z 2026-03-31T00:00:00Z 2026-04-30T00:00:00Z"},
		{"leap days", "R/2024-02-29T00:00:00Z/P1Y", "", "2026-01-01T00:00:00Z", "2026-02-28T00:00:00Z 2027-02-28T00:00:00Z 2028-02-29T00:00:00Z"},
		{"weeks", "R/2026-01-05T08:00:00Z/P1W", "", "2026-01-05T08:00:00Z", "2026-01-12T08:00:00Z 2026-01-19T08:00:00Z"},
		{"calendar and clock", "R/2026-01-31T00:00:00Z/P1MT1H", "", "2026-01-31T00:00:00Z", "2026-02-28T01:00:00Z 2026-03-31T02:00:00Z"},
		{"centuries", "R/1970-01-01T00:00:01Z/P100Y", "", "2500-01-01T00:00:00Z", "2570-01-01T00:00:01Z"},
		{"a date alone", "R/2026-03-01/P1D", "", "2026-02-10T12:00:00Z", "2026-03-01T00:00:00Z"},
		{"no start", "R//P1D", "", "2026-02-01T00:00:00Z", "2026-02-10T12:00:00Z 2026-02-11T12:00:00Z"},

		{"working days", "cron 0 3 * * 1-5", "", "2026-02-13T12:00:00Z", "2026-02-16T03:00:00Z 2026-02-17T03:00:00Z"},
		{"names", "cron 30 6 * mar sun", "", "2026-02-13T12:00:00Z", "2026-03-01T06:30:00Z 2026-03-08T06:30:00Z"},
		{"either day, as crontabs have it", "cron 0 0 13 * 5", "", "2026-02-10T12:00:00Z", "2026-02-13T00:00:00Z 2026-02-20T00:00:00Z 2026-02-27T00:00:00Z 2026-03-06T00:00:00Z 2026-03-13T00:00:00Z"},
		{"a leap day", "cron 0 0 29 2 *", "", "2026-02-10T12:00:00Z", "2028-02-29T00:00:00Z"},
		{"cron in spring", "cron 30 2 * * *", "Europe/Berlin", "2026-03-28T12:00:00Z", "2026-03-29T01:30:00Z 2026-03-30T00:30:00Z"},
		{"cron in autumn, once", "cron 30 2 * * *", "Europe/Berlin", "2026-10-24T12:00:00Z", "2026-10-25T00:30:00Z 2026-10-26T01:30:00Z"},
		{"every half hour of autumn", "cron */30 * * * *", "Europe/Berlin", "2026-10-25T00:20:00Z", "2026-10-25T00:30:00Z 2026-10-25T01:00:00Z 2026-10-25T01:30:00Z 2026-10-25T02:00:00Z"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, after := parse(t, c.text, c.zone), at(t, c.after)
			for want := range strings.FieldsSeq(c.want) {
				due, ok := s.Next(after)
				if !ok || !due.Equal(at(t, want)) {
					t.Fatalf("after %s comes %s (%v), want %s", after, due, ok, want)
				}
				after = due
			}
		})
	}
}

func TestRefusedSchedules(t *testing.T) {
	for _, c := range []struct{ text, zone, part string }{
		{"", "", "not of the form"},
		{"tomorrow", "", "not of the form"},
		{"R/2026-03-01T03:00:00Z", "", "not of the form"},
		{"R/2026-03-01T03:00:00Z/P1D/P1D", "", "not of the form"},
		{"r/2026-03-01T03:00:00Z/P1D", "", "not of the form"},
		{"R-1/2026-03-01T03:00:00Z/P1D", "", "no number of runs"},
		{"R99999999999999999999/2026-03-01T03:00:00Z/P1D", "", "no number of runs"},
		{"R/2026-02-30T03:00:00Z/P1D", "", "is not a date"},
		{"R/2026-13-01T03:00:00Z/P1D", "", "is not a date"},
		{"R/2026-03-01T25:00:00Z/P1D", "", "is not a date"},
		{"R/1960-03-01T03:00:00Z/P1D", "", "before 1970"},
		{"R/1970-01-01T00:00:00Z/P1D", "", "before 1970"},
		{"R/2026-03-01T03:00:00Z/P", "", "shorter than a second"},
		{"R/2026-03-01T03:00:00Z/PT", "", "shorter than a second"},
		{"R/2026-03-01T03:00:00Z/PT0S", "", "shorter than a second"},
		{"R/2026-03-01T03:00:00Z/PT0.5S", "", "shorter than a second"},
		{"R/2026-03-01T03:00:00Z/-P1D", "", "can't be read"},
		{"R/2026-03-01T03:00:00Z/P-1D", "", "can't be read"},
		{"R/2026-03-01T03:00:00Z/PT1H1H", "", "can't be read"},
		{"R/2026-03-01T03:00:00Z/PT1M1H", "", "can't be read"},
		{"R/2026-03-01T03:00:00Z/P0.5D", "", "can't be read"},
		{"R/2026-03-01T03:00:00Z/P99999999999999Y", "", "can't be read"},
		{"R/2026-03-01T03:00:00Z/P999999Y", "", "longer than 100 years"},
		{"R/2026-03-01T03:00:00Z/PT999999999H", "", "longer than 100 years"},
		{"R/2026-03-01T03:00:00Z/P1D", "Mars/Olympus", "no time zone"},
		{"R/2026-03-01T03:00:00Z/P1D", "../../etc/passwd", "no time zone"},
		{"R/2026-03-01T03:00:00Z/P1D", "Local", "no time zone"},
		{"cron", "", "not of the form"},
		{"cron ", "", "has 0 fields"},
		{"cron * * * *", "", "has 4 fields"},
		{"cron 0 * * * * *", "", "has 6 fields"},
		{"cron @daily", "", "has 1 fields"},
		{"cron TZ= * * * *", "", "scheduleTimeZone"},
		{"cron CRON_TZ=UTC * * * *", "", "scheduleTimeZone"},
		{"cron 60 * * * *", "", "can't be read"},
		{"cron 0 24 * * *", "", "can't be read"},
		{"cron 1-0 * * * x", "", "can't be read"},
		{"cron */0 * * * *", "", "can't be read"},
		{"cron 0 0 31 2 *", "", "never comes"},
		{"cron 0 0 * * *", "Nowhere", "no time zone"},
	} {
		if s, err := Parse(c.text, c.zone, now); err == nil || !strings.Contains(err.Error(), c.part) {
			t.Errorf("%q in %q is %+v with error %v, want one with %q", c.text, c.zone, s, err, c.part)
		}
	}
}

func TestTextIsReadBack(t *testing.T) {
	for _, c := range []struct{ text, zone, want string }{
		{"R5/2026-03-01T03:00:00Z/P1D", "", "R4/2026-03-02T03:00:00.000Z/P1D"},
		{"R5/2026-03-28T03:00:00/P1D", "Europe/Berlin", "R4/2026-03-29T03:00:00.000+02:00/P1D"},
		{"cron  0 3  * * *", "", "cron 0 3 * * *"},
	} {
		s := parse(t, c.text, c.zone)
		first, _ := s.First(now)
		second, _ := s.Next(first)
		text := s.Text(second, 4)
		if text != c.want {
			t.Errorf("%q is %q, want %q", c.text, text, c.want)
		}
		again := parse(t, text, c.zone)
		third, _ := s.Next(second)
		if due, ok := again.Next(second); !ok || !due.Equal(third) {
			t.Errorf("%q goes on at %s, want %s", text, due, third)
		}
	}
}

// TestMonths walks a spring and an autumn in zones with a change of clocks: a daily
// job is due once on each date, at its time of day wherever clocks show it.
func TestMonths(t *testing.T) {
	for _, zone := range []string{"Europe/Berlin", "America/New_York", "America/Santiago", "Australia/Lord_Howe", "Africa/Cairo", "UTC"} {
		location, err := time.LoadLocation(zone)
		if err != nil {
			t.Fatal(err)
		}
		for _, hour := range []int{0, 1, 2, 3, 23} {
			for _, text := range []string{fmt.Sprintf("R/2026-01-01T%02d:30:00/P1D", hour), fmt.Sprintf("cron 30 %d * * *", hour)} {
				s := parse(t, text, zone)
				due := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
				for day := 2; day <= 365; day++ {
					next, ok := s.Next(due)
					if !ok || !next.After(due) {
						t.Fatalf("%s in %s: after %s comes %s", text, zone, due, next)
					}
					due = next
					if text[0] == 'R' || due.In(location).YearDay() == day%365 {
						if got := due.In(location); got.Hour() != hour && got.Hour() != hour+1 {
							t.Fatalf("%s in %s: due at %s", text, zone, got)
						}
					}
				}
				if gap := due.Sub(time.Date(2026, 12, 31, hour, 30, 0, 0, location)); gap.Abs() > 36*time.Hour {
					t.Errorf("%s in %s: 364 days lead to %s", text, zone, due.In(location))
				}
			}
		}
	}
}

// FuzzParse: what is accepted goes forward, and its text means the same.
func FuzzParse(f *testing.F) {
	for _, text := range []string{"R5/2026-03-01T03:00:00Z/P1D", "R/2014-03-08T20:00:00.000+0100/PT2S", "R//P1Y2M3W4DT5H6M7.5S", "cron 0 3 * * 1-5", "cron */7 1,2 1-5/2 jan-mar *"} {
		f.Add(text, "Europe/Berlin", int64(1_800_000_000))
	}
	f.Fuzz(func(t *testing.T, text, zone string, unix int64) {
		s, err := Parse(text, zone, now)
		if err != nil {
			return
		}
		after := time.Unix(unix%(1<<38), 0)
		due, ok := s.Next(after)
		if !ok {
			return
		}
		if !due.After(after) {
			t.Fatalf("%q: after %s comes %s", text, after, due)
		}
		again, err := Parse(s.Text(due, s.Runs()), zone, now)
		if err != nil {
			t.Fatalf("%q is written as %q: %v", text, s.Text(due, s.Runs()), err)
		}
		if first, ok := again.First(due.Add(-time.Second)); !ok || first.Sub(due).Abs() > time.Hour {
			t.Fatalf("%q, %q: due at %s, read back as %s", text, s.Text(due, s.Runs()), due, first)
		}
	})
}
